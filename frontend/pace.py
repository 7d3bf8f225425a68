"""The pace of a thread that works beside an event loop of the same process.

Both need the interpreter. Each time that the loop has let go of it, for every call to the system
and every callback, it waits for a thread that computes; so an event loop beside a thread that never
rests makes a thirtieth of its turns. A thread that rests three times as long as it worked, where
somebody else wanted to run meanwhile, leaves it three quarters; by itself it goes on at full speed.
"""

import time

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

    def __init__(self) -> None:
        self._begun_s = self._worked_s = 0.0

    def begin(self) -> None:
        """Begin to work, after nothing was done for a while."""
        self._begun_s, self._worked_s = time.perf_counter(), time.thread_time()

    def rest(self) -> None:
        """Rest, where it is time to."""
        worked_s = time.thread_time() - self._worked_s
        if worked_s < WORK_S:
            return
        took_s = time.perf_counter() - self._begun_s
        if took_s > (1 + CROWDED) * worked_s:
            time.sleep(min(RESTS * worked_s, MOST_REST_S))
        self.begin()
