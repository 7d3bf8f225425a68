"""How fast the books are: ``python -m bench.book`` prints it in one run, ``--quick`` in a minute.

Every contender gives the judge's reports or fills first, and only then is timed: on fresh books,
in interleaved runs, of which the median is printed. Messages/s are by thread CPU time; wall time
stands beside it. The judge's workloads and the recorded flows are read where ``SHARDBOOK_DATA``
says; without them a generated stream takes their place. Peers are those of the extra ``bench``.
The three columns after the workloads are nanoseconds a message on the one where a contender is
slowest: CPU time, wall time, and CPU time in its best run, which says how noisy the machine is.
"""

import argparse
import importlib.metadata
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.equality import BOOKS, MakeBook
from bench.measure import Contenders, Timing, interleaved, machine, table, versions
from bench.memory import memory_of
from bench.peers import PEERS, Fill, Message, Peer
from bench.workloads import (
    Workload,
    check_reports,
    fills,
    generated,
    judged,
    messages,
    recorded,
)
from engine.books.contract import Book, Records
from engine.books.ladder import LadderBook
from engine.books.ladder.kernel import Features, make_process
from ipc.records import REPORT, TRADE

BATCH = 4096
RECENT_ORDERS = 1 << 16
"""The default of the configuration: how many orders' client_order_ids are remembered."""

_REPORTS = np.zeros(4 * BATCH, REPORT)
_TRADES = np.zeros(2 * BATCH, TRADE)


class Size(NamedTuple):
    """How much is measured."""

    runs: int
    messages: int | None  # of each workload; None: all
    peer_messages: int  # of each workload, for what takes one message at a time
    resting_orders: tuple[int, ...]


FULL = Size(5, None, 50_000, (10_000, 100_000, 1_000_000))
QUICK = Size(3, 200_000, 20_000, (100_000,))


def make_bare_ladder(*given: object) -> LadderBook:
    """Return the compiled book without accounts, ownership and duplicate checks."""
    book = LadderBook(*given)  # type: ignore[arg-type]
    book._process = _bare_process
    return book


_bare_process = make_process(Features(accounts=False, duplicates=False))


def in_batches(
    make_book: MakeBook, workload: Workload, size: int, count: int
) -> Callable[[], None]:
    """Prepare a run of the first ``count`` commands on a fresh book, ``size`` in a call."""
    book: Book = make_book(0, [workload.limits], RECENT_ORDERS)
    commands: Records = workload.commands[:count]

    def go() -> None:
        process, reports, trades = book.process, _REPORTS, _TRADES
        for start in range(0, len(commands), size):
            batch = commands[start : start + size]
            done = process(batch, reports, trades).commands
            while done < len(batch):
                batch = batch[done:]
                done = process(batch, reports, trades).commands

    return go


def played(make_peer: Callable[[], Peer], stream: list[Message]) -> Callable[[], None]:
    """Prepare a run of a stream on a fresh book of a peer."""
    return partial(make_peer().play, stream)


class Row(NamedTuple):
    """One contender's medians, by workload, and how many messages each run had."""

    name: str
    timings: list[Timing]
    counts: list[int]

    def rates(self) -> list[float]:
        """Million messages/s of CPU time, by workload."""
        pairs = zip(self.counts, self.timings, strict=True)
        return [count / timing.cpu_ns * 1e3 for count, timing in pairs]

    def cells(self, digits: int = 1) -> list[str]:
        """The name, the rate on each workload, and the worst of them as times."""
        rates = self.rates()
        worst = rates.index(min(rates))
        count, timing = self.counts[worst], self.timings[worst]
        times = [f"{time_ns / count:.0f}" for time_ns in timing]
        return [self.name, *(f"{rate:.{digits}f}" for rate in rates), *times]


_WORST = ["ns/message", "wall ns", "best ns"]


def measure(
    workloads: list[Workload],
    counts: list[int],
    contenders: Callable[[int], Contenders],
    runs: int,
) -> list[Row]:
    """Time what ``contenders`` says of each workload's number; return a row for each of them."""
    taken = [interleaved(contenders(number), runs) for number in range(len(workloads))]
    return [Row(name, [timings[name] for timings in taken], counts) for name in taken[0]]


def print_whole(workloads: list[Workload], size: Size) -> None:
    """The compiled book on the workloads whole, as it is and bare, in batches."""
    counts = [len(w.commands[: size.messages]) for w in workloads]
    for workload, count in zip(workloads, counts, strict=True):
        for make_book in (BOOKS["ladder"], make_bare_ladder):
            if count in workload.digests:
                check_reports(make_book(0, [workload.limits], RECENT_ORDERS), workload, count)

    def contenders(number: int) -> Contenders:
        books: dict[str, MakeBook] = {"ladder": BOOKS["ladder"], "ladder, bare": make_bare_ladder}
        workload, count = workloads[number], counts[number]
        return {
            name: partial(in_batches, make_book, workload, BATCH, count)
            for name, make_book in books.items()
        }

    rows = measure(workloads, counts, contenders, size.runs)
    full, bare = rows
    shares = [one / other for one, other in zip(full.rates(), bare.rates(), strict=True)]
    title = f"Whole workloads, {counts[0]:,} messages, {BATCH} a call: million messages/s"
    header = ["", *(w.name for w in workloads), *_WORST]
    body = [row.cells() for row in rows]
    body.append(["of the bare one", *(f"{share:.2f}" for share in shares), "", "", ""])
    print(f"\n{table(title, header, body)}", flush=True)


