"""Orders that wait for a stop price, and what triggers them: seldom used, and so kept apart.

They stand in two sides of their own of each instrument (``layout.WAITING``), whose levels are stop
prices: so such an order takes no more room than another. A command that its trades make trigger
some is not finished until all have entered; how far that is says STATE, so that it can stop where a
buffer is full.
"""

import numpy as np

from engine.books import rules
from engine.books.ladder import cursor, holdings, matching, reports
from engine.books.ladder.layout import (
    COUNTING,
    FINISHED,
    SIDES,
    SWEEPING,
    TRIGGERING,
    WAITING,
)
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    Output,
    Row,
    cause_at,
    instrument_at,
    instrument_of_side,
    kept_apart,
    level_at,
    open_book,
    order_at,
    side_at,
    signed,
    state_at,
)
from engine.books.ladder.new_orders import (
    accept,
    check_kind,
    check_room,
    first_order_id,
    instrument_of,
    reject,
)
from ipc.codes import (
    COMMAND_TYPE_CANCEL,
    COMMAND_TYPE_REDUCE,
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_NEW,
    EXEC_TYPE_REPLACED,
    EXEC_TYPE_TRIGGERED,
    FLAG_KEEP_PRICE,
    FLAG_KEEP_QUANTITY,
    FLAG_REINSERT,
    FLAG_TRIGGERED,
    LIQUIDITY_NONE,
    REASON_CANCEL_REQUESTED,
    REASON_DUPLICATE_CLIENT_ORDER_ID,
    REASON_NONE,
    SIDE_BUY,
)
from ipc.native.compiled import called, inlined

_ZERO = np.uint64(0)
_NO_SLOT = np.uint32(0)
_TRIGGERED_BIT = np.uint32(FLAG_TRIGGERED << 24)


# The index ---------------------------------------------------------------------------------------


@inlined
def stop_price_of(book: Book, side: Int, slot: Int) -> Int:
    """Return the stop price of an order that waits."""
    return level_at(book, order_at(book, slot).level).key ^ side_at(book, side).flip


@inlined
def entering_side(book: Book, side: Int, slot: Int) -> Int:
    """Return the side that an order enters which waits on one of its instrument."""
    first = signed(side) & -SIDES
    return first + reports.side_of(signed(order_at(book, slot).kind_bits)) - SIDE_BUY


@inlined
def waits_for_rise(book: Book, slot: Int) -> Bool:
    kind_bits = signed(order_at(book, slot).kind_bits)
    return rules.waits_for_rise(reports.order_type_of(kind_bits), reports.side_of(kind_bits))


@called
def wait(address: Int, side: Int, slot: Int, stop_price: Int) -> None:
    """Let an order wait that is to enter a side."""
    kept_apart()
    book = open_book(address, False, False)
    state = state_at(book.state)
    side_at(book, side).order_count += 1
    instrument_at(book, instrument_of_side(side)).waiting += 1
    if state.watching & COUNTING:
        holdings.note(address, order_at(book, slot).account, side, 1)
    place = (signed(side) & -SIDES) + WAITING
    if not waits_for_rise(book, slot):
        place += 1
    waiting = side_at(book, place)
    waiting.order_count += 1
    matching.join(book, place, stop_price ^ waiting.flip, slot)


@called
def withdraw(address: Int, side: Int, slot: Int) -> Int:
    """Take an order out that waits; return its stop price. ``side`` is where it does."""
    kept_apart()
    book = open_book(address, False, False)
    stop_price = stop_price_of(book, side, slot)
    matching.leave(book, side, slot)
    side_at(book, entering_side(book, side, slot)).order_count -= 1
    instrument_at(book, instrument_of_side(side)).waiting -= 1
    return stop_price


@inlined
def leave(book: Book, side: Int, slot: Int) -> Int:
    """Take an order out of its queue, wherever it is; return the stop price that it waited for."""
    if side & WAITING:
        return withdraw(book.state, side, slot)
    matching.leave(book, side, slot)
    return 0


# Commands ----------------------------------------------------------------------------------------


