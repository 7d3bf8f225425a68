"""Reading a history in an SQLite file, while it is written or not."""

import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engine.books.contract import Records
from engine.history.destination import AwayError, Cursor
from engine.history.history import ALWAYS_NS, Page
from engine.history.rows import ORDER_ROW, TRADE_ROW
from engine.history.sqlite import check_schema, judged, signed
from engine.history.sqlite_schema import CURSOR_COLUMNS
from ipc.records import make_id, shard_of

_STEPS = 10_000
"""Of SQLite's machine, between two looks at the clock: far below a millisecond."""
_IDS = np.dtype("<i8")


class SqliteHistory:
    """One reader of a file, for one thread at a time; it is opened when it is first asked.

    A question that takes longer than ``timeout_s`` ends as ``AwayError``. See ``History``.
    """

    source = "sqlite"

    def __init__(self, path: Path, timeout_s: float = 5.0) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._until_s = 0.0
        self._connection: sqlite3.Connection | None = None

    def cursors(self) -> dict[int, Cursor]:
        """Return each shard's cursor."""
        with self._asking() as ask:
            rows = ask(f"SELECT {', '.join(CURSOR_COLUMNS)} FROM shards")
            return {row[0]: Cursor(*row) for row in rows}

    def notes(self) -> list[tuple[int, int, str]]:
        """Return what was noted for good: shard, time (ns), text."""
        with self._asking() as ask:
            return list(ask("SELECT shard, written_ns, note FROM notes ORDER BY rowid"))

    def order(self, order_id: int) -> Records:
        """Return one order, or none."""
        with self._asking() as ask:
            rows = ask("SELECT * FROM order_rows WHERE order_id = ?", order_id)
            return np.array(rows, ORDER_ROW)

    def orders(self, page: Page) -> Records:
        """Return orders, newest first."""
        where, values = _conditions(page, ("account", "symbol", "side"))
        if page.statuses:
            where += f" AND status IN ({','.join('?' * len(page.statuses))})"
            values += page.statuses
        found: list[tuple[int, ...]] = []
        with self._asking() as ask:
            for shard, below in page.below.items():
                low, high = _ids_of(ask, page, shard, below, "order_rows", "order_id", "created_ns")
                found += ask(
                    f"SELECT * FROM order_rows WHERE order_id >= ? AND order_id < ?{where} "
                    "ORDER BY order_id DESC LIMIT ?",
                    low,
                    high,
                    *values,
                    page.limit,
                )
        return _newest(np.array(found, ORDER_ROW), "created_ns", "order_id", page.limit)

    def trades(self, page: Page) -> Records:
        """Return trades, newest first."""
        found: list[tuple[int, ...]] = []
        where, values = _conditions(page, ("symbol",))
        with self._asking() as ask:
            for shard, below in page.below.items():
                ids = _ids_of(ask, page, shard, below, "trade_rows", "trade_id", "timestamp_ns")
                if page.account is not None:
                    found += _trades_of_user(ask, page, *ids)
                    continue
                found += ask(
                    f"SELECT * FROM trade_rows WHERE trade_id >= ? AND trade_id < ?{where} "
                    "ORDER BY trade_id DESC LIMIT ?",
                    *ids,
                    *values,
                    page.limit,
                )
        return _newest(np.array(found, TRADE_ROW), "timestamp_ns", "trade_id", page.limit)

    def users(self, accounts: Collection[int]) -> dict[int, str]:
        """Return the user ids of accounts."""
        with self._asking() as ask:
            wanted = str([signed(account) for account in accounts])
            return dict(
                ask(
                    "SELECT u.account, u.user_id FROM json_each(?) j "
                    "JOIN users u ON u.account = j.value",
                    wanted,
                )
            )

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def reading(self) -> Iterator["Ask"]:
        """Ask any number of questions, all of them about one moment, for as long as it takes."""
        with self._asking(limited=False) as ask:
            ask("BEGIN")
            try:
                yield ask
            finally:
                ask("ROLLBACK")

    @contextmanager
    def _asking(self, *, limited: bool = True) -> Iterator["Ask"]:
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
                late = f"{self.path}: the answer takes longer than {self._timeout_s:g} s"
                raise AwayError(late) from None
            raise

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


