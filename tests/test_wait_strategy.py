"""Waiting for work: when a process looks again before it sleeps, and when it does not."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from frontend.client import Client
from ipc.links.backend import LINGER_BYTES, Backend
from ipc.links.sockets import Address
from ipc.links.wait_strategy import MOST_LEFT_OUT, TAKEN_NS, Events, WaitStrategy
from ipc.memory.status import StatusReader
from ipc.wire.frames import frame
from ipc.wire.messages import Ping
from tests.product import make_config, running, until
from tests.scripted_shard import Waker

LINGER_NS = 500
SOON: Events = [(7, 1)]


class Time:
    """A clock, and what comes when: each look takes 10 ns, each giving way 50."""

    def __init__(self) -> None:
        self.now_ns = 1_000
        self.comes_ns = 0
        self.looks: list[float | None] = []
        self.gave_way = 0
        self.away_ns = 50

    def clock(self) -> int:
        return self.now_ns

    def give_way(self) -> None:
        self.gave_way += 1
        self.now_ns += self.away_ns

    def look(self, timeout_s: float | None) -> Events:
        self.looks.append(timeout_s)
        self.now_ns += 10
        if timeout_s is None:
            self.now_ns = max(self.now_ns, self.comes_ns)
        return SOON if self.now_ns >= self.comes_ns else []


@pytest.fixture
def time() -> Time:
    return Time()


def wait(lingering: WaitStrategy, time: Time, gap_ns: int, may_linger: bool = True) -> int:
    """Wait for what comes after a gap; return how often that looked without sleeping."""
    time.comes_ns, before = time.now_ns + gap_ns, len(time.looks)
    assert lingering.wait(may_linger) == SOON
    return time.looks[before:].count(0)


def test_after_a_short_wait_it_looks_again_and_gives_way(time: Time) -> None:
    lingering = WaitStrategy(time.look, LINGER_NS, time.clock, time.give_way)
    assert wait(lingering, time, 300) == 0, "nothing is known of how soon work comes"
    assert wait(lingering, time, 300) == 6
    assert (lingering.sleeps, time.gave_way) == (1, 5)


def test_it_sleeps_when_nothing_has_come_for_as_long(time: Time) -> None:
    lingering = WaitStrategy(time.look, LINGER_NS, time.clock, time.give_way)
    wait(lingering, time, 300)
    assert wait(lingering, time, 10_000) == 9
    assert lingering.sleeps == 2
    assert wait(lingering, time, 300) == 0, "the wait before was long"
    assert lingering.sleeps == 3
    assert wait(lingering, time, 300) == 6


@pytest.mark.parametrize("linger_ns", [0, LINGER_NS])
def test_it_sleeps_at_once_where_it_may_not_linger(time: Time, linger_ns: int) -> None:
    lingering = WaitStrategy(time.look, linger_ns, time.clock, time.give_way)
    for count in range(1, 4):
        assert wait(lingering, time, 300, may_linger=not linger_ns) == 0
        assert lingering.sleeps == count


def test_it_sleeps_for_a_while_where_others_take_the_core(time: Time) -> None:
    linger_ns = 10 * TAKEN_NS
    lingering = WaitStrategy(time.look, linger_ns, time.clock, time.give_way)

    def looks(count: int) -> list[int]:
        return [wait(lingering, time, TAKEN_NS // 2) for _ in range(count)]

    assert looks(2)[0] == 0
    time.away_ns = TAKEN_NS + 1
    assert looks(2 + 4 + 8) == [1, 0, 1, 0, 0, 0, 1, *[0] * 7]
    lingered = [place for place, count in enumerate(looks(1000)) if count]
    assert lingered[-1] - lingered[-2] == MOST_LEFT_OUT + 1, "it was taken too often"
    time.away_ns = TAKEN_NS // 2
    assert looks(3 * MOST_LEFT_OUT)[-10:] == [2] * 10, "it was not taken any more"


# The backend ------------------------------------------------------------------------------------


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """One that lingers for longer than a test takes, once it has waited."""
    found = Backend(Address(path=str(tmp_path / "socket")), Waker(), 1 << 16, 60 * 10**9)
    yield found
    found.close()


def connected(backend: Backend, path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path / "socket"))
    backend.poll(None)
    return sock


def test_after_much_at_once_it_sleeps(backend: Backend, tmp_path: Path) -> None:
    ping = frame(Ping(1))
    many = ping * (LINGER_BYTES // len(ping) + 1)
    with connected(backend, tmp_path) as sock:
        slept = backend.sleeps
        for _ in range(3):
            sock.sendall(ping)
            backend.poll(None)
        assert backend.sleeps == slept
        sock.sendall(many)
        backend.poll(None)
        assert backend.sleeps == slept, "what came before was little"
        sock.sendall(ping)
        backend.poll(None)
        assert backend.sleeps == slept + 1
        sock.sendall(ping)
        backend.poll(None)
        assert backend.sleeps == slept + 1


def test_who_leaves_too_much_unread_is_cut_off_and_counted(
    backend: Backend, tmp_path: Path
) -> None:
    with connected(backend, tmp_path):
        [link] = backend.links
        while backend.links:
            link.send(bytes(1 << 16))
            backend.flush()
        assert backend.cut_off == 1
        assert backend.take_gone() == [link]


@pytest.mark.parametrize("linger_us", [0, 1_000_000])
def test_a_matcher_lingers_for_the_next_order_or_sleeps(linger_us: int) -> None:
    config = make_config(matchers=1, symbols=1, engine=f"linger_us = {linger_us}")
    with running(config) as plan, Client(plan.addresses()[0], "alice") as client:
        status = StatusReader(plan.status_path)

        def sleeps() -> int:
            return next(p for p in status.processes() if p.role == "matcher").counters["sleeps"]

        def slept() -> int:
            """Return how often the matcher slept while it was given 20 orders, which all trade."""
            before = sleeps()
            for number in range(20):
                client.submit("AA", "sell" if number % 2 else "buy", 1, "1.00")
            return sleeps() - before

        slept()
        if linger_us:
            until(lambda: slept() < 10)  # the core may be taken at times
        else:
            assert slept() >= 19
