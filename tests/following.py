"""A follower that keeps what it gets in SQLite, its position in the same transaction.

``python -m tests.following CONFIG DATA_DIR SHARD DATABASE [END]`` goes on for ever, or up to END.
"""

import sqlite3
import sys
from pathlib import Path

from engine.config import load_config
from engine.plan import Plan
from engine.shard.follower import Follower
from engine.shard.holds import hold

WAIT_S = 1.0


def opened(database: Path) -> sqlite3.Connection:
    """Return the database, with its tables."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS batches"
        " (position INTEGER PRIMARY KEY, reports BLOB, trades BLOB)"
    )
    return connection


def position_of(connection: sqlite3.Connection) -> int:
    """Return up to which command all is kept."""
    (position,) = connection.execute("SELECT coalesce(max(position), 0) FROM batches").fetchone()
    return int(position)


def follow(plan: Plan, shard: int, database: Path, end: int) -> None:
    """Keep what comes, up to a command."""
    connection = opened(database)
    position = position_of(connection)
    follower = Follower(plan, shard, position, database.with_suffix(".orders"))
    while position < end:
        batch = follower.step()
        if batch is None:
            hold(plan.journal_dir(shard), "sqlite", position)
            follower.wait(WAIT_S)
            continue
        connection.execute(
            "INSERT INTO batches VALUES (?, ?, ?)",
            (batch.position, batch.reports.tobytes(), batch.trades.tobytes()),
        )
        position = batch.position
    follower.close()


if __name__ == "__main__":
    config, data_dir, number, path, *last = sys.argv[1:]
    follow(
        Plan(load_config(Path(config)), Path(data_dir)),
        int(number),
        Path(path),
        int(last[0]) if last else 1 << 62,
    )
