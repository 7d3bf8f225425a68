"""Following a shard: all that its commands come to, from any position on, and never its matcher's
burden.

The journal is the source. The same commands give the same reports, trades, ids and times, bit for
bit, so a follower begins with a snapshot at or before its position, carries out the journal behind
it in a process of its own, and then stays close behind the matcher. A position is the sequence
number of a command; what came of the commands up to it is done with.

Of a running product a follower sees only what its matcher has shown: with ``fsync`` nothing that a
loss of power could take back.

Whoever follows keeps its position where it keeps what it made of it, in one transaction. Beside
that a hold (``engine.shard.holds``) tells the snapshotter which journal and snapshots must stay.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.books.contract import Records
from engine.journal.format import JournalError
from engine.journal.reader import JournalReader, segments_of
from engine.journal.shard_config import shard_config_of
from engine.plan import Plan
from engine.roles import MATCHER
from engine.shard.recovery import Shard, find_start, publish_nothing
from engine.storage import Storage
from ipc.arrays import joined
from ipc.memory.mapping import MappingError
from ipc.memory.status import PID, StatusReader, counter_place, is_alive
from ipc.records import COMMAND, REPORT, TRADE

BATCH_COMMANDS = 2_048
"""Carried out at a time: what comes of so many stays in a core's cache."""
_ALL_COMMANDS = 1 << 62
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.016
_COMMANDS = counter_place(MATCHER, "commands")


class Followed(NamedTuple):
    """What some commands came to, whole. The arrays are the caller's."""

    position: int
    """The last command of them: where to go on from."""
    commands: Records
    """COMMAND."""
    reports: Records
    """REPORT, numbered."""
    trades: Records
    """TRADE."""
    first_report: int
    """The number of the first report, as the shard's report ring counts; that of the next one
    where there is none."""


def as_one(batches: Sequence[Followed]) -> Followed:
    """Return batches that follow each other, one at least, as one."""
    if len(batches) == 1:
        return batches[0]
    return Followed(
        batches[-1].position,
        joined([batch.commands for batch in batches]),
        joined([batch.reports for batch in batches]),
        joined([batch.trades for batch in batches]),
        batches[0].first_report,
    )


