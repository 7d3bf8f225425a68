"""How far a cluster goes: ``python -m bench.scale``.

    python -m bench.scale [--orders N] [--rounds N]

First what an order costs, and what an entry of the log does: one client sends orders to one node of
a cluster of one shard, with one broker beside it, as one array and as many small ones, and the
kernel says what each process used. A small simulation of the same processes on as many cores takes
what an order costs, and nothing else, and predicts how many a second 1, 2 and 4 shards carry out;
that is held against the same run with so many. Needs Kafka (``.ci/servers``).
"""

import argparse
import os
import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
import numpy as np

from bench.arrays import orders_of
from bench.measure import machine, table, versions
from bench.processes import cpu_by_role
from bench.products import configured
from engine.config import load_config
from engine.kafka.topics import initialise
from engine.sections import ClusterSection
from frontend.client import Client
from frontend.launch import running_engine
from ipc.memory.status import StatusReader
from tests.kafka_brokers import Brokers, brokers_running

SHARDS = (1, 2, 4)
PIECE = 4_096
"""Orders that go together, in the simulation."""
FEW = 128
"""Orders of an array of which each is an entry or two."""
SLICE_US = 1_000.0
"""For how long a process has a core, where others wait for it."""
ONE_AT_A_TIME = ("client", "frontend", "matcher")
"""Processes that use one core each at the most; a matcher is one a shard."""


class Measured(NamedTuple):
    """One run."""

    rate: float
    cpu_us: dict[str, float]
    """Of an order, by what used it."""
    entries: float
    """Of the log, for an order."""


@dataclass
class Process:
    """One process, or one thread of those that have several: what waits for it, first in first out.

    A piece is what it costs here (us), and where it goes on.
    """

    waiting: deque[tuple[float, int, int]] = field(default_factory=deque)
    """Cost, shard, station."""


def simulate(orders: int, shards: int, cores: int, cpu_us: Mapping[str, float]) -> float:
    """Return how many orders a second go from a client and back, by what an order costs where.

    The way: client, frontend, matcher of its shard, broker, the matcher again, frontend, client.
    Cores are dealt in turn to processes that have something to do.
    """
    share = {"client": 0.5, "frontend": 0.5, "matcher": 0.5, "broker": 1.0}
    way = ("client", "frontend", "matcher", "broker", "matcher", "frontend", "client")
    processes = {"client": Process(), "frontend": Process()}
    processes |= {f"matcher {n}": Process() for n in range(shards)}
    processes |= {f"broker {n}": Process() for n in range(cores)}  # it has threads enough
    aside = [name for name in cpu_us if name not in share]
    processes |= {name: Process() for name in aside}

    def put(piece: int, shard: int, station: int) -> None:
        name = way[station]
        cost = cpu_us[name] * share[name] * PIECE / shards
        several = {"matcher": shard, "broker": (piece + shard) % cores}
        target = f"{name} {several[name]}" if name in several else name
        processes[target].waiting.append((cost, shard, station))

    pieces = max(1, orders // PIECE)
    for piece in range(pieces):
        for shard in range(shards):
            put(piece, shard, 0)
    done, left, now_us, turn = 0, pieces * shards, 0.0, deque(processes.values())
    while done < left:
        running = []
        for _ in range(len(turn)):
            process = turn[0]
            turn.rotate(-1)
            if process.waiting:
                running.append(process)
            if len(running) == cores:
                break
        step_us = min(SLICE_US, *(process.waiting[0][0] for process in running))
        now_us += step_us
        for process in running:
            cost, shard, station = process.waiting[0]
            if cost - step_us > 1e-6:
                process.waiting[0] = (cost - step_us, shard, station)
                continue
            process.waiting.popleft()
            if station < 0:
                continue
            if station + 1 < len(way):
                put(done, shard, station + 1)
            else:
                done += 1
                for name in aside:  # what a shard's log and rings cost beside that
                    processes[name].waiting.append((cpu_us[name] * PIECE / shards, 0, -1))
    return pieces * PIECE / (now_us / 1e6)


def spread_over(orders: np.ndarray, symbols: int) -> np.ndarray:
    """Return orders over so many symbols: as many of each."""
    found = orders.copy()
    found["symbol"] = np.arange(len(orders)) // 20 % symbols + 1
    return found


class Site:
    """A node of a cluster, its broker, and a client."""

    def __init__(self, stack: ExitStack, brokers: Brokers, shards: int, orders: np.ndarray) -> None:
        self._brokers, self._orders = brokers, orders
        kafka = brokers.section(f"scale-{shards}")
        list(initialise(kafka, shards))
        config = msgspec.structs.replace(
            configured(load_config(), shards, False, None),
            kafka=msgspec.structs.replace(kafka, enabled=False),
            cluster=ClusterSection(enabled=True),
        )
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="sb-")))
        plan = stack.enter_context(running_engine(config, directory))
        self._status = StatusReader(plan.status_path)
        client = Client(plan.addresses()[0], "scale", max_reports=4 * len(orders))
        self._client = stack.enter_context(client)

    def run(self, at_once: int = 1 << 62) -> Measured:
        """Send all orders once, so many together."""
        pids: dict[str, list[int]] = {"broker": self._brokers.pids(), "client": [os.getpid()]}
        for process in self._status.processes():
            name = process.role if process.role in ONE_AT_A_TIME else "the rest"
            pids.setdefault(name, []).append(process.pid)
        entries, before, began = self._entries(), cpu_by_role(pids), time.perf_counter()
        for start in range(0, len(self._orders), at_once):
            self._client.submit_array(self._orders[start : start + at_once])
        seconds, after = time.perf_counter() - began, cpu_by_role(pids)
        count, entries = len(self._orders), self._entries() - entries
        self._client.receive_array(timeout_s=0.2)
        used = {role: (after[role] - before[role]) / 1e3 / count for role in pids}
        return Measured(count / seconds, used, entries / count)

    def _entries(self) -> int:
        return sum(p.counters.get("entries", 0) for p in self._status.processes())


