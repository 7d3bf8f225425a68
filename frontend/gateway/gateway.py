"""What all client connections of a frontend share: sessions, accounts and the way of reports back.

A report goes to every session of its account. Matchers know an account here by its channel, a
number that this frontend gave it and keeps while it lives; but that of a guest, who never had an
order accepted, goes to another account some time after he has gone.

**No gap, no repetition.** The first thing that a matcher says of a channel is where the account
stands; from there on all reports come over the link, in order. The frontend keeps, by channel and
shard, the last one that it passed on. What comes before is read from the shard's report ring: for a
session that asks for it at login, and for all sessions after a link was lost. Either happens
between two deliveries, so it ends just where the next one begins.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping

from engine.config import FrontendSection
from frontend.gateway.account_channel import AccountChannel
from frontend.gateway.accounts import AccountError, AccountRegistry
from frontend.gateway.client_connection import ClientConnection
from frontend.gateway.fairness import Windows
from frontend.gateway.keys import Keys
from frontend.gateway.mass_cancels import MassCancels
from frontend.gateway.matcher_links import BackendLink
from frontend.gateway.report_history import ReportHistory
from frontend.gateway.resume import Resume, ResumeError
from frontend.gateway.router import Router
from ipc.instruments import Instrument
from ipc.memory.status import StatusWriter
from ipc.records import account_of, sequence_of
from ipc.vocabulary import CommandType, Reason
from ipc.wire.frames import frame
from ipc.wire.matcher_codec import FRONTEND_STREAM, MAX_STREAM
from ipc.wire.messages import (
    FRONTEND_MESSAGES,
    Login,
    MassCancel,
    MassCancelReport,
    Reject,
    ShardRestarted,
    StreamOpened,
    Welcome,
    encoder,
)
from ipc.wire.rejects import Request, reject, request_of

MAX_SESSION = 1 << 28
"""Session numbers are below this, so that clients can build request ids on them below 2^53."""
RECEIVE_BYTES = 1 << 16
"""Of what is read from a client at a time."""
OPEN_WAIT_S = 1.0
"""How long a login waits for shards to say where the account stands. One that is held up says it
later; the others are not to wait for it."""


RETIRED_S = 2.0
"""How long after its end the number of a guest's channel is not given to another account."""


