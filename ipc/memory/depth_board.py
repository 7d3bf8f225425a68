"""The depth board of a shard: the best levels of each of its symbols, for anyone to read.

Each symbol has a version and two pages; page ``version & 1`` is shown. The writer fills the other
one and then raises the version, so a whole picture is always there, even where the writer was
stopped or killed in the midst of the next. A reader copies the page shown, and takes the copy if
the version is still the same: the writer touches a shown page only after it has shown the other.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ipc.arrays import Records
from ipc.memory.atomics import fence, load_acquire, load_after, store_release
from ipc.memory.mapping import Mapping, create_mapping, open_mapping
from ipc.records import DEPTH, LEVEL

KIND = "depth board"
LAYOUT = np.dtype([("depth", DEPTH), ("level", LEVEL)])
MAX_TRIES = 10_000
_VERSION, _SYMBOL = 0, 1
PAGES_AT = _LINE_BYTES = 64
"""Where, in a symbol's slot, its first page begins; the slot itself begins with its version."""
_DEPTH_WORDS = DEPTH.itemsize // 8
# The words of DEPTH.
_SEQUENCE, _TIMESTAMP_NS, _BIDS, _ASKS = range(4)


class BoardBusyError(RuntimeError):
    """The writer replaced a symbol's levels during every one of MAX_TRIES copies of them."""


class Depth(NamedTuple):
    """A consistent copy of one symbol's levels, best first, as of a command of its shard."""

    sequence: int
    timestamp_ns: int
    bids: Records
    asks: Records


def page_bytes(levels: int) -> int:
    """Return the size of one page: DEPTH, and LEVEL records of both sides."""
    return -(-(DEPTH.itemsize + 2 * levels * LEVEL.itemsize) // _LINE_BYTES) * _LINE_BYTES


def _slot_bytes(levels: int) -> int:
    return _LINE_BYTES + 2 * page_bytes(levels)


def create_board(path: Path, shard: int, symbols: Sequence[int], levels: int) -> None:
    """Make a board of empty books with room for ``levels`` levels a side."""
    size = _slot_bytes(levels)

    def fill(mapping: Mapping) -> None:
        for place, symbol in enumerate(symbols):
            mapping.words(place * size, 2)[_SYMBOL] = symbol

    tag = shard << 32 | levels
    create_mapping(path, KIND, LAYOUT, len(symbols), len(symbols) * size, tag, fill)


class _Page:
    """One page of a symbol: the words of its DEPTH, and the levels of both sides."""

    def __init__(self, mapping: Mapping, offset: int, levels: int) -> None:
        self.words = mapping.words(offset, _DEPTH_WORDS)
        first = offset + DEPTH.itemsize
        self.bids: Records = mapping.array(LEVEL, first, levels)
        self.asks: Records = mapping.array(LEVEL, first + self.bids.nbytes, levels)


class _Slot(NamedTuple):
    """One symbol: its version word, and its two pages."""

    words: memoryview
    pages: tuple[_Page, _Page]

    def next_page(self) -> _Page:
        """Return the page that is not shown."""
        return self.pages[~self.words[_VERSION] & 1]


class _Board:
    """What writer and readers see alike."""

    def __init__(self, path: Path, writable: bool) -> None:
        mapping = open_mapping(path, KIND, LAYOUT, writable)
        self.mapping = mapping
        self.shard = mapping.tag >> 32
        self.levels = mapping.tag & 0xFFFFFFFF
        page = page_bytes(self.levels)
        self._slots: dict[int, _Slot] = {}
        for place in range(mapping.capacity):
            first = place * _slot_bytes(self.levels)
            words = mapping.words(first, 2)
            first += _LINE_BYTES
            pages = _Page(mapping, first, self.levels), _Page(mapping, first + page, self.levels)
            self._slots[words[_SYMBOL]] = _Slot(words, pages)

    @property
    def symbols(self) -> list[int]:
        """The numbers of the board's instruments."""
        return list(self._slots)

    def close_mapping(self) -> None:
        """Let go of the mapping; the board is of no use any more."""
        self._slots.clear()
        self.mapping.close()


class BoardWriter(_Board):
    """The one writer. Fill ``bids`` and ``asks`` between ``open`` and ``close``.

    A symbol that the board does not have is a KeyError.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=True)

    def version_word(self, symbol: int) -> memoryview:
        """Return the word that a symbol's slot begins with, for compiled code to find it."""
        return self._slots[symbol].words[:1]

    def bids(self, symbol: int) -> Records:
        """Return the shared levels (LEVEL) of the bid side that ``close`` will show."""
        return self._slots[symbol].next_page().bids

    def asks(self, symbol: int) -> Records:
        """Return the shared levels (LEVEL) of the ask side that ``close`` will show."""
        return self._slots[symbol].next_page().asks

    def open(self, symbol: int) -> None:
        """Begin to change a symbol. Its next page holds what it held two changes ago."""
        fence()  # the page is touched only after readers can see that it is not shown

    def close(
        self, symbol: int, sequence: int, timestamp_ns: int, bid_levels: int, ask_levels: int
    ) -> None:
        """End a change: show the first so many levels of each side."""
        slot = self._slots[symbol]
        words, new = slot.words, slot.next_page().words
        new[_SEQUENCE], new[_TIMESTAMP_NS] = sequence, timestamp_ns
        new[_BIDS], new[_ASKS] = bid_levels, ask_levels
        store_release(words, _VERSION, words[_VERSION] + 1)

    def publish(
        self, symbol: int, sequence: int, timestamp_ns: int, bids: Records, asks: Records
    ) -> None:
        """Show levels (LEVEL, best first) that lie elsewhere; what is too many is left out."""
        self.open(symbol)
        bids, asks = bids[: self.levels], asks[: self.levels]
        self.bids(symbol)[: len(bids)] = bids
        self.asks(symbol)[: len(asks)] = asks
        self.close(symbol, sequence, timestamp_ns, len(bids), len(asks))


class BoardReader(_Board):
    """A reader; ``torn_copies`` counts the copies that it threw away."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=False)
        self.torn_copies = 0

    def version(self, symbol: int) -> int:
        """Return a number that is another one whenever the symbol's levels were published."""
        return load_acquire(self._slots[symbol].words, _VERSION)

    def read(self, symbol: int) -> Depth:
        """Return a symbol's levels. Raises ``BoardBusyError``; KeyError for an unknown symbol."""
        words, pages = self._slots[symbol]
        for _ in range(MAX_TRIES):
            version = load_acquire(words, _VERSION)
            page = pages[version & 1]
            depth = page.words.tolist()
            bids = page.bids[: depth[_BIDS]].copy()
            asks = page.asks[: depth[_ASKS]].copy()
            if load_after(words, _VERSION) == version:
                return Depth(depth[_SEQUENCE], depth[_TIMESTAMP_NS], bids, asks)
            self.torn_copies += 1
        raise BoardBusyError(f"{self.mapping.path}: symbol {symbol} never held still")
