"""One shard's way into Redis: it is followed, and what is current of it is kept there.

Redis holds nothing that cannot be had again, so no journal is kept for it. Where it is found empty,
elsewhere than it was left, or too far behind, a shard is filled from the state that it is in now:
orders, books, last trades. One batch is prepared while Redis carries out the one before.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from engine.books.contract import Records
from engine.books.secret import identity
from engine.cache.batch import Commands, Last, Writing
from engine.cache.formats import Written
from engine.cache.link import CacheAwayError, CacheError
from engine.cache.past import newest_trades
from engine.cache.store import LEASE_MS, READY, MovedError, Position, ShardStore, SpoiledError
from engine.journal.format import JournalError
from engine.journal.reader import read_header, segments_of
from engine.journal.snapshot import snapshots_of
from engine.plan import Plan
from engine.shard.follower import Followed, Follower, Matched, as_one
from ipc.vocabulary import ENDED

logger = logging.getLogger("shardbook.redis")

BATCH_COMMANDS, MOST_COMMANDS = 1_024, 8_192
"""Of one call, for Redis serves nobody else meanwhile; twice as many after each that was full, for
what an order and an account have in a batch is written once."""
FILL_ORDERS, FILL_TRADES = 1_000, 2_000
MOST_BEHIND = 2_000_000
"""Commands that are followed one by one; from further away a shard is filled anew."""
CHECK_S = 1.0
"""How often it is looked whether Redis still has what it had, while there is nothing to write."""
TAKE_S = 1.5 * LEASE_MS / 1_000
"""How long another's lease is waited for: that of one who was killed has ended by then."""


_Batch = tuple[Position, Commands, int]
"""Where a batch leads, what it writes, and how many trades it has."""


