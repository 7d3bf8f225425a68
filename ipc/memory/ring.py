"""The rings of a shard: one writer, any number of readers, some of which may gate the writer.

A ring holds records of one layout, numbered without a gap: trades by the sequence of their
trade_id, reports by how many the shard has made. Record ``s`` lies in slot ``s & (capacity - 1)``.
The writer announces a batch in ``claimed``, copies it, and shows it in ``published``. A reader
copies what it wants and then looks at ``claimed`` again: what the writer may have overwritten
meanwhile is thrown away and counted (Aeron's broadcast buffer). A gating reader's ``cursor`` is the
last record it is done with, and the writer never overtakes it (the Disruptor's gating sequence).

Rows get their memory as the ring is first filled (``RingWriter.reserve``): a shard that has nothing
to do takes little.

Each word has one writer and a pair of cache lines of its own (a pair is what x86-64 prefetches).
Words are aligned and eight bytes, so loads and stores are atomic; ``ipc.memory.atomics`` gives them
the order that the scheme needs.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ipc.arrays import Records
from ipc.memory.atomics import full_fence, load_acquire, load_after, store_before, store_release
from ipc.memory.mapping import Mapping, create_mapping, open_mapping
from ipc.records import REPORT, TRADE, make_id

LINE = 16  # words
CLAIMED, _BASE, PUBLISHED, FIRST_READER = 0, 1, LINE, 2 * LINE
CURSOR, _WAITING = 0, 1
"""A ring's words, and those of a reader; each reader has a line."""
_WORD = np.dtype("<u8")
_RESERVE_ROWS = 1_024
_WHOLE = 1 << 63
_LAST_TRIES = 4


class RingKind(NamedTuple):
    """What a ring holds. ``numbered``: a record's first word is the id of its sequence."""

    name: str
    dtype: np.dtype[np.void]
    numbered: bool


TRADES = RingKind("trade ring", TRADE, numbered=True)
REPORTS = RingKind("report ring", REPORT, numbered=False)
assert TRADE.fields is not None
assert TRADE.fields["trade_id"][1] == 0, "the id is the first word of a row"


class RingError(ValueError):
    """What the ring was asked to do would break its order or overwrite what is still needed."""


class ReadResult(NamedTuple):
    """What ``RingReader.read`` found: records from ``first`` on, and how many came too late."""

    records: Records
    first: int
    lost_records: int


def _word_count(gating_readers: int) -> int:
    return (2 + gating_readers) * LINE


def create_ring(
    path: Path,
    shard: int,
    capacity: int,
    last_sequence: int,
    gating_readers: int = 1,
    kind: RingKind = TRADES,
) -> None:
    """Make an empty ring of ``capacity`` records (a power of two) that goes on after a sequence."""
    if capacity <= 0 or capacity & (capacity - 1):
        raise RingError(f"{path}: a capacity of {capacity} records is not a power of two")
    count = _word_count(gating_readers)

    def fill(mapping: Mapping) -> None:
        words = mapping.words(0, count)
        words[CLAIMED] = words[_BASE] = words[PUBLISHED] = last_sequence
        for reader in range(gating_readers):
            words[FIRST_READER + LINE * reader + CURSOR] = last_sequence

    size = 8 * count + capacity * kind.dtype.itemsize
    tag = shard << 32 | gating_readers
    create_mapping(path, kind.name, kind.dtype, capacity, size, tag, fill, 8 * count)


