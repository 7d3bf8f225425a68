"""Reading a history in an SQLite file, while it is written or not, and what has left it."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engine.books.contract import Records
from engine.history.archive import ORDERS, TRADES, Kind, Piece, archive_of, known_times, pieces_of
from engine.history.candles import candles_of, joined
from engine.history.destination import AwayError
from engine.history.history import Page, newest
from engine.history.parquet import Condition, read_rows
from engine.history.rows import signed, user_pieces
from engine.history.sql_reader import Ask, SqlHistory
from engine.history.sqlite import check_schema, judged
from engine.history.sqlite_schema import insert
from ipc.arrays import Integers

_STEPS = 10_000
"""Of SQLite's machine, between two looks at the clock: far below a millisecond."""


class SqliteHistory(SqlHistory):
    """One reader of a file. A question that takes longer than ``timeout_s`` ends as ``AwayError``.

    What has left the file is looked up behind it: whatever leaves in between is there twice then,
    and counts once.

    See ``History``.
    """

    source = "sqlite"
    listed = "json_each(?) j"
    pieces = "user_trades"
    begin = "BEGIN"

    def __init__(self, path: Path, timeout_s: float = 5.0) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._until_s = 0.0
        self._connection: sqlite3.Connection | None = None

    @property
    def where(self) -> str:
        """The file."""
        return str(self.path)

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def order(self, order_id: int) -> Records:
        """Return one order, or none."""
        rows = super().order(order_id)
        if len(rows):
            return rows
        conditions: list[Condition] = [("order_id", "=", order_id)]
        for piece in self._pieces(ORDERS):
            if piece.first_id <= order_id <= piece.last_id and not len(rows):
                rows = self._rows(ORDERS, piece, conditions)
        return rows

    def orders(self, page: Page) -> Records:
        """Return orders, newest first."""
        conditions = _conditions(page, "account", "symbol", "side")
        if page.statuses:
            conditions.append(("status", "in", list(page.statuses)))
        return self._with_archive(super().orders(page), ORDERS, page, conditions)

    def trades(self, page: Page) -> Records:
        """Return trades, newest first."""
        conditions = _conditions(page, "symbol")
        rows = super().trades(page)
        if page.account is None:
            return self._with_archive(rows, TRADES, page, conditions)
        account = signed(page.account)
        for side in ("buyer", "seller"):
            rows = self._with_archive(rows, TRADES, page, [*conditions, (side, "=", account)])
        return rows

    def candles(self, shard: int, symbol: int, width_ns: int, from_ns: int, to_ns: int) -> Records:
        """Return the candles of a symbol's trades between two times, oldest first."""
        asked = shard, symbol, width_ns, from_ns, to_ns
        with self._asking() as ask:
            assert self._connection is not None
            ask(self.begin)  # what leaves meanwhile counts once
            try:
                pieces = pieces_of(self._connection, TRADES)
                found = [self._candles(ask, *asked)]
            finally:
                ask("ROLLBACK")
        times: list[Condition] = [("timestamp_ns", ">=", from_ns), ("timestamp_ns", "<", to_ns)]
        until_s = time.monotonic() + self._timeout_s
        for piece in pieces:
            if piece.shard == shard and piece.first_ns < to_ns and piece.last_ns >= from_ns:
                if time.monotonic() > until_s:
                    raise self._late()
                trades = self._rows(TRADES, piece, [("symbol", "=", symbol), *times])
                found.insert(0, candles_of(trades, width_ns))
        return joined(np.concatenate(found))

    def archived(self) -> list[Piece]:
        """Return the pieces of orders and trades that have left the file."""
        return [*self._pieces(ORDERS), *self._pieces(TRADES)]

    @contextmanager
    def everything(self) -> Iterator[Ask]:
        """As ``reading``, with what has left the file where it was: for as long as this is open."""
        with self._asking(limited=False) as ask:
            connection = self._connection
            assert connection is not None
            for kind in (ORDERS, TRADES):
                columns = ", ".join(
                    f"{name} INTEGER{' PRIMARY KEY' if name == kind.key else ''}"
                    for name in kind.dtype.names or ()
                )
                ask(f"CREATE TEMP TABLE left_{kind.name} ({columns})")
            ask(
                "CREATE TEMP TABLE left_pieces (account INTEGER, last_trade INTEGER, "
                "trade_ids BLOB, PRIMARY KEY (account, last_trade)) WITHOUT ROWID"
            )
            ask(self.begin)
            try:
                for kind in (ORDERS, TRADES):
                    for piece in pieces_of(connection, kind):
                        rows = self._rows(kind, piece, ())
                        width = len(kind.dtype.names or ())
                        text = insert(f"left_{kind.name}", width, 1)
                        connection.executemany(text, rows.tolist())
                        if kind is TRADES:
                            ordered = rows[np.argsort(rows["trade_id"])]
                            text = insert("left_pieces", 3, 1)
                            connection.executemany(text, user_pieces(ordered))
                    ask(
                        f"CREATE TEMP VIEW {kind.table} AS SELECT * FROM main.{kind.table} "
                        f"UNION ALL SELECT * FROM left_{kind.name}"
                    )
                ask(
                    "CREATE TEMP VIEW user_trades AS SELECT * FROM main.user_trades "
                    "UNION ALL SELECT * FROM left_pieces"
                )
                yield ask
            finally:
                self.close()  # and with it go the tables

    def _pieces(self, kind: Kind) -> list[Piece]:
        with self._asking():
            assert self._connection is not None
            return pieces_of(self._connection, kind)

    def _rows(self, kind: Kind, piece: Piece, conditions: Sequence[Condition]) -> Records:
        return read_rows(archive_of(self.path) / piece.name, kind.dtype, conditions)

    def _with_archive(
        self, rows: Records, kind: Kind, page: Page, conditions: Sequence[Condition]
    ) -> Records:
        """Return a page with those rows of the archive that belong into it.

        Raises as ``orders`` does.
        """
        until_s = time.monotonic() + self._timeout_s
        for piece in self._pieces(kind):
            if len(rows) >= page.limit and piece.last_ns < rows[kind.time_column].min():
                break  # this one and all that follow are older
            below = page.below.get(piece.shard, 0)
            if (
                piece.first_id >= below
                or piece.first_ns >= page.to_ns
                or piece.last_ns < page.from_ns
            ):
                continue
            if time.monotonic() > until_s:
                raise self._late()
            found = self._rows(kind, piece, [*conditions, (kind.key, "<", below)])
            found = found[np.argsort(found[kind.key])]
            times = known_times(found[kind.time_column])
            found = found[(times >= page.from_ns) & (times < page.to_ns)]
            found = found[~np.isin(found[kind.key], rows[kind.key])]
            both = np.concatenate((rows, found))
            rows = newest(both, kind.time_column, kind.key, page.limit)
        return rows

    def _list(self, numbers: list[int]) -> str:
        return str(numbers)

    def _ids(self, piece: Any) -> Integers:
        return np.frombuffer(piece, "<i8")

    @contextmanager
    def _asking(self, *, limited: bool = True) -> Iterator[Ask]:
        """Give what executes a statement; a file that fails is opened anew the next time."""
        try:
            with judged(self.path):
                connection = self._connection or self._open()
                self._connection = connection
                self._until_s = time.monotonic() + self._timeout_s
                connection.set_progress_handler(self._is_late if limited else None, _STEPS)
                yield lambda text, *values: connection.execute(text, values).fetchall()
        except Exception as error:
            self.close()
            if "interrupted" in str(error):
                raise self._late() from None
            raise

    def _late(self) -> AwayError:
        return AwayError(f"{self.path}: the answer takes longer than {self._timeout_s:g} s")

    def _is_late(self) -> bool:
        return time.monotonic() > self._until_s

    def _open(self) -> sqlite3.Connection:
        if not self.path.is_file():
            raise AwayError(f"{self.path}: is not there")
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=self._timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            check_schema(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection


def _conditions(page: Page, *names: str) -> list[Condition]:
    """Return what a page asks of columns."""
    values = ((name, getattr(page, name)) for name in names)
    return [(name, "=", signed(value)) for name, value in values if value is not None]
