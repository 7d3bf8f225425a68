"""The exporter into Redis: it keeps there what is current of every shard.

While Redis is away nothing is prepared beyond two batches a shard.
"""

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from engine.cache.batch import MOST_MEMBERS
from engine.cache.formats import InstrumentEntry, Written, encode
from engine.cache.link import CacheAwayError, CacheError, connected, judged, where
from engine.cache.names import Names
from engine.cache.shard_export import ShardExport
from engine.cache.store import ShardStore
from engine.history.users import UserLists
from engine.plan import Plan

logger = logging.getLogger("shardbook.redis")

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.008
USERS_S = 0.05
"""How often it is looked who is new."""
FIRST_RETRY_S, LAST_RETRY_S = 0.1, 1.0


class Cache:
    """All shards of a product into one Redis."""

    def __init__(self, plan: Plan) -> None:
        settings = plan.config.redis
        self.where = where(settings)
        self._plan, self._names = plan, Names(settings.prefix)
        self._client = connected(settings, f"shardbook-exporter-{os.getpid()}")
        written = {i.number: Written.of(i) for i in plan.known_instruments}
        self.shards = [
            ShardExport(
                plan,
                ShardStore(self._client, self._names.of(shard), self.where, settings.ended_orders),
                written,
                self._tell_anew,
            )
            for shard in plan.shards
        ]
        self.failures = 0
        """Tries that failed."""
        self._failure: str | None = None
        self._users = UserLists(plan, {})
        self._users_at_s = 0.0
        self._instruments_told = False

    @property
    def away(self) -> str | None:
        """Why Redis could not be written to the last time; None: it could."""
        return self._failure

    def step(self) -> int:
        """Write a batch of each shard; return how many commands that were.

        Raises ``CacheError``, ``JournalError`` and ``TradeLogError`` where trying again is of no
        use.
        """
        try:
            if not self._instruments_told:
                self._tell_instruments()
            if time.monotonic() >= self._users_at_s:
                self._tell_users()
            done = sum(export.step() for export in self.shards)
        except (CacheAwayError, OSError) as error:
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
        is ``orphaned`` too, no longer than a batch: its successor waits for Redis.

        ``pause`` takes seconds. Raises as ``step`` does.
        """
        pause_s, retry_s = SHORTEST_PAUSE_S, FIRST_RETRY_S
        while True:
            told = stopping()
            done = self.step()
            if told and (done == 0 or self._failure is not None or orphaned()):
                return
            if self._failure is not None:
                pause(retry_s)
                retry_s = min(2 * retry_s, LAST_RETRY_S)
                continue
            retry_s = FIRST_RETRY_S
            if not done:
                pause(pause_s)
            pause_s = SHORTEST_PAUSE_S if done else min(2 * pause_s, LONGEST_PAUSE_S)

    def close(self) -> None:
        """Stop following, and let others write."""
        for export in self.shards:
            try:
                export.release()
            except CacheError as error:
                logger.error("redis: %s", error)
        self._client.close()

    def _tell_anew(self) -> None:
        """A shard was not there: what is no shard's may be missing too."""
        self._instruments_told = False
        self._users = UserLists(self._plan, {})
        self._users_at_s = 0.0

    def _tell_instruments(self) -> None:
        entries: dict[Any, Any] = {
            i.number: encode(InstrumentEntry.of(i)) for i in self._plan.known_instruments
        }
        with judged(self.where):
            self._client.hset(self._names.instruments, mapping=entries)
        self._instruments_told = True

    def _tell_users(self) -> None:
        """Write who accounts are, of those that are new."""
        for users in self._users.new():
            for first in range(0, len(users.accounts), MOST_MEMBERS):
                some = users.accounts[first : first + MOST_MEMBERS]
                with judged(self.where):
                    self._client.hset(self._names.users, mapping={u: str(a) for a, u in some})
                    self._client.hset(self._names.accounts, mapping={str(a): u for a, u in some})
        self._users_at_s = time.monotonic() + USERS_S

    def _note(self, failure: str | None) -> None:
        """Say once that Redis is away, and once that it is back."""
        self.failures += failure is not None
        if failure is not None and self._failure is None:
            logger.error("redis: is held up, and tried again: %s", failure)
        elif failure is None and self._failure is not None:
            logger.warning("redis: goes on")
        self._failure = failure
