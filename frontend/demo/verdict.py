"""The checks of a demo: three stories gathered, and each compared with another."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.plan import Plan
from engine.trade_log.lines import LoggedTrade, to_records
from engine.trade_log.log import read_trades
from frontend.demo.checks import (
    check_book,
    check_log,
    check_order_table,
    check_quantities,
    check_ring,
)
from frontend.demo.load import Told
from frontend.reading import BookView, Reader
from ipc.instruments import Instrument
from ipc.records import SEQUENCE_BITS, TRADE

Records = npt.NDArray[np.void]

RING_TRADES = 10_000
"""The last trades of each ring that are compared with the log."""
SAMPLED_ORDERS = 1_000
"""Orders a shard that are compared with the order table: this many open, as many ended."""
RECENT_ORDERS = 5_000
"""The ended ones are among the newest orders: the table forgets old ones, by design."""
_LOG_CHUNK = 8_192


class Check(NamedTuple):
    """One check: what holds where ``difference`` is None."""

    claim: str
    difference: str | None


class Seen(NamedTuple):
    """What shared memory showed at rest, before the product stopped."""

    rings: list[Records]
    books: list[BookView]
    sample: Records
    table: Records


def look(plan: Plan, told: Told, seed: int) -> Seen:
    """Read what the product shows while it is at rest."""
    levels = plan.config.engine.depth_levels
    sample = sample_orders(told.orders, plan.shards, np.random.default_rng(seed))
    with Reader(plan) as reader:
        return Seen(
            [reader.trades_of_shard(shard, RING_TRADES) for shard in plan.shards],
            [reader.book(instrument.symbol, levels) for instrument in plan.instruments],
            sample,
            reader.orders(sample["order_id"].tolist()),
        )


def sample_orders(orders: Records, shards: Iterable[int], random: np.random.Generator) -> Records:
    """Return some of the open orders of each shard, and some of those that ended not long ago."""
    found = [orders[:0]]
    for shard in shards:
        of_shard = orders[orders["order_id"] >> SEQUENCE_BITS == shard]
        of_shard = of_shard[np.argsort(of_shard["order_id"])]
        recent = of_shard[-RECENT_ORDERS:]
        for group in (of_shard[of_shard["leaves_qty"] > 0], recent[recent["leaves_qty"] == 0]):
            count = min(SAMPLED_ORDERS, len(group))
            found.append(random.choice(group, count, replace=False, shuffle=False))
    return np.concatenate(found)


def read_log(
    trades: Iterable[LoggedTrade],
    instruments: Sequence[Instrument],
    tell: Callable[[int], None] = lambda _: None,
) -> Records:
    """Return logged trades as TRADE, holding few of them as Python objects at a time.

    ``tell`` is told now and then how many there are so far.
    """
    trades = iter(trades)
    chunks, count = [np.empty(0, TRADE)], 0
    while chunk := list(islice(trades, _LOG_CHUNK)):
        chunks.append(to_records(chunk, instruments))
        count += len(chunk)
        tell(count)
    return np.concatenate(chunks)


def run_checks(
    plan: Plan, told: Told, seen: Seen, tell: Callable[[str], None] = lambda _: None
) -> Iterator[Check]:
    """Compare the clients', the log's and shared memory's story, each with another, one by one.

    ``tell`` is told what takes its time.
    """
    expected = len(told.fills) // 2
    log = read_log(
        read_trades(plan.log_dir),
        plan.instruments,
        lambda count: tell(f"reading the log: {count:,} of {expected:,} trades"),
    )
    levels = plan.config.engine.depth_levels
    tell("comparing what clients were told with the log")
    yield Check(
        f"{len(log):,} trades: reported to both sides, each in the log exactly once, no other",
        check_log(told.fills, log),
    )
    tell("adding up the trades of each order")
    yield Check(
        f"{len(told.orders):,} orders: cum_qty is the sum of their trades, bought is sold",
        check_quantities(told.orders, log),
    )
    rings = (
        check_ring(shard, ring, RING_TRADES, log)
        for shard, ring in zip(plan.shards, seen.rings, strict=True)
    )
    yield Check(
        f"{sum(map(len, seen.rings)):,} last trades in the rings are the log's", first_of(rings)
    )
    tell("comparing books with what is open")
    books = (
        check_book(book.instrument.number, book.bids, book.asks, told.orders, levels)
        for book in seen.books
    )
    yield Check(
        f"{len(seen.books)} books at rest show what the reports leave open", first_of(books)
    )
    yield Check(
        f"{len(seen.sample):,} sampled orders: the order table says what their last reports said",
        check_order_table(seen.sample, seen.table),
    )


def first_of(differences: Iterable[str | None]) -> str | None:
    """Return the first answer of a check that is a difference."""
    return next((difference for difference in differences if difference is not None), None)
