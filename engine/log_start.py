"""Where the trade log ends when a product starts, and putting the log right for it."""

import time

from engine.journal.format import JournalError
from engine.journal.shard_config import shard_config_of
from engine.plan import Plan
from engine.shard.recovery import find_start
from engine.storage import Storage
from engine.trade_log.log import TradeLogBusyError, TradeLogError
from engine.trade_log.repair import correct_seal, repaired_log

LOG_WAIT_S = 60.0
"""How long a killed product's persister may take to end."""
_LOOK_S = 0.01


def log_start(plan: Plan) -> tuple[dict[int, int], list[str], str]:
    """Put the log right, once nobody writes it any more.

    Returns the last trade of every shard in it, notes of what was done to it, and why it cannot be
    used, or nothing.
    """
    deadline = time.monotonic() + LOG_WAIT_S
    refill = plan.config.journal.durability != "off"
    while True:
        try:
            notes = _corrected(plan) if refill else []
            repaired = repaired_log(
                plan.log_dir, plan.config.persister.segment_bytes, refill=refill
            )
            break
        except TradeLogBusyError as error:
            if time.monotonic() > deadline:
                return {}, [], str(error)
            time.sleep(_LOOK_S)
        except (OSError, TradeLogError) as error:
            return {}, [], str(error)
    last = {shard: repaired.last_sequences.get(shard, 0) for shard in plan.shards}
    return last, [*notes, *repaired.notes], ""


def _corrected(plan: Plan) -> list[str]:
    def can_be_made(logged: dict[int, int]) -> bool:
        """Return whether the journals make again what comes after a trade of each shard."""
        try:
            for shard in plan.shards:
                find_start(
                    plan.journal_dir(shard), shard_config_of(plan, shard), logged.get(shard, 0)
                )
        except (JournalError, OSError):
            return False
        return True

    return correct_seal(plan.log_dir, can_be_made, Storage())
