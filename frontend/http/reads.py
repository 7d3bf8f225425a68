"""Reads over REST, from shared memory alone: books, orders, instruments, and how the product is."""

import time
from collections.abc import Awaitable, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import UNSET, Raw, UnsetType

from engine.history.history import ALWAYS_NS, Page, everything
from engine.roles import DATABASE, HISTORY, MATCHER, MONGODB, Role
from frontend.http import pages
from frontend.http.api import Api
from frontend.http.errors import ApiError, broken_rule
from frontend.http.history_reads import MEMORY, WITH_MEMORY
from frontend.http.market import Market
from frontend.http.market_models import (
    BookAnswer,
    BookLevel,
    BookQuery,
    SymbolsAnswer,
    SymbolView,
    TopAnswer,
    TopLevel,
    TopQuery,
)
from frontend.http.models import HealthAnswer, HistoryHealth, Query, ReadyAnswer, Source, TimeAnswer
from frontend.http.order_fields import SIDES, STATUSES, OrderAnswer, OrdersAnswer, OrderView
from frontend.http.order_models import ClientOrderQuery, OrderQuery, OrdersQuery
from frontend.http.order_views import order_view, order_views
from frontend.http.product_state import ProductState, newest_first
from frontend.http.queries import client_order_id, limited, read_query
from frontend.http.request import Request
from frontend.http.searches import Work
from frontend.roles import FRONTEND
from frontend.times import time_text
from ipc.arrays import Records, joined
from ipc.memory.status import ProcessStatus
from ipc.records import ORDER, SEQUENCE_MASK, make_id, sequence_of, shard_of
from ipc.vocabulary import MAX_QUANTITY

READY_WAIT_S = 1.0
"""How long a matcher that is asked whether it takes orders may take to answer."""
_WAITS = {
    "journal_waits": "its journal waits for room on the disk",
    "ring_full_waits": "its trades wait to be logged",
}
"""Counters of a matcher that grow while it is held, and what that means."""

VIEWS_AT_ONCE = 64
MOST_TIMED = 65_536
"""Orders in memory that are looked through for those of a time."""
_CODES = {word: code for code, word in STATUSES.items()}
_STATUS_RULE = "must be one of " + ", ".join(_CODES)


def order(request: Request) -> OrderAnswer | Awaitable[OrderAnswer]:
    """Show one order, live or ended."""
    state = request.api.state
    query = read_query(OrderQuery, request.query)
    account, quoted = request.account(query.user_id), query.numbers == "string"
    try:
        found = state.order(request.order_id, account)
    except ApiError as missing:
        if not request.api.history.kept:
            raise
        return _past_order(request, account, quoted, missing)
    source: Source | UnsetType = MEMORY if request.api.history.kept else UNSET
    view = order_view(state, found, quoted)
    return OrderAnswer(timestamp=time.time_ns(), order=view, source=source)


async def _past_order(
    request: Request, account: int | None, quoted: bool, missing: ApiError
) -> OrderAnswer:
    """Return an order that memory does not have. Raises ``missing`` where nobody has it."""
    api, order_id = request.api, request.order_id
    if shard_of(order_id) not in api.state.tables:
        raise missing
    answer = await api.history.order(request.user_id, order_id)
    if answer is None:
        raise ApiError("BUSY", "the history cannot be read now; try again")
    (found, last), source = answer
    if not len(found):
        given = [
            matcher.counters["order_sequence"]
            for matcher in _matchers(api)
            if matcher.number == shard_of(order_id)
        ]
        if last < sequence_of(order_id) <= max(given, default=0):
            raise ApiError("BUSY", "the history has not come to this order yet; try again")
        raise missing
    if account is not None and found[0]["account"] != account:
        raise missing
    view = order_view(api.state, found[0], quoted)
    return OrderAnswer(timestamp=time.time_ns(), order=view, source=source)


def client_order(request: Request) -> OrderAnswer | Awaitable[OrderAnswer]:
    """Show the newest order under a client_order_id of a user."""
    query = read_query(ClientOrderQuery, request.query)
    market = request.api.state.markets.named(query.symbol)
    user_id = request.user(query.user_id)
    search = _client_order(request, user_id, market, query.numbers == "string")
    return request.api.searches.run(request.user_id, search)


def _client_order(
    request: Request, user_id: str, market: Market, quoted: bool
) -> Work[OrderAnswer]:
    state = request.api.state
    found = yield from state.search_client_order(user_id, market, client_order_id(request.name))
    return OrderAnswer(timestamp=time.time_ns(), order=order_view(state, found, quoted))


