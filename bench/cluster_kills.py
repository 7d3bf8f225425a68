"""A cluster's nodes and brokers killed under load from eight clients: was anybody told a lie?

    python -m bench.cluster_kills [--kills 200] [--seed N] [--brokers 3] [--full-disk]

Three nodes carry out one log, which three brokers keep. At random moments matchers, frontends,
exporters, whole nodes or brokers are killed with SIGKILL, or brokers and matchers stand still for a
while; whoever was killed comes again. Clients send again what was not carried out, under the same
client_order_id, and resume where their connections end. In the end what each was told is held
against log, order table and books of every node, the nodes against each other, and the topic of
trades against their journals (``shardbook cluster verify``). Exit code 1 where anything differs.

``--full-disk``: brokers' files lie on small file systems (which root mounts), that are filled now
and then, one broker's or those of all, until the broker ends, which is started again with room.
"""

import argparse
import itertools
import os
import random
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.exporter_kills import Steady
from bench.kill_check import differences, failures
from bench.kill_product import PATIENCE_S, POLL_S, Product, StuckError
from bench.kills import CLIENTS, SYMBOLS, until_logged
from engine.cluster.status import shard_statuses
from engine.cluster.verify import verify_nodes
from engine.kafka.topics import initialise
from engine.roles import KAFKA
from engine.shard.holds import hold
from ipc.memory.status import ProcessStatus, StatusReader
from tests.kafka_brokers import Brokers, brokers_running
from tests.product import config_text

NODES = 3
PREFIX = "kills"
PROCESSES = ("matcher", "matcher", "frontend", "kafka")
KINDS = (*PROCESSES, "node", "broker", "broker", "broker stands still", "matcher stands still")
ALL_BROKERS_EVERY = 20
"""So many kills, that of all brokers at once being one of them."""
FULL_DISK_EVERY = 6
ROOM_BYTES = 256 << 20
MOST_ANSWERS = 300
"""Between two kills at the most."""
STILL_S = 4.0
"""For how long something stands still at the most: longer than brokers wait for one another."""


def node_text(brokers: Brokers, node: int) -> str:
    """Return the configuration of a node."""
    cluster = f"[cluster]\nenabled = true\nnode = {node}\n"
    kept = "[journal]\nsnapshot_commands = 20000\nsegment_bytes = 1048576\n"
    text = brokers.text(PREFIX, "snapshot_ms = 0") + cluster + kept
    return config_text(2, len(SYMBOLS), text)


class Killer:
    """Kills one after the other, and sees each return."""

    def __init__(
        self,
        nodes: list[Product],
        brokers: Brokers,
        traders: list[Steady],
        seed: int,
        full_disk: bool,
    ) -> None:
        self.kills: Counter[str] = Counter()
        self.longest_s: dict[str, float] = {}
        """Until answers came again, by what was killed."""
        self._nodes, self._brokers, self._traders = nodes, brokers, traders
        self._full_disk = full_disk
        self._dice, self._section = random.Random(seed), brokers.section(PREFIX)

    def kill(self, count: int) -> None:
        """Kill so often, each when some answers have come since."""
        self._until(lambda: all(t.logged_in.is_set() for t in self._traders), "login of all")
        done = 0
        while done < count:
            for kind in self._dice.sample(KINDS, len(KINDS))[: count - done]:
                done += 1
                self._until_answers(self._dice.randint(0, MOST_ANSWERS))
                if done % ALL_BROKERS_EVERY == 0:
                    self._kill("all brokers")
                elif self._full_disk and done % FULL_DISK_EVERY == 0:
                    self._kill("full disk")
                else:
                    self._kill(kind)

    def _kill(self, kind: str) -> None:
        self.kills[kind] += 1
        print(f"{self.kills.total()}: {kind}", flush=True)
        if "broker" in kind:
            self._brokers.start()  # those that were killed before
            self._until(self._brokers.in_sync, "brokers that are in step", 4 * PATIENCE_S)
        begun = time.monotonic()
        if kind == "full disk":
            numbers = list(range(len(self._brokers.ports)))
            for number in numbers if self._dice.random() < 0.5 else [self._dice.choice(numbers)]:
                self._brokers.fill_disk(number)
            self._brokers.start()
        elif kind == "all brokers":
            self._brokers.kill()
            self._brokers.start()
        elif kind == "broker":
            number = self._dice.randrange(len(self._brokers.ports))
            self._brokers.kill(number)
            if len(self._brokers.ports) > 1:
                self._until_answers(MOST_ANSWERS)
            self._brokers.start(number, wait=False)
        elif kind == "broker stands still":
            number = self._dice.randrange(len(self._brokers.ports))
            with self._brokers.standing_still(number):
                time.sleep(self._dice.random() * STILL_S)
        elif kind == "node":
            self._dice.choice(self._nodes).kill()
        elif kind == "matcher stands still":
            victim = self._choose(self._dice.choice(self._nodes), "matcher")
            os.kill(victim.pid, signal.SIGSTOP)
            try:
                time.sleep(self._dice.random() * STILL_S)
            finally:
                os.kill(victim.pid, signal.SIGCONT)
        else:
            node = self._dice.choice(self._nodes)
            victim = self._choose(node, kind)
            os.kill(victim.pid, signal.SIGKILL)
            self._until(lambda: _is_back(node, victim), f"{kind} {victim.number}")
        self._until_answers(1)
        self.longest_s[kind] = max(self.longest_s.get(kind, 0.0), time.monotonic() - begun)

    def caught_up(self) -> None:
        """Wait until the topic has all trades."""

        def is_done() -> bool:
            found = [p.counters for node in self._nodes for p in _processes(node, KAFKA.name)]
            return all(c["away"] == 0 for c in found) and any(c["lag_ms"] == 0 for c in found)

        self._until(is_done, "exporters that have caught up")

    def _choose(self, node: Product, role: str) -> ProcessStatus:
        return self._dice.choice(_processes(node, role))

    def _until_answers(self, count: int) -> None:
        goal = sum(t.answers for t in self._traders) + count
        self._until(lambda: sum(t.answers for t in self._traders) >= goal, f"{count} answers")

    def _until(
        self, condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S
    ) -> None:
        deadline = time.monotonic() + patience_s
        while not condition():
            if wrong := failures(self._traders):
                said = f"{_said(self._nodes)}\n{list(shard_statuses(self._section, 2))}"
                raise StuckError(f"while waiting for {what}: {wrong}\n{said}")
            if time.monotonic() > deadline:
                raise StuckError(f"no {what} in {patience_s} s\n{_said(self._nodes)}")
            time.sleep(POLL_S)


