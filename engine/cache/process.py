"""The process that keeps a product's current state in Redis."""

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
    """Be the exporter into Redis until told to stop; ``index`` is 0, there is one."""
    try:
        from engine.cache.exporter import Cache
        from engine.cache.link import CacheError
    except ImportError as error:
        text = f"Redis needs more to be installed: pip install 'shardbook[redis]' ({error})"
        print(f"redis: {text}", file=sys.stderr, flush=True)
        sys.exit(HALTED)
    try:
        cache, shown_s = Cache(plan), 0.0

        def look() -> bool:
            nonlocal shown_s
            now = time.monotonic()
            if now >= shown_s + _SHOW_S:
                shown_s = now
                lags = [export.lag() for export in cache.shards]
                status.set("lag_commands", sum(commands for commands, _ in lags))
                status.set("lag_ms", max((ns for _, ns in lags), default=0) // 1_000_000)
                status.set("commands", sum(export.commands for export in cache.shards))
                status.set("trades", sum(export.trades for export in cache.shards))
                status.set("fills", sum(export.fills for export in cache.shards))
                status.set("write_errors", cache.failures)
                status.set("away", int(cache.away is not None))
            wakeup.wait(0)  # far behind it never pauses, and is to notice who has died
            return wakeup.stopping

        look()
        status.ready()  # whether Redis answers or not
        try:
            cache.run(look, wakeup.wait, lambda: wakeup.orphaned)
        finally:
            cache.close()
    except (CacheError, JournalError, TradeLogError) as error:
        print(f"redis: {printable(str(error))}", file=sys.stderr, flush=True)
        sys.exit(HALTED)
