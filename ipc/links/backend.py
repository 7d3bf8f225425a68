"""The listening side of the links from frontends: what matchers and query workers share.

One thread, one epoll, no callbacks: ``poll`` returns whatever has arrived on every connection,
the caller answers with ``Link.send`` and ``flush`` writes. A frontend that leaves too much unread
is not read from until it has caught up, so that its own commands cannot fill memory; beyond four
times that (others' commands can cause reports for it) it is cut off.
"""

import contextlib
import os
import select
import socket
from collections.abc import Callable
from typing import Protocol

from ipc.links.outbox import Outbox
from ipc.links.sockets import Address, listen, widen
from ipc.links.wait_strategy import WaitStrategy
from ipc.wire.matcher_codec import CommandDecoder, ReportEncoder
from ipc.wire.messages import MAX_BODY

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
READ_BYTES = 1 << 18
"""Bytes taken from one connection at a time, so that none keeps the others waiting."""
LINGER_BYTES = 1 << 10
"""Who got more at once had enough to do, and sleeps when it is done: others need the core more."""


class Link:
    """One frontend's connection to this process, and the accounts that it has opened."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.decoder = CommandDecoder(MAX_BODY)
        self.encoder = ReportEncoder()
        self.outbox = Outbox()
        self.reading = True
        self.events = _IN
        self.accounts: set[int] = set()
        self.cancel_on_disconnect: set[int] = set()
        """The accounts whose orders are cancelled when the link ends."""

    def open_stream(self, stream: int, account: int) -> None:
        """Take frames of ``stream`` as the account's, and send its reports there."""
        self.accounts.add(account)
        self.decoder.open_stream(stream, account)
        self.encoder.open_stream(stream, account)

    def close_stream(self, stream: int) -> None:
        """Send no more reports to ``stream``."""
        account = self.decoder.account_of(stream)
        self.accounts.discard(account)
        self.encoder.close_stream(account)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait to be written."""
        return len(self.outbox)

    def send(self, data: bytes | memoryview) -> None:
        """Queue bytes; ``Backend.flush`` writes them."""
        self.outbox.append(data)

    def write(self) -> None:
        """Write what the socket takes. Raises OSError when the connection is lost."""
        outbox = self.outbox
        try:
            while outbox:
                outbox.sent(self.sock.send(outbox.unsent()))
        except BlockingIOError:  # not suppressed by a context: this is run for every order
            pass


class Waker(Protocol):
    """What a backend waits on beside its sockets; see ``engine.process.Wakeup``."""

    stopping: bool

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is something to look at."""
        ...

    def wait(self, timeout_s: float | None) -> None:
        """Take note of what woke it."""
        ...


class Backend:
    """Accepts frontends on one Unix socket, and moves bytes between them and the caller.

    ``linger_ns``: see ``ipc.links.wait_strategy``. ``make_link`` makes what stands for one.
    """

    def __init__(
        self,
        address: Address,
        waker: Waker,
        max_unsent_bytes: int,
        linger_ns: int = 0,
        make_link: Callable[[socket.socket], Link] = Link,
    ) -> None:
        self.links: list[Link] = []
        self._gone: list[Link] = []
        self.cut_off = 0
        self.before_finish: Callable[[], None] = lambda: None
        """Called before a connection is closed because the other side has said its last."""
        self.listening = True
        self._address = address
        self._waker = waker
        self._make_link = make_link
        self._max_unsent_bytes = max_unsent_bytes
        self._by_descriptor: dict[int, Link] = {}
        self._epoll = select.epoll()  # what ``selectors`` adds costs as much as matching an order
        self._server = listen(address)
        self._epoll.register(self._server, _IN)
        self._epoll.register(waker.fileno(), _IN)
        self._lingering = WaitStrategy(self._epoll.poll, linger_ns)
        self._received_bytes = 0

    def poll(self, timeout_s: float | None, most_s: float | None = None) -> list[Link]:
        """Wait for bytes; return the connections whose decoders got any, the longest silent first.

        Returns early, maybe with nothing, when the waker has something to say or a link has ended.
        Without ``timeout_s`` it may linger first; then it sleeps for ``most_s`` seconds at most.
        """
        if self._gone:
            timeout_s = 0
        if timeout_s is None:
            found = self._lingering.wait(self._received_bytes <= LINGER_BYTES, most_s)
        else:
            found = self._epoll.poll(timeout_s)
        arrived = []
        self._received_bytes = 0
        for descriptor, events in found:
            link = self._by_descriptor.get(descriptor)
            if link is not None:
                if events & _OUT:
                    self._flush(link)
                readable = events & ~_OUT and link.reading
                if readable and link in self.links and self._receive(link):
                    arrived.append(link)
            elif descriptor == self._server.fileno():
                self._accept()
            else:
                self._waker.wait(0)
        return arrived

    def flush(self) -> None:
        """Write what has been queued, as far as the sockets take it."""
        for link in tuple(self.links):  # one that is lost is taken out
            if link.outbox:
                self._flush(link)

    def stop_listening(self) -> None:
        """Take no further connection; those that stand go on."""
        if self.listening:
            self.listening = False
            self._epoll.unregister(self._server)
            self._server.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._address.path)

    @property
    def sleeps(self) -> int:
        """How often ``poll`` went to sleep for want of anything to do."""
        return self._lingering.sleeps

    def take_gone(self) -> list[Link]:
        """Return the links that have ended since this was asked last."""
        gone, self._gone = self._gone, []
        return gone

    def close(self) -> None:
        """Close everything."""
        self.stop_listening()
        for link in list(self.links):
            self.drop(link)
        self._epoll.close()

    def drop(self, link: Link) -> None:
        """Close one connection."""
        self.links.remove(link)
        self._gone.append(link)
        del self._by_descriptor[link.sock.fileno()]
        self._epoll.unregister(link.sock)
        link.sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._server.accept()
            sock.setblocking(False)
            widen(sock)
            link = self._make_link(sock)
            self.links.append(link)
            self._by_descriptor[sock.fileno()] = link
            self._epoll.register(sock, _IN)

    def _receive(self, link: Link) -> int:
        """Take what has come; return how many bytes."""
        try:
            count = link.sock.recv_into(link.decoder.room(READ_BYTES))
        except BlockingIOError:
            return 0
        except OSError:
            count = 0
        if not count:
            self._finish(link)
        link.decoder.received(count)
        self._received_bytes += count
        return count

    def _finish(self, link: Link) -> None:
        """A frontend has said its last: send it what is left, waiting for it, and close."""
        self.before_finish()
        with contextlib.suppress(OSError):
            link.sock.settimeout(5)
            link.write()
        self.drop(link)

    def _flush(self, link: Link) -> None:
        try:
            link.write()
        except OSError:
            self.drop(link)
            return
        if link.events == _IN and not link.outbox:
            return
        if link.unsent_bytes > 4 * self._max_unsent_bytes:
            self.cut_off += 1
            self.drop(link)
            return
        link.reading = link.unsent_bytes <= self._max_unsent_bytes
        events = _IN if link.reading else 0
        if link.unsent_bytes:
            events |= _OUT
        if events != link.events:
            link.events = events
            self._epoll.modify(link.sock, events)
