"""The trade ring of a shard: one writer, any number of readers, some of which gate the writer.

The sequence of a trade is that of its trade_id; trade ``s`` lies in slot ``s & (capacity - 1)``.
The writer announces a batch in ``claimed``, copies it, and shows it in ``published``. A reader
copies what it wants and then looks at ``claimed`` again: what the writer may have overwritten
meanwhile is thrown away and counted (Aeron's broadcast buffer). A gating reader's ``cursor`` is
the last trade it is done with, and the writer never overtakes it (the Disruptor's gating sequence).

Each word has one writer and a pair of cache lines of its own (a pair is what x86-64 prefetches).
Words are aligned and eight bytes, so loads and stores are atomic; ``ipc.atomics`` gives them the
order that the scheme needs.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ipc.atomics import full_fence, load_acquire, load_after, store_before, store_release
from ipc.mapping import Mapping, create_mapping, open_mapping
from ipc.records import TRADE, make_id

Records = npt.NDArray[np.void]

KIND = "trade ring"
_LINE = 16  # words
_CLAIMED, _BASE, _PUBLISHED, _FIRST_READER = 0, 1, _LINE, 2 * _LINE
_CURSOR, _WAITING = 0, 1
_WORD = np.dtype("<u8")
_TRADE_WORDS = TRADE.itemsize // 8
assert TRADE.fields is not None
assert TRADE.fields["trade_id"][1] == 0, "the id is the first word of a row"
_LAST_TRIES = 4


class RingError(ValueError):
    """What the ring was asked to do would break its order or overwrite what is still needed."""


class ReadResult(NamedTuple):
    """What ``RingReader.read`` found: trades from ``first`` on, and how many came too late."""

    trades: Records
    first: int
    lost_trades: int


def _word_count(gating_readers: int) -> int:
    return (2 + gating_readers) * _LINE


def create_ring(
    path: Path, shard: int, capacity: int, last_sequence: int, gating_readers: int = 1
) -> None:
    """Make an empty ring of ``capacity`` trades (a power of two) that goes on after a sequence."""
    if capacity <= 0 or capacity & (capacity - 1):
        raise RingError(f"{path}: a capacity of {capacity} trades is not a power of two")
    count = _word_count(gating_readers)

    def fill(mapping: Mapping) -> None:
        words = mapping.words(0, count)
        words[_CLAIMED] = words[_BASE] = words[_PUBLISHED] = last_sequence
        for reader in range(gating_readers):
            words[_FIRST_READER + _LINE * reader + _CURSOR] = last_sequence

    size = 8 * count + capacity * TRADE.itemsize
    create_mapping(path, KIND, TRADE, capacity, size, shard << 32 | gating_readers, fill)


class _Ring:
    """What writer and readers see alike."""

    def __init__(self, path: Path, writable: bool) -> None:
        mapping = open_mapping(path, KIND, TRADE, writable)
        self.mapping = mapping
        self.capacity = mapping.capacity
        self.shard = mapping.tag >> 32
        self.gating_readers = mapping.tag & 0xFFFFFFFF
        count = _word_count(self.gating_readers)
        self._words = mapping.words(0, count)
        # Rows of words instead of records: numpy copies them whole, not field by field.
        rows = mapping.array(_WORD, 8 * count, self.capacity * _TRADE_WORDS)
        self._rows = rows.reshape(self.capacity, _TRADE_WORDS)
        self._mask = self.capacity - 1

    @property
    def published(self) -> int:
        """The sequence of the newest trade that may be read."""
        return load_acquire(self._words, _PUBLISHED)

    def cursor_of(self, reader: int) -> int:
        """The last trade that a gating reader is done with."""
        return load_acquire(self._words, _FIRST_READER + _LINE * reader + _CURSOR)

    def close(self) -> None:
        """Let go of the mapping; the ring is of no use any more."""
        del self._words, self._rows
        self.mapping.close()


class RingWriter(_Ring):
    """The one writer."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=True)
        self._last = self.published
        self._gate = self._slowest()
        self._id_base = make_id(self.shard, 0)

    def room(self) -> int:
        """Return how many trades can be written without overtaking a gating reader.

        While half of the ring is known to be free the readers' cursors are not looked at.
        """
        room = self.capacity - (self._last - self._gate)
        if room < self.capacity // 2:
            self._gate = self._slowest()
            room = self.capacity - (self._last - self._gate)
        return room

    def publish(self, trades: Records) -> None:
        """Write TRADE records, whose ids must follow the last one's, and show them to readers.

        Raises ``RingError``, and writes nothing, where ids are not dense or room is missing.
        """
        count = len(trades)
        if not count:
            return
        rows = np.ascontiguousarray(trades).view(_WORD).reshape(count, _TRADE_WORDS)
        first, last = self._last + 1, self._last + count
        ids = rows.item(0, 0), rows.item(count - 1, 0)
        if ids != (self._id_base | first, self._id_base | last):
            raise RingError(
                f"{self.mapping.path}: trades {ids[0]} to {ids[1]} in place of "
                f"{self._id_base | first} to {self._id_base | last}"
            )
        if count > self.room() and count > self._refreshed_room():
            raise RingError(
                f"{self.mapping.path}: {count} trades do not fit before the slowest reader, "
                f"there is room for {self.room()}"
            )
        # A writer that died in the midst of a batch has claimed more: that stays spoiled.
        store_before(self._words, _CLAIMED, max(last, self._words[_CLAIMED]))
        start = first & self._mask
        head = min(count, self.capacity - start)
        self._rows[start : start + head] = rows[:head]
        if head < count:
            self._rows[: count - head] = rows[head:]
        store_release(self._words, _PUBLISHED, last)
        self._last = last

    def wakeups(self) -> list[int]:
        """Return the gating readers that sleep and want to be woken."""
        full_fence()  # what was published must be seen by whom this finds awake
        words, first = self._words, _FIRST_READER + _WAITING
        return [r for r in range(self.gating_readers) if words[first + _LINE * r]]

    def _refreshed_room(self) -> int:
        self._gate = self._slowest()
        return self.room()

    def _slowest(self) -> int:
        return min(map(self.cursor_of, range(self.gating_readers)), default=self._last)


