"""The text of accounts: what the frontends have written down, read again where one is not known."""

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from ipc.records import account_of


class _Line(msgspec.Struct):
    account: int
    user_id: str


_decoder = msgspec.json.Decoder(_Line)


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
            with path.open("rb") as source:
                source.seek(self._read.setdefault(path, 0))
                data = source.read()
        except FileNotFoundError:
            return
        data = data[: data.rfind(b"\n") + 1]
        self._read[path] += len(data)
        for line in data.splitlines():
            try:
                entry = _decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            self._names[entry.account] = entry.user_id