class _Ring:
    """What writer and readers see alike."""

    def __init__(self, path: Path, kind: RingKind, writable: bool) -> None:
        mapping = open_mapping(path, kind.name, kind.dtype, writable, sparse=True)
        self.mapping = mapping
        self.kind = kind
        self.capacity = mapping.capacity
        self.shard = mapping.tag >> 32
        self.gating_readers = mapping.tag & 0xFFFFFFFF
        count = _word_count(self.gating_readers)
        self.words = mapping.words(0, count)
        # Rows of words instead of records: numpy copies them whole, not field by field.
        self._row_words = kind.dtype.itemsize // 8
        self._first_row = 8 * count
        rows = mapping.array(_WORD, self._first_row, self.capacity * self._row_words)
        self.rows = rows.reshape(self.capacity, self._row_words)
        self._mask = self.capacity - 1

    @property
    def published(self) -> int:
        """The sequence of the newest record that may be read."""
        return load_acquire(self.words, PUBLISHED)

    @property
    def base(self) -> int:
        """The sequence after which the ring has had records."""
        return self.words[_BASE]

    def cursor_of(self, reader: int) -> int:
        """The last record that a gating reader is done with."""
        return load_acquire(self.words, FIRST_READER + LINE * reader + CURSOR)

    def cursors(self) -> list[int]:
        """The last records that the gating readers are done with."""
        return [self.cursor_of(reader) for reader in range(self.gating_readers)]

    def close(self) -> None:
        """Let go of the mapping; the ring is of no use any more."""
        del self.words, self.rows
        self.mapping.close()


