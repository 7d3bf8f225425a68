"""Who of a cluster's matchers speaks for whose cancel on disconnect, and who has gone.

A matcher with such accounts says so in the log, and beats there while anybody has any. Silence is
counted in one's own beats that have come back, so a broker that stands still for an hour makes
nobody gone. Whoever finds that a matcher has gone enters mass cancels for it, as commands like any
others; how long each waits before is drawn, and the first one's entry tells the others.
"""

from collections.abc import Set
from typing import NamedTuple

BEAT_S = 1.0
SOON_S = 0.2
"""How often at the most it is said whom a matcher speaks for."""
GONE_BEATS, MORE_BEATS = 5, 4
"""Of silence; and how many more at the most somebody waits."""
MOST_ACCOUNTS = 32_768
"""Of one matcher; no others are cancelled where a whole node dies."""


class Said(NamedTuple):
    """What a matcher is to say of itself: that it is there, or whom it speaks for."""

    accounts: list[int] | None


class Presence:
    """What one matcher knows of all of one shard."""

    def __init__(self, life: int) -> None:
        self._life = life
        self._others: dict[int, tuple[frozenset[int], int]] = {}
        """By life: whom it speaks for, and at which of our beats it was heard."""
        self._beats = 0
        self._own: frozenset[int] = frozenset()
        self._said: frozenset[int] = frozenset()
        self._said_s = 0.0

    def say(self, own: Set[int], now_s: float) -> Said | None:
        """Return what is to be entered now, if anything; ``own`` is whom this one speaks for."""
        self._own = frozenset(own)
        listed = frozenset(sorted(own)[:MOST_ACCOUNTS])
        if listed != self._said and now_s >= self._said_s + SOON_S:
            self._said, self._said_s = listed, now_s
            return Said(sorted(listed))
        if (self._said or self._others) and now_s >= self._said_s + BEAT_S:
            self._said_s = now_s
            return Said(None)
        return None

    def heard(self, life: int, accounts: list[int] | None) -> None:
        """Take note of what the log has from a matcher: whom it speaks for, None where it only
        says that it is there."""
        if life == self._life:
            self._beats += 1
        elif accounts is not None:
            self._others[life] = (frozenset(accounts), self._beats)
            if not accounts:
                del self._others[life]
        elif life in self._others:
            self._others[life] = (self._others[life][0], self._beats)

    def settled(self, life: int) -> None:
        """Take note that the log has the cancels of one that has gone.

        Where that is this one, which others have not heard for long, they know nothing of it now:
        it says anew whom it speaks for.
        """
        self._others.pop(life, None)
        if life == self._life:
            self._said = frozenset()

    def gone(self) -> tuple[int, list[int]] | None:
        """Return one that has gone, and whose orders are to be cancelled for it."""
        patience = GONE_BEATS + self._life % MORE_BEATS
        for life, (accounts, heard) in self._others.items():
            if self._beats - heard > patience:
                del self._others[life]
                spoken_for = self._own.union(*(some for some, _ in self._others.values()))
                return life, sorted(accounts - spoken_for)
        return None
