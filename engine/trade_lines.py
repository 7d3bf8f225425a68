"""The lines of the trade log: TRADE records as NDJSON in bulk, and back.

One line a trade, a JSON object whose price and quantity are exact decimals in the instrument's own
decimal places::

    {"trade_id":7,"symbol":"AAPL","buy_order_id":4,"sell_order_id":9,"price":10.05,
     "quantity":3,"timestamp":1700000000000000000,"taker_side":"buy"}

(on one line). ``LineFormatter`` writes the digits from compiled code; a property test holds its
bytes equal to those of the json and decimal modules.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec
import numpy as np

from engine.book import Records
from ipc.compiled import HAVE_NUMBA, compiled, inlined
from ipc.instruments import Instrument, Scale
from ipc.records import TRADE
from ipc.vocabulary import Side

LINE_START = b'{"trade_id":'
MAX_LINE_BYTES = 320
"""No line is longer: 113 bytes of names, a symbol of 24, 4 integers of 20, 2 decimals of 39."""

_MAX_UINT64 = 2**64 - 1
_SIDES = {int(Side.BUY): "buy", int(Side.SELL): "sell"}

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

_STEP = np.dtype([("mantissa", "<u8"), ("max_steps", "<u8"), ("unit", "<u8"), ("digits", "<u8")])
"""A ``Scale`` for compiled code: ``unit`` is 10 ** digits; beyond max_steps 64 bits overflow."""


class LoggedTrade(msgspec.Struct, frozen=True, gc=False):
    """One line of the log, its price and quantity as exact decimals, its time in nanoseconds."""

    trade_id: int
    symbol: str
    buy_order_id: int
    sell_order_id: int
    price: Decimal
    quantity: Decimal
    timestamp: int
    taker_side: Literal["buy", "sell"]


_decoder = msgspec.json.Decoder(LoggedTrade)


class LineFormatter:
    """Writes TRADE records as lines into one buffer that grows to the longest batch given."""

    def __init__(self, instruments: Sequence[Instrument]) -> None:
        self._instruments = {instrument.number: instrument for instrument in instruments}
        rows = max(self._instruments, default=0) + 1
        pieces = {
            number: f',"symbol":"{instrument.symbol}","buy_order_id":'.encode()
            for number, instrument in self._instruments.items()
        }
        width = max(map(len, pieces.values()), default=1)
        self._symbols = np.zeros((rows, width), np.uint8)
        self._symbol_bytes = np.zeros(rows, np.uint64)
        self._steps = np.zeros((rows, 2), _STEP)  # price, quantity
        for number, instrument in self._instruments.items():
            piece = pieces[number]
            self._symbols[number, : len(piece)] = np.frombuffer(piece, np.uint8)
            self._symbol_bytes[number] = len(piece)
            self._steps[number, 0] = _step(instrument.tick)
            self._steps[number, 1] = _step(instrument.lot)
        self._buffer = np.zeros(0, np.uint8)

    def format(self, trades: Records) -> memoryview:
        """Return the lines of ``trades`` (TRADE), in order; valid until the next call.

        Raises ``ValueError`` for a record that is no trade of these instruments.
        """
        if len(self._buffer) < len(trades) * MAX_LINE_BYTES:
            self._buffer = np.empty(len(trades) * MAX_LINE_BYTES, np.uint8)
        done, size = 0, 0
        while done < len(trades):
            if HAVE_NUMBA:
                rest = trades[done:]
                tables = self._symbols, self._symbol_bytes, self._steps
                count, size = _format_lines(rest, *tables, self._buffer, size)
                done += count
                if done == len(trades):
                    break
            # What compiled code leaves: an integer beyond 64 bits, or a record at fault.
            line = self._plain_line(trades[done])
            self._buffer[size : size + len(line)] = np.frombuffer(line, np.uint8)
            size += len(line)
            done += 1
        return self._buffer.data[:size]

    def _plain_line(self, trade: np.void) -> bytes:
        number, side = int(trade["symbol"]), int(trade["taker_side"])
        if number not in self._instruments or side not in _SIDES:
            raise ValueError(
                f"trade {trade['trade_id']}: symbol {number} and taker_side {side} must be those "
                "of an instrument and of a side"
            )
        instrument = self._instruments[number]
        price = instrument.tick.text(int(trade["price"]))
        quantity = instrument.lot.text(int(trade["quantity"]))
        return (
            f'{{"trade_id":{trade["trade_id"]},"symbol":"{instrument.symbol}",'
            f'"buy_order_id":{trade["buy_order_id"]},"sell_order_id":{trade["sell_order_id"]},'
            f'"price":{price},"quantity":{quantity},"timestamp":{trade["timestamp_ns"]},'
            f'"taker_side":"{_SIDES[side]}"}}\n'
        ).encode()


def parse_lines(lines: bytes | memoryview) -> list[LoggedTrade]:
    """Return the trades of whole lines. Raises ``msgspec.DecodeError`` where one is no trade."""
    return _decoder.decode_lines(lines)


def trade_id_of(line: bytes) -> int:
    """Return the trade_id of one line without decoding the rest. Raises ``ValueError``."""
    if not line.startswith(LINE_START):
        raise ValueError(f"no line of a trade: {line[:80]!r}")
    return int(line[len(LINE_START) : line.find(b",")])


def to_records(trades: Iterable[LoggedTrade], instruments: Sequence[Instrument]) -> Records:
    """Return logged trades as TRADE records in ticks and lots; ``sequence``, not logged, is 0.

    Raises ``ValueError`` for a symbol not among ``instruments``, ``ScaleError`` (also one) for a
    decimal that is no whole number of the instrument's ticks or lots.
    """
    by_symbol = {instrument.symbol: instrument for instrument in instruments}
    sides = {name: side for side, name in _SIDES.items()}
    rows = []
    for trade in trades:
        instrument = by_symbol.get(trade.symbol)
        if instrument is None:
            raise ValueError(f"trade {trade.trade_id}: symbol {trade.symbol!r} is not listed")
        rows.append(
            (
                trade.trade_id,
                0,
                trade.timestamp,
                instrument.tick.steps(trade.price, "price"),
                instrument.lot.steps(trade.quantity, "quantity"),
                trade.buy_order_id,
                trade.sell_order_id,
                instrument.number,
                sides[trade.taker_side],
                (0,) * 5,
            )
        )
    return np.array(rows, TRADE)


def _step(scale: Scale) -> tuple[int, int, int, int]:
    return scale.mantissa, _MAX_UINT64 // scale.mantissa, 10**scale.digits, scale.digits


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
def _format_lines(
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


def warm() -> None:
    """Compile or load what formats."""
    instrument = Instrument(1, "A", Scale(1, 2), Scale(1, 0), 1, 100, 1, 0)
    trade = np.zeros(1, TRADE)
    for name in ("trade_id", "price", "quantity", "buy_order_id", "sell_order_id"):
        trade[name] = 1
    trade["symbol"] = trade["taker_side"] = 1
    assert LineFormatter([instrument]).format(trade)
