"""One shard's way into Kafka: it is followed, and each of its trades is put there once.

A batch is a transaction: trades, books, and the position behind them (``engine.kafka.position``).
Its producer is transactional under the shard's name, so whoever begins later fences this one, and
nothing of a batch that was cut short is ever seen by a consumer that reads what is committed. After
any error the producer is made anew: that settles what became of its last transaction, and where
the shard is then says whether the batch is to be written once more.
"""

import logging
import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from confluent_kafka import Producer

from engine.books.contract import Records
from engine.books.secret import identity
from engine.cache.formats import Written
from engine.history.past import earliest_position
from engine.journal.format import JournalError
from engine.journal.reader import read_header, segments_of
from engine.journal.snapshot import read_snapshot, snapshots_of
from engine.kafka.link import ANSWER_S, KafkaAwayError, KafkaLinkError, judged, options, where
from engine.kafka.messages import Snapshots, instrument
from engine.kafka.position import Position, encode, read_position
from engine.kafka.topics import HEADERS, Topics
from engine.plan import Plan
from engine.shard.follower import Follower, last_shown
from engine.shard.holds import hold
from engine.trade_log.lines import LineFormatter, to_records
from engine.trade_log.log import read_trades
from ipc.records import make_id, sequence_of, shard_of

logger = logging.getLogger("shardbook.kafka")

HOLD = "kafka"
LOG = "log"
STAND_BY_S = 5.0
"""How often it is looked how far the node is that writes a shard."""
BATCH_COMMANDS = 16_384
"""Of one transaction, about; what a single command comes to is never parted."""
BATCH_TRADES = 16_384
PAST_TRADES = 8_192
"""Of the trade log, in one transaction."""
FULL_WAIT_S = 0.01
HOLD_S = 0.5
"""How often the hold is taken further."""


class _Batch(NamedTuple):
    """What one transaction has: topic, key and value of each message, and the position behind."""

    after: Position
    commands: int
    trades: int
    snapshots: int
    messages: list[tuple[str, str, bytes]]