class RingWriter(_Ring):
    """The one writer."""

    def __init__(self, path: Path, kind: RingKind = TRADES) -> None:
        super().__init__(path, kind, writable=True)
        self._gate = self._slowest()
        self.reserved: int
        """The last record whose row has memory."""
        self._first_reserved: int
        self._begin_reserved(self.words[_BASE], max(self.words[CLAIMED], self._last))
        self.id_base = make_id(self.shard, 0)
        """Above the sequence in the ids of a ring of trades."""

    @property
    def _last(self) -> int:
        """The sequence of the last record; compiled code may have written it."""
        return self.words[PUBLISHED]

    def room(self) -> int:
        """Return how many records can be written without overtaking a gating reader.

        While half of the ring is known to be free the readers' cursors are not looked at.
        """
        room = self.capacity - (self._last - self._gate)
        if room < self.capacity // 2:
            self._gate = self._slowest()
            room = self.capacity - (self._last - self._gate)
        return room

    def publish(self, records: Records) -> None:
        """Write the records that follow the last one, and show them to readers.

        Raises ``RingError``, and writes nothing, where ids are not dense or room is missing.
        """
        count = len(records)
        if not count:
            return
        rows = np.ascontiguousarray(records).view(_WORD).reshape(count, self._row_words)
        first, last = self._last + 1, self._last + count
        if self.kind.numbered:
            self._check_ids(rows, first, last)
        if count > self.room() and count > self._refreshed_room():
            raise RingError(
                f"{self.mapping.path}: {count} records do not fit before the slowest reader, "
                f"there is room for {self.room()}"
            )
        if last > self.reserved:
            self.reserve(count)
        start = self.claim(count)
        head = min(count, self.capacity - start)
        self.rows[start : start + head] = rows[:head]
        if head < count:
            self.rows[: count - head] = rows[head:]
        self.show(count)

    def reserve(self, count: int) -> None:
        """Give the rows of the next ``count`` records memory, and some more ahead of them.

        Raises ``RingError`` where there is none.
        """
        wanted = min(self._last + count + _RESERVE_ROWS, self._first_reserved + self.capacity)
        row = 8 * self._row_words
        while self.reserved < wanted:
            start = (self.reserved + 1) & self._mask
            rows = min(wanted - self.reserved, self.capacity - start)
            try:
                self.mapping.reserve(self._first_row + row * start, row * rows)
            except OSError as error:
                raise RingError(
                    f"{self.mapping.path}: no memory for {rows} further records: {error.strerror}"
                ) from None
            self.reserved += rows
        if self.reserved >= self._first_reserved + self.capacity:
            self.reserved = _WHOLE

    def _begin_reserved(self, base: int, written: int) -> None:
        """Take it that the records after ``base`` and up to ``written`` have memory."""
        self._first_reserved = base
        self.reserved = written if written - base < self.capacity else _WHOLE

    def claim(self, count: int) -> int:
        """Announce ``count`` further records; return the row of the first, for ``show`` to follow.

        Nobody checks here for room, or for memory: that is what ``room`` and ``reserve`` are for.
        """
        # A writer that died in the midst of a batch has claimed more: that stays spoiled.
        store_before(self.words, CLAIMED, max(self._last + count, self.words[CLAIMED]))
        return (self._last + 1) & self._mask

    def show(self, count: int) -> None:
        """Show what was written to the rows that ``claim`` gave."""
        store_release(self.words, PUBLISHED, self._last + count)

    def publish_new(self, records: Records, first: int) -> None:
        """Publish those of the records from sequence ``first`` on that the ring has not had yet.

        So a shard that carries out its journal again shows nothing twice. Where records are missing
        in between, a ring that nobody gates forgets the older ones, so that what it holds has no
        gap; any other raises ``RingError``.
        """
        if self._last < first - 1 and not self.gating_readers:
            self.begin_after(first - 1)
        known = self._last - (first - 1)
        if known < 0:
            raise RingError(f"{self.mapping.path}: record {first} in place of {self._last + 1}")
        for start in range(known, len(records), self.capacity):
            self.publish(records[start : start + self.capacity])

    def begin_after(self, sequence: int) -> None:
        """Forget what the ring holds; the next record has the number after ``sequence``."""
        for word in (_BASE, CLAIMED, PUBLISHED):
            store_release(self.words, word, sequence)
        self._gate = sequence
        if self.reserved != _WHOLE:
            self._begin_reserved(sequence, sequence)

    def _check_ids(self, rows: npt.NDArray[np.uint64], first: int, last: int) -> None:
        ids = rows.item(0, 0), rows.item(len(rows) - 1, 0)
        if ids != (self.id_base | first, self.id_base | last):
            raise RingError(
                f"{self.mapping.path}: ids {ids[0]} to {ids[1]} in place of "
                f"{self.id_base | first} to {self.id_base | last}"
            )

    def wakeups(self) -> list[int]:
        """Return the gating readers that sleep and want to be woken."""
        full_fence()  # what was published must be seen by whom this finds awake
        words, first = self.words, FIRST_READER + _WAITING
        return [r for r in range(self.gating_readers) if words[first + LINE * r]]

    def slowest(self) -> list[int]:
        """Return the gating readers that nobody is behind: a full ring waits for them."""
        cursors = self.cursors()
        return [reader for reader, cursor in enumerate(cursors) if cursor == min(cursors)]

    def _refreshed_room(self) -> int:
        self._gate = self._slowest()
        return self.room()

    def _slowest(self) -> int:
        return min(map(self.cursor_of, range(self.gating_readers)), default=self._last)


