"""One user of an HTTP worker, as a session of the worker's gateway: commands out, outcomes back.

To the gateway it is a session like that of any client, but it is never held back. A user whose
window is full has commands refused as BUSY instead, for others wait behind them on the same
connections.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from frontend.gateway.account_channel import AccountChannel
from frontend.gateway.gateway import Gateway
from frontend.gateway.session import Session
from frontend.http.errors import ApiError
from frontend.http.exchange import Exchange
from frontend.roles import HTTP
from ipc.codes import COMMAND_TYPE_REDUCE
from ipc.memory.order_table_reader import OrderTableReader
from ipc.memory.status import counter_place
from ipc.records import shard_of
from ipc.vocabulary import Reason
from ipc.wire.frames import HEADER, HEADER_BYTES, frame
from ipc.wire.messages import (
    CLIENT_COMMANDS,
    MassCancel,
    MassCancelReport,
    Reject,
    Report,
    ShardRestarted,
    encoder,
    server_decoder,
)
from ipc.wire.rejects import reject, request_of

SETTLE_S = 0.0005
"""How soon a command that has not had all its effects is looked at again."""

_COMMANDS = counter_place(HTTP, "commands")
_decode = server_decoder.decode

Listener = Callable[[Report], None]
Ended = Callable[["UserSession"], None]


class UserSession(Session):
    """``opened`` is called when it is open, or where it could not be, with ``session`` still 0;
    ``ended`` where it ends otherwise than by ``leave``."""

    def __init__(
        self,
        gateway: Gateway,
        user_id: str,
        tables: Mapping[int, OrderTableReader],
        opened: Ended,
        ended: Ended,
    ) -> None:
        self.gateway = gateway
        self.session = self.stream = self.routed_bytes = 0
        self.cancel_on_disconnect = False
        self.sent_bytes_at_loss: dict[int, int] = {}
        self.user_id = user_id
        self.refusal = ""
        """Why it could not be opened."""
        self.used_s = 0.0
        """When it was used last."""
        self.pending: dict[int, Exchange] = {}
        """Commands under way by request_id, the oldest first."""
        self.listeners: dict[Listener, Callable[[], None]] = {}
        """Who hears of every report, and what is called where there will be no more."""
        self._account: AccountChannel | None = None
        self._tables = tables
        self._opened, self._ended = opened, ended
        self._taken: dict[int, Exchange] = {}
        """By order_id, those of them that were taken and may have further effects."""

    # What handlers use --------------------------------------------------------------------------

    def send(self, command: CLIENT_COMMANDS, exchange: Exchange) -> None:
        """Send a command of the user; ``exchange`` is done with all that comes of it."""
        self.pending[command.request_id] = exchange
        body = encoder.encode(command)
        self.routed_bytes += HEADER_BYTES + len(body)
        exchange.sent_bytes = self.routed_bytes
        gateway = self.gateway
        gateway.status.words[_COMMANDS] += 1
        assert self._account is not None
        if self._account.under_way >= gateway.config.window:
            self._refuse(body, Reason.BUSY)
        elif exchange.sent_to is not None:
            link = gateway.router.matchers[exchange.sent_to]
            data = HEADER.pack(len(body), self.stream) + body
            refusal = self._account.forward(link, data, 1, soon=True)
            if refusal is not None:
                self._refuse(body, refusal)
        else:
            assert isinstance(command, MassCancel)
            gateway.cancel_everywhere(self, command)

    def _refuse(self, body: bytes, reason: Reason) -> None:
        """Answer a command that is not sent."""
        self.gateway.status.add_reject(reason)
        self.deliver(frame(reject(request_of(body), reason, time.time_ns())))

    def fail_overdue(self, now_s: float) -> None:
        """End the commands that have waited long enough."""
        for exchange in list(self.pending.values()):
            if exchange.deadline > now_s:
                break  # those behind it were sent later
            self._fail(exchange)

    # What the gateway does ----------------------------------------------------------------------

    def enter(self, session: int, welcome: bytes, missed: bytes) -> None:
        """Be a session from now on."""
        self.session = session
        self._account = self.gateway.channel_of(self)
        self._opened(self)

    def close(self, code: str, text: str) -> None:
        """End, or do not begin."""
        if not self.session:
            self.refusal = text
            self._opened(self)
            return
        self.gateway.sessions.leave(self)
        for exchange in list(self.pending.values()):
            self._fail(exchange)
        self._ended(self)
        for lost in list(self.listeners.values()):
            lost()

    def stop_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""

    def deliver_missed(self, data: bytes) -> None:
        """Take frames that were missed while a link was down."""
        self.deliver(data)

    def deliver(self, data: bytes | memoryview) -> None:
        """Take whole frames, then see which commands are done."""
        if not self.pending and not self.listeners:
            return  # of orders that come by other ways
        data = bytes(data)
        position, end = 0, len(data)
        while position < end:
            start = position + HEADER_BYTES
            position = start + HEADER.unpack_from(data, position)[0]
            message = _decode(data[start:position])
            if type(message) is Report:
                self._take_report(message)
            elif isinstance(message, Reject | MassCancelReport):
                self._take_answer(message)
            elif isinstance(message, ShardRestarted):
                self._take_restart(shard_of(message.account_sequence), message.sent_bytes)
        if self._taken:
            self._settle()

    # Commands under way -------------------------------------------------------------------------

    def _take_report(self, report: Report) -> None:
        taken = self._taken.get(report.order_id)
        if taken is not None and report.sequence != taken.sequence:
            self._finish(taken)  # another command's doing: this one's was over
        exchange = self.pending.get(report.request_id)  # none is under number 0
        if exchange is not None:
            if exchange.take(report) or report.command_type == COMMAND_TYPE_REDUCE:
                self._finish(exchange)
            elif taken is not exchange:
                self._taken[report.order_id] = exchange
        if self.listeners:
            for listener in list(self.listeners):
                listener(report)

    def _take_answer(self, answer: Reject | MassCancelReport) -> None:
        exchange = self.pending.get(answer.request_id)
        if exchange is not None:
            exchange.answer = answer
            self._finish(exchange)

    def _take_restart(self, shard: int, sent_bytes: int) -> None:
        """A shard has told all that it kept: what was sent before it died stays unanswered."""
        for exchange in list(self.pending.values()):
            if exchange.sent_bytes > sent_bytes:
                break  # those behind it were sent later
            if exchange.sent_to in (shard, None):
                self._fail(exchange)

    def _settle(self) -> None:
        """Finish every command that was taken and that nothing more can come of."""
        waiting = False
        for exchange in list(self._taken.values()):
            assert exchange.sent_to is not None  # a report answers it: it went to one shard
            table = self._tables[exchange.sent_to]
            if exchange.is_settled(table):
                self._finish(exchange)
            elif table.completed < exchange.sequence:
                waiting = True
        if waiting:
            asyncio.get_running_loop().call_later(SETTLE_S, self._settle)

    def _finish(self, exchange: Exchange) -> None:
        self._end(exchange)
        exchange.done(exchange)

    def _fail(self, exchange: Exchange) -> None:
        """End a command that has no answer."""
        self._end(exchange)
        self.gateway.status.add("unknown_outcomes", 1)
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
            self._taken.pop(exchange.first.order_id, None)
