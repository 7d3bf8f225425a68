"""How far a client has seen the account's reports, shard by shard: where a new connection goes on.

``account_sequence`` numbers what a shard tells an account without a gap
(``ipc.wire.messages.Report``), so that each report must follow on the one before it.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from frontend.client.errors import ReportGapError
from ipc.records import SEQUENCE_BITS, sequence_of, shard_of
from ipc.wire.messages import SERVER_MESSAGES, ShardRestarted, Welcome

RESUME_REFUSALS = ("RESUME_TOO_OLD", "RESUME_UNKNOWN")
"""Codes of a Closing: the engine cannot go on from where the client was."""


class Positions:
    """The last account_sequence of each shard that was seen, on whatever connection."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._given_up: dict[int, int] = {}
        self._goals: dict[int, int] = {}

    def resume(self) -> list[int]:
        """Return what a login asks to go on from; nothing before the first Welcome."""
        return [self._seen[shard] for shard in sorted(self._seen)]

    def give_up(self) -> None:
        """The engine cannot go on from here: take what comes, and count what is missing."""
        self._given_up = self._given_up | self._seen
        self._seen = {}

    def welcome(self, welcome: Welcome) -> int:
        """Take where the account stands; return how many reports are missing for ever."""
        self._goals = {shard_of(position): position for position in welcome.account_sequences}
        missing = sum(
            max(sequence_of(goal) - sequence_of(self._given_up[shard]), 0)
            if goal >= self._given_up[shard]
            else sequence_of(goal)  # another life of the engine: all that it has told
            for shard, goal in self._goals.items()
            if shard in self._given_up
        )
        self._given_up = {}
        self._seen = self._goals | self._seen
        return missing

    def follow(self, messages: Iterable[SERVER_MESSAGES]) -> None:
        """Take note of messages, all of them or none. Raises ``ReportGapError``."""
        seen = self._seen.copy()
        for message in messages:
            number: int = getattr(message, "account_sequence", 0)
            restarted = type(message) is ShardRestarted
            if not number and not restarted:
                continue
            shard = number >> SEQUENCE_BITS
            wanted = seen.get(shard, number - 1) + 1
            if restarted:
                wanted = seen.get(shard, number)
            if number != wanted:
                raise ReportGapError(shard, sequence_of(number), sequence_of(wanted))
            seen[shard] = number
        self._seen = seen

    def to_wanted(self, wanted: npt.NDArray[np.uint64]) -> None:
        """Fill in the next account_sequence by shard, 0 where any will do."""
        wanted[:] = 0
        for shard, number in self._seen.items():
            wanted[shard] = number + 1

    def from_wanted(self, wanted: npt.NDArray[np.uint64]) -> None:
        """Take over what compiled code has read in turn."""
        for shard in np.flatnonzero(wanted).tolist():
            self._seen[shard] = int(wanted[shard]) - 1

    @property
    def caught_up(self) -> bool:
        """Whether all has come that was reported before the Welcome."""
        return all(self._seen[shard] >= goal for shard, goal in self._goals.items())
