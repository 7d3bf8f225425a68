"""Trades that a killed product left in its rings: they are logged before a new one begins.

Shared memory outlives the processes, so trades that were published but not yet logged when
everything was killed at once are still there. The machine itself must have lived on.
"""

import contextlib

import msgspec

from engine.config import Config
from engine.persister import Persister
from engine.plan import Plan
from engine.trade_log import TradeLogError
from ipc.mapping import MappingError
from ipc.status import StatusWriter


class RescueError(RuntimeError):
    """What the last run left cannot be logged now; the text says why. Nothing was thrown away."""


def log_left_trades(plan: Plan) -> int:
    """Log what the rings of a dead product still hold; return how many trades that were.

    The caller holds the lock of the data directory. Raises ``RescueError``.
    """
    if not plan.config_path.exists():
        return 0
    try:
        config = msgspec.json.decode(plan.config_path.read_bytes(), type=Config)
        dead = Plan(config, plan.data_dir)
        status = StatusWriter(dead.status_path, "persister", 0)
        persister = Persister(dead, status)
    except MappingError:
        return 0  # it died before it could trade
    except (OSError, TradeLogError, msgspec.MsgspecError) as error:
        raise RescueError(f"{plan.run_dir}: {error}") from None
    logged = 0
    with contextlib.closing(persister):
        while persister.available():
            logged += persister.step()
            if persister.failing:
                raise RescueError(
                    f"{persister.available()} trades of the last run cannot be logged to "
                    f"{plan.log_dir}"
                )
    return logged
