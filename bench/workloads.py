"""The message streams that books are timed on, and the reports that they must give."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench import judge
from bench.drive import Room, run
from bench.peers import Fill, Message
from bench.recorded import RECORDED, recorded_commands, recorded_limits
from engine.books.contract import Book, BookLimits, Records
from frontend.replay.flow_file import read_flow
from ipc.vocabulary import CommandType, Flag, Side, TimeInForce

GENERATED_MESSAGES = 2_000_000
_GENERATED_SEED = 23
_ROOMY = (Room(1 << 16, 1 << 16),)


class Workload(NamedTuple):
    """Commands of one symbol; ``digests`` gives the SHA-256 of the judge's text, by how many."""

    name: str
    limits: BookLimits
    commands: Records
    digests: dict[int, str]


class WrongReportsError(AssertionError):
    """A book's reports are not those that a workload must give."""


def judged(judge_dir: Path) -> list[Workload]:
    """Return the judge's five workloads."""
    described = judge.manifest(judge_dir)
    return [
        Workload(
            name,
            judge.LIMITS,
            judge.workload(judge_dir, name),
            {int(count): digest for count, digest in described[name]["checkpoints"].items()},
        )
        for name in judge.WORKLOADS
    ]


def recorded(data_dir: Path) -> list[Workload]:
    """Return the recorded flows of a data directory."""
    flows = {name: read_flow(data_dir / file) for name, file in RECORDED.items()}
    return [
        Workload(name, recorded_limits(flow), recorded_commands(flow), {})
        for name, flow in flows.items()
    ]


def generated(count: int = GENERATED_MESSAGES) -> Workload:
    """Return a stream like the judge's, for where its data are absent: half new orders.

    About as many modifies and cancels as there; they aim at the last 2,000 orders.
    """
    random = np.random.default_rng(_GENERATED_SEED)
    kind = random.choice(np.array([0, 1, 2], np.uint8), count, p=[0.5, 0.41, 0.09])
    kind[0] = 0
    new = kind == 0
    entered = np.cumsum(new)
    order = np.where(new, entered, np.maximum(1, entered - random.integers(0, 2000, count)))
    side = random.integers(0, 2, count)[order]  # an order keeps its side
    middle = 33_500 + np.cumsum(random.integers(-1, 2, count)) // 64
    away = random.geometric(0.02, count) - random.geometric(0.15, count)
    price = np.maximum(1, middle + np.where(side == 0, -away, away))
    ioc = new & (random.random(count) < 0.15)
    quantity = random.integers(1, 101, count)
    columns: list[npt.NDArray[Any]] = [kind, side, ioc, quantity, order, price]
    commands = judge.commands(*(column.astype(np.uint64) for column in columns))
    return Workload("generated", judge.LIMITS, commands, {})


def check_reports(book: Book, workload: Workload, messages: int | None = None) -> None:
    """Run a workload, or its first ``messages``, and hold the reports against its digest.

    Raises WrongReportsError, or KeyError where the workload has no digest for so many.
    """
    count = len(workload.commands) if messages is None else messages
    digest = judge.ReportDigest()
    for start in range(0, count, 1 << 16):
        commands = workload.commands[start : min(start + (1 << 16), count)]
        digest.update(judge.rows(run(book, commands, _ROOMY)))
    if digest.hexdigest() != workload.digests[count]:
        raise WrongReportsError(f"{workload.name}: not the judge's reports of {count} messages")


def fills(book: Book, workload: Workload, messages: int) -> list[Fill]:
    """Return the fills of the first messages of a judge's workload, in order."""
    rows = judge.rows(run(book, workload.commands[:messages], _ROOMY))
    trades = rows[rows["type"] == judge.TRADED]
    columns = (trades[name].tolist() for name in ("taker", "maker", "price", "qty"))
    return [Fill(*fill) for fill in zip(*columns, strict=True)]


def messages(workload: Workload, count: int) -> list[Message]:
    """Return the first messages of a judge's workload as plain integers."""
    commands = workload.commands[:count]
    assert not np.any(commands["flags"] & ~np.uint8(Flag.REINSERT)), "not a judge's workload"
    kinds = {CommandType.NEW: 0, CommandType.CANCEL: 1, CommandType.REPLACE: 2}
    ids = (commands["client_order_id"] - np.uint64(1)).tolist()
    sides = _sides(commands)
    return [
        Message(kinds[kind], order, side, int(terms == TimeInForce.IOC), price, quantity)
        for kind, order, side, terms, price, quantity in zip(
            commands["command_type"].tolist(),
            ids,
            sides,
            commands["time_in_force"].tolist(),
            commands["price"].tolist(),
            commands["quantity"].tolist(),
            strict=True,
        )
    ]


def _sides(commands: Records) -> list[int]:
    """Return 0 for a buy and 1 for a sell; a modify's is that of its order's NEW."""
    side_of = {}
    sides = []
    for kind, order, side in commands[["command_type", "client_order_id", "side"]].tolist():
        if kind == CommandType.NEW:
            side_of[order] = int(side == Side.SELL)
        sides.append(side_of.get(order, 0))
    return sides
