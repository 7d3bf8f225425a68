"""Addresses and stream sockets: ``unix:PATH`` and ``tcp:HOST:PORT``."""

import contextlib
import ipaddress
import os
import socket
from pathlib import Path
from typing import NamedTuple

from ipc.decimals import is_whole

BACKLOG = 1024
"""Connections that may wait to be accepted; a Unix socket fails those beyond at once."""
BUFFER_BYTES = 1 << 20
"""Of a socket's kernel buffers, each way, as far as the machine allows."""
MAX_PORT = 65_535
MAX_PATH_BYTES = 107
"""Of a Unix socket, without the byte that ends it: what the kernel takes."""


PEER_TIMEOUT_S = 20
"""Within which it is noticed that the other end of a TCP connection has vanished, by default."""


class AddressError(ValueError):
    """An address that cannot be one; the text says what is allowed."""


class Address(NamedTuple):
    """Where a stream socket listens: a Unix ``path``, or else ``host`` and ``port``."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"tcp:{self.place}"

    @property
    def place(self) -> str:
        """Host and port as a URL has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read ``unix:PATH``, a path with a slash, ``tcp:HOST:PORT`` or ``HOST:PORT``.

    Raises ``AddressError``.
    """
    if text.startswith("unix:") or "/" in text:
        path = text.removeprefix("unix:")
        if not path:
            raise AddressError(f"address {text!r}: the path is missing")
        try:
            check_path(path)
        except AddressError as error:
            raise AddressError(f"address {text!r}: {error}") from None
        return Address(path=path)
    host, _, port = text.removeprefix("tcp:").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not is_whole(port) or int(port) > MAX_PORT:
        raise AddressError(f"address {text!r}: must be unix:PATH or tcp:HOST:PORT")
    return Address(host=host, port=int(port))


def check_path(path: str | Path) -> None:
    """Verify that a Unix socket may have a path. Raises ``AddressError``, which is the rule."""
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        raise AddressError(
            f"the path of a Unix socket must have at most {MAX_PATH_BYTES} bytes, and has {size}"
        )
    if "\0" in str(path):
        raise AddressError("the path of a Unix socket must not have a zero byte")


def is_loopback(address: Address) -> bool:
    """Return whether only this machine reaches an address."""
    if address.path or address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False


def connect(address: Address, timeout_s: float | None = None) -> socket.socket:
    """Return a connected stream socket. Raises OSError."""
    if address.path:
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plain.settimeout(timeout_s)
        try:
            plain.connect(address.path)
        except BaseException:
            plain.close()
            raise
        return plain
    stream = socket.create_connection((address.host, address.port), timeout_s)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def notice_vanished(sock: socket.socket, within_s: int) -> None:
    """Let the kernel end a TCP connection whose other end has vanished without a word.

    It probes a silent one (from half the time on), and waits for what was sent to be taken, for
    ``within_s`` (1 to 3,600); an end is seen at most twice as late, where something was sent
    meanwhile. What a listening socket is told holds for the connections that it accepts. Of no
    effect on Unix sockets: their ends do not vanish.
    """
    if sock.family == socket.AF_UNIX:
        return
    idle_s, interval_s = max(1, within_s // 2), max(1, within_s // 6)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, idle_s),
        (socket.TCP_KEEPINTVL, interval_s),
        (socket.TCP_KEEPCNT, max(1, (within_s - idle_s) // interval_s)),
        (socket.TCP_USER_TIMEOUT, within_s * 1000),  # the kernel does not probe while data waits
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def widen(sock: socket.socket) -> None:
    """Let the kernel take a batch's bytes at once: fewer system calls at full load."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)


def listen(address: Address, shared: bool = False) -> socket.socket:
    """Return a listening, non-blocking socket; a Unix path left by a dead process is replaced.

    With ``shared`` several processes of this user may listen on a TCP port: the kernel deals
    connections. Raises OSError.

    The caller holds the lock of the data directory, so that nobody living listens on that path.
    """
    if address.path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address.path)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.bind(address.path)
            Path(address.path).chmod(0o600)
        except BaseException:
            server.close()
            raise
    else:
        server = _bound(address, shared)
    try:
        server.listen(BACKLOG)
    except OSError:
        server.close()
        raise
    server.setblocking(False)
    return server


def reserve(address: Address) -> socket.socket:
    """Return a socket that keeps a TCP port for this user's processes, which share it.

    It does not listen, so no connection comes to it. Port 0: any that is free. Raises OSError.
    """
    return _bound(address, shared=True)


def _bound(address: Address, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind((address.host, address.port))
    except BaseException:
        server.close()
        raise
    return server
