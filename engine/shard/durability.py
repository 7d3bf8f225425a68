"""What stands between a matcher and its disk: recovery at the start, then every command kept first.

``keep`` puts a batch into the journal. It may be carried out at once where the journal need only
outlive processes (``async``), with ``fsync`` when ``ready`` gives it back: once the disk has it.
Nothing is carried out before, so nothing that comes of a command can be seen by anyone and then be
lost.
"""

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.books.contract import Records
from engine.journal.format import JournalError
from engine.journal.reader import segments_of
from engine.journal.segment_closer import SegmentCloser
from engine.journal.shard_config import differences, shard_config_of
from engine.journal.snapshot import snapshots_of
from engine.journal.syncer import Syncer
from engine.journal.writer import JournalWriter, make_durable
from engine.plan import Plan
from engine.roles import MATCHER
from engine.shard.effects import Sinks
from engine.shard.recovery import Recovered, publish_nothing, recover, refuse
from engine.storage import LockedError, Storage, lock_directory
from ipc.arrays import copy_of
from ipc.memory.status import StatusWriter, counter_place

logger = logging.getLogger("shardbook.matcher")

LOCK_WAIT_S = 60.0
"""How long a predecessor may take to end: one whose supervisor was killed drains first."""
RETRY_S = 0.05
_JOURNAL_BYTES = counter_place(MATCHER, "journal_bytes")
MOST_WAITING = 65_536
"""Commands that wait for the disk before no more are read."""


