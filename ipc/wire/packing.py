"""MessagePack's integers, booleans and texts in compiled code: what messages are made of."""

from typing import Any

import numpy as np

from ipc.arrays import Bytes
from ipc.bounds import TEXT_BIT
from ipc.native.compiled import called, inlined
from ipc.native.unaligned import (
    copy_bytes,
    load_big_u64,
    load_u8,
    store_big_u16,
    store_big_u32,
    store_big_u64,
    store_u8,
)

FIXARRAY, ARRAY16 = 0x90, 0xDC
NIL, FALSE, TRUE = 0xC0, 0xC2, 0xC3
FIXINT_END = 0x80
_UINT8, _UINT16, _UINT32, _UINT64 = 0xCC, 0xCD, 0xCE, 0xCF
_FIXSTR, _STR8, _STR16 = 0xA0, 0xD9, 0xDA
_NONE = np.uint64(0)
_TEXT_BIT = np.uint64(TEXT_BIT)
_BAD = np.uint64(1 << 63)
_U7_END, _U8_END, _U16_END, _U32_END = (np.uint64(1 << bits) for bits in (7, 8, 16, 32))


# In the shortest form, as a client writes them -------------------------------------------------


@inlined
def read_uint(data: Bytes, position: int, stop: int) -> tuple[Any, int]:
    """Return ``(value, next position)`` of an unsigned integer; the value is above
    ``MAX_CLIENT_ID`` where there is none."""
    if position >= stop:
        return _BAD, position
    lead: Any = np.int64(load_u8(data, position))
    if lead < FIXINT_END:
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


@called
def put_uint(out: Bytes, at: int, value: Any) -> int:
    """Write an unsigned integer in the shortest form; return where the next byte goes."""
    if value < _U7_END:
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


@called
def put_unless(out: Bytes, at: int, value: Any, kept: int) -> int:
    """Write an unsigned integer, or nil where ``kept`` is not 0."""
    if kept == 0:
        return put_uint(out, at, value)
    out[at] = NIL
    return at + 1


# Of full width, as an engine writes them --------------------------------------------------------


@inlined
def put_u64(out: Bytes, at: int, value: Any) -> int:
    """Write a full-width integer; return where the next byte goes."""
    store_u8(out, at, _UINT64)
    store_big_u64(out, at + 1, value)
    return at + 9


@inlined
def put_client_id(out: Bytes, at: int, number: Any, text: Bytes) -> int:
    """Write a client_order_id: the text that a number stands for, where it is given."""
    if number < _TEXT_BIT or len(text) == 0:
        return put_u64(out, at, number)
    return put_text(out, at, text)


@called
def put_text(out: Bytes, at: int, text: Bytes) -> int:
    """Write a text of less than 256 bytes that ends where zeros begin, or with its array."""
    length = 0
    while length < len(text) and text[length] != 0:
        length += 1
    store_u8(out, at, _STR8)
    store_u8(out, at + 1, length)
    copy_bytes(out, at + 2, text, 0, length)
    return at + 2 + length


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


@called
def read_word(data: Bytes, at: int, stop: int) -> tuple[Any, int]:
    """Return ``(value, next position)`` of an unsigned integer; ``stop + 1`` where there is none.

    A position beyond ``stop`` stays there, so that a row of integers is checked once, at its end.
    """
    if at >= stop:
        return _NONE, stop + 1
    lead = data[at]
    if lead == _UINT64 and at + 9 <= stop:
        return load_big_u64(data, at + 1), at + 9
    if lead < FIXINT_END:
        return np.uint64(lead), at + 1
    if lead < _UINT8 or lead >= _UINT64:
        return _NONE, stop + 1
    width = np.int64(1) << (np.int64(lead) - _UINT8)
    after = at + 1 + int(width)
    if after > stop:
        return _NONE, stop + 1
    if at + 9 <= len(data):
        return load_big_u64(data, at + 1) >> np.uint64(64 - 8 * width), after
    value = _NONE
    for place in range(at + 1, after):
        value = value << np.uint64(8) | np.uint64(data[place])
    return value, after


@called
def read_code(data: Bytes, at: int, stop: int, most: int) -> tuple[Any, int]:
    """Return an integer of at most ``most`` as ``read_word`` does."""
    value, at = read_word(data, at, stop)
    if value > np.uint64(most):
        return _NONE, stop + 1
    return value, at


@called
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