def _processes(node: Product, role: str) -> list[ProcessStatus]:
    return [p for p in StatusReader(node.plan.status_path).processes() if p.role == role]


def _is_back(node: Product, victim: ProcessStatus) -> bool:
    return any(
        (p.number, p.state) == (victim.number, "ready") and p.pid != victim.pid
        for p in _processes(node, victim.role)
    )


def _said(nodes: list[Product]) -> str:
    """Return how the nodes stand, and the last that they have said."""
    lines = []
    for node in nodes:
        lines.append(f"{node.plan.data_dir}:\n{node.lines.read_text()[-3_000:]}")
        for process in _processes(node, "matcher"):
            counters = {k: process.counters[k] for k in ("entries", "commands", "waiting_entries")}
            places = node.plan.journal_dir(process.number) / "log-places"
            at = places.read_text().splitlines()[-1:]
            lines.append(f"matcher {process.number}: {process.state}, {counters}, place {at}")
    return "\n".join(lines)


def run(
    directory: Path, brokers: Brokers, kills: int, seed: int, full_disk: bool = False
) -> list[str]:
    """Run, kill, and compare; return every difference."""
    list(initialise(brokers.section(PREFIX), 2))
    with ExitStack() as stack:
        nodes = []
        for number in range(NODES):
            place = directory / f"n{number}"
            place.mkdir()
            node = Product(node_text(brokers, number), place)
            stack.callback(node.end)
            node.start()
            for shard in node.plan.shards:
                hold(node.plan.journal_dir(shard), "kills", 0)  # what is compared begins with them
            nodes.append(node)
        return _run(nodes, brokers, kills, seed, directory, full_disk)


def _run(
    nodes: list[Product],
    brokers: Brokers,
    kills: int,
    seed: int,
    directory: Path,
    full_disk: bool,
) -> list[str]:
    ids, last = itertools.count(1), threading.Barrier(CLIENTS)
    addresses = [str(node.plan.addresses()[0]) for node in nodes]
    traders = [
        Steady(addresses[n % NODES], n, list(SYMBOLS), ids, seed, last) for n in range(CLIENTS)
    ]
    killer = Killer(nodes, brokers, traders, seed, full_disk)
    for trader in traders:
        trader.start()
    try:
        killer.kill(kills)
    finally:
        for trader in traders:
            trader.stop.set()
        for trader in traders:
            trader.join(2 * PATIENCE_S)
    print(f"killed: {dict(killer.kills)}")
    longest = sorted(killer.longest_s.items())
    print("answers again after, at the longest:", ", ".join(f"{k} {s:.1f} s" for k, s in longest))
    print(
        f"{sum(t.answers for t in traders)} outcomes of orders, {sum(t.unknown for t in traders)} "
        f"unknown at first, {sum(t.not_carried_out for t in traders)} not carried out, "
        f"{sum(len(t.duplicates) for t in traders)} found to have been entered when sent again"
    )
    found = failures(traders)
    if found:
        return [*found, _said(nodes)]
    for node in nodes:
        until_logged(node.plan)
        told = differences(node.plan, traders)
        found += [f"{node.plan.data_dir.name}: {difference}" for difference in told]
    killer.caught_up()
    for node in nodes:
        if code := node.stop():
            found.append(f"exit code {code}:\n{node.lines.read_text()[-3_000:]}")
    verdict = verify_nodes([node.plan for node in nodes], directory)
    print("\n".join(verdict.lines))
    if verdict.problems:
        found.append(f"cluster verify: {verdict.problems} problems")
    return found


def main() -> int:
    """Run by hand."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--brokers", type=int, default=3)
    parser.add_argument("--full-disk", action="store_true")
    options = parser.parse_args()
    print(
        f"repeat: python -m bench.cluster_kills --kills {options.kills} --seed {options.seed} "
        f"--brokers {options.brokers}{' --full-disk' if options.full_disk else ''}",
        flush=True,
    )
    room_bytes = ROOM_BYTES if options.full_disk else 0
    with (
        brokers_running(options.brokers, room_bytes=room_bytes) as brokers,
        TemporaryDirectory(prefix="sb-") as directory,
    ):
        place = Path(directory)
        found = run(place, brokers, options.kills, options.seed, options.full_disk)
    for difference in found:
        print(f"WRONG: {difference}")
    print("no difference" if not found else f"{len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
