"""The door of a process: who has a place, for how long, and what becomes of who has none."""

import asyncio
import gc
import os
import resource
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trustme
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from engine.sections import FrontendSection, HttpSection
from frontend.gateway.door import ACCEPTS_A_TURN, CrowdedError, Door, Entrant, Limits, Place, accept

WAIT_S = 20.0
TRUST = trustme.CA()
FAR, FURTHER = "192.0.2.1", "192.0.2.2"


def status() -> Any:
    counted: Counter[str] = Counter()
    return SimpleNamespace(add=lambda name, count: counted.update({name: count}), counted=counted)


def a_door(
    connections: int = 8, strangers: int = 8, per_address: int = 0, timeout_s: float = 1.0
) -> tuple[Door, Counter[str]]:
    told = status()
    limits = Limits(connections, strangers, per_address, timeout_s)
    return Door(limits, told, "refused"), told.counted


# Places ------------------------------------------------------------------------------------------


def test_a_bound_is_met_exactly_and_each_refusal_is_counted() -> None:
    door, counted = a_door(connections=3, strangers=2)
    first, _ = door.enter(FAR, 0.0), door.enter(FAR, 0.0)
    with pytest.raises(CrowdedError, match="there are 2 without a login already"):
        door.enter(FAR, 0.0)
    first.show()
    first.show()
    third = door.enter(FAR, 0.0)
    third.show()
    with pytest.raises(CrowdedError, match="there are 3 connections already"):
        door.enter(FAR, 0.0)
    assert counted == {"refused": 2}
    first.leave()
    door.enter(FAR, 0.0)


def test_no_address_has_more_than_its_share() -> None:
    door, _ = a_door(100, 100, per_address=3)
    places = [door.enter(FAR, 0.0) for _ in range(3)]
    for place in places:
        place.show()
    with pytest.raises(CrowdedError, match="this address has 3 connections already"):
        door.enter(FAR, 0.0)
    door.enter(FURTHER, 0.0)
    for _ in range(9):
        door.enter("127.0.0.1", 0.0)
        door.enter("", 0.0)  # over a Unix socket
    places[0].leave()
    door.enter(FAR, 0.0)
    open_door, _ = a_door(100, 100, per_address=0)
    for _ in range(9):
        open_door.enter(FAR, 0.0)


def test_nothing_is_kept_of_who_has_left() -> None:
    door, _ = a_door()
    empty = repr(vars(door))
    for number in range(5):
        place = door.enter(f"192.0.2.{number}", 0.0)
        place.end, place.abort = place.leave, place.leave  # type: ignore[assignment]
        place.leave()
        assert place.end is None
        assert place.abort is None
    assert repr(vars(door)) == empty


@given(st.lists(st.tuples(st.sampled_from("eesl"), st.integers(0, 9)), max_size=60))
def test_the_door_counts_what_is_there(steps: list[tuple[str, int]]) -> None:
    door, counted = a_door(5, 3, per_address=2)
    inside: list[Place] = []
    refused = 0
    for what, number in steps:
        strangers = sum(place.strange for place in inside)
        if what == "e":
            host = f"192.0.2.{number % 5}"
            full = len(inside) >= 5 or strangers >= 3
            full = full or sum(place.host == host for place in inside) >= 2
            if full:
                refused += 1
                with pytest.raises(CrowdedError):
                    door.enter(host, 0.0)
            else:
                inside.append(door.enter(host, 0.0))
        elif inside and what == "s":
            inside[number % len(inside)].show()
        elif inside:
            place = inside.pop(number % len(inside))
            place.leave()
            place.leave()
        assert door.strangers == sum(place.strange for place in inside)
        assert counted["refused"] == refused


def test_whose_turn_it_is_follows_who_is_known() -> None:
    """Strangers of an address share a turn; a user's connections do, and each that is nobody's
    has its own."""
    door, _ = a_door()
    one, two, near, other = (door.enter(host, 0.0) for host in (FAR, FAR, "", ""))
    assert one.whose == two.whose == FAR
    assert near.whose != other.whose
    one.show("alice")
    two.show("alice")
    assert one.whose == two.whose == "alice"
    one.show("bob")
    assert one.whose == "alice"
    near.show()
    third = door.enter(FAR, 0.0)
    third.show()
    assert len({near.whose, other.whose, third.whose, "alice", FAR}) == 5


# Time --------------------------------------------------------------------------------------------


def test_who_does_not_end_is_aborted() -> None:
    door, counted = a_door()
    place = door.enter("", 5.0)
    told: list[str] = []
    place.end = lambda: bool(told.append("end") or len(told) > 1)  # the first time it is busy
    place.abort = lambda: told.append("abort")
    door.close_overdue(6.0)
    assert told == []
    for expected in (["end"], ["end", "end"], ["end", "end", "abort"]):
        door.close_overdue(6.1)
        assert told == expected
    assert counted == {"closed_login_timeout": 1}
    place.show()
    door.close_overdue(9.0)
    assert len(told) == 3


def test_without_a_timeout_strangers_stay() -> None:
    door, _ = a_door(timeout_s=0.0)
    place = door.enter("", 5.0)
    place.end = lambda: pytest.fail("its time is never over")
    door.close_overdue(1e9)


def test_who_cannot_be_ended_stays() -> None:
    door, counted = a_door()
    door.enter("", 0.0)
    door.enter("", 0.0).end = lambda: True
    for _ in range(2):
        door.close_overdue(5.0)
    assert counted == {"closed_login_timeout": 1}


