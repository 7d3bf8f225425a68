"""Matching, and the life of an order: taken, resting, traded, ended."""

import numpy as np

from engine.books.ladder import cursor, holdings, order_index, prices, reports
from engine.books.ladder.layout import COUNTING, NO_KEY, WAITING
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
    side_at,
    signed,
    state_at,
    unlikely,
)
from ipc.codes import (
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_REPLACED,
    EXEC_TYPE_TRADE,
    LIQUIDITY_MAKER,
    LIQUIDITY_NONE,
    LIQUIDITY_TAKER,
    REASON_FOK_UNFILLED,
    REASON_IOC_REMAINDER,
    REASON_MARKET_REMAINDER,
    REASON_NONE,
    REASON_SELF_TRADE,
    SELF_TRADE_PREVENTION_CANCEL_BOTH,
    SELF_TRADE_PREVENTION_CANCEL_NEWEST,
    SELF_TRADE_PREVENTION_CANCEL_OLDEST,
    SELF_TRADE_PREVENTION_DECREMENT,
    TIME_IN_FORCE_FOK,
)
from ipc.native.compiled import called, inlined

_ZERO = np.uint64(0)
BUFFER_FULL, MATCHED, PREVENTED = 0, 1, 2
"""What comes of matching with others only."""


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


# Matching ----------------------------------------------------------------------------------------


@inlined
def limit_key(book: Book, opposite: Int, kind_bits: Int, price: Int) -> Int:
    """Return the worst key of the opposite side that an order would trade with."""
    limit = price ^ side_at(book, opposite).flip
    return NO_KEY - 1 if reports.is_priceless(kind_bits) else limit


@called
def can_fill(address: Int, opposite: Int, limit: Int, quantity: Int) -> Bool:
    """Tell whether the opposite side holds a quantity at keys up to a limit."""
    book = open_book(address, False, False)
    missing = quantity
    key = side_at(book, opposite).best_key
    while key <= limit:
        missing -= level_at(book, prices.find_level(book, opposite, key)).quantity
        if missing <= 0:
            return True
        key = prices.next_key(book, opposite, key + 1)
    return False


@inlined
def trade(book: Book, output: Output, command: Row, side: Int, taker_slot: Int) -> None:
    """Trade with the best order of the opposite side what both have left, at its price."""
    state = state_at(book.state)
    opposite = side ^ 1
    maker_slot = level_at(book, side_at(book, opposite).best_level).oldest
    taker = order_at(book, taker_slot)
    maker = order_at(book, maker_slot)
    quantity = min(taker.leaves_qty, maker.leaves_qty)
    price = maker.price
    state.trade_sequence += 1
    trade_id = state.shard_bits | state.trade_sequence
    taker.leaves_qty -= quantity
    taker.cum_qty += quantity
    take_quantity(book, maker_slot, quantity)
    maker.cum_qty += quantity
    reports.write_trade(book, output, command, side, taker_slot, maker_slot, trade_id, quantity)
    for_taker = (EXEC_TYPE_TRADE, REASON_NONE, command.request_id, LIQUIDITY_TAKER)
    for_maker = (EXEC_TYPE_TRADE, REASON_NONE, _ZERO, LIQUIDITY_MAKER)
    last = (price, quantity, trade_id, 0)
    reports.report_order(book, output, command, taker_slot, *for_taker, *last)
    reports.report_order(book, output, command, maker_slot, *for_maker, *last)
    if maker.leaves_qty == 0:
        leave(book, opposite, maker_slot)
        end_order(book, opposite, maker_slot)


@called
def match(
    address: Int,
    accounts: Bool,
    duplicates: Bool,
    output: Output,
    command: Row,
    side: Int,
    slot: Int,
    limit: Int,
) -> Bool:
    """Trade while orders cross, at least once; False where a buffer is full."""
    book = open_book(address, accounts, duplicates)
    order = order_at(book, slot)
    opposite = side_at(book, side ^ 1)
    first = opposite.best_key
    last = first
    done = True
    while order.leaves_qty != 0 and opposite.best_key <= limit:
        if not reports.has_trade_room(book, output):
            done = False
            break
        last = opposite.best_key
        trade(book, output, command, side, slot)
    note_prices(book, side, first ^ opposite.flip, last ^ opposite.flip)
    return done


@inlined
def note_prices(book: Book, side: Int, first: Int, last: Int) -> None:
    """Note at which prices a command has traded first and last."""
    instrument = instrument_at(book, instrument_of_side(side))
    instrument.last_price = last
    if unlikely(instrument.waiting != 0):
        note_trades(book.state, side, first, last)


@called
def note_trades(address: Int, side: Int, first: Int, last: Int) -> None:
    """Note between which prices trades were made, where orders wait that these reach."""
    kept_apart()
    book = open_book(address, False, False)
    state = state_at(book.state)
    rise = side_at(book, side & ~1 | WAITING)
    fall = side_at(book, side | 1 | WAITING)
    low, high = min(first, last), max(first, last)
    if rise.best_key > high and fall.best_key > low ^ fall.flip:
        return
    fresh = state.traded_high == 0
    state.traded_low = low if fresh else min(low, state.traded_low)
    state.traded_high = max(high, state.traded_high)


@inlined
def fills(book: Book, side: Int, limit: Int, slot: Int) -> Bool:
    """Tell whether an order can be filled whole."""
    order = order_at(book, slot)
    if reports.prevention_of(signed(order.kind_bits)) != 0:
        return can_fill_with_others(book.state, side ^ 1, limit, slot)
    return can_fill(book.state, side ^ 1, limit, order.leaves_qty)


