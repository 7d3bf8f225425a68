"""One client's connection to the frontend: login, framing, limits, and routing of what it sends.

Frames are passed on as they came, but for the stream number in their header: the frontend looks
at tag and symbol and decodes nothing, unless something is odd about a message. Then it decodes it
to answer precisely.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from msgspec import DecodeError, ValidationError

from frontend.backends import BackendLink
from frontend.router import peek
from ipc.explain import explain, reject, request_of
from ipc.frames import HEADER, HEADER_BYTES, FrameTooLongError, frame
from ipc.messages import (
    MAX_COMMAND_BODY,
    Cancel,
    Closing,
    Login,
    MassCancel,
    Ping,
    Pong,
    Reduce,
    Replace,
    client_decoder,
    tag_of,
)
from ipc.vocabulary import Reason

if TYPE_CHECKING:
    from frontend.hall import Hall


class ClientConnection(asyncio.Protocol):
    """A connection from accept to close. The ``Hall`` is what all connections share."""

    def __init__(self, hall: Hall) -> None:
        self.hall = hall
        self.session = 0
        self.stream = 0
        self.last_seen_s = 0.0
        self.transport: asyncio.WriteTransport | None = None
        self._rest = b""
        self._login_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock for the login."""
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        loop = asyncio.get_running_loop()
        self.last_seen_s = loop.time()
        if not self.hall.admit(self):
            self.close("TOO_MANY_SESSIONS", "the frontend has its max_sessions; try again later")
            return
        seconds = self.hall.config.login_timeout_s
        if seconds:
            self._login_timer = loop.call_later(seconds, self._login_overdue)

    def connection_lost(self, _: Exception | None) -> None:
        """Leave; the account's orders stay."""
        if self._login_timer is not None:
            self._login_timer.cancel()
        self.transport = None
        self.hall.leave(self)

    def data_received(self, data: bytes) -> None:
        """Route every whole frame; write once to each matcher that gets any."""
        self.last_seen_s = asyncio.get_running_loop().time()
        self.hall.status.add("bytes_in", len(data))
        buffer = bytearray(self._rest) + data if self._rest else bytearray(data)
        self._rest = b""
        batches: dict[BackendLink, bytearray] = {}
        try:
            rest = self._route_all(buffer, batches)
        except FrameTooLongError as error:
            self._pass_on(batches)
            self.hall.status.add("closed_frame_too_long", 1)
            self.close("FRAME_TOO_LONG", str(error))
            return
        self._pass_on(batches)
        if self.transport is not None and not self.transport.is_closing():
            self._rest = bytes(buffer[rest:])

    def deliver(self, data: bytes | memoryview) -> None:
        """Send frames to the client; cut off one that does not read."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > self.hall.config.max_unread_bytes:
            self.hall.status.add("closed_slow_reader", 1)
            transport.abort()

    def close(self, code: str, text: str) -> None:
        """Say why, then close once that is sent."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(frame(Closing(code, text)))
            transport.close()

    def _route_all(self, buffer: bytearray, batches: dict[BackendLink, bytearray]) -> int:
        """Sort the whole frames of ``buffer`` into ``batches``; return where the rest begins."""
        position, end, frames = 0, len(buffer), 0
        router = self.hall.router
        while end - position >= HEADER_BYTES:
            length, _ = HEADER.unpack_from(buffer, position)
            if length > MAX_COMMAND_BODY:
                raise FrameTooLongError(length, MAX_COMMAND_BODY)
            start = position + HEADER_BYTES
            stop = start + length
            if stop > end:
                break
            frames += 1
            tag, symbol = peek(buffer, start, stop)
            link = router.plain(tag, symbol, self.session) if self.session else None
            if link is None:
                self._odd(bytes(buffer[start:stop]), batches)
                if self.transport is None or self.transport.is_closing():
                    break
            else:
                self._forward(link, buffer[start:stop], batches)
            position = stop
        self.hall.status.add("frames_in", frames)
        return position

    def _forward(
        self, link: BackendLink, body: bytes | bytearray, batches: dict[BackendLink, bytearray]
    ) -> None:
        """Add one frame to what goes to ``link``, or refuse it."""
        refusal = link.refusal()
        if refusal is not None:
            self._reject(body, refusal)
            return
        batch = batches.get(link)
        if batch is None:
            batch = batches[link] = bytearray()
        batch += HEADER.pack(len(body), self.stream)
        batch += body

    def _pass_on(self, batches: dict[BackendLink, bytearray]) -> None:
        for link, batch in batches.items():
            link.write(batch)

    def _odd(self, body: bytes, batches: dict[BackendLink, bytearray]) -> None:
        """Deal with a message that is not plainly for one matcher or worker."""
        try:
            message = client_decoder.decode(body)
        except (ValidationError, DecodeError, UnicodeDecodeError) as error:
            answer = explain(body, error, time.time_ns())
            if not self.session:
                self._not_logged_in(f"; {answer.field}: {answer.text}")
                return
            self.hall.status.add("rejects_message", 1)
            self.hall.status.add_reject(answer.code)
            self.deliver(frame(answer))
            return
        if isinstance(message, Login):
            self._log_in(message)
        elif not self.session:
            self._not_logged_in()
        elif isinstance(message, Ping):
            self.deliver(frame(Pong(message.request_id)))
        elif isinstance(message, MassCancel) and not message.symbol:
            self._pass_on(batches)
            batches.clear()
            self.hall.cancel_everywhere(self, message)
        else:
            link = self.hall.router.plain(tag_of(type(message)), message.symbol, self.session)
            if isinstance(message, Cancel | Replace | Reduce) and not message.symbol:
                link = self.hall.router.by_order(message.order_id)
            if link is not None:
                self._forward(link, body, batches)
            elif isinstance(message, Cancel | Replace | Reduce) and not message.symbol:
                known = Reason.UNKNOWN_ORDER if message.order_id else Reason.INVALID_ORDER_ID
                self._reject(body, known)
            else:
                self._reject(body, Reason.UNKNOWN_SYMBOL)

    def _reject(self, body: bytes | bytearray, reason: Reason) -> None:
        self.hall.status.add_reject(reason)
        self.deliver(frame(reject(request_of(body), reason, time.time_ns())))

    def _log_in(self, login: Login) -> None:
        if self.session:
            self.close("ALREADY_LOGGED_IN", "a connection logs in once")
            return
        if self._login_timer is not None:
            self._login_timer.cancel()
        welcome = self.hall.log_in(self, login)
        if welcome is None:
            self.close("LOGIN_REFUSED", "user_id: no further account can be opened")
        else:
            self.deliver(frame(welcome))

    def _not_logged_in(self, detail: str = "") -> None:
        self.hall.status.add("closed_not_logged_in", 1)
        self.close("NOT_LOGGED_IN", f"the first message of a connection must be Login{detail}")

    def _login_overdue(self) -> None:
        if not self.session:
            self.hall.status.add("closed_login_timeout", 1)
            self.close("LOGIN_TIMEOUT", "no Login came within login_timeout_s")
