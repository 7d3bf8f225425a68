"""What keeping commands costs: the same load on products with and without a journal, in turn.

    python -m bench.durability [--rounds N] [--seconds S] [--clients N] [--directory PATH]

The rounds are those of ``bench.path``, pipelined: each command a frame of its own, until the last
answer is counted and the last trade is in the log. Every product runs all the time and gets the
same bytes in each round, at once after one another and in an order that turns from round to round.
Rates are medians over the rounds. A ratio is the median of each round's own ratio to the first
product, which keeps nothing: what disturbs the machine for longer disturbs both.
"""

import argparse
import contextlib
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from bench.load import generators
from bench.measure import machine, table, versions
from bench.path import PIECE_BYTES, RESTING_ORDERS, WINDOW, Case, calibrate
from bench.products import Load, configured, running_product
from bench.traffic import encode_traffic
from engine.config import Config, load_config

MODES = ("off", "async", "async, snapshots", "fsync")
SNAPSHOT_COMMANDS = 5_000_000
"""In the mode that takes them; they may disturb the rounds of the others too."""
SYNCS = 50


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.durability", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="aimed at, for each round")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--matchers", type=int, default=1)
    parser.add_argument("--modes", choices=MODES, nargs="+", default=MODES)
    parser.add_argument("--directory", type=Path, help="on the disk that is meant")
    options = parser.parse_args()
    config = load_config()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="sb-", dir="/dev/shm")))
        senders = stack.enter_context(generators(1))
        load = Load(options.clients, WINDOW // options.clients, PIECE_BYTES)
        traffic = encode_traffic(
            scratch / "traffic",
            config.listed(),
            options.clients,
            int(2_000_000 * options.seconds),
            1,
            RESTING_ORDERS * len(config.instruments),
        )
        cases = []
        for mode in options.modes:
            changed = configured(_kept(config, mode), options.matchers, True, None)
            product = stack.enter_context(running_product(changed, options.directory))
            cases.append(Case(mode, product, load, traffic))
        for case in cases:
            calibrate(case, options.seconds, senders)
        commands = min(case.commands for case in cases)
        for number in range(options.rounds):
            for case in _turned(cases, number):
                case.commands = commands
                case.real.append(case.real_round(senders))
        write_ns, sync_ns = sync_times(cases[0].product.plan.data_dir)
        print(f"machine: {machine()}")
        print(f"versions: {versions('numpy', 'numba', 'msgspec', 'uvloop')}")
        print(
            f"workload: {commands} commands a round, {options.clients} clients, {WINDOW} "
            f"unanswered, {options.matchers} matchers, {options.rounds} rounds"
        )
        print(
            f"disk: a write of 8 KB takes {write_ns / 1000:.0f} us, the fdatasync after it "
            f"{sync_ns / 1000:.0f} us (medians of {SYNCS})"
        )
        rates = {c.name: statistics.median(r.rate for r in c.real) for c in cases}
        best = {c.name: max(r.rate for r in c.real) for c in cases}
        rows = [
            [
                case.name,
                f"{rates[case.name] / 1000:.0f}",
                f"{best[case.name] / 1000:.0f}",
                _spread(case, cases[0]),
                f"{statistics.median(r.cpu_us('matcher') for r in case.real):.3f}",
            ]
            for case in cases
        ]
        header = ["durability", "thousand/s", "best", "ratio (lowest..highest)", "matcher us"]
        print(table("end to end:", header, rows))


def _turned(cases: list[Case], by: int) -> list[Case]:
    """Return the cases in another order, so that each comes behind every other."""
    by %= len(cases)
    return cases[by:] + cases[:by]


def _spread(case: Case, first: Case) -> str:
    ratios = [mine.rate / its.rate for mine, its in zip(case.real, first.real, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"


def _kept(config: Config, mode: str) -> Config:
    durability, _, snapshots = mode.partition(", ")
    journal = msgspec.structs.replace(
        config.journal,
        durability=durability,
        snapshot_commands=SNAPSHOT_COMMANDS if snapshots else 0,
    )
    return msgspec.structs.replace(config, journal=journal)


def sync_times(directory: Path) -> tuple[float, float]:
    """Return the median nanoseconds of a small write to a new file, and of its fdatasync."""
    writes, syncs = [], []
    path = directory / "syncs.tmp"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for _ in range(SYNCS):
            begun = time.perf_counter_ns()
            os.write(descriptor, bytes(8_192))
            written = time.perf_counter_ns()
            os.fdatasync(descriptor)
            writes.append(written - begun)
            syncs.append(time.perf_counter_ns() - written)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(writes), statistics.median(syncs)


if __name__ == "__main__":
    main()