class ShardExport:
    """One shard's way into Kafka. Raises ``KafkaLinkError``, ``JournalError``, ``TradeLogError``
    and ``OSError``."""

    def __init__(self, plan: Plan, shard: int) -> None:
        self.commands = self.trades = self.snapshots = self.transactions = self.missing = 0
        """Written by this object; of ``missing`` trades no log has anything any more."""
        self.shard = shard
        self._plan, self._section = plan, plan.config.kafka
        self._where, self._topics = where(self._section), Topics.of(self._section)
        self._directory = plan.journal_dir(shard)
        self._formatter = LineFormatter(plan.known_instruments)
        self._symbols = {i.number: i.symbol for i in plan.known_instruments}
        written = {i.number: Written.of(i) for i in plan.known_instruments}
        self._snapshots = Snapshots(written, self._section.snapshot_levels)
        self._producer: Producer | None = None
        self._follower: Follower | None = None
        self._past: Iterator[_Batch] | None = None
        self._at: Position | None = None
        """Where Kafka is known to be; None: that is not known."""
        self._pending: _Batch | None = None
        self._touched: set[int] = set()
        self._snapshot_at_s = self._hold_at_s = 0.0
        self._held = -1
        self._caught_up_ns = 0

    @property
    def position(self) -> int:
        """The last command that Kafka has."""
        return 0 if self._at is None else self._at.position

    def step(self) -> int:
        """Write one batch; return how many commands and trades."""
        if self._producer is None and not self._connect():
            return 0
        if self._pending is None:
            self._pending = self._next()
        if self._pending is None:
            self._caught_up_ns = time.time_ns()
            return 0
        self._write(self._pending)
        done = self._account(self._pending)
        self._hold_on()
        return done

    def lag(self) -> tuple[int, int]:
        """Return how far Kafka is behind: commands, nanoseconds."""
        behind = 0 if self._follower is None else self._follower.behind()
        if self._pending is not None:
            behind += self._pending.after.position - self.position
        last_ns = 0 if self._at is None else self._at.timestamp_ns
        waited = time.time_ns() - max(self._caught_up_ns, last_ns) if behind else 0
        return behind, max(0, waited)

    def stand_by(self) -> None:
        """Keep what would be needed if this node were to write the shard."""
        now_s = time.monotonic()
        if now_s < self._hold_at_s or not self._directory.is_dir():
            return
        self._hold_at_s = now_s + STAND_BY_S
        there = read_position(self._section, self.shard)
        self._keep(0 if there is None else there.position)

    def disconnect(self) -> None:
        """Throw the producer away: the next one settles what became of its transaction."""
        if self._producer is not None:
            self._producer.purge()
            self._producer = None
        self._past = None

    def close(self) -> None:
        """Stop following."""
        self.disconnect()
        self._hold_on(now=True)
        self._pending = None
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    # Where it goes on ----------------------------------------------------------------------------

    def _connect(self) -> bool:
        """Learn where Kafka is, and be the one who writes; False where the shard has not begun."""
        secret = _secret_of(self._directory)
        if secret is None:
            return False
        if self._held < 0:
            self._keep(0)
        if self._follower is None:  # before any other is fenced
            self._check_owner(read_position(self._section, self.shard), self._identity(secret))
        producer = Producer(
            {
                **options(self._section, f"shardbook-trades-{self.shard}-{os.getpid()}"),
                "transactional.id": f"{self._section.prefix}.trades.{self.shard}",
                "linger.ms": 5,
                "batch.size": 1 << 18,
                "compression.type": "lz4",
                "retry.backoff.ms": 5,
                "queue.buffering.max.messages": 1 << 20,
            }
        )
        with judged(self._where):
            producer.init_transactions(ANSWER_S)
        self._settle(read_position(self._section, self.shard))
        self._producer = producer
        return True

    def _settle(self, there: Position | None) -> None:
        """Go on from where Kafka is."""
        if self._pending is not None and there == self._pending.after:
            self._account(self._pending)  # its answer was lost, and nothing else
            return
        if self._follower is not None and self._at is not None and there == self._at:
            return
        if self._follower is not None:
            self._follower.close()
            self._follower = None
        self._pending, self._at = None, None
        wanted = 0 if there is None else there.position
        if self._plan.config.cluster.enabled and last_shown(self._plan, self.shard) < wanted:
            raise KafkaAwayError(
                f"{self._where}: shard {self.shard} is written up to command {wanted}, which this "
                "node has not come to yet"
            )
        position = earliest_position(self._directory, wanted)
        follower = Follower(self._plan, self.shard, position, self._table_path())
        try:
            self._check(there, follower, same=position == wanted)
            self._check_past(there, follower)
        except BaseException:
            follower.close()
            raise
        self._follower = follower
        known = self._identity(follower.shard.secret)
        self._at = there or Position(self.shard, known, 0, 0, 0)
        self._touched = {i.number for i in self._plan.instruments_of(self.shard)}
        self._pending = _Batch(self._at, 0, 0, 0, self._instruments())

    def _identity(self, secret: int) -> str:
        """Return the name of what a shard's commands come from: of a cluster the log."""
        return LOG if self._plan.config.cluster.enabled else identity(secret)

    def _check_owner(self, there: Position | None, known: str) -> None:
        """Raise where another product has written the shard."""
        if there is not None and there.identity != known:
            raise KafkaLinkError(
                f"{self._where}: shard {self.shard} was written from another data directory (its "
                f"journal is {there.identity[:8]}, this one is {known[:8]}); give kafka.prefix "
                "another name"
            )

    def _check(self, there: Position | None, follower: Follower, *, same: bool) -> None:
        """Raise where Kafka does not know this journal's commands."""
        if there is None:
            return
        trades = follower.shard.book.counters().trade_sequence
        if same and trades != there.trades:
            raise KafkaLinkError(
                f"{self._where}: shard {self.shard}: trade {there.trades} is there as the last one "
                f"of command {there.position}, the journal has {trades}: it goes on from before "
                "what Kafka has"
            )

    def _check_past(self, there: Position | None, follower: Follower) -> None:
        """Raise where other nodes have trades that this one has not."""
        known = 0 if there is None else there.trades
        if (
            not self._plan.config.cluster.enabled
            or follower.shard.book.counters().trade_sequence <= known
        ):
            return
        later = read_trades(self._plan.log_dir, after=make_id(self.shard, known))
        first = next((t.trade_id for t in later if shard_of(t.trade_id) == self.shard), 0)
        if first != make_id(self.shard, known + 1):
            raise KafkaLinkError(
                f"{self._where}: shard {self.shard}: trade {known} is there as the last one, and "
                "this node has not the next: a node that has been there for longer has to write it"
            )

    def _instruments(self) -> list[tuple[str, str, bytes]]:
        return [
            (self._topics.instruments, found.symbol, instrument(found))
            for found in self._plan.known_instruments
            if found.shard == self.shard
        ]

    # What is written -----------------------------------------------------------------------------

    def _next(self) -> _Batch | None:
        """Return the next batch, None where there is none yet."""
        assert self._at is not None
        assert self._follower is not None
        shard = self._follower.shard
        if self._at.position < self._follower.position or self._past is not None:
            if self._past is None:
                self._past = self._logged(self._at, self._follower)
            batch = next(self._past, None)
            if batch is not None:
                return batch
            self._past = None
        trades: list[Records] = []
        commands = traded = 0
        while commands < BATCH_COMMANDS and traded < BATCH_TRADES:
            followed = self._follower.step()
            if followed is None:
                break
            commands += len(followed.commands)
            traded += len(followed.trades)
            trades.append(followed.trades)
            reports = followed.reports
            numbers = np.unique(reports["symbol"]).tolist()
            self._touched.update(n for n in numbers if n in self._symbols)
        messages = [message for some in trades for message in self._trades(some)]
        messages += self._books(self._follower)
        if not commands and not messages:
            return None
        counters = shard.book.counters()
        after = Position(
            self.shard,
            self._at.identity,
            counters.sequence,
            counters.trade_sequence,
            shard.timestamp_ns,
        )
        return _Batch(after, commands, traded, len(messages) - traded, messages)

    def _logged(self, at: Position, follower: Follower) -> Iterator[_Batch]:
        """Yield the trades of the log that no journal has any more, and come to the follower."""
        shard = follower.shard
        last = shard.book.counters().trade_sequence
        found = (
            trade
            for trade in read_trades(self._plan.log_dir, after=make_id(self.shard, at.trades))
            if shard_of(trade.trade_id) == self.shard and sequence_of(trade.trade_id) <= last
        )
        count, first = 0, at.trades
        while some := list(islice(found, PAST_TRADES)):
            count += len(some)
            after = Position(
                self.shard, at.identity, at.position, sequence_of(some[-1].trade_id), 0
            )
            records = to_records(some, self._plan.known_instruments)
            yield _Batch(after, 0, len(some), 0, self._trades(records))
        missing = last - first - count
        if missing:
            self.missing += missing
            logger.warning("shard %d: %d trades are in no log any more", self.shard, missing)
        yield _Batch(
            Position(self.shard, at.identity, follower.position, last, shard.timestamp_ns),
            follower.position - at.position,
            0,
            0,
            [],
        )

    def _trades(self, trades: Records) -> list[tuple[str, str, bytes]]:
        """Return the messages of trades (TRADE)."""
        lines = bytes(self._formatter.format(trades)).splitlines()
        topic, symbols = self._topics.trades, self._symbols
        return [
            (topic, symbols[number], line)
            for number, line in zip(trades["symbol"].tolist(), lines, strict=True)
        ]

    def _books(self, follower: Follower) -> list[tuple[str, str, bytes]]:
        """Return the messages of books that have changed, where it is time for them."""
        now, every_ms = time.monotonic(), self._section.snapshot_ms
        if not every_ms:
            self._touched.clear()
        if not self._touched or now < self._snapshot_at_s:
            return []
        self._snapshot_at_s = now + every_ms / 1_000
        shard = follower.shard
        messages = [
            (
                self._topics.snapshots,
                *self._snapshots.of(number, shard.book, follower.position, shard.timestamp_ns),
            )
            for number in sorted(self._touched)
        ]
        self._touched.clear()
        return messages

    def _write(self, batch: _Batch) -> None:
        """Carry a transaction out."""
        producer = self._producer
        assert producer is not None
        with judged(self._where):
            producer.begin_transaction()
            for topic, key, value in batch.messages:
                self._put(producer, topic, key, value)
            self._put(
                producer, self._topics.positions, str(self.shard), encode(batch.after), self.shard
            )
            producer.commit_transaction(ANSWER_S)

    def _put(
        self, producer: Producer, topic: str, key: str, value: bytes, partition: int = -1
    ) -> None:
        """Queue a message, waiting for room where there is none."""
        deadline_s = time.monotonic() + ANSWER_S
        while True:
            try:
                producer.produce(topic, value, key, partition, headers=HEADERS)
            except BufferError:
                if time.monotonic() > deadline_s:
                    raise KafkaAwayError(f"{self._where}: takes nothing") from None
                producer.poll(FULL_WAIT_S)
            else:
                return

    def _account(self, written: _Batch) -> int:
        """Be behind a batch; return how much it was."""
        self._at, self._pending = written.after, None
        self.commands += written.commands
        self.trades += written.trades
        self.snapshots += written.snapshots
        self.transactions += 1
        return written.commands + written.trades

    # What it needs of the journal ----------------------------------------------------------------

    def _hold_on(self, *, now: bool = False) -> None:
        """Take the hold to where Kafka is, now and then."""
        if (now or time.monotonic() > self._hold_at_s) and self._at is not None:
            self._keep(self.position)
            self._hold_at_s = time.monotonic() + HOLD_S

    def _keep(self, position: int) -> None:
        if position > self._held and self._directory.is_dir():
            hold(self._directory, HOLD, position)
            self._held = position

    def _table_path(self) -> Path:
        """Return where the order table of the replay lies: in memory where the product runs."""
        run_dir = self._plan.run_dir
        directory = run_dir if run_dir.is_dir() else self._directory
        for left in directory.glob(f"kafka-orders-{self.shard}-*.tmp"):
            left.unlink(missing_ok=True)  # of one that was killed: there is no other
        return directory / f"kafka-orders-{self.shard}-{os.getpid()}.tmp"


def _secret_of(directory: Path) -> int | None:
    """Return a shard's secret; None where it has not begun, or its first page is being written."""
    try:
        for segment in segments_of(directory)[:1]:
            return read_header(segment.path).secret
        for path in snapshots_of(directory)[:1]:
            return read_snapshot(path).secret
    except JournalError:
        return None
    return None
