"""A history in an SQLite file: one process writes it, any number read it meanwhile (WAL)."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.books.contract import Records
from engine.history.archive import ORDERS, Bounds, Mover, archive_of, pieces_of
from engine.history.destination import (
    AwayError,
    Cursor,
    HistoryError,
    Users,
    new_instruments,
)
from engine.history.parquet import read_rows
from engine.history.rows import LATER_COLUMNS, Rows, matrix_of, signed, text_rows, user_pieces
from engine.history.sqlite_schema import (
    ADD_VALUE,
    APPLICATION,
    LATER_STATEMENTS,
    ROWS_AT_ONCE,
    STATEMENTS,
    VERSION,
    VIEWS,
    insert,
    later,
    name_of,
)
from engine.history.tables import (
    CURSOR_COLUMNS,
    EVENT_COLUMNS,
    INSTRUMENT_COLUMNS,
    UNKNOWN,
    UPSERT,
)
from ipc.codes import ORD_STATUS_NEW, ORD_STATUS_PARTIALLY_FILLED
from ipc.instruments import Instrument
from ipc.records import make_id

NAME = "history-sqlite"
"""Of the holds that its exporter has."""
PAGE_BYTES = 8_192
_CACHE_KIB = 64 << 10
_CHECKPOINT_BYTES = 32 << 20
"""Of the write-ahead log, at which ``sync`` takes it over into the file."""
_CHECKPOINT_PAGES = 32_768
"""At which the writer waits for that: what bounds the log where the disk is slow."""
_WAL_BYTES = 64 << 20
_BUSY_S = 2.0
LOCK_WAIT_S = 5.0
"""How long the lock may be another's: one that was killed may take a while to end."""
_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
    }
)
"""Primary result codes that pass: the disk is full or fails, or somebody holds the file."""


