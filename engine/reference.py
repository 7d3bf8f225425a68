"""The reference book: the rules of ``engine.rules`` in plain Python, to be read at one sitting.

It is the oracle that the compiled book is tested against, and what runs where numba is missing.
One side of a book is a sorted mapping from rank to price level; a level is a queue of orders. The
rank is the price of an ask and the negated price of a bid, so that on both sides the best level
comes first, and an order reaches the opposite levels whose rank is not above its own limit.

A command is a generator: it yields where an output buffer is full and goes on from there.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from sortedcontainers import SortedDict

from engine.book import BookLimits, Counters, Progress, Records
from engine.rules import check_band, check_new, check_price_quantity, check_quantity
from ipc.records import COMMAND, MAX_SHARDS, RECENT, RESTING, make_id, sequence_of
from ipc.vocabulary import (
    MAX_PRICE,
    MAX_QUANTITY,
    CommandType,
    ExecType,
    Flag,
    Liquidity,
    OrderType,
    OrdStatus,
    Reason,
    Side,
    TimeInForce,
)

# Plain ints: an IntEnum member costs twice as much to compare and to store in a record.
_NEW, _CANCEL, _REPLACE, _REDUCE, _MASS_CANCEL = map(int, CommandType)
_BUY, _SELL = map(int, Side)
_MARKET, _LIMIT = map(int, OrderType)
_GTC, _IOC, _FOK = map(int, TimeInForce)
_POST_ONLY, _REINSERT = int(Flag.POST_ONLY), int(Flag.REINSERT)
_OK = int(Reason.NONE)
_BEYOND_ANY_PRICE = MAX_PRICE + 1
_FINISHED = object()
_NOTHING_YET = Counters(0, 0, 0)


class _Command(NamedTuple):
    """A record of COMMAND as Python integers."""

    command_type: int
    side: int
    order_type: int
    time_in_force: int
    flags: int
    self_trade_prevention: int
    symbol: int
    request_id: int
    account: int
    order_id: int
    client_order_id: int
    price: int
    quantity: int
    timestamp_ns: int
    stop_price: int
    display_quantity: int


assert _Command._fields == COMMAND.names


@dataclass(slots=True)
class _Order:
    """A live order: resting, or being matched by the command at hand."""

    order_id: int
    account: int
    client_order_id: int
    symbol: int
    side: int
    order_type: int
    time_in_force: int
    flags: int  # POST_ONLY or 0
    price: int
    leaves_qty: int
    cum_qty: int = 0

    @property
    def client_key(self) -> tuple[int, int, int]:
        return self.account, self.symbol, self.client_order_id

    @property
    def reach(self) -> int:
        """The highest rank of an opposite level that the order may trade with."""
        if self.order_type == _MARKET:
            return _BEYOND_ANY_PRICE
        return _reach(self.side, self.price)


def _rank(side: int, price: int) -> int:
    return price if side == _SELL else -price


def _reach(side: int, price: int) -> int:
    return price if side == _BUY else -price


@dataclass(slots=True)
class _Level:
    """The orders of one price, oldest first, and the sum of their leaves_qty.

    An OrderedDict finds its first entry at once; a dict would walk past every deleted one.
    """

    orders: OrderedDict[int, _Order] = field(default_factory=OrderedDict)
    quantity: int = 0


class _SymbolBook:
    """Both sides of one instrument."""

    def __init__(self, limits: BookLimits) -> None:
        self.limits = limits
        self.resting_orders = 0
        self.levels: dict[int, SortedDict] = {_BUY: SortedDict(), _SELL: SortedDict()}

    def opposite(self, side: int) -> SortedDict:
        return self.levels[_BUY + _SELL - side]

    def crosses(self, side: int, price: int) -> bool:
        opposite = self.opposite(side)
        return bool(opposite) and opposite.peekitem(0)[0] <= _reach(side, price)

    def can_fill(self, order: _Order) -> bool:
        """Tell whether the opposite side holds the order's whole quantity within its price."""
        missing = order.leaves_qty
        for rank, level in self.opposite(order.side).items():
            if rank > order.reach:
                break
            missing -= level.quantity
            if missing <= 0:
                return True
        return False

    def add(self, order: _Order) -> None:
        """Let the order rest at the back of its level."""
        levels = self.levels[order.side]
        rank = _rank(order.side, order.price)
        level = levels.get(rank)
        if level is None:
            level = levels[rank] = _Level()
        level.orders[order.order_id] = order
        level.quantity += order.leaves_qty
        self.resting_orders += 1

    def take(self, order: _Order, quantity: int) -> None:
        """Take quantity off a resting order and its level; remove what is empty then."""
        levels = self.levels[order.side]
        rank = _rank(order.side, order.price)
        level = levels[rank]
        order.leaves_qty -= quantity
        level.quantity -= quantity
        if order.leaves_qty == 0:
            self.remove(order)

    def remove(self, order: _Order) -> None:
        """Remove a resting order, and its level where it was the last."""
        levels = self.levels[order.side]
        rank = _rank(order.side, order.price)
        level = levels[rank]
        level.quantity -= order.leaves_qty
        del level.orders[order.order_id]
        if not level.orders:
            del levels[rank]
        self.resting_orders -= 1

    def orders(self) -> Iterator[_Order]:
        """Yield the resting orders: bids then asks, best price first, oldest first."""
        for side in (_BUY, _SELL):
            for level in self.levels[side].values():
                yield from level.orders.values()


