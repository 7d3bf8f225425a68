"""A history in MongoDB: one process writes it, whoever may reads it.

It needs no transactions over several documents: what a batch comes to is written first, each
document in one step, and the cursor behind it. Whoever was killed in between does it again, and all
of it can be done again: a document says up to which command it is (``position``) and which of its
trades was the last, and is left alone by what is older. What is being written stands in ``trying``
before, so that what is ahead of the cursor is known.

One writes, by a lock (``engine.history.mongo_lock``); who lost it finds the cursor changed, too.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from pymongo import ASCENDING, DESCENDING, MongoClient, UpdateMany, UpdateOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DuplicateKeyError

from engine.books.contract import Records
from engine.history.destination import AwayError, Cursor, HistoryError, Users, new_instruments
from engine.history.mongo_documents import (
    INDEXES,
    MAX_FILLS,
    ORDER_NAMES,
    TRADE_NAMES,
    Documents,
    Fill,
    Row,
    renewed,
    with_paid,
)
from engine.history.mongo_link import DUPLICATE, Document, connected, judged, where
from engine.history.mongo_lock import WriterLock
from engine.history.rows import Rows, signed, text_rows
from engine.history.tables import CURSOR_COLUMNS, EVENT_COLUMNS, INSTRUMENT_COLUMNS, UNKNOWN
from engine.sections import MongodbSection
from ipc.instruments import Instrument
from ipc.records import make_id
from ipc.vocabulary import OrdStatus

NAME = "history-mongodb"
"""Of the holds that its exporter has."""
VERSION = 1
APPLICATION = "shardbook history"
LONGEST_S = 60.0
"""How long an operation may take; a server that is silent for longer counts as away."""
AT_ONCE = 5_000
"""Documents of one message, at the most."""
_OPEN = [int(OrdStatus.NEW), int(OrdStatus.PARTIALLY_FILLED)]


class MongoDestination:
    """The one writer of a database. See ``Destination``.

    ``events``: keep every report as well. Raises ``AwayError`` and ``HistoryError``.
    """

    apart = True

    def __init__(self, section: MongodbSection, *, events: bool = False) -> None:
        self.where = where(section)
        self._section, self._events = section, events
        self._documents = Documents()
        self._written: dict[int, Cursor] = {}
        self._unnamed: set[int] = set()
        """Accounts that documents bear whose users were not known when they were written."""
        with judged(self.where):
            self._client: MongoClient[Document] = connected(
                section, f"shardbook history, process {os.getpid()}", LONGEST_S
            )
            self._database: Database[Document] = self._client[section.name]
        try:
            with judged(self.where):
                check_begun(self._database, self.where)
                self._lock = WriterLock(self._database, self.where)
        except BaseException:
            self._client.close()
            raise
        try:
            with judged(self.where):
                self._look()
                self._make()
        except BaseException:
            self.close()
            raise

    def cursors(self) -> dict[int, Cursor]:
        """Return each shard's cursor."""
        with judged(self.where):
            return cursors_of(self._database)

    def write(self, cursor: Cursor, rows: Rows) -> None:
        """Enter rows and cursor."""

        def enter() -> None:
            fills = _fills(rows.reports)
            self._enter_texts(rows.texts)
            self._enter_orders(_as_rows(rows.orders, ORDER_NAMES), fills, cursor.position)
            self._enter_trades(_as_rows(rows.trades, TRADE_NAMES))
            if self._events:
                self._enter_events(cursor.shard, rows.reports, rows.first_report)

        self._write(cursor, enter)

    def begin(self, cursor: Cursor, orders: Records, note: str, texts: Mapping[int, str]) -> None:
        """Begin a shard with a snapshot's orders."""
        between = {"$gt": make_id(cursor.shard, 0), "$lt": make_id(cursor.shard + 1, 0)}
        with judged(self.where):
            self._lock.beat()
            self._enter_texts(texts)
            self._enter_orders(_as_rows(orders, ORDER_NAMES), {}, cursor.position)
            there = self._database.orders
            there.update_many(
                {
                    "_id": between,
                    "row.status": {"$in": _OPEN},
                    "position": {"$lt": cursor.position},
                },
                {
                    "$set": {
                        "status": "UNKNOWN",
                        "row.status": UNKNOWN,
                        "unknown_since": cursor.position,
                    }
                },
            )
            forgotten = there.count_documents(
                {"_id": between, "row.status": UNKNOWN, "unknown_since": cursor.position}
            )
            gone = {"$gt": make_id(cursor.shard, cursor.reports), "$lt": between["$lt"]}
            self._database.order_events.delete_many({"_id": gone})
            if note:
                self._database.notes.update_one(
                    {"_id": f"{cursor.shard}.{cursor.position}"},
                    {"$set": {"shard": cursor.shard, "written_ns": time.time_ns(), "note": note}},
                    upsert=True,
                )
            cursor = cursor._replace(lost_orders=cursor.lost_orders + forgotten)
            self._commit(cursor)

    def write_past(self, cursor: Cursor, trades: Records, values: Records) -> None:
        """Enter trades of the trade log; what orders have paid follows from them."""

        def enter() -> None:
            rows = _as_rows(trades, TRADE_NAMES)
            ids = sorted({row[side] for row in rows for side in ("buy_order_id", "sell_order_id")})
            there = {doc["_id"]: doc for doc in self._orders_of(ids)}
            fills: dict[int, list[Fill]] = {}
            for row in rows:
                for account, side in (("buyer", "buy_order_id"), ("seller", "sell_order_id")):
                    if row[side] in there:
                        row[account] = there[row[side]]["row"]["account"]
                        fill = Fill((row["trade_id"], row["price"], row["quantity"]))
                        fills.setdefault(row[side], []).append(fill)
            self._enter_trades(rows)
            self._update(
                self._changed(there[order_id], None, made, None) for order_id, made in fills.items()
            )

        self._write(cursor, enter)

    def write_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Enter instruments, or hold them against those that are there."""
        with judged(self.where):
            known = self._database.instruments.find()
            there = [tuple(found[name] for name in INSTRUMENT_COLUMNS) for found in known]
            for row in new_instruments(self.where, instruments, there):
                named = dict(zip(INSTRUMENT_COLUMNS, row, strict=True))
                self._database.instruments.insert_one({"_id": row[0], **named})
                self._documents.know(*row)

    def user_ends(self) -> dict[str, int]:
        """Return up to which byte each list of users is there."""
        with judged(self.where):
            return {found["_id"]: found["read_to"] for found in self._database.user_lists.find()}

    def write_users(self, users: Users) -> None:
        """Enter users, and name them in the documents that were before them."""
        with judged(self.where):
            named = [(signed(account), user) for account, user in users.accounts]
            if named:
                self._database.users.bulk_write(
                    [
                        UpdateOne({"_id": key}, {"$setOnInsert": {"user_id": user}}, upsert=True)
                        for key, user in named
                    ],
                    ordered=False,
                )
            for account, user in named:
                self._documents.users.setdefault(account, user)
            late = [(account, user) for account, user in named if account in self._unnamed]
            if late:
                self._name(late)
            self._database.user_lists.update_one(
                {"_id": users.name}, {"$set": {"read_to": users.end}}, upsert=True
            )

    def sync(self) -> None:
        """Do nothing: each write was waited for until the server's journal had it."""

    def tidy(self) -> None:
        """Show that the lock is held; what is kept here is kept for good."""
        with judged(self.where):
            self._lock.beat()

    def close(self) -> None:
        """Let go of the database and of its lock."""
        try:
            with judged(self.where):
                self._lock.release()
        except HistoryError:
            pass  # it is away: the lock is lost by standing still
        self._client.close()

    def _write(self, cursor: Cursor, enter: Callable[[], None]) -> None:
        """Say what is being written, do it, and say that it is written."""
        with judged(self.where):
            self._lock.beat()
            trying = {name: getattr(cursor, name) for name in ("position", "orders", "trades")}
            same = _same(cursor.shard, self._written.get(cursor.shard))
            done = self._database.shards.update_one(same, {"$set": {"trying": trying}})
            if not done.matched_count:
                self._take_as_written(cursor)
                return
            enter()
            self._commit(cursor)

    def _commit(self, cursor: Cursor) -> None:
        known = self._written.get(cursor.shard)
        fields = dict(zip(CURSOR_COLUMNS, cursor, strict=True))
        try:
            done = self._database.shards.update_one(
                _same(cursor.shard, known), {"$set": fields}, upsert=known is None
            )
            written = known is None or done.matched_count
        except DuplicateKeyError:
            written = False
        if written:
            self._written[cursor.shard] = cursor
        else:
            self._take_as_written(cursor)

    def _take_as_written(self, cursor: Cursor) -> None:
        """Take a cursor as written where it is there: the answer was lost. Raises
        ``HistoryError`` where another is."""
        if cursors_of(self._database).get(cursor.shard) != cursor:
            raise self._elsewhere(cursor.shard)
        self._written[cursor.shard] = cursor

    def _elsewhere(self, shard: int) -> HistoryError:
        return HistoryError(
            f"{self.where}: shard {shard} is not there as it was written: another exporter has "
            "written meanwhile, or an older state was restored"
        )

    def _enter_texts(self, texts: Mapping[int, str]) -> None:
        """Enter texts, and know them for the documents of their orders."""
        self._documents.texts = dict(text_rows(texts))
        self._insert(
            "client_texts",
            [{"_id": number, "text": text} for number, text in self._documents.texts.items()],
        )

    def _enter_orders(self, rows: list[Row], fills: dict[int, list[Fill]], position: int) -> None:
        """Enter orders' rows, and fills by order."""
        new: list[Row] = []
        again: list[Row] = []
        for row in rows:
            (new if row["created_ns"] else again).append(row)
        documents = [self._new(row, fills.get(row["order_id"], []), position) for row in new]
        taken = self._insert("orders", documents)
        again += [row for row in new if row["order_id"] in taken]
        if not again:
            return
        there = {doc["_id"]: doc for doc in self._orders_of([row["order_id"] for row in again])}
        missing = [row for row in again if row["order_id"] not in there]
        self._insert(
            "orders",
            [self._new(row, fills.get(row["order_id"], []), position) for row in missing],
        )
        self._update(
            self._changed(there[order_id], row, fills.get(order_id, []), position)
            for row in again
            if (order_id := row["order_id"]) in there and there[order_id]["position"] < position
        )

    def _new(self, row: Row, fills: list[Fill], position: int) -> Document:
        row = with_paid(row | {"value_high": 0, "value_low": 0}, fills)
        self._note_user(row["account"])
        return {
            "_id": row["order_id"],
            **self._documents.order(row),
            "fills": self._documents.fills(row, fills[:MAX_FILLS]),
            "position": position,
            "last_trade": fills[-1][0] if fills else 0,
        }

    def _changed(
        self, there: Document, newer: Row | None, fills: list[Fill], position: int | None
    ) -> UpdateOne:
        """Return what takes an order's document to a newer row, and its fills into it."""
        fills = [fill for fill in fills if fill[0] > there["last_trade"]]
        row = there["row"] if newer is None else renewed(there["row"], newer)
        fields: Document = self._documents.order(with_paid(row, fills))
        if fields["user_id"] is None:
            self._note_user(row["account"])
        if position is not None:
            fields["position"] = position
        if fills:
            fields["last_trade"] = fills[-1][0]
        change: Document = {"$set": fields}
        if fills:
            shown = self._documents.fills(row, fills)
            change["$push"] = {"fills": {"$each": shown, "$slice": MAX_FILLS}}
        guard = {"_id": there["_id"], "last_trade": there["last_trade"]}
        return UpdateOne(guard | {"position": there["position"]}, change)

    def _orders_of(self, ids: list[int]) -> Iterator[Document]:
        wanted = {"row": 1, "position": 1, "last_trade": 1}
        for first in range(0, len(ids), AT_ONCE):
            some = {"_id": {"$in": ids[first : first + AT_ONCE]}}
            yield from self._database.orders.find(some, wanted)

    def _enter_trades(self, rows: list[Row]) -> None:
        for row in rows:
            self._note_user(row["buyer"])
            self._note_user(row["seller"])
        self._insert("trades", [self._documents.trade(row) for row in rows])

    def _enter_events(self, shard: int, reports: Records, first: int) -> None:
        columns = [reports[name].astype(np.int64).tolist() for name in EVENT_COLUMNS]
        documents = [
            {"_id": make_id(shard, number), **dict(zip(EVENT_COLUMNS, values, strict=True))}
            for number, values in enumerate(zip(*columns, strict=True), first)
        ]
        self._insert("order_events", documents)

    def _insert(self, name: str, documents: list[Document]) -> set[int]:
        """Insert documents; return the ids of those that were there, which stay as they are."""
        taken: set[int] = set()
        for first in range(0, len(documents), AT_ONCE):
            some = documents[first : first + AT_ONCE]
            try:
                self._database[name].insert_many(some, ordered=False)
            except BulkWriteError as error:
                failed = error.details["writeErrors"]
                other = [found for found in failed if found["code"] != DUPLICATE]
                if other:
                    raise HistoryError(f"{self.where}: {other[0]['errmsg']}") from None
                if error.details.get("writeConcernErrors"):
                    raise AwayError(f"{self.where}: is not written durably") from None
                taken |= {some[found["index"]]["_id"] for found in failed}
        return taken

    def _update(self, changes: Iterable[UpdateOne]) -> None:
        waiting: list[UpdateOne] = []
        for change in changes:
            waiting.append(change)
            if len(waiting) == AT_ONCE:
                self._database.orders.bulk_write(waiting, ordered=False)
                waiting = []
        if waiting:
            self._database.orders.bulk_write(waiting, ordered=False)

    def _note_user(self, account: int) -> None:
        if account and account not in self._documents.users:
            self._unnamed.add(account)

    def _name(self, users: list[tuple[int, str]]) -> None:
        """Name users in documents that were written before they were known."""
        for collection, account_name, user_name in (
            ("orders", "account", "user_id"),
            ("trades", "buyer", "buyer"),
            ("trades", "seller", "seller"),
        ):
            self._database[collection].bulk_write(
                [
                    UpdateMany(
                        {f"row.{account_name}": key, user_name: None}, {"$set": {user_name: user}}
                    )
                    for key, user in users
                ],
                ordered=False,
            )
        self._unnamed -= {account for account, _ in users}

    def _make(self) -> None:
        """Make what is not there."""
        database = self._database
        meta = {"application": APPLICATION, "version": VERSION}
        database.meta.update_one({"_id": "schema"}, {"$setOnInsert": meta}, upsert=True)
        for name, keys in INDEXES.items():
            for key in keys:
                database[name].create_index([(key, ASCENDING), ("_id", DESCENDING)])

    def _look(self) -> None:
        """Learn what is there: who is known, who is not named, and how far it goes."""
        database = self._database
        for found in database.instruments.find():
            row = (found[name] for name in INSTRUMENT_COLUMNS)
            self._documents.know(*row)
        self._documents.users = {doc["_id"]: doc["user_id"] for doc in database.users.find()}
        self._unnamed = set(database.orders.distinct("row.account", {"user_id": None}))
        self._written = cursors_of(database)
        for cursor in self._written.values():
            check_whole(database, self.where, cursor)
        known = self._unnamed & self._documents.users.keys()
        if known:
            self._name([(account, self._documents.users[account]) for account in known])


