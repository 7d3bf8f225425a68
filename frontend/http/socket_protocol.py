"""WebSockets below their messages: uvicorn's, bounded against who sends much and reads little.

uvicorn parses all that one read brings before anyone else runs, answers each ping with bytes that
wait for a client that may never read, keeps the fragments of a message without bound, and waits
for ever for a peer to read the end of a connection that is being closed.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.protocol import OPEN

PIECE_BYTES = 2_048
"""What is parsed of a connection's bytes before others have their turn."""
MAX_FRAGMENTS = 1_024
"""Of one message."""
CLOSE_S = 5.0
"""A peer has so long to answer that a connection is closed, and then to read what it was sent."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket.

    Bytes are parsed piece by piece, and no further while messages wait to be taken: then nothing
    is read either. Of the pings of a client that does not read only the newest is answered
    (RFC 6455, 5.5.3).
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.close_timeout = CLOSE_S
        self._unread = b""
        self._position = 0
        """Up to where ``_unread`` is parsed."""
        self._turn_is_due = False
        self._pong = b""
        """The answer to the newest ping of a client that does not read."""

    def data_received(self, data: bytes) -> None:
        """Take bytes, and parse as many as are due now."""
        if self._unread:
            data = self._unread[self._position :] + data
        self._unread, self._position = data, 0
        if not self._turn_is_due:
            self._parse()

    def _parse(self) -> None:
        """Parse a piece, where the messages before it are taken; then see whether to read on."""
        self._turn_is_due = False
        if self._unread and not self.transport.is_closing() and self._is_idle():
            if len(self._unread) <= PIECE_BYTES:
                piece, self._unread = self._unread, b""
            else:
                piece = self._unread[self._position : self._position + PIECE_BYTES]
                self._position += len(piece)
                if self._position >= len(self._unread):
                    self._unread = b""
            super().data_received(piece)
            if self._unread and self._is_idle():
                self._turn_is_due = True
                self.loop.call_soon(self._parse)
        self._read_or_not()

    def _is_idle(self) -> bool:
        """Return whether the application has taken all messages, or takes no more."""
        return self.close_sent or self.queue.empty()

    def _read_or_not(self) -> None:
        if self.transport.is_closing():
            return
        reads = not self._unread and self._is_idle()
        if reads and self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        elif not reads and not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    async def receive(self) -> Any:
        """Return the next event for the application; once there is no other, go on."""
        event = await self.queue.get()
        if self.queue.empty() and not self._turn_is_due:
            if self._unread:
                self._turn_is_due = True
                self.loop.call_soon(self._parse)
            else:
                self._read_or_not()
        return event

    def resume_writing(self) -> None:
        """Answer what is left of the pings."""
        super().resume_writing()
        if self._pong and not self.transport.is_closing():
            self.transport.write(self._pong)
        self._pong = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what is not parsed."""
        super().connection_lost(exc)
        self._unread = b""

    def handle_ping(self) -> None:
        """Send the pongs that the parser has made, or keep the last one for later."""
        pongs = self.conn.data_to_send()
        if not pongs:
            return
        if self.writable.is_set() or self.conn.state is not OPEN:
            self.transport.write(b"".join(pongs))
        else:
            self._pong = pongs[-1]

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment, unless the message has too many."""
        if self.close_sent:
            return
        if len(self.frames) >= MAX_FRAGMENTS:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"more than {MAX_FRAGMENTS} fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)


class Farewells:
    """Connections that are closed by us; who does not read the rest in time is cut off."""

    def __init__(self) -> None:
        self._since: dict[asyncio.Transport, float] = {}

    def look(self, transports: Iterable[asyncio.Transport | None], now_s: float) -> None:
        """See which of all connections are closing, and end those that have been for too long."""
        closing = [transport for transport in transports if transport and transport.is_closing()]
        self._since = {transport: self._since.get(transport, now_s) for transport in closing}
        for transport, since_s in self._since.items():
            if now_s - since_s > CLOSE_S:
                transport.abort()
