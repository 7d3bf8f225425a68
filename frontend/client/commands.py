"""A caller's words become wire messages, and the engine's answers become results or errors.

Here stands, once for the blocking and the asynchronous client, which commands and queries there
are, how decimals and names are written for the wire, and what each answer means. What depends on
the book or is the engine's to judge is sent and judged there.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, TypedDict, TypeVar

from frontend.client.errors import ClientError, InvalidOrderError, OrderRejectedError, ProtocolError
from frontend.client.listings import Listing, Listings, Number
from frontend.client.results import BookView, Execution, OrderView, TradeView
from ipc.bounds import MAX_LIST_TEXT, MAX_TEXT, TEXT_PATTERN, text_rule
from ipc.decimals import shown
from ipc.records import shard_of
from ipc.vocabulary import (
    MAX_CLIENT_ID,
    RULES,
    UNPRICED,
    OrderType,
    Reason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from ipc.wire.messages import (
    CLIENT_COMMANDS,
    CLIENT_QUERIES,
    SERVER_MESSAGES,
    BookQuery,
    BookSnapshot,
    Cancel,
    MassCancel,
    MassCancelReport,
    NewBracket,
    NewOco,
    NewOrder,
    OrderQuery,
    OrderState,
    Ping,
    Pong,
    Reduce,
    Reject,
    Replace,
    Report,
    TradeList,
    TradesQuery,
)

T_co = TypeVar("T_co", covariant=True)
M = TypeVar("M")
E = TypeVar("E", bound=IntEnum)

ServerMessage = SERVER_MESSAGES
Numbered = CLIENT_COMMANDS | CLIENT_QUERIES | Ping
"""What a client sends and gets an answer to."""


@dataclass(frozen=True, slots=True)
class Request(Generic[T_co]):
    """A message to send, and what to make of its first answer (may raise ``ClientError``)."""

    message: Numbered
    read: Callable[[ServerMessage], T_co]


@dataclass(frozen=True, slots=True)
class Order:
    """A new order in a caller's words; decimals as text, int or Decimal.

    A limit order, which needs a ``price``, unless ``order_type`` says otherwise: a price that was
    forgotten makes no market order. ``stop_price``: what an order of the other types waits for.
    ``display_quantity``: how much of what rests is shown at a time; None: all of it.
    ``expire_time_ns``: when a GTD order ends, since the epoch. ``minimum_quantity``: what an IOC
    order trades at once at least, or nothing. A MARKET_WITH_PROTECTION order's ``price`` is how far
    from the best one it trades.
    ``client_order_id``: a number or a text; 0: none, and so no protection against repetition.
    """

    symbol: str
    side: Side | str
    quantity: Number
    price: Number | None = None
    order_type: OrderType | str = OrderType.LIMIT
    time_in_force: TimeInForce | str = TimeInForce.GTC
    post_only: bool = False
    client_order_id: int | str = 0
    stop_price: Number | None = None
    self_trade_prevention: SelfTradePrevention | str = SelfTradePrevention.NONE
    display_quantity: Number | None = None
    expire_time_ns: int = 0
    minimum_quantity: Number | None = None


class Terms(TypedDict, total=False):
    """What an order may have besides: see ``Order``."""

    order_type: OrderType | str
    time_in_force: TimeInForce | str
    post_only: bool
    client_order_id: int | str
    stop_price: Number | None
    self_trade_prevention: SelfTradePrevention | str
    display_quantity: Number | None
    expire_time_ns: int
    minimum_quantity: Number | None


class ListTerms(TypedDict, total=False):
    """What a pair or a bracket may have besides: see ``Client.submit_oco``."""

    stop_limit_price: Number | None
    time_in_force: TimeInForce | str
    client_order_id: int | str
    self_trade_prevention: SelfTradePrevention | str
    expire_time_ns: int


class Commands:
    """Writes requests of one session: ``next_request_id`` numbers them."""

    def __init__(self, listings: Listings, next_request_id: Callable[[], int]) -> None:
        self.listings = listings
        self._next_request_id = next_request_id

    def new_order(self, order: Order) -> Request[Execution]:
        """Enter an order."""
        listing = self.listings.named(order.symbol)
        price = 0 if order.price is None else listing.ticks(order.price)
        order_type = _code(OrderType, order.order_type, "order_type")
        if order_type not in UNPRICED and order.price is None:
            name = OrderType(order_type).name
            raise InvalidOrderError(
                "price",
                f"must be given for a {name} order; a market order says order_type='market'",
            )
        message = NewOrder(
            listing.number,
            self._next_request_id(),
            _named(order.client_order_id),
            _code(Side, order.side, "side"),
            order_type,
            _code(TimeInForce, order.time_in_force, "time_in_force"),
            price,
            listing.lots(order.quantity),
            bool(order.post_only),
            _ticks(listing, order.stop_price),
            _code(SelfTradePrevention, order.self_trade_prevention, "self_trade_prevention"),
            _lots(listing, order.display_quantity),
            _client_id(order.expire_time_ns, "expire_time_ns"),
            _lots(listing, order.minimum_quantity),
        )
        return Request(message, self._execution)

    def new_oco(
        self,
        symbol: str,
        side: Side | str,
        quantity: Number,
        price: Number,
        stop_price: Number,
        terms: ListTerms,
    ) -> Request[Execution]:
        """Enter a pair, of which one is to trade."""
        listing = self.listings.named(symbol)
        message = NewOco(
            listing.number,
            self._next_request_id(),
            _code(Side, side, "side"),
            _named(terms.get("client_order_id", 0), MAX_LIST_TEXT),
            _code(TimeInForce, terms.get("time_in_force", TimeInForce.GTC), "time_in_force"),
            listing.ticks(price),
            listing.lots(quantity),
            listing.ticks(stop_price),
            **_list_terms(listing, terms),
        )
        return Request(message, self._execution)

    def new_bracket(
        self,
        symbol: str,
        side: Side | str,
        quantity: Number,
        price: Number | None,
        take_price: Number | None,
        stop_price: Number | None,
        post_only: bool,
        terms: ListTerms,
    ) -> Request[Execution]:
        """Enter an order with exits; a market order where it has no price."""
        listing = self.listings.named(symbol)
        message = NewBracket(
            listing.number,
            self._next_request_id(),
            _code(Side, side, "side"),
            _named(terms.get("client_order_id", 0), MAX_LIST_TEXT),
            OrderType.MARKET if price is None else OrderType.LIMIT,
            _code(TimeInForce, terms.get("time_in_force", TimeInForce.GTC), "time_in_force"),
            _ticks(listing, price),
            listing.lots(quantity),
            _ticks(listing, take_price),
            _ticks(listing, stop_price),
            post_only=bool(post_only),
            **_list_terms(listing, terms),
        )
        return Request(message, self._execution)

    def new_orders(self, orders: Iterable[Order]) -> list[Request[Execution] | ClientError]:
        """Enter many orders: each is a request, or else the error that keeps it from being one."""
        found: list[Request[Execution] | ClientError] = []
        for order in orders:
            try:
                found.append(self.new_order(order))
            except ClientError as error:
                found.append(error)
        return found

    def cancel(
        self, order_id: int, symbol: str | None, client_order_id: int | str
    ) -> Request[Execution]:
        """Cancel by order_id, or else by symbol and client_order_id."""
        number = 0 if symbol is None else self.listings.named(symbol).number
        ids = _order_ids(order_id, client_order_id, number)
        return Request(Cancel(number, self._next_request_id(), *ids), self._execution)

    def replace(
        self,
        order_id: int,
        symbol: str,
        client_order_id: int | str,
        price: Number | None,
        quantity: Number | None,
        reinsert: bool,
        stop_price: Number | None = None,
        display_quantity: Number | None = None,
    ) -> Request[Execution]:
        """Change an order; what is None stays."""
        given = (price, quantity, stop_price, display_quantity)
        if all(value is None for value in given):
            raise InvalidOrderError(*RULES[Reason.INVALID_REPLACE])
        listing = self.listings.named(symbol)
        message = Replace(
            listing.number,
            self._next_request_id(),
            *_order_ids(order_id, client_order_id, listing.number),
            None if price is None else listing.ticks(price),
            None if quantity is None else listing.lots(quantity),
            bool(reinsert),
            _ticks(listing, stop_price),
            _lots(listing, display_quantity),
        )
        return Request(message, self._execution)

    def reduce(
        self, order_id: int, symbol: str, client_order_id: int | str, quantity: Number
    ) -> Request[Execution]:
        """Take a quantity off what is open."""
        listing = self.listings.named(symbol)
        message = Reduce(
            listing.number,
            self._next_request_id(),
            *_order_ids(order_id, client_order_id, listing.number),
            listing.lots(quantity),
        )
        return Request(message, self._execution)

    def cancel_all(self, symbol: str | None) -> Request[int]:
        """Cancel every order of the account, in one symbol or in all."""
        number = 0 if symbol is None else self.listings.named(symbol).number
        return Request(
            MassCancel(number, self._next_request_id()),
            lambda answer: _expect(answer, MassCancelReport).canceled_orders,
        )

    def order(self, order_id: int) -> Request[OrderView]:
        """Ask for one order of the account."""
        query = OrderQuery(0, self._next_request_id(), _client_id(order_id, "order_id"))

        def read(answer: ServerMessage) -> OrderView:
            state = _expect(answer, OrderState)
            return OrderView(state, self.listings.numbered(state.symbol))

        return Request(query, read)

    def trades(self, symbol: str | None, limit: int) -> Request[list[TradeView]]:
        """Ask for the last trades of a symbol, or of all."""
        number = 0 if symbol is None else self.listings.named(symbol).number
        query = TradesQuery(number, self._next_request_id(), _client_id(limit, "limit"))

        def read(answer: ServerMessage) -> list[TradeView]:
            trades = _expect(answer, TradeList).trades
            return [TradeView.of(trade, self.listings.numbered(trade.symbol)) for trade in trades]

        return Request(query, read)

    def book(self, symbol: str, depth: int) -> Request[BookView]:
        """Ask for the best levels of a symbol."""
        listing = self.listings.named(symbol)
        query = BookQuery(listing.number, self._next_request_id(), _client_id(depth, "depth"))
        return Request(query, lambda answer: BookView.of(_expect(answer, BookSnapshot), listing))

    def ping(self) -> Request[None]:
        """Ask for a sign of life."""

        def read(answer: ServerMessage) -> None:
            _expect(answer, Pong)

        return Request(Ping(self._next_request_id()), read)

    def shard_of(self, message: Numbered) -> int | None:
        """Return the shard that carries out a command; None: it is none, or for every shard."""
        if not isinstance(message, CLIENT_COMMANDS):
            return None
        if message.symbol:
            return self.listings.numbered(message.symbol).shard
        return shard_of(message.order_id) if isinstance(message, Cancel) else None

    def execution(self, report: Report) -> Execution:
        """Return a report with its instrument."""
        return Execution(report, self.listings.numbered(report.symbol))

    def _execution(self, answer: ServerMessage) -> Execution:
        return self.execution(_expect(answer, Report))


def _expect(answer: ServerMessage, kind: type[M]) -> M:
    """Return an answer of the kind that a request has; raise what a reject says."""
    if isinstance(answer, kind):
        return answer
    if isinstance(answer, Reject):
        raise OrderRejectedError(
            answer.code,
            answer.code_name,
            answer.field,
            answer.text,
            answer.request_id,
            answer.order_id,
            answer.client_order_id,
        )
    raise ProtocolError(f"a {type(answer).__name__} where a {kind.__name__} was to come")


def _code(kind: type[E], value: E | str | Any, field: str) -> int:
    """Return the wire's code of a member or of its name in any case."""
    if isinstance(value, kind):
        return int(value)
    if isinstance(value, str) and value.isascii() and value.upper() in kind.__members__:
        return int(kind[value.upper()])
    allowed = ", ".join(repr(name.lower()) for name in kind.__members__)
    raise InvalidOrderError(field, f"{shown(value)} must be one of {allowed}")


