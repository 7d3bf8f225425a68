"""MASS_CANCEL: the account's orders, found by going through the books from the best order on.

Those under way stand in a queue of COMMAND records (``engine.books.contract.Book.sweeps``): the
commands as they came, but for ``order_id``, ``quantity``, ``price`` and ``stop_price``.
"""

import numpy as np

from engine.books.ladder import cursor, extras, lists, queues, reports, stops
from engine.books.ladder.layout import CANCELING, FINISHED, SWEEPING
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    Output,
    Row,
    instrument_at,
    instrument_of_side,
    kept_apart,
    level_at,
    open_book,
    order_at,
    signed,
    state_at,
    sweep_at,
    symbol_at,
)
from engine.books.rules import MAX_SWEEPS, SWEEP_ORDERS
from ipc.codes import (
    ADMINISTRATION_NAME,
    COMMAND_TYPE_MASS_CANCEL,
    COMMAND_TYPE_NEW_BRACKET,
    EXEC_TYPE_CANCELED,
    FLAG_CONTINUE,
    LIQUIDITY_NONE,
    REASON_INVALID_COMMAND,
    REASON_MASS_CANCEL,
    REASON_UNKNOWN_SYMBOL,
)
from ipc.native.compiled import called, inlined

_ZERO, _ONE = np.uint64(0), np.uint64(1)
_ALL = 1 << 62
"""More orders than there are."""


@inlined
def copy_sweep(sweep: Row, command: Row) -> None:
    sweep.head = command.head
    sweep.request_id = command.request_id
    sweep.account = command.account
    sweep.order_id = command.order_id
    sweep.client_order_id = command.client_order_id
    sweep.price = command.price
    sweep.quantity = command.quantity
    sweep.timestamp_ns = command.timestamp_ns
    sweep.stop_price = command.stop_price
    sweep.display_quantity = command.display_quantity


@inlined
def enqueue(book: Book, output: Output, command: Row) -> Bool:
    """Put a new mass cancel into the queue; return whether it is the first, with all to do.

    One of the same account and symbol that is under way is answered, and goes on as this one.
    """
    state = state_at(book.state)
    place = 0
    while place < state.sweep_count:
        sweep = sweep_at(book, place)
        of_symbol = reports.symbol_of(sweep.head) == reports.symbol_of(command.head)
        if sweep.account == command.account and of_symbol:
            break
        place += 1
    sweep = sweep_at(book, place)
    again = place < state.sweep_count
    begun = sweep.stop_price if again else _ZERO
    if again:
        sweep.timestamp_ns = command.timestamp_ns
        reports.answer_mass_cancel(book, output, sweep)
    else:
        state.sweep_count += 1
        state.watching |= SWEEPING
    copy_sweep(sweep, command)
    sweep.order_id = np.uint64(state.shard_bits | state.order_sequence)
    sweep.client_order_id = _ZERO
    sweep.price = begun  # what it has passed it has to look at again
    sweep.quantity = _ZERO
    sweep.stop_price = begun
    sweep.display_quantity = _ZERO
    return state.sweep_count == 1 and not again


@inlined
def dequeue(book: Book) -> None:
    state = state_at(book.state)
    state.sweep_count -= 1
    if state.sweep_count == 0:
        state.watching &= ~SWEEPING
    for place in range(state.sweep_count):
        copy_sweep(sweep_at(book, place), sweep_at(book, place + 1))


@inlined
def cancel_one(book: Book, output: Output, sweep: Row, slot: Int) -> None:
    state = state_at(book.state)
    side = signed(level_at(book, order_at(book, slot).level).side)
    state.symbol = instrument_at(book, instrument_of_side(side)).symbol
    stop_price = queues.withdraw(book.state, side, slot)
    on_order = (EXEC_TYPE_CANCELED, REASON_MASS_CANCEL, _ZERO, LIQUIDITY_NONE)
    last = (stop_price, extras.display_of(book, slot), 0, 0)
    reports.report_order(book, output, sweep, slot, *on_order, *last)
    queues.end_order(book, side, slot)
    sweep.quantity += _ONE


@inlined
def look(book: Book, output: Output, sweep: Row) -> Bool:
    """Look at orders, as many as the command still may; False where a buffer is full."""
    state = state_at(book.state)
    while True:
        if state.first_due != 0 and not stops.settle(book.state, output, sweep):
            return False
        if state.sweep_slot == 0 or state.sweep_looks <= 0:
            break
        slot = state.sweep_slot
        order = order_at(book, slot)
        own = order.account == sweep.account and order.order_id <= signed(sweep.order_id)
        if own and not reports.has_room(book, output, 1):
            return False
        cursor.pass_over(book.state)
        state.sweep_looks -= 1
        if own:
            cancel_one(book, output, sweep, slot)
    return True


@inlined
def start(book: Book, output: Output, command: Row) -> Bool:
    """Take a command in; False where nothing more is to be done for it."""
    state = state_at(book.state)
    state.sweep_looks = SWEEP_ORDERS
    if reports.flags_of(reports.kind_bits_of(command.head)) & FLAG_CONTINUE:
        return state.sweep_count != 0
    symbol = reports.symbol_of(command.head)
    if symbol != 0 and symbol_at(book, symbol).instrument == 0:
        reports.reject(book, output, command, command.order_id, REASON_UNKNOWN_SYMBOL)
        return False
    if enqueue(book, output, command):
        return True
    if state.sweep_count <= MAX_SWEEPS:
        return False
    state.sweep_looks = _ALL
    return True


@called
def others(address: Int, output: Output, command: Row, accounts: Bool, duplicates: Bool) -> Bool:
    """Carry out what is none of the commonest commands, or go on with it; False where a buffer is
    full before its end."""
    kept_apart()
    command_type = reports.command_type_of(command.head)
    features = (accounts, duplicates)
    if command_type == COMMAND_TYPE_MASS_CANCEL:
        return mass_cancel(address, output, command, *features)
    book = open_book(address, *features)
    if state_at(book.state).unfinished != FINISHED:
        return stops.go_on(address, output, *features)
    if command_type == ADMINISTRATION_NAME:
        state_at(book.state).named = np.uint32(1)
        return True
    if command_type > COMMAND_TYPE_NEW_BRACKET:
        reports.reject(book, output, command, command.order_id, REASON_INVALID_COMMAND)
        return True
    return lists.new_list(address, output, command, *features)


@called
def mass_cancel(
    address: Int, output: Output, command: Row, accounts: Bool, duplicates: Bool
) -> Bool:
    """Carry out MASS_CANCEL, or go on with it; False where a buffer is full before its end."""
    kept_apart()
    book = open_book(address, accounts, duplicates)
    state = state_at(book.state)
    if state.unfinished == FINISHED:
        if not start(book, output, command):
            return True
        state.unfinished = CANCELING
    sweep = sweep_at(book, 0)
    sweep.timestamp_ns = command.timestamp_ns
    if sweep.stop_price == _ZERO:
        sweep.stop_price = _ONE
        cursor.begin(book.state)
    while True:
        if not look(book, output, sweep):
            return False
        if state.sweep_slot != 0:
            break
        if sweep.price == _ZERO:
            if not reports.has_room(book, output, 1):
                return False
            reports.answer_mass_cancel(book, output, sweep)
            dequeue(book)
            break
        sweep.price = _ZERO
        cursor.begin(book.state)
    state.unfinished = FINISHED
    return True
