"""A frontend's link to a shard, between a real socket's two ends: what is sent, when, and in what
order."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from frontend.gateway import matcher_links
from frontend.gateway.matcher_links import BackendLink
from ipc.links.sockets import Address, listen
from ipc.wire.frames import HEADER_BYTES, frame
from ipc.wire.messages import Cancel, OpenStream, Report, server_decoder
from tests.product import UNTIL_S

FRAMES = [frame(Cancel(1, number, number), number) for number in range(1, 5)]
OPENED = frame(OpenStream(1, 7, False))


class Accounts:
    """One account, open on stream 1."""

    def __init__(self) -> None:
        self.delivered: list[tuple[int, int]] = []
        """Of each piece how many answers are in it, and the account_sequence that it ends with."""

    def channels_to_open(self, *_: object) -> list[tuple[int, int, bool]]:
        return [(1, 7, True)]

    def deliver(self, _: object, __: object, ___: object, answers: int, last: int) -> None:
        self.delivered.append((answers, last))

    def take_from_matcher(self, *_: object) -> None: ...

    def link_found(self) -> None: ...

    def link_lost(self, _: int | None) -> None: ...


@contextmanager
def listening() -> Iterator[tuple[socket.socket, Address]]:
    with TemporaryDirectory(prefix="sb-") as name:
        address = Address(path=str(Path(name) / "shard.sock"))
        with listen(address) as server:
            yield server, address


def run(
    test: Callable[[BackendLink, socket.socket, socket.socket], Awaitable[None]],
    accounts: Accounts | None = None,
    keeps: bool = False,
) -> None:
    """Run a test with a link, the shard's end of it, and where further ones are accepted."""

    async def body() -> None:
        with listening() as (server, address):
            link = BackendLink(address, 1 << 20, 0, keeps=keeps)
            await link.begin(accounts or Accounts())
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


def test_what_is_sent_soon_while_a_link_is_down_is_kept_in_its_place() -> None:
    async def test(link: BackendLink, end: socket.socket, server: socket.socket) -> None:
        connection_made = link.connection_made

        def sent_just_before(transport: asyncio.BaseTransport) -> None:
            link.write_soon(FRAMES[0])
            link.write_soon(FRAMES[1])
            connection_made(transport)

        link.connection_made = sent_just_before  # type: ignore[method-assign]
        link.connection_lost(None)
        with await accepted(server) as after:
            found = b""
            while len(found) < len(FRAMES[0] + FRAMES[1]):
                found += await asyncio.get_running_loop().sock_recv(after, 4096)
            assert found == FRAMES[0] + FRAMES[1]

    run(test, keeps=True)


REPORTS = [frame(Report(*range(1, len(Report.__struct_fields__) + 1)), 1) for _ in range(2)]


@pytest.mark.parametrize("count", [1, 2])
def test_reports_in_any_width_say_where_the_account_stands(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without compiled code a matcher writes its numbers as short as they are."""
    monkeypatch.setattr(matcher_links, "HAVE_NUMBA", False)
    accounts = Accounts()

    async def test(link: BackendLink, end: socket.socket, _: socket.socket) -> None:
        end.send(b"".join(REPORTS[:count]))
        while len(accounts.delivered) < count:
            await asyncio.sleep(0)
        message = server_decoder.decode(REPORTS[0][HEADER_BYTES:])
        assert isinstance(message, Report)
        assert accounts.delivered == [(1, message.account_sequence)] * count

    run(test, accounts)
