"""The persister: the process that writes every trade into the log, and so holds the matchers.

It takes what the rings hold, appends it, and only then moves its cursors on. The cursors gate the
matchers: a trade is not overwritten before it is in the log. Where the log cannot be written (a
full disk) the rings fill, the matchers wait, and writing is tried again until there is room.

A trade whose cursor had not moved when the process was killed is offered again by the ring; the log
knows each shard's last trade, and what it holds is skipped.
"""

import logging
import sys
import time
from collections.abc import Callable
from typing import Protocol

from engine.children import has_ended
from engine.plan import Plan
from engine.printable import printable
from engine.process import Wakeup
from engine.storage import Storage
from engine.trade_log.lines import LineFormatter
from engine.trade_log.log import TradeLog, TradeLogError
from ipc.memory.ring import GatingReader
from ipc.memory.status import StatusReader, StatusWriter

logger = logging.getLogger("shardbook.persister")

BATCH_TRADES = 4_096
"""Trades appended in one write: their lines (0.8 MB) stay in the cache until they are copied."""
IDLE_WAIT_S = 0.05
SOON_S, TRICKLE_WAIT_S = 0.003, 0.02
"""How long it pauses once all is logged, after many trades and after few. Nobody rings then."""
TRICKLE_TRADES = 1_024
"""Fewer than this many in a row are few. Waking up costs more than they do, and on the core that
the frontend runs on."""
RETRY_S = 0.05
STOP_RETRIES = 100
"""How often a failing write is tried again once the process is to stop: 5 seconds."""
WRITERS_S = 30.0
"""How long matchers may trade on after the word to stop. A supervisor gives it when they have
ended; where it is dead, all its processes find that out at once."""


class Waiting(Protocol):
    """What the persister waits on between batches: a doorbell, and the word to stop."""

    stopping: bool

    def wait(self, timeout_s: float | None) -> None:
        """Return at the doorbell, at the word to stop, or after the timeout."""


