"""The bytes of an asynchronous client: one connection, as asyncio's transport moves them."""

import asyncio
from collections.abc import Callable

from ipc.links.sockets import PEER_TIMEOUT_S, notice_vanished


class AsyncWire(asyncio.Protocol):
    """One connection: ``active`` until it has ended, ``welcome`` done when logged in."""

    def __init__(
        self,
        login: bytes,
        received: Callable[["AsyncWire", bytes], None],
        ended: Callable[["AsyncWire", str], None],
        peer_timeout_s: int = 0,
    ) -> None:
        """``peer_timeout_s``: see ``Wire``."""
        self.active = True
        self.welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.writable = asyncio.Event()
        self.writable.set()
        self._login = login
        self._received = received
        self._ended = ended
        self._peer_timeout_s = peer_timeout_s or PEER_TIMEOUT_S
        self._gone = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def write(self, data: bytes) -> None:
        """Send bytes, or keep them until they can be sent."""
        assert self._transport is not None
        self._transport.write(data)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self, timeout_s: float) -> None:
        """Close once everything is sent; at once after ``timeout_s``."""
        if self._transport is not None:
            self._transport.close()
        try:
            async with asyncio.timeout(timeout_s):
                await self._gone.wait()
        except TimeoutError:
            self.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Log in, before the engine can have closed: a write that fails hides what it said."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        notice_vanished(transport.get_extra_info("socket"), self._peer_timeout_s)
        transport.write(self._login)

    def data_received(self, data: bytes) -> None:
        """Pass on what came, while the connection is in use."""
        if self.active:
            self._received(self, data)

    def connection_lost(self, error: Exception | None) -> None:
        """Pass on how it ended."""
        self._gone.set()
        how = str(error) if error else "the engine closed it without a word"
        self._ended(self, f"connection lost: {how}")

    def pause_writing(self) -> None:
        """Let writers wait."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self.writable.set()
