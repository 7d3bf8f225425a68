"""A shard that keeps its commands, without processes: for tests of what lies on the disk."""

from pathlib import Path

import numpy as np

from bench.flows import Flow, Profile, near
from engine.books.choice import book_limits
from engine.books.contract import Records
from engine.journal.reader import End
from engine.journal.shard_config import shard_config_of
from engine.journal.writer import JournalWriter
from engine.plan import Plan
from engine.shard.recovery import Recovered, recover
from ipc.records import TRADE
from tests.product import make_config

TIME_NS = 1_700_000_000_000_000_000
TIME_STEP = 100


def plan_of(directory: Path, extra: str = "", symbols: int = 2, engine: str = "") -> Plan:
    """Return the plan of a product of one shard, whose journal's directory exists."""
    plan = Plan(make_config(1, symbols, extra, engine), directory / "data")
    plan.journal_dir(0).mkdir(parents=True)
    plan.log_dir.mkdir()
    return plan


def commands_for(plan: Plan, count: int, seed: int = 1, accounts: int = 4) -> Records:
    """Return random commands for shard 0, ``TIME_STEP`` at a time of the same time."""
    limits = [book_limits(i) for i in plan.instruments_of(0)]
    profile = Profile(tuple(limits), near(1_000, 30), accounts=accounts, faults=0)
    commands = Flow(profile, seed).commands(count)
    commands["timestamp_ns"] = TIME_NS + np.arange(count) // TIME_STEP
    return commands


def write_journal(plan: Plan, commands: Records, end: End | None = None, secret: int = 0) -> int:
    """Append commands of ``commands_for``; return the last sequence number."""
    settings = plan.config.journal
    journal = JournalWriter(
        plan.journal_dir(0),
        shard_config_of(plan, 0),
        end or End(),
        settings.segment_bytes,
        secret=secret,
    )
    for start in range(0, len(commands), TIME_STEP):
        batch = commands[start : start + TIME_STEP]
        journal.append(batch, int(batch["timestamp_ns"][0]))
    journal.close()
    return journal.sequence


def recovered(plan: Plan, published: int = 0) -> tuple[Recovered, Records]:
    """Bring shard 0 back; return it and the trades after sequence ``published``."""
    trades = [np.zeros(0, TRADE)]

    def publish(more: Records, reports: Records, first_report: int) -> None:
        trades.append(more.copy())

    found = recover(plan, 0, published, publish, plan.data_dir / "orders")
    return found, np.concatenate(trades)
