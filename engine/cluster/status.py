"""How a cluster stands, as Kafka knows it: ``shardbook cluster status``."""

from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from engine.kafka.leading import group_of
from engine.kafka.link import ANSWER_S, KafkaAwayError, judged, options, where
from engine.kafka.position import Position, read_position
from engine.kafka.topics import Topics
from engine.sections import KafkaSection


class ShardStatus(NamedTuple):
    """One shard."""

    shard: int
    first: int
    """The first entry that its log still has."""
    end: int
    """The number of the entry that comes next."""
    position: Position | None
    """How far its trades are in their topic."""
    writer: str
    """Who writes them, by host; "" where nobody does."""

    def line(self) -> str:
        """Return it for people."""
        at = self.position
        trades = "no trades yet" if at is None else f"command {at.position}, trade {at.trades}"
        writer = f"by {self.writer}" if self.writer else "by nobody"
        return (
            f"shard {self.shard}: log has entries {self.first} to {self.end - 1}; "
            f"topic of trades: {trades}, {writer}"
        )


def shard_statuses(section: KafkaSection, shards: int) -> list[ShardStatus]:
    """Return how each shard stands. Raises ``KafkaLinkError``."""
    place, topics = where(section), Topics.of(section)
    writers = _writers(section)
    consumer = Consumer({**options(section, "shardbook-status"), "group.id": section.group_id})
    found = []
    try:
        for shard in range(shards):
            with judged(place):
                ends = consumer.get_watermark_offsets(
                    TopicPartition(topics.commands, shard), timeout=ANSWER_S
                )
            if ends is None:
                raise KafkaAwayError(f"{place}: no answer within {ANSWER_S:g} s")
            at = read_position(section, shard)
            found.append(ShardStatus(shard, *ends, at, writers.get(shard, "")))
    finally:
        consumer.close()
    return found


def _writers(section: KafkaSection) -> dict[int, str]:
    """Return who is dealt which shard."""
    admin = AdminClient(options(section, "shardbook-status"))
    group = group_of(section)
    with judged(where(section)):
        answer = admin.describe_consumer_groups([group], request_timeout=ANSWER_S)
        members = answer[group].result(ANSWER_S).members
    return {
        partition.partition: f"{member.client_id} at {member.host.lstrip('/')}"
        for member in members
        for partition in (member.assignment.topic_partitions if member.assignment else ())
    }
