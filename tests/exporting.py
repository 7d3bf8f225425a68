"""An exporter in a process of its own, to be killed: one shard, from a journal that does not grow.

``python -m tests.exporting CONFIG DATA_DIR HISTORY [END]`` goes on until killed, or up to END;
``HISTORY`` is ``sqlite`` or ``postgres``, as the configuration has it.
"""

import sys
import time
from pathlib import Path

import msgspec

from engine.config import load_config
from engine.history import archive
from engine.history import exporter as exporting
from engine.history.exporter import Exporter
from engine.history.kept import HISTORIES, Kept
from engine.history.sqlite import NAME
from engine.plan import Plan
from tests.histories import Store


def export(plan: Plan, store: Store, *, events: bool = False) -> None:
    """Take all that there is to a history."""
    section = msgspec.structs.replace(plan.config.history, events=events, cleanup=False)
    destination = store.kept.destination(
        plan.with_config(msgspec.structs.replace(plan.config, history=section))
    )
    try:
        exporter = Exporter(plan, destination, NAME)
        while exporter.step():
            pass
        exporter.close()
    finally:
        destination.close()


def export_until(plan: Plan, kept: Kept, end: int) -> None:
    """Export what a running product does, in small transactions, up to command ``end``."""
    exporting.BATCH_COMMANDS = 64
    if plan.config.history.cleanup:
        exporting.SETTLE_S, archive.PIECE_ROWS = 0.02, 300
    exporter = Exporter(plan, kept.destination(plan), NAME)

    def reached() -> bool:
        positions = [e.cursor.position for e in exporter.shards if e.cursor is not None]
        return bool(positions) and sum(positions) >= end

    exporter.run(reached, time.sleep)
    exporter.close()


if __name__ == "__main__":
    config, data_dir, name, *last = sys.argv[1:]
    plan = Plan(load_config(Path(config)), Path(data_dir))
    [kept] = [kept for kept in HISTORIES if kept.name == name]
    export_until(plan, kept, int(last[0]) if last else 1 << 62)
