"""What a matcher's rounds cost, by the number of busy accounts: ``python -m bench.rounds``.

One thread carries a simulated flow out as a matcher does, without sockets, journal and readers,
with and without what is kept for each account (``account_ids``, ``account_reports``): the same
commands on fresh books, in interleaved runs, by thread CPU time of each one's best run.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.flows import PROFILES, Flow
from bench.measure import interleaved, machine, table, versions
from engine.books.contract import Records
from engine.books.id_memory import NO_SHARES, IdShares
from engine.books.ladder import LadderBook
from engine.roles import MATCHER
from engine.sections import EngineSection
from engine.shard.account_sequences import AccountSequences
from engine.shard.pipeline import PipelineParts
from engine.shard.pipeline_choice import make_pipeline
from engine.shard.report_shares import ReportShares
from ipc.links.backend import Link
from ipc.memory.depth_board import BoardWriter, create_board
from ipc.memory.order_table import OrderTableWriter, create_table
from ipc.memory.ring import REPORTS, GatingReader, RingWriter, create_ring
from ipc.memory.status import ProcessSlot, StatusWriter, create_status
from ipc.records import REPORT, TRADE

ENGINE = EngineSection()
LIVE_ORDERS = 1 << 16


def flow_of(accounts: int, count: int, seed: int) -> list[Records]:
    """Return commands of a market that reaches a steady size, by the batch."""
    profile = PROFILES["mixed"]
    fields = {name: getattr(profile, name) for name in profile.__dataclass_fields__}
    fields |= {"accounts": accounts, "commands": (50, 35, 8, 7, 0), "reach": 8_000}
    fields |= {"orders": (85, 0, 8, 3, 0, 4, 0), "faults": 0.0, "foreign": 0.0, "repeats": 0.0}
    flow = Flow(type(profile)(**fields), seed)
    book = LadderBook(0, profile.limits, ENGINE.recent_orders)
    reports, trades = np.zeros(1 << 16, REPORT), np.zeros(1 << 16, TRADE)
    batches = []
    for _ in range(count // ENGINE.batch_commands):
        batches.append(flow.commands(ENGINE.batch_commands))
        progress = book.process(batches[-1], reports, trades)
        assert progress.commands == ENGINE.batch_commands
        flow.learn(reports[: progress.reports])
    return batches


class Matcher:
    """What a matcher has, but for those who send to it and read from it."""

    def __init__(self, accounts: Records, ids: IdShares, reports: bool) -> None:
        self._files = TemporaryDirectory(dir="/dev/shm")
        directory = Path(self._files.name)
        limits = PROFILES["mixed"].limits
        symbols = [limit.symbol for limit in limits]
        create_table(
            directory / "orders", 0, LIVE_ORDERS + ENGINE.ended_orders, ENGINE.ended_orders
        )
        create_ring(directory / "reports", 0, ENGINE.ring_reports, 0, 0, REPORTS)
        create_ring(directory / "kept", 0, ENGINE.kept_reports, 0, 0, REPORTS)
        create_ring(directory / "trades", 0, ENGINE.ring_trades, 0)
        create_board(directory / "board", 0, symbols, ENGINE.depth_levels)
        create_status(directory / "status", [ProcessSlot(MATCHER, 0, None)])
        self._trades = GatingReader(directory / "trades")
        self._link = Link(None)  # type: ignore[arg-type]
        for stream, account in enumerate(accounts.tolist(), 1):
            self._link.open_stream(stream, account)
        ring, numbers = RingWriter(directory / "reports", REPORTS), AccountSequences(0)
        kept, most = RingWriter(directory / "kept", REPORTS), ENGINE.batch_commands * 4
        shares = ReportShares(ring, kept, numbers, ENGINE.account_reports, most)
        self._pipeline = make_pipeline(
            PipelineParts(
                LadderBook(0, limits, ENGINE.recent_orders, shares=ids),
                np.zeros(most, REPORT),
                np.zeros(most, TRADE),
                RingWriter(directory / "trades"),
                ring,
                OrderTableWriter(directory / "orders"),
                numbers,
                BoardWriter(directory / "board"),
                StatusWriter(directory / "status", "matcher", 0),
                shares if reports else None,
            )
        )

    def carry_out(self, batches: list[Records]) -> None:
        links = [self._link]
        for batch in batches:
            left = batch
            while len(left):
                left = left[self._pipeline.run(left, links, 1).commands :]
            self._trades.advance(self._trades.available())
            outbox = self._link.outbox
            outbox.sent(len(outbox.unsent()))


def _prepare(
    batches: list[Records], accounts: Records, ids: IdShares, reports: bool
) -> Callable[[], object]:
    return partial(Matcher(accounts, ids, reports).carry_out, batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1, 8, 64, 1_000])
    parser.add_argument("--commands", type=int, default=600_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ids = IdShares(ENGINE.account_ids, ENGINE.kept_ids)
    rows = []
    for accounts in options.accounts:
        batches = flow_of(accounts, options.commands, options.seed)
        names = np.unique(np.concatenate([batch["account"] for batch in batches]))
        kinds = [("none", NO_SHARES, False), ("ids", ids, False), ("reports", NO_SHARES, True)]
        contenders = {
            name: partial(_prepare, batches, names, shares, reports)
            for name, shares, reports in [*kinds, ("both", ids, True)]
        }
        timings = interleaved(contenders, options.runs)
        count = sum(map(len, batches))
        costs = {name: timing.best_cpu_ns / count for name, timing in timings.items()}
        ratios = [f"{costs[name] / costs['none']:.3f}" for name in ("ids", "reports", "both")]
        rows.append([str(accounts), *(f"{cost:.0f}" for cost in costs.values()), *ratios])
    print(machine())
    print(versions("numpy", "numba"))
    header = ["accounts", "none", "ids", "reports", "both", "ids/none", "reports/none", "both/none"]
    print(table("CPU nanoseconds a command, with what is kept for each account", header, rows))


if __name__ == "__main__":
    sys.exit(main())
