"""Searching the trade rings backwards: the newest trades that are wanted, and where a time is."""

import numpy as np
import numpy.typing as npt

from frontend.http.market import Market
from frontend.http.models import TradesQuery
from frontend.http.product_state import Records
from frontend.http.searches import Work
from ipc.memory.ring import RingReader
from ipc.records import TRADE

CHUNK_TRADES = 4_096
"""Looked at by one step at the most; the first steps look at fewer."""


def from_ring(
    ring: RingReader, market: Market | None, query: TradesQuery, below: int, limit: int
) -> Work[Records]:
    """Return a ring's newest trades below a sequence that are wanted, newest first."""
    found: list[Records] = []
    missing, stop = limit, min(below, ring.published + 1)
    step = limit
    while missing > 0 and stop > ring.oldest:
        if found:
            yield  # but what the first step has, as most often, waits for nobody
        after = max(ring.oldest - 1, stop - 1 - step)
        step = max(limit, min(4 * step, CHUNK_TRADES))
        result = ring.read(after, stop - 1 - after)
        trades = result.records[: max(0, stop - result.first)]
        if market is not None:
            trades = _where(trades, trades["symbol"] == market.number)
        if query.to is not None:
            trades = _where(trades, trades["timestamp_ns"] < query.to)
        if query.from_ is not None:
            early = len(trades) and int(trades["timestamp_ns"][0]) < query.from_
            trades = trades[trades["timestamp_ns"] >= query.from_]
            if early:
                missing = min(missing, len(trades))
        found.append(trades[max(0, len(trades) - missing) :][::-1])
        missing -= len(found[-1])
        stop = after + 1
    return found[0] if len(found) == 1 else np.concatenate([np.empty(0, TRADE), *found])


def _where(trades: Records, wanted: npt.NDArray[np.bool_]) -> Records:
    """Return the trades that are wanted; all of them, as most often, are not copied."""
    return trades if wanted.all() else trades[wanted]


def first_at(ring: RingReader, when_ns: int) -> int:
    """Return the sequence of a ring's first trade at or after a time."""
    low, high = ring.oldest, ring.published + 1
    while low < high:
        middle = (low + high) // 2
        found = ring.read(middle - 1, 1)
        if len(found.records) and int(found.records["timestamp_ns"][0]) >= when_ns:
            high = middle
        else:
            low = middle + 1
    return low
