"""The reference book: the rules of ``engine.books.rules`` in plain Python, to be read at one
sitting.

It is the oracle that the compiled book is tested against, and what runs where numba is missing.

A command starts where two reports have room, which is all that one without trades can need. What
may need more, matching and a mass cancel, is a generator: it yields where a buffer is full, and
goes on from there in the next call. What comes of an order that enters stands in
``engine.books.reference.matching``.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import islice
from operator import attrgetter

import numpy as np

from engine.books.contract import (
    NO_PRICES,
    NO_SWEEPS,
    BookLimits,
    Counters,
    KeptIds,
    Progress,
    Records,
)
from engine.books.id_memory import NO_SHARES, IdShares
from engine.books.reference.levels import PriceLevels
from engine.books.reference.lists import Lists
from engine.books.reference.mass_cancels import Sweep
from engine.books.reference.matching import Steps
from engine.books.reference.records import Command, Order, Row, mass_cancel_report
from engine.books.rules import (
    LINK_CHILD,
    LINK_HELD,
    LINK_PAIRED,
    LINKS,
    MAX_SWEEPS,
    SWEEP_ORDERS,
    can_change,
    check_band,
    check_display,
    check_quantity,
    check_replace,
    check_waiting,
)
from ipc.codes import (
    ADMINISTRATION_NAME,
    COMMAND_TYPE_CANCEL,
    COMMAND_TYPE_MASS_CANCEL,
    COMMAND_TYPE_NEW,
    COMMAND_TYPE_NEW_BRACKET,
    COMMAND_TYPE_NEW_OCO,
    COMMAND_TYPE_REDUCE,
    COMMAND_TYPE_REPLACE,
    EXEC_TYPE_REPLACED,
    FLAG_CONTINUE,
    FLAG_KEEP_PRICE,
    FLAG_KEEP_QUANTITY,
    FLAG_POST_ONLY,
    FLAG_REINSERT,
    ORDER_TYPE_LIMIT,
    REASON_ALREADY_FILLED,
    REASON_CANCEL_REQUESTED,
    REASON_INVALID_COMMAND,
    REASON_INVALID_DISPLAY_QUANTITY,
    REASON_INVALID_ORDER_ID,
    REASON_INVALID_QUANTITY,
    REASON_INVALID_STOP_PRICE,
    REASON_LINKED_ORDER,
    REASON_MASS_CANCEL,
    REASON_NONE,
    REASON_POST_ONLY_WOULD_TRADE,
    REASON_UNKNOWN_ORDER,
    REASON_UNKNOWN_SYMBOL,
)
from ipc.records import LAST_PRICE, MAX_SHARDS, RESTING, make_id, sequence_of
from ipc.vocabulary import (
    MAX_QUANTITY,
    MAX_RESTING_ORDERS,
)

_KEPT = [field.name for field in fields(Order) if field.name != "hidden"]
"""The fields of RESTING that an order has, in its order."""
_kept = attrgetter(*_KEPT)
_START = Counters(0, 0, 0)
_FINISHED = object()


class ReferenceBook(Lists):
    """All books of one shard; implements ``engine.books.contract.Book``."""

    def __init__(
        self,
        shard: int,
        limits: Sequence[BookLimits],
        recent_orders: int,
        start: Counters = _START,
        secret: int = 0,
        shares: IdShares = NO_SHARES,
    ) -> None:
        """Make empty books. ``recent_orders`` and ``shares`` bound the memory of client_order_ids.

        ``start`` holds the last sequence numbers given before; for ``secret`` there is no use here,
        since Python's own hash of bytes has one. Raises ValueError where a number is out of its
        range or a symbol stands twice.
        """
        if not 0 <= shard < MAX_SHARDS:
            raise ValueError(f"shard: {shard}, must be 0 to {MAX_SHARDS - 1}")
        if recent_orders < 0:
            raise ValueError(f"recent_orders: {recent_orders}, must not be negative")
        symbols = [limit.symbol for limit in limits]
        if len(set(symbols)) != len(symbols) or not all(0 < n < 1 << 16 for n in symbols):
            raise ValueError(f"limits: symbols {symbols}, must be distinct and 1 to 65535")
        super().__init__(shard, limits, recent_orders, start, shares)
        self._unfinished: Steps = None
        self._unfinished_row: Row = ()

    # Commands in, reports and trades out ---------------------------------------------------------

    def process(self, commands: Records, reports: Records, trades: Records) -> Progress:
        """Match ``commands`` in order: see ``Book.process``.

        Raises ValueError where ``reports`` is too short or the first command is not the one that
        was left unfinished.
        """
        if len(reports) < 2:
            raise ValueError(f"reports: room for {len(reports)}, must be at least 2")
        self._reports, self._report_capacity = [], len(reports)
        self._trades, self._trade_capacity = [], len(trades)
        finished = 0
        # Each command but a NAME gives a report, so no more can be finished in this call.
        for row in commands[: 2 * len(reports)].tolist():
            steps = self._unfinished
            if steps is None:
                if not self._room(2):
                    break
                self._sequence += 1
                steps = self._start_in_time(Command._make(row))
            elif row != self._unfinished_row:
                raise ValueError("commands: must begin with the command that was left unfinished")
            if steps is not None and next(steps, _FINISHED) is not _FINISHED:
                self._unfinished, self._unfinished_row = steps, row
                break
            self._unfinished = None
            finished += 1
        reports[: len(self._reports)] = self._reports
        trades[: len(self._trades)] = self._trades
        return Progress(finished, len(self._reports), len(self._trades))

    def _start_in_time(self, command: Command) -> Steps:
        """Carry a command out, once what has to end before it has."""
        if command.command_type == ADMINISTRATION_NAME:
            return None
        if self._is_due(command):
            return self._after_expiry(command)
        return self._start(command)

    def _after_expiry(self, command: Command) -> Iterator[None]:
        yield from self._expire_due(command)
        yield from self._start(command) or ()

    def _start(self, command: Command) -> Steps:
        """Carry a command out; return the steps that may need more room than there is."""
        kind = command.command_type
        if kind == COMMAND_TYPE_NEW:
            return self._new(command)
        if kind in (COMMAND_TYPE_CANCEL, COMMAND_TYPE_REPLACE, COMMAND_TYPE_REDUCE):
            return self._change(command)
        if kind == COMMAND_TYPE_MASS_CANCEL:
            return self._mass_cancel(command)
        if kind in (COMMAND_TYPE_NEW_OCO, COMMAND_TYPE_NEW_BRACKET):
            return self._new_list(command)
        return self._reject(command, REASON_INVALID_COMMAND)

    def _change(self, command: Command) -> Steps:
        """CANCEL, REPLACE and REDUCE: what names an order that rests."""
        reason = self._check_change(command)
        if reason != REASON_NONE:
            return self._reject(command, reason)
        order = self._orders.get(command.order_id or self._first_order_id(command))
        if order is None or order.account != command.account:
            return self._reject(command, REASON_UNKNOWN_ORDER)
        if command.symbol not in (0, order.symbol) or self._sweeps.doom(order):
            return self._reject(command, REASON_UNKNOWN_ORDER)
        book = self._books[order.symbol]
        if not can_change(order.link, command.command_type, command.flags):
            return self._reject(command, REASON_LINKED_ORDER)
        if command.command_type == COMMAND_TYPE_REPLACE:
            return self._replace(command, book, order)
        if command.command_type == COMMAND_TYPE_REDUCE and command.quantity < order.leaves_qty:
            book.take(order, command.quantity)
            return self._answer(command, order, EXEC_TYPE_REPLACED)
        self._leave(book, order)
        self._cancel(command, order, REASON_CANCEL_REQUESTED, command.request_id, answers=1)
        return self._trigger_reached(command, book) if self._due else None

    def _check_change(self, command: Command) -> int:
        if command.order_id == 0 and command.client_order_id == 0:
            return REASON_INVALID_ORDER_ID
        symbol_matters = command.symbol != 0 or command.order_id == 0
        if symbol_matters and command.symbol not in self._books:
            return REASON_UNKNOWN_SYMBOL
        if command.command_type == COMMAND_TYPE_REPLACE:
            further = command.stop_price | command.display_quantity
            given = (command.price, command.quantity, further)
            return check_replace(command.flags, *given)
        if command.command_type == COMMAND_TYPE_REDUCE:
            return check_quantity(command.quantity)
        return REASON_NONE

    def _replace(self, command: Command, book: PriceLevels, order: Order) -> Steps:
        reinsert = command.flags & FLAG_REINSERT
        price, quantity = command.price, command.quantity
        if command.flags & FLAG_KEEP_PRICE:
            price = order.price
        if command.flags & FLAG_KEEP_QUANTITY:
            quantity = order.leaves_qty if reinsert else order.cum_qty + order.leaves_qty
        stop_price = command.stop_price or order.stop_price
        reason = self._check_replace(command, book, order, price, quantity, stop_price)
        leaves_qty = quantity if reinsert else quantity - order.cum_qty
        if reason == REASON_NONE:
            has, given = order.display_quantity, command.display_quantity
            reason = check_display(has, given, leaves_qty)
        if reason != REASON_NONE:
            return self._reject(command, reason)
        same_prices = (price, stop_price) == (order.price, order.stop_price)
        keeps = not reinsert and same_prices and not command.display_quantity
        if keeps and leaves_qty < order.leaves_qty:
            book.take(order, order.leaves_qty - leaves_qty)
            return self._answer(command, order, EXEC_TYPE_REPLACED)
        self._leave(book, order)
        order.price, order.leaves_qty, order.stop_price = price, leaves_qty, stop_price
        order.display_quantity = command.display_quantity or order.display_quantity
        if stop_price:
            return self._wait(command, book, order, EXEC_TYPE_REPLACED)
        self._answer(command, order, EXEC_TYPE_REPLACED)
        return self._enter(command, book, order)

    def _check_replace(
        self,
        command: Command,
        book: PriceLevels,
        order: Order,
        price: int,
        quantity: int,
        stop_price: int,
    ) -> int:
        _, low, high, *_ = book.limits
        reinsert = command.flags & FLAG_REINSERT
        if order.stop_price:
            prices = (price, stop_price, low, high)
            return check_waiting(order.order_type, command.flags, *prices)
        if command.stop_price:
            return REASON_INVALID_STOP_PRICE
        if command.display_quantity and not order.display_quantity:
            return REASON_INVALID_DISPLAY_QUANTITY
        reason = check_band(ORDER_TYPE_LIMIT, price, low, high)
        if reason != REASON_NONE:
            return reason
        if not reinsert and quantity <= order.cum_qty:
            return REASON_ALREADY_FILLED
        if reinsert and order.cum_qty + quantity > MAX_QUANTITY:
            return REASON_INVALID_QUANTITY
        if order.flags & FLAG_POST_ONLY and book.crosses(order.side, ORDER_TYPE_LIMIT, price):
            return REASON_POST_ONLY_WOULD_TRADE
        return REASON_NONE

    def _mass_cancel(self, command: Command) -> Steps:
        sweeps = self._sweeps
        if command.flags & FLAG_CONTINUE:
            return self._sweep(command, SWEEP_ORDERS) if sweeps.queue else None
        if command.symbol and command.symbol not in self._books:
            return self._reject(command, REASON_UNKNOWN_SYMBOL)
        former = sweeps.enqueue(command, make_id(self._shard, self._order_sequence))
        if former is not None:
            self._answer_sweep(command, former)
        elif len(sweeps.queue) == 1:
            return self._sweep(command, SWEEP_ORDERS)
        return self._sweep(command, sys.maxsize) if len(sweeps.queue) > MAX_SWEEPS else None

    def _sweep(self, command: Command, looks: int) -> Iterator[None]:
        """Go on with the oldest mass cancel, as one step of a command, for so many orders."""
        sweeps = self._sweeps
        sweep = sweeps.queue[0]
        if not sweep.begun:
            sweeps.begin()
        while True:
            orders = sweeps.take(min(looks, MAX_RESTING_ORDERS))
            looks -= len(orders)
            for order in filter(sweep.takes, orders):
                if order.order_id not in self._orders:  # it went with one that it was tied to
                    looks += 1
                    continue
                while not self._room(1):
                    yield
                self._books[order.symbol].remove(order)
                self._cancel(command, order, REASON_MASS_CANCEL, request_id=0)
                sweep.canceled_orders += 1
                yield from self._settle_links(command)
            if sweeps.cursor is not None and not looks:
                return
            if sweeps.cursor is None and sweep.again:
                sweep.again = False
                sweeps.begin()
            elif sweeps.cursor is None:
                break
        while not self._room(1):
            yield
        self._answer_sweep(command, sweep)
        sweeps.queue.pop(0)

    def _answer_sweep(self, command: Command, sweep: Sweep) -> None:
        answered = sweep.command._replace(timestamp_ns=command.timestamp_ns)
        report = mass_cancel_report(answered, self._sequence, sweep.canceled_orders)
        self._reports.append(report)

    # What stands in the books --------------------------------------------------------------------

    def counters(self) -> Counters:
        """Return the last sequence numbers given."""
        return Counters(self._sequence, self._order_sequence, self._trade_sequence)

    def depth(self, symbol: int, side: int, levels: Records) -> int:
        """Fill ``levels`` with the best levels of one side; return how many.

        Raises KeyError where the shard does not hold the symbol, or side is not one.
        """
        rows = list(islice(self._books[symbol].depth(side), len(levels)))
        levels[: len(rows)] = rows
        return len(rows)

    def resting(self) -> Records:
        """Return every live order: see ``Book.resting``."""
        live = [order for book in self._books.values() for order in book.orders()]
        records = np.zeros(len(live), RESTING)
        records[_KEPT] = np.array([_kept(order) for order in live], records[_KEPT].dtype)
        hides = [order.display_quantity and not order.stop_price for order in live]
        shown = [order.shown if one else 0 for order, one in zip(live, hides, strict=True)]
        records["shown_quantity"] = shown
        return records

    def recent(self) -> Records:
        """Return the client_order_ids that are remembered, the oldest order's first."""
        return self._ids.rows()

    def kept_ids(self) -> KeptIds:
        """Return how many ids are kept beyond the recent orders: see ``Book.kept_ids``."""
        return self._ids.counts()

    @property
    def sweeping(self) -> bool:
        """Whether a mass cancel is under way."""
        return bool(self._sweeps.queue)

    @property
    def next_expiry_ns(self) -> int:
        """When the next order expires: see ``Book.next_expiry_ns``."""
        return self._expiries[0][0] if self._expiries else 0

    def sweeps(self) -> Records:
        """Return the mass cancels that are under way: see ``Book.sweeps``."""
        return self._sweeps.records()

    def last_prices(self) -> Records:
        """Return the price of each symbol's last trade: see ``Book.last_prices``."""
        books = self._books.values()
        rows = [(book.limits.symbol, book.last_price) for book in books if book.last_price]
        return np.array(rows, dtype=LAST_PRICE)

    def restore(
        self,
        counters: Counters,
        resting: Records,
        recent: Records,
        sweeps: Records = NO_SWEEPS,
        last_prices: Records = NO_PRICES,
    ) -> None:
        """Take over the state of another book; this one must be new."""
        self._sequence, self._order_sequence, self._trade_sequence = counters
        shown = resting["shown_quantity"].tolist()
        for row, part in zip(resting[_KEPT].tolist(), shown, strict=True):
            order = Order(*row)
            order.hidden = order.leaves_qty - part if part else 0
            if order.expire_time_ns:
                self._expiries.add((order.expire_time_ns, order.order_id))
            self._orders[order.order_id] = order
            self._books[order.symbol].put_back(order)
        for symbol, price in last_prices.tolist():
            if symbol in self._books:
                self._books[symbol].last_price = price
        self._ids.restore(self._order_sequence, recent, self._orders.values())
        self._sweeps.restore(sweeps, self._orders)

    def check(self) -> None:
        """Verify every structural invariant; raise AssertionError where one does not hold."""
        between_commands = self._unfinished is None
        for book in self._books.values():
            book.check(uncrossed=between_commands)
        resting = [order for book in self._books.values() for order in book.orders()]
        by_id = {order.order_id: order for order in resting}
        assert len(by_id) == len(resting), "an order rests twice"
        assert all(self._orders.get(key) is order for key, order in by_id.items()), "unknown order"
        in_no_level = len(self._orders) - len(resting)
        assert 0 <= in_no_level <= (not between_commands), "a live order rests nowhere"
        sequences = [sequence_of(order_id) for order_id in self._orders]
        assert all(0 < n <= self._order_sequence for n in sequences), "an order_id not given yet"
        self._ids.check(self._order_sequence)
        expiring = {(o.expire_time_ns, o.order_id) for o in resting if o.expire_time_ns}
        expected = set(self._expiries)
        in_hand = (
            {key for key in expected if key[1] not in by_id} if not between_commands else set()
        )
        assert expected - in_hand == expiring, "expiries: not those of live orders"
        if between_commands:
            self._check_links()

    def _check_links(self) -> None:
        """Check that pairs have the same open, and that those held have one to wait for."""
        assert not self._due, "due: something is under way"
        assert not self._released, "released: something is under way"
        for order in self._orders.values():
            where = f"order {order.order_id}: link"
            assert order.link in LINKS, where
            other = self._other(order)
            if other is not None:
                paired = (order.link | other.link) & LINK_PAIRED == LINK_PAIRED
                assert paired, f"{where}: not one of two"
                assert other.leaves_qty == order.leaves_qty, f"{where}: not the same open"
            assert (other is None) == (not order.link & LINK_PAIRED), f"{where}: one of a pair"
            if order.link & LINK_HELD:
                before = (self._orders.get(order.order_id - back) for back in (1, 2))
                assert any(one and one.link & LINK_CHILD for one in before), f"{where}: held"
