"""What the client library hands out: the wire's integers, and their decimals beside them."""

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from frontend.client.listings import Listing
from ipc.vocabulary import (
    PREVENTION_SHIFT,
    ExecType,
    Flag,
    Liquidity,
    OrderType,
    OrdStatus,
    Reason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from ipc.wire.messages import BookSnapshot, OrderState, Report, Trade


@dataclass(frozen=True, slots=True)
class _OrderFields:
    """What a report and the state of an order have in common; ``raw`` is in ticks and lots."""

    raw: Report | OrderState
    instrument: Listing

    @property
    def symbol(self) -> str:
        """The instrument's name."""
        return self.instrument.symbol

    @property
    def order_id(self) -> int:
        """The engine's number of the order."""
        return self.raw.order_id

    @property
    def client_order_id(self) -> int | str:
        """The client's own number or text for the order; 0: none."""
        return self.raw.client_order_id

    @property
    def side(self) -> Side:
        """Buy or sell."""
        return Side(self.raw.side)

    @property
    def order_type(self) -> OrderType:
        """Limit, market, or one that waits or waited for its stop price."""
        return OrderType(self.raw.order_type)

    @property
    def time_in_force(self) -> TimeInForce:
        """How long the order may live."""
        return TimeInForce(self.raw.time_in_force)

    @property
    def ord_status(self) -> OrdStatus:
        """The state of the order."""
        return OrdStatus(self.raw.ord_status)

    @property
    def reason(self) -> Reason:
        """Why the order was cancelled; NONE where it was not."""
        return Reason(self.raw.reason)

    @property
    def price(self) -> Decimal:
        """The order's limit; 0 for a market order."""
        return self.instrument.price(self.raw.price)

    @property
    def quantity(self) -> Decimal:
        """The order's total, filled lots included."""
        return self.instrument.quantity(self.raw.quantity)

    @property
    def self_trade_prevention(self) -> SelfTradePrevention:
        """What it does where it would trade with an order of the account."""
        return SelfTradePrevention(self.raw.flags >> PREVENTION_SHIFT & 7)

    @property
    def triggered(self) -> bool:
        """Whether the order's stop price was reached."""
        return bool(self.raw.flags & Flag.TRIGGERED)

    @property
    def cum_qty(self) -> Decimal:
        """What has been filled of it."""
        return self.instrument.quantity(self.raw.cum_qty)

    @property
    def leaves_qty(self) -> Decimal:
        """What is open of it."""
        return self.instrument.quantity(self.raw.leaves_qty)


@dataclass(frozen=True, slots=True)
class Execution(_OrderFields):
    """One report: an order accepted, changed, cancelled or filled. ``raw`` is the wire's Report."""

    raw: Report

    @property
    def exec_type(self) -> ExecType:
        """What happened."""
        return ExecType(self.raw.exec_type)

    @property
    def liquidity(self) -> Liquidity:
        """Of a trade: maker or taker."""
        return Liquidity(self.raw.liquidity)

    @property
    def last_price(self) -> Decimal:
        """The price of this trade; 0 where it is none."""
        return self.instrument.price(self.raw.last_price if self.raw.trade_id else 0)

    @property
    def stop_price(self) -> Decimal:
        """What the order waits for, or was triggered by here; 0 where it is neither."""
        other = self.raw.trade_id or self.reason == Reason.SELF_TRADE
        return self.instrument.price(0 if other else self.raw.last_price)

    @property
    def prevented_qty(self) -> Decimal:
        """What would have been traded with an order of the account; 0 where this is of none."""
        prevented = self.reason == Reason.SELF_TRADE
        return self.instrument.quantity(self.raw.last_qty if prevented else 0)

    @property
    def display_quantity(self) -> Decimal:
        """How much of the order is shown at a time; 0: all of it, or this is a trade."""
        other = self.raw.trade_id or self.reason == Reason.SELF_TRADE
        return self.instrument.quantity(0 if other else self.raw.last_qty)

    @property
    def last_qty(self) -> Decimal:
        """The quantity of this trade; 0 where it is none."""
        return self.instrument.quantity(self.raw.last_qty if self.raw.trade_id else 0)

    @property
    def trade_id(self) -> int:
        """The number of this trade, the same for both sides; 0 where it is none."""
        return self.raw.trade_id

    @property
    def request_id(self) -> int:
        """The command that it answers; 0 where another's command caused it."""
        return self.raw.request_id

    @property
    def timestamp_ns(self) -> int:
        """When the command came to be matched, since the epoch."""
        return self.raw.timestamp_ns

    def __str__(self) -> str:
        """Return one line for people."""
        order = f"{self.symbol} order {self.order_id} {self.side.name} {self.leaves_qty} open"
        if self.exec_type == ExecType.TRADE:
            fill = f"{self.last_qty} at {self.last_price} as {self.liquidity.name}"
            return f"TRADE {self.trade_id} {fill}: {order}"
        return f"{self.exec_type.name} {order} of {self.quantity} at {self.price}"


@dataclass(frozen=True, slots=True)
class OrderView(_OrderFields):
    """The state of one order when it was asked for. ``raw`` is the wire's OrderState."""

    raw: OrderState

    @property
    def stop_price(self) -> Decimal:
        """What the order waits or waited for; 0: it never did."""
        return self.instrument.price(self.raw.stop_price)

    @property
    def display_quantity(self) -> Decimal:
        """How much of it is shown at a time; 0: all of it."""
        return self.instrument.quantity(self.raw.display_quantity)

    @property
    def created_ns(self) -> int:
        """When it was accepted, since the epoch."""
        return self.raw.created_ns

    @property
    def updated_ns(self) -> int:
        """When it last changed, since the epoch."""
        return self.raw.updated_ns


class TradeView(NamedTuple):
    """One trade of a symbol, whoever made it."""

    trade_id: int
    symbol: str
    price: Decimal
    quantity: Decimal
    taker_side: Side
    buy_order_id: int
    sell_order_id: int
    timestamp_ns: int

    @classmethod
    def of(cls, trade: Trade, instrument: Listing) -> "TradeView":
        """Return the decimals of a wire's Trade."""
        return cls(
            trade.trade_id,
            instrument.symbol,
            instrument.price(trade.price),
            instrument.quantity(trade.quantity),
            Side(trade.taker_side),
            trade.buy_order_id,
            trade.sell_order_id,
            trade.timestamp_ns,
        )


class LevelView(NamedTuple):
    """One price level: all that is open at a price."""

    price: Decimal
    quantity: Decimal
    order_count: int


class BookView(NamedTuple):
    """The best levels of both sides, best first, as of the shard's command ``sequence``."""

    symbol: str
    sequence: int
    bids: list[LevelView]
    asks: list[LevelView]

    @classmethod
    def of(cls, book: BookSnapshot, instrument: Listing) -> "BookView":
        """Return the decimals of a wire's BookSnapshot."""
        bids, asks = (
            [
                LevelView(
                    instrument.price(level.price),
                    instrument.quantity(level.quantity),
                    level.order_count,
                )
                for level in levels
            ]
            for levels in (book.bids, book.asks)
        )
        return cls(instrument.symbol, book.sequence, bids, asks)
