"""Who is in: every connection of a process counts from accept on, before its TLS handshake too.

At order entry a connection is a stranger's until it has logged in; over HTTP, where keys are needed
or TLS, until the handshake is done and a key was shown. Strangers have a bound of their own, below
that of all, so that they cannot take every place; and ``login_timeout_s`` from accept for handshake
and login together. No address has more than its share.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from typing import NamedTuple

from engine.sections import FrontendSection, HttpSection
from ipc.links.sockets import Address, is_loopback
from ipc.memory.status import StatusWriter

ACCEPTS_A_TURN = 4
"""Connections that are accepted in a turn of the event loop."""
RETRY_S = 0.1
NEVER_S = 86_400.0


class CrowdedError(Exception):
    """There is no place for a connection; the text says which bound is met."""


class Limits(NamedTuple):
    """How many connections of each kind, and for how long strangers may stay such; 0: no bound."""

    connections: int
    strangers: int
    per_address: int
    login_timeout_s: float

    @classmethod
    def of(cls, settings: FrontendSection | HttpSection) -> "Limits":
        """Return those of a configuration."""
        if isinstance(settings, HttpSection):
            most = settings.max_connections
        else:
            most = settings.max_sessions
        return cls(
            most,
            settings.max_not_logged_in,
            settings.max_connections_per_address,
            settings.login_timeout_s,
        )


class Place:
    """That of one connection, from accept until it is lost.

    ``end`` is called when a stranger's time is over, and returns whether that ends it; what is
    still there at the next look is ended by ``abort``.
    """

    __slots__ = ("_door", "abort", "end", "host", "since_s", "strange", "told", "whose")

    def __init__(self, door: "Door", host: str, since_s: float) -> None:
        self._door = door
        self.host = host
        self.since_s = since_s
        self.strange = True
        self.told = False
        self.whose: Hashable = host or id(self)
        """Whose turn it is when something is done for it: see ``frontend.gateway.turns``."""
        self.end: Callable[[], bool] | None = None
        self.abort: Callable[[], object] | None = None

    def show(self, user_id: str = "") -> None:
        """Be no stranger's any more, but that of a user: of each by itself, where none is known."""
        if self.strange:
            self.whose = user_id or id(self)
            self.strange = False
            self._door.strangers -= 1

    def leave(self) -> None:
        """Be free again."""
        self._door.leave(self)


class Door:
    """The places of a worker."""

    def __init__(self, limits: Limits, status: StatusWriter, refused: str) -> None:
        """Count under the name ``refused`` those for whom there is no place."""
        self.limits = limits
        self.strangers = 0
        self._status = status
        self._refused_as = refused
        self._places: set[Place] = set()
        self._of_host: Counter[str] = Counter()

    def enter(self, host: str, now_s: float) -> Place:
        """Return the place of a connection; without a host it is of no address.

        Raises ``CrowdedError`` where there is none for it.
        """
        limits = self.limits
        if len(self._places) >= limits.connections:
            raise self._refused(f"there are {limits.connections} connections already")
        if self.strangers >= limits.strangers:
            raise self._refused(f"there are {limits.strangers} without a login already")
        most = limits.per_address
        if most and host and self._of_host[host] >= most and not _is_near(host):
            raise self._refused(f"this address has {most} connections already")
        place = Place(self, host, now_s)
        self._places.add(place)
        self._of_host[host] += 1
        self.strangers += 1
        return place

    def leave(self, place: Place) -> None:
        """Free a place, once or several times."""
        if place in self._places:
            place.show()
            place.end = place.abort = None
            self._places.remove(place)
            self._of_host[place.host] -= 1
            if not self._of_host[place.host]:
                del self._of_host[place.host]

    def close_overdue(self, now_s: float) -> None:
        """End the connections of strangers whose time is over."""
        timeout_s = self.limits.login_timeout_s
        for place in [place for place in self._places if place.strange]:
            if timeout_s and now_s - place.since_s > timeout_s:
                if place.told:
                    if place.abort is not None:
                        place.abort()
                elif place.end is not None and place.end():
                    place.told = True
                    self._status.add("closed_login_timeout", 1)

    def _refused(self, text: str) -> CrowdedError:
        self._status.add(self._refused_as, 1)
        return CrowdedError(text)


def _is_near(host: str) -> bool:
    return is_loopback(Address(host=host))


class Entrant(asyncio.BaseProtocol):
    """What goes on with a connection, whose place it has."""

    place: Place | None = None


def handles(sock: socket.socket) -> list[socket.socket]:
    """Return a listening socket as often as connections may be accepted in a turn of the loop.

    uvloop accepts one of each: with one alone, those who come and go fill the kernel's queue, and
    who finds it full tries again only after 1, 3 and 7 seconds.
    """
    return [sock, *(sock.dup() for _ in range(ACCEPTS_A_TURN - 1))]


async def accept(
    sock: socket.socket, door: Door, context: ssl.SSLContext, make: Callable[[], Entrant]
) -> None:
    """Accept connections until cancelled: each has a place from then on, then does its handshake.

    The listening socket is closed at the end, and so are connections in their handshake.
    """
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    handshakes: set[asyncio.Task[bool]] = set()
    try:
        while True:
            try:
                arrived = [await loop.sock_accept(sock)]
            except OSError:  # of a connection that is gone again, or for want of descriptors
                await asyncio.sleep(RETRY_S)
                continue
            with contextlib.suppress(OSError):
                while len(arrived) < ACCEPTS_A_TURN:
                    arrived.append(sock.accept())
            for accepted, peer in arrived:
                accepted.setblocking(False)
                try:
                    place = door.enter(peer[0], loop.time())
                except CrowdedError:  # before a handshake nothing can be said
                    accepted.close()
                    continue
                task = loop.create_task(_shake_hands(accepted, place, context, make))
                place.end = place.abort = task.cancel
                handshakes.add(task)
                task.add_done_callback(handshakes.discard)
                task.add_done_callback(partial(_leave_if_not_in, accepted, place))
    finally:
        sock.close()
        for task in handshakes:
            task.cancel()


async def _shake_hands(
    sock: socket.socket, place: Place, context: ssl.SSLContext, make: Callable[[], Entrant]
) -> bool:
    """Return whether the handshake is done; that it ends in time is the door's."""
    entrant = make()
    entrant.place = place
    try:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: entrant, sock, ssl=context, ssl_handshake_timeout=NEVER_S
        )
    except OSError:
        return False
    return True


def _leave_if_not_in(sock: socket.socket, place: Place, handshake: asyncio.Task[bool]) -> None:
    """End a connection without a handshake, also one whose handshake was ended before it began."""
    if handshake.cancelled() or not handshake.result():
        sock.close()
        place.leave()
