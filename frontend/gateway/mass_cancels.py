"""Mass cancels over all shards: the shards' answers add up to one.

A client may use a request_id again while it is under way. Each shard answers in the order in which
it was asked, so an answer is for the oldest one of that request_id that the shard has not answered.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from ipc.wire.messages import MassCancel, MassCancelReport


class UnderWay(NamedTuple):
    """One mass cancel of everything: whose, and under which request_id."""

    stream: int
    request_id: int


class _Sum:
    def __init__(self) -> None:
        self.missing = 0
        self.canceled_orders = 0
        self.given_up = False


class MassCancels:
    """Those of a frontend that are not answered yet."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, UnderWay], deque[_Sum]] = {}
        """By shard, what it has not answered, the oldest first."""

    def begin(self, stream: int, message: MassCancel, shards: Iterable[int]) -> None:
        """Wait for the answers of shards."""
        under_way, new = UnderWay(stream, message.request_id), _Sum()
        for shard in shards:
            self._waiting.setdefault((shard, under_way), deque()).append(new)
            new.missing += 1

    def add(self, stream: int, shard: int, answer: MassCancelReport) -> MassCancelReport | None:
        """Take a shard's answer; return the whole one once nothing is missing."""
        key = shard, UnderWay(stream, answer.request_id)
        waiting = self._waiting.get(key)
        if waiting is None:
            return None
        known = waiting.popleft()
        if not waiting:
            del self._waiting[key]
        known.missing -= 1
        known.canceled_orders += answer.canceled_orders
        if known.missing or known.given_up:
            return None
        return MassCancelReport(
            0, answer.request_id, known.canceled_orders, answer.timestamp_ns, 0, 0
        )

    def lose(self, shard: int) -> list[UnderWay]:
        """Give up those that a shard was to answer, and return them."""
        lost = []
        for key in [key for key in self._waiting if key[0] == shard]:
            for known in self._waiting.pop(key):
                known.missing -= 1
                if not known.given_up:
                    known.given_up = True
                    lost.append(key[1])
        return lost
