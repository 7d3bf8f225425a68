"""One command and everything that comes of it, up to the moment when no more can come.

The first answer says that an order was taken, its trades follow, and nothing marks the last of
them. What is final is read from shared memory: the order table shows which commands have had all
their effects (``OrderTableReader.completed``) and how much of the order is filled. Once the
reports that have come tell of as much, the command is done. Where the table shows more, those
reports are still to come; they may also be later commands' trades with the order, whose sequence
is another: then the command was done before them. An order that may not rest ends with a report of
its own, filled or cancelled, which is waited for. An order that waits for its stop price is done
once its command is: the answer to it says whether it triggers at once.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from ipc.codes import EXEC_TYPE_TRADE, FLAG_TRIGGERED, TIME_IN_FORCE_FOK, TIME_IN_FORCE_IOC
from ipc.memory.order_table_reader import OrderTableReader
from ipc.vocabulary import CONDITIONAL, ENDED, PRICELESS
from ipc.wire.messages import MassCancelReport, Reject, Report

_PRICELESS, _CONDITIONAL = tuple(map(int, PRICELESS)), tuple(map(int, CONDITIONAL))
_AT_ONCE = (TIME_IN_FORCE_IOC, TIME_IN_FORCE_FOK)
_ENDED = tuple(map(int, ENDED))


class Exchange(Struct, eq=False):
    """What a command has been answered so far; ``done`` is called once that is all."""

    request_id: int
    deadline: float
    done: Callable[[Any], None]
    sent_to: int | None = None
    """The shard of the command, None for all."""
    sent_bytes: int = 0
    """Of all that its session has sent, how much there was with this command."""
    answer: Reject | MassCancelReport | None = None
    first: Report | None = None
    """The report that the command was taken."""
    sequence: int = 0
    """The command's sequence in its shard, once it was taken."""
    last: Report | None = None
    """The newest report of the command."""
    first_trade_id: int = 0
    trade_count: int = 0
    """Of the trades that the command made; their ids are dense."""

    def take(self, report: Report) -> bool:
        """Take a report of this command; return whether it was the last one for certain."""
        if self.first is None:
            self.first = report
            self.sequence = report.sequence
        elif report.exec_type == EXEC_TYPE_TRADE:
            self.first_trade_id = self.first_trade_id or report.trade_id
            self.trade_count += 1
        self.last = report
        return report.ord_status in _ENDED

    def is_settled(self, table: OrderTableReader) -> bool:
        """Return whether nothing more can come of a command that was taken."""
        first, last = self.first, self.last
        assert first is not None
        assert last is not None
        if first.order_type in _CONDITIONAL and not first.flags & FLAG_TRIGGERED:
            return table.completed >= self.sequence
        if first.order_type in _PRICELESS or first.time_in_force in _AT_ONCE:
            return False  # its end is reported
        if table.completed < self.sequence:
            return False
        filled = table.cum_qty(first.order_id)
        return filled is None or filled <= last.cum_qty