@called
def new(
    address: Int, output: Output, command: Row, hash32: Int, accounts: Bool, duplicates: Bool
) -> Bool:
    """Carry out NEW with a stop price, or of no order_type; its symbol is one of the shard."""
    kept_apart()
    book = open_book(address, accounts, duplicates)
    kind_bits = reports.kind_bits_of(command.head)
    instrument = instrument_of(book, reports.symbol_of(command.head))
    reason = check_kind(book, command, instrument, kind_bits)
    repeated = book.duplicates and first_order_id(book, hash32, command, instrument) != 0
    if reason == REASON_NONE and repeated:
        reason = REASON_DUPLICATE_CLIENT_ORDER_ID
    bound = instrument_at(book, instrument).max_account_orders
    if reason == REASON_NONE and holdings.resting_orders(book, instrument) >= bound:
        reason = check_room(address, command.account, instrument)
    if reason != REASON_NONE:
        reject(book, output, command, hash32, reason)
        return True
    slot = accept(book, command, instrument, hash32, kind_bits)
    side = instrument * SIDES + reports.side_of(kind_bits) - SIDE_BUY
    stop_price = signed(command.stop_price)
    return answer_and_wait(book, output, command, side, slot, EXEC_TYPE_NEW, stop_price)


@called
def change(
    address: Int,
    output: Output,
    command: Row,
    side: Int,
    slot: Int,
    accounts: Bool,
    duplicates: Bool,
) -> Bool:
    """Carry out CANCEL, REPLACE or REDUCE of an order that waits on a side."""
    kept_apart()
    book = open_book(address, accounts, duplicates)
    order = order_at(book, slot)
    instrument = instrument_at(book, instrument_of_side(side))
    state_at(book.state).symbol = instrument.symbol
    stop_price = stop_price_of(book, side, slot)
    command_type = reports.command_type_of(command.head)
    quantity = signed(command.quantity)
    if command_type == COMMAND_TYPE_CANCEL or (
        command_type == COMMAND_TYPE_REDUCE and quantity >= order.leaves_qty
    ):
        withdraw(address, side, slot)
        answer(book, output, command, slot, EXEC_TYPE_CANCELED, REASON_CANCEL_REQUESTED, stop_price)
        matching.end_order(book, side, slot)
        return True
    if command_type == COMMAND_TYPE_REDUCE:
        matching.take_quantity(book, slot, quantity)
        answer(book, output, command, slot, EXEC_TYPE_REPLACED, REASON_NONE, stop_price)
        return True
    flags = reports.flags_of(reports.kind_bits_of(command.head))
    price = order.price if flags & FLAG_KEEP_PRICE else signed(command.price)
    quantity = order.leaves_qty if flags & FLAG_KEEP_QUANTITY else quantity
    wanted = stop_price if command.stop_price == _ZERO else signed(command.stop_price)
    order_type = reports.order_type_of(signed(order.kind_bits))
    band = (instrument.min_price, instrument.max_price)
    reason = rules.check_waiting(order_type, flags, price, wanted, *band)
    if reason != REASON_NONE:
        reports.reject(book, output, command, command.order_id, reason)
        return True
    same_prices = price == order.price and wanted == stop_price
    if flags & FLAG_REINSERT == 0 and same_prices and quantity < order.leaves_qty:
        matching.take_quantity(book, slot, order.leaves_qty - quantity)
        answer(book, output, command, slot, EXEC_TYPE_REPLACED, REASON_NONE, stop_price)
        return True
    withdraw(address, side, slot)
    order.price = price
    order.leaves_qty = quantity
    side = entering_side(book, side, slot)
    return answer_and_wait(book, output, command, side, slot, EXEC_TYPE_REPLACED, wanted)


@inlined
def answer(
    book: Book,
    output: Output,
    command: Row,
    slot: Int,
    exec_type: Int,
    reason: Int,
    stop_price: Int,
) -> None:
    on_order = (exec_type, reason, command.request_id, LIQUIDITY_NONE)
    reports.report_order(book, output, command, slot, *on_order, stop_price, 0, 0, 1)


