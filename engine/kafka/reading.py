"""Reading what is committed of a topic, from its beginning to where it ends now."""

from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from engine.kafka.link import ANSWER_S, KafkaAwayError, judged, options, where
from engine.sections import KafkaSection

AT_ONCE = 1_000


def committed(section: KafkaSection, topic: str) -> Iterator[Message]:
    """Yield the messages of a topic, each partition's in order. Raises ``KafkaLinkError``."""
    place = where(section)
    consumer = Consumer(
        {
            **options(section, "shardbook-reader"),
            "group.id": section.group_id,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        with judged(place):
            there = consumer.list_topics(topic, timeout=ANSWER_S).topics[topic]
            left = set(there.partitions or {})
            if not left:
                raise KafkaAwayError(f"{place}: there is no topic {topic}")
            consumer.assign([TopicPartition(topic, number, 0) for number in sorted(left)])
            while left:
                first = consumer.poll(ANSWER_S)
                if first is None:
                    raise KafkaAwayError(f"{place}: no answer within {ANSWER_S:g} s")
                for message in (first, *consumer.consume(AT_ONCE, 0)):
                    error = message.error()
                    if error is None:
                        yield message
                    elif error.code() == KafkaError._PARTITION_EOF:
                        left.discard(message.partition() or 0)
                    else:
                        raise KafkaException(error)
    finally:
        consumer.close()
