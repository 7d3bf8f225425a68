"""Reading a journal: its commands behind a sequence number, every byte of them checked.

What a crash leaves at the very end is told apart from damage, which is refused with the file and
the offset. Reading changes nothing and may go on while the journal is written.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.book import Records
from engine.journal_batches import BAD, FULL, MAX_BATCH_BYTES, scan
from engine.journal_format import (
    MAX_BATCH_COMMANDS,
    PAGE_BYTES,
    SUFFIX,
    Header,
    JournalError,
    decode_header,
    is_torn,
)
from engine.shard_terms import ShardTerms, difference
from engine.storage import read_into
from ipc.decimals import is_whole
from ipc.records import COMMAND, SEGMENT

READ_BYTES = 1 << 20
"""Read at a time, and more only where a batch is longer."""
CHUNK_COMMANDS = MAX_BATCH_COMMANDS
Bytes = npt.NDArray[np.uint8]


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
    """Return the segments of a journal, in order."""
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))
    except FileNotFoundError:
        return []
    return [
        Segment(directory / name, int(name.removesuffix(SUFFIX)))
        for name in names
        if is_whole(name.removesuffix(SUFFIX))
    ]


def read_header(path: Path) -> Header:
    """Return what a segment's header says. Raises ``JournalError`` and ``OSError``."""
    with path.open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), PAGE_BYTES, 0)
        if len(data) == PAGE_BYTES:
            size = int(np.frombuffer(data, SEGMENT, 1)[0]["header_bytes"])
            if PAGE_BYTES < size <= os.fstat(file.fileno()).st_size:
                data = os.pread(file.fileno(), size, 0)
        return decode_header(path, data)


class JournalReader:
    """The commands of a journal behind ``after``, under the given terms.

    ``end`` is right once ``chunks`` has been gone through. With ``live`` somebody may be writing:
    what is not whole at the end is not there yet.
    """

    def __init__(
        self, directory: Path, terms: ShardTerms | None, after: int, *, live: bool = False
    ) -> None:
        self.end = End(sequence=after)
        self._directory = directory
        self._terms = terms
        self._after = after
        self._live = live

    def chunks(self) -> Iterator[Records]:
        """Yield arrays of up to 65,536 commands (COMMAND), each valid until the next one.

        Raises ``JournalError`` where the journal is damaged, not whole, of other terms or of
        another version, and ``OSError``.
        """
        segments = segments_of(self._directory)
        first = max(
            (n for n, segment in enumerate(segments) if segment.first_sequence <= self._after + 1),
            default=0,
        )
        out = np.zeros(CHUNK_COMMANDS, COMMAND)
        buffer = np.empty(MAX_BATCH_BYTES, np.uint8)
        expected = None
        for number, segment in enumerate(segments):
            header = self._header(segment)
            if number < first:
                continue
            if expected is None:
                self._check_start(segment)
            elif segment.first_sequence != expected:
                raise JournalError(
                    f"{segment.path}: begins with command {segment.first_sequence}, but the "
                    f"segment before it ends with command {expected - 1}"
                )
            last = number == len(segments) - 1
            yield from self._segment(segment, header.size, buffer, out, last)
            expected = self.end.sequence + 1

    def _header(self, segment: Segment) -> Header:
        header = read_header(segment.path)
        if header.first_sequence != segment.first_sequence:
            raise JournalError(
                f"{segment.path}: byte 32: begins with command {header.first_sequence}, its name "
                f"says {segment.first_sequence}"
            )
        changed = "" if self._terms is None else difference(header.terms, self._terms)
        if changed:
            raise JournalError(
                f"{segment.path}: was written under another configuration: {changed}"
            )
        return header

    def _check_start(self, segment: Segment) -> None:
        if segment.first_sequence > self._after + 1:
            raise JournalError(
                f"{segment.path}: the journal begins with command {segment.first_sequence}, "
                f"commands {self._after + 1} to {segment.first_sequence - 1} are missing"
            )
        self.end.sequence = segment.first_sequence - 1

    def _segment(
        self, segment: Segment, offset: int, buffer: Bytes, out: Records, last: bool
    ) -> Iterator[Records]:
        """Yield one segment's commands from a place on."""
        end = self.end
        with segment.path.open("rb", buffering=0) as file:
            descriptor = file.fileno()
            filled, wanted = 0, READ_BYTES
            while True:
                data = buffer[: read_into(descriptor, buffer.data[:wanted], offset)]
                position = 0
                while True:
                    size, count, end.sequence, timestamp_ns, why = scan(
                        data[position:], end.sequence, self._after, out[filled:]
                    )
                    position += size
                    filled += count
                    end.timestamp_ns = max(end.timestamp_ns, timestamp_ns)
                    if why != FULL:
                        break
                    yield out[:filled]
                    filled = 0
                offset += position
                end.path, end.offset = segment.path, offset
                if why == BAD or len(data) < wanted:
                    break
                wanted = READ_BYTES if position else MAX_BATCH_BYTES
            if filled:
                yield out[:filled]
            if position < len(data) and not (self._live and last):
                self._judge(segment, descriptor, last)

    def _judge(self, segment: Segment, descriptor: int, last: bool) -> None:
        """Accept what a crash may leave behind the last batch; raise where it is damage."""
        end = self.end
        rest = os.pread(descriptor, os.fstat(descriptor).st_size - end.offset, end.offset)
        end.torn_bytes = len(rest.rstrip(b"\0"))
        if end.torn_bytes and not (last and is_torn(rest, end.offset)):
            raise JournalError(
                f"{segment.path}: byte {end.offset}: the batch after command {end.sequence} is "
                "damaged: its checksum or its marks are wrong"
            )
