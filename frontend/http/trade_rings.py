"""Searching the trade rings backwards: the newest trades that are wanted, and where a time is."""

import numpy as np
import numpy.typing as npt

from frontend.http.market import Market
from frontend.http.market_models import TradesQuery
from frontend.http.searches import Work
from ipc.arrays import Records, Words, joined, those
from ipc.memory.ring import RingReader
from ipc.records import TRADE

CHUNK_TRADES = 4_096
"""Looked at by one step at the most; the first steps look at fewer."""


def from_ring(
    ring: RingReader,
    market: Market | None,
    query: TradesQuery,
    below: int,
    limit: int,
    order_ids: Words | None = None,
) -> Work[Records]:
    """Return a ring's newest trades below a sequence that are wanted, newest first.

    With ``order_ids``, ascending, only trades of these orders.
    """
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
        early = query.from_ is not None and len(trades) and trades["timestamp_ns"][0] < query.from_
        if market is not None:
            trades = _where(trades, trades["symbol"] == market.number)
        if order_ids is not None:
            trades = _where(trades, are_of(trades, order_ids))
        if query.to is not None:
            trades = _where(trades, trades["timestamp_ns"] < query.to)
        if query.from_ is not None:
            trades = _where(trades, trades["timestamp_ns"] >= query.from_)
            if early:
                missing = min(missing, len(trades))
        found.append(trades[max(0, len(trades) - missing) :][::-1])
        missing -= len(found[-1])
        stop = after + 1
    return found[0] if len(found) == 1 else joined([np.empty(0, TRADE), *found])


def _where(trades: Records, wanted: npt.NDArray[np.bool_]) -> Records:
    """Return the trades that are wanted; all of them, as most often, are not copied."""
    return trades if wanted.all() else those(trades, wanted)


def are_of(trades: Records, order_ids: Words) -> npt.NDArray[np.bool_]:
    """Return which trades have one of the orders, whose ids ascend."""
    return _has(trades["buy_order_id"], order_ids) | _has(trades["sell_order_id"], order_ids)


def _has(wanted: Words, order_ids: Words) -> npt.NDArray[np.bool_]:
    if not len(order_ids):
        return np.zeros(len(wanted), np.bool_)
    places = np.minimum(np.searchsorted(order_ids, wanted), len(order_ids) - 1)
    found: npt.NDArray[np.bool_] = order_ids[places] == wanted
    return found


def first_at(ring: RingReader, least: int, field: str = "timestamp_ns") -> int:
    """Return the sequence of a ring's first trade at or after a time, or a command's sequence."""
    low, high = ring.oldest, ring.published + 1
    while low < high:
        middle = (low + high) // 2
        found = ring.read(middle - 1, 1)
        if len(found.records) and int(found.records[field][0]) >= least:
            high = middle
        else:
            low = middle + 1
    return low
