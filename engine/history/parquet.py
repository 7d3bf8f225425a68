"""Rows in Parquet files, by pyarrow: columns of 64-bit integers, sorted by symbol and id.

pyarrow is an extra; whoever needs it and lacks it is told how to get it.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from engine.books.contract import Records
from engine.history.destination import AwayError, HistoryError

GROUP_ROWS = 16_384
"""Of a row group: what is read at least to find one row."""
Condition = tuple[str, str, Any]
"""Of a column: its name, how it is compared (``=``, ``<``, ``>=``, ``in``), and with what."""


def pyarrow_parquet() -> ModuleType:
    """Return ``pyarrow.parquet``. Raises ``HistoryError`` where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise HistoryError(
            f"Parquet files need more to be installed: pip install 'shardbook[parquet]' ({error})"
        ) from None
    module: ModuleType = pyarrow.parquet
    return module


def write_rows(path: Path, rows: Records, sort: Sequence[str]) -> None:
    """Write rows (a dtype of 64-bit integers) to a file, sorted; it is whole and on the disk then.

    Raises ``AwayError`` and ``HistoryError``.
    """
    parquet = pyarrow_parquet()
    import pyarrow

    rows = rows[np.lexsort([rows[name] for name in reversed(sort)])]
    names = list(rows.dtype.names or ())
    columns = [pyarrow.array(np.ascontiguousarray(rows[name])) for name in names]
    aside = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        with aside.open("wb") as file:
            parquet.write_table(
                pyarrow.table(columns, names=names),
                file,
                row_group_size=GROUP_ROWS,
                compression="zstd",
            )
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise AwayError(f"{path}: {error.strerror or error}") from None


def read_rows(path: Path, dtype: np.dtype[np.void], conditions: Sequence[Condition]) -> Records:
    """Return the rows of a file that meet every condition, in the file's order.

    A column that the file is too old for is 0. Raises ``AwayError`` and ``HistoryError``.
    """
    parquet = pyarrow_parquet()
    import pyarrow

    try:
        table = parquet.read_table(path, filters=list(conditions) or None, use_threads=False)
    except FileNotFoundError:
        raise HistoryError(f"{path}: is missing; what it had is not here any more") from None
    except (pyarrow.ArrowException, OSError) as error:
        kind = AwayError if isinstance(error, OSError) and error.errno else HistoryError
        raise kind(f"{path}: {' '.join(str(error).split())}") from None
    rows = np.zeros(table.num_rows, dtype)
    for name in dtype.names or ():
        if name in table.column_names:
            rows[name] = table.column(name).to_numpy()
    return rows
