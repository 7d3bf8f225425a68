"""Commands on orders that few have: those that wait for a stop price, and those of the side table.

Their own order enters as one that triggers does (``stops.go_on``), so that all of it is kept out of
the way of the others.
"""

import numpy as np

from engine.books import rules
from engine.books.ladder import extras, holdings, matching, queues, reports, stops
from engine.books.ladder.layout import (
    EXPIRING,
    FINISHED,
    NO_KEY,
    REPORTS_OF_A_START,
    SIDES,
    WAITING,
)
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    Output,
    Row,
    expiry_at,
    extra_at,
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
from engine.books.ladder.new_orders import (
    accept,
    amounts_of,
    check_kind,
    check_replace,
    check_room,
    first_order_id,
    instrument_of,
    reject,
)
from ipc.codes import (
    ADMINISTRATION_NAME,
    COMMAND_TYPE_CANCEL,
    COMMAND_TYPE_REDUCE,
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_EXPIRED,
    EXEC_TYPE_NEW,
    EXEC_TYPE_REPLACED,
    FLAG_POST_ONLY,
    FLAG_REINSERT,
    LIQUIDITY_NONE,
    REASON_CANCEL_REQUESTED,
    REASON_DUPLICATE_CLIENT_ORDER_ID,
    REASON_EXPIRED,
    REASON_INVALID_DISPLAY_QUANTITY,
    REASON_INVALID_STOP_PRICE,
    REASON_LINKED_ORDER,
    REASON_MARKET_REMAINDER,
    REASON_MINIMUM_UNFILLED,
    REASON_NONE,
    REASON_POST_ONLY_WOULD_TRADE,
    SIDE_BUY,
)
from ipc.native.compiled import called, inlined

_ZERO = np.uint64(0)


@called
def new(
    address: Int, output: Output, command: Row, hash32: Int, accounts: Bool, duplicates: Bool
) -> Bool:
    """Carry out NEW that is not plainly one of a LIMIT or MARKET order; its symbol is one of the
    shard. False where a buffer is full."""
    kept_apart()
    book = open_book(address, accounts, duplicates)
    kind_bits = reports.kind_bits_of(command.head)
    instrument = instrument_of(book, reports.symbol_of(command.head))
    reason = check_kind(book, command, instrument, kind_bits)
    repeated = book.duplicates and first_order_id(book, hash32, command, instrument) != 0
    if reason == REASON_NONE and repeated:
        reason = REASON_DUPLICATE_CLIENT_ORDER_ID
    terms = instrument_at(book, instrument)
    stop_price = signed(command.stop_price)
    stays = reports.can_rest(kind_bits) | (stop_price != 0)
    full = holdings.resting_orders(book, instrument) >= terms.max_account_orders
    if reason == REASON_NONE and stays and full:
        reason = check_room(address, command.account, instrument)
    side = instrument * SIDES + reports.side_of(kind_bits) - SIDE_BUY
    if reason == REASON_NONE and reports.flags_of(kind_bits) & FLAG_POST_ONLY:
        limit = matching.limit_key(book, side ^ 1, kind_bits, signed(command.price))
        reason = (
            REASON_POST_ONLY_WOULD_TRADE
            if side_at(book, side ^ 1).best_key <= limit
            else REASON_NONE
        )
    if reason != REASON_NONE:
        reject(book, output, command, hash32, reason)
        return True
    slot = accept(book, command, instrument, hash32, kind_bits)
    now, time = signed(command.timestamp_ns), reports.time_in_force_of(kind_bits)
    given, day_end_s = signed(command.expire_time_ns), signed(terms.day_end_s)
    expire_time_ns = rules.expire_time(time, given, now, day_end_s) if stays else 0
    display_quantity = signed(command.display_quantity)
    if display_quantity | expire_time_ns != 0:
        extras.take_extra(book, slot, display_quantity, expire_time_ns)
    if expire_time_ns != 0 and now >= expire_time_ns:
        answer(book, output, command, slot, EXEC_TYPE_NEW, REASON_NONE, stop_price)
        end_in_time(book, output, command, side, slot, command.request_id, stop_price)
        return True
    reason = price_at_best(book, side, slot)
    minimum = signed(command.minimum_quantity)
    if reason == REASON_NONE and minimum != 0:
        limit = matching.limit_key(book, side ^ 1, kind_bits, order_at(book, slot).price)
        filled = matching.fills(book, side, limit, slot, minimum)
        reason = REASON_NONE if filled else REASON_MINIMUM_UNFILLED
    if reason != REASON_NONE:
        answer(book, output, command, slot, EXEC_TYPE_NEW, REASON_NONE, 0)
        on_order = (EXEC_TYPE_CANCELED, reason, command.request_id, LIQUIDITY_NONE)
        last = (0, extras.display_of(book, slot), 0, 0)
        reports.report_order(book, output, command, slot, *on_order, *last)
        queues.end_order(book, side, slot)
        return True
    return answer_and_go_on(book, output, command, side, slot, EXEC_TYPE_NEW, stop_price)


