"""Reading history: one interface, whatever keeps it.

Rows are those of ``engine.history.rows``, newest first. A page is asked for by what lies before it:
``below`` gives, for each shard that is wanted, the id that all of its rows are below; so a page
goes on exactly where the one before it, or memory, ended. Rows of different shards come by time.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, Protocol

from engine.books.contract import Records
from engine.history.destination import Cursor
from ipc.records import make_id

ALWAYS_NS = 1 << 63


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

    def cursors(self) -> dict[int, Cursor]:
        """Return how far the history goes, by shard."""
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

    def users(self, accounts: Collection[int]) -> dict[int, str]:
        """Return the user ids of accounts, as rows have them; of those that are known."""
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