Ask = Callable[..., list[Any]]
"""Takes a statement and its values; returns all rows."""


def _conditions(page: Page, names: tuple[str, ...]) -> tuple[str, list[int]]:
    """Return what a page asks of columns, as SQL behind other conditions, and the values.

    The first of them that is given is looked up in its index, the others (``+``) row by row.
    """
    where = ""
    values: list[int] = []
    for name in names:
        value = getattr(page, name)
        if value is not None:
            where += f" AND {'+' if values else ''}{name} = ?"
            values.append(signed(value))
    return where, values


def _ids_of(
    ask: Ask, page: Page, shard: int, below: int, table: str, key: str, time_column: str
) -> tuple[int, int]:
    """Return from which id on, and below which, a shard's rows lie in the page's times."""
    low, high = make_id(shard, 1), min(below, make_id(shard + 1, 0))
    search = (ask, table, key, time_column)
    first = low if page.from_ns <= 0 else _first_at(*search, low, high, page.from_ns)
    end = high if page.to_ns >= ALWAYS_NS else _first_at(*search, low, high, page.to_ns)
    return first, end


def _first_at(
    ask: Ask, table: str, key: str, time_column: str, low: int, high: int, time_ns: int
) -> int:
    """Return the first id of a range at or behind which rows are not older: they grow with ids."""
    text = (
        f"SELECT {key}, {time_column} FROM {table} "
        f"WHERE {key} >= ? AND {key} < ? AND {time_column} > 0 ORDER BY {key} LIMIT 1"
    )
    newest = ask(
        f"SELECT {key} FROM {table} WHERE {key} >= ? AND {key} < ? ORDER BY {key} DESC LIMIT 1",
        low,
        high,
    )
    if not newest:
        return high
    high = newest[0][0] + 1
    while low < high:
        middle = (low + high) // 2
        found = ask(text, middle, high)
        if found and found[0][1] < time_ns:
            low = found[0][0] + 1
        else:
            high = middle
    return low


def _trades_of_user(ask: Ask, page: Page, low: int, high: int) -> list[tuple[int, ...]]:
    """Return trades of an account from ``low`` on and below ``high``, newest first."""
    assert page.account is not None
    account = signed(page.account)
    end = make_id(shard_of(low) + 1, 0)
    pieces = "SELECT trade_ids FROM user_trades WHERE account = ? AND last_trade"
    rows = ask(f"{pieces} >= ? AND last_trade < ? ORDER BY last_trade LIMIT 1", account, high, end)
    found: list[tuple[int, ...]] = []
    before = high
    while len(found) < page.limit:
        for (piece,) in rows:
            ids = np.frombuffer(piece, _IDS)
            ids = ids[(ids >= low) & (ids < high)][::-1]
            found += _trades_with(ask, page, ids.tolist())
        rows = ask(
            f"{pieces} >= ? AND last_trade < ? ORDER BY last_trade DESC LIMIT ?",
            account,
            low,
            before,
            min(page.limit, 256),
        )
        if not rows:
            break
        before = int(np.frombuffer(rows[-1][0], _IDS)[-1])
    return found[: page.limit]


def _trades_with(ask: Ask, page: Page, ids: list[int]) -> list[tuple[int, ...]]:
    """Return the rows of trades by their ids, in that order; of one symbol where one is given."""
    if not ids:
        return []
    where, values = _conditions(page, ("symbol",))
    return ask(
        "SELECT t.* FROM json_each(?) j JOIN trade_rows t ON t.trade_id = j.value"
        f" WHERE 1{where} ORDER BY j.key LIMIT ?",
        str(ids),
        *values,
        page.limit,
    )


def _newest(rows: Records, time_column: str, key: str, limit: int) -> Records:
    """Return rows by time, newest first; those of one shard stay by id."""
    return rows[np.lexsort((rows[key], rows[time_column]))[::-1]][:limit]
