"""An account at this frontend: its sessions, and how far each shard's reports were passed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frontend.entry import ClientConnection
    from ipc.messages import Login


class Stream:
    """One account. ``number`` is what matchers and query workers know it by on this frontend's
    links; it stays while the frontend lives."""

    def __init__(self, number: int, account: int, shards: int, window: int) -> None:
        self.number = number
        self.account = account
        self.sessions: list[ClientConnection] = []
        self.positions: list[int | None] = [None] * shards
        """By shard, the account_sequence of the last report that every session has had; None where
        the shard has not said yet where the account stands."""
        self.opening: set[int] = set()
        """The shards that are to say it."""
        self.waiting: list[tuple[ClientConnection, Login]] = []
        """Logins that wait for that."""
        self.under_way = 0
        """Commands and queries that are not answered."""
        self.window = window
        """How many those may be now: see ``frontend.windows``."""
        self.window_full = False
        self.heavy_s = 0.0
        """When it had many of them last."""

    def known_positions(self) -> list[int]:
        """Return where the account stands, on every shard that has said so."""
        return [position for position in self.positions if position is not None]

    @property
    def cancels_on_disconnect(self) -> bool:
        """Whether a session here asks for the orders to be cancelled when the last such ends."""
        return any(session.cancel_on_disconnect for session in self.sessions)

    def hold(self) -> None:
        """Read from no session: the window is full."""
        if not self.window_full:
            self.window_full = True
            for session in self.sessions:
                session.hold()

    def go_on(self) -> None:
        """Read again."""
        self.window_full = False
        for session in self.sessions:
            session.go_on()
