"""Which client_order_ids of orders that have ended a shard remembers, and for how long.

**Recent orders.** The last ``recent_orders`` orders that the shard accepted, whosever they are and
whether or not they bear an id. They are forgotten by the block: before the first order of a block
is accepted, as many of the oldest go as the block will have. So at least fifteen sixteenths are
there.

**Each account's share.** Before a block is forgotten, the one that has just ended is counted for
the accounts of its ids. An id that is forgotten is *kept* if its account has fewer than
``account_ids`` newer ones among the recent orders. Where an account's next block makes them and its
kept ones more than that, its oldest kept ones go. So an id is remembered at least until its account
has had ``account_ids`` further orders with ids accepted, whatever others do. That holds while no
more than ``kept_ids`` are kept for all accounts together; beyond, the oldest of all go, and are
counted. With ``recent_orders`` 0 none are kept.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ipc.arrays import Records, Words
from ipc.records import SEQUENCE_MASK

MAX_ACCOUNT_IDS = 1 << 20
MAX_KEPT_IDS = 1 << 24
_BLOCKS_BITS = 4


class IdShares(NamedTuple):
    """How many client_order_ids are kept beyond the recent orders: for each account, and of all."""

    account_ids: int = 0
    kept_ids: int = 0

    def checked(self, recent_orders: int) -> "IdShares":
        """Return the shares as they work: none where one of the numbers, or the memory, is 0.

        Raises ValueError where a number is out of its range.
        """
        for name, most in (("account_ids", MAX_ACCOUNT_IDS), ("kept_ids", MAX_KEPT_IDS)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name}: {getattr(self, name)}, must be 0 to {most}")
        return self if recent_orders and self.account_ids and self.kept_ids else NO_SHARES


NO_SHARES = IdShares()


def block_of(recent_orders: int) -> int:
    """Return how many orders are forgotten at a time: a power of two that divides all of them."""
    most = 1 << max(0, (recent_orders - 1).bit_length() - _BLOCKS_BITS)
    return min(recent_orders & -recent_orders, most) or 1


def forgotten_before(order_sequence: int, recent_orders: int) -> int:
    """Return the sequence of the last order that is not recent any more once this one is there."""
    if recent_orders == 0:
        return order_sequence
    block = block_of(recent_orders)
    begun = -(-order_sequence // block) * block
    return max(0, begun - recent_orders)


def counted_up_to(order_sequence: int, recent_orders: int) -> int:
    """Return the sequence of the last order whose block is counted for its account."""
    block = block_of(recent_orders)
    return max(0, order_sequence - 1) // block * block


def places_from_newest(accounts: Words) -> npt.NDArray[np.intp]:
    """Return how many of the same account come after each of them."""
    order = np.argsort(accounts, kind="stable")
    sorted_accounts = accounts[order]
    ends = np.searchsorted(sorted_accounts, sorted_accounts, side="right")
    places = np.empty(len(accounts), np.intp)
    places[order] = ends - 1 - np.arange(len(accounts))
    return places


def still_remembered(rows: Records, forgotten: int, shares: IdShares) -> Records:
    """Return those of remembered ids (RECENT, oldest first) that are so where orders up to a
    sequence are not recent any more, and no other has come."""
    recent = rows["order_id"] & np.uint64(SEQUENCE_MASK) > np.uint64(forgotten)
    kept = ~recent & (places_from_newest(rows["account"]) < shares.account_ids)
    kept &= np.cumsum(kept[::-1])[::-1] <= shares.kept_ids
    remembered: Records = rows[recent | kept]
    return remembered
