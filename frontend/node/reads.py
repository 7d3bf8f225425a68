"""The routes of a node: the same handlers, once what they look for was fetched.

Whoever is answered sees what was answered before: a read waits until the picture stands for it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import numpy as np

from frontend.http import routes
from frontend.http.errors import ApiError
from frontend.http.market_models import TradesQuery
from frontend.http.metrics import CONTENT_TYPE, metrics
from frontend.http.models import HealthAnswer, Query, ReadyAnswer
from frontend.http.order_models import ClientOrderQuery, OrderQuery, OrdersQuery
from frontend.http.orders import not_open
from frontend.http.pages import read as read_cursor
from frontend.http.queries import read_query
from frontend.http.request import Request
from frontend.http.routes import ROUTES, Route
from frontend.node.entry import NodeEntry
from frontend.node.orders import order_of
from frontend.node.state import NodeState
from ipc.arrays import Records
from ipc.records import ORDER, SEQUENCE_MASK, account_of, make_id, shard_of

READY_WAIT_S = 1.0
Handler = routes.Handler
_NOTHING = np.zeros(0, ORDER)


def _state(request: Request) -> NodeState:
    state = request.api.state
    assert isinstance(state, NodeState)
    return state


async def _answer(request: Request, handler: Handler) -> Any:
    found = handler(request)
    return await found if isinstance(found, Awaitable) else found


def with_order(handler: Handler) -> Handler:
    """Return a handler that finds the order that its request shows."""

    async def fetched(request: Request) -> Any:
        state, shard = _state(request), shard_of(request.order_id)
        if shard not in state.held:
            return await _answer(request, handler)
        found = await state.fetch([request.order_id])
        with state.held[shard].holding(found, None, all_of=False):
            return await _answer(request, handler)

    return _described(fetched, handler)


def with_own_order(handler: Handler) -> Handler:
    """Return a handler that finds the order that its request changes."""

    async def fetched(request: Request) -> Any:
        state, shard = _state(request), shard_of(request.order_id)
        if shard not in state.held:
            return await _answer(request, handler)
        found = await own_order(request, _named(request))
        try:
            with state.held[shard].holding(found, None, all_of=False):
                return await _answer(request, handler)
        except ApiError as error:
            if error.code != "ORDER_NOT_FOUND" or not len(found):
                raise
            refused = error
        # It rests no more: what was found before it was tried may not say so.
        for order in await own_order(request, _named(request)):
            raise not_open(order, "order_id", refused)
        raise refused

    return _described(fetched, handler)


def _named(request: Request) -> str | None:
    named: str | None = read_query(OrderQuery, request.query).user_id
    return named


async def own_order(request: Request, named: str | None) -> Records:
    """Return the order (ORDER) of a request: as the product shows it to the user who is named, so
    that it can be cancelled while Redis is away; where nobody is, from Redis."""
    state, entry = _state(request), request.api.entry
    assert isinstance(entry, NodeEntry)
    try:
        user_id = request.user(named)
    except ApiError:
        await state.reach(entry.seen_by(None))
        return await state.fetch([request.order_id])
    session = await entry.session_of(user_id)
    found = await session.order(request.order_id)
    if found is None:
        return _NOTHING
    return order_of(found, account_of(user_id), state.texts)


def with_orders(
    query_type: type[Query], handler: Handler, *, always: bool = True, needed: bool = True
) -> Handler:
    """Return a handler that finds the orders of the user of its request; ``always``: or else the
    newest of all. ``needed``: there is no answer without."""

    async def fetched(request: Request) -> Any:
        state, query = _state(request), read_query(query_type, request.query)
        named = getattr(query, "user_id", None)
        account = request.account(named) if always or named is not None else None
        if account is None and not always:
            return await _answer(request, handler)
        symbol = getattr(query, "symbol", None)
        shards = state.shards if symbol is None else [state.markets.named(symbol).shard]
        below = {shard: make_id(shard + 1, 0) for shard in shards}
        cursor = getattr(query, "cursor", None)
        if cursor is not None and query_type is OrdersQuery:
            for shard, sequence in read_cursor(cursor, shards).items():
                below[shard] = make_id(shard, min(sequence, SEQUENCE_MASK))
        each = [state.fetch_of(shard, account, below[shard]) for shard in shards]
        answers = await asyncio.gather(*each, return_exceptions=not needed)
        found = [_NOTHING if isinstance(some, BaseException) else some for some in answers]
        with ExitStack() as stack:
            for shard, orders in zip(shards, found, strict=True):
                stack.enter_context(state.held[shard].holding(orders, account, all_of=True))
            return await _answer(request, handler)

    return _described(fetched, handler)


def health(request: Request) -> HealthAnswer:
    """Say that this worker is alive."""
    api = request.api
    uptime_s = round(time.monotonic() - api.started, 3)
    return HealthAnswer(
        timestamp=time.time_ns(), status="healthy", version=api.version, uptime_s=uptime_s
    )


def show_metrics(request: Request) -> routes.Content:
    """Show every figure of the node, as Prometheus reads them."""
    own: Any = SimpleNamespace(page=request.api.state.page, rings={}, tables={})
    return routes.Content(metrics(own), CONTENT_TYPE)


async def ready(request: Request) -> ReadyAnswer:
    """Say whether what is current can be read here, and orders be entered."""
    api, state = request.api, _state(request)
    down = [
        f"shard {shard}: {picture.away}"
        for shard, picture in state.pictures.items()
        if picture.away is not None
    ]
    silent = await api.entry.not_taking(READY_WAIT_S)
    down += [f"order entry: {why}" for why in silent.values()]
    if down:
        raise ApiError("NOT_READY", f"not ready: {', '.join(down)}", down=down)
    return ReadyAnswer(timestamp=time.time_ns(), status="ready", shards=len(state.shards))


def _described(made: Callable[..., Any], handler: Handler) -> Handler:
    made.__doc__ = handler.__doc__
    return made


def node_routes() -> tuple[Route, ...]:
    """Return the routes, each with the handler that a node has for it."""
    found = []
    for route in ROUTES:
        key, handler = (route.method, route.path), route.handler
        if "{order_id}" in route.path:
            handler = with_order(handler) if route.method == "GET" else with_own_order(handler)
        elif key == ("GET", routes.BY_CLIENT_ID):
            handler = with_orders(ClientOrderQuery, handler)
        elif key == ("DELETE", routes.BY_CLIENT_ID):
            handler = with_orders(ClientOrderQuery, handler, needed=False)
        elif key == ("GET", "/orders"):
            handler = with_orders(OrdersQuery, handler)
        elif key == ("GET", "/trades"):
            handler = with_orders(TradesQuery, handler, always=False)
        elif key == ("GET", "/health"):
            handler = health
        elif key == ("GET", "/metrics"):
            handler = show_metrics
        elif key == ("GET", "/ready"):
            handler = ready
        found.append(route._replace(handler=handler))
    return tuple(found)
