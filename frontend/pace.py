"""The pace of a thread that works beside an event loop of the same process.

Both need the interpreter. Each time that the loop has let go of it, for every call to the system
and every callback, it waits for a thread that computes; so an event loop beside a thread that never
rests makes a thirtieth of its turns. Threads that together rest three times as long as they worked,
where somebody else wanted to run meanwhile, leave it three quarters; by itself one goes on at full
speed.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

WORK_S = 0.0003
"""Work between two rests."""
RESTS = 3.0
"""How long it rests for what it worked."""
MOST_REST_S = 0.1
CROWDED = 0.25
"""Somebody else wanted to run where so much longer passed than was worked."""
SWITCH_S = 0.00005
"""For ``sys.setswitchinterval``: how long a loop waits for a thread that does not rest yet. Waking
takes about as long."""


class Pace:
    """The pace of one thread, which calls ``rest`` after each small piece of work."""

    _at_work = 0
    """Threads of the process that are; one more or less does not matter."""

    def __init__(self) -> None:
        self._begun_s = self._worked_s = 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Have work to do, after nothing was done for a while."""
        Pace._at_work += 1
        self._begin()
        try:
            yield
        finally:
            Pace._at_work -= 1

    def _begin(self) -> None:
        self._begun_s, self._worked_s = time.perf_counter(), time.thread_time()

    def rest(self) -> None:
        """Rest, where it is time to."""
        worked_s = time.thread_time() - self._worked_s
        if worked_s < WORK_S:
            return
        took_s = time.perf_counter() - self._begun_s
        if took_s > (1 + CROWDED) * worked_s:
            time.sleep(min(RESTS * worked_s * self._at_work, MOST_REST_S))
        self._begin()
