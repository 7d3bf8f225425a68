"""How soon a cluster answers again when a node is killed: ``python -m bench.failover``.

    python -m bench.failover [--kills 20] [--commands 1000000] [--seed N]

Three nodes and three brokers on this machine. A client trades on one node, all of whose processes
are then killed at once; the same user connects to another one and sends the order again, under the
same client_order_id, until it is answered. Beside that, when a consumer of the topic of trades has
a trade that came after the kill: where the dead node wrote that shard's trades, another one does
once Kafka's session timeout is over. And when the node that was killed has the shard again. Then
arrays of orders with two such kills between them, and the state hashes of all nodes.
"""

import argparse
import json
import os
import random
import secrets
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, TopicPartition

from bench.arrays import orders_of
from bench.cluster_kills import NODES, PREFIX, node_text
from bench.kill_product import PATIENCE_S, Product
from bench.measure import machine, table, versions
from engine.cluster.verify import verify_nodes
from engine.kafka.leading import SESSION_MS
from engine.kafka.topics import Topics, initialise
from frontend.client import Client
from frontend.client.errors import ClientError, OrderRejectedError
from ipc.memory.status import StatusReader
from tests.kafka_brokers import Brokers, brokers_running

PIECE = 50_000
"""Orders of an array."""


class Trades:
    """A consumer of the topic of trades, from its end on."""

    def __init__(self, brokers: Brokers) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers.bootstrap,
                "group.id": "failover",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 20,
            }
        )
        topic = Topics.of(brokers.section(PREFIX)).trades
        there = self._consumer.list_topics(topic, 30).topics[topic].partitions or {}
        partitions = [TopicPartition(topic, number) for number in there]
        for partition in partitions:
            _, partition.offset = self._consumer.get_watermark_offsets(partition, timeout=30) or (
                0,
                0,
            )
        self._consumer.assign(partitions)

    def until(self, trade_id: int) -> None:
        """Return once a trade is there."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            message = self._consumer.poll(0.1)
            if message is None or message.error() is not None:
                continue
            if json.loads(message.value() or b"{}").get("trade_id") == trade_id:
                return
        raise TimeoutError(f"trade {trade_id} is not in the topic after {PATIENCE_S:g} s")


def trade_of(node: Product, number: int, patience_s: float = PATIENCE_S) -> int:
    """Have a trade on a node, entering each order until it is answered; return its id."""
    deadline = time.monotonic() + patience_s
    address, trade_id = node.plan.addresses()[0], 0
    for side in ("buy", "sell"):
        order = 2 * number + (side == "sell")
        while time.monotonic() < deadline:
            try:
                with Client(address, "failover", timeout_s=2) as client:
                    client.submit("AA", side, 1, "1.00", client_order_id=order)
                    for report in client.reports(10 if side == "sell" else 0):
                        if report.trade_id:
                            trade_id = report.trade_id
                            break
            except OrderRejectedError as error:
                if error.order_id:  # it was taken the first time
                    break
            except (ClientError, OSError):
                continue
            else:
                break
            time.sleep(0.01)
    return trade_id


def kill_node(node: Product) -> None:
    """Kill all processes of a node at once."""
    for process in StatusReader(node.plan.status_path).processes():
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def failovers(nodes: list[Product], brokers: Brokers, kills: int, dice: random.Random) -> str:
    """Return the table of how long what took, over so many kills."""
    trades, found = Trades(brokers), dict[str, list[float]]()

    def note(what: str, began_s: float) -> None:
        found.setdefault(what, []).append(time.monotonic() - began_s)

    for kill in range(kills):
        victim, other = dice.sample(nodes, 2)
        trades.until(trade_of(victim, 2 * kill + 1))
        kill_node(victim)
        began_s = time.monotonic()
        trade_id = trade_of(other, 2 * kill + 2)
        note("a trade of the same user on another node", began_s)
        trades.until(trade_id)
        note("that trade in the topic", began_s)
        victim.kill()
        note("the killed node serves again, started behind that", began_s)
    rows = []
    for what, seconds in found.items():
        ordered = quantiles(seconds, n=20, method="inclusive")
        rows.append([what, f"{ordered[9]:.2f}", f"{ordered[18]:.2f}", f"{max(seconds):.2f}"])
    title = f"Seconds from SIGKILL of all of a node, {kills} times (session timeout of the writers "
    return table(f"{title}{SESSION_MS / 1_000:g} s)", ["", "p50", "p95", "longest"], rows)


def load(nodes: list[Product], commands: int, dice: random.Random) -> None:
    """Send orders in arrays through one node after the other, two of which are killed between."""
    orders, pieces = orders_of(PIECE), max(3, commands // PIECE)
    orders["symbol"] = orders["symbol"] % 4 + 1
    for piece in range(pieces):
        node = nodes[piece % NODES]
        with Client(node.plan.addresses()[0], f"user{piece}", max_reports=4 * PIECE) as client:
            client.submit_array(orders)
        if piece in (pieces // 3, 2 * pieces // 3):
            victim = dice.choice(nodes)
            kill_node(victim)
            victim.kill()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    options = parser.parse_args()
    dice = random.Random(options.seed)
    print(f"{machine()}; {versions('confluent-kafka')}; --seed {options.seed}", flush=True)
    with ExitStack() as stack:
        brokers = stack.enter_context(brokers_running(3))
        list(initialise(brokers.section(PREFIX), 2))
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="sb-")))
        nodes = []
        for number in range(NODES):
            (directory / f"n{number}").mkdir()
            node = Product(node_text(brokers, number), directory / f"n{number}")
            stack.callback(node.end)
            node.start()
            nodes.append(node)
        print(failovers(nodes, brokers, options.kills, dice), flush=True)
        load(nodes, options.commands, dice)
        for node in nodes:
            node.stop()
        verdict = verify_nodes([node.plan for node in nodes], directory)
    print("\n".join(verdict.lines))
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
