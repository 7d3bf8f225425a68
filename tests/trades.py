"""What tests of the trade log share: instruments, trades by number, their lines the plain way."""

import json
from collections.abc import Iterable, Sequence
from decimal import Context, Decimal
from pathlib import Path

import numpy as np

from engine.books.contract import Records
from engine.trade_log.lines import LineFormatter
from engine.trade_log.log import read_trades
from ipc.instruments import Instrument, Scale
from ipc.records import TRADE, make_id, sequence_of, shard_of
from ipc.vocabulary import MAX_PRICE, Side

TIME_NS = 1_700_000_000_000_000_000
EXACT = Context(prec=80)


def instrument(number: int, symbol: str, tick: str = "0.01", lot: str = "1") -> Instrument:
    """An instrument without a band, in shard 0."""
    scales = Scale.parse(tick, "tick_size"), Scale.parse(lot, "lot_size")
    return Instrument(number, symbol, *scales, 1, MAX_PRICE, 1024, 0)


INSTRUMENTS = [
    instrument(1, "COOTX"),
    instrument(2, "BTC/USD", "0.5", "0.00000001"),
    instrument(3, "X", "25", "100"),
]


def make_trades(shard: int, first: int, count: int) -> Records:
    """Trades ``first`` to ``first + count - 1`` of a shard: the same numbers, the same trades."""
    sequences = np.arange(first, first + count, dtype=np.uint64)
    trades = np.zeros(count, TRADE)
    trades["trade_id"] = make_id(shard, 0) + sequences
    trades["sequence"] = 3 * sequences
    trades["timestamp_ns"] = TIME_NS + 1_000 * sequences
    trades["price"] = 1 + sequences * 7919 % 100_003
    trades["quantity"] = 1 + sequences * 104_729 % 5_003
    trades["buy_order_id"] = make_id(shard, 0) + 2 * sequences
    trades["sell_order_id"] = make_id(shard, 1) + 2 * sequences
    trades["symbol"] = 1 + sequences % 3
    trades["taker_side"] = 1 + sequences % 2
    return trades


def make_lines(shard: int, first: int, count: int) -> bytes:
    """The lines of ``make_trades``."""
    return bytes(LineFormatter(INSTRUMENTS).format(make_trades(shard, first, count)))


def plain_line(trade: np.void, instruments: Sequence[Instrument]) -> bytes:
    """One line as the json and decimal modules write it."""
    listed = next(one for one in instruments if one.number == trade["symbol"])
    fields = {
        "trade_id": int(trade["trade_id"]),
        "symbol": listed.symbol,
        "buy_order_id": int(trade["buy_order_id"]),
        "sell_order_id": int(trade["sell_order_id"]),
        "price": "PRICE",
        "quantity": "QUANTITY",
        "timestamp": int(trade["timestamp_ns"]),
        "taker_side": Side(int(trade["taker_side"])).name.lower(),
    }
    text = json.dumps(fields, separators=(",", ":"))
    text = text.replace('"PRICE"', plain_decimal(int(trade["price"]), listed.tick))
    text = text.replace('"QUANTITY"', plain_decimal(int(trade["quantity"]), listed.lot))
    return text.encode() + b"\n"


def plain_decimal(steps: int, scale: Scale) -> str:
    """``steps`` of a scale by the decimal module, in the scale's own decimal places."""
    step = EXACT.scaleb(Decimal(scale.mantissa), -scale.digits)
    return f"{EXACT.multiply(Decimal(steps), step):.{scale.digits}f}"


def plain_lines(trades: Iterable[np.void], instruments: Sequence[Instrument]) -> bytes:
    """The lines of several trades."""
    return b"".join(plain_line(trade, instruments) for trade in trades)


def read_ids(directory: Path) -> list[int]:
    """The trade ids of the log, in its order."""
    return [trade.trade_id for trade in read_trades(directory)]


def ids(shard: int, first: int, count: int) -> list[int]:
    """The trade ids of ``make_trades``."""
    return [make_id(shard, sequence) for sequence in range(first, first + count)]


def by_shard(found: Iterable[int]) -> dict[int, list[int]]:
    """The sequences of trade ids, in the order found, for each shard."""
    sequences: dict[int, list[int]] = {}
    for trade_id in found:
        sequences.setdefault(shard_of(trade_id), []).append(sequence_of(trade_id))
    return sequences
