"""What leaves a history in SQLite because of its age, or of its size: to Parquet files beside it.

A piece is a file of rows of one kind, one shard and one month, and ``archives`` lists it. It is
whole and on the disk before the transaction that lists it and deletes its rows; so a row is in one
of the two, never in both or in none, whoever dies, and a file that no row lists is none. Pieces do
not change. Orders leave once they have ended, trades and events as they grow old; each row leaves
once, the oldest first.

The age of a row is held against the newest command of its shard, not against a clock.
"""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.books.contract import Records
from engine.history.destination import Cursor, HistoryError
from engine.history.parquet import pyarrow_parquet, write_rows
from engine.history.rows import ORDER_ROW, TRADE_ROW
from engine.history.tables import EVENT_COLUMNS
from ipc.arrays import Integers
from ipc.records import make_id
from ipc.vocabulary import OrdStatus

PIECE_ROWS = 131_072
"""Of one file, and one transaction: a second of the exporter's time, about."""
LEAST_AGE_NS = 3_600 * 10**9
"""What is newer stays, however large the file is: more than a loss of power takes."""
DAY_NS = 86_400 * 10**9
_OPEN = f"({int(OrdStatus.NEW)}, {int(OrdStatus.PARTIALLY_FILLED)})"
EVENT_ROW = np.dtype([(name, "<i8") for name in ("shard", "number", *EVENT_COLUMNS)])
"""One report, as ``order_events`` has it."""


class Bounds(NamedTuple):
    """How much a history in SQLite keeps; 0: no bound of that kind."""

    keep_ns: int = 0
    """How old a row may grow."""
    max_bytes: int = 0
    """How large what the file has in use may grow."""
    interval_s: float = 3_600.0
    """How often it is looked whether something is to leave."""


class Kind(NamedTuple):
    """Rows that leave."""

    name: str
    table: str
    key: str
    time_column: str
    """By which it is sorted into months; it grows with the key, or is 0: not known."""
    ended_column: str
    """From when on its age counts."""
    condition: str
    """What must hold for it, beside its age."""
    dtype: np.dtype[np.void]


ORDERS = Kind(
    "orders",
    "order_rows",
    "order_id",
    "created_ns",
    "updated_ns",
    f"status NOT IN {_OPEN}",
    ORDER_ROW,
)
TRADES = Kind(
    "trades", "trade_rows", "trade_id", "timestamp_ns", "timestamp_ns", "1 = 1", TRADE_ROW
)
EVENTS = Kind(
    "events", "order_events", "number", "timestamp_ns", "timestamp_ns", "1 = 1", EVENT_ROW
)


KINDS = (TRADES, ORDERS, EVENTS)


class Piece(NamedTuple):
    """One file, as ``archives`` lists it."""

    name: str
    kind: str
    shard: int
    first_id: int
    last_id: int
    first_ns: int
    last_ns: int
    rows: int


def archive_of(path: Path) -> Path:
    """Return the directory of the pieces of a history."""
    return path.with_name(f"{path.stem}-archive")


