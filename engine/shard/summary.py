"""What a batch of reports touched: the symbols whose depth changed, and the rejects by code."""

from typing import Any

import numpy as np

from ipc.arrays import Integers, Records, Words
from ipc.codes import EXEC_TYPE_REJECTED
from ipc.native.compiled import HAVE_NUMBA, compiled, inlined
from ipc.vocabulary import Reason

REASONS = max(Reason) + 1


@inlined
def summarise_report(
    report: Any, seen: Integers, symbols: Integers, rejects: Words, count: int
) -> int:
    """Take note of one report; return how many symbols there are now, of ``count`` before.

    The symbols of all reports but rejects go to ``symbols``, by first appearance; ``seen[symbol]``
    tells which are there; ``rejects[reason]`` counts up.
    """
    if report.exec_type == EXEC_TYPE_REJECTED:
        rejects[report.reason] += np.uint64(1)
    elif report.symbol != 0 and seen[report.symbol] == 0:
        seen[report.symbol] = 1
        symbols[count] = report.symbol
        count += 1
    return count


@compiled
def summarise(reports: Records, seen: Integers, symbols: Integers, rejects: Words) -> int:
    """Take note of reports; return how many symbols there are."""
    count = 0
    for index in range(len(reports)):
        count = summarise_report(reports[index], seen, symbols, rejects, count)
    return count


def _rows(reports: Records) -> Records:
    """Return reports whose rows have attributes, as compiled code sees them anyway."""
    return reports if HAVE_NUMBA else reports.view(np.recarray)


class Summary:
    """What the reports of one batch touched: scratch for one matcher, filled by compiled code."""

    def __init__(self, symbols: list[int]) -> None:
        self.seen = np.zeros(max(symbols, default=0) + 1, np.int64)
        self.symbols = np.zeros(len(symbols), np.int64)
        self.rejects = np.zeros(REASONS, np.uint64)

    def of(self, reports: Records) -> tuple[list[int], dict[int, int]]:
        """Return the touched symbols, and how many rejects there were of each reason."""
        count = summarise(_rows(reports), self.seen, self.symbols, self.rejects)
        symbols = self.symbols[:count].tolist()
        self.seen[symbols] = 0
        reasons = np.flatnonzero(self.rejects).tolist()
        rejects = {reason: int(self.rejects[reason]) for reason in reasons}
        self.rejects[:] = 0
        return symbols, rejects
