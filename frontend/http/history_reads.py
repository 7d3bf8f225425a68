"""Orders and trades that memory does not have any more, from the histories that are kept.

The questions for each are asked in a thread of their own, by turns. Where it is away or slow the
next answers; where none does, whoever asked is told, or gets what memory has. Nobody waits longer
than ``history.timeout_ms`` for its turn, nor for the answer.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Generator
from typing import Generic, NamedTuple, TypeVar

from engine.history.destination import HistoryError
from engine.history.history import History, Page
from engine.history.kept import kept_by
from engine.history.rows import as_orders, as_trades
from engine.plan import Plan
from frontend.http.models import Source
from frontend.http.searches import ThreadedSearches
from ipc.arrays import Records
from ipc.client_ids import RememberedTexts
from ipc.records import SEQUENCE_BITS

T = TypeVar("T")
logger = logging.getLogger("shardbook.http")

MEMORY: Source = "memory"
SOURCES: dict[str, Source] = {"sqlite": "sqlite", "postgres": "postgres", "mongodb": "mongodb"}
"""What answers call where they come from."""
WITH_MEMORY: dict[str, Source] = {
    "sqlite": "memory, sqlite",
    "postgres": "memory, postgres",
    "mongodb": "memory, mongodb",
}
"""What they call what memory and a history have together."""
_REST_S = 1.0
"""How long a history that failed is not asked again, where there is another."""


class Found(NamedTuple, Generic[T]):
    """What a history answered, and which."""

    rows: T
    source: Source


class UserTrades(NamedTuple):
    """A user's trades (TRADE_ROW), newest first, of those up to a number of each shard."""

    rows: Records
    known: dict[int, int]


class PastCandles(NamedTuple):
    """The last candles that a history is asked for."""

    shard: int
    symbol: int
    width_ns: int
    first_ns: int
    """They begin from this time on,"""
    end_ns: int
    """and have what was traded before that one."""
    limit: int
    published: int
    """The shard's last trade."""


def _last_candles(history: History, asked: PastCandles) -> Records:
    """Return the last candles of a time: of a piece of it, and of longer ones until there are
    enough, for few may have had trades."""
    span_ns = asked.limit * asked.width_ns
    while True:
        start_ns = max(asked.first_ns, asked.end_ns - span_ns)
        start_ns -= start_ns % asked.width_ns
        times = max(start_ns, asked.first_ns), asked.end_ns
        found = history.candles(asked.shard, asked.symbol, asked.width_ns, *times)
        if len(found) >= asked.limit or start_ns <= asked.first_ns:
            return found[-asked.limit :]
        span_ns *= 8


class _Reader:
    """One history, in a thread of its own."""

    def __init__(self, history: History, timeout_s: float) -> None:
        self.history, self._longest_s = history, 2 * timeout_s  # a turn, and the answer
        self._rests_until_s = 0.0
        self._away = False
        self._searches = ThreadedSearches(history.source, timeout_s)

    @property
    def rests(self) -> bool:
        """Whether it failed a moment ago."""
        return time.monotonic() < self._rests_until_s

    async def ask(self, who: str | None, ask: Callable[[History], T | None]) -> T | None:
        """Return what it answers in time, None where it does not. Raises ``ApiError``."""

        def work() -> Generator[None, None, T | None]:
            yield
            return ask(self.history)

        try:
            async with asyncio.timeout(self._longest_s):
                found = await self._searches.run(who, work())
        except (HistoryError, OSError) as error:  # a TimeoutError is an OSError
            if not self._away:
                logger.warning("history: %s", error or f"{self.history.where}: does not answer")
            self._away = True
            self._rests_until_s = time.monotonic() + _REST_S
            return None
        self._away = False
        return found

    def close(self) -> None:
        """Stop reading."""
        self._searches.close()
        self.history.close()


class HistoryReads:
    """One worker's access to the histories that are kept: the first that answers does."""

    def __init__(self, plan: Plan, texts: RememberedTexts) -> None:
        """``texts`` are told those of the orders that are read."""
        self._texts = texts
        timeout_s = plan.config.history.timeout_ms / 1_000
        self._readers = []
        for kept in kept_by(plan):
            try:
                self._readers.append(_Reader(kept.reader(plan, timeout_s), timeout_s))
            except HistoryError as error:
                logger.error("history: %s", error)
        self.kept = bool(kept_by(plan))

    async def order(self, who: str | None, order_id: int) -> Found[tuple[Records, int]] | None:
        """Return an order (ORDER), or none, and the last order of its shard that the history has;
        None where none can be read now. Raises ``ApiError`` where too many ask."""

        def ask(history: History) -> tuple[Records, int]:
            found = self._shown(history, history.order(order_id))
            cursor = history.cursors().get(order_id >> SEQUENCE_BITS)
            return found, 0 if cursor is None else cursor.orders

        return await self.ask(who, ask)

    async def orders(self, who: str | None, page: Page) -> Found[Records] | None:
        """Return orders (ORDER), newest first; None where no history can be read now."""
        return await self.ask(who, lambda history: self._shown(history, history.orders(page)))

    def _shown(self, history: History, rows: Records) -> Records:
        """Return orders (ORDER_ROW) as an order table shows them (ORDER)."""
        named = rows["client_order_id"][rows["client_order_id"] < 0]
        if len(named):
            for text in history.texts(set(named.tolist())).values():
                self._texts.number(text)
        return as_orders(rows)

    async def trades(
        self, who: str | None, page: Page, needed: dict[int, int]
    ) -> Found[Records] | None:
        """Return trades (TRADE), newest first; None where no history can be read now that has each
        shard's trades up to the number ``needed``."""

        def ask(history: History) -> Records | None:
            cursors = history.cursors()
            for shard, number in needed.items():
                cursor = cursors.get(shard)
                if number and (cursor is None or cursor.trades < number or cursor.log_next):
                    return None
            return as_trades(history.trades(page))

        return await self.ask(who, ask)

    async def candles(self, who: str | None, asked: PastCandles) -> Found[Records] | None:
        """Return candles (CANDLE_ROW), oldest first; None where no history can be read now that
        has come to their end."""

        def ask(history: History) -> Records | None:
            cursor = history.cursors().get(asked.shard)
            if cursor is None or cursor.log_next:
                return None
            if cursor.timestamp_ns < asked.end_ns and cursor.trades < asked.published:
                return None
            return _last_candles(history, asked)

        return await self.ask(who, ask)

    async def user_trades(self, who: str | None, page: Page) -> Found[UserTrades] | None:
        """Return the trades of the page's account; None where no history can be read now."""

        def ask(history: History) -> UserTrades:
            known = {shard: cursor.trades for shard, cursor in history.cursors().items()}
            return UserTrades(history.trades(page), known)

        return await self.ask(who, ask)

    async def ask(self, who: str | None, ask: Callable[[History], T | None]) -> Found[T] | None:
        """Return the first answer; one that failed a moment ago is asked where all have."""
        awake = [reader for reader in self._readers if not reader.rests]
        for reader in awake or self._readers[:1]:
            found = await reader.ask(who, ask)
            if found is not None:
                return Found(found, SOURCES[reader.history.source])
        return None

    def close(self) -> None:
        """Stop reading."""
        for reader in self._readers:
            reader.close()
