"""Reading a history in PostgreSQL, while it is written or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine.history.destination import HistoryError
from engine.history.postgres_link import Link, connected, executing, judged, where
from engine.history.postgres_schema import check_schema, version_of
from engine.history.sql_reader import Ask, SqlHistory, Timed
from engine.sections import DatabaseSection
from ipc.arrays import Integers

_SETTINGS = {
    "default_transaction_read_only": "on",
    "jit": "off",  # it takes longer than what these questions take
    "random_page_cost": "1.1",  # else a symbol's rows are picked out of all by reading all
}


class PostgresHistory(SqlHistory):
    """One reader of a database. A question that takes longer than ``timeout_s`` ends as
    ``AwayError``.

    See ``History``.
    """

    source = "postgres"
    listed = "unnest(?::bigint[]) WITH ORDINALITY AS j(value, key)"
    pieces = "user_trade_ids"
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ"

    def __init__(self, database: DatabaseSection, timeout_s: float = 5.0) -> None:
        self._database, self._timeout_s = database, timeout_s
        self._where = where(database)
        self._connection: Link | None = None
        self._limited = False

    @property
    def where(self) -> str:
        """The database, without its password."""
        return self._where

    def begun(self) -> bool:
        """Return whether there are tables. Raises ``AwayError`` and ``HistoryError``."""
        with judged(self._where), connected(self._database, "shardbook", self._timeout_s) as found:
            return version_of(executing(found)) > 0

    def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _first_at(self, ask: Ask, table: Timed, low: int, high: int, time_ns: int) -> int:
        """Have the server search: each step from here would be a way there and back."""
        [(first,)] = ask(f"SELECT {table.name}_since(?, ?, ?)", low, high, time_ns)
        return int(first)

    def _list(self, numbers: list[int]) -> list[int]:
        return numbers

    def _ids(self, piece: Any) -> Integers:
        return np.array(piece, np.int64)

    @contextmanager
    def _asking(self, *, limited: bool = True) -> Iterator[Ask]:
        """Give what executes a statement; a connection that fails is opened anew the next time."""
        try:
            with judged(self._where):
                connection = self._connection or self._open()
                self._connection = connection
                execute = executing(connection)
                if limited != self._limited:
                    limit_ms = max(1, int(self._timeout_s * 1_000)) if limited else 0
                    execute(f"SET statement_timeout = {limit_ms}")
                    connection.longest_s = 2 * self._timeout_s if limited else None
                    self._limited = limited
                yield lambda text, *values: list(execute(text, *values))
        except BaseException:
            self.close()
            raise

    def _open(self) -> Link:
        connection = connected(self._database, "shardbook reader", self._timeout_s, **_SETTINGS)
        self._limited = False
        try:
            check_schema(executing(connection))
        except HistoryError as error:
            connection.close()
            raise type(error)(f"{self._where}: {error}") from None
        except BaseException:
            connection.close()
            raise
        return connection
