"""Reading a history in MongoDB, while it is written or not, and what it adds up to."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from pymongo import DESCENDING, MongoClient, timeout
from pymongo.collection import Collection as Documents
from pymongo.database import Database

from engine.books.contract import Records
from engine.history.archive import Piece
from engine.history.candles import CANDLE_ROW
from engine.history.destination import Cursor, HistoryError
from engine.history.evidence import Counts, Evidence, Listed, Row
from engine.history.history import ALWAYS_NS, Page, newest
from engine.history.mongo import check_begun, check_whole, cursors_of
from engine.history.mongo_documents import MAX_FILLS, ORDER_NAMES, TRADE_NAMES, as_row
from engine.history.mongo_link import Document, connected, judged, where
from engine.history.rows import ORDER_ROW, TRADE_ROW, signed
from engine.history.tables import UNKNOWN
from engine.sections import MongodbSection
from ipc.records import make_id

_ROW = {"_id": 0, "row": 1}
_PIECE = 4_096
HOUR_NS = 3_600 * 10**9


class MongoHistory:
    """One reader of a database. A question that takes longer than ``timeout_s`` ends as
    ``AwayError``.

    See ``History``.
    """

    source = "mongodb"

    def __init__(self, section: MongodbSection, timeout_s: float = 5.0) -> None:
        self._section, self._timeout_s = section, timeout_s
        self._client: MongoClient[Document] | None = None

    @property
    def where(self) -> str:
        """The database."""
        return where(self._section)

    def begun(self) -> bool:
        """Return whether somebody has begun to write it. Raises as the others do."""
        with judged(self.where):
            return self._opened().meta.find_one({"_id": "schema"}) is not None

    def close(self) -> None:
        """Let go of the database."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def cursors(self) -> dict[int, Cursor]:
        """Return each shard's cursor."""
        with self._asking() as database:
            return cursors_of(database)

    def reached(self) -> dict[int, Cursor]:
        """Return each shard's cursor, or how far it was being taken when it was last written."""
        with self._asking() as database:
            found = cursors_of(database)
            for shard in database.shards.find({"trying": {"$exists": True}}):
                cursor, trying = found.get(shard["_id"]), shard["trying"]
                if cursor is not None and trying["position"] > cursor.position:
                    found[shard["_id"]] = cursor._replace(**trying)
            return found

    def notes(self) -> list[tuple[int, int, str]]:
        """Return what was noted for good: shard, time (ns), text."""
        with self._asking() as database:
            found = database.notes.find().sort("written_ns")
            return [(note["shard"], note["written_ns"], note["note"]) for note in found]

    def archived(self) -> list[Piece]:
        """Return nothing: nothing leaves."""
        return []

    def order(self, order_id: int) -> Records:
        """Return one order, or none."""
        with self._asking() as database:
            return _rows(database.orders.find({"_id": order_id}, _ROW), ORDER_ROW)

    def orders(self, page: Page) -> Records:
        """Return orders, newest first."""
        asked = _conditions(page, ("account", "symbol", "side"), "created_ns")
        if page.statuses:
            asked["row.status"] = {"$in": list(page.statuses)}
        with self._asking() as database:
            rows = _pages(database.orders, page, asked, ORDER_ROW)
        return newest(rows, "created_ns", "order_id", page.limit)

    def trades(self, page: Page) -> Records:
        """Return trades, newest first."""
        asked = _conditions(page, ("symbol",), "timestamp_ns")
        if page.account is not None:
            account = signed(page.account)
            asked["$or"] = [{"row.buyer": account}, {"row.seller": account}]
        with self._asking() as database:
            rows = _pages(database.trades, page, asked, TRADE_ROW)
        return newest(rows, "timestamp_ns", "trade_id", page.limit)

    def candles(self, shard: int, symbol: int, width_ns: int, from_ns: int, to_ns: int) -> Records:
        """Return the candles of a symbol's trades between two times, oldest first."""
        times = {"$gte": from_ns, "$lt": to_ns}
        ids = {"$gt": make_id(shard, 0), "$lt": make_id(shard + 1, 0)}
        start = {"$subtract": ["$timestamp_ns", {"$mod": ["$timestamp_ns", width_ns]}]}
        price = "$row.price"
        steps: list[Document] = [
            {"$match": {"row.symbol": symbol, "timestamp_ns": times, "_id": ids}},
            {"$sort": {"_id": 1}},
            {
                "$group": {
                    "_id": start,
                    "open": {"$first": price},
                    "high": {"$max": price},
                    "low": {"$min": price},
                    "close": {"$last": price},
                    "volume": {"$sum": "$row.quantity"},
                    "trades": {"$sum": 1},
                }
            },
            {"$sort": {"_id": 1}},
        ]
        names = ("_id", *(CANDLE_ROW.names or ())[1:])
        with self._asking() as database:
            found = [
                tuple(int(candle[name]) for name in names)
                for candle in database.trades.aggregate(steps)
            ]
        return np.array(found, CANDLE_ROW)

    def users(self, accounts: Collection[int]) -> dict[int, str]:
        """Return the user ids of accounts."""
        wanted = {"_id": {"$in": [signed(account) for account in accounts]}}
        with self._asking() as database:
            return {found["_id"]: found["user_id"] for found in database.users.find(wanted)}

    def texts(self, numbers: Collection[int]) -> dict[int, str]:
        """Return the texts that client_order_ids stand for."""
        wanted = {"_id": {"$in": [signed(number) for number in numbers]}}
        with self._asking() as database:
            return {found["_id"]: found["text"] for found in database.client_texts.find(wanted)}

    def trades_after(self, shard: int, last: int) -> Iterator[Records]:
        """Yield the trades of a shard behind its trade ``last``, oldest first."""
        after, end = make_id(shard, last), make_id(shard + 1, 0)
        with self._asking(limited=False) as database:
            while True:
                between = {"_id": {"$gt": after, "$lt": end}}
                found = database.trades.find(between, _ROW).sort("_id").limit(_PIECE)
                rows = _rows(found, TRADE_ROW)
                if not len(rows):
                    return
                yield rows
                after = int(rows["trade_id"][-1])

    @contextmanager
    def evidence(self) -> Iterator[Evidence]:
        """Show all that there is; where it is written meanwhile, that too."""
        with self._asking(limited=False) as database:
            yield _MongoEvidence(self, database)

    def volume_by_user(self, start: datetime, end: datetime) -> list[tuple[str, str, Decimal]]:
        """Return what each user has traded of each symbol between two times, the most first: user,
        symbol, quantity. A trade with oneself counts once for each side."""
        both = [{"user": "$buyer"}, {"user": "$seller"}]
        steps: list[Document] = [
            {"$match": {"timestamp": {"$gte": start, "$lt": end}}},
            {"$project": {"symbol": 1, "quantity": 1, "sides": both}},
            {"$unwind": "$sides"},
            {
                "$group": {
                    "_id": {"user": "$sides.user", "symbol": "$symbol"},
                    "quantity": {"$sum": "$quantity"},
                }
            },
            {"$sort": {"quantity": -1, "_id.user": 1, "_id.symbol": 1}},
        ]
        with self._asking() as database:
            return [
                (found["_id"]["user"], found["_id"]["symbol"], found["quantity"].to_decimal())
                for found in database.trades.aggregate(steps)
            ]

    def fills_an_hour(self, symbol: str) -> list[tuple[datetime, int, Decimal]]:
        """Return how many trades of a symbol each hour had, oldest first: its begin, trades,
        quantity."""
        hour = {"$subtract": ["$timestamp_ns", {"$mod": ["$timestamp_ns", HOUR_NS]}]}
        steps: list[Document] = [
            {"$match": {"symbol": symbol}},
            {
                "$group": {
                    "_id": hour,
                    "trades": {"$sum": 1},
                    "quantity": {"$sum": "$quantity"},
                }
            },
            {"$sort": {"_id": 1}},
        ]
        with self._asking() as database:
            return [
                (
                    datetime.fromtimestamp(int(found["_id"]) // 10**9, UTC),
                    found["trades"],
                    found["quantity"].to_decimal(),
                )
                for found in database.trades.aggregate(steps)
            ]

    @contextmanager
    def _asking(self, *, limited: bool = True) -> Iterator[Database[Document]]:
        """Give the database; all that is asked of it within the time that there is."""
        with judged(self.where):
            database = self._opened()
            with timeout(self._timeout_s if limited else None):
                check_begun(database, self.where)
                if database.meta.find_one({"_id": "schema"}) is None:
                    raise HistoryError(f"{self.where}: nothing is there yet")
                for cursor in cursors_of(database).values():
                    check_whole(database, self.where, cursor)
                yield database

    def _opened(self) -> Database[Document]:
        if self._client is None:
            self._client = connected(self._section, "shardbook reader", self._timeout_s)
        return self._client[self._section.name]


class _MongoEvidence:
    """See ``Evidence``."""

    def __init__(self, history: MongoHistory, database: Database[Document]) -> None:
        self._history, self._database = history, database

    def cursors(self) -> dict[int, Cursor]:
        """Return each shard's cursor."""
        return cursors_of(self._database)

    def counts(self, low: int, high: int) -> Counts:
        """Return how many documents have ids between two."""
        between: Document = {"_id": {"$gt": low, "$lt": high}}
        orders, trades = self._database.orders, self._database.trades
        return Counts(
            orders.count_documents(between),
            orders.count_documents(between | {"row.status": UNKNOWN}),
            trades.count_documents(between),
        )

    def trades(self, low: int, high: int) -> Iterator[Row]:
        """Yield trades with ids between two, growing."""
        for found in self._database.trades.find({"_id": {"$gt": low, "$lt": high}}).sort("_id"):
            yield as_row(TRADE_NAMES, found["row"])

    def order(self, order_id: int) -> Row | None:
        """Return an order."""
        found = self._database.orders.find_one({"_id": order_id}, _ROW)
        return None if found is None else as_row(ORDER_NAMES, found["row"])

    def trade(self, trade_id: int) -> Row | None:
        """Return a trade."""
        found = self._database.trades.find_one({"_id": trade_id}, _ROW)
        return None if found is None else as_row(TRADE_NAMES, found["row"])

    def listed(self) -> Listed:
        """Hold the fills of each order against the trades."""
        sums: dict[int, list[int]] = {}
        for trade in self._database.trades.find({}, {"row": 1}):
            for side in ("buy_order_id", "sell_order_id"):
                known = sums.setdefault(trade["row"][side], [0, 0])
                known[0] += 1
                known[1] += trade["_id"]
        lists, wrong = 0, []
        for order in self._database.orders.find({}, {"fills": 1}):
            lists += 1
            made = [fill["trade_id"] for fill in order["fills"]]
            if len(made) < MAX_FILLS and [len(made), sum(made)] != sums.get(order["_id"], [0, 0]):
                wrong.append(order["_id"])
        return Listed("fills", lists, wrong)


def _pages(
    documents: Documents[Document], page: Page, asked: Document, dtype: np.dtype[np.void]
) -> Records:
    """Return the newest rows of each shard that meet conditions."""
    found = [np.zeros(0, dtype)]
    for shard, below in page.below.items():
        ids = {"_id": {"$gt": make_id(shard, 0), "$lt": min(below, make_id(shard + 1, 0))}}
        some = documents.find(ids | asked, _ROW).sort("_id", DESCENDING).limit(page.limit)
        found.append(_rows(some, dtype))
    return np.concatenate(found)


def _conditions(page: Page, names: tuple[str, ...], time_name: str) -> Document:
    """Return what a page asks of documents."""
    values = {name: getattr(page, name) for name in names}
    asked: Document = {
        f"row.{name}": signed(value) for name, value in values.items() if value is not None
    }
    times: dict[str, Any] = {}
    if page.from_ns > 0:
        times["$gte"] = page.from_ns
    if page.to_ns < ALWAYS_NS:
        times["$lt"] = page.to_ns
    return asked | ({f"row.{time_name}": times} if times else {})


def _rows(found: Any, dtype: np.dtype[np.void]) -> Records:
    names = dtype.names or ()
    return np.array([as_row(names, document["row"]) for document in found], dtype)