class Gateway:
    """The shared state of one frontend process, or of an HTTP worker, which is one too."""

    router: Router

    def __init__(
        self,
        config: FrontendSection,
        instruments: list[Instrument],
        registry: AccountRegistry,
        history: ReportHistory,
        status: StatusWriter,
        version: str,
        session_numbers: Iterator[int],
        keys: Keys,
    ) -> None:
        self.config = config
        self.status = status
        self.keys = keys
        self._registry = registry
        self._resume = Resume(history, status)
        self._version = version
        self._infos = [instrument.info() for instrument in instruments]
        self._connections: set[ClientConnection] = set()
        self._channels: dict[int, AccountChannel] = {}
        self._channel_of: dict[int, AccountChannel] = {}
        self._retired: dict[int, float] = {}
        """The closed streams of guests, by number, and since when; the first one the longest."""
        self._sessions = 0
        self._session_numbers = session_numbers
        self._mass_cancels = MassCancels()
        self.windows = Windows(config.window)
        self.receive_buffer = memoryview(bytearray(RECEIVE_BYTES))
        status.set("accounts", len(registry))

    # Sessions -----------------------------------------------------------------------------------

    @property
    def connections(self) -> list[ClientConnection]:
        """Every connection, logged in or not."""
        return list(self._connections)

    def admit(self, connection: ClientConnection) -> bool:
        """Count a new connection; False where there are ``max_sessions`` already."""
        if len(self._connections) >= self.config.max_sessions:
            self.status.add("refused_too_many_sessions", 1)
            return False
        self._connections.add(connection)
        self.status.set("connections", len(self._connections))
        return True

    def leave(self, connection: ClientConnection) -> None:
        """Forget a connection that is closed, or a session that is none."""
        if connection in self._connections:
            self._connections.discard(connection)
            self.status.set("connections", len(self._connections))
        channel = self._channels.get(connection.stream)
        if channel is None:
            return
        channel.waiting = [entry for entry in channel.waiting if entry[0] is not connection]
        if connection in channel.sessions:
            channel.sessions.remove(connection)
            self._sessions -= 1
            self.status.set("sessions", self._sessions)
            if not channel.sessions:
                self.windows.forget(channel)
            if connection.cancel_on_disconnect and not channel.cancels_on_disconnect:
                self._tell_matchers(channel)
        self._close_unused(channel)

    def _close_unused(self, channel: AccountChannel) -> None:
        """Close a channel that nobody uses, once nothing is under way on it.

        A matcher answers nothing more on a closed one, and what is under way is known by answers.
        """
        if channel.is_open and not (channel.sessions or channel.waiting or channel.under_way):
            channel.close()
            for link in self.router.matchers.values():
                link.close_stream(channel.number)
            if not channel.is_registered:
                self._registry.dismiss(channel.account)
                self._retired[channel.number] = time.monotonic()

    def has_place(self, user_id: str) -> bool:
        """Return whether a user would be let in now, as far as places go."""
        return not self._registry.is_full or account_of(user_id) in self._channel_of

    def log_in(self, connection: ClientConnection, login: Login) -> None:
        """Open a session of an account, or refuse it; now, or once the shards have answered."""
        try:
            account = self._registry.admit(login.user_id)
        except AccountError as error:
            self.status.add("refused_login", 1)
            connection.close(error.code, str(error))
            return
        channel = self._channel_of.get(account) or self._add(account)
        if not channel.is_open:
            self._open(channel)
        connection.stream = channel.number
        channel.waiting.append((connection, login))
        if not channel.opening:
            self._admit_waiting(channel)

    def _add(self, account: int) -> AccountChannel:
        shards = list(self.router.matchers)
        former = self._take_retired()
        number = len(self._channels) + 1 if former is None else former.number
        channel = AccountChannel(number, account, shards, self.config.window)
        assert channel.number <= MAX_STREAM
        if former is not None:
            channel.overtaken = former.overtaken
        channel.is_registered = self._registry.is_registered(account)
        self._channels[channel.number] = self._channel_of[account] = channel
        self.status.set("streams", len(self._channels))
        return channel

    def _take_retired(self) -> AccountChannel | None:
        """Return the channel of a guest whose number can go to another account, if there is one.

        Nothing of the former may be on its way any more: what a shard still says of it comes before
        it has heard of the new one (``deliver``), and has no business with query workers' answers
        after ``RETIRED_S``. A link that is down may keep something for it.
        """
        number = next(iter(self._retired), 0)
        if not number or time.monotonic() - self._retired[number] < RETIRED_S:
            return None
        if not all(link.connected for link in self.router.all()):
            return None
        del self._retired[number]
        return self._channel_of.pop(self._channels[number].account)

    def _register(self, channel: AccountChannel) -> None:
        """Write down an account that had an order accepted."""
        channel.is_registered = True
        self._registry.register(channel.account)
        self.status.set("accounts", len(self._registry))
        self.status.set("unwritten_accounts", self._registry.unwritten)

    def _open(self, channel: AccountChannel) -> None:
        matchers = self.router.matchers
        self._retired.pop(channel.number, None)
        channel.open({shard for shard, link in matchers.items() if link.connected})
        for link in self.router.all():
            link.open_stream(channel.number, channel.account, False)
        if channel.opening:
            loop = asyncio.get_running_loop()
            channel.opening_timer = loop.call_later(OPEN_WAIT_S, self._admit_waiting, channel)

    def _admit_waiting(self, channel: AccountChannel) -> None:
        """Let in who waits, whatever the shards have said by now."""
        channel.stop_waiting()
        waiting, channel.waiting = channel.waiting, []
        for connection, login in waiting:
            try:
                self._enter(channel, connection, login)
            except ResumeError as error:
                self.status.add("refused_resume", 1)
                connection.close(error.code, str(error))

    def _enter(self, channel: AccountChannel, connection: ClientConnection, login: Login) -> None:
        """Make a connection a session: what it missed first, then what comes."""
        missed = self._resume.missed(channel, login.resume)
        session = self.next_session()
        welcome = Welcome(
            session, login.user_id, self._version, self._infos, channel.known_positions()
        )
        flagged = channel.cancels_on_disconnect
        channel.sessions.append(connection)
        self._sessions += 1
        self.status.set("sessions", self._sessions)
        if channel.window_full:
            connection.stop_reading()
        connection.cancel_on_disconnect = login.cancel_on_disconnect
        if login.cancel_on_disconnect and not flagged:
            self._tell_matchers(channel)
        connection.enter(session, frame(welcome), missed)

    def next_session(self) -> int:
        """Return the number of a new session: no other one has it, at any frontend."""
        return next(self._session_numbers)

    def _tell_matchers(self, channel: AccountChannel) -> None:
        """Say to the matchers whether a session of the account asks for cancel on disconnect."""
        for link in self.router.matchers.values():
            link.open_stream(channel.number, channel.account, channel.cancels_on_disconnect)

    def close_silent(self, now_s: float) -> None:
        """Close sessions that have sent nothing for ``idle_timeout_s``."""
        limit_s = self.config.idle_timeout_s
        if not limit_s:
            return
        for connection in self.connections:
            if now_s - connection.last_seen_s > limit_s:
                self.status.add("closed_idle", 1)
                connection.close("IDLE", "nothing came within idle_timeout_s")

    # What matchers and query workers say --------------------------------------------------------

    def deliver(
        self, shard: int | None, stream: int, frames: bytes | memoryview, answers: int, last: int
    ) -> None:
        """Pass frames of one channel to every session of its account.

        So many of them are answers. From a shard they are reports, up to account_sequence ``last``.
        """
        known = self._channels[stream]
        if shard in known.unheard:
            self.status.add("undelivered_bytes", len(frames))
            return  # it was for who had the channel before
        if shard is not None and last:  # numbered: the account had an order accepted
            if known.is_open:
                known.positions[shard] = last
            if not known.is_registered:
                self._register(known)
        if not known.sessions:
            self.status.add("undelivered_bytes", len(frames))
        for connection in [*known.sessions]:
            connection.deliver(frames)
        self._answered(known, answers)

    def take_from_matcher(self, shard: int | None, stream: int, message: FRONTEND_MESSAGES) -> None:
        """Take what a matcher says to the frontend itself."""
        known = self._channels[stream]
        assert shard is not None
        if isinstance(message, StreamOpened):
            self._opened(known, shard, message.account_sequence)
            return
        answer: Reject | MassCancelReport | None = message if isinstance(message, Reject) else None
        if isinstance(message, MassCancelReport):
            answer = self._mass_cancels.add(stream, shard, message)
        if answer is not None and shard not in known.unheard:
            for connection in list(known.sessions):
                connection.deliver(frame(answer))
            self._answered(known, 1)

    def _opened(self, channel: AccountChannel, shard: int, last: int) -> None:
        """A shard says where an account stands: what follows comes over its link.

        Sessions that are there already have missed what it reported since it was lost.
        """
        if not channel.note_position_told(shard):
            return
        before = channel.positions[shard]
        channel.positions[shard] = last
        if sequence_of(last) and not channel.is_registered:
            self._register(channel)
        if channel.sessions:
            self._restarted(channel, shard, last if before is None else before, last)
        if shard in channel.opening:
            channel.opening.discard(shard)
            if not channel.opening:
                self._admit_waiting(channel)

    def _restarted(self, channel: AccountChannel, shard: int, before: int, last: int) -> None:
        try:
            missed = self._resume.between(channel, before, last)
        except ResumeError as error:
            for connection in list(channel.sessions):
                connection.close(error.code, str(error))
            return
        for connection in list(channel.sessions):
            news = ShardRestarted(last, connection.sent_bytes_at_loss.get(shard, 0))
            connection.deliver_missed(missed + frame(news, channel.number))

    def link_found(self) -> None:
        """Show how many matchers cannot be reached."""
        down = sum(not link.connected for link in self.router.matchers.values())
        self.status.set("shards_down", down)

    def link_lost(self, shard: int | None) -> None:
        """A matcher or worker is gone with what it had not answered: nobody waits for that."""
        if shard is not None:
            for channel in self._channels.values():
                for connection in channel.sessions:
                    connection.sent_bytes_at_loss[shard] = connection.routed_bytes
            for stream_number, request_id in self._mass_cancels.lose(shard):
                request = Request(CommandType.MASS_CANCEL, 0, request_id)
                answer = frame(reject(request, Reason.SHARD_DOWN, time.time_ns()))
                for connection in list(self._channels[stream_number].sessions):
                    connection.deliver(answer)
        for channel in list(self._channels.values()):
            channel.under_way = 0
            if channel.window_full:
                channel.resume_reading()
            if shard is not None:
                channel.link_lost(shard)
                if shard in channel.opening:
                    channel.opening.discard(shard)
                    if not channel.opening:
                        self._admit_waiting(channel)
            self._close_unused(channel)
        self.link_found()

    # Commands under way -------------------------------------------------------------------------

    def channel_of(self, connection: ClientConnection) -> AccountChannel:
        """Return the account of a session."""
        return self._channels[connection.stream]

    def forwarded(self, connection: ClientConnection, commands: int) -> None:
        """Count what an account has under way; one that fills its window is not read from."""
        channel = self._channels[connection.stream]
        channel.under_way += commands
        if channel.under_way >= channel.window:
            channel.stop_reading()

    def _answered(self, channel: AccountChannel, answers: int) -> None:
        left = channel.under_way - answers
        channel.under_way = left if left > 0 else 0
        if not channel.sessions:
            self._close_unused(channel)
        if channel.window_full and channel.under_way <= channel.window // 2:
            channel.resume_reading()

    def cancel_everywhere(self, connection: ClientConnection, message: MassCancel) -> None:
        """Send a mass cancel to every matcher; one answer goes back when all have answered.

        Refused whole where one matcher cannot take it.
        """
        matchers: Mapping[int, BackendLink] = self.router.matchers
        for link in matchers.values():
            refusal = link.refusal()
            if refusal is not None:
                self.status.add_reject(refusal)
                request = request_of(encoder.encode(message))
                connection.deliver(frame(reject(request, refusal, time.time_ns())))
                return
        self.forwarded(connection, 1)
        self._mass_cancels.begin(connection.stream, message, matchers)
        data = frame(message, connection.stream | FRONTEND_STREAM)
        for link in matchers.values():
            link.write(data)

    def channels_to_open(
        self, shard: int | None, also: frozenset[int] | set[int]
    ) -> list[tuple[int, int, bool]]:
        """Return ``(channel, account, whether it is open)`` of those that a link opens now."""
        found = []
        for channel in self._channels.values():
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
