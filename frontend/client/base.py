"""What both clients are: how they are made, and what they know of the engine without asking it."""

import ssl
from abc import ABC, abstractmethod

from frontend.client.listings import Listings
from frontend.client.session import MAX_REPORTS, Session
from ipc.links.sockets import Address, parse_address


class BaseClient(ABC):
    """One user's connection to an engine.

    ``timeout_s`` bounds connecting and the wait for each answer. ``auto_reconnect``: a call that
    meets an ended connection connects anew, within its time, and goes on; the reports of the
    meantime come first, and tell what became of commands that were under way. Where they do not,
    and for queries, the call still raises. ``cancel_on_disconnect``: when the last session of the
    user that asked for it ends, all orders of the user are cancelled. ``api_key``: where the engine
    has keys; ``tls``: where it speaks TLS over TCP, the context to verify it by.
    ``peer_timeout_s``: within which both ends of a TCP connection notice that the other has
    vanished from the network; twice that where something was under way (0: 20 s here, at the
    engine what it has configured). ``max_reports`` and ``include_answers``: see
    ``frontend.client.session``.
    """

    def __init__(
        self,
        address: str | Address,
        user_id: str,
        timeout_s: float = 10.0,
        auto_reconnect: bool = False,
        max_reports: int = MAX_REPORTS,
        include_answers: bool = False,
        cancel_on_disconnect: bool = False,
        api_key: str = "",
        tls: ssl.SSLContext | None = None,
        peer_timeout_s: int = 0,
    ) -> None:
        self.address = parse_address(address) if isinstance(address, str) else address
        self.tls = tls
        self.timeout_s = timeout_s
        self.auto_reconnect = auto_reconnect
        self._session = Session(
            user_id, max_reports, include_answers, cancel_on_disconnect, api_key, peer_timeout_s
        )
        self._closed = False
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Make what one of the two kinds of client needs beside that."""

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether the connection has not ended as far as is known."""

    @property
    def instruments(self) -> Listings:
        """The engine's instruments, as told at login."""
        return self._session.commands.listings

    @property
    def server_version(self) -> str:
        """The engine's version, as told at login."""
        return self._session.version

    @property
    def missed_reports(self) -> int:
        """How many messages were dropped so far because nobody read them."""
        return self._session.missed_reports

    def new_request_id(self) -> int:
        """Return the request_id for a message that ``send`` sends."""
        return self._session.next_request_id()
