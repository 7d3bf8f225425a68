"""``shardbook replay``: a recorded order flow through a running engine, or one started for it."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.config import Config, check_config
from engine.sections import EngineSection, InstrumentSection
from frontend.client import Client
from frontend.launch import running_engine
from frontend.replay.flow_file import Flow, Op, orders_of, read_flow
from frontend.replay.sender import MAX_REPORTS, ReplayRun, Speed
from ipc.links.sockets import Address, parse_address
from ipc.vocabulary import MAX_RESTING_ORDERS

Announce = Callable[[str], None]

USER_ID = "replay"
"""The account whose orders the flows become."""
TIMEOUT_S = 60.0
"""How long the engine may leave commands without any answer."""


@dataclass(frozen=True)
class ReplaySummary:
    """What was sent and what became of it; ``rejects`` counts by the name of the code."""

    commands: int
    orders: int
    trades: int
    rejects: dict[str, int]
    elapsed_s: float

    @property
    def commands_per_s(self) -> float:
        """Commands answered a second, from the first that was sent to the last report."""
        return self.commands / self.elapsed_s if self.elapsed_s else 0.0

    def lines(self) -> list[str]:
        """Return the summary for people."""
        rejects = ", ".join(f"{count:,} {name}" for name, count in sorted(self.rejects.items()))
        return [
            f"commands  {self.commands:,} ({self.orders:,} new orders)",
            f"trades    {self.trades:,}",
            f"rejects   {sum(self.rejects.values()):,}{f' ({rejects})' if rejects else ''}",
            f"time      {self.elapsed_s:.2f} s, {self.commands_per_s:,.0f} commands/s",
        ]


def replay(
    files: Sequence[Path],
    connect: str | None = None,
    config: Config | None = None,
    fills: Path | None = None,
    speed: Speed = "max",
    announce: Announce | None = None,
    data_dir: Path | None = None,
) -> ReplaySummary:
    """Send order flows to an engine, and write the fills that it tells of.

    Each file is one symbol, that of its name, and its ids become client_order_ids of the account
    ``replay``. Without ``connect`` an engine is started for it: with ``config``, or with an
    instrument a file whose tick and lot are 1; in ``data_dir``, or else in a directory that is
    gone afterwards. ``fills`` is written as ``frontend.replay.fill_file`` says. ``speed`` N plays
    the files' clock N times as fast. ``announce`` is told what happens; where standard output is a
    terminal a progress bar goes there.

    Raises ``ReplayError``, ``FlowFileError``, ``ConfigError``, ``ServeError``, ``ClientError``
    and ``OSError``.
    """
    flows = []
    for file in files:
        if announce is not None:
            announce(f"reading {file}")
        flows.append(read_flow(file))
    with ExitStack() as stack:
        out = None if fills is None else stack.enter_context(fills.open("w", newline=""))
        if connect is not None:
            address = parse_address(connect)
        else:
            address = stack.enter_context(_engine(config or config_for(flows), data_dir, announce))
        client = stack.enter_context(Client(address, USER_ID, TIMEOUT_S, max_reports=MAX_REPORTS))
        run = ReplayRun(client, flows, out, speed)
        show = stack.enter_context(_shown(len(run), announce))
        start = perf_counter()
        run.advance(len(run), show)
        elapsed_s = perf_counter() - start
        run.finish()
    return ReplaySummary(len(run), run.orders, run.trades, dict(run.rejects), elapsed_s)


def config_for(flows: Sequence[Flow]) -> Config:
    """Return a configuration that flows fit into: a matcher a flow, while there are cores.

    Raises ``ConfigError`` where a file's name gives no symbol.
    """
    instruments = [
        InstrumentSection(
            flow.symbol,
            tick_size="1",
            lot_size="1",
            min_price=str(max(1, flow.min_price)),
            max_price=str(max(1, flow.max_price)),
            max_resting_orders=most_live(flow),
            max_account_orders=most_live(flow),
        )
        for flow in flows
    ]
    matchers = min(max(1, len(flows)), max(2, os.cpu_count() or 1))
    config = Config(instruments, engine=EngineSection(matchers=matchers))
    check_config(config)
    return config


def most_live(flow: Flow) -> int:
    """Return a bound of how many orders of a flow rest at once: 1 to MAX_RESTING_ORDERS.

    Every order counts from its row to the row that cancels it, as if none were filled.
    """
    op, ids = flow.rows["op"], flow.rows["id"]
    orders = orders_of(flow.rows)
    entering = np.flatnonzero(orders)
    cancels = np.flatnonzero(op == Op.C)
    entered, first_entry = np.unique(ids[entering], return_index=True)
    cancelled, first_cancel = np.unique(ids[cancels], return_index=True)
    _, of_entry, of_cancel = np.intersect1d(
        entered, cancelled, assume_unique=True, return_indices=True
    )
    starts, ends = entering[first_entry[of_entry]], cancels[first_cancel[of_cancel]]
    change = np.zeros(len(op), np.int64)
    change[entering] = orders[entering]
    change[ends[ends > starts]] = -1
    most = int(change.cumsum().max(initial=1))
    return min(most, MAX_RESTING_ORDERS)


@contextmanager
def _engine(config: Config, data_dir: Path | None, announce: Announce | None) -> Iterator[Address]:
    """Run an engine of this replay's own; give its address."""
    with ExitStack() as stack:
        if data_dir is None:
            data_dir = Path(stack.enter_context(TemporaryDirectory(prefix="shardbook-")))
        plan = stack.enter_context(running_engine(config, data_dir, announce))
        yield plan.addresses()[0]


@contextmanager
def _shown(total: int, announce: Announce | None) -> Iterator[Callable[[int], None] | None]:
    """Give what shows how many commands are answered: a bar, a line every tenth, or nothing."""
    if announce is None:
        yield None
    elif not sys.stdout.isatty():
        yield _tenths(total, announce)
    else:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("commands"), TimeRemainingColumn())
        with Progress(*columns) as bar:
            task = bar.add_task("replay", total=total)
            yield lambda answered: bar.update(task, completed=answered)


def _tenths(total: int, announce: Announce) -> Callable[[int], None]:
    told = 0

    def show(answered: int) -> None:
        nonlocal told
        tenth = answered * 10 // max(1, total)
        if tenth > told:
            told = tenth
            announce(f"{answered:,} of {total:,} commands answered")

    return show
