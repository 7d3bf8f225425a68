"""Connections to PostgreSQL, and what its errors mean.

The password is no part of the configuration, so that no file, page or message of the product can
show it: it comes from DATABASE_PASSWORD, or from where libpq looks (PGPASSWORD, ~/.pgpass).
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import psycopg
from psycopg import Connection, errors
from psycopg.abc import PQGen

from engine.history.destination import AwayError, HistoryError
from engine.history.postgres_schema import SCHEMA
from engine.printable import printable
from engine.sections import DatabaseSection

PASSWORD = "DATABASE_PASSWORD"
RV = TypeVar("RV")
_LOOK_S = 0.1
"""How often a wait looks whether it is to end."""
_SILENT_MS = 10_000
"""Within this the other machine's kernel answers what was sent, or the link counts as cut."""
_SETTINGS = {
    "search_path": SCHEMA,
    "TimeZone": "UTC",
    "synchronous_commit": "on",  # the journal is let go of once rows are committed
    # A machine that is gone does not keep the lock for hours.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_PASSES = (
    psycopg.InterfaceError,  # the connection is closed
    errors.QueryCanceled,  # it takes too long
    errors.TransactionRollback,
    errors.ReadOnlySqlTransaction,  # a standby
    errors.LockNotAvailable,
    errors.DiskFull,
)
"""What may pass, beside what psycopg calls operational: gone, starting, full, refusing."""


class Link(Connection[tuple[Any, ...]]):
    """A connection that waits for an answer no longer than ``longest_s``; None: for ever."""

    longest_s: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = _LOOK_S, timeout: float | None = None) -> RV:
        """Return what comes; end the connection where nothing does in time."""
        if timeout is not None or self.longest_s is None:
            return super().wait(gen, interval, timeout)
        deadline_s = time.monotonic() + self.longest_s
        try:
            return super().wait(gen, interval, self.longest_s)
        except psycopg.OperationalError:
            if time.monotonic() < deadline_s:
                raise
            self.pgconn.finish()  # else to roll back would wait as long
            text = f"does not answer within {self.longest_s:g} s"
            raise psycopg.OperationalError(text) from None


@contextmanager
def judged(where: str) -> Iterator[None]:
    """Turn what psycopg raises into an error that names the database."""
    try:
        yield
    except psycopg.Error as error:
        away = isinstance(error, (psycopg.OperationalError, *_PASSES))
        kind = AwayError if away else HistoryError
        raise kind(f"{where}: {_text(error)}") from None


def _text(error: psycopg.Error) -> str:
    """Return an error in one line, without what the server adds to it."""
    text = error.diag.message_primary or str(error) or type(error).__name__
    return printable(" ".join(text.split()))


def where(database: DatabaseSection) -> str:
    """Return a database as messages name it."""
    return f"postgresql://{database.user}@{database.host}:{database.port}/{database.name}"


def connected(database: DatabaseSection, name: str, timeout_s: float, **settings: str) -> Link:
    """Return a connection, each of whose statements is a transaction unless told otherwise.

    ``name`` is what the server calls it, ``settings`` are the server's for it. Raises
    ``psycopg.Error``.
    """
    options = " ".join(f"-c {key}={value}" for key, value in (_SETTINGS | settings).items())
    return Link.connect(
        host=database.host,
        port=database.port,
        dbname=database.name,
        user=database.user,
        password=os.environ.get(PASSWORD) or None,
        sslmode=database.ssl_mode,
        connect_timeout=max(1, round(timeout_s)),
        tcp_user_timeout=_SILENT_MS,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        application_name=name,
        options=options,
        autocommit=True,
    )


def executing(connection: Link) -> Callable[..., Sequence[Any]]:
    """Return what executes a statement, ``?`` or ``%s`` for its values, and returns all rows."""

    def execute(text: str, *values: object) -> Sequence[Any]:
        cursor = connection.execute(_marked(text).encode(), values or None)
        return cursor.fetchall() if cursor.description is not None else ()

    return execute


@lru_cache(1_024)
def _marked(text: str) -> str:
    return text.replace("?", "%s")
