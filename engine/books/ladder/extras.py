"""The side table: what only rare orders have, so that the node of any order stays one cache line.

An order that has a row there says so by ``reports.RARE_BIT`` in its kind_bits; a table beside the
nodes tells which row. As long as there are none, neither table takes memory.
"""

import numpy as np

from engine.books.ladder import links, reports
from engine.books.ladder.layout import NO_EXPIRY
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    Row,
    expiry_at,
    extra_at,
    kept_apart,
    open_book,
    order_at,
    place_at,
    signed,
    state_at,
)
from ipc.native.compiled import called, inlined

_NO_EXPIRY = np.uint64(NO_EXPIRY)


@inlined
def extra_of(book: Book, slot: Int) -> Row:
    """Return the row of an order that has one."""
    return extra_at(book, place_at(book, slot).extra)


@inlined
def take_extra(book: Book, slot: Int, display_quantity: Int, expire_time_ns: Int) -> None:
    """Give an order a row: there are as many as nodes."""
    state = state_at(book.state)
    number = state.free_extra
    if number != 0:
        state.free_extra = extra_at(book, number).next
    else:
        number = state.fresh_extra
        state.fresh_extra = number + 1
    place_at(book, slot).extra = number
    extra = extra_at(book, number)
    extra.slot = slot
    extra.display_quantity = display_quantity
    extra.hidden = 0
    extra.expire_time_ns = expire_time_ns
    extra.link = 0
    order_at(book, slot).kind_bits |= reports.RARE_BIT
    if expire_time_ns != 0:
        place = state.fresh_expiry
        state.fresh_expiry = place + 1
        settle(book.state, signed(place), number)


@called
def give_back(address: Int, slot: Int) -> None:
    """Take an order's row away, at its end, and give those that it is tied to what that means."""
    kept_apart()
    book = open_book(address, False, False)
    state = state_at(book.state)
    owner = place_at(book, slot)
    number = owner.extra
    extra = extra_at(book, number)
    if extra.link != 0:
        links.untie(address, slot)
    if extra.expire_time_ns != 0:
        place = extra.next
        count = state.fresh_expiry - 1
        last = expiry_at(book, count).extra
        state.fresh_expiry = count
        if count == 1:
            state.next_expiry_ns = _NO_EXPIRY
        elif last != number:
            settle(book.state, signed(place), last)
    extra.slot = 0
    extra.next = state.free_extra
    state.free_extra = number
    owner.extra = 0


@inlined
def is_sooner(book: Book, one: Int, other: Int) -> Bool:
    """Tell whether the order of a row expires before that of another: the older one at a time."""
    first, second = extra_at(book, one), extra_at(book, other)
    if first.expire_time_ns != second.expire_time_ns:
        return first.expire_time_ns < second.expire_time_ns
    return order_at(book, first.slot).order_id < order_at(book, second.slot).order_id


@inlined
def put(book: Book, place: Int, number: Int) -> None:
    expiry_at(book, place).extra = number
    extra_at(book, number).next = place


@called
def settle(address: Int, place: Int, number: Int) -> None:
    """Put a row into the heap of those that expire: at a place that is free, or where it belongs
    above or below that."""
    kept_apart()
    book = open_book(address, False, False)
    state = state_at(book.state)
    count = signed(state.fresh_expiry) - 1
    at = signed(place)
    while at > 1 and is_sooner(book, number, expiry_at(book, at >> 1).extra):
        put(book, at, expiry_at(book, at >> 1).extra)
        at >>= 1
    while 2 * at <= count:
        child = 2 * at
        first = expiry_at(book, child).extra
        if child < count and is_sooner(book, expiry_at(book, child + 1).extra, first):
            child += 1
            first = expiry_at(book, child).extra
        if not is_sooner(book, first, number):
            break
        put(book, at, first)
        at = child
    put(book, at, number)
    soonest = extra_at(book, expiry_at(book, 1).extra).expire_time_ns
    state.next_expiry_ns = np.uint64(soonest)


@inlined
def needs_care(extra: Row) -> Bool:
    """Tell whether who trades with such an order that rests must look at its row."""
    return (extra.display_quantity != 0) | (extra.link != 0)


@inlined
def display_of(book: Book, slot: Int) -> Int:
    """Return the display_quantity of an order; 0: all of it is shown."""
    if reports.is_rare(signed(order_at(book, slot).kind_bits)):
        return extra_of(book, slot).display_quantity
    return 0


@inlined
def link_of(book: Book, slot: Int) -> Int:
    """Return whom an order is tied to: ``engine.books.rules``."""
    if reports.is_rare(signed(order_at(book, slot).kind_bits)):
        return signed(extra_of(book, slot).link)
    return 0


@inlined
def hidden_of(book: Book, slot: Int) -> Int:
    """Return what is left of an order beyond its node's leaves_qty, and stands in no depth."""
    if reports.is_rare(signed(order_at(book, slot).kind_bits)):
        return extra_of(book, slot).hidden
    return 0
