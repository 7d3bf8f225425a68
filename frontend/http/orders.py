"""Order entry over REST: new orders one by one and in batches, replacement, cancellation."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Concatenate, ParamSpec

import msgspec
import numpy as np
from msgspec import UNSET

from frontend.gateway.turns import WorkClock
from frontend.http.api import Api
from frontend.http.errors import ApiError, broken_rule
from frontend.http.market import Market
from frontend.http.models import Query
from frontend.http.order_entry import Outcome
from frontend.http.order_fields import STATUSES
from frontend.http.order_models import (
    Batch,
    BatchItem,
    BatchResult,
    BatchSummary,
    CancelAllAnswer,
    CancelAnswer,
    CancelQuery,
    ClientOrderQuery,
    OrderQuery,
    OrderResult,
    Replacement,
)
from frontend.http.order_requests import NO_REQUEST_ID, Entry, decode, read_order
from frontend.http.order_views import order_result, outcome
from frontend.http.queries import client_order_id, read_query
from frontend.http.request import Request
from frontend.http.user_session import UserSession
from ipc.codes import ORD_STATUS_CANCELED, ORD_STATUS_EXPIRED, ORD_STATUS_FILLED
from ipc.wire.messages import CLIENT_COMMANDS, Cancel, MassCancel, MassCancelReport, Replace, Report

BATCH_A_TURN, ORDER_S = 16, 0.00002
"""Orders of a batch that are entered, or answered, in a turn, and what one counts for until it is
known what they took."""

_batch_decoder = msgspec.json.Decoder(Batch)
_replacement_decoder = msgspec.json.Decoder(Replacement)
_ENDED = (ORD_STATUS_FILLED, ORD_STATUS_CANCELED, ORD_STATUS_EXPIRED)

P = ParamSpec("P")
Result = OrderResult | CancelAnswer | CancelAllAnswer


class Entering(msgspec.Struct):
    """A command on its way in: the matcher decides what comes of it, in its turn.

    ``result`` makes its answer of the outcome. Raises ``ApiError``.
    """

    api: Api
    user: str
    command: CLIENT_COMMANDS

    def result(self, found: Outcome) -> Result:
        """Return what became of it."""
        raise NotImplementedError

    async def session(self) -> UserSession:
        """Return the session to send it by, with room for it; at once where that is open."""
        entry = self.api.entry
        session = entry.open_session_of(self.user)
        if session is None:
            session = await entry.session_of(self.user)
        entry.check_room(session)
        return session

    async def carry_out(self) -> Result:
        """Enter it and wait for what comes of it."""
        session = await self.session()
        return self.result(await self.api.entry.ask(session, self.command))


def enter(
    request: Request,
    begin: Callable[Concatenate[Request, P], Entering],
    *more: P.args,
    **named: P.kwargs,
) -> Awaitable[Result] | None:
    """Read a command, and enter it now where its user's session is open, or else once it is."""
    assert request.app is not None
    assert request.reply is not None
    entering = begin(request, *more, **named)
    entry = request.api.entry
    session = entry.open_session_of(entering.user)
    if session is None:
        return entering.carry_out()
    entry.check_room(session)
    done = partial(request.app.conclude, request.reply, entering.result)
    entry.send(session, entering.command, done)
    return None


def create_order(request: Request) -> Awaitable[Result] | None:
    """Enter an order; the answer tells what became of it at once."""
    return enter(request, begin_order)


class _NewOrder(Entering):
    begun_ns: int
    quoted: bool
    market: Market
    client_order_id: int | str

    def result(self, found: Outcome) -> OrderResult:
        api = self.api
        try:
            return order_result(api.state, found, self.market, self.quoted, self.client_order_id)
        finally:
            api.meter.orders(1, time.perf_counter_ns() - self.begun_ns)


def begin_order(request: Request) -> Entering:
    """Read the order of a request. Raises ``ApiError``."""
    begun_ns = time.perf_counter_ns()
    api = request.api
    quoted = read_query(Query, request.query).numbers == "string"
    order = read_order(request.body, api.state.markets)
    user, command, market = request.user(order.user_id), order.command, order.market
    return _NewOrder(api, user, command, begun_ns, quoted, market, command.client_order_id)


