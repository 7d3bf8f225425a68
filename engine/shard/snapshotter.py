"""Taking snapshots without the matcher: the newest one and the journal after it give the next.

A matcher never stops for a snapshot. Another process replays what it has written, with a low
priority, and so tries out with every snapshot what a recovery would do. The journal is made durable
up to the snapshot before, so that a snapshot is never ahead of it.

The newest ``snapshots_kept`` snapshots are kept, and older ones as far as the log may not have, on
the disk, the trades up to a newer one: a start could then need them. What is older goes, and with
it the journal that only older ones would need.
"""

import contextlib
import logging
import os
import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from engine.journal.format import JournalError
from engine.journal.reader import segments_of
from engine.journal.snapshot import (
    SUFFIX,
    read_snapshot,
    sequence_of_snapshot,
    snapshots_of,
    write_snapshot,
)
from engine.plan import Plan
from engine.shard.follower import Follower
from engine.shard.holds import held_positions, let_go
from engine.shard.snapshot_store import publish
from engine.storage import LockedError, Storage, lock_directory
from engine.trade_log.log import logged_sequences
from ipc.memory.mapping import MappingError, check_run_directory
from ipc.memory.ring import RingReader

logger = logging.getLogger("shardbook.snapshot")

LOCK = "snapshots"
_TABLE = "snapshot-orders"


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
    logged = _durably_logged(plan, shard, storage)
    follower = Follower(plan, shard, None, _table_path(plan, shard))
    try:
        after = follower.position
        sequence = follower.catch_up()
        if sequence == after:
            # One that was ended after its snapshot stood may have left what that made useless.
            return Taken(None, after, 0, removed=prune(plan, shard, logged, storage))
        _make_durable(directory, sequence, storage)
        snapshot = follower.shard.snapshot()
    finally:
        follower.close()
    path = write_snapshot(directory, snapshot, storage)
    publish(plan, shard, path)
    removed = prune(plan, shard, logged, storage)
    return Taken(path, sequence, sequence - after, len(snapshot.resting), removed)


def prune(plan: Plan, shard: int, logged: int, storage: Storage) -> int:
    """Remove snapshots and segments that no start can need; return how many files went.

    ``logged`` is the last trade that the log holds durably. What a follower holds stays: a snapshot
    at or before its position, and the journal behind that.
    """
    settings = plan.config.journal
    directory = plan.journal_dir(shard)
    for name in let_go(directory, plan.config.history.max_journal_bytes, storage):
        logger.warning("shard %d: the journal is kept no more for %s: too far behind", shard, name)
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
