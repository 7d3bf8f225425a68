"""Rows as PostgreSQL's COPY takes them in its binary form: made by numpy, all at once.

A row is the count of its fields, then each field's length and bytes, big-endian. Behind the header
rows follow each other, up to a count of -1.
"""

import numpy as np

from ipc.arrays import Integers

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
_BIGINT = 20
"""The number of PostgreSQL's type of 64 bits."""
_ARRAY_HEADER_BYTES = 20
_ELEMENT = np.dtype([("length", ">i4"), ("value", ">i8")])


def matrix_bytes(matrix: Integers) -> bytes:
    """Return rows of bigint columns."""
    columns = matrix.shape[1]
    rows = np.empty(len(matrix), [("count", ">i2"), ("fields", _ELEMENT, (columns,))])
    rows["count"] = columns
    rows["fields"]["length"] = 8
    rows["fields"]["value"] = matrix
    return HEADER + rows.tobytes() + TRAILER


def pieces_bytes(pieces: list[tuple[int, int, bytes]]) -> bytes:
    """Return rows of two bigints and a bigint[], given as its elements' little-endian bytes."""
    ids = np.frombuffer(b"".join(piece for _, _, piece in pieces), "<i8")
    elements = np.empty(len(ids), _ELEMENT)
    elements["length"], elements["value"] = 8, ids
    packed = elements.tobytes()
    parts, start = [HEADER], 0
    for account, last, piece in pieces:
        count = len(piece) // 8
        stop = start + count * _ELEMENT.itemsize
        array_bytes = _ARRAY_HEADER_BYTES + stop - start
        parts += [
            b"\x00\x03",
            _bigint(account),
            _bigint(last),
            array_bytes.to_bytes(4, "big"),
            np.array([1, 0, _BIGINT, count, 1], ">i4").tobytes(),  # dimensions, no NULLs, first: 1
            packed[start:stop],
        ]
        start = stop
    return b"".join([*parts, TRAILER])


def _bigint(value: int) -> bytes:
    return b"\x00\x00\x00\x08" + value.to_bytes(8, "big", signed=True)
