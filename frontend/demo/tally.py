"""What the clients of a demo were told, kept in numpy arrays: about 130 bytes an order."""

from collections import Counter

import numpy as np
import numpy.typing as npt

from frontend.demo.checks import FILL
from ipc.arrays import Records, rows_of, those
from ipc.records import REPORT
from ipc.vocabulary import CommandType, ExecType, Reason

TOLD = np.dtype(
    [
        ("order_id", "<u8"),
        ("account", "<u8"),
        ("client_order_id", "<u8"),
        ("price", "<u8"),
        ("quantity", "<u8"),
        ("cum_qty", "<u8"),
        ("leaves_qty", "<u8"),
        ("symbol", "<u2"),
        ("side", "u1"),
        ("order_type", "u1"),
        ("time_in_force", "u1"),
        ("ord_status", "u1"),
        ("reason", "<u2"),
    ]
)
"""What an order's last report said of it: fields as in ORDER."""
_FIRST_ROWS = 1 << 14
_WAITING_ROWS = 1 << 13
_ROWS_AT_ONCE = 1 << 11


class Tally:
    """The last report of every order, every fill, and counts, of clients with dense order ids.

    ``client_order_id`` must be unique over all reports that are added, and dense from 1.
    """

    def __init__(self, orders: int = _FIRST_ROWS) -> None:
        """``orders``: how many are expected; room that is not used yet costs no memory."""
        self._orders = np.zeros(orders, TOLD)
        self._fills = np.zeros(orders, FILL)
        self._fill_count = 0
        self._waiting: list[bytes] = []
        self._waiting_rows = 0
        self._answers: Counter[tuple[CommandType, ExecType]] = Counter()
        self._rejects: Counter[Reason] = Counter()

    def add(self, reports: Records) -> None:
        """Take reports (REPORT) in the order they came."""
        if len(reports) >= _WAITING_ROWS:
            self._settle()
            self._take_all(reports)
            return
        self._waiting.append(reports.tobytes())
        self._waiting_rows += len(reports)
        if self._waiting_rows >= _WAITING_ROWS:
            self._settle()

    def orders(self) -> Records:
        """Return the last report of every accepted order (TOLD)."""
        self._settle()
        accepted: Records = self._orders[self._orders["order_id"] != 0]
        return accepted

    def leaves(self, client_order_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return what is open of some orders, by what was told of them so far."""
        self._settle()
        self._orders = _grown(self._orders, int(client_order_ids.max(initial=0)) + 1)
        open_lots: npt.NDArray[np.int64] = self._orders["leaves_qty"][client_order_ids].astype(
            np.int64
        )
        return open_lots

    def has_ended(self, client_order_id: int) -> bool:
        """Return whether an order that was answered has nothing open any more."""
        return not self.leaves(np.array([client_order_id]))[0]

    def fills(self) -> Records:
        """Return every fill (FILL), in the order of the reports."""
        self._settle()
        return self._fills[: self._fill_count]

    def answers(self) -> Counter[tuple[CommandType, ExecType]]:
        """Return how often each command got each kind of first answer."""
        self._settle()
        return self._answers

    def rejects(self) -> Counter[Reason]:
        """Return how often commands were rejected, by the reason."""
        self._settle()
        return self._rejects

    def _settle(self) -> None:
        """Work through what waits: many reports at a time cost little more than a few."""
        if not self._waiting:
            return
        # Not np.concatenate: to promote structured types takes it longer than all the rest.
        reports = np.frombuffer(b"".join(self._waiting), REPORT)
        self._waiting, self._waiting_rows = [], 0
        self._take_all(reports)

    def _take_all(self, reports: Records) -> None:
        """Take a few at a time: what a processor's cache holds is read again and again for less."""
        for first in range(0, len(reports), _ROWS_AT_ONCE):
            self._take(reports[first : first + _ROWS_AT_ONCE])

    def _take(self, reports: Records) -> None:
        exec_type = reports["exec_type"]
        self._count(reports, exec_type)
        is_order = (exec_type != ExecType.REJECTED) & (exec_type != ExecType.MASS_CANCELED)
        self._add_orders(reports if is_order.all() else those(reports, is_order))
        self._add_fills(reports, np.flatnonzero(exec_type == ExecType.TRADE))

    def _count(self, reports: Records, exec_type: npt.NDArray[np.uint8]) -> None:
        kinds = reports["command_type"].astype(np.int64) << 8 | exec_type
        counts = np.bincount(kinds[_answers(reports)])
        for kind in np.flatnonzero(counts).tolist():
            self._answers[CommandType(kind >> 8), ExecType(kind & 255)] += int(counts[kind])
        rejected = reports["reason"][exec_type == ExecType.REJECTED]
        for reason, count in zip(*np.unique(rejected, return_counts=True), strict=True):
            self._rejects[Reason(reason)] += int(count)

    def _add_orders(self, reports: Records) -> None:
        if not len(reports):
            return
        rows = reports["client_order_id"]
        self._orders = _grown(self._orders, int(rows.max()) + 1)
        told = np.empty(len(reports), TOLD)
        for field in TOLD.names or ():
            told[field] = reports[field]
        rows_of(self._orders)[rows] = rows_of(told)  # of several, the last one stays

    def _add_fills(self, reports: Records, trades: npt.NDArray[np.intp]) -> None:
        end = self._fill_count + len(trades)
        self._fills = _grown(self._fills, end)
        new = self._fills[self._fill_count : end]
        for field in ("trade_id", "order_id", "symbol", "side", "liquidity"):
            new[field] = reports[field][trades]
        new["price"], new["quantity"] = reports["last_price"][trades], reports["last_qty"][trades]
        self._fill_count = end


def _answers(reports: Records) -> npt.NDArray[np.bool_]:
    """Return which reports are the first answer to their account's own command."""
    exec_type = reports["exec_type"]
    # What is left of an IOC or a market order is cancelled after the order was answered.
    is_remainder = (exec_type == ExecType.CANCELED) & (reports["command_type"] == CommandType.NEW)
    answers: npt.NDArray[np.bool_] = (
        (reports["request_id"] != 0) & (exec_type != ExecType.TRADE) & ~is_remainder
    )
    return answers


def _grown(array: Records, rows: int) -> Records:
    """Return ``array``, or one at least twice as long that begins with it."""
    if rows <= len(array):
        return array
    longer = np.zeros(max(rows, 2 * len(array)), array.dtype)
    longer[: len(array)] = array
    return longer
