"""How far a shard is in Kafka: a record in the topic of positions, written with what it stands for.

One transaction has trades and the position behind them, so a consumer that reads what is committed
has both or neither, and an exporter that comes again goes on exactly behind what is there. The
shard's number is the record's partition and its key; the topic is compacted, so the last one stays.
"""

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from msgspec import Struct

from engine.kafka.link import ANSWER_S, KafkaAwayError, KafkaLinkError, judged, options, where
from engine.kafka.topics import Topics
from engine.sections import KafkaSection

FEW = 64
"""Records looked at from the end first; there may be more behind the last position than markers of
transactions."""


class Position(Struct, frozen=True):
    """Where a shard is."""

    shard: int
    identity: str
    """Of its journal; see ``engine.books.secret``."""
    position: int
    """The last command that is there."""
    trades: int
    """The sequence of the last trade that is there."""
    timestamp_ns: int
    """Of the shard, at that command."""


encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Position)


def read_position(section: KafkaSection, shard: int) -> Position | None:
    """Return the last position that was committed, None where there is none.

    Raises ``KafkaLinkError``.
    """
    place, topic = where(section), Topics.of(section).positions
    settings = {
        **options(section, f"shardbook-positions-{shard}"),
        "group.id": section.group_id,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
    }
    consumer = Consumer(settings)
    try:
        with judged(place):
            partition = TopicPartition(topic, shard)
            ends = consumer.get_watermark_offsets(partition, timeout=ANSWER_S)
            assert ends is not None
            low, high = ends
            few = FEW
            while True:
                start = max(low, high - few)
                found = _last(consumer, place, TopicPartition(topic, shard, start))
                if found is not None or start == low:
                    break
                few *= 8
    finally:
        consumer.close()
    if found is None:
        return None
    try:
        return _decoder.decode(found)
    except msgspec.MsgspecError as error:
        raise KafkaLinkError(f"{place}: topic {topic}, partition {shard}: {error}") from None


def _last(consumer: Consumer, place: str, start: TopicPartition) -> bytes | None:
    """Return the last value from an offset on, None where there is none."""
    if start.offset == 0:
        start.offset = OFFSET_BEGINNING
    consumer.assign([start])
    found: bytes | None = None
    while True:
        message = consumer.poll(ANSWER_S)
        if message is None:
            raise KafkaAwayError(f"{place}: no answer within {ANSWER_S:g} s")
        error = message.error()
        if error is None:
            found = message.value()
        elif error.code() == KafkaError._PARTITION_EOF:
            return found
        else:
            raise KafkaException(error)
