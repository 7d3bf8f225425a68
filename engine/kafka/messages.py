"""What messages of the topics hold, beside trades, which are lines of the trade log.

JSON objects with decimals as texts; ``frontend/docs/kafka.md`` tells what each field means.
"""

from typing import Any

import numpy as np
from msgspec import Raw, Struct

from engine.books.contract import Book
from engine.cache.formats import InstrumentEntry, Written, encode
from ipc.instruments import Instrument
from ipc.records import LEVEL
from ipc.vocabulary import Side


class Snapshot(Struct, frozen=True):
    """The best levels of a book behind a command."""

    symbol: str
    sequence: int
    timestamp: int
    bids: Any
    asks: Any


def instrument(found: Instrument) -> bytes:
    """Return the message of an instrument."""
    return encode(InstrumentEntry.of(found))


class Snapshots:
    """Writes the books of a shard."""

    def __init__(self, written: dict[int, Written], levels: int) -> None:
        self._written = written
        self._levels = np.zeros(levels, LEVEL)

    def of(self, symbol: int, book: Book, sequence: int, time_ns: int) -> tuple[str, bytes]:
        """Return a book's key and message, as it is behind the command ``sequence``."""
        written = self._written[symbol]
        sides = [
            Raw(written.levels(self._levels[: book.depth(symbol, side, self._levels)]))
            for side in (Side.BUY, Side.SELL)
        ]
        return written.symbol, encode(Snapshot(written.symbol, sequence, time_ns, *sides))
