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
from itertools import islice

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
from engine.books.reference.mass_cancels import Sweep
from engine.books.reference.matching import Matching, Steps, rests
from engine.books.reference.records import (
    NEW,
    REPLACED,
    Command,
    Order,
    Row,
    mass_cancel_report,
)
from engine.books.rules import (
    MAX_SWEEPS,
    SWEEP_ORDERS,
    check_band,
    check_new,
    check_quantity,
    check_replace,
    check_waiting,
)
from ipc.records import LAST_PRICE, MAX_SHARDS, RESTING, make_id, sequence_of
from ipc.vocabulary import (
    MAX_QUANTITY,
    MAX_RESTING_ORDERS,
    PREVENTION_SHIFT,
    CommandType,
    Flag,
    OrderType,
    Reason,
    SelfTradePrevention,
    TimeInForce,
)

_NEW, _CANCEL, _REPLACE, _REDUCE, _MASS_CANCEL = map(int, CommandType)
_LIMIT = int(OrderType.LIMIT)
_NOTHING_RARE = (0, 0)
"""Display quantity and expiry of a resting order."""
_GTC, _IOC, _FOK = map(int, TimeInForce)
_POST_ONLY, _REINSERT = int(Flag.POST_ONLY), int(Flag.REINSERT)
_TRIGGERED = int(Flag.TRIGGERED)
_CONTINUE = int(Flag.CONTINUE)
_KEEP_PRICE, _KEEP_QUANTITY = int(Flag.KEEP_PRICE), int(Flag.KEEP_QUANTITY)
_OK = int(Reason.NONE)
_ALREADY_FILLED = int(Reason.ALREADY_FILLED)
_BOOK_FULL = int(Reason.BOOK_FULL)
_CANCEL_REQUESTED = int(Reason.CANCEL_REQUESTED)
_DUPLICATE_CLIENT_ORDER_ID = int(Reason.DUPLICATE_CLIENT_ORDER_ID)
_FOK_UNFILLED = int(Reason.FOK_UNFILLED)
_INVALID_COMMAND = int(Reason.INVALID_COMMAND)
_INVALID_ORDER_ID = int(Reason.INVALID_ORDER_ID)
_INVALID_QUANTITY = int(Reason.INVALID_QUANTITY)
_INVALID_STOP_PRICE = int(Reason.INVALID_STOP_PRICE)
_IOC_REMAINDER = int(Reason.IOC_REMAINDER)
_MARKET_REMAINDER = int(Reason.MARKET_REMAINDER)
_MASS_CANCELED = int(Reason.MASS_CANCEL)
_POST_ONLY_WOULD_TRADE = int(Reason.POST_ONLY_WOULD_TRADE)
_SELF_TRADE = int(Reason.SELF_TRADE)
_TOO_MANY_ORDERS = int(Reason.TOO_MANY_ORDERS)
_UNKNOWN_ORDER = int(Reason.UNKNOWN_ORDER)
_UNKNOWN_SYMBOL = int(Reason.UNKNOWN_SYMBOL)
_, _CANCEL_NEWEST, _CANCEL_OLDEST, _CANCEL_BOTH, _DECREMENT = map(int, SelfTradePrevention)
_START = Counters(0, 0, 0)
_FINISHED = object()


