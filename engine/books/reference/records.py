"""The records that the reference book reads and writes, as Python tuples.

A batch of records crosses between numpy and Python in one step, never field by field. All codes
are plain integers here: an IntEnum member takes several times as long to store in a record.
"""

from dataclasses import dataclass

from ipc.codes import (
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_EXPIRED,
    EXEC_TYPE_MASS_CANCELED,
    EXEC_TYPE_REJECTED,
    LIQUIDITY_NONE,
    ORD_STATUS_CANCELED,
    ORD_STATUS_EXPIRED,
    ORD_STATUS_FILLED,
    ORD_STATUS_NEW,
    ORD_STATUS_PARTIALLY_FILLED,
    ORD_STATUS_REJECTED,
)
from ipc.records import CommandRow, ReportRow
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
    flags: int  # POST_ONLY, TRIGGERED, RARE, and its SelfTradePrevention
    price: int
    leaves_qty: int
    cum_qty: int = 0
    stop_price: int = 0  # 0: it waits for none, or no longer
    display_quantity: int = 0  # 0: all of it is shown
    expire_time_ns: int = 0  # 0: never
    link: int = 0  # whom it is tied to: ``engine.books.rules``
    hidden: int = 0  # of what is left, while it rests

    @property
    def shown(self) -> int:
        """What of it stands in the depth, while it rests."""
        return self.leaves_qty - self.hidden

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
) -> ReportRow:
    """Return the REPORT on an order. With CANCELED or EXPIRED it is as it was before its end."""
    cum_qty, leaves_qty = order.cum_qty, order.leaves_qty
    if exec_type == EXEC_TYPE_CANCELED:
        ord_status, leaves_qty = ORD_STATUS_CANCELED, 0
    elif exec_type == EXEC_TYPE_EXPIRED:
        ord_status, leaves_qty = ORD_STATUS_EXPIRED, 0
    elif leaves_qty == 0:
        ord_status = ORD_STATUS_FILLED
    else:
        ord_status = ORD_STATUS_PARTIALLY_FILLED if cum_qty else ORD_STATUS_NEW
    return ReportRow(
        exec_type=exec_type,
        ord_status=ord_status,
        command_type=command.command_type,
        side=order.side,
        order_type=order.order_type,
        time_in_force=order.time_in_force,
        flags=order.flags,
        liquidity=liquidity,
        symbol=order.symbol,
        reason=reason,
        answers=answers,
        sequence=sequence,
        request_id=request_id,
        account=order.account,
        order_id=order.order_id,
        client_order_id=order.client_order_id,
        price=order.price,
        quantity=cum_qty + order.leaves_qty,
        cum_qty=cum_qty,
        leaves_qty=leaves_qty,
        last_price=last_price,
        last_qty=last_qty,
        trade_id=trade_id,
        timestamp_ns=command.timestamp_ns,
    )


def reject_report(command: Command, sequence: int, order_id: int, reason: int) -> ReportRow:
    """Return the REPORT of a command that was not carried out."""
    return ReportRow(
        exec_type=EXEC_TYPE_REJECTED,
        ord_status=ORD_STATUS_REJECTED,
        command_type=command.command_type,
        side=command.side,
        order_type=command.order_type,
        time_in_force=command.time_in_force,
        flags=command.flags,
        symbol=command.symbol,
        reason=reason,
        answers=1,
        sequence=sequence,
        request_id=command.request_id,
        account=command.account,
        order_id=order_id,
        client_order_id=command.client_order_id,
        price=command.price,
        quantity=command.quantity,
        timestamp_ns=command.timestamp_ns,
    )


def mass_cancel_report(command: Command, sequence: int, canceled_orders: int) -> ReportRow:
    """Return the REPORT that answers a MASS_CANCEL."""
    return ReportRow(
        exec_type=EXEC_TYPE_MASS_CANCELED,
        command_type=command.command_type,
        flags=command.flags,
        symbol=command.symbol,
        answers=1,
        sequence=sequence,
        request_id=command.request_id,
        account=command.account,
        quantity=canceled_orders,
        timestamp_ns=command.timestamp_ns,
    )
