"""The shapes of REST requests and answers; the OpenAPI description is made of them.

Prices and quantities are JSON numbers written as exact decimals, in the instrument's own decimal
places, or texts of the same with ``numbers=string``; times are nanoseconds since the epoch; ids
are below 2^53. Requests take prices and quantities as numbers or as texts, exactly as written.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ipc.vocabulary import MAX_CLIENT_ID
from ipc.wire.messages import UserId

MAX_ID = 2**53 - 1

Number = Annotated[
    Raw,
    Meta(
        extra_json_schema={
            "type": ["number", "string"],
            "description": "an exact decimal; a string of it with numbers=string",
        }
    ),
]
"""A decimal that is written already."""
OrderId = Annotated[int, Meta(ge=1, le=MAX_ID)]
Timestamp = Annotated[int, Meta(description="nanoseconds since the epoch")]
Amount = Annotated[
    Raw,
    Meta(
        description="a number, or the text of one",
        extra_json_schema={"type": ["number", "string"], "format": "decimal"},
    ),
]
"""A decimal as it came: ``Market`` reads it."""
Word = Annotated[str, Meta(max_length=64)]
Moment = Annotated[
    int,
    Meta(
        ge=0,
        le=MAX_CLIENT_ID,
        description="nanoseconds since the epoch, or ISO 8601 such as 2026-11-30T17:05:00Z",
    ),
]
"""A time in a query: ``read_query`` has read its text."""
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
Numbers = Literal["number", "string"]
Source = Literal[
    "memory",
    "sqlite",
    "postgres",
    "mongodb",
    "memory, sqlite",
    "memory, postgres",
    "memory, mongodb",
    "memory, log",
]
"""Where an answer comes from, where a history is kept."""


def given(written: Raw | UnsetType) -> Raw | UnsetType:
    """Return a decimal as it came, UNSET where it is null."""
    return UNSET if isinstance(written, Raw) and bytes(written) == b"null" else written


def lowered(word: str) -> str:
    """Return a word in lower case, where it is one: other letters have ASCII ones of theirs."""
    return word.lower() if word.isascii() else word


# Requests ---------------------------------------------------------------------------------------


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


class Query(Struct, forbid_unknown_fields=True, frozen=True):
    """Base of all query strings."""

    numbers: Numbers = "number"


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


class BookQuery(Query, frozen=True):
    """Which book, and how many levels of each side."""

    symbol: Word | None = None
    depth: Annotated[int, Meta(ge=1)] | None = None


class TopQuery(Query, frozen=True):
    """Which book."""

    symbol: Word | None = None


class TickerQuery(Query, frozen=True):
    """Of which symbol."""

    symbol: Word | None = None


class UserTradesQuery(Query, frozen=True, rename={"from_": "from"}):
    """Which trades of a user, as ``TradesQuery`` has them."""

    symbol: Word | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None
    before: OrderId | None = None
    from_: Moment | None = None
    to: Moment | None = None
    cursor: Annotated[str, Meta(max_length=512)] | None = None


class UserDaysQuery(Query, frozen=True, rename={"from_": "from"}):
    """Which days of a user."""

    symbol: Word | None = None
    from_: Moment | None = None
    to: Moment | None = None


class TradesQuery(Query, frozen=True, rename={"from_": "from"}):
    """Which trades: before a trade's id or within ``from`` <= time < ``to``, newest first.

    With ``user_id`` only those of the user's orders that are known still, as ``GET /orders`` is; of
    all of them where a history is kept.
    """

    user_id: UserId | None = None
    symbol: Word | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None
    before: OrderId | None = None
    from_: Moment | None = None
    to: Moment | None = None
    cursor: Annotated[str, Meta(max_length=512)] | None = None


class CandlesQuery(Query, frozen=True, rename={"from_": "from"}):
    """Which candles: of an interval such as 1m, the last ones up to ``to``, oldest first."""

    symbol: Word | None = None
    interval: Word = "1m"
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    from_: Moment | None = None
    to: Moment | None = None


# Answers ----------------------------------------------------------------------------------------


class Answer(Struct, kw_only=True):
    """Base of all good answers."""

    success: bool = True
    timestamp: Timestamp = 0


class ErrorBody(Struct):
    """What went wrong: ``details`` hold the field and the rule that it breaks, where one does."""

    code: str
    message: str
    details: dict[str, Any]


class ErrorAnswer(Struct):
    """Every answer that is an error."""

    error: ErrorBody
    timestamp: Timestamp
    success: bool = False


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
    client_order_id: int | UnsetType = UNSET
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
    client_order_id: int | UnsetType = UNSET
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


class BookLevel(Struct):
    """One price level."""

    price: Number
    quantity: Number
    order_count: int


class TopLevel(Struct):
    """The best level of a side."""

    price: Number
    quantity: Number


class BookAnswer(Answer, kw_only=True):
    """The best levels of both sides, best first, after the shard's command ``sequence``."""

    symbol: str
    sequence: int
    spread: Number | None
    mid_price: Number | None
    bids: list[BookLevel]
    asks: list[BookLevel]


