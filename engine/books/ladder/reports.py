"""Writing REPORT and TRADE records, several small fields in one store."""

import numpy as np

from engine.books import rules
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    Output,
    Row,
    order_at,
    report_at,
    signed,
    state_at,
    trade_at,
)
from ipc.codes import (
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_EXPIRED,
    EXEC_TYPE_MASS_CANCELED,
    EXEC_TYPE_REJECTED,
    FLAG_POST_ONLY,
    FLAG_RARE,
    LIQUIDITY_NONE,
    ORD_STATUS_CANCELED,
    ORD_STATUS_EXPIRED,
    ORD_STATUS_FILLED,
    ORD_STATUS_NEW,
    ORD_STATUS_PARTIALLY_FILLED,
    ORD_STATUS_REJECTED,
    REASON_NONE,
    TIME_IN_FORCE_FOK,
    TIME_IN_FORCE_GTC,
    TIME_IN_FORCE_IOC,
)
from ipc.native.compiled import inlined
from ipc.vocabulary import (
    PREVENTION_SHIFT,
    OrderType,
)

_PRICELESS = 1
"""The bit of an order_type that says that it has no limit."""
assert all(kind & _PRICELESS == rules.is_priceless(kind) for kind in OrderType)
RARE_BIT = np.uint32(FLAG_RARE << 24)
_RARE = FLAG_RARE << 24
_KIND_MASK = _PRICELESS << 8 | 0xFF0000
_PLAIN_MASK = _KIND_MASK | _RARE
_RESTING_KIND = TIME_IN_FORCE_GTC << 16
_MINDED = (7 << PREVENTION_SHIFT | FLAG_RARE) << 24
_FLAGS = 0xFF000000


# The bytes of a record's first word --------------------------------------------------------------


@inlined
def command_type_of(head: Int) -> Int:
    return signed(head & np.uint64(0xFF))


@inlined
def kind_bits_of(head: Int) -> Int:
    """Return side, order_type, time_in_force and flags, one byte each, of a COMMAND."""
    return signed((head >> np.uint64(8)) & np.uint64(0xFFFFFFFF))


@inlined
def symbol_of(head: Int) -> Int:
    return signed(head >> np.uint64(48))


@inlined
def side_of(kind_bits: Int) -> Int:
    return kind_bits & 0xFF


@inlined
def order_type_of(kind_bits: Int) -> Int:
    return (kind_bits >> 8) & 0xFF


@inlined
def time_in_force_of(kind_bits: Int) -> Int:
    return (kind_bits >> 16) & 0xFF


@inlined
def flags_of(kind_bits: Int) -> Int:
    return (kind_bits >> 24) & 0xFF


@inlined
def order_terms(head: Int) -> Int:
    """Return the kind_bits of a COMMAND's order: of its flags those that it keeps, and its mode."""
    mode = prevention_of_command(head) << (24 + PREVENTION_SHIFT)
    return kind_bits_of(head) & (0xFFFFFF | FLAG_POST_ONLY << 24) | mode


@inlined
def prevention_of_command(head: Int) -> Int:
    """Return the self_trade_prevention of a COMMAND."""
    return signed((head >> np.uint64(40)) & np.uint64(0xFF))


@inlined
def prevention_of(kind_bits: Int) -> Int:
    """Return the SelfTradePrevention of an order."""
    return (kind_bits >> (24 + PREVENTION_SHIFT)) & 7


@inlined
def is_minded(kind_bits: Int) -> Int:
    """Return what is not 0 where an order has a SelfTradePrevention, or is a rare one."""
    return kind_bits & _MINDED


@inlined
def is_priceless(kind_bits: Int) -> Bool:
    """Tell whether an order has no limit."""
    return kind_bits & _PRICELESS << 8 != 0


@inlined
def is_resting_kind(kind_bits: Int) -> Bool:
    """Tell whether what is left of an order after matching rests: a limit, and GTC."""
    return kind_bits & _KIND_MASK == _RESTING_KIND


@inlined
def is_plain_resting_kind(kind_bits: Int) -> Bool:
    """Tell the same of an order, and that it is not a rare one."""
    return kind_bits & _PLAIN_MASK == _RESTING_KIND


@inlined
def is_common_time(time_in_force: Int) -> Bool:
    """Tell whether an order of this time is no rare one."""
    return (
        (time_in_force == TIME_IN_FORCE_GTC)
        | (time_in_force == TIME_IN_FORCE_IOC)
        | (time_in_force == TIME_IN_FORCE_FOK)
    )


@inlined
def can_rest(kind_bits: Int) -> Bool:
    """Tell whether what is left of any order after matching rests: it has a limit, and time."""
    time = time_in_force_of(kind_bits)
    return (time != TIME_IN_FORCE_IOC) & (time != TIME_IN_FORCE_FOK) & (not is_priceless(kind_bits))


@inlined
def is_rare(kind_bits: Int) -> Bool:
    """Tell whether an order has a row in the side table."""
    return kind_bits & _RARE != 0


@inlined
def report_head(
    exec_type: Int, ord_status: Int, command_type: Int, kind_bits: Int, liquidity: Int
) -> Int:
    return exec_type | ord_status << 8 | command_type << 16 | kind_bits << 24 | liquidity << 56


# Room --------------------------------------------------------------------------------------------


@inlined
def has_room(book: Book, output: Output, reports: Int) -> Bool:
    return state_at(book.state).reports + reports <= output.report_capacity


