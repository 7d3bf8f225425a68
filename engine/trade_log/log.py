"""The trade log: every trade once, in its shard's order, one JSON line each, in segments.

``TradeLog`` is the one writer; ``engine.trade_log.reader`` reads. What a crash can leave is put
right when the log is opened: a last line without an end is cut, and each shard's last trade is
found, so that the writer goes on with the next. ``engine.trade_log.segments`` describes the files.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from engine.storage import LockedError, Storage, lock_directory
from engine.trade_log.lines import MAX_LINE_BYTES, trade_id_of, trade_ids
from engine.trade_log.reader import LogTail, Position, read_trades
from engine.trade_log.segments import (
    ACTIVE,
    Seal,
    Sealer,
    TradeLogBusyError,
    TradeLogError,
    active_number,
    clean_up,
    closed_segments,
    plain_path,
    read_seal,
)
from ipc.records import SEQUENCE_BITS, SEQUENCE_MASK, sequence_of, shard_of

__all__ = [
    "LogTail",
    "Position",
    "TradeLog",
    "TradeLogBusyError",
    "TradeLogError",
    "logged_sequences",
    "read_trades",
]

logger = logging.getLogger("shardbook.persister")

_BLOCK_BYTES = 1 << 20


class TradeLog:
    """The writer of one directory. With ``fsync`` a trade counts once ``sync`` has returned.

    Opening raises ``TradeLogError`` where another process has the log open, or where what lies
    there is damaged otherwise than by a crash, and ``OSError``.
    """

    def __init__(
        self,
        directory: Path,
        segment_bytes: int,
        *,
        compress: bool = True,
        fsync: bool = False,
        storage: Storage | None = None,
        background: bool = True,
    ) -> None:
        if segment_bytes < MAX_LINE_BYTES:
            raise ValueError(f"segment_bytes = {segment_bytes}: must be at least {MAX_LINE_BYTES}")
        self.torn_bytes_cut = 0
        self.segments = 1
        """Closed ones and the active one."""
        self.appended_bytes = 0
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._fsync = fsync
        self._path = directory / ACTIVE
        self._active = -1
        self._size = 0
        self._ragged = False  # the file may hold more than the _size bytes that count
        self._last: dict[int, int] = {}
        self._durable_size = 0
        self._durable_last: dict[int, int] = {}
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(directory)
        self._storage = storage or Storage()
        self._sealer = Sealer(directory, compress, self._storage, background=background)
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    @property
    def compressed_segments(self) -> int:
        """How many segments were compressed since the log was opened."""
        return self._sealer.compressed

    @property
    def seal_errors(self) -> int:
        """How often a closed segment could not be sealed or compressed."""
        return self._sealer.errors

    def last_sequence(self, shard: int) -> int:
        """Return the sequence of the shard's last trade in the log; 0: none."""
        return self._last.get(shard, 0)

    def last_sequences(self) -> dict[int, int]:
        """Return ``last_sequence`` of every shard that has a trade in the log."""
        return dict(self._last)

    def append(self, lines: bytes | memoryview) -> None:
        """Append whole lines of one shard, in its order, closing segments as they fill.

        Raises ``OSError`` where not all could be written: ``last_sequence`` tells how far it came,
        and no part of a line stays. The same call may then be made again with the rest.
        """
        view = memoryview(lines)
        while view:
            if self._active < 0:
                self._open_active()
            if self._ragged:
                self._cut_back()
            room = self._segment_bytes - self._size
            size = len(view) if len(view) <= room else _whole_lines(view[:room])
            if size:
                self._write(view[:size])
                view = view[size:]
            else:
                self._rotate()

    def sync(self) -> None:
        """Return when all that was appended is durable; without ``fsync`` at once.

        Raises ``OSError`` where the disk fails. What is not durable is then cut off again, for the
        kernel forgets pages that it could not write; ``last_sequence`` tells what is left.
        """
        if not self._fsync or self._durable_size == self._size or self._active < 0:
            return
        try:
            self._storage.sync(self._active)
        except OSError:
            self._size, self._last = self._durable_size, dict(self._durable_last)
            self._ragged = True
            self._storage.truncate(self._active, self._size)
            self._ragged = False
            raise
        self._durable_size, self._durable_last = self._size, dict(self._last)

    def close(self) -> None:
        """Close the log; whatever was not sealed yet, the next start seals."""
        self._sealer.close()
        if self._active >= 0:
            self._storage.close(self._active)
            self._active = -1
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def abandon(self) -> None:
        """Let go of the directory without a word to the disk, as the death of the process does."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _write(self, lines: memoryview) -> None:
        done = 0
        try:
            while done < len(lines):
                done += self._storage.append(self._active, lines[done:])
        except OSError:
            whole = _whole_lines(lines[:done])
            self._count(lines[:whole])
            self._ragged = done > whole
            if self._ragged:
                self._cut_back()
            raise
        self._count(lines)

    def _count(self, lines: memoryview) -> None:
        """Take note of whole lines that are in the file now."""
        if not lines:
            return
        tail = bytes(lines[-MAX_LINE_BYTES:])
        trade_id = trade_id_of(tail[tail.rfind(b"\n", 0, -1) + 1 :])
        self._last[shard_of(trade_id)] = sequence_of(trade_id)
        self._size += len(lines)
        self.appended_bytes += len(lines)

    def _cut_back(self) -> None:
        """Cut what does not count off the file, and off the disk.

        Lines of another shard may come in its place: a loss of power is not to mix the two.
        """
        self._storage.truncate(self._active, self._size)
        self._storage.sync(self._active)
        self._ragged = False

    def _open_active(self) -> None:
        self._active = self._storage.open_to_append(self._path)
        if self._fsync:
            try:
                self._storage.sync_directory(self._directory)
            except OSError:
                self._storage.close(self._active)
                self._active = -1
                raise

    def _rotate(self) -> None:
        """Close the active segment under its number; the next write opens a new one."""
        self.sync()
        number = active_number(self._directory)
        self._storage.rename(self._path, plain_path(self._directory, number))
        self._storage.close(self._active)
        self._active, self._size, self._durable_size = -1, 0, 0
        self.segments += 1
        self._request_seal(number)

    def _recover(self) -> None:
        """Cut a torn line, find every shard's last trade, hand unfinished segments to the sealer.

        Reads what was written since the last seal; where ``sealed.json`` is gone, everything.
        """
        clean_up(self._directory, self._storage)
        self._open_active()
        self._cut_torn_line()
        seal = read_seal(self._directory)
        self._last = dict(seal.last_sequences)
        closed = closed_segments(self._directory)
        self.segments = len(closed) + 1
        for segment in closed:
            if segment <= seal.segment:
                self._sealer.request(Seal(segment))
        with LogTail(self._directory, Position(seal.segment + 1, 0)) as tail:
            reading = tail.position.segment
            while block := tail.read_block():
                if tail.position.segment != reading:
                    self._request_seal(reading)
                    reading = tail.position.segment
                self._take_over(tail, block)
            self._request_seal(reading)
        if self._fsync:
            self._storage.sync(self._active)
        self._durable_size, self._durable_last = self._size, dict(self._last)

    def _request_seal(self, segment: int) -> None:
        """Have a closed segment sealed with what is known at its end; others are passed over."""
        if segment in closed_segments(self._directory):
            self._sealer.request(Seal(segment, dict(self._last)))

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._active).st_size
        self._size = 0
        for start in range(size - 1 - (size - 1) % _BLOCK_BYTES, -1, -_BLOCK_BYTES):
            end = os.pread(self._active, min(_BLOCK_BYTES, size - start), start).rfind(b"\n") + 1
            if end:
                self._size = start + end
                break
        self.torn_bytes_cut = size - self._size
        if self.torn_bytes_cut:
            logger.warning("%s: cut a torn line of %d bytes", self._path, self.torn_bytes_cut)
            self._cut_back()

    def _take_over(self, tail: LogTail, block: bytes) -> None:
        """Take note of lines that are in the log already. Raises ``TradeLogError``."""
        ids = trade_ids(block)
        # Zeros are what a loss of power leaves in the place of what was not synchronised.
        if len(ids) != block.count(b"\n") or b"\0" in block:
            tail.parse(block)
            raise tail.damage("a trade in another form than this program writes")
        tail.parse(block[block.rfind(b"\n", 0, -1) + 1 :])
        shards = ids >> np.uint64(SEQUENCE_BITS)
        for shard in np.unique(shards):
            sequences = ids[shards == shard] & np.uint64(SEQUENCE_MASK)
            before = np.concatenate(([np.uint64(self.last_sequence(int(shard)))], sequences[:-1]))
            wrong = np.flatnonzero(sequences <= before)
            if len(wrong):
                trade_id = int(shard) << SEQUENCE_BITS | int(sequences[wrong[0]])
                raise tail.damage(f"trade {trade_id} is there twice or after a later one")
            self._last[int(shard)] = int(sequences[-1])


def logged_sequences(directory: Path) -> dict[int, int]:
    """Return each shard's last trade in the log, without opening it for writing.

    Raises ``TradeLogError`` where it is damaged.
    """
    seal = read_seal(directory)
    return last_trades(directory, Position(seal.segment + 1, 0), seal.last_sequences)


def last_trades(directory: Path, begin: Position, before: Mapping[int, int]) -> dict[int, int]:
    """Return each shard's last trade in the log from a position on, with those ``before`` it."""
    last = dict(before)
    with LogTail(directory, begin) as tail:
        while block := tail.read_block():
            ids = trade_ids(block)
            shards = ids >> np.uint64(SEQUENCE_BITS)
            for shard in np.unique(shards).tolist():
                newest = int(ids[shards == shard].max()) & SEQUENCE_MASK
                last[shard] = max(last.get(shard, 0), newest)
    return last


def _whole_lines(lines: memoryview) -> int:
    """Return how many bytes of ``lines`` are whole lines."""
    start = max(0, len(lines) - MAX_LINE_BYTES)
    end = bytes(lines[start:]).rfind(b"\n") + 1
    return start + end if end else 0


def _locked(directory: Path) -> int:
    """Lock the directory until the descriptor that is returned is closed, or this process ends."""
    try:
        return lock_directory(directory)
    except LockedError:
        raise TradeLogBusyError(f"{directory}: another process writes this trade log") from None