class TopAnswer(Answer, kw_only=True):
    """The best level of each side; null where a side is empty."""

    symbol: str
    sequence: int
    spread: Number | None
    mid_price: Number | None
    best_bid: TopLevel | None
    best_ask: TopLevel | None


class TradeView(Struct):
    """One trade."""

    trade_id: int
    symbol: str
    buy_order_id: int
    sell_order_id: int
    price: Number
    quantity: Number
    timestamp: Timestamp
    taker_side: Literal["buy", "sell"]
    order_id: int | UnsetType = UNSET
    """With ``user_id``: which order is the user's, the taker where both are; its side and part."""
    side: Literal["buy", "sell"] | UnsetType = UNSET
    liquidity: Literal["maker", "taker"] | UnsetType = UNSET


class TradesAnswer(Answer, kw_only=True):
    """Trades, newest first; ``next`` is the cursor of the page of older ones, null on the last."""

    trades: list[TradeView]
    count: int
    next: str | None
    source: Source | UnsetType = UNSET


class WrittenTrades(Answer, kw_only=True):
    """What ``TradesAnswer`` is, its trades written already."""

    trades: Raw
    count: int
    next: str | None
    source: Source | UnsetType = UNSET


class UserDay(Struct):
    """What a user has traded of a symbol in a day (UTC) that begins at ``timestamp``: quantities
    bought and sold, what was paid and received for them. A trade with oneself is both."""

    timestamp: Timestamp
    symbol: str
    trades: int
    bought: Number
    sold: Number
    paid: Number
    received: Number


class UserDaysAnswer(Answer, kw_only=True):
    """A user's days, the newest first; ``next`` is the ``to`` of the next page, null on the last
    one."""

    days: list[UserDay]
    count: int
    next: Timestamp | None
    source: Source


class SymbolView(Struct):
    """One instrument."""

    symbol: str
    tick_size: Number
    lot_size: Number
    min_price: Number
    max_price: Number
    max_quantity: Number
    shard: int


class SymbolsAnswer(Answer, kw_only=True):
    """All instruments."""

    symbols: list[SymbolView]
    default_symbol: str | None


class Candle(Struct):
    """The trades of one interval, which begins at ``timestamp``."""

    timestamp: Timestamp
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    trades: int


class CandlesAnswer(Answer, kw_only=True):
    """Candles of the intervals that had trades, oldest first."""

    symbol: str
    interval: str
    candles: list[Candle]
    count: int
    source: Source | UnsetType = UNSET


class HistoryHealth(Struct):
    """How the exporter is, and how far it is behind: ``lag_bytes`` of finished journal."""

    state: str
    lag_commands: int
    lag_ms: int
    lag_bytes: int


class TickerAnswer(Answer, kw_only=True, rename={"from_": "from"}):
    """The market of a symbol at a glance.

    ``last_price`` is that of the last trade of all, null where none is known. ``open_price`` to
    ``trades`` are of the trades from ``from`` on: whole minutes, the 24 hours before ``timestamp``
    and up to a minute more; later where older trades are not kept any more.
    """

    symbol: str
    last_price: Number | None
    best_bid: TopLevel | None
    best_ask: TopLevel | None
    from_: Timestamp
    open_price: Number | None
    high_price: Number | None
    low_price: Number | None
    volume: Number
    trades: int


class TimeAnswer(Answer, kw_only=True):
    """The clock of the product: ``timestamp`` as ISO 8601."""

    time: str


class HealthAnswer(Answer, kw_only=True):
    """This worker is alive."""

    status: Literal["healthy"]
    version: str
    uptime_s: float
    history: HistoryHealth | UnsetType = UNSET
    database: HistoryHealth | UnsetType = UNSET
    mongodb: HistoryHealth | UnsetType = UNSET


class ReadyAnswer(Answer, kw_only=True):
    """Every shard serves."""

    status: Literal["ready"]
    shards: int
