"""How fast what is current gets into Redis, and what it takes there.

    python -m bench.redis [--commands N] [--runs N] [--port N]

Needs a Redis on this machine, whose database 0 is emptied; its work is done on the other core. The
flows are those of ``bench.history``. Rates are of wall time, and of the exporter's CPU time;
medians. Bytes are what Redis says of its memory, an order with all that lists it and its events.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec

from bench.history import BATCH, mixed, resting_and_cancelled, takers
from bench.measure import machine, table, versions
from bench.products import configured
from engine.books.contract import Records
from engine.cache.exporter import Cache
from engine.cache.link import connected
from engine.config import load_config
from engine.journal.reader import End
from engine.journal.shard_config import shard_config_of
from engine.journal.writer import JournalWriter
from engine.plan import Plan
from engine.sections import RedisSection

FLOWS: dict[str, Callable[[Plan, int], Records]] = {
    "orders": resting_and_cancelled,
    "trades": takers,
    "mixed": mixed,
}


class Run(NamedTuple):
    """What one run came to."""

    orders: int
    trades: int
    wall_s: float
    cpu_s: float
    redis_s: float
    memory: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--port", type=int, default=6_379)
    options = parser.parse_args()
    section = RedisSection(enabled=True, port=options.port)
    client: Any = connected(section, "bench")
    print(f"{machine()}; {versions('numpy', 'numba', 'redis')}, Redis {server(client)}")
    runs: dict[str, list[Run]] = {name: [] for name in FLOWS}
    for _ in range(options.runs):
        for name, flow in FLOWS.items():
            with TemporaryDirectory(prefix="sb-") as directory:
                run = partial(export, Path(directory), flow, options.commands)
                runs[name].append(run(section, client))
    rows = []
    for name, found in runs.items():
        one = found[0]
        records = one.orders + one.trades
        wall, cpu, redis = (median(part) for part in list(zip(*found, strict=True))[2:5])
        rates = (options.commands / wall, records / wall, records / cpu, records / redis)
        rows.append([name, *(f"{rate:,.0f}" for rate in rates), f"{one.memory / records:,.0f}"])
    heads = ["flow", "commands/s", "orders and trades/s", "by CPU", "by Redis's CPU", "bytes each"]
    print(table("following", heads, rows))


def server(client: Any) -> str:
    """Return the version of the server."""
    version: str = client.info("server")["redis_version"]
    return version


def redis_cpu_s(client: Any) -> float:
    """Return the CPU time that the server has taken."""
    used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def export(
    directory: Path,
    flow: Callable[[Plan, int], Records],
    count: int,
    section: RedisSection,
    client: Any,
) -> Run:
    """Follow a journal of so many commands."""
    client.flushall()
    config = msgspec.structs.replace(configured(load_config(), 1, False, None), redis=section)
    plan = Plan(config, directory)
    plan.journal_dir(0).mkdir(parents=True)
    commands = flow(plan, count + BATCH)
    journal = JournalWriter(plan.journal_dir(0), shard_config_of(plan, 0), End(), 1 << 30, secret=1)
    append(journal, commands[:BATCH])
    cache = Cache(plan)
    while not cache.shards[0].fills or cache.step():
        cache.step()
    before = client.info("memory")["used_memory"]
    append(journal, commands[BATCH:])
    journal.close()
    wall, cpu, redis = time.perf_counter(), time.process_time(), redis_cpu_s(client)
    while cache.step():
        pass
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    redis = redis_cpu_s(client) - redis
    export = cache.shards[0]
    assert cache.away is None, cache.away
    assert export.commands == count
    memory = client.info("memory")["used_memory"] - before
    orders = export.orders
    cache.close()
    return Run(orders, export.trades, wall, cpu, redis, memory)


def append(journal: JournalWriter, commands: Records) -> None:
    """Write commands in batches."""
    for start in range(0, len(commands), BATCH):
        batch = commands[start : start + BATCH]
        journal.append(batch, int(batch["timestamp_ns"][0]))


if __name__ == "__main__":
    main()
