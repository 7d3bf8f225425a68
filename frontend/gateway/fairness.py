"""How many commands an account may have under way, so that its flood is not another's latency.

A matcher serves what its frontends have sent it in the order in which that came: what a flood has
ahead of others in there is how long they wait. So while anybody sends little, the window of who
sends more is narrow, and while anybody sends moderately, that of a flood is moderate. What else
those send waits at the frontend, by account, where it is in nobody's way. Accounts that all flood,
or one by itself, have their whole windows: a deep queue at the matcher is what makes it fast. Who
sends little passes at once, as the sparse flows of FQ-CoDel do (RFC 8290).
"""

from frontend.gateway.account_channel import AccountChannel

LIGHT_COMMANDS, NARROW_WINDOW, CROWDED_S = 32, 192, 10.0
"""An account with fewer commands under way than this sends little, and narrows the windows of those
with more, for so long after its last command."""
MODERATE_COMMANDS, MODERATE_WINDOW, MODERATE_S = 4_096, 1_024, 1.0
"""The same of an account that sends moderately, and the windows of floods."""
HEAVY_S = 0.1
"""So long after it had more, or was held to its window, an account does not send less."""
NOTE_S = 0.1
"""An account that sends little is looked at so often."""
FEW, SHARED_S = 4, 0.5
"""So many accounts may have a narrower window each; more of them share as much. An account counts
for so long after it was last held to it."""


class _Class:
    """The accounts that send less than some bound, and what that means for those that do not."""

    def __init__(self, commands: int, window: int, stays_s: float) -> None:
        self.commands = commands
        self.window = window
        self._stays_s = stays_s
        self._sent_s: dict[AccountChannel, float] = {}  # when each sent last, in this order
        self._held_s: dict[AccountChannel, float] = {}  # when each other one was held to it

    def note(self, channel: AccountChannel, now_s: float) -> None:
        """An account sends, and is one of these."""
        self._sent_s.pop(channel, None)
        self._sent_s[channel] = now_s

    def forget(self, channel: AccountChannel) -> None:
        """An account is none of these any more."""
        self._sent_s.pop(channel, None)

    def leave(self, channel: AccountChannel) -> None:
        """An account is gone."""
        self._sent_s.pop(channel, None)
        self._held_s.pop(channel, None)

    def share(self, channel: AccountChannel, now_s: float) -> int:
        """Return how many commands an account that is none of these may have under way.

        Many floods together are not in the way more than a few.
        """
        held_s = self._held_s
        held_s.pop(channel, None)
        held_s[channel] = now_s
        while now_s - held_s[first := next(iter(held_s))] > SHARED_S:
            del held_s[first]
        return max(LIGHT_COMMANDS, FEW * self.window // max(FEW, len(held_s)))

    def sends(self, now_s: float) -> bool:
        """Return whether any of these sends."""
        last_s = next(reversed(self._sent_s.values()), -self._stays_s)
        return now_s - last_s < self._stays_s


class Windows:
    """Who sends how much, and what that means for the others."""

    def __init__(self, window: int) -> None:
        self._window = window
        self.always = min(window, LIGHT_COMMANDS)
        """So many commands an account may have under way, whatever others do."""
        self._classes = (
            _Class(LIGHT_COMMANDS, NARROW_WINDOW, CROWDED_S),
            _Class(MODERATE_COMMANDS, MODERATE_WINDOW, MODERATE_S),
        )

    def room(self, channel: AccountChannel, now_s: float) -> int:
        """Return how many commands of an account may pass now, and set its window."""
        if channel.under_way < LIGHT_COMMANDS:
            return self.always - channel.under_way
        self._take_hold(channel, now_s)
        channel.window = self._window
        for number, lesser in enumerate(self._classes):
            if self._is_one_of(lesser, number, channel, now_s):
                break
            lesser.forget(channel)
            if lesser.sends(now_s):
                channel.window = min(channel.window, lesser.share(channel, now_s))
        return max(0, channel.window - channel.under_way)

    def passed(self, channel: AccountChannel, now_s: float) -> None:
        """Take note that all that an account has sent by now has passed."""
        self._take_hold(channel, now_s)
        for number, own in enumerate(self._classes):
            if self._is_one_of(own, number, channel, now_s):
                own.note(channel, now_s)
                channel.noted_s = now_s
                return

    def _is_one_of(self, own: _Class, number: int, channel: AccountChannel, now_s: float) -> bool:
        if channel.under_way >= own.commands:
            channel.above_s[number] = now_s
        return now_s - channel.above_s[number] > HEAVY_S

    def _take_hold(self, channel: AccountChannel, now_s: float) -> None:
        """Take note that an account was held: it would send more than it may."""
        if channel.was_held:
            channel.was_held = False
            channel.above_s = [now_s] * len(self._classes)

    def forget(self, channel: AccountChannel) -> None:
        """An account's last session is gone."""
        for known in self._classes:
            known.leave(channel)
