"""Which shards this node's exporter writes, where several nodes could: Kafka deals them out.

A consumer group has the partitions of the topic of positions, one a shard, dealt to its members,
and anew whenever one comes or goes. It reads nothing of them. That two believe for a moment that
they lead is no harm: transactions of the earlier one are fenced (``engine.kafka.shard_export``).
"""

from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from engine.kafka.link import judged, options, where
from engine.kafka.topics import Topics
from engine.sections import KafkaSection

SESSION_MS = 6_000
"""A member that is silent for longer has gone."""
HEARTBEAT_MS = 1_000


def group_of(section: KafkaSection) -> str:
    """Return the name of the group of exporters."""
    return f"{section.group_id}.exporters"


class Leading:
    """One member of the group of exporters."""

    def __init__(self, section: KafkaSection, node: int, lost: Callable[[int], None]) -> None:
        """``node`` is this one; ``lost`` is told of shards that another one leads from then on."""
        self.shards: set[int] = set()
        self._lost, self._where = lost, where(section)
        self._consumer = Consumer(
            {
                **options(section, f"node-{node}"),
                "group.id": group_of(section),
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": HEARTBEAT_MS,
                "enable.auto.commit": False,
                "auto.offset.reset": "latest",
                "topic.metadata.refresh.interval.ms": 2_000,
            }
        )
        self._consumer.subscribe(
            [Topics.of(section).positions],
            on_assign=self._take,
            on_revoke=self._leave,
            on_lost=self._leave,
        )

    def look(self) -> None:
        """Learn what is dealt by now. Raises ``KafkaLinkError``."""
        with judged(self._where):
            message = self._consumer.poll(0)
            if message is not None and (error := message.error()) is not None and error.fatal():
                raise KafkaException(error)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _take(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)
        self.shards |= {found.partition for found in partitions}

    def _leave(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        for found in partitions:
            self.shards.discard(found.partition)
            self._lost(found.partition)
        consumer.incremental_unassign(partitions)