@contextmanager
def judged(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into an error that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        kind = AwayError if code in _AWAY else HistoryError
        raise kind(f"{path}: {error}") from None
    except OSError as error:
        raise AwayError(f"{path}: {error.strerror}") from None


class SqliteDestination:
    """The one writer of a file, which is made where it is not there. See ``Destination``.

    ``events``: keep every report as well. ``bounds``: what has rows leave to files beside it.
    """

    apart = False

    def __init__(self, path: Path, *, events: bool = False, bounds: Bounds | None = None) -> None:
        self.path = path
        self._mover: Mover | None = None
        self._events = events
        self._lock = _lock(path)
        try:
            with judged(path):
                self._connection = _opened(path)
            if bounds is not None:
                self._mover = Mover(path, self._connection, bounds)
        except BaseException:
            os.close(self._lock)
            raise

    def cursors(self) -> dict[int, Cursor]:
        """Return each shard's cursor."""
        with judged(self.path):
            found = self._connection.execute(f"SELECT {', '.join(CURSOR_COLUMNS)} FROM shards")
            return {row[0]: Cursor(*row) for row in found}

    def write(self, cursor: Cursor, rows: Rows) -> None:
        """Enter rows and cursor."""
        with self._transaction():
            self._enter(rows.orders, "order_rows", UPSERT)
            self._enter_texts(rows.texts)
            self._enter(rows.trades, "trade_rows")
            self._enter_user_trades(rows.trades)
            if self._events:
                self._enter_events(cursor.shard, rows.reports, rows.first_report)
            self._set(cursor)

    def begin(self, cursor: Cursor, orders: Records, note: str, texts: Mapping[int, str]) -> None:
        """Begin a shard with a snapshot's orders."""
        low, high = make_id(cursor.shard, 0), make_id(cursor.shard + 1, 0)
        execute = self._connection.execute
        with self._transaction():
            execute("CREATE TEMP TABLE IF NOT EXISTS kept (order_id INTEGER PRIMARY KEY)")
            execute("DELETE FROM kept")
            ids = orders["order_id"].tolist()
            self._connection.executemany("INSERT INTO kept VALUES (?)", ((i,) for i in ids))
            forgotten = execute(
                f"UPDATE order_rows SET status = {UNKNOWN} WHERE order_id > ? AND order_id < ? AND "
                f"status IN ({ORD_STATUS_NEW}, {ORD_STATUS_PARTIALLY_FILLED}) AND "
                "order_id NOT IN kept",
                (low, high),
            ).rowcount
            cursor = cursor._replace(lost_orders=cursor.lost_orders + forgotten)
            execute("DELETE FROM kept")
            self._enter(orders[~self._have_left(orders)], "order_rows", UPSERT)
            self._enter_texts(texts)
            execute(
                "DELETE FROM order_events WHERE shard = ? AND number > ?",
                (cursor.shard, cursor.reports),
            )
            self._note(cursor.shard, note)
            self._set(cursor)

    def write_past(self, cursor: Cursor, trades: Records, values: Records) -> None:
        """Enter trades of the trade log."""
        with self._transaction():
            filled = trades.copy()
            for account, order in (("buyer", "buy_order_id"), ("seller", "sell_order_id")):
                filled[account] = self._accounts_of(trades[order].tolist())
            self._enter(filled, "trade_rows")
            self._enter_user_trades(filled)
            paid = ("value_high", "value_low", "order_id")
            columns = (values[name].tolist() for name in paid)
            self._connection.executemany(ADD_VALUE, zip(*columns, strict=True))
            self._set(cursor)

    def write_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Enter instruments, or hold them against those that are there."""
        names = ", ".join(INSTRUMENT_COLUMNS)
        with self._transaction():
            there = self._connection.execute(f"SELECT {names} FROM instruments").fetchall()
            for row in new_instruments(str(self.path), instruments, there):
                self._connection.execute(insert("instruments", 6, 1), row)

    def user_ends(self) -> dict[str, int]:
        """Return up to which byte each list of users is there."""
        with judged(self.path):
            return dict(self._connection.execute("SELECT name, end FROM user_lists").fetchall())

    def write_users(self, users: Users) -> None:
        """Enter users."""
        with self._transaction():
            accounts = ((signed(account), user) for account, user in users.accounts)
            self._connection.executemany(insert("users", 2, 1, verb="INSERT OR IGNORE"), accounts)
            self._connection.execute(
                insert("user_lists", 2, 1, verb="INSERT OR REPLACE"), (users.name, users.end)
            )

    def sync(self) -> None:
        """Have the disk take what the write-ahead log holds; another thread may do this."""
        with judged(self.path):
            log = self.path.with_name(self.path.name + "-wal")
            try:
                descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return  # all of it was taken over, durably
            try:
                os.fdatasync(descriptor)
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            if size > _CHECKPOINT_BYTES:
                with closing(sqlite3.connect(self.path)) as connection:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def tidy(self) -> None:
        """Have what is old leave, or what is too much, a piece of it at the most."""
        if self._mover is not None:
            with judged(self.path):
                self._mover.step(list(self.cursors().values()))

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        os.close(self._lock)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with judged(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _enter(self, rows: Records, table: str, more: str = "") -> None:
        """Enter rows, which are a matrix, many at a time."""
        matrix = matrix_of(rows)
        columns = matrix.shape[1]
        whole = len(matrix) // ROWS_AT_ONCE * ROWS_AT_ONCE
        if whole:
            many = matrix[:whole].reshape(-1, columns * ROWS_AT_ONCE).tolist()
            self._connection.executemany(insert(table, columns, ROWS_AT_ONCE, more), many)
        if whole < len(matrix):
            self._connection.executemany(insert(table, columns, 1, more), matrix[whole:].tolist())

    def _enter_texts(self, texts: Mapping[int, str]) -> None:
        verb = insert("client_texts", 2, 1, verb="INSERT OR IGNORE")
        self._connection.executemany(verb, text_rows(texts))

    def _enter_user_trades(self, trades: Records) -> None:
        self._connection.executemany(insert("user_trades", 3, 1), user_pieces(trades))

    def _enter_events(self, shard: int, reports: Records, first: int) -> None:
        numbers = np.arange(first, first + len(reports), dtype=np.int64)
        columns = [np.full(len(reports), shard), numbers]
        columns += [reports[name].astype(np.int64) for name in EVENT_COLUMNS]
        rows = np.stack(columns, axis=1).tolist()
        self._connection.executemany(insert("order_events", len(columns), 1), rows)

    def _have_left(self, orders: Records) -> npt.NDArray[np.bool_]:
        """Return which of a shard's orders are in a piece of the archive."""
        have = np.zeros(len(orders), np.bool_)
        ids = orders["order_id"]
        for piece in pieces_of(self._connection, ORDERS):
            if len(ids) and piece.first_id <= ids.max() and piece.last_id >= ids.min():
                there = read_rows(archive_of(self.path) / piece.name, ORDERS.dtype, ())
                have |= np.isin(ids, there["order_id"])
        return have

    def _accounts_of(self, order_ids: list[int]) -> list[int]:
        """Return the account of each order, 0 where it is not there."""
        found = self._connection.execute(
            "SELECT o.account FROM json_each(?) j LEFT JOIN order_rows o ON o.order_id = j.value "
            "ORDER BY j.key",
            (str(order_ids),),
        )
        return [row[0] or 0 for row in found]

    def _note(self, shard: int, note: str) -> None:
        if note:
            self._connection.execute(insert("notes", 3, 1), (shard, time.time_ns(), note))

    def _set(self, cursor: Cursor) -> None:
        self._connection.execute(
            insert("shards", len(CURSOR_COLUMNS), 1, verb="INSERT OR REPLACE"), cursor
        )


def _lock(path: Path) -> int:
    """Take the lock of a file; it goes with the process. Raises ``HistoryError``."""
    with judged(path):
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until_s = time.monotonic() + LOCK_WAIT_S
    while not (taken := _is_taken(lock)) and time.monotonic() < until_s:
        time.sleep(0.05)
    if not taken:
        owner = os.pread(lock, 32, 0).decode(errors="replace").strip()
        os.close(lock)
        raise HistoryError(f"{path}: another exporter writes to it, process {owner or 'unknown'}")
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _is_taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _opened(path: Path) -> sqlite3.Connection:
    """Return a connection that writes to a file, made or checked."""
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        for pragma in (
            f"page_size = {PAGE_BYTES}",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            f"cache_size = -{_CACHE_KIB}",
            f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
            f"journal_size_limit = {_WAL_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            _make(connection)
        _renew(connection)
        check_schema(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _make(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in STATEMENTS:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def _renew(connection: sqlite3.Connection) -> None:
    """Take the tables of an earlier version to this one, and have the views be this product's."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION or version > VERSION:
        return  # the check says so
    connection.execute("BEGIN IMMEDIATE")
    there = _statements(connection)
    if version < VERSION:
        for statement in LATER_STATEMENTS:
            if name_of(statement) not in there:
                connection.execute(statement)
        columns = {row[1] for row in connection.execute("PRAGMA table_info(order_rows)")}
        for name in LATER_COLUMNS:
            if columns and name not in columns:
                connection.execute(f"ALTER TABLE order_rows ADD COLUMN {later(name)}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    for statement in VIEWS:
        name = name_of(statement)
        if there.get(name) != statement:
            connection.execute(f"DROP VIEW IF EXISTS {name}")
            connection.execute(statement)
    connection.execute("COMMIT")


def _statements(connection: sqlite3.Connection) -> dict[str, str]:
    """Return what has made each table, index and view of a file."""
    return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Raise ``HistoryError`` where a file is none of this version's, or not whole."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise HistoryError(f"{path}: is no history of this product")
    if version != VERSION:
        helps = "; the exporter renews it when it starts" if version < VERSION else ""
        raise HistoryError(
            f"{path}: has schema version {version}, this product knows {VERSION}{helps}"
        )
    there = _statements(connection)
    for statement in STATEMENTS:
        name = name_of(statement)
        if there.get(name) != statement:
            problem = "was changed by hand" if name in there else "is missing"
            raise HistoryError(
                f"{path}: {name} {problem}; move the file away, and it is made anew from journals "
                "and trade log"
            )
