"""Reading a journal: its commands behind a sequence number, every byte of them checked.

What a crash leaves at the very end is told apart from damage, which is refused with the file and
the offset. Reading changes nothing and may go on while the journal is written.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.books.contract import Records
from engine.journal.batches import BAD, FULL, MAX_BATCH_BYTES, scan
from engine.journal.format import (
    END_BYTES,
    MAX_BATCH_COMMANDS,
    MAX_HEADER_BYTES,
    PAGE_BYTES,
    SECTOR_BYTES,
    Header,
    JournalError,
    decode_header,
)
from engine.journal.shard_config import ShardConfig, differences
from engine.storage import open_regular, read_into
from ipc.codes import ADMINISTRATION_CONFIGURE
from ipc.records import COMMAND, SEGMENT

READ_BYTES = 1 << 20
"""Read at a time, and more only where a batch is longer."""
AGAIN_BYTES = 1 << 16
"""Read first where a reader goes on: a live journal has grown by little, and zeros lie behind."""
CHUNK_COMMANDS = MAX_BATCH_COMMANDS
_NAME = re.compile(r"[0-9]{16}\.journal")


class Segment(NamedTuple):
    """One file of a journal, and the sequence number of its first command, as its name says."""

    path: Path
    first_sequence: int


@dataclass
class End:
    """Where a journal ends: behind its last whole batch."""

    path: Path | None = None
    """Its last segment, None where there is none."""
    offset: int = 0
    sequence: int = 0
    """Of the last command."""
    timestamp_ns: int = 0
    """When the last batch was written."""
    torn_bytes: int = 0
    """What a crash left behind that."""


def segments_of(directory: Path) -> list[Segment]:
    """Return the segments of a journal, in order; other files are none of ours."""
    try:
        names = sorted(filter(_NAME.fullmatch, os.listdir(directory)))
    except FileNotFoundError:
        return []
    return [Segment(directory / name, int(name.partition(".")[0])) for name in names]


def is_configure(commands: Records) -> bool:
    """Tell whether what a journal gave is the command that brings a configuration into force."""
    return len(commands) == 1 and bool(commands["command_type"][0] == ADMINISTRATION_CONFIGURE)


def read_header(path: Path) -> Header:
    """Return what a segment's header says. Raises ``JournalError`` and ``OSError``."""
    with open_regular(path) as file:
        data = os.pread(file.fileno(), PAGE_BYTES, 0)
        if len(data) == PAGE_BYTES:
            size = int(np.frombuffer(data, SEGMENT, 1)[0]["header_bytes"])
            if PAGE_BYTES < size <= min(os.fstat(file.fileno()).st_size, MAX_HEADER_BYTES):
                data = os.pread(file.fileno(), size, 0)
        return decode_header(path, data)


