"""A history in PostgreSQL: one process writes it, whoever is granted that reads it.

The writer holds an advisory lock by its connection: a transaction on it is one of the holder's. A
connection that breaks while it commits leaves open whether it has; the cursor that is there tells.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from psycopg import errors

from engine.books.contract import Records
from engine.history.copy_format import matrix_bytes, pieces_bytes
from engine.history.destination import Cursor, HistoryError, Users, new_instruments
from engine.history.postgres_link import Link, connected, executing, judged, where
from engine.history.postgres_schema import (
    LOCKS,
    VERSION,
    WRITER_LOCK,
    Execute,
    check_schema,
    migrate,
    says_all,
    version_of,
)
from engine.history.rows import (
    VALUE_BITS,
    Rows,
    matrix_of,
    signed,
    text_rows,
    user_pieces,
)
from engine.history.tables import (
    CURSOR_COLUMNS,
    EVENT_COLUMNS,
    INSTRUMENT_COLUMNS,
    UNKNOWN,
    UPSERT,
    VALUE_MASK,
)
from engine.sections import DatabaseSection
from ipc.codes import ORD_STATUS_NEW, ORD_STATUS_PARTIALLY_FILLED
from ipc.instruments import Instrument
from ipc.records import make_id

NAME = "history-postgres"
"""Of the holds that its exporter has."""
LOCK_WAIT_S = 30.0
"""How long the lock may be another's: a server notices within this that its client is gone."""
_CONNECT_S = 5.0
LONGEST_S = 120.0
"""How long a statement may take; a server that is silent for longer still counts as away."""
_STAGED = "staged_orders"
"""A table of the connection, empty at each transaction's begin."""
_SET_CURSOR = (
    f"INSERT INTO shards ({', '.join(CURSOR_COLUMNS)}) VALUES "
    f"({', '.join(['%s'] * len(CURSOR_COLUMNS))}) ON CONFLICT (shard) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in CURSOR_COLUMNS[1:])
)
_UPSERT_STAGED = f"INSERT INTO order_rows SELECT * FROM {_STAGED}{UPSERT}"
_ADD_VALUES = (
    "UPDATE order_rows o SET "
    f"value_high = o.value_high + s.value_high + ((o.value_low + s.value_low) >> {VALUE_BITS}), "
    f"value_low = (o.value_low + s.value_low) & {VALUE_MASK} "
    f"FROM {_STAGED} s WHERE o.order_id = s.order_id"
)


