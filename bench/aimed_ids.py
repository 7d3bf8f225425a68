"""What ids that are aimed at a hash cost a shard: ``python -m bench.aimed_ids [--orders N]``.

The aimed ids share a place in a hash with public numbers (``bench.aimed``), the plain ones are
drawn at random. With each kind a book takes orders that are cancelled at once, then fills with
orders that rest, takes another account's orders while they do, and takes them all away by one mass
cancel; a recovery replays such a journal. Shown are medians of interleaved runs, by thread CPU
time, how long the longest part of the mass cancel takes, and the ratio of aimed to plain.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.aimed import aimed_at_fixed, longest_walks
from bench.measure import interleaved, machine, table, versions
from engine.books.choice import book_limits
from engine.books.contract import Records
from engine.books.ladder import LadderBook
from engine.config import parse_config
from engine.journal.reader import End
from engine.journal.shard_config import shard_config_of
from engine.journal.writer import JournalWriter
from engine.plan import Plan
from engine.shard.recovery import publish_nothing, recover
from ipc.arrays import Words
from ipc.records import COMMAND, REPORT, TRADE
from ipc.vocabulary import CommandType, Flag, OrderType, Side, TimeInForce

BATCH = 4_096
RECENT_ORDERS = 1 << 16
SECRET = 0x5EC_2E7
ATTACKER, OTHER = 1, 2
_CONFIG = """
[engine]
matchers = 1
pin = false
[[instruments]]
symbol = "A"
tick_size = "1"
max_resting_orders = 1048576
max_account_orders = 1048576
"""


def orders_of(account: int, ids: Words) -> Records:
    """Return NEW commands of GTC limit orders."""
    commands = np.zeros(len(ids), COMMAND)
    commands["command_type"], commands["order_type"] = CommandType.NEW, OrderType.LIMIT
    commands["side"], commands["time_in_force"] = Side.BUY, TimeInForce.GTC
    commands["symbol"], commands["account"] = 1, account
    commands["price"], commands["quantity"] = 1_000 + np.arange(len(ids)) % 50, 5
    commands["client_order_id"], commands["timestamp_ns"] = ids, 1
    return commands


def entered_and_canceled(account: int, ids: Words) -> Records:
    """Return orders, each of which is cancelled by its client_order_id at once."""
    both = np.repeat(orders_of(account, ids), 2)
    both["command_type"][1::2] = CommandType.CANCEL
    return both


def kinds(count: int) -> dict[str, Words]:
    """Return client_order_ids, by kind."""
    random = np.random.default_rng(1).integers(1, 1 << 62, count, np.uint64)
    return {"plain": random, "aimed": aimed_at_fixed(count, ATTACKER, 0)}


class Driver:
    """A book, and the buffers that it fills."""

    def __init__(self, plan: Plan) -> None:
        limits = [book_limits(instrument) for instrument in plan.instruments_of(0)]
        self.book = LadderBook(0, limits, RECENT_ORDERS, secret=SECRET)
        self._reports, self._trades = np.zeros(4 * BATCH, REPORT), np.zeros(2 * BATCH, TRADE)

    def send(self, commands: Records) -> None:
        """Carry commands out."""
        for start in range(0, len(commands), BATCH):
            batch = commands[start : start + BATCH]
            while len(batch):
                done = self.book.process(batch, self._reports, self._trades).commands
                batch = batch[done:]

    def mass_cancel(self) -> int:
        """Take all orders of the attacker away; return how long the longest part took, in ns."""
        command = np.zeros(1, COMMAND)
        command["command_type"], command["account"] = CommandType.MASS_CANCEL, ATTACKER
        longest = 0
        while True:
            started = time.thread_time_ns()
            self.send(command)
            longest = max(longest, time.thread_time_ns() - started)
            if not self.book.sweeping:
                return longest
            command["flags"] = Flag.CONTINUE


def _recovery(plan: Plan) -> None:
    recover(plan, 0, 0, publish_nothing, plan.data_dir / "orders").shard.close()


def _journal(directory: Path, commands: Records) -> Plan:
    plan = Plan(parse_config(_CONFIG, "bench"), directory)
    plan.journal_dir(0).mkdir(parents=True)
    writer = JournalWriter(
        plan.journal_dir(0), shard_config_of(plan, 0), End(), 1 << 30, secret=SECRET
    )
    for start in range(0, len(commands), BATCH):
        writer.append(commands[start : start + BATCH], 1)
    writer.close()
    return plan


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.aimed_ids", description=__doc__)
    parser.add_argument("--orders", type=int, default=100_000, help="of each kind")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(f"machine: {machine()}\nversions: {versions('numpy', 'numba')}")
    ids = kinds(options.orders)
    others = entered_and_canceled(OTHER, np.arange(1, options.orders + 1, dtype=np.uint64))
    prepared: dict[str, Callable[[], Callable[[], object]]] = {}
    counts: dict[str, int] = {}
    with TemporaryDirectory(prefix="sb-") as directory:
        for kind, some in ids.items():
            flow = entered_and_canceled(ATTACKER, some)
            plan = _journal(
                Path(directory) / kind, np.concatenate([flow, orders_of(ATTACKER, some)])
            )
            full = Driver(plan)
            full.send(orders_of(ATTACKER, some))

            def others_beside(full: Driver = full) -> Callable[[], object]:
                return partial(full.send, others)

            def fresh(plan: Plan = plan, flow: Records = flow) -> Callable[[], object]:
                return partial(Driver(plan).send, flow)

            prepared[f"entered and cancelled, {kind}"] = fresh
            prepared[f"another's, beside orders at rest, {kind}"] = others_beside
            prepared[f"recovery, {kind}"] = lambda plan=plan: partial(_recovery, plan)  # type: ignore[misc]
            counts |= dict.fromkeys(list(prepared)[-3:-1], len(flow))
            counts[f"recovery, {kind}"] = len(flow) + len(some)
        timings = interleaved(prepared, options.runs)
        longest = {}
        for kind, some in ids.items():
            driver = Driver(Plan(parse_config(_CONFIG, "bench"), Path(directory)))
            driver.send(orders_of(ATTACKER, some))
            walks = longest_walks(driver.book._tables)
            longest[kind] = f"{driver.mass_cancel() / 1e3:.0f} us; longest searches {tuple(walks)}"
    rates = {name: counts[name] / timing.cpu_ns * 1e3 for name, timing in timings.items()}
    rows = [
        [what, f"{rates[f'{what}, plain']:.2f}", f"{rates[f'{what}, aimed']:.2f}",
         f"{rates[f'{what}, aimed'] / rates[f'{what}, plain']:.2f}"]
        for what in dict.fromkeys(name.rpartition(", ")[0] for name in rates)
    ]  # fmt: skip
    print(table("million commands/s", ["", "plain", "aimed", "ratio"], rows))
    for kind, text in longest.items():
        print(f"longest part of a mass cancel, {kind}: {text}")
    print(f"\nto repeat: python -m bench.aimed_ids {' '.join(sys.argv[1:])}".rstrip())


if __name__ == "__main__":
    main()
