"""What Kafka costs between clients and a book: ``python -m bench.cluster``.

    python -m bench.cluster [--orders N] [--rounds N] [--singles N]

One client process sends orders, half of which trade, to one node of a cluster of one shard, with
one broker beside it on the same cores; and the bare chain: a program appends the same frames to a
topic of the same kind, 64 KiB a message, and reads them back. Then orders one at a time, and the
bare chain with one frame a message. Interleaved rounds, medians. Needs Kafka (``.ci/servers``).
"""

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.arrays import orders_of
from bench.measure import machine, table, versions
from bench.products import configured
from engine.config import load_config
from engine.kafka.topics import initialise
from engine.sections import ClusterSection
from frontend.client import Client
from frontend.launch import running_engine
from ipc.wire.client_codec import command_frames
from tests.kafka_brokers import Brokers, brokers_running

MESSAGE_BYTES = 1 << 16


class Bare:
    """The chain without a book: into a topic and out of it."""

    def __init__(self, brokers: Brokers, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": brokers.bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 0,
            }
        )
        self._consumer = Consumer({"bootstrap.servers": brokers.bootstrap, "group.id": "bare"})
        partition = TopicPartition(topic, 0)
        _, high = self._consumer.get_watermark_offsets(partition, timeout=10) or (0, 0)
        partition.offset = high
        self._consumer.assign([partition])

    def move(self, frames: bytes) -> None:
        """Append frames in messages, and read until all are back."""
        for start in range(0, len(frames), MESSAGE_BYTES):
            self._producer.produce(self._topic, frames[start : start + MESSAGE_BYTES], partition=0)
        back = 0
        while back < len(frames):
            self._producer.poll(0)
            first = self._consumer.poll(10)
            assert first is not None
            for message in (first, *self._consumer.consume(256, 0)):
                assert message.error() is None, message.error()
                back += len(message.value() or b"")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--singles", type=int, default=300)
    options = parser.parse_args()
    print(f"{machine()}; {versions('confluent-kafka', 'numpy', 'numba')}")
    with ExitStack() as stack:
        brokers = stack.enter_context(brokers_running())
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="sb-")))
        config = configured(load_config(), 1, False, None)
        kafka = brokers.section("bench")
        kafka = msgspec.structs.replace(kafka, enabled=False)
        node = msgspec.structs.replace(config, kafka=kafka, cluster=ClusterSection(enabled=True))
        list(initialise(kafka, 1))
        list(initialise(brokers.section("bare"), 1))
        bare = Bare(brokers, "bare.commands")
        clients = []
        for name, each in (("node", node), ("plain", config)):
            plan = stack.enter_context(running_engine(each, directory / name))
            client = Client(plan.addresses()[0], "bench", max_reports=4 * options.orders)
            clients.append(stack.enter_context(client))
        print(rates(clients, bare, options.orders, options.rounds))
        print(singles(clients, bare, options.singles))


def rates(clients: list[Client], bare: Bare, count: int, rounds: int) -> str:
    """Return the table of orders a second, many under way."""
    orders = orders_of(count)
    frames, _ = command_frames(orders)
    todo: dict[str, Callable[[], object]] = {
        "a node of a cluster": lambda: clients[0].submit_array(orders),
        "the bare chain": lambda: bare.move(frames),
        "a product without a cluster": lambda: clients[1].submit_array(orders),
    }
    found: dict[str, list[float]] = {name: [] for name in todo}
    for turn in range(rounds + 1):  # the first pays for what is done once
        for name, run in todo.items():
            began = time.perf_counter()
            run()
            if turn:
                found[name].append(count / (time.perf_counter() - began))
            for client in clients:
                client.receive_array(timeout_s=0.2)
    middle = {name: median(some) for name, some in found.items()}
    of_bare = middle["the bare chain"]
    rows = [[name, f"{rate:,.0f}", f"{rate / of_bare:.2f}"] for name, rate in middle.items()]
    return table("Orders a second, pipelined", ["", "orders/s", "of the bare chain"], rows)


def singles(clients: list[Client], bare: Bare, count: int) -> str:
    """Return the table of how long one order takes, one after the other."""
    frames, _ = command_frames(orders_of(1))
    todo: dict[str, Callable[[], object]] = {
        "a node of a cluster": lambda: clients[0].submit("COOTX", "buy", 1, "1.00"),
        "the bare chain": lambda: bare.move(frames),
        "a product without a cluster": lambda: clients[1].submit("COOTX", "buy", 1, "1.00"),
    }
    found: dict[str, list[float]] = {name: [] for name in todo}
    for _ in range(count):
        for name, run in todo.items():
            began = time.perf_counter()
            run()
            found[name].append(1e6 * (time.perf_counter() - began))
    of_bare = median(found["the bare chain"])
    rows = [
        [
            name,
            f"{median(us):,.0f}",
            f"{quantiles(us, n=100)[98]:,.0f}",
            f"{median(us) / of_bare:.2f}",
        ]
        for name, us in found.items()
    ]
    return table("One order at a time", ["", "p50 us", "p99 us", "p50 of the bare chain's"], rows)


if __name__ == "__main__":
    main()
