"""Orders that wait for a stop price, and what triggers them: seldom used, and so kept apart.

They stand in two sides of their own of each instrument (``layout.WAITING``), whose levels are stop
prices: so such an order takes no more room than another. A command that its trades make trigger
some is not finished until all have entered; how far that is says STATE, so that it can stop where a
buffer is full.
"""

import numpy as np

from engine.books import rules
from engine.books.ladder import (
    cursor,
    extras,
    holdings,
    links,
    matching,
    order_index,
    queues,
    reports,
)
from engine.books.ladder.layout import (
    COUNTING,
    FINISHED,
    NOTHING_TRADED,
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
    client_id_at,
    extra_at,
    instrument_at,
    instrument_of_side,
    kept_apart,
    level_at,
    open_book,
    order_at,
    order_id_at,
    prefetch_write,
    side_at,
    signed,
    state_at,
)
from ipc.codes import (
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_NEW,
    EXEC_TYPE_REPLACED,
    EXEC_TYPE_TRIGGERED,
    FLAG_TRIGGERED,
    LIQUIDITY_NONE,
    REASON_LINKED,
    REASON_NONE,
)
from ipc.native.compiled import called, inlined

_ZERO = np.uint64(0)
_NO_SLOT = np.uint32(0)
_WAITS, _SETTLES = 1, 2
"""Bits of ``trigger_waits``: the order does not enter, but waits; before it enters another goes."""
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
    if stop_price != rules.HELD_PRICE and not waits_for_rise(book, slot):
        place += 1
    waiting = side_at(book, place)
    waiting.order_count += 1
    queues.join(book, place, stop_price ^ waiting.flip, slot)


@inlined
def hold(address: Int, side: Int, slot: Int) -> None:
    """Let an order of a list wait for another one."""
    wait(address, side, slot, rules.HELD_PRICE)


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
    state.trigger_price = 0
    state.trigger_waits = 0
    state.unreported = 0


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
    if state.unreported != 0 and not report_list(book, output):
        return False
    while True:
        if state.trigger_slot == 0:
            if state.first_due != 0 and not settle(address, output, cause):
                return False
            cause.request_id = _ZERO
            if not find_next(book):
                break
        slot = state.trigger_slot
        if state.trigger_price != 0:
            if not reports.has_room(book, output, 1):
                return False
            on_order = (EXEC_TYPE_TRIGGERED, REASON_NONE, cause.request_id, LIQUIDITY_NONE)
            last = (max(state.trigger_price, 0), extras.display_of(book, slot), 0, 0)
            reports.report_order(book, output, cause, slot, *on_order, *last)
            state.trigger_price = 0
            kind_bits = signed(order_at(book, slot).kind_bits)
            if reports.is_rare(kind_bits) and reports.flags_of(kind_bits) & FLAG_TRIGGERED:
                links.go_alone(address, slot)
                state.trigger_waits |= _SETTLES
        if state.trigger_waits & _SETTLES:
            if state.first_due != 0 and not settle(address, output, cause):
                return False
            state.trigger_waits = 0
        if state.trigger_waits != 0:
            state.trigger_waits = 0
            state.trigger_slot = _NO_SLOT
            wait(address, state.trigger_side, slot, extras.extra_of(book, slot).stop_price)
            continue
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
            state.round_high = 0
            if state.first_released == 0:
                return False
            let_go(book)
            return True
        state.round_low = state.traded_low
        state.round_high = state.traded_high
        state.traded_high = 0


@inlined
def ask_for_next(book: Book, slot: Int) -> None:
    """Ask memory for what the order behind one in its queue needs when it triggers, and for the
    one behind that: in a cascade they are soon due."""
    following = order_at(book, slot).next
    order = order_at(book, following)
    prefetch_write(order_at(book, order.next))
    state = state_at(book.state)
    if state.old_orders != 0:
        home = order_index.home_of(
            order_index.order_id_hash(book, order.order_id), book.order_id_entries
        )
        prefetch_write(order_id_at(book, home))
        ids = (order.account, state.symbol, order.client_order_id)
        hash32 = order_index.client_id_hash(book, *ids)
        prefetch_write(client_id_at(book, order_index.home_of(hash32, book.client_id_entries)))


