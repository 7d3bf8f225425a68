"""What a shard's journal comes to: the newest snapshot that may be used, and the commands after it.

Replay is deterministic, so it gives the ids, trades and reports that were given before. Trades that
are published already are made again and dropped; those after them, which a crash kept from getting
there, are published now: so the log gets each trade once. What else commands do when they are
carried out again is what they did before (``engine.shard.effects``), as far as anyone is shown.

A snapshot can be used only if the log has all trades up to it, for they cannot be made again: one
that is ahead of the log is passed over in favour of an older one.
"""

import contextlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.books.choice import configured, make_book
from engine.books.contract import Book, Counters, Records
from engine.books.secret import SECRET_BITS
from engine.journal.format import JournalError
from engine.journal.reader import End, JournalReader, is_configure, read_header, segments_of
from engine.journal.shard_config import ShardConfig, obstacle, shard_config_of
from engine.journal.snapshot import (
    ACCOUNT,
    Snapshot,
    VersionError,
    read_snapshot,
    sequence_of_snapshot,
    snapshots_of,
)
from engine.plan import Plan, table_capacity
from engine.shard.account_sequences import AccountSequences, SequenceState
from engine.shard.effects import Made, Sinks, carry_out
from ipc.memory.order_table import OrderTableWriter, create_table
from ipc.records import REPORT, SEQUENCE_MASK, TRADE

logger = logging.getLogger("shardbook.matcher")

_BATCH_COMMANDS = 2_048
"""Replayed at a time: what comes of so many stays in a core's cache."""

Publish = Callable[[Records, Records, int], None]
"""Takes new trades, the reports that belong to them, and the number of the first of all reports."""
Show = Callable[[Sinks, int], Sinks]
"""Adds to where effects go; told how many reports there are at most between two times."""


def publish_nothing(trades: Records, reports: Records, first_report: int) -> None:
    """Take what replay gives, for nobody."""


def show_nobody(sinks: Sinks, most_reports: int) -> Sinks:
    """Add nothing to the state itself."""
    return sinks


@dataclass
class Found:
    """What a start would begin from."""

    snapshot: Snapshot
    path: Path | None = None
    """The snapshot's file; None: the beginning, with nothing."""
    notes: list[str] = field(default_factory=list)
    """Why newer snapshots were passed over."""


