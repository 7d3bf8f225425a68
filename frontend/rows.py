"""Trades, books, orders and processes as data: a row is an object of JSON, or a line of CSV.

Prices and quantities are exact decimals, numbers in JSON; times are UTC to the nanosecond.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Any, TextIO

import msgspec
import numpy as np
from msgspec import Raw

from frontend.reading import BookView, ProcessView
from frontend.times import time_text
from ipc.arrays import Records
from ipc.instruments import Instrument, Scale
from ipc.vocabulary import (
    PREVENTION_SHIFT,
    Flag,
    OrderType,
    OrdStatus,
    Reason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

Row = dict[str, Any]
JSON, CSV = "json", "csv"
TRADE_FIELDS = (
    "time",
    "trade_id",
    "symbol",
    "price",
    "quantity",
    "taker",
    "buy_order_id",
    "sell_order_id",
)
_encode = msgspec.json.Encoder().encode


class RowWriter:
    """Writes rows in a form, CSV under the names of the first one's fields."""

    def __init__(self, form: str, out: TextIO, fields: Iterable[str] = ()) -> None:
        """``fields``: the names, where there may be no row."""
        self._form = form
        self._out = out
        self._csv = csv.writer(out, lineterminator="\n")
        self._named = False
        self._fields = fields if form == CSV else ()

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows, and have whoever reads get them; the first time names too, if there are no
        rows yet."""
        if self._fields:
            self._name(self._fields)
        for row in rows:
            if self._form == JSON:
                self._out.write(_encode(row).decode() + "\n")
                continue
            self._name(row)
            self._csv.writerow(map(cell_text, row.values()))
        self._out.flush()

    def _name(self, fields: Iterable[str]) -> None:
        if not self._named:
            self._named = True
            self._csv.writerow(fields)


def cell_text(value: Any) -> str:
    """Return a value of a row as text; "" for None."""
    if isinstance(value, Raw):
        return bytes(value).decode()
    if isinstance(value, dict):
        return " ".join(f"{name}={number}" for name, number in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def trade_rows(trades: Records, instruments: Mapping[int, Instrument]) -> Iterator[Row]:
    """Yield a row a trade (TRADE), with ``TRADE_FIELDS``."""
    for trade in trades:
        instrument = instruments[int(trade["symbol"])]
        values = (
            time_text(int(trade["timestamp_ns"])),
            int(trade["trade_id"]),
            instrument.symbol,
            Raw(instrument.tick.text(int(trade["price"]))),
            Raw(instrument.lot.text(int(trade["quantity"]))),
            _name(Side, int(trade["taker_side"])),
            int(trade["buy_order_id"]),
            int(trade["sell_order_id"]),
        )
        yield dict(zip(TRADE_FIELDS, values, strict=True))


BOOK_FIELDS = ("symbol", "sequence", "side", "price", "quantity", "order_count")


def book_rows(book: BookView) -> Iterator[Row]:
    """Yield a row a level, with ``BOOK_FIELDS``: bids, then asks, each best first."""
    tick, lot = book.instrument.tick, book.instrument.lot
    for side, levels in ((Side.BUY, book.bids), (Side.SELL, book.asks)):
        for price, quantity, count in levels.tolist():
            values = (
                book.instrument.symbol,
                book.sequence,
                side.name,
                Raw(tick.text(price)),
                Raw(lot.text(quantity)),
                count,
            )
            yield dict(zip(BOOK_FIELDS, values, strict=True))


def order_row(
    order: np.void, instrument: Instrument, user_id: str, client_order_id: int | str
) -> Row:
    """Return an order (ORDER) as a row; ``user_id`` is "" where it is not known."""
    tick, lot = instrument.tick, instrument.lot
    return {
        "order_id": int(order["order_id"]),
        "user_id": user_id,
        "account": f"{int(order['account']):016x}",
        "client_order_id": client_order_id,
        "symbol": instrument.symbol,
        "side": _name(Side, int(order["side"])),
        "order_type": _name(OrderType, int(order["order_type"])),
        "time_in_force": _name(TimeInForce, int(order["time_in_force"])),
        "post_only": bool(order["flags"] & Flag.POST_ONLY),
        "self_trade_prevention": _name(
            SelfTradePrevention, int(order["flags"]) >> PREVENTION_SHIFT & 7
        ),
        "ord_status": _name(OrdStatus, int(order["ord_status"])),
        "reason": _name(Reason, int(order["reason"])),
        "price": Raw(tick.text(int(order["price"]))) if order["price"] else None,
        "stop_price": Raw(tick.text(int(order["stop_price"]))) if order["stop_price"] else None,
        "triggered": bool(order["flags"] & Flag.TRIGGERED),
        "display_quantity": _some(lot, int(order["display_quantity"])),
        "quantity": Raw(lot.text(int(order["quantity"]))),
        "cum_qty": Raw(lot.text(int(order["cum_qty"]))),
        "leaves_qty": Raw(lot.text(int(order["leaves_qty"]))),
        "created": time_text(int(order["created_ns"])),
        "updated": time_text(int(order["updated_ns"])),
    }


def process_rows(processes: Iterable[ProcessView]) -> Iterator[Row]:
    """Yield a row a process; ``counters`` and ``rejects`` hold what is not zero."""
    for process in processes:
        yield {
            "role": process.role,
            "index": process.index,
            "pid": process.pid or None,
            "core": process.core,
            "state": process.state,
            "uptime_s": int(process.uptime_s),
            "counters": {name: value for name, value in process.counters.items() if value},
            "lag_trades": {str(shard): lag for shard, lag in process.lag_trades.items()},
            "rejects": {reason.name: count for reason, count in process.rejects.items()},
        }


def _some(lot: Scale, quantity: int) -> Raw | None:
    return Raw(lot.text(quantity)) if quantity else None


def _name(kind: type[IntEnum], code: int) -> str:
    """Return the name of a code, or the code where it is none."""
    return kind(code).name if code in set(kind) else str(code)
