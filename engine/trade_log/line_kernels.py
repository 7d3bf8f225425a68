"""The compiled part of the trade log's lines: digits into a buffer, and ids out of one.

Helpers take and return positions as uint64; integers of both signs in one sum would make a float.
"""

from typing import Any

import numpy as np

from ipc.native.compiled import compiled, inlined

LINE_START = b'{"trade_id":'

STEP = np.dtype([("mantissa", "<u8"), ("max_steps", "<u8"), ("unit", "<u8"), ("digits", "<u8")])
"""A ``Scale`` for compiled code: ``unit`` is 10 ** digits; beyond max_steps 64 bits overflow."""

# What stands between the numbers of a line. The piece with the symbol is the instrument's own.
_START = np.frombuffer(LINE_START, np.uint8)
_SELL_ORDER_ID = np.frombuffer(b',"sell_order_id":', np.uint8)
_PRICE = np.frombuffer(b',"price":', np.uint8)
_QUANTITY = np.frombuffer(b',"quantity":', np.uint8)
_TIMESTAMP = np.frombuffer(b',"timestamp":', np.uint8)
_BUY_END = np.frombuffer(b',"taker_side":"buy"}\n', np.uint8)
_SELL_END = np.frombuffer(b',"taker_side":"sell"}\n', np.uint8)

_PAIRS = np.frombuffer("".join(f"{n:02d}" for n in range(100)).encode(), np.uint8)
_POWERS = np.array([10**n for n in range(20)], np.uint64)


@inlined
def _put_text(out: Any, position: Any, text: Any) -> Any:
    for index in range(len(text)):
        out[position + np.uint64(index)] = text[index]
    return position + np.uint64(len(text))


@inlined
def _put_eight(out: Any, position: Any, value: Any, digits: Any) -> Any:
    """Write the last ``digits`` of the 8 digits of ``value``, and rubbish up to 8 bytes in all.

    Halves the number in lanes of one word: to 4 digits, 2 and 1 (Paul Khuong, "How to print
    integers really fast", 2017). What is written next overwrites the rubbish.
    """
    fours = value // np.uint64(10_000)
    fours |= (value - fours * np.uint64(10_000)) << np.uint64(32)
    twos = (fours * np.uint64(5_243)) >> np.uint64(19) & np.uint64(0x7F0000007F)
    twos |= (fours - twos * np.uint64(100)) << np.uint64(16)
    ones = (twos * np.uint64(103)) >> np.uint64(10) & np.uint64(0x0F000F000F000F)
    ones |= (twos - ones * np.uint64(10)) << np.uint64(8)
    word = (ones | np.uint64(0x3030303030303030)) >> (np.uint64(64) - np.uint64(8) * digits)
    for byte in range(8):
        out[position + np.uint64(byte)] = word >> np.uint64(8 * byte) & np.uint64(0xFF)
    return position + digits


@inlined
def _put_short(out: Any, position: Any, value: Any) -> Any:
    digits: Any = np.uint64(1)
    for power in range(1, 8):
        digits += np.uint64(value >= _POWERS[power])
    return _put_eight(out, position, value, digits)


@inlined
def _put_number(out: Any, position: Any, value: Any) -> Any:
    eight, unit = np.uint64(8), np.uint64(10**8)
    high = value // unit
    if high == np.uint64(0):
        return _put_short(out, position, value)
    top = high // unit
    if top == np.uint64(0):
        position = _put_short(out, position, high)
    else:
        position = _put_short(out, position, top)
        position = _put_eight(out, position, high - top * unit, eight)
    return _put_eight(out, position, value - high * unit, eight)


@inlined
def _put_decimal(out: Any, position: Any, steps: Any, step: Any) -> Any:
    value = steps * step["mantissa"]
    digits = step["digits"]
    if digits == np.uint64(0):
        return _put_number(out, position, value)
    whole = value // step["unit"]
    position = _put_number(out, position, whole)
    out[position] = np.uint8(46)  # the point
    fraction = value - whole * step["unit"]
    end = position + np.uint64(1) + digits
    while digits >= np.uint64(2):
        rest = fraction // np.uint64(100)
        pair = np.uint64(2) * (fraction - rest * np.uint64(100))
        digits -= np.uint64(2)
        at = position + np.uint64(1) + digits
        out[at] = _PAIRS[pair]
        out[at + np.uint64(1)] = _PAIRS[pair + np.uint64(1)]
        fraction = rest
    if digits:
        out[position + np.uint64(1)] = np.uint8(48) + np.uint8(fraction)
    return end


@compiled
def format_lines(
    trades: Any, symbols: Any, symbol_bytes: Any, steps: Any, out: Any, size: Any
) -> Any:
    """Append lines to ``out`` from byte ``size`` on, up to the first trade that is not for here.

    Returns how many trades were written and the new size. ``out`` must have room for all.
    """
    at: Any = np.uint64(size)
    for index in range(len(trades)):
        trade = trades[index]
        number = np.uint64(trade["symbol"])
        side = trade["taker_side"]
        if number >= np.uint64(len(symbol_bytes)) or not symbol_bytes[number]:
            return index, at
        price_step, quantity_step = steps[number, 0], steps[number, 1]
        price, quantity = trade["price"], trade["quantity"]
        if side not in (1, 2):
            return index, at
        if price > price_step["max_steps"] or quantity > quantity_step["max_steps"]:
            return index, at
        at = _put_number(out, _put_text(out, at, _START), trade["trade_id"])
        for column in range(symbol_bytes[number]):  # not _put_text: a slice would count references
            out[at] = symbols[number, column]
            at += np.uint64(1)
        at = _put_number(out, at, trade["buy_order_id"])
        at = _put_text(out, at, _SELL_ORDER_ID)
        at = _put_number(out, at, trade["sell_order_id"])
        at = _put_decimal(out, _put_text(out, at, _PRICE), price, price_step)
        at = _put_decimal(out, _put_text(out, at, _QUANTITY), quantity, quantity_step)
        at = _put_number(out, _put_text(out, at, _TIMESTAMP), trade["timestamp_ns"])
        at = _put_text(out, at, _BUY_END) if side == 1 else _put_text(out, at, _SELL_END)
    return len(trades), at


@compiled
def find_ids(lines: Any, ids: Any) -> Any:
    """Fill ``ids``, one a line; return how many lines there were before the first at fault."""
    at: Any = np.uint64(0)
    for index in range(len(ids)):
        start = at
        while lines[at] != np.uint8(10):
            at += np.uint64(1)
        if at - start < np.uint64(len(_START) + 2) or lines[at - np.uint64(1)] != np.uint8(125):
            return index
        for column in range(len(_START)):
            if lines[start + np.uint64(column)] != _START[column]:
                return index
        digit = start + np.uint64(len(_START))
        value = np.uint64(0)
        while np.uint8(48) <= lines[digit] <= np.uint8(57):
            value = np.uint64(10) * value + np.uint64(lines[digit] - np.uint8(48))
            digit += np.uint64(1)
        digits = digit - start - np.uint64(len(_START))
        if lines[digit] != np.uint8(44) or digits < np.uint64(1) or digits > np.uint64(16):
            return index
        ids[index] = value
        at += np.uint64(1)
    return len(ids)