class RingReader(_Ring):
    """A reader that may be lapped, and says so.

    ``torn_copies`` counts copies that the writer spoiled, ``lost_records`` what ``read`` missed.
    """

    def __init__(self, path: Path, kind: RingKind = TRADES) -> None:
        super().__init__(path, kind, writable=False)
        self.torn_copies = 0
        self.lost_records = 0
        first = 8 * _word_count(self.gating_readers)
        self._record_words = self.mapping.words(first, self.capacity * self._row_words)

    @property
    def oldest(self) -> int:
        """The sequence of the oldest record still whole; one above the newest if none is."""
        claimed = load_after(self.words, CLAIMED)
        return max(self.words[_BASE], claimed - self.capacity) + 1

    def read(self, after: int, limit: int) -> ReadResult:
        """Return a copy of up to ``limit`` records that follow the sequence ``after``.

        Where the writer has lapped the reader the result begins later than asked, and
        ``lost_records`` says how many are missing: go on after ``first + len(records) - 1``.
        Nothing torn is ever returned. No records: nothing is new, or the copy was overtaken whole.
        """
        published = self.published
        first = max(after + 1, self.oldest)
        records, first = self._copy(first, min(limit, published - first + 1))
        lost = first - (after + 1)
        self.lost_records += lost
        return ReadResult(records, first, lost)

    def read_words(self, after: int, limit: int) -> list[list[int]]:
        """Return what ``read`` does, each record as its words: less work where they are few."""
        first = max(after + 1, self.oldest)
        words, size = self._record_words, self._row_words
        rows = []
        for sequence in range(first, min(first + limit, self.published + 1)):
            start = (sequence & self._mask) * size
            rows.append(words[start : start + size].tolist())
        spoiled = min(max(0, self.oldest - first), len(rows))
        self.lost_records += first + spoiled - (after + 1)
        return rows[spoiled:]

    def last(self, count: int) -> Records:
        """Return a copy of the newest ``count`` records, or as many as there are; oldest first.

        Where the writer overtakes even the newest during each of a few tries, there are none.
        """
        for _ in range(_LAST_TRIES):
            published = self.published
            first = max(published - count + 1, self.oldest)
            records, _ = self._copy(first, published - first + 1)
            if len(records) or first > published:
                break
        return records

    def _copy(self, first: int, count: int) -> tuple[Records, int]:
        """Return copies of records, and the first's sequence, without what was spoiled meanwhile.

        A record is overwritten only after ``claimed`` has come a whole ring beyond it.
        """
        words, size = self._record_words, self._row_words
        start, count = first & self._mask, max(0, count)
        copied = bytearray(words[start * size : (start + count) * size])
        if start + count > self.capacity:
            copied += words[: (start + count - self.capacity) * size]
        records: Records = np.ndarray((count,), self.kind.dtype, copied)
        spoiled = min(self.oldest - first, count)
        if spoiled <= 0:
            return records, first
        self.torn_copies += 1
        return records[spoiled:], first + spoiled


class GatingReader(_Ring):
    """A reader that the writer waits for; the only writer of its cursor."""

    def __init__(self, path: Path, index: int = 0, kind: RingKind = TRADES) -> None:
        super().__init__(path, kind, writable=True)
        if not 0 <= index < self.gating_readers:
            raise RingError(f"{path}: has {self.gating_readers} gating readers, none is {index}")
        self._line = FIRST_READER + LINE * index
        self._cursor = self.cursor_of(index)
        self._records = self.rows.view(kind.dtype)[:, 0]
        self._records.flags.writeable = False

    @property
    def cursor(self) -> int:
        """The last record that this reader is done with."""
        return self._cursor

    def available(self) -> int:
        """Return how many records wait to be read."""
        return self.published - self._cursor

    def peek(self, limit: int) -> Records:
        """Return a view of records after the cursor, as many as lie in one piece up to ``limit``.

        Valid until ``advance``: the writer does not touch what this reader is not done with.
        """
        start = (self._cursor + 1) & self._mask
        count = min(limit, self.available())
        return self._records[start : start + count]

    def advance(self, count: int) -> None:
        """Be done with the next ``count`` records. Raises ``RingError`` beyond the published."""
        if not 0 <= count <= self.available():
            raise RingError(f"{self.mapping.path}: {count} records are not there to advance over")
        self._cursor += count
        store_release(self.words, self._line + CURSOR, self._cursor)

    def set_waiting(self, waiting: bool) -> None:
        """Ask the writer for the doorbell, or not any more.

        Look at ``available`` once more between asking and sleeping: what was published before the
        writer could see the wish is seen there. And look again after a while: who was woken a
        moment ago, and sleeps already, is not woken anew.
        """
        self.words[self._line + _WAITING] = int(waiting)
        full_fence()

    def close(self) -> None:
        """Let go of the mapping; views of ``peek`` keep it alive."""
        del self._records
        super().close()
