"""What values in Redis hold: JSON objects, decimals in them exact and as texts.

``frontend/docs/redis.md`` tells what each field means. Both ends use these: who writes and who
reads.
"""

from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from engine.books.contract import Records
from engine.history.tables import ORDER_TYPES, REASONS, SIDES, STATUS_WORDS, TIMES
from ipc.instruments import Instrument, Scale
from ipc.vocabulary import ExecType, Liquidity

MAX_REMEMBERED = 65_536
"""Decimals of one scale that are kept written."""
EVENTS = {
    int(ExecType.NEW): "new",
    int(ExecType.CANCELED): "cancelled",
    int(ExecType.REPLACED): "replaced",
    int(ExecType.TRADE): "trade",
    int(ExecType.TRIGGERED): "triggered",
    int(ExecType.EXPIRED): "expired",
    int(ExecType.REJECTED): "rejected",
    int(ExecType.MASS_CANCELED): "mass_cancelled",
}
LIQUIDITIES = {int(Liquidity.MAKER): "maker", int(Liquidity.TAKER): "taker"}
STATUS_CODES = {word: code for code, word in STATUS_WORDS.items() if code >= 0}
SIDE_CODES = {word: code for code, word in SIDES.items()}
TYPE_CODES = {word: code for code, word in ORDER_TYPES.items()}
TIME_CODES = {word: code for code, word in TIMES.items()}
REASON_CODES = {word: code for code, word in REASONS.items()}


Amount = Any
"""A decimal, exact, as text. Whoever writes it has it as ``Raw``."""


class Entry(Struct, frozen=True):
    """Of an order: what never changes."""

    order_id: int
    account: str
    client_order_id: int | str
    symbol: str
    side: str
    order_type: str
    time_in_force: str
    created: int
    """Nanoseconds since the epoch."""
    instrument: int


class State(Struct, frozen=True):
    """Of an order: what does."""

    status: str
    price: Amount | None
    quantity: Amount
    filled: Amount
    remaining: Amount
    reason: str | None
    flags: int
    updated: int


class Event(Struct, frozen=True):
    """One report to one account; ``number`` counts them without a gap."""

    number: int
    type: str
    order_id: int
    client_order_id: int | str
    symbol: str | None
    side: str | None
    status: str | None
    price: Amount | None
    quantity: Amount | None
    filled: Amount | None
    remaining: Amount | None
    trade_id: int | None
    last_price: Amount | None
    last_quantity: Amount | None
    liquidity: str | None
    reason: str | None
    sequence: int
    timestamp: int


class Trade(Struct, frozen=True):
    """One trade."""

    trade_id: int
    symbol: str
    price: Amount
    quantity: Amount
    buy_order_id: int
    sell_order_id: int
    taker_side: str
    timestamp: int


class InstrumentEntry(Struct, frozen=True):
    """One instrument."""

    number: int
    symbol: str
    shard: int
    tick_size: str
    lot_size: str
    min_price: int
    max_price: int
    max_resting_orders: int
    max_account_orders: int
    retired: bool

    @classmethod
    def of(cls, found: Instrument) -> "InstrumentEntry":
        """Return how an instrument is written."""
        return cls(
            found.number,
            found.symbol,
            found.shard,
            found.tick.text(1),
            found.lot.text(1),
            found.min_price,
            found.max_price,
            found.max_resting_orders,
            found.max_account_orders,
            found.retired,
        )

    def instrument(self) -> Instrument:
        """Return the instrument. Raises ``ScaleError``."""
        return Instrument(
            self.number,
            self.symbol,
            Scale.parse(self.tick_size, "tick_size"),
            Scale.parse(self.lot_size, "lot_size"),
            self.min_price,
            self.max_price,
            self.max_resting_orders,
            self.shard,
            self.max_account_orders,
            self.retired,
        )


class Decimals(dict[int, Raw]):
    """Steps of one scale as JSON texts: ``decimals[steps]``."""

    __slots__ = ("_scale",)

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self._scale = scale

    def __missing__(self, steps: int) -> Raw:
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        written = self[steps] = Raw(f'"{self._scale.text(steps)}"')
        return written


class Written(NamedTuple):
    """An instrument, and its decimals as they are written."""

    symbol: str
    prices: Decimals
    quantities: Decimals

    @classmethod
    def of(cls, instrument: Instrument) -> "Written":
        """Return that of an instrument."""
        return cls(instrument.symbol, Decimals(instrument.tick), Decimals(instrument.lot))

    def levels(self, levels: Records) -> bytes:
        """Return levels (LEVEL) as a JSON array: price, quantity, number of orders of each."""
        prices, quantities = self.prices, self.quantities
        rows = [(prices[price], quantities[lots], n) for price, lots, n in levels.tolist()]
        return encode(rows)

    def plain_price(self, ticks: int) -> str:
        """Return a price as text."""
        return bytes(self.prices[ticks])[1:-1].decode()

    def plain_quantity(self, lots: int) -> str:
        """Return a quantity as text."""
        return bytes(self.quantities[lots])[1:-1].decode()


encode = msgspec.json.Encoder().encode


def text(value: object) -> str:
    """Return a value as JSON, as text."""
    return encode(value).decode()
