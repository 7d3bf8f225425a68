"""An account at this frontend: its sessions, and how far each shard's reports were passed on."""

import asyncio
from collections.abc import Iterable

from frontend.gateway.matcher_links import BackendLink
from frontend.gateway.session import Session
from frontend.gateway.turns import Turns
from ipc.vocabulary import Reason
from ipc.wire.messages import Login


class AccountChannel:
    """One account. ``number`` is what matchers and query workers know it by on this frontend's
    links; it stays while the frontend lives, unless the account is that of a guest who has gone.
    The channel is open while the account has a session here, or is about to: only then do matchers
    send its reports."""

    def __init__(
        self,
        number: int,
        account: int,
        shards: Iterable[int],
        window: int,
        turns: Turns | None = None,
    ) -> None:
        """``turns``: of all accounts that were held, in which they are read from again."""
        self.number = number
        self.account = account
        self.is_registered = False
        """Whether it had an order accepted: see ``frontend.gateway.accounts``."""
        self.sessions: list[Session] = []
        self.positions: dict[int, int | None] = dict.fromkeys(shards)
        """By shard, the account_sequence of the last report that every session has had; None where
        the shard has not said yet where the account stands."""
        self.is_open = False
        self.unheard: set[int] = set()
        """The shards that are to say it."""
        self.overtaken = dict.fromkeys(self.positions, 0)
        """By shard, how many such answers are on their way to an opening that is over."""
        self.opening: set[int] = set()
        """The shards whose answers logins wait for."""
        self.waiting: list[tuple[Session, Login]] = []
        """Those logins."""
        self.opening_timer: asyncio.TimerHandle | None = None
        self.under_way = 0
        """Commands and queries that are not answered."""
        self.window = window
        """How many those may be now: see ``frontend.gateway.fairness``."""
        self.window_full = False
        self._turns = turns
        self._turn_is_due = False
        self.was_held = False
        """Whether it was full since ``frontend.gateway.fairness`` has looked."""
        self.above_s = [0.0, 0.0]
        """When it had more of them last than who sends little, and than who sends moderately."""
        self.noted_s = 0.0
        """When it was noted last that it sends little."""

    def open(self, shards: set[int]) -> None:
        """Wait for what these shards say of the account."""
        self.is_open = True
        self.unheard, self.opening = set(shards), set(shards)

    def close(self) -> None:
        """Forget where the account stands: nobody is told of it any more."""
        self.is_open = False
        self.positions = dict.fromkeys(self.positions)
        for shard in self.unheard:
            self.overtaken[shard] += 1
        self.unheard.clear()
        self.stop_waiting()

    def stop_waiting(self) -> None:
        """Wait for no shard's answer any more."""
        self.opening.clear()
        if self.opening_timer is not None:
            self.opening_timer.cancel()
            self.opening_timer = None

    def note_position_told(self, shard: int) -> bool:
        """Take note that a shard says where the account stands; return whether that is still so."""
        if self.overtaken[shard]:
            self.overtaken[shard] -= 1
            return False
        self.unheard.discard(shard)
        return True

    def link_lost(self, shard: int) -> None:
        """A shard's link is gone, and all that was on its way there."""
        self.overtaken[shard] = 0
        self.unheard.discard(shard)

    def known_positions(self) -> list[int]:
        """Return where the account stands, on every shard that has said so."""
        return [position for position in self.positions.values() if position is not None]

    @property
    def cancels_on_disconnect(self) -> bool:
        """Whether a session here asks for the orders to be cancelled when the last such ends."""
        return any(session.cancel_on_disconnect for session in self.sessions)

    def forward(
        self, link: BackendLink, frames: bytes | memoryview, commands: int, soon: bool = False
    ) -> Reason | None:
        """Send so many whole frames of the account; return why, where they cannot be taken.

        ``soon``: at once with what else is sent in this turn of the event loop.
        """
        refusal = link.refusal()
        if refusal is None:
            if soon:
                link.write_soon(frames)
            else:
                link.write(frames)
            self.under_way += commands  # as ``forwarded`` does: this is run for every order
            if self.under_way >= self.window:
                self.stop_reading()
        return refusal

    def forwarded(self, commands: int) -> None:
        """Count what is under way; where that fills the window the sessions are held back."""
        self.under_way += commands
        if self.under_way >= self.window:
            self.stop_reading()

    def answered(self, answers: int) -> None:
        """Count what is under way no more."""
        left = self.under_way - answers
        self.under_way = left if left > 0 else 0
        if self.window_full and self.under_way <= self.window // 2 and not self._turn_is_due:
            if self._turns is None or self._turns.may(self):
                self._take_turn()
            else:
                self._turn_is_due = True
                self._turns.wait(self, self._take_turn)

    def _take_turn(self) -> None:
        self._turn_is_due = False
        if self._turns is not None:
            self._turns.spend(self, len(self.sessions))  # each is read from, and told of all
        if self.window_full:
            self.resume_reading()

    def stop_reading(self) -> None:
        """Read from no session: the window is full."""
        if not self.window_full:
            self.window_full = self.was_held = True
            for session in self.sessions:
                session.stop_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self.window_full = False
        for session in self.sessions:
            session.resume_reading()
