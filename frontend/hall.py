"""What all client connections of a frontend share: sessions, accounts and the way of reports back.

A report goes to every session of its account. Matchers know an account here by its stream, a
number that this frontend gave it and keeps while it lives.
"""

import time
from collections.abc import Iterator

from msgspec.msgpack import Decoder

from engine.config import FrontendSection
from frontend.accounts import AccountRegistry
from frontend.entry import ClientConnection
from frontend.router import Router
from ipc.codec import AGGREGATE_STREAM, MAX_STREAM
from ipc.explain import reject, request_of
from ipc.frames import FrameSplitter, frame
from ipc.instruments import Instrument
from ipc.messages import MAX_BODY, Login, MassCancel, MassCancelReport, Welcome, encoder
from ipc.status import StatusWriter

MAX_SESSION = 1 << 28
"""Session numbers are below this, so that clients can build request ids on them below 2^53."""

_mass_cancel_decoder = Decoder(MassCancelReport)


class _Gathering:
    """A mass cancel over all shards whose answers are being added up."""

    def __init__(self, shards: int) -> None:
        self.missing = shards
        self.canceled_orders = 0


class Hall:
    """The shared state of one frontend process."""

    router: Router

    def __init__(
        self,
        config: FrontendSection,
        instruments: list[Instrument],
        registry: AccountRegistry,
        status: StatusWriter,
        version: str,
        session_numbers: Iterator[int],
    ) -> None:
        self.config = config
        self.status = status
        self._registry = registry
        self._version = version
        self._infos = [instrument.info() for instrument in instruments]
        self._connections: set[ClientConnection] = set()
        self._by_stream: dict[int, list[ClientConnection]] = {}
        self._stream_of: dict[int, int] = {}
        self._under_way: dict[int, int] = {}
        self._full_windows: set[int] = set()
        self._sessions = 0
        self._session_numbers = session_numbers
        self._gathering: dict[tuple[int, int], _Gathering] = {}

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
        """Forget a connection that is closed."""
        self._connections.discard(connection)
        self.status.set("connections", len(self._connections))
        sessions = self._by_stream.get(connection.stream)
        if connection.session and sessions is not None and connection in sessions:
            sessions.remove(connection)
            self._sessions -= 1
            self.status.set("sessions", self._sessions)

    def log_in(self, connection: ClientConnection, login: Login) -> Welcome | None:
        """Open a session of an account; None where the account cannot be had."""
        account = self._registry.register(login.user_id)
        if account is None:
            self.status.add("refused_login", 1)
            return None
        stream = self._stream_of.get(account)
        if stream is None:
            stream = len(self._stream_of) + 1
            assert stream <= MAX_STREAM
            self._stream_of[account] = stream
            self._by_stream[stream] = []
            self._under_way[stream] = 0
            for link in self.router.all():
                link.open_stream(stream, account)
        connection.session = next(self._session_numbers)
        connection.stream = stream
        self._by_stream[stream].append(connection)
        if stream in self._full_windows:
            connection.hold()
        self._sessions += 1
        self.status.set("sessions", self._sessions)
        return Welcome(connection.session, login.user_id, self._version, self._infos)

    def open_accounts(self) -> list[tuple[int, int]]:
        """Return ``(stream, account)`` of every account that has logged in."""
        return [(stream, account) for account, stream in self._stream_of.items()]

    def forwarded(self, connection: ClientConnection, commands: int) -> None:
        """Count what an account has under way; one that fills its window is not read from."""
        stream = connection.stream
        self._under_way[stream] += commands
        if self._under_way[stream] >= self.config.window and stream not in self._full_windows:
            self._full_windows.add(stream)
            for session in self._by_stream[stream]:
                session.hold()

    def deliver(self, stream: int, frames: bytes, answers: int) -> None:
        """Pass frames of one stream to every session of its account."""
        if stream & AGGREGATE_STREAM:
            self._gather(stream & ~AGGREGATE_STREAM, frames)
            return
        sessions = self._by_stream.get(stream)
        if sessions:
            for connection in list(sessions):
                connection.deliver(frames)
        else:
            self.status.add("undelivered_bytes", len(frames))
        self._under_way[stream] = max(0, self._under_way[stream] - answers)
        if stream in self._full_windows and self._under_way[stream] <= self.config.window // 2:
            self._open_window(stream)

    def lost_link(self) -> None:
        """A matcher or worker is gone with what it had not answered: nobody waits for that."""
        for stream in self._under_way:
            self._under_way[stream] = 0
        for stream in list(self._full_windows):
            self._open_window(stream)

    def _open_window(self, stream: int) -> None:
        self._full_windows.discard(stream)
        for session in self._by_stream[stream]:
            session.go_on()

    def cancel_everywhere(self, connection: ClientConnection, message: MassCancel) -> None:
        """Send a mass cancel to every matcher; one answer goes back when all have answered.

        Refused whole where one matcher cannot take it.
        """
        body = encoder.encode(message)
        for link in self.router.matchers:
            refusal = link.refusal()
            if refusal is not None:
                self.status.add_reject(refusal)
                connection.deliver(frame(reject(request_of(body), refusal, time.time_ns())))
                return
        self.forwarded(connection, 1)
        key = (connection.stream, message.request_id)
        waiting = self._gathering.setdefault(key, _Gathering(0))
        waiting.missing += len(self.router.matchers)
        data = frame(message, connection.stream | AGGREGATE_STREAM)
        for link in self.router.matchers:
            link.write(data)

    def close_silent(self, now_s: float) -> None:
        """Close sessions that have sent nothing for ``idle_timeout_s``."""
        limit_s = self.config.idle_timeout_s
        if not limit_s:
            return
        for connection in self.connections:
            if now_s - connection.last_seen_s > limit_s:
                self.status.add("closed_idle", 1)
                connection.close("IDLE", "nothing came within idle_timeout_s")

    def _gather(self, stream: int, frames: bytes) -> None:
        """Add up the shards' answers to a mass cancel of everything."""
        for _, body in FrameSplitter(MAX_BODY).feed(frames):
            answer = _mass_cancel_decoder.decode(body)
            key = (stream, answer.request_id)
            waiting = self._gathering.get(key)
            if waiting is None:
                continue
            waiting.missing -= 1
            waiting.canceled_orders += answer.canceled_orders
            if waiting.missing == 0:
                del self._gathering[key]
                total = MassCancelReport(
                    0, answer.request_id, waiting.canceled_orders, answer.timestamp_ns, 0, 0
                )
                self.deliver(stream, frame(total), 1)
