"""The trade ring of a shard: one writer, any number of readers, some of which gate the writer.

The sequence of a trade is that of its trade_id; trade ``s`` lies in slot ``s & (capacity - 1)``.
The writer announces a batch in ``claimed``, copies it, and shows it in ``published``. A reader
copies what it wants and then looks at ``claimed`` again: what the writer may have overwritten
meanwhile is thrown away and counted (Aeron's broadcast buffer). A gating reader's ``cursor`` is
the last trade it is done with, and the writer never overtakes it (the Disruptor's gating sequence).

Each word has one writer and a cache line of its own. Words are aligned and eight bytes, so loads
and stores are atomic; ``ipc.atomics`` gives them the order that the scheme needs.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ipc.atomics import load_acquire, load_after, store_release
from ipc.mapping import create_mapping, open_mapping
from ipc.records import TRADE, sequence_of

Records = npt.NDArray[np.void]

KIND = "trade ring"
_LINE = 64
_CLAIMED, _BASE, _PUBLISHED, _FIRST_READER = 0, 1, 8, 16
_CURSOR, _WAITING = 0, 1


class ReadResult(NamedTuple):
    """What ``RingReader.read`` found: trades from ``first`` on, and how many came too late."""

    trades: Records
    first: int
    lost_trades: int


def _words_bytes(gating_readers: int) -> int:
    return (2 + gating_readers) * _LINE


def create_ring(
    path: Path, shard: int, capacity: int, last_sequence: int, gating_readers: int = 1
) -> None:
    """Make an empty ring of ``capacity`` trades (a power of two) that goes on after a sequence."""
    assert capacity > 0
    assert capacity & (capacity - 1) == 0, f"capacity {capacity} is not a power of two"
    words = _words_bytes(gating_readers)
    size = words + capacity * TRADE.itemsize
    tag = shard << 32 | gating_readers
    aside = path.with_name(path.name + ".making")
    create_mapping(aside, KIND, TRADE, capacity, size, tag)
    mapping = open_mapping(aside, KIND, TRADE, writable=True)
    view = mapping.words(0, words // 8)
    view[_CLAIMED] = view[_BASE] = view[_PUBLISHED] = last_sequence
    for reader in range(gating_readers):
        view[_FIRST_READER + 8 * reader] = last_sequence
    aside.rename(path)


class _Ring:
    """What writer and readers see alike."""

    def __init__(self, path: Path, writable: bool) -> None:
        mapping = open_mapping(path, KIND, TRADE, writable)
        self.mapping = mapping
        self.capacity = mapping.capacity
        self.shard = mapping.tag >> 32
        self.gating_readers = mapping.tag & 0xFFFFFFFF
        words = _words_bytes(self.gating_readers)
        self._words = mapping.words(0, words // 8)
        self._slots = mapping.array(TRADE, words, self.capacity)
        self._mask = self.capacity - 1

    @property
    def published(self) -> int:
        """The sequence of the newest trade that may be read."""
        return load_acquire(self._words, _PUBLISHED)

    def cursor_of(self, reader: int) -> int:
        """The last trade that a gating reader is done with."""
        return load_acquire(self._words, _FIRST_READER + 8 * reader + _CURSOR)


class RingWriter(_Ring):
    """The one writer."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=True)
        self._last = self.published
        self._gate = self._slowest()

    def room(self) -> int:
        """Return how many trades can be written without overtaking a gating reader."""
        room = self.capacity - (self._last - self._gate)
        if room < self.capacity // 2:
            self._gate = self._slowest()
            room = self.capacity - (self._last - self._gate)
        return room

    def publish(self, trades: Records) -> None:
        """Write trades, whose sequences must follow the last one's, and show them to readers."""
        count = len(trades)
        if not count:
            return
        first = self._last + 1
        assert sequence_of(int(trades["trade_id"][0])) == first, "trade ids are not dense"
        assert count <= self.room(), "a gating reader would be overtaken"
        last = self._last + count
        store_release(self._words, _CLAIMED, last)
        start = first & self._mask
        head = min(count, self.capacity - start)
        self._slots[start : start + head] = trades[:head]
        self._slots[: count - head] = trades[head:]
        store_release(self._words, _PUBLISHED, last)
        self._last = last

    def wakeups(self) -> list[int]:
        """Return the gating readers that sleep and want to be woken."""
        words, first = self._words, _FIRST_READER + _WAITING
        return [r for r in range(self.gating_readers) if words[first + 8 * r]]

    def _slowest(self) -> int:
        return min(map(self.cursor_of, range(self.gating_readers)), default=self._last)


