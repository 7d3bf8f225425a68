"""The path from a client's socket to the line in the log and back, at speed.

Starts the product and loads it from processes of their own with flows encoded before the clock
runs; sends the same bytes through a bare chain of the same processes and sockets, round by round
in turn. Figures are medians over the rounds (lowest..highest in brackets).
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.load import Generators, generators
from bench.measure import machine, table, versions
from bench.processes import pss_bytes
from bench.products import Load, Product, Round, configured, running_product
from bench.spread import spread
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
ROLES = ("frontend", "matcher", "persister", "query", "supervisor", "generators")


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

    def round(self, senders: Generators) -> None:
        """Measure product and bare chain once, one after the other."""
        real = self.product.round(self.load, self.traffic, self.commands, senders)
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
    parser.add_argument("--directory", type=Path, help="where the product keeps its log")
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
        print(memory_table(products, idle), flush=True)
    print(f"\nto repeat: python -m bench.path {' '.join(arguments or sys.argv[1:])}".rstrip())


def _configs(options: argparse.Namespace, config: Config) -> list[Config]:
    return [
        configured(config, matchers, not options.no_pin, options.book)
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
    while True:
        found = case.product.round(case.load, case.traffic, case.commands, senders)
        wanted = int(min(found.rate * seconds, case.traffic.commands))
        enough = wanted < 4 * case.commands
        case.commands = max(wanted, LEAST_COMMANDS)
        if enough:
            return


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
            f"{'pinned' if config.engine.pin else 'not pinned'}, Unix socket, "
            f"{options.generators} generator processes",
            f"workload: simulated flow, seed {options.seed}: 55 % limits that rest, 10 % that take "
            "(crossing, IOC, FOK, market), 35 % cancels, 9 % replaces and reduces of the client's "
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


def rates_table(cases: Sequence[Case]) -> str:
    """Return throughput against the bare chain's."""
    rows = []
    for case in cases:
        ratios = [r.rate / b.rate for r, b in zip(case.real, case.bare, strict=True)]
        last = case.real[-1]
        rows.append(
            [
                case.name,
                f"{case.commands}",
                spread([r.rate / 1000 for r in case.real], 1),
                spread([r.rate / 1000 for r in case.bare], 1),
                spread(ratios, 3),
                f"{last.reports / last.commands:.2f}",
                f"{last.trades / last.commands:.2f}",
                f"{last.rejects / last.commands:.2f}",
            ]
        )
    header = [
        "load", "orders", "1000 orders/s", "bare chain", "ratio", "reports/order",
        "trades/order", "rejects/order",
    ]  # fmt: skip
    return table("1, 2. Orders a second, end to end", header, rows) + "\n"


def cpu_table(cases: Sequence[Case]) -> str:
    """Return where the time goes."""
    rows = []
    for case in cases:
        for kind, rounds in (("real", case.real), ("bare", case.bare)):
            cells = [spread([found.cpu_us(role) for found in rounds], 2) for role in ROLES]
            rows.append([f"{case.name}, {kind}", *cells])
    title = "CPU microseconds an order, each role's processes together"
    return table(title, ["load", *ROLES], rows) + "\n"


def memory_table(products: Sequence[Product], idle: Sequence[dict[str, int]]) -> str:
    """Return what the processes hold, before any load and after all of it."""
    rows = []
    for product, before in zip(products, idle, strict=True):
        after = memory_of(product)
        matchers = product.plan.config.engine.matchers
        for role in before:
            cells = [f"{size / 2**20:.1f}" for size in (before[role], after[role])]
            rows.append([f"{matchers} m, {role} (processes: {len(product.pids[role])})", *cells])
    return table("5. Proportional set size, MB", ["processes", "idle", "after"], rows)


if __name__ == "__main__":
    main()
