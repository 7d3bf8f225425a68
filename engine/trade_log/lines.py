"""The lines of the trade log: TRADE records as NDJSON in bulk, and back.

One line a trade, a JSON object whose price and quantity are exact decimals in the instrument's own
decimal places::

    {"trade_id":7,"symbol":"AAPL","buy_order_id":4,"sell_order_id":9,"price":10.05,
     "quantity":3,"timestamp":1700000000000000000,"taker_side":"buy"}

(on one line). ``LineFormatter`` writes the digits from compiled code; a property test holds its
bytes equal to those of the json and decimal modules.
"""

import io
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import takewhile
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from engine.books.contract import Records
from engine.trade_log.line_kernels import LINE_START, STEP, find_ids, format_lines
from ipc.codes import SIDE_BUY, SIDE_SELL
from ipc.instruments import Instrument, Scale, ScaleError
from ipc.native.compiled import HAVE_NUMBA
from ipc.records import TRADE

MAX_LINE_BYTES = 320
"""No line is longer: 113 bytes of names, a symbol of 24, 4 integers of 20, 2 decimals of 39."""

_MAX_UINT64 = 2**64 - 1
_SIDES = {SIDE_BUY: "buy", SIDE_SELL: "sell"}


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


_LINE = re.compile(rb'\{"trade_id":(\d{1,16}),.*\}\n')
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
        self._steps = np.zeros((rows, 2), STEP)  # price, quantity
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
        trades = np.require(trades, requirements="W")  # numba compiles anew for read-only arrays
        if len(self._buffer) < len(trades) * MAX_LINE_BYTES:
            self._buffer = np.empty(len(trades) * MAX_LINE_BYTES, np.uint8)
        done, size = 0, 0
        while done < len(trades):
            if HAVE_NUMBA:
                rest = trades[done:]
                tables = self._symbols, self._symbol_bytes, self._steps
                count, size = format_lines(rest, *tables, self._buffer, size)
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


def lines_of(block: bytes) -> list[bytes]:
    """Return the lines of a block with their ends; a carriage return ends none."""
    return io.BytesIO(block).readlines()


def parse_lines(lines: bytes | memoryview) -> list[LoggedTrade]:
    """Return the trades of whole lines. Raises ``msgspec.DecodeError`` where one is no trade."""
    return _decoder.decode_lines(lines)


def trade_id_of(line: bytes) -> int:
    """Return the trade_id of one line without decoding the rest. Raises ``ValueError``."""
    if not line.startswith(LINE_START):
        raise ValueError(f"no line of a trade: {line[:80]!r}")
    return int(line[len(LINE_START) : line.find(b",")])


def trade_ids(block: bytes) -> npt.NDArray[np.uint64]:
    """Return the trade_ids of whole lines, up to the first that ``LineFormatter`` did not write."""
    if not HAVE_NUMBA:
        lines = takewhile(bool, map(_LINE.fullmatch, lines_of(block)))
        return np.array([int(line[1]) for line in lines if line], np.uint64)
    ids = np.empty(block.count(b"\n"), np.uint64)
    return ids[: find_ids(np.frombuffer(block, np.uint8), ids)]


def to_records(trades: Iterable[LoggedTrade], instruments: Sequence[Instrument]) -> Records:
    """Return logged trades as TRADE records in ticks and lots; ``sequence``, not logged, is 0.

    Of several instruments of a symbol it is the one listed last whose ticks and lots say a trade.
    Raises ``ValueError`` for a symbol not among ``instruments``, ``ScaleError`` (also one) for a
    decimal that is no whole number of the instrument's ticks or lots.
    """
    by_symbol: dict[str, list[Instrument]] = {}
    for instrument in sorted(instruments, reverse=True):
        by_symbol.setdefault(instrument.symbol, []).append(instrument)
    sides = {name: side for side, name in _SIDES.items()}
    rows = []
    for trade in trades:
        versions = by_symbol.get(trade.symbol)
        if versions is None:
            raise ValueError(f"trade {trade.trade_id}: symbol {trade.symbol!r} is not listed")
        number, price, quantity = _in_steps(trade, versions)
        rows.append(
            (
                trade.trade_id,
                0,
                trade.timestamp,
                price,
                quantity,
                trade.buy_order_id,
                trade.sell_order_id,
                number,
                sides[trade.taker_side],
                (0,) * 5,
            )
        )
    return np.array(rows, TRADE)


def _in_steps(trade: LoggedTrade, versions: Sequence[Instrument]) -> tuple[int, int, int]:
    """Return the first instrument that says a trade, by number, and price and quantity in it."""
    for instrument in versions:
        try:
            price = instrument.tick.steps(trade.price, "price")
            quantity = instrument.lot.steps(trade.quantity, "quantity")
        except ScaleError:
            if instrument is versions[-1]:
                raise
        else:
            return instrument.number, price, quantity
    raise AssertionError("there is at least one")


def _step(scale: Scale) -> tuple[int, int, int, int]:
    return scale.mantissa, _MAX_UINT64 // scale.mantissa, 10**scale.digits, scale.digits


def warm() -> None:
    """Compile or load what formats."""
    instrument = Instrument(1, "A", Scale(1, 2), Scale(1, 0), 1, 100, 1, 0)
    trade = np.zeros(1, TRADE)
    for name in ("trade_id", "price", "quantity", "buy_order_id", "sell_order_id"):
        trade[name] = 1
    trade["symbol"] = trade["taker_side"] = 1
    assert len(trade_ids(bytes(LineFormatter([instrument]).format(trade)))) == 1
