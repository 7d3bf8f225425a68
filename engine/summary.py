"""What a batch of reports touched: the symbols whose depth changed, and the rejects by code."""

import numpy as np
import numpy.typing as npt

from ipc.compiled import compiled
from ipc.vocabulary import ExecType, Reason

Records = npt.NDArray[np.void]
Numbers = npt.NDArray[np.int64]

REASONS = max(Reason) + 1
_REJECTED = int(ExecType.REJECTED)


@compiled
def summarise(
    reports: Records, seen: Numbers, symbols: Numbers, rejects: Numbers
) -> tuple[int, int]:
    """Write the symbols of all reports but rejects to ``symbols``, by first appearance.

    ``seen[symbol]`` is scratch, all 0 before and after; ``rejects[reason]`` counts up. Returns how
    many symbols and how many rejects there are.
    """
    count = rejected = 0
    for index in range(len(reports)):
        report = reports[index]
        if report.exec_type == _REJECTED:
            rejects[report.reason] += 1
            rejected += 1
        elif report.symbol != 0 and seen[report.symbol] == 0:
            seen[report.symbol] = 1
            symbols[count] = report.symbol
            count += 1
    for index in range(count):
        seen[symbols[index]] = 0
    return count, rejected


class Summary:
    """Scratch for ``summarise``, for one matcher."""

    def __init__(self, symbols: list[int]) -> None:
        self._seen = np.zeros(max(symbols, default=0) + 1, np.int64)
        self._symbols = np.zeros(len(symbols), np.int64)
        self._rejects = np.zeros(REASONS, np.int64)

    def of(self, reports: Records) -> tuple[list[int], dict[int, int]]:
        """Return the touched symbols, and how many rejects there were of each reason."""
        count, rejected = summarise(reports, self._seen, self._symbols, self._rejects)
        rejects: dict[int, int] = {}
        if rejected:
            for reason in np.flatnonzero(self._rejects).tolist():
                rejects[reason] = int(self._rejects[reason])
            self._rejects[:] = 0
        return self._symbols[:count].tolist(), rejects
