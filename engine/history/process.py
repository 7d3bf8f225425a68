"""The processes that write a product's histories, one a destination."""

import logging
import sys
import time
from typing import Protocol

from engine.history.destination import AwayError, Destination, HistoryError
from engine.history.exporter import Exporter
from engine.history.kept import MONGODB, POSTGRES, SQLITE, Kept
from engine.journal.format import JournalError
from engine.plan import Plan
from engine.printable import printable
from engine.process import HALTED
from engine.shard.follower import last_shown
from engine.shard.holds import held_positions, hold
from engine.trade_log.segments import TradeLogError
from ipc.memory.status import StatusWriter

logger = logging.getLogger("shardbook.history")
_SHOW_S = 0.1
_RETRY_S = 1.0


class Wakeup(Protocol):
    """What it waits on beside the time: the word to stop."""

    stopping: bool
    orphaned: bool
    """Whether the product that it belongs to has died."""

    def wait(self, timeout_s: float | None) -> None:
        """Return at the word to stop, or after the timeout."""


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Be the exporter into SQLite until told to stop; ``index`` is 0, there is one.

    Told so, it first takes what the matchers have left.
    """
    _run(plan, SQLITE, status, wakeup)


def run_database(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Be the exporter into PostgreSQL until told to stop, in the same way."""
    _run(plan, POSTGRES, status, wakeup)


def run_mongodb(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Be the exporter into MongoDB until told to stop, in the same way."""
    _run(plan, MONGODB, status, wakeup)


def _run(plan: Plan, kept: Kept, status: StatusWriter, wakeup: Wakeup) -> None:
    try:
        _show_held(plan, kept.hold, status)
        status.ready()  # whether its destination answers or not
        opened = _opened(plan, kept, status, wakeup)
        if opened is None:
            return
        destination, exporter = opened
        try:
            shows = _Shows(exporter, status)

            def stopping() -> bool:
                shows.look()
                wakeup.wait(0)  # far behind it never pauses, and is to notice who has died
                return wakeup.stopping

            try:
                exporter.run(stopping, wakeup.wait, lambda: wakeup.orphaned)
            finally:
                exporter.close()
        finally:
            destination.close()
    except (HistoryError, JournalError, TradeLogError) as error:
        print(f"history: {printable(str(error))}", file=sys.stderr, flush=True)
        sys.exit(HALTED)


def _opened(
    plan: Plan, kept: Kept, status: StatusWriter, wakeup: Wakeup
) -> tuple[Destination, Exporter] | None:
    """Return an exporter and its destination, once that answers; None when told to stop before.

    Meanwhile the journals are kept for it. Raises ``HistoryError``.
    """
    told = False
    while not wakeup.stopping:
        destination = None
        try:
            destination = kept.destination(plan)
            exporter = Exporter(plan, destination, kept.hold)
        except AwayError as error:
            if destination is not None:
                destination.close()
            if not told:
                logger.error("history: is held up, and tried again: %s", error)
            told = True
            status.set("away", 1)
            status.add("write_errors", 1)
            _hold_all(plan, kept.hold)
            _show_held(plan, kept.hold, status)
            wakeup.wait(_RETRY_S)
        except BaseException:
            if destination is not None:
                destination.close()
            raise
        else:
            if told:
                logger.warning("history: goes on")
            return destination, exporter
    return None


def _hold_all(plan: Plan, name: str) -> None:
    """Keep every journal for an exporter that has not begun: nobody knows yet what it needs."""
    for shard in plan.shards:
        directory = plan.journal_dir(shard)
        if directory.is_dir() and name not in held_positions(directory):
            hold(directory, name, 0)


def _show_held(plan: Plan, name: str, status: StatusWriter) -> None:
    """Show how far the destination may be behind, while only the holds tell."""
    behind = 0
    for shard in plan.shards:
        position = held_positions(plan.journal_dir(shard)).get(name, 0)
        behind += max(0, last_shown(plan, shard) - position)
    status.set("lag_commands", behind)


class _Shows:
    """Shows now and then how far the exporter is, on the status page."""

    def __init__(self, exporter: Exporter, status: StatusWriter) -> None:
        self._exporter, self._status = exporter, status
        self._next_s = 0.0

    def look(self) -> None:
        """Show it if it is time."""
        now = time.monotonic()
        if now >= self._next_s:
            self._next_s = now + _SHOW_S
            lags = [export.lag() for export in self._exporter.shards]
            set_to = self._status.set
            set_to("lag_commands", sum(lag.commands for lag in lags))
            set_to("lag_ms", max((lag.nanoseconds for lag in lags), default=0) // 1_000_000)
            set_to("lag_bytes", sum(lag.journal_bytes for lag in lags))
            set_to("commands", sum(export.commands for export in self._exporter.shards))
            set_to("trades", sum(export.trades for export in self._exporter.shards))
            set_to("write_errors", self._exporter.failures)
            set_to("away", int(self._exporter.away is not None))
