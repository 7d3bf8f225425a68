"""The persister on real rings and files: what is published is logged once, whatever happens."""

import os
import random
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from engine.children import FINISH
from engine.config import parse_config
from engine.plan import Plan
from engine.process import ring_doorbell, run_member
from engine.roles import MATCHER, PERSISTER, Member
from engine.trade_log import persister
from engine.trade_log.lines import trade_id_of
from engine.trade_log.log import LogTail, TradeLog, TradeLogError
from engine.trade_log.persister import (
    BATCH_TRADES,
    IDLE_WAIT_S,
    SOON_S,
    TRICKLE_TRADES,
    TRICKLE_WAIT_S,
    Persister,
)
from engine.trade_log.segments import ACTIVE, closed_segments
from ipc.memory.ring import GatingReader, RingWriter, create_ring
from ipc.memory.status import ProcessSlot, StatusReader, StatusWriter, create_status
from ipc.records import shard_of
from tests.failing_disk import Disk
from tests.fork_server import shared_fork_server
from tests.product import until
from tests.trades import INSTRUMENTS, ids, make_lines, make_trades, read_ids

CAPACITY = 64
MakeEngine = Callable[..., "Engine"]


class Engine:
    """What a persister needs of a product: a plan, a ring a shard, a status page, a writer each."""

    def __init__(
        self, data_dir: Path, capacity: int = CAPACITY, last_sequence: int = 0, settings: str = ""
    ) -> None:
        text = f"[engine]\nmatchers = 2\npin = false\n[persister]\n{settings}\n"
        for listed in INSTRUMENTS:
            text += f'[[instruments]]\nsymbol = "{listed.symbol}"\n'
            text += f'tick_size = "{listed.tick.text(1)}"\nlot_size = "{listed.lot.text(1)}"\n'
        self.plan = Plan(parse_config(text, "test"), data_dir)
        self.plan.run_dir.mkdir(parents=True, mode=0o700)
        slots = [ProcessSlot(PERSISTER, 0, None, 0), ProcessSlot(MATCHER, 0, None)]
        create_status(self.plan.status_path, slots)
        for shard in self.plan.shards:
            create_ring(self.plan.ring_path(shard), shard, capacity, last_sequence)
        self.rings = {shard: RingWriter(self.plan.ring_path(shard)) for shard in self.plan.shards}

    def publish(self, shard: int, count: int) -> None:
        """Publish the shard's next trades."""
        ring = self.rings[shard]
        ring.publish(make_trades(shard, ring.published + 1, count))

    def fill(self, shard: int) -> None:
        """Publish until the ring is full of trades that the persister is not done with."""
        while room := self.rings[shard].room():
            self.publish(shard, room)

    def published(self) -> int:
        """Return how many trades there are in all."""
        return sum(ring.published for ring in self.rings.values())

    def cursor(self, shard: int) -> int:
        """Return the last trade of a shard that the persister is done with."""
        return self.rings[shard].cursor_of(0)

    def drained(self) -> bool:
        """Return whether the persister is done with all."""
        return all(ring.published == ring.cursor_of(0) for ring in self.rings.values())

    def counters(self) -> dict[str, int]:
        """Return what the persister shows."""
        return StatusReader(self.plan.status_path).processes()[0].counters

    def persister(self) -> Persister:
        """Start a persister in this process."""
        status = StatusWriter(self.plan.status_path, "persister", 0)
        status.start(os.getpid(), 1)
        return Persister(self.plan, status)

    def process(self) -> BaseProcess:
        """Start a persister in a process of its own; return once it serves or has ended."""
        arguments = (self.plan, Member(PERSISTER, 0, None, 0))
        process = shared_fork_server().Process(target=run_member, args=arguments, daemon=True)
        process.start()
        page = StatusReader(self.plan.status_path)

        def settled() -> bool:
            shown = page.processes()[0]
            serves = shown.pid == process.pid and shown.state == "ready"
            return serves or not process.is_alive()

        until(settled)
        return process

    def check_log(self) -> None:
        """Every published trade is in the log once, in its shard's order, byte for byte."""
        found: dict[int, list[bytes]] = {shard: [] for shard in self.rings}
        with LogTail(self.plan.log_dir) as tail:
            while block := tail.read_block():
                for line in block.splitlines(keepends=True):
                    found[shard_of(trade_id_of(line))].append(line)
        for shard, ring in self.rings.items():
            assert b"".join(found[shard]) == make_lines(shard, 1, ring.published)
        assert (self.plan.log_dir / ACTIVE).read_bytes()[-1:] in (b"", b"\n")


