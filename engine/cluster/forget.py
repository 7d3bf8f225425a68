"""Numbers of nodes that are gone for good are free again: ``shardbook cluster forget``."""

import secrets
from collections.abc import Iterable

from confluent_kafka import KafkaError, Message, Producer

from engine.cluster.entries import HEADERS, Entry, Kind
from engine.kafka.link import ANSWER_S, KafkaAwayError, KafkaLinkError, judge, options, where
from engine.kafka.topics import Topics
from engine.sections import KafkaSection


def forget(section: KafkaSection, shards: int, nodes: Iterable[int]) -> None:
    """Have the log of each shard say that these nodes are gone for good; one that is there ends.

    Raises ``KafkaLinkError``.
    """
    place, failures = where(section), list[KafkaLinkError]()

    def confirmed(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(judge(place, error))

    life = secrets.randbits(63) + 1
    entry = Entry(life, 1, 0, life, Kind.FORGET, [(node, 0) for node in sorted(set(nodes))], b"")
    settings = {"enable.idempotence": True, "message.timeout.ms": int(1_000 * ANSWER_S)}
    producer = Producer({**options(section, "shardbook-cluster-forget"), **settings})
    for shard in range(shards):
        producer.produce(
            Topics.of(section).commands,
            entry.encode(),
            partition=shard,
            headers=HEADERS,
            on_delivery=confirmed,
        )
    if producer.flush(2 * ANSWER_S):
        raise KafkaAwayError(f"{place}: no answer within {2 * ANSWER_S:g} s")
    if failures:
        raise failures[0]
