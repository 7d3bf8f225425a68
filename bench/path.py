"""The path from a client's socket to the line in the log and back, at speed.

Starts the product and loads it from processes of their own with flows encoded before the clock
runs; sends the same bytes through a bare chain of the same processes and sockets, round by round
in turn. Figures are medians over the rounds (lowest..highest in brackets).
"""

import argparse
import contextlib
import itertools
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.latency import WARM_ORDERS, Pace
from bench.load import Generators, generators
from bench.measure import machine, versions
from bench.path_tables import (
    cpu_table,
    latency_table,
    memory_table,
    pace_cpu_table,
    rates_table,
    trades_table,
)
from bench.processes import pss_bytes
from bench.products import Load, Product, Round, configured, running_product
from bench.trades import Work, persister_alone, reader, still_ring
from bench.traffic import Traffic, encode_traffic
from engine.config import Config, load_config

MOST_COMMANDS = 2_000_000
LEAST_COMMANDS = 20_000
RESTING_ORDERS = 4_000
"""About how many rest for each symbol."""
WINDOW = 65_536
"""Unanswered commands of all clients together, in pipelined rounds."""
PIECE_BYTES = 1 << 16
BATCH_WINDOW = 262_144
BATCH_PIECE_BYTES = 1 << 20
PACES = (10, 50, 80)
"""Rates of the open loop, in percent of the top rate."""
MOST_ONE_AT_A_TIME = 10_000
PARTS = ("rates", "latency", "trades")


@dataclass
class Case:
    """One load on one product, and the rounds that it got."""

    name: str
    product: Product
    load: Load
    traffic: Traffic
    commands: int = LEAST_COMMANDS
    real: list[Round] = field(default_factory=list)
    bare: list[Round] = field(default_factory=list)

    def real_round(self, senders: Generators) -> Round:
        """Measure the product once."""
        return self.product.round(self.load, self.traffic, self.commands, senders)

    def round(self, senders: Generators) -> None:
        """Measure product and bare chain once, one after the other."""
        real = self.real_round(senders)
        self.real.append(real)
        self.bare.append(
            self.product.bare_round(
                self.load, self.traffic, self.commands, senders, real.proportion
            )
        )


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.path", description=__doc__, formatter_class=_Formatter
    )
    parser.add_argument("--config", type=Path, help="configuration of the product")
    parser.add_argument("--book", help="engine.book, instead of the configuration's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="aimed at, for each round")
    parser.add_argument("--matchers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--generators", type=int, default=1, help="load generator processes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-pin", action="store_true", help="leave the cores to the kernel")
    parser.add_argument(
        "--tcp", action="store_true", help="clients come over TCP, not Unix sockets"
    )
    parser.add_argument("--directory", type=Path, help="where the product keeps its log")
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=PARTS, help="what to measure")
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds = 1, 0.3
    return options


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything and print the tables."""
    options = options_of(arguments)
    config = load_config(options.config)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="sb-", dir="/dev/shm")))
        senders = stack.enter_context(generators(options.generators))
        products = [
            stack.enter_context(running_product(changed, options.directory))
            for changed in _configs(options, config)
        ]
        idle = [memory_of(product) for product in products]
        cases = _cases(options, products, scratch)
        print(heading(options, products, cases), flush=True)
        for case in cases:
            calibrate(case, options.seconds, senders)
        for _ in range(options.rounds):
            for case in cases:
                case.round(senders)
        print(rates_table(cases), flush=True)
        print(cpu_table(cases), flush=True)
        if "latency" in options.parts:
            measure_latency(options, cases, senders)
        if "trades" in options.parts:
            measure_trades(options, _busiest(cases), senders)
        after = [memory_of(product) for product in products]
        print(memory_table(products, idle, after), flush=True)
    print(f"\nto repeat: python -m bench.path {' '.join(arguments or sys.argv[1:])}".rstrip())


def _configs(options: argparse.Namespace, config: Config) -> list[Config]:
    return [
        configured(config, matchers, not options.no_pin, options.book, options.tcp)
        for matchers in options.matchers
    ]


def _cases(options: argparse.Namespace, products: Sequence[Product], scratch: Path) -> list[Case]:
    """Return every load on every product: pipelined clients, and batches of eight of them."""
    traffics: dict[int, Traffic] = {}
    cases = []
    for product in products:
        matchers = product.plan.config.engine.matchers
        loads = [
            (f"pipelined, {matchers} m, {n} c", Load(n, WINDOW // n, PIECE_BYTES))
            for n in options.clients
        ]
        loads.append((f"batches, {matchers} m, 8 c", Load(8, BATCH_WINDOW // 8, BATCH_PIECE_BYTES)))
        for name, load in loads:
            if load.clients not in traffics:
                traffics[load.clients] = encode_traffic(
                    scratch / f"{load.clients}",
                    product.plan.instruments,
                    load.clients,
                    int(min(MOST_COMMANDS, max(2_000_000 * options.seconds, LEAST_COMMANDS))),
                    options.seed,
                    RESTING_ORDERS * len(product.plan.instruments),
                )
            cases.append(Case(name, product, load, traffics[load.clients]))
    return cases


def calibrate(case: Case, seconds: float, senders: Generators) -> None:
    """Find, in rounds that do not count, how many commands take about ``seconds``."""
    case.real_round(senders)  # the first one pays for what is done once
    enough = False
    while not enough:
        wanted = int(min(case.real_round(senders).rate * seconds, case.traffic.commands))
        enough = wanted < 4 * case.commands
        case.commands = max(wanted, LEAST_COMMANDS)


def _busiest(cases: Sequence[Case]) -> Case:
    """Return the pipelined load on the first product with eight clients, or else its last."""
    mine = [case for case in cases if case.product is cases[0].product]
    return next((case for case in mine if case.load.clients == 8), mine[-1])


def measure_latency(
    options: argparse.Namespace, cases: Sequence[Case], senders: Generators
) -> None:
    """Measure round trips on the first product, at rates taken from its busiest load's."""
    busy = _busiest(cases)
    product = busy.product
    alone = min(cases, key=lambda case: case.load.clients)
    top = statistics.median(found.rate for found in busy.real)
    least = 4 * WARM_ORDERS
    wanted = max(least, int(MOST_ONE_AT_A_TIME * min(1.0, options.seconds)))
    wanted *= alone.load.clients  # of whom one sends its share
    paces = [Pace("one at a time", alone.traffic, min(wanted, alone.traffic.commands))]
    for percent in PACES:
        rate = int(top * percent / 100)
        commands = min(max(least, int(rate * options.seconds)), busy.traffic.commands)
        name = f"{percent} % ({rate / 1000:.0f} thousand/s), {busy.load.clients} c"
        paces.append(Pace(name, busy.traffic, commands, busy.load.clients, rate))
    for _ in range(options.rounds):
        for pace in paces:
            pace.round(product, senders)
    print(latency_table(paces), flush=True)
    print(pace_cpu_table(paces), flush=True)


