"""Histories in every database that there is, for tests that hold for all of them."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from engine.history.destination import Destination
from engine.history.history import History
from engine.history.kept import MONGODB, POSTGRES, SQLITE, Kept
from engine.history.verify import verify_history
from engine.plan import Plan
from tests.kept import plan_of
from tests.mongo import MongoServer
from tests.postgres import PostgresServer


class Store(Protocol):
    """Where the history of a plan lies."""

    kept: Kept
    section: str
    """What turns it on in a configuration."""

    def ask(self, plan: Plan, statement: str) -> list[tuple[Any, ...]]:
        """Execute a statement; return all rows."""
        ...

    def remove(self, plan: Plan) -> None:
        """Remove the history of a plan."""
        ...


class SqliteStore:
    """A file of the data directory."""

    kept = SQLITE
    section = "[history]\nsqlite = true\n"

    def ask(self, plan: Plan, statement: str) -> list[tuple[Any, ...]]:
        """Execute a statement; return all rows."""
        connection = sqlite3.connect(plan.history_path)
        found = connection.execute(statement).fetchall()
        connection.commit()
        connection.close()
        return found

    def remove(self, plan: Plan) -> None:
        """Remove the file."""
        for suffix in ("", "-wal", "-shm"):
            Path(f"{plan.history_path}{suffix}").unlink(missing_ok=True)


class PostgresStore:
    """A database of a server."""

    kept = POSTGRES

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server, self.name = server, name
        self.database = server.database(name)
        self.section = (
            f'[database]\nenabled = true\nhost = "127.0.0.1"\nport = {server.port}\n'
            f'name = "{name}"\nuser = "shardbook"\nssl_mode = "disable"\n'
        )

    def ask(self, plan: Plan, statement: str) -> list[tuple[Any, ...]]:
        """Execute a statement; return all rows."""
        return self.server.ask(self.name, statement)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Have those who serve its connections answer nothing for a while, and not go away."""
        serving = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        pids = [
            pid for (pid,) in self.server.ask(self.name, f"{serving} AND pid <> pg_backend_pid()")
        ]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def remove(self, plan: Plan) -> None:
        """Drop its schema."""
        self.server.ask(self.name, "DROP SCHEMA IF EXISTS shardbook CASCADE")


class MongoStore:
    """A database of a server of MongoDB's protocol."""

    kept = MONGODB

    def __init__(self, server: MongoServer, name: str) -> None:
        self.server, self.name = server, name
        self.section = f'[mongodb]\nenabled = true\nuri = "{server.uri}"\nname = "{name}"\n'

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Give the database, as any client has it."""
        import pymongo

        with pymongo.MongoClient(self.server.uri, tz_aware=True) as client:
            yield client[self.name]

    def remove(self, plan: Plan) -> None:
        """Drop it."""
        with self.opened() as database:
            database.client.drop_database(self.name)


_names = iter(range(1 << 30))


KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.servers)]
WITH_TIMESCALE = [*KINDS, pytest.param("timescale", marks=pytest.mark.servers)]


@pytest.fixture(params=WITH_TIMESCALE)
def store(request: pytest.FixtureRequest) -> Store:
    """A place for one history; the test runs once for each kind of database."""
    if request.param == "sqlite":
        return SqliteStore()
    if request.param == "timescale":
        made = PostgresStore(request.getfixturevalue("timescale_server"), f"history_{next(_names)}")
        made.server.ask(made.name, "CREATE EXTENSION timescaledb")
        return made
    return request.getfixturevalue("postgres_store")  # type: ignore[no-any-return]


@pytest.fixture
def postgres_store(postgres_server: PostgresServer) -> PostgresStore:
    """A database of its own."""
    return PostgresStore(postgres_server, f"history_{next(_names)}")


@pytest.fixture
def mongo_store(mongo_server: MongoServer) -> MongoStore:
    """A database of its own."""
    return MongoStore(mongo_server, f"history_{next(_names)}")


@pytest.fixture(scope="module", params=KINDS)
def shared_store(request: pytest.FixtureRequest) -> Store:
    """A place for one history that the tests of a module share, for each kind of database."""
    if request.param == "sqlite":
        return SqliteStore()
    server = request.getfixturevalue("postgres_server")
    return PostgresStore(server, f"history_{next(_names)}")


def planned(
    directory: Path, store: Store, extra: str = "", symbols: int = 2, engine: str = ""
) -> Plan:
    """Return the plan of a product of one shard with that history."""
    section = store.section
    if "[history]" in extra and "[history]" in section:  # it must not stand there twice
        extra, section = extra.replace("[history]\n", section), ""
    return plan_of(directory, f"{extra}{section}", symbols, engine)


def destination(plan: Plan, store: Store) -> Destination:
    """Open the history of a plan to write."""
    return store.kept.destination(plan)


def reader(plan: Plan, store: Store, timeout_s: float = 5.0) -> History:
    """Return what reads the history of a plan."""
    return store.kept.reader(plan, timeout_s)


def verified(plan: Plan, store: Store) -> list[str]:
    """Hold the history against its sources; return what was said."""
    history = reader(plan, store)
    verdict = verify_history(plan, history, plan.data_dir / "verified")
    history.close()
    assert not verdict.problems, verdict.lines
    return verdict.lines


def problems(plan: Plan, store: Store) -> list[str]:
    """Return what is wrong with the history."""
    history = reader(plan, store)
    lines = verify_history(plan, history, plan.data_dir / "verified").lines
    history.close()
    return [line for line in lines if "PROBLEM" in line]
