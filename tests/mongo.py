"""A server of MongoDB's protocol for tests, with a directory of its own.

It is no MongoDB, but SecantusDB (``.ci/servers``), a program of its own beside the product. Where
SHARDBOOK_MONGODB names another program, such as ``mongod``, that one is used. Without any, tests
that need it skip.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.sections import MongodbSection

INSTALLED = Path("/opt/shardbook-mongodb/bin/secantusd-py")
WAIT_S = 60


def program() -> Path | None:
    """Return the program of a server."""
    named = os.environ.get("SHARDBOOK_MONGODB")
    if named:
        return Path(named)
    return INSTALLED if INSTALLED.exists() else None


class MongoServer:
    """One server on loopback."""

    def __init__(self, directory: Path, path: Path) -> None:
        self._directory, self._path = directory, path
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.start()

    @property
    def uri(self) -> str:
        """Where it is reached."""
        return f"mongodb://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, where it does not run, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        data = self._directory / "data"
        data.mkdir(exist_ok=True)
        if self._path.name == "mongod":
            options = ["--bind_ip", "127.0.0.1", "--port", str(self.port), "--dbpath", str(data)]
        else:
            options = ["--host", "127.0.0.1", "--port", str(self.port)]
            options += ["--storage-path", str(data), "--log-level", "WARNING"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._path), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
            )
        until_s = time.monotonic() + WAIT_S
        while not self._answers():
            assert self._process.poll() is None, (self._directory / "log").read_text()[-2_000:]
            assert time.monotonic() < until_s, "no answer"
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it in order; it may be down."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self._end(signal.SIGKILL)

    def database(self, name: str) -> MongodbSection:
        """Return how a database is reached."""
        return MongodbSection(enabled=True, uri=self.uri, name=name)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(WAIT_S)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[MongoServer]:
    """A server that the tests of a worker share; skips where none is installed."""
    path = program()
    if path is None:
        pytest.skip("no server of MongoDB's protocol is installed here")
    pytest.importorskip("pymongo")
    directory = Path(tempfile.mkdtemp(prefix="sb-mongo-"))
    server = MongoServer(directory, path)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)
