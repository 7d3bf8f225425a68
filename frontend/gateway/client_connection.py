"""One client's connection to the frontend: login, framing, limits, and routing of what it sends.

Frames are passed on as they came, but for the stream number in their header: the frontend looks
at tag and symbol and decodes nothing, unless something is odd about a message. Then it decodes it
to answer precisely.
"""

import asyncio
import time
from collections.abc import Callable
from typing import cast

from msgspec import DecodeError, ValidationError

from frontend.gateway.account_channel import AccountChannel
from frontend.gateway.door import CrowdedError, Entrant, Place
from frontend.gateway.fairness import NOTE_S
from frontend.gateway.frame_sorter import DONE, FEW_BYTES, FULL, ODD
from frontend.gateway.gateway import ODD_A_TURN, Gateway
from frontend.gateway.matcher_links import BackendLink
from frontend.gateway.session import Session
from ipc.links.sockets import notice_vanished, widen
from ipc.native.compiled import HAVE_NUMBA
from ipc.vocabulary import Reason
from ipc.wire.frames import HEADER, HEADER_BYTES, FrameSplitter, FrameTooLongError, frame
from ipc.wire.messages import (
    CLIENT_COMMANDS,
    CLIENT_QUERIES,
    MAX_COMMAND_BODY,
    MAX_LOGIN_BODY,
    BookQuery,
    Cancel,
    Closing,
    Login,
    MassCancel,
    OrderQuery,
    Ping,
    Pong,
    Reduce,
    Replace,
    TradesQuery,
    client_decoder,
)
from ipc.wire.rejects import explain, reject, request_of

CLOSE_S = 5.0
"""How long a client may take to read what is left for it once its connection is to end."""

ODD_BYTES = 64
"""A message that the frontend has to look at itself counts as one more for as many bytes."""
ODD_OF_LOGIN = 4
"""A Login counts as so many more."""


