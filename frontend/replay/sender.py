"""Sends recorded order flows through one client, pipelined, and takes in what becomes of them.

Flows are interleaved by their times. Where the flows' first times lie a day or more apart their
clocks cannot be one (one may count from midnight, another from 1970), and each flow counts from
its own first row.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, TextIO

import numpy as np
import numpy.typing as npt

from frontend.client import Client
from frontend.client.errors import AnswerTimeoutError
from frontend.replay.fill_file import FillFile
from frontend.replay.flow_file import Flow, message_of, orders_of
from ipc.codes import EXEC_TYPE_TRADE
from ipc.vocabulary import MAX_CLIENT_ID, Reason
from ipc.wire.frames import frame
from ipc.wire.messages import Cancel, Reject, Report

WINDOW = 4_096
"""Commands that may wait for their answers."""
MAX_REPORTS = 1 << 20
"""Messages that a replay's client keeps: far more than a window's commands give at once."""
DAY_NS = 86_400 * 10**9
FENCE_ID = MAX_CLIENT_ID
"""A client_order_id that no flow may use: cancelling it is rejected after all that was before."""

Speed = Literal["max"] | float


class ReplayError(ValueError):
    """A replay cannot be done; the text says what is wrong with which file."""


class ReplayRun:
    """One replay over a connected client, which it alone uses meanwhile.

    ``numbers`` are the flows' symbols on the wire. Raises ``ReplayError`` where two flows are of
    one symbol or an id is ``FENCE_ID``.
    """

    def __init__(
        self,
        client: Client,
        flows: Sequence[Flow],
        fills: TextIO | None = None,
        speed: Speed = "max",
        window: int = WINDOW,
    ) -> None:
        for flow in flows:
            if (flow.rows["id"] == FENCE_ID).any():
                raise ReplayError(f"{flow.symbol}: id: {FENCE_ID} must not be used in a flow")
        self._client = client
        self._numbers = [client.instruments.named(flow.symbol).number for flow in flows]
        if len(set(self._numbers)) < len(flows):
            raise ReplayError("several files are of one symbol")
        self._speed = speed
        self._window = window
        self._rows = [iter(flow) for flow in flows]
        self._texts = [flow.texts for flow in flows]
        self._which, self._due_ns = interleave([flow.rows["ts_ns"] for flow in flows])
        self._pending: dict[int, int] = {}
        self._fences: set[int] = set()
        symbols = zip(self._numbers, (flow.symbol for flow in flows), strict=True)
        self._fills = FillFile(dict(symbols), fills)
        self.sent = 0
        self.answered = 0
        self.orders = sum(int(orders_of(flow.rows).sum()) for flow in flows)
        self.rejects: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._which)

    @property
    def trades(self) -> int:
        """How many trades the account was told of."""
        return self._fills.trades

    def advance(self, upto: int, show: Callable[[int], None] | None = None) -> None:
        """Send rows until ``upto`` are sent, and return when all that came of them is here.

        ``show`` is told how many are answered, again and again. Raises ``ClientError``.
        """
        upto = min(upto, len(self))
        start = time.monotonic_ns() - self._elapsed_ns(self.sent)
        while self.answered < upto:
            room = min(self._window - len(self._pending), self._due(upto, start) - self.sent)
            if room >= min(self._window // 8, upto - self.sent) or self._speed != "max":
                self._send(room)
            self._receive(self._wait_s(upto, start))
            if show is not None:
                show(self.answered)
        self._fence()

    def finish(self) -> None:
        """Write the fills whose maker was another account's."""
        self._fills.finish()

    def _send(self, count: int) -> None:
        """Send the next ``count`` rows."""
        if count <= 0:
            return
        frames = []
        number_of, rows, pending = self._numbers, self._rows, self._pending
        texts = self._texts
        new_request_id = self._client.new_request_id
        for which in self._which[self.sent : self.sent + count].tolist():
            row = next(rows[which])
            request_id = new_request_id()
            pending[request_id] = row.seq
            frames.append(frame(message_of(row, number_of[which], request_id, texts[which])))
        self.sent += count
        self._client.send_frames(b"".join(frames))

    def _receive(self, wait_s: float) -> None:
        """Take in what comes within ``wait_s``."""
        messages = self._client.receive(wait_s)
        if not messages and wait_s >= self._client.timeout_s:
            waiting = len(self._pending) + len(self._fences)
            raise AnswerTimeoutError(
                f"no answer for {wait_s:.0f} s while {waiting} of {self.sent} commands waited"
            )
        for message in messages:
            if type(message) is Report:
                if message.exec_type == EXEC_TYPE_TRADE:
                    self._fills.add(message)
                elif message.request_id in self._pending:
                    self._answer(message)
            elif type(message) is Reject:
                self._reject(message)

    def _answer(self, message: Report | Reject) -> None:
        seq = self._pending.pop(message.request_id)
        self._fills.answered(message.symbol, message.request_id, seq)
        self.answered += 1

    def _reject(self, message: Reject) -> None:
        if message.request_id in self._pending:
            self.rejects[message.code_name] += 1
            self._pending.pop(message.request_id)
            self.answered += 1
        elif message.request_id in self._fences and message.code == Reason.UNKNOWN_ORDER:
            self._fences.remove(message.request_id)

    def _fence(self) -> None:
        """Wait for the reports behind the last answers: those of each symbol come in order.

        A cancel of an order that does not exist is answered after them.
        """
        cancels = [Cancel(n, self._client.new_request_id(), 0, FENCE_ID) for n in self._numbers]
        self._fences = {cancel.request_id for cancel in cancels}
        self._client.send(cancels)
        while self._fences:
            self._receive(self._client.timeout_s)

    def _elapsed_ns(self, row: int) -> int:
        """Return how long after the beginning a row is due."""
        if self._speed == "max" or row >= len(self):
            return 0
        return int(int(self._due_ns[row]) / self._speed)

    def _due(self, upto: int, start: int) -> int:
        """Return how many rows, of ``upto``, should have been sent by now."""
        if self._speed == "max":
            return upto
        now = (time.monotonic_ns() - start) * self._speed
        return int(np.searchsorted(self._due_ns[:upto], int(now), side="right"))

    def _wait_s(self, upto: int, start: int) -> float:
        """Return how long to wait for messages before the next row may be due."""
        if self._speed == "max" or self.sent == upto or len(self._pending) == self._window:
            return self._client.timeout_s
        due_ns = start + self._elapsed_ns(self.sent) - time.monotonic_ns()
        return min(max(0.0, due_ns / 1e9), self._client.timeout_s)


def interleave(
    times_ns: Sequence[npt.NDArray[np.uint64]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return which flow each row in turn is of, and how long after the first row it is due (ns).

    A flow's rows keep their order even where its times do not rise.
    """
    rising = [np.maximum.accumulate(times.astype(np.int64)) for times in times_ns]
    firsts = [int(times[0]) for times in rising if len(times)]
    base = min(firsts, default=0)
    if max(firsts, default=0) - base < DAY_NS:
        offsets = [times - base for times in rising]
    else:
        offsets = [times - times[:1] for times in rising]
    due = np.concatenate(offsets) if offsets else np.empty(0, np.int64)
    which = np.repeat(np.arange(len(rising)), [len(times) for times in rising])
    order = np.argsort(due, kind="stable")
    return which[order], due[order]
