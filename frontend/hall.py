"""What all client connections of a frontend share: sessions, accounts and the way of reports back.

A report goes to every session of its account. Matchers know an account here by its stream, a
number that this frontend gave it and keeps while it lives; but that of a guest, who never had an
order accepted, goes to another account some time after he has gone.

**No gap, no repetition.** The first thing that a matcher says of a stream is where the account
stands; from there on all reports come over the link, in order. The frontend keeps, by stream and
shard, the last one that it passed on. What comes before is read from the shard's report ring: for a
session that asks for it at login, and for all sessions after a link was lost. Either happens
between two deliveries, so it ends just where the next one begins.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence

from engine.config import FrontendSection
from frontend.accounts import AccountError, AccountRegistry
from frontend.backends import BackendLink
from frontend.entry import ClientConnection
from frontend.keys import Keys
from frontend.mass_cancels import MassCancels
from frontend.report_history import ReportHistory
from frontend.resume import Resume, ResumeError
from frontend.router import Router
from frontend.streams import Stream
from frontend.windows import Windows
from ipc.codec import FRONTEND_STREAM, MAX_STREAM
from ipc.explain import Request, reject, request_of
from ipc.frames import frame
from ipc.instruments import Instrument
from ipc.messages import (
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
from ipc.records import account_of, sequence_of
from ipc.status import StatusWriter
from ipc.vocabulary import CommandType, Reason

MAX_SESSION = 1 << 28
"""Session numbers are below this, so that clients can build request ids on them below 2^53."""
RECEIVE_BYTES = 1 << 16
"""Of what is read from a client at a time."""
OPEN_WAIT_S = 1.0
"""How long a login waits for shards to say where the account stands. One that is held up says it
later; the others are not to wait for it."""


RETIRED_S = 2.0
"""How long after its end the number of a guest's stream is not given to another account."""


