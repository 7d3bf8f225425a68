"""Connections to MongoDB, and what its errors mean.

The password is no part of the configuration, so that no file, page or message of the product can
show it: it comes from MONGODB_PASSWORD.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient, errors

from engine.history.destination import AwayError, HistoryError
from engine.printable import printable
from engine.sections import MongodbSection

Document = dict[str, Any]
PASSWORD = "MONGODB_PASSWORD"
_PASSES = (
    errors.ConnectionFailure,
    errors.ExecutionTimeout,
    errors.WTimeoutError,
    errors.NetworkTimeout,
    errors.CursorNotFound,
    errors.InvalidOperation,  # the client was closed
)
"""What may pass: gone, starting, no longer the primary, slow."""
_PASSING_CODES = frozenset({11, 13, 18, 89, 91, 112, 262, 11600, 11602, 14031})
"""Codes of the server that may pass: credentials refused, shutting down, its disk full."""
DUPLICATE = 11_000


@contextmanager
def judged(where: str) -> Iterator[None]:
    """Turn what pymongo raises into an error that names the database."""
    try:
        yield
    except errors.PyMongoError as error:
        away = isinstance(error, _PASSES) or (
            isinstance(error, errors.OperationFailure) and error.code in _PASSING_CODES
        )
        kind = AwayError if away else HistoryError
        raise kind(f"{where}: {_text(error)}") from None


def _text(error: errors.PyMongoError) -> str:
    """Return an error in one line, without what the driver adds of its own state."""
    text = str(error) or type(error).__name__
    return printable(" ".join(text.split(", Timeout:")[0].split(", full error")[0].split()))


def where(section: MongodbSection) -> str:
    """Return a database as messages name it."""
    return f"{section.uri.rstrip('/')}/{section.name}"


def connected(section: MongodbSection, name: str, timeout_s: float) -> "MongoClient[Document]":
    """Return a client; it connects when it is first used, each operation within the timeout.

    Raises ``pymongo.errors.PyMongoError``.
    """
    access: Document = {}
    if section.user:
        access = {"username": section.user, "password": os.environ.get(PASSWORD, "")}
    timeout_ms = max(1, round(timeout_s * 1_000))
    return MongoClient(
        section.uri,
        appname=name,
        serverSelectionTimeoutMS=timeout_ms,
        connectTimeoutMS=timeout_ms,
        timeoutMS=timeout_ms,
        retryWrites=False,  # who writes knows better what is repeated
        maxPoolSize=2,
        tz_aware=True,
        w="majority",
        journal=True,
        **access,
    )
