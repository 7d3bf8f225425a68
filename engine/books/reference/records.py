"""The records that the reference book reads and writes, as Python tuples.

A batch of records crosses between numpy and Python in one step, never field by field. All codes
are plain integers here: an IntEnum member takes several times as long to store in a record.
"""

from dataclasses import dataclass

from ipc.codes import (
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_MASS_CANCELED,
    EXEC_TYPE_REJECTED,
    LIQUIDITY_NONE,
    ORD_STATUS_CANCELED,
    ORD_STATUS_FILLED,
    ORD_STATUS_NEW,
    ORD_STATUS_PARTIALLY_FILLED,
    ORD_STATUS_REJECTED,
)
from ipc.records import CommandRow
from ipc.vocabulary import PREVENTION_SHIFT

PREVENTION_MASK = 7

Row = tuple[int, ...]
"""One record's fields in the order of its dtype."""


Command = CommandRow


@dataclass(slots=True)
class Order:
    """A live order: resting, or being matched by the command at hand."""

    order_id: int
    account: int
    client_order_id: int
    symbol: int
    side: int
    order_type: int
    time_in_force: int
    flags: int  # POST_ONLY, TRIGGERED, and its SelfTradePrevention
    price: int
    leaves_qty: int
    cum_qty: int = 0
    stop_price: int = 0  # 0: it waits for none, or no longer

    @property
    def prevention(self) -> int:
        """Its SelfTradePrevention, which its flags have."""
        return self.flags >> PREVENTION_SHIFT & PREVENTION_MASK


def order_report(
    command: Command,
    sequence: int,
    order: Order,
    exec_type: int,
    request_id: int,
    reason: int = 0,
    liquidity: int = LIQUIDITY_NONE,
    last_price: int = 0,
    last_qty: int = 0,
    trade_id: int = 0,
    answers: int = 0,
) -> Row:
    """Return the REPORT on an order. With CANCELED, the order is as it was before its end."""
    cum_qty, leaves_qty = order.cum_qty, order.leaves_qty
    quantity = cum_qty + leaves_qty
    if exec_type == EXEC_TYPE_CANCELED:
        ord_status, leaves_qty = ORD_STATUS_CANCELED, 0
    elif leaves_qty == 0:
        ord_status = ORD_STATUS_FILLED
    else:
        ord_status = ORD_STATUS_PARTIALLY_FILLED if cum_qty else ORD_STATUS_NEW
    return (
        exec_type,
        ord_status,
        command.command_type,
        order.side,
        order.order_type,
        order.time_in_force,
        order.flags,
        liquidity,
        order.symbol,
        reason,
        answers,
        sequence,
        request_id,
        order.account,
        order.order_id,
        order.client_order_id,
        order.price,
        quantity,
        cum_qty,
        leaves_qty,
        last_price,
        last_qty,
        trade_id,
        command.timestamp_ns,
        0,
    )


def reject_report(command: Command, sequence: int, order_id: int, reason: int) -> Row:
    """Return the REPORT of a command that was not carried out."""
    return (
        EXEC_TYPE_REJECTED,
        ORD_STATUS_REJECTED,
        command.command_type,
        command.side,
        command.order_type,
        command.time_in_force,
        command.flags,
        LIQUIDITY_NONE,
        command.symbol,
        reason,
        1,
        sequence,
        command.request_id,
        command.account,
        order_id,
        command.client_order_id,
        command.price,
        command.quantity,
        0,
        0,
        0,
        0,
        0,
        command.timestamp_ns,
        0,
    )


def mass_cancel_report(command: Command, sequence: int, canceled_orders: int) -> Row:
    """Return the REPORT that answers a MASS_CANCEL."""
    codes = (
        EXEC_TYPE_MASS_CANCELED,
        ORD_STATUS_NEW,
        command.command_type,
        0,
        0,
        0,
        command.flags,
        LIQUIDITY_NONE,
    )
    return (
        *codes,
        command.symbol,
        0,
        1,
        sequence,
        command.request_id,
        command.account,
        0,
        0,
        0,
        canceled_orders,
        0,
        0,
        0,
        0,
        0,
        command.timestamp_ns,
        0,
    )