def measure(orders: int, rounds: int) -> dict[int, Measured]:
    """Return what so many shards gave, and by 0 what one did of which little was asked at a time:
    medians of interleaved rounds."""
    array = orders_of(orders)
    found: dict[int, list[Measured]] = {shards: [] for shards in (0, *SHARDS)}
    with ExitStack() as stack:
        brokers = stack.enter_context(brokers_running())
        sites = {n: Site(stack, brokers, n, spread_over(array, 4)) for n in SHARDS}
        for turn in range(rounds + 1):  # the first pays for what is done once
            for shards, some in found.items():
                measured = sites[shards].run() if shards else sites[1].run(FEW)
                if turn:
                    some.append(measured)
    return {
        shards: Measured(
            median(m.rate for m in some),
            {role: median(m.cpu_us[role] for m in some) for role in some[0].cpu_us},
            median(m.entries for m in some),
        )
        for shards, some in found.items()
    }


def of_entry(found: Mapping[int, Measured]) -> dict[str, float]:
    """Return what an entry of the log takes beside its orders, CPU us: by what one shard took for
    few and for many at a time."""
    few, many = found[0], found[1]
    more = max(1e-9, few.entries - many.entries)
    return {role: max(0.0, few.cpu_us[role] - us) / more for role, us in many.cpu_us.items()}


def main() -> None:
    """Measure, predict, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    print(f"{machine()}; {versions('confluent-kafka', 'numpy', 'numba')}", flush=True)
    found = measure(options.orders, options.rounds)
    roles = list(found[1].cpu_us)
    rows = [[role, *(f"{found[n].cpu_us[role]:.2f}" for n in SHARDS)] for role in roles]
    rows.append(["together", *(f"{sum(found[n].cpu_us.values()):.2f}" for n in SHARDS)])
    rows.append(["entries of the log", *(f"{found[n].entries:.4f}" for n in SHARDS)])
    header = ["", *(f"{n} shards" for n in SHARDS)]
    print(table("What an order takes, CPU us", header, rows))
    rows = [[role, f"{us:.0f}"] for role, us in of_entry(found).items()]
    print(table("What a lone entry takes besides, CPU us", ["", "us"], rows))
    predicted = {n: simulate(options.orders, n, cores, found[1].cpu_us) for n in SHARDS}
    rows = [
        [
            f"{n} shards",
            f"{predicted[n]:,.0f}",
            f"{found[n].rate:,.0f}",
            f"{found[n].rate / predicted[n]:.2f}",
        ]
        for n in SHARDS
    ]
    header = ["", "predicted from 1 shard", "measured", "measured of predicted"]
    print(table(f"Orders a second on {cores} cores, client and broker among them", header, rows))


if __name__ == "__main__":
    main()
