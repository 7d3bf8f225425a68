"""The orders of many users over one connection: how HTTP workers reach a frontend.

A gateway is a process of this product. It connects to a Unix socket in the run directory, which
nobody but this user can enter, and is trusted to know who its users are: there is no login. It is
greeted with ``Welcome``. ``OpenAccount`` is answered with ``AccountOpened``, which names the
account's stream; frames with that stream in their header are then taken as a client's of that
account, and every frame for the account comes back with it (with 0 where the frontend answers by
itself: then the request_id tells whose it is).

Each account that a gateway has opened is a session like any other to the ``Hall``. A gateway is
never held back, since that would hold all its users: an account whose window is full has its
commands refused as BUSY instead.
"""

import asyncio
import time
from typing import cast

import msgspec

from frontend.entry import ClientConnection
from frontend.hall import Hall
from ipc.explain import reject, request_of
from ipc.frames import HEADER, HEADER_BYTES, frame
from ipc.messages import (
    MAX_COMMAND_BODY,
    AccountOpened,
    Login,
    OpenAccount,
    open_account_decoder,
    tag_of,
)
from ipc.sockets import widen
from ipc.vocabulary import Reason

_OPEN_ACCOUNT = tag_of(OpenAccount)


class GatewaySession(ClientConnection):
    """One account of a gateway, as a session of the hall."""

    def __init__(self, hall: Hall, gateway: "GatewayConnection", request_id: int) -> None:
        super().__init__(hall)
        self.gateway = gateway
        self.held = False
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

    def hold(self) -> None:
        """The account's window is full."""
        self.held = True

    def go_on(self) -> None:
        """There is room in the window again."""
        self.held = False

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
        """Take every whole frame as its stream's session."""
        data = self._rest + data
        position, end, frames = 0, len(data), 0
        while end - position >= HEADER_BYTES:
            length, stream = HEADER.unpack_from(data, position)
            if length > MAX_COMMAND_BODY:
                self.close("FRAME_TOO_LONG", f"body of {length} bytes, at most {MAX_COMMAND_BODY}")
                return
            start = position + HEADER_BYTES
            if start + length > end:
                break
            position = start + length
            frames += 1
            self._take_frame(stream, data[start:position])
        self._rest = data[position:]
        self.hall.status.add("bytes_in", len(data))
        self.hall.status.add("frames_in", frames)

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
