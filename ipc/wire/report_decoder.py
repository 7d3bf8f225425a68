"""Frames from an engine to REPORT records in compiled code, for the answers that are plain.

Plain is a ``Report``, ``Reject`` or ``MassCancelReport`` of unsigned integers of any width and
ASCII texts, as every engine writes them. All other frames are left to msgspec, one by one.
"""

from typing import Any

import numpy as np

from ipc.arrays import Bytes, Records, Words
from ipc.codes import EXEC_TYPE_TRADE
from ipc.native.compiled import called, compiled
from ipc.native.unaligned import load_u32
from ipc.records import SEQUENCE_BITS
from ipc.wire.field_codec import read_mass_cancel, read_reject, read_report
from ipc.wire.messages import MassCancelReport, Reject, Report, tag_of
from ipc.wire.packing import ARRAY16, FIXARRAY

DONE = 0
"""``read_answers`` stopped: no further frame is whole."""
ODD = 1
"""``read_answers`` stopped: the next frame is for msgspec, or its header announces too much."""
FULL = 2
"""``read_answers`` stopped: ``others`` is full."""

_HEADER = 8
_NONE = np.uint64(0)
_SEQUENCE_BITS = np.uint64(SEQUENCE_BITS)

_REPORT, _REPORT_ITEMS = tag_of(Report), len(Report.__struct_fields__) + 1
_REJECT, _REJECT_ITEMS = tag_of(Reject), len(Reject.__struct_fields__) + 1
_MASS_CANCEL, _MASS_CANCEL_ITEMS = (
    tag_of(MassCancelReport),
    len(MassCancelReport.__struct_fields__) + 1,
)


@called
def read_answer(data: Bytes, start: int, stop: int, report: Any) -> int:
    """Fill all but the account of ``report`` from the body ``data[start:stop]``.

    Returns the tag of what it is, 0 where it is not plain, or not whole, or something follows.
    """
    at = start + 3
    if stop < at:
        return 0
    if data[start] == ARRAY16:
        items = np.int64(data[start + 1]) << 8 | np.int64(data[start + 2])
    elif data[start] & 0xF0 == FIXARRAY:
        items, at = np.int64(data[start]) & 0x0F, start + 1
    else:
        return 0
    if at >= stop:
        return 0
    tag = int(data[at])
    at += 1
    if tag == _REPORT and items == _REPORT_ITEMS:
        at = read_report(data, at, stop, report)
    elif tag == _REJECT and items == _REJECT_ITEMS:
        at = read_reject(data, at, stop, report)
    elif tag == _MASS_CANCEL and items == _MASS_CANCEL_ITEMS:
        at = read_mass_cancel(data, at, stop, report)
    else:
        return 0
    return tag if at == stop else 0


@compiled
def read_answers(
    data: Bytes,
    position: int,
    max_body: int,
    first_request_id: Any,
    answers: Records,
    others: Records,
    others_count: int,
    asked: bool,
    wanted: Words,
) -> tuple[int, int, int, int]:
    """Read whole frames of ``data`` from ``position`` on.

    The first answer to request ``first_request_id + n`` becomes ``answers[n]``, where a
    ``command_type`` of 0 says that there is none yet; any other ``Report`` is appended to
    ``others``, and any other frame is ODD. With ``asked`` a report is ODD too where it could
    answer a request that ``answers`` has no place for. ``wanted`` has the next account_sequence by
    shard, 0 where any will do; one that is out of turn is ODD as well.

    Returns the position of the first frame that was not read, why, how many answers came in, and
    how many ``others`` there are.
    """
    end = len(data)
    answered = 0
    while end - position >= _HEADER:
        length = int(load_u32(data, position))
        if length > max_body:
            return position, ODD, answered, others_count
        stop = position + _HEADER + length
        if stop > end:
            break
        if others_count == len(others):
            return position, FULL, answered, others_count
        report = others[others_count]
        tag = read_answer(data, position + _HEADER, stop, report)
        if tag == 0:
            return position, ODD, answered, others_count
        number = report.account_sequence
        shard = np.int64(number >> _SEQUENCE_BITS)
        if number != _NONE and (
            shard >= len(wanted) or (wanted[shard] != _NONE and wanted[shard] != number)
        ):
            return position, ODD, answered, others_count
        place = report.request_id - first_request_id  # far beyond the end where it is below
        if place < np.uint64(len(answers)) and answers[np.int64(place)].command_type == 0:
            answers[np.int64(place)] = report
            answered += 1
        elif tag != _REPORT or (
            asked and report.request_id != _NONE and report.exec_type != EXEC_TYPE_TRADE
        ):
            return position, ODD, answered, others_count
        else:
            others_count += 1
        if number != _NONE:
            wanted[shard] = number + np.uint64(1)
        position = stop
    return position, DONE, answered, others_count
