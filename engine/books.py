"""Which book a matcher uses: chosen by name in the configuration."""

from collections.abc import Sequence

from engine.book import Book, BookLimits, Counters
from engine.reference import ReferenceBook


def make_book(
    name: str, shard: int, limits: Sequence[BookLimits], recent_orders: int, start: Counters
) -> Book:
    """Return an empty book of the kind that ``engine.book`` in the configuration names."""
    assert name == "reference", name
    return ReferenceBook(shard, limits, recent_orders, start)