@inlined
def take_out(book: Book, side: Int) -> None:
    """Take out the first order that waits on a side, to be the next that enters."""
    state = state_at(book.state)
    slot = level_at(book, side_at(book, side).best_level).oldest
    ask_for_next(book, slot)
    if state.watching & SWEEPING:
        cursor.trigger(book, slot, instrument_of_side(side))
    state.trigger_price = queues.withdraw(book.state, side, slot)
    state.trigger_side = queues.entering_side(book, side, slot)
    state.trigger_slot = slot
    order_at(book, slot).kind_bits |= TRIGGERED_BIT


# Lists -------------------------------------------------------------------------------------------


@inlined
def report_list(book: Book, output: Output) -> Bool:
    """Report on the orders of a list behind the first, and let go of what is held for nobody;
    False where a buffer is full."""
    state = state_at(book.state)
    cause = cause_at(book, 0)
    while state.unreported <= state.listed:
        if not reports.has_room(book, output, 1):
            return False
        slot = signed(cause_at(book, state.unreported).order_id)
        extra = extras.extra_of(book, slot)
        on_order = (EXEC_TYPE_NEW, REASON_NONE, _ZERO, LIQUIDITY_NONE)
        reports.report_order(book, output, cause, slot, *on_order, extra.stop_price, 0, 0, 0)
        if signed(extra.link) & rules.LINK_FRESH:
            links.release(book, slot)
        state.unreported += 1
    state.unreported = 0
    return True


@inlined
def let_go(book: Book) -> None:
    """Take out the first order that is released, to be the next that enters, or waits."""
    state = state_at(book.state)
    number = state.first_released
    extra = extra_at(book, number)
    slot = extra.slot
    links.take_back(book, number)
    side = signed(level_at(book, order_at(book, slot).level).side)
    instrument = instrument_of_side(side)
    if state.watching & SWEEPING:
        cursor.trigger(book, slot, instrument)
    queues.withdraw(book.state, side, slot)
    fresh = signed(extra.link) & rules.LINK_FRESH
    extra.link = np.uint32(signed(extra.link) & ~(rules.LINK_HELD | rules.LINK_FRESH))
    state.trigger_side = queues.entering_side(book, side, slot)
    state.trigger_slot = slot
    stop_price = extra.stop_price
    state.trigger_price = -1 if stop_price == 0 else stop_price
    if stop_price == 0:
        return
    rise, last_price = waits_for_rise(book, slot), instrument_at(book, instrument).last_price
    if rules.is_reached(rise, stop_price, last_price):
        order_at(book, slot).kind_bits |= TRIGGERED_BIT
        return
    state.trigger_waits = _WAITS
    if fresh:
        state.trigger_price = 0


@called
def settle(address: Int, output: Output, command: Row) -> Bool:
    """Give orders what is due to them by ``links``; False where a buffer is full."""
    kept_apart()
    book = open_book(address, True, True)
    state = state_at(book.state)
    while state.first_due != 0:
        if not reports.has_room(book, output, 1):
            return False
        extra = extra_at(book, state.first_due)
        state.first_due = extra.next_due
        slot, due = extra.slot, extra.due
        extra.due = 0
        side = signed(level_at(book, order_at(book, slot).level).side)
        state.symbol = instrument_at(book, instrument_of_side(side)).symbol
        on_order = (REASON_LINKED, _ZERO, LIQUIDITY_NONE)
        if due == links.GOES:
            last = (queues.withdraw(address, side, slot), 0, 0, 0)
            reports.report_order(book, output, command, slot, EXEC_TYPE_CANCELED, *on_order, *last)
            queues.end_order(book, side, slot)
        else:
            queues.take_off(book, slot, due)
            stop_price = queues.stop_price_of(book, side, slot) if side & WAITING else 0
            last = (stop_price, 0, 0, 0)
            reports.report_order(book, output, command, slot, EXEC_TYPE_REPLACED, *on_order, *last)
    if state.traded_high == NOTHING_TRADED and state.first_released == 0:
        state.traded_high = 0
    return True
