"""What a history in MongoDB holds: an order is a document with its fills, a trade is another.

Each has the exact integers of its row (``engine.history.rows``) in ``row``, and for people and
reports words, users, decimals and dates (to the millisecond; nanoseconds stand beside them).
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from bson.decimal128 import Decimal128

from engine.history.history import AVERAGE_DIGITS, average
from engine.history.rows import FIRST_COLUMNS, LATER_COLUMNS, ORDER_ROW, TRADE_ROW, VALUE_BITS
from engine.history.tables import (
    CHANGING,
    ORDER_TYPES,
    POST_ONLY,
    PREVENTIONS,
    REASONS,
    SIDES,
    STATUS_WORDS,
    STAYING,
    TIMES,
    TRIGGERED,
    VALUE_MASK,
)
from ipc.instruments import Scale
from ipc.vocabulary import PREVENTION_SHIFT

Document = dict[str, Any]
Row = dict[str, int]
ORDER_NAMES, TRADE_NAMES = ORDER_ROW.names or (), TRADE_ROW.names or ()
MAX_FILLS = 100_000
"""Of one order's document, which may have 16 MiB; ``trades`` has all, and ``row`` their value."""
INDEXES = {
    "orders": ("row.account", "row.symbol", "user_id"),
    "trades": ("row.symbol", "row.buyer", "row.seller"),
}
"""What is looked up, by collection; each goes on with ``_id``, which is to say by time."""
assert {*CHANGING, *LATER_COLUMNS} <= {*FIRST_COLUMNS, *LATER_COLUMNS}


class Fill(tuple[int, int, int]):
    """Of an order: trade_id, ticks, lots."""

    __slots__ = ()


def value_of(row: Row) -> int:
    """Return what an order has paid, in ticks times lots."""
    return (row["value_high"] << VALUE_BITS) + row["value_low"]


def with_paid(row: Row, fills: Iterable[Fill]) -> Row:
    """Return an order's row with what fills have paid beside what it has."""
    value = value_of(row) + sum(price * quantity for _, price, quantity in fills)
    return row | {"value_high": value >> VALUE_BITS, "value_low": value & VALUE_MASK}


def renewed(there: Row, newer: Row) -> Row:
    """Return an order's row once a newer one has come; what it has paid stays."""
    changed = {name: newer[name] for name in (*CHANGING, *LATER_COLUMNS)}
    changed |= {name: newer[name] or there.get(name, 0) for name in STAYING}
    return there | changed


class Scales(NamedTuple):
    """What a document needs to know of an instrument."""

    symbol: str
    tick: Scale
    lot: Scale


class Documents:
    """Makes documents, given who instruments and users are."""

    def __init__(self) -> None:
        self.instruments: dict[int, Scales] = {}
        self.users: dict[int, str] = {}
        self.texts: dict[int, str] = {}
        """Of the client_order_ids of the orders that are written now."""

    def know(
        self,
        number: int,
        symbol: str,
        tick_mantissa: int,
        tick_digits: int,
        lot_mantissa: int,
        lot_digits: int,
    ) -> None:
        """Learn of an instrument: ``INSTRUMENT_COLUMNS``."""
        tick, lot = Scale(tick_mantissa, tick_digits), Scale(lot_mantissa, lot_digits)
        self.instruments[number] = Scales(symbol, tick, lot)

    def order(self, row: Row) -> Document:
        """Return what an order's document shows of its row; its fills come beside it."""
        instrument = self.instruments[row["symbol"]]
        tick, lot, filled = instrument.tick, instrument.lot, row["filled"]
        finer = Scale(tick.mantissa, tick.digits + AVERAGE_DIGITS)
        paid = _decimal(finer, average(value_of(row), filled)) if filled else None
        number = row["client_order_id"]
        own = {"client_order_id": self.texts.get(number, number) or None}
        return {
            "order_id": row["order_id"],
            "user_id": self.users.get(row["account"]),
            # Of an order whose text is not known here its document says it already.
            **(own if number >= 0 or number in self.texts else {}),
            "symbol": instrument.symbol,
            "side": SIDES[row["side"]],
            "order_type": ORDER_TYPES[row["order_type"]],
            "time_in_force": TIMES[row["time_in_force"]],
            "price": _decimal(tick, row["price"]) if row["price"] else None,
            "stop_price": _decimal(tick, row["stop_price"]) if row["stop_price"] else None,
            "quantity": _decimal(lot, row["quantity"]),
            "display_quantity": (
                _decimal(lot, row["display_quantity"]) if row["display_quantity"] else None
            ),
            "filled_quantity": _decimal(lot, filled),
            "remaining_quantity": _decimal(lot, row["quantity"] - filled),
            "average_price": paid,
            "status": STATUS_WORDS[row["status"]],
            "reason": REASONS.get(row["reason"]),
            "triggered": bool(row["flags"] & TRIGGERED),
            "post_only": bool(row["flags"] & POST_ONLY),
            "self_trade_prevention": PREVENTIONS[row["flags"] >> PREVENTION_SHIFT & 7],
            "created_at": _date(row["created_ns"]),
            "updated_at": _date(row["updated_ns"]),
            "created_ns": row["created_ns"] or None,
            "updated_ns": row["updated_ns"],
            "row": row,
        }

    def fills(self, row: Row, fills: Iterable[Fill]) -> list[Document]:
        """Return an order's fills as its document has them."""
        instrument = self.instruments[row["symbol"]]
        return [
            {
                "trade_id": trade_id,
                "quantity": _decimal(instrument.lot, quantity),
                "price": _decimal(instrument.tick, price),
            }
            for trade_id, price, quantity in fills
        ]

    def trade(self, row: Row) -> Document:
        """Return a trade's document."""
        instrument = self.instruments[row["symbol"]]
        return {
            "_id": row["trade_id"],
            "trade_id": row["trade_id"],
            "symbol": instrument.symbol,
            "price": _decimal(instrument.tick, row["price"]),
            "quantity": _decimal(instrument.lot, row["quantity"]),
            "buy_order_id": row["buy_order_id"],
            "sell_order_id": row["sell_order_id"],
            "buyer": self.users.get(row["buyer"]),
            "seller": self.users.get(row["seller"]),
            "maker_side": SIDES[3 - row["taker_side"]],
            "timestamp": _date(row["timestamp_ns"]),
            "timestamp_ns": row["timestamp_ns"],
            "row": row,
        }


def as_row(names: tuple[str, ...], row: Mapping[str, int]) -> tuple[int, ...]:
    """Return a document's row as arrays have it; a column that it is too old for is 0."""
    return tuple(int(row.get(name, 0)) for name in names)


def _decimal(scale: Scale, steps: int) -> Decimal128:
    return Decimal128(Decimal(steps * scale.mantissa).scaleb(-scale.digits))


def _date(time_ns: int) -> datetime | None:
    if not time_ns:
        return None
    seconds, rest = divmod(time_ns, 10**9)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 10**6 * 1_000)
