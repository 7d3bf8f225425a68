"""What a process does for clients in a turn of its event loop, for all of them together.

A bound for each connection would let many of them fill the loop together, so there is one for all:
who comes when it is used up waits for a later turn. Who has little waiting goes before those with
much, as the sparse flows of FQ-CoDel do (RFC 8290), and among each kind whoever has had least,
however many connections each has, and whatever a piece of work costs: that is start-time fair
queueing (Goyal, Vin and Cheng, SIGCOMM 1996), where who was quiet is some turns ahead. So who asks
for little waits for a turn or two of the loop, and not for all that others ask for.
While such a one is there the others leave the loop some time between their turns: a process that
never sleeps is run late, where others want its core, and would find him late.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from heapq import heappop, heappush
from time import perf_counter, thread_time

GoOn = Callable[[], None]
_Entry = tuple[float, int, Hashable]
"""What a client had when it was put there, and a number."""

FEW = 4
"""Who has no more than so many pieces waiting has little; those with more have every fourth turn
for certain."""
AHEAD = 20.0
"""Budgets of work by which who was quiet is ahead of those who are served."""
REST_S, STAYS_S = 0.001, 1.0
"""Between two turns of the others, for so long after somebody came who is far ahead."""
MOST_KNOWN = 4_096
"""Clients whose work is remembered, before those are forgotten that have nothing to catch up."""


class Turns:
    """The work of one process, in any unit; ``budget`` of it in a turn of the loop.

    Whose work it is, is anything that can be a key: a user, or where strangers come from.
    """

    def __init__(self, budget: float, rest_s: float = REST_S) -> None:
        self._budget = self._left = budget
        self._rest_s = rest_s
        self._modest_s = -STAYS_S
        """When somebody came last who was far ahead of all who wait."""
        self._ahead = AHEAD * budget
        self._waiting: dict[Hashable, deque[GoOn]] = {}
        self._wait_count = 0
        self._had: dict[Hashable, float] = {}
        """The work of each client, from where it began on."""
        self._few: list[_Entry] = []
        self._many: list[_Entry] = []
        """Heaps of those who wait, by how much of each does."""
        self._numbers = 0
        self._served = 0.0
        """What the one had that had its turn last: all who are known catch up to it."""
        self._served_count = 0
        self._running: Hashable = None
        self._begins = False

    def may(self, whose: Hashable) -> bool:
        """Return whether work may be done at once; else it has to ``wait``."""
        if self._left > 0 and (not self._wait_count or whose == self._running):
            return True
        if not self._wait_count or whose in self._waiting:
            return False
        ahead = (self._few or self._many)[0][0] - self._begin_of(whose)
        if ahead > self._ahead / 2:
            self._modest_s = asyncio.get_running_loop().time()
            return True  # it asks for little: the turn may take that much longer
        return ahead > 0 and self._left > 0

    def _begin_of(self, whose: Hashable) -> float:
        least = self._served - self._ahead
        return max(self._had.get(whose, least), least)

    @property
    def clock(self) -> Callable[[], float]:
        """What tells, in seconds, what a piece takes: of the processor, where others wait.

        What passes meanwhile is not the client's, where other processes or threads run; but to ask
        for it takes longer.
        """
        return thread_time if self._wait_count else perf_counter

    def spend(self, whose: Hashable, work: float) -> None:
        """Take note of work that was done; it may be more than was left."""
        self._left -= work
        if self._wait_count or self._left <= 0:  # else nobody waits, so nobody need be behind
            self._running = whose
            self._had[whose] = self._begin_of(whose) + work
        if not self._begins:
            self._begin_later()

    def wait(self, whose: Hashable, go_on: GoOn) -> None:
        """Call ``go_on`` in a later turn of the loop, when it is this one's turn."""
        waiting = self._waiting.get(whose)
        if waiting is not None:
            waiting.append(go_on)
        else:
            self._waiting[whose] = deque([go_on])
            self._had[whose] = self._begin_of(whose)  # as of now: it gains nothing while it waits
            self._put(whose)
        self._wait_count += 1
        if not self._begins:
            self._begin_later()

    def _put(self, whose: Hashable) -> None:
        self._numbers += 1
        order = self._few if len(self._waiting[whose]) <= FEW else self._many
        heappush(order, (self._begin_of(whose), self._numbers, whose))

    async def turn(self, whose: Hashable, work: float) -> None:
        """Wait until so much work may be done, and take note of it."""
        if self.may(whose):
            self.spend(whose, work)
            return
        begun = asyncio.get_running_loop().create_future()

        def begin() -> None:
            self.spend(whose, work)
            if not begun.done():
                begun.set_result(None)

        self.wait(whose, begin)
        await begun

    def _begin_later(self) -> None:
        self._begins = True
        loop = asyncio.get_running_loop()
        if self._rest_s and loop.time() - self._modest_s < STAYS_S:
            loop.call_later(self._rest_s, self._begin)
        else:
            loop.call_soon(self._begin)

    def _begin(self) -> None:
        """Begin a turn of the loop, with those who wait."""
        self._begins = False
        self._left, self._running = self._budget, None
        if not self._wait_count:
            self._had.clear()
            self._served = 0.0
            return
        try:
            while self._left > 0 and self._wait_count:
                self._served_count += 1
                much = self._many and (not self._few or self._served_count % 4 == 0)
                self._serve_first(self._many if much else self._few)
        finally:
            if len(self._had) > MOST_KNOWN:
                least = self._served - self._ahead
                self._had = {whose: had for whose, had in self._had.items() if had > least}
            if self._wait_count and not self._begins:
                self._begin_later()

    def _serve_first(self, order: list[_Entry]) -> None:
        """Let the one that had least go on, with what has waited longest of it."""
        had, _, whose = heappop(order)
        has_few = len(self._waiting[whose]) <= FEW
        if had < self._begin_of(whose) or (order is self._few) is not has_few:  # it is so no more
            self._put(whose)
            return
        self._served = max(self._served, had)
        waiting = self._waiting[whose]
        go_on = waiting.popleft()
        self._wait_count -= 1
        self._running = whose
        if not waiting:
            del self._waiting[whose]
        try:
            go_on()
        finally:
            if waiting and self._waiting.get(whose) is waiting:
                self._put(whose)


class WorkClock:
    """The time that one client's work takes, in pieces that each have their turn."""

    def __init__(self, turns: Turns, whose: Hashable, piece_s: float) -> None:
        """``piece_s``: what a piece counts for until it is known what it took."""
        self._turns = turns
        self._whose = whose
        self._piece_s = piece_s
        self._begun_s = 0.0

    async def turn(self) -> None:
        """End a piece, where one was begun, and wait until the next may begin."""
        self.stop()
        await self._turns.turn(self._whose, self._piece_s)
        self._begun_s = thread_time()

    def stop(self) -> None:
        """End the piece: it counts for what it took."""
        if self._begun_s:
            self._turns.spend(self._whose, thread_time() - self._begun_s - self._piece_s)
            self._begun_s = 0.0
