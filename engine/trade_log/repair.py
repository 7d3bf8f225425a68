"""The trade log after a loss of power: cut where it first is not what was written, to be refilled.

Lines that were not synchronised to the disk may be missing, in pieces, from the midst. The journals
make their trades again, so the log is cut before the first line that is wrong, and what followed is
put aside in ``cut-*`` files. What is sealed was synchronised: damage there is no loss of power, and
is refused as ever.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.storage import Storage
from engine.trade_log.lines import lines_of, parse_lines, trade_ids
from engine.trade_log.log import TradeLog, TradeLogBusyError, TradeLogError, last_trades
from engine.trade_log.reader import Position
from engine.trade_log.segments import (
    ACTIVE,
    Seal,
    closed_segments,
    plain_path,
    read_seal,
    write_seal,
)
from ipc.records import make_id, shard_of


class RepairedLog(NamedTuple):
    """Each shard's last trade in the log, and what was done to it."""

    last_sequences: dict[int, int]
    notes: list[str]


def repaired_log(
    directory: Path, segment_bytes: int, *, refill: bool, storage: Storage | None = None
) -> RepairedLog:
    """Put a log right after a crash, and return its last trades.

    Without ``refill`` nothing can make cut trades again, so only an unfinished line is cut. Raises
    ``TradeLogError`` and ``OSError``.
    """
    storage = storage or Storage()
    notes: list[str] = []
    try:
        return RepairedLog(_last_sequences(directory, segment_bytes, storage), notes)
    except TradeLogBusyError:
        raise
    except TradeLogError as error:
        if not refill:
            raise
        cut = cut_damage(directory, storage)
        if not cut:
            raise
        notes.append(f"{error}; cut {cut} bytes from there on, which the journals make again")
    return RepairedLog(_last_sequences(directory, segment_bytes, storage), notes)


def correct_seal(
    directory: Path, can_be_made: Callable[[dict[int, int]], bool], storage: Storage
) -> list[str]:
    """Have ``sealed.json`` tell what there is where the last segment that it knows is gone.

    Old segments may be moved away. Where one is gone that is newer than others, and nothing lies
    behind it, its trades are lost; ``can_be_made`` tells whether what comes after a sequence of
    each shard can be made again. Returns a note where anything was done. Raises ``TradeLogError``
    and ``OSError``.
    """
    seal, closed = read_seal(directory), closed_segments(directory)
    active = directory / ACTIVE
    if not closed or closed[-1] >= seal.segment or (active.exists() and active.stat().st_size):
        return []
    last = last_trades(directory, Position(0, 0), {})
    if last == seal.last_sequences or not can_be_made(last):
        return []
    write_seal(directory, Seal(seal.segment, last), storage)
    return [f"segments {closed[-1] + 1} to {seal.segment} are gone; their trades are made again"]


def cut_damage(directory: Path, storage: Storage) -> int:
    """Cut what was not sealed before its first wrong line; return how many bytes that were."""
    seal = read_seal(directory)
    unsealed = [number for number in closed_segments(directory) if number > seal.segment]
    paths = [plain_path(directory, number) for number in unsealed] + [directory / ACTIVE]
    last = {shard: make_id(shard, sequence) for shard, sequence in seal.last_sequences.items()}
    cut = 0
    for path in paths:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        good = 0 if cut else _good_bytes(data, last)
        if good == len(data) and (good or path.name == ACTIVE):
            continue
        cut += len(data) - good
        aside = path.with_name(f"cut-{path.name}")
        descriptor = storage.create(aside)
        try:
            storage.write(descriptor, data[good:], 0)
            storage.sync(descriptor)
        finally:
            storage.close(descriptor)
        if not good and path.name != ACTIVE:
            storage.unlink(path)
            cut = max(cut, 1)
            continue
        descriptor = storage.open(path)
        try:
            storage.truncate(descriptor, good)
            storage.sync(descriptor)
        finally:
            storage.close(descriptor)
    if cut:
        storage.sync_directory(directory)
    return cut


def _good_bytes(data: bytes, last: dict[int, int]) -> int:
    """Return how long the whole, right lines are that data begins with; note their last trades."""
    good = 0
    for line in lines_of(data):
        ids = trade_ids(line)
        if len(ids) != 1 or not _is_trade(line):
            break
        shard = shard_of(int(ids[0]))
        if int(ids[0]) <= last.get(shard, 0):
            break
        last[shard] = int(ids[0])
        good += len(line)
    return good


def _is_trade(line: bytes) -> bool:
    with contextlib.suppress(msgspec.DecodeError):
        return len(parse_lines(line)) == 1
    return False


def _last_sequences(directory: Path, segment_bytes: int, storage: Storage) -> dict[int, int]:
    with contextlib.closing(
        TradeLog(directory, segment_bytes, compress=False, storage=storage, background=False)
    ) as log:
        return log.last_sequences()
