"""What the reference book does with a list of orders: one command enters all of them, or none."""

from collections.abc import Iterator

from engine.books.reference.levels import PriceLevels
from engine.books.reference.matching import Steps
from engine.books.reference.new_orders import NewOrders
from engine.books.reference.records import Command, Order, order_report
from engine.books.rules import (
    LINK_CHILD,
    LINK_CHILDREN,
    LINK_FRESH,
    LINK_HELD,
    LINK_LISTED,
    LINK_NEXT,
    LINK_PREVIOUS,
    can_rest,
    check_list,
    expire_time,
)
from ipc.codes import (
    COMMAND_TYPE_NEW_OCO,
    EXEC_TYPE_NEW,
    FLAG_POST_ONLY,
    FLAG_RARE,
    ORDER_TYPE_LIMIT,
    ORDER_TYPE_STOP,
    ORDER_TYPE_STOP_LIMIT,
    REASON_BOOK_FULL,
    REASON_DUPLICATE_CLIENT_ORDER_ID,
    REASON_FOK_UNFILLED,
    REASON_NONE,
    REASON_POST_ONLY_WOULD_TRADE,
    REASON_TOO_MANY_ORDERS,
    REASON_UNKNOWN_SYMBOL,
    SIDE_BUY,
    SIDE_SELL,
    TIME_IN_FORCE_FOK,
    TIME_IN_FORCE_GTC,
)
from ipc.records import make_id
from ipc.vocabulary import PREVENTION_SHIFT


class Lists(NewOrders):
    """Carries NEW_OCO and NEW_BRACKET out."""

    def _new_list(self, command: Command) -> Steps:
        book = self._books.get(command.symbol)
        if book is None:
            return self._reject(command, REASON_UNKNOWN_SYMBOL)
        reason = _check_fields(command, book)
        if reason != REASON_NONE:
            return self._reject(command, reason)
        orders = _orders_of(command)
        named = [order for order in orders if order.client_order_id]
        known = (self._ids.order_id(o.account, o.symbol, o.client_order_id) for o in named)
        if first := next(filter(None, known), 0):
            return self._reject(command, REASON_DUPLICATE_CLIENT_ORDER_ID, first)
        reason = self._check_room(command, book, orders)
        if reason != REASON_NONE:
            return self._reject(command, reason)
        for order in orders:
            self._order_sequence += 1
            order.order_id = make_id(self._shard, self._order_sequence)
            given = (order.time_in_force, order.expire_time_ns, command.timestamp_ns)
            stays = order.stop_price or can_rest(order.order_type, order.time_in_force)
            ends = expire_time(*given, book.limits.day_end_s) if stays else 0
            order.expire_time_ns = ends
            self._orders[order.order_id] = order
            self._ids.remember(order)
            if ends:
                self._expiries.add((ends, order.order_id))
            if order.link & LINK_HELD:
                book.add(order)
        self._answer(command, orders[0], EXEC_TYPE_NEW)
        return self._enter_list(command, book, orders)

    def _check_room(self, command: Command, book: PriceLevels, orders: list[Order]) -> int:
        stay = sum(o.stop_price != 0 or can_rest(o.order_type, o.time_in_force) for o in orders)
        if book.live_orders + stay > book.limits.max_resting_orders:
            return REASON_BOOK_FULL
        if book.account_orders[command.account] + stay > book.limits.max_account_orders:
            return REASON_TOO_MANY_ORDERS
        first = orders[0]
        crosses = book.crosses(first.side, first.order_type, first.price)
        if first.flags & FLAG_POST_ONLY and crosses:
            return REASON_POST_ONLY_WOULD_TRADE
        return REASON_NONE

    def _enter_list(
        self, command: Command, book: PriceLevels, orders: list[Order]
    ) -> Iterator[None]:
        """Report on the others, and let the first enter; what is fresh may wait behind it."""
        first, *others = orders
        for order in others:
            while not self._room(1):
                yield
            on_order = (order, EXEC_TYPE_NEW, 0)
            report = order_report(command, self._sequence, *on_order, last_price=order.stop_price)
            self._reports.append(report)
        self._released += [order for order in others if order.link & LINK_FRESH]
        if first.time_in_force == TIME_IN_FORCE_FOK and not book.can_fill(first, first.leaves_qty):
            while not self._room(1):
                yield
            self._cancel(command, first, REASON_FOK_UNFILLED, command.request_id)
        else:
            yield from self._take(command, book, first)
        yield from self._trigger_reached(command, book)


def _check_fields(command: Command, book: PriceLevels) -> int:
    _, low, high, *_ = book.limits
    return check_list(
        command.command_type,
        command.side,
        command.order_type,
        command.time_in_force,
        command.flags,
        command.self_trade_prevention,
        command.price,
        command.quantity,
        command.minimum_quantity,
        command.stop_price,
        command.display_quantity,
        command.expire_time_ns,
        command.client_order_id,
        command.timestamp_ns,
        low,
        high,
    )


def _orders_of(command: Command) -> list[Order]:
    """Return the orders of a list, which have no ids yet."""
    pair = command.command_type == COMMAND_TYPE_NEW_OCO
    limit, stop = command.minimum_quantity, command.stop_price
    if pair:
        first = _order(command, 0, ORDER_TYPE_LIMIT, command.price, LINK_NEXT)
        return [first, _stop(command, 1, command.side, LINK_PREVIOUS | LINK_HELD | LINK_FRESH)]
    link = LINK_CHILD | (LINK_CHILDREN if limit and stop else 0)
    first = _order(command, 0, command.order_type, command.price, link)
    first.flags |= command.flags & FLAG_POST_ONLY
    orders = [first]
    side = SIDE_SELL if command.side == SIDE_BUY else SIDE_BUY
    if limit:
        link = LINK_HELD | (LINK_NEXT if stop else 0)
        order = _order(command, 1, ORDER_TYPE_LIMIT, limit, link)
        order.side = side
        orders.append(order)
    if stop:
        link = LINK_HELD | (LINK_PREVIOUS if limit else 0)
        orders.append(_stop(command, len(orders), side, link))
    for order in orders[1:]:
        order.time_in_force, order.expire_time_ns = TIME_IN_FORCE_GTC, 0
    return orders


def _stop(command: Command, place: int, side: int, link: int) -> Order:
    limit = command.display_quantity
    kind = ORDER_TYPE_STOP_LIMIT if limit else ORDER_TYPE_STOP
    order = _order(command, place, kind, limit, link)
    order.side, order.stop_price = side, command.stop_price
    return order


def _order(command: Command, place: int, order_type: int, price: int, link: int) -> Order:
    client_order_id = command.client_order_id
    return Order(
        0,
        command.account,
        client_order_id + place if client_order_id else 0,
        command.symbol,
        command.side,
        order_type,
        command.time_in_force,
        command.self_trade_prevention << PREVENTION_SHIFT | FLAG_RARE,
        price,
        command.quantity,
        expire_time_ns=command.expire_time_ns,
        link=link | LINK_LISTED,
    )
