"""Whose commands pass on when, so that one account's flood is not another one's latency.

A matcher serves what its frontends have sent it in the order in which that came: what a flood has
ahead of others in there is how long they wait. So while anybody sends little, those who send much
have a bounded number of commands at a matcher between them, and take turns. What else they send
waits at the frontend, by account, where it is in nobody's way. Accounts that all send much, or one
by itself, are only held to their windows: a deep queue at the matcher is what makes it fast.

It is round robin with a quantum of commands (Shreedhar and Varghese, 1995), and sparse flows go
first, as in FQ-CoDel (RFC 8290).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frontend.backends import BackendLink
    from frontend.streams import Stream

LIGHT_COMMANDS = 32
"""An account with fewer commands under way than this sends little: they pass at once."""
HEAVY_S = 0.1
"""So long after it had more, an account is not taken for one that sends little."""
CROWDED_S = 10.0
"""So long after its last command, an account that sends little still has others take turns."""
TURN_COMMANDS = 64
"""Commands of one turn."""
SHARED_COMMANDS = 192
"""Commands that all who take turns have at one matcher."""


class Turns:
    """Who sends little, and what that means for the others."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._light_s: dict[Stream, float] = {}  # when each sent last, in this order

    def allowed(self, stream: Stream, link: BackendLink | None, now_s: float) -> int:
        """Return how many commands of an account may pass now, whose last ones went to ``link``.

        At least 1, while its window has room; or 0: it has to wait for its turn there.
        """
        room = self._window - stream.under_way
        if stream.under_way < LIGHT_COMMANDS:
            return min(room, LIGHT_COMMANDS - stream.under_way)
        stream.heavy_s = now_s
        if link is None or not self._crowded(stream, now_s):
            return room
        return min(room, TURN_COMMANDS) if has_turn(link) else 0

    def passed(self, stream: Stream, now_s: float) -> None:
        """Take note that all that an account has sent by now has passed."""
        if stream.under_way < LIGHT_COMMANDS and now_s - stream.heavy_s > HEAVY_S:
            self._light_s.pop(stream, None)
            self._light_s[stream] = now_s

    def forget(self, stream: Stream) -> None:
        """An account's last session is gone."""
        self._light_s.pop(stream, None)

    def _crowded(self, stream: Stream, now_s: float) -> bool:
        """Return whether an account other than this one sends little."""
        for other in reversed(self._light_s):
            if other is not stream:
                return now_s - self._light_s[other] < CROWDED_S
        return False


def has_turn(link: BackendLink) -> bool:
    """Return whether a link has room for a turn."""
    return link.under_way <= SHARED_COMMANDS - TURN_COMMANDS
