"""How many commands an account may have under way, so that its flood is not another's latency.

A matcher serves what its frontends have sent it in the order in which that came: what a flood has
ahead of others in there is how long they wait. So while anybody sends little, the window of who
sends much is narrow. What else those send waits at the frontend, by account, where it is in
nobody's way. Accounts that all send much, or one by itself, have their whole windows: a deep queue
at the matcher is what makes it fast. Who sends little passes at once, as the sparse flows of
FQ-CoDel do (RFC 8290).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frontend.streams import Stream

LIGHT_COMMANDS = 32
"""An account with fewer commands under way than this sends little."""
HEAVY_S = 0.1
"""So long after it had more, an account is not taken for one that sends little."""
NOTE_S = 0.1
"""An account that sends little is looked at so often."""
CROWDED_S = 10.0
"""So long after its last command, an account that sends little still narrows others' windows."""
NARROW_WINDOW = 192


class Windows:
    """Who sends little, and what that means for the others."""

    def __init__(self, window: int) -> None:
        self._window = window
        self.always = min(window, LIGHT_COMMANDS)
        """So many commands an account may have under way, whatever others do."""
        self._light_s: dict[Stream, float] = {}  # when each sent last, in this order

    def room(self, stream: Stream, now_s: float) -> int:
        """Return how many commands of an account may pass now, and set its window."""
        if stream.under_way < LIGHT_COMMANDS:
            return self.always - stream.under_way
        stream.heavy_s = now_s
        self._light_s.pop(stream, None)
        stream.window = min(self._window, NARROW_WINDOW) if self._crowded(now_s) else self._window
        return max(0, stream.window - stream.under_way)

    def passed(self, stream: Stream, now_s: float) -> None:
        """Take note that all that an account has sent by now has passed."""
        if stream.under_way < LIGHT_COMMANDS and now_s - stream.heavy_s > HEAVY_S:
            self._light_s.pop(stream, None)
            self._light_s[stream] = stream.noted_s = now_s

    def forget(self, stream: Stream) -> None:
        """An account's last session is gone."""
        self._light_s.pop(stream, None)

    def _crowded(self, now_s: float) -> bool:
        """Return whether any account sends little."""
        last_s = next(reversed(self._light_s.values()), -CROWDED_S)
        return now_s - last_s < CROWDED_S
