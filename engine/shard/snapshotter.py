"""Taking snapshots without the matcher: the newest one and the journal after it give the next.

A matcher never stops for a snapshot. Another process replays what it has written, with a low
priority, and so tries out with every snapshot what a recovery would do. The journal is made durable
up to the snapshot before, so that a snapshot is never ahead of it.

The newest ``snapshots_kept`` snapshots are kept, and older ones as far as the log may not have, on
the disk, the trades up to a newer one: a start could then need them. What is older goes, and with
it the journal that only older ones would need.
"""

import contextlib
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

from engine.children import ENDING, die_with_parent, take
from engine.config import Config
from engine.journal.format import JournalError
from engine.journal.reader import segments_of
from engine.journal.shard_config import shard_config_of
from engine.journal.snapshot import (
    SUFFIX,
    read_snapshot,
    sequence_of_snapshot,
    snapshots_of,
    write_snapshot,
)
from engine.outlet import open_outlets
from engine.plan import Plan
from engine.printable import printable
from engine.shard.follower import Follower
from engine.shard.holds import held_positions
from engine.storage import LockedError, Storage, lock_directory
from engine.trade_log.log import TradeLogError, logged_sequences
from ipc.memory.mapping import MappingError, check_run_directory
from ipc.memory.ring import RingReader

LOCK = "snapshots"
_TABLE = "snapshot-orders"
_NICENESS = 19
_LATE_NICENESS = 10
PATIENCE_S = 10.0
"""How long a snapshot may wait for idle time. Then it is begun anew with a share of its own: the
journal would grow for as long as the machine is busy."""


@dataclass
class Taken:
    """What came of taking a snapshot."""

    path: Path | None
    """The snapshot; None where there was nothing new."""
    sequence: int
    commands: int
    """How many commands it is ahead of the one before."""
    resting_orders: int = 0
    removed: int = 0
    """Files that went: snapshots and segments."""


def take_snapshot(plan: Plan, shard: int, storage: Storage | None = None) -> Taken:
    """Take a snapshot of what a shard's journal holds now, and remove what it makes useless.

    The product may be running or not. Raises ``JournalError``, also where another process takes
    one, and ``OSError``.
    """
    storage = storage or Storage()
    directory = plan.journal_dir(shard)
    if not directory.is_dir():
        return Taken(None, 0, 0)
    try:
        check_run_directory(plan.run_dir)
    except MappingError as error:
        raise JournalError(str(error)) from None
    (directory / LOCK).mkdir(exist_ok=True)
    try:
        lock = lock_directory(directory / LOCK)
    except LockedError as error:
        raise JournalError(str(error)) from None
    try:
        return _take(plan, shard, directory, storage)
    finally:
        os.close(lock)


def _take(plan: Plan, shard: int, directory: Path, storage: Storage) -> Taken:
    for left in directory.glob(f"*{SUFFIX}.tmp"):
        storage.unlink(left)  # of one that was not finished: this process has the lock
    for left in _table_path(plan, shard).parent.glob(f"{_TABLE}-{shard}-*.tmp"):
        left.unlink()
    if not segments_of(directory) and not snapshots_of(directory):
        return Taken(None, 0, 0)  # the shard may begin just now, with a secret of its own
    shard_config = shard_config_of(plan, shard)
    logged = _durably_logged(plan, shard, storage)
    follower = Follower(plan, shard, None, _table_path(plan, shard))
    try:
        after = follower.position
        sequence = follower.catch_up()
        if sequence == after:
            return Taken(None, after, 0)
        _make_durable(directory, sequence, storage)
        snapshot = follower.shard.snapshot(shard_config)
    finally:
        follower.close()
    path = write_snapshot(directory, snapshot, storage)
    removed = prune(plan, shard, logged, storage)
    return Taken(path, sequence, sequence - after, len(snapshot.resting), removed)


def prune(plan: Plan, shard: int, logged: int, storage: Storage) -> int:
    """Remove snapshots and segments that no start can need; return how many files went.

    ``logged`` is the last trade that the log holds durably. What a follower holds stays: a snapshot
    at or before its position, and the journal behind that.
    """
    settings = plan.config.journal
    directory = plan.journal_dir(shard)
    held = min(held_positions(directory).values(), default=None)
    kept: list[Path] = []
    covers_log, covers_held = False, held is None
    for path in snapshots_of(directory):
        if len(kept) >= settings.snapshots_kept and covers_log and covers_held:
            storage.unlink(path)
            continue
        with contextlib.suppress(JournalError):
            covers_log = covers_log or read_snapshot(path).counters.trade_sequence <= logged
            covers_held = held is None or covers_held or sequence_of_snapshot(path) <= held
            kept.append(path)
    if len(kept) < settings.snapshots_kept or not covers_log or not covers_held:
        return 0
    needed = sequence_of_snapshot(kept[-1]) + 1
    segments = segments_of(directory)
    removed = 0
    for segment, following in pairwise(segments):
        if following.first_sequence > needed:
            break
        if settings.archive:
            _archive(segment.path, plan.archive_dir(shard))
        storage.unlink(segment.path)
        removed += 1
    return removed


