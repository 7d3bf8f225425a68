"""Frames to COMMAND records in compiled code, for the messages that are plain.

Plain is what every client library writes: a short array of unsigned integers of any width,
booleans, and nil where a replace leaves something out. Whatever else MessagePack can say (and
whatever is wrong) is left to msgspec, frame by frame, so that there is one definition of the wire:
a message means the same by either way.
"""

from typing import Any

import numpy as np

from ipc.arrays import Bytes, Records, Words
from ipc.codes import COMMAND_TYPE_MASS_CANCEL, FLAG_AGGREGATE
from ipc.native.compiled import called, compiled
from ipc.native.unaligned import load_u32
from ipc.native.views import array_at
from ipc.records import COMMAND
from ipc.wire.field_codec import read_command

DONE = 0
"""``scan`` stopped: no further frame is whole."""
ODD = 1
"""``scan`` stopped: the next frame is whole, and for msgspec."""
FULL = 2
"""``scan`` stopped: ``commands`` is full."""

RECEIVED = np.dtype(
    [(name, "<u8") for name in ("position", "end", "buffer", "size", "accounts", "streams")]
)
"""Where a connection's bytes are, which of them wait to be read, and the account of each stream."""


_HEADER = 8
_AGGREGATE_BIT = np.uint64(1 << 31)
_STREAM_MASK = np.uint64((1 << 31) - 1)
_NONE = np.uint64(0)


@called
def scan(
    data: Bytes,
    position: Any,
    end: Any,
    accounts: Words,
    timestamp_ns: Any,
    commands: Records,
    count: int,
) -> tuple[int, int, int]:
    """Read whole frames of ``data[position:end]`` into ``commands`` from ``count`` on.

    ``accounts`` holds the account of each stream, 0 for none. Returns ``(position, count, why)``,
    with the position of the first frame that was not read, and why: DONE, ODD or FULL.
    """
    while end - position >= _HEADER:
        length = load_u32(data, position)
        if length > np.uint64(end - position - _HEADER):
            break
        if count >= len(commands):
            return position, count, FULL
        stop = position + _HEADER + int(length)
        word = load_u32(data, position + 4)
        stream = word & _STREAM_MASK
        if stream >= np.uint64(len(accounts)) or accounts[int(stream)] == _NONE:
            return position, count, ODD
        command = commands[count]
        if not read_command(data, position + _HEADER, stop, command):
            return position, count, ODD
        if word & _AGGREGATE_BIT:
            if command.command_type != COMMAND_TYPE_MASS_CANCEL:
                return position, count, ODD
            command.flags = FLAG_AGGREGATE
        command.account = accounts[int(stream)]
        command.timestamp_ns = timestamp_ns
        count += 1
        position = stop
    return position, count, DONE


@compiled
def scan_received(address: Any, commands: Records, count: int, timestamp_ns: int) -> Any:
    """Do what ``scan`` does with the bytes that the RECEIVED record at ``address`` names.

    It gets the new position. Returns the count, shifted by two bits, and why.
    """
    record = array_at(np.uint64(address), 1, RECEIVED)[0]
    position, count, why = scan(
        array_at(record.buffer, np.int64(record.size), np.uint8),
        np.int64(record.position),
        np.int64(record.end),
        array_at(record.accounts, np.int64(record.streams), np.uint64),
        np.uint64(timestamp_ns),
        commands,
        count,
    )
    record.position = np.uint64(position)
    return count << 2 | why


def empty_commands(capacity: int) -> Records:
    """Return zeroed COMMAND records for ``scan`` to fill."""
    return np.zeros(capacity, COMMAND)