def print_peers(workloads: list[Workload], size: Size) -> None:
    """Every contender on the first messages of each workload, most of them one at a time."""
    count = size.peer_messages
    counts = [count] * len(workloads)
    streams = [messages(workload, count) for workload in workloads]
    expected = [_agreed_fills(workload, count) for workload in workloads]
    peers, left_out = {}, []
    for make_peer in PEERS:
        name, found = _peer(make_peer, streams, expected)
        if found is None:
            peers[name] = make_peer
        else:
            left_out.append(f"{name} ({found})")

    def contenders(number: int) -> Contenders:
        workload = workloads[number]
        ours: Contenders = {
            f"{name}, {size} a call": partial(in_batches, make_book, workload, size, count)
            for name, make_book in BOOKS.items()
            for size in (BATCH, 1)
        }
        theirs: Contenders = {
            name: partial(played, make_peer, streams[number]) for name, make_peer in peers.items()
        }
        return {**ours, **theirs}

    rows = measure(workloads, counts, contenders, size.runs)
    rows.sort(key=lambda row: -min(row.rates()))
    best = next(row for row in rows if row.name == f"ladder, {BATCH} a call")
    single = next(row for row in rows if row.name == "ladder, 1 a call")
    title = f"The first {count:,} messages: million messages/s; and the ladder's lead, at its least"
    header = ["", *(w.name for w in workloads), *_WORST, "batched", "one by one"]
    body = [[*row.cells(2), _ratio(best, row), _ratio(single, row)] for row in rows]
    print(f"\n{table(title, header, body)}")
    print(f"  not timed: {', '.join(left_out) or 'none'}", flush=True)


def _ratio(ours: Row, other: Row) -> str:
    """Return how many times as fast ours is where it is least so."""
    ratios = [one / two for one, two in zip(ours.rates(), other.rates(), strict=True)]
    return f"{min(ratios):.1f}x"


def _agreed_fills(workload: Workload, count: int) -> list[Fill]:
    """Return the fills of both books, which must be the same."""
    of_each = [
        fills(make_book(0, [workload.limits], RECENT_ORDERS), workload, count)
        for make_book in BOOKS.values()
    ]
    assert of_each[0] == of_each[1], f"{workload.name}: the books differ"
    return of_each[0]


def _peer(
    make_peer: Callable[[], Peer], streams: list[list[Message]], expected: list[list[Fill]]
) -> tuple[str, str | None]:
    """Return a peer's name with its version, and why it is not timed, or None where it is."""
    package: str = make_peer.package  # type: ignore[attr-defined]
    try:
        name = f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return package, "absent"
    for stream, wanted in zip(streams, expected, strict=True):
        peer = make_peer()
        peer.play(stream)
        if peer.fills != wanted:
            return name, "its fills differ"
    return name, None


def print_recorded(workloads: list[Workload], size: Size) -> None:
    """Both books on the recorded flows."""
    counts = [len(workload.commands) for workload in workloads]

    def contenders(number: int) -> Contenders:
        return {
            f"{name}, {BATCH} a call": partial(
                in_batches, make_book, workloads[number], BATCH, counts[number]
            )
            for name, make_book in BOOKS.items()
        }

    rows = measure(workloads, counts, contenders, size.runs)
    header = ["", *(f"{w.name} {len(w.commands):,}" for w in workloads), *_WORST]
    title = "Recorded flows, whole: million messages/s"
    print(f"\n{table(title, header, [row.cells(2) for row in rows])}", flush=True)


def print_memory(size: Size) -> None:
    """What an idle symbol and a resting order cost in each book."""
    body = []
    for name in BOOKS:
        figures = [memory_of(name, orders) for orders in size.resting_orders]
        idle = f"{figures[0].idle_symbol:,.0f}"
        body.append([name, idle, *(f"{figure.order:.0f}" for figure in figures)])
    header = ["", "idle symbol", *(f"order of {orders:,}" for orders in size.resting_orders)]
    print(f"\n{table('Memory: resident bytes', header, body)}", flush=True)


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.book", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer messages and runs")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    print(f"machine: {machine()}")
    print(f"versions: {versions('numba', 'numpy', 'sortedcontainers')}")
    directory = os.environ.get("SHARDBOOK_DATA")
    again = "python -m bench.book" + (" --quick" if arguments.quick else "")
    print(f"again: {f'SHARDBOOK_DATA={directory} ' if directory else ''}{again}")
    print(f"medians of {size.runs} interleaved runs, by thread CPU time; fresh books each run")
    if directory:
        workloads = judged(Path(directory) / "judge")
    else:
        print("SHARDBOOK_DATA is not set: a generated stream instead of the judge's and recorded")
        workloads = [generated()]
    print_whole(workloads, size)
    print_peers(workloads, size)
    if directory:
        print_recorded(recorded(Path(directory)), size)
    print_memory(size)


if __name__ == "__main__":
    main()
