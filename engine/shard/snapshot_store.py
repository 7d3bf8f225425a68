"""Snapshots for other nodes of a cluster: a directory that all of them reach.

Whoever has taken one puts a copy there, and beside it ``log-places``, which say where in the log
that is. A shard that has nothing begins with the newest, as if it had come so far itself: with the
snapshot, a journal that begins behind it, and a trade log that is said to end with its last trade::

    DIRECTORY/PREFIX/SHARD/0000000000001234.snapshot
                           0000000000001234.places
"""

import contextlib
import os
import shutil
from pathlib import Path

from engine.journal.format import JournalError, encode_header, segment_path
from engine.journal.reader import segments_of
from engine.journal.snapshot import Snapshot, read_snapshot, snapshots_of
from engine.plan import Plan
from engine.storage import Storage
from engine.trade_log.segments import ACTIVE, Seal, closed_segments, read_seal, write_seal

PLACES = "log-places"
KEPT = 2


def store_of(plan: Plan, shard: int) -> Path | None:
    """Return where snapshots of a shard lie for all nodes; None: nowhere."""
    cluster = plan.config.cluster
    if not (cluster.enabled and cluster.snapshots):
        return None
    return Path(cluster.snapshots) / plan.config.kafka.prefix / str(shard)


def publish(plan: Plan, shard: int, snapshot: Path) -> None:
    """Put a copy of a snapshot there, and remove old ones. Raises ``OSError``."""
    store, places = store_of(plan, shard), plan.journal_dir(shard) / PLACES
    if store is None or not places.exists():
        return
    store.mkdir(parents=True, exist_ok=True)
    for source, name in ((places, f"{snapshot.stem}.places"), (snapshot, snapshot.name)):
        aside = store / f"{name}.{plan.config.cluster.node}.tmp"
        shutil.copyfile(source, aside)
        with aside.open("rb") as copy:
            os.fsync(copy.fileno())
        aside.rename(store / name)
    for old in snapshots_of(store)[KEPT:]:
        for path in (old, old.with_suffix(".places")):
            path.unlink(missing_ok=True)


def fetch(plan: Plan) -> list[str]:
    """Have each shard that has nothing begin with the newest snapshot that lies there; return a
    note for each. Nothing is done where there is a trade log: it says how far this product came.

    Raises ``OSError``.
    """
    log = plan.log_dir
    if closed_segments(log) or ((log / ACTIVE).exists() and (log / ACTIVE).stat().st_size):
        return []
    notes, storage = [], Storage()
    for shard in plan.shards:
        directory, store = plan.journal_dir(shard), store_of(plan, shard)
        if store is None or segments_of(directory):
            continue
        for path in snapshots_of(store):
            with contextlib.suppress(JournalError, FileNotFoundError):
                _begin_with(plan, shard, path, read_snapshot(path), storage)
                notes.append(f"shard {shard}: begins with {path}")
                break
    return notes


def _begin_with(plan: Plan, shard: int, path: Path, snapshot: Snapshot, storage: Storage) -> None:
    """Make what a shard has that has come to a snapshot by itself; its journal is the last of it,
    so that one that is cut short is done anew."""
    places = path.with_suffix(".places").read_bytes()
    directory, log = plan.journal_dir(shard), plan.log_dir
    for made in (directory, log):
        made.mkdir(parents=True, exist_ok=True)
    for left in snapshots_of(directory):
        left.unlink()
    shutil.copyfile(path, directory / path.name)
    (directory / PLACES).write_bytes(places)
    seal, last = read_seal(log), snapshot.counters.trade_sequence
    sequences = {**seal.last_sequences, **({shard: last} if last else {})}
    write_seal(log, Seal(seal.segment, sequences), storage)
    header = encode_header(
        first := snapshot.counters.sequence + 1, snapshot.shard_config, snapshot.secret
    )
    aside = segment_path(directory, first).with_suffix(".tmp")
    aside.write_bytes(header)
    aside.rename(segment_path(directory, first))
