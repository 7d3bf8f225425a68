"""Order entry over REST: new orders one by one and in batches, replacement, cancellation."""

import time
from collections.abc import Awaitable
from functools import partial

import msgspec
import numpy as np
from msgspec import UNSET

from frontend.http.api import Api
from frontend.http.errors import ApiError, broken_rule
from frontend.http.market import Market
from frontend.http.models import (
    Batch,
    BatchItem,
    BatchResult,
    BatchSummary,
    CancelAllAnswer,
    CancelAnswer,
    CancelQuery,
    OrderQuery,
    OrderResult,
    Query,
    Replacement,
)
from frontend.http.order_entry import Outcome
from frontend.http.order_requests import Entry, decode, read_order
from frontend.http.order_views import STATUSES, order_result, outcome
from frontend.http.request import Request, read_query
from frontend.http.user_session import UserSession
from ipc.messages import Cancel, MassCancel, MassCancelReport, Replace
from ipc.vocabulary import OrdStatus

_batch_decoder = msgspec.json.Decoder(Batch)
_replacement_decoder = msgspec.json.Decoder(Replacement)
_ENDED = (int(OrdStatus.FILLED), int(OrdStatus.CANCELED))


def create_order(request: Request) -> Awaitable[OrderResult] | None:
    """Enter an order; the answer tells what became of it at once."""
    assert request.conclude is not None
    entering = _begin(request)
    entry = request.api.entry
    session = entry.open_session_of(entering.user)
    if session is None:
        return entering.carry_out()
    entry.check_room(session)
    entry.send(session, entering.order.command, partial(request.conclude, entering.result))
    return None


async def enter_order(request: Request) -> OrderResult:
    """Do what ``create_order`` does, for who awaits."""
    return await _begin(request).carry_out()


class _Entering(msgspec.Struct):
    """An order on its way in. Raises ``ApiError``."""

    api: Api
    begun_ns: int
    quoted: bool
    user: str
    order: Entry

    async def carry_out(self) -> OrderResult:
        entry = self.api.entry
        session = await entry.session_of(self.user)
        entry.check_room(session)
        return self.result(await entry.ask(session, self.order.command))

    def result(self, found: Outcome) -> OrderResult:
        """Return what became of it."""
        self.api.meter.orders(1, time.perf_counter_ns() - self.begun_ns)
        market, command = self.order.market, self.order.command
        return order_result(self.api, found, market, self.quoted, command.client_order_id)


def _begin(request: Request) -> _Entering:
    """Read the order of a request. Raises ``ApiError``."""
    begun_ns = time.perf_counter_ns()
    api = request.api
    quoted = read_query(Query, request.query).numbers == "string"
    order = read_order(request.body, api.markets, api.entry.next_id())
    return _Entering(api, begun_ns, quoted, request.user(order.user_id), order)


async def create_orders(request: Request) -> BatchResult:
    """Enter up to ``max_batch_orders`` orders; each succeeds or fails by itself."""
    api = request.api
    quoted = read_query(Query, request.query).numbers == "string"
    orders = decode(_batch_decoder, request.body).orders
    most = api.config.max_batch_orders
    if not 1 <= len(orders) <= most:
        raise broken_rule("orders", f"must be 1 to {most} orders")
    begun = time.perf_counter_ns()
    results: list[BatchItem | None] = [None] * len(orders)
    waiting = []
    for index, data in enumerate(orders):
        try:
            entry = read_order(data, api.markets, api.entry.next_id())
            session = await api.entry.session_of(request.user(entry.user_id))
            api.entry.check_room(session)
        except Exception as error:
            results[index] = _failed(api, index, error)
        else:
            waiting.append((index, entry, api.entry.ask(session, entry.command)))
    for index, entry, answer in waiting:
        results[index] = _batch_item(request, index, entry, await answer, quoted)
    api.meter.orders(len(waiting), time.perf_counter_ns() - begun)
    items = [item for item in results if item is not None]
    good = sum(item.success for item in items)
    summary = BatchSummary(len(items), good, len(items) - good)
    return BatchResult(timestamp=time.time_ns(), results=items, summary=summary)