def _archive(path: Path, archive: Path) -> None:
    """Copy a file into another directory, which may be on another disk."""
    archive.mkdir(parents=True, exist_ok=True)
    aside = archive / f"{path.name}.tmp"
    shutil.copyfile(path, aside)
    with aside.open("rb") as copy:
        os.fsync(copy.fileno())
    aside.rename(archive / path.name)
    Storage().sync_directory(archive)


def _make_durable(directory: Path, sequence: int, storage: Storage) -> None:
    """Make the journal durable up to a command.

    What the snapshot stands for will hardly be read again. A matcher that writes on finds the
    memory of it for its next segments: that of pages never used before is dear on virtual machines.
    """
    needed = [s for s in segments_of(directory) if s.first_sequence <= sequence]
    for segment in needed:
        descriptor = storage.open(segment.path)
        try:
            storage.sync(descriptor)
            if segment is not needed[-1]:
                storage.let_go(descriptor)
        finally:
            storage.close(descriptor)
    storage.sync_directory(directory)


def _durably_logged(plan: Plan, shard: int, storage: Storage) -> int:
    """Return the last trade of a shard that the log holds, having made the log durable."""
    try:
        ring = RingReader(plan.ring_path(shard))
    except MappingError:  # the product does not run
        logged = logged_sequences(plan.log_dir).get(shard, 0)
    else:
        logged = ring.cursor_of(0)
        ring.close()
    for path in sorted(plan.log_dir.glob("trades*.ndjson")):
        with contextlib.suppress(FileNotFoundError):  # compressed meanwhile, which made it durable
            descriptor = storage.open(path)
            try:
                storage.sync(descriptor)
            finally:
                storage.close(descriptor)
    storage.sync_directory(plan.log_dir)
    return logged


def _table_path(plan: Plan, shard: int) -> Path:
    """Return where the order table of a replay may lie: in memory if the product runs."""
    directory = plan.run_dir if plan.run_dir.is_dir() else plan.journal_dir(shard)
    return directory / f"{_TABLE}-{shard}-{os.getpid()}.tmp"


class Schedule:
    """Starts a process for each snapshot that is due, one at a time."""

    def __init__(
        self,
        plan: Plan,
        context: ForkServerContext,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._context = context
        self._clock_s = clock_s
        self._running: tuple[int, BaseProcess] | None = None
        self._late_s = 0.0
        self._last = {
            shard: max(map(sequence_of_snapshot, snapshots_of(plan.journal_dir(shard))), default=0)
            for shard in plan.shards
        }

    def step(self, sequences: dict[int, int], ended: Callable[[int, bool], None]) -> None:
        """Look what is due: ``sequences`` are the shards' last commands.

        ``ended`` is called with the shard and the outcome where one was taken, or could not be.
        """
        if self._running is not None:
            shard, process = self._running
            if process.exitcode is None:
                if self._clock_s() > self._late_s:
                    self.stop()
                    self._running = shard, self._start(shard, late=True)
                return
            ended(shard, process.exitcode == 0)
            process.close()
            self._running = None
        every = self._plan.config.journal.snapshot_commands
        for shard, sequence in sequences.items():
            if every and sequence - self._last[shard] >= every:
                self._last[shard] = sequence
                self._running = shard, self._start(shard, late=False)
                return

    @property
    def pid(self) -> int | None:
        """The process that takes a snapshot; None where none does."""
        return None if self._running is None else self._running[1].pid

    def stop(self) -> None:
        """End the process that runs; what it has not finished counts for nothing."""
        if self._running is not None:
            _, process = self._running
            process.kill()
            process.join()
            process.close()
            self._running = None

    def _start(self, shard: int, late: bool) -> BaseProcess:
        self._late_s = math.inf if late else self._clock_s() + PATIENCE_S
        process = self._context.Process(
            target=_run,
            args=(self._plan.config, str(self._plan.data_dir), shard, late),
            name=f"shardbook-snapshot-{shard}",
            daemon=True,
        )
        process.start()
        assert process.pid is not None
        with contextlib.suppress(OSError):  # it is gone, or may not be changed by others
            step_back(self._plan, process.pid, late)  # sooner than it could by itself
        return process


def step_back(plan: Plan, pid: int = 0, late: bool = False) -> None:
    """Have a process run where no matcher does, and only while nobody else wants to; 0: this one.

    One that is ``late`` gets a small share in any case.

    Between two calls of the kernel it gives way at once. During one it may not, so it keeps those
    short: what it reads and writes it reads and writes in pieces.
    """
    if late:
        os.setpriority(os.PRIO_PROCESS, pid, _LATE_NICENESS)
    elif hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.setpriority(os.PRIO_PROCESS, pid, _NICENESS)
    core = plan.member("supervisor", 0).core
    if core is not None:
        os.sched_setaffinity(pid, {core})


def _run(config: Config, data_dir: str, shard: int, late: bool) -> NoReturn:
    """Be the process that takes one snapshot."""
    die_with_parent()  # what is not finished counts for nothing
    take(ENDING, signal.SIG_IGN)
    open_outlets()
    os.umask(config.file_mask())
    plan = Plan(config, Path(data_dir))
    step_back(plan, late=late)
    try:
        take_snapshot(plan, shard)
    except (JournalError, TradeLogError, OSError) as error:
        sys.exit(f"snapshot of shard {shard}: {printable(str(error))}")
    sys.exit(0)
