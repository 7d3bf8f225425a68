"""The tables that ``python -m bench.path`` prints."""

from collections.abc import Callable, Sequence
from typing import Protocol

from bench.latency import Pace, Percentiles
from bench.measure import table
from bench.products import Product, Round
from bench.spread import spread
from bench.trades import LAST_TRADES, TRADES, Work

ROLES = ("frontend", "matcher", "persister", "query", "supervisor", "generators")


class Compared(Protocol):
    """A load's rounds through the product and, each right after it, through the bare chain."""

    name: str
    commands: int
    real: list[Round]
    bare: list[Round]


def rates_table(cases: Sequence[Compared]) -> str:
    """Return throughput against the bare chain's."""
    rows = []
    for case in cases:
        ratios = [r.rate / b.rate for r, b in zip(case.real, case.bare, strict=True)]
        last = case.real[-1]
        rows.append(
            [
                case.name,
                f"{case.commands}",
                spread([r.rate / 1000 for r in case.real], 0),
                spread([r.rate / 1000 for r in case.bare], 0),
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


def cpu_table(cases: Sequence[Compared]) -> str:
    """Return where the time goes."""
    rows = []
    for case in cases:
        for kind, rounds in (("real", case.real), ("bare", case.bare)):
            cells = [spread([found.cpu_us(role) for found in rounds], 2) for role in ROLES]
            rows.append([f"{case.name}, {kind}", *cells])
    title = "CPU microseconds an order, each role's processes together"
    return table(title, ["load", *ROLES], rows) + "\n"


def latency_table(paces: Sequence[Pace]) -> str:
    """Return round trips through the product and the bare chain."""
    percentiles: list[tuple[str, Callable[[Percentiles], float]]] = [
        ("p50", lambda found: found.p50),
        ("p99", lambda found: found.p99),
        ("p99.9", lambda found: found.p999),
    ]
    rows = []
    for pace in paces:
        for name, of in percentiles:
            rows.append(
                [
                    f"{pace.name}, {name}",
                    spread([of(found) for found in pace.real], 0),
                    spread([of(found) for found in pace.bare], 0),
                    spread(pace.ratios(of), 2),
                ]
            )
    header = ["pace", "microseconds", "bare chain", "ratio"]
    return table("3. Round trip, from the intended time of sending", header, rows) + "\n"


def pace_cpu_table(paces: Sequence[Pace]) -> str:
    """Return where the time goes at each pace."""
    rows = []
    for pace in paces:
        for kind, rounds in (("real", pace.real_cpu), ("bare", pace.bare_cpu)):
            cells = [spread([found.get(role, 0.0) for found in rounds], 1) for role in ROLES]
            rows.append([f"{pace.name}, {kind}", *cells])
    title = "CPU microseconds an order at these paces"
    return table(title, ["pace", *ROLES], rows) + "\n"


def trades_table(
    alone: Sequence[Work],
    reads: Sequence[Work],
    none: Sequence[Round],
    still: Sequence[Round],
    read: Sequence[Round],
) -> str:
    """Return what the persister and a reader do, and what the reader costs the matcher."""
    costs, costs_still, costs_read = (
        [found.cpu_us("matcher") for found in rounds] for rounds in (none, still, read)
    )
    last = f"reads of the last {LAST_TRADES} trades"
    rows = [
        [f"persister alone, {TRADES} trades, 1000/s", spread([w.rate / 1e3 for w in alone], 0)],
        ["the same, a second of its CPU time", spread([w.cpu_rate / 1e3 for w in alone], 0)],
        [f"{last}, under load, 1000/s", spread([w.rate / 1e3 for w in reads], 0)],
        ["the same, a second of its CPU time", spread([w.cpu_rate / 1e3 for w in reads], 0)],
        ["matcher's CPU microseconds an order, without reads", spread(costs, 3)],
        ["the same, with reads of a ring that nobody writes", spread(costs_still, 3)],
        ["the same, with reads", spread(costs_read, 3)],
        ["added by reads, %", spread(_added(costs, costs_read), 1)],
        ["of it by touching the matcher's ring, %", spread(_added(costs_still, costs_read), 1)],
    ]
    return table("4. Trades: logging and reading them", ["", "figure"], rows) + "\n"


def _added(costs: Sequence[float], more: Sequence[float]) -> list[float]:
    """Return by how many percent the second of each pair is above the first."""
    return [100 * (b / a - 1) for a, b in zip(costs, more, strict=True)]


def memory_table(
    products: Sequence[Product], idle: Sequence[dict[str, int]], after: Sequence[dict[str, int]]
) -> str:
    """Return what the processes hold, before any load and after all of it."""
    rows = []
    for product, before, then in zip(products, idle, after, strict=True):
        matchers = product.plan.config.engine.matchers
        for role in before:
            cells = [f"{size / 2**20:.1f}" for size in (before[role], then[role])]
            rows.append([f"{matchers} m, {role} (processes: {len(product.pids[role])})", *cells])
        cells = [f"{sum(sizes.values()) / 2**20:.1f}" for sizes in (before, then)]
        rows.append([f"{matchers} m, all", *cells])
    return table("5. Proportional set size, MB", ["processes", "idle", "after"], rows)
