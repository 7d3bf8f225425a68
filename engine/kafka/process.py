"""The process that puts a product's trades into Kafka."""

import sys
import time
from typing import Protocol

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
    orphaned: bool
    """Whether the product that it belongs to has died."""

    def wait(self, timeout_s: float | None) -> None:
        """Return at the word to stop, or after the timeout."""


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Be the exporter into Kafka until told to stop; ``index`` is 0, there is one."""
    try:
        from engine.kafka.exporter import Exporter
        from engine.kafka.link import KafkaLinkError
    except ImportError as error:
        text = f"needs more to be installed: pip install 'shardbook[kafka]' ({error})"
        print(f"kafka: {text}", file=sys.stderr, flush=True)
        sys.exit(HALTED)
    try:
        status.ready()  # whether Kafka answers or not
        exporter, shown_s = Exporter(plan), 0.0

        def look() -> bool:
            nonlocal shown_s
            now = time.monotonic()
            if now >= shown_s + _SHOW_S:
                shown_s = now
                lags = [export.lag() for export in exporter.shards]
                status.set("lag_commands", sum(commands for commands, _ in lags))
                status.set("lag_ms", max((ns for _, ns in lags), default=0) // 1_000_000)
                for name in ("commands", "trades", "snapshots", "transactions"):
                    status.set(name, sum(getattr(export, name) for export in exporter.shards))
                status.set("missing_trades", sum(export.missing for export in exporter.shards))
                status.set("write_errors", exporter.failures)
                status.set("away", int(exporter.away is not None))
            wakeup.wait(0)  # far behind it never pauses, and is to notice who has died
            return wakeup.stopping

        try:
            exporter.run(look, wakeup.wait, lambda: wakeup.orphaned)
        finally:
            exporter.close()
    except (KafkaLinkError, JournalError, TradeLogError) as error:
        print(f"kafka: {printable(str(error))}", file=sys.stderr, flush=True)
        sys.exit(HALTED)
