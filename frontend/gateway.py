"""The orders of many users over one connection: how HTTP workers reach a frontend.

A gateway is a process of this product. It connects to a Unix socket in the run directory, which
nobody but this user can enter, and is trusted to know who its users are: there is no login. It is
greeted with ``Welcome``. ``OpenAccount`` is answered with ``AccountOpened``, which names the
account's stream; frames with that stream in their header are then taken as a client's of that
account, and every frame for the account comes back with it (with 0 where the frontend answers by
itself: then the request_id tells whose it is), until the gateway says ``CloseAccount`` on it.

Each account that a gateway has opened is a session like any other to the ``Hall``. A gateway is
never held back, since that would hold all its users: an account whose window is full has its
commands refused as BUSY instead.
"""

import asyncio
import time
from typing import cast

import msgspec

from frontend.backends import BackendLink
from frontend.entry import ClientConnection
from frontend.hall import Hall
from ipc.explain import reject, request_of
from ipc.frames import HEADER, HEADER_BYTES, frame
from ipc.messages import (
    COMMAND_TAGS,
    MAX_COMMAND_BODY,
    AccountOpened,
    CloseAccount,
    Login,
    OpenAccount,
    open_account_decoder,
    tag_of,
)
from ipc.sockets import widen
from ipc.vocabulary import Reason

_OPEN_ACCOUNT, _CLOSE_ACCOUNT = tag_of(OpenAccount), tag_of(CloseAccount)
_MIN_COMMAND_BODY = 3
_FIXARRAY, _FIXARRAY_MASK = 0x90, 0xF0
_MAX_FIXINT = 0x7F


class GatewaySession(ClientConnection):
    """One account of a gateway, as a session of the hall."""

    def __init__(self, hall: Hall, gateway: "GatewayConnection", request_id: int) -> None:
        super().__init__(hall)
        self.gateway = gateway
        self._request_id = request_id

    def enter(self, session: int, welcome: bytes, missed: bytes) -> None:
        """Be a session from now on."""
        self.session = session
        self.gateway.opened(self)
        self.deliver(frame(AccountOpened(self._request_id, self.stream)))

    def deliver(self, data: bytes | memoryview) -> None:
        """Pass frames on to the gateway."""
        self.gateway.deliver(data)

    def deliver_missed(self, data: bytes) -> None:
        """Pass on frames that were missed while a link was down."""
        self.gateway.deliver_missed(data)

    @property
    def held(self) -> bool:
        """Whether the account's whole window is full."""
        return self.hall.stream_of(self).under_way >= self.hall.config.window

    def hold(self) -> None:
        """Do nothing: a gateway is read on."""

    def go_on(self) -> None:
        """Do nothing."""

    def close(self, code: str, text: str) -> None:
        """Refuse to open the account; what else ends a session ends its gateway with it."""
        if self.session:
            self.gateway.close(code, text)
        else:
            self.deliver(frame(AccountOpened(self._request_id, 0)))

    def _open(self) -> bool:
        return self.gateway.transport is not None


class GatewayConnection(ClientConnection):
    """A connection of a gateway. To the hall it is one client, besides its sessions."""

    def __init__(self, hall: Hall) -> None:
        super().__init__(hall)
        self._sessions: dict[int, GatewaySession] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the gateway with the instruments and a number for its requests."""
        self.transport = cast(asyncio.Transport, transport)
        widen(transport.get_extra_info("socket"))
        self.deliver(frame(self.hall.greet_gateway()))

    def connection_lost(self, _: Exception | None) -> None:
        """End every session; the orders stay."""
        self.transport = None
        for session in self._sessions.values():
            self.hall.leave(session)
        self._sessions.clear()

    def received(self, data: memoryview | bytes) -> None:
        """Take every whole frame as its stream's session; each matcher gets its own in one piece.

        They are passed on as they came, header and all.
        """
        self.hall.status.add("bytes_in", len(data))
        data = self._rest + data
        now_s = asyncio.get_running_loop().time()
        position, end, frames = 0, len(data), 0
        pieces: dict[BackendLink, list[bytes]] = {}
        while end - position >= HEADER_BYTES:
            length, stream = HEADER.unpack_from(data, position)
            if length > MAX_COMMAND_BODY:
                self.close("FRAME_TOO_LONG", f"body of {length} bytes, at most {MAX_COMMAND_BODY}")
                break
            start = position + HEADER_BYTES
            stop = start + length
            if stop > end:
                break
            link = self._plain_link(data, start, length)
            session = self._sessions.get(stream)
            if link is None or session is None or session.held:
                self._write(pieces)  # what an account sends stays in its order
                self._take_frame(stream, data[start:stop])
            else:
                pieces.setdefault(link, []).append(data[position:stop])
                self.hall.forwarded(session, 1)
                self.hall.windows.passed(self.hall.stream_of(session), now_s)
            position = stop
            frames += 1
        self._write(pieces)
        self._rest = data[position:]
        self.hall.status.add("frames_in", frames)

    def _plain_link(self, data: bytes, start: int, length: int) -> BackendLink | None:
        """Return where a command goes whose symbol is written in a byte; None: look closer.

        A link that takes nothing now has to be looked at closer too.
        """
        if length < _MIN_COMMAND_BODY or data[start + 1] not in COMMAND_TAGS:
            return None
        symbol = data[start + 2]
        if symbol > _MAX_FIXINT or data[start] & _FIXARRAY_MASK != _FIXARRAY:
            return None
        link = self.hall.router.by_symbol(symbol)
        return link if link is not None and link.connected and not link.full else None

    def _write(self, pieces: dict[BackendLink, list[bytes]]) -> None:
        for link, frames in pieces.items():
            link.write(b"".join(frames))
        pieces.clear()

    def opened(self, session: GatewaySession) -> None:
        """Take frames of an account's stream from now on."""
        self._sessions[session.stream] = session

    def _take_frame(self, stream: int, body: bytes) -> None:
        session = self._sessions.get(stream)
        if session is None:
            if len(body) > 1 and body[1] == _OPEN_ACCOUNT:
                self._open_account(body)
            else:
                self._refuse(body, Reason.NOT_LOGGED_IN)
        elif len(body) > 1 and body[1] == _CLOSE_ACCOUNT:
            del self._sessions[stream]
            self.hall.leave(session)
        elif session.held:
            self._refuse(body, Reason.BUSY)
        else:
            session.take(body)

    def _open_account(self, body: bytes) -> None:
        try:
            message = open_account_decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._refuse(body, Reason.INVALID_MESSAGE)
            return
        session = GatewaySession(self.hall, self, message.request_id)
        self.hall.log_in(session, Login(message.user_id))

    def _refuse(self, body: bytes, reason: Reason) -> None:
        self.hall.status.add_reject(reason)
        self.deliver(frame(reject(request_of(body), reason, time.time_ns())))