class ClientConnection(asyncio.BufferedProtocol, Entrant, Session):
    """A connection from accept to close. The ``Gateway`` is what all connections share."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.session = 0
        self.stream = 0
        self.cancel_on_disconnect = False
        self.last_seen_s = 0.0
        self.routed_bytes = 0
        """Of all that the client has sent, how much was looked at and passed on."""
        self.sent_bytes_at_loss: dict[int, int] = {}
        """By shard, how much that was when its matcher was lost last."""
        self.transport: asyncio.Transport | None = None
        self._rest = b""
        self._held_for_login = False
        self._account: AccountChannel | None = None
        self._least_allowance = self._allowance = gateway.config.max_unread_bytes
        self._holds = 0
        self._host = ""
        self.place: Place | None = None
        """At the door; a connection over TLS has taken it before its handshake."""
        self._timer: asyncio.TimerHandle | None = None  # of the end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place: from then on the clock for the login runs."""
        self.transport = cast(asyncio.Transport, transport)
        widen(transport.get_extra_info("socket"))
        loop = asyncio.get_running_loop()
        self._now_s: Callable[[], float] = loop.time
        status = self.gateway.status
        self._frames_in, self._bytes_in = status.word("frames_in"), status.word("bytes_in")
        self.last_seen_s = loop.time()
        peer = transport.get_extra_info("peername")
        self._host = peer[0] if isinstance(peer, tuple) else ""  # a Unix socket has no address
        try:
            connections, now_s = self.gateway.connections, self.last_seen_s
            self.place = connections.admit(self, self.place, self._host, now_s)
        except CrowdedError as error:
            self.close("TOO_MANY_SESSIONS", f"{error}; try again later")
            return
        self.place.end, self.place.abort = self._login_overdue, self.abort

    def connection_lost(self, _: Exception | None) -> None:
        """Leave; the account's orders stay."""
        self._stop_timer()
        self.transport = None
        if self.place is not None:
            self.place.leave()
        self.gateway.connections.leave(self)
        self.gateway.sessions.leave(self)

    def get_buffer(self, _: int) -> memoryview:
        """Return where the next bytes go: what all connections use, until ``buffer_updated``."""
        return self.gateway.receive_buffer

    def buffer_updated(self, count: int) -> None:
        """Route every whole frame, in one piece for each matcher that gets any."""
        data = self.gateway.receive_buffer[:count]
        self.last_seen_s = self._now_s()
        if count > FEW_BYTES or self._rest or not self._pass_few(data):
            self._take(self._rest + data if self._rest else data.toreadonly())
        self._bytes_in[0] += count

    def _pass_few(self, data: memoryview) -> bool:
        """Pass on what is a few plain frames for one matcher, if nothing stands in their way.

        It is what ``_route_all`` would do, with less to look at; where it is not, that has to.
        """
        gateway, account, transport = self.gateway, self._account, self.transport
        if account is None or self._holds or transport is None or transport.is_closing():
            return False
        number, frames = gateway.router.sorter.sort_few(data, self.stream)
        if number < 0 or account.under_way + frames > gateway.windows.always:
            return False
        self._forward(gateway.router.link(number, self.session), bytes(data), frames)
        self.routed_bytes += len(data)
        self._frames_in[0] += frames
        if not self._holds and self.last_seen_s > account.noted_s + NOTE_S:
            gateway.windows.passed(account, self.last_seen_s)
        return True

    def _take(self, data: bytes | memoryview) -> None:
        try:
            position = self._route_all(data)
        except FrameTooLongError as error:
            self.gateway.status.add("closed_frame_too_long", 1)
            self.close("FRAME_TOO_LONG", str(error))
        else:
            self.routed_bytes += position
            self._rest = bytes(data[position:]) if self.is_open() else b""

    def enter(self, session: int, welcome: bytes, missed: bytes) -> None:
        """Be a session from now on: the answer to the login, what was missed, then what comes."""
        if self.place is not None:
            self.place.show()
        self.session = session
        self._account = self.gateway.channel_of(self)
        self.deliver(welcome)
        self.deliver_missed(missed)
        if self._held_for_login:
            self._held_for_login = False
            self.resume_reading()

    def deliver_missed(self, data: bytes) -> None:
        """Send frames that may be more than ``max_unread_bytes`` through no fault of the client."""
        transport = self.transport
        if data and transport is not None and not transport.is_closing():
            transport.write(data)
            unread = transport.get_write_buffer_size()
            self._allowance = max(self._allowance, unread + self.gateway.config.max_unread_bytes)

    def deliver(self, data: bytes | memoryview) -> None:
        """Send frames to the client; cut off one that does not read."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        unread = transport.get_write_buffer_size()
        if unread > self._allowance:
            self.gateway.status.add("closed_slow_reader", 1)
            transport.abort()
        elif self._allowance > self._least_allowance > unread:
            self._allowance = self._least_allowance

    def stop_reading(self) -> None:
        """Read no more until ``resume_reading`` was called as often as this."""
        if self._pause():
            self.gateway.status.add("held_reads", 1)

    def resume_reading(self) -> None:
        """Take back one ``hold``: what is here already comes first."""
        self._holds = max(0, self._holds - 1)
        if self._holds == 0 and self._rest and self.is_open():
            rest, self._rest = self._rest, b""
            self._take(rest)
        if self._holds == 0 and self.is_open():
            assert self.transport is not None
            self.transport.resume_reading()

    def close(self, code: str, text: str) -> None:
        """Say why, then close once that is sent; cut off a client that does not read it."""
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(frame(Closing(code, text)))
            transport.close()
            self._stop_timer()
            if transport.get_write_buffer_size():
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(CLOSE_S, self._close_overdue)

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()

    def _close_overdue(self) -> None:
        if self.transport is not None:
            self.gateway.status.add("closed_slow_reader", 1)
            self.transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _may_go_on(self) -> bool:
        """Return whether a message may be looked at now; else go on once others had their turn."""
        turns, whose = self.gateway.turns, self._account or self._host
        if turns.may(whose):
            return True
        self._pause()
        turns.wait(whose, self.resume_reading)
        return False

    def _spend(self, pieces: int) -> None:
        self.gateway.turns.spend(self._account or self._host, pieces)

    def _pause(self) -> bool:
        """Read no more; return whether that is new."""
        self._holds += 1
        if self._holds > 1 or not self.is_open():
            return False
        assert self.transport is not None
        self.transport.pause_reading()
        return True

    def is_open(self) -> bool:
        """Return whether it is not about to end."""
        return self.transport is not None and not self.transport.is_closing()

    def _route_all(self, data: bytes | memoryview) -> int:
        """Route the whole frames of ``data`` that may pass; return where the rest begins."""
        router = self.gateway.router
        position, frames = 0, 0
        while self.is_open() and not self._holds:
            why = ODD
            if HAVE_NUMBA and self._account is not None:
                limit = self._allowed(self._account)
                if not limit:
                    break
                position, why, count, pieces = router.sorter.sort(
                    data, position, self.stream, limit
                )
                frames += count
                for link, piece, commands in pieces:
                    self._forward(router.link(link, self.session), piece, commands)
            if why == DONE:
                break
            if why != FULL:
                body = self._next(data, position)
                if body is None:
                    break
                if not self._may_go_on():
                    break
                self._spend(1 + len(body) // ODD_BYTES)
                self._odd(body)
                frames += 1
                position += HEADER_BYTES + len(body)
        self.gateway.status.add("frames_in", frames)
        if self._account is not None and not self._holds:
            self.gateway.windows.passed(self._account, self.last_seen_s)
        return position

    def _allowed(self, account: AccountChannel) -> int:
        """Return how many commands may pass now; if none, the account is held."""
        room = self.gateway.windows.room(account, self.last_seen_s)
        if not room:
            account.stop_reading()
        return room

    def _next(self, data: bytes | memoryview, position: int) -> bytes | None:
        """Return the body of the frame at ``position``, None where it is not whole."""
        if len(data) - position < HEADER_BYTES:
            return None
        length, _ = HEADER.unpack_from(data, position)
        bound = MAX_COMMAND_BODY if self.session else MAX_LOGIN_BODY
        if length > bound:
            raise FrameTooLongError(length, bound)
        start = position + HEADER_BYTES
        return bytes(data[start : start + length]) if start + length <= len(data) else None

    def _forward(self, link: BackendLink, frames: bytes | memoryview, commands: int = 1) -> None:
        """Send frames to ``link``, or refuse every one of them."""
        account = self._account
        assert account is not None
        refusal = account.forward(link, frames, commands)
        if refusal is None:
            if link.full and link.waits:
                self._wait_for(link)
            return
        bodies = [body for _, body in FrameSplitter(MAX_COMMAND_BODY).feed(bytes(frames))]
        self.gateway.status.add_reject(refusal, len(bodies))
        now_ns = time.time_ns()
        answers = [frame(reject(request_of(body), refusal, now_ns)) for body in bodies]
        self.deliver(b"".join(answers))

    def _wait_for(self, link: BackendLink) -> None:
        self.stop_reading()
        link.when_room(self.resume_reading)

    def _odd(self, body: bytes) -> None:
        """Deal with a message that is not plainly for one matcher or worker."""
        try:
            message = client_decoder.decode(body)
        except (ValidationError, DecodeError, UnicodeDecodeError) as error:
            answer = explain(body, error, time.time_ns())
            if not self.session:
                self._not_logged_in(f"; {answer.field}: {answer.text}")
                return
            self.gateway.status.add("rejects_message", 1)
            self.gateway.status.add_reject(answer.code)
            self.deliver(frame(answer))
            return
        if isinstance(message, Login):
            self._log_in(message)
        elif not self.session:
            self._not_logged_in()
        elif isinstance(message, Ping):
            self.deliver(frame(Pong(message.request_id)))
        elif isinstance(message, MassCancel) and not message.symbol:
            self._spend(ODD_A_TURN)  # it is the work of many
            self.gateway.cancel_everywhere(self, message)
        else:
            self._route(message, body)

    def _route(self, message: CLIENT_COMMANDS | CLIENT_QUERIES, body: bytes) -> None:
        """Forward one decoded message, or reject it because nothing serves it."""
        router = self.gateway.router
        if isinstance(message, OrderQuery | TradesQuery | BookQuery):
            link = router.worker(self.session)
        elif isinstance(message, Cancel | Replace | Reduce) and not message.symbol:
            if not message.order_id:
                self._reject(body, Reason.INVALID_ORDER_ID)
                return
            found = router.by_order(message.order_id)
            if found is None:
                self._reject(body, Reason.UNKNOWN_ORDER)
                return
            link = found
        else:
            found = router.by_symbol(message.symbol)
            if found is None:
                self._reject(body, Reason.UNKNOWN_SYMBOL)
                return
            link = found
        self._forward(link, HEADER.pack(len(body), self.stream) + body)

    def _reject(self, body: bytes, reason: Reason) -> None:
        self.gateway.status.add_reject(reason)
        self.deliver(frame(reject(request_of(body), reason, time.time_ns())))

    def _log_in(self, login: Login) -> None:
        if self.session:
            self.close("ALREADY_LOGGED_IN", "a connection logs in once")
            return
        self._spend(ODD_OF_LOGIN)
        if not self.gateway.keys.admits(login.user_id, login.api_key):
            self.gateway.status.add("refused_login", 1)
            self.close("LOGIN_REFUSED", "api_key: must be a key of the user_id")
            return
        if login.peer_timeout_s and self.transport is not None:
            notice_vanished(self.transport.get_extra_info("socket"), login.peer_timeout_s)
        self.gateway.sessions.log_in(self, login)
        if not self.session and self.is_open():
            self._held_for_login = True  # what comes behind it waits with it
            self._pause()

    def _not_logged_in(self, detail: str = "") -> None:
        self.gateway.status.add("closed_not_logged_in", 1)
        self.close("NOT_LOGGED_IN", f"the first message of a connection must be Login{detail}")

    def _login_overdue(self) -> bool:
        self.close("LOGIN_TIMEOUT", "no Login came within login_timeout_s")
        return True
