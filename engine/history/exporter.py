"""The exporter: it follows every shard and has a destination keep what it sees.

One process a destination. It asks nothing of the matchers and can be late by any time: a hold
(``engine.shard.holds``) keeps the journal that it still needs. The hold goes on only once the
destination has what lies before it durably. While a destination is away it is tried again and
again; what it was to get waits in memory, and that is two batches a shard at the most.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.books.contract import Records
from engine.books.secret import identity
from engine.history.destination import AwayError, Cursor, Destination, HistoryError
from engine.history.past import (
    earliest_position,
    first_cursor,
    logged_trades,
    rows_of_table,
    texts_by_number,
)
from engine.history.rows import ORDER_ROW, TRADE_ROW, Rows, rows_of
from engine.history.users import UserLists
from engine.journal.format import JournalError
from engine.journal.reader import read_header, segments_of
from engine.journal.snapshot import snapshots_of
from engine.plan import Plan
from engine.shard.follower import Followed, Follower, Matched
from engine.shard.holds import bytes_behind, hold

logger = logging.getLogger("shardbook.history")

BATCH_COMMANDS, BATCH_REPORTS = 16_384, 65_536
"""Of one transaction, about; what a single command comes to is never parted."""
FIRST_COMMANDS, SLOW_S = 4_096, 0.5
"""It begins with fewer, twice as many after each that was full, and with half as many after each
that took so long: whoever dies meanwhile does all of it again, and whoever ends waits for it."""
PAUSE_S = 0.02
"""Between two looks while little comes: so that a transaction is more than a few rows."""
SETTLE_S = 0.5
"""How often holds are taken further, and who is new is written down."""
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 2.0


class Lag(NamedTuple):
    """How far a destination is behind a shard."""

    commands: int
    nanoseconds: int
    journal_bytes: int
    """Of the journal's finished segments, those that wait for it."""


