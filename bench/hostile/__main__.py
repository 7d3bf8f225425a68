"""What hostile clients do to honest ones, and whether anything is lost.

    python -m bench.hostile [--seconds N] [--clients N] [--only ATTACK ...] [--list] [--open]

One product as an operator runs it, with keys. Eight honest clients send 10,000 orders a second
altogether, in open loop, and one reads over HTTP a hundred times a second, one read in ten on a new
connection. In some phases hostile clients attack from other loopback addresses, each in one way,
some with a key of theirs and some as strangers; their process is niced below the product, so that
what is measured is what the product spends on them. Afterwards every honest order must have been
answered once, every trade of theirs stand in the log once, and books and tables agree.

The attackers take cores of the same machine. In as many phases they attack a bare endpoint instead
(``bench.hostile.bare``), and the honest ones' latency then is what the ratios go by: what is left
is what the product does. Both it and the latency without anybody are shown.

Exit code 1 where the median of the honest ones' latency is more than twice what it is beside
attackers of a bare endpoint, or the 99th percentile more than three times; where memory does not
come back within a tenth; or where anything was lost. ``--each`` tries one attack after the other.
``--open`` runs it without keys, where anyone is who they say.
"""

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.hostile.crowd import ATTACKS, Toll
from bench.hostile.run import BACK, SETTLE_S, Kind, Outcome, Phase, Plan, run, run_each
from bench.measure import machine, table, versions

