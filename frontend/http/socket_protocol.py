"""WebSockets below their messages: uvicorn's, bounded against who sends much and reads little.

uvicorn parses all that one read brings before anyone else runs, answers each ping with bytes that
wait for a client that may never read, keeps the fragments of a message without bound, and waits
for ever for a peer to read the end of a connection that is being closed.
"""

import asyncio
from collections.abc import Hashable, Iterable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from frontend.gateway.turns import Turns
from frontend.http.connection import PLACE, TURN_S, TURNS

PIECE_BYTES = 2_048
"""What is parsed of a connection's bytes before others have their turn."""
MAX_FRAGMENTS = 1_024
"""Of one message."""
MESSAGE_S = 0.00003
"""What a message counts for that is taken, beside what it costs to parse it."""
LISTEN_S = 0.001
"""Between two times that nothing is read since the client does not read either."""
CLOSE_S = 5.0
"""A peer has so long to answer that a connection is closed, and then to read what it was sent."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket.

    Bytes are parsed piece by piece, and no further while messages wait to be taken or the client
    does not read what it was sent: then nothing is read either.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.close_timeout = CLOSE_S
        self._unread = b""
        self._position = 0
        """Up to where ``_unread`` is parsed."""
        self._turn_is_due = False
        self._writes = True
        """Whether the client reads what it is sent."""
        self._place = self.app_state.get(PLACE)
        self._turns: Turns = self.app_state.get(TURNS) or Turns(TURN_S)

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
            if not self._turns.may(self._whose()):
                self._await_turn()
                self._read_or_not()
                return
            clock = self._turns.clock
            begun_s = clock()
            if len(self._unread) <= PIECE_BYTES:
                piece, self._unread = self._unread, b""
            else:
                piece = self._unread[self._position : self._position + PIECE_BYTES]
                self._position += len(piece)
                if self._position >= len(self._unread):
                    self._unread = b""
            super().data_received(piece)
            self._turns.spend(self._whose(), clock() - begun_s)
            if self._unread and self._is_idle():
                self._await_turn()
        self._read_or_not()

    def _whose(self) -> Hashable:
        return id(self) if self._place is None else self._place.whose

    def _await_turn(self) -> None:
        self._turn_is_due = True
        self._turns.wait(self._whose(), self._parse)

    def _is_idle(self) -> bool:
        """Return whether the client reads, and all messages are taken, or no more will be."""
        return self._writes and (self.close_sent or self.queue.empty())

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
        self._turns.spend(self._whose(), MESSAGE_S)
        if self.queue.empty():
            self._go_on()
        return event

    def _go_on(self) -> None:
        if self._turn_is_due:
            return
        if self._unread:
            self._await_turn()
        else:
            self._read_or_not()

    def pause_writing(self) -> None:
        """Stop to read, too."""
        super().pause_writing()
        self._writes = False
        self._read_or_not()

    def resume_writing(self) -> None:
        """Read on, and write a moment later: who is slow to read is heard in between."""
        self._writes = True
        self._go_on()
        self.loop.call_later(LISTEN_S, self._write_on)

    def _write_on(self) -> None:
        if self._writes:
            super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what is not parsed."""
        super().connection_lost(exc)
        self._unread = b""

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
