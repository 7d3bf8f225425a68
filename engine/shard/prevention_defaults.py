"""The SelfTradePrevention that an account's orders have where they say nothing of it.

A matcher gives it to commands as they arrive, before it keeps them: so a replay needs to know of no
configuration.
"""

from collections.abc import Iterable

import numpy as np

from engine.sections import KeySection
from ipc.arrays import Records
from ipc.records import account_of
from ipc.vocabulary import LISTS, CommandType, SelfTradePrevention

_NEW = (CommandType.NEW, *LISTS)


class PreventionDefaults:
    """What the configured keys say of their users; false where that is nothing."""

    def __init__(self, keys: Iterable[KeySection]) -> None:
        modes = {
            account_of(key.user_id): SelfTradePrevention[key.self_trade_prevention.upper()]
            for key in keys
        }
        self._modes = {account: int(mode) for account, mode in modes.items() if mode}

    def __bool__(self) -> bool:
        return bool(self._modes)

    def give(self, commands: Records) -> None:
        """Give orders (COMMAND) their account's mode where they have none."""
        plain = commands["self_trade_prevention"] == SelfTradePrevention.NONE
        rows = np.flatnonzero(plain & np.isin(commands["command_type"], _NEW))
        accounts, places = np.unique(commands["account"][rows], return_inverse=True)
        modes = [self._modes.get(account, 0) for account in accounts.tolist()]
        commands["self_trade_prevention"][rows] = np.array(modes, np.uint8)[places]
