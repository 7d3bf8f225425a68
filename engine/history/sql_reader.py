"""Reading a history in SQL: the questions, in words that every such database takes.

A statement has ``?`` where its values come. Who opens the database is a subclass.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np

from engine.books.contract import Records
from engine.history.archive import Piece
from engine.history.candles import CANDLE_ROW
from engine.history.destination import Cursor
from engine.history.evidence import PIECE, Counts, Evidence, Listed, Row
from engine.history.history import ALWAYS_NS, Page, newest
from engine.history.rows import ORDER_ROW, TRADE_ROW, signed
from engine.history.tables import CURSOR_COLUMNS, UNKNOWN
from ipc.arrays import Integers
from ipc.records import make_id, shard_of

Ask = Callable[..., list[Any]]
"""Takes a statement and its values; returns all rows."""


class Timed(NamedTuple):
    """A table whose rows are as old as their ids say."""

    name: str
    key: str
    time_column: str
    """0 where it is not known."""


ORDERS = Timed("order_rows", "order_id", "created_ns")
TRADES = Timed("trade_rows", "trade_id", "timestamp_ns")
TRADES_AT_ONCE = 8_192
FIRST_PIECES, MOST_PIECES = 2, 256
"""Of a user's trades, asked for at once: one may have thousands, or a single one."""
_CANDLES = """WITH spans AS (SELECT timestamp_ns / ? AS span, min(trade_id) AS first,
max(trade_id) AS last, max(price) AS high, min(price) AS low, sum(quantity) AS volume,
count(*) AS trades FROM trade_rows WHERE symbol = ? AND trade_id >= ? AND trade_id < ? GROUP BY 1)
SELECT s.span * ?, o.price, s.high, s.low, c.price, s.volume, s.trades FROM spans s
JOIN trade_rows o ON o.trade_id = s.first JOIN trade_rows c ON c.trade_id = s.last ORDER BY 1"""
_TRADES_FROM = (
    "SELECT * FROM trade_rows WHERE trade_id > ? AND trade_id < ? ORDER BY trade_id LIMIT ?"
)