@inlined
def has_trade_room(book: Book, output: Output) -> Bool:
    """Tell whether a trade and its two reports fit."""
    state = state_at(book.state)
    return state.reports + 2 <= output.report_capacity and state.trades < output.trade_capacity


# Reports -----------------------------------------------------------------------------------------


@inlined
def report_order(
    book: Book,
    output: Output,
    command: Row,
    slot: Int,
    exec_type: Int,
    reason: Int,
    request_id: Int,
    liquidity: Int,
    last_price: Int,
    last_qty: Int,
    trade_id: Int,
    answers: Int,
) -> None:
    """Report on an order as it stands; with CANCELED or EXPIRED, as it was before its end."""
    state = state_at(book.state)
    order = order_at(book, slot)
    report = report_at(output, state.reports)
    state.reports += 1
    leaves_qty = order.leaves_qty
    cum_qty = order.cum_qty
    total = cum_qty + leaves_qty
    status = ORD_STATUS_PARTIALLY_FILLED if cum_qty != 0 else ORD_STATUS_NEW
    if leaves_qty == 0:
        status = ORD_STATUS_FILLED
    if exec_type in (EXEC_TYPE_CANCELED, EXEC_TYPE_EXPIRED):
        status = ORD_STATUS_CANCELED if exec_type == EXEC_TYPE_CANCELED else ORD_STATUS_EXPIRED
        leaves_qty = 0
    head = command.head
    kind_bits = signed(order.kind_bits)
    report.head = report_head(exec_type, status, command_type_of(head), kind_bits, liquidity)
    report.detail = state.symbol | reason << 16 | answers << 32
    report.sequence = state.sequence
    report.request_id = request_id
    report.account = order.account
    report.order_id = order.order_id
    report.client_order_id = order.client_order_id
    report.price = order.price
    report.quantity = total
    report.cum_qty = cum_qty
    report.leaves_qty = leaves_qty
    report.last_price = last_price
    report.last_qty = last_qty
    report.trade_id = trade_id
    report.timestamp_ns = command.timestamp_ns
    report.account_sequence = 0


@inlined
def answer(
    book: Book, output: Output, command: Row, slot: Int, exec_type: Int, reason: Int, answers: Int
) -> None:
    """Report to a command what became of its own order; ``answers``: 1 where it is its answer."""
    on_order = (exec_type, reason, command.request_id, LIQUIDITY_NONE, 0, 0, 0, answers)
    report_order(book, output, command, slot, *on_order)


@inlined
def write_answer(
    book: Book,
    output: Output,
    command: Row,
    head: Int,
    reason: Int,
    order_id: Int,
    client_order_id: Int,
    price: Int,
    quantity: Int,
) -> None:
    """Write an answer that is on no order."""
    state = state_at(book.state)
    report = report_at(output, state.reports)
    state.reports += 1
    report.head = head
    report.detail = symbol_of(command.head) | reason << 16 | 1 << 32
    report.sequence = state.sequence
    report.request_id = command.request_id
    report.account = command.account
    report.order_id = order_id
    report.client_order_id = client_order_id
    report.price = price
    report.quantity = quantity
    report.cum_qty = 0
    report.leaves_qty = 0
    report.last_price = 0
    report.last_qty = 0
    report.trade_id = 0
    report.timestamp_ns = command.timestamp_ns
    report.account_sequence = 0


@inlined
def reject(book: Book, output: Output, command: Row, order_id: Int, reason: Int) -> None:
    """Answer a command that is not carried out."""
    head = command.head
    report = report_head(
        EXEC_TYPE_REJECTED,
        ORD_STATUS_REJECTED,
        command_type_of(head),
        kind_bits_of(head),
        LIQUIDITY_NONE,
    )
    write_answer(
        book,
        output,
        command,
        report,
        reason,
        order_id,
        command.client_order_id,
        command.price,
        command.quantity,
    )


@inlined
def answer_mass_cancel(book: Book, output: Output, command: Row) -> None:
    """Answer a mass cancel, whose ``quantity`` is how many orders it took."""
    head = command.head
    report = report_head(
        EXEC_TYPE_MASS_CANCELED,
        ORD_STATUS_NEW,
        command_type_of(head),
        kind_bits_of(head) & _FLAGS,
        LIQUIDITY_NONE,
    )
    zero = np.uint64(0)
    write_answer(book, output, command, report, REASON_NONE, 0, zero, zero, command.quantity)


@inlined
def write_trade(
    book: Book,
    output: Output,
    command: Row,
    side: Int,
    taker_slot: Int,
    maker_slot: Int,
    trade_id: Int,
    quantity: Int,
) -> None:
    """Write the record of a trade by a taker of ``side``."""
    state = state_at(book.state)
    trade = trade_at(output, state.trades)
    state.trades += 1
    sells = side & 1
    taker_id = order_at(book, taker_slot).order_id
    maker_id = order_at(book, maker_slot).order_id
    trade.trade_id = trade_id
    trade.sequence = state.sequence
    trade.timestamp_ns = command.timestamp_ns
    trade.price = order_at(book, maker_slot).price
    trade.quantity = quantity
    trade.buy_order_id = maker_id if sells else taker_id
    trade.sell_order_id = taker_id if sells else maker_id
    trade.detail = state.symbol | (sells + 1) << 16
