"""Orders as JSON, turned into commands; every field that is wrong is named with its rule."""

from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from frontend.http.errors import ApiError, of_validation
from frontend.http.market import Market, Markets
from frontend.http.order_fields import NewOrder, command_of
from ipc.wire.messages import NewOrder as NewOrderCommand

T = TypeVar("T")

_order_decoder = msgspec.json.Decoder(NewOrder)
NO_REQUEST_ID = 0
"""What a command has before ``OrderEntry.send`` gives it one."""


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
    return Entry(market, order.user_id, command_of(order, market, NO_REQUEST_ID))