class SqlHistory(ABC):
    """One reader of a database, for one thread at a time; it is opened when it is first asked.

    See ``History``.
    """

    source: str
    listed: str
    """A value that lists numbers, as a table ``j`` of ``key``, their places, and ``value``."""
    pieces: str
    """The table of the ids of each user's trades."""
    begin: str
    """What begins to read all as it is at one moment."""

    @property
    @abstractmethod
    def where(self) -> str:
        """The database as messages name it."""

    def begun(self) -> bool:
        """Return whether there is anything to read: somebody has begun to write it."""
        return True

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    @abstractmethod
    def _asking(self, *, limited: bool = True) -> AbstractContextManager[Ask]:
        """Give what executes a statement, each within the time that there is for one."""

    @abstractmethod
    def _list(self, numbers: list[int]) -> object:
        """Return the value for ``listed``."""

    @abstractmethod
    def _ids(self, piece: Any) -> Integers:
        """Return the ids of a piece of a user's trades."""

    def user_pieces(self, ask: Ask, limit: int) -> Iterator[tuple[int, Integers]]:
        """Yield the trades of every user in pieces, ``limit`` asked for at a time."""
        columns = f"SELECT account, last_trade, trade_ids FROM {self.pieces}"
        by_key = "ORDER BY account, last_trade LIMIT ?"
        rows = ask(f"{columns} {by_key}", limit)
        while rows:
            for account, _, piece in rows:
                yield account, self._ids(piece)
            where = "WHERE (account, last_trade) > (?, ?)"
            rows = ask(f"{columns} {where} {by_key}", *rows[-1][:2], limit)

    @contextmanager
    def reading(self) -> Iterator[Ask]:
        """Ask any number of questions, all of them about one moment, for as long as it takes."""
        with self._asking(limited=False) as ask:
            ask(self.begin)
            try:
                yield ask
            finally:
                ask("ROLLBACK")

    def archived(self) -> list[Piece]:
        """Return the files of orders and trades that have left the database."""
        return []

    def everything(self) -> AbstractContextManager[Ask]:
        """As ``reading``, with what lies elsewhere beside it, if anything does."""
        return self.reading()

    @contextmanager
    def evidence(self) -> Iterator[Evidence]:
        """Show all that there is."""
        with self.everything() as ask:
            yield _SqlEvidence(self, ask)

    def trades_after(self, shard: int, last: int) -> Iterator[Records]:
        """Yield the trades of a shard behind its trade ``last``, oldest first."""
        with self.reading() as ask:
            after, end = make_id(shard, last), make_id(shard + 1, 0)
            while rows := ask(_TRADES_FROM, after, end, TRADES_AT_ONCE):
                yield np.array(rows, TRADE_ROW)
                after = rows[-1][0]

    def reached(self) -> dict[int, Cursor]:
        """Return each shard's cursor: rows and cursor are written at once."""
        return self.cursors()

    def cursors(self) -> dict[int, Cursor]:
        """Return each shard's cursor."""
        with self._asking() as ask:
            return cursors_of(ask)

    def notes(self) -> list[tuple[int, int, str]]:
        """Return what was noted for good: shard, time (ns), text."""
        with self._asking() as ask:
            return list(ask("SELECT shard, written_ns, note FROM notes ORDER BY written_ns"))

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
                low, high = self._ids_of(ask, page, shard, below, ORDERS)
                found += ask(
                    f"SELECT * FROM order_rows WHERE order_id >= ? AND order_id < ?{where} "
                    "ORDER BY order_id DESC LIMIT ?",
                    low,
                    high,
                    *values,
                    page.limit,
                )
        return newest(np.array(found, ORDER_ROW), "created_ns", "order_id", page.limit)

    def trades(self, page: Page) -> Records:
        """Return trades, newest first."""
        found: list[tuple[int, ...]] = []
        where, values = _conditions(page, ("symbol",))
        with self._asking() as ask:
            for shard, below in page.below.items():
                ids = self._ids_of(ask, page, shard, below, TRADES)
                if page.account is not None:
                    found += self._trades_of_user(ask, page, *ids)
                    continue
                found += ask(
                    f"SELECT * FROM trade_rows WHERE trade_id >= ? AND trade_id < ?{where} "
                    "ORDER BY trade_id DESC LIMIT ?",
                    *ids,
                    *values,
                    page.limit,
                )
        return newest(np.array(found, TRADE_ROW), "timestamp_ns", "trade_id", page.limit)

    def candles(self, shard: int, symbol: int, width_ns: int, from_ns: int, to_ns: int) -> Records:
        """Return the candles of a symbol's trades between two times, oldest first."""
        with self._asking() as ask:
            return self._candles(ask, shard, symbol, width_ns, from_ns, to_ns)

    def _candles(
        self, ask: Ask, shard: int, symbol: int, width_ns: int, from_ns: int, to_ns: int
    ) -> Records:
        page = Page({}, 0, from_ns=from_ns, to_ns=to_ns)
        ids = self._ids_of(ask, page, shard, make_id(shard + 1, 0), TRADES)
        rows = ask(_CANDLES, width_ns, symbol, *ids, width_ns)
        return np.array([tuple(map(int, row)) for row in rows], CANDLE_ROW)

    def users(self, accounts: Collection[int]) -> dict[int, str]:
        """Return the user ids of accounts."""
        with self._asking() as ask:
            wanted = self._list([signed(account) for account in accounts])
            return dict(
                ask(
                    f"SELECT u.account, u.user_id FROM {self.listed} "
                    "JOIN users u ON u.account = j.value",
                    wanted,
                )
            )

    def texts(self, numbers: Collection[int]) -> dict[int, str]:
        """Return the texts that client_order_ids stand for."""
        with self._asking() as ask:
            found = ask(
                f"SELECT c.number, c.text FROM {self.listed} "
                "JOIN client_texts c ON c.number = j.value",
                self._list([signed(number) for number in numbers]),
            )
            return dict(found)

    def _ids_of(
        self, ask: Ask, page: Page, shard: int, below: int, table: Timed
    ) -> tuple[int, int]:
        """Return from which id on, and below which, a shard's rows lie in the page's times."""
        low, high = make_id(shard, 1), min(below, make_id(shard + 1, 0))
        first = low if page.from_ns <= 0 else self._first_at(ask, table, low, high, page.from_ns)
        end = high if page.to_ns >= ALWAYS_NS else self._first_at(ask, table, low, high, page.to_ns)
        return first, end

    def _first_at(self, ask: Ask, table: Timed, low: int, high: int, time_ns: int) -> int:
        """Return the first id of a range at or behind which rows are not older."""
        name, key, time_column = table
        text = (
            f"SELECT {key}, {time_column} FROM {name} "
            f"WHERE {key} >= ? AND {key} < ? AND {time_column} > 0 ORDER BY {key} LIMIT 1"
        )
        newest = ask(
            f"SELECT {key} FROM {name} WHERE {key} >= ? AND {key} < ? ORDER BY {key} DESC LIMIT 1",
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

    def _trades_of_user(self, ask: Ask, page: Page, low: int, high: int) -> list[tuple[int, ...]]:
        """Return trades of an account from ``low`` on and below ``high``, newest first."""
        assert page.account is not None
        account = signed(page.account)
        end = make_id(shard_of(low) + 1, 0)
        pieces = f"SELECT last_trade, trade_ids FROM {self.pieces} WHERE account = ? AND last_trade"
        rows = ask(
            f"{pieces} >= ? AND last_trade < ? ORDER BY last_trade LIMIT 1", account, high, end
        )
        found: list[tuple[int, ...]] = []
        before, at_once = high, FIRST_PIECES
        while len(found) < page.limit:
            for _, piece in rows:
                ids = self._ids(piece)
                ids = ids[(ids >= low) & (ids < high)][::-1]
                if page.symbol is None:
                    ids = ids[: page.limit - len(found)]
                found += self._trades_with(ask, page, ids.tolist())
            rows = ask(
                f"{pieces} >= ? AND last_trade < ? ORDER BY last_trade DESC LIMIT ?",
                account,
                low,
                before,
                at_once,
            )
            if not rows:
                break
            before, at_once = rows[-1][0], min(2 * at_once, MOST_PIECES)
        return found[: page.limit]

    def _trades_with(self, ask: Ask, page: Page, ids: list[int]) -> list[tuple[int, ...]]:
        """Return the rows of trades by their ids, in that order; those of the page's symbol."""
        if not ids:
            return []
        where, values = _conditions(page, ("symbol",))
        return ask(
            f"SELECT t.* FROM {self.listed} JOIN trade_rows t ON t.trade_id = j.value"
            f" WHERE 1 = 1{where} ORDER BY j.key LIMIT ?",
            self._list(ids),
            *values,
            page.limit,
        )


class _SqlEvidence:
    """See ``Evidence``."""

    def __init__(self, reader: SqlHistory, ask: Ask) -> None:
        self._reader, self._ask = reader, ask

    def cursors(self) -> dict[int, Cursor]:
        """Return each shard's cursor."""
        return cursors_of(self._ask)

    def counts(self, low: int, high: int) -> Counts:
        """Return how many rows have ids between two."""
        between = "WHERE {0} > ? AND {0} < ?"
        orders = f"SELECT count(*) FROM order_rows {between.format('order_id')}"
        trades = f"SELECT count(*) FROM trade_rows {between.format('trade_id')}"
        texts = (orders, f"{orders} AND status = {UNKNOWN}", trades)
        return Counts(*(self._ask(text, low, high)[0][0] for text in texts))

    def trades(self, low: int, high: int) -> Iterator[Row]:
        """Yield trades with ids between two, growing."""
        while rows := self._ask(_TRADES_FROM, low, high, PIECE):
            yield from rows
            low = rows[-1][0]

    def order(self, order_id: int) -> Row | None:
        """Return an order."""
        rows = self._ask("SELECT * FROM order_rows WHERE order_id = ?", order_id)
        return rows[0] if rows else None

    def trade(self, trade_id: int) -> Row | None:
        """Return a trade."""
        rows = self._ask("SELECT * FROM trade_rows WHERE trade_id = ?", trade_id)
        return rows[0] if rows else None

    def listed(self) -> Listed:
        """Hold the trades of each user against the trades."""
        sums: dict[int, list[int]] = {}
        for account, count, total in self._ask(
            "SELECT account, count(*), sum(trade_id) FROM (SELECT buyer AS account, trade_id FROM "
            "trade_rows UNION ALL SELECT seller, trade_id FROM trade_rows WHERE seller <> buyer) "
            "AS sides WHERE account <> 0 GROUP BY account"
        ):
            sums[account] = [count, int(total)]
        for account, ids in self._reader.user_pieces(self._ask, PIECE):
            known = sums.setdefault(account, [0, 0])
            known[0] -= len(ids)
            known[1] -= int(ids.sum())
        wrong = [account for account, found in sums.items() if found != [0, 0]]
        return Listed("user_trades", len(sums), wrong)


def cursors_of(ask: Ask) -> dict[int, Cursor]:
    """Return each shard's cursor."""
    rows = ask(f"SELECT {', '.join(CURSOR_COLUMNS)} FROM shards")
    return {row[0]: Cursor(*row) for row in rows}


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