def _list_terms(listing: Listing, terms: ListTerms) -> dict[str, int]:
    """Return what pairs and brackets have besides, for the wire."""
    mode = terms.get("self_trade_prevention", SelfTradePrevention.NONE)
    return {
        "stop_limit_price": _ticks(listing, terms.get("stop_limit_price")),
        "self_trade_prevention": _code(SelfTradePrevention, mode, "self_trade_prevention"),
        "expire_time_ns": _client_id(terms.get("expire_time_ns", 0), "expire_time_ns"),
    }


def _ticks(listing: Listing, stop_price: Number | None) -> int:
    """Return a stop price for the wire: 0 where there is none."""
    return 0 if stop_price is None else listing.ticks(stop_price)


def _lots(listing: Listing, quantity: Number | None) -> int:
    """Return a further quantity for the wire: 0 where there is none."""
    return 0 if quantity is None else listing.lots(quantity)


def _client_id(value: int, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_CLIENT_ID:
        rule = f"must be an integer of 0 to {MAX_CLIENT_ID}"
        raise InvalidOrderError(field, f"{shown(value)} {rule}")
    return value


def _named(value: int | str, most: int = MAX_TEXT) -> int | str:
    """Return a client_order_id: a number, or a text of so many characters at most."""
    if not isinstance(value, str):
        return _client_id(value, "client_order_id")
    if len(value) > most or not re.search(TEXT_PATTERN, value):
        raise InvalidOrderError("client_order_id", f"{shown(value)} {text_rule(most)}")
    return value


def _order_ids(order_id: int, client_order_id: int | str, symbol: int) -> tuple[int, int | str]:
    """Return both ids of an order to be found, at least one of them given."""
    ids = _client_id(order_id, "order_id"), _named(client_order_id)
    if not ids[0] and not (ids[1] and symbol):
        raise InvalidOrderError(*RULES[Reason.INVALID_ORDER_ID])
    return ids
