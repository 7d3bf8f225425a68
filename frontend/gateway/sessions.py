"""Sessions of a frontend: from the log-in, by what was missed, to the moment they leave.

A log-in waits until every shard has said where the account stands: what comes after that comes
live, and what was before is read from the report rings for who asks for it.
"""

import asyncio
from collections.abc import Iterator, Sequence

from frontend.gateway.account_channel import AccountChannel
from frontend.gateway.accounts import AccountError
from frontend.gateway.channels import Channels
from frontend.gateway.fairness import Windows
from frontend.gateway.resume import Resume, ResumeError
from frontend.gateway.session import Session
from ipc.instruments import Instrument
from ipc.memory.status import StatusWriter
from ipc.wire.frames import frame
from ipc.wire.messages import Login, Welcome

MAX_SESSION = 1 << 28
"""Session numbers are below this, so that clients can build request ids on them below 2^53."""
OPEN_WAIT_S = 1.0
"""How long a login waits for shards to say where the account stands. One that is held up says it
later; the others are not to wait for it."""


class Sessions:
    """Those of one frontend."""

    def __init__(
        self,
        channels: Channels,
        windows: Windows,
        resume: Resume,
        instruments: Sequence[Instrument],
        version: str,
        numbers: Iterator[int],
        status: StatusWriter,
    ) -> None:
        self._channels = channels
        self._windows = windows
        self._resume = resume
        self._infos = [instrument.info() for instrument in instruments]
        self._version = version
        self._numbers = numbers
        self._status = status
        self._count = 0

    def next_number(self) -> int:
        """Return the number of a new session: no other one has it, at any frontend."""
        return next(self._numbers)

    def has_place(self, user_id: str) -> bool:
        """Return whether a user would be let in now, as far as places go."""
        return self._channels.has_place(user_id)

    def log_in(self, session: Session, login: Login) -> None:
        """Open a session of an account, or refuse it; now, or once the shards have answered."""
        try:
            channel = self._channels.of_user(login.user_id)
        except AccountError as error:
            self._status.add("refused_login", 1)
            session.close(error.code, str(error))
            return
        if not channel.is_open:
            self._channels.open(channel)
            if channel.opening:
                loop = asyncio.get_running_loop()
                channel.opening_timer = loop.call_later(OPEN_WAIT_S, self.admit_waiting, channel)
        session.stream = channel.number
        channel.waiting.append((session, login))
        if not channel.opening:
            self.admit_waiting(channel)

    def admit_waiting(self, channel: AccountChannel) -> None:
        """Let in who waits, whatever the shards have said by now."""
        channel.stop_waiting()
        waiting, channel.waiting = channel.waiting, []
        for session, login in waiting:
            try:
                self._enter(channel, session, login)
            except ResumeError as error:
                self._status.add("refused_resume", 1)
                session.close(error.code, str(error))

    def _enter(self, channel: AccountChannel, session: Session, login: Login) -> None:
        """Begin a session: what it missed first, then what comes."""
        missed = self._resume.missed(channel, login.resume)
        number = self.next_number()
        welcome = Welcome(
            number, login.user_id, self._version, self._infos, channel.known_positions()
        )
        flagged = channel.cancels_on_disconnect
        channel.sessions.append(session)
        self._count += 1
        self._status.set("sessions", self._count)
        if channel.window_full:
            session.stop_reading()
        session.cancel_on_disconnect = login.cancel_on_disconnect
        if login.cancel_on_disconnect and not flagged:
            self._channels.tell_matchers(channel)
        session.enter(number, frame(welcome), missed)

    def leave(self, session: Session) -> None:
        """Forget a session, or what waited to be one; the account's orders stay."""
        channel = self._channels.by_number.get(session.stream)
        if channel is None:
            return
        channel.waiting = [entry for entry in channel.waiting if entry[0] is not session]
        if session in channel.sessions:
            channel.sessions.remove(session)
            self._count -= 1
            self._status.set("sessions", self._count)
            if not channel.sessions:
                self._windows.forget(channel)
            if session.cancel_on_disconnect and not channel.cancels_on_disconnect:
                self._channels.tell_matchers(channel)
        self._channels.close_unused(channel)