@inlined
def price_at_best(book: Book, side: Int, slot: Int) -> Int:
    """Give an order its limit, where that comes of the best price; return 0, or the Reason why it
    ends, as there is none."""
    order, opposite = order_at(book, slot), side_at(book, side ^ 1)
    kind_bits = signed(order.kind_bits)
    if not rules.takes_best(reports.order_type_of(kind_bits)):
        return REASON_NONE
    if opposite.best_key == NO_KEY:
        return REASON_MARKET_REMAINDER
    best_price = opposite.best_key ^ opposite.flip
    order.price = rules.limit_from_best(reports.side_of(kind_bits), best_price, order.price)
    return REASON_NONE


@inlined
def end_in_time(
    book: Book,
    output: Output,
    command: Row,
    side: Int,
    slot: Int,
    request_id: Int,
    stop_price: Int,
) -> None:
    """Report that an order, which is in no queue any more, has expired, and let go of it."""
    on_order = (EXEC_TYPE_EXPIRED, REASON_EXPIRED, request_id, LIQUIDITY_NONE)
    last = (stop_price, extras.display_of(book, slot), 0, 0)
    reports.report_order(book, output, command, slot, *on_order, *last)
    queues.end_order(book, side, slot)


@called
def expire(address: Int, output: Output, command: Row) -> Bool:
    """End the orders whose time is over before a command is carried out; False where a buffer is
    full before that command can start."""
    kept_apart()
    book = open_book(address, True, True)
    state = state_at(book.state)
    if reports.command_type_of(command.head) == ADMINISTRATION_NAME:
        return True
    state.unfinished = EXPIRING
    while True:
        if state.first_due != 0 and not stops.settle(address, output, command):
            return False
        if state.fresh_expiry <= 1 or state.next_expiry_ns > command.timestamp_ns:
            break
        if not reports.has_room(book, output, 1):
            return False
        slot = extra_at(book, expiry_at(book, 1).extra).slot
        side = signed(level_at(book, order_at(book, slot).level).side)
        state.symbol = instrument_at(book, instrument_of_side(side)).symbol
        stop_price = queues.withdraw(address, side, slot)
        end_in_time(book, output, command, side, slot, _ZERO, stop_price)
    if not reports.has_room(book, output, REPORTS_OF_A_START):
        return False
    state.unfinished = FINISHED
    return True