class RingReader(_Ring):
    """A reader that may be lapped, and says so.

    ``torn_copies`` counts the copies that the writer spoiled, ``lost_trades`` what ``read`` missed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=False)
        self._base = self._words[_BASE]
        self.torn_copies = 0
        self.lost_trades = 0

    @property
    def oldest(self) -> int:
        """The sequence of the oldest trade that is still whole; one above the newest if none is."""
        return max(self._base, load_after(self._words, _CLAIMED) - self.capacity) + 1

    def read(self, after: int, limit: int) -> ReadResult:
        """Return a copy of up to ``limit`` trades that follow the sequence ``after``.

        Where the writer has lapped the reader the result begins later than asked, and
        ``lost_trades`` says how many are missing: go on after ``first + len(trades) - 1``. Nothing
        torn is ever returned. No trades: there is nothing new, or the copy was overtaken whole.
        """
        published = self.published
        first = max(after + 1, self.oldest)
        trades = self._copy(first, min(limit, published - first + 1))
        trades, first = self._whole(trades, first)
        lost = first - (after + 1)
        self.lost_trades += lost
        return ReadResult(trades, first, lost)

    def last(self, count: int) -> Records:
        """Return a copy of the newest ``count`` trades, or as many as there are; oldest first.

        Where the writer overtakes even the newest during each of a few tries, there are none.
        """
        trades = np.empty(0, TRADE)
        for _ in range(_LAST_TRIES):
            published = self.published
            first = max(published - count + 1, self.oldest)
            trades, _ = self._whole(self._copy(first, published - first + 1), first)
            if len(trades) or first > published:
                break
        return trades

    def _copy(self, first: int, count: int) -> Records:
        """Copy trades out; the caller checks whether the writer came by meanwhile."""
        rows = np.empty((max(0, count), _TRADE_WORDS), _WORD)
        start = first & self._mask
        head = min(len(rows), self.capacity - start)
        rows[:head] = self._rows[start : start + head]
        if head < len(rows):
            rows[head:] = self._rows[: len(rows) - head]
        return rows.view(TRADE)[:, 0]

    def _whole(self, trades: Records, first: int) -> tuple[Records, int]:
        """Return what of a copy the writer cannot have touched since, and its first sequence.

        A trade is overwritten only after ``claimed`` has come a whole ring beyond it.
        """
        spoiled = min(max(0, self.oldest - first), len(trades))
        if spoiled:
            self.torn_copies += 1
        return trades[spoiled:], first + spoiled


class GatingReader(_Ring):
    """A reader that the writer waits for; the only writer of its cursor."""

    def __init__(self, path: Path, index: int = 0) -> None:
        super().__init__(path, writable=True)
        if not 0 <= index < self.gating_readers:
            raise RingError(f"{path}: has {self.gating_readers} gating readers, none is {index}")
        self._line = _FIRST_READER + _LINE * index
        self._cursor = self.cursor_of(index)
        self._trades = self._rows.view(TRADE)[:, 0]
        self._trades.flags.writeable = False

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
        count = min(limit, self.available())
        return self._trades[start : start + count]

    def advance(self, count: int) -> None:
        """Be done with the next ``count`` trades. Raises ``RingError`` beyond the published."""
        if not 0 <= count <= self.available():
            raise RingError(f"{self.mapping.path}: {count} trades are not there to advance over")
        self._cursor += count
        store_release(self._words, self._line + _CURSOR, self._cursor)

    def set_waiting(self, waiting: bool) -> None:
        """Ask the writer for the doorbell, or not any more.

        Look at ``available`` once more between asking and sleeping: what was published before the
        writer could see the wish is seen there.
        """
        self._words[self._line + _WAITING] = int(waiting)
        full_fence()

    def close(self) -> None:
        """Let go of the mapping; views of ``peek`` keep it alive."""
        del self._trades
        super().close()
