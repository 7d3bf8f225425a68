"""MASS_CANCEL: the account's orders, found by going through a side from its best order on."""

import numpy as np

from engine.ladder import answers, matching, prices
from engine.ladder.layout import CANCELING, FINISHED, NO_KEY
from engine.ladder.memory import (
    Book,
    Bool,
    Int,
    Output,
    Row,
    called,
    inlined,
    instrument_at,
    level_at,
    open_book,
    order_at,
    side_at,
    signed,
    state_at,
    symbol_at,
)
from ipc.vocabulary import Reason

_UNKNOWN_SYMBOL = int(Reason.UNKNOWN_SYMBOL)
_MASS_CANCEL = int(Reason.MASS_CANCEL)
_ZERO = np.uint64(0)
_NO_SLOT = np.uint32(0)


@inlined
def first_slot(book: Book, side: Int) -> Int:
    """Return the best, oldest order of a side, or 0."""
    record = side_at(book, side)
    return level_at(book, record.best_level).oldest if record.best_level != 0 else _NO_SLOT


@inlined
def next_slot(book: Book, side: Int, slot: Int) -> Int:
    """Return the order of a side that comes after one, or 0."""
    order = order_at(book, slot)
    if order.next != 0:
        return order.next
    key = prices.next_key(book, side, level_at(book, order.level).key + 1)
    if key == NO_KEY:
        return _NO_SLOT
    return level_at(book, prices.find_level(book, side, key)).oldest


@inlined
def start(book: Book, command: Row) -> Bool:
    """Note which sides to sweep; False where the symbol is not one."""
    state = state_at(book.state)
    symbol = answers.symbol_of(command.head)
    instrument = signed(symbol_at(book, symbol).instrument) - 1
    if symbol != 0 and instrument < 0:
        return False
    first_side = 0 if symbol == 0 else instrument * 2
    state.unfinished = CANCELING
    state.unfinished_side = first_side
    state.unfinished_end = state.instrument_count * 2 if symbol == 0 else first_side + 2
    state.unfinished_slot = first_slot(book, first_side)
    state.canceled_orders = 0
    return True


@inlined
def cancel_one(book: Book, output: Output, command: Row, side: Int, slot: Int) -> None:
    state = state_at(book.state)
    state.symbol = instrument_at(book, side >> 1).symbol
    matching.leave(book, side, slot)
    on_order = (answers.CANCELED, _MASS_CANCEL, _ZERO, answers.NO_LIQUIDITY)
    answers.report_order(book, output, command, slot, *on_order, 0, 0, 0)
    matching.end_order(book, side, slot)
    state.canceled_orders += 1


@called
def mass_cancel(
    address: Int, output: Output, command: Row, accounts: Bool, duplicates: Bool
) -> Bool:
    """Carry out MASS_CANCEL, or go on with it; False where a buffer is full before its end.

    ``unfinished_slot`` is the next order to look at, on side ``unfinished_side``.
    """
    book = open_book(address, accounts, duplicates)
    state = state_at(book.state)
    if state.unfinished == FINISHED and not start(book, command):
        answers.reject(book, output, command, command.order_id, _UNKNOWN_SYMBOL)
        return True
    while state.unfinished_side < state.unfinished_end:
        side, slot = state.unfinished_side, state.unfinished_slot
        if slot == 0:
            state.unfinished_side = side + 1
            if side + 1 < state.unfinished_end:
                state.unfinished_slot = first_slot(book, side + 1)
            continue
        own = order_at(book, slot).account == command.account
        if own and not answers.has_room(book, output, 1):
            return False
        state.unfinished_slot = next_slot(book, side, slot)
        if own:
            cancel_one(book, output, command, side, slot)
    if not answers.has_room(book, output, 1):
        return False
    answers.answer_mass_cancel(book, output, command)
    state.unfinished = FINISHED
    return True
