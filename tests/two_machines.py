"""Two machines on one: network namespaces joined by a link that can be cut."""

import ctypes
import errno
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

import pytest

from tests.product import until

NOBODY = 9
"""A port where nobody listens."""
T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Namespace:
    """A network of its own, which lasts as long as this or a process in it. Raises OSError."""

    def __init__(self, address: str, peer: str) -> None:
        self.address, self.peer = address, peer
        with ThreadPoolExecutor(1) as thread:
            self.descriptor = thread.submit(self._make).result()

    @staticmethod
    def _make() -> int:
        _check(_libc.unshare(_CLONE_NEWNET))  # of this thread alone, which ends
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def start(self, function: Callable[[], T]) -> "Future[T]":
        """Call a function in a thread in here: its sockets, threads and processes are here too."""
        thread = ThreadPoolExecutor(1, initializer=self._enter)
        future = thread.submit(function)
        thread.shutdown(wait=False)
        return future

    def call(self, function: Callable[[], T]) -> T:
        """Do what ``start`` does, and wait for it."""
        return self.start(function).result()

    def _enter(self) -> None:
        _check(_libc.setns(self.descriptor, _CLONE_NEWNET))

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` in here."""
        command = ["ip", *arguments]
        self.call(lambda: subprocess.run(command, check=True, capture_output=True))

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Vanish for the length of the block: the other side gets nothing, and no word of it."""
        self.ip("link", "set", "wire", "down")
        try:
            yield
        finally:
            self.ip("link", "set", "wire", "up")
            self.await_peer()

    def await_peer(self) -> None:
        """Wait until the other side is found again: each forgets, or gives up, where it is."""
        until(lambda: self.call(self._reaches_peer))

    def _reaches_peer(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.peer, NOBODY)) in (0, errno.ECONNREFUSED)


class Machines(NamedTuple):
    """Where an engine is and where its clients are."""

    engine: Namespace
    clients: Namespace


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """Two namespaces and the link between them; skipped where they cannot be made."""
    made: list[Namespace] = []
    try:
        try:
            addresses = ("10.9.0.1", "10.9.0.2")
            made += map(Namespace, addresses, reversed(addresses))
            engine, clients = made
            there = f"/proc/{os.getpid()}/fd/{clients.descriptor}"
            peer = ("peer", "name", "wire", "netns", there)
            engine.ip("link", "add", "wire", "type", "veth", *peer)
            for side in made:
                side.ip("address", "add", f"{side.address}/24", "dev", "wire")
                side.ip("link", "set", "lo", "up")
                side.ip("link", "set", "wire", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"network namespaces cannot be made here (root and iproute2 can): {error}")
        for side in made:
            side.await_peer()
        yield Machines(engine, clients)
    finally:
        for namespace in made:
            with suppress(OSError):
                os.close(namespace.descriptor)