class ShardExport:
    """One shard's way into a destination. Raises as ``Destination`` does, and ``JournalError``,
    ``TradeLogError``, ``OSError``."""

    def __init__(
        self, plan: Plan, shard: int, destination: Destination, name: str, thread: Executor
    ) -> None:
        """``thread`` writes what is much, while the next is made."""
        self.shard = shard
        self.cursor: Cursor | None = destination.cursors().get(shard)
        self.held = -1
        """The position of the hold."""
        self.commands = self.trades = 0
        """Exported from the journal by this object."""
        self._plan, self._destination, self._name = plan, destination, name
        self._directory = plan.journal_dir(shard)
        self._follower: Follower | None = None
        self._limit = FIRST_COMMANDS
        self._matched = Matched(plan, shard)
        self._past: Iterator[tuple[Records, Records, int]] | None = None
        self._thread = thread
        self._pending: tuple[Cursor, Rows] | None = None
        self._ahead: tuple[Cursor, Rows] | None = None
        """What follows on that."""
        self._failed: JournalError | None = None
        """Why nothing could be made that follows."""
        self._caught_up_ns = 0
        self.hold(self.position)

    @property
    def position(self) -> int:
        """The last command that the destination has."""
        return 0 if self.cursor is None else self.cursor.position

    def hold(self, position: int) -> None:
        """Keep the journal behind a position."""
        if position > self.held and self._directory.is_dir():
            hold(self._directory, self._name, position)
            self.held = position

    def step(self) -> int:
        """Take one batch to the destination; return how many commands, or trades of the log."""
        if self._follower is None and not self._open():
            return 0
        assert self.cursor is not None
        if self.cursor.log_next:
            return self._take_past(self.cursor)
        if self._pending is None:
            try:
                if self._failed is not None:
                    raise self._failed
                self._pending = self._next(self.cursor)
            except JournalError:
                position = self.cursor.position
                if earliest_position(self._directory, position) == position:
                    raise
                self.close()  # the journal was not kept for it: begin again where it begins
                return 0
        if self._pending is None:
            self._caught_up_ns = time.time_ns()
            return 0
        cursor, rows = self._pending
        done = cursor.position - self.cursor.position
        is_full = done >= self._most() or len(rows.reports) >= BATCH_REPORTS
        begun_s = time.monotonic()
        if is_full and self._destination.apart:
            self._write_and_prepare(cursor, rows)
        else:
            self._destination.write(cursor, rows)
        if time.monotonic() > begun_s + SLOW_S:
            self._limit = max(FIRST_COMMANDS, self._limit // 2)
        elif is_full:
            self._limit = min(2 * self._limit, BATCH_COMMANDS)
        self.commands, self.trades = self.commands + done, self.trades + len(rows.trades)
        self.cursor, self._pending, self._ahead = cursor, self._ahead, None
        return done

    def _write_and_prepare(self, cursor: Cursor, rows: Rows) -> None:
        """Write rows, and make those that follow meanwhile."""
        writing = self._thread.submit(self._destination.write, cursor, rows)
        try:
            if self._ahead is None and self._failed is None:
                self._ahead = self._next(cursor)
        except JournalError as error:
            self._failed = error
        finally:
            wait((writing,))
        writing.result()

    def lag(self) -> Lag:
        """Return how far the destination is behind."""
        made = self._ahead or self._pending
        known = max(self._matched.sequence() or 0, 0 if made is None else made[0].position)
        behind = max(0, known - self.position)
        last_ns = 0 if self.cursor is None else self.cursor.timestamp_ns
        waited = time.time_ns() - max(self._caught_up_ns, last_ns) if behind else 0
        return Lag(behind, max(0, waited), bytes_behind(self._directory, self.position))

    def close(self) -> None:
        """Stop following."""
        self._failed = None
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    def _open(self) -> bool:
        """Begin to follow; False where the shard has not begun yet."""
        if not _has_begun(self._directory):
            return False
        self.hold(self.position)
        wanted = 0 if self.cursor is None else self.cursor.position
        position = earliest_position(self._directory, wanted)
        follower = Follower(self._plan, self.shard, position, self._table_path())
        try:
            if self.cursor is not None:
                self._check(self.cursor, follower, same=position == wanted)
            if self.cursor is None or position != wanted:
                self._begin(follower, position)
        except BaseException:
            follower.close()
            raise
        self._follower = follower
        return True

    def _check(self, cursor: Cursor, follower: Follower, *, same: bool) -> None:
        """Raise where the destination does not know this journal's commands."""
        known = identity(follower.shard.secret)
        if cursor.identity != known:
            raise HistoryError(
                f"shard {self.shard}: the history was filled from another data directory "
                f"(its journal is {cursor.identity[:8]}, this one is {known[:8]})"
            )
        if same and _counters(follower) != (cursor.orders, cursor.trades, cursor.reports):
            raise HistoryError(
                f"shard {self.shard}: the history knows order {cursor.orders}, trade "
                f"{cursor.trades} and report {cursor.reports} as those of command "
                f"{cursor.position}, the journal {', '.join(map(str, _counters(follower)))}: it "
                "goes on from before what the history knows"
            )

    def _begin(self, follower: Follower, position: int) -> None:
        """Give the destination a shard's first cursor, or one behind what it cannot have."""
        before = self.cursor
        table = follower.shard.table
        orders = table.contents()
        rows = rows_of_table(orders)
        texts = texts_by_number(orders, table.texts_of(orders))
        cursor = first_cursor(
            self.shard,
            identity(follower.shard.secret),
            position,
            _counters(follower),
            follower.shard.timestamp_ns,
            rows,
            before,
        )
        note = ""
        if position:
            began = 0 if before is None else before.position
            lost = cursor.lost_orders - (0 if before is None else before.lost_orders)
            note = (
                f"no journal has commands {began + 1} to {position} any more: {lost} of their "
                "orders are not here, the trades are those of the trade log"
            )
            logger.warning("shard %d: %s", self.shard, note)
        self._destination.begin(cursor, rows, note, texts)
        self.cursor = self._destination.cursors()[self.shard]

    def _take_past(self, cursor: Cursor) -> int:
        """Take a piece of the trade log to the destination."""
        if self._past is None:
            self._past = logged_trades(self._plan, self.shard, cursor.log_next, cursor.log_end)
        found = next(self._past, None)
        if found is None:
            missing = cursor.log_end - cursor.log_next + 1
            if missing:
                logger.warning("shard %d: %d trades are in no log any more", self.shard, missing)
            done = cursor._replace(log_next=0, log_end=0, lost_trades=cursor.lost_trades + missing)
            trades, paid = np.zeros(0, TRADE_ROW), np.zeros(0, ORDER_ROW)
        else:
            trades, paid, last = found
            skipped = last - cursor.log_next + 1 - len(trades)
            done = cursor._replace(log_next=last + 1, lost_trades=cursor.lost_trades + skipped)
        try:
            self._destination.write_past(done, trades, paid)
        except AwayError:
            self._past = None  # read again from where the destination is
            raise
        self.cursor = done
        return max(1, len(trades))

    def _most(self) -> int:
        """Return how many commands a batch has when it is full."""
        return min(self._limit, BATCH_COMMANDS)

    def _next(self, after: Cursor) -> tuple[Cursor, Rows] | None:
        """Return the rows of what has come after a cursor, and the cursor behind them."""
        assert self._follower is not None
        batches: list[Followed] = []
        commands = reports = 0
        while commands < self._most() and reports < BATCH_REPORTS:
            batch = self._follower.step()
            if batch is None:
                break
            batches.append(batch)
            commands += len(batch.commands)
            reports += len(batch.reports)
        if not batches:
            return None
        last_order, last_trade, last_report = _counters(self._follower)
        cursor = after._replace(
            position=batches[-1].position,
            orders=last_order,
            trades=last_trade,
            reports=last_report,
            timestamp_ns=self._follower.shard.timestamp_ns,
        )
        return cursor, rows_of(batches, self._follower.shard.table.text_of)

    def _table_path(self) -> Path:
        """Return where the order table of the replay lies: in memory where the product runs."""
        run_dir = self._plan.run_dir
        directory = run_dir if run_dir.is_dir() else self._directory
        for left in directory.glob(f"{self._name}-orders-{self.shard}-*.tmp"):
            left.unlink(missing_ok=True)  # of one that was killed: there is no other
        return directory / f"{self._name}-orders-{self.shard}-{os.getpid()}.tmp"


class Exporter:
    """All shards of a product into one destination, which stays the caller's."""

    def __init__(self, plan: Plan, destination: Destination, name: str) -> None:
        """``name`` is that of the holds. Raises as ``Destination`` does."""
        self._destination = destination
        destination.write_instruments(plan.known_instruments)
        self._users = UserLists(plan, destination.user_ends())
        self._writing = ThreadPoolExecutor(1, "write")
        self.shards = [
            ShardExport(plan, shard, destination, name, self._writing) for shard in plan.shards
        ]
        self.failures = 0
        """Tries that failed."""
        self._failure: str | None = None
        self._retry_s = _FIRST_RETRY_S
        self._settle_at_s = 0.0
        self._thread = ThreadPoolExecutor(1, "sync")
        self._syncing: Future[None] | None = None
        self._synced: list[int] = []

    @property
    def away(self) -> str | None:
        """Why the destination could not be written to the last time; None: it could."""
        return self._failure

    def step(self) -> int:
        """Take a batch of each shard to the destination; return how many commands that were.

        Raises ``HistoryError``, ``JournalError`` and ``TradeLogError`` where trying again is of no
        use.
        """
        try:
            done = sum(export.step() for export in self.shards)
            if time.monotonic() > self._settle_at_s:
                self.settle()
        except (AwayError, OSError) as error:
            self._note(str(error))
            return 0
        self._note(None)
        return done

    def run(
        self,
        stopping: Callable[[], bool],
        pause: Callable[[float], object],
        orphaned: Callable[[], bool] = lambda: False,
    ) -> None:
        """Export until told to stop and what is there by then is exported, or cannot be; where it
        is ``orphaned`` too, no longer than a batch: its successor waits for the destination.

        ``pause`` takes seconds. Raises as ``step`` does.
        """
        while True:
            told = stopping()
            done = self.step()
            if told and (done == 0 or self._failure is not None or orphaned()):
                return
            if self._failure is not None:
                pause(self._retry_s)
                self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
            elif done < BATCH_COMMANDS:
                pause(PAUSE_S)

    def settle(self, *, wait: bool = False) -> None:
        """Write down who is new, let go of the journals that are not needed any more, and have a
        piece of what is old leave the destination.

        What was begun to be made durable the last time is that by now, or is waited for.

        Raises ``AwayError``, ``HistoryError`` and ``OSError``.
        """
        for users in self._users.new():
            self._destination.write_users(users)
        self._take_holds_on(wait=False)
        if self._syncing is None and any(e.position > e.held for e in self.shards):
            self._synced = [export.position for export in self.shards]
            self._syncing = self._thread.submit(self._destination.sync)
        self._take_holds_on(wait=wait)
        self._settle_at_s = time.monotonic() + SETTLE_S
        if not wait:
            self._destination.tidy()

    def close(self) -> None:
        """Stop following, and leave the holds where they belong."""
        try:
            self._take_holds_on(wait=True)
            self.settle(wait=True)
        except (HistoryError, OSError) as error:
            logger.error("history: %s", error)
        self._thread.shutdown()
        self._writing.shutdown()
        for export in self.shards:
            export.close()

    def _take_holds_on(self, *, wait: bool) -> None:
        """Take holds to where the destination is known to have all durably."""
        if self._syncing is None or not (wait or self._syncing.done()):
            return
        syncing, self._syncing = self._syncing, None
        syncing.result()
        for export, position in zip(self.shards, self._synced, strict=True):
            export.hold(position)

    def _note(self, failure: str | None) -> None:
        """Say once that the destination is away, and once that it is back."""
        self.failures += failure is not None
        if failure is not None and self._failure is None:
            logger.error("history: is held up, and tried again: %s", failure)
        elif failure is None and self._failure is not None:
            logger.warning("history: goes on")
            self._retry_s = _FIRST_RETRY_S
        self._failure = failure


def _has_begun(directory: Path) -> bool:
    """Return whether there is a journal whose secret can be read."""
    if snapshots_of(directory):
        return True
    try:
        return any(read_header(segment.path) for segment in segments_of(directory)[:1])
    except JournalError:
        return False  # its first page is being written


def _counters(follower: Follower) -> tuple[int, int, int]:
    """Return the last numbers of orders, trades and reports at a follower's position."""
    counters = follower.shard.book.counters()
    reports = follower.shard.account_sequences.reports
    return counters.order_sequence, counters.trade_sequence, reports
