"""Which book a matcher uses: chosen by name in the configuration."""

import logging
from collections.abc import Sequence

from engine.books.contract import Book, BookLimits, Counters
from engine.books.id_memory import NO_SHARES, IdShares
from engine.books.reference.book import ReferenceBook
from ipc.instruments import Instrument
from ipc.native.compiled import HAVE_NUMBA

logger = logging.getLogger("shardbook.matcher")


def book_limits(instrument: Instrument) -> BookLimits:
    """Return an instrument as a book sees it."""
    i = instrument
    return BookLimits(
        i.number, i.min_price, i.max_price, i.max_resting_orders, i.max_account_orders
    )


def make_book(
    name: str,
    shard: int,
    limits: Sequence[BookLimits],
    recent_orders: int,
    start: Counters,
    secret: int = 0,
    shares: IdShares = NO_SHARES,
) -> Book:
    """Return an empty book of the kind that ``engine.book`` in the configuration names.

    Where numba is missing it is the reference book, with a warning: same rules, far slower.
    """
    assert name in ("ladder", "reference"), name
    if name == "ladder" and HAVE_NUMBA:
        from engine.books.ladder import LadderBook

        return LadderBook(shard, limits, recent_orders, start, secret, shares)
    if name == "ladder":
        logger.warning("numba is missing: shard %d is matched by the reference book", shard)
    return ReferenceBook(shard, limits, recent_orders, start, secret, shares)
