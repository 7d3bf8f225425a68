"""What NEW and REPLACE need before an order enters, whatever its type."""

import numpy as np

from engine.books import rules
from engine.books.ladder import holdings, kept_ids, order_index, queues, reports
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    Output,
    Row,
    instrument_at,
    instrument_of_side,
    kept_apart,
    open_book,
    order_at,
    side_at,
    signed,
    state_at,
    symbol_at,
    unlikely,
)
from ipc.codes import (
    FLAG_KEEP_PRICE,
    FLAG_KEEP_QUANTITY,
    FLAG_POST_ONLY,
    FLAG_REINSERT,
    ORDER_TYPE_LIMIT,
    REASON_ALREADY_FILLED,
    REASON_BOOK_FULL,
    REASON_DUPLICATE_CLIENT_ORDER_ID,
    REASON_INVALID_QUANTITY,
    REASON_NONE,
    REASON_POST_ONLY_WOULD_TRADE,
    REASON_TOO_MANY_ORDERS,
)
from ipc.native.compiled import called, called_too, inlined
from ipc.vocabulary import MAX_QUANTITY

_ZERO = np.uint64(0)

called_too(
    rules.is_priceless,
    rules.check_quantity,
    rules.check_price_quantity,
    rules.check_replace,
    rules.check_band,
    rules.check_stop_price,
    rules.check_waiting,
    rules.waits_for_rise,
    rules.is_reached,
    rules.can_rest,
    rules.takes_best,
    rules.limit_from_best,
    rules.check_minimum,
    rules.check_expire_time,
    rules.expire_time,
    rules.is_display_quantity,
    rules.check_new_display,
    rules.check_display,
    rules.check_new,
    rules.can_change,
    rules.is_price,
    rules.check_exit,
    rules.is_name_of_list,
    rules.check_list,
)


@inlined
def instrument_of(book: Book, symbol: Int) -> Int:
    """Return the number of a symbol's instrument, or -1."""
    return signed(symbol_at(book, symbol).instrument) - 1


@inlined
def first_order_id(book: Book, hash32: Int, command: Row, instrument: Int) -> Int:
    """Return the order_id remembered for a command's client_order_id, or 0."""
    account, client_order_id = command.account, command.client_order_id
    if client_order_id == _ZERO:
        return 0
    order_id = order_index.known_order_id(book, hash32, account, instrument, client_order_id)
    if unlikely(order_id != 0):
        return order_id
    return kept_ids.kept_order_id(book, hash32, account, instrument, client_order_id)


@inlined
def check_kind(book: Book, command: Row, instrument: Int, kind_bits: Int) -> Int:
    """Return 0, or the first Reason why a NEW command's own fields are not an order."""
    limits = instrument_at(book, instrument)
    return rules.check_new(
        reports.side_of(kind_bits),
        reports.order_type_of(kind_bits),
        reports.time_in_force_of(kind_bits),
        reports.flags_of(kind_bits),
        signed(command.price),
        signed(command.quantity),
        signed(command.stop_price),
        signed(command.display_quantity),
        signed(command.expire_time_ns),
        signed(command.minimum_quantity),
        reports.prevention_of_command(command.head),
        limits.min_price,
        limits.max_price,
    )


@called
def check_room(address: Int, account: Int, instrument: Int) -> Int:
    """Return 0, or the Reason why no further order of an account can rest."""
    kept_apart()
    book = open_book(address, True, True)
    limits = instrument_at(book, instrument)
    if holdings.resting_orders(book, instrument) >= limits.max_resting_orders:
        return REASON_BOOK_FULL
    bound = limits.max_account_orders
    if bound == limits.max_resting_orders:
        return REASON_NONE
    return (
        REASON_TOO_MANY_ORDERS
        if holdings.orders_of(address, account, instrument) >= bound
        else REASON_NONE
    )


@inlined
def accept(book: Book, command: Row, instrument: Int, hash32: Int, kind_bits: Int) -> Int:
    """Make a NEW command an order with an order_id; return its slot."""
    state = state_at(book.state)
    slot = queues.take_order(book)
    if unlikely(state.order_sequence & state.block_mask == 0):
        kept_ids.begin_block(book.state)
    state.order_sequence += 1
    order = order_at(book, slot)
    order.account = command.account
    order.client_order_id = command.client_order_id
    order.order_id = state.shard_bits | state.order_sequence
    order.price = signed(command.price)
    order.leaves_qty = signed(command.quantity)
    order.cum_qty = 0
    order.level = 0
    order.kind_bits = reports.order_terms(command.head)
    state.symbol = reports.symbol_of(command.head)
    account, client_order_id = command.account, command.client_order_id
    order_index.remember(book, hash32, account, instrument, client_order_id, slot)
    return slot


@inlined
def reject(book: Book, output: Output, command: Row, hash32: Int, reason: Int) -> None:
    """Answer a command that is not carried out; to a repeated one name the first order."""
    order_id = command.order_id
    if reason == REASON_DUPLICATE_CLIENT_ORDER_ID:
        instrument = instrument_of(book, reports.symbol_of(command.head))
        order_id = np.uint64(first_order_id(book, hash32, command, instrument))
    reports.reject(book, output, command, order_id, reason)


# REPLACE -----------------------------------------------------------------------------------------


@inlined
def amounts_of(order: Row, command: Row, left: Int) -> tuple[Int, Int]:
    """Return the price and the quantity that a REPLACE asks for, of an order with so much left: the
    open quantity with REINSERT, else the total."""
    flags = reports.flags_of(reports.kind_bits_of(command.head))
    price, quantity = signed(command.price), signed(command.quantity)
    if flags & FLAG_KEEP_PRICE:
        price = order.price
    if flags & FLAG_KEEP_QUANTITY:
        quantity = left if flags & FLAG_REINSERT else order.cum_qty + left
    return price, quantity


@inlined
def check_replace(
    book: Book, side: Int, slot: Int, price: Int, quantity: Int, reinsert: Bool
) -> Int:
    """Return 0, or the first Reason why an order cannot be replaced so."""
    order = order_at(book, slot)
    limits = instrument_at(book, instrument_of_side(side))
    reason = rules.check_band(ORDER_TYPE_LIMIT, price, limits.min_price, limits.max_price)
    if reason != REASON_NONE:
        return reason
    if not reinsert and quantity <= order.cum_qty:
        return REASON_ALREADY_FILLED
    if reinsert and order.cum_qty + quantity > MAX_QUANTITY:
        return REASON_INVALID_QUANTITY
    opposite = side_at(book, side ^ 1)
    post_only = reports.flags_of(signed(order.kind_bits)) & FLAG_POST_ONLY
    if post_only and opposite.best_key <= price ^ opposite.flip:
        return REASON_POST_ONLY_WOULD_TRADE
    return REASON_NONE
