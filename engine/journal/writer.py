"""Writing a journal: see ``engine.journal.format`` for its bytes.

``append`` puts a batch into the file, where it outlives this process. With ``fsync`` it outlives
the machine once ``sync`` has returned; one ``sync`` serves every batch appended before it.

Where the disk is full, ``append`` waits and tries again: nothing of the batch was matched yet.
What else fails is final. A failed ``sync`` may have thrown written pages away while the kernel
takes them for clean, so it is never tried again: the journal refuses all work from then on.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.books.contract import Records
from engine.journal.batches import Packer, batch_bytes
from engine.journal.format import PAGE_BYTES, JournalError, encode_header, segment_path
from engine.journal.reader import READ_BYTES, End, end_of_written, segments_of
from engine.journal.segment_closer import SegmentCloser
from engine.journal.shard_config import ShardConfig
from engine.storage import NO_ROOM, Buffer, Storage
from ipc.records import COMMAND
from ipc.vocabulary import Administration

logger = logging.getLogger("shardbook.matcher")

MIN_SEGMENT_BYTES = 1 << 13
_ASIDE = "next.tmp"


class JournalWriter:
    """The one writer of a directory, going on behind ``end``; the caller holds its lock."""

    def __init__(
        self,
        directory: Path,
        shard_config: ShardConfig,
        end: End,
        segment_bytes: int,
        *,
        secret: int = 0,
        fsync: bool = False,
        storage: Storage | None = None,
        wait_for_room: Callable[[OSError], None] | None = None,
        closer: SegmentCloser | None = None,
    ) -> None:
        """Go on behind ``end``, having cut off what a crash left there.

        ``wait_for_room`` is called before each new try where the disk is full; it may raise.
        ``secret`` is the shard's, for every segment to hold. ``closer`` closes the segments that
        others follow. Raises ``OSError``.
        """
        self.sequence = end.sequence
        """Of the last command appended."""
        self.segments = 0
        """How many were begun."""
        self.before_rotation: Callable[[], None] = lambda: None
        """Called before a segment is closed: nobody may be syncing it then."""
        self.fsync = fsync
        self._directory = directory
        self._shard_config, self._secret = shard_config, secret
        self._segment_bytes = max(segment_bytes, MIN_SEGMENT_BYTES)
        self._storage = storage or Storage()
        self._wait_for_room = wait_for_room
        self._closer = closer
        self._packer = Packer()
        self._descriptor = -1
        self._offset = 0
        self._size = 0
        self._failure: OSError | None = None
        if end.path is not None:
            self._settle_last(end)

    def append(self, commands: Records, timestamp_ns: int) -> int:
        """Append commands (COMMAND) of one time as a batch, of the sequence numbers that come next.

        Returns how many bytes that took. Raises ``JournalError`` where it cannot be kept, nothing
        of it may then be carried out; and ``ValueError`` where a command holds what a journal has
        no place for.
        """
        batch = self._packer.pack(commands, self.sequence + 1, timestamp_ns)
        size = len(batch)
        while True:
            self._check()
            try:
                if self._offset + size > self._size:
                    self._begin_segment(size)
                self._storage.write(self._descriptor, batch, self._offset)
                break
            except OSError as error:
                self._await_room(error)
        self._offset += size
        self.sequence += len(commands)
        return size

    def configure(self, shard_config: ShardConfig, timestamp_ns: int) -> None:
        """Begin a segment under another configuration with the command that brings it into force.

        Raises as ``append`` does.
        """
        command = np.zeros(1, COMMAND)
        command["command_type"], command["timestamp_ns"] = Administration.CONFIGURE, timestamp_ns
        batch = self._packer.pack(command, self.sequence + 1, timestamp_ns)
        self._shard_config = shard_config
        while True:
            self._check()
            try:
                self._begin_segment(len(batch), batch)
                break
            except OSError as error:
                self._await_room(error)
        self.sequence += 1

    def begin(self) -> None:
        """Begin a segment now, without a command. Raises ``OSError``."""
        self._begin_segment(0)

    def sync(self) -> None:
        """Return once all that was appended is durable. Raises ``JournalError``."""
        self._check()
        if self._descriptor >= 0:
            try:
                self._storage.sync(self._descriptor)
            except OSError as error:
                raise self._fail(error) from error

    def close(self) -> None:
        """Cut the segment to what it holds, and close it."""
        if self._closer is not None:
            self._closer.finish()
        if self._descriptor >= 0:
            self.before_rotation()
            try:
                if self._failure is None:
                    self._storage.truncate(self._descriptor, self._offset)
                    if self.fsync:
                        self._storage.sync(self._descriptor)
            finally:
                self._storage.close(self._descriptor)
                self._descriptor = -1

    def _check(self) -> None:
        if self._closer is not None and self._closer.failure is not None:
            self._failure = self._closer.failure
        if self._failure is not None:
            raise JournalError(f"{self._directory}: halted: {self._failure}")

    def _await_room(self, error: OSError) -> None:
        """Wait where an error says that the disk is full. Raises ``JournalError`` for any other."""
        if error.errno not in NO_ROOM or self._wait_for_room is None:
            raise self._fail(error) from error
        self._wait_for_room(error)

    def _fail(self, error: OSError) -> JournalError:
        self._failure = error
        return JournalError(f"{self._directory}: cannot be written: {error}")

    def _begin_segment(self, batch_bytes: int, first: Buffer = b"") -> None:
        """Close the segment at hand, and begin the next one with room for a batch.

        Made aside and renamed, so that a segment has its header whatever happens, and the batch
        that is to be its ``first``.
        """
        storage = self._storage
        header = encode_header(self.sequence + 1, self._shard_config, self._secret)
        size = max(self._segment_bytes, len(header) + batch_bytes)
        size = -(-size // PAGE_BYTES) * PAGE_BYTES
        aside = self._directory / _ASIDE
        descriptor = storage.create(aside)
        try:
            storage.allocate(descriptor, size)
            storage.write(descriptor, header, 0)
            if first:
                storage.write(descriptor, first, len(header))
            if self.fsync:
                storage.sync(descriptor)
            self._close_segment()
            storage.rename(aside, segment_path(self._directory, self.sequence + 1))
            if self.fsync:
                storage.sync_directory(self._directory)
        except BaseException:
            storage.close(descriptor)
            raise
        self._descriptor, self._offset, self._size = descriptor, len(header) + len(first), size
        self.segments += 1

    def _close_segment(self) -> None:
        """Cut the segment at hand to what it holds; with ``fsync`` all of it is durable."""
        if self._descriptor < 0:
            return
        self.before_rotation()
        self._storage.truncate(self._descriptor, self._offset)
        if self.fsync:
            self._storage.sync(self._descriptor)
        if self._closer is not None:
            self._closer.close(self._descriptor)
        else:
            self._storage.close(self._descriptor)
        self._descriptor, self._size = -1, 0

    def _settle_last(self, end: End) -> None:
        """Cut the last segment of a former run to its end.

        One without a command is left: the next one has its name, and takes its place.
        """
        assert end.path is not None
        storage = self._storage
        descriptor = storage.open(end.path)
        try:
            if os.fstat(descriptor).st_size != end.offset:
                storage.truncate(descriptor, end.offset)
                if self.fsync:
                    storage.sync(descriptor)
        finally:
            storage.close(descriptor)


def make_durable(directory: Path, storage: Storage) -> None:
    """Make all that a journal of a former run holds durable. Raises ``OSError``.

    The last segment's bytes are written anew before: where a sync failed in that run, the kernel
    may take pages for clean that never reached the disk. Earlier ones were closed after a sync.
    """
    segments = segments_of(directory)
    for segment in segments:
        descriptor = storage.open(segment.path)
        try:
            if segment is segments[-1]:
                end = end_of_written(descriptor, 0)
                for offset in range(0, end, READ_BYTES):
                    piece = os.pread(descriptor, min(READ_BYTES, end - offset), offset)
                    storage.write(descriptor, piece, offset)
            storage.sync(descriptor)
        finally:
            storage.close(descriptor)
    if segments:
        storage.sync_directory(directory)


assert batch_bytes(1) < MIN_SEGMENT_BYTES
