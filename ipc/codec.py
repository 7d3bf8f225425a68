"""Bytes to COMMAND records and REPORT records to bytes: the matcher's two edges.

msgspec's types in ``ipc.messages`` define the wire; here they meet the fixed-size records that a
book takes and gives. What msgspec does not take is answered with a precise reject.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from ipc.frames import HEADER, frame
from ipc.messages import (
    CLIENT_COMMANDS,
    Cancel,
    MassCancel,
    MassCancelReport,
    NewOrder,
    Reduce,
    Reject,
    Replace,
    Report,
    encoder,
)
from ipc.records import COMMAND
from ipc.vocabulary import RULES, CommandType, ExecType, Flag, Reason

Records = npt.NDArray[np.void]

AGGREGATE_STREAM = 1 << 31
"""Bit of a stream: the answer is the frontend's to add up, not for the client as it is."""
MAX_STREAM = AGGREGATE_STREAM - 1

_NEW, _CANCEL = int(CommandType.NEW), int(CommandType.CANCEL)
_REPLACE, _REDUCE = int(CommandType.REPLACE), int(CommandType.REDUCE)
_MASS_CANCEL = int(CommandType.MASS_CANCEL)
_REJECTED, _MASS_CANCELED = int(ExecType.REJECTED), int(ExecType.MASS_CANCELED)
_POST_ONLY, _REINSERT = int(Flag.POST_ONLY), int(Flag.REINSERT)
_AGGREGATE = int(Flag.AGGREGATE)

CommandRow = tuple[int, ...]
"""The fields of one COMMAND, in the record's order."""


def command_row(
    message: CLIENT_COMMANDS, account: int, timestamp_ns: int, aggregate: bool = False
) -> CommandRow:
    """Return the COMMAND fields of one message, in the order of the record."""
    m = message
    if isinstance(m, NewOrder):
        head = (_NEW, m.side, m.order_type, m.time_in_force, _POST_ONLY if m.post_only else 0)
        ids = (0, m.client_order_id, m.price, m.quantity)
    elif isinstance(m, Cancel):
        head = (_CANCEL, 0, 0, 0, 0)
        ids = (m.order_id, m.client_order_id, 0, 0)
    elif isinstance(m, Replace):
        head = (_REPLACE, 0, 0, 0, _REINSERT if m.reinsert else 0)
        ids = (m.order_id, m.client_order_id, m.price, m.quantity)
    elif isinstance(m, Reduce):
        head = (_REDUCE, 0, 0, 0, 0)
        ids = (m.order_id, m.client_order_id, 0, m.quantity)
    else:
        assert isinstance(m, MassCancel)
        head = (_MASS_CANCEL, 0, 0, 0, _AGGREGATE if aggregate else 0)
        ids = (0, 0, 0, 0)
    return (*head, 0, m.symbol, m.request_id, account, *ids, timestamp_ns, 0, 0)


def command_array(rows: Iterable[CommandRow]) -> Records:
    """Return COMMAND records of rows."""
    return np.array(list(rows), COMMAND)


def report_frames(reports: Records, streams: Mapping[int, int]) -> bytes:
    """Return the frames of the reports whose account has a stream here, in order."""
    out = bytearray()
    for row in reports.tolist():
        stream = streams.get(row[12])
        if stream is not None:
            out += _report_frame(row, stream)
    return bytes(out)


def _report_frame(row: tuple[int, ...], stream: int) -> bytes:
    """Encode one REPORT row, fields in the record's order."""
    (exec_type, ord_status, command_type, side, order_type, time_in_force, flags, liquidity,
     symbol, reason, _, sequence, request_id, _, order_id, client_order_id, price, quantity,
     cum_qty, leaves_qty, last_price, last_qty, trade_id, timestamp_ns) = row  # fmt: skip
    if exec_type == _REJECTED:
        code = Reason(reason)
        rule = RULES[code]
        return frame(
            Reject(
                command_type, symbol, request_id, order_id, client_order_id,
                reason, code.name, rule.field, rule.text, timestamp_ns, sequence,
            ),
            stream,
        )  # fmt: skip
    if exec_type == _MASS_CANCELED:
        if flags & _AGGREGATE:
            stream |= AGGREGATE_STREAM
        return frame(MassCancelReport(symbol, request_id, quantity, timestamp_ns, sequence), stream)
    body = encoder.encode(
        Report(
            exec_type, ord_status, command_type, symbol, side, order_type, time_in_force, flags,
            liquidity, reason, request_id, order_id, client_order_id, price, quantity, cum_qty,
            leaves_qty, last_price, last_qty, trade_id, timestamp_ns, sequence,
        )
    )  # fmt: skip
    return HEADER.pack(len(body), stream) + body
