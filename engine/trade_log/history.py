"""Reading the trade log backwards: the newest lines first, from any place between two lines on.

A plain segment is read in blocks from its end. A compressed one can only be unpacked from its
beginning, so it is unpacked once into a temporary file without a name, and read from there; the
last ones stay open for the next page. Any number of searches of one log may go on by turns, in one
thread: unpacking, too, pauses again and again, and who needs more than ``MOST_UNPACKED`` such files
waits for the others.
"""

import gzip
import os
import tempfile
import zlib
from collections.abc import Container, Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.trade_log.lines import MAX_LINE_BYTES, LoggedTrade, lines_of, parse_lines
from engine.trade_log.reader import Position
from engine.trade_log.segments import (
    ACTIVE,
    TradeLogError,
    active_number,
    closed_segments,
    open_closed,
)

BLOCK_BYTES = 256 << 10
MOST_UNPACKED = 2
"""Compressed segments that may be unpacked at a time; each takes its size on the disk."""


class Block(NamedTuple):
    """Whole lines, oldest first, and the place of their beginning; without any, it is a pause."""

    position: Position
    lines: bytes


class BackwardLog:
    """Blocks of lines, from the end of the log or from a position back to its beginning."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unpacked: dict[int, _Unpacked] = {}

    def blocks(self, before: Position | None = None, skip: Container[int] = ()) -> Iterator[Block]:
        """Yield blocks, newest first, without those of the segments to ``skip``.

        Raises ``FileNotFoundError`` where a segment goes away, ``TradeLogError`` where one is
        damaged, and ``OSError``.
        """
        active = active_number(self._directory)
        segments = [*closed_segments(self._directory), active]
        for segment in reversed(segments):
            if segment in skip or (before is not None and segment > before.segment):
                continue
            end = before.offset if before is not None and segment == before.segment else None
            if end == 0:
                continue
            source = self._open(segment, segment == active)
            if isinstance(source, FileIO):
                with source:
                    yield from _blocks(segment, source.fileno(), end)
            elif source is not None:
                yield from self._packed_blocks(segment, source, end)

    def close(self) -> None:
        """Let go of what is unpacked."""
        for unpacked in self._unpacked.values():
            unpacked.close()
        self._unpacked = {}

    def _open(self, segment: int, active: bool) -> FileIO | gzip.GzipFile | None:
        """Return a segment, plain or compressed; None where there is no active one."""
        if active:
            try:
                source = (self._directory / ACTIVE).open("rb", buffering=0)
            except FileNotFoundError:
                return None
            if active_number(self._directory) == segment:
                return source
            source.close()  # it was closed meanwhile, and another one begun
        return open_closed(self._directory, segment)

    def _packed_blocks(
        self, segment: int, packed: gzip.GzipFile, end: int | None
    ) -> Iterator[Block]:
        """Yield the blocks of a compressed segment, and pauses until they can be had."""
        pause = Block(Position(segment + 1, 0), b"")
        with packed:
            while segment not in self._unpacked and len(self._unpacked) >= MOST_UNPACKED:
                unused = [number for number, file in self._unpacked.items() if not file.readers]
                if unused:
                    self._unpacked.pop(unused[0]).close()
                else:
                    yield pause
            unpacked = self._unpacked.pop(segment, None) or _Unpacked(self._directory)
            self._unpacked[segment] = unpacked  # the last one to go
            unpacked.readers += 1
            try:
                while not unpacked.whole:
                    unpacked.go_on(packed)
                    yield pause
                yield from _blocks(segment, unpacked.file.fileno(), end)
            finally:
                unpacked.readers -= 1


class _Unpacked:
    """A compressed segment as a plain file, as far as it is unpacked."""

    def __init__(self, directory: Path) -> None:
        self.file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115
        self.whole = False
        self.readers = 0
        self._done = 0

    def close(self) -> None:
        """Give its room back."""
        self.file.close()

    def go_on(self, packed: gzip.GzipFile) -> None:
        """Unpack a further piece. Raises ``TradeLogError``."""
        try:
            if packed.tell() < self._done:  # by another search
                packed.seek(min(self._done, packed.tell() + 4 * BLOCK_BYTES))
                return
            data = packed.read(4 * BLOCK_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            problem = f"cannot be unpacked further: {error}"
            raise TradeLogError(f"{packed.name}: byte {self._done}: {problem}") from None
        if data and b"\n" not in data[-MAX_LINE_BYTES:]:
            raise TradeLogError(f"{packed.name}: byte {self._done}: a line without an end")
        self.whole = not data
        while data:
            written = os.pwrite(self.file.fileno(), data, self._done)
            self._done += written
            data = data[written:]


def trades_of(block: Block, symbol: str | None) -> list[LoggedTrade]:
    """Return the trades of a block, or those of one symbol, newest first."""
    lines = block.lines
    if symbol is not None:
        needle = f'"symbol":"{symbol}"'.encode()
        if needle not in lines:
            return []
        lines = b"".join(line for line in lines_of(lines) if needle in line)
    try:
        return parse_lines(lines)[::-1]
    except msgspec.DecodeError as error:
        raise TradeLogError(
            f"trade log: segment {block.position.segment}: behind byte {block.position.offset}: "
            f"{error}"
        ) from None


def _blocks(segment: int, descriptor: int, end: int | None) -> Iterator[Block]:
    """Yield blocks of a plain file from ``end`` (None: after its last whole line) back."""
    stop = os.fstat(descriptor).st_size if end is None else end
    rest = b""  # the end of a line whose beginning was not read yet
    while stop > 0:
        start = max(0, stop - BLOCK_BYTES)
        data = os.pread(descriptor, stop - start, start) + rest
        stop = start
        if end is None:
            # The last line may be in the midst of being written.
            data = data[: data.rfind(b"\n") + 1]
            if not data and start:
                continue
            end = start + len(data)
        first = data.find(b"\n") + 1 if start else 0
        rest = data[:first]
        if first < len(data):
            yield Block(Position(segment, start + first), data[first:])
