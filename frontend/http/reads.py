"""Reads over REST, from shared memory alone: books, orders, instruments, and how the product is."""

import time
from collections.abc import Awaitable, Sequence

import numpy as np
from msgspec import Raw

from engine.roles import MATCHER
from frontend.http.api import Api
from frontend.http.errors import ApiError, broken_rule
from frontend.http.market import Market
from frontend.http.models import (
    BookAnswer,
    BookLevel,
    BookQuery,
    HealthAnswer,
    OrderQuery,
    OrdersQuery,
    Query,
    ReadyAnswer,
    SymbolsAnswer,
    SymbolView,
    TopAnswer,
    TopLevel,
    TopQuery,
)
from frontend.http.order_fields import SIDES, STATUSES, OrderAnswer, OrdersAnswer, OrderView
from frontend.http.order_views import order_view, order_views
from frontend.http.product_state import ProductState, Records, newest_first
from frontend.http.queries import limited, read_query
from frontend.http.request import Request
from frontend.http.searches import Work
from frontend.roles import FRONTEND
from ipc.memory.status import ProcessStatus
from ipc.records import ORDER
from ipc.vocabulary import MAX_QUANTITY

READY_WAIT_S = 1.0
"""How long a matcher that is asked whether it takes orders may take to answer."""
_WAITS = {
    "journal_waits": "its journal waits for room on the disk",
    "ring_full_waits": "its trades wait to be logged",
}
"""Counters of a matcher that grow while it is held, and what that means."""

VIEWS_AT_ONCE = 64
_CODES = {word: code for code, word in STATUSES.items()}
_STATUS_RULE = "must be one of " + ", ".join(_CODES)


def order(request: Request) -> OrderAnswer:
    """Show one order, live or ended not long ago."""
    state = request.api.state
    query = read_query(OrderQuery, request.query)
    found = state.order(request.order_id, request.account(query.user_id))
    view = order_view(state, found, query.numbers == "string")
    return OrderAnswer(timestamp=time.time_ns(), order=view)


def orders(request: Request) -> OrdersAnswer | Awaitable[OrdersAnswer]:
    """Show orders, newest first, live and ended not long ago."""
    api = request.api
    query = read_query(OrdersQuery, request.query)
    limit = limited(query.limit, api.config.default_order_limit, api.config.max_order_limit)
    account = request.account(query.user_id)
    market = None if query.symbol is None else api.state.markets.named(query.symbol)
    side = 0 if query.side is None else SIDES[query.side]
    status = None
    if query.status is not None:
        status = _CODES.get(query.status.upper()) if query.status.isascii() else None
        if status is None:
            raise broken_rule("status", _STATUS_RULE)
    searches = [
        table.search(account, 0 if market is None else market.number, side, status, limit)
        for shard, table in api.state.tables.items()
        if market is None or market.shard == shard
    ]
    search = _newest_orders(api.state, searches, limit, query.numbers == "string")
    return api.searches.run(request.user_id, search)


def _newest_orders(
    state: ProductState, searches: Sequence[Work[Records]], limit: int, quoted: bool
) -> Work[OrdersAnswer]:
    """Return the newest orders that searches of tables find, in pieces of a search."""
    found = [np.empty(0, ORDER)]
    for search in searches:
        found.append((yield from search))  # noqa: PERF401
    newest = newest_first(np.concatenate(found), "created_ns")[:limit]
    views: list[OrderView] = []
    for first in range(0, len(newest), VIEWS_AT_ONCE):
        views += order_views(state, newest[first : first + VIEWS_AT_ONCE], quoted)
        yield
    return OrdersAnswer(timestamp=time.time_ns(), orders=views, count=len(views))


def book(request: Request) -> BookAnswer:
    """Show the best price levels of a symbol."""
    api = request.api
    query = read_query(BookQuery, request.query)
    depth = limited(query.depth, api.config.default_depth, api.config.max_depth, "depth")
    quoted = query.numbers == "string"
    market = api.state.markets.named(query.symbol)
    view = api.state.boards[market.shard].read(market.number)
    prices, quantities = market.prices[quoted], market.quantities[quoted]
    bids, asks = view.bids[:depth].tolist(), view.asks[:depth].tolist()
    spread, middle = _between(market, bids, asks, quoted)
    return BookAnswer(
        timestamp=time.time_ns(),
        symbol=market.symbol,
        sequence=view.sequence,
        spread=spread,
        mid_price=middle,
        bids=[BookLevel(prices[p], quantities[q], n) for p, q, n in bids],
        asks=[BookLevel(prices[p], quantities[q], n) for p, q, n in asks],
    )