class ShardExport:
    """One shard's way into Redis. Raises as ``ShardStore`` does, and ``JournalError``,
    ``TradeLogError``, ``OSError``."""

    def __init__(
        self,
        plan: Plan,
        store: ShardStore,
        written: Mapping[int, Written],
        told: Callable[[], None],
    ) -> None:
        """``told`` is called whenever the shard is filled anew."""
        self.commands = self.orders = self.trades = self.fills = 0
        """Written by this object, and how often all was."""
        self._plan, self._store, self._written, self._told = plan, store, written, told
        self._settings = plan.config.redis
        self._shard = store.names.shard
        self._follower: Follower | None = None
        self._matched = Matched(plan, store.names.shard)
        self._at: Position | None = None
        self._pending: _Batch | None = None
        self._sent: _Batch | None = None
        self._again: _Batch | None = None
        self._writing = Writing(store.names, self._settings, written)
        self._limit = BATCH_COMMANDS
        """Of the next batch."""
        self._spoiled = False
        """Whether what Redis has is not to be gone on from."""
        self._refused_s = 0.0
        self._checked_s = 0.0
        self._caught_up_ns = 0

    @property
    def position(self) -> int:
        """The last command that Redis has."""
        return 0 if self._at is None else self._at.position

    def step(self) -> int:
        """Write one batch; return how many commands."""
        try:
            if self._follower is None and not self._open():
                return 0
            assert self._follower is not None
            assert self._at is not None
            if self._follower.behind() > MOST_BEHIND:
                self.close()
                self._fill(self._newest())
                return 1
            if self._again is not None:
                self._store.write(self._at, *self._again[:2])
                return self._account(self._again)
            if self._pending is None:  # while Redis carries out the one before
                self._pending = self._next(self._follower)
            done = self._finish(self._at)
            if self._pending is not None:
                self._store.send(self._at, *self._pending[:2])
                self._sent, self._pending = self._pending, None
            elif not done:
                self._caught_up_ns = time.time_ns()
                self._check(self._at)
            return done or int(self._sent is not None)
        except MovedError as error:
            logger.warning("%s; it goes on from where that is", error)
            self._spoiled = isinstance(error, SpoiledError)
            self.close()
            return 0

    def _finish(self, at: Position) -> int:
        """Wait for the batch that was sent, if any; return how many commands it is."""
        if self._sent is None:
            return 0
        sent, self._sent = self._sent, None
        try:
            self._store.receive(at, *sent[:2])
        except CacheAwayError:
            self._again = sent  # whether it was carried out shows then
            raise
        return self._account(sent)

    def _account(self, written: _Batch) -> int:
        """Be behind a batch; return how many commands it is."""
        assert self._at is not None
        after, _, trades = written
        done = after.position - self._at.position
        self.orders += after.orders - self._at.orders
        self.commands, self.trades = self.commands + done, self.trades + trades
        self._at, self._again = after, None
        self._checked_s = time.monotonic()
        return done

    def lag(self) -> tuple[int, int]:
        """Return how far Redis is behind: commands, nanoseconds."""
        made = self._pending or self._sent or self._again
        known = max(self._matched.sequence() or 0, 0 if made is None else made[0].position)
        behind = max(0, known - self.position)
        last_ns = 0 if self._at is None else self._at.timestamp_ns
        waited = time.time_ns() - max(self._caught_up_ns, last_ns) if behind else 0
        return behind, max(0, waited)

    def close(self) -> None:
        """Stop following."""
        if self._sent is not None:
            self._store.abandon()
        self._pending = self._sent = self._again = None
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    def release(self) -> None:
        """Let another write the shard."""
        self.close()
        self._store.release()

    def _open(self) -> bool:
        """Begin to follow; False where the shard has not begun yet."""
        begun, now = _has_begun(self._plan.journal_dir(self._shard)), time.monotonic()
        if not begun and now < self._checked_s + CHECK_S:
            return False
        if not self._store.take():
            self._refused_s = self._refused_s or now
            if now - self._refused_s > TAKE_S:
                raise CacheError(
                    f"{self._store.where}: another exporter writes shard {self._shard}: "
                    f"{self._store.holder()}; give this product a redis.prefix of its own"
                )
            raise CacheAwayError(
                f"{self._store.where}: shard {self._shard} is written by {self._store.holder()}"
            )
        self._refused_s = 0.0
        self._checked_s = now
        there = self._store.position()
        if not begun:
            self._show_nothing(there)
            return False
        follower = None
        if there is not None and there.state == READY and not self._spoiled:
            follower = self._resumed(there)
        if follower is None:
            self._fill(self._newest(), there)
            return True
        self._follower, self._at = follower, there
        self._writing = Writing(self._store.names, self._settings, self._written)
        self._learn_last()
        return True

    def _show_nothing(self, there: Position | None) -> None:
        """Write a shard that has had no command; ``there`` is what Redis has of it."""
        if there is not None and there.identity:
            raise self._of_another(there, "has none yet")
        if there is None or there.state != READY:
            self._told()
            begun = self._store.begin("")
            self._store.write(begun, begun._replace(state=READY), Commands())

    def _of_another(self, there: Position, this: str) -> CacheError:
        return CacheError(
            f"{self._store.where}: shard {self._shard} was filled from another data directory "
            f"(its journal is {there.identity[:8]}, this one {this}); give redis.prefix another "
            "name, or remove the keys that begin with it"
        )

    def _newest(self) -> Follower:
        """Return a follower that has come to where the matcher is."""
        follower = Follower(self._plan, self._shard, None, self._table_path())
        follower.catch_up()
        return follower

    def _resumed(self, there: Position) -> Follower | None:
        """Return a follower at a position that Redis has; None where nothing leads there."""
        try:
            follower = Follower(self._plan, self._shard, there.position, self._table_path())
        except JournalError as error:
            logger.warning("shard %d is filled anew: %s", self._shard, error)
            return None
        found = _position(follower)
        if not there.identity and not there.position:
            found = found._replace(identity="")  # it had no command, and has no reader to disturb
        if found == there:
            return follower
        follower.close()
        return None

    def _fill(self, follower: Follower, there: Position | None = None) -> None:
        """Write a shard as it is now. ``there`` is what Redis has of it."""
        self._follower = follower
        ready = _position(follower)
        if there is not None and there.identity not in ("", ready.identity):
            self.close()
            raise self._of_another(there, f"is {ready.identity[:8]}")
        self._told()
        self.fills += 1
        store, shard = self._store, follower.shard
        writing = self._writing = Writing(store.names, self._settings, self._written)
        try:
            begun = store.begin(ready.identity)
            orders = shard.table.contents()
            ended = np.isin(orders["ord_status"], ENDED)
            for some in (orders[~ended], _by_end(orders[ended], self._settings.ended_orders)):
                for first in range(0, len(some), FILL_ORDERS):
                    piece = some[first : first + FILL_ORDERS]
                    store.write(begun, begun, writing.orders(piece, shard.table.text_of))
            trades = newest_trades(self._plan, self._shard, ready.trades, self._settings.trades)
            for first in range(0, len(trades), FILL_TRADES):
                out = Commands()
                writing.trades(out, trades[first : first + FILL_TRADES])
                store.write(begun, begun, out)
            out = Commands()
            if ready.position:
                symbols = [i.number for i in self._plan.instruments_of(self._shard)]
                writing.books(out, symbols, shard.book, ready.position, ready.timestamp_ns)
                positions = 0, ready.position
                writing.changes(out, positions, shard.book, ready.timestamp_ns, symbols, [])
            store.write(begun, ready, out)
        except BaseException:
            self.close()
            raise
        self._at, self._spoiled = ready, False

    def _next(self, follower: Follower) -> _Batch | None:
        """Return the next batch, None where there is none yet."""
        before = self.position if self._sent is None else self._sent[0].position
        batches: list[Followed] = []
        left = self._limit
        try:
            while left and (batch := follower.step(left)) is not None:
                batches.append(batch)
                left -= len(batch.commands)
        except JournalError as error:
            # No journal is kept for it: it may have gone.
            logger.warning("shard %d is filled anew: %s", self._shard, error)
            self.close()
            self._fill(self._newest())
            return None
        self._limit = BATCH_COMMANDS if left else min(2 * self._limit, MOST_COMMANDS)
        if not batches:
            return None
        shard, whole = follower.shard, as_one(batches)
        at = (shard.book, shard.timestamp_ns, before)
        out = self._writing.batch(whole, *at, shard.table.text_of)
        return _position(follower), out, len(whole.trades)

    def _check(self, at: Position) -> None:
        """Look now and then whether Redis is where it was left, which keeps the lease too."""
        now = time.monotonic()
        if now - self._checked_s > CHECK_S:
            self._store.verify(at)
            self._checked_s = now

    def _learn_last(self) -> None:
        """Learn from Redis what the last trades were."""
        for instrument in self._plan.instruments_of(self._shard):
            found = self._store.last_trade(instrument.symbol)
            if found is not None:
                price, quantity, trade_id = found
                last = Last(
                    instrument.tick.steps(price, "price"),
                    instrument.lot.steps(quantity, "quantity"),
                    trade_id,
                )
                self._writing.learn_last(instrument.number, last)

    def _table_path(self) -> Path:
        """Return where the order table of the replay lies: in memory where the product runs."""
        run_dir = self._plan.run_dir
        directory = run_dir if run_dir.is_dir() else self._plan.journal_dir(self._shard)
        for left in directory.glob(f"redis-orders-{self._shard}-*.tmp"):
            left.unlink(missing_ok=True)  # of one that was killed: there is no other
        return directory / f"redis-orders-{self._shard}-{os.getpid()}.tmp"


def _position(follower: Follower) -> Position:
    shard = follower.shard
    counters = shard.book.counters()
    return Position(
        identity(shard.secret),
        READY,
        counters.sequence,
        counters.order_sequence,
        counters.trade_sequence,
        shard.account_sequences.reports,
        shard.timestamp_ns,
    )


def _by_end(orders: Records, most: int) -> Records:
    """Return those of ended orders that ended last, the oldest first."""
    found: Records = orders[np.argsort(orders["updated_ns"], kind="stable")[-most:]]
    return found


def _has_begun(directory: Path) -> bool:
    """Return whether there is a journal whose secret can be read."""
    if snapshots_of(directory):
        return True
    try:
        return any(read_header(segment.path) for segment in segments_of(directory)[:1])
    except JournalError:
        return False  # its first page is being written