class Mover:
    """Has rows leave one file, by the connection that writes it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, bounds: Bounds) -> None:
        """Raises ``HistoryError`` where Parquet cannot be written."""
        pyarrow_parquet()
        self._directory, self._connection, self._bounds = archive_of(path), connection, bounds
        self._look_at_s = 0.0

    def step(self, cursors: Sequence[Cursor]) -> bool:
        """Have one piece leave where it is time and one is to; return whether.

        Raises ``sqlite3.Error``, ``AwayError`` and ``HistoryError``.
        """
        if time.monotonic() < self._look_at_s:
            return False
        # What the trade log still has changes what orders have paid: those shards wait.
        settled = [cursor for cursor in cursors if not cursor.log_next]
        candidates = [
            (oldest_ns, cursor, kind)
            for cursor in settled
            for kind in KINDS
            if (oldest_ns := self._oldest_ns(kind, cursor.shard)) is not None
        ]
        for _, cursor, kind in sorted(candidates, key=lambda found: found[0]):
            if self._move(kind, cursor):
                return True
        self._look_at_s = time.monotonic() + self._bounds.interval_s
        return False

    def _move(self, kind: Kind, cursor: Cursor) -> bool:
        before_ns = cursor.timestamp_ns - self._bounds.keep_ns if self._bounds.keep_ns else 0
        if self._bounds.max_bytes and bytes_used(self._connection) > self._bounds.max_bytes:
            before_ns = cursor.timestamp_ns - LEAST_AGE_NS
        if before_ns <= 0:
            return False
        rows = self._oldest(kind, cursor.shard, before_ns)
        if not len(rows):
            return False
        times = known_times(rows[kind.time_column])
        month = month_of(int(times[-1]))
        first, last = int(rows[kind.key][0]), int(rows[kind.key][-1])
        name = f"{kind.name}-{month}-{cursor.shard}-{first}.parquet"
        write_rows(self._directory / name, rows, _sorting(kind))
        known = times[times > 0]
        span = (int(known[0]), int(known[-1])) if len(known) else (0, 0)
        piece = Piece(name, kind.name, cursor.shard, first, last, *span, len(rows))
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._delete(kind, piece, before_ns)
            if kind is TRADES:
                self._forget_user_trades(cursor.shard, rows)
            marks = ",".join("?" * len(piece))
            self._connection.execute(f"INSERT INTO archives VALUES ({marks})", piece)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return True

    def _oldest_ns(self, kind: Kind, shard: int) -> int | None:
        """Return the time of the oldest row of a shard that may leave once; None: there is none."""
        low, high = _range(kind, shard)
        found = self._connection.execute(
            f"SELECT {kind.time_column} FROM {kind.table} WHERE {_scope(kind, shard)}"
            f"{kind.key} >= ? AND {kind.key} < ? AND {kind.condition} ORDER BY {kind.key} LIMIT 1",
            (low, high),
        ).fetchone()
        return None if found is None else int(found[0])

    def _oldest(self, kind: Kind, shard: int, before_ns: int) -> Records:
        """Return the oldest rows of a shard that are to leave, those of one month, by their key."""
        low, high = _range(kind, shard)
        scope = _scope(kind, shard)
        found = self._connection.execute(
            f"SELECT * FROM {kind.table} WHERE {scope}{kind.key} >= ? AND {kind.key} < ? AND "
            f"{kind.condition} AND {kind.ended_column} < ? ORDER BY {kind.key} LIMIT ?",
            (low, self._first_since(kind, scope, low, high, before_ns), before_ns, PIECE_ROWS),
        ).fetchall()
        rows = np.array(found, kind.dtype)
        if not len(rows):
            return rows
        times = known_times(rows[kind.time_column])
        begins = times[0] or times[times > 0][:1].sum()
        return rows[: np.searchsorted(times, next_month_ns(int(begins)))]

    def _first_since(self, kind: Kind, scope: str, low: int, high: int, before_ns: int) -> int:
        """Return the first key of a range from which on no row is older: by halves, for there is
        no index by time."""
        text = (
            f"SELECT {kind.key}, {kind.time_column} FROM {kind.table} WHERE {scope}{kind.key} >= ? "
            f"AND {kind.key} < ? AND {kind.time_column} > 0 ORDER BY {kind.key} LIMIT 1"
        )
        newest = self._connection.execute(
            f"SELECT max({kind.key}) FROM {kind.table} WHERE {scope}{kind.key} >= ? AND "
            f"{kind.key} < ?",
            (low, high),
        ).fetchone()[0]
        if newest is None:
            return low
        high = newest + 1
        while low < high:
            middle = (low + high) // 2
            found = self._connection.execute(text, (middle, high)).fetchone()
            if found and found[1] < before_ns:
                low = found[0] + 1
            else:
                high = middle
        return low

    def _delete(self, kind: Kind, piece: Piece, before_ns: int) -> None:
        deleted = self._connection.execute(
            f"DELETE FROM {kind.table} WHERE {_scope(kind, piece.shard)}{kind.key} >= ? AND "
            f"{kind.key} <= ? AND {kind.condition} AND {kind.ended_column} < ?",
            (piece.first_id, piece.last_id, before_ns),
        ).rowcount
        if deleted != piece.rows:
            raise HistoryError(
                f"{self._directory / piece.name}: has {piece.rows} rows, {deleted} were to leave"
            )

    def _forget_user_trades(self, shard: int, trades: Records) -> None:
        """Take the ids of trades, the oldest of their shard, out of the lists of their users."""
        last, end = int(trades["trade_id"][-1]), make_id(shard + 1, 0)
        accounts = np.unique(np.concatenate((trades["buyer"], trades["seller"])))
        for account in accounts[accounts != 0].tolist():
            self._connection.execute(
                "DELETE FROM user_trades WHERE account = ? AND last_trade >= ? AND last_trade <= ?",
                (account, make_id(shard, 0), last),
            )
            for key, packed in self._connection.execute(
                "SELECT last_trade, trade_ids FROM user_trades WHERE account = ? "
                "AND last_trade > ? AND last_trade < ? ORDER BY last_trade LIMIT 1",
                (account, last, end),
            ).fetchall():
                ids = np.frombuffer(packed, "<i8")
                if ids[0] <= last:
                    self._connection.execute(
                        "UPDATE user_trades SET trade_ids = ? WHERE account = ? AND last_trade = ?",
                        (ids[ids > last].tobytes(), account, key),
                    )


def pieces_of(connection: sqlite3.Connection, kind: Kind) -> list[Piece]:
    """Return the pieces of a kind, the newest first. Raises ``sqlite3.Error``."""
    found = connection.execute(
        "SELECT * FROM archives WHERE kind = ? ORDER BY last_ns DESC, last_id DESC", (kind.name,)
    )
    return [Piece(*row) for row in found]


def bytes_used(connection: sqlite3.Connection) -> int:
    """Return how much of a file is in use; what is not is used again."""
    [(pages, free, size)] = connection.execute(
        "SELECT page_count, freelist_count, page_size FROM pragma_page_count(), "
        "pragma_freelist_count(), pragma_page_size()"
    ).fetchall()
    return int((pages - free) * size)


def known_times(times: Integers) -> Integers:
    """Return times of rows in the order of their keys, each that is not known as the one before."""
    return np.maximum.accumulate(times)


def month_of(time_ns: int) -> str:
    """Return the month (UTC) of a time, ``YYYY-MM``."""
    return str(np.datetime64(time_ns, "ns").astype("datetime64[M]"))


def next_month_ns(time_ns: int) -> int:
    """Return when the month after the one of a time begins."""
    month = np.datetime64(time_ns, "ns").astype("datetime64[M]") + np.timedelta64(1, "M")
    return int(month.astype("datetime64[ns]").astype(np.int64))


def _range(kind: Kind, shard: int) -> tuple[int, int]:
    return (0, 1 << 62) if kind is EVENTS else (make_id(shard, 0), make_id(shard + 1, 0))


def _scope(kind: Kind, shard: int) -> str:
    return f"shard = {shard} AND " if kind is EVENTS else ""


def _sorting(kind: Kind) -> tuple[str, ...]:
    return (kind.key,) if kind is EVENTS else ("symbol", kind.key)