def _batch_item(
    request: Request, index: int, entry: Entry, found: Outcome, quoted: bool
) -> BatchItem:
    try:
        result = order_result(
            request.api, found, entry.market, quoted, entry.command.client_order_id
        )
    except Exception as error:
        return _failed(request.api, index, error)
    return BatchItem(
        index=index,
        success=True,
        order_id=result.order_id,
        status=result.status,
        filled_quantity=result.filled_quantity,
        remaining_quantity=result.remaining_quantity,
        trades=result.trades,
        client_order_id=result.client_order_id,
    )


def _failed(api: Api, index: int, error: Exception) -> BatchItem:
    return BatchItem(index=index, success=False, error=api.problem(error).body())


async def replace_order(request: Request) -> OrderResult:
    """Change price or total quantity of a resting order; it may trade like a new one."""
    api = request.api
    query = read_query(OrderQuery, request.query)
    change = decode(_replacement_decoder, request.body)
    named = query.user_id if change.user_id is UNSET else change.user_id
    order, market, session = await _find(request, named)
    price = int(order["price"]) if change.price is UNSET else market.ticks.of(change.price)
    quantity = (
        int(order["quantity"]) if change.quantity is UNSET else market.lots.of(change.quantity)
    )
    if change.price is UNSET and change.quantity is UNSET:
        raise broken_rule("", "price or quantity must be given", "INVALID_REQUEST")
    command = Replace(market.number, api.entry.next_id(), request.order_id, 0, price, quantity)
    found = await api.entry.ask(session, command)
    try:
        return order_result(
            api, found, market, query.numbers == "string", int(order["client_order_id"])
        )
    except ApiError as error:
        raise _explained(request, error) from None


async def cancel_order(request: Request) -> CancelAnswer:
    """Cancel a resting order."""
    query = read_query(OrderQuery, request.query)
    return await cancel(request, query.user_id, query.numbers == "string")


async def cancel_orders(request: Request) -> CancelAllAnswer:
    """Cancel every order of a user, in one symbol or in all."""
    query = read_query(CancelQuery, request.query)
    return await cancel_all(request, query.user_id, query.symbol)


async def cancel(request: Request, named: str | None, quoted: bool = False) -> CancelAnswer:
    """Cancel the order of a request, of the user who is named where one is."""
    api = request.api
    _, market, session = await _find(request, named)
    command = Cancel(market.number, api.entry.next_id(), request.order_id)
    found = await api.entry.ask(session, command)
    try:
        last = outcome(found).last
    except ApiError as error:
        raise _explained(request, error) from None
    assert last is not None
    quantities = market.quantities[quoted]
    return CancelAnswer(
        timestamp=time.time_ns(),
        order_id=last.order_id,
        status=STATUSES[last.ord_status],
        filled_quantity=quantities[last.cum_qty],
        remaining_quantity=quantities[last.leaves_qty],
    )


async def cancel_all(request: Request, named: str | None, symbol: str | None) -> CancelAllAnswer:
    """Cancel every order of the user who is named, in one symbol or in all."""
    api = request.api
    number = 0 if symbol is None else api.markets.named(symbol).number
    session = await api.entry.session_of(request.user(named))
    api.entry.check_room(session)
    exchange = outcome(await api.entry.ask(session, MassCancel(number, api.entry.next_id())))
    assert isinstance(exchange.answer, MassCancelReport)
    return CancelAllAnswer(timestamp=time.time_ns(), cancelled=exchange.answer.canceled_orders)


async def _find(request: Request, named: str | None) -> tuple[np.void, Market, UserSession]:
    """Return the order that a request names, its market, and its user's session."""
    api = request.api
    order = api.order(request.order_id, api.account(request, named))
    user = api.names.text(int(order["account"]))
    session = await api.entry.session_of(user)
    api.entry.check_room(session)
    return order, api.markets.by_number[int(order["symbol"])], session


def _explained(request: Request, error: ApiError) -> ApiError:
    """Return what to say of an order that does not rest: that it ended, where that is known."""
    if error.code != "ORDER_NOT_FOUND":
        return error
    status = int(request.api.order(request.order_id, None)["ord_status"])
    if status not in _ENDED:
        return error
    return ApiError(
        "ORDER_NOT_OPEN",
        f"order_id: order {request.order_id} is {STATUSES[status]}",
        field="order_id",
        rule="must be that of a resting order",
        status=STATUSES[status],
    )
