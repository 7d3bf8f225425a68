"""One user of an HTTP worker, as a session of the worker's gateway: commands out, outcomes back.

To the gateway it is a session like that of any client, but it is never held back. A user whose
window is full has commands refused as BUSY instead, for others wait behind them on the same
connections.
"""

import time
from collections.abc import Callable, Mapping

from frontend.gateway.account_channel import AccountChannel
from frontend.gateway.gateway import Gateway
from frontend.gateway.session import Session
from frontend.http.exchange import Exchange, Exchanges
from frontend.roles import HTTP
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
        self.exchanges = Exchanges(gateway.status, tables)
        self.listeners: dict[Listener, Callable[[], None]] = {}
        """Who hears of every report, and what is called where there will be no more."""
        self._account: AccountChannel | None = None
        self._opened, self._ended = opened, ended

    # What handlers use --------------------------------------------------------------------------

    def send(self, command: CLIENT_COMMANDS, exchange: Exchange) -> None:
        """Send a command of the user; ``exchange`` is done with all that comes of it."""
        self.exchanges.pending[command.request_id] = exchange
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
        self.exchanges.fail_all()
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
        exchanges, listeners = self.exchanges, self.listeners
        if not exchanges.pending and not listeners:
            return  # of orders that come by other ways
        data = bytes(data)
        position, end = 0, len(data)
        while position < end:
            start = position + HEADER_BYTES
            position = start + HEADER.unpack_from(data, position)[0]
            message = _decode(data[start:position])
            if type(message) is Report:
                exchanges.take_report(message)
                for listener in list(listeners) if listeners else ():
                    listener(message)
            elif isinstance(message, Reject | MassCancelReport):
                exchanges.take_answer(message)
            elif isinstance(message, ShardRestarted):
                exchanges.take_restart(shard_of(message.account_sequence), message.sent_bytes)
        if exchanges.taken:
            exchanges.settle()
