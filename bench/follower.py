"""What following a shard costs its matcher, and how far behind a follower is.

    python -m bench.follower [--rate N] [--rounds N] [--seconds S] [--clients N] [--directory PATH]

One product with one matcher gets commands at a rate, whatever the answers do, in rounds without and
with a follower by turns. The follower is a process of its own, as an exporter is, and does nothing
with what it gets; in the rounds without it sleeps. Before a round it has caught up.

The lag of a command is the time from its arrival at the matcher, as its timestamp says, to when the
follower has what came of it; those count that came in the middle half of a round. The matcher's CPU
time a command is that of all its threads; the ratio is the median of each pair of rounds' own.
"""

import argparse
import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import numpy.typing as npt

from bench.latency import WARM_ORDERS, OpenLoop
from bench.load import Generators, generators
from bench.measure import machine, table, versions
from bench.path import RESTING_ORDERS
from bench.processes import cpu_ns
from bench.products import Product, configured, running_product
from bench.traffic import Traffic, encode_traffic
from engine.config import load_config
from engine.plan import Plan
from engine.shard.follower import Follower
from ipc.arrays import Integers

WAIT_S = 0.05
"""How long a follower waits before it looks whether the round is over."""


class Watched:
    """A follower in a process of its own."""

    def __init__(self, connection: Connection, pid: int) -> None:
        self._connection, self._pid = connection, pid

    def begin(self) -> None:
        """Have it catch up, and follow from then on."""
        self._connection.send(True)
        self._connection.recv()
        self._before_ns = cpu_ns(self._pid)

    def end(self) -> tuple[Integers, Integers, int]:
        """Have it sleep; return each command's arrival and lag, and how much CPU time it took."""
        self._connection.send(False)
        spent_ns = cpu_ns(self._pid) - self._before_ns
        arrived, lags = self._connection.recv()
        return arrived, lags, spent_ns


@contextmanager
def watched(plan: Plan, table: Path) -> Iterator[Watched]:
    """Run a follower of shard 0 from the beginning."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=_follow, args=(its, plan, table), daemon=True)
    process.start()
    its.close()
    assert process.pid is not None
    try:
        yield Watched(ours, process.pid)
    finally:
        ours.close()
        process.join()


def _follow(connection: Connection, plan: Plan, table: Path) -> None:
    """Follow while told to, until nobody tells any more."""
    follower = Follower(plan, 0, 0, table)
    with contextlib.suppress(EOFError):
        while connection.recv():
            follower.catch_up()
            connection.send(None)
            connection.send(_lags(follower, connection))
            connection.recv()
    follower.close()


def _lags(follower: Follower, connection: Connection) -> tuple[Integers, Integers]:
    """Return when each command arrived, and its lag, until told to stop and all that came is
    here."""
    arrived, lags = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    while True:
        batch = follower.step()
        if batch is not None:
            arrived.append(batch.commands["timestamp_ns"].astype(np.int64))
            lags.append(time.time_ns() - arrived[-1])
        elif connection.poll():
            return np.concatenate(arrived), np.concatenate(lags)
        else:
            follower.wait(WAIT_S)


def matcher_ns(
    product: Product, traffic: Traffic, options: argparse.Namespace, senders: Generators
) -> float:
    """Send one round; return the matcher's CPU nanoseconds a command."""
    commands = min(traffic.commands, WARM_ORDERS + int(options.rate * options.seconds))
    job = OpenLoop(
        product.target,
        traffic.directory,
        range(options.clients),
        product.user_prefix(),
        commands,
        options.rate,
    )
    done = product.measured([job], senders)
    return done.cpu_ns["matcher"] / commands


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.follower", description=__doc__)
    parser.add_argument("--rate", type=int, default=100_000, help="commands a second")
    parser.add_argument("--rounds", type=int, default=9, help="of each kind")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--directory", type=Path, help="of the product's data")
    options = parser.parse_args()
    config = configured(load_config(), 1, True, None)
    journal = msgspec.structs.replace(config.journal, durability="async", snapshot_commands=0)
    config = msgspec.structs.replace(config, journal=journal)
    without: list[float] = []
    with_one: list[float] = []
    lags: list[Integers] = []
    rates: list[float] = []
    spent: list[float] = []
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="sb-", dir="/dev/shm")))
        senders = stack.enter_context(generators(1))
        traffic = encode_traffic(
            scratch / "traffic",
            config.listed(),
            options.clients,
            WARM_ORDERS + int(options.rate * options.seconds),
            1,
            RESTING_ORDERS * len(config.instruments),
        )
        product = stack.enter_context(running_product(config, options.directory))
        one = stack.enter_context(watched(product.plan, scratch / "followed"))
        matcher_ns(product, traffic, options, senders)  # warms all that takes part
        for number in range(2 * options.rounds):
            if (number + number // 2) % 2 == 0:
                without.append(matcher_ns(product, traffic, options, senders))
                continue
            one.begin()
            with_one.append(matcher_ns(product, traffic, options, senders))
            arrived, found, cpu = one.end()
            live = _middle(arrived)
            lags.append(found[live])
            rates.append(_rate(arrived[live]))
            spent.append(cpu / max(1, len(found)))
    print(f"machine: {machine()}")
    print(f"versions: {versions('numpy', 'numba', 'msgspec', 'uvloop')}")
    print(f"workload: {options.rate} commands/s, {options.seconds} s, {options.rounds} rounds each")
    ratios = [b / a for a, b in zip(without, with_one, strict=True)]
    rows = [
        ["without", f"{statistics.median(without):.0f}", "1"],
        [
            "with one",
            f"{statistics.median(with_one):.0f}",
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f}..{max(ratios):.3f})",
        ],
        ["(the follower itself)", f"{statistics.median(spent):.0f}", ""],
    ]
    print(table("CPU of the matcher:", ["follower", "ns a command", "ratio"], rows))
    parts = [np.percentile(part, (50, 99)) / 1e6 for part in lags if len(part)]
    rows = [
        [f"p{percent}", f"{statistics.median(part[place] for part in parts):.2f}",
         f"{min(part[place] for part in parts):.2f}..{max(part[place] for part in parts):.2f}"]
        for place, percent in enumerate((50, 99))
    ]  # fmt: skip
    print(f"arrived, median of the rounds: {statistics.median(rates):.0f} commands/s")
    print(table("lag of a command, medians of the rounds:", ["", "ms", "lowest..highest"], rows))


def _middle(arrived: Integers) -> npt.NDArray[np.bool_]:
    """Return which commands arrived in the middle half of a round's time: orders that rest come
    before the others as fast as they can, and are cancelled so behind them."""
    quarter = (arrived[-1] - arrived[0]) // 4
    return (arrived >= arrived[0] + quarter) & (arrived <= arrived[-1] - quarter)


def _rate(arrived: Integers) -> float:
    """Return how many commands arrived a second."""
    return float(len(arrived) / (arrived[-1] - arrived[0]) * 1e9)


if __name__ == "__main__":
    main()
