"""How a process waits for work: where more is likely to come soon, it looks again before it sleeps.

To be woken costs more than a small order does: the core that slept has to come back, in a virtual
machine by leave of its host, and finds its caches cold. So after a wait that was shorter than
``linger_ns`` the next one begins with looking again and again, for so long at the most, giving the
core away between two looks to whoever else wants it. Work that comes rarely finds the process
asleep, and costs it nothing while there is none. Linux lets an idle core of a guest do likewise
(the haltpoll governor: Documentation/virt/guest-halt-polling.rst).
"""

import os
import time
from collections.abc import Callable

Events = list[tuple[int, int]]
Look = Callable[[float | None], Events]
"""Returns what there is, waiting for so many seconds (None: without end) where there is nothing."""


class Lingering:
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

    def wait(self, may_linger: bool) -> Events:
        """Return what there is once there is something; without lingering where it may not."""
        look, clock = self._look, self._clock
        begun_ns = clock()
        until_ns = begun_ns + self._linger_ns
        if may_linger and self._was_short:
            while clock() < until_ns:
                events = look(0)
                if events:
                    return events
                self._give_way()
        self.sleeps += 1
        events = look(None)
        self._was_short = clock() < until_ns
        return events
