"""Processes killed under load from eight clients, and whether anybody was told a lie.

    python -m bench.kills --kills 1000 [--seed N] [--durability fsync] [--when-down hold]

Kills matchers, frontends, persister, query workers and the supervisor (with which the product ends,
and is started again) with SIGKILL at random moments, stops persister and query workers with SIGSTOP
for a while, takes the room on the disk from matchers and persister, and at the end compares all
that the clients were told with log, order table and books.
Exit code 1 where there is a difference.
"""

import argparse
import itertools
import os
import random
import resource
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.kill_check import differences, failures
from bench.kill_product import PATIENCE_S, POLL_S, Product, StuckError
from bench.kill_traders import Trader
from engine.journal.reader import segments_of
from engine.plan import Plan
from engine.trade_log.segments import ACTIVE
from ipc.memory.ring import GatingReader
from ipc.memory.status import ProcessStatus, StatusReader

CLIENTS = 8
SYMBOLS = ("AA", "BB", "CC", "DD")
KINDS = ("matcher", "matcher", "frontend", "frontend", "persister", "query", "supervisor")
STOPPED = ("persister", "query")
HELD = {"matcher": "journal_waits", "persister": "write_errors"}
"""What is counted while there is no room on the disk for them."""
MOST_ROOM = 3_000
STOP_EVERY = 10
MOST_ANSWERS = 500
"""Between two kills so many answers come at the most."""


@dataclass
class Outcome:
    """What a run was, and every difference that it found."""

    kills: Counter[str] = field(default_factory=Counter)
    longest_s: dict[str, float] = field(default_factory=dict)
    answers: int = 0
    reports: int = 0
    unknown: int = 0
    not_carried_out: int = 0
    duplicates: int = 0
    differences: list[str] = field(default_factory=list)


def kills_config(durability: str = "async", when_down: str = "reject") -> str:
    """Return two shards, two frontends, and rings that fill while the persister is stopped."""
    instruments = "".join(
        f'[[instruments]]\nsymbol = "{symbol}"\ntick_size = "0.01"\n' for symbol in SYMBOLS
    )
    return (
        "[engine]\nmatchers = 2\npin = false\nring_trades = 2048\n"
        f'[frontend]\nprocesses = 2\nwhen_shard_down = "{when_down}"\n'
        f'[journal]\ndurability = "{durability}"\nsnapshot_commands = 20000\n'
        f"segment_bytes = 1048576\n{instruments}"
    )


