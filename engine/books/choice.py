"""Which book a matcher uses: chosen by name in the configuration."""

import logging
from collections.abc import Sequence

import numpy as np

from engine.books.contract import Book, BookLimits, Counters, Records
from engine.books.id_memory import NO_SHARES, IdShares, forgotten_before, still_remembered
from engine.books.reference.book import ReferenceBook
from ipc.instruments import Instrument
from ipc.native.compiled import HAVE_NUMBA
from ipc.records import RECENT, SEQUENCE_MASK

logger = logging.getLogger("shardbook.matcher")


def book_limits(instrument: Instrument) -> BookLimits:
    """Return an instrument as a book sees it."""
    i = instrument
    return BookLimits(
        i.number,
        i.min_price,
        i.max_price,
        i.max_resting_orders,
        i.max_account_orders,
        i.day_end_s,
    )


def configured(
    book: Book,
    name: str,
    shard: int,
    limits: Sequence[BookLimits],
    recent_orders: int,
    secret: int = 0,
    shares: IdShares = NO_SHARES,
) -> Book:
    """Return a book under other limits with the state of one after its next command, CONFIGURE.

    Between commands only. What rests stays as it is, also beyond a new band or limit; every symbol
    that something rests in, or a mass cancel is under way of, must be among ``limits``. Of the
    client_order_ids that were known those are still so that the new numbers remember.
    """
    counters, resting = book.counters(), book.resting()
    counters = counters._replace(sequence=counters.sequence + 1)
    made = make_book(name, shard, limits, recent_orders, counters, secret, shares)
    forgotten = forgotten_before(counters.order_sequence, recent_orders)
    known = _known_ids(book.recent(), resting, forgotten)
    known = known[np.isin(known["symbol"], [limit.symbol for limit in limits])]
    recent = still_remembered(known, forgotten, shares.checked(recent_orders))
    made.restore(counters, resting, recent, book.sweeps(), book.last_prices())
    return made


def _known_ids(recent: Records, resting: Records, forgotten: int) -> Records:
    """Return the client_order_ids (RECENT) that are remembered, and of orders that rest those that
    are recent: behind sequence ``forgotten``. The oldest order's is first."""
    sequences = resting["order_id"] & np.uint64(SEQUENCE_MASK)
    named = resting[(resting["client_order_id"] != 0) & (sequences > np.uint64(forgotten))]
    known = np.zeros(len(recent) + len(named), RECENT)
    for field in RECENT.names or ():
        known[field][: len(recent)] = recent[field]
        known[field][len(recent) :] = named[field]
    _, first = np.unique(known["order_id"], return_index=True)
    found: Records = known[first]
    return found


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
