"""A scripted engine for what a real one does not do on demand: faults, silence, cut connections.

And ``Awaited``: an ``AsyncClient`` driven like a ``Client``, so that one test serves both.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from frontend.client import Client
from frontend.client.asynchronous import AsyncClient
from ipc.links.sockets import Address, listen
from ipc.wire.frames import FrameSplitter, frame
from ipc.wire.messages import MAX_BODY, InstrumentInfo, Login, Welcome, client_decoder

INSTRUMENTS = [
    InstrumentInfo(1, "AAPL", "0.01", "1", 1, 1 << 40),
    InstrumentInfo(2, "BTCUSD", "0.5", "0.00000001", 1, 1 << 40),
]
PATIENCE_S = 30.0


Connect = Callable[..., Any]
"""Makes a client, blocking or awaited."""


class Caller:
    """One connection as the scripted engine sees it."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self._splitter = FrameSplitter(MAX_BODY)
        self._messages: list[Any] = []

    def read(self) -> Any:
        """Return the next message; None at the end of the connection."""
        while not self._messages:
            data = self.stream.recv(1 << 16)
            if not data:
                return None
            self._messages += [client_decoder.decode(body) for _, body in self._splitter.feed(data)]
        return self._messages.pop(0)

    def write(self, *messages: Any) -> None:
        """Send messages, and bytes as they are."""
        data = [item if isinstance(item, bytes) else frame(item) for item in messages]
        self.stream.sendall(b"".join(data))

    def welcome(self, session: int = 1) -> None:
        """Take the login."""
        login = self.read()
        assert isinstance(login, Login)
        self.write(Welcome(session, login.user_id, "0.0.1", INSTRUMENTS))


class Peer:
    """Listens on a Unix socket, and serves one connection after the other by scripts."""

    def __init__(self, path: Path) -> None:
        self.address = Address(path=str(path))
        self._server = listen(self.address)
        self._server.setblocking(True)
        self._server.settimeout(PATIENCE_S)
        self._pool = ThreadPoolExecutor(1)
        self._played: list[Future[None]] = []

    def play(self, script: Callable[[Caller], object]) -> None:
        """Serve the next connection by ``script``, and close it when that returns."""
        self._played.append(self._pool.submit(self._serve, script))

    def _serve(self, script: Callable[[Caller], object]) -> None:
        stream, _ = self._server.accept()
        with stream, suppress(ConnectionError):  # a caller may go while it is served
            stream.settimeout(PATIENCE_S)
            script(Caller(stream))

    def wait(self) -> None:
        """Wait for the scripts to end; raise what went wrong in them."""
        for played in self._played:
            played.result(PATIENCE_S)

    def close(self) -> None:
        """Wait for the scripts, and listen no more."""
        try:
            self.wait()
        finally:
            self._server.close()
            self._pool.shutdown()


class Awaited:
    """An ``AsyncClient`` on an event loop that runs while a call waits."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self.client = AsyncClient(*arguments, **options)
        try:
            self._runner.run(self.client.connect())
        except BaseException:
            self._runner.close()
            raise

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        if not asyncio.iscoroutinefunction(found):
            return found
        return lambda *arguments, **options: self._run(found(*arguments, **options))

    def reports(self, timeout_s: float | None = None) -> Iterator[Any]:
        """Yield what the asynchronous iterator yields."""
        iterator: AsyncIterator[Any] = self.client.reports(timeout_s)

        async def step() -> Any:
            return await anext(iterator, None)

        while (execution := self._run(step())) is not None:
            yield execution

    def end(self) -> None:
        """Close the event loop, after the client."""
        self._runner.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    """A scripted engine."""
    peer = Peer(tmp_path / "peer.sock")
    yield peer
    peer.close()


@pytest.fixture(params=[Client, Awaited], ids=["blocking", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of both kinds in turn; closes them at the end."""
    clients: list[Any] = []

    def make(*arguments: Any, **options: Any) -> Any:
        clients.append(request.param(*arguments, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
        if isinstance(client, Awaited):
            client.end()
