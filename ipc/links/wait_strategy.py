"""How a process waits for work: where more is likely to come soon, it looks again before it sleeps.

To be woken costs more than a small order does: the core that slept has to come back, in a virtual
machine by leave of its host, and finds its caches cold. So after a wait that was shorter than
``linger_ns`` the next one begins with looking again and again, for so long at the most, giving the
core away between two looks. Where somebody takes it there is no idle core to be had, and the
process sleeps like any other for a while. Work that comes rarely finds it asleep, and costs it
nothing while there is none. Linux lets an idle core of a guest do likewise (the haltpoll governor:
Documentation/virt/guest-halt-polling.rst).
"""

import os
import time
from collections.abc import Callable

TAKEN_NS = 60_000
"""To give the core away takes less than a microsecond; if it takes this long, somebody took it."""
MOST_LEFT_OUT = 127
"""Waits that begin with sleep after the core was taken. It is one at first, and twice as many and
one more each further time, up to this; half as many again each time that work came instead."""

Events = list[tuple[int, int]]
Look = Callable[[float | None], Events]
"""Returns what there is, waiting for so many seconds (None: without end) where there is nothing."""


class WaitStrategy:
    """Waits by ``look``, as ``select.epoll.poll`` is; ``sleeps`` counts how often it went to sleep.

    ``give_way`` lets others have the core.
    """

    def __init__(
        self,
        look: Look,
        linger_ns: int,
        clock: Callable[[], int] = time.perf_counter_ns,
        give_way: Callable[[], None] = os.sched_yield,
    ) -> None:
        self.sleeps = 0
        self._look = look
        self._linger_ns = linger_ns
        self._clock = clock
        self._give_way = give_way
        self._was_short = False
        self._leave_out = self._left_out = 0

    def wait(self, may_linger: bool, most_s: float | None = None) -> Events:
        """Return what there is once there is something; without lingering where it may not. It
        sleeps for so many seconds at most, and then returns nothing."""
        begun_ns = self._clock()
        until_ns = begun_ns + self._linger_ns
        if may_linger and self._was_short:
            if self._left_out < self._leave_out:
                self._left_out += 1
            else:
                events = self._linger(begun_ns, until_ns)
                if events:
                    return events
        self.sleeps += 1
        events = self._look(most_s)
        self._was_short = self._clock() < until_ns
        return events

    def _linger(self, now_ns: int, until_ns: int) -> Events:
        """Look until there is something, it is time, or somebody takes the core."""
        look, clock, give_way = self._look, self._clock, self._give_way
        self._left_out = 0
        while now_ns < until_ns:
            events = look(0)
            if events:
                self._leave_out //= 2
                return events
            before_ns = clock()
            give_way()
            now_ns = clock()
            if now_ns - before_ns > TAKEN_NS:
                self._leave_out = min(2 * self._leave_out + 1, MOST_LEFT_OUT)
                break
        return []
