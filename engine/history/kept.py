"""Which histories a product keeps, and how each of them is opened.

Client libraries are imported when theirs is opened: they are extras.
"""

from collections.abc import Callable
from typing import NamedTuple

from engine.history.archive import DAY_NS, Bounds
from engine.history.destination import Destination, HistoryError
from engine.history.history import History
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
    reader: Callable[[Plan, float], History]
    """Make what reads it, given how long (s) a question may take. Raises ``HistoryError``."""


def _sqlite(plan: Plan) -> Destination:
    history = plan.config.history
    bounds = Bounds(history.keep_days * DAY_NS, history.max_bytes, history.cleanup_interval_s)
    return SqliteDestination(
        plan.history_path, events=history.events, bounds=bounds if history.cleanup else None
    )


def _sqlite_reader(plan: Plan, timeout_s: float) -> History:
    return SqliteHistory(plan.history_path, timeout_s)


def _postgres(plan: Plan) -> Destination:
    try:
        from engine.history.postgres import PostgresDestination
    except ImportError as error:
        raise HistoryError(_missing(error)) from None
    return PostgresDestination(plan.config.database, events=plan.config.history.events)


def _postgres_reader(plan: Plan, timeout_s: float) -> History:
    try:
        from engine.history.postgres_reader import PostgresHistory
    except ImportError as error:
        raise HistoryError(_missing(error)) from None
    return PostgresHistory(plan.config.database, timeout_s)


def _mongodb(plan: Plan) -> Destination:
    try:
        from engine.history.mongo import MongoDestination
    except ImportError as error:
        raise HistoryError(_missing(error, "MongoDB", "mongodb")) from None
    return MongoDestination(plan.config.mongodb, events=plan.config.history.events)


def _mongodb_reader(plan: Plan, timeout_s: float) -> History:
    try:
        from engine.history.mongo_reader import MongoHistory
    except ImportError as error:
        raise HistoryError(_missing(error, "MongoDB", "mongodb")) from None
    return MongoHistory(plan.config.mongodb, timeout_s)


def migrate_database(plan: Plan) -> list[int]:
    """Take the database to this product's tables; return the versions that it went through.

    Raises ``AwayError`` and ``HistoryError``.
    """
    try:
        from engine.history.postgres import migrated
    except ImportError as error:
        raise HistoryError(_missing(error)) from None
    return migrated(plan.config.database)


def _missing(error: ImportError, name: str = "PostgreSQL", extra: str = "postgres") -> str:
    return f"{name} needs more to be installed: pip install 'shardbook[{extra}]' ({error})"


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
MONGODB = Kept(
    "mongodb",
    "history-mongodb",
    lambda plan: plan.config.mongodb.enabled,
    lambda plan: plan.config.mongodb.enabled,
    _mongodb,
    _mongodb_reader,
)
HISTORIES = (SQLITE, POSTGRES, MONGODB)
"""Every kind, the nearest first: the order in which they are asked."""


def kept_by(plan: Plan) -> list[Kept]:
    """Return the histories that a product's configuration asks for."""
    return [kept for kept in HISTORIES if kept.enabled(plan)]
