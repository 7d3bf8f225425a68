"""The shapes of WebSocket messages, as JSON objects in text frames.

A client sends objects led by ``op``; whatever it gives as ``id`` comes back with the answer.
"""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from frontend.http.market_models import TopLevel, TradeView
from frontend.http.models import ErrorBody, Number, OrderId, Word, lowered
from frontend.http.order_models import Change
from ipc.wire.messages import UserId

RequestTag = Annotated[str, Meta(max_length=64)] | int | None


class Op(Change, kw_only=True):
    """What a client asks: subscribe, unsubscribe, login, order, order_list, replace, cancel,
    cancel_all, ping.

    ``order`` is a new order as in ``POST /orders``, or with order_list what ``POST /orders/list``
    takes; what a replace changes stands beside ``op``.
    """

    op: Word
    id: RequestTag = None
    channel: Word | None = None
    symbol: Word | None = None
    user_id: UserId | None = None
    key: Annotated[str, Meta(max_length=256)] | None = None
    order: Raw = Raw(b"")
    order_id: OrderId | None = None

    def __post_init__(self) -> None:
        """Read words in any letter case."""
        super().__post_init__()
        self.op = lowered(self.op)
        if self.channel is not None:
            self.channel = lowered(self.channel)


class Tag(Struct):
    """What can be read of a message that is wrong elsewhere."""

    id: RequestTag = None


class Message(Struct, kw_only=True, omit_defaults=True):
    """Base of what a client gets."""


class Done(Message, kw_only=True):
    """The answer to an ``op`` that was carried out."""

    type: str
    id: RequestTag = None
    channel: str | UnsetType = UNSET
    symbol: str | UnsetType = UNSET
    user_id: str | UnsetType = UNSET
    result: Any = UNSET
    timestamp: int


class Failed(Message, kw_only=True):
    """The answer to an ``op`` that was not carried out."""

    type: str
    id: RequestTag = None
    error: ErrorBody
    timestamp: int


class DepthMessage(Struct, kw_only=True):
    """A snapshot of a book or a change to it; rows are price, quantity, number of orders."""

    channel: str = "depth"
    type: str
    symbol: str
    sequence: int
    previous: int
    bids: list[tuple[Number, Number, int]]
    asks: list[tuple[Number, Number, int]]
    checksum: int
    timestamp: int


class TradesMessage(Struct, kw_only=True):
    """New trades, oldest first; ``previous`` is the symbol's last trade told before, 0: none."""

    channel: str = "trades"
    type: str = "trades"
    symbol: str
    trades: list[TradeView]
    previous: int


class TickerMessage(Struct, kw_only=True):
    """The best prices and the last trade."""

    channel: str = "ticker"
    type: str = "ticker"
    symbol: str
    sequence: int
    best_bid: TopLevel | None
    best_ask: TopLevel | None
    last_price: Number | None
    last_quantity: Number | None
    timestamp: int


# Written by ipc.schema.generate from here


class OrderEvent(Struct, kw_only=True):
    """What became of an order of the user."""

    channel: str = "orders"
    type: str
    user_id: str
    symbol: str
    order_id: int
    client_order_id: int | str
    side: str
    status: str
    price: Number | None
    quantity: Number
    filled_quantity: Number
    remaining_quantity: Number
    trade_id: int | None
    last_price: Number | None
    last_quantity: Number | None
    liquidity: str | None
    stop_price: Number | None
    prevented_quantity: Number | None
    sequence: int
    timestamp: int
    display_quantity: Number | UnsetType = UNSET


# up to here
