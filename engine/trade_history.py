"""Reading the trade log backwards: the newest lines first, from any place between two lines on.

A plain segment is read in blocks from its end. A compressed one can only be unpacked from its
beginning, so it is unpacked once into a temporary file without a name, and read from there; the
last one stays open for the next page.
"""

import gzip
import os
import tempfile
import zlib
from collections.abc import Container, Iterator
from io import FileIO
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from engine.trade_lines import MAX_LINE_BYTES, LoggedTrade, parse_lines
from engine.trade_reader import Position
from engine.trade_segments import (
    ACTIVE,
    TradeLogError,
    active_number,
    closed_segments,
    open_closed,
)

BLOCK_BYTES = 256 << 10


class Block(NamedTuple):
    """Whole lines, oldest first, and the place of their beginning."""

    position: Position
    lines: bytes


class BackwardLog:
    """Blocks of lines, from the end of the log or from a position back to its beginning."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unpacked: tuple[int, IO[bytes]] | None = None

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
            source, close = self._open(segment, segment == active)
            if source is None:
                continue
            try:
                yield from _blocks(segment, source.fileno(), end)
            finally:
                if close:
                    source.close()

    def close(self) -> None:
        """Let go of what is unpacked."""
        if self._unpacked is not None:
            self._unpacked[1].close()
            self._unpacked = None

    def _open(self, segment: int, active: bool) -> tuple[IO[bytes] | FileIO | None, bool]:
        """Return a segment as a plain file, and whether to close it after use."""
        if active:
            try:
                source = (self._directory / ACTIVE).open("rb", buffering=0)
            except FileNotFoundError:
                return None, False
            if active_number(self._directory) == segment:
                return source, True
            source.close()  # it was closed meanwhile, and another one begun
        if self._unpacked is not None and self._unpacked[0] == segment:
            return self._unpacked[1], False
        packed = open_closed(self._directory, segment)
        if isinstance(packed, FileIO):
            return packed, True
        self.close()
        plain = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
        try:
            with packed:
                _unpack(packed, plain)
        except BaseException:
            plain.close()
            raise
        self._unpacked = segment, plain
        return plain, False


def trades_of(block: Block, symbol: str | None) -> list[LoggedTrade]:
    """Return the trades of a block, or those of one symbol, newest first."""
    lines = block.lines
    if symbol is not None:
        needle = f'"symbol":"{symbol}"'.encode()
        if needle not in lines:
            return []
        lines = b"".join(line for line in lines.splitlines(keepends=True) if needle in line)
    try:
        return parse_lines(lines)[::-1]
    except msgspec.DecodeError as error:
        raise TradeLogError(
            f"trade log: segment {block.position.segment}: behind byte {block.position.offset}: "
            f"{error}"
        ) from None


def _unpack(packed: gzip.GzipFile, plain: IO[bytes]) -> None:
    """Write the lines of a compressed segment into a file. Raises ``TradeLogError``."""
    done = 0
    try:
        while data := packed.read(BLOCK_BYTES):
            if b"\n" not in data[-MAX_LINE_BYTES:]:
                raise TradeLogError(f"{packed.name}: byte {done}: a line without an end")
            plain.write(data)
            done += len(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        problem = f"cannot be unpacked further: {error}"
        raise TradeLogError(f"{packed.name}: byte {done}: {problem}") from None
    plain.flush()


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
