"""Connections to PostgreSQL, and what its errors mean.

The password is no part of the configuration, so that no file, page or message of the product can
show it: it comes from DATABASE_PASSWORD, or from where libpq looks (PGPASSWORD, ~/.pgpass).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import Connection, errors

from engine.config import DatabaseSection
from engine.history.destination import AwayError, HistoryError
from engine.history.postgres_schema import SCHEMA
from engine.printable import printable

PASSWORD = "DATABASE_PASSWORD"
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


def connected(
    database: DatabaseSection, name: str, timeout_s: float, **settings: str
) -> "Connection[tuple[Any, ...]]":
    """Return a connection, each of whose statements is a transaction unless told otherwise.

    ``name`` is what the server calls it, ``settings`` are the server's for it. Raises
    ``psycopg.Error``.
    """
    options = " ".join(f"-c {key}={value}" for key, value in (_SETTINGS | settings).items())
    return psycopg.connect(
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


def executing(connection: "Connection[tuple[Any, ...]]") -> Callable[..., Sequence[Any]]:
    """Return what executes a statement, ``?`` or ``%s`` for its values, and returns all rows."""

    def execute(text: str, *values: object) -> Sequence[Any]:
        cursor = connection.execute(_marked(text).encode(), values or None)
        return cursor.fetchall() if cursor.description is not None else ()

    return execute


@lru_cache(1_024)
def _marked(text: str) -> str:
    return text.replace("?", "%s")
