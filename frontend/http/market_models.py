"""The shapes of REST requests and answers on markets: books, trades, candles, symbols."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from frontend.http.models import Answer, Moment, Number, OrderId, Query, Source, Timestamp, Word
from ipc.wire.messages import UserId


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
