"""What a shard's commands come to, as commands for Redis: one flat list, each led by its length.

A batch is carried out whole or not at all (``engine.cache.store``), so each key is written once a
batch where that can be: the newest state of an order, all events of an account in a few entries.
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from engine.books.contract import Book, Records
from engine.cache.formats import (
    EVENTS,
    LIQUIDITIES,
    Entry,
    Event,
    State,
    Trade,
    Written,
    text,
)
from engine.cache.names import ShardNames
from engine.history.tables import ORDER_TYPES, REASONS, SIDES, STATUS_WORDS, TIMES
from engine.sections import RedisSection
from engine.shard.follower import Followed
from ipc.bounds import TEXT_BIT
from ipc.client_ids import KnownTexts, is_text
from ipc.codes import (
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_EXPIRED,
    EXEC_TYPE_NEW,
    EXEC_TYPE_REPLACED,
    EXEC_TYPE_TRADE,
    EXEC_TYPE_TRIGGERED,
    ORD_STATUS_CANCELED,
    ORD_STATUS_EXPIRED,
    ORD_STATUS_FILLED,
)
from ipc.records import LEVEL, REPORT, OrderRow, sequence_of
from ipc.vocabulary import Side
from ipc.wire.matcher_codec import TextOf, no_text

ENTRY_EVENTS = 64
"""Events of one entry of a stream, at the most."""
MORE_LISTED = 64
"""Orders of an account that are listed beyond what is to be before the oldest go."""
MOST_REMEMBERED = 65_536
MOST_CHANGES = 1_000
"""Batches whose changes can be asked for."""
MOST_MEMBERS = 1_024
"""Of one command: what a script can pass on at once."""
AGES = 256
"""How often, while a trade is kept, it is noted when one was."""
NS = 1_000_000_000
TICKER_FIELDS = (
    "sequence",
    "timestamp",
    "best_bid",
    "best_bid_quantity",
    "best_ask",
    "best_ask_quantity",
    "last_price",
    "last_quantity",
    "last_trade_id",
)
_ENDED = (ORD_STATUS_FILLED, ORD_STATUS_CANCELED, ORD_STATUS_EXPIRED)
_OF_ORDERS = (
    EXEC_TYPE_NEW,
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_REPLACED,
    EXEC_TYPE_TRADE,
    EXEC_TYPE_TRIGGERED,
    EXEC_TYPE_EXPIRED,
)
_PLACE = {name: place for place, name in enumerate(REPORT.names or ())}
_EXEC_TYPE, _STATUS, _SYMBOL = (_PLACE[n] for n in ("exec_type", "ord_status", "symbol"))
_ACCOUNT, _ORDER_ID, _REASON = (_PLACE[n] for n in ("account", "order_id", "reason"))
_LAST_PRICE, _LAST_QTY = _PLACE["last_price"], _PLACE["last_qty"]
_NUMBER, _CLIENT_ID = _PLACE["account_sequence"], _PLACE["client_order_id"]


class Commands(list[str | int]):
    """Commands for Redis, as ``store`` sends them: numbers are lengths alone."""

    def add(self, *command: str) -> None:
        """Add one."""
        self.append(len(command))
        self += command

    def add_many(self, name: str, key: str, members: list[str], step: int = 1) -> None:
        """Add one that takes any number of members, of ``step`` arguments each, in parts."""
        most = MOST_MEMBERS // step * step
        for first in range(0, len(members), most):
            part = members[first : first + most]
            self.append(len(part) + 2)
            self += (name, key, *part)


class Last(NamedTuple):
    """The last trade of a symbol."""

    price: int
    quantity: int
    trade_id: int


class Writing:
    """What is written of one shard, and what must be known of the past for that: last trades."""

    def __init__(
        self, names: ShardNames, settings: RedisSection, written: Mapping[int, Written]
    ) -> None:
        self._names, self._settings, self._written = names, settings, written
        self._last: dict[int, Last] = {}
        self._tops: dict[int, tuple[Any, ...]] = {}
        self._levels = np.zeros(settings.depth_levels, LEVEL)
        self._ages: dict[int, deque[tuple[int, int]]] = {}
        """When a trade was, now and then: time and trade_id."""
        self._time_ns = 0
        self._kept: dict[str, int] = {}
        """Until when nothing is said of how long a key stays."""
        self._added: dict[int, int] = {}
        """Orders of an account that were listed since its list was cut."""
        self._mark_ns = settings.trade_seconds * NS // AGES

    def learn_last(self, symbol: int, last: Last) -> None:
        """Take the last trade of a symbol."""
        self._last[symbol] = last

    # Of commands ---------------------------------------------------------------------------------

    def batch(
        self,
        followed: Followed,
        book: Book,
        timestamp_ns: int,
        previous: int,
        text_of: TextOf = no_text,
    ) -> Commands:
        """Return what some commands came to, ``book`` being as it is after them; ``previous`` is
        the position before them. ``text_of`` knows the texts of orders."""
        out = Commands()
        self._time_ns = max(self._time_ns, timestamp_ns)
        reports = _named(followed, text_of)
        self._orders(out, reports)
        self._events(out, reports)
        traded = self.trades(out, followed.trades)
        touched = np.unique(followed.reports["symbol"][followed.reports["order_id"] != 0]).tolist()
        self.books(out, touched, book, followed.position, timestamp_ns)
        self.changes(out, (previous, followed.position), book, timestamp_ns, touched, traded)
        return out

    def _orders(self, out: Commands, reports: list[tuple[Any, ...]]) -> None:
        """Write the newest state of each order that reports speak of."""
        newest: dict[int, tuple[Any, ...]] = {}
        entered: dict[int, tuple[Any, ...]] = {}
        stops: dict[int, int] = {}
        shown: dict[int, int] = {}
        for report in reports:
            exec_type = report[_EXEC_TYPE]
            if exec_type not in _OF_ORDERS:
                continue
            order_id = report[_ORDER_ID]
            newest[order_id] = report
            if exec_type == EXEC_TYPE_NEW:
                entered[order_id] = report
            # As the order table takes it: see ``ipc.memory.order_table_kernel``.
            if exec_type == EXEC_TYPE_NEW or (
                exec_type in (EXEC_TYPE_REPLACED, EXEC_TYPE_TRIGGERED) and not report[_REASON]
            ):
                if report[_LAST_PRICE]:
                    stops[order_id] = report[_LAST_PRICE]
                if report[_LAST_QTY]:
                    shown[order_id] = report[_LAST_QTY]
        ended: list[str] = []
        shelves = _Shelves()
        orders, expiry = self._names.order, str(self._settings.order_seconds)
        for order_id, report in newest.items():
            written, name = self._written[report[_SYMBOL]], str(order_id)
            key = orders + name
            row: list[str] = ["HSET", key, "state", text(_state(report, written))]
            first = entered.get(order_id)
            if first is not None:
                row += ("entry", text(_entry(first, written)))
            if order_id in stops:
                row += ("stop_price", written.plain_price(stops[order_id]))
            if order_id in shown:
                row += ("display_quantity", written.plain_quantity(shown[order_id]))
            out.append(len(row))
            out += row
            is_ended = report[_STATUS] in _ENDED
            if is_ended:
                out += (3, "EXPIRE", key, expiry)
                ended.append(name)
            shelves.put(report[_ACCOUNT], name, first is not None, is_ended)
        if ended:
            out.add_many("RPUSH", self._names.ended, ended)
        self._shelve(out, shelves)

    def _shelve(self, out: Commands, shelves: "_Shelves") -> None:
        """Write which orders are whose."""
        names, most = self._names, self._settings.user_orders
        for account, scored in shelves.opened.items():
            out.add_many("ZADD", names.open_orders(account), scored, 2)
        for account, ended in shelves.closed.items():
            out.add_many("ZREM", names.open_orders(account), ended)
        for account, scored in shelves.entered.items():
            key = names.user_orders(account)
            out.add_many("ZADD", key, scored, 2)
            added = self._added.pop(account, 0) + len(scored) // 2
            if added > MORE_LISTED:
                out.add("ZREMRANGEBYRANK", key, "0", str(-most - 1))
            else:
                self._added[account] = added
            self._keep(out, key)

    def _events(self, out: Commands, reports: list[tuple[Any, ...]]) -> None:
        """Write what accounts are told, in entries of a few events each."""
        by_account: dict[int, list[tuple[Any, ...]]] = {}
        for report in reports:
            if report[_NUMBER]:
                by_account.setdefault(report[_ACCOUNT], []).append(report)
        for account, mine in by_account.items():
            key = self._names.events(account)
            for first in range(0, len(mine), ENTRY_EVENTS):
                events = [self._event(r) for r in mine[first : first + ENTRY_EVENTS]]
                last = events[-1].number
                oldest = max(0, last - self._settings.user_events)
                named = "MINID", f"{oldest}-0", f"{last}-0"
                out.add("XADD", key, *named, "events", text(events))
            self._keep(out, key)

    def _keep(self, out: Commands, key: str) -> None:
        """Have a key of an account stay from now on; of one that is busy this is not said anew each
        time."""
        if len(self._kept) >= MOST_REMEMBERED:
            self._kept.clear()
            self._added.clear()
        if self._kept.get(key, 0) <= self._time_ns:
            out.add("EXPIRE", key, str(self._settings.order_seconds))
            self._kept[key] = self._time_ns + self._settings.order_seconds * NS // AGES

    def _event(self, report: tuple[Any, ...]) -> Event:
        r = report
        (exec_type, status, _, side, _, _, _, liquidity, symbol, reason, _, sequence, _, _) = r[:14]
        order_id, client_id, price, quantity, filled, left, last_price, last_qty, trade_id = r[
            14:23
        ]
        written = self._written.get(symbol)
        if written is None or not order_id:  # of no order
            named = None if written is None else written.symbol
            nothing = (None,) * 6
            return Event(
                sequence_of(r[24]), EVENTS[exec_type], order_id, client_id, named, *nothing,
                None, None, None, None, REASONS.get(reason), sequence, r[23],
            )  # fmt: skip
        quantities = written.quantities
        return Event(
            sequence_of(r[24]),
            EVENTS[exec_type],
            order_id,
            client_id,
            written.symbol,
            SIDES.get(side),
            STATUS_WORDS.get(status),
            written.prices[price] if price else None,
            quantities[quantity],
            quantities[filled],
            quantities[left],
            trade_id or None,
            written.prices[last_price] if trade_id else None,
            quantities[last_qty] if trade_id else None,
            LIQUIDITIES.get(liquidity),
            REASONS.get(reason),
            sequence,
            r[23],
        )

    # Of both -------------------------------------------------------------------------------------

    def trades(self, out: Commands, trades: Records) -> list[str]:
        """Write trades (TRADE), each an entry of its symbol's stream; return their symbols."""
        traded: dict[int, None] = {}
        most = str(self._settings.trades)
        for row in rows_of(trades):
            trade_id, _, time_ns, price, quantity, buy, sell, symbol, side, _ = row
            written = self._written.get(symbol)
            if written is None:
                continue
            prices, quantities = written.prices, written.quantities
            view = Trade(
                trade_id,
                written.symbol,
                prices[price],
                quantities[quantity],
                buy,
                sell,
                "buy" if side == Side.BUY else "sell",
                time_ns,
            )
            key = self._names.trades(written.symbol)
            out += (8, "XADD", key, "MAXLEN", "~", most, f"{trade_id}-0", "trade", text(view))
            traded[symbol] = None
            self._last[symbol] = Last(price, quantity, trade_id)
            self._note_age(out, key, symbol, trade_id, time_ns)
        symbols = [self._written[symbol].symbol for symbol in traded]
        for name in symbols:
            out.add("EXPIRE", self._names.trades(name), str(self._settings.trade_seconds))
        return symbols

    def _note_age(self, out: Commands, key: str, symbol: int, trade_id: int, time_ns: int) -> None:
        """Remember about when trades were, and take those away that are too old."""
        marks = self._ages.setdefault(symbol, deque())
        if marks and time_ns < marks[-1][0] + self._mark_ns:
            return
        marks.append((time_ns, trade_id))
        old = None
        while marks[0][0] < time_ns - self._settings.trade_seconds * NS:
            old = marks.popleft()
        if old is not None:
            out.add("XTRIM", key, "MINID", f"{old[1]}-0")

    def books(
        self, out: Commands, touched: Iterable[int], book: Book, position: int, time_ns: int
    ) -> None:
        """Write the best levels of symbols, and their tickers where these have changed."""
        for symbol in touched:
            written = self._written.get(symbol)
            if written is None:
                continue
            sides = []
            tops: list[tuple[int, int] | None] = []
            for side in (Side.BUY, Side.SELL):
                levels = self._levels[: book.depth(symbol, side, self._levels)]
                tops.append(tuple(levels[0].tolist()[:2]) if len(levels) else None)
                sides.append(written.levels(levels).decode())
            out.add(
                "XADD", self._names.depth(written.symbol), "MAXLEN",
                str(self._settings.depth_entries), f"{position}-0",
                "bids", sides[0], "asks", sides[1], "timestamp", str(time_ns),
            )  # fmt: skip
            self._ticker(out, symbol, written, (*tops, self._last.get(symbol)), position, time_ns)

    def _ticker(
        self,
        out: Commands,
        symbol: int,
        written: Written,
        top: tuple[Any, ...],
        position: int,
        time_ns: int,
    ) -> None:
        if self._tops.get(symbol) == top:
            return
        self._tops[symbol] = top
        bid, ask, last = top
        values: list[str | int] = [position, time_ns]
        for level in (bid, ask, last):
            known = level is not None
            values += (
                written.plain_price(level[0]) if known else "",
                written.plain_quantity(level[1]) if known else "",
            )
        values.append(last.trade_id if last is not None else "")
        key = self._names.ticker(written.symbol)
        pairs = zip(TICKER_FIELDS, values, strict=True)
        out.add("HSET", key, *(str(part) for pair in pairs for part in pair))
        told = dict(zip(TICKER_FIELDS, values, strict=True))
        out.add("PUBLISH", key, text(told))

    def changes(
        self,
        out: Commands,
        positions: tuple[int, int],
        book: Book,
        time_ns: int,
        touched: Iterable[int],
        traded: Iterable[str],
    ) -> None:
        """Write which symbols have changed from one position to another."""
        symbols = [self._written[symbol].symbol for symbol in touched if symbol in self._written]
        out.add(
            "XADD", self._names.changes, "MAXLEN", "~", str(MOST_CHANGES), f"{positions[1]}-0",
            "previous", str(positions[0]), "depth", text(symbols),
            "trades", text(list(traded)), "last_trade", str(book.counters().trade_sequence),
            "timestamp", str(time_ns), "late_ms", str(late_ms(time_ns)),
        )  # fmt: skip

    # Of a state ----------------------------------------------------------------------------------

    def orders(self, orders: Records, text_of: TextOf = no_text) -> Commands:
        """Return what writes orders (ORDER) of an order table, which ``text_of`` is of."""
        out, shelves = Commands(), _Shelves()
        ended: list[str] = []
        for order in map(OrderRow._make, rows_of(orders)):
            written = self._written.get(order.symbol)
            if written is None:
                continue
            name = str(order.order_id)
            key = self._names.order + name
            row: list[str] = ["HSET", key, "state", text(_state_of(order, written))]
            named = _text_or_number(order.order_id, order.client_order_id, text_of)
            row += ("entry", text(_entry_of(order, named, written)))
            if order.stop_price:
                row += ("stop_price", written.plain_price(order.stop_price))
            if order.display_quantity:
                row += ("display_quantity", written.plain_quantity(order.display_quantity))
            out.add(*row)
            is_ended = order.ord_status in _ENDED
            if is_ended:
                out.add("EXPIRE", key, str(self._settings.order_seconds))
                ended.append(name)
            shelves.put(order.account, name, True, is_ended)
        if ended:
            out.add_many("RPUSH", self._names.ended, ended)
        self._shelve(out, shelves)
        return out


