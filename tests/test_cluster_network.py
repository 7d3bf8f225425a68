"""A node of a cluster that the network cuts off from broker and others, and that comes back."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.kafka.topics import Topics, initialise
from engine.plan import Plan
from engine.sections import KafkaSection
from frontend.client import Client
from frontend.launch import running_engine
from ipc.memory.status import ProcessStatus, StatusReader
from ipc.vocabulary import OrdStatus
from tests.kafka_brokers import Brokers, brokers_running
from tests.nodes_of_kafka import state
from tests.product import make_config, until
from tests.two_machines import Machines

SHARDS = 2


class Site(NamedTuple):
    """Two nodes; the broker is beside the first one."""

    machines: Machines
    brokers: Brokers
    section: KafkaSection
    near: Plan
    far: Plan


@pytest.fixture
def site(machines: Machines, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        engine = machines.engine

        def begin() -> Brokers:
            brokers = stack.enter_context(brokers_running(host=engine.address))
            list(initialise(brokers.section("cut"), SHARDS))
            return brokers

        brokers = engine.call(begin)
        plans = []
        for node, machine in enumerate((engine, machines.clients)):
            cluster = f"[cluster]\nenabled = true\nnode = {node}\n"
            config = make_config(SHARDS, 4, brokers.text("cut", "snapshot_ms = 0") + cluster)
            directory = tmp_path / str(node)
            running = running_engine(config, directory)
            plans.append(machine.call(lambda running=running: stack.enter_context(running)))  # type: ignore[misc]
        yield Site(machines, brokers, brokers.section("cut"), *plans)


def processes(plan: Plan, role: str) -> list[ProcessStatus]:
    return [p for p in StatusReader(plan.status_path).processes() if p.role == role]


def in_topic(site: Site) -> list[int]:
    """Return the ids of all trades in the topic, as a consumer of what is committed has them."""
    topic = Topics.of(site.section).trades
    found = site.machines.engine.call(lambda: site.brokers.messages(topic))
    return sorted(json.loads(message.value())["trade_id"] for message in found)


def trade(client: Client, symbol: str) -> None:
    client.submit(symbol, "buy", 1, "1.00")
    client.submit(symbol, "sell", 1, "1.00")


@pytest.mark.servers
def test_a_node_that_was_cut_off_loses_and_doubles_nothing_when_it_is_back(
    site: Site, tmp_path: Path
) -> None:
    near, far = (plan.addresses()[0] for plan in (site.near, site.far))
    with ExitStack() as stack:
        dave = stack.enter_context(Client(near, "dave"))
        carol = stack.enter_context(Client(far, "carol", cancel_on_disconnect=True))
        erin = stack.enter_context(Client(far, "erin", timeout_s=90))
        fleeting = carol.submit("AA", "buy", 1, "0.50")
        for symbol in ("AA", "BB"):  # of each shard
            trade(erin, symbol)
        until(lambda: in_topic_count(site) == 2)
        with site.machines.clients.silent():
            late = site.machines.clients.start(lambda: erin.submit("AA", "sell", 2, "9.00"))
            for symbol in ("AA", "BB"):
                trade(dave, symbol)
            with Client(near, "carol") as there:
                until(lambda: there.order(fleeting.order_id).ord_status == OrdStatus.CANCELED)
            # Whoever wrote the trades of a shard before, this side does now.
            until(lambda: in_topic_count(site) == 4)
            assert not late.done()
        order = late.result()
        with Client(near, "erin") as there:
            until(lambda: there.order(order.order_id).leaves_qty == 2)
        trade(erin, "AA")
        kept = carol.submit("AA", "buy", 1, "0.60")  # she has not gone, and is spoken for again
        until(lambda: in_topic_count(site) == 5)
        with stopped(processes(site.far, "supervisor")[0].pid):
            for process in processes(site.far, "matcher"):
                os.kill(process.pid, signal.SIGKILL)
            with Client(near, "carol") as there:
                until(lambda: there.order(kept.order_id).ord_status == OrdStatus.CANCELED)
    until(lambda: all(p.state == "ready" for p in processes(site.far, "matcher")))
    for shard in range(SHARDS):
        until(lambda shard=shard: same(site, shard, tmp_path))  # type: ignore[misc]
    lines = (site.near.log_dir / "trades.ndjson").read_bytes().splitlines()
    assert in_topic(site) == sorted(json.loads(line)["trade_id"] for line in lines)


def in_topic_count(site: Site) -> int:
    return len(in_topic(site))


def same(site: Site, shard: int, scratch: Path) -> bool:
    """Tell whether both have come to the same command; and see that they are the same there."""
    states = {state(plan, shard, scratch) for plan in (site.near, site.far)}
    if len({position for position, *_ in states}) > 1:
        return False
    assert len(states) == 1, states
    return True


class stopped:  # noqa: N801
    """A process stands still for the length of a block."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGCONT)
