"""What every book of a shard can do: COMMAND records in, REPORT and TRADE records out.

Two implementations keep the same rules (``engine.books.rules``): ``engine.books.reference.book``,
short and plain, and the compiled ``engine.books.ladder``. They are equal in every report, trade and
state hash.
"""

import hashlib
from typing import NamedTuple, Protocol

import numpy as np

from ipc.arrays import Records as Records  # noqa: PLC0414 - the contract speaks of it
from ipc.records import COMMAND, LAST_PRICE
from ipc.vocabulary import MAX_RESTING_ORDERS

NO_SWEEPS: Records = np.zeros(0, COMMAND)
NO_PRICES: Records = np.zeros(0, LAST_PRICE)


class BookLimits(NamedTuple):
    """One instrument as a book sees it: its number, its price band in ticks, its capacity, how
    much of that one account may take, and when its day ends."""

    symbol: int
    min_price: int
    max_price: int
    max_resting_orders: int
    max_account_orders: int = MAX_RESTING_ORDERS
    day_end_s: int = 0
    """When DAY orders end: seconds after midnight, UTC."""


class Progress(NamedTuple):
    """How far ``Book.process`` came before the commands or a buffer ended."""

    commands: int
    reports: int
    trades: int


class Counters(NamedTuple):
    """The last sequence numbers a book gave: of commands, accepted orders and trades."""

    sequence: int
    order_sequence: int
    trade_sequence: int


class KeptIds(NamedTuple):
    """How many client_order_ids a book keeps beyond its recent orders, and how many went early."""

    kept: int
    displaced: int


class Book(Protocol):
    """All books of one shard. A pure function of its state and of the commands."""

    def process(self, commands: Records, reports: Records, trades: Records) -> Progress:
        """Match ``commands`` in order, filling ``reports`` and ``trades`` from their beginning.

        Where a buffer is full before the commands are done, matching stops, in the midst of a
        command if need be: ``Progress.commands`` counts the finished ones. The caller empties the
        buffers and calls again with ``commands[progress.commands:]``; the unfinished command must
        then be the first, and goes on where it was. ``reports`` must have room for at least two.
        ``trades`` may be empty: then matching stops before the first trade.
        """
        ...

    def counters(self) -> Counters:
        """Return the last sequence numbers given."""
        ...

    def depth(self, symbol: int, side: int, levels: Records) -> int:
        """Fill ``levels`` (LEVEL) with the best levels of one side; return how many."""
        ...

    def resting(self) -> Records:
        """Return every live order (RESTING): by symbol, bids then asks, best price, oldest; after
        those of a symbol the ones that wait, with their ``stop_price``: buy orders then sell
        orders, in the order in which they would trigger."""
        ...

    def recent(self) -> Records:
        """Return the remembered client_order_ids (RECENT), oldest order first.

        Only those not 0: of recent orders, and those kept beyond them (``engine.books.id_memory``).
        """
        ...

    def kept_ids(self) -> KeptIds:
        """Return how many client_order_ids are kept beyond the recent orders, and how many others
        were displaced, since this book was made, for want of room."""
        ...

    @property
    def sweeping(self) -> bool:
        """Whether a mass cancel is under way, which a MASS_CANCEL with CONTINUE takes further."""
        ...

    @property
    def next_expiry_ns(self) -> int:
        """When the next order expires, 0 where none does: a MASS_CANCEL with CONTINUE ends it then,
        as any command does."""
        ...

    def sweeps(self) -> Records:
        """Return the mass cancels that are under way, the oldest first.

        They are COMMAND records as they came, but for: order_id, the last id given then; quantity,
        the orders taken so far; stop_price, 1 where it has begun; client_order_id, then the
        order_id of the order that it looks at next, 0 where there is none; price, 1 where it must
        go through the books once more; timestamp_ns, 0.
        """
        ...

    def last_prices(self) -> Records:
        """Return the price of the last trade (LAST_PRICE) of each symbol that had one, by
        symbol."""
        ...

    def restore(
        self,
        counters: Counters,
        resting: Records,
        recent: Records,
        sweeps: Records = NO_SWEEPS,
        last_prices: Records = NO_PRICES,
    ) -> None:
        """Take over what another book of the same limits returned; this one must be new.

        The two then have the same state hash, and give the same reports to the same commands.
        """
        ...

    def check(self) -> None:
        """Verify every structural invariant; raise AssertionError where one does not hold."""
        ...


def state_hash(book: Book) -> str:
    """Return a digest of all that decides a book's future: equal books, equal hashes."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.asarray(book.counters(), dtype="<u8").tobytes())
    digest.update(book.resting().tobytes())
    digest.update(book.recent().tobytes())
    digest.update(book.sweeps().tobytes())
    digest.update(book.last_prices().tobytes())
    return digest.hexdigest()
