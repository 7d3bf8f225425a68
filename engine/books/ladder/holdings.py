"""How many orders each account has resting in a symbol, counted where that can matter.

An account cannot have reached its bound while fewer orders rest in the symbol altogether. So
nothing is counted until that many do; then all of the symbol's orders are, and from there on each
that comes to rest or leaves. When half of them have gone it is given up again.

The counts stand in an open-addressed hash by account and instrument, keyed with the shard's secret.
One that has come to nothing stays until the table is made anew: before it is half full.
"""

import numpy as np

from engine.books.ladder.layout import COUNTING, SIDES
from engine.books.ladder.memory import (
    Book,
    Int,
    Row,
    holding_at,
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
from engine.books.ladder.order_index import following, home_of
from ipc.native.compiled import called, inlined

_HALF = np.uint64(32)


@inlined
def resting_orders(book: Book, instrument: Int) -> Int:
    """Return how many orders rest in an instrument, or wait."""
    bids = side_at(book, instrument * SIDES)
    return bids.order_count + side_at(book, instrument * SIDES + 1).order_count


@inlined
def find(book: Book, account: Int, instrument: Int) -> Row:
    """Return the row of an account, or the free one where it would be."""
    mixed = account * book.account_factor + np.uint64(instrument) * book.symbol_factor
    mixed ^= mixed >> _HALF
    mixed *= book.last_factor
    entries = state_at(book.state).holding_entries
    index = home_of(mixed >> _HALF, entries)
    row = holding_at(book, index)
    place = instrument + 1
    while row.place != 0 and (row.account != account or row.place != place):
        index = following(index, entries)
        row = holding_at(book, index)
    return row


@inlined
def change(book: Book, account: Int, instrument: Int, by: Int) -> None:
    row = find(book, account, instrument)
    if row.place == 0:
        row.account = account
        row.place = instrument + 1
        state_at(book.state).holdings_used += 1
    row.orders += by


@called
def recount(address: Int) -> None:
    """Count anew for each instrument that is counted."""
    kept_apart()
    book = open_book(address, True, True)
    state = state_at(book.state)
    for index in range(state.holding_entries):
        row = holding_at(book, index)
        row.place = 0
        row.orders = 0
    state.holdings_used = 0
    for slot in range(1, state.fresh_order):
        order = order_at(book, slot)
        if order.order_id != 0 and order.level != 0:
            instrument = instrument_of_side(level_at(book, order.level).side)
            if instrument_at(book, instrument).counted != 0:
                change(book, order.account, instrument, 1)


@called
def orders_of(address: Int, account: Int, instrument: Int) -> Int:
    """Return how many orders of an account rest in an instrument, which is counted from now on."""
    kept_apart()
    book = open_book(address, True, True)
    state = state_at(book.state)
    limits = instrument_at(book, instrument)
    if limits.counted == 0:
        limits.counted = 1
        state.counted_instruments += 1
        state.watching |= COUNTING
        recount(address)
    return find(book, account, instrument).orders


@called
def note(address: Int, account: Int, side: Int, by: Int) -> None:
    """An order of an account has come to rest on a side (1), or leaves it (-1)."""
    kept_apart()
    book = open_book(address, True, True)
    state = state_at(book.state)
    instrument = instrument_of_side(side)
    limits = instrument_at(book, instrument)
    if limits.counted == 0:
        return
    if 2 * resting_orders(book, instrument) < limits.max_account_orders:
        limits.counted = 0
        state.counted_instruments -= 1
        if state.counted_instruments == 0:
            state.watching &= ~COUNTING
        return
    if 2 * state.holdings_used + 2 > signed(state.holding_entries):
        recount(address)  # the order at hand is not in its queue yet, or still
    change(book, account, instrument, by)
