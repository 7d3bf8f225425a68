"""An exporter in a process of its own, to be killed: one shard, from a journal that does not grow.

``python -m tests.exporting CONFIG DATA_DIR DATABASE [END]`` goes on until killed, or up to END.
"""

import sys
import time
from pathlib import Path

from engine.config import load_config
from engine.history import exporter as exporting
from engine.history.exporter import Exporter
from engine.history.sqlite import NAME, SqliteDestination
from engine.plan import Plan


def export(plan: Plan, database: Path, *, events: bool = False) -> None:
    """Take all that there is to a database."""
    destination = SqliteDestination(database, events=events)
    try:
        exporter = Exporter(plan, destination, NAME)
        while exporter.step():
            pass
        exporter.close()
    finally:
        destination.close()


def export_until(plan: Plan, database: Path, end: int) -> None:
    """Export what a running product does, in small transactions, up to command ``end``."""
    exporting.BATCH_COMMANDS = 64
    exporter = Exporter(plan, SqliteDestination(database), NAME)

    def reached() -> bool:
        positions = [e.cursor.position for e in exporter.shards if e.cursor is not None]
        return bool(positions) and sum(positions) >= end

    exporter.run(reached, time.sleep)
    exporter.close()


if __name__ == "__main__":
    config, data_dir, path, *last = sys.argv[1:]
    plan = Plan(load_config(Path(config)), Path(data_dir))
    export_until(plan, Path(path), int(last[0]) if last else 1 << 62)