@inlined
def answer_and_wait(
    book: Book,
    output: Output,
    command: Row,
    side: Int,
    slot: Int,
    exec_type: Int,
    stop_price: Int,
) -> Bool:
    """Answer, and let an order wait, or trigger where its stop price is reached.

    False where a buffer is full.
    """
    state = state_at(book.state)
    last_price = instrument_at(book, instrument_of_side(side)).last_price
    reached = rules.is_reached(waits_for_rise(book, slot), stop_price, last_price)
    if reached:
        order_at(book, slot).kind_bits |= _TRIGGERED_BIT
    answer(book, output, command, slot, exec_type, REASON_NONE, stop_price)
    if not reached:
        wait(book.state, side, slot, stop_price)
        return True
    begin(book, command, side)
    state.trigger_slot = slot
    state.trigger_price = stop_price
    return go_on(book.state, output, book.accounts, book.duplicates)


# Triggering --------------------------------------------------------------------------------------


@inlined
def begin(book: Book, command: Row, side: Int) -> None:
    """Let a command, which concerns a side, go on with what triggers."""
    state = state_at(book.state)
    cause = cause_at(book, 0)
    cause.head = command.head
    cause.request_id = command.request_id
    cause.timestamp_ns = command.timestamp_ns
    state.unfinished = TRIGGERING
    state.round_high = 0
    state.trigger_side = side
    state.trigger_slot = _NO_SLOT


@called
def trigger_reached(
    address: Int, output: Output, command: Row, side: Int, accounts: Bool, duplicates: Bool
) -> Bool:
    """Trigger what the trades of a command have reached; False where a buffer is full."""
    kept_apart()
    book = open_book(address, accounts, duplicates)
    begin(book, command, side)
    return go_on(address, output, accounts, duplicates)


@called
def go_on(address: Int, output: Output, accounts: Bool, duplicates: Bool) -> Bool:
    """Go on with the command that triggers orders; False where a buffer is full."""
    kept_apart()
    book = open_book(address, accounts, duplicates)
    state = state_at(book.state)
    cause = cause_at(book, 0)
    while True:
        if state.trigger_slot == 0:
            cause.request_id = _ZERO
            if not find_next(book):
                break
        slot = state.trigger_slot
        if state.trigger_price != 0:
            if not reports.has_room(book, output, 1):
                return False
            on_order = (EXEC_TYPE_TRIGGERED, REASON_NONE, cause.request_id, LIQUIDITY_NONE)
            last = (state.trigger_price, 0, 0, 0)
            reports.report_order(book, output, cause, slot, *on_order, *last)
            state.trigger_price = 0
        if not matching.enter(book, output, cause, state.trigger_side, slot):
            return False
        state.trigger_slot = _NO_SLOT
    state.unfinished = FINISHED
    return True


@inlined
def find_next(book: Book) -> Bool:
    """Take out the order that triggers next; False where none does."""
    state = state_at(book.state)
    rise_side = state.trigger_side & ~1 | WAITING
    rise, fall = side_at(book, rise_side), side_at(book, rise_side + 1)
    while True:
        if state.round_high != 0:
            if rise.best_key <= state.round_high:
                take_out(book, rise_side)
                return True
            if fall.best_key <= state.round_low ^ fall.flip:
                take_out(book, rise_side + 1)
                return True
        if state.traded_high == 0:
            return False
        state.round_low = state.traded_low
        state.round_high = state.traded_high
        state.traded_high = 0


@inlined
def take_out(book: Book, side: Int) -> None:
    """Take out the first order that waits on a side, to be the next that enters."""
    state = state_at(book.state)
    slot = level_at(book, side_at(book, side).best_level).oldest
    if state.watching & SWEEPING:
        cursor.trigger(book, slot, instrument_of_side(side))
    state.trigger_price = withdraw(book.state, side, slot)
    state.trigger_side = entering_side(book, side, slot)
    state.trigger_slot = slot
    order_at(book, slot).kind_bits |= _TRIGGERED_BIT