async def create_orders(request: Request) -> BatchResult:
    """Enter up to ``max_batch_orders`` orders; each succeeds or fails by itself.

    A few at a time: others have their turn in between.
    """
    api = request.api
    quoted = read_query(Query, request.query).numbers == "string"
    orders = decode(_batch_decoder, request.body).orders
    most = api.config.max_batch_orders
    if not 1 <= len(orders) <= most:
        raise broken_rule("orders", f"must be 1 to {most} orders")
    begun = time.perf_counter_ns()
    results: list[BatchItem | None] = [None] * len(orders)
    waiting = []
    whose = request.user_id or id(request)
    clock = WorkClock(api.turns, whose, BATCH_A_TURN * ORDER_S)
    for index, data in enumerate(orders):
        if index % BATCH_A_TURN == 0:
            await clock.turn()
        try:
            entry = read_order(data, api.state.markets)
            session = await api.entry.session_of(request.user(entry.user_id))
            api.entry.check_room(session)
        except Exception as error:
            results[index] = _failed(api, index, error)
        else:
            waiting.append((index, entry, api.entry.ask(session, entry.command)))
    clock.stop()
    for number, (index, entry, answer) in enumerate(waiting):
        if number % BATCH_A_TURN == 0:
            await api.turns.turn(whose, BATCH_A_TURN * ORDER_S)
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
            request.api.state, found, entry.market, quoted, entry.command.client_order_id
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
        cancelled_quantity=result.cancelled_quantity,
        reason=result.reason,
        reason_text=result.reason_text,
    )


def _failed(api: Api, index: int, error: Exception) -> BatchItem:
    return BatchItem(index=index, success=False, error=api.problem(error).body())


def replace_order(request: Request) -> Awaitable[Result] | None:
    """Change price or total quantity of a resting order; it may trade like a new one."""
    query = read_query(OrderQuery, request.query)
    return enter(request, begin_replace, query.user_id, query.numbers == "string")


class _OrderChange(Entering):
    """A command on the order that a request names."""

    request: Request
    market: Market
    quoted: bool
    client_order_id: int | str


class _Replace(_OrderChange):
    def result(self, found: Outcome) -> OrderResult:
        try:
            return order_result(
                self.api.state, found, self.market, self.quoted, self.client_order_id
            )
        except ApiError as error:
            raise _explained(self.request, error) from None


def begin_replace(request: Request, named: str | None, quoted: bool = False) -> Entering:
    """Read the change of a request to the order that it names. Raises ``ApiError``.

    What is left out the matcher fills in: here it may be out of date.
    """
    api = request.api
    change = decode(_replacement_decoder, request.body)
    market, user, client_order_id = _find(
        request, named if change.user_id is UNSET else change.user_id
    )
    fields = (change.price, change.quantity, change.stop_price, change.display_quantity)
    if all(field is UNSET for field in fields):
        rule = "price, quantity, stop_price or display_quantity must be given"
        raise broken_rule("", rule, "INVALID_REQUEST")
    price = None if change.price is UNSET else market.ticks.of(change.price)
    quantity = None if change.quantity is UNSET else market.lots.of(change.quantity)
    stop_price = 0 if change.stop_price is UNSET else market.stops.of(change.stop_price)
    ids = (market.number, NO_REQUEST_ID, request.order_id, 0)
    shown = 0
    if change.display_quantity is not UNSET:
        shown = market.displays.of(change.display_quantity)
    command = Replace(*ids, price, quantity, stop_price=stop_price, display_quantity=shown)
    return _Replace(api, user, command, request, market, quoted, client_order_id)


def cancel_order(request: Request) -> Awaitable[Result] | None:
    """Cancel a resting order."""
    query = read_query(OrderQuery, request.query)
    return enter(request, begin_cancel, query.user_id, query.numbers == "string")