class RingReader(_Ring):
    """A reader that may be lapped, and says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=False)
        self._base = int(self._words[_BASE])
        self.torn_copies = 0
        self.lost_trades = 0

    @property
    def oldest(self) -> int:
        """The sequence of the oldest trade that is still there; one above the newest if none is."""
        return max(self._base, load_after(self._words, _CLAIMED) - self.capacity) + 1

    def read(self, after: int, limit: int) -> ReadResult:
        """Return a copy of up to ``limit`` trades that follow the sequence ``after``.

        Where the writer has lapped the reader the result begins later than asked, and
        ``lost_trades`` says how many are missing. Nothing torn is ever returned.
        """
        lost = 0
        first = after + 1
        while True:
            published = self.published
            oldest = self.oldest
            if first < oldest:
                lost += oldest - first
                first = oldest
            count = min(limit, published - first + 1)
            if count <= 0:
                self.lost_trades += lost
                return ReadResult(np.empty(0, TRADE), first, lost)
            trades = self._copy(first, count)
            if first >= self.oldest:
                self.lost_trades += lost
                return ReadResult(trades, first, lost)
            self.torn_copies += 1

    def last(self, count: int) -> Records:
        """Return a copy of the newest ``count`` trades, or as many as there are; oldest first."""
        while True:
            published = self.published
            first = max(published - count + 1, self.oldest)
            trades = self._copy(first, published - first + 1)
            overwritten = max(0, self.oldest - first)
            if overwritten < len(trades) or not len(trades):
                return trades[overwritten:]
            self.torn_copies += 1

    def _copy(self, first: int, count: int) -> Records:
        """Copy trades out; the caller checks whether the writer came by meanwhile."""
        trades = np.empty(max(0, count), TRADE)
        start = first & self._mask
        head = min(len(trades), self.capacity - start)
        trades[:head] = self._slots[start : start + head]
        trades[head:] = self._slots[: len(trades) - head]
        return trades


class GatingReader(_Ring):
    """A reader that the writer waits for; the only writer of its cursor."""

    def __init__(self, path: Path, index: int = 0) -> None:
        super().__init__(path, writable=True)
        assert index < self.gating_readers
        self._line = _FIRST_READER + 8 * index
        self._cursor = self.cursor_of(index)

    @property
    def cursor(self) -> int:
        """The last trade that this reader is done with."""
        return self._cursor

    def available(self) -> int:
        """Return how many trades wait to be read."""
        return self.published - self._cursor

    def peek(self, limit: int) -> Records:
        """Return a view of trades after the cursor, as many as lie in one piece up to ``limit``.

        Valid until ``advance``: the writer does not touch what this reader is not done with.
        """
        start = (self._cursor + 1) & self._mask
        count = min(limit, self.available(), self.capacity - start)
        return self._slots[start : start + count]

    def advance(self, count: int) -> None:
        """Be done with the next ``count`` trades."""
        assert count <= self.available()
        self._cursor += count
        store_release(self._words, self._line + _CURSOR, self._cursor)

    def set_waiting(self, waiting: bool) -> None:
        """Ask the writer for the doorbell, or not any more."""
        store_release(self._words, self._line + _WAITING, int(waiting))