class ReferenceBook(Matching):
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
        # Each command gives a report, so no more of them can be finished in this call.
        for row in commands[: len(reports)].tolist():
            steps = self._unfinished
            if steps is None:
                if not self._room(2):
                    break
                self._sequence += 1
                steps = self._start(Command._make(row))
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

    def _start(self, command: Command) -> Steps:
        """Carry a command out; return the steps that may need more room than there is."""
        kind = command.command_type
        if kind == _NEW:
            return self._new(command)
        if kind in (_CANCEL, _REPLACE, _REDUCE):
            return self._change(command)
        if kind == _MASS_CANCEL:
            return self._mass_cancel(command)
        return self._reject(command, _INVALID_COMMAND)

    def _new(self, command: Command) -> Steps:
        book = self._books.get(command.symbol)
        reason = self._check_new(command, book)
        if reason != _OK or book is None:
            return self._reject(command, reason)
        self._order_sequence += 1
        order = Order(
            make_id(self._shard, self._order_sequence),
            command.account,
            command.client_order_id,
            command.symbol,
            command.side,
            command.order_type,
            command.time_in_force,
            command.flags & _POST_ONLY | command.self_trade_prevention << PREVENTION_SHIFT,
            command.price,
            command.quantity,
            stop_price=command.stop_price,
        )
        self._orders[order.order_id] = order
        self._ids.remember(order)
        if order.stop_price:
            return self._wait(command, book, order, NEW)
        self._answer(command, order, NEW)
        if order.time_in_force == _FOK and not book.can_fill(order):
            return self._cancel(command, order, _FOK_UNFILLED, command.request_id)
        return self._enter(command, book, order)

    def _check_new(self, command: Command, book: PriceLevels | None) -> int:
        if book is None:
            return _UNKNOWN_SYMBOL
        side, order_type, price = command.side, command.order_type, command.price
        time_in_force, flags = command.time_in_force, command.flags
        _, low, high, max_resting_orders, max_account_orders = book.limits
        terms = (side, order_type, time_in_force, flags)
        amounts = (price, command.quantity, command.stop_price)
        reason = check_new(*terms, *amounts, command.self_trade_prevention, low, high)
        if reason != _OK:
            return reason
        if self._first_order_id(command):
            return _DUPLICATE_CLIENT_ORDER_ID
        counts = command.stop_price != 0 or rests(order_type, time_in_force)
        if counts and book.live_orders >= max_resting_orders:
            return _BOOK_FULL
        if counts and book.account_orders[command.account] >= max_account_orders:
            return _TOO_MANY_ORDERS
        if flags & _POST_ONLY and book.crosses(side, order_type, price):
            return _POST_ONLY_WOULD_TRADE
        return _OK

    def _change(self, command: Command) -> Steps:
        """CANCEL, REPLACE and REDUCE: what names an order that rests."""
        reason = self._check_change(command)
        if reason != _OK:
            return self._reject(command, reason)
        order = self._orders.get(command.order_id or self._first_order_id(command))
        if order is None or order.account != command.account:
            return self._reject(command, _UNKNOWN_ORDER)
        if command.symbol not in (0, order.symbol) or self._sweeps.doom(order):
            return self._reject(command, _UNKNOWN_ORDER)
        book = self._books[order.symbol]
        if command.command_type == _REPLACE:
            return self._replace(command, book, order)
        if command.command_type == _REDUCE and command.quantity < order.leaves_qty:
            book.take(order, command.quantity)
            return self._answer(command, order, REPLACED)
        self._leave(book, order)
        return self._cancel(command, order, _CANCEL_REQUESTED, command.request_id, answers=1)

    def _check_change(self, command: Command) -> int:
        if command.order_id == 0 and command.client_order_id == 0:
            return _INVALID_ORDER_ID
        symbol_matters = command.symbol != 0 or command.order_id == 0
        if symbol_matters and command.symbol not in self._books:
            return _UNKNOWN_SYMBOL
        if command.command_type == _REPLACE:
            given = (command.price, command.quantity, command.stop_price)
            return check_replace(command.flags, *given)
        if command.command_type == _REDUCE:
            return check_quantity(command.quantity)
        return _OK

    def _replace(self, command: Command, book: PriceLevels, order: Order) -> Steps:
        reinsert = command.flags & _REINSERT
        price, quantity = command.price, command.quantity
        if command.flags & _KEEP_PRICE:
            price = order.price
        if command.flags & _KEEP_QUANTITY:
            quantity = order.leaves_qty if reinsert else order.cum_qty + order.leaves_qty
        stop_price = command.stop_price or order.stop_price
        reason = self._check_replace(command, book, order, price, quantity, stop_price)
        if reason != _OK:
            return self._reject(command, reason)
        leaves_qty = quantity if reinsert else quantity - order.cum_qty
        same_prices = (price, stop_price) == (order.price, order.stop_price)
        if not reinsert and same_prices and leaves_qty < order.leaves_qty:
            book.take(order, order.leaves_qty - leaves_qty)
            return self._answer(command, order, REPLACED)
        self._leave(book, order)
        order.price, order.leaves_qty, order.stop_price = price, leaves_qty, stop_price
        if stop_price:
            return self._wait(command, book, order, REPLACED)
        self._answer(command, order, REPLACED)
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
        reinsert = command.flags & _REINSERT
        if order.stop_price:
            prices = (price, stop_price, low, high)
            return check_waiting(order.order_type, command.flags, *prices)
        if command.stop_price:
            return _INVALID_STOP_PRICE
        reason = check_band(_LIMIT, price, low, high)
        if reason != _OK:
            return reason
        if not reinsert and quantity <= order.cum_qty:
            return _ALREADY_FILLED
        if reinsert and order.cum_qty + quantity > MAX_QUANTITY:
            return _INVALID_QUANTITY
        if order.flags & _POST_ONLY and book.crosses(order.side, _LIMIT, price):
            return _POST_ONLY_WOULD_TRADE
        return _OK

    def _mass_cancel(self, command: Command) -> Steps:
        sweeps = self._sweeps
        if command.flags & _CONTINUE:
            return self._sweep(command, SWEEP_ORDERS) if sweeps.queue else None
        if command.symbol and command.symbol not in self._books:
            return self._reject(command, _UNKNOWN_SYMBOL)
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
                while not self._room(1):
                    yield
                self._books[order.symbol].remove(order)
                self._cancel(command, order, _MASS_CANCELED, request_id=0)
                sweep.canceled_orders += 1
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
        rows = [
            (
                order.order_id,
                order.account,
                order.client_order_id,
                order.price,
                order.leaves_qty,
                order.cum_qty,
                order.symbol,
                order.side,
                order.flags,
                order.order_type,
                order.time_in_force,
                0,
                order.stop_price,
                *_NOTHING_RARE,
            )
            for book in self._books.values()
            for order in book.orders()
        ]
        return np.array(rows, dtype=RESTING)

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
        for row in resting.tolist():
            order_id, account, client_order_id, price, leaves_qty, cum_qty, symbol, *codes = row
            side, flags, order_type, time_in_force, _, stop_price, *_ = codes
            ids = (order_id, account, client_order_id)
            terms = (symbol, side, order_type, time_in_force, flags)
            order = Order(*ids, *terms, price, leaves_qty, cum_qty, stop_price)
            self._orders[order_id] = order
            self._books[symbol].add(order)
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
