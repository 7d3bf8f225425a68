"""The fields of an order in REST: read from a request, and shown. A further one is added here."""

from enum import IntEnum
from typing import Annotated, cast

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from frontend.http.errors import broken_rule
from frontend.http.market import Market, Steps
from frontend.http.models import Answer, Number, Source, Timestamp, Word
from frontend.http.order_models import (
    Amount,
    CancelReason,
    RequestBody,
    SelfTradePrevention,
    Side,
    Status,
    TimeInForce,
    given,
)
from frontend.http.order_models import OrderType as OrderTypeWord
from ipc import vocabulary
from ipc.codes import (
    FLAG_POST_ONLY,
    FLAG_TRIGGERED,
    ORD_STATUS_CANCELED,
    ORD_STATUS_EXPIRED,
    ORD_STATUS_FILLED,
    ORD_STATUS_NEW,
    ORD_STATUS_PARTIALLY_FILLED,
    ORD_STATUS_REJECTED,
    ORDER_TYPE_MARKET,
    ORDER_TYPE_MARKET_WITH_PROTECTION,
)
from ipc.records import OrderRow
from ipc.vocabulary import (
    CONDITIONAL,
    MAX_CLIENT_ID,
    PREVENTION_SHIFT,
    UNPRICED,
    OrderType,
)
from ipc.wire.messages import ClientOrderId, UserId
from ipc.wire.messages import NewOrder as NewOrderCommand

STATUSES: dict[int, Status] = {
    ORD_STATUS_NEW: "OPEN",
    ORD_STATUS_PARTIALLY_FILLED: "PARTIAL",
    ORD_STATUS_FILLED: "FILLED",
    ORD_STATUS_CANCELED: "CANCELLED",
    ORD_STATUS_EXPIRED: "EXPIRED",
    ORD_STATUS_REJECTED: "REJECTED",
}
SIDE_WORDS: dict[int, Side] = {int(side): cast(Side, side.name) for side in vocabulary.Side}
_TYPES = {int(kind): cast(OrderTypeWord, kind.name) for kind in vocabulary.OrderType}
_MODES = {
    int(mode): cast(SelfTradePrevention, mode.name) for mode in vocabulary.SelfTradePrevention
}
_MODE_MASK = 7
_TIMES = {int(time): cast(TimeInForce, time.name) for time in vocabulary.TimeInForce}
_UNPRICED, _CONDITIONAL = tuple(map(int, UNPRICED)), tuple(map(int, CONDITIONAL))
_AT_ONCE = (ORDER_TYPE_MARKET, ORDER_TYPE_MARKET_WITH_PROTECTION)
_NO_MODE = int(vocabulary.SelfTradePrevention.NONE)
_GTC, _IOC = int(vocabulary.TimeInForce.GTC), int(vocabulary.TimeInForce.IOC)


class NewOrder(RequestBody):
    """A new order. Words may be in any letter case."""

    user_id: UserId | UnsetType = UNSET
    symbol: Word | UnsetType = UNSET
    order_type: Word | UnsetType = UNSET
    side: Word | UnsetType = UNSET
    price: Amount | UnsetType = UNSET
    quantity: Amount | UnsetType = UNSET
    time_in_force: Word | UnsetType = UNSET
    post_only: bool = False
    client_order_id: ClientOrderId = 0
    stop_price: Amount | UnsetType = UNSET
    """Of an order that waits for a trade at that price."""
    self_trade_prevention: Word | UnsetType = UNSET
    display_quantity: Amount | UnsetType = UNSET
    """How much of what rests is shown at a time."""
    expire_time_ns: Annotated[int, Meta(ge=0, le=MAX_CLIENT_ID)] = 0
    """When a GTD order ends."""
    minimum_quantity: Amount | UnsetType = UNSET
    """What an IOC order trades at once at least, or nothing."""


class OrderView(Struct):
    """The state of an order."""

    order_id: int
    user_id: str
    symbol: str
    side: Side
    order_type: OrderTypeWord
    time_in_force: TimeInForce
    price: Number | None
    quantity: Number
    filled_quantity: Number
    remaining_quantity: Number
    status: Status
    timestamp: Timestamp
    updated: Timestamp
    client_order_id: int | str
    post_only: bool
    reason: CancelReason | None
    """Why it was cancelled."""
    stop_price: Number | None
    triggered: bool
    """Whether its stop price was reached."""
    self_trade_prevention: SelfTradePrevention
    display_quantity: Number | UnsetType = UNSET
    """Of an iceberg."""


class OrderAnswer(Answer, kw_only=True):
    """One order."""

    order: OrderView
    source: Source | UnsetType = UNSET


class OrdersAnswer(Answer, kw_only=True):
    """Orders, newest first; ``next`` is the ``cursor`` of the page behind, null where this is the
    last."""

    orders: list[OrderView]
    count: int
    next: str | None
    source: Source | UnsetType = UNSET


