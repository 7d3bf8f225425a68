"""What numpy arrays hold, for types: each name once."""

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[np.void]
"""Records of one layout of ``ipc.records``, or of another that the text names."""
Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@functools.cache
def _row(size: int) -> np.dtype[np.void]:
    return np.dtype((np.void, size))


def rows_of(records: Records) -> npt.NDArray[np.void]:
    """Return records that lie without gaps as rows of bytes, in the same memory.

    numpy moves those whole; records, even of one layout, it moves field by field, ten times slower.
    """
    return records.view(_row(records.dtype.itemsize))


def copy_of(records: Records) -> Records:
    """Return a copy of records that lie without gaps."""
    return rows_of(records).copy().view(records.dtype)


def those(records: Records, wanted: npt.NDArray[np.bool_]) -> Records:
    """Return a copy of the records that are wanted."""
    return rows_of(records)[wanted].view(records.dtype)


def joined(parts: Sequence[Records]) -> Records:
    """Return the records of some parts, at least one, as one array; all are of one layout."""
    return np.concatenate([rows_of(part) for part in parts]).view(parts[0].dtype)
