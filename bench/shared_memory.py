"""What shared memory costs beside copying the same bytes: ``python -m bench.shared_memory``.

Each operation runs on real mappings in a steady state: the ring goes round, the order table gives
away the slots of ended orders. Its peer moves as many bytes between two private arrays with numpy,
in as many calls; the last column is the time over the peer's. One thread, CPU time, medians.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.measure import interleaved, machine, table, versions
from engine.roles import MATCHER
from ipc.arrays import Records
from ipc.memory.depth_board import BoardReader, BoardWriter, create_board
from ipc.memory.mapping import SHARED_MEMORY
from ipc.memory.order_table import OrderTableWriter, create_table
from ipc.memory.order_table_reader import OrderTableReader
from ipc.memory.ring import RingReader, RingWriter, create_ring
from ipc.memory.status import ProcessSlot, StatusWriter, create_status
from ipc.records import LEVEL, ORDER, REPORT, TRADE, make_id
from ipc.vocabulary import ExecType, OrdStatus

Prepare = Callable[[], Callable[[], object]]

RING = 65_536
LIVE, ENDED = 10_000, 65_536
ACCOUNTS = 1_000
LEVELS = 64
REPORTS = 1 << 18


class Operation(NamedTuple):
    """One thing to time: ``prepare`` returns a run of ``calls`` calls of ``records`` records."""

    calls: int
    records: int
    record_bytes: int
    prepare: Prepare

    def copies(self) -> Callable[[], object]:
        """Be ``prepare`` for the peer: as many copies of as many bytes, within the cache."""
        source = np.ones(self.records * self.record_bytes, np.uint8)
        target = np.zeros_like(source)

        def run() -> None:
            for _ in range(self.calls):
                target[:] = source

        return run


def life_of_orders(first: int, count: int) -> Records:
    """Reports: orders enter one by one, and each ends ``LIVE`` orders later."""
    reports = np.zeros(2 * count, REPORT)
    entering, ending = reports[0::2], reports[1::2]
    sequence = np.arange(first, first + count)
    entering["order_id"] = make_id(0, 0) + sequence
    ending["order_id"] = make_id(0, 0) + np.maximum(sequence - LIVE, 1)
    entering["exec_type"], ending["exec_type"] = ExecType.NEW, ExecType.CANCELED
    ending["ord_status"] = OrdStatus.CANCELED
    reports["account"] = 1 + reports["order_id"] % ACCOUNTS
    reports["timestamp_ns"] = np.arange(2 * count)
    reports["quantity"] = 5
    return reports


def publishing(directory: Path, count: int, calls: int) -> Operation:
    """Publish batches of ``count`` trades."""

    def prepare() -> Callable[[], object]:
        path = directory / "publishing"
        create_ring(path, 0, RING, 0, gating_readers=0)
        writer = RingWriter(path)
        trades = np.zeros(count * calls, TRADE)
        trades["trade_id"] = np.arange(1, len(trades) + 1)
        batches = [trades[first : first + count] for first in range(0, len(trades), count)]

        def run() -> None:
            for batch in batches:
                writer.publish(batch)
                writer.wakeups()

        return run

    return Operation(calls, count, TRADE.itemsize, prepare)


def applying(directory: Path, count: int) -> Operation:
    """Carry out batches of ``count`` reports on a full order table."""
    path = directory / "applying"
    before, reports = (
        life_of_orders(1, LIVE + ENDED),
        life_of_orders(LIVE + ENDED + 1, REPORTS // 2),
    )

    def prepare() -> Callable[[], object]:
        create_table(path, 0, LIVE + ENDED)
        writer = OrderTableWriter(path)
        writer.apply(before)
        batches = [reports[first : first + count] for first in range(0, len(reports), count)]

        def run() -> None:
            for batch in batches:
                writer.apply(batch)

        return run

    return Operation(REPORTS // count, count, REPORT.itemsize, prepare)


def repeated(call: Callable[[], object], calls: int, records: int, record_bytes: int) -> Operation:
    """Be an operation that leaves nothing behind: the same call again and again."""

    def prepare() -> Callable[[], object]:
        def run() -> None:
            for _ in range(calls):
                call()

        return run

    return Operation(calls, records, record_bytes, prepare)


def reading(directory: Path) -> dict[str, Operation]:
    """Read a ring, an order table and a board that stand still."""
    create_ring(directory / "ring", 0, RING, 0, gating_readers=0)
    trades = np.zeros(RING, TRADE)
    trades["trade_id"] = np.arange(1, RING + 1)
    RingWriter(directory / "ring").publish(trades)
    ring = RingReader(directory / "ring")
    create_table(directory / "table", 0, LIVE + ENDED)
    OrderTableWriter(directory / "table").apply(life_of_orders(1, 2 * (LIVE + ENDED)))
    orders = OrderTableReader(directory / "table")
    live = make_id(0, 2 * (LIVE + ENDED) - 5)
    create_board(directory / "board", 0, [1], LEVELS)
    writer, board = BoardWriter(directory / "board"), BoardReader(directory / "board")
    levels = np.ones(LEVELS, LEVEL)
    create_status(directory / "status", [ProcessSlot(MATCHER, 0, None)])
    status = StatusWriter(directory / "status", "matcher", 0)
    mine = len(orders.of_account(7, limit=ENDED))
    return {
        "read the last 100 trades": repeated(lambda: ring.last(100), 1000, 100, TRADE.itemsize),
        "read 4,096 trades": repeated(lambda: ring.read(9, 4096), 200, 4096, TRADE.itemsize),
        "get an order": repeated(lambda: orders.get(live), 2000, 1, ORDER.itemsize),
        "miss an order": repeated(lambda: orders.get(live + 99), 2000, 1, ORDER.itemsize),
        "orders of an account": repeated(
            lambda: orders.of_account(7, limit=ENDED), 100, mine, ORDER.itemsize
        ),
        f"show {LEVELS} levels a side": repeated(
            lambda: writer.publish(1, 1, 1, levels, levels), 1000, 2 * LEVELS, LEVEL.itemsize
        ),
        f"read {LEVELS} levels a side": repeated(
            lambda: board.read(1), 1000, 2 * LEVELS, LEVEL.itemsize
        ),
        "count in the status page": repeated(lambda: status.add("trades", 1), 5000, 1, 8),
    }


@contextmanager
def operations() -> Iterator[dict[str, Operation]]:
    """Yield all operations by name, on mappings that exist until the end of the block."""
    place = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="shardbook-bench-", dir=place) as name:
        directory = Path(name)
        found = {
            f"publish {count:,} trades": publishing(directory, count, calls)
            for count, calls in ((1, 2000), (64, 1000), (4096, 64))
        }
        found |= {f"apply {count:,} reports": applying(directory, count) for count in (64, 4096)}
        yield found | reading(directory)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="runs of each, of which the median")
    runs = parser.parse_args().runs
    rows = []
    with operations() as found:
        for name, operation in found.items():
            timings = interleaved({"it": operation.prepare, "peer": operation.copies}, runs)
            call_ns = timings["it"].cpu_ns / operation.calls
            ratio = timings["it"].cpu_ns / timings["peer"].cpu_ns
            each = f"{call_ns / operation.records:,.1f}"
            rows.append([name, f"{call_ns:,.0f}", each, f"{ratio:,.1f}"])
    header = ["operation", "ns a call", "ns a record", "times a copy"]
    print(table(f"Shared memory, {runs} runs", header, rows))
    print(machine(), versions("numpy", "numba"), sep="\n")


if __name__ == "__main__":
    main()