def late_ms(timestamp_ns: int) -> int:
    """Return how long ago a command came, what follows being written now: so old may a picture be
    that stands for it. 0: none came yet."""
    return max(0, time.time_ns() - timestamp_ns) // 1_000_000 if timestamp_ns else 0


def rows_of(records: Records) -> list[tuple[Any, ...]]:
    """Return records as tuples: by columns, several times faster than numpy does it."""
    names = records.dtype.names or ()
    return list(zip(*(records[name].tolist() for name in names), strict=True))


def _named(followed: Followed, text_of: TextOf) -> list[tuple[Any, ...]]:
    """Return reports as tuples, with texts for the client_order_ids that are some."""
    rows = rows_of(followed.reports)
    known = KnownTexts()
    known.note(followed.commands)
    for place in np.flatnonzero(followed.reports["client_order_id"] >= np.uint64(TEXT_BIT)):
        row = rows[place]
        number = row[_CLIENT_ID]
        own = known.find(number) or _text_or_number(row[_ORDER_ID], number, text_of)
        rows[place] = (*row[:_CLIENT_ID], own, *row[_CLIENT_ID + 1 :])
    return rows


def _text_or_number(order_id: int, number: int, text_of: TextOf) -> int | str:
    """Return a client_order_id as its client gave it; 0 where its text is not known."""
    return (text_of(order_id, number) or 0) if is_text(number) else number


