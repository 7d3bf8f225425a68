"""The text of accounts: what the frontends have written down, read again where one is not known."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from ipc.account_lines import read_accounts
from ipc.records import account_of

logger = logging.getLogger("shardbook.accounts")


class AccountNames:
    """Digests to user ids. Bounded by the frontends' ``max_accounts``."""

    def __init__(self, paths: Callable[[], Iterable[Path]]) -> None:
        """``paths`` returns the files that there are by now."""
        self._paths = paths
        self._read: dict[Path, int] = {}
        self._names: dict[int, str] = {}

    def text(self, account: int) -> str:
        """Return the user_id of an account, "" where no frontend knows it."""
        name = self._names.get(account)
        if name is None:
            for path in self._paths():
                self._read_on(path)
            name = self._names.get(account, "")
        return name

    def learn(self, user_id: str) -> int:
        """Return the account of a user who is here."""
        account = account_of(user_id)
        self._names[account] = user_id
        return account

    def _read_on(self, path: Path) -> None:
        """Read the whole lines that were added to a file."""
        try:
            for entry, end in read_accounts(path, self._read.get(path, 0)):
                self._read[path] = end
                if entry is not None:
                    self._names[entry.account] = entry.user_id
        except OSError as error:
            logger.warning("%s: %s", path, error.strerror)
