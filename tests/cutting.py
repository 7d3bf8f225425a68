"""A way to a server that cuts a connection at the worst moment: when what was asked is done there,
and the answer is still to come."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Cutter:
    """A proxy to a port on loopback; ``cut`` is cleared once it has cut a connection."""

    def __init__(self, port: int, mark: bytes) -> None:
        """``mark``: what a client sends that is done, but not answered."""
        self._target, self._mark = port, mark
        self.cut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            marked = threading.Event()
            for work in (self._ask, self._answer):
                threading.Thread(target=work, args=(client, server, marked), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, marked: threading.Event) -> None:
        while data := _received(client):
            if self.cut.is_set() and self._mark in data:
                marked.set()
            server.sendall(data)
        _end(server)

    def _answer(
        self, client: socket.socket, server: socket.socket, marked: threading.Event
    ) -> None:
        while data := _received(server):
            if marked.is_set():
                self.cut.clear()
                _end(client)
                return
            client.sendall(data)
        _end(client)

    def close(self) -> None:
        """Take no connection any more."""
        self._listener.close()


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 16)
    except OSError:
        return b""


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def cutting(port: int, mark: bytes) -> Iterator[Cutter]:
    """Have a proxy in a block."""
    cutter = Cutter(port, mark)
    try:
        yield cutter
    finally:
        cutter.close()
