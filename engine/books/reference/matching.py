"""How the reference book matches: trades, self-trades that are none, triggers; and its answers.

What may need more room than there is when a command starts is a generator: see
``engine.books.reference.book``.
"""

from collections.abc import Iterator, Sequence

from sortedcontainers import SortedList

from engine.books.contract import BookLimits, Counters
from engine.books.id_memory import IdShares
from engine.books.reference.ids import IdMemory
from engine.books.reference.levels import PriceLevels
from engine.books.reference.mass_cancels import Sweeps
from engine.books.reference.records import Command, Order, order_report, reject_report
from engine.books.rules import (
    LINK_CHILD,
    LINK_CHILDREN,
    LINK_FRESH,
    LINK_HELD,
    LINK_LISTED,
    LINK_NEXT,
    LINK_PAIRED,
    can_rest,
    is_priceless,
    is_reached,
    waits_for_rise,
)
from ipc.codes import (
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_EXPIRED,
    EXEC_TYPE_REPLACED,
    EXEC_TYPE_TRADE,
    EXEC_TYPE_TRIGGERED,
    FLAG_TRIGGERED,
    LIQUIDITY_MAKER,
    LIQUIDITY_TAKER,
    REASON_DUPLICATE_CLIENT_ORDER_ID,
    REASON_EXPIRED,
    REASON_FOK_UNFILLED,
    REASON_IOC_REMAINDER,
    REASON_LINKED,
    REASON_MARKET_REMAINDER,
    REASON_NONE,
    REASON_SELF_TRADE,
    SELF_TRADE_PREVENTION_CANCEL_BOTH,
    SELF_TRADE_PREVENTION_CANCEL_NEWEST,
    SELF_TRADE_PREVENTION_CANCEL_OLDEST,
    SELF_TRADE_PREVENTION_DECREMENT,
    SIDE_BUY,
    TIME_IN_FORCE_FOK,
)
from ipc.records import ReportRow, TradeRow, make_id

Steps = Iterator[None] | None
"""What is left to do of a command, as far as there is room; None: nothing."""


