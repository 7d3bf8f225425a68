"""A bare endpoint for hostile clients: what they cost by themselves, the product left alone.

It lets in who logs in, answers every piece of HTTP with an empty answer, makes WebSockets of those
who ask for them, and forgets all that comes. The honest clients trade with the product meanwhile,
so what they lose beside it is what 200 attackers take of the same machine's cores.
"""

import asyncio
import gc
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import uvloop

from bench.hostile.foe import Scene
from ipc.links.sockets import Address, listen
from ipc.wire.frames import frame
from ipc.wire.messages import Welcome

_WELCOME = frame(Welcome(1, "", "", []))
_EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


class _Bare(asyncio.Protocol):
    """A connection that is read, and answered as little as foes go on for."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)


class _Entry(_Bare):
    """Order entry: a Welcome, and nothing behind it."""

    welcomed = False

    def data_received(self, _: bytes) -> None:
        """Let in once."""
        if not self.welcomed:
            self.welcomed = True
            self.transport.write(_WELCOME)


class _Http(_Bare):
    """HTTP: empty answers, and none once it is a WebSocket."""

    upgraded = False

    def data_received(self, data: bytes) -> None:
        """Answer a piece."""
        if self.upgraded:
            return
        self.upgraded = b"Upgrade: websocket" in data
        if self.transport.get_write_buffer_size() == 0:
            self.transport.write(_SWITCH if self.upgraded else _EMPTY)


@dataclass
class Bare:
    """The job of the process: to be there for some time, where a scene says the product is."""

    scene: Scene
    seconds: float
    niceness: int

    def prepare(self) -> None:
        """Listen, and give way as the attackers do."""
        gc.enable()
        os.nice(self.niceness - os.nice(0))
        places: list[tuple[Address, Callable[[], _Bare]]] = [
            (address, _Entry) for address in self.scene.entry
        ]
        self._socks = [(listen(at), kind) for at, kind in [*places, (self.scene.http, _Http)]]

    def run(self) -> None:
        """Serve."""
        uvloop.run(self._serve())

    def finish(self) -> None:
        """Do nothing: all is closed."""

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        servers = [
            await (
                loop.create_unix_server(kind, sock=sock)
                if sock.family == socket.AF_UNIX
                else loop.create_server(kind, sock=sock)
            )
            for sock, kind in self._socks
        ]
        await asyncio.sleep(self.seconds)
        for server in servers:
            server.close()
