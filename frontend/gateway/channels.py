"""The accounts at a frontend, by channel: numbered, opened and closed towards the matchers.

Matchers know an account here by its channel, a number that this frontend gave it and keeps while it
lives; but that of a guest, who never had an order accepted, goes to another account some time after
he has gone.
"""

import time

from frontend.gateway.account_channel import AccountChannel
from frontend.gateway.accounts import AccountRegistry
from frontend.gateway.router import Router
from frontend.gateway.turns import Turns
from ipc.memory.status import StatusWriter
from ipc.records import account_of
from ipc.wire.matcher_codec import MAX_STREAM

HELD_A_TURN = 2
"""Accounts that were held to their window and are read from again in a turn of the event loop: what
they send is much, and all their sessions are told what becomes of it."""
RETIRED_S = 2.0
"""How long after its end the number of a guest's channel is not given to another account."""


class Channels:
    """All channels that this frontend has given, open or not."""

    def __init__(
        self, registry: AccountRegistry, router: Router, status: StatusWriter, window: int
    ) -> None:
        self.by_number: dict[int, AccountChannel] = {}
        self._of_account: dict[int, AccountChannel] = {}
        self._retired: dict[int, float] = {}
        """The closed ones of guests, by number, and since when; the first one the longest."""
        self._registry = registry
        self._router = router
        self._status = status
        self._window = window
        self._turns = Turns(HELD_A_TURN)
        status.set("accounts", len(registry))

    def has_place(self, user_id: str) -> bool:
        """Return whether a user would be let in now, as far as places go."""
        return not self._registry.is_full or account_of(user_id) in self._of_account

    def of_user(self, user_id: str) -> AccountChannel:
        """Return the channel of a user's account, a new one where needed. Raises
        ``AccountError``."""
        account = self._registry.admit(user_id)
        return self._of_account.get(account) or self._add(account)

    def _add(self, account: int) -> AccountChannel:
        shards = list(self._router.matchers)
        former = self._take_retired()
        number = len(self.by_number) + 1 if former is None else former.number
        channel = AccountChannel(number, account, shards, self._window, self._turns)
        assert channel.number <= MAX_STREAM
        if former is not None:
            channel.overtaken = former.overtaken
        channel.is_registered = self._registry.is_registered(account)
        self.by_number[channel.number] = self._of_account[account] = channel
        self._status.set("streams", len(self.by_number))
        return channel

    def _take_retired(self) -> AccountChannel | None:
        """Return the channel of a guest whose number can go to another account, if there is one.

        Nothing of the former may be on its way any more: what a shard still says of it comes before
        it has heard of the new one (``Gateway.deliver``), and has no business with query workers'
        answers after ``RETIRED_S``. A link that is down may keep something for it.
        """
        number = next(iter(self._retired), 0)
        if not number or time.monotonic() - self._retired[number] < RETIRED_S:
            return None
        if not all(link.connected for link in self._router.all()):
            return None
        del self._retired[number]
        return self._of_account.pop(self.by_number[number].account)

    def open(self, channel: AccountChannel) -> None:
        """Make an account known to matchers and query workers."""
        matchers = self._router.matchers
        self._retired.pop(channel.number, None)
        channel.open({shard for shard, link in matchers.items() if link.connected})
        for link in self._router.all():
            link.open_stream(channel.number, channel.account, False)

    def tell_matchers(self, channel: AccountChannel) -> None:
        """Say to the matchers whether a session of the account asks for cancel on disconnect."""
        for link in self._router.matchers.values():
            link.open_stream(channel.number, channel.account, channel.cancels_on_disconnect)

    def close_unused(self, channel: AccountChannel) -> None:
        """Close a channel that nobody uses, once nothing is under way on it.

        A matcher answers nothing more on a closed one, and what is under way is known by answers.
        """
        if channel.is_open and not (channel.sessions or channel.waiting or channel.under_way):
            channel.close()
            for link in self._router.matchers.values():
                link.close_stream(channel.number)
            if not channel.is_registered:
                self._registry.dismiss(channel.account)
                self._retired[channel.number] = time.monotonic()

    def register(self, channel: AccountChannel) -> None:
        """Write down an account that had an order accepted."""
        channel.is_registered = True
        self._registry.register(channel.account)
        self._status.set("accounts", len(self._registry))
        self._status.set("unwritten_accounts", self._registry.unwritten)

    def to_open(
        self, shard: int | None, also: frozenset[int] | set[int]
    ) -> list[tuple[int, int, bool]]:
        """Return ``(channel, account, whether it is open)`` of those that a link opens now."""
        found = []
        for channel in self.by_number.values():
            if channel.is_open:
                if shard is not None:
                    channel.unheard.add(shard)
            elif channel.number in also:
                assert shard is not None, "query workers know of no cancel on disconnect"
                channel.overtaken[shard] += 1
            else:
                continue
            found.append((channel.number, channel.account, channel.is_open))
        return found