class Shard:
    """The books, report numbers and order table of a shard, as its commands make them."""

    def __init__(
        self,
        plan: Plan,
        shard: int,
        snapshot: Snapshot,
        table_path: Path,
        published: int = 0,
        show: Show = show_nobody,
    ) -> None:
        """Begin with a snapshot, under its configuration. The order table is made at
        ``table_path``, for this one alone.

        Trades up to sequence ``published`` are known and have no effects any more.
        """
        self.shard_config = snapshot.shard_config
        """In force now."""
        self._engine = plan.config.engine
        self.book: Book = make_book(
            self._engine.book,
            shard,
            self.shard_config.limits(),
            self.shard_config.recent_orders,
            Counters(0, 0, 0),
            snapshot.secret,
            self.shard_config.shares(),
        )
        self.book.restore(*snapshot.book_state())
        self.account_sequences = AccountSequences(shard, snapshot.secret)
        self.account_sequences.restore(
            SequenceState(
                snapshot.reports,
                np.ascontiguousarray(snapshot.accounts["account"]),
                np.ascontiguousarray(snapshot.accounts["sequence"]),
            )
        )
        self.table = self._make_table(table_path, snapshot.orders, snapshot.texts)
        self.timestamp_ns = snapshot.timestamp_ns
        self.secret = snapshot.secret
        self._reports = np.zeros(4 * _BATCH_COMMANDS, REPORT)
        self._trades = np.zeros(2 * _BATCH_COMMANDS, TRADE)
        self._published = published
        sinks = Sinks(self.book, self.account_sequences, self.table)
        self._sinks = show(sinks, len(self._reports))

    def replay(self, commands: Records, publish: Publish) -> None:
        """Carry commands of one configuration out; ``publish`` gets what comes of them, in
        pieces."""
        for start in range(0, len(commands), _BATCH_COMMANDS):
            batch = commands[start : start + _BATCH_COMMANDS]
            done = 0
            while done < len(batch):
                progress = self.book.process(batch[done:], self._reports, self._trades)
                self.table.note_texts(batch[done : done + progress.commands])
                done += progress.commands
                trades = self._new(self._trades[: progress.trades])
                made = Made(trades, self._reports[: progress.reports])
                carry_out(self._sinks, made)
                publish(made.trades, made.reports, made.first_report)
        if len(commands):
            self.timestamp_ns = max(self.timestamp_ns, int(commands["timestamp_ns"].max()))

    def _new(self, trades: Records) -> Records:
        """Return those of the trades that are not known."""
        last = int(trades["trade_id"][-1]) & SEQUENCE_MASK if len(trades) else 0
        return trades[len(trades) - min(len(trades), max(0, last - self._published)) :]

    def replay_from(self, reader: JournalReader, commands: Records, publish: Publish) -> None:
        """Carry out some of the commands that a reader has just given."""
        if is_configure(commands):
            assert reader.shard_config is not None
            self.configure(reader.shard_config, int(commands["timestamp_ns"][0]))
        else:
            self.replay(commands, publish)

    def configure(self, shard_config: ShardConfig, timestamp_ns: int) -> None:
        """Carry out CONFIGURE: ``shard_config`` is in force from here on."""
        former = self.shard_config
        self.shard_config = shard_config
        self.book = configured(
            self.book,
            self._engine.book,
            shard_config.shard,
            shard_config.limits(),
            shard_config.recent_orders,
            self.secret,
            shard_config.shares(),
        )
        if shard_config.max_resting_orders() > former.max_resting_orders():
            path, orders = self.table.mapping.path, self.table.contents()
            texts = self.table.texts_of(orders)
            self.close()
            self.table = self._make_table(path, orders, texts)
        self._sinks = self._sinks._replace(book=self.book, table=self.table)
        self.timestamp_ns = max(self.timestamp_ns, timestamp_ns)

    def _make_table(self, path: Path, orders: Records, texts: Records) -> OrderTableWriter:
        ended = self._engine.ended_orders
        capacity = table_capacity(self.shard_config.max_resting_orders(), ended)
        create_table(path, self.shard_config.shard, capacity, ended)
        table = OrderTableWriter(path)
        table.adopt(orders, texts)
        return table

    def snapshot(self) -> Snapshot:
        """Return all that there is to keep."""
        book, numbers = self.book, self.account_sequences.state()
        accounts = np.zeros(len(numbers.accounts), ACCOUNT)
        accounts["account"], accounts["sequence"] = numbers.accounts, numbers.sequences
        orders = self.table.contents()
        return Snapshot(
            self.shard_config,
            book.counters(),
            self.timestamp_ns,
            numbers.reports,
            self.secret,
            book.resting(),
            book.recent(),
            book.sweeps(),
            book.last_prices(),
            orders,
            self.table.texts_of(orders),
            accounts,
        )

    def close(self) -> None:
        """Let go of the table, and remove it."""
        path = self.table.mapping.path
        self.table.close()
        path.unlink(missing_ok=True)


