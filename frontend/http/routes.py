"""Every REST route: what serves it, and the types that its OpenAPI description is made of."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from frontend.http import market_models as m
from frontend.http import order_fields as f
from frontend.http import order_lists, orders, reads
from frontend.http import order_models as o
from frontend.http.errors import ApiError
from frontend.http.manual import manual_page
from frontend.http.metrics import CONTENT_TYPE, metrics
from frontend.http.models import HealthAnswer, Query, ReadyAnswer, TimeAnswer
from frontend.http.request import Request
from frontend.http.user_days import user_days

PREFIX = "/api/v1"


class Content(NamedTuple):
    """An answer that is no JSON object of ours."""

    body: bytes
    content_type: bytes


Result = msgspec.Struct | Content
Handler = Callable[[Request], Result | Awaitable[Result] | None]
"""What it returns is the answer; None: ``App.conclude`` gives it later."""


class Route(NamedTuple):
    """One call: its path may have a name in braces, as its last part or the one before.

    ``codes`` are its own errors.
    """

    method: str
    path: str
    handler: Handler
    answer: type[msgspec.Struct] | None
    query: type[Query] | None = Query
    body: type[msgspec.Struct] | None = None
    codes: tuple[str, ...] = ()
    unprefixed: bool = False
    """Also without the prefix."""
    public: bool = False
    """Open to everyone, with keys and without."""
    content_type: str = "application/json"

    @property
    def summary(self) -> str:
        """What it does, in a sentence."""
        return (self.handler.__doc__ or "").strip().partition("\n")[0]


_ORDER_FIELDS = (
    "INVALID_USER_ID",
    "INVALID_PRICE",
    "INVALID_QUANTITY",
    "UNKNOWN_SYMBOL",
)
_NEW = (
    *_ORDER_FIELDS,
    "INVALID_SIDE",
    "INVALID_ORDER_TYPE",
    "INVALID_TIME_IN_FORCE",
    "INVALID_POST_ONLY",
    "PRICE_OUT_OF_BAND",
    "DUPLICATE_CLIENT_ORDER_ID",
    "POST_ONLY_WOULD_TRADE",
    "BOOK_FULL",
    "TOO_MANY_ORDERS",
)
_SENT = ("BODY_TOO_LARGE", "TOO_MANY_REQUESTS", "BUSY", "SHARD_DOWN", "OUTCOME_UNKNOWN")
_ONE = ("ORDER_NOT_FOUND", "INVALID_ORDER_ID")
_CHANGED = ("ORDER_NOT_OPEN",)
_CLIENT_ONE = ("ORDER_NOT_FOUND", "UNKNOWN_SYMBOL", "BUSY")
BY_CLIENT_ID = "/orders/by_client_order_id/{client_order_id}"


def trades(request: Request) -> m.WrittenTrades | Awaitable[m.WrittenTrades]:
    """Show trades, newest first."""
    return request.api.trade_reads.trades(request.query, request.user_id, request.account)


def user_trades(request: Request) -> m.WrittenTrades | Awaitable[m.WrittenTrades]:
    """Show trades of a user, newest first."""
    query = request.query_of_user()
    return request.api.trade_reads.trades(query, request.user_id, request.account)


async def candles(request: Request) -> m.CandlesAnswer:
    """Show candles of the intervals that had trades, oldest first."""
    return await request.api.candles.candles(request.query, request.user_id)


async def ticker(request: Request) -> m.TickerAnswer:
    """Show last price, best prices, and the last 24 hours of a symbol."""
    return await request.api.candles.ticker(request.query)


def show_metrics(request: Request) -> Content:
    """Show every figure of the product, as Prometheus reads them."""
    return Content(metrics(request.api.state), CONTENT_TYPE)


def docs(request: Request) -> Content:
    """Show this description as a page."""
    return Content(request.api.docs_page, b"text/html; charset=utf-8")


def manual(request: Request) -> Content:
    """Show a page of the manual."""
    page = manual_page(request.name)
    if page is None:
        raise ApiError("NOT_FOUND", "there is no page of this name")
    return Content(page, b"text/html; charset=utf-8")


def openapi(request: Request) -> Content:
    """Show this description."""
    return Content(request.api.openapi, b"application/json")


ROUTES = (
    Route(
        "POST",
        "/orders",
        orders.create_order,
        o.OrderResult,
        body=f.NewOrder,
        codes=_NEW + _SENT,
    ),
    Route(
        "POST",
        "/orders/batch",
        orders.create_orders,
        o.BatchResult,
        body=o.Batch,
        codes=_SENT,
    ),
    Route(
        "POST",
        "/orders/list",
        order_lists.create_order_list,
        o.OrderListResult,
        body=order_lists.OrderList,
        codes=(*_NEW, "INVALID_STOP_PRICE", "INVALID_EXPIRE_TIME", "INVALID_LIST", *_SENT),
    ),
    Route(
        "GET",
        "/orders",
        reads.orders,
        f.OrdersAnswer,
        o.OrdersQuery,
        codes=("UNKNOWN_SYMBOL",),
    ),
    Route("GET", "/orders/{order_id}", reads.order, f.OrderAnswer, o.OrderQuery, codes=_ONE),
    Route(
        "PATCH",
        "/orders/{order_id}",
        orders.replace_order,
        o.OrderResult,
        o.OrderQuery,
        o.Replacement,
        _ORDER_FIELDS
        + _ONE
        + _CHANGED
        + _SENT
        + ("PRICE_OUT_OF_BAND", "ALREADY_FILLED", "POST_ONLY_WOULD_TRADE"),
    ),
    Route(
        "DELETE",
        "/orders/{order_id}",
        orders.cancel_order,
        o.CancelAnswer,
        o.OrderQuery,
        codes=_ONE + _CHANGED + _SENT,
    ),
    Route(
        "GET",
        BY_CLIENT_ID,
        reads.client_order,
        f.OrderAnswer,
        o.ClientOrderQuery,
        codes=_CLIENT_ONE,
    ),
    Route(
        "DELETE",
        BY_CLIENT_ID,
        orders.cancel_client_order,
        o.CancelAnswer,
        o.ClientOrderQuery,
        codes=_CLIENT_ONE + _CHANGED + _SENT,
    ),
    Route(
        "DELETE",
        "/orders",
        orders.cancel_orders,
        o.CancelAllAnswer,
        o.CancelQuery,
        codes=("UNKNOWN_SYMBOL", *_SENT),
    ),
    Route("GET", "/orderbook", reads.book, m.BookAnswer, m.BookQuery, codes=("UNKNOWN_SYMBOL",)),
    Route("GET", "/orderbook/top", reads.top, m.TopAnswer, m.TopQuery, codes=("UNKNOWN_SYMBOL",)),
    Route(
        "GET", "/trades", trades, m.TradesAnswer, m.TradesQuery, codes=("UNKNOWN_SYMBOL", "BUSY")
    ),
    Route(
        "GET",
        "/users/{user_id}/trades",
        user_trades,
        m.TradesAnswer,
        m.UserTradesQuery,
        codes=("INVALID_USER_ID", "UNKNOWN_SYMBOL", "BUSY"),
    ),
    Route(
        "GET",
        "/users/{user_id}/days",
        user_days,
        m.UserDaysAnswer,
        m.UserDaysQuery,
        codes=("INVALID_USER_ID", "UNKNOWN_SYMBOL", "NOT_FOUND", "BUSY"),
    ),
    Route(
        "GET",
        "/candles",
        candles,
        m.CandlesAnswer,
        m.CandlesQuery,
        codes=("UNKNOWN_SYMBOL", "BUSY"),
    ),
    Route(
        "GET", "/ticker", ticker, m.TickerAnswer, m.TickerQuery, codes=("UNKNOWN_SYMBOL", "BUSY")
    ),
    Route("GET", "/symbols", reads.symbols, m.SymbolsAnswer),
    Route("GET", "/time", reads.clock, TimeAnswer, None, public=True),
    Route("GET", "/health", reads.health, HealthAnswer, None, unprefixed=True, public=True),
    Route(
        "GET",
        "/ready",
        reads.ready,
        ReadyAnswer,
        None,
        codes=("NOT_READY",),
        unprefixed=True,
        public=True,
    ),
    Route(
        "GET",
        "/metrics",
        show_metrics,
        None,
        None,
        unprefixed=True,
        content_type="text/plain; version=0.0.4; charset=utf-8",
    ),
    Route(
        "GET",
        "/docs",
        docs,
        None,
        None,
        unprefixed=True,
        public=True,
        content_type="text/html; charset=utf-8",
    ),
    Route(
        "GET",
        "/docs/{page}",
        manual,
        None,
        None,
        codes=("NOT_FOUND",),
        unprefixed=True,
        public=True,
        content_type="text/html; charset=utf-8",
    ),
    Route("GET", "/openapi.json", openapi, None, None, unprefixed=True, public=True),
)
