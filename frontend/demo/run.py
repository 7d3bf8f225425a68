"""The demo: a whole product in a temporary directory, under a simulated flow, checked at the end.

Everything goes the way that any client goes: orders over the socket through the client library,
what is shown through the readers of shared memory, and the trades out of the log.
"""

import os
import secrets
import tempfile
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from engine.config import Config, EngineSection, InstrumentSection, check_config, load_config
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
from frontend.demo.driver import Assignment
from frontend.demo.load import Load, Told
from frontend.demo.progress import Meter, progress_on
from frontend.demo.summary import Check, print_summary
from frontend.launch import running_engine
from frontend.reading import BookView, Reader
from ipc.arrays import Records
from ipc.instruments import Instrument
from ipc.records import SEQUENCE_BITS, TRADE

MIN_MATCHERS = 2
CLIENTS = 4
"""Clients of one driver process, each with an account of its own."""
MAX_ORDERS = 4_000_000
"""Of all drivers: the demo stops early there, so that its arrays stay below about 2 GB."""
RING_TRADES = 10_000
"""The last trades of each ring that are compared with the log."""
SAMPLED_ORDERS = 1_000
"""Orders a shard that are compared with the order table: this many open, as many ended."""
RECENT_ORDERS = 5_000
"""The ended ones are among the newest orders: the table forgets old ones, by design."""
_LOG_CHUNK = 8_192


class Seen(NamedTuple):
    """What shared memory showed at rest, before the product stopped."""

    rings: list[Records]
    books: list[BookView]
    sample: Records
    table: Records


def run_demo(seconds: float, symbols: int, seed: int | None, out: TextIO) -> int:
    """Run the demo and print it on ``out``; return the exit code: 0, or 1 for a failed check.

    Raises ``ServeError`` or ``DemoError`` where it could not be carried out.
    """
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    with tempfile.TemporaryDirectory(prefix="shardbook-demo-") as name:
        directory = Path(name)
        config = demo_config(directory / "data", symbols)

        def announce(line: str) -> None:
            print(line, file=out, flush=True)

        print(f"demo of {seconds:g} s in {directory}, --seed {seed}", file=out, flush=True)
        with running_engine(config, directory / "data", announce) as plan:
            told = _drive(plan, seconds, seed, directory, out)
            seen = _look(plan, told, seed)
        log = read_log(read_trades(plan.log_dir), plan.instruments)
        checks = run_checks(plan, told, seen, log)
        print_summary(told, len(log), checks, out)
    return 0 if all(check.difference is None for check in checks) else 1


def demo_config(data_dir: Path, symbols: int) -> Config:
    """Return a configuration of some symbols on at least ``MIN_MATCHERS`` matchers."""
    names = [section.symbol for section in load_config().instruments]
    names += [f"SYM{number}" for number in range(len(names) + 1, symbols + 1)]
    cores = len(os.sched_getaffinity(0))
    config = Config(
        instruments=[InstrumentSection(name, "0.01") for name in names[:symbols]],
        data_dir=str(data_dir),
        engine=EngineSection(matchers=min(max(MIN_MATCHERS, cores // 2), symbols)),
    )
    check_config(config)
    return config


def _drive(plan: Plan, seconds: float, seed: int, directory: Path, out: TextIO) -> Told:
    """Let the clients send, and show the progress."""
    cores = len(os.sched_getaffinity(0))
    drivers = min(1 if cores < 4 else 2, len(plan.instruments))
    address = str(plan.addresses()[0])
    assignments = [
        Assignment(
            address,
            [f"demo-{driver}-{client}" for client in range(CLIENTS)],
            plan.instruments[driver::drivers],  # one driver a symbol, so that it has one mid
            (seed, driver),
            seconds,
            MAX_ORDERS // drivers,
            directory / f"driver-{driver}",
        )
        for driver in range(drivers)
    ]
    probe = Assignment(
        address, ["demo-probe"], plan.instruments, (seed,), seconds, 0, directory / "probe"
    )
    load = Load(assignments, [probe])
    try:
        load.connect()
        with Reader(plan) as reader, progress_on(out) as progress:
            meter = Meter(reader)
            return load.run(lambda: progress.show(meter.sample()))
    finally:
        load.close()


def _look(plan: Plan, told: Told, seed: int) -> Seen:
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
        of_shard = np.sort(orders[orders["order_id"] >> SEQUENCE_BITS == shard], order="order_id")
        recent = of_shard[-RECENT_ORDERS:]
        for group in (of_shard[of_shard["leaves_qty"] > 0], recent[recent["leaves_qty"] == 0]):
            count = min(SAMPLED_ORDERS, len(group))
            found.append(random.choice(group, count, replace=False, shuffle=False))
    return np.concatenate(found)


def read_log(trades: Iterable[LoggedTrade], instruments: Sequence[Instrument]) -> Records:
    """Return logged trades as TRADE, holding few of them as Python objects at a time."""
    trades = iter(trades)
    chunks = [np.empty(0, TRADE)]
    while chunk := list(islice(trades, _LOG_CHUNK)):
        chunks.append(to_records(chunk, instruments))
    return np.concatenate(chunks)


def run_checks(plan: Plan, told: Told, seen: Seen, log: Records) -> list[Check]:
    """Compare the clients', the log's and shared memory's story, each with another."""
    rings = (
        check_ring(shard, ring, RING_TRADES, log)
        for shard, ring in zip(plan.shards, seen.rings, strict=True)
    )
    levels = plan.config.engine.depth_levels
    books = (
        check_book(book.instrument.number, book.bids, book.asks, told.orders, levels)
        for book in seen.books
    )
    return [
        Check(
            f"{len(log)} trades: reported to both sides, each in the log exactly once, no other",
            check_log(told.fills, log),
        ),
        Check(
            f"{len(told.orders)} orders: cum_qty is the sum of their trades, bought is sold",
            check_quantities(told.orders, log),
        ),
        Check(
            f"{sum(map(len, seen.rings))} last trades in the rings are the log's",
            first_of(rings),
        ),
        Check(
            f"{len(seen.books)} books at rest show what the reports leave open",
            first_of(books),
        ),
        Check(
            f"{len(seen.sample)} sampled orders: the order table says what their last reports said",
            check_order_table(seen.sample, seen.table),
        ),
    ]


def first_of(differences: Iterable[str | None]) -> str | None:
    """Return the first answer of a check that is a difference."""
    return next((difference for difference in differences if difference is not None), None)
