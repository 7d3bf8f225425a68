"""Reading the trade log while it grows: whole lines only, every segment in order, no line twice."""

import gzip
import os
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.trade_log.lines import MAX_LINE_BYTES, LoggedTrade, lines_of, parse_lines
from engine.trade_log.segments import (
    ACTIVE,
    TradeLogError,
    active_number,
    closed_segments,
    open_closed,
)
from ipc.records import sequence_of, shard_of

BLOCK_BYTES = 256 << 10
"""About how much is read in one go."""


class Position(NamedTuple):
    """A place between two lines: a segment's number and a byte of its uncompressed lines."""

    segment: int
    offset: int


def read_trades(
    directory: Path, symbol: str | None = None, after: int = 0
) -> Iterator[LoggedTrade]:
    """Yield the trades that the log holds now, or those of one symbol, oldest segment first.

    ``after`` is a trade_id: trades of its shard up to and with it are left out. Each shard's
    trades come in its order. Raises ``TradeLogError`` where the log is damaged.
    """
    needle = f'"symbol":"{symbol}"'.encode()
    shard, sequence = shard_of(after), sequence_of(after)
    with LogTail(directory) as tail:
        while block := tail.read_block():
            if symbol is not None:
                block = b"".join(line for line in lines_of(block) if needle in line)
            for trade in tail.parse(block):
                if shard_of(trade.trade_id) != shard or sequence_of(trade.trade_id) > sequence:
                    yield trade


def end_of_log(directory: Path) -> Position:
    """Return the position behind the last whole line: what is read from there is new."""
    with LogTail(directory, Position(active_number(directory), 0)) as tail:
        while tail.read_block():
            pass
        return tail.position


class LogTail:
    """Follows the log from a position on; ``position`` can be kept and followed from later.

    Reads files alone, so any number of readers, in any process, leave the writer undisturbed.
    """

    def __init__(self, directory: Path, position: Position | None = None) -> None:
        self._directory = directory
        self._segment, self._offset = position or Position(0, 0)
        self._file: FileIO | gzip.GzipFile | None = None
        self._name = ""
        self._rest = b""  # of a compressed segment: what follows the last line that was read
        self._block = 0  # where the lines read last begin
        self._closed = False  # the open file is a closed segment: nothing is added to it

    def __enter__(self) -> "LogTail":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def position(self) -> Position:
        """Where the next read begins."""
        return Position(self._segment, self._offset)

    def read(self) -> list[LoggedTrade]:
        """Return the next trades, about 256 KiB of lines at most; none where none is there yet."""
        return self.parse(self.read_block())

    def read_block(self) -> bytes:
        """Return the next whole lines of one segment, as ``read`` does."""
        while self._file is not None or self._open():
            block = self._next_block()
            if block:
                return block
            if not self._closed:
                # A segment gets its number after its last line: look for more once it has it.
                self._closed = active_number(self._directory) > self._segment
                if not self._closed:
                    return b""
            elif not self._offset:
                raise self.damage("a closed segment without a line")
            else:
                self.close()
                self._segment, self._offset = self._segment + 1, 0
        return b""

    def parse(self, block: bytes) -> list[LoggedTrade]:
        """Return the trades of lines of the block read last. Raises ``TradeLogError``."""
        try:
            trades = parse_lines(block)
            if len(trades) == block.count(b"\n"):
                return trades
        except msgspec.DecodeError:
            pass
        for line in lines_of(block):
            try:
                count = len(parse_lines(line))
                problem = "" if count == 1 else "more than one trade" if count else "no trade"
            except msgspec.DecodeError as error:
                problem = str(error)
            if problem:
                raise self.damage(f"{problem}, further on in {line[:400]!r}")
        raise AssertionError("lines that are trades one by one are so together")

    def damage(self, problem: str) -> TradeLogError:
        """Return the error that names the place of the block read last, and what is wrong there."""
        return TradeLogError(f"{self._name}: byte {self._block}: {problem}")

    def close(self) -> None:
        """Close the open file; the next read opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        """Open the file of the position, or the next that is there; return whether there is one."""
        while True:
            number = active_number(self._directory)
            later = [n for n in closed_segments(self._directory) if n >= self._segment]
            try:
                if later:
                    self._begin(later[0], open_closed(self._directory, later[0]), closed=True)
                    return True
                active = (self._directory / ACTIVE).open("rb", buffering=0)
            except FileNotFoundError:
                if not later and active_number(self._directory) == number:
                    return False
                continue
            # It is the one of this number only if none was closed meanwhile.
            if active_number(self._directory) == number:
                self._begin(number, active, closed=False)
                return True
            active.close()

    def _begin(self, segment: int, file: FileIO | gzip.GzipFile, *, closed: bool) -> None:
        if segment != self._segment:
            self._segment, self._offset = segment, 0
        self._file, self._name, self._closed = file, str(file.name), closed
        self._rest = b""
        file.seek(self._offset)

    def _next_block(self) -> bytes:
        assert self._file is not None
        self._block = self._offset
        if isinstance(self._file, gzip.GzipFile):
            block = self._unpacked_block(self._file)
        else:
            block = self._plain_block(self._file.fileno())
        self._offset += len(block)
        return block

    def _plain_block(self, descriptor: int) -> bytes:
        # Unbuffered: a line without an end may yet be cut off, and another take its place.
        data = os.pread(descriptor, BLOCK_BYTES, self._offset)
        end = data.rfind(b"\n") + 1
        if not end and data and (self._closed or len(data) == BLOCK_BYTES):
            raise self.damage(f"a line without an end: {data[:400]!r}")
        if not data and os.fstat(descriptor).st_size < self._offset:
            self._offset = 0
            raise self.damage("was read, but the file is shorter now: read it again")
        return data[:end]

    def _unpacked_block(self, file: gzip.GzipFile) -> bytes:
        try:
            block = self._rest + file.read(BLOCK_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self.damage(f"cannot be unpacked further: {error}") from None
        end = block.rfind(b"\n") + 1
        if len(block) - end >= MAX_LINE_BYTES or (block and not end):
            raise self.damage(f"a line without an end: {block[end:][:400]!r}")
        self._rest = block[end:]  # unpacked once: to go back is to unpack from the beginning
        return block[:end]
