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

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from frontend.http.errors import ApiError
from ipc.codes import (
    COMMAND_TYPE_REDUCE,
    EXEC_TYPE_TRADE,
    FLAG_TRIGGERED,
    TIME_IN_FORCE_FOK,
    TIME_IN_FORCE_IOC,
)
from ipc.memory.order_table_reader import OrderTableReader
from ipc.memory.status import StatusWriter
from ipc.vocabulary import CONDITIONAL, ENDED, PRICELESS
from ipc.wire.messages import MassCancelReport, Reject, Report

SETTLE_S = 0.0005
"""How soon a command that has not had all its effects is looked at again."""
_NO_TABLES: Mapping[int, OrderTableReader] = MappingProxyType({})
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


class Exchanges:
    """The commands of one session that are under way. Each is done, or fails, once."""

    def __init__(
        self, status: StatusWriter, tables: Mapping[int, OrderTableReader] = _NO_TABLES
    ) -> None:
        """``tables`` are those of the shards, where they are on this machine."""
        self.pending: dict[int, Exchange] = {}
        """By request_id, the oldest first."""
        self.taken: dict[int, Exchange] = {}
        """By order_id, those of them that were taken and may have further effects."""
        self._status = status
        self._tables = tables

    def take_report(self, report: Report) -> Exchange | None:
        """Take a report of the account; return the command that it says was taken, if that may have
        further effects."""
        taken = self.taken.get(report.order_id)
        if taken is not None and report.sequence != taken.sequence:
            self.finish(taken)  # another command's doing: this one's was over
        exchange = self.pending.get(report.request_id)  # none is under number 0
        if exchange is None:
            return None
        if exchange.take(report) or report.command_type == COMMAND_TYPE_REDUCE:
            self.finish(exchange)
        elif taken is not exchange:
            self.taken[report.order_id] = exchange
            return exchange
        return None

    def take_answer(self, answer: Reject | MassCancelReport) -> None:
        """Take an answer with which a command is done."""
        exchange = self.pending.get(answer.request_id)
        if exchange is not None:
            exchange.answer = answer
            self.finish(exchange)

    def take_restart(self, shard: int, sent_bytes: int) -> None:
        """A shard has told all that it kept: what was sent before it died stays unanswered."""
        for exchange in list(self.pending.values()):
            if exchange.sent_bytes > sent_bytes:
                break  # those behind it were sent later
            if exchange.sent_to in (shard, None):
                self._fail(exchange)

    def settle(self) -> None:
        """Finish every command that was taken and that nothing more can come of."""
        waiting = False
        for exchange in list(self.taken.values()):
            assert exchange.sent_to is not None  # a report answers it: it went to one shard
            table = self._tables[exchange.sent_to]
            if exchange.is_settled(table):
                self.finish(exchange)
            elif table.completed < exchange.sequence:
                waiting = True
        if waiting:
            asyncio.get_running_loop().call_later(SETTLE_S, self.settle)

    def fail_overdue(self, now_s: float) -> None:
        """End the commands that have waited long enough."""
        for exchange in list(self.pending.values()):
            if exchange.deadline > now_s:
                break  # those behind it were sent later
            self._fail(exchange)

    def fail_all(self) -> None:
        """End them all."""
        for exchange in list(self.pending.values()):
            self._fail(exchange)

    def finish(self, exchange: Exchange) -> None:
        """End a command with all that came of it."""
        self._end(exchange)
        exchange.done(exchange)

    def _fail(self, exchange: Exchange) -> None:
        """End a command that has no answer."""
        self._end(exchange)
        self._status.add("unknown_outcomes", 1)
        exchange.done(
            ApiError(
                "OUTCOME_UNKNOWN",
                "no answer came in time: the command may have been carried out or not; look at the "
                "order, or send it again with the same client_order_id",
            )
        )

    def _end(self, exchange: Exchange) -> None:
        del self.pending[exchange.request_id]
        if exchange.first is not None:
            self.taken.pop(exchange.first.order_id, None)
