"""Nodes and queues: an order is taken, rests or waits, leaves, and is let go of."""

from engine.books.ladder import cursor, extras, holdings, order_index, prices, reports
from engine.books.ladder.layout import COUNTING, SIDES, WAITING
from engine.books.ladder.memory import (
    Book,
    Int,
    instrument_at,
    instrument_of_side,
    kept_apart,
    level_at,
    open_book,
    order_at,
    side_at,
    signed,
    state_at,
    unlikely,
)
from engine.books.rules import HELD_PRICE
from ipc.codes import SIDE_BUY
from ipc.native.compiled import called, inlined

# Nodes -------------------------------------------------------------------------------------------


@inlined
def take_order(book: Book) -> Int:
    """Return a free node; the kernel's main loop has seen to it that there is one."""
    state = state_at(book.state)
    state.live_orders += 1
    slot = state.free_order
    if slot != 0:
        state.free_order = order_at(book, slot).next
        return slot
    slot = state.fresh_order
    state.fresh_order = slot + 1
    return slot


@inlined
def end_order(book: Book, side: Int, slot: Int) -> None:
    """Let go of an order that is in no level any more."""
    if unlikely(reports.is_rare(signed(order_at(book, slot).kind_bits))):
        extras.give_back(book.state, slot)
    order_index.forget(book, slot, instrument_of_side(side))
    state = state_at(book.state)
    order = order_at(book, slot)
    order.order_id = 0
    order.next = state.free_order
    state.free_order = slot
    state.live_orders -= 1


# Queues ------------------------------------------------------------------------------------------


@inlined
def rest(book: Book, side: Int, slot: Int) -> None:
    """Put an order at the back of the queue of its price."""
    order = order_at(book, slot)
    record = side_at(book, side)
    record.order_count += 1
    if unlikely(state_at(book.state).watching & COUNTING != 0):
        holdings.note(book.state, order.account, side, 1)
    join(book, side, order.price ^ record.flip, slot)


@inlined
def join(book: Book, side: Int, key: Int, slot: Int) -> None:
    """Put an order that is counted at the back of the queue of a key."""
    order = order_at(book, slot)
    order.next = 0
    level = prices.find_level(book, side, key)
    if level == 0:
        prices.add_level(book, side, key, slot)
        return
    row = level_at(book, level)
    youngest = row.youngest
    order_at(book, youngest).next = slot
    row.youngest = slot
    row.quantity += order.leaves_qty
    row.order_count += 1
    order.level = level
    order.previous = youngest


@called
def watch_leaving(address: Int, side: Int, slot: Int) -> None:
    """Tell who watches that an order leaves its queue."""
    kept_apart()
    book = open_book(address, False, False)
    state = state_at(book.state)
    if slot == state.sweep_slot:
        cursor.pass_over(address)
    if state.watching & COUNTING:
        holdings.note(address, order_at(book, slot).account, side, -1)


@inlined
def leave(book: Book, side: Int, slot: Int) -> None:
    """Take an order out of its queue, and its level away where it was the last."""
    order = order_at(book, slot)
    if unlikely(state_at(book.state).watching != 0):
        watch_leaving(book.state, side, slot)
    level = order.level
    row = level_at(book, level)
    order.level = 0
    side_at(book, side).order_count -= 1
    if row.order_count == 1:
        prices.remove_level(book, side, level)
        return
    row.quantity -= order.leaves_qty
    row.order_count -= 1
    older, younger = order.previous, order.next
    # Where there is none, row 0 takes the link: which of them it is cannot be foreseen.
    order_at(book, older).next = younger
    order_at(book, younger).previous = older
    row.oldest = younger if older == 0 else row.oldest
    row.youngest = older if younger == 0 else row.youngest


@inlined
def take_quantity(book: Book, slot: Int, quantity: Int) -> None:
    """Take a part of what is open off an order that keeps its place."""
    order = order_at(book, slot)
    order.leaves_qty -= quantity
    level_at(book, order.level).quantity -= quantity


# Rare orders -------------------------------------------------------------------------------------


@called
def rest_rare(address: Int, side: Int, slot: Int, shown: Int) -> None:
    """Put a rare order at the back of the queue of its price, with so much of it shown."""
    kept_apart()
    book = open_book(address, False, False)
    order = order_at(book, slot)
    extra = extras.extra_of(book, slot)
    extra.hidden = order.leaves_qty - shown
    order.leaves_qty = shown
    if extras.needs_care(extra):
        instrument_at(book, instrument_of_side(side)).icebergs += 1
    rest(book, side, slot)


@inlined
def refresh(book: Book, side: Int, slot: Int) -> None:
    """Show a new part of an iceberg, the first of its queue, at the queue's back."""
    order = order_at(book, slot)
    extra = extras.extra_of(book, slot)
    shown = min(extra.display_quantity, extra.hidden)
    extra.hidden -= shown
    order.leaves_qty = shown
    row = level_at(book, order.level)
    row.quantity += shown
    youngest = row.youngest
    if youngest == slot:
        return
    state = state_at(book.state)
    if slot == state.sweep_slot:
        cursor.pass_over(book.state)
    younger = order.next
    row.oldest = younger
    order_at(book, younger).previous = 0
    order_at(book, youngest).next = slot
    order.previous = youngest
    order.next = 0
    row.youngest = slot


@inlined
def take_off(book: Book, slot: Int, quantity: Int) -> None:
    """Take a part of what is open off any order that keeps its place, first of what is hidden."""
    hidden = min(quantity, extras.hidden_of(book, slot))
    if hidden != 0:
        extras.extra_of(book, slot).hidden -= hidden
    take_quantity(book, slot, quantity - hidden)


@inlined
def stop_price_of(book: Book, side: Int, slot: Int) -> Int:
    """Return the stop price of an order that waits; of one that is held, its own."""
    price = level_at(book, order_at(book, slot).level).key ^ side_at(book, side).flip
    return extras.extra_of(book, slot).stop_price if price == HELD_PRICE else price


@inlined
def entering_side(book: Book, side: Int, slot: Int) -> Int:
    """Return the side that an order enters which waits on one of its instrument."""
    first = signed(side) & -SIDES
    return first + reports.side_of(signed(order_at(book, slot).kind_bits)) - SIDE_BUY


@called
def withdraw(address: Int, side: Int, slot: Int) -> Int:
    """Take any order out of its queue, with all that is open in its node then; return the stop
    price that it waited for, or 0. ``side`` is where it is."""
    kept_apart()
    book = open_book(address, False, False)
    order = order_at(book, slot)
    instrument = instrument_at(book, instrument_of_side(side))
    stop_price = 0
    if side & WAITING:
        stop_price = stop_price_of(book, side, slot)
    leave(book, side, slot)
    if side & WAITING:
        side_at(book, entering_side(book, side, slot)).order_count -= 1
        instrument.waiting -= 1
    elif reports.is_rare(signed(order.kind_bits)):
        extra = extras.extra_of(book, slot)
        order.leaves_qty += extra.hidden
        extra.hidden = 0
        if extras.needs_care(extra):
            instrument.icebergs -= 1
    return stop_price