class Killer:
    """Kills processes of a running product, one after the other."""

    def __init__(self, product: Product, traders: list[Trader], seed: int) -> None:
        self.outcome = Outcome()
        self._product = product
        self._traders = traders
        self._dice = random.Random(seed)
        self._status = StatusReader(product.plan.status_path)

    def kill(self, count: int) -> None:
        """Kill so many processes, each when some answers have come since, and see them return.

        The first once all clients are logged in: a first login is not tried again.
        """
        self._until(lambda: all(t.logged_in.is_set() for t in self._traders), "login of all")
        kinds = self._kinds()
        for turn, kind in zip(range(1, count + 1), kinds, strict=False):
            self._until_answers(self._dice.randint(0, MOST_ANSWERS))
            if turn % STOP_EVERY == 0:
                self._stop(STOPPED[turn // STOP_EVERY % len(STOPPED)])
            if turn % STOP_EVERY == STOP_EVERY // 2:
                self._fill_disk(list(HELD)[turn // STOP_EVERY % len(HELD)])
            self._kill_one(self._choose(kind))

    def _kinds(self) -> Iterator[str]:
        while True:
            yield from self._dice.sample(KINDS, len(KINDS))

    def _kill_one(self, victim: ProcessStatus) -> None:
        begun = time.monotonic()
        if victim.role == "supervisor":
            self._product.kill()
            self._status = StatusReader(self._product.plan.status_path)
        else:
            os.kill(victim.pid, signal.SIGKILL)
            self._until(lambda: self._is_back(victim), f"{victim.role} {victim.number}")
        took = time.monotonic() - begun
        longest = self.outcome.longest_s
        longest[victim.role] = max(longest.get(victim.role, 0.0), took)
        self.outcome.kills[victim.role] += 1

    def _stop(self, role: str) -> None:
        """Let a process stand still while others go on, or until they have to wait for it."""
        victim = self._choose(role)
        before, begun = self._waits(), time.monotonic()
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            goal = self._answers() + 4 * MOST_ANSWERS
            self._until(
                lambda: (
                    self._answers() >= goal
                    or self._waits() > before
                    or time.monotonic() - begun > 2
                ),
                "something happens",
            )
        finally:
            os.kill(victim.pid, signal.SIGCONT)
        self.outcome.kills[f"{role} stopped"] += 1

    def _fill_disk(self, role: str) -> None:
        """Leave a process room for a few bytes more, until it is held; then make room, or kill it.

        What is held has commands in its hands that are neither kept nor answered.
        """
        victim = self._choose(role)
        before = victim.counters[HELD[role]]
        room = self._written(victim) + self._dice.randint(1, MOST_ROOM)
        limit = resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        self._until(
            lambda: self._now(victim).counters[HELD[role]] > before + 2, f"{role} without room"
        )
        self.outcome.kills[f"{role} without room"] += 1
        if self._dice.random() < 0.3:
            self._kill_one(victim)
        else:
            resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, limit)

    def _written(self, victim: ProcessStatus) -> int:
        """Return how long the file is that a matcher or the persister writes."""
        plan = self._product.plan
        if victim.role == "persister":
            return (plan.log_dir / ACTIVE).stat().st_size
        segments = segments_of(plan.journal_dir(victim.number))
        return len(segments[-1].path.read_bytes().rstrip(b"\0")) if segments else 0

    def _now(self, process: ProcessStatus) -> ProcessStatus:
        """Return what a process shows now."""
        found = self._status.processes()
        return next(p for p in found if (p.role, p.number) == (process.role, process.number))

    def _choose(self, role: str) -> ProcessStatus:
        return self._dice.choice([p for p in self._status.processes() if p.role == role])

    def _is_back(self, victim: ProcessStatus) -> bool:
        return any(
            (p.role, p.number, p.state) == (victim.role, victim.number, "ready")
            and p.pid != victim.pid
            for p in self._status.processes()
        )

    def _waits(self) -> int:
        return sum(p.counters.get("ring_full_waits", 0) for p in self._status.processes())

    def _answers(self) -> int:
        return sum(trader.answers for trader in self._traders)

    def _until_answers(self, count: int) -> None:
        goal = self._answers() + count
        self._until(lambda: self._answers() >= goal, f"{count} answers")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if wrong := failures(self._traders):
                raise StuckError(f"while waiting for {what}: {wrong}")
            if time.monotonic() > deadline:
                raise StuckError(f"no {what} in {PATIENCE_S} s:\n{self._product.lines.read_text()}")
            time.sleep(POLL_S)


def run(config: str, directory: Path, kills: int, seed: int) -> Outcome:
    """Run the product and the clients, kill, and compare."""
    product = Product(config, directory)
    product.start()
    try:
        outcome, traders = _run(product, kills, seed)
    finally:
        code = product.stop()
    if code:
        outcome.differences.append(f"exit code {code}:\n{product.lines.read_text()}")
    outcome.answers = sum(trader.answers for trader in traders)
    outcome.reports = sum(len(part) for trader in traders for part in trader.reports)
    outcome.unknown = sum(trader.unknown for trader in traders)
    outcome.not_carried_out = sum(trader.not_carried_out for trader in traders)
    outcome.duplicates = sum(len(trader.duplicates) for trader in traders)
    return outcome


def _run(product: Product, kills: int, seed: int) -> tuple[Outcome, list[Trader]]:
    ids, last = itertools.count(1), threading.Barrier(CLIENTS)
    addresses = [str(address) for address in product.plan.addresses()]
    traders = [
        Trader(addresses[n % len(addresses)], n, list(SYMBOLS), ids, seed, last)
        for n in range(CLIENTS)
    ]
    killer = Killer(product, traders, seed)
    for trader in traders:
        trader.start()
    try:
        killer.kill(kills)
    finally:
        for trader in traders:
            trader.stop.set()
        for trader in traders:
            trader.join(2 * PATIENCE_S)
    outcome = killer.outcome
    outcome.differences = failures(traders)
    if not outcome.differences:
        until_logged(product.plan)
        outcome.differences = differences(product.plan, traders)
    return outcome, traders


def until_logged(plan: Plan) -> None:
    """Return once every trade is in the log."""
    rings = [GatingReader(plan.ring_path(shard)) for shard in plan.shards]
    deadline = time.monotonic() + PATIENCE_S
    while any(ring.cursor_of(0) < ring.published for ring in rings):
        if time.monotonic() > deadline:
            raise StuckError("trades are not logged")
        time.sleep(POLL_S)


def main() -> int:
    """Run by hand."""
    parser = argparse.ArgumentParser(prog="python -m bench.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--durability", choices=("async", "fsync"), default="async")
    parser.add_argument("--when-down", choices=("reject", "hold"), default="reject")
    options = parser.parse_args()
    config = kills_config(options.durability, options.when_down)
    print(
        f"repeat: python -m bench.kills --kills {options.kills} --seed {options.seed} "
        f"--durability {options.durability} --when-down {options.when_down}"
    )
    with TemporaryDirectory(prefix="sb-") as directory:
        outcome = run(config, Path(directory), options.kills, options.seed)
    print(f"killed: {dict(outcome.kills)}")
    print("back after, at the longest: ", end="")
    print(", ".join(f"{role} {took:.2f} s" for role, took in sorted(outcome.longest_s.items())))
    print(
        f"{outcome.answers} outcomes of orders, {outcome.unknown} of them unknown, "
        f"{outcome.not_carried_out} not carried out, {outcome.duplicates} found to have been "
        f"entered when sent again; {outcome.reports} reports"
    )
    for difference in outcome.differences:
        print(f"WRONG: {difference}")
    print("no difference" if not outcome.differences else f"{len(outcome.differences)} differences")
    return 1 if outcome.differences else 0


if __name__ == "__main__":
    sys.exit(main())
