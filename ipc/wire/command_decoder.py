"""Frames to COMMAND records in compiled code, for the messages that are plain.

Plain is what every client library writes: a short array of unsigned integers of any width,
booleans, and nil where a replace leaves something out. Whatever else MessagePack can say (and
whatever is wrong) is left to msgspec, frame by frame, so that there is one definition of the wire:
a message means the same by either way.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ipc.native.compiled import compiled, inlined
from ipc.native.unaligned import load_big_u64, load_u8, load_u32
from ipc.native.views import array_at
from ipc.records import COMMAND
from ipc.vocabulary import MAX_CLIENT_ID, CommandType, Flag

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

Records = npt.NDArray[np.void]
Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Lengths = npt.NDArray[np.int64]

_HEADER = 8
_AGGREGATE_BIT = np.uint64(1 << 31)
_STREAM_MASK = np.uint64((1 << 31) - 1)
_MAX_ID = np.uint64(MAX_CLIENT_ID)
_MAX_CODE = np.uint64(255)
_MAX_SYMBOL = np.uint64(65_535)
_NONE = np.uint64(0)
_BAD = np.uint64(1 << 63)

_NEW, _CANCEL = int(CommandType.NEW), int(CommandType.CANCEL)
_REPLACE, _REDUCE = int(CommandType.REPLACE), int(CommandType.REDUCE)
_MASS_CANCEL = int(CommandType.MASS_CANCEL)
_POST_ONLY, _REINSERT = int(Flag.POST_ONLY), int(Flag.REINSERT)
_KEEP_PRICE, _KEEP_QUANTITY = int(Flag.KEEP_PRICE), int(Flag.KEEP_QUANTITY)
_AGGREGATE = int(Flag.AGGREGATE)

_NIL, _FALSE, _TRUE = 0xC0, 0xC2, 0xC3
_FIXINT_END, _UINT8, _UINT16, _UINT32, _UINT64 = 0x80, 0xCC, 0xCD, 0xCE, 0xCF

# Of each command, by its tag: items of the array with and without the optional one, tag included.
_LEAST = np.array([0, 9, 4, 7, 6, 3], np.int64)
_MOST = np.array([0, 10, 5, 8, 6, 3], np.int64)


@inlined
def read_uint(data: Bytes, position: int, stop: int) -> tuple[Any, int]:
    """Return ``(value, next position)`` of an unsigned integer; the value is above
    ``MAX_CLIENT_ID`` where there is none."""
    if position >= stop:
        return _BAD, position
    lead: Any = np.int64(load_u8(data, position))
    if lead < _FIXINT_END:
        return np.uint64(lead), position + 1
    if lead < _UINT8 or lead > _UINT64:
        return _BAD, position
    width = 1 << (lead - _UINT8)
    after = position + 1 + width
    if after > stop:
        return _BAD, position
    if position + 9 <= len(data):
        return load_big_u64(data, position + 1) >> np.uint64(64 - 8 * width), after
    value = _NONE
    for place in range(position + 1, after):
        value = value << np.uint64(8) | load_u8(data, place)
    return value, after


@compiled
def read_command(data: Bytes, start: int, stop: int, command: Any) -> bool:
    """Fill all but account and time of ``command`` from the body ``data[start:stop]``.

    Returns whether the body is a plain command, whole and with nothing behind it.
    """
    if stop - start < 3 or data[start] & 0xF0 != 0x90:
        return False
    items = int(data[start]) & 0x0F
    tag = int(data[start + 1])
    if tag < _NEW or tag > _MASS_CANCEL or items < _LEAST[tag] or items > _MOST[tag]:
        return False
    symbol, at = read_uint(data, start + 2, stop)
    request_id, at = read_uint(data, at, stop)
    if symbol > _MAX_SYMBOL or request_id > _MAX_ID:
        return False
    order_id = client_order_id = price = quantity = side = order_type = time_in_force = _NONE
    flags = 0
    if tag == _NEW:
        client_order_id, at = read_uint(data, at, stop)
        side, at = read_uint(data, at, stop)
        order_type, at = read_uint(data, at, stop)
        time_in_force, at = read_uint(data, at, stop)
        price, at = read_uint(data, at, stop)
        quantity, at = read_uint(data, at, stop)
    elif tag != _MASS_CANCEL:
        order_id, at = read_uint(data, at, stop)
        if items > 4:
            client_order_id, at = read_uint(data, at, stop)
        if tag == _REPLACE:
            if at < stop and data[at] == _NIL:
                flags = _KEEP_PRICE
                at += 1
            else:
                price, at = read_uint(data, at, stop)
        if tag == _REPLACE and at < stop and data[at] == _NIL:
            flags |= _KEEP_QUANTITY
            at += 1
        elif tag != _CANCEL:
            quantity, at = read_uint(data, at, stop)
    if order_id > _MAX_ID or client_order_id > _MAX_ID or price > _MAX_ID or quantity > _MAX_ID:
        return False
    if side > _MAX_CODE or order_type > _MAX_CODE or time_in_force > _MAX_CODE:
        return False
    if tag in (_NEW, _REPLACE) and items == _MOST[tag]:
        if at >= stop or data[at] not in (_FALSE, _TRUE):
            return False
        if data[at] == _TRUE:
            flags |= _POST_ONLY if tag == _NEW else _REINSERT
        at += 1
    if at != stop:
        return False
    command.command_type = tag
    command.side = side
    command.order_type = order_type
    command.time_in_force = time_in_force
    command.flags = flags
    command.self_trade_prevention = 0
    command.symbol = symbol
    command.request_id = request_id
    command.order_id = order_id
    command.client_order_id = client_order_id
    command.price = price
    command.quantity = quantity
    command.stop_price = 0
    command.display_quantity = 0
    return True


@compiled
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
            if command.command_type != _MASS_CANCEL:
                return position, count, ODD
            command.flags = _AGGREGATE
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
