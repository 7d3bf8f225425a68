"""What a process does for clients in a turn of its event loop, for all of them together.

A bound for each connection would let many of them fill the loop together, so there is one for all:
who comes when it is used up waits for a later turn. Clients have their turns one after the other,
however many connections each has. Who has had none for a while goes before those who have, as the
new flows of FQ-CoDel do (RFC 8290): who asks for little waits for one turn of the loop, and not for
all that others ask for.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable

GoOn = Callable[[], None]


class Turns:
    """The work of one process, in any unit; ``budget`` of it in a turn of the loop.

    Whose work it is, is anything that can be a key: a user, or where strangers come from.
    """

    def __init__(self, budget: float) -> None:
        self._budget = self._left = budget
        self._waiting: dict[Hashable, deque[GoOn] | None] = {}
        """What is to go on, by whose it is; nothing for who has had a turn since the last round."""
        self._wait_count = 0
        self._new: deque[Hashable] = deque()
        self._old: deque[Hashable] = deque()
        self._running: Hashable = None
        self._begins = False

    def may(self, whose: Hashable) -> bool:
        """Return whether work may be done at once; else it has to ``wait``."""
        if self._left <= 0:
            return False
        return not self._wait_count or whose == self._running or whose not in self._waiting

    def spend(self, whose: Hashable, work: float) -> None:
        """Take note of work that was done; it may be more than was left."""
        self._left -= work
        if self._wait_count or self._left <= 0:  # else nobody waits, so nobody need be behind
            self._running = whose
            if whose not in self._waiting:
                self._waiting[whose] = None
                self._old.append(whose)
        if not self._begins:
            self._begin_later()

    def wait(self, whose: Hashable, go_on: GoOn) -> None:
        """Call ``go_on`` in a later turn of the loop, when it is this one's turn."""
        waiting = self._waiting.get(whose)
        if waiting is not None:
            waiting.append(go_on)
        else:
            if whose not in self._waiting:
                self._new.append(whose)
            self._waiting[whose] = deque([go_on])
        self._wait_count += 1
        if not self._begins:
            self._begin_later()

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
        asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Begin a turn of the loop, with those who wait."""
        self._begins = False
        self._left, self._running = self._budget, None
        if not self._wait_count:
            self._waiting.clear()
            self._old.clear()
            return
        try:
            while self._left > 0 and (self._new or self._old):
                whose = (self._new or self._old).popleft()
                waiting = self._waiting[whose]
                if not waiting:
                    del self._waiting[whose]
                    continue
                self._old.append(whose)
                self._running = whose
                self._wait_count -= 1
                waiting.popleft()()
        finally:
            if (self._new or self._old) and not self._begins:
                self._begin_later()
