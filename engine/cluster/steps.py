"""What an entry of the log comes to: a pure function of the entry, its time and the shard's state.

Nothing else is looked at: no clock, no link, no bound of this process. An entry is, in order,

1. the rest of a mass cancel that is under way, at the time of the last command;
2. the end of orders whose time is over, one nanosecond before the entry's own time;
3. its commands, as one batch, at the entry's time;
4. what mass cancels among them still have to do, at that time.

The journal has all of it, each step by the time that it is of. So a matcher that was killed between
two steps does the others when it meets the entry again, and none twice.
"""

import numpy as np
from msgspec import DecodeError, ValidationError

from engine.cluster.cutting import MOST_FRAMES
from engine.cluster.entries import Entry
from engine.shard.matcher import Matcher
from ipc.links.backend import Link
from ipc.records import COMMAND
from ipc.wire.frames import frame
from ipc.wire.matcher_codec import FRONTEND_STREAM, CommandDecoder
from ipc.wire.messages import MAX_BODY, backend_decoder
from ipc.wire.rejects import explain


class LogClock:
    """The time that a matcher sees: that of what it carries out."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Steps:
    """Carries entries out on a matcher whose clock is ``clock``."""

    def __init__(self, matcher: Matcher, clock: LogClock) -> None:
        self._matcher, self._clock = matcher, clock
        # One with a text for its id is two: see ``ipc.client_ids``.
        self._commands = np.zeros(2 * MOST_FRAMES, COMMAND)
        self._decoder = CommandDecoder(MAX_BODY)
        self.time_ns = matcher.tick()
        """Of the last command, which the journal has."""

    def carry_out(self, entry: Entry, time_ns: int, links: list[Link], own: Link | None) -> None:
        """Carry an entry out, reports going to ``links``; ``own`` is where it came from, if it is
        one of this node's. Raises ``JournalError``."""
        self._end_sweeps(links)
        self._clock.now_ns = time_ns - 1
        self._end_orders(links)
        self._clock.now_ns = self.time_ns = time_ns
        self._matcher.tick()
        count = self._decode(entry, time_ns, own)
        if count:
            self._matcher.take(self._commands[:count], links)
        self._end_sweeps(links)

    def _end_sweeps(self, links: list[Link]) -> None:
        while self._matcher.sweeping:
            self._matcher.go_on(links)

    def _end_orders(self, links: list[Link]) -> None:
        while 0 < self._matcher.expiry_ns <= self._clock.now_ns:
            self._matcher.go_on(links)
            self._end_sweeps(links)

    def _decode(self, entry: Entry, time_ns: int, own: Link | None) -> int:
        """Return how many commands an entry has; what is none is answered where it came from."""
        decoder = self._decoder
        if not entry.frames:
            return 0
        for stream, account in entry.streams:
            decoder.open_stream(stream, account)
        decoder.feed(entry.frames)
        count = 0
        while True:
            count, odd = decoder.read(self._commands, count, time_ns)
            if odd is None:
                break
            if own is not None:
                _refuse(own, *odd, time_ns)
        if decoder.pending_bytes:  # no node sends such
            self._decoder = CommandDecoder(MAX_BODY)
            return count
        for stream, _ in entry.streams:
            decoder.open_stream(stream, 0)
        return count


def _refuse(link: Link, stream: int, body: bytes, time_ns: int) -> None:
    try:
        backend_decoder.decode(body)
    except (ValidationError, DecodeError, UnicodeDecodeError) as error:
        link.send(frame(explain(body, error, time_ns), stream | FRONTEND_STREAM))
