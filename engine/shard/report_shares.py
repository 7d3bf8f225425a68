"""Each account's last reports, which no flood of others' takes from it.

The report ring holds a shard's last reports, whosever they are. Before one of them is overwritten
it is looked at whether its account has had ``account_reports`` newer ones, which its number says.
If not it is carried over into the *kept* ring, a second one of the same kind, and from that ring's
end to its beginning again, as long as that holds. So an account's last ``account_reports`` reports
are always in one ring or the other, and one who floods adds nothing to the kept ring. Readers find
some reports in both.

The kept ring can do so while no more than about three quarters of it are still to be kept. Where
there is more, the oldest are lost, and counted.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.shard.account_sequences import AccountSequences, slot_of
from ipc.memory.ring import RingWriter
from ipc.native.compiled import compiled
from ipc.records import REPORT

Records = npt.NDArray[np.void]

_PIECES = 16
_CARRIES = 3
"""Reports that may be carried on within the kept ring for each one that enters it."""


@compiled
def select(
    reports: Records,
    mask: int,
    start: int,
    count: int,
    share: int,
    base: int,
    factor: Any,
    accounts: Any,
    sequences: Any,
    chosen: Any,
) -> int:
    """Choose the reports whose account has had fewer than ``share`` newer ones; return how many.

    ``chosen`` gets their places among ``reports``. Looked at are ``count`` of them, from ``start``
    on, their places taken by ``mask``.
    """
    found = 0
    account, last = np.uint64(0), np.uint64(0)
    for number in range(start, start + count):
        place = number & mask
        report = reports[place]
        sequence = np.uint64(report["account_sequence"])
        if sequence == np.uint64(0):
            continue
        if report["account"] != account:
            account = np.uint64(report["account"])
            last = np.uint64(base) | sequences[slot_of(account, factor, accounts)]
        if sequence + np.uint64(share) > last:  # a replay may still be far before it
            chosen[found] = place
            found += 1
    return found


class ReportShares:
    """Looks after the two rings of one shard; the only writer of the kept one."""

    def __init__(
        self,
        ring: RingWriter,
        kept: RingWriter,
        numbers: AccountSequences,
        share: int,
        most_reports: int,
    ) -> None:
        """``share``: of each account; ``most_reports``: that are published between two calls."""
        self._ring, self._kept, self._numbers, self._share = ring, kept, numbers, share
        self._ahead = min(ring.capacity, most_reports)
        self._rows = _records_of(ring)
        self._kept_rows = _records_of(kept)
        self._looked_at = max(0, ring.published - ring.capacity)
        self._kept_looked_at = max(0, kept.published - kept.capacity)
        self._chosen = np.zeros(max(ring.capacity, most_reports), np.int64)
        self._piece = kept.capacity // _PIECES
        self._credit = kept.capacity
        self.displaced = 0
        """Reports that were to be kept, and went for want of room."""

    def make_way(self) -> None:
        """Carry over what the next reports may overwrite in the report ring.

        Not while a replay is behind what the ring has from a former life: accounts had fewer
        reports then, and nothing is overwritten.
        """
        if self._numbers.reports < self._ring.published:
            return
        published, capacity = self._ring.published, self._ring.capacity
        needed = published + self._ahead - capacity
        if needed <= self._looked_at:
            return
        stop = min(published, needed + capacity // _PIECES)
        start = max(self._looked_at, published - capacity, self._ring.base)
        self._looked_at = stop
        if stop > start:
            self._keep(self._alive(self._rows, start + 1, stop - start, len(self._rows) - 1))

    def take(self, reports: Records) -> None:
        """Carry over those of the reports just published that a small ring has not kept."""
        early = len(reports) - self._ring.capacity
        if early > 0 and self._numbers.reports >= self._ring.published:
            self._looked_at = self._ring.published - self._ring.capacity
            self._keep(self._alive(reports, 0, early, -1))

    def _alive(self, reports: Records, start: int, count: int, mask: int) -> Records:
        """Return a copy of those that are to be kept."""
        numbers = self._numbers
        found = select(
            reports,
            mask,
            start,
            count,
            self._share,
            numbers.base,
            numbers.factor,
            numbers.accounts,
            numbers.sequences,
            self._chosen,
        )
        return reports[self._chosen[:found]]

    def _keep(self, reports: Records) -> None:
        for start in range(0, len(reports), self._piece):
            piece = reports[start : start + self._piece]
            self._make_room(len(piece))
            self._kept.publish(piece)
            self._credit = min(self._kept.capacity, self._credit + _CARRIES * len(piece))

    def _make_room(self, count: int) -> None:
        """Carry on what is about to be overwritten in the kept ring, a piece ahead of that."""
        kept, mask = self._kept, self._kept.capacity - 1
        step = max(1, self._piece // 4)
        while self._kept_looked_at < kept.published + count + self._piece - kept.capacity:
            alive = self._alive(self._kept_rows, self._kept_looked_at + 1, step, mask)
            self._kept_looked_at += step
            lost = max(0, len(alive) - self._credit)
            self.displaced += lost
            self._credit -= len(alive) - lost
            kept.publish(alive[lost:])


def _records_of(ring: RingWriter) -> Records:
    records: Records = ring.rows.view(REPORT)[:, 0]
    return records


def warm() -> None:
    """Compile or load what chooses."""
    numbers = AccountSequences(0)
    chosen = np.zeros(1, np.int64)
    given = (numbers.base, numbers.factor, numbers.accounts, numbers.sequences, chosen)
    select(np.zeros(1, REPORT), 0, 0, 1, 1, *given)
