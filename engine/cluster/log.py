"""One shard's log: a partition of the topic of commands, appended to and read by one matcher."""

import os
import threading
from collections import deque
from typing import Any, NamedTuple

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from engine.cluster.entries import HEADERS, VERSION
from engine.kafka.link import ANSWER_S, KafkaAwayError, judge, judged, options, where
from engine.kafka.topics import Topics
from engine.sections import KafkaSection

MOST_READ = 1_024
"""Entries that wait to be carried out before no more are fetched."""
AT_ONCE = 256
MOST_UNACKNOWLEDGED_BYTES = 32 << 20
"""Of entries that brokers have not confirmed, before links are not read from."""
_POLL_S = 0.2
_LOST = (
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
)


class LogError(Exception):
    """The log cannot be gone on with; the text says why."""


class Appended(NamedTuple):
    """An entry as the log has it."""

    offset: int
    appended_ms: int
    data: bytes


class Log:
    """A partition, from an offset on: it is read by a thread of its own."""

    def __init__(self, section: KafkaSection, shard: int, node: int) -> None:
        self.shard = shard
        self.unacknowledged_bytes = 0
        self.where = f"{where(section)}: {Topics.of(section).commands}, partition {shard}"
        self._topic = Topics.of(section).commands
        name = f"shardbook-node-{node}-{shard}"
        self._reading: dict[str, Any] = {
            **options(section, name),
            "group.id": section.group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 500,
            "fetch.error.backoff.ms": 20,
            "queued.max.messages.kbytes": 65_536,
            "check.crcs": True,
        }
        self._consumer = Consumer(self._reading)
        self._producer = Producer(
            {
                **options(section, name),
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 0,
                "message.timeout.ms": 0,  # what was taken from a link is never given up
                "retry.backoff.ms": 20,
                "queue.buffering.max.kbytes": 4 * MOST_UNACKNOWLEDGED_BYTES >> 10,
            }
        )
        self._read: deque[Appended | LogError] = deque()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._room = threading.Semaphore(MOST_READ)
        self._ending = False
        self._thread = threading.Thread(target=self._fetch, name="log", daemon=True)

    def ends(self) -> tuple[int, int]:
        """Return the first offset that is there, and that of the next entry.

        Raises ``KafkaLinkError``.
        """
        # One that met a partition without a leader takes it for unknown from then on.
        asking = Consumer(self._reading)
        try:
            with judged(self.where):
                found = asking.get_watermark_offsets(
                    TopicPartition(self._topic, self.shard), timeout=ANSWER_S
                )
        finally:
            asking.close()
        if found is None:
            raise KafkaAwayError(f"{self.where}: no answer within {ANSWER_S:g} s")
        return found

    @property
    def waiting(self) -> int:
        """How many entries have been fetched and not been taken."""
        return len(self._read)

    def begin(self, offset: int) -> None:
        """Read from an offset on."""
        with judged(self.where):
            self._consumer.assign([TopicPartition(self._topic, self.shard, offset)])
        self._thread.start()

    def fileno(self) -> int:
        """Return a descriptor that is readable while ``take`` has something to give."""
        return self._bell

    def take(self) -> list[Appended]:
        """Return what has come. Raises ``LogError`` where the log has not what comes next."""
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            return []
        found: list[Appended] = []
        while self._read:
            entry = self._read[0]
            if isinstance(entry, LogError):
                if found:
                    os.eventfd_write(self._bell, 1)
                    break
                raise entry
            found.append(entry)
            self._read.popleft()
            self._room.release()
        return found

    def append(self, data: bytes) -> None:
        """Append an entry; it is there once it is read."""
        size = len(data)

        def confirmed(error: KafkaError | None, _: Message) -> None:
            self.unacknowledged_bytes -= size
            if error is not None:
                self._tell(LogError(str(judge(self.where, error))))

        self.unacknowledged_bytes += size
        self._producer.produce(
            self._topic, data, partition=self.shard, headers=HEADERS, on_delivery=confirmed
        )

    def serve(self) -> None:
        """Take note of what brokers have confirmed."""
        self._producer.poll(0)

    @property
    def full(self) -> bool:
        """Whether so much is not confirmed that nothing more should be appended."""
        return self.unacknowledged_bytes > MOST_UNACKNOWLEDGED_BYTES

    def close(self) -> None:
        """Read no more."""
        self._ending = True
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()
        self._producer.purge()

    def _tell(self, found: "Appended | LogError") -> None:
        self._read.append(found)
        os.eventfd_write(self._bell, 1)

    def _fetch(self) -> None:
        """Be the thread that reads."""
        while not self._ending:
            try:
                first = self._consumer.poll(_POLL_S)
                if first is None:
                    continue
                for message in (first, *self._consumer.consume(AT_ONCE, 0)):
                    if not self._take(message):
                        return
            except KafkaException as error:
                self._tell(LogError(str(judge(self.where, error.args[0]))))
                return

    def _take(self, message: Message) -> bool:
        """Pass a message on; False where none can follow."""
        error = message.error()
        if error is not None:
            if error.code() not in _LOST and not error.fatal():
                return True  # the library tries again
            self._tell(
                LogError(
                    f"{self.where}: {error.str()}: the log has not what comes next here; this "
                    "node needs the data directory of another one, or a new topic has another name"
                )
            )
            return False
        kind, appended_ms = message.timestamp()
        if kind != TIMESTAMP_LOG_APPEND_TIME:
            self._tell(LogError(f"{self.where}: message.timestamp.type: must be LogAppendTime"))
            return False
        if dict(message.headers() or ()).get("version") != VERSION:
            self._tell(LogError(f"{self.where}: offset {message.offset()}: is of another version"))
            return False
        while not self._room.acquire(timeout=_POLL_S):
            if self._ending:
                return False
        self._tell(Appended(message.offset() or 0, appended_ms, message.value() or b""))
        return True
