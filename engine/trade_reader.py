"""Reading the trade log while it grows: whole lines only, every segment in order, no line twice."""

import gzip
import os
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.trade_lines import LoggedTrade, parse_lines
from engine.trade_segments import (
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
        while lines := tail.read_lines():
            if symbol is not None:
                lines = [line for line in lines if needle in line]
            for trade in tail.parse(lines):
                if shard_of(trade.trade_id) != shard or sequence_of(trade.trade_id) > sequence:
                    yield trade


def end_of_log(directory: Path) -> Position:
    """Return the position behind the last whole line: what is read from there is new."""
    with LogTail(directory, Position(active_number(directory), 0)) as tail:
        while tail.read_lines():
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
        return self.parse(self.read_lines())

    def read_lines(self) -> list[bytes]:
        """Return the next whole lines, as ``read`` does. Raises ``TradeLogError``."""
        while self._file is not None or self._open():
            lines = self._next_lines()
            if lines:
                return lines
            if not self._closed:
                # A segment gets its number after its last line: look for more once it has it.
                self._closed = active_number(self._directory) > self._segment
                if not self._closed:
                    return []
            elif not self._offset:
                raise self._damage(0, "a closed segment without a line")
            else:
                self.close()
                self._segment, self._offset = self._segment + 1, 0
        return []

    def parse(self, lines: list[bytes]) -> list[LoggedTrade]:
        """Return the trades of lines among those read last. Raises ``TradeLogError``."""
        try:
            trades = parse_lines(b"".join(lines))
            if len(trades) == len(lines):
                return trades
        except msgspec.DecodeError:
            pass
        for line in lines:
            try:
                problem = "" if parse_lines(line) else "no trade"
            except msgspec.DecodeError as error:
                problem = str(error)
            if problem:
                raise self._damage(self._block, f"{problem}, further on in {line[:400]!r}")
        raise AssertionError("lines that are trades one by one are so together")

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
        file.seek(self._offset)

    def _next_lines(self) -> list[bytes]:
        assert self._file is not None
        if isinstance(self._file, gzip.GzipFile):
            lines = self._unpacked_lines(self._file)
        else:
            lines = self._plain_lines(self._file.fileno())
        self._block = self._offset
        self._offset += sum(map(len, lines))
        return lines

    def _plain_lines(self, descriptor: int) -> list[bytes]:
        # Unbuffered: a line without an end may yet be cut off, and another take its place.
        data = os.pread(descriptor, BLOCK_BYTES, self._offset)
        end = data.rfind(b"\n") + 1
        if not end and data and (self._closed or len(data) == BLOCK_BYTES):
            raise self._damage(self._offset, f"a line without an end: {data[:400]!r}")
        if not data and os.fstat(descriptor).st_size < self._offset:
            offset, self._offset = self._offset, 0
            raise self._damage(offset, "was read, but the file is shorter now: read it again")
        return data[:end].splitlines(keepends=True)

    def _unpacked_lines(self, file: gzip.GzipFile) -> list[bytes]:
        try:
            lines = file.readlines(BLOCK_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._damage(self._offset, f"cannot be unpacked further: {error}") from None
        if lines and not lines[-1].endswith(b"\n"):
            torn = lines.pop()
            if not lines:
                raise self._damage(self._offset, f"a line without an end: {torn[:400]!r}")
            file.seek(self._offset + sum(map(len, lines)))
        return lines

    def _damage(self, offset: int, problem: str) -> TradeLogError:
        return TradeLogError(f"{self._name}: byte {offset}: {problem}")
