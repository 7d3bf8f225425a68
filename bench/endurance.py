"""A long run at the top rate: memory stays flat, and every order is accounted for.

    python -m bench.endurance [--orders N] [--matchers N] [--clients N] [--directory PATH]

Clients of a load generator send the simulated flow, round after round on accounts of their own, as
fast as they are answered. After each round every order must have been answered once, every trade
reported to both of its sides, and the log must have each trade once and in order. What has been
read of the log is deleted, so that the disk stays bounded. Memory is the proportional set size.
"""

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from bench.load import Generators, generators
from bench.measure import machine, table, versions
from bench.path import PIECE_BYTES, RESTING_ORDERS, WINDOW, memory_of
from bench.products import Load, Product, WrongCountError, configured, running_product
from bench.traffic import Traffic, encode_traffic
from engine.config import load_config
from engine.trade_log.lines import trade_ids
from engine.trade_log.reader import LogTail
from engine.trade_log.segments import closed_segments, compressed_path, plain_path
from ipc.records import MAX_SHARDS, SEQUENCE_BITS, SEQUENCE_MASK

ROUND_COMMANDS = 2_000_000
SAMPLES = 12
"""Lines of the table of memory, about."""


class LogChecker:
    """Reads the log as it grows, and deletes what it has read."""

    def __init__(self, directory: Path) -> None:
        self.trades = 0
        self._directory = directory
        self._tail = LogTail(directory)
        self._last = np.zeros(MAX_SHARDS, np.int64)

    def read_on(self) -> None:
        """Read all there is. Raises ``WrongCountError`` where a trade is missing or repeated."""
        while block := self._tail.read_block():
            ids = trade_ids(block).astype(np.int64)
            shards, sequences = ids >> SEQUENCE_BITS, ids & SEQUENCE_MASK
            for shard in np.unique(shards).tolist():
                mine = sequences[shards == shard]
                wanted = np.arange(len(mine)) + self._last[shard] + 1
                if not np.array_equal(mine, wanted):
                    place = int(np.flatnonzero(mine != wanted)[0])
                    raise WrongCountError(
                        f"the log has trade {mine[place]} of shard {shard}, not {wanted[place]}"
                    )
                self._last[shard] = mine[-1]
            self.trades += len(ids)
        for segment in closed_segments(self._directory)[:-1]:
            if segment < self._tail.position.segment:
                for path in (plain_path, compressed_path):
                    path(self._directory, segment).unlink(missing_ok=True)


class Run:
    """The rounds of one run, and what was counted in them."""

    def __init__(self, product: Product, traffic: Traffic, clients: int) -> None:
        self.orders = self.reports = self.rejects = self.trades = 0
        self.seconds = 0.0
        self.rates: list[float] = []
        self._product = product
        self._traffic = traffic
        self._load = Load(clients, WINDOW // clients, PIECE_BYTES)
        self._log = LogChecker(product.plan.log_dir)

    def round(self, orders: int, senders: Generators) -> None:
        """Send that many orders, and account for each. Raises ``WrongCountError``."""
        done = self._product.round(self._load, self._traffic, orders, senders)
        self.orders += done.commands
        self.reports += done.reports
        self.rejects += done.rejects
        self.seconds += done.seconds
        self.rates.append(done.rate)
        # What a client withdraws at the end of a round causes no trades.
        self.trades += done.trades
        self._log.read_on()
        if self._log.trades != self.trades:
            raise WrongCountError(f"{self.trades} trades, but {self._log.trades} in the log")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.endurance", description=__doc__)
    parser.add_argument("--orders", type=int, default=50_000_000)
    parser.add_argument("--config", type=Path, help="configuration of the product")
    parser.add_argument("--matchers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where the product keeps its log")
    options = parser.parse_args(arguments)
    changed = configured(load_config(options.config), options.matchers, True, None)
    persister = msgspec.structs.replace(changed.persister, compress=False)
    config = msgspec.structs.replace(changed, persister=persister)
    size = min(ROUND_COMMANDS, options.orders)
    rounds = -(-options.orders // size)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="sb-", dir="/dev/shm")))
        senders = stack.enter_context(generators(1))
        product = stack.enter_context(running_product(config, options.directory))
        traffic = encode_traffic(
            scratch / "flow",
            product.plan.instruments,
            options.clients,
            size,
            options.seed,
            RESTING_ORDERS * len(product.plan.instruments),
        )
        run = Run(product, traffic, options.clients)
        samples = [(0, memory_of(product))]
        for number in range(1, rounds + 1):
            run.round(size, senders)
            if number * SAMPLES // rounds > (number - 1) * SAMPLES // rounds or number == 1:
                samples.append((run.orders, memory_of(product)))
    print(f"machine: {machine()}")
    print(f"versions: {versions('numpy', 'numba', 'msgspec', 'uvloop')}")
    print(report(run, samples, options.matchers, options.clients))


def report(
    run: Run, samples: Sequence[tuple[int, dict[str, int]]], matchers: int, clients: int
) -> str:
    """Return what was counted, and the table of memory."""
    roles = list(samples[0][1])
    rows = [
        [
            f"{orders / 1e6:.1f} million",
            *(f"{found[role] / 2**20:.1f}" for role in roles),
            f"{sum(found.values()) / 2**20:.1f}",
        ]
        for orders, found in samples
    ]
    after, end = (sum(found.values()) for _, found in (samples[1], samples[-1]))
    return "\n".join(
        [
            f"{matchers} matchers, {clients} clients, a frame an order: {run.orders:,} orders in "
            f"{run.seconds:.1f} s of {len(run.rates)} rounds, {run.orders / run.seconds:,.0f}/s "
            f"(rounds from {min(run.rates):,.0f} to {max(run.rates):,.0f})",
            f"every order answered once: {run.orders:,}; reports {run.reports:,}, "
            f"rejects {run.rejects:,}",
            f"every trade reported twice and logged once, in order: {run.trades:,}",
            "",
            table("Proportional set size, MB, after so many orders", ["", *roles, "all"], rows),
            f"from the first sample to the last: {(end / after - 1) * 100:+.1f} %",
        ]
    )


if __name__ == "__main__":
    main()