class Hall:
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
        self._streams: dict[int, Stream] = {}
        self._stream_of: dict[int, Stream] = {}
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
        stream = self._streams.get(connection.stream)
        if stream is None:
            return
        stream.waiting = [entry for entry in stream.waiting if entry[0] is not connection]
        if connection in stream.sessions:
            stream.sessions.remove(connection)
            self._sessions -= 1
            self.status.set("sessions", self._sessions)
            if not stream.sessions:
                self.windows.forget(stream)
            if connection.cancel_on_disconnect and not stream.cancels_on_disconnect:
                self._tell_matchers(stream)
        self._close_unused(stream)

    def _close_unused(self, stream: Stream) -> None:
        """Close a stream that nobody uses, once nothing is under way on it.

        A matcher answers nothing more on a closed one, and what is under way is known by answers.
        """
        if stream.is_open and not (stream.sessions or stream.waiting or stream.under_way):
            stream.close()
            for link in self.router.matchers:
                link.close_stream(stream.number)
            if not stream.is_registered:
                self._registry.dismiss(stream.account)
                self._retired[stream.number] = time.monotonic()

    def has_place(self, user_id: str) -> bool:
        """Return whether a user would be let in now, as far as places go."""
        return not self._registry.is_full or account_of(user_id) in self._stream_of

    def log_in(self, connection: ClientConnection, login: Login) -> None:
        """Open a session of an account, or refuse it; now, or once the shards have answered."""
        try:
            account = self._registry.admit(login.user_id)
        except AccountError as error:
            self.status.add("refused_login", 1)
            connection.close(error.code, str(error))
            return
        stream = self._stream_of.get(account) or self._add(account)
        if not stream.is_open:
            self._open(stream)
        connection.stream = stream.number
        stream.waiting.append((connection, login))
        if not stream.opening:
            self._let_in(stream)

    def _add(self, account: int) -> Stream:
        shards = len(self.router.matchers)
        former = self._take_retired()
        number = len(self._streams) + 1 if former is None else former.number
        stream = Stream(number, account, shards, self.config.window)
        assert stream.number <= MAX_STREAM
        if former is not None:
            stream.overtaken = former.overtaken
        stream.is_registered = self._registry.is_registered(account)
        self._streams[stream.number] = self._stream_of[account] = stream
        self.status.set("streams", len(self._streams))
        return stream

    def _take_retired(self) -> Stream | None:
        """Return the stream of a guest whose number can go to another account, if there is one.

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
        return self._stream_of.pop(self._streams[number].account)

    def _register(self, stream: Stream) -> None:
        """Write down an account that had an order accepted."""
        stream.is_registered = True
        self._registry.register(stream.account)
        self.status.set("accounts", len(self._registry))
        self.status.set("unwritten_accounts", self._registry.unwritten)

    def _open(self, stream: Stream) -> None:
        matchers = self.router.matchers
        self._retired.pop(stream.number, None)
        stream.open({shard for shard, link in enumerate(matchers) if link.connected})
        for link in self.router.all():
            link.open_stream(stream.number, stream.account, False)
        if stream.opening:
            loop = asyncio.get_running_loop()
            stream.opening_timer = loop.call_later(OPEN_WAIT_S, self._let_in, stream)

    def _let_in(self, stream: Stream) -> None:
        """Let in who waits, whatever the shards have said by now."""
        stream.stop_waiting()
        waiting, stream.waiting = stream.waiting, []
        for connection, login in waiting:
            try:
                self._enter(stream, connection, login)
            except ResumeError as error:
                self.status.add("refused_resume", 1)
                connection.close(error.code, str(error))

    def _enter(self, stream: Stream, connection: ClientConnection, login: Login) -> None:
        """Make a connection a session: what it missed first, then what comes."""
        missed = self._resume.missed(stream, login.resume)
        session = self.next_session()
        welcome = Welcome(
            session, login.user_id, self._version, self._infos, stream.known_positions()
        )
        flagged = stream.cancels_on_disconnect
        stream.sessions.append(connection)
        self._sessions += 1
        self.status.set("sessions", self._sessions)
        if stream.window_full:
            connection.hold()
        connection.cancel_on_disconnect = login.cancel_on_disconnect
        if login.cancel_on_disconnect and not flagged:
            self._tell_matchers(stream)
        connection.enter(session, frame(welcome), missed)

    def next_session(self) -> int:
        """Return the number of a new session: no other one has it, at any frontend."""
        return next(self._session_numbers)

    def _tell_matchers(self, stream: Stream) -> None:
        """Say to the matchers whether a session of the account asks for cancel on disconnect."""
        for link in self.router.matchers:
            link.open_stream(stream.number, stream.account, stream.cancels_on_disconnect)

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
        """Pass frames of one stream to every session of its account.

        So many of them are answers. From a shard they are reports, up to account_sequence ``last``.
        """
        known = self._streams[stream]
        if shard in known.unheard:
            self.status.add("undelivered_bytes", len(frames))
            return  # it was for who had the stream before
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

    def told(self, shard: int | None, stream: int, message: FRONTEND_MESSAGES) -> None:
        """Take what a matcher says to the frontend itself."""
        known = self._streams[stream]
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

    def _opened(self, stream: Stream, shard: int, last: int) -> None:
        """A shard says where an account stands: what follows comes over its link.

        Sessions that are there already have missed what it reported since it was lost.
        """
        if not stream.heard(shard):
            return
        before = stream.positions[shard]
        stream.positions[shard] = last
        if sequence_of(last) and not stream.is_registered:
            self._register(stream)
        if stream.sessions:
            self._restarted(stream, shard, last if before is None else before, last)
        if shard in stream.opening:
            stream.opening.discard(shard)
            if not stream.opening:
                self._let_in(stream)

    def _restarted(self, stream: Stream, shard: int, before: int, last: int) -> None:
        try:
            missed = self._resume.between(stream, before, last)
        except ResumeError as error:
            for connection in list(stream.sessions):
                connection.close(error.code, str(error))
            return
        for connection in list(stream.sessions):
            news = ShardRestarted(last, connection.sent_bytes_at_loss.get(shard, 0))
            connection.deliver_missed(missed + frame(news, stream.number))

    def found_link(self) -> None:
        """Show how many matchers cannot be reached."""
        down = sum(not link.connected for link in self.router.matchers)
        self.status.set("shards_down", down)

    def lost_link(self, shard: int | None) -> None:
        """A matcher or worker is gone with what it had not answered: nobody waits for that."""
        if shard is not None:
            for stream in self._streams.values():
                for connection in stream.sessions:
                    connection.sent_bytes_at_loss[shard] = connection.routed_bytes
            for stream_number, request_id in self._mass_cancels.lose(shard):
                request = Request(CommandType.MASS_CANCEL, 0, request_id)
                answer = frame(reject(request, Reason.SHARD_DOWN, time.time_ns()))
                for connection in list(self._streams[stream_number].sessions):
                    connection.deliver(answer)
        for stream in list(self._streams.values()):
            stream.under_way = 0
            if stream.window_full:
                stream.go_on()
            if shard is not None:
                stream.lost(shard)
                if shard in stream.opening:
                    stream.opening.discard(shard)
                    if not stream.opening:
                        self._let_in(stream)
            self._close_unused(stream)
        self.found_link()

    # Commands under way -------------------------------------------------------------------------

    def stream_of(self, connection: ClientConnection) -> Stream:
        """Return the account of a session."""
        return self._streams[connection.stream]

    def forwarded(self, connection: ClientConnection, commands: int) -> None:
        """Count what an account has under way; one that fills its window is not read from."""
        stream = self._streams[connection.stream]
        stream.under_way += commands
        if stream.under_way >= stream.window:
            stream.hold()

    def _answered(self, stream: Stream, answers: int) -> None:
        left = stream.under_way - answers
        stream.under_way = left if left > 0 else 0
        if not stream.sessions:
            self._close_unused(stream)
        if stream.window_full and stream.under_way <= stream.window // 2:
            stream.go_on()

    def cancel_everywhere(self, connection: ClientConnection, message: MassCancel) -> None:
        """Send a mass cancel to every matcher; one answer goes back when all have answered.

        Refused whole where one matcher cannot take it.
        """
        matchers: Sequence[BackendLink] = self.router.matchers
        for link in matchers:
            refusal = link.refusal()
            if refusal is not None:
                self.status.add_reject(refusal)
                request = request_of(encoder.encode(message))
                connection.deliver(frame(reject(request, refusal, time.time_ns())))
                return
        self.forwarded(connection, 1)
        self._mass_cancels.begin(connection.stream, message, range(len(matchers)))
        data = frame(message, connection.stream | FRONTEND_STREAM)
        for link in matchers:
            link.write(data)

    def introduce(
        self, shard: int | None, also: frozenset[int] | set[int]
    ) -> list[tuple[int, int, bool]]:
        """Return ``(stream, account, whether it is open)`` of the streams that a link opens now."""
        found = []
        for stream in self._streams.values():
            if stream.is_open:
                if shard is not None:
                    stream.unheard.add(shard)
            elif stream.number in also:
                assert shard is not None, "query workers know of no cancel on disconnect"
                stream.overtaken[shard] += 1
            else:
                continue
            found.append((stream.number, stream.account, stream.is_open))
        return found