def measure_trades(options: argparse.Namespace, case: Case, senders: Generators) -> None:
    """Measure the persister alone, and a load without and with a reader of trades.

    A reader takes CPU time from who shares its core, which may cost the matcher too: one that reads
    a ring which nobody writes takes as much, without touching the matcher's memory.
    """
    plan = case.product.plan
    alone: list[Work] = []
    reads: list[Work] = []
    rounds: dict[str, list[Round]] = {"none": [], "still": [], "read": []}
    with (
        still_ring(options.directory) as still,
        reader(plan, still) as still_reader,
        reader(plan, plan.ring_path(0)) as ring_reader,
    ):
        readers = {"still": still_reader, "read": ring_reader}
        turns = itertools.cycle(itertools.permutations(rounds))  # none is always the first
        for _, turn in zip(range(options.rounds), turns, strict=False):
            alone.append(persister_alone(plan.config, options.seed, options.directory))
            for kind in turn:
                if kind in readers:
                    readers[kind].start()
                rounds[kind].append(case.real_round(senders))
                if kind in readers:
                    work = readers[kind].stop()
                    reads += [work] if kind == "read" else []
    print(trades_table(alone, reads, *rounds.values()), flush=True)


def memory_of(product: Product) -> dict[str, int]:
    """Return the proportional set size of each role's processes together, in bytes."""
    return {role: sum(map(pss_bytes, pids)) for role, pids in product.pids.items()}


def heading(options: argparse.Namespace, products: Sequence[Product], cases: Sequence[Case]) -> str:
    """Return what was measured on what."""
    config = products[0].plan.config
    sent = cases[0].traffic
    return "\n".join(
        [
            f"machine: {machine()}",
            f"versions: {versions('numpy', 'numba', 'msgspec', 'uvloop')}",
            f"product: book {config.engine.book}, {len(config.instruments)} symbols, "
            f"{'pinned' if config.engine.pin else 'not pinned'}, "
            f"{'TCP' if options.tcp else 'Unix socket'}, "
            f"{options.generators} generator processes",
            f"workload: simulated flow, seed {options.seed}: 47 % limits that rest, 10 % that take "
            "(crossing, IOC, FOK, market), 35 % cancels, 8 % replaces and reduces of the client's "
            f"own orders; about {RESTING_ORDERS} orders a symbol rest; every command ('order') a "
            f"frame of its own, {sent.bytes_a_command:.0f} bytes on average",
            f"rounds: {options.rounds}, each about {options.seconds:.1f} s and the same flow anew "
            "on empty books; the clock runs until the last answer is counted and the last trade "
            "is in the log",
            f"m: matchers, c: clients; pipelined: {WINDOW} orders unanswered, writes of up to "
            f"{PIECE_BYTES >> 10} KB; batches: {BATCH_WINDOW}, {BATCH_PIECE_BYTES >> 10} KB",
            "",
        ]
    )


if __name__ == "__main__":
    main()
