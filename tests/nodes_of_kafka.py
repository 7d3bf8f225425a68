"""Nodes of a cluster for tests: products on this machine that one log gives their commands."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from engine.books.contract import state_hash
from engine.kafka.topics import initialise
from engine.plan import Plan
from engine.shard.follower import Follower
from tests.kafka_brokers import Brokers
from tests.product import until
from tests.test_serve import Served, served

SHARDS = 2


class Cluster:
    """Some nodes with one prefix; more may come."""

    def __init__(
        self, brokers: Brokers, prefix: str, temporary: pytest.TempPathFactory, exports: bool
    ) -> None:
        self.brokers, self.prefix, self.exports = brokers, prefix, exports
        self._temporary, self._stack = temporary, ExitStack()
        self.nodes: list[Served] = []
        list(initialise(brokers.section(prefix), SHARDS))

    def text(self, node: int) -> str:
        """Return the sections of a configuration that make a product a node."""
        kafka = self.brokers.text(self.prefix)
        if not self.exports:
            kafka = kafka.replace("enabled = true", "enabled = false")
        return f"{kafka}[cluster]\nenabled = true\nnode = {node}\n"

    def add(
        self, directory: Path | None = None, python: Sequence[str] = (), more: str = ""
    ) -> Served:
        """Start a node, in a directory that it has had before or in one of its own; ``python`` is
        as ``Served`` takes it, ``more`` are further lines of its section."""
        number = len(self.nodes)
        directory = directory or self._temporary.mktemp(f"n{number}")
        node = self._stack.enter_context(served(directory, self.text(number) + more, python=python))
        self.nodes.append(node)
        return node

    def plans(self) -> list[Plan]:
        return [node.plan for node in self.nodes]

    def agree(self, scratch: Path) -> list[tuple[int, str, int, int]]:
        """Wait until all nodes have come to the same command of each shard; return what they are
        there, having seen that it is the same on all."""
        found = []
        for shard in range(SHARDS):
            states: list[tuple[int, str, int, int]] = []

            def same(shard: int = shard) -> bool:
                nonlocal states
                states = [state(plan, shard, scratch) for plan in self.plans()]
                return len({position for position, *_ in states}) == 1

            until(same)
            assert len(set(states)) == 1, states
            found.append(states[0])
        return found

    def close(self) -> None:
        for node in self.nodes:
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGTERM)
        self._stack.close()


def state(plan: Plan, shard: int, scratch: Path) -> tuple[int, str, int, int]:
    """Return a shard's last command, the hash of its books, its last report, and its time."""
    follower = Follower(plan, shard, None, scratch / "state.tmp")
    try:
        follower.catch_up()
        found = follower.shard
        return (
            follower.position,
            state_hash(found.book),
            found.account_sequences.reports,
            found.timestamp_ns,
        )
    finally:
        follower.close()


@contextmanager
def clustered(
    brokers: Brokers,
    prefix: str,
    temporary: pytest.TempPathFactory,
    count: int,
    exports: bool = False,
) -> Iterator[Cluster]:
    """Run so many nodes."""
    cluster = Cluster(brokers, prefix, temporary, exports)
    try:
        for _ in range(count):
            cluster.add()
        yield cluster
    finally:
        cluster.close()
