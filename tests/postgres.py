"""A real PostgreSQL for tests: the newest that is installed, with a cluster of its own; and one
with TimescaleDB, in a folder that root unpacks and runs it in (``.ci/servers``).

Where SHARDBOOK_POSTGRES names the programs of another (a ``bin`` directory), that one is used.
Without any, tests that need it skip.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.sections import DatabaseSection

TIMESCALE = Path("/opt/shardbook-timescale")
WAIT_S = 60
LOCKED = "locked"
"""A user who needs a password; there is none of that name yet."""


def programs() -> Path | None:
    """Return where the programs of a server are."""
    named = os.environ.get("SHARDBOOK_POSTGRES")
    if named:
        return Path(named)
    found = newest(Path("/"))
    path = shutil.which("postgres")
    return found or (Path(path).parent if path else None)


def newest(root: Path) -> Path | None:
    """Return where the programs of the newest server of a Debian lie."""
    found = (root / "usr/lib/postgresql").glob("*/bin/postgres")
    return max((path.parent for path in found), key=lambda p: int(p.parts[-2]), default=None)


class PostgresServer:
    """One server on loopback; started by root it runs as the user postgres."""

    def __init__(
        self, directory: Path, bin_dir: Path, root: Path | None = None, more: str = ""
    ) -> None:
        """``root``: the folder that is all the server sees; ``more``: of its settings."""
        self._programs, self.directory = bin_dir, directory
        self._root, self._more = root, more
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        self.data = directory / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        how = ("-U", "shardbook", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self._run("initdb", "-D", self._seen(self.data), *how)
        access = self.data / "pg_hba.conf"
        access.write_text(f"host all {LOCKED} 127.0.0.1/32 scram-sha-256\n{access.read_text()}")
        self.start()

    def start(self) -> None:
        """Start it, where it does not run, and wait until it answers."""
        if (self.data / "postmaster.pid").exists() and _runs(self.pid):
            return
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= "
            f"-c shared_buffers=32MB {self._more}"
        )
        log = self._seen(self.directory / "log")
        self._control("-l", log, "-w", "-t", WAIT_S, "-o", options, "start")

    def stop(self) -> None:
        """Stop it in order; it may be down."""
        self._control("-m", "fast", "-w", "-t", WAIT_S, "stop", check=False)

    def kill(self) -> None:
        """Kill it with all its processes, as a loss of power would, but for what the disk has."""
        os.kill(self.pid, signal.SIGQUIT)
        self._control("-w", "-t", WAIT_S, "stop", check=False)

    @property
    def pid(self) -> int:
        """The process number of the server."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def database(self, name: str) -> DatabaseSection:
        """Return how a database is reached, made where it is not there."""
        if not self.ask("postgres", f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
            self.ask("postgres", f"CREATE DATABASE {name}")
        return DatabaseSection(True, "127.0.0.1", self.port, name, "shardbook", "disable")

    def ask(self, database: str, statement: str) -> list[tuple[Any, ...]]:
        """Execute one statement in a database; return all rows."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=database,
            user="shardbook",
            autocommit=True,
            options="-c search_path=shardbook,public -c TimeZone=UTC",
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def _control(self, *arguments: object, check: bool = True) -> None:
        self._run("pg_ctl", "-D", self._seen(self.data), *arguments, check=check)

    def _seen(self, path: Path) -> Path:
        """Return a path as the server sees it."""
        return path if self._root is None else Path("/") / path.relative_to(self._root)

    def _run(self, program: str, *arguments: object, check: bool = True) -> None:
        command = [str(self._seen(self._programs / program)), *map(str, arguments)]
        if self._root is not None:
            owner = pwd.getpwnam("postgres")
            user = f"--userspec={owner.pw_uid}:{owner.pw_gid}"
            command = ["chroot", user, str(self._root), *command]
        done = subprocess.run(
            command,
            cwd="/",
            user=None if self._root else self._user,
            extra_groups=[] if self._user and not self._root else None,
            env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a server would hold a pipe open
            check=False,
        )
        assert done.returncode == 0 or not check, f"{program} {arguments}: {done.returncode}"


def _runs(pid: int) -> bool:
    """Return whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server that the tests of a worker share; skips where none is installed."""
    bin_dir = programs()
    if bin_dir is None:
        pytest.skip("no PostgreSQL server is installed here")
    pytest.importorskip("psycopg")
    directory = Path(tempfile.mkdtemp(prefix="sb-postgres-"))
    with _running(PostgresServer(directory, bin_dir)) as server:
        yield server


@pytest.fixture(scope="session")
def timescale_server() -> Iterator[PostgresServer]:
    """A server with TimescaleDB that the tests of a worker share; skips where there is none."""
    bin_dir = newest(TIMESCALE)
    if bin_dir is None or os.geteuid():
        pytest.skip(f"no TimescaleDB in {TIMESCALE}, or this is not root")
    pytest.importorskip("psycopg")
    directory = Path(tempfile.mkdtemp(prefix="sb-", dir=TIMESCALE / "tmp"))
    more = (
        "-c shared_preload_libraries=timescaledb -c timescaledb.telemetry_level=off "
        "-c dynamic_shared_memory_type=mmap"
    )
    with _running(PostgresServer(directory, bin_dir, TIMESCALE, more)) as server:
        yield server


@contextmanager
def _running(server: PostgresServer) -> Iterator[PostgresServer]:
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.directory)
