"""Lists of orders over REST: pairs and brackets, each entered as one command."""

import time
from collections.abc import Awaitable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from frontend.http.errors import broken_rule
from frontend.http.market import Market, Steps
from frontend.http.models import Query, Word
from frontend.http.order_entry import Outcome
from frontend.http.order_fields import MODES, SIDES, TIMES_IN_FORCE
from frontend.http.order_models import Amount, OrderListResult, RequestBody, given
from frontend.http.order_requests import NO_REQUEST_ID, decode
from frontend.http.order_views import order_result
from frontend.http.orders import Entering, Result, enter
from frontend.http.queries import read_query
from frontend.http.request import Request
from ipc.vocabulary import MAX_CLIENT_ID, OrderType, SelfTradePrevention, TimeInForce
from ipc.wire.messages import ListOrderId, NewBracket, NewOco, UserId


class OrderList(RequestBody):
    """A pair (OCO), of which one is to trade, or an order with exits (BRACKET)."""

    user_id: UserId | UnsetType = UNSET
    symbol: Word | UnsetType = UNSET
    list_type: Word | UnsetType = UNSET
    side: Word | UnsetType = UNSET
    quantity: Amount | UnsetType = UNSET
    price: Amount | UnsetType = UNSET
    """The limit of the first order; a bracket without one begins with a market order."""
    take_price: Amount | UnsetType = UNSET
    """Where the exit of a bracket takes the profit."""
    stop_price: Amount | UnsetType = UNSET
    """What a pair's second order, or an exit, waits for."""
    stop_limit_price: Amount | UnsetType = UNSET
    """The limit that it has then; without one it is a market order."""
    time_in_force: Word | UnsetType = UNSET
    post_only: bool = False
    client_order_id: ListOrderId = 0
    """Of the first order; those of the others follow it, a text with ".2" and ".3"."""
    self_trade_prevention: Word | UnsetType = UNSET
    expire_time_ns: Annotated[int, Meta(ge=0, le=MAX_CLIENT_ID)] = 0


_decoder = msgspec.json.Decoder(OrderList)
LIST_TYPES = ("OCO", "BRACKET")
_TYPES = f"must be {' or '.join(LIST_TYPES)}"


class _NewList(Entering):
    begun_ns: int
    quoted: bool
    market: Market
    client_order_id: int | str
    count: int

    def result(self, found: Outcome) -> OrderListResult:
        api = self.api
        try:
            first = order_result(api.state, found, self.market, self.quoted, self.client_order_id)
        finally:
            api.meter.orders(1, time.perf_counter_ns() - self.begun_ns)
        order_ids = [first.order_id + place for place in range(self.count)]
        return OrderListResult(**msgspec.structs.asdict(first), order_ids=order_ids)


def create_order_list(request: Request) -> Awaitable[Result] | None:
    """Enter two or three orders that are tied to one another, all of them or none."""
    return enter(request, begin_list)


def begin_list(request: Request) -> Entering:
    """Read the list of a request. Raises ``ApiError``."""
    begun_ns = time.perf_counter_ns()
    api = request.api
    quoted = read_query(Query, request.query).numbers == "string"
    wanted = decode(_decoder, request.body)
    market = api.state.markets.named(None if wanted.symbol is UNSET else wanted.symbol)
    command = _command_of(wanted, market)
    both = isinstance(command, NewOco) or not (command.take_price and command.stop_price)
    user, own = request.user(wanted.user_id), command.client_order_id
    return _NewList(api, user, command, begun_ns, quoted, market, own, 2 if both else 3)


def _command_of(wanted: OrderList, market: Market) -> NewOco | NewBracket:
    kind = "" if isinstance(wanted.list_type, UnsetType) else wanted.list_type.upper()
    if kind not in LIST_TYPES:
        raise broken_rule("list_type", _TYPES)
    if isinstance(wanted.quantity, UnsetType):
        raise broken_rule("quantity", "must be given", "INVALID_REQUEST")
    market_order = isinstance(wanted.price, UnsetType)
    usual = TimeInForce.IOC if market_order else TimeInForce.GTC
    in_force = wanted.time_in_force
    mode = wanted.self_trade_prevention
    head = (market.number, NO_REQUEST_ID, SIDES[wanted.side], wanted.client_order_id)
    time_in_force = int(usual) if in_force is UNSET else TIMES_IN_FORCE[in_force]
    price, lots = _some(market.ticks, wanted.price), market.lots.of(wanted.quantity)
    stop_price = _some(market.stops, wanted.stop_price)
    further = {
        "stop_limit_price": _some(market.stop_limits, wanted.stop_limit_price),
        "self_trade_prevention": int(SelfTradePrevention.NONE) if mode is UNSET else MODES[mode],
        "expire_time_ns": wanted.expire_time_ns,
    }
    if kind == "BRACKET":
        order_type = int(OrderType.MARKET if market_order else OrderType.LIMIT)
        exits = (_some(market.takes, wanted.take_price), stop_price)
        terms = (order_type, time_in_force, price, lots)
        return NewBracket(*head, *terms, *exits, post_only=wanted.post_only, **further)
    if market_order:
        raise broken_rule("price", "must be given for an OCO")
    if wanted.take_price is not UNSET or wanted.post_only:
        raise broken_rule("list_type", "must be BRACKET with take_price or post_only")
    return NewOco(*head, time_in_force, price, lots, stop_price, **further)


def _some(steps: Steps, amount: Amount | UnsetType) -> int:
    amount = given(amount)
    return 0 if isinstance(amount, UnsetType) else steps.of(amount)
