"""A depth stream: a snapshot of a book's best levels, then what changes, so that gaps can be seen.

Each message carries ``sequence``, the shard's command after which the book was so, and each change
``previous``, the sequence of the message before it: a client that has another one has missed
something. A level with quantity 0 has left the levels that are streamed. ``checksum`` is the CRC-32
of the ten best levels of each side, bids first, each written ``ticks:lots`` and joined by commas.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ipc.memory.depth_board import Depth

Level = tuple[int, int, int]
"""Price in ticks, quantity in lots, number of orders."""

CHECKED_LEVELS = 10


class BookState(NamedTuple):
    """The streamed levels of one book, best first."""

    sequence: int
    timestamp_ns: int
    bids: list[Level]
    asks: list[Level]

    @classmethod
    def of(cls, depth: Depth) -> "BookState":
        """Return what the depth board shows."""
        return cls(depth.sequence, depth.timestamp_ns, depth.bids.tolist(), depth.asks.tolist())


def changes(old: Sequence[Level], new: Sequence[Level]) -> list[Level]:
    """Return the levels that make ``old`` into ``new``: replaced, added, or gone (quantity 0)."""
    before = {level[0]: level for level in old}
    found = [level for level in new if before.pop(level[0], None) != level]
    found += [(price, 0, 0) for price in before]
    return found


def applied(old: Sequence[Level], change: Iterable[Level], best_first: int) -> list[Level]:
    """Return ``old`` after a change, as a client rebuilds it; ``best_first`` is -1 for bids."""
    levels = {level[0]: level for level in old}
    for level in change:
        if level[1]:
            levels[level[0]] = level
        else:
            levels.pop(level[0], None)
    return sorted(levels.values(), key=lambda level: best_first * level[0])


def checksum(bids: Sequence[Level], asks: Sequence[Level]) -> int:
    """Return the checksum of a book."""
    levels = [*bids[:CHECKED_LEVELS], *asks[:CHECKED_LEVELS]]
    text = ",".join([f"{price}:{quantity}" for price, quantity, _ in levels])
    return zlib.crc32(text.encode())
