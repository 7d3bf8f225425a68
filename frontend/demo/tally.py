"""What the clients of a demo were told, kept in numpy arrays: about 150 bytes an order."""

from collections import Counter

import numpy as np
import numpy.typing as npt

from frontend.demo.checks import FILL
from ipc.arrays import Records
from ipc.records import ORDER
from ipc.vocabulary import CommandType, ExecType, Reason

_KEPT = (
    "order_id",
    "account",
    "client_order_id",
    "symbol",
    "side",
    "order_type",
    "time_in_force",
    "flags",
    "price",
    "quantity",
    "cum_qty",
    "leaves_qty",
    "ord_status",
    "reason",
)
_FIRST_ROWS = 1 << 14
_WAITING_ROWS = 1 << 13


class Tally:
    """The last report of every order, every fill, and counts, of clients with dense order ids.

    ``client_order_id`` must be unique over all reports that are added, and dense from 1.
    """

    def __init__(self) -> None:
        self._orders = np.zeros(_FIRST_ROWS, ORDER)
        self._fills = np.zeros(_FIRST_ROWS, FILL)
        self._fill_count = 0
        self._waiting: list[Records] = []
        self._waiting_rows = 0
        self._answers: Counter[tuple[CommandType, ExecType]] = Counter()
        self._rejects: Counter[Reason] = Counter()

    def add(self, reports: Records) -> int:
        """Take reports (REPORT) in the order they came; return how many answer a command."""
        self._waiting.append(reports)
        self._waiting_rows += len(reports)
        if self._waiting_rows >= _WAITING_ROWS:
            self._settle()
        return int(np.count_nonzero(_answers(reports)))

    def orders(self) -> Records:
        """Return the last report of every accepted order, as ORDER without its times."""
        self._settle()
        accepted: Records = self._orders[self._orders["order_id"] != 0]
        return accepted

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
        reports = np.concatenate(self._waiting)
        self._waiting, self._waiting_rows = [], 0
        exec_type = reports["exec_type"]
        is_trade = exec_type == ExecType.TRADE
        is_order = (exec_type != ExecType.REJECTED) & (exec_type != ExecType.MASS_CANCELED)
        self._count(reports[_answers(reports)])
        self._add_orders(reports[is_order])
        self._add_fills(reports[is_trade])

    def _count(self, answers: Records) -> None:
        kinds = answers["command_type"].astype(np.int64) << 8 | answers["exec_type"]
        for kind, count in zip(*np.unique(kinds, return_counts=True), strict=True):
            self._answers[CommandType(kind >> 8), ExecType(kind & 255)] += int(count)
        rejected = answers["reason"][answers["exec_type"] == ExecType.REJECTED]
        for reason, count in zip(*np.unique(rejected, return_counts=True), strict=True):
            self._rejects[Reason(reason)] += int(count)

    def _add_orders(self, reports: Records) -> None:
        if not len(reports):
            return
        rows = reports["client_order_id"]
        self._orders = _grown(self._orders, int(rows.max()) + 1)
        for field in _KEPT:
            self._orders[field][rows] = reports[field]  # of several, the last one stays

    def _add_fills(self, reports: Records) -> None:
        end = self._fill_count + len(reports)
        self._fills = _grown(self._fills, end)
        new = self._fills[self._fill_count : end]
        for field in ("trade_id", "order_id", "symbol", "side", "liquidity"):
            new[field] = reports[field]
        new["price"], new["quantity"] = reports["last_price"], reports["last_qty"]
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
