"""Frames from an engine to REPORT records in compiled code, for the answers that are plain.

Plain is a ``Report``, ``Reject`` or ``MassCancelReport`` of unsigned integers of any width and
ASCII texts, as every engine writes them. All other frames are left to msgspec, one by one.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ipc.native.compiled import compiled
from ipc.native.unaligned import load_big_u64, load_u32
from ipc.records import SEQUENCE_BITS
from ipc.vocabulary import CommandType, ExecType, OrdStatus
from ipc.wire.messages import MassCancelReport, Reject, Report, tag_of

Records = npt.NDArray[np.void]
Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

DONE = 0
"""``read_answers`` stopped: no further frame is whole."""
ODD = 1
"""``read_answers`` stopped: the next frame is for msgspec, or its header announces too much."""
FULL = 2
"""``read_answers`` stopped: ``others`` is full."""

_HEADER = 8
_NONE = np.uint64(0)
_SEQUENCE_BITS = np.uint64(SEQUENCE_BITS)
_ARRAY16, _FIXARRAY = 0xDC, 0x90
_FIXINT_END, _UINT8, _UINT64 = 0x80, 0xCC, 0xCF
_FIXSTR, _STR8, _STR16 = 0xA0, 0xD9, 0xDA

_REPORT, _REPORT_ITEMS = tag_of(Report), len(Report.__struct_fields__) + 1
_REJECT, _REJECT_ITEMS = tag_of(Reject), len(Reject.__struct_fields__) + 1
_MASS_CANCEL, _MASS_CANCEL_ITEMS = (
    tag_of(MassCancelReport),
    len(MassCancelReport.__struct_fields__) + 1,
)
_REJECTED, _STATUS_REJECTED = int(ExecType.REJECTED), int(OrdStatus.REJECTED)
_MASS_CANCELED, _TRADE = int(ExecType.MASS_CANCELED), int(ExecType.TRADE)
_MASS_CANCEL_COMMAND = int(CommandType.MASS_CANCEL)


@compiled
def read_word(data: Bytes, at: int, stop: int) -> tuple[Any, int]:
    """Return ``(value, next position)`` of an unsigned integer; ``stop + 1`` where there is none.

    A position beyond ``stop`` stays there, so that a row of integers is checked once, at its end.
    """
    if at >= stop:
        return _NONE, stop + 1
    lead = data[at]
    if lead == _UINT64 and at + 9 <= stop:
        return load_big_u64(data, at + 1), at + 9
    if lead < _FIXINT_END:
        return np.uint64(lead), at + 1
    if lead < _UINT8 or lead >= _UINT64:
        return _NONE, stop + 1
    after = at + 1 + int(np.int64(1) << (np.int64(lead) - _UINT8))
    if after > stop:
        return _NONE, stop + 1
    value = _NONE
    for place in range(at + 1, after):
        value = value << np.uint64(8) | np.uint64(data[place])
    return value, after


@compiled
def read_code(data: Bytes, at: int, stop: int, most: int) -> tuple[Any, int]:
    """Return an integer of at most ``most`` as ``read_word`` does."""
    value, at = read_word(data, at, stop)
    if value > np.uint64(most):
        return _NONE, stop + 1
    return value, at


@compiled
def skip_text(data: Bytes, at: int, stop: int) -> int:
    """Return the position after an ASCII text; ``stop + 1`` where there is none."""
    if at >= stop:
        return stop + 1
    lead = int(np.int64(data[at]))
    if lead & 0xE0 == _FIXSTR:
        start, length = at + 1, lead & 0x1F
    elif lead == _STR8 and at + 2 <= stop:
        start, length = at + 2, int(np.int64(data[at + 1]))
    elif lead == _STR16 and at + 3 <= stop:
        start, length = at + 3, int(np.int64(data[at + 1]) << 8 | np.int64(data[at + 2]))
    else:
        return stop + 1
    if start + length > stop:
        return stop + 1
    high = np.uint8(0)
    for place in range(start, start + length):
        high |= data[place]
    return int(start + length) if high < 0x80 else stop + 1


@compiled
def read_report(data: Bytes, at: int, stop: int, report: Any) -> int:
    """Fill ``report`` from the fields of a ``Report``; return where they end."""
    report.exec_type, at = read_code(data, at, stop, 255)
    report.ord_status, at = read_code(data, at, stop, 255)
    report.command_type, at = read_code(data, at, stop, 255)
    report.symbol, at = read_code(data, at, stop, 65_535)
    report.side, at = read_code(data, at, stop, 255)
    report.order_type, at = read_code(data, at, stop, 255)
    report.time_in_force, at = read_code(data, at, stop, 255)
    report.flags, at = read_code(data, at, stop, 255)
    report.liquidity, at = read_code(data, at, stop, 255)
    report.reason, at = read_code(data, at, stop, 65_535)
    report.request_id, at = read_word(data, at, stop)
    report.order_id, at = read_word(data, at, stop)
    report.client_order_id, at = read_word(data, at, stop)
    report.price, at = read_word(data, at, stop)
    report.quantity, at = read_word(data, at, stop)
    report.cum_qty, at = read_word(data, at, stop)
    report.leaves_qty, at = read_word(data, at, stop)
    report.last_price, at = read_word(data, at, stop)
    report.last_qty, at = read_word(data, at, stop)
    report.trade_id, at = read_word(data, at, stop)
    report.timestamp_ns, at = read_word(data, at, stop)
    report.sequence, at = read_word(data, at, stop)
    report.account_sequence, at = read_word(data, at, stop)
    return at


@compiled
def clear_order(report: Any) -> None:
    """Empty the fields that only a ``Report`` fills."""
    report.side = report.order_type = report.time_in_force = report.flags = report.liquidity = 0
    report.order_id = report.client_order_id = report.price = report.quantity = _NONE
    report.cum_qty = report.leaves_qty = report.last_price = report.last_qty = _NONE
    report.trade_id = _NONE


@compiled
def read_reject(data: Bytes, at: int, stop: int, report: Any) -> int:
    """Fill ``report`` from the fields of a ``Reject``; return where they end."""
    clear_order(report)
    report.exec_type, report.ord_status = _REJECTED, _STATUS_REJECTED
    report.command_type, at = read_code(data, at, stop, 255)
    report.symbol, at = read_code(data, at, stop, 65_535)
    report.request_id, at = read_word(data, at, stop)
    report.order_id, at = read_word(data, at, stop)
    report.client_order_id, at = read_word(data, at, stop)
    report.reason, at = read_code(data, at, stop, 65_535)
    for _ in range(3):
        at = skip_text(data, at, stop)
    report.timestamp_ns, at = read_word(data, at, stop)
    report.sequence, at = read_word(data, at, stop)
    report.account_sequence, at = read_word(data, at, stop)
    return at


@compiled
def read_mass_cancel(data: Bytes, at: int, stop: int, report: Any) -> int:
    """Fill ``report`` from the fields of a ``MassCancelReport``; return where they end."""
    clear_order(report)
    report.exec_type, report.ord_status, report.reason = _MASS_CANCELED, 0, 0
    report.command_type = _MASS_CANCEL_COMMAND
    report.symbol, at = read_code(data, at, stop, 65_535)
    report.request_id, at = read_word(data, at, stop)
    report.quantity, at = read_word(data, at, stop)
    report.timestamp_ns, at = read_word(data, at, stop)
    report.sequence, at = read_word(data, at, stop)
    report.account_sequence, at = read_word(data, at, stop)
    return at


@compiled
def read_answer(data: Bytes, start: int, stop: int, report: Any) -> int:
    """Fill all but the account of ``report`` from the body ``data[start:stop]``.

    Returns the tag of what it is, 0 where it is not plain, or not whole, or something follows.
    """
    at = start + 3
    if stop < at:
        return 0
    if data[start] == _ARRAY16:
        items = np.int64(data[start + 1]) << 8 | np.int64(data[start + 2])
    elif data[start] & 0xF0 == _FIXARRAY:
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
            asked and report.request_id != _NONE and report.exec_type != _TRADE
        ):
            return position, ODD, answered, others_count
        else:
            others_count += 1
        if number != _NONE:
            wanted[shard] = number + np.uint64(1)
        position = stop
    return position, DONE, answered, others_count
