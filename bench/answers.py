"""Counts what comes back, in compiled code over the receive buffer: no Python object a report.

A command's first answer is a ``Report`` with its request_id that says new, replaced or cancelled
(a cancellation that a NEW causes comes after its first answer), a ``Reject``, or a
``MassCancelReport``. Reports have a fixed layout (``ipc.wire.report_encoder``); the others are read
as MessagePack.
"""

from typing import NamedTuple

import numpy as np

from ipc.arrays import Bytes, Integers
from ipc.codes import (
    COMMAND_TYPE_NEW,
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_NEW,
    EXEC_TYPE_REPLACED,
    EXEC_TYPE_TRADE,
)
from ipc.native.compiled import compiled
from ipc.native.unaligned import load_u32
from ipc.wire.messages import MassCancelReport, Reject, Report, tag_of
from ipc.wire.packing import read_uint

REPORT_BYTES = 144
"""A Report's frame."""

ANSWERS, ID_SUM, REPORTS, FILLS, REJECTS = range(5)
"""Places in the counts: first answers, their request ids added up, reports, fills, rejects."""
COUNTS = 5

_HEADER = 8
_TAG, _EXEC_TYPE, _COMMAND_TYPE, _REQUEST_ID = 11, 12, 14, 28  # places in a Report's frame
_REPORT, _REJECT, _MASS_CANCEL = tag_of(Report), tag_of(Reject), tag_of(MassCancelReport)


class UnexpectedFrameError(RuntimeError):
    """A frame that answers no command; the text has its beginning."""


class Counts(NamedTuple):
    """What one client has been answered; see the places above."""

    answers: int
    id_sum: int
    reports: int
    fills: int
    rejects: int


@compiled
def count_frames(
    data: Bytes, end: int, counts: Integers, answered_ns: Integers, now_ns: int
) -> tuple[int, bool]:
    """Count the whole frames of ``data[:end]``; return where the rest begins, and if all is well.

    ``answered_ns[request_id]`` becomes ``now_ns`` at each first answer that it has a place for.
    """
    position = 0
    while end - position >= _HEADER:
        size = _HEADER + int(load_u32(data, position))
        if position + size > end:
            break
        request_id = np.int64(0)
        if size == REPORT_BYTES and data[position + _TAG] == _REPORT:
            counts[REPORTS] += 1
            exec_type = data[position + _EXEC_TYPE]
            if exec_type == EXEC_TYPE_TRADE:
                counts[FILLS] += 1
            elif exec_type in (EXEC_TYPE_NEW, EXEC_TYPE_REPLACED) or (
                exec_type == EXEC_TYPE_CANCELED
                and data[position + _COMMAND_TYPE] != COMMAND_TYPE_NEW
            ):
                for place in range(position + _REQUEST_ID, position + _REQUEST_ID + 8):
                    request_id = request_id << np.int64(8) | np.int64(data[place])
        else:
            tag = int(data[position + _HEADER + 1])
            if tag == _REJECT:
                counts[REJECTS] += 1
                _, at = read_uint(data, position + _HEADER + 2, position + size)  # command_type
                _, at = read_uint(data, at, position + size)
            elif tag == _MASS_CANCEL:
                _, at = read_uint(data, position + _HEADER + 2, position + size)
            else:
                return position, False
            number, _ = read_uint(data, at, position + size)
            request_id = np.int64(number)
        if request_id:
            counts[ANSWERS] += 1
            counts[ID_SUM] += request_id
            if request_id < len(answered_ns):
                answered_ns[request_id] = now_ns
        position += size
    return position, True
