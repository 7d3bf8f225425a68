"""Group commit: what the disk does not have yet is seen by nobody, and one sync serves many."""

import threading
from itertools import repeat
from pathlib import Path

from bench.truth import Told
from engine.storage import Storage
from ipc.memory.ring import RingReader
from tests.kept import TIME_NS, commands_for, plan_of
from tests.product import until
from tests.test_faults import matcher


class SlowDisk(Storage):
    """Syncs only when it is let."""

    def __init__(self) -> None:
        self.begun = self.done = 0
        self.may = threading.Semaphore(0)

    def sync(self, descriptor: int) -> None:
        self.begun += 1
        assert self.may.acquire(timeout=60)
        super().sync(descriptor)
        self.done += 1


def test_nothing_is_seen_before_the_disk_has_it_and_one_sync_serves_many(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, '[journal]\ndurability = "fsync"\n')
    commands = commands_for(plan, 400)
    commands["timestamp_ns"] = TIME_NS
    disk, told = SlowDisk(), Told(commands)
    links: list[object] = [told]
    disk.may.release(1)  # of the segment's header
    with matcher(plan, disk, clock=repeat(TIME_NS)) as slow:
        slow.tick()
        ring = RingReader(plan.ring_path(0))
        for start in range(0, 400, 40):
            slow.take(commands[start : start + 40], links)  # type: ignore[arg-type]
            slow.settle(links)  # type: ignore[arg-type]
        until(lambda: disk.begun == 2)
        assert (told.frames, ring.published, slow.table.live_orders) == ([], 0, 0)
        assert slow.book.counters().sequence == 0
        disk.may.release()
        until(lambda: disk.done == 2)
        slow.settle(links)  # type: ignore[arg-type]
        first = slow.book.counters().sequence
        assert 0 < first < 400
        assert set(told.reports()["sequence"].tolist()) == set(range(1, first + 1))
        disk.may.release(10)
        slow.settle_all(links)  # type: ignore[arg-type]
        assert slow.book.counters().sequence == 400
        assert disk.done == 3
        assert ring.published == slow.book.counters().trade_sequence > 0


def test_without_fsync_the_disk_is_never_waited_for(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    commands = commands_for(plan, 400)
    commands["timestamp_ns"] = TIME_NS
    disk, told = SlowDisk(), Told(commands)
    with matcher(plan, disk, clock=repeat(TIME_NS)) as quick:
        quick.tick()
        quick.take(commands, [told])  # type: ignore[list-item]
        assert quick.book.counters().sequence == 400
    assert not disk.begun
    assert told.frames
