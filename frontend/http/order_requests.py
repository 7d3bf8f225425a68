"""Orders as JSON, turned into commands; every field that is wrong is named with its rule."""

from enum import IntEnum
from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from frontend.http.errors import ApiError, broken_rule, of_validation
from frontend.http.market import Market, Markets
from frontend.http.models import NewOrder, given
from ipc.vocabulary import OrderType, Side, TimeInForce
from ipc.wire.messages import NewOrder as NewOrderCommand

T = TypeVar("T")
E = TypeVar("E", bound=IntEnum)

_order_decoder = msgspec.json.Decoder(NewOrder)
NO_REQUEST_ID = 0
"""What a command has before ``OrderEntry.send`` gives it one."""
_MARKET, _GTC, _IOC = int(OrderType.MARKET), int(TimeInForce.GTC), int(TimeInForce.IOC)


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


SIDES = Words(Side, "side")
ORDER_TYPES = Words(OrderType, "order_type")
TIMES_IN_FORCE = Words(TimeInForce, "time_in_force")


class Entry(msgspec.Struct):
    """A new order that can be sent once its user's stream is known."""

    market: Market
    user_id: str | UnsetType | None
    command: NewOrderCommand


def decode(decoder: "msgspec.json.Decoder[T]", data: bytes | Raw) -> T:
    """Return a body as its type. Raises ``ApiError``."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise of_validation(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError("INVALID_REQUEST", f"the body must be JSON: {error}") from None
    except RecursionError:
        raise ApiError("INVALID_REQUEST", "the body must not be nested as deep") from None


def read_order(data: bytes | Raw, markets: Markets) -> Entry:
    """Return one new order. Raises ``ApiError``."""
    order = decode(_order_decoder, data)
    market = markets.named(None if order.symbol is UNSET else order.symbol)
    order_type = ORDER_TYPES[order.order_type]
    side = SIDES[order.side]
    if isinstance(order.quantity, UnsetType):
        raise broken_rule("quantity", "must be given", "INVALID_REQUEST")
    lots = market.lots.of(order.quantity)
    if isinstance(order.time_in_force, UnsetType):
        time_in_force = _IOC if order_type == _MARKET else _GTC
    else:
        time_in_force = TIMES_IN_FORCE[order.time_in_force]
    known = None  # a price that came before, as most do, needs no further look
    if order_type != _MARKET and not isinstance(order.price, UnsetType):
        known = market.ticks.get(bytes(order.price))
    command = NewOrderCommand(
        market.number,
        NO_REQUEST_ID,
        order.client_order_id,
        side,
        order_type,
        time_in_force,
        known or _price(market, order.price, order_type),
        lots,
        order.post_only,
    )
    return Entry(market, order.user_id, command)


def _price(market: Market, price: Raw | UnsetType, order_type: int) -> int:
    price = given(price)
    if order_type == _MARKET:
        if not isinstance(price, UnsetType) and not market.ticks.is_zero(price):
            raise broken_rule("price", "must not be given for a MARKET order")
        return 0
    if isinstance(price, UnsetType):
        raise broken_rule("price", "must be given for a LIMIT order")
    return market.ticks.of(price)
