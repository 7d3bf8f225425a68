"""Faults that a product must answer: damaged files, a full disk, a failing sync, a wrong clock."""

import contextlib
import errno
import itertools
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.truth import Told
from engine.journal.format import JournalError
from engine.journal.reader import segments_of
from engine.plan import Plan
from engine.roles import MATCHER, PERSISTER, Member
from engine.shard.durability import Durability
from engine.shard.matcher import Matcher
from engine.shared import create_shared
from engine.storage import Storage, lock_directory
from frontend.roles import ROLES
from ipc.memory.ring import GatingReader
from ipc.memory.status import StatusWriter
from ipc.vocabulary import Reason
from ipc.wire.frames import frame
from ipc.wire.messages import Cancel, NewOrder, Reject, Report
from tests.kept import commands_for, plan_of
from tests.product import Wire, until
from tests.test_journal import BadDisk
from tests.test_serve import Served, cross, linked, served


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("f")


def journal_file(plan: Plan, shard: int = 0) -> Path:
    return segments_of(plan.journal_dir(shard))[-1].path


def damage(path: Path) -> None:
    """Flip a bit of the first batch."""
    with path.open("r+b") as file:
        file.seek(4_096 + 60)
        byte = file.read(1)[0]
        file.seek(4_096 + 60)
        file.write(bytes([byte ^ 4]))


# The whole product --------------------------------------------------------------------------------


def test_a_shard_that_cannot_come_back_halts_and_the_others_go_on(directory: Path) -> None:
    with served(directory) as serving:
        plan = serving.plan
        with Wire(plan, "alice") as wire:
            cross(wire)
        damage(journal_file(plan))
        os.kill(serving.member("matcher", 0).pid, signal.SIGKILL)
        serving.until("matcher 0 has halted")
        said = "".join(serving.lines)
        assert f"{journal_file(plan)}: byte 4096: the batch after command 0 is damaged" in said
        assert "Traceback" not in said
        until(lambda: serving.member("matcher", 0).state == "halted")
        with Wire(plan, "alice") as wire:
            wire.send(Cancel(1, 1, 1 << 44))
            down = wire.receive()
            assert isinstance(down, Reject)
            assert down.code == Reason.SHARD_DOWN
            wire.send(NewOrder(2, 2, 0, 1, 2, 1, 100, 5))
            assert isinstance(wire.receive(), Report)
        serving.process.send_signal(signal.SIGTERM)
        assert serving.end() == 1
    again = Served(directory)
    assert again.end() == 1
    said = "".join(again.lines)
    assert f"{journal_file(plan)}: byte 4096: the batch after command 0 is damaged" in said
    assert "matcher 0 did not start" in said
    assert "Traceback" not in said


def test_a_matcher_that_dies_at_every_start_is_given_up(directory: Path) -> None:
    with served(directory) as serving:
        serving.plan.board_path(0).unlink()
        os.kill(serving.member("matcher", 0).pid, signal.SIGKILL)
        serving.until("matcher 0 has halted")
        assert sum("matcher 0 died" in line for line in serving.lines) == 5
        with Wire(serving.plan, "alice") as wire:
            wire.send(NewOrder(2, 2, 0, 1, 2, 1, 100, 5))
            assert isinstance(wire.receive(), Report)


def test_a_full_disk_holds_a_shard_until_there_is_room(directory: Path) -> None:
    with served(directory) as serving, Wire(serving.plan, "alice") as wire:
        pid = serving.member("matcher", 0).pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))
        wire.send(NewOrder(1, 1, 0, 1, 2, 1, 100, 5))
        until(lambda: serving.member("matcher", 0).counters["journal_waits"] > 1)
        with Wire(serving.plan, "bob") as other:
            other.send(NewOrder(2, 2, 0, 1, 2, 1, 100, 5))
            assert isinstance(other.receive(), Report)
        assert serving.member("matcher", 0).counters["commands"] == 0
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        assert isinstance(wire.receive(), Report)
        os.kill(pid, signal.SIGKILL)
        said = serving.until("matcher 0 is back")
        linked(wire)
        wire.send(Cancel(1, 3, 1))
        cancel = wire.receive()
        assert isinstance(cancel, Report), said
        assert "the shard is held until there is room" in "".join(serving.lines)


