"""Orders and trades that memory does not have any more, from the history.

Its questions are asked in a thread of their own, by turns. Where it is away or slow, whoever asked
is told, or gets what memory has; nobody waits longer than ``history.timeout_ms``.
"""

import logging
from collections.abc import Callable, Generator
from typing import TypeVar

from engine.history.destination import HistoryError
from engine.history.history import Page
from engine.history.rows import as_orders, as_trades
from engine.history.sqlite_reader import SqliteHistory
from engine.plan import Plan
from frontend.http.models import Source
from frontend.http.searches import ThreadedSearches
from ipc.arrays import Records
from ipc.records import SEQUENCE_BITS

T = TypeVar("T")
logger = logging.getLogger("shardbook.http")

MEMORY: Source = "memory"
HISTORY: Source = "sqlite"
"""What answers call where they come from."""


class HistoryReads:
    """One worker's access to the history, where one is kept."""

    def __init__(self, plan: Plan) -> None:
        timeout_s = plan.config.history.timeout_ms / 1_000
        self.kept = plan.config.history.sqlite
        self._away = False
        self._history = SqliteHistory(plan.history_path, timeout_s)
        self._searches = ThreadedSearches("history", timeout_s) if self.kept else None

    async def order(self, who: str | None, order_id: int) -> tuple[Records, int] | None:
        """Return an order (ORDER), or none, and the last order of its shard that the history has;
        None where it cannot be read now. Raises ``ApiError`` where too many ask."""

        def ask() -> tuple[Records, int]:
            found = as_orders(self._history.order(order_id))
            cursor = self._history.cursors().get(order_id >> SEQUENCE_BITS)
            return found, 0 if cursor is None else cursor.orders

        return await self._ask(who, ask)

    async def orders(self, who: str | None, page: Page) -> Records | None:
        """Return orders (ORDER), newest first; None where the history cannot be read now."""
        return await self._ask(who, lambda: as_orders(self._history.orders(page)))

    async def trades(self, who: str | None, page: Page, needed: dict[int, int]) -> Records | None:
        """Return trades (TRADE), newest first; None where the history cannot be read now, or does
        not have each shard's trades up to the number ``needed``."""

        def ask() -> Records | None:
            cursors = self._history.cursors()
            for shard, number in needed.items():
                cursor = cursors.get(shard)
                if number and (cursor is None or cursor.trades < number or cursor.log_next):
                    return None
            return as_trades(self._history.trades(page))

        return await self._ask(who, ask)

    async def _ask(self, who: str | None, ask: Callable[[], T]) -> T | None:
        assert self._searches is not None

        def work() -> Generator[None, None, T]:
            yield
            return ask()

        try:
            found = await self._searches.run(who, work())
        except (HistoryError, OSError) as error:
            if not self._away:
                logger.warning("history: %s", error)
            self._away = True
            return None
        self._away = False
        return found

    def close(self) -> None:
        """Stop reading."""
        if self._searches is not None:
            self._searches.close()
        self._history.close()
