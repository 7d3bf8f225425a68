"""The process that writes a product's history into SQLite."""

import sys
import time
from typing import Protocol

from engine.history.destination import HistoryError
from engine.history.exporter import Exporter
from engine.history.sqlite import NAME, SqliteDestination
from engine.journal.format import JournalError
from engine.plan import Plan
from engine.printable import printable
from engine.process import HALTED
from engine.trade_log.segments import TradeLogError
from ipc.memory.status import StatusWriter

_SHOW_S = 0.1


class Wakeup(Protocol):
    """What it waits on beside the time: the word to stop."""

    stopping: bool

    def wait(self, timeout_s: float | None) -> None:
        """Return at the word to stop, or after the timeout."""


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Be the exporter of a product until told to stop; ``index`` is 0, there is one.

    Told so, it first takes what the matchers have left.
    """
    try:
        destination = SqliteDestination(plan.history_path, events=plan.config.history.events)
        try:
            exporter = Exporter(plan, destination, NAME)
            shows = _Shows(exporter, status)
            status.ready()
            try:
                exporter.run(lambda: shows.look() or wakeup.stopping, wakeup.wait)
            finally:
                exporter.close()
        finally:
            destination.close()
    except (HistoryError, JournalError, TradeLogError) as error:
        print(f"history: {printable(str(error))}", file=sys.stderr, flush=True)
        sys.exit(HALTED)


class _Shows:
    """Shows now and then how far the exporter is, on the status page."""

    def __init__(self, exporter: Exporter, status: StatusWriter) -> None:
        self._exporter, self._status = exporter, status
        self._next_s = 0.0

    def look(self) -> bool:
        """Show it if it is time; never anything to stop for."""
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
        return False
