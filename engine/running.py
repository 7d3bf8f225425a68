"""The configuration that a running product has, left in its data directory for who reads it.

It names paths, which are obeyed. So it does not lie in shared memory, where others may write.
"""

import os

import msgspec

from engine.config import Config
from engine.plan import Plan


class _Left(msgspec.Struct, forbid_unknown_fields=True):
    config: Config
    shards: list[int]


def leave_config(plan: Plan) -> None:
    """Leave a product's configuration, in the place of an earlier one. Raises OSError."""
    aside = plan.config_path.with_suffix(".new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(msgspec.json.encode(_Left(plan.config, plan.shards)))
    aside.rename(plan.config_path)


def left_plan(plan: Plan) -> Plan | None:
    """Return the plan by the configuration that was left; None where none is. Raises
    ``MsgspecError``."""
    try:
        left = msgspec.json.decode(plan.config_path.read_bytes(), type=_Left)
    except FileNotFoundError:
        return None
    return Plan(left.config, plan.data_dir, left.shards)
