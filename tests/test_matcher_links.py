"""A frontend's link to a shard, between a real socket's two ends: what is sent, when, and in what
order."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from frontend.gateway.matcher_links import BackendLink
from ipc.links.sockets import Address, listen
from ipc.wire.frames import frame
from ipc.wire.messages import Cancel, OpenStream
from tests.product import UNTIL_S

FRAMES = [frame(Cancel(1, number, number), number) for number in range(1, 5)]
OPENED = frame(OpenStream(1, 7, False))


class Accounts:
    """One account, open on stream 1; nobody is told anything."""

    def channels_to_open(self, *_: object) -> list[tuple[int, int, bool]]:
        return [(1, 7, True)]

    def deliver(self, *_: object) -> None: ...

    def take_from_matcher(self, *_: object) -> None: ...

    def link_found(self) -> None: ...

    def link_lost(self, _: int | None) -> None: ...


@contextmanager
def listening() -> Iterator[tuple[socket.socket, Address]]:
    with TemporaryDirectory(prefix="sb-") as name:
        address = Address(path=str(Path(name) / "shard.sock"))
        with listen(address) as server:
            yield server, address


def run(test: Callable[[BackendLink, socket.socket, socket.socket], Awaitable[None]]) -> None:
    """Run a test with a link, the shard's end of it, and where further ones are accepted."""

    async def body() -> None:
        with listening() as (server, address):
            link = BackendLink(address, 1 << 20, 0)
            await link.begin(Accounts())
            with await accepted(server) as end:
                await test(link, end, server)
                link.finish()

    asyncio.run(asyncio.wait_for(body(), UNTIL_S))


async def accepted(server: socket.socket) -> socket.socket:
    """Return the shard's end of a link that has introduced its account."""
    loop = asyncio.get_running_loop()
    end, _ = await loop.sock_accept(server)
    end.setblocking(False)
    assert await loop.sock_recv(end, len(OPENED)) == OPENED
    return end


def test_what_is_sent_soon_goes_in_pieces_that_grow() -> None:
    async def test(link: BackendLink, end: socket.socket, _: socket.socket) -> None:
        pieces: list[bytes] = []
        for data in FRAMES:
            link.write_soon(data)
            with suppress(BlockingIOError):
                pieces.append(end.recv(4096))
        pieces.append(await asyncio.get_running_loop().sock_recv(end, 4096))
        assert pieces == [FRAMES[0], FRAMES[1] + FRAMES[2], FRAMES[3]]
        link.write_soon(FRAMES[0])  # in another turn of the loop
        assert end.recv(4096) == FRAMES[0]

    run(test)


def test_what_is_sent_soon_goes_before_what_is_sent_later() -> None:
    async def test(link: BackendLink, end: socket.socket, _: socket.socket) -> None:
        link.write_soon(FRAMES[0])
        link.write_soon(FRAMES[1])
        link.write(FRAMES[2])
        link.write_soon(FRAMES[3])
        link.finish()
        found = b""
        while more := await asyncio.get_running_loop().sock_recv(end, 4096):
            found += more
        assert found == b"".join(FRAMES)

    run(test)


def test_what_was_to_be_sent_when_a_link_was_lost_does_not_go_to_the_next_one() -> None:
    async def test(link: BackendLink, end: socket.socket, server: socket.socket) -> None:
        link.write_soon(FRAMES[2])
        link.write_soon(FRAMES[0])
        link.connection_lost(None)
        with await accepted(server) as after:
            link.write_soon(FRAMES[1])
            assert await asyncio.get_running_loop().sock_recv(after, 4096) == FRAMES[1]

    run(test)
