"""The topics of a product: their names, and what each must be; ``shardbook cluster init``.

Nothing else ever makes one: a topic that came into being by itself would have the broker's defaults
for how often it is kept and how it is cut.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs do not say so
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from engine.kafka.link import (
    ANSWER_S,
    KafkaAwayError,
    KafkaLinkError,
    judge,
    judged,
    options,
    where,
)
from engine.sections import KafkaSection

VERSION = b"1"
"""Of what messages hold; each has it in its header ``version``."""
HEADERS: list[tuple[str, str | bytes | None]] = [("version", VERSION)]
ENOUGH_BROKERS = 3
LOOK_S = 0.05
MADE_S = 30.0
"""How long brokers may take to make a topic: busy ones take long."""
_MATTERS = {"cleanup.policy", "message.timestamp.type"}


class Topics(NamedTuple):
    """The names of a product's topics."""

    trades: str
    instruments: str
    snapshots: str
    positions: str
    commands: str

    @classmethod
    def of(cls, section: KafkaSection) -> "Topics":
        """Return those that a configuration gives."""
        names = (getattr(section, f"{n}_topic") or f"{section.prefix}.{n}" for n in cls._fields)
        return cls(*names)


class Wanted(NamedTuple):
    """What one topic is to be."""

    name: str
    partitions: int
    exactly: bool
    """Whether its partitions have meanings, so that there must be one a shard at least; a topic
    that is keyed may have any number of them."""
    settings: dict[str, str]


def wanted(section: KafkaSection, shards: int) -> list[Wanted]:
    """Return what the topics of a product with so many shards are to be."""
    topics = Topics.of(section)
    compacted = {"cleanup.policy": "compact"}
    return [
        Wanted(topics.trades, section.partitions, False, {}),
        Wanted(topics.instruments, 1, False, compacted),
        Wanted(topics.snapshots, section.partitions, False, {}),
        Wanted(topics.positions, shards, True, compacted),
        Wanted(
            topics.commands,
            shards,
            True,
            {
                "cleanup.policy": "delete",
                "message.timestamp.type": "LogAppendTime",
                "retention.ms": str(section.commands_hours * 3_600_000),
            },
        ),
    ]


def initialise(section: KafkaSection, shards: int) -> Iterator[str]:
    """Make the topics that are missing, yielding a line for each.

    Raises ``KafkaLinkError`` where one that is there cannot serve.
    """
    place = where(section)
    admin = AdminClient(options(section, "shardbook-cluster-init"))
    with judged(place):
        found = admin.list_topics(timeout=ANSWER_S)
    brokers = len(found.brokers)
    replication = section.replication or min(ENOUGH_BROKERS, brokers)
    if replication > brokers:
        raise KafkaLinkError(
            f"{place}: kafka.replication = {replication}: there are {brokers} brokers"
        )
    for topic in wanted(section, shards):
        there = found.topics.get(topic.name)
        count = 0 if there is None else len(there.partitions or {})
        if not count:
            yield _made(admin, place, topic, replication)
        elif topic.exactly and count < topic.partitions:
            with judged(place):
                more = NewPartitions(topic.name, topic.partitions)
                _done(place, admin.create_partitions([more]))
            _await(admin, place, topic)
            yield f"{topic.name}: has {topic.partitions} partitions now, {count} before"
        else:
            _check(admin, place, topic)
            yield f"{topic.name}: is there, {count} partitions"


def _made(admin: AdminClient, place: str, topic: Wanted, replication: int) -> str:
    settings = dict(topic.settings)
    settings["min.insync.replicas"] = "2" if replication >= ENOUGH_BROKERS else "1"
    new = NewTopic(topic.name, topic.partitions, replication, config=settings)
    try:
        _done(place, admin.create_topics([new]))
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise judge(place, error.args[0]) from None
    _await(admin, place, topic)
    return f"{topic.name}: made, {topic.partitions} partitions on {replication} brokers each"


def _check(admin: AdminClient, place: str, topic: Wanted) -> None:
    """Verify the settings of a topic that somebody else made, those that matter."""
    asked = ConfigResource(ResourceType.TOPIC, topic.name)
    with judged(place):
        answer = admin.describe_configs([asked], request_timeout=ANSWER_S)[asked].result(ANSWER_S)
    for key in set(topic.settings) & _MATTERS:
        value = topic.settings[key]
        found = answer[key].value
        if found != value:
            raise KafkaLinkError(
                f"{place}: topic {topic.name}: {key} = {found}: must be {value}; alter it, or name "
                "another topic"
            )


def _await(admin: AdminClient, place: str, topic: Wanted) -> None:
    """Wait until brokers tell of a topic: a moment after it was made they do not."""
    deadline_s = time.monotonic() + ANSWER_S
    with judged(place):
        while True:
            there = admin.list_topics(timeout=ANSWER_S).topics.get(topic.name)
            if there is not None and len(there.partitions or {}) >= topic.partitions:
                return
            if time.monotonic() > deadline_s:
                raise KafkaAwayError(f"{place}: topic {topic.name} does not come into being")
            time.sleep(LOOK_S)


def _done(place: str, futures: "dict[str, Future[Any]]") -> None:
    """Wait for what an administrator has asked. Raises ``KafkaException``."""
    for future in futures.values():
        try:
            future.result(MADE_S)
        except TimeoutError:
            raise KafkaAwayError(f"{place}: no answer within {MADE_S:g} s") from None
