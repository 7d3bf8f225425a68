"""The bytes of a blocking client: one stream socket, with TLS or without, and a deadline."""

import os
import select
import socket
import ssl
import time

from ipc.links.sockets import PEER_TIMEOUT_S, Address, connect, notice_vanished

RECEIVE_BYTES = 1 << 18
TLS_PIECE_BYTES = 1 << 16
"""TLS tells of nothing that was sent before all of a piece was."""
_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a socket says that cannot do it now."""


class Wire:
    """One connection. Whatever fails is an OSError; the wire is of no use any more then."""

    def __init__(
        self,
        address: Address,
        timeout_s: float,
        tls: ssl.SSLContext | None,
        peer_timeout_s: int = 0,
    ) -> None:
        """Connect. ``tls``: verify the engine by this context, and speak TLS; on TCP only.

        ``peer_timeout_s``: within which it fails where the engine vanishes; 0: ``PEER_TIMEOUT_S``.
        """
        self._tls = tls is not None and bool(address.host)
        self._piece_bytes = TLS_PIECE_BYTES if self._tls else 1 << 30
        self.unsent = memoryview(b"")
        """What was enqueued and not sent yet."""
        self._socket = connect(address, timeout_s)
        try:
            notice_vanished(self._socket, peer_timeout_s or PEER_TIMEOUT_S)
            if tls is not None and self._tls:
                self._socket = tls.wrap_socket(self._socket, server_hostname=address.host)
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise
        self._failure = 0
        """Why the connection has ended, as the system says, which tells it once."""
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def enqueue(self, frames: bytes) -> None:
        """Put bytes behind those that were not sent yet."""
        self.unsent = memoryview(bytes(self.unsent) + frames if self.unsent else frames)

    def write(self) -> None:
        """Send as much as goes without waiting."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self._socket.send(self.unsent[: self._piece_bytes]) :]
        except _LATER:
            pass
        except OSError:
            # The engine has closed, and may have said why: that is still to be read.
            self.unsent = memoryview(b"")

    def wait(self, deadline: float | None) -> bool:
        """Wait until something can be read or sent, or the deadline; return whether to read."""
        self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if self.unsent else 0))
        wait_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = self._poll.poll(wait_ms)
        if any(events & select.POLLERR for _, events in ready):
            # TLS would make of it that the engine has closed.
            self._failure = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return any(events & ~select.POLLOUT for _, events in ready)

    def read(self) -> bytes | None:
        """Return what has come, None where there is nothing yet; empty: the engine has closed."""
        count = 0
        try:
            while count < RECEIVE_BYTES:
                more = self._socket.recv_into(self._buffer[count:])
                count += more
                if not more or not self._tls:  # TLS gives its records one by one
                    break
            if not count and self._failure:
                raise OSError(self._failure, os.strerror(self._failure))
        except _LATER:
            if not count:
                return None
        return bytes(self._buffer[:count])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def deadline_in(timeout_s: float | None) -> float | None:
    """Return the deadline so long from now, as ``Wire.wait`` takes it."""
    return None if timeout_s is None else time.monotonic() + timeout_s


def is_over(deadline: float | None) -> bool:
    """Return whether a deadline has passed."""
    return deadline is not None and time.monotonic() >= deadline
