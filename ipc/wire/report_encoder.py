"""REPORT records to frames in compiled code, without a Python object a report.

A MessagePack message whose integers all have full width has a constant layout, so a report is a
fixed number of bytes and a reject a copy of its rule's text with the numbers filled in. Any
MessagePack decoder reads them; ``ipc.wire.messages`` defines what they mean.
"""

from typing import Any

import msgspec
import numpy as np

from ipc.arrays import Bytes, Integers, Records, Words
from ipc.bounds import MAX_TEXT
from ipc.codes import EXEC_TYPE_MASS_CANCELED, EXEC_TYPE_REJECTED, FLAG_AGGREGATE
from ipc.native.compiled import called, compiled, inlined
from ipc.native.keyed_kernel import home_of
from ipc.native.unaligned import store_u32
from ipc.native.views import array_at
from ipc.vocabulary import RULES, Reason
from ipc.wire.field_codec import put_mass_cancel, put_reject, put_report
from ipc.wire.messages import Report

_HEADER = 8
_FRONTEND_BIT = np.uint64(1 << 31)
_NONE = np.uint64(0)
_REPORT_ITEMS = len(Report.__struct_fields__) + 1

_REJECT_HEAD = 1 + 1 + 1 + 3 + 9 + 9 + 9
"""Bytes of a reject before its code: array, tag, command_type, symbol, three ids."""


def _reject_texts() -> tuple[Bytes, Integers]:
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

MAX_FRAME = (
    _HEADER
    + max(3 + _REPORT_ITEMS * 9, _REJECT_HEAD + len(REJECT_TEXTS) // len(REJECT_LENGTHS) + 27)
    + 2
    + MAX_TEXT
    - 9
)
"""Bytes of the longest frame that one report can become."""


@called
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
    out: Bytes, end: int, report: Any, stream: Any, texts: Bytes, lengths: Integers, name: Bytes
) -> int:
    """Write the frame of a report at ``end``; return where the next one goes.

    ``name``: the text that its client_order_id stands for; empty where there is none.
    """
    start = end + _HEADER
    if report.exec_type == EXEC_TYPE_REJECTED:
        stop = put_reject(out, start, report, texts, lengths, name)
    elif report.exec_type == EXEC_TYPE_MASS_CANCELED:
        stop = put_mass_cancel(out, start, report)
        if report.flags & FLAG_AGGREGATE:
            stream = stream | _FRONTEND_BIT
    else:
        stop = put_report(out, start, report, name)
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
    lengths: Integers,
    out: Bytes,
) -> int:
    """Write the frames of the reports whose account has a stream; return how many bytes.

    ``out`` must have room for ``len(reports) * MAX_FRAME``.
    """
    end = 0
    no_name = array_at(_NONE, 0, np.uint8)
    for index in range(len(reports)):
        report = reports[index]
        stream = stream_of(report.account, factor, keys, streams)
        if stream != np.uint64(0):
            end = put_frame(out, end, report, stream, texts, lengths, no_name)
    return end