def test_order_entry_and_http_have_limits_of_their_own() -> None:
    own = {"max_not_logged_in": 3, "max_connections_per_address": 4, "login_timeout_s": 5}
    assert Limits.of(FrontendSection(max_sessions=2, **own)) == (2, 3, 4, 5)
    assert Limits.of(HttpSection(max_connections=6, **own)) == (6, 3, 4, 5)


# Handshakes --------------------------------------------------------------------------------------


class Inside(Entrant, asyncio.Protocol):
    """A connection whose handshake is done: it says hello, and leaves when it is lost."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(b"hello")

    def connection_lost(self, _: Exception | None) -> None:
        assert self.place is not None
        self.place.leave()


@asynccontextmanager
async def listening(door: Door) -> AsyncIterator[tuple[socket.socket, "asyncio.Task[None]"]]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(100)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        TRUST.issue_cert("127.0.0.1").configure_cert(context)
        task = asyncio.ensure_future(accept(sock, door, context, Inside))
        yield sock, task
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def connected(sock: socket.socket) -> socket.socket:
    client = socket.socket()
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, sock.getsockname())
    return client


async def ended(client: socket.socket) -> bool:
    """Wait for the end of a connection that says nothing, and close it."""
    with client, suppress(ConnectionResetError):
        return not await asyncio.get_running_loop().sock_recv(client, 1)
    return True


async def reaches(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def hello(sock: socket.socket, door: Door) -> bytes:
    """Return what is said to who has done a handshake, and has a place still."""
    context = ssl.create_default_context()
    TRUST.configure_trust(context)
    reader, writer = await asyncio.open_connection(*sock.getsockname(), ssl=context)
    said = await reader.readexactly(5)
    for _ in range(5):
        await asyncio.sleep(0.001)
    assert door.strangers == 1
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return said


def run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test, WAIT_S)

    uvloop.run(bounded())


def test_a_handshake_has_a_place_until_it_fails_or_its_connection_is_lost() -> None:
    async def test() -> None:
        door, counted = a_door(connections=1)
        async with listening(door) as (sock, _):
            assert await hello(sock, door) == b"hello"
            await reaches(lambda: door.strangers == 0)
            client = await connected(sock)
            await reaches(lambda: door.strangers == 1)
            assert await ended(await connected(sock)), "it is refused at once"
            assert counted == {"refused": 1}
            await asyncio.get_running_loop().sock_sendall(client, b"no handshake\r\n")
            await reaches(lambda: door.strangers == 0)
            client.close()
            assert await hello(sock, door) == b"hello"

    run(test())


def test_a_handshake_ends_when_its_time_is_over_however_far_it_has_come() -> None:
    async def test() -> None:
        door, counted = a_door()
        loop = asyncio.get_running_loop()
        async with listening(door) as (sock, _):
            descriptors = []
            for turns in (1, 0, 1, 2, 3):
                client = await begun(sock, door, turns)
                door.close_overdue(loop.time())
                assert door.strangers == 1
                door.close_overdue(loop.time() + 2)
                assert await ended(client)
                await reaches(lambda: door.strangers == 0)
                descriptors.append(open_descriptors())
            assert descriptors == descriptors[:1] * 5
            gc.collect()
            tasks = [each for each in gc.get_objects() if issubclass(type(each), asyncio.Task)]
            assert len([each for each in tasks if each.done()]) <= 1, "but the last one"
            assert counted == {"closed_login_timeout": 5}

    run(test())


def test_a_handshake_ends_with_its_listener() -> None:
    async def test() -> None:
        for turns in range(4):
            door, _ = a_door()
            async with listening(door) as (sock, task):
                client = await begun(sock, door, turns)
                task.cancel()
                assert await ended(client)
                assert sock.fileno() < 0

    run(test())


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def begun(sock: socket.socket, door: Door, turns: int) -> socket.socket:
    """Return a connection that has had its place for so many turns of the loop."""
    client = await connected_at_once(sock)
    client.setblocking(False)
    while not door.strangers:
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    return client


def test_however_many_come_others_have_their_turn() -> None:
    """Those who are refused, too."""

    async def test() -> None:
        door, counted = a_door(connections=10)
        async with listening(door) as (sock, _):
            with suppress(BlockingIOError):
                crowd = [await connected_at_once(sock) for _ in range(80)]
            turns = 0
            before = counted["refused"] + door.strangers
            assert before == 0, "none is accepted yet"
            while counted["refused"] + door.strangers < 80:
                turns += 1
                await asyncio.sleep(0)
            assert turns >= 80 // ACCEPTS_A_TURN
            for client in crowd:
                client.close()

    run(test())


async def connected_at_once(sock: socket.socket) -> socket.socket:
    """Return a connection, no turn of the loop taken: the kernel has it in its queue."""
    client = socket.socket()
    client.connect(sock.getsockname())
    return client


def test_a_want_of_descriptors_passes() -> None:
    async def test() -> None:
        door, _ = a_door()
        async with listening(door) as (sock, task):
            client = await connected(sock)
            client.close()
            await reaches(lambda: door.strangers == 0)
            client = socket.socket()
            client.setblocking(False)
            free = os.dup(0)
            os.close(free)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                await asyncio.get_running_loop().sock_connect(client, sock.getsockname())
                for _ in range(20):
                    await asyncio.sleep(0.001)
                assert door.strangers == 0
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await reaches(lambda: door.strangers == 1)
            assert not task.done()
            client.close()

    run(test())