def check_begun(database: Database[Document], where: str) -> None:
    """Raise ``HistoryError`` where a database is somebody else's, or of another version."""
    meta = database.meta.find_one({"_id": "schema"})
    if meta is None:
        others = set(database.list_collection_names()) - {"lock"}
        if others:
            raise HistoryError(
                f"{where}: has a collection {min(others)}, but is no history of this product"
            )
        return
    if meta.get("application") != APPLICATION:
        raise HistoryError(f"{where}: is no history of this product")
    if meta["version"] != VERSION:
        raise HistoryError(
            f"{where}: has schema version {meta['version']}, this product knows {VERSION}"
        )


def check_whole(database: Database[Document], where: str, cursor: Cursor) -> None:
    """Raise ``HistoryError`` where a collection that must have something is gone."""
    there = set(database.list_collection_names())
    wanted = {
        "orders": cursor.orders > cursor.lost_orders,
        "trades": cursor.trades > cursor.lost_trades and not cursor.log_next,
    }
    for name, needed in wanted.items():
        if needed and name not in there:
            raise HistoryError(
                f"{where}: the collection {name} is missing; drop the database, and it is made "
                "anew from journals and trade log"
            )


def cursors_of(database: Database[Document]) -> dict[int, Cursor]:
    """Return each shard's cursor."""
    return {
        found["_id"]: Cursor(*(found[name] for name in CURSOR_COLUMNS))
        for found in database.shards.find({"position": {"$exists": True}})
    }


def _same(shard: int, known: Cursor | None) -> Document:
    """Return what finds a shard's cursor where it is as it was written."""
    if known is None:
        return {"_id": shard, "position": {"$exists": False}}
    names = ("position", "trades", "log_next")
    return {"_id": shard, **{name: getattr(known, name) for name in names}}


def _as_rows(records: Records, names: Sequence[str]) -> list[Row]:
    return [dict(zip(names, row, strict=True)) for row in records.tolist()]


def _fills(reports: Records) -> dict[int, list[Fill]]:
    """Return the fills that reports tell of, by order, each order's by trade."""
    made = reports[reports["trade_id"] > 0]
    columns = ("trade_id", "last_price", "last_qty")
    made = made[np.lexsort((made["trade_id"], made["order_id"]))]
    ids = made["order_id"]
    starts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1]))) if len(ids) else ids
    rows = list(zip(*(made[name].tolist() for name in columns), strict=True))
    ends = [*starts.tolist(), len(ids)]
    return {
        int(ids[first]): [Fill(row) for row in rows[first:last]]
        for first, last in pairwise(ends)
        if last > first
    }