class _Cancel(_OrderChange):
    def result(self, found: Outcome) -> CancelAnswer:
        try:
            last = outcome(found).last
        except ApiError as error:
            raise _explained(self.request, error) from None
        assert last is not None
        return _cancelled(last, self.market, self.quoted)


def begin_cancel(request: Request, named: str | None, quoted: bool = False) -> Entering:
    """Cancel the order of a request, of the user who is named where one is."""
    api = request.api
    market, user, client_order_id = _find(request, named)
    command = Cancel(market.number, NO_REQUEST_ID, request.order_id)
    return _Cancel(api, user, command, request, market, quoted, client_order_id)


def _cancelled(last: Report, market: Market, quoted: bool) -> CancelAnswer:
    quantities = market.quantities[quoted]
    return CancelAnswer(
        timestamp=time.time_ns(),
        order_id=last.order_id,
        status=STATUSES[last.ord_status],
        filled_quantity=quantities[last.cum_qty],
        remaining_quantity=quantities[last.leaves_qty],
    )


async def cancel_client_order(request: Request) -> CancelAnswer:
    """Cancel the resting order under a client_order_id of a user: the matcher looks for it."""
    api = request.api
    query = read_query(ClientOrderQuery, request.query)
    market, user = api.state.markets.named(query.symbol), request.user(query.user_id)
    named = client_order_id(request.name)
    session = await api.entry.session_of(user)
    api.entry.check_room(session)
    found = await api.entry.ask(session, Cancel(market.number, NO_REQUEST_ID, 0, named))
    try:
        last = outcome(found).last
    except ApiError as error:
        if error.code != "ORDER_NOT_FOUND":
            raise
        refused = error
    else:
        assert last is not None
        return _cancelled(last, market, query.numbers == "string")
    search = api.state.search_client_order(user, market, named)
    run = api.searches.run(request.user_id, search)
    order = await run if isinstance(run, Awaitable) else run
    raise not_open(order, "client_order_id", refused, named)


def cancel_orders(request: Request) -> Awaitable[Result] | None:
    """Cancel every order of a user, in one symbol or in all."""
    query = read_query(CancelQuery, request.query)
    return enter(request, begin_cancel_all, query.user_id, query.symbol)


class _CancelAll(Entering):
    def result(self, found: Outcome) -> CancelAllAnswer:
        answer = outcome(found).answer
        assert isinstance(answer, MassCancelReport)
        return CancelAllAnswer(timestamp=time.time_ns(), cancelled=answer.canceled_orders)


def begin_cancel_all(request: Request, named: str | None, symbol: str | None) -> Entering:
    """Cancel every order of the user who is named, in one symbol or in all."""
    api = request.api
    number = 0 if symbol is None else api.state.markets.named(symbol).number
    return _CancelAll(api, request.user(named), MassCancel(number, NO_REQUEST_ID))


def _find(request: Request, named: str | None) -> tuple[Market, str, int | str]:
    """Return market, user and client_order_id of the order that a request names.

    Of an order these never change, so it does not matter that commands may be under way.
    """
    api = request.api
    order = api.state.order(request.order_id, request.account(named))
    market = api.state.markets.by_number[int(order["symbol"])]
    named_order = api.state.client_order_id(order)
    return market, api.state.names.text(int(order["account"])), named_order


def _explained(request: Request, error: ApiError) -> ApiError:
    """Return what to say of an order that does not rest: that it ended, where that is known."""
    if error.code != "ORDER_NOT_FOUND":
        return error
    order = request.api.state.order(request.order_id, None)
    return not_open(order, "order_id", error)


def not_open(
    order: np.void, field: str, error: ApiError, named: int | str | None = None
) -> ApiError:
    """Return what to say of an order that does not rest: that it ended, or else the error.

    It was ``named`` so in its ``field``; None: as the record says.
    """
    if int(order["ord_status"]) not in _ENDED:
        return error
    status = STATUSES[int(order["ord_status"])]
    return ApiError(
        "ORDER_NOT_OPEN",
        f"{field}: order {order[field] if named is None else named} is {status}",
        field=field,
        rule="must be that of a resting order",
        order_id=int(order["order_id"]),
        status=status,
    )
