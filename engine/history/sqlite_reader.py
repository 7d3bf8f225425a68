"""Reading a history in an SQLite file, while it is written or not."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engine.history.destination import AwayError
from engine.history.sql_reader import Ask, SqlHistory
from engine.history.sqlite import check_schema, judged
from ipc.arrays import Integers

_STEPS = 10_000
"""Of SQLite's machine, between two looks at the clock: far below a millisecond."""


class SqliteHistory(SqlHistory):
    """One reader of a file. A question that takes longer than ``timeout_s`` ends as ``AwayError``.

    See ``History``.
    """

    source = "sqlite"
    listed = "json_each(?) j"
    pieces = "user_trades"
    begin = "BEGIN"

    def __init__(self, path: Path, timeout_s: float = 5.0) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._until_s = 0.0
        self._connection: sqlite3.Connection | None = None

    @property
    def where(self) -> str:
        """The file."""
        return str(self.path)

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _list(self, numbers: list[int]) -> str:
        return str(numbers)

    def _ids(self, piece: Any) -> Integers:
        return np.frombuffer(piece, "<i8")

    @contextmanager
    def _asking(self, *, limited: bool = True) -> Iterator[Ask]:
        """Give what executes a statement; a file that fails is opened anew the next time."""
        try:
            with judged(self.path):
                connection = self._connection or self._open()
                self._connection = connection
                self._until_s = time.monotonic() + self._timeout_s
                connection.set_progress_handler(self._is_late if limited else None, _STEPS)
                yield lambda text, *values: connection.execute(text, values).fetchall()
        except Exception as error:
            self.close()
            if "interrupted" in str(error):
                late = f"{self.path}: the answer takes longer than {self._timeout_s:g} s"
                raise AwayError(late) from None
            raise

    def _is_late(self) -> bool:
        return time.monotonic() > self._until_s

    def _open(self) -> sqlite3.Connection:
        if not self.path.is_file():
            raise AwayError(f"{self.path}: is not there")
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=self._timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            check_schema(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection
