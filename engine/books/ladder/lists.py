"""NEW_OCO and NEW_BRACKET: one command enters two or three orders, or none of them."""

import numpy as np

from engine.books import rules
from engine.books.ladder import (
    extras,
    holdings,
    matching,
    order_index,
    reports,
    stops,
)
from engine.books.ladder.layout import SIDES
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    Output,
    Row,
    cause_at,
    instrument_at,
    kept_apart,
    open_book,
    side_at,
    signed,
    state_at,
)
from engine.books.ladder.new_orders import accept, first_order_id, instrument_of
from engine.books.rules import (
    LINK_CHILD,
    LINK_CHILDREN,
    LINK_FRESH,
    LINK_HELD,
    LINK_LISTED,
    LINK_NEXT,
    LINK_PREVIOUS,
)
from ipc.codes import (
    COMMAND_TYPE_NEW,
    COMMAND_TYPE_NEW_OCO,
    EXEC_TYPE_NEW,
    FLAG_POST_ONLY,
    LIQUIDITY_NONE,
    ORDER_TYPE_LIMIT,
    ORDER_TYPE_STOP,
    ORDER_TYPE_STOP_LIMIT,
    REASON_BOOK_FULL,
    REASON_DUPLICATE_CLIENT_ORDER_ID,
    REASON_NONE,
    REASON_POST_ONLY_WOULD_TRADE,
    REASON_TOO_MANY_ORDERS,
    REASON_UNKNOWN_SYMBOL,
    SIDE_BUY,
    SIDE_SELL,
    TIME_IN_FORCE_GTC,
)
from ipc.native.compiled import called, inlined

_ZERO = np.uint64(0)


@inlined
def check_fields(book: Book, command: Row, instrument: Int) -> Int:
    """Return 0, or the first Reason why a command's own fields are no list."""
    limits = instrument_at(book, instrument)
    kind_bits = reports.kind_bits_of(command.head)
    return rules.check_list(
        reports.command_type_of(command.head),
        reports.side_of(kind_bits),
        reports.order_type_of(kind_bits),
        reports.time_in_force_of(kind_bits),
        reports.flags_of(kind_bits),
        reports.prevention_of_command(command.head),
        signed(command.price),
        signed(command.quantity),
        signed(command.minimum_quantity),
        signed(command.stop_price),
        signed(command.display_quantity),
        signed(command.expire_time_ns),
        signed(command.client_order_id),
        signed(command.timestamp_ns),
        limits.min_price,
        limits.max_price,
    )


@inlined
def put_order(
    book: Book,
    command: Row,
    side: Int,
    order_type: Int,
    time_in_force: Int,
    flags: Int,
    price: Int,
    stop_price: Int,
    link: Int,
) -> None:
    """Write the next order of a list into the rows behind the cause, as a NEW command."""
    state = state_at(book.state)
    state.listed += 1
    row = cause_at(book, state.listed)
    mode = reports.prevention_of_command(command.head)
    low = COMMAND_TYPE_NEW | side << 8 | order_type << 16 | time_in_force << 24
    high = flags << 32 | mode << 40 | reports.symbol_of(command.head) << 48
    row.head = np.uint64(low | high)
    row.account = command.account
    further = np.uint64(signed(state.listed) - 1)
    named = command.client_order_id != _ZERO
    row.client_order_id = command.client_order_id + further if named else _ZERO
    row.price = np.uint64(price)
    row.quantity = command.quantity
    row.stop_price = np.uint64(stop_price)
    row.expire_time_ns = command.expire_time_ns
    row.display_quantity = np.uint64(link | LINK_LISTED)


@inlined
def put_orders(book: Book, command: Row) -> None:
    """Write the orders of a list there."""
    state = state_at(book.state)
    state.listed = 0
    kind_bits = reports.kind_bits_of(command.head)
    side, time_in_force = reports.side_of(kind_bits), reports.time_in_force_of(kind_bits)
    price, stop_price = signed(command.price), signed(command.stop_price)
    stop_limit, take_price = signed(command.display_quantity), signed(command.minimum_quantity)
    stop_type = ORDER_TYPE_STOP if stop_limit == 0 else ORDER_TYPE_STOP_LIMIT
    if reports.command_type_of(command.head) == COMMAND_TYPE_NEW_OCO:
        put_order(book, command, side, ORDER_TYPE_LIMIT, time_in_force, 0, price, 0, LINK_NEXT)
        link = LINK_PREVIOUS | LINK_HELD | LINK_FRESH
        terms = (stop_type, time_in_force, 0, stop_limit, stop_price, link)
        put_order(book, command, side, *terms)
        return
    both = (take_price != 0) & (stop_price != 0)
    link = LINK_CHILD | (LINK_CHILDREN if both else 0)
    flags = reports.flags_of(kind_bits) & FLAG_POST_ONLY
    order_type = reports.order_type_of(kind_bits)
    put_order(book, command, side, order_type, time_in_force, flags, price, 0, link)
    side = SIDE_SELL if side == SIDE_BUY else SIDE_BUY
    gtc = TIME_IN_FORCE_GTC
    if take_price != 0:
        link = LINK_HELD | (LINK_NEXT if both else 0)
        put_order(book, command, side, ORDER_TYPE_LIMIT, gtc, 0, take_price, 0, link)
    if stop_price != 0:
        link = LINK_HELD | (LINK_PREVIOUS if both else 0)
        put_order(book, command, side, stop_type, gtc, 0, stop_limit, stop_price, link)


