"""The shapes of REST requests and answers on orders, as ``frontend.http.models`` has all of them.

Prices and quantities are taken as numbers or as texts, exactly as written.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from frontend.http.models import Answer, ErrorBody, Moment, Number, Query, Timestamp, Word
from ipc.wire.messages import UserId

Amount = Annotated[
    Raw,
    Meta(
        description="a number, or the text of one",
        extra_json_schema={"type": ["number", "string"], "format": "decimal"},
    ),
]
"""A decimal as it came: ``Market`` reads it."""
Side = Literal["BUY", "SELL"]
OrderType = Literal[
    "MARKET",
    "LIMIT",
    "STOP",
    "STOP_LIMIT",
    "MARKET_IF_TOUCHED",
    "MARKET_TO_LIMIT",
    "LIMIT_IF_TOUCHED",
    "MARKET_WITH_PROTECTION",
]
TimeInForce = Literal["DAY", "GTC", "IOC", "FOK", "GTD"]
SelfTradePrevention = Literal["NONE", "CANCEL_NEWEST", "CANCEL_OLDEST", "CANCEL_BOTH", "DECREMENT"]
Status = Literal["OPEN", "PARTIAL", "FILLED", "CANCELLED", "REJECTED", "EXPIRED"]
CancelReason = Annotated[str, Meta(description="the name of a Reason of 100 and up")]


def given(written: Raw | UnsetType) -> Raw | UnsetType:
    """Return a decimal as it came, UNSET where it is null."""
    return UNSET if isinstance(written, Raw) and bytes(written) == b"null" else written


class RequestBody(Struct, forbid_unknown_fields=True):
    """Base of all bodies: no field unknown."""


class Batch(RequestBody):
    """Many orders; each is an object as in ``POST /orders``, and is judged by itself."""

    orders: list[Raw]


class Change(RequestBody):
    """What a replacement changes of an order; what is left out stays.

    ``quantity`` counts what is filled already. ``stop_price`` is for an order that waits for it,
    ``display_quantity`` for one that has one.
    """

    price: Amount | UnsetType = UNSET
    quantity: Amount | UnsetType = UNSET
    stop_price: Amount | UnsetType = UNSET
    display_quantity: Amount | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Take null for left out."""
        self.price, self.quantity = given(self.price), given(self.quantity)
        self.stop_price = given(self.stop_price)
        self.display_quantity = given(self.display_quantity)


class Replacement(Change):
    """New price and quantity of a resting order; what is left out stays.

    ``quantity`` counts what is filled already. ``stop_price`` is for an order that waits for it.
    """

    user_id: UserId | UnsetType = UNSET


class OrderQuery(Query, frozen=True):
    """Whose order it is; needed only where that cannot be told otherwise."""

    user_id: UserId | None = None


class ClientOrderQuery(Query, frozen=True):
    """Whose order it is, and of which symbol."""

    user_id: UserId | None = None
    symbol: Word | None = None


class OrdersQuery(Query, frozen=True, rename={"from_": "from"}):
    """Which orders of a user: of entry within ``from`` <= time < ``to``, newest first."""

    user_id: UserId | None = None
    symbol: Word | None = None
    side: Word | None = None
    status: Word | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None
    from_: Moment | None = None
    to: Moment | None = None
    cursor: Annotated[str, Meta(max_length=4_096)] | None = None


class CancelQuery(Query, frozen=True):
    """Whose orders to cancel, in one symbol or in all."""

    user_id: UserId | None = None
    symbol: Word | None = None


class OrderTrade(Struct):
    """One trade of the order that was sent."""

    trade_id: int
    buy_order_id: int
    sell_order_id: int
    price: Number
    quantity: Number
    timestamp: Timestamp


class OrderResult(Answer, kw_only=True):
    """What became of an order at once."""

    order_id: int
    status: Status
    filled_quantity: Number
    remaining_quantity: Number
    trades: list[OrderTrade]
    client_order_id: int | str | UnsetType = UNSET
    cancelled_quantity: Number | UnsetType = UNSET
    """Of an order that was cancelled at once: what it did not trade, and why."""
    reason: CancelReason | UnsetType = UNSET
    reason_text: str | UnsetType = UNSET


class OrderListResult(OrderResult, kw_only=True):
    """What became of the first order of a list at once, and which orders it has."""

    order_ids: list[int]


class BatchItem(Struct, omit_defaults=True, kw_only=True):
    """What became of one order of a batch."""

    index: int
    success: bool
    order_id: int | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    filled_quantity: Number | UnsetType = UNSET
    remaining_quantity: Number | UnsetType = UNSET
    trades: list[OrderTrade] | UnsetType = UNSET
    client_order_id: int | str | UnsetType = UNSET
    cancelled_quantity: Number | UnsetType = UNSET
    reason: CancelReason | UnsetType = UNSET
    reason_text: str | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


class BatchSummary(Struct):
    """How many orders a batch had, and how many were taken."""

    total: int
    successful: int
    failed: int


class BatchResult(Answer, kw_only=True):
    """The results of a batch, in the order of its orders."""

    results: list[BatchItem]
    summary: BatchSummary


class CancelAnswer(Answer, kw_only=True):
    """One order that is cancelled, and what it had done before."""

    order_id: int
    status: Status
    filled_quantity: Number
    remaining_quantity: Number


class CancelAllAnswer(Answer, kw_only=True):
    """How many orders were cancelled."""

    cancelled: int
