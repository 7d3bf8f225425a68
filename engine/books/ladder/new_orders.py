"""What a NEW command needs before its order enters, whatever its type."""

import numpy as np
from numba.extending import register_jitable

from engine.books import rules
from engine.books.ladder import holdings, kept_ids, matching, order_index, reports
from engine.books.ladder.memory import (
    Book,
    Int,
    Output,
    Row,
    instrument_at,
    kept_apart,
    open_book,
    order_at,
    signed,
    state_at,
    symbol_at,
    unlikely,
)
from ipc.codes import (
    REASON_BOOK_FULL,
    REASON_DUPLICATE_CLIENT_ORDER_ID,
    REASON_NONE,
    REASON_TOO_MANY_ORDERS,
)
from ipc.native.compiled import called, inlined

_ZERO = np.uint64(0)

for _check in (
    rules.is_priceless,
    rules.check_quantity,
    rules.check_price_quantity,
    rules.check_replace,
    rules.check_band,
    rules.check_stop_price,
    rules.check_waiting,
    rules.waits_for_rise,
    rules.is_reached,
    rules.check_new,
):
    register_jitable(_check)


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
    slot = matching.take_order(book)
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