class Durability:
    """Keeps one shard's commands. ``stopping`` tells whether to give waiting up."""

    def __init__(
        self,
        plan: Plan,
        shard: int,
        status: StatusWriter,
        storage: Storage | None = None,
        stopping: Callable[[], bool] = lambda: False,
        *,
        background: bool = True,
    ) -> None:
        """Take the shard's journal. Raises ``JournalError`` where another process has it."""
        settings = plan.config.journal
        self.fsync = settings.durability == "fsync"
        self.syncer: Syncer | None = None
        self._off = settings.durability == "off"
        self._plan, self._shard, self._status = plan, shard, status
        self._storage = storage or Storage()
        self._stopping = stopping
        self._background = background
        self._directory = plan.journal_dir(shard)
        self._journal: JournalWriter | None = None
        self._waiting: deque[tuple[int, Records]] = deque()
        self._waiting_commands = 0
        self._lock = -1

    def recover(
        self,
        published: int,
        table_path: Path,
        show: Callable[[Sinks, int], Sinks],
        clock: Callable[[], int] = time.time_ns,
    ) -> Recovered:
        """Bring the shard back, and the configuration into force that it is to have; what is kept
        from then on follows.

        The trades after sequence ``published``, and all reports, have the effects that ``show``
        adds: see ``engine.shard.recovery.recover``. Raises ``JournalError``, also where something
        stands in the way of another configuration.
        """
        try:
            self._make_directory()
            self._lock = lock_directory(self._directory, LOCK_WAIT_S)
            self._refuse_what_off_would_forget()
            if self.fsync:
                make_durable(self._directory, self._storage)
            recovered = recover(
                self._plan,
                self._shard,
                published,
                publish_nothing,
                table_path,
                self._show_replayed,
                show,
            )
            if not self._off:
                try:
                    self._begin(recovered, clock)
                except BaseException:
                    recovered.shard.close()
                    raise
        except (OSError, LockedError) as error:
            raise JournalError(f"{self._directory}: {error}") from error
        for note in recovered.found.notes:
            logger.warning("shard %d: %s", self._shard, note)
        if recovered.end.torn_bytes:
            logger.warning(
                "%s: cut %d bytes of a batch that was never whole",
                recovered.end.path,
                recovered.end.torn_bytes,
            )
        return recovered

    def keep(self, commands: Records, timestamp_ns: int) -> bool:
        """Put a batch into the journal; return whether it may be carried out at once.

        Otherwise it waits, copied, for ``ready`` to give it back. Raises ``JournalError`` where it
        cannot be kept.
        """
        if self._journal is not None:
            size = self._journal.append(commands, timestamp_ns)
            self._status.words[_JOURNAL_BYTES] += size
        if self.syncer is None:
            return True
        assert self._journal is not None
        commands = copy_of(commands)
        self._waiting_commands += len(commands)
        self._waiting.append((self._journal.sequence, commands))
        return False

    def ready(self) -> Iterator[Records]:
        """Yield the batches that may be carried out, and have the disk take those that wait.

        Raises ``JournalError`` where the disk fails.
        """
        if self.syncer is None:
            return
        durable = self.syncer.poll()
        self.syncer.start()
        durable = max(durable, self.syncer.durable)
        while self._waiting and self._waiting[0][0] <= durable:
            _, commands = self._waiting.popleft()
            self._waiting_commands -= len(commands)
            yield commands

    @property
    def full(self) -> bool:
        """Whether so much waits for the disk that nothing more should be read."""
        return self._waiting_commands >= MOST_WAITING

    @property
    def waiting(self) -> bool:
        """Whether anything waits for the disk."""
        return bool(self._waiting)

    @property
    def taken(self) -> int:
        """The last command that was kept, in the journal's count; 0 where none is."""
        return 0 if self._journal is None else self._journal.sequence

    def is_settled(self, sequence: int) -> bool:
        """Return whether no command up to this one waits for the disk."""
        return not self._waiting or self._waiting[0][0] > sequence

    def wait(self) -> None:
        """Wait until ``ready`` has something to give, if anything waits."""
        if self.syncer is not None:
            self.syncer.start()
            self.syncer.finish()

    def close(self) -> None:
        """Close the journal."""
        try:
            with contextlib.suppress(JournalError):
                if self._journal is not None:
                    self._journal.close()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the journal without a word to the disk, as the death of the process does."""
        if self.syncer is not None:
            self.syncer.close()
            self.syncer = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _begin(self, recovered: Recovered, clock: Callable[[], int]) -> None:
        settings = self._plan.config.journal
        wanted = shard_config_of(self._plan, self._shard)
        changes = differences(recovered.shard.shard_config, wanted)
        if changes:
            refuse(recovered, wanted)
        self._journal = JournalWriter(
            self._directory,
            recovered.shard.shard_config,
            recovered.end,
            settings.segment_bytes,
            secret=recovered.found.snapshot.secret,
            fsync=self.fsync,
            storage=self._storage,
            wait_for_room=self._wait_for_room,
            closer=SegmentCloser(
                self._storage,
                self._plan.cores[0],
                background=self._background,
            ),
        )
        if changes:
            recovered.end.timestamp_ns = max(recovered.end.timestamp_ns, clock())
            self._journal.configure(wanted, recovered.end.timestamp_ns)
            recovered.shard.configure(wanted, recovered.end.timestamp_ns)
        for change in changes:
            logger.info("shard %d: %s", self._shard, change)
        if self.fsync:
            self.syncer = Syncer(self._journal, background=self._background)

    def _make_directory(self) -> None:
        """Make the shard's directory, if need be durably."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if self.fsync:
            for parent in (self._directory.parent, self._plan.data_dir):
                self._storage.sync_directory(parent)

    def _refuse_what_off_would_forget(self) -> None:
        if self._off and (segments_of(self._directory) or snapshots_of(self._directory)):
            raise JournalError(
                f'{self._directory}: holds a journal, which journal.durability = "off" would '
                "neither read nor keep up; use another data directory"
            )

    def _show_replayed(self, commands: int) -> None:
        self._status.set("replayed", commands)
        if self._stopping():
            raise JournalError("stopped before the journal was replayed")

    def _wait_for_room(self, error: OSError) -> None:
        """The disk is full: hold the shard, and try again. Raises ``JournalError`` at the end."""
        if not self._status.get("journal_waits"):
            logger.error("%s: the shard is held until there is room: %s", self._directory, error)
        self._status.add("journal_waits", 1)
        if self._stopping():
            raise JournalError(f"{self._directory}: stopped while the disk was full: {error}")
        time.sleep(RETRY_S)
