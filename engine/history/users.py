"""Who accounts are, from the lists that frontends write."""

from collections.abc import Iterator

from engine.history.destination import Users
from engine.plan import Plan
from ipc.account_lines import read_accounts

USERS_AT_ONCE = 4_096


class UserLists:
    """What the lists of a data directory have beyond what was read of them."""

    def __init__(self, plan: Plan, ends: dict[str, int]) -> None:
        self._plan = plan
        self._ends = dict(ends)

    def new(self) -> Iterator[Users]:
        """Yield what has come, in pieces; one counts as read once the next is asked for.

        Raises ``OSError``.
        """
        for path in self._plan.accounts_paths():
            end = self._ends.get(path.name, 0)
            if path.stat().st_size <= end:
                continue
            accounts: list[tuple[int, str]] = []
            for entry, at in read_accounts(path, end):
                end = at
                if entry is not None:
                    accounts.append((entry.account, entry.user_id))
                if len(accounts) == USERS_AT_ONCE:
                    yield Users(path.name, end, accounts)
                    self._ends[path.name] = end
                    accounts = []
            if end > self._ends.get(path.name, 0):
                yield Users(path.name, end, accounts)
                self._ends[path.name] = end
