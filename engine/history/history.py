"""Reading history: one interface, whatever keeps it.

Rows are those of ``engine.history.rows``, newest first. A page is asked for by what lies before it:
``below`` gives, for each shard that is wanted, the id that all of its rows are below; so a page
goes on exactly where the one before it, or memory, ended. Rows of different shards come by time.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import numpy as np

from engine.books.contract import Records
from engine.history.archive import Piece
from engine.history.destination import Cursor
from engine.history.evidence import Evidence
from ipc.records import make_id

ALWAYS_NS = 1 << 63
AVERAGE_DIGITS = 6
"""Of an average price, behind those of the tick; rounded to the nearest, half to even."""


class Page(NamedTuple):
    """Which rows are wanted."""

    below: Mapping[int, int]
    """By shard: ids below this one."""
    limit: int
    symbol: int | None = None
    account: int | None = None
    from_ns: int = 0
    """Of an order's entry, or a trade's time: from this one on,"""
    to_ns: int = ALWAYS_NS
    """and before that one."""
    statuses: Collection[int] = ()
    """Of orders: these alone; none given: all."""
    side: int | None = None
    """Of orders."""


class History(Protocol):
    """What reads a history.

    Every method raises ``AwayError`` where it cannot be read now or takes too long, and
    ``HistoryError`` where it is none that can be read.
    """

    source: str
    """What answers call it."""

    @property
    def where(self) -> str:
        """What messages call it: without a secret."""
        ...

    def begun(self) -> bool:
        """Return whether there is anything to read: somebody has begun to write it."""
        ...

    def cursors(self) -> dict[int, Cursor]:
        """Return how far the history goes, by shard."""
        ...

    def reached(self) -> dict[int, Cursor]:
        """Return how far it may go at the most, where it was written when it was last seen."""
        ...

    def notes(self) -> list[tuple[int, int, str]]:
        """Return what was noted for good: shard, time (ns), text."""
        ...

    def archived(self) -> list[Piece]:
        """Return the files of orders and trades that have left the database."""
        ...

    def trades_after(self, shard: int, last: int) -> Iterator[Records]:
        """Yield the trades (TRADE_ROW) of a shard behind its trade ``last``, oldest first."""
        ...

    def evidence(self) -> AbstractContextManager[Evidence]:
        """Show all that there is, for as long as that is open."""
        ...

    def order(self, order_id: int) -> Records:
        """Return one order (ORDER_ROW), or none."""
        ...

    def orders(self, page: Page) -> Records:
        """Return orders (ORDER_ROW)."""
        ...

    def trades(self, page: Page) -> Records:
        """Return trades (TRADE_ROW); with an account those that it took part in."""
        ...

    def candles(self, shard: int, symbol: int, width_ns: int, from_ns: int, to_ns: int) -> Records:
        """Return the candles (CANDLE_ROW) of a symbol's trades from one time on and before another,
        oldest first, those that had trades."""
        ...

    def users(self, accounts: Collection[int]) -> dict[int, str]:
        """Return the user ids of accounts, as rows have them; of those that are known."""
        ...

    def texts(self, numbers: Collection[int]) -> dict[int, str]:
        """Return the texts that client_order_ids stand for, by their numbers as rows have them
        (below 0); of those that are known."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def everything(shards: Iterable[int]) -> dict[int, int]:
    """Return ``below`` for the newest page of shards."""
    return {shard: make_id(shard + 1, 0) for shard in shards}


def value_of(order: Records) -> int:
    """Return what one order (ORDER_ROW) has paid, in ticks times lots."""
    return (int(order["value_high"]) << 62) + int(order["value_low"])


def average(value: int, filled: int) -> int:
    """Return what a lot has cost, in ticks with ``AVERAGE_DIGITS`` more; 0 where none is filled."""
    if not filled:
        return 0
    scaled, rest = divmod(value * 10**AVERAGE_DIGITS, filled)
    return int(scaled) + (2 * rest > filled or (2 * rest == filled and bool(scaled % 2)))


def newest(rows: Records, time_column: str, key: str, limit: int) -> Records:
    """Return rows by time, newest first; those of one shard stay by id."""
    return rows[np.lexsort((rows[key], rows[time_column]))[::-1]][:limit]
