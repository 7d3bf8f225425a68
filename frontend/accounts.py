"""Who is who: user ids as text, accounts as 64-bit digests, and the file that leads back.

The file holds one JSON object a line, ``{"account": N, "user_id": "text"}``, and is only ever
appended to, by the frontend that owns it.
"""

import contextlib
import json
import os
from pathlib import Path

from ipc.records import account_of


class AccountRegistry:
    """All users that have ever logged in. Bounded: ``max_accounts``. The file stays open."""

    def __init__(self, path: Path, max_accounts: int) -> None:
        self._users: dict[int, str] = {}
        self._max_accounts = max_accounts
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._load(path)

    def register(self, user_id: str) -> int | None:
        """Return the account of a user, writing it down the first time.

        None where the registry is full, where it cannot be written, or where another user has the
        same digest: then the two would share their orders.
        """
        account = account_of(user_id)
        known = self._users.get(account)
        if known is not None:
            return account if known == user_id else None
        if len(self._users) >= self._max_accounts:
            return None
        line = json.dumps({"account": account, "user_id": user_id}) + "\n"
        if not self._append(line.encode()):
            return None
        self._users[account] = user_id
        return account

    def _append(self, line: bytes) -> bool:
        """Write one line, whole or not at all; return whether it is there."""
        size = os.fstat(self._file).st_size
        with contextlib.suppress(OSError):
            if os.write(self._file, line) == len(line):
                return True
        os.ftruncate(self._file, size)
        return False

    def _load(self, path: Path) -> None:
        """Read the file; a last line that was torn by a crash is cut off."""
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._file, whole)
        for line in data[:whole].splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                self._users[int(entry["account"])] = str(entry["user_id"])
