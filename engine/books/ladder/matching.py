"""Matching: what comes of an order that enters.

Between plain orders, and where all is shown, it goes one way (``match``); where an order minds its
own account's, or icebergs rest, another one (``match_with_care``).
"""

import numpy as np

from engine.books.ladder import extras, links, prices, queues, reports
from engine.books.ladder.layout import NO_KEY, WAITING
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
from engine.books.rules import LINK_PAIRED
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
    opposite = side ^ 1
    maker_slot = level_at(book, side_at(book, opposite).best_level).oldest
    exchange(book, output, command, side, taker_slot, maker_slot, 0)
    if order_at(book, maker_slot).leaves_qty == 0:
        queues.leave(book, opposite, maker_slot)
        queues.end_order(book, opposite, maker_slot)


@inlined
def exchange(
    book: Book,
    output: Output,
    command: Row,
    side: Int,
    taker_slot: Int,
    maker_slot: Int,
    hidden: Int,
) -> None:
    """Trade what two orders have left in their nodes, and report it; ``hidden`` is what the maker
    has beyond that."""
    state = state_at(book.state)
    taker = order_at(book, taker_slot)
    maker = order_at(book, maker_slot)
    quantity = min(taker.leaves_qty, maker.leaves_qty)
    price = maker.price
    state.trade_sequence += 1
    trade_id = state.shard_bits | state.trade_sequence
    taker.leaves_qty -= quantity
    taker.cum_qty += quantity
    queues.take_quantity(book, maker_slot, quantity)
    maker.cum_qty += quantity
    reports.write_trade(book, output, command, side, taker_slot, maker_slot, trade_id, quantity)
    for_taker = (EXEC_TYPE_TRADE, REASON_NONE, command.request_id, LIQUIDITY_TAKER)
    for_maker = (EXEC_TYPE_TRADE, REASON_NONE, _ZERO, LIQUIDITY_MAKER)
    last = (price, quantity, trade_id, 0)
    reports.report_order(book, output, command, taker_slot, *for_taker, *last)
    maker.leaves_qty += hidden
    reports.report_order(book, output, command, maker_slot, *for_maker, *last)
    maker.leaves_qty -= hidden


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
def needs_care(book: Book, side: Int, kind_bits: Int) -> Bool:
    """Tell whether an order cannot trade the plain way."""
    icebergs = signed(instrument_at(book, instrument_of_side(side)).icebergs)
    return icebergs | reports.is_minded(kind_bits) != 0


@inlined
def fills(book: Book, side: Int, limit: Int, slot: Int, quantity: Int) -> Bool:
    """Tell whether so much of an order can be filled."""
    if needs_care(book, side, signed(order_at(book, slot).kind_bits)):
        return can_fill_with_care(book.state, side ^ 1, limit, slot, quantity)
    return can_fill(book.state, side ^ 1, limit, quantity)


@called
def can_fill_with_care(address: Int, opposite: Int, limit: Int, slot: Int, quantity: Int) -> Bool:
    """Tell whether so much of an order that may mind its account's would be filled, by what is
    hidden too: that comes after all that its price shows."""
    kept_apart()
    book = open_book(address, False, False)
    order = order_at(book, slot)
    mode = reports.prevention_of(signed(order.kind_bits))
    missing = quantity
    key = side_at(book, opposite).best_key
    while key <= limit:
        maker_slot = level_at(book, prices.find_level(book, opposite, key)).oldest
        hidden = 0
        while maker_slot != 0:
            maker = order_at(book, maker_slot)
            if mode == 0 or maker.account != order.account:
                missing -= maker.leaves_qty
                hidden += extras.hidden_of(book, maker_slot)
            elif mode != SELF_TRADE_PREVENTION_CANCEL_OLDEST:
                return missing <= 0
            maker_slot = maker.next
        missing -= hidden
        if missing <= 0:
            return True
        key = prices.next_key(book, opposite, key + 1)
    return False


@called
def match_with_care(
    address: Int,
    accounts: Bool,
    duplicates: Bool,
    output: Output,
    command: Row,
    side: Int,
    slot: Int,
    limit: Int,
) -> Int:
    """Trade while orders cross, not with those of its account where the order minds them, and with
    icebergs part by part. Return MATCHED; PREVENTED where the order has come to its end by an order
    of its account, and is reported so; or BUFFER_FULL."""
    kept_apart()
    book = open_book(address, accounts, duplicates)
    order = order_at(book, slot)
    minds = reports.prevention_of(signed(order.kind_bits)) != 0
    opposite = side_at(book, side ^ 1)
    first = NO_KEY
    last = NO_KEY
    result = MATCHED
    while order.leaves_qty != 0 and opposite.best_key <= limit:
        maker_slot = level_at(book, opposite.best_level).oldest
        if not minds or order_at(book, maker_slot).account != order.account:
            if not reports.has_trade_room(book, output):
                result = BUFFER_FULL
                break
            last = opposite.best_key
            first = last if first == NO_KEY else first
            trade_shown(book, output, command, side, slot, maker_slot)
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
def trade_shown(
    book: Book, output: Output, command: Row, side: Int, slot: Int, maker_slot: Int
) -> None:
    """Trade with any order what of it is shown."""
    hidden = extras.hidden_of(book, maker_slot)
    quantity = min(order_at(book, slot).leaves_qty, order_at(book, maker_slot).leaves_qty)
    exchange(book, output, command, side, slot, maker_slot, hidden)
    note_loss(book, maker_slot, quantity)
    note_loss(book, slot, quantity)
    if order_at(book, maker_slot).leaves_qty != 0:
        return
    if hidden != 0:
        queues.refresh(book, side ^ 1, maker_slot)
        return
    queues.withdraw(book.state, side ^ 1, maker_slot)
    queues.end_order(book, side ^ 1, maker_slot)


