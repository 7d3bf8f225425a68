"""What a history has, as ``engine.history.verify`` holds it against journals and trade log."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from engine.history.destination import Cursor

Row = tuple[int, ...]
PIECE = 4_096
"""Rows that are asked for at a time."""


class Counts(NamedTuple):
    """How many rows of a shard there are."""

    orders: int
    unknown: int
    """Of them, those that were lost sight of."""
    trades: int


class Listed(NamedTuple):
    """How what lists a user's or an order's trades stands against the trades."""

    name: str
    lists: int
    """How many there are, by user or by order."""
    wrong: list[Any]
    """Whose are not what the trades say."""


class Evidence(Protocol):
    """All of a history, as it is at one moment. Raises as ``History`` does."""

    def cursors(self) -> dict[int, Cursor]:
        """Return each shard's cursor."""
        ...

    def counts(self, low: int, high: int) -> Counts:
        """Return how many rows have ids between two."""
        ...

    def trades(self, low: int, high: int) -> Iterator[Row]:
        """Yield trades (TRADE_ROW) with ids between two, growing."""
        ...

    def order(self, order_id: int) -> Row | None:
        """Return an order (ORDER_ROW)."""
        ...

    def trade(self, trade_id: int) -> Row | None:
        """Return a trade (TRADE_ROW)."""
        ...

    def listed(self) -> Listed:
        """Hold lists of trades against the trades."""
        ...
