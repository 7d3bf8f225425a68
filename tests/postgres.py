"""A real PostgreSQL for tests: the newest that is installed, with a cluster of its own.

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
from pathlib import Path
from typing import Any

import pytest

from engine.config import DatabaseSection

WAIT_S = 60
LOCKED = "locked"
"""A user who needs a password; there is none of that name yet."""


def programs() -> Path | None:
    """Return where the programs of a server are."""
    named = os.environ.get("SHARDBOOK_POSTGRES")
    if named:
        return Path(named)
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3])
    )
    path = shutil.which("postgres")
    return found[-1].parent if found else Path(path).parent if path else None


class PostgresServer:
    """One server on loopback; started by root it runs as the user postgres."""

    def __init__(self, directory: Path) -> None:
        found = programs()
        assert found is not None
        self._programs, self.directory = found, directory
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        self.data = directory / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._run("initdb", "-D", self.data, "-U", "shardbook", "-A", "trust", "-E", "UTF8", "-N")
        access = self.data / "pg_hba.conf"
        access.write_text(f"host all {LOCKED} 127.0.0.1/32 scram-sha-256\n{access.read_text()}")
        self.start()

    def start(self) -> None:
        """Start it, where it does not run, and wait until it answers."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
            f"{self.directory} -c shared_buffers=32MB"
        )
        self._run("pg_ctl", "-D", self.data, "-l", self.directory / "log", "-w", "-t", WAIT_S,
                  "-o", options, "start")  # fmt: skip

    def stop(self) -> None:
        """Stop it in order; it may be down."""
        self._run("pg_ctl", "-D", self.data, "-m", "fast", "-w", "-t", WAIT_S, "stop", check=False)

    def kill(self) -> None:
        """Kill it with all its processes, as a loss of power would, but for what the disk has."""
        os.kill(self.pid, signal.SIGQUIT)
        self._run("pg_ctl", "-D", self.data, "-w", "-t", WAIT_S, "stop", check=False)

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

    def _run(self, program: str, *arguments: object, check: bool = True) -> None:
        done = subprocess.run(
            [str(self._programs / program), *map(str, arguments)],
            cwd="/",
            user=self._user,
            extra_groups=[] if self._user else None,
            env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a server would hold a pipe open
            check=False,
        )
        assert done.returncode == 0 or not check, f"{program} {arguments}: {done.returncode}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server that the tests of a worker share; skips where none is installed."""
    if programs() is None:
        pytest.skip("no PostgreSQL server is installed here")
    pytest.importorskip("psycopg")
    directory = Path(tempfile.mkdtemp(prefix="sb-postgres-"))
    server = PostgresServer(directory)
    yield server
    server.stop()
    shutil.rmtree(directory)