def orders(request: Request) -> OrdersAnswer | Awaitable[OrdersAnswer]:
    """Show orders, newest first: live and ended not long ago, and where a history is kept all."""
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
    timed = query.from_ is not None or query.to is not None
    most = MOST_TIMED if timed else limit
    shards = [s for s in api.state.tables if market is None or market.shard == s]
    below = everything(shards)
    if query.cursor is not None:
        sequences = pages.read(query.cursor, shards)
        below = {shard: make_id(shard, min(n, SEQUENCE_MASK)) for shard, n in sequences.items()}
    searches = {
        shard: api.state.tables[shard].search(
            account, 0 if market is None else market.number, side, status, most, below=first
        )
        for shard, first in below.items()
    }
    page = Page(
        below,
        limit,
        None if market is None else market.number,
        account,
        query.from_ or 0,
        ALWAYS_NS if query.to is None else query.to,
        [] if status is None else [status],
        side or None,
    )
    quoted = query.numbers == "string"
    search = _newest_orders(list(searches.values()), page)
    if not api.history.kept:
        found = _orders_answer(api.state, _in_memory(search, page), quoted)
        return api.searches.run(request.user_id, found)
    return _with_history(request, api.searches.run(request.user_id, search), page, quoted)


def _newest_orders(searches: Sequence[Work[Records]], page: Page) -> Work[Records]:
    """Return the newest orders that searches of tables find, in pieces of a search."""
    found = [np.empty(0, ORDER)]
    for search in searches:
        found.append((yield from search))  # noqa: PERF401
    newest = newest_first(joined(found), "created_ns")
    times = newest["created_ns"]
    return newest[(times >= page.from_ns) & (times < page.to_ns)][: page.limit]


class _Found(NamedTuple):
    """The orders of a page, and the cursor of the next one."""

    orders: Records
    next: str | None


def _in_memory(search: Work[Records], page: Page) -> Work[_Found]:
    """Return a page of what memory has alone."""
    newest = yield from search
    return _Found(newest, _next_page(page, newest) if len(newest) == page.limit else None)


def _next_page(page: Page, orders: Records) -> str:
    """Return the cursor of the page behind orders."""
    below = {shard: first - make_id(shard, 0) for shard, first in page.below.items()}
    seen = ((shard_of(i), sequence_of(i)) for i in orders["order_id"].tolist())
    return pages.written(pages.lowered(below, seen).values())


def _orders_answer(
    state: ProductState, search: Work[_Found], quoted: bool, source: Source | UnsetType = UNSET
) -> Work[OrdersAnswer]:
    """Return the answer with what a search finds, in pieces of a search."""
    found = yield from search
    views: list[OrderView] = []
    for first in range(0, len(found.orders), VIEWS_AT_ONCE):
        views += order_views(state, found.orders[first : first + VIEWS_AT_ONCE], quoted)
        yield
    return OrdersAnswer(
        timestamp=time.time_ns(), orders=views, count=len(views), next=found.next, source=source
    )


async def _with_history(
    request: Request, found: Records | Awaitable[Records], page: Page, quoted: bool
) -> OrdersAnswer:
    """Return what memory has of a page, and what the history has beside that."""
    api = request.api
    newest = found if isinstance(found, np.ndarray) else await found
    answered = await api.history.orders(request.user_id, page)
    source = MEMORY if answered is None else WITH_MEMORY[answered.source]

    def both() -> Work[_Found]:
        yield
        if answered is not None:
            return _joined(api.state, newest, answered.rows, page)
        # The history has more, which whoever goes on gets once it can be read.
        return _Found(newest, _next_page(page, newest) if len(newest) else None)

    answer = api.searches.run(request.user_id, _orders_answer(api.state, both(), quoted, source))
    return answer if isinstance(answer, OrdersAnswer) else await answer


def _joined(state: ProductState, newest: Records, past: Records, page: Page) -> _Found:
    """Return a page of what memory has and what the history has, each order once, as it is now."""
    whole = len(newest) < page.limit and len(past) < page.limit
    seen = joined((newest, past))
    past = past[~np.isin(past["order_id"], newest["order_id"])]
    # Memory may show one otherwise by now, which the history has not come to: that counts.
    current = [state.tables[shard_of(i)].get(i) for i in past["order_id"].tolist()]
    for place, order in enumerate(current):
        if order is not None:
            past[place] = order
    if page.statuses:
        past = past[np.isin(past["ord_status"], list(page.statuses))]
    every = newest_first(joined((newest, past)), "created_ns")
    shown = every[: page.limit]
    if whole and len(every) <= page.limit:
        return _Found(shown, None)
    return _Found(shown, _next_page(page, shown if len(shown) == page.limit else seen))


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


def clock(request: Request) -> TimeAnswer:
    """Show the time of the product's clock."""
    now_ns = time.time_ns()
    return TimeAnswer(timestamp=now_ns, time=time_text(now_ns))


def health(request: Request) -> HealthAnswer:
    """Say that this worker is alive."""
    api = request.api
    uptime_s = round(time.monotonic() - api.started, 3)
    return HealthAnswer(
        timestamp=time.time_ns(),
        status="healthy",
        version=api.version,
        uptime_s=uptime_s,
        history=_exporter_health(api, HISTORY),
        database=_exporter_health(api, DATABASE),
        mongodb=_exporter_health(api, MONGODB),
    )


def _exporter_health(api: Api, role: Role) -> HistoryHealth | UnsetType:
    """Return how an exporter is; UNSET where there is none."""
    if not api.history.kept:
        return UNSET
    for exporter in api.state.page.processes():
        if exporter.role == role.name:
            lags = (exporter.counters[name] for name in ("lag_commands", "lag_ms", "lag_bytes"))
            return HistoryHealth(exporter.state, *lags)
    return UNSET


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
