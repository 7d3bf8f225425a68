"""What the reference book does with a new order before it enters: its checks, and what it is from
then on."""

from engine.books.reference.levels import PriceLevels
from engine.books.reference.matching import Matching, Steps
from engine.books.reference.records import Command, Order
from engine.books.rules import can_rest, check_new, expire_time, limit_from_best, takes_best
from ipc.codes import (
    EXEC_TYPE_NEW,
    FLAG_POST_ONLY,
    FLAG_RARE,
    REASON_BOOK_FULL,
    REASON_DUPLICATE_CLIENT_ORDER_ID,
    REASON_FOK_UNFILLED,
    REASON_MARKET_REMAINDER,
    REASON_MINIMUM_UNFILLED,
    REASON_NONE,
    REASON_POST_ONLY_WOULD_TRADE,
    REASON_TOO_MANY_ORDERS,
    REASON_UNKNOWN_SYMBOL,
    SIDE_BUY,
    SIDE_SELL,
    TIME_IN_FORCE_FOK,
)
from ipc.records import make_id
from ipc.vocabulary import PREVENTION_SHIFT


class NewOrders(Matching):
    """Carries NEW out."""

    def _new(self, command: Command) -> Steps:
        book = self._books.get(command.symbol)
        reason = self._check_new(command, book)
        if reason != REASON_NONE or book is None:
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
            command.flags & FLAG_POST_ONLY | command.self_trade_prevention << PREVENTION_SHIFT,
            command.price,
            command.quantity,
            stop_price=command.stop_price,
            display_quantity=command.display_quantity,
        )
        if counts(command):
            given = (command.time_in_force, command.expire_time_ns)
            now = command.timestamp_ns
            order.expire_time_ns = expire_time(*given, now, book.limits.day_end_s)
        if order.display_quantity or order.expire_time_ns:
            order.flags |= FLAG_RARE
        self._orders[order.order_id] = order
        self._ids.remember(order)
        if order.expire_time_ns:
            self._expiries.add((order.expire_time_ns, order.order_id))
        if self._is_due(command):
            self._answer(command, order, EXEC_TYPE_NEW)
            return self._expire(command, order, command.request_id)
        reason = self._price_at_best(book, order)
        minimum = command.minimum_quantity
        if reason == REASON_NONE and minimum and not book.can_fill(order, minimum):
            reason = REASON_MINIMUM_UNFILLED
        if reason != REASON_NONE:
            self._answer(command, order, EXEC_TYPE_NEW)
            return self._cancel(command, order, reason, command.request_id)
        if order.stop_price:
            return self._wait(command, book, order, EXEC_TYPE_NEW)
        self._answer(command, order, EXEC_TYPE_NEW)
        if order.time_in_force == TIME_IN_FORCE_FOK and not book.can_fill(order, order.leaves_qty):
            return self._cancel(command, order, REASON_FOK_UNFILLED, command.request_id)
        return self._enter(command, book, order)

    def _price_at_best(self, book: PriceLevels, order: Order) -> int:
        """Give an order its limit, where that comes of the best price; return 0, or why it ends."""
        if not takes_best(order.order_type):
            return REASON_NONE
        best_price = book.best_price(SIDE_SELL if order.side == SIDE_BUY else SIDE_BUY)
        if not best_price:
            return REASON_MARKET_REMAINDER
        order.price = limit_from_best(order.side, best_price, order.price)
        return REASON_NONE

    def _check_new(self, command: Command, book: PriceLevels | None) -> int:
        if book is None:
            return REASON_UNKNOWN_SYMBOL
        side, order_type, price = command.side, command.order_type, command.price
        time_in_force, flags = command.time_in_force, command.flags
        _, low, high, max_resting_orders, max_account_orders, _ = book.limits
        terms = (side, order_type, time_in_force, flags)
        amounts = (price, command.quantity, command.stop_price, command.display_quantity)
        further = (command.expire_time_ns, command.minimum_quantity, command.self_trade_prevention)
        reason = check_new(*terms, *amounts, *further, low, high)
        if reason != REASON_NONE:
            return reason
        if self._first_order_id(command):
            return REASON_DUPLICATE_CLIENT_ORDER_ID
        stays = counts(command)
        if stays and book.live_orders >= max_resting_orders:
            return REASON_BOOK_FULL
        if stays and book.account_orders[command.account] >= max_account_orders:
            return REASON_TOO_MANY_ORDERS
        if flags & FLAG_POST_ONLY and book.crosses(side, order_type, price):
            return REASON_POST_ONLY_WOULD_TRADE
        return REASON_NONE


def counts(command: Command) -> bool:
    """Tell whether a new order waits or can rest: then it counts for the bounds, and expires."""
    return command.stop_price != 0 or can_rest(command.order_type, command.time_in_force)