MEDIAN, P99 = 2.0, 3.0
"""What the honest ones' latency may be of that beside attackers of a bare endpoint."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="with hostile clients")
    parser.add_argument("--clients", type=int, default=200, help="hostile ones")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--orders", type=int, default=10_000, help="a second, of honest clients")
    parser.add_argument("--reads", type=int, default=100, help="a second, of honest clients")
    parser.add_argument("--only", nargs="+", default=[], choices=sorted(ATTACKS), metavar="ATTACK")
    parser.add_argument("--list", action="store_true", help="show the attacks, and end")
    parser.add_argument("--each", action="store_true", help="each attack alone, one by one")
    parser.add_argument("--open", action="store_true", help="without keys")
    parser.add_argument("--no-pin", action="store_true", help="pin no process to a core")
    parser.add_argument("--config", type=Path, help="configuration of the product")
    parser.add_argument("--settle", type=float, default=SETTLE_S, help="seconds for memory")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(arguments)
    if options.list:
        width = max(map(len, ATTACKS))
        print("\n".join(f"{one.name.ljust(width)}  {one.about}" for one in ATTACKS.values()))
        return 0
    seed = secrets.randbits(32) if options.seed is None else options.seed
    given = list(sys.argv[1:] if arguments is None else arguments)
    if options.seed is None:
        given += ["--seed", str(seed)]
    print(f"repeat: python -m bench.hostile {' '.join(given)}")
    print(f"machine: {machine()}")
    print(
        f"versions: {versions('uvicorn', 'websockets', 'httptools', 'uvloop', 'numba')}", flush=True
    )
    names = options.only or list(ATTACKS)
    plan = Plan(
        options.seconds,
        options.clients,
        len(names) if options.each else options.rounds,
        options.orders,
        options.reads,
        options.only,
        not options.open,
        not options.no_pin,
        seed,
        options.settle,
        config=options.config,
    )
    if options.each:
        return _each(plan, names)
    outcome = run(plan)
    failures = [line for line, well in verdict(outcome) if not well]
    print(report(outcome))
    print("\n".join(line for line, _ in verdict(outcome)))
    for lost in outcome.lost + outcome.unread:
        print(f"LOST: {lost}")
    print("all hold" if not failures else f"{len(failures)} do not hold")
    return 1 if failures else 0


def _each(plan: Plan, names: Sequence[str]) -> int:
    """Print a line on each attack; return the exit code."""
    failed = 0
    for name, outcome in run_each(plan, names):
        if not outcome.phases:
            print(f"{name}: {'; '.join(outcome.lost)}", flush=True)
            failed += 1
            continue
        judged = verdict(outcome)
        failed += not all(well for _, well in judged)
        most = [
            max(phase.most_bytes for phase in _of(outcome, k)) for k in (Kind.CALM, Kind.HOSTILE)
        ]
        told = "; ".join(line.partition(", at most")[0] for line, _ in judged)
        grown = f"anonymous memory {most[0] / 2**20:.0f} to {most[1] / 2**20:.0f} MB"
        print(f"{name}: {told}; {grown}; {_in_short(outcome)}", flush=True)
        for lost in outcome.lost + outcome.unread:
            print(f"  LOST: {lost}", flush=True)
    print("all hold" if not failed else f"{failed} of {len(names)} attacks do too much")
    return 1 if failed else 0


def _in_short(outcome: Outcome) -> str:
    """Return median and 99th percentile of orders and reads, in microseconds, by kind."""
    parts = []
    for what, reads in (("orders", False), ("reads", True)):
        found = [latencies(outcome, kind, reads) for kind in Kind]
        told = ", ".join(f"{median:.0f}/{p99:.0f}" for median, p99 in found)
        parts.append(f"{what} {told} us")
    return "; ".join(parts)


def latencies(outcome: Outcome, kind: Kind, reads: bool) -> npt.NDArray[np.float64]:
    """Return median and 99th percentile, in microseconds: the medians of the phases of a kind."""
    found = [
        np.percentile(phase.reads.latencies_ns if reads else phase.orders_ns, [50, 99]) / 1000
        for phase in outcome.phases
        if phase.kind is kind and (not reads or len(phase.reads.latencies_ns))
    ]
    return np.median(found, axis=0) if found else np.array([np.nan, np.nan])


def verdict(outcome: Outcome) -> list[tuple[str, bool]]:
    """Return a sentence on each of what must hold, and whether it does."""
    lines = []
    for what, reads in (("orders", False), ("reads", True)):
        ratios = latencies(outcome, Kind.HOSTILE, reads) / latencies(outcome, Kind.BARE, reads)
        for name, ratio, most in zip(("median", "p99"), ratios, (MEDIAN, P99), strict=True):
            lines.append((f"{what}: {name} {ratio:.2f} times, at most {most:.0f}", ratio <= most))
    before, after = (sum(found.values()) for found in (outcome.before, outcome.after))
    lines.append(
        (
            f"memory: {after / before:.3f} times after {outcome.settled_s:.0f} s, at most {BACK}",
            after <= BACK * before,
        )
    )
    lost = len(outcome.lost) + len(outcome.unread)
    lines.append((f"lost: {lost}, at most 0", not lost))
    return lines


def report(outcome: Outcome) -> str:
    """Return the tables."""
    return "\n\n".join(
        [_latency_table(outcome), _share_table(outcome), _memory_table(outcome), _tolls(outcome)]
    )


def _latency_table(outcome: Outcome) -> str:
    rows = []
    for what, reads in (("orders", False), ("reads", True)):
        calm, bare, beside = (latencies(outcome, kind, reads) for kind in Kind)
        for name, a, b, c in zip(("median", "p99"), calm, bare, beside, strict=True):
            figures = [f"{a:.0f}", f"{b:.0f}", f"{c:.0f}", f"{c / b:.2f}", f"{c / a:.2f}"]
            rows.append([f"{what}, {name}", *figures])
    rejects = [_summed(phase.rejects for phase in _of(outcome, kind)) for kind in Kind]
    orders = [sum(phase.orders for phase in _of(outcome, kind)) for kind in Kind]
    rows.append(["orders", *map(str, orders), "", ""])
    for name in ("repeated", "taken_again"):
        counts = [sum(getattr(p, name) for p in _of(outcome, kind)) for kind in Kind]
        rows.append([f"  {name.replace('_', ' ')}", *map(str, counts), "", ""])
    for reason in sorted(set().union(*rejects)):
        counts = [f"{rejected.get(reason, 0)}" for rejected in rejects]
        rows.append([f"  rejected, {reason}", *counts, "", ""])
    header = ["", *(kind.value for kind in Kind), "to bare", "to without"]
    return table("Honest clients: microseconds from the intended time, and answers", header, rows)


def _share_table(outcome: Outcome) -> str:
    roles = list(outcome.phases[0].cpu_share)
    rows = []
    for role in roles:
        found = [np.mean([phase.cpu_share[role] for phase in _of(outcome, kind)]) for kind in Kind]
        rows.append([role, *(f"{share:.2f}" for share in found)])
    return table("Cores used", ["", *(kind.value for kind in Kind)], rows)


def _memory_table(outcome: Outcome) -> str:
    before, after = outcome.before, outcome.after
    rows = [
        [role, *(f"{found.get(role, 0) / 2**20:.1f}" for found in (before, after))]
        for role in before
    ]
    sums = [sum(found.values()) / 2**20 for found in (before, after)]
    rows.append(["all", *(f"{each:.1f}" for each in sums)])
    most = [
        max(phase.most_bytes for phase in _of(outcome, kind)) / 2**20
        for kind in (Kind.CALM, Kind.HOSTILE)
    ]
    return table(
        "Proportional set size, MB (anonymous memory of all at its highest: "
        f"{most[0]:.0f} without, {most[1]:.0f} beside hostile)",
        ["", "before", "after"],
        rows,
    )


def _tolls(outcome: Outcome) -> str:
    summed: dict[str, Toll] = {}
    for phase in outcome.phases:
        for name, toll in phase.tolls.items():
            known = summed.setdefault(name, Toll())
            for what in vars(toll):
                setattr(known, what, getattr(known, what) + getattr(toll, what))
    rows = [
        [
            name,
            *(str(each) for each in (toll.turns, toll.refused, toll.overdue)),
            *(f"{each / 2**20:.1f}" for each in (toll.sent_bytes, toll.received_bytes)),
        ]
        for name, toll in sorted(summed.items())
    ]
    header = ["", "turns", "refused", "cut short", "MB sent", "MB received"]
    return table("Attacks", header, rows)


def _of(outcome: Outcome, kind: Kind) -> list[Phase]:
    return [phase for phase in outcome.phases if phase.kind is kind]


def _summed(counters: object) -> dict[str, int]:
    summed: dict[str, int] = {}
    for counter in counters:  # type: ignore[attr-defined]
        for reason, count in counter.items():
            summed[reason] = summed.get(reason, 0) + count
    return summed


if __name__ == "__main__":
    sys.exit(main())