def test_a_full_disk_does_not_hold_a_stop_up(directory: Path) -> None:
    with served(directory) as serving, Wire(serving.plan, "alice") as wire:
        pid = serving.member("matcher", 0).pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))
        wire.send(NewOrder(1, 1, 0, 1, 2, 1, 100, 5))
        until(lambda: serving.member("matcher", 0).counters["journal_waits"] > 1)
        serving.process.send_signal(signal.SIGTERM)
        assert serving.end() == 1
        assert "stopped while the disk was full" in "".join(serving.lines)


def test_keeping_nothing_is_refused_where_something_is_kept(directory: Path) -> None:
    off = '[journal]\ndurability = "off"\n'
    with served(directory) as serving, Wire(serving.plan, "alice") as wire:
        cross(wire)
    refused = Served(directory, off)
    assert refused.end() == 1
    assert 'durability = "off" would neither read nor keep up' in "".join(refused.lines)


def test_a_start_waits_for_who_still_writes_its_journal(directory: Path) -> None:
    """A journal has one writer, also while a former one finishes what it has."""
    with served(directory) as first, Wire(first.plan, "alice") as wire:
        cross(wire)
    former = lock_directory(first.plan.journal_dir(0), 30.0)
    try:
        again = Served(directory)
        until(lambda: _waits_for_lock(again))
        assert "ready\n" not in again.lines
    finally:
        os.close(former)
    again.until("ready")
    with Wire(again.plan, "alice") as wire:
        assert cross(wire) == 2
    again.process.send_signal(signal.SIGTERM)
    assert again.end() == 0


def _waits_for_lock(serving: Served) -> bool:
    """Tell whether a matcher of a new product has begun and does not serve."""
    with contextlib.suppress(Exception):
        return serving.member("matcher", 0).state == "starting"
    return False


# One matcher, without processes -------------------------------------------------------------------


@contextlib.contextmanager
def matcher(
    plan: Plan,
    storage: Storage | None = None,
    clock: Iterator[int] | None = None,
    stopping: bool = False,
    members: list[Member] | None = None,
) -> Iterator[Matcher]:
    """Start a matcher of shard 0 with shared memory of its own."""
    plan.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    create_shared(plan, ROLES.members(plan) if members is None else members, {})
    status = StatusWriter(plan.status_path, "matcher", 0)
    durability = Durability(plan, 0, status, storage, lambda: stopping)
    times = clock or iter(range(1, 1_000))
    started = Matcher(plan, 0, status, durability, lambda: next(times), lambda: None)
    try:
        yield started
    finally:
        started.close()


def test_a_full_batch_is_answered_before_the_next_is_matched(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, engine="batch_commands = 8\n")
    told = Told()
    told.open_stream(1, 7)
    orders = [NewOrder(1, n, 0, 1, 2, 1, 100, 5) for n in range(1, 21)]
    told.decoder.feed(b"".join(frame(order, 1) for order in orders))
    sent: list[tuple[int, int]] = []
    with matcher(plan) as one:
        one.flush = lambda: sent.append((len(told.frames), one.book.counters().sequence))
        one.handle([told], [told])
        assert sent == [(8, 8), (16, 16)]
        assert len(told.frames) == 20


