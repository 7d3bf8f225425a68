"""Going through the books, order by order: where a mass cancel stands, whatever happens meanwhile.

The order that is looked at next is ``state.sweep_slot``; one that leaves its queue is passed over
first (``queues.leave``), so the cursor always rests on an order that rests, or is at the end: 0.
"""

import numpy as np

from engine.books.ladder import prices, reports
from engine.books.ladder.layout import NO_KEY, SIDES
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    Row,
    instrument_of_side,
    kept_apart,
    level_at,
    open_book,
    order_at,
    side_at,
    signed,
    state_at,
    sweep_at,
    symbol_at,
)
from ipc.native.compiled import called, inlined

_NO_SLOT = np.uint32(0)
_ZERO, _ONE = np.uint64(0), np.uint64(1)


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
def instrument_of_sweep(book: Book, sweep: Row) -> Int:
    """Return the number of the instrument that a mass cancel is for, or -1: all of them."""
    return signed(symbol_at(book, reports.symbol_of(sweep.head)).instrument) - 1


@inlined
def first_from(book: Book, side: Int, end: Int) -> Int:
    """Return the first order of the sides from one on up to ``end``, or 0."""
    slot = _NO_SLOT
    while slot == 0 and side < end:
        slot = first_slot(book, side)
        side += 1
    return slot


@called
def begin(address: Int) -> None:
    """Set the cursor to the first order that the oldest mass cancel has to look at."""
    kept_apart()
    book = open_book(address, False, False)
    state = state_at(book.state)
    instrument = instrument_of_sweep(book, sweep_at(book, 0))
    side = max(0, instrument * SIDES)
    end = state.instrument_count * SIDES if instrument < 0 else side + SIDES
    state.sweep_slot = first_from(book, side, end)


@called
def pass_over(address: Int) -> None:
    """Set the cursor to the order after the one that it is on."""
    kept_apart()
    book = open_book(address, False, False)
    state = state_at(book.state)
    slot = state.sweep_slot
    side = signed(level_at(book, order_at(book, slot).level).side)
    following = next_slot(book, side, slot)
    if following == 0:
        instrument = instrument_of_sweep(book, sweep_at(book, 0))
        end = (state.instrument_count if instrument < 0 else instrument + 1) * SIDES
        following = first_from(book, side + 1, end)
    state.sweep_slot = following


@inlined
def dooms(book: Book, sweep: Row, slot: Int, instrument: Int) -> Bool:
    """Tell whether a mass cancel is to take an order of an instrument."""
    order = order_at(book, slot)
    wanted = instrument_of_sweep(book, sweep)
    of_symbol = wanted < 0 or wanted == instrument
    own = sweep.account == order.account
    return own and of_symbol and order.order_id <= signed(sweep.order_id)


@called
def is_doomed(address: Int, slot: Int) -> Bool:
    """Tell whether a mass cancel that is under way is to take an order."""
    kept_apart()
    book = open_book(address, True, True)
    state = state_at(book.state)
    instrument = instrument_of_side(level_at(book, order_at(book, slot).level).side)
    for place in range(state.sweep_count):
        if dooms(book, sweep_at(book, place), slot, instrument):
            return True
    return False


@inlined
def trigger(book: Book, slot: Int, instrument: Int) -> None:
    """An order leaves those that wait, for where a mass cancel may have been already."""
    sweep = sweep_at(book, 0)
    begun = state_at(book.state).sweep_count != 0 and sweep.stop_price != _ZERO
    if begun and dooms(book, sweep, slot, instrument):
        sweep.price = _ONE
