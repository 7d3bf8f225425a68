"""Which histories a product keeps, and how each of them is opened.

Client libraries are imported when theirs is opened: they are extras.
"""

from collections.abc import Callable
from typing import NamedTuple

from engine.history.destination import Destination, HistoryError
from engine.history.sql_reader import SqlHistory
from engine.history.sqlite import NAME, SqliteDestination
from engine.history.sqlite_reader import SqliteHistory
from engine.plan import Plan

DEFAULT_TIMEOUT_S = 5.0


class Kept(NamedTuple):
    """One kind of history."""

    name: str
    """What people call it."""
    hold: str
    """Of the holds that its exporter has."""
    enabled: Callable[[Plan], bool]
    """Whether a product's configuration asks for it."""
    there: Callable[[Plan], bool]
    """Whether one is known to have been begun here."""
    destination: Callable[[Plan], Destination]
    """Open it to write. Raises ``AwayError`` and ``HistoryError``."""
    reader: Callable[[Plan, float], SqlHistory]
    """Make what reads it, given how long (s) a question may take. Raises ``HistoryError``."""


def _sqlite(plan: Plan) -> Destination:
    return SqliteDestination(plan.history_path, events=plan.config.history.events)


def _sqlite_reader(plan: Plan, timeout_s: float) -> SqlHistory:
    return SqliteHistory(plan.history_path, timeout_s)


def _postgres(plan: Plan) -> Destination:
    try:
        from engine.history.postgres import PostgresDestination
    except ImportError as error:
        raise HistoryError(_missing(error)) from None
    return PostgresDestination(plan.config.database, events=plan.config.history.events)


def _postgres_reader(plan: Plan, timeout_s: float) -> SqlHistory:
    try:
        from engine.history.postgres_reader import PostgresHistory
    except ImportError as error:
        raise HistoryError(_missing(error)) from None
    return PostgresHistory(plan.config.database, timeout_s)


def migrate_database(plan: Plan) -> list[int]:
    """Take the database to this product's tables; return the versions that it went through.

    Raises ``AwayError`` and ``HistoryError``.
    """
    try:
        from engine.history.postgres import migrated
    except ImportError as error:
        raise HistoryError(_missing(error)) from None
    return migrated(plan.config.database)


def _missing(error: ImportError) -> str:
    return f"PostgreSQL needs more to be installed: pip install 'shardbook[postgres]' ({error})"


SQLITE = Kept(
    "sqlite",
    NAME,
    lambda plan: plan.config.history.sqlite,
    lambda plan: plan.history_path.exists(),
    _sqlite,
    _sqlite_reader,
)
POSTGRES = Kept(
    "postgres",
    "history-postgres",
    lambda plan: plan.config.database.enabled,
    lambda plan: plan.config.database.enabled,
    _postgres,
    _postgres_reader,
)
HISTORIES = (SQLITE, POSTGRES)
"""Every kind, the nearest first: the order in which they are asked."""


def kept_by(plan: Plan) -> list[Kept]:
    """Return the histories that a product's configuration asks for."""
    return [kept for kept in HISTORIES if kept.enabled(plan)]