def find_start(
    directory: Path, shard_config: ShardConfig, published: int | None, position: int | None = None
) -> Found:
    """Return what to begin from: trades up to sequence ``published`` are known to readers; None
    where no trade need be made again. Where what came of commands after ``position`` is needed, it
    begins there or before. A shard that has kept nothing begins under ``shard_config``.

    Raises ``JournalError`` where there is nothing whole to begin from, and ``OSError``.
    """
    notes = []
    for path in snapshots_of(directory):
        if position is not None and sequence_of_snapshot(path) > position:
            continue
        try:
            snapshot = read_snapshot(path)
        except VersionError:
            raise
        except JournalError as error:
            notes.append(f"{error}; an older one is used")
            continue
        if published is not None and snapshot.counters.trade_sequence > published:
            notes.append(
                f"{path}: is ahead of the trade log, which ends with trade {published}; an older "
                "one is used"
            )
            continue
        return Found(snapshot, path, notes)
    segments = segments_of(directory)
    begins = segments[0].first_sequence if segments else 0
    if position is not None and (begins > 1 or (not segments and position)):
        there = f"begins with command {begins}" if segments else "is not there"
        raise JournalError(
            f"{directory}: the journal {there}, and no snapshot stands for command {position} or "
            "one before it" + "".join(f"; {note}" for note in notes)
        )
    if begins > 1 or (not segments and (notes or published)):
        there = f"begins with command {begins}" if segments else "is not there"
        raise JournalError(
            f"{directory}: no snapshot can be used, the journal {there}, and the trade log ends "
            f"with trade {published}" + "".join(f"; {note}" for note in notes)
        )
    secret = secrets.randbits(SECRET_BITS)  # where the shard is new
    with contextlib.suppress(JournalError):  # who reads the segment says what is wrong with it
        if segments:
            header = read_header(segments[0].path)
            secret, shard_config = header.secret, header.shard_config
    return Found(Snapshot(shard_config, Counters(0, 0, 0), 0, secret=secret), None, notes)


@dataclass
class Recovered:
    """A shard brought back."""

    shard: Shard
    end: End
    """Where its journal goes on."""
    found: Found
    commands: int
    """How many were replayed."""


def recover(
    plan: Plan,
    shard: int,
    published: int,
    publish: Publish,
    table_path: Path,
    progress: Callable[[int], None] = lambda commands: None,
    show: Show = show_nobody,
) -> Recovered:
    """Bring a shard back, under the configuration that it was left with.

    The trades after sequence ``published``, and all reports, have their effects on what ``show``
    adds; then ``publish`` gets them. ``progress`` is told how many commands were replayed so far.
    Otherwise reads only. Raises ``JournalError`` and ``OSError``.
    """
    directory = plan.journal_dir(shard)
    found = find_start(directory, shard_config_of(plan, shard), published)
    state = Shard(plan, shard, found.snapshot, table_path, published, show)
    after = found.snapshot.counters.sequence
    snapshot = found.snapshot
    reader = JournalReader(directory, snapshot.shard_config, after, secret=snapshot.secret)
    try:
        for commands in reader.chunks():
            state.replay_from(reader, commands, publish)
            progress(state.book.counters().sequence - after)
        _check_end(directory, reader.end, found, state.book.counters(), published)
    except BaseException:
        state.close()
        raise
    reader.end.timestamp_ns = max(reader.end.timestamp_ns, state.timestamp_ns)
    return Recovered(state, reader.end, found, state.book.counters().sequence - after)


def refuse(recovered: Recovered, wanted: ShardConfig) -> None:
    """Raise ``JournalError`` where a shard cannot go on under another configuration."""
    state = recovered.shard
    why = obstacle(state.shard_config, wanted, state.book.resting(), state.book.sweeps())
    if why:
        raise JournalError(f"shard {wanted.shard}: the configuration cannot be changed: {why}")


def _check_end(directory: Path, end: End, found: Found, counters: Counters, published: int) -> None:
    """Raise where the journal ends before what is known to have come after it."""
    if end.sequence < found.snapshot.counters.sequence or (found.path and end.path is None):
        raise JournalError(
            f"{directory}: the journal ends with command {end.sequence if end.path else 0}, before "
            f"the snapshot {found.path}"
        )
    if counters.trade_sequence < published:
        raise JournalError(
            f"{directory}: the journal ends with command {end.sequence} and trade "
            f"{counters.trade_sequence}, but the trade log has trade {published}: the end of the "
            "journal is lost"
        )