class Bell:
    """A wakeup that plays a script: each wait does the next thing, after the last one it stops."""

    def __init__(self, *script: Callable[[], object]) -> None:
        self.stopping = False
        self.reader = 0
        self.timeouts: list[float | None] = []
        self._script = list(script)

    @property
    def waits(self) -> int:
        return len(self.timeouts)

    def wait(self, timeout_s: float | None) -> None:
        self.timeouts.append(timeout_s)
        if self._script:
            self._script.pop(0)()
        self.stopping = not self._script


@pytest.fixture
def make_engine(tmp_path: Path) -> Iterator[MakeEngine]:
    """Make an engine in the test's directory; its shared memory goes with the test."""
    made: list[Engine] = []

    def make(**options: object) -> Engine:
        made.append(Engine(tmp_path, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for engine in made:
        shutil.rmtree(engine.plan.run_dir)


@pytest.fixture
def engine(make_engine: MakeEngine) -> Engine:
    """Two shards with small, empty rings."""
    return make_engine()


class TestSteps:
    def test_a_step_logs_what_the_rings_hold(self, engine: Engine) -> None:
        writer = engine.persister()
        assert writer.step() == 0
        engine.publish(0, 5)
        engine.publish(1, 3)
        assert writer.available() == 8
        assert writer.step() == 8
        assert writer.available() == 0
        assert (engine.cursor(0), engine.cursor(1)) == (5, 3)
        assert read_ids(engine.plan.log_dir) == ids(0, 1, 5) + ids(1, 1, 3)
        assert writer.step() == 0
        shown = engine.counters()
        size = (engine.plan.log_dir / ACTIVE).stat().st_size
        assert (shown["trades"], shown["batches"], shown["bytes"]) == (8, 2, size)
        assert (shown["segments"], shown["write_errors"], shown["missing_trades"]) == (1, 0, 0)
        writer.close()

    def test_around_the_end_of_the_ring(self, engine: Engine) -> None:
        writer = engine.persister()
        for count in (40, 50, 64, 1, 63, 64):
            engine.publish(0, count)
            while writer.available():
                assert writer.step()
        engine.check_log()
        writer.close()

    def test_batches_are_bounded(self, make_engine: MakeEngine) -> None:
        engine = make_engine(capacity=4 * BATCH_TRADES)
        writer = engine.persister()
        engine.publish(0, 2 * BATCH_TRADES + 7)
        engine.publish(1, 3)
        assert [writer.step() for _ in range(3)] == [BATCH_TRADES + 3, BATCH_TRADES, 7]
        engine.check_log()
        writer.close()

    @pytest.mark.parametrize("held", [1, 9, 10])
    def test_what_the_log_holds_is_skipped(self, engine: Engine, held: int) -> None:
        engine.publish(1, 10)
        log = TradeLog(engine.plan.log_dir, 1 << 20)
        log.append(make_lines(1, 1, held))  # and killed before the cursor moved
        log.close()
        writer = engine.persister()
        assert writer.step() == 10 - held
        assert engine.cursor(1) == 10
        engine.publish(1, 5)
        assert writer.step() == 5
        engine.check_log()
        shown = engine.counters()
        assert (shown["skipped_trades"], shown["trades"]) == (held, 15 - held)
        writer.close()

    def test_missing_trades_are_counted(self, make_engine: MakeEngine) -> None:
        engine = make_engine(last_sequence=100)
        log = TradeLog(engine.plan.log_dir, 1 << 20)
        log.append(make_lines(1, 1, 98))
        log.close()
        writer = engine.persister()
        assert engine.counters()["missing_trades"] == 100 + 2
        engine.publish(1, 5)
        assert writer.step() == 5
        assert read_ids(engine.plan.log_dir) == ids(1, 1, 98) + ids(1, 101, 5)
        writer.close()

    def test_a_torn_line_is_shown(self, engine: Engine) -> None:
        engine.plan.log_dir.mkdir()
        (engine.plan.log_dir / ACTIVE).write_bytes(make_lines(0, 1, 1)[:-1])
        writer = engine.persister()
        assert engine.counters()["torn_bytes_cut"] == len(make_lines(0, 1, 1)) - 1
        writer.close()

    def test_segments_are_shown(self, make_engine: MakeEngine) -> None:
        engine = make_engine(settings="segment_bytes = 4096")
        writer = engine.persister()
        engine.publish(0, 60)
        writer.step()
        closed = len(closed_segments(engine.plan.log_dir))
        assert engine.counters()["segments"] == closed + 1 > 2

        def compressed() -> bool:
            writer.step()
            return engine.counters()["compressed_segments"] == closed

        until(compressed)
        writer.close()


class TestOrderOfSteps:
    @pytest.mark.parametrize(("fsync", "call"), [(False, "write"), (True, "fdatasync")])
    def test_the_cursor_moves_last(
        self, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, fsync: bool, call: str
    ) -> None:
        engine = make_engine(settings=f"fsync = {str(fsync).lower()}")
        writer = engine.persister()
        engine.publish(0, 5)
        engine.publish(1, 5)
        real = getattr(os, call)
        seen = []

        def watched(*arguments: object) -> object:
            done = real(*arguments)
            seen.append((engine.cursor(0), engine.cursor(1), len(read_ids(engine.plan.log_dir))))
            return done

        monkeypatch.setattr(os, call, watched)
        assert writer.step() == 10
        assert seen == ([(0, 0, 10)] if fsync else [(0, 0, 5), (0, 0, 10)])
        assert engine.drained()
        writer.close()

    def test_a_trade_that_comes_before_sleep_is_not_slept_over(
        self, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_waiting = GatingReader.set_waiting
        published = []

        def late(ring: GatingReader, waiting: bool) -> None:
            if waiting and not published:
                engine.publish(0, 1)
                published.append(1)
            set_waiting(ring, waiting)

        monkeypatch.setattr(GatingReader, "set_waiting", late)
        seen = []

        def look() -> None:
            wakeups = [ring.wakeups() for ring in engine.rings.values()]
            seen.append((engine.drained(), wakeups))

        bell = Bell(look, look)
        writer = engine.persister()
        writer.run(bell)
        assert published
        assert bell.timeouts == [TRICKLE_WAIT_S, IDLE_WAIT_S]
        assert seen == [(True, [[], []]), (True, [[0], [0]])]
        assert [ring.wakeups() for ring in engine.rings.values()] == [[], []]
        writer.close()

    @pytest.mark.parametrize(("trades", "pause_s"), [(1, TRICKLE_WAIT_S), (TRICKLE_TRADES, SOON_S)])
    def test_it_pauses_after_trades_without_asking_for_the_bell(
        self, make_engine: MakeEngine, trades: int, pause_s: float
    ) -> None:
        engine = make_engine(capacity=TRICKLE_TRADES)
        asked = []

        def look() -> None:
            asked.append([ring.wakeups() for ring in engine.rings.values()])

        def trade() -> None:
            look()
            engine.publish(0, trades)

        bell = Bell(look, trade, look, look)
        writer = engine.persister()
        writer.run(bell)
        assert bell.timeouts == [IDLE_WAIT_S, IDLE_WAIT_S, pause_s, IDLE_WAIT_S]
        assert asked == [[[0], [0]], [[0], [0]], [[], []], [[0], [0]]]
        writer.close()

    def test_all_is_logged_before_it_stops(self, make_engine: MakeEngine) -> None:
        engine = make_engine(capacity=4 * BATCH_TRADES)
        writer = engine.persister()
        engine.publish(0, 3 * BATCH_TRADES)
        bell = Bell()
        bell.stopping = True
        writer.run(bell)
        assert bell.waits == 0
        engine.check_log()
        writer.close()


class TestFailingDisk:
    @pytest.mark.parametrize("fsync", [False, True])
    @pytest.mark.parametrize("room", [0, 1, 200, 1000, 3000])
    def test_no_room(self, disk: Disk, make_engine: MakeEngine, room: int, fsync: bool) -> None:
        engine = make_engine(settings=f"fsync = {str(fsync).lower()}")
        writer = engine.persister()
        engine.publish(0, 10)
        engine.publish(1, 10)
        disk.room = room
        written = writer.step()
        assert writer.failing
        kept = read_ids(engine.plan.log_dir)
        assert kept == (ids(0, 1, 10) + ids(1, 1, 10))[:written]
        assert engine.cursor(0) + engine.cursor(1) == written < 20
        assert writer.step() == 0
        assert engine.counters()["write_errors"] == 2
        engine.fill(1)
        assert engine.rings[1].published == engine.cursor(1) + CAPACITY  # its matcher is held
        disk.room = 1 << 30
        while writer.available():
            assert writer.step()
        assert not writer.failing
        engine.check_log()
        assert engine.counters()["trades"] == engine.published()
        writer.close()

    def test_what_is_not_durable_stays_in_the_ring(
        self, disk: Disk, make_engine: MakeEngine
    ) -> None:
        engine = make_engine(settings="fsync = true\nsegment_bytes = 4096")
        writer = engine.persister()
        engine.publish(0, 10)
        assert writer.step() == 10
        disk.sync_errors = 1
        for room in (1 << 30, 500, 1 << 30):
            disk.room = room
            engine.publish(0, 10)
            engine.publish(1, 10)
            assert writer.step() == 0
            assert writer.failing
            assert (engine.cursor(0), engine.cursor(1)) == (10, 0)
        disk.sync_errors = 0
        while writer.available():
            assert writer.step()
        engine.check_log()
        assert engine.counters()["trades"] == 70
        writer.close()

    def test_to_stop_with_a_full_disk(
        self, disk: Disk, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(persister, "RETRY_S", 0)
        writer = engine.persister()
        engine.publish(0, 10)
        disk.room = 0
        bell = Bell()
        bell.stopping = True
        with pytest.raises(TradeLogError, match=r"stopped with 10 trades not logged: .*no room"):
            writer.run(bell)
        assert engine.counters()["write_errors"] == persister.STOP_RETRIES + 1
        disk.room = 1 << 30
        writer.run(bell)
        engine.check_log()
        writer.close()

    def test_to_stop_takes_its_time_while_there_is_progress(
        self, disk: Disk, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def one_line_more(_: float) -> None:
            disk.room = 250

        monkeypatch.setattr(persister, "STOP_RETRIES", 2)
        monkeypatch.setattr(time, "sleep", one_line_more)
        writer = engine.persister()
        engine.publish(1, 20)
        disk.room = 0
        bell = Bell()
        bell.stopping = True
        writer.run(bell)
        assert engine.counters()["write_errors"] > 10
        engine.check_log()
        writer.close()


def finish(process: BaseProcess) -> None:
    """Tell a process to finish, as its supervisor does, and see it end."""
    assert process.pid is not None
    os.kill(process.pid, FINISH)
    process.join()


class TestProcess:
    def test_it_is_woken_and_stops_when_told(self, engine: Engine) -> None:
        process = engine.process()
        for count in (1, 20, 30):
            until(lambda: bool(engine.rings[0].wakeups()))
            engine.publish(0, count)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
                ring_doorbell(bell, engine.plan.doorbell_path(0))
            until(engine.drained)
        finish(process)
        assert process.exitcode == 0
        engine.check_log()

    def test_it_does_not_end_before_the_matchers(self, engine: Engine) -> None:
        """As where the supervisor is dead: all its processes find that out at once."""
        process = engine.process()
        matcher = subprocess.Popen(["sleep", "1000"])
        try:
            StatusWriter(engine.plan.status_path, "matcher", 0).start(matcher.pid, 1)
            assert process.pid is not None
            os.kill(process.pid, FINISH)
            for count in (1, 20, 30):
                engine.publish(0, count)
                until(engine.drained)
        finally:
            matcher.kill()
            matcher.wait()
        process.join()
        assert process.exitcode == 0
        engine.check_log()

    def test_what_it_cannot_open(self, engine: Engine) -> None:
        engine.plan.log_dir.mkdir()
        (engine.plan.log_dir / ACTIVE).write_bytes(b"{}\n")
        process = engine.process()
        process.join()
        assert process.exitcode == 1
        status = StatusWriter(engine.plan.status_path, "persister", 0)
        with pytest.raises(SystemExit, match=r"^persister: .*trades\.ndjson: byte 0: Object miss"):
            persister.run(engine.plan, 0, status, Bell())

    def test_a_full_disk_holds_the_matchers(self, make_engine: MakeEngine) -> None:
        engine = make_engine(capacity=1024)
        process = engine.process()
        engine.publish(0, 100)
        until(engine.drained)
        limit = (engine.plan.log_dir / ACTIVE).stat().st_size + 12_345
        hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, hard))
        engine.fill(0)
        engine.fill(1)
        until(lambda: engine.counters()["write_errors"] >= 3)
        held = engine.cursor(0) + engine.cursor(1)
        assert 100 < held < 300
        assert len(read_ids(engine.plan.log_dir)) == held
        assert limit - 320 < (engine.plan.log_dir / ACTIVE).stat().st_size <= limit
        engine.fill(0)
        engine.fill(1)
        assert engine.published() == held + 2 * 1024
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        until(engine.drained)
        finish(process)
        assert process.exitcode == 0
        assert engine.counters()["trades"] == engine.published()
        engine.check_log()

    @pytest.mark.parametrize("fsync", [False, True])
    def test_killed_at_any_moment(self, make_engine: MakeEngine, seed: int, fsync: bool) -> None:
        choose = random.Random(seed)
        settings = f"fsync = {str(fsync).lower()}\nsegment_bytes = 300_000"
        engine = make_engine(capacity=8192, settings=settings)
        torn = skipped = 0
        for _ in range(8):
            process = engine.process()
            target = engine.cursor(0) + choose.randrange(6000)
            while engine.cursor(0) < target:
                for shard, ring in engine.rings.items():
                    engine.publish(shard, min(ring.room(), choose.choice([1, 100, 3000])))
            process.kill()
            process.join()
            shown = engine.counters()
            torn += shown["torn_bytes_cut"]
            skipped += shown["skipped_trades"]
        process = engine.process()
        finish(process)
        assert process.exitcode == 0
        assert engine.drained()
        engine.check_log()
        assert len(closed_segments(engine.plan.log_dir)) > 5
        print(f"torn bytes cut {torn}, trades skipped {skipped}")