@called
def can_fill_with_others(address: Int, opposite: Int, limit: Int, slot: Int) -> Bool:
    """Tell whether an order that does not trade with its account's would be filled whole."""
    kept_apart()
    book = open_book(address, False, False)
    order = order_at(book, slot)
    mode = reports.prevention_of(signed(order.kind_bits))
    missing = order.leaves_qty
    key = side_at(book, opposite).best_key
    while key <= limit:
        maker_slot = level_at(book, prices.find_level(book, opposite, key)).oldest
        while maker_slot != 0:
            maker = order_at(book, maker_slot)
            if maker.account != order.account:
                missing -= maker.leaves_qty
            elif mode != SELF_TRADE_PREVENTION_CANCEL_OLDEST:
                return False
            if missing <= 0:
                return True
            maker_slot = maker.next
        key = prices.next_key(book, opposite, key + 1)
    return False


@called
def match_with_others(
    address: Int,
    accounts: Bool,
    duplicates: Bool,
    output: Output,
    command: Row,
    side: Int,
    slot: Int,
    limit: Int,
) -> Int:
    """Trade while orders cross, but not with those of its account. Return MATCHED; PREVENTED where
    the order has come to its end by that, and is reported so; or BUFFER_FULL."""
    kept_apart()
    book = open_book(address, accounts, duplicates)
    order = order_at(book, slot)
    opposite = side_at(book, side ^ 1)
    first = NO_KEY
    last = NO_KEY
    result = MATCHED
    while order.leaves_qty != 0 and opposite.best_key <= limit:
        maker_slot = level_at(book, opposite.best_level).oldest
        if order_at(book, maker_slot).account != order.account:
            if not reports.has_trade_room(book, output):
                result = BUFFER_FULL
                break
            last = opposite.best_key
            first = last if first == NO_KEY else first
            trade(book, output, command, side, slot)
        elif not reports.has_room(book, output, 2):
            result = BUFFER_FULL
            break
        elif prevent(book, output, command, side, slot, maker_slot):
            result = PREVENTED
            break
    if first != NO_KEY:
        note_prices(book, side, first ^ opposite.flip, last ^ opposite.flip)
    return result


@inlined
def prevent(
    book: Book, output: Output, command: Row, side: Int, slot: Int, maker_slot: Int
) -> Bool:
    """Let two orders of an account not trade; return whether the taker has nothing more to do."""
    order, maker = order_at(book, slot), order_at(book, maker_slot)
    mode = reports.prevention_of(signed(order.kind_bits))
    quantity = min(order.leaves_qty, maker.leaves_qty)
    price = maker.price
    for_maker = (REASON_SELF_TRADE, _ZERO, LIQUIDITY_NONE, price, quantity, 0, 0)
    for_taker = (REASON_SELF_TRADE, command.request_id, LIQUIDITY_NONE, price, quantity, 0, 0)
    decrements = mode == SELF_TRADE_PREVENTION_DECREMENT
    maker_ends = mode in (SELF_TRADE_PREVENTION_CANCEL_OLDEST, SELF_TRADE_PREVENTION_CANCEL_BOTH)
    maker_ends |= decrements and quantity == maker.leaves_qty
    taker_ends = mode in (SELF_TRADE_PREVENTION_CANCEL_NEWEST, SELF_TRADE_PREVENTION_CANCEL_BOTH)
    taker_ends |= decrements and quantity == order.leaves_qty
    if maker_ends:
        leave(book, side ^ 1, maker_slot)
        reports.report_order(book, output, command, maker_slot, EXEC_TYPE_CANCELED, *for_maker)
        end_order(book, side ^ 1, maker_slot)
    elif decrements:
        take_quantity(book, maker_slot, quantity)
        reports.report_order(book, output, command, maker_slot, EXEC_TYPE_REPLACED, *for_maker)
    if taker_ends:
        reports.report_order(book, output, command, slot, EXEC_TYPE_CANCELED, *for_taker)
    elif decrements:
        order.leaves_qty -= quantity
        reports.report_order(book, output, command, slot, EXEC_TYPE_REPLACED, *for_taker)
    return taker_ends


@inlined
def enter(book: Book, output: Output, command: Row, side: Int, slot: Int) -> Bool:
    """Let an order trade, then rest or be cancelled; False where a buffer is full: call again."""
    order = order_at(book, slot)
    opposite = side_at(book, side ^ 1)
    kind_bits = signed(order.kind_bits)
    limit = limit_key(book, side ^ 1, kind_bits, order.price)
    rests = reports.is_resting_kind(kind_bits)
    fill_or_kill = reports.time_in_force_of(kind_bits) == TIME_IN_FORCE_FOK
    kill = unlikely(fill_or_kill) and not fills(book, side, limit, slot)
    if unlikely(opposite.best_key <= limit) and not kill:
        features = (book.state, book.accounts, book.duplicates)
        if unlikely(reports.prevention_of(kind_bits) != 0):
            result = match_with_others(*features, output, command, side, slot, limit)
            if result == BUFFER_FULL:
                return False
            if result == PREVENTED:
                end_order(book, side, slot)
                return True
        elif not match(*features, output, command, side, slot, limit):
            return False
    if rests and order.leaves_qty != 0:
        rest(book, side, slot)
        return True
    if order.leaves_qty != 0:
        if not reports.has_room(book, output, 1):
            return False
        market = reports.is_priceless(kind_bits)
        reason = REASON_MARKET_REMAINDER if market else REASON_IOC_REMAINDER
        reason = REASON_FOK_UNFILLED if kill else reason
        reports.answer(book, output, command, slot, EXEC_TYPE_CANCELED, reason, 0)
    end_order(book, side, slot)
    return True