def top(request: Request) -> TopAnswer:
    """Show the best level of each side."""
    api = request.api
    query = read_query(TopQuery, request.query)
    quoted = query.numbers == "string"
    market = api.state.markets.named(query.symbol)
    view = api.state.boards[market.shard].read(market.number)
    prices, quantities = market.prices[quoted], market.quantities[quoted]
    bids, asks = view.bids[:1].tolist(), view.asks[:1].tolist()
    spread, middle = _between(market, bids, asks, quoted)
    return TopAnswer(
        timestamp=time.time_ns(),
        symbol=market.symbol,
        sequence=view.sequence,
        spread=spread,
        mid_price=middle,
        best_bid=TopLevel(prices[bids[0][0]], quantities[bids[0][1]]) if bids else None,
        best_ask=TopLevel(prices[asks[0][0]], quantities[asks[0][1]]) if asks else None,
    )


def symbols(request: Request) -> SymbolsAnswer:
    """Show what is traded here."""
    quoted = read_query(Query, request.query).numbers == "string"
    markets = request.api.state.markets
    views = [_symbol(market, quoted) for market in markets.all]
    return SymbolsAnswer(
        timestamp=time.time_ns(), symbols=views, default_symbol=markets.default_symbol
    )


def health(request: Request) -> HealthAnswer:
    """Say that this worker is alive."""
    api = request.api
    uptime_s = round(time.monotonic() - api.started, 3)
    return HealthAnswer(
        timestamp=time.time_ns(), status="healthy", version=api.version, uptime_s=uptime_s
    )


async def ready(request: Request) -> ReadyAnswer:
    """Say whether every shard would take an order: each matcher is asked."""
    api = request.api
    before = {process.number: process.counters for process in _matchers(api)}
    silent = await api.entry.not_taking(READY_WAIT_S)
    needed = {role.name for role in api.state.page.roles if role.needed}
    down = [
        f"{process.role} {process.number}: {process.state}"
        for process in api.state.page.processes()
        if process.role in needed and process.state != "ready"
    ]
    down += [
        f"frontend {process.number}: reaches not every shard"
        for process in api.state.page.processes()
        if process.role == FRONTEND.name and process.counters["shards_down"]
    ]
    for process in _matchers(api):
        shard = process.number
        why = [
            text
            for name, text in _WAITS.items()
            if process.counters[name] > before[shard].get(name, 0)
        ]
        if shard in silent and process.state == "ready":
            down.append(f"matcher {shard}: {', '.join([silent[shard], *why])}")
        ring = api.state.rings[shard]
        if any(ring.published - cursor >= ring.capacity for cursor in ring.cursors()):
            down.append(f"matcher {shard}: {_WAITS['ring_full_waits']}")
    if down:
        raise ApiError("NOT_READY", f"not ready: {', '.join(down)}", down=down)
    return ReadyAnswer(timestamp=time.time_ns(), status="ready", shards=len(api.state.shards))


def _matchers(api: Api) -> list[ProcessStatus]:
    return [process for process in api.state.page.processes() if process.role == MATCHER.name]


def _between(
    market: Market,
    bids: Sequence[tuple[int, int, int]],
    asks: Sequence[tuple[int, int, int]],
    quoted: bool,
) -> tuple[Raw | None, Raw | None]:
    """Return spread and middle of the best prices; None where a side is empty."""
    if not bids or not asks:
        return None, None
    bid, ask = bids[0][0], asks[0][0]
    return market.prices[quoted][ask - bid], market.middle(bid, ask, quoted)


def _symbol(market: Market, quoted: bool) -> SymbolView:
    prices, quantities = market.prices[quoted], market.quantities[quoted]
    instrument = market.instrument
    return SymbolView(
        symbol=market.symbol,
        tick_size=prices[1],
        lot_size=quantities[1],
        min_price=prices[instrument.min_price],
        max_price=prices[instrument.max_price],
        max_quantity=quantities[MAX_QUANTITY],
        shard=market.shard,
    )
