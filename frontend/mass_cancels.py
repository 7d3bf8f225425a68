"""Mass cancels over all shards: the shards' answers add up to one."""

from collections.abc import Iterable
from typing import NamedTuple

from ipc.messages import MassCancel, MassCancelReport


class UnderWay(NamedTuple):
    """One mass cancel of everything: whose, and under which request_id."""

    stream: int
    request_id: int


class _Sum:
    def __init__(self) -> None:
        self.missing: list[int] = []
        self.canceled_orders = 0


class MassCancels:
    """Those of a frontend that are not answered yet."""

    def __init__(self) -> None:
        self._sums: dict[UnderWay, _Sum] = {}

    def begin(self, stream: int, message: MassCancel, shards: Iterable[int]) -> None:
        """Wait for the answers of shards."""
        key = UnderWay(stream, message.request_id)
        self._sums.setdefault(key, _Sum()).missing += shards

    def add(self, stream: int, shard: int, answer: MassCancelReport) -> MassCancelReport | None:
        """Take a shard's answer; return the whole one once nothing is missing."""
        key = UnderWay(stream, answer.request_id)
        known = self._sums.get(key)
        if known is None or shard not in known.missing:
            return None
        known.missing.remove(shard)
        known.canceled_orders += answer.canceled_orders
        if known.missing:
            return None
        del self._sums[key]
        return MassCancelReport(
            0, answer.request_id, known.canceled_orders, answer.timestamp_ns, 0, 0
        )

    def lose(self, shard: int) -> list[UnderWay]:
        """Give up those that a shard was to answer, and return them."""
        lost = [key for key, known in self._sums.items() if shard in known.missing]
        for key in lost:
            del self._sums[key]
        return lost