@inlined
def hash_of(book: Book, row: Row) -> Int:
    symbol = reports.symbol_of(row.head)
    return order_index.client_id_hash(book, row.account, symbol, row.client_order_id)


@inlined
def stays(row: Row) -> Bool:
    """Tell whether an order of a list waits or can rest."""
    return reports.can_rest(reports.kind_bits_of(row.head)) | (row.stop_price != _ZERO)


@inlined
def known_id(book: Book, instrument: Int) -> Int:
    """Return the order_id that the first of a list's ids has that is known, or 0."""
    for place in range(1, signed(state_at(book.state).listed) + 1):
        row = cause_at(book, place)
        found = first_order_id(book, hash_of(book, row), row, instrument)
        if found != 0:
            return signed(found)
    return 0


@inlined
def check_room(book: Book, command: Row, instrument: Int) -> Int:
    """Return 0, or the first Reason why a book does not take a list now."""
    state, limits = state_at(book.state), instrument_at(book, instrument)
    more = 0
    for place in range(1, signed(state.listed) + 1):
        more += 1 if stays(cause_at(book, place)) else 0
    resting = holdings.resting_orders(book, instrument) + more
    if resting > limits.max_resting_orders:
        return REASON_BOOK_FULL
    bound = limits.max_account_orders
    if resting > bound:
        held = holdings.orders_of(book.state, command.account, instrument)
        if held + more > bound:
            return REASON_TOO_MANY_ORDERS
    kind_bits = reports.kind_bits_of(cause_at(book, 1).head)
    if reports.flags_of(kind_bits) & FLAG_POST_ONLY:
        side = instrument * SIDES + reports.side_of(kind_bits) - SIDE_BUY
        limit = matching.limit_key(book, side ^ 1, kind_bits, signed(command.price))
        if side_at(book, side ^ 1).best_key <= limit:
            return REASON_POST_ONLY_WOULD_TRADE
    return REASON_NONE


@inlined
def accept_all(book: Book, command: Row, instrument: Int) -> None:
    """Make a list's orders; what is held waits from now on. Their slots stand in ``order_id``."""
    state = state_at(book.state)
    day_end_s = signed(instrument_at(book, instrument).day_end_s)
    for place in range(1, signed(state.listed) + 1):
        row = cause_at(book, place)
        kind_bits = reports.kind_bits_of(row.head)
        slot = accept(book, row, instrument, hash_of(book, row), kind_bits)
        row.order_id = np.uint64(slot)
        time = reports.time_in_force_of(kind_bits)
        given = (signed(row.expire_time_ns), signed(command.timestamp_ns), day_end_s)
        expire_time_ns = rules.expire_time(time, *given) if stays(row) else 0
        extras.take_extra(book, slot, 0, expire_time_ns)
        extra = extras.extra_of(book, slot)
        link = signed(row.display_quantity)
        extra.link = np.uint32(link)
        extra.stop_price = signed(row.stop_price)
        side = instrument * SIDES + reports.side_of(kind_bits) - SIDE_BUY
        if link & LINK_HELD:
            stops.hold(book.state, side, slot)


@called
def new_list(address: Int, output: Output, command: Row, accounts: Bool, duplicates: Bool) -> Bool:
    """Carry NEW_OCO or NEW_BRACKET out; False where a buffer is full."""
    kept_apart()
    book = open_book(address, accounts, duplicates)
    state = state_at(book.state)
    instrument = instrument_of(book, reports.symbol_of(command.head))
    if instrument < 0:
        reports.reject(book, output, command, command.order_id, REASON_UNKNOWN_SYMBOL)
        return True
    reason = check_fields(book, command, instrument)
    if reason == REASON_NONE:
        put_orders(book, command)
        known = known_id(book, instrument) if book.duplicates else 0
        if known != 0:
            repeated = REASON_DUPLICATE_CLIENT_ORDER_ID
            reports.reject(book, output, command, np.uint64(known), repeated)
            return True
        reason = check_room(book, command, instrument)
    if reason != REASON_NONE:
        reports.reject(book, output, command, command.order_id, reason)
        return True
    accept_all(book, command, instrument)
    slot = signed(cause_at(book, 1).order_id)
    on_order = (EXEC_TYPE_NEW, REASON_NONE, command.request_id, LIQUIDITY_NONE)
    reports.report_order(book, output, command, slot, *on_order, 0, 0, 0, 1)
    side = reports.side_of(reports.kind_bits_of(command.head)) - SIDE_BUY
    stops.begin(book, command, instrument * SIDES + side)
    state.trigger_slot = np.uint32(slot)
    state.trigger_price = 0
    state.unreported = np.uint32(2)
    return stops.go_on(address, output, accounts, duplicates)