def test_the_persister_is_woken_once_and_after_the_answers(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    told = Told()
    told.open_stream(1, 7)
    told.open_stream(2, 8)
    with matcher(plan, clock=itertools.count(10**9, 10**9)) as one, bell_of(plan) as bell:
        GatingReader(plan.ring_path(0)).set_waiting(True)
        for stream in (1, 2):
            told.decoder.feed(frame(NewOrder(1, 1, 0, stream, 2, 1, 100, 5), stream))
            one.handle([told], [told])
        assert [len(told.frames), rung(bell)] == [4, 0]
        one.wake_readers()
        one.tick()
        one.wake_readers()
        assert rung(bell) == 1


def test_each_gating_reader_has_a_doorbell_of_its_own(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, engine="ring_trades = 16")
    readers = [Member(PERSISTER, number, None, number) for number in range(2)]
    members = [*ROLES.members(plan)[:1], Member(MATCHER, 0, None), *readers]
    told = Told()
    told.open_stream(1, 7)
    told.open_stream(2, 8)
    clock = itertools.count(10**9, 10**9)
    with (
        matcher(plan, clock=clock, members=members) as one,
        bell_of(plan, 0) as first,
        bell_of(plan, 1) as second,
    ):

        def trade() -> None:
            for stream in (1, 2):
                told.decoder.feed(frame(NewOrder(1, 1, 0, stream, 2, 1, 100, 5), stream))
                one.handle([told], [told])
            one.wake_readers()

        gates = [GatingReader(plan.ring_path(0), reader) for reader in range(2)]
        gates[1].set_waiting(True)
        trade()
        assert [rung(first), rung(second)] == [0, 1]
        gates[0].set_waiting(True)
        trade()
        assert [rung(first), rung(second)] == [1, 1]
        gates[1].set_waiting(False)
        gates[1].advance(2)
        trade()
        assert [rung(first), rung(second)] == [1, 0]
        gates[0].set_waiting(False)
        one.wait = lambda: gates[0].advance(gates[0].available())  # the ring is full
        for _ in range(16):
            gates[1].advance(gates[1].available())
            trade()
        assert rung(first) >= 1
        assert rung(second) == 0


@contextlib.contextmanager
def bell_of(plan: Plan, reader: int = 0) -> Iterator[socket.socket]:
    """Bind the doorbell of a gating reader of trade rings; the persister is 0."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.bind(str(plan.doorbell_path(reader)))
        bell.setblocking(False)
        yield bell


def rung(bell: socket.socket) -> int:
    """Return how often a bell was rung since this was asked last."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while bell.recv(16):
            count += 1
    return count


@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS])
@pytest.mark.parametrize("operation", ["write", "create", "sync"])
def test_nothing_is_answered_that_cannot_be_kept(
    tmp_path: Path, operation: str, error: int
) -> None:
    plan = plan_of(tmp_path, '[journal]\ndurability = "fsync"\n')
    commands = commands_for(plan, 20)
    told = Told(commands)
    links = [told]
    with matcher(plan, BadDisk(operation, error)) as broken:
        with pytest.raises(JournalError, match=r"cannot be written: .* the disk says"):
            _take(broken, commands, links)
        for _ in range(2):
            with pytest.raises(JournalError, match="halted"):
                _take(broken, commands, links)
        assert not told.frames
        assert broken.book.counters().sequence == 0
        assert not broken.table.live_orders


def _take(matcher: Matcher, commands: np.ndarray, links: list[Told]) -> None:  # type: ignore[type-arg]
    commands["timestamp_ns"] = matcher.tick()
    matcher.take(commands, links)  # type: ignore[arg-type]
    matcher.settle_all(links)  # type: ignore[arg-type]


def test_a_full_disk_at_the_end_of_a_segment_is_waited_for_or_given_up(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    with (
        matcher(plan, BadDisk("allocate", errno.ENOSPC), stopping=True) as full,
        pytest.raises(JournalError, match="stopped while the disk was full"),
    ):
        _take(full, commands_for(plan, 20), [Told()])


def test_time_never_goes_back(tmp_path: Path) -> None:
    """Not while the clock does, and not in a later run whose clock is behind."""
    plan = plan_of(tmp_path)
    commands = commands_for(plan, 8)
    times = []
    for clock in ([1_000, 2_000, 500, 2_500], [3, 4, 2_600, 5]):
        with matcher(plan, clock=iter(clock)) as ticking:
            for command in range(4):
                batch = commands[command : command + 1].copy()
                told = Told(commands)
                _take(ticking, batch, [told])
                times += told.reports()["timestamp_ns"].tolist()
    assert times == sorted(times)
    assert {1_000, 2_000, 2_500, 2_600} == set(times)
