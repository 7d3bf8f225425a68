"""Searches of the trade log beside a query worker's other answers: in a thread, one at a time."""

import os
import queue
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from engine.trade_log.segments import TradeLogError
from frontend.past_trades import PastTrades
from ipc.arrays import Records
from ipc.instruments import Instrument
from ipc.links.backend import Link
from ipc.wire.messages import TradesQuery

SEARCH_S = 2.0
"""How long one search may take; what it has seen by then the next one does not look at again."""
MOST_WAITING = 64
"""Searches that wait for the one under way; a further one is refused."""


@dataclass
class LogSearch:
    """What is asked for, whom to answer, and once it is done what was found, or why nothing."""

    link: Link
    stream: int
    query: TradesQuery
    instrument: Instrument | None
    limit: int
    trades: Records | None = None
    problem: str = ""


class LogSearches:
    """Searches under way; its descriptor is readable when one has ended."""

    def __init__(self, past: PastTrades) -> None:
        self._past = past
        self._asked: queue.SimpleQueue[LogSearch | None] = queue.SimpleQueue()
        self._done: deque[LogSearch] = deque()
        self._waiting = 0
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._finishing = False

    def fileno(self) -> int:
        """Return a descriptor that is readable when ``done`` has something to give."""
        return self._event

    def ask(self, search: LogSearch) -> bool:
        """Begin a search, or have it wait; return False where too many wait already."""
        if self._waiting > MOST_WAITING or self._finishing:
            return False
        self._waiting += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
        self._asked.put(search)
        return True

    def done(self) -> Iterator[LogSearch]:
        """Yield the searches that have ended."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return
        while self._done:
            self._waiting -= 1
            yield self._done.popleft()

    def finish(self) -> None:
        """Take no more, and return once the search under way has ended; those behind it have
        found nothing."""
        if self._thread is not None:
            self._finishing = True
            self._asked.put(None)
            self._thread.join()
            self._thread = None

    def close(self) -> None:
        """End the thread."""
        self.finish()
        self._past.close()
        os.close(self._event)

    def _run(self) -> None:
        while (search := self._asked.get()) is not None:
            try:
                if self._finishing:
                    raise TimeoutError("the product stops")
                search.trades = self._past.newest(search.instrument, search.limit, SEARCH_S)
            except (TradeLogError, OSError) as error:
                search.problem = str(error)
            self._done.append(search)
            os.eventfd_write(self._event, 1)
