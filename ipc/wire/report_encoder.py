"""REPORT records to frames in compiled code, without a Python object a report.

A MessagePack message whose integers all have full width has a constant layout, so a report is a
fixed number of bytes and a reject a copy of its rule's text with the numbers filled in. Any
MessagePack decoder reads them; ``ipc.wire.messages`` defines what they mean.
"""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ipc.native.compiled import compiled, inlined
from ipc.native.keyed_kernel import home_of
from ipc.native.unaligned import (
    copy_bytes,
    store_big_u16,
    store_big_u64,
    store_u8,
    store_u32,
    store_u64,
)
from ipc.vocabulary import RULES, ExecType, Flag, Reason
from ipc.wire.messages import MassCancelReport, Reject, Report, tag_of

Records = npt.NDArray[np.void]
Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Lengths = npt.NDArray[np.int64]

_HEADER = 8
_REJECTED, _MASS_CANCELED = int(ExecType.REJECTED), int(ExecType.MASS_CANCELED)
_AGGREGATE = int(Flag.AGGREGATE)
_FRONTEND_BIT = np.uint64(1 << 31)
_UINT16, _UINT64 = 0xCD, 0xCF
_ARRAY16, _FIXARRAY = 0xDC, 0x90

_REPORT_TAG = tag_of(Report)
_REPORT_ITEMS = len(Report.__struct_fields__) + 1
_MASS_CANCEL_TAG = tag_of(MassCancelReport)
_MASS_CANCEL_ITEMS = len(MassCancelReport.__struct_fields__) + 1
_REPORT_HEAD = np.uint64(_ARRAY16 | _REPORT_ITEMS << 16 | _REPORT_TAG << 24 | _UINT16 << 56)
"""Array of so many items, the tag, a place for three codes, and that a two-byte integer comes."""
_REJECT_TAG = tag_of(Reject)
_REJECT_ITEMS = len(Reject.__struct_fields__) + 1

REPORT_EXEC_TYPE_AT, REPORT_REASON_AT = 4, 15
"""Where these codes stand in the body of a ``Report`` that is written here."""

_REJECT_HEAD = 1 + 1 + 1 + 3 + 9 + 9 + 9
"""Bytes of a reject before its code: array, tag, command_type, symbol, three ids."""


def _reject_texts() -> tuple[Bytes, Lengths]:
    """Return, in equal parts by reason, the bytes from ``code`` to ``text``, and their lengths."""
    encode = msgspec.msgpack.encode
    texts = {
        int(reason): b"".join(map(encode, (int(reason), reason.name, rule.field, rule.text)))
        for reason, rule in RULES.items()
    }
    longest = max(map(len, texts.values()))
    table = np.zeros((max(Reason) + 1, longest), np.uint8)
    lengths = np.zeros(max(Reason) + 1, np.int64)
    for reason, text in texts.items():
        table[reason, : len(text)] = np.frombuffer(text, np.uint8)
        lengths[reason] = len(text)
    return table.reshape(-1), lengths


REJECT_TEXTS, REJECT_LENGTHS = _reject_texts()

STREAM_TABLE = np.dtype([(name, "<u8") for name in ("keys", "streams", "slots", "factor")])
"""Where the accounts of a connection and their streams are, how many slots they have, and the
secret that places are keyed with."""

MAX_FRAME = _HEADER + max(
    3 + _REPORT_ITEMS * 9, _REJECT_HEAD + len(REJECT_TEXTS) // len(REJECT_LENGTHS) + 27
)
"""Bytes of the longest frame that one report can become."""


@inlined
def put_u64(out: Bytes, at: int, value: Any) -> int:
    """Write a full-width integer; return where the next byte goes."""
    store_u8(out, at, _UINT64)
    store_big_u64(out, at + 1, value)
    return at + 9


@inlined
def put_u16(out: Bytes, at: int, value: Any) -> int:
    """Write a two-byte integer; return where the next byte goes."""
    store_u8(out, at, _UINT16)
    store_big_u16(out, at + 1, value)
    return at + 3


@inlined
def byte(value: Any, place: int) -> Any:
    """Return a byte in its place of a little-endian word."""
    return np.uint64(value) << np.uint64(8 * place)