class PostgresDestination:
    """The one writer of a database. See ``Destination``.

    ``events``: keep every report as well. Raises ``AwayError`` and ``HistoryError``.
    """

    apart = True

    def __init__(self, database: DatabaseSection, *, events: bool = False) -> None:
        self.where = where(database)
        self._database, self._events = database, events
        self._connection: Link | None = None
        self._written: dict[int, Cursor] | None = None
        """What is there as far as this object knows; None: it has not looked yet."""
        self._tried: Cursor | None = None
        """What was being written when the connection broke."""
        self._link()

    def cursors(self) -> dict[int, Cursor]:
        """Return each shard's cursor."""
        with judged(self.where):
            self._link()
            assert self._written is not None
            return dict(self._written)

    def write(self, cursor: Cursor, rows: Rows) -> None:
        """Enter rows and cursor."""

        def enter(execute: Execute) -> Cursor:
            is_new = rows.orders["created_ns"] > 0  # its first report is among these
            self._copy("order_rows", matrix_bytes(matrix_of(rows.orders[is_new])))
            if not is_new.all():
                self._copy(_STAGED, matrix_bytes(matrix_of(rows.orders[~is_new])))
                execute(_UPSERT_STAGED)
            _enter_texts(execute, rows.texts)
            self._enter_trades(rows.trades)
            if self._events:
                self._enter_events(cursor.shard, rows.reports, rows.first_report)
            return cursor

        self._write(cursor, enter)

    def begin(self, cursor: Cursor, orders: Records, note: str, texts: Mapping[int, str]) -> None:
        """Begin a shard with a snapshot's orders."""

        def enter(execute: Execute) -> Cursor:
            is_open = f"({ORD_STATUS_NEW}, {ORD_STATUS_PARTIALLY_FILLED})"
            self._copy(_STAGED, matrix_bytes(matrix_of(orders)))
            forgotten = execute(
                f"WITH forgotten AS (UPDATE order_rows SET status = {UNKNOWN} WHERE order_id > %s "
                f"AND order_id < %s AND status IN {is_open} AND NOT EXISTS (SELECT 1 FROM "
                f"{_STAGED} s WHERE s.order_id = order_rows.order_id) RETURNING 1) "
                "SELECT count(*) FROM forgotten",
                make_id(cursor.shard, 0),
                make_id(cursor.shard + 1, 0),
            )
            execute(_UPSERT_STAGED)
            _enter_texts(execute, texts)
            execute(
                "DELETE FROM order_events WHERE shard = %s AND number > %s",
                cursor.shard,
                cursor.reports,
            )
            if note:
                execute("INSERT INTO notes VALUES (%s, %s, %s)", cursor.shard, time.time_ns(), note)
            return cursor._replace(lost_orders=cursor.lost_orders + forgotten[0][0])

        self._write(cursor, enter)

    def write_past(self, cursor: Cursor, trades: Records, values: Records) -> None:
        """Enter trades of the trade log."""

        def enter(execute: Execute) -> Cursor:
            filled = trades.copy()
            for account, order in (("buyer", "buy_order_id"), ("seller", "sell_order_id")):
                found = execute(
                    "SELECT coalesce(o.account, 0) FROM unnest(%s::bigint[]) WITH ORDINALITY "
                    "AS j(value, key) LEFT JOIN order_rows o ON o.order_id = j.value "
                    "ORDER BY j.key",
                    trades[order].tolist(),
                )
                filled[account] = [row[0] for row in found]
            self._enter_trades(filled)
            self._copy(_STAGED, matrix_bytes(matrix_of(values)))
            execute(_ADD_VALUES)
            return cursor

        self._write(cursor, enter)

    def write_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Enter instruments, or hold them against those that are there."""
        with self._transaction() as execute:
            there = execute(f"SELECT {', '.join(INSTRUMENT_COLUMNS)} FROM instruments")
            for row in new_instruments(self.where, instruments, there):
                scales = (f"{row[2]}e-{row[3]}", f"{row[4]}e-{row[5]}")
                execute(
                    "INSERT INTO instruments VALUES "
                    "(%s, %s, %s, %s, %s, %s, %s::numeric, %s::numeric)",
                    *row,
                    *scales,
                )

    def user_ends(self) -> dict[str, int]:
        """Return up to which byte each list of users is there."""
        with self._transaction() as execute:
            return dict(execute("SELECT name, read_to FROM user_lists"))

    def write_users(self, users: Users) -> None:
        """Enter users."""
        with self._transaction() as execute:
            execute(
                "INSERT INTO users SELECT * FROM unnest(%s::bigint[], %s::text[]) "
                "ON CONFLICT DO NOTHING",
                [signed(account) for account, _ in users.accounts],
                [user for _, user in users.accounts],
            )
            execute(
                "INSERT INTO user_lists VALUES (%s, %s) "
                "ON CONFLICT (name) DO UPDATE SET read_to = excluded.read_to",
                users.name,
                users.end,
            )

    def sync(self) -> None:
        """Do nothing: the server has waited for its disk at each commit."""

    def tidy(self) -> None:
        """Do nothing: what is kept here is kept for good."""

    def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, cursor: Cursor, enter: Callable[[Execute], Cursor]) -> None:
        """Enter what ``enter`` does together with the cursor that it returns, once."""
        with judged(self.where):
            self._link()
        assert self._written is not None
        there = self._written.get(cursor.shard)
        if there is not None and _place(there) == _place(cursor):
            return  # the connection broke when it was committed, and it was
        self._tried = cursor
        with self._transaction() as execute:
            written = enter(execute)
            execute(_SET_CURSOR, *written)
        self._written[cursor.shard], self._tried = written, None

    @contextmanager
    def _transaction(self) -> Iterator[Execute]:
        """Give what executes a statement; a connection that fails is opened anew the next time."""
        try:
            with judged(self.where):
                connection = self._link()
                with connection.transaction():
                    yield executing(connection)
        except BaseException:
            self.close()
            raise

    def _link(self) -> Link:
        """Return the connection, made anew where it is closed: locked, of this version, whole."""
        if self._connection is not None and not self._connection.closed:
            return self._connection
        with judged(self.where):
            name = f"shardbook history, process {os.getpid()}"
            limit = {"statement_timeout": f"{int(LONGEST_S * 1_000)}"}
            connection = connected(self._database, name, _CONNECT_S, **limit)
            connection.longest_s = LONGEST_S + LOCK_WAIT_S
            try:
                execute = executing(connection)
                self._lock(execute)
                if version_of(execute) < VERSION or not says_all(execute):
                    with connection.transaction():
                        migrate(execute)
                check_schema(execute)
                self._look(execute)
                execute(f"CREATE TEMP TABLE {_STAGED} (LIKE order_rows) ON COMMIT DELETE ROWS")
            except HistoryError as error:
                connection.close()
                raise type(error)(f"{self.where}: {error}") from None
            except BaseException:
                connection.close()
                raise
        self._connection = connection
        return connection

    def _lock(self, execute: Execute) -> None:
        execute(f"SET lock_timeout = '{int(LOCK_WAIT_S * 1_000)}ms'")
        try:
            execute("SELECT pg_advisory_lock(%s, %s)", LOCKS, WRITER_LOCK)
        except errors.LockNotAvailable:
            owners = execute(
                "SELECT a.application_name, a.client_addr::text FROM pg_locks l "
                "JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted "
                "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
                "AND l.classid = %s AND l.objid = %s",
                LOCKS,
                WRITER_LOCK,
            )
            owner = " of ".join(str(part) for part in owners[0] if part) if owners else "unknown"
            raise HistoryError(f"another exporter writes to it: {owner}") from None
        execute("SET lock_timeout = 0")

    def _look(self, execute: Execute) -> None:
        """Learn what is there. Raises ``HistoryError`` where somebody else has written."""
        rows = execute(f"SELECT {', '.join(CURSOR_COLUMNS)} FROM shards")
        there = {row[0]: Cursor(*row) for row in rows}
        for shard in there.keys() | (self._written or {}).keys():
            now, before = there.get(shard), (self._written or {}).get(shard)
            tried = self._tried if self._tried is not None and self._tried.shard == shard else None
            if self._written is None or now == before:
                continue
            if now is None or tried is None or _place(now) != _place(tried):
                raise HistoryError(
                    f"shard {shard} is not there as it was written: another exporter has written "
                    "meanwhile, or an older state was restored"
                )
        self._written = there

    def _copy(self, table: str, rows: bytes) -> None:
        assert self._connection is not None
        copying = f"COPY {table} FROM STDIN (FORMAT binary)".encode()
        with self._connection.cursor() as cursor, cursor.copy(copying) as copy:
            copy.write(rows)

    def _enter_trades(self, trades: Records) -> None:
        if len(trades):
            self._copy("trade_rows", matrix_bytes(matrix_of(trades)))
            self._copy("user_trade_ids", pieces_bytes(user_pieces(trades)))

    def _enter_events(self, shard: int, reports: Records, first: int) -> None:
        columns = [np.full(len(reports), shard), np.arange(first, first + len(reports))]
        columns += [reports[name].astype(np.int64) for name in EVENT_COLUMNS]
        self._copy("order_events", matrix_bytes(np.stack(columns, axis=1)))


def _enter_texts(execute: Execute, texts: Mapping[int, str]) -> None:
    if texts:
        rows = text_rows(texts)
        execute(
            "INSERT INTO client_texts SELECT * FROM unnest(%s::bigint[], %s::text[]) "
            "ON CONFLICT DO NOTHING",
            [number for number, _ in rows],
            [text for _, text in rows],
        )


def _place(cursor: Cursor) -> tuple[Any, ...]:
    """Return what tells a cursor from the one before and the one behind it."""
    return cursor[: CURSOR_COLUMNS.index("lost_orders")]


def migrated(database: DatabaseSection) -> list[int]:
    """Take a database to this product's version; return the versions that it has gone through.

    Raises ``AwayError`` and ``HistoryError``.
    """
    name = where(database)
    with judged(name), connected(database, "shardbook history migrate", _CONNECT_S) as connection:
        try:
            with connection.transaction():
                return migrate(executing(connection))
        except HistoryError as error:
            raise type(error)(f"{name}: {error}") from None