class JournalReader:
    """The commands of a journal behind ``after``, where ``shard_config`` is in force.

    Without one it is the first that is met. ``end`` is right once ``chunks`` has been gone through;
    gone through again, it gives what has come since. With ``live`` somebody may be writing: what is
    not whole at the end is not there yet.
    """

    def __init__(
        self,
        directory: Path,
        shard_config: ShardConfig | None,
        after: int,
        *,
        secret: int | None = None,
        live: bool = False,
    ) -> None:
        self.end = End(sequence=after)
        self.shard_config = shard_config
        """In force behind the last command that was given."""
        self._directory = directory
        self._secret = secret
        self._after = after
        self._coming: ShardConfig | None = None
        """What the next command, a CONFIGURE, brings into force."""
        self._at_start = False
        """Whether the next command is the first one that is read of a segment."""
        self._header_only = False
        """Whether no batch was read of the segment that is read: another may take its place."""
        self._live = live
        self._out = np.zeros(CHUNK_COMMANDS, COMMAND)
        self._buffer = np.empty(MAX_BATCH_BYTES, np.uint8)

    def chunks(self) -> Iterator[Records]:
        """Yield arrays of up to 65,536 commands (COMMAND), each valid until the next one.

        A CONFIGURE comes alone (``is_configure``), with ``shard_config`` as it is from there on.
        Raises ``JournalError`` where the journal is damaged, not whole, of another configuration or
        another version, and ``OSError``.
        """
        segments = segments_of(self._directory)
        self._after = max(self._after, self.end.sequence)
        resumed = None
        if not self._header_only:
            paths = [segment.path for segment in segments]
            resumed = paths.index(self.end.path) if self.end.path in paths else None
        first = resumed or 0
        if resumed is None:
            first = max(
                (n for n, found in enumerate(segments) if found.first_sequence <= self._after + 1),
                default=0,
            )
        for number, segment in enumerate(segments):
            if number == resumed:
                offset, wanted = self.end.offset, AGAIN_BYTES
            elif resumed is not None and number < first:
                continue
            else:
                header = self._header(segment)
                if number < first:
                    continue
                offset, wanted = header.size, READ_BYTES
                self._begin(segment, header, is_first=number == first and resumed is None)
            yield from self._segment(segment, offset, wanted, number == len(segments) - 1)

    def _header(self, segment: Segment) -> Header:
        header = read_header(segment.path)
        if header.first_sequence != segment.first_sequence:
            raise JournalError(
                f"{segment.path}: byte 32: begins with command {header.first_sequence}, its name "
                f"says {segment.first_sequence}"
            )
        if self._secret not in (None, header.secret):
            raise JournalError(
                f"{segment.path}: byte 40: is of another journal: its secret is not that of the "
                "segment or snapshot before it"
            )
        return header

    def _begin(self, segment: Segment, header: Header, *, is_first: bool) -> None:
        """Hold the beginning of a segment that is to be read against what was read before it."""
        if is_first:
            self._check_start(segment)
        elif segment.first_sequence != self.end.sequence + 1:
            raise JournalError(
                f"{segment.path}: byte 32: begins with command {segment.first_sequence}, but the "
                f"segment before it ends with command {self.end.sequence}"
            )
        if self.shard_config is None:
            self.shard_config = header.shard_config
        self._coming = None
        changed = differences(self.shard_config, header.shard_config)
        if changed and segment.first_sequence <= self._after:
            raise JournalError(
                f"{segment.path}: byte 56: was written under another configuration: {changed[0]}"
            )
        if changed:
            self._coming = header.shard_config
        self._header_only = self._at_start = True

    def _give(self, segment: Segment, commands: Records) -> Iterator[Records]:
        """Yield commands, alone the one that brings another configuration into force."""
        if self._at_start:
            self._at_start = False
            begins = is_configure(commands[:1])
            if self._coming is not None and not begins:
                assert self.shard_config is not None
                changed = differences(self.shard_config, self._coming)[0]
                raise JournalError(
                    f"{segment.path}: byte 56: was written under another configuration: {changed}; "
                    "it does not begin with the command that brings it into force"
                )
            if begins:
                self.shard_config = self._coming or self.shard_config
                self._coming = None
                yield commands[:1]
                commands = commands[1:]
        if len(commands):
            yield commands

    def _check_start(self, segment: Segment) -> None:
        if segment.first_sequence > self._after + 1:
            raise JournalError(
                f"{segment.path}: byte 32: the journal begins with command "
                f"{segment.first_sequence}, commands {self._after + 1} to "
                f"{segment.first_sequence - 1} are missing"
            )
        self.end.sequence = segment.first_sequence - 1

    def _segment(self, segment: Segment, offset: int, wanted: int, last: bool) -> Iterator[Records]:
        """Yield one segment's commands from a place on, of which so many bytes are read first."""
        end, out, buffer = self.end, self._out, self._buffer
        with open_regular(segment.path) as file:
            descriptor = file.fileno()
            filled = 0
            while True:
                data = buffer[: read_into(descriptor, buffer.data[:wanted], offset)]
                position = 0
                while True:
                    size, count, end.sequence, timestamp_ns, why = scan(
                        data[position:], end.sequence, self._after, out[filled:]
                    )
                    if size:
                        self._header_only = False
                    position += size
                    filled += count
                    end.timestamp_ns = max(end.timestamp_ns, timestamp_ns)
                    if why != FULL:
                        break
                    end.path, end.offset = segment.path, offset + position
                    yield from self._give(segment, out[:filled])
                    filled = 0
                offset += position
                end.path, end.offset = segment.path, offset
                if why == BAD or len(data) < wanted:
                    break
                wanted = READ_BYTES if position else MAX_BATCH_BYTES
            if filled:
                yield from self._give(segment, out[:filled])
            if position < len(data) and not (self._live and last):
                self._judge(segment, descriptor, last)

    def _judge(self, segment: Segment, descriptor: int, last: bool) -> None:
        """Accept what a crash may leave behind the last batch; raise where it is damage."""
        end = self.end
        written = end_of_written(descriptor, end.offset)
        end.torn_bytes = written - end.offset
        if end.torn_bytes and not (last and _is_torn(descriptor, end.offset, written)):
            raise JournalError(
                f"{segment.path}: byte {end.offset}: the batch after command {end.sequence} is "
                "damaged: its checksum or its marks are wrong"
            )


def end_of_written(descriptor: int, start: int) -> int:
    """Return where the last byte ends that is not 0, from ``start`` on; ``start`` if there is none.

    A file's end may be a hole of any size: it is looked at by the piece.
    """
    end = os.fstat(descriptor).st_size
    while end > start:
        piece = os.pread(descriptor, min(READ_BYTES, end - start), max(start, end - READ_BYTES))
        written = piece.rstrip(b"\0")
        if written or not piece:
            return end - len(piece) + len(written)
        end -= len(piece)
    return start


def _is_torn(descriptor: int, start: int, end: int) -> bool:
    """Tell whether a batch that is not whole, and all behind it, is what a crash leaves.

    It lies from ``start`` to ``end``, behind which there are zeros. A batch that has its end mark
    and no sector of zeros had been written whole.
    """
    if end - start < len(END_BYTES) or os.pread(descriptor, 4, end - 4) != END_BYTES:
        return True
    whole = start + -start % SECTOR_BYTES  # where the next sector begins
    if whole > start and not any(os.pread(descriptor, min(whole, end) - start, start)):
        return True
    stop = end - end % SECTOR_BYTES
    for offset in range(whole, stop, READ_BYTES):
        piece = os.pread(descriptor, min(READ_BYTES, stop - offset), offset)
        sectors = np.frombuffer(piece, np.uint8, len(piece) // SECTOR_BYTES * SECTOR_BYTES)
        if not sectors.reshape(-1, SECTOR_BYTES).any(axis=1).all():
            return True
    return False
