"""client_order_ids that share a place in a hash: what an attacker would send who knew its numbers.

``aimed_at_fixed`` makes those of a hash with public numbers, as the product once had; against a
keyed one they are as good as any. ``aimed_at_table`` makes those of a book that one looks into.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.books.ladder.tables import Tables
from ipc.vocabulary import MAX_CLIENT_ID

_MASK = (1 << 64) - 1
_ACCOUNT, _SYMBOL, _ID = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xFF51AFD7ED558CCD
_FOLD = 29
_PLACE = 0x5A5A5 << 44
"""The upper bits of all hashes that are aimed."""


class Walks(NamedTuple):
    """How many entries the longest search passes over, in each of a book's tables."""

    recent: int
    client_ids: int
    order_ids: int


def aimed_at_fixed(count: int, account: int, instrument: int) -> npt.NDArray[np.uint64]:
    """Return client_order_ids whose hashes begin with the same 20 bits under public numbers."""
    last, first = pow(_ACCOUNT, -1, 1 << 64), pow(_ID, -1, 1 << 64)
    base = instrument * _SYMBOL & _MASK ^ account * _ACCOUNT & _MASK
    found: list[int] = []
    low = 0
    while len(found) < count:
        low += 1
        mixed = (_PLACE | low * 0x1_2345) * last & _MASK
        mixed ^= mixed >> _FOLD
        mixed ^= mixed >> 2 * _FOLD
        client_order_id = mixed * first & _MASK ^ base
        if 0 < client_order_id <= MAX_CLIENT_ID:
            found.append(client_order_id)
    return np.array(found, np.uint64)


def aimed_at_table(tables: Tables, count: int, account: int, symbol: int) -> npt.NDArray[np.uint64]:
    """Return client_order_ids whose hashes begin with the same 20 bits in a book as it is now."""
    state: Any = tables.state[0]
    last = pow(int(state["last_factor"]), -1, 1 << 64)
    first = pow(int(state["id_factor"]), -1, 1 << 64)
    base = account * int(state["account_factor"]) + symbol * int(state["symbol_factor"])
    found: list[int] = []
    low = 0
    while len(found) < count:
        low += 1
        mixed = (_PLACE | low * 0x1_2345) * last & _MASK
        mixed ^= mixed >> 32
        client_order_id = (mixed - base) * first & _MASK
        if 0 < client_order_id <= MAX_CLIENT_ID:
            found.append(client_order_id)
    return np.array(found, np.uint64)


def longest_walks(tables: Tables) -> Walks:
    """Count what searches for what is there pass over."""
    return Walks(_longest_chain(tables), _longest_probe(tables), _longest_id_probe(tables))


def _longest_chain(tables: Tables) -> int:
    state: Any = tables.state[0]
    last, mask = int(state["order_sequence"]), len(tables.recent) - 1
    longest = 0
    for newest in np.unique(tables.buckets["newest"]).tolist():
        age, steps = last - newest & 0xFFFFFFFF, 0
        while age <= mask and newest:
            older = last - int(tables.recent["previous"][last - age & mask]) & 0xFFFFFFFF
            if older <= age or older > mask:
                break
            age, steps = older, steps + 1
        longest = max(longest, steps)
    return longest


def _longest_probe(tables: Tables) -> int:
    entries = tables.client_ids["entry"]
    places = np.flatnonzero(entries)
    homes = (entries[places] >> np.uint64(32)) * np.uint64(len(entries)) >> np.uint64(32)
    return int(((places - homes.astype(np.int64)) % len(entries)).max(initial=0))


def _longest_id_probe(tables: Tables) -> int:
    slots = tables.order_ids["slot"]
    places = np.flatnonzero(slots)
    with np.errstate(over="ignore"):
        mixed = tables.orders["order_id"][slots[places]].astype(np.uint64)
        mixed *= tables.state["id_factor"][0]
        mixed ^= mixed >> np.uint64(32)
        mixed *= tables.state["last_factor"][0]
    homes = (mixed >> np.uint64(32)) * np.uint64(len(slots)) >> np.uint64(32)
    return int(((places - homes.astype(np.int64)) % len(slots)).max(initial=0))
