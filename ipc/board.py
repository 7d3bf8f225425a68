"""The depth board of a shard: the best levels of each of its symbols, for anyone to read.

Each symbol has a slot: a header of u64 words and two arrays of levels. The writer makes the
slot's version odd, changes it, and makes it even again (a sequence lock); a reader copies and
takes what it has copied only if the version was even and the same before and after.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ipc.atomics import load_acquire, load_after, store_release
from ipc.mapping import create_mapping, open_mapping
from ipc.records import LEVEL

Records = npt.NDArray[np.void]

KIND = "depth board"
_VERSION, _SYMBOL, _SEQUENCE, _TIMESTAMP_NS, _BIDS, _ASKS = range(6)
_HEADER_WORDS = 8
MAX_TRIES = 10_000


class BoardBusyError(RuntimeError):
    """The writer changed a slot during every one of MAX_TRIES copies of it."""


class Depth(NamedTuple):
    """A consistent copy of one symbol's levels, best first, as of a command of its shard."""

    sequence: int
    timestamp_ns: int
    bids: Records
    asks: Records


def _slot_bytes(levels: int) -> int:
    return _HEADER_WORDS * 8 + 2 * levels * LEVEL.itemsize


def create_board(path: Path, shard: int, symbols: Sequence[int], levels: int) -> None:
    """Make a board of empty books with room for ``levels`` levels a side."""
    size = _slot_bytes(levels)
    aside = path.with_name(path.name + ".making")
    tag = shard << 32 | levels
    create_mapping(aside, KIND, LEVEL, len(symbols), max(1, len(symbols)) * size, tag)
    mapping = open_mapping(aside, KIND, LEVEL, writable=True)
    for place, symbol in enumerate(symbols):
        mapping.words(place * size, _HEADER_WORDS)[_SYMBOL] = symbol
    aside.rename(path)


class _Slot(NamedTuple):
    """One symbol's words and levels."""

    words: memoryview
    bids: Records
    asks: Records


class _Board:
    """What writer and readers see alike."""

    def __init__(self, path: Path, writable: bool) -> None:
        self.mapping = open_mapping(path, KIND, LEVEL, writable)
        self.shard = self.mapping.tag >> 32
        self.levels = self.mapping.tag & 0xFFFFFFFF
        size = _slot_bytes(self.levels)
        self._slots: dict[int, _Slot] = {}
        for place in range(self.mapping.capacity):
            words = self.mapping.words(place * size, _HEADER_WORDS)
            first = place * size + _HEADER_WORDS * 8
            bids = self.mapping.array(LEVEL, first, self.levels)
            asks = self.mapping.array(LEVEL, first + bids.nbytes, self.levels)
            self._slots[words[_SYMBOL]] = _Slot(words, bids, asks)


class BoardWriter(_Board):
    """The one writer. Fill ``bids`` and ``asks`` between ``open`` and ``close``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=True)

    def bids(self, symbol: int) -> Records:
        """Return the shared levels of the bid side."""
        return self._slots[symbol].bids

    def asks(self, symbol: int) -> Records:
        """Return the shared levels of the ask side."""
        return self._slots[symbol].asks

    def open(self, symbol: int) -> None:
        """Begin to change a symbol: readers of it wait."""
        words = self._slots[symbol].words
        store_release(words, _VERSION, words[_VERSION] | 1)
        load_acquire(words, _VERSION)

    def close(
        self, symbol: int, sequence: int, timestamp_ns: int, bid_levels: int, ask_levels: int
    ) -> None:
        """End a change: show the first so many levels of each side."""
        words = self._slots[symbol].words
        words[_SEQUENCE], words[_TIMESTAMP_NS] = sequence, timestamp_ns
        words[_BIDS], words[_ASKS] = bid_levels, ask_levels
        store_release(words, _VERSION, words[_VERSION] + 1)


class BoardReader(_Board):
    """A reader; ``torn_copies`` counts the copies that it threw away."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=False)
        self.torn_copies = 0

    def read(self, symbol: int) -> Depth:
        """Return a symbol's levels. Raises ``BoardBusyError``; KeyError for an unknown symbol."""
        slot = self._slots[symbol]
        for _ in range(MAX_TRIES):
            before = load_acquire(slot.words, _VERSION)
            words = slot.words.tolist()
            bids = slot.bids[: words[_BIDS]].copy()
            asks = slot.asks[: words[_ASKS]].copy()
            if not before & 1 and load_after(slot.words, _VERSION) == before:
                return Depth(words[_SEQUENCE], words[_TIMESTAMP_NS], bids, asks)
            self.torn_copies += 1
        raise BoardBusyError(f"{self.mapping.path}: symbol {symbol} never held still")
