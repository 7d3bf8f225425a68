"""COMMAND records to the frames that a client sends, in compiled code: msgspec's very bytes.

Every integer is as short as it can be, as msgspec writes it, so that what a matcher reads is small.
"""

from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from ipc.native.compiled import compiled
from ipc.native.unaligned import store_big_u16, store_big_u32, store_big_u64, store_u32
from ipc.vocabulary import CommandType, Flag
from ipc.wire.messages import CLIENT_COMMANDS, tag_of

Records = npt.NDArray[np.void]
Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

MAX_FRAME = 64
"""Bytes that the longest frame does not exceed: header, array, tag, symbol, five integers, flag."""

_HEADER = 8
_FIXARRAY, _UINT8, _UINT16, _UINT32, _UINT64 = 0x90, 0xCC, 0xCD, 0xCE, 0xCF
_NIL, _FALSE, _TRUE = 0xC0, 0xC2, 0xC3
_FIXINT_END, _U8_END, _U16_END, _U32_END = (np.uint64(1 << bits) for bits in (7, 8, 16, 32))

_NEW, _CANCEL = int(CommandType.NEW), int(CommandType.CANCEL)
_REPLACE, _MASS_CANCEL = int(CommandType.REPLACE), int(CommandType.MASS_CANCEL)
_POST_ONLY, _REINSERT = int(Flag.POST_ONLY), int(Flag.REINSERT)
_KEEP_PRICE, _KEEP_QUANTITY = int(Flag.KEEP_PRICE), int(Flag.KEEP_QUANTITY)

_ITEMS = np.zeros(max(CommandType) + 1, np.uint8)
for _kind in get_args(CLIENT_COMMANDS):
    _ITEMS[tag_of(_kind)] = len(_kind.__struct_fields__) + 1


@compiled
def put_uint(out: Bytes, at: int, value: Any) -> int:
    """Write an unsigned integer in the shortest form; return where the next byte goes."""
    if value < _FIXINT_END:
        out[at] = value
        return at + 1
    if value < _U8_END:
        out[at] = _UINT8
        out[at + 1] = value
        return at + 2
    if value < _U16_END:
        out[at] = _UINT16
        store_big_u16(out, at + 1, value)
        return at + 3
    if value < _U32_END:
        out[at] = _UINT32
        store_big_u32(out, at + 1, value)
        return at + 5
    out[at] = _UINT64
    store_big_u64(out, at + 1, value)
    return at + 9


@compiled
def put_unless(out: Bytes, at: int, value: Any, kept: int) -> int:
    """Write an unsigned integer, or nil where ``kept`` is not 0."""
    if kept == 0:
        return put_uint(out, at, value)
    out[at] = _NIL
    return at + 1


@compiled
def put_command(out: Bytes, at: int, command: Any) -> int:
    """Write the body of a command, whose type is one that there is."""
    tag = command.command_type
    out[at] = _FIXARRAY | _ITEMS[tag]
    out[at + 1] = tag
    at = put_uint(out, at + 2, np.uint64(command.symbol))
    at = put_uint(out, at, command.request_id)
    if tag == _NEW:
        at = put_uint(out, at, command.client_order_id)
        at = put_uint(out, at, np.uint64(command.side))
        at = put_uint(out, at, np.uint64(command.order_type))
        at = put_uint(out, at, np.uint64(command.time_in_force))
        at = put_uint(out, at, command.price)
        at = put_uint(out, at, command.quantity)
        out[at] = _TRUE if command.flags & _POST_ONLY else _FALSE
        return at + 1
    if tag == _MASS_CANCEL:
        return at
    at = put_uint(out, at, command.order_id)
    at = put_uint(out, at, command.client_order_id)
    if tag == _CANCEL:
        return at
    if tag != _REPLACE:
        return put_uint(out, at, command.quantity)
    at = put_unless(out, at, command.price, command.flags & _KEEP_PRICE)
    at = put_unless(out, at, command.quantity, command.flags & _KEEP_QUANTITY)
    out[at] = _TRUE if command.flags & _REINSERT else _FALSE
    return at + 1


@compiled
def encode_commands(commands: Records, out: Bytes, ends: Places) -> int:
    """Write the frames of commands, each ending at ``ends`` of its place; return how many bytes.

    ``out`` must have room for ``len(commands) * MAX_FRAME``.
    """
    at = 0
    for index in range(len(commands)):
        start = at
        at = put_command(out, start + _HEADER, commands[index])
        store_u32(out, start, at - start - _HEADER)
        store_u32(out, start + 4, 0)
        ends[index] = at
    return at