class _Shelves:
    """Which orders are whose: those that begin to be open, that end, and all that are new."""

    def __init__(self) -> None:
        self.opened: dict[int, list[str]] = {}
        self.closed: dict[int, list[str]] = {}
        self.entered: dict[int, list[str]] = {}

    def put(self, account: int, order_id: str, is_new: bool, is_ended: bool) -> None:
        """Put an order where it belongs."""
        if is_new:
            self.entered.setdefault(account, []).extend((order_id, order_id))
            if not is_ended:
                self.opened.setdefault(account, []).extend((order_id, order_id))
        elif is_ended:
            self.closed.setdefault(account, []).append(order_id)


def _entry(report: tuple[Any, ...], written: Written) -> Entry:
    return Entry(
        report[14],
        str(report[13]),
        report[15],
        written.symbol,
        SIDES[report[3]],
        ORDER_TYPES[report[4]],
        TIMES[report[5]],
        report[23],
        report[8],
    )


def _state(report: tuple[Any, ...], written: Written) -> State:
    price, quantity, filled, left = report[16:20]
    quantities = written.quantities
    return State(
        STATUS_WORDS[report[1]],
        written.prices[price] if price else None,
        quantities[quantity],
        quantities[filled],
        quantities[left],
        REASONS.get(report[9]),
        report[6],
        report[23],
    )


def _entry_of(order: OrderRow, named: int | str, written: Written) -> Entry:
    return Entry(
        order.order_id,
        str(order.account),
        named,
        written.symbol,
        SIDES[order.side],
        ORDER_TYPES[order.order_type],
        TIMES[order.time_in_force],
        order.created_ns,
        order.symbol,
    )


def _state_of(order: OrderRow, written: Written) -> State:
    quantities = written.quantities
    return State(
        STATUS_WORDS[order.ord_status],
        written.prices[order.price] if order.price else None,
        quantities[order.quantity],
        quantities[order.cum_qty],
        quantities[order.leaves_qty],
        REASONS.get(order.reason),
        order.flags,
        order.updated_ns,
    )
