"""Who is who: user ids as text, accounts as 64-bit digests, and the file that leads back.

The file's lines are those of ``ipc.account_lines``, and only the frontend that owns it appends to
it. An account comes into it by its first accepted order; who is there without one is a guest, and
nothing is left of him when he has gone.
"""

import json
import logging
import os
from pathlib import Path

from ipc.account_lines import read_accounts
from ipc.records import account_of

logger = logging.getLogger("shardbook.frontend")


class AccountError(Exception):
    """A user who cannot be let in; ``code`` and text are for whoever logs in."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class AccountRegistry:
    """All users that ever had an order accepted, and the guests that are there.

    Bounded: ``max_accounts`` of both together. The file stays open.
    """

    def __init__(self, path: Path, max_accounts: int) -> None:
        self._users: dict[int, str] = {}
        self._guests: dict[int, str] = {}
        self._unwritten: list[str] = []
        self._max_accounts = max_accounts
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = 0  # of the lines that count
        self._failing = False
        self._load()

    def __len__(self) -> int:
        """Return how many users are registered, guests left aside."""
        return len(self._users)

    @property
    def unwritten(self) -> int:
        """How many of them the file does not have yet: the disk is full, or fails."""
        return len(self._unwritten)

    @property
    def is_full(self) -> bool:
        """Whether nobody else is let in."""
        return len(self._users) + len(self._guests) >= self._max_accounts

    def is_registered(self, account: int) -> bool:
        """Return whether an account is more than a guest."""
        return account in self._users

    def admit(self, user_id: str) -> int:
        """Return the account of a user, who is a guest until ``register``, if he is not known.

        Raises ``AccountError``: LOGIN_REFUSED where there are ``max_accounts``, or where another
        user has the same digest (the two would share their orders); BUSY where the disk does not
        take names.
        """
        account = account_of(user_id)
        known = self._users.get(account) or self._guests.get(account)
        if known == user_id:
            return account
        if known is not None:
            raise AccountError("LOGIN_REFUSED", "user_id: another user's has the same digest")
        if self.is_full:
            raise AccountError(
                "LOGIN_REFUSED",
                f"user_id: no further account can be opened, there are {self._max_accounts} "
                "(max_accounts)",
            )
        failure = self._write()
        if failure is not None:
            raise AccountError(
                "BUSY",
                f"user_id: a new account cannot be written down now: {failure.strerror}; try again "
                "later",
            )
        self._guests[account] = user_id
        return account

    def dismiss(self, account: int) -> None:
        """Forget a guest."""
        self._guests.pop(account, None)

    def register(self, account: int) -> None:
        """Take a guest's name down for good. What cannot be written yet is tried again later."""
        user_id = self._guests.pop(account, None)
        if user_id is not None:
            self._users[account] = user_id
            self._unwritten.append(json.dumps({"account": account, "user_id": user_id}) + "\n")
            self._write()

    def _write(self) -> OSError | None:
        """Write down those who are not yet; return what the disk says where that fails."""
        try:
            while self._unwritten:
                self._append(self._unwritten[0].encode())
                del self._unwritten[0]
        except OSError as error:
            self._note(error)
            return error
        self._note(None)
        return None

    def _append(self, line: bytes) -> None:
        """Write one line, whole or not at all. Raises ``OSError``."""
        if os.fstat(self._file).st_size != self._size:
            os.ftruncate(self._file, self._size)  # of one that was not written whole
        while line:
            line = line[os.write(self._file, line) :]  # where it is short the next says why
        self._size = os.fstat(self._file).st_size

    def _note(self, failure: OSError | None) -> None:
        """Say when the disk begins to fail, and when it works again."""
        if failure is not None and not self._failing:
            logger.error("%s: new users cannot be written down: %s", self._path, failure)
        elif failure is None and self._failing:
            logger.warning("%s: new users are written down again", self._path)
        self._failing = failure is not None

    def _load(self) -> None:
        """Read the file; a last line that was torn by a crash is cut off."""
        for entry, end in read_accounts(self._path, 0):
            self._size = end
            if entry is not None:
                self._users[entry.account] = entry.user_id
        if os.fstat(self._file).st_size != self._size:
            os.ftruncate(self._file, self._size)