@called
def change(
    address: Int,
    output: Output,
    command: Row,
    side: Int,
    slot: Int,
    accounts: Bool,
    duplicates: Bool,
) -> Bool:
    """Carry out CANCEL, REPLACE or REDUCE of a rare order, or of one that waits on a side."""
    kept_apart()
    book = open_book(address, accounts, duplicates)
    order = order_at(book, slot)
    state_at(book.state).symbol = instrument_at(book, instrument_of_side(side)).symbol
    stop_price = queues.stop_price_of(book, side, slot) if side & WAITING else 0
    left = order.leaves_qty + extras.hidden_of(book, slot)
    command_type = reports.command_type_of(command.head)
    quantity = signed(command.quantity)
    flags = reports.flags_of(reports.kind_bits_of(command.head))
    if not rules.can_change(extras.link_of(book, slot), command_type, flags):
        reports.reject(book, output, command, command.order_id, REASON_LINKED_ORDER)
        return True
    if command_type == COMMAND_TYPE_CANCEL or (
        command_type == COMMAND_TYPE_REDUCE and quantity >= left
    ):
        queues.withdraw(address, side, slot)
        answer(book, output, command, slot, EXEC_TYPE_CANCELED, REASON_CANCEL_REQUESTED, stop_price)
        queues.end_order(book, side, slot)
        if state_at(book.state).first_due == 0:
            return True
        stops.begin(book, command, side)
        return stops.go_on(address, output, accounts, duplicates)
    price = order.price
    wanted = stop_price
    keeps_place = True
    display_quantity = _ZERO
    if command_type == COMMAND_TYPE_REDUCE:
        quantity = left - quantity
    else:
        price, quantity = amounts_of(order, command, left)
        wanted = stop_price if command.stop_price == _ZERO else signed(command.stop_price)
        display_quantity = command.display_quantity
        reason = check_rare(book, command, side, slot, price, quantity, wanted)
        if reason != REASON_NONE:
            reports.reject(book, output, command, command.order_id, reason)
            return True
        reinsert = reports.flags_of(reports.kind_bits_of(command.head)) & FLAG_REINSERT != 0
        quantity -= 0 if reinsert else order.cum_qty
        keeps_place = not reinsert and display_quantity == _ZERO and quantity < left
        keeps_place &= price == order.price and wanted == stop_price
    if keeps_place:
        queues.take_off(book, slot, left - quantity)
        answer(book, output, command, slot, EXEC_TYPE_REPLACED, REASON_NONE, stop_price)
        return True
    queues.withdraw(address, side, slot)
    order.price = price
    order.leaves_qty = quantity
    if display_quantity != _ZERO:
        extras.extra_of(book, slot).display_quantity = signed(display_quantity)
    side = queues.entering_side(book, side, slot)
    return answer_and_go_on(book, output, command, side, slot, EXEC_TYPE_REPLACED, wanted)


@inlined
def check_rare(
    book: Book, command: Row, side: Int, slot: Int, price: Int, quantity: Int, stop_price: Int
) -> Int:
    """Return 0, or the first Reason why such an order cannot be replaced so; ``quantity`` is the
    open one with REINSERT, else the total."""
    order = order_at(book, slot)
    flags = reports.flags_of(reports.kind_bits_of(command.head))
    reinsert = flags & FLAG_REINSERT != 0
    shown, given = extras.display_of(book, slot), signed(command.display_quantity)
    if side & WAITING:
        instrument = instrument_at(book, instrument_of_side(side))
        order_type = reports.order_type_of(signed(order.kind_bits))
        band = (instrument.min_price, instrument.max_price)
        reason = rules.check_waiting(order_type, flags, price, stop_price, *band)
    elif command.stop_price != _ZERO:
        reason = REASON_INVALID_STOP_PRICE
    elif shown == 0 and given != 0:
        reason = REASON_INVALID_DISPLAY_QUANTITY
    else:
        reason = check_replace(book, side, slot, price, quantity, reinsert)
    if reason != REASON_NONE:
        return reason
    leaves_qty = quantity if reinsert else quantity - order.cum_qty
    return rules.check_display(shown, given, leaves_qty)


@inlined
def answer(
    book: Book,
    output: Output,
    command: Row,
    slot: Int,
    exec_type: Int,
    reason: Int,
    stop_price: Int,
) -> None:
    """Answer a command on an order, with all that is open of it."""
    order = order_at(book, slot)
    hidden = extras.hidden_of(book, slot)
    order.leaves_qty += hidden
    on_order = (exec_type, reason, command.request_id, LIQUIDITY_NONE)
    last = (stop_price, extras.display_of(book, slot), 0, 1)
    reports.report_order(book, output, command, slot, *on_order, *last)
    order.leaves_qty -= hidden


@inlined
def answer_and_go_on(
    book: Book,
    output: Output,
    command: Row,
    side: Int,
    slot: Int,
    exec_type: Int,
    stop_price: Int,
) -> Bool:
    """Answer, and let an order wait, or enter where it has no stop price or that is reached.

    False where a buffer is full.
    """
    state = state_at(book.state)
    waits = stop_price != 0
    if waits:
        last_price = instrument_at(book, instrument_of_side(side)).last_price
        rise = stops.waits_for_rise(book, slot)
        waits = not rules.is_reached(rise, stop_price, last_price)
        if not waits:
            order_at(book, slot).kind_bits |= stops.TRIGGERED_BIT
    answer(book, output, command, slot, exec_type, REASON_NONE, stop_price)
    if waits:
        stops.wait(book.state, side, slot, stop_price)
        return True
    stops.begin(book, command, side)
    state.trigger_slot = slot
    state.trigger_price = stop_price
    return stops.go_on(book.state, output, book.accounts, book.duplicates)