class Matching:
    """The orders of one shard, and what comes of one that enters."""

    def __init__(
        self,
        shard: int,
        limits: Sequence[BookLimits],
        recent_orders: int,
        start: Counters,
        shares: IdShares,
    ) -> None:
        self._shard = shard
        self._sequence, self._order_sequence, self._trade_sequence = start
        self._books = {limit.symbol: PriceLevels(limit) for limit in sorted(limits)}
        self._sweeps = Sweeps(self._books)
        self._orders: dict[int, Order] = {}  # the live ones, by order_id
        self._expiries = SortedList()  # expire_time_ns and order_id of those that expire
        self._ids = IdMemory(recent_orders, shares, self._orders, start.order_sequence)
        self._reports: list[ReportRow] = []
        self._trades: list[TradeRow] = []
        self._due: dict[int, int] = {}
        """What is to be taken off linked orders, by order_id; 0: they are cancelled."""
        self._released: list[Order] = []
        self._report_capacity = 0
        self._trade_capacity = 0

    def _room(self, reports: int, trades: int = 0) -> bool:
        return (
            len(self._reports) + reports <= self._report_capacity
            and len(self._trades) + trades <= self._trade_capacity
        )

    # Matching ------------------------------------------------------------------------------------

    def _enter(self, command: Command, book: PriceLevels, taker: Order) -> Steps:
        """Let an order trade what crosses, and then rest or be cancelled."""
        if book.crosses(taker.side, taker.order_type, taker.price):
            return self._match(command, book, taker)
        return self._settle(command, book, taker)

    def _match(self, command: Command, book: PriceLevels, taker: Order) -> Iterator[None]:
        yield from self._take(command, book, taker)
        yield from self._trigger_reached(command, book)

    def _take(self, command: Command, book: PriceLevels, taker: Order) -> Iterator[None]:
        while taker.leaves_qty and (maker := book.next_maker(taker)):
            prevented = taker.prevention and maker.account == taker.account
            while not self._room(2, trades=0 if prevented else 1):
                yield
            if not prevented:
                self._trade(command, book, taker, maker)
            elif self._prevent(command, book, taker, maker):
                return
        if taker.leaves_qty and not can_rest(taker.order_type, taker.time_in_force):
            while not self._room(1):
                yield
        self._settle(command, book, taker)

    def _trade(self, command: Command, book: PriceLevels, taker: Order, maker: Order) -> None:
        """Trade what both have left, at the maker's price."""
        self._trade_sequence += 1
        trade_id = make_id(self._shard, self._trade_sequence)
        sequence, price = self._sequence, maker.price
        quantity = min(taker.leaves_qty, maker.shown)
        taker.leaves_qty -= quantity
        taker.cum_qty += quantity
        maker.cum_qty += quantity
        book.trade(maker, quantity)
        if not maker.leaves_qty:
            self._leave(book, maker)
        elif not maker.shown:
            if not book.is_last(maker):
                self._sweeps.leave(maker)
            book.refresh(maker)
        book.note_trade(price)
        bought, sold = (taker, maker) if taker.side == SIDE_BUY else (maker, taker)
        self._trades.append(
            TradeRow(
                trade_id=trade_id,
                sequence=sequence,
                timestamp_ns=command.timestamp_ns,
                price=price,
                quantity=quantity,
                buy_order_id=bought.order_id,
                sell_order_id=sold.order_id,
                symbol=taker.symbol,
                taker_side=taker.side,
            )
        )
        self._lose(maker, quantity)
        self._lose(taker, quantity)
        last = (price, quantity, trade_id)
        taken, made = (REASON_NONE, LIQUIDITY_TAKER, *last), (REASON_NONE, LIQUIDITY_MAKER, *last)
        self._reports += (
            order_report(command, sequence, taker, EXEC_TYPE_TRADE, command.request_id, *taken),
            order_report(command, sequence, maker, EXEC_TYPE_TRADE, 0, *made),
        )
        if maker.leaves_qty == 0:
            self._end(maker)

    def _settle(self, command: Command, book: PriceLevels, order: Order) -> Steps:
        """Decide what becomes of what is left of an order after matching."""
        if order.leaves_qty == 0:
            self._end(order)
        elif can_rest(order.order_type, order.time_in_force):
            book.add(order)
        else:
            market = is_priceless(order.order_type)
            reason = REASON_MARKET_REMAINDER if market else REASON_IOC_REMAINDER
            self._cancel(command, order, reason, command.request_id)
        return None

    def _prevent(self, command: Command, book: PriceLevels, taker: Order, maker: Order) -> bool:
        """Let two orders of an account not trade; return whether the taker has ended by that."""
        mode, price = taker.prevention, maker.price
        quantity = min(taker.leaves_qty, maker.leaves_qty)
        last = (price, quantity)
        if mode == SELF_TRADE_PREVENTION_DECREMENT:
            whole = quantity == maker.leaves_qty
        else:
            whole = mode in (SELF_TRADE_PREVENTION_CANCEL_OLDEST, SELF_TRADE_PREVENTION_CANCEL_BOTH)
        if whole:
            self._leave(book, maker)
            self._end_prevented(command, maker, 0, *last)
        elif mode == SELF_TRADE_PREVENTION_DECREMENT:
            book.take(maker, quantity)
            self._lose(maker, quantity)
            self._report_prevented(command, maker, EXEC_TYPE_REPLACED, 0, *last)
        if mode in (SELF_TRADE_PREVENTION_CANCEL_NEWEST, SELF_TRADE_PREVENTION_CANCEL_BOTH) or (
            mode == SELF_TRADE_PREVENTION_DECREMENT and quantity == taker.leaves_qty
        ):
            self._end_prevented(command, taker, command.request_id, *last)
            return True
        if mode == SELF_TRADE_PREVENTION_DECREMENT:
            taker.leaves_qty -= quantity
            self._lose(taker, quantity)
            self._report_prevented(command, taker, EXEC_TYPE_REPLACED, command.request_id, *last)
        return False

    def _end_prevented(
        self, command: Command, order: Order, request_id: int, price: int, quantity: int
    ) -> None:
        self._report_prevented(command, order, EXEC_TYPE_CANCELED, request_id, price, quantity)
        self._end(order)

    def _report_prevented(
        self,
        command: Command,
        order: Order,
        exec_type: int,
        request_id: int,
        price: int,
        quantity: int,
    ) -> None:
        on_order = (order, exec_type, request_id, REASON_SELF_TRADE)
        report = order_report(
            command, self._sequence, *on_order, last_price=price, last_qty=quantity
        )
        self._reports.append(report)

    # Stops ---------------------------------------------------------------------------------------

    def _wait(self, command: Command, book: PriceLevels, order: Order, exec_type: int) -> Steps:
        """Answer, and let an order wait for its stop price, or trigger where it is reached."""
        rise = waits_for_rise(order.order_type, order.side)
        if not is_reached(rise, order.stop_price, book.last_price):
            book.add(order)
            return self._answer(command, order, exec_type)
        order.flags |= FLAG_TRIGGERED
        self._answer(command, order, exec_type)
        return self._trigger_own(command, book, order)

    def _trigger_own(self, command: Command, book: PriceLevels, order: Order) -> Iterator[None]:
        yield from self._trigger(command, book, order)
        yield from self._trigger_reached(command, book)

    def _trigger_reached(self, command: Command, book: PriceLevels) -> Iterator[None]:
        """Trigger what trades have reached, round by round, and let go of what is released."""
        cause = command._replace(request_id=0)
        yield from self._settle_links(cause)
        while book.traded is not None or self._released:
            while book.traded is not None:
                (low, high), book.traded = book.traded, None
                while order := book.next_reached(low, high):
                    self._sweeps.trigger(order)
                    book.remove(order)
                    order.flags |= FLAG_TRIGGERED
                    yield from self._trigger(cause, book, order)
                    yield from self._settle_links(cause)
            if self._released:
                yield from self._release(cause, book, self._released.pop(0))
                yield from self._settle_links(cause)

    def _trigger(self, cause: Command, book: PriceLevels, order: Order) -> Iterator[None]:
        """Let an order that is in no level enter, its stop price being reached."""
        while not self._room(1):
            yield
        ids = (cause.request_id, REASON_NONE)
        on_order = (order, EXEC_TYPE_TRIGGERED, *ids)
        last = (order.stop_price, order.display_quantity)
        report = order_report(cause, self._sequence, *on_order, 0, *last)
        self._reports.append(report)
        order.stop_price = 0
        if order.flags & FLAG_TRIGGERED and (other := self._other(order)):
            self._due[other.order_id] = 0
            order.link = LINK_LISTED
        yield from self._settle_links(cause)
        if order.time_in_force == TIME_IN_FORCE_FOK and not book.can_fill(order, order.leaves_qty):
            while not self._room(1):
                yield
            self._cancel(cause, order, REASON_FOK_UNFILLED, cause.request_id)
        else:
            yield from self._take(cause, book, order)

    # Expiry --------------------------------------------------------------------------------------

    def _is_due(self, command: Command) -> bool:
        """Tell whether an order's time is over when a command comes."""
        return bool(self._expiries) and self._expiries[0][0] <= command.timestamp_ns

    def _expire_due(self, command: Command) -> Iterator[None]:
        """End those orders; then there is room for a command to start."""
        while self._is_due(command):
            while not self._room(1):
                yield
            order = self._orders[self._expiries[0][1]]
            self._leave(self._books[order.symbol], order)
            self._expire(command, order, 0)
            yield from self._settle_links(command)
        while not self._room(2):
            yield

    def _expire(self, command: Command, order: Order, request_id: int) -> Steps:
        """Report that an order has expired that is in no level any more."""
        on_order = (order, EXEC_TYPE_EXPIRED, request_id, REASON_EXPIRED)
        last = (order.stop_price, order.display_quantity)
        self._reports.append(order_report(command, self._sequence, *on_order, 0, *last))
        self._end(order)
        return None

    # Lists ---------------------------------------------------------------------------------------

    def _release(self, cause: Command, book: PriceLevels, order: Order) -> Iterator[None]:
        """Let an order enter or wait that was held."""
        self._sweeps.trigger(order)
        book.remove(order)
        fresh = order.link & LINK_FRESH
        order.link &= ~(LINK_HELD | LINK_FRESH)
        rise = waits_for_rise(order.order_type, order.side)
        if order.stop_price and not is_reached(rise, order.stop_price, book.last_price):
            while not fresh and not self._room(1):
                yield
            if not fresh:
                self._report_released(cause, order)
            book.add(order)
            return
        if order.stop_price:
            order.flags |= FLAG_TRIGGERED
        yield from self._trigger(cause, book, order)

    def _report_released(self, cause: Command, order: Order) -> None:
        on_order = (order, EXEC_TYPE_TRIGGERED, 0, REASON_NONE)
        report = order_report(cause, self._sequence, *on_order, last_price=order.stop_price)
        self._reports.append(report)

    def _settle_links(self, cause: Command) -> Iterator[None]:
        """Give linked orders what became of those that they are tied to."""
        while self._due:
            while not self._room(1):
                yield
            order_id = next(iter(self._due))
            lost, order = self._due.pop(order_id), self._orders[order_id]
            book = self._books[order.symbol]
            if lost:
                book.take(order, lost)
                on_order = (order, EXEC_TYPE_REPLACED, 0, REASON_LINKED)
                stop_price = order.stop_price
                report = order_report(cause, self._sequence, *on_order, last_price=stop_price)
                self._reports.append(report)
            else:
                self._leave(book, order)
                self._cancel(cause, order, REASON_LINKED, request_id=0)

    def _other(self, order: Order) -> Order | None:
        """Return the other one of a pair, while it lives."""
        if not order.link & LINK_PAIRED:
            return None
        other = self._orders.get(order.order_id + (1 if order.link & LINK_NEXT else -1))
        return other if other is not None and other.link & LINK_PAIRED else None

    def _lose(self, order: Order, quantity: int) -> None:
        """An order has so much less open than it had: so has the other one."""
        other = self._other(order)
        if other is not None and self._due.get(other.order_id) != 0:
            self._due[other.order_id] = self._due.get(other.order_id, 0) + quantity

    def _untie(self, order: Order) -> None:
        """An order ends: those that it is tied to go, or are released."""
        if order in self._released:
            self._released.remove(order)
        if other := self._other(order):
            self._due[other.order_id] = 0
        for bit, distance in ((LINK_CHILD, 1), (LINK_CHILDREN, 2)):
            child = self._orders.get(order.order_id + distance) if order.link & bit else None
            if child and not child.link & LINK_HELD:
                continue
            if child and order.leaves_qty:
                self._due[child.order_id] = 0
            elif child:
                self._released.append(child)

    # Answers -------------------------------------------------------------------------------------

    def _answer(self, command: Command, order: Order, exec_type: int) -> Steps:
        on_order = (order, exec_type, command.request_id, REASON_NONE)
        last = (order.stop_price, order.display_quantity)
        report = order_report(command, self._sequence, *on_order, 0, *last, answers=1)
        self._reports.append(report)
        return None

    def _cancel(
        self, command: Command, order: Order, reason: int, request_id: int, answers: int = 0
    ) -> Steps:
        """Report the end of an order that is in no level any more."""
        on_order = (order, EXEC_TYPE_CANCELED, request_id, reason)
        last = (order.stop_price, order.display_quantity)
        report = order_report(command, self._sequence, *on_order, 0, *last, answers=answers)
        self._reports.append(report)
        self._end(order)
        return None

    def _reject(self, command: Command, reason: int, first_order_id: int = 0) -> Steps:
        """Answer a command that is not carried out; ``first_order_id``: see
        DUPLICATE_CLIENT_ORDER_ID, where it is not that of the command's own id."""
        order_id = first_order_id or command.order_id
        if reason == REASON_DUPLICATE_CLIENT_ORDER_ID and not first_order_id:
            order_id = self._first_order_id(command)
        self._reports.append(reject_report(command, self._sequence, order_id, reason))
        return None

    def _leave(self, book: PriceLevels, order: Order) -> None:
        self._sweeps.leave(order)
        book.remove(order)

    # The orders that are known -------------------------------------------------------------------

    def _first_order_id(self, command: Command) -> int:
        """Return the order_id remembered for a command's client_order_id, or 0."""
        return self._ids.order_id(command.account, command.symbol, command.client_order_id)

    def _end(self, order: Order) -> None:
        """Let go of a filled or cancelled order."""
        del self._orders[order.order_id]
        if order.link:
            self._untie(order)
        if order.expire_time_ns:
            self._expiries.remove((order.expire_time_ns, order.order_id))
        self._ids.end(order)