class ReferenceBook:
    """All books of one shard; implements ``engine.book.Book``."""

    def __init__(
        self,
        shard: int,
        limits: Sequence[BookLimits],
        recent_orders: int,
        start: Counters = _NOTHING_YET,
    ) -> None:
        """Make empty books. ``recent_orders`` bounds the memory of client_order_ids.

        ``start`` holds the last sequence numbers given before. Raises ValueError where a number is
        out of its range or a symbol stands twice.
        """
        if not 0 <= shard < MAX_SHARDS:
            raise ValueError(f"shard: {shard}, must be 0 to {MAX_SHARDS - 1}")
        if recent_orders < 0:
            raise ValueError(f"recent_orders: {recent_orders}, must not be negative")
        symbols = [limit.symbol for limit in limits]
        if len(set(symbols)) != len(symbols) or not all(0 < n < 1 << 16 for n in symbols):
            raise ValueError(f"limits: symbols {symbols}, must be distinct and 1 to 65535")
        self._shard = shard
        self._recent_orders = recent_orders
        self._sequence, self._order_sequence, self._trade_sequence = start
        self._books = {limit.symbol: _SymbolBook(limit) for limit in sorted(limits)}
        self._orders: dict[int, _Order] = {}  # the live ones, by order_id
        self._client_ids: dict[tuple[int, int, int], int] = {}  # client_key to order_id
        self._recent: deque[tuple[int, int, int, int]] = deque()  # RECENT, oldest first
        self._unfinished: Iterator[None] | None = None
        self._unfinished_row: tuple[int, ...] = ()
        self._reports: list[tuple[int, ...]] = []
        self._trades: list[tuple[int | tuple[int, ...], ...]] = []
        self._report_capacity = 0
        self._trade_capacity = 0

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
        # Every command gives a report in each call that it takes part in: no more can be done.
        for row in commands[: len(reports)].tolist():
            if self._unfinished is None:
                if not self._room_for_report():
                    break
                self._sequence += 1
                command = self._start(_Command._make(row))
            elif row != self._unfinished_row:
                raise ValueError("commands: must begin with the command that was left unfinished")
            else:
                command = self._unfinished
            if next(command, _FINISHED) is not _FINISHED:
                self._unfinished, self._unfinished_row = command, row
                break
            self._unfinished = None
            finished += 1
        reports[: len(self._reports)] = self._reports
        trades[: len(self._trades)] = self._trades
        return Progress(finished, len(self._reports), len(self._trades))

    def _room_for_report(self) -> bool:
        return len(self._reports) < self._report_capacity

    def _room_for_trade(self) -> bool:
        return (
            len(self._reports) + 2 <= self._report_capacity
            and len(self._trades) < self._trade_capacity
        )

    def _start(self, command: _Command) -> Iterator[None]:
        kind = command.command_type
        if kind == _NEW:
            return self._new(command)
        if kind == _MASS_CANCEL:
            return self._mass_cancel(command)
        if kind in (_CANCEL, _REPLACE, _REDUCE):
            return self._change(command)
        self._reject(command, Reason.INVALID_COMMAND)
        return iter(())

    def _new(self, command: _Command) -> Iterator[None]:
        book = self._books.get(command.symbol)
        if book is None:
            self._reject(command, Reason.UNKNOWN_SYMBOL)
            return
        reason = self._check_new(command, book)
        if reason != _OK:
            self._reject(command, reason)
            return
        self._order_sequence += 1
        order = _Order(
            make_id(self._shard, self._order_sequence),
            command.account,
            command.client_order_id,
            command.symbol,
            command.side,
            command.order_type,
            command.time_in_force,
            command.flags & _POST_ONLY,
            command.price,
            command.quantity,
        )
        self._remember(order)
        self._answer(command, order, ExecType.NEW)
        if order.time_in_force == _FOK and not book.can_fill(order):
            while not self._room_for_report():
                yield
            self._cancel(command, order, Reason.FOK_UNFILLED, command.request_id)
            return
        yield from self._enter(command, book, order)

    def _check_new(self, command: _Command, book: _SymbolBook) -> int:
        _, min_price, max_price, max_resting_orders = book.limits
        reason = check_new(
            command.side,
            command.order_type,
            command.time_in_force,
            command.flags,
            command.price,
            command.quantity,
            min_price,
            max_price,
        )
        if reason != _OK:
            return reason
        if self._first_order_id(command):
            return Reason.DUPLICATE_CLIENT_ORDER_ID
        rests = command.order_type == _LIMIT and command.time_in_force == _GTC
        if rests and book.resting_orders >= max_resting_orders:
            return Reason.BOOK_FULL
        if command.flags & _POST_ONLY and book.crosses(command.side, command.price):
            return Reason.POST_ONLY_WOULD_TRADE
        return _OK

    def _change(self, command: _Command) -> Iterator[None]:
        """CANCEL, REPLACE and REDUCE: what names an order that rests."""
        order, reason = self._find(command)
        if order is None:
            self._reject(command, reason)
            return
        book = self._books[order.symbol]
        if command.command_type == _REPLACE:
            yield from self._replace(command, book, order)
        elif command.command_type == _REDUCE and command.quantity < order.leaves_qty:
            book.take(order, command.quantity)
            self._answer(command, order, ExecType.REPLACED)
        else:
            book.remove(order)
            self._cancel(command, order, Reason.CANCEL_REQUESTED, command.request_id)

    def _find(self, command: _Command) -> tuple[_Order | None, int]:
        """Return the order that a command names, or None and the reason why it has none."""
        if command.order_id == 0 and command.client_order_id == 0:
            return None, Reason.INVALID_ORDER_ID
        symbol_needed = command.symbol != 0 or command.order_id == 0
        if symbol_needed and command.symbol not in self._books:
            return None, Reason.UNKNOWN_SYMBOL
        reason = _OK
        if command.command_type == _REPLACE:
            reason = check_price_quantity(_LIMIT, command.price, command.quantity)
        elif command.command_type == _REDUCE:
            reason = check_quantity(command.quantity)
        if reason != _OK:
            return None, reason
        order = self._orders.get(command.order_id or self._first_order_id(command))
        if order is None or order.account != command.account:
            return None, Reason.UNKNOWN_ORDER
        if command.symbol not in (0, order.symbol):
            return None, Reason.UNKNOWN_ORDER
        return order, _OK

    def _replace(self, command: _Command, book: _SymbolBook, order: _Order) -> Iterator[None]:
        reason = self._check_replace(command, book, order)
        if reason != _OK:
            self._reject(command, reason)
            return
        reinsert = command.flags & _REINSERT
        leaves_qty = command.quantity - (0 if reinsert else order.cum_qty)
        keeps_place = command.price == order.price and leaves_qty < order.leaves_qty
        if keeps_place and not reinsert:
            book.take(order, order.leaves_qty - leaves_qty)
            self._answer(command, order, ExecType.REPLACED)
            return
        book.remove(order)
        order.price, order.leaves_qty = command.price, leaves_qty
        self._answer(command, order, ExecType.REPLACED)
        yield from self._enter(command, book, order)

    def _check_replace(self, command: _Command, book: _SymbolBook, order: _Order) -> int:
        _, min_price, max_price, _ = book.limits
        reason = check_band(_LIMIT, command.price, min_price, max_price)
        if reason != _OK:
            return reason
        if not command.flags & _REINSERT and command.quantity <= order.cum_qty:
            return Reason.ALREADY_FILLED
        if command.flags & _REINSERT and order.cum_qty + command.quantity > MAX_QUANTITY:
            return Reason.INVALID_QUANTITY
        if order.flags & _POST_ONLY and book.crosses(order.side, command.price):
            return Reason.POST_ONLY_WOULD_TRADE
        return _OK

    def _mass_cancel(self, command: _Command) -> Iterator[None]:
        if command.symbol != 0 and command.symbol not in self._books:
            self._reject(command, Reason.UNKNOWN_SYMBOL)
            return
        books = [self._books[command.symbol]] if command.symbol else list(self._books.values())
        account = command.account
        canceled_orders = 0
        for book in books:
            for order in [order for order in book.orders() if order.account == account]:
                while not self._room_for_report():
                    yield
                book.remove(order)
                self._cancel(command, order, Reason.MASS_CANCEL, request_id=0)
                canceled_orders += 1
        while not self._room_for_report():
            yield
        self._answer_mass_cancel(command, canceled_orders)

    # Matching ------------------------------------------------------------------------------------

    def _enter(self, command: _Command, book: _SymbolBook, taker: _Order) -> Iterator[None]:
        """Trade what crosses, then let the rest rest or cancel it."""
        opposite, reach = book.opposite(taker.side), taker.reach
        while taker.leaves_qty and opposite:
            rank, level = opposite.peekitem(0)
            if rank > reach:
                break
            while not self._room_for_trade():
                yield
            self._trade(command, book, taker, next(iter(level.orders.values())))
        if taker.leaves_qty == 0:
            self._end(taker)
        elif taker.order_type == _LIMIT and taker.time_in_force == _GTC:
            book.add(taker)
        else:
            market = taker.order_type == _MARKET
            while not self._room_for_report():
                yield
            reason = Reason.MARKET_REMAINDER if market else Reason.IOC_REMAINDER
            self._cancel(command, taker, reason, command.request_id)

    def _trade(self, command: _Command, book: _SymbolBook, taker: _Order, maker: _Order) -> None:
        """Trade what both have left, at the maker's price."""
        self._trade_sequence += 1
        trade_id = make_id(self._shard, self._trade_sequence)
        quantity = min(taker.leaves_qty, maker.leaves_qty)
        taker.leaves_qty -= quantity
        taker.cum_qty += quantity
        maker.cum_qty += quantity
        book.take(maker, quantity)
        bought, sold = (taker, maker) if taker.side == _BUY else (maker, taker)
        self._trades.append(
            (
                trade_id,
                self._sequence,
                command.timestamp_ns,
                maker.price,
                quantity,
                bought.order_id,
                sold.order_id,
                taker.symbol,
                taker.side,
                (0, 0, 0, 0, 0),
            )
        )
        last = (maker.price, quantity, trade_id)
        self._report(command, taker, ExecType.TRADE, command.request_id, Liquidity.TAKER, last)
        self._report(command, maker, ExecType.TRADE, 0, Liquidity.MAKER, last)
        if maker.leaves_qty == 0:
            self._end(maker)

    # The orders that are known -------------------------------------------------------------------

    def _first_order_id(self, command: _Command) -> int:
        """Return the order_id remembered for a command's client_order_id, or 0."""
        key = (command.account, command.symbol, command.client_order_id)
        return self._client_ids.get(key, 0)

    def _remember(self, order: _Order) -> None:
        """Take an accepted order in; forget the one that is now too old to be recent."""
        self._orders[order.order_id] = order
        if order.client_order_id:
            self._client_ids[order.client_key] = order.order_id
            self._recent.append(
                (order.order_id, order.account, order.client_order_id, order.symbol)
            )
        while self._recent and not self._is_recent(self._recent[0][0]):
            order_id, account, client_order_id, symbol = self._recent.popleft()
            if order_id not in self._orders:
                del self._client_ids[account, symbol, client_order_id]

    def _end(self, order: _Order) -> None:
        """Let go of a filled or cancelled order; while recent its client_order_id stays known."""
        del self._orders[order.order_id]
        if order.client_order_id and not self._is_recent(order.order_id):
            del self._client_ids[order.client_key]

    def _is_recent(self, order_id: int) -> bool:
        return sequence_of(order_id) > self._order_sequence - self._recent_orders

    # Reports -------------------------------------------------------------------------------------

    def _answer(self, command: _Command, order: _Order, exec_type: int) -> None:
        self._report(command, order, exec_type, command.request_id)

    def _cancel(self, command: _Command, order: _Order, reason: int, request_id: int) -> None:
        """End an order that is in no level any more, and report it."""
        self._report(command, order, ExecType.CANCELED, request_id, reason=reason)
        self._end(order)

    def _report(
        self,
        command: _Command,
        order: _Order,
        exec_type: int,
        request_id: int,
        liquidity: int = Liquidity.NONE,
        last: tuple[int, int, int] = (0, 0, 0),
        reason: int = _OK,
    ) -> None:
        """Report on an order; ``last`` is last_price, last_qty and trade_id."""
        leaves_qty = order.leaves_qty
        quantity = order.cum_qty + leaves_qty
        if exec_type == ExecType.CANCELED:
            ord_status = OrdStatus.CANCELED
            leaves_qty = 0
        elif leaves_qty == 0:
            ord_status = OrdStatus.FILLED
        elif order.cum_qty:
            ord_status = OrdStatus.PARTIALLY_FILLED
        else:
            ord_status = OrdStatus.NEW
        self._reports.append(
            (
                exec_type,
                ord_status,
                command.command_type,
                order.side,
                order.order_type,
                order.time_in_force,
                order.flags,
                liquidity,
                order.symbol,
                reason,
                0,
                self._sequence,
                request_id,
                order.account,
                order.order_id,
                order.client_order_id,
                order.price,
                quantity,
                order.cum_qty,
                leaves_qty,
                *last,
                command.timestamp_ns,
            )
        )

    def _reject(self, command: _Command, reason: int) -> None:
        order_id = command.order_id
        if reason == Reason.DUPLICATE_CLIENT_ORDER_ID:
            order_id = self._first_order_id(command)
        self._reports.append(
            (
                ExecType.REJECTED,
                OrdStatus.REJECTED,
                command.command_type,
                command.side,
                command.order_type,
                command.time_in_force,
                command.flags,
                Liquidity.NONE,
                command.symbol,
                reason,
                0,
                self._sequence,
                command.request_id,
                command.account,
                order_id,
                command.client_order_id,
                command.price,
                command.quantity,
                0,
                0,
                0,
                0,
                0,
                command.timestamp_ns,
            )
        )

    def _answer_mass_cancel(self, command: _Command, canceled_orders: int) -> None:
        head = (ExecType.MASS_CANCELED, OrdStatus.NEW, command.command_type, 0, 0, 0)
        what = (command.flags, Liquidity.NONE, command.symbol, _OK, 0, self._sequence)
        whose = (command.request_id, command.account, 0, 0)
        amounts = (0, canceled_orders, 0, 0, 0, 0, 0)
        self._reports.append((*head, *what, *whose, *amounts, command.timestamp_ns))

    # What stands in the book ---------------------------------------------------------------------

    def counters(self) -> Counters:
        """Return the last sequence numbers given."""
        return Counters(self._sequence, self._order_sequence, self._trade_sequence)

    def depth(self, symbol: int, side: int, levels: Records) -> int:
        """Fill ``levels`` with the best levels of one side; return how many.

        Raises KeyError where the shard does not hold the symbol, or side is not one.
        """
        best = islice(self._books[symbol].levels[side].items(), len(levels))
        rows = [(abs(rank), level.quantity, len(level.orders)) for rank, level in best]
        levels[: len(rows)] = rows
        return len(rows)

    def resting(self) -> Records:
        """Return every resting order: by symbol, bids then asks, best price, oldest."""
        orders = (order for book in self._books.values() for order in book.orders())
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
                0,
            )
            for order in orders
        ]
        return np.array(rows, dtype=RESTING)

    def recent(self) -> Records:
        """Return the client_order_ids of the last orders accepted, oldest first."""
        return np.array(list(self._recent), dtype=RECENT)

    def check(self) -> None:
        """Verify every structural invariant; raise AssertionError where one does not hold."""
        resting: dict[int, _Order] = {}
        for symbol, book in self._books.items():
            orders = {order.order_id: order for order in book.orders()}
            assert len(orders) == book.resting_orders, f"{symbol}: count of resting orders"
            assert len(orders) <= book.limits.max_resting_orders, f"{symbol}: capacity"
            assert all(order.symbol == symbol for order in orders.values()), f"{symbol}: symbol"
            assert not resting.keys() & orders.keys(), f"{symbol}: an order rests twice"
            resting |= orders
            for side in (_BUY, _SELL):
                _check_side(book, side)
            bids, asks = book.levels[_BUY], book.levels[_SELL]
            if bids and asks and self._unfinished is None:
                assert -bids.peekitem(0)[0] < asks.peekitem(0)[0], f"{symbol}: the book is crossed"
        for order_id, order in self._orders.items():
            assert 0 < sequence_of(order_id) <= self._order_sequence, f"{order_id}: order_id"
            assert resting.pop(order_id, order) is order, f"{order_id}: two orders of one id"
        assert not resting, f"{list(resting)}: resting but not known by id"
        in_no_level = len(self._orders) - sum(book.resting_orders for book in self._books.values())
        assert in_no_level <= (self._unfinished is not None), "a live order rests nowhere"
        self._check_client_ids()

    def _check_client_ids(self) -> None:
        remembered = {
            (account, symbol, client_order_id): order_id
            for order_id, account, client_order_id, symbol in self._recent
        }
        order_ids = [row[0] for row in self._recent]
        assert order_ids == sorted(set(order_ids)), "recent orders: not oldest first"
        assert all(map(self._is_recent, order_ids)), "recent orders: too old"
        live = [order for order in self._orders.values() if order.client_order_id]
        remembered |= {order.client_key: order.order_id for order in live}
        assert remembered == self._client_ids, "client_order_ids: not those live or recent"


def _check_side(book: _SymbolBook, side: int) -> None:
    levels = book.levels[side]
    limits = book.limits
    assert list(levels) == sorted(levels), f"{limits.symbol}: levels out of order"
    for rank, level in levels.items():
        where = f"{limits.symbol}: level {abs(rank)}"
        orders = level.orders.values()
        assert orders, f"{where}: empty"
        assert level.quantity == sum(order.leaves_qty for order in orders), f"{where}: quantity"
        assert limits.min_price <= abs(rank) <= limits.max_price, f"{where}: out of band"
        for order_id, order in level.orders.items():
            assert order.order_id == order_id, f"{where}: order_id"
            assert (order.side, _rank(side, order.price)) == (side, rank), f"{where}: wrong level"
            assert (order.order_type, order.time_in_force) == (_LIMIT, _GTC), f"{where}: rests"
            assert order.leaves_qty > 0, f"{where}: filled order"
            assert order.leaves_qty + order.cum_qty <= MAX_QUANTITY, f"{where}: quantity"