class Words(dict[str | UnsetType, int]):
    """The names of an enum, in any letter case, and their codes: ``words[name]``.

    Raises ``ApiError`` for what is none, and where there is none.
    """

    def __init__(self, kind: type[IntEnum], field: str) -> None:
        super().__init__()
        for member in kind:
            for word in (member.name, member.name.lower(), member.name.capitalize()):
                self[word] = int(member)
        self._field = field
        self._rule = "must be " + " or ".join(member.name for member in kind)

    def __missing__(self, word: str | UnsetType) -> int:
        if isinstance(word, UnsetType):
            raise broken_rule(self._field, "must be given", "INVALID_REQUEST")
        code = self.get(word.upper()) if word.isascii() else None
        if code is None:
            raise broken_rule(self._field, self._rule)
        return code


SIDES = Words(vocabulary.Side, "side")
ORDER_TYPES = Words(OrderType, "order_type")
MODES = Words(vocabulary.SelfTradePrevention, "self_trade_prevention")
TIMES_IN_FORCE = Words(vocabulary.TimeInForce, "time_in_force")


def command_of(order: NewOrder, market: Market, request_id: int) -> NewOrderCommand:
    """Return the command of an order. Raises ``ApiError`` where a field is wrong."""
    order_type = ORDER_TYPES[order.order_type]
    side = SIDES[order.side]
    if isinstance(order.quantity, UnsetType):
        raise broken_rule("quantity", "must be given", "INVALID_REQUEST")
    # A number that came before, as most have, needs no further look.
    lots = market.lots.get(bytes(order.quantity)) or market.lots.of(order.quantity)
    if isinstance(order.time_in_force, UnsetType):
        time_in_force = _IOC if order_type in _AT_ONCE else _GTC
    else:
        time_in_force = TIMES_IN_FORCE[order.time_in_force]
    known = None
    if order_type not in _UNPRICED and not isinstance(order.price, UnsetType):
        known = market.ticks.get(bytes(order.price))
    return NewOrderCommand(
        market.number,
        request_id,
        order.client_order_id,
        side,
        order_type,
        time_in_force,
        known or _price(market, order.price, order_type),
        lots,
        order.post_only,
        _stop_price(market, order.stop_price, order_type),
        _mode(order.self_trade_prevention),
        _some(market.displays, order.display_quantity),
        order.expire_time_ns,
        _some(market.minima, order.minimum_quantity),
    )


def view_of(
    row: OrderRow, user_id: str, client_order_id: int | str, market: Market, quoted: bool
) -> OrderView:
    """Return an order as its user sees it."""
    quantities = market.quantities[quoted]
    return OrderView(
        row.order_id,
        user_id,
        market.symbol,
        SIDE_WORDS[row.side],
        _TYPES[row.order_type],
        _TIMES[row.time_in_force],
        market.prices[quoted][row.price] if row.price else None,
        quantities[row.quantity],
        quantities[row.cum_qty],
        quantities[row.leaves_qty],
        STATUSES[row.ord_status],
        row.created_ns,
        row.updated_ns,
        client_order_id,
        bool(row.flags & FLAG_POST_ONLY),
        vocabulary.Reason(row.reason).name if row.reason else None,
        market.prices[quoted][row.stop_price] if row.stop_price else None,
        bool(row.flags & FLAG_TRIGGERED),
        _MODES[row.flags >> PREVENTION_SHIFT & _MODE_MASK],
        quantities[row.display_quantity] if row.display_quantity else UNSET,
    )


def _price(market: Market, price: Raw | UnsetType, order_type: int) -> int:
    price = given(price)
    if order_type in _UNPRICED:
        if not isinstance(price, UnsetType) and not market.ticks.is_zero(price):
            raise broken_rule("price", f"must not be given for a {_TYPES[order_type]} order")
        return 0
    if isinstance(price, UnsetType):
        raise broken_rule("price", f"must be given for a {_TYPES[order_type]} order")
    return market.ticks.of(price)


def _mode(word: str | UnsetType) -> int:
    return _NO_MODE if isinstance(word, UnsetType) else MODES[word]


def _some(lots: Steps, quantity: Raw | UnsetType) -> int:
    if isinstance(quantity, UnsetType):
        return 0
    quantity = given(quantity)
    return 0 if isinstance(quantity, UnsetType) else lots.of(quantity)


def _stop_price(market: Market, price: Raw | UnsetType, order_type: int) -> int:
    if isinstance(price, UnsetType) and order_type not in _CONDITIONAL:
        return 0
    price = given(price)
    if order_type not in _CONDITIONAL:
        if not isinstance(price, UnsetType):
            raise broken_rule("stop_price", f"must not be given for a {_TYPES[order_type]} order")
        return 0
    if isinstance(price, UnsetType):
        raise broken_rule("stop_price", f"must be given for a {_TYPES[order_type]} order")
    return market.stops.of(price)
