"""Reads that take long, beside all else that a worker does: in pieces, and each asker in turn.

A search is a generator that yields after each piece of work and returns what it found. Of those
that wait, every user's has its turn, and without keys every request's; so who asks for much, or
often, makes others wait for a piece of it each and not for all of it. At most ``MOST_SEARCHES``
wait, and ``MOST_OF_USER`` of one user: a further one is refused. One that takes longer than its
time is ended.
"""

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

from frontend.http.errors import ApiError
from frontend.pace import Pace

T = TypeVar("T")
Work = Generator[None, None, T]

SLICE_S = 0.0005
"""How long the event loop works on searches before it looks after everything else."""
MOST_SEARCHES = 1_024
MOST_OF_USER = 64


class _Search(Generic[T]):
    def __init__(
        self, who: object, work: Work[T], answer: "asyncio.Future[T]", timeout_s: float
    ) -> None:
        self.who = object() if who is None else who
        self.answer = answer
        self._work = work
        self._deadline = time.monotonic() + timeout_s

    def go_on(self, seconds: float) -> tuple[Any] | None:
        """Work for so long, one piece at least; return what it found, or why not, if it is done."""
        now = time.monotonic()
        try:
            if now > self._deadline:
                raise ApiError("BUSY", "the read took too long; ask for less, or try again")
            end = now + seconds
            while not self.answer.cancelled():
                next(self._work)
                if time.monotonic() >= end:
                    return None
        except StopIteration as stop:
            return (stop.value,)
        except Exception as error:
            self._work.close()
            return (error,)
        self._work.close()
        return (None,)

    def settle(self, found: Any) -> None:
        """Tell who asked."""
        if self.answer.done():
            return
        if isinstance(found, Exception):
            self.answer.set_exception(found)
        else:
            self.answer.set_result(found)


class Turns:
    """Searches that wait, by whom they are for; whoever had a turn comes last."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[object, deque[_Search[Any]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, search: _Search[Any]) -> None:
        """Let a new search wait. Raises ``ApiError`` where too many do."""
        own = self._waiting.get(search.who, ())
        if self._count >= MOST_SEARCHES or len(own) >= MOST_OF_USER:
            raise ApiError("BUSY", "too many reads that take long are under way; try again")
        self.put(search)

    def put(self, search: _Search[Any]) -> None:
        """Let a search wait for its next turn."""
        self._waiting.setdefault(search.who, deque()).append(search)
        self._count += 1

    def take(self) -> _Search[Any]:
        """Return the search whose turn it is, which does not wait any more."""
        who, own = self._waiting.popitem(last=False)
        search = own.popleft()
        self._count -= 1
        if own:
            self._waiting[who] = own
        return search


class Searches:
    """Searches that the event loop carries out itself, a slice at a time."""

    def __init__(self, timeout_s: float) -> None:
        self._turns = Turns()
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._scheduled = False

    def run(self, who: str | None, work: Work[T]) -> T | Coroutine[Any, Any, T]:
        """Return what a search finds: at once where it is short and nobody else waits.

        ``who``: the user that it is for; None: nobody is known. Raises ``ApiError``, and what
        the search raises.
        """
        if not self._turns:
            end = time.monotonic() + SLICE_S
            try:
                while time.monotonic() < end:
                    next(work)
            except StopIteration as stop:
                found: T = stop.value
                return found
        answer: asyncio.Future[T] = self._loop.create_future()
        self._turns.add(_Search(who, work, answer, self._timeout_s))
        self._schedule()
        return _wait(answer)

    def _schedule(self) -> None:
        if not self._scheduled and self._turns:
            self._scheduled = True
            self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._scheduled = False
        search = self._turns.take()
        ended = search.go_on(SLICE_S)
        if ended is None:
            self._turns.put(search)
        else:
            search.settle(*ended)
        self._schedule()


class ThreadedSearches:
    """Searches that wait for a disk: a thread carries them out, one piece of each in turn."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self._turns = Turns()
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._news = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def run(self, who: str | None, work: Work[T]) -> T:
        """Return what a search finds; see ``Searches``."""
        answer: asyncio.Future[T] = self._loop.create_future()
        with self._news:
            self._turns.add(_Search(who, work, answer, self._timeout_s))
            self._news.notify()
        return await answer

    def close(self) -> None:
        """End the thread; who still waits is not answered."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        pace = Pace()
        while True:
            with self._news:
                while not self._turns and not self._closing:
                    self._news.wait()
                if self._closing:
                    return
                search = self._turns.take()
            with pace.work():
                ended = search.go_on(0.0)
                pace.rest()
            if ended is not None:
                self._loop.call_soon_threadsafe(search.settle, *ended)
                continue
            with self._news:
                self._turns.put(search)


async def _wait(answer: "asyncio.Future[T]") -> T:
    return await answer