class Follower:
    """What comes of a shard's commands behind a position; see the module.

    ``shard`` is the state at ``position``: books, order table, account numbers.
    """

    def __init__(self, plan: Plan, shard: int, position: int | None, table_path: Path) -> None:
        """Begin behind ``position``; None: with the newest snapshot, wherever that is.

        The order table is made at ``table_path``, for this one alone. Raises ``JournalError`` where
        the journal begins behind the position or ends before it, and ``OSError``.
        """
        self._directory = plan.journal_dir(shard)
        self._fsync = plan.config.journal.durability == "fsync"
        self._matched = Matched(plan, shard)
        found = find_start(self._directory, shard_config_of(plan, shard), None, position)
        began = found.snapshot.counters.sequence
        self._reader = JournalReader(self._directory, found.snapshot.shard_config, began, live=True)
        self._chunks: Iterator[Records] = iter(())
        self._chunk = np.zeros(0, COMMAND)
        self.shard = Shard(plan, shard, found.snapshot, table_path)
        try:
            self._skip_to(began if position is None else position)
        except BaseException:
            self.close()
            raise

    @property
    def position(self) -> int:
        """The last command that was carried out."""
        return self.shard.book.counters().sequence

    def behind(self) -> int:
        """Return how many commands the matcher has shown beyond; 0 while no product runs."""
        return max(0, (self._matched.sequence() or 0) - self.position)

    def step(self, limit: int = BATCH_COMMANDS) -> Followed | None:
        """Return what the next commands came to, up to 2,048 of them, or up to ``limit`` where that
        is less; None: there are none yet.

        Raises ``JournalError`` where the journal is damaged, and ``OSError``.
        """
        commands = self._next(min(limit, BATCH_COMMANDS))
        if not len(commands):
            return None
        pieces: list[tuple[bytes, bytes]] = []
        first = self.shard.account_sequences.reports + 1

        def collect(trades: Records, reports: Records, _: int) -> None:
            # As bytes: numpy copies records of many fields one by one, 20 times slower.
            pieces.append((trades.tobytes(), reports.tobytes()))

        self.shard.replay_from(self._reader, commands, collect)
        return Followed(
            self.position,
            np.frombuffer(commands.tobytes(), COMMAND),
            np.frombuffer(b"".join(reports for _, reports in pieces), REPORT),
            np.frombuffer(b"".join(trades for trades, _ in pieces), TRADE),
            first,
        )

    def catch_up(self) -> int:
        """Carry out all that there is by now, showing it to nobody; return the position.

        Raises as ``step`` does.
        """
        while len(commands := self._next(_ALL_COMMANDS)):
            self.shard.replay_from(self._reader, commands, publish_nothing)
        return self.position

    def wait(self, timeout_s: float) -> bool:
        """Return once the matcher has shown more: true; or after the timeout: false.

        While no product runs there is nobody to show more.
        """
        deadline = time.monotonic() + timeout_s
        pause_s = _SHORTEST_PAUSE_S
        while (self._matched.sequence() or 0) <= self.position:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return True

    def close(self) -> None:
        """Let go of the order table, and remove it."""
        self.shard.close()

    def _skip_to(self, position: int) -> None:
        """Carry out what was followed before: it had been shown, whatever the matcher is at now."""
        while self.position < position:
            self._fill()
            missing = position - self.position
            commands, self._chunk = self._chunk[:missing], self._chunk[missing:]
            if not len(commands):
                raise JournalError(
                    f"{self._directory}: the journal ends with command {self.position}, but "
                    f"command {position} was followed before: the end of the journal is lost"
                )
            self.shard.replay_from(self._reader, commands, publish_nothing)

    def _next(self, limit: int) -> Records:
        """Return up to so many commands that may be carried out now."""
        matched = self._matched.sequence()
        if matched is not None:
            limit = min(limit, max(0, matched - self.position))
        if limit:
            if matched is None and self._fsync and not len(self._chunk):
                self._sync()
            self._fill()
            if matched is not None and not len(self._chunk):
                raise JournalError(
                    f"{self._directory}: the matcher has carried out command {matched}, but the "
                    f"journal cannot be read behind command {self.position}"
                )
        commands, self._chunk = self._chunk[:limit], self._chunk[limit:]
        return commands

    def _fill(self) -> None:
        """Read on where all was taken that was read."""
        if not len(self._chunk):
            self._chunk = next(self._chunks, self._chunk)
        if not len(self._chunk):
            self._chunks = self._reader.chunks()
            self._chunk = next(self._chunks, self._chunk)

    def _sync(self) -> None:
        """Have the disk take what a product left that does not run: only that is followed."""
        storage = Storage()
        for segment in segments_of(self._directory):
            descriptor = storage.open(segment.path)
            try:
                storage.sync(descriptor)
            finally:
                storage.close(descriptor)


def last_shown(plan: Plan, shard: int) -> int:
    """Return the last command that a shard's matcher has shown; 0 while no product runs."""
    return Matched(plan, shard).sequence() or 0


class Matched:
    """The last command that a matcher has shown, as its status says."""

    def __init__(self, plan: Plan, shard: int) -> None:
        self._path, self._shard = plan.status_path, shard
        self._status: StatusReader | None = None
        self._matcher = self._supervisor = memoryview(b"")

    def sequence(self) -> int | None:
        """Return it; None where no product runs."""
        if self._status is None or self._status.mapping.replaced:
            try:
                self._status = StatusReader(self._path)
            except MappingError:
                self._status = None
                return None
            self._matcher = self._status.slot("matcher", self._shard)
            self._supervisor = self._status.slot("supervisor", 0)
        if not is_alive(self._supervisor[PID]):
            return None
        return self._matcher[_COMMANDS]