class Persister:
    """Every shard's trades into one log. Opening raises as ``TradeLog`` does."""

    def __init__(
        self,
        plan: Plan,
        status: StatusWriter,
        storage: Storage | None = None,
        *,
        background: bool = True,
        reader: int = 0,
    ) -> None:
        """``reader``: which of the gating readers of the rings it is."""
        settings = plan.config.persister
        self._status = status
        self._log = TradeLog(
            plan.log_dir,
            settings.segment_bytes,
            compress=settings.compress,
            fsync=settings.fsync,
            storage=storage,
            background=background,
        )
        self._formatter = LineFormatter(plan.known_instruments)
        self._rings = {shard: GatingReader(plan.ring_path(shard), reader) for shard in plan.shards}
        self._failure: OSError | None = None
        status.set("torn_bytes_cut", self._log.torn_bytes_cut)
        for shard, ring in self._rings.items():
            missing = ring.cursor - self._log.last_sequence(shard)
            if missing > 0:
                status.add("missing_trades", missing)
                logger.warning(
                    "trade log: %d trades of shard %d up to sequence %d are not in it",
                    missing,
                    shard,
                    ring.cursor,
                )
        self._show()

    def step(self) -> int:
        """Log one batch of each shard's trades; return how many trades the log has got by it.

        What cannot be written stays in the rings, and ``failing`` is true until it is.
        """
        before = {shard: self._log.last_sequence(shard) for shard in self._rings}
        failure = self._append_batches()
        # In any case: the cursors follow what the log holds, and that must be durable.
        failure = self._sync() or failure
        written = 0
        for shard, ring in self._rings.items():
            last = self._log.last_sequence(shard)
            if last > ring.cursor:
                written += last - max(before[shard], ring.cursor)
                ring.advance(min(last - ring.cursor, ring.available()))
        self._status.add("trades", written)
        self._note(failure)
        self._show()
        return written

    @property
    def failing(self) -> bool:
        """Whether the last step could not write all that it wanted."""
        return self._failure is not None

    def available(self) -> int:
        """Return how many trades wait in the rings."""
        return sum(ring.available() for ring in self._rings.values())

    def run(self, wakeup: Waiting, writing: Callable[[], bool] = lambda: False) -> None:
        """Log trades until told to stop and every ring is empty, for good: while ``writing`` more
        may come.

        Raises ``TradeLogError`` where the log cannot be written for ``STOP_RETRIES`` tries after
        the word to stop; what is not logged then is still in the rings.
        """
        tries = logged = 0
        while True:
            stopping = wakeup.stopping
            written = self.step()
            if written:
                tries, logged = 0, logged + written
            if self._failure is not None:
                tries += stopping
                if tries > STOP_RETRIES:
                    raise TradeLogError(
                        f"stopped with {self.available()} trades not logged: {self._failure}"
                    )
                time.sleep(RETRY_S)  # not cut short: a matcher with a full ring rings all the time
            elif not self.available():
                if stopping:
                    # In this order: one that has ended since has published before.
                    if not writing() and not self.available():
                        return
                    wakeup.wait(SOON_S)
                elif logged:
                    wakeup.wait(SOON_S if logged >= TRICKLE_TRADES else TRICKLE_WAIT_S)
                else:
                    self._sleep(wakeup)
                logged = 0

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def abandon(self) -> None:
        """Let go of the log without a word to the disk, as the death of the process does."""
        self._log.abandon()

    def _append_batches(self) -> OSError | None:
        try:
            for shard, ring in self._rings.items():
                trades = ring.peek(BATCH_TRADES)
                held = min(max(0, self._log.last_sequence(shard) - ring.cursor), len(trades))
                self._status.add("skipped_trades", held)
                if held < len(trades):
                    self._log.append(self._formatter.format(trades[held:]))
                    self._status.add("batches", 1)
        except OSError as error:
            return error
        return None

    def _sync(self) -> OSError | None:
        try:
            self._log.sync()
        except OSError as error:
            return error
        return None

    def _sleep(self, wakeup: Waiting) -> None:
        """Wait for a trade: ask for the doorbell first, and look once more before sleeping."""
        for ring in self._rings.values():
            ring.set_waiting(True)
        if not self.available():
            wakeup.wait(IDLE_WAIT_S)
        for ring in self._rings.values():
            ring.set_waiting(False)

    def _note(self, failure: OSError | None) -> None:
        if failure is not None:
            self._status.add("write_errors", 1)
            if self._failure is None:
                logger.error("trade log: cannot be written, the matchers are held: %s", failure)
        elif self._failure is not None:
            logger.warning("trade log: is written again")
        self._failure = failure

    def _show(self) -> None:
        log, status = self._log, self._status
        status.set("bytes", log.appended_bytes)
        status.set("segments", log.segments)
        status.set("compressed_segments", log.compressed_segments)
        status.set("seal_errors", log.seal_errors)


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Be the persister of a product until told to stop; ``index`` is 0, there is one."""
    try:
        persister = Persister(plan, status, reader=wakeup.reader or 0)
        status.ready()
        try:
            persister.run(wakeup, _writing(plan))
        finally:
            persister.close()
    except (OSError, TradeLogError) as error:
        sys.exit(f"persister: {printable(str(error))}")


def _writing(plan: Plan) -> Callable[[], bool]:
    """Return what tells whether a matcher is still there, for ``WRITERS_S`` from its first call."""
    page = StatusReader(plan.status_path)
    deadline_s = 0.0

    def writing() -> bool:
        nonlocal deadline_s
        deadline_s = deadline_s or time.monotonic() + WRITERS_S
        matchers = [process for process in page.processes() if process.role == "matcher"]
        alive = any(process.pid and not has_ended(process.pid) for process in matchers)
        return alive and time.monotonic() < deadline_s

    return writing