@inlined
def note_loss(book: Book, slot: Int, quantity: Int) -> None:
    """Tell whom an order is tied to that it has so much less open."""
    if extras.link_of(book, slot) & LINK_PAIRED:
        links.lose(book.state, slot, quantity)


@inlined
def prevent(
    book: Book, output: Output, command: Row, side: Int, slot: Int, maker_slot: Int
) -> Bool:
    """Let two orders of an account not trade; return whether the taker has nothing more to do."""
    order, maker = order_at(book, slot), order_at(book, maker_slot)
    mode = reports.prevention_of(signed(order.kind_bits))
    left = maker.leaves_qty + extras.hidden_of(book, maker_slot)
    quantity = min(order.leaves_qty, left)
    price = maker.price
    for_maker = (REASON_SELF_TRADE, _ZERO, LIQUIDITY_NONE, price, quantity, 0, 0)
    for_taker = (REASON_SELF_TRADE, command.request_id, LIQUIDITY_NONE, price, quantity, 0, 0)
    decrements = mode == SELF_TRADE_PREVENTION_DECREMENT
    maker_ends = mode in (SELF_TRADE_PREVENTION_CANCEL_OLDEST, SELF_TRADE_PREVENTION_CANCEL_BOTH)
    maker_ends |= decrements and quantity == left
    taker_ends = mode in (SELF_TRADE_PREVENTION_CANCEL_NEWEST, SELF_TRADE_PREVENTION_CANCEL_BOTH)
    taker_ends |= decrements and quantity == order.leaves_qty
    if maker_ends:
        queues.withdraw(book.state, side ^ 1, maker_slot)
        reports.report_order(book, output, command, maker_slot, EXEC_TYPE_CANCELED, *for_maker)
        queues.end_order(book, side ^ 1, maker_slot)
    elif decrements:
        queues.take_off(book, maker_slot, quantity)
        note_loss(book, maker_slot, quantity)
        hidden = extras.hidden_of(book, maker_slot)
        maker.leaves_qty += hidden
        reports.report_order(book, output, command, maker_slot, EXEC_TYPE_REPLACED, *for_maker)
        maker.leaves_qty -= hidden
    if taker_ends:
        reports.report_order(book, output, command, slot, EXEC_TYPE_CANCELED, *for_taker)
    elif decrements:
        order.leaves_qty -= quantity
        note_loss(book, slot, quantity)
        reports.report_order(book, output, command, slot, EXEC_TYPE_REPLACED, *for_taker)
    return taker_ends


@inlined
def enter(book: Book, output: Output, command: Row, side: Int, slot: Int) -> Bool:
    """Let an order trade, then rest or be cancelled; False where a buffer is full: call again."""
    order = order_at(book, slot)
    opposite = side_at(book, side ^ 1)
    kind_bits = signed(order.kind_bits)
    limit = limit_key(book, side ^ 1, kind_bits, order.price)
    rests = reports.is_plain_resting_kind(kind_bits)
    fill_or_kill = reports.time_in_force_of(kind_bits) == TIME_IN_FORCE_FOK
    kill = unlikely(fill_or_kill) and not fills(book, side, limit, slot, order.leaves_qty)
    if unlikely(opposite.best_key <= limit) and not kill:
        features = (book.state, book.accounts, book.duplicates)
        if unlikely(needs_care(book, side, kind_bits)):
            result = match_with_care(*features, output, command, side, slot, limit)
            if result == BUFFER_FULL:
                return False
            if result == PREVENTED:
                queues.end_order(book, side, slot)
                return True
        elif not match(*features, output, command, side, slot, limit):
            return False
    if rests and order.leaves_qty != 0:
        queues.rest(book, side, slot)
        return True
    if order.leaves_qty != 0:
        if unlikely(reports.is_rare(kind_bits)) and reports.can_rest(kind_bits):
            display_quantity = extras.display_of(book, slot)
            shown = order.leaves_qty
            shown = shown if display_quantity == 0 else min(shown, display_quantity)
            queues.rest_rare(book.state, side, slot, shown)
            return True
        if not reports.has_room(book, output, 1):
            return False
        market = reports.is_priceless(kind_bits)
        reason = REASON_MARKET_REMAINDER if market else REASON_IOC_REMAINDER
        reason = REASON_FOK_UNFILLED if kill else reason
        reports.answer(book, output, command, slot, EXEC_TYPE_CANCELED, reason, 0)
    queues.end_order(book, side, slot)
    return True
