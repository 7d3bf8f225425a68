"""Orders that wait for a stop price, and what triggers them: seldom used, and so kept apart.

They stand in two sides of their own of each instrument (``layout.WAITING``), whose levels are stop
prices: so such an order takes no more room than another. A command that its trades make trigger
some is not finished until all have entered; how far that is says STATE, so that it can stop where a
buffer is full.
"""

import numpy as np

from engine.books import rules
from engine.books.ladder import cursor, extras, holdings, matching, queues, reports
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
from ipc.codes import EXEC_TYPE_TRIGGERED, FLAG_TRIGGERED, LIQUIDITY_NONE, REASON_NONE
from ipc.native.compiled import called, inlined

_ZERO = np.uint64(0)
_NO_SLOT = np.uint32(0)
TRIGGERED_BIT = np.uint32(FLAG_TRIGGERED << 24)


# The index ---------------------------------------------------------------------------------------


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
    queues.join(book, place, stop_price ^ waiting.flip, slot)


# Triggering --------------------------------------------------------------------------------------


@inlined
def begin(book: Book, command: Row, side: Int) -> None:
    """Let a command, which concerns a side, go on with what triggers, or with a rare order."""
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
    """Go on with the command that triggers orders, or whose own is rare: let that enter first.

    False where a buffer is full.
    """
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
            last = (state.trigger_price, extras.display_of(book, slot), 0, 0)
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
    state.trigger_price = queues.withdraw(book.state, side, slot)
    state.trigger_side = queues.entering_side(book, side, slot)
    state.trigger_slot = slot
    order_at(book, slot).kind_bits |= TRIGGERED_BIT
