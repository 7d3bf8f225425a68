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

from engine.shard import account_sequences
from engine.shard.account_sequences import AccountSequences, find_slot
from ipc.arrays import Records, Words
from ipc.memory import ring, ring_kernel
from ipc.memory.ring import RingWriter
from ipc.memory.ring_kernel import claim, show
from ipc.native.compiled import compiled_with, inlined
from ipc.records import REPORT

_PIECES = 16
_CARRIES = 3
"""Reports that may be carried on within the kept ring for each one that enters it."""


@inlined
def is_wanted(
    report: Any, share: int, base: Any, factor: Any, accounts: Any, sequences: Any
) -> bool:
    """Tell whether a report's account has had fewer than ``share`` newer ones."""
    sequence = np.uint64(report["account_sequence"])
    last = np.uint64(base) | sequences[find_slot(report["account"], factor, accounts)]
    # A replay may still be far before it.
    return bool(sequence != np.uint64(0) and sequence + np.uint64(share) > last)


@compiled_with(account_sequences.__file__, ring.__file__, ring_kernel.__file__)
def carry_over(
    reports: Records,
    rows: Any,
    mask: int,
    start: int,
    count: int,
    kept_reports: Records,
    kept_rows: Any,
    kept_words: Any,
    share: int,
    base: int,
    factor: Any,
    accounts: Any,
    sequences: Any,
    credit: int,
) -> tuple[int, int]:
    """Put the wanted ones of some reports into the kept ring.

    Looked at are ``count`` of ``reports``, from ``start`` on, their places taken by ``mask``;
    ``rows`` and ``kept_rows`` are the same memory as words. ``credit`` is for how many may be
    carried on within the kept ring: one there stays in its row, and gets a newer sequence. Returns
    the credit left, and how many were wanted but overwritten.
    """
    capacity, displaced = len(kept_rows), 0
    for number in range(start, start + count):
        place = number & mask
        if not is_wanted(reports[place], share, base, factor, accounts, sequences):
            continue
        row = np.int64(claim(kept_words, 1) + np.uint64(1)) & (capacity - 1)
        while is_wanted(kept_reports[row], share, base, factor, accounts, sequences):
            if credit == 0:
                displaced += 1
                break
            credit -= 1
            show(kept_words, 1)
            row = np.int64(claim(kept_words, 1) + np.uint64(1)) & (capacity - 1)
        for word in range(rows.shape[1]):
            kept_rows[row, word] = rows[place, word]
        show(kept_words, 1)
        credit = min(capacity, credit + _CARRIES)
    return credit, displaced


class ReportShares:
    """Looks after the two rings of one shard; the only writer of the kept one."""

    def __init__(
        self,
        reports: RingWriter,
        kept: RingWriter,
        numbers: AccountSequences,
        share: int,
        most_reports: int,
    ) -> None:
        """``share``: of each account; ``most_reports``: that are published between two calls."""
        self._ring, self._kept, self._numbers, self._share = reports, kept, numbers, share
        self._ahead = min(reports.capacity, most_reports)
        self._looked_at = max(0, reports.published - reports.capacity)
        self._credit = kept.capacity
        self._kept_words = np.frombuffer(kept.words, np.uint64)
        self.displaced = 0
        """Reports that were to be kept, and went for want of room."""

    def make_way(self) -> None:
        """Carry over what the next reports may overwrite in the report ring.

        Not while a replay is behind what the ring has from a former life: accounts had fewer
        reports then, and nothing is overwritten.
        """
        published, capacity = self._ring.published, self._ring.capacity
        needed = published + self._ahead - capacity
        if needed <= self._looked_at or self._numbers.reports < published:
            return
        stop = min(published, needed + capacity // _PIECES)
        start = max(self._looked_at, published - capacity, self._ring.base)
        self._looked_at = stop
        if stop > start:
            self._carry_over(self._ring.rows, self._ring.capacity - 1, start + 1, stop - start)

    def take(self, reports: Records) -> None:
        """Carry over those of the reports just published that a small ring has not kept."""
        early = len(reports) - self._ring.capacity
        if early > 0 and self._numbers.reports >= self._ring.published:
            self._looked_at = self._ring.published - self._ring.capacity
            self._carry_over(reports.view(np.uint64).reshape(len(reports), -1), -1, 0, early)

    def _carry_over(self, rows: Words, mask: int, start: int, count: int) -> None:
        numbers, kept = self._numbers, self._kept
        if kept.published + count > kept.reserved:
            kept.reserve(count)  # one that is carried on has a row that was written before
        self._credit, displaced = carry_over(
            rows.view(REPORT)[:, 0],
            rows,
            mask,
            start,
            count,
            kept.rows.view(REPORT)[:, 0],
            kept.rows,
            self._kept_words,
            self._share,
            numbers.base,
            numbers.factor,
            numbers.accounts,
            numbers.sequences,
            self._credit,
        )
        self.displaced += displaced


def warm() -> None:
    """Compile or load what chooses."""
    rows = np.zeros((1, REPORT.itemsize // 8), np.uint64)
    reports, numbers = rows.view(REPORT)[:, 0], AccountSequences(0)
    of_accounts = (numbers.base, numbers.factor, numbers.accounts, numbers.sequences)
    carry_over(reports, rows, 0, 0, 1, reports, rows, np.zeros(64, np.uint64), 1, *of_accounts, 0)
