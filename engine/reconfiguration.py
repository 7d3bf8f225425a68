"""What a start makes of a data directory under its configuration, found out before any change.

A matcher carries a change of its shard out by itself, and refuses it by itself. But of several
shards some would be changed then and others not: so whoever starts them has all of them looked at
before, where what rests in the books may stand in the way.
"""

import os

from engine.config import Config, ConfigError
from engine.journal.format import JournalError
from engine.journal.shard_config import ShardConfig, differences, needs_books, shard_config_of
from engine.listing import kept_configs, listed_in
from engine.log_start import log_start
from engine.plan import Plan
from engine.shard.durability import LOCK_WAIT_S
from engine.shard.recovery import publish_nothing, recover, refuse
from engine.shard.snapshot_store import fetch
from engine.storage import LockedError, lock_directory

MOST_CHANGES = 12
"""Of a shard's configuration that are said one by one."""

Start = tuple[Config, list[str], list[int], dict[int, int], list[str], str]
"""The configuration, its instruments with their numbers and shards; what changes, in lines; the
shards where ``obstacle_of`` has to look; the last trade of each shard in the log; what was done to
the log, in lines; and why there can be no start, or nothing."""


def start_of(plan: Plan) -> Start:
    """Return what a start begins with, having put the log right."""
    config, kept = plan.config, dict[int, ShardConfig]()
    try:
        fetched = fetch(plan)
    except OSError as error:
        return config, [], [], {}, [], str(error)
    if config.journal.durability != "off":
        try:
            kept = kept_configs(plan.data_dir)
            config = listed_in(config, kept)
        except (ConfigError, JournalError, OSError) as error:
            return config, [], [], {}, [], str(error)
    plan = plan.with_config(config)
    logged, notes, error_text = log_start(plan)
    notes = [*fetched, *(f"trade log: {note}" for note in notes)]
    wanted = {shard: shard_config_of(plan, shard) for shard in kept}
    changes = [
        line for shard in sorted(kept) for line in _changes(shard, kept[shard], wanted[shard])
    ]
    to_check = [shard for shard in sorted(kept) if needs_books(kept[shard], wanted[shard])]
    problem = f"trade log: {error_text}" if error_text else ""
    return config, changes, to_check, logged, notes, problem


def _changes(shard: int, kept: ShardConfig, wanted: ShardConfig) -> list[str]:
    lines = [f"shard {shard}: {line}" for line in differences(kept, wanted)]
    more = len(lines) - MOST_CHANGES
    return lines if more <= 0 else [*lines[:-more], f"shard {shard}: and {more} changes more"]


def obstacle_of(plan: Plan, shard: int, logged: int) -> str:
    """Bring a shard back, changing nothing, and return what stands in the way of its configuration,
    or nothing; ``logged`` is its last trade in the log."""
    try:
        lock = lock_directory(plan.journal_dir(shard), LOCK_WAIT_S)
    except (OSError, LockedError) as error:
        return f"{plan.journal_dir(shard)}: {error}"
    try:
        scratch = plan.run_dir / f"check-{shard}.tmp"
        recovered = recover(plan, shard, logged, publish_nothing, scratch)
        try:
            refuse(recovered, shard_config_of(plan, shard))
        finally:
            recovered.shard.close()
    except (OSError, JournalError) as error:
        return str(error)
    finally:
        os.close(lock)
    return ""