@inlined
def put_report(out: Bytes, at: int, report: Any) -> int:
    """Write the body of a ``Report``; the codes are all below 128, so one byte each.

    The sixteen bytes before the first long integer are put together in two words.
    """
    symbol = np.uint64(report.symbol)
    store_u64(
        out,
        at,
        _REPORT_HEAD
        | byte(report.exec_type, 4)
        | byte(report.ord_status, 5)
        | byte(report.command_type, 6),
    )
    store_u64(
        out,
        at + 8,
        symbol >> np.uint64(8)
        | byte(symbol & np.uint64(0xFF), 1)
        | byte(report.side, 2)
        | byte(report.order_type, 3)
        | byte(report.time_in_force, 4)
        | byte(report.flags, 5)
        | byte(report.liquidity, 6)
        | byte(report.reason, 7),
    )
    at = put_u64(out, at + 16, report.request_id)
    at = put_u64(out, at, report.order_id)
    at = put_u64(out, at, report.client_order_id)
    at = put_u64(out, at, report.price)
    at = put_u64(out, at, report.quantity)
    at = put_u64(out, at, report.cum_qty)
    at = put_u64(out, at, report.leaves_qty)
    at = put_u64(out, at, report.last_price)
    at = put_u64(out, at, report.last_qty)
    at = put_u64(out, at, report.trade_id)
    at = put_u64(out, at, report.timestamp_ns)
    at = put_u64(out, at, report.sequence)
    return put_u64(out, at, report.account_sequence)


@inlined
def put_reject(out: Bytes, at: int, report: Any, texts: Bytes, lengths: Lengths) -> int:
    """Write the body of a ``Reject``."""
    store_u8(out, at, _FIXARRAY | _REJECT_ITEMS)
    store_u8(out, at + 1, _REJECT_TAG)
    store_u8(out, at + 2, report.command_type & 0x7F)
    at = put_u16(out, at + 3, report.symbol)
    at = put_u64(out, at, report.request_id)
    at = put_u64(out, at, report.order_id)
    at = put_u64(out, at, report.client_order_id)
    reason = report.reason
    length = lengths[reason]
    copy_bytes(out, at, texts, reason * (len(texts) // len(lengths)), length)
    at = put_u64(out, at + length, report.timestamp_ns)
    at = put_u64(out, at, report.sequence)
    return put_u64(out, at, report.account_sequence)


@compiled
def put_mass_cancel(out: Bytes, at: int, report: Any) -> int:
    """Write the body of a ``MassCancelReport``."""
    store_u8(out, at, _FIXARRAY | _MASS_CANCEL_ITEMS)
    store_u8(out, at + 1, _MASS_CANCEL_TAG)
    at = put_u16(out, at + 2, report.symbol)
    at = put_u64(out, at, report.request_id)
    at = put_u64(out, at, report.quantity)
    at = put_u64(out, at, report.timestamp_ns)
    at = put_u64(out, at, report.sequence)
    return put_u64(out, at, report.account_sequence)


@compiled
def stream_of(account: Any, factor: Any, keys: Words, streams: Words) -> Any:
    """Return the stream of an account in an open-addressed table, 0 where it has none."""
    mask = np.uint64(len(keys) - 1)
    slot = home_of(account, factor, len(keys))
    while keys[slot] != np.uint64(0):
        if keys[slot] == account:
            return streams[slot]
        slot = (slot + np.uint64(1)) & mask
    return np.uint64(0)


@inlined
def put_frame(
    out: Bytes, end: int, report: Any, stream: Any, texts: Bytes, lengths: Lengths
) -> int:
    """Write the frame of a report at ``end``; return where the next one goes."""
    start = end + _HEADER
    if report.exec_type == _REJECTED:
        stop = put_reject(out, start, report, texts, lengths)
    elif report.exec_type == _MASS_CANCELED:
        stop = put_mass_cancel(out, start, report)
        if report.flags & _AGGREGATE:
            stream = stream | _FRONTEND_BIT
    else:
        stop = put_report(out, start, report)
    store_u32(out, end, stop - start)
    store_u32(out, end + 4, stream)
    return stop


@compiled
def encode_reports(
    reports: Records,
    factor: Any,
    keys: Words,
    streams: Words,
    texts: Bytes,
    lengths: Lengths,
    out: Bytes,
) -> int:
    """Write the frames of the reports whose account has a stream; return how many bytes.

    ``out`` must have room for ``len(reports) * MAX_FRAME``.
    """
    end = 0
    for index in range(len(reports)):
        report = reports[index]
        stream = stream_of(report.account, factor, keys, streams)
        if stream != np.uint64(0):
            end = put_frame(out, end, report, stream, texts, lengths)
    return end
