"""Decimals at the edge: what one tick and one lot of an instrument are.

Inside the product prices are ticks and quantities are lots. ``Scale`` turns a decimal text into
a count of steps and back, exactly, with integers only.
"""

from decimal import Decimal
from typing import NamedTuple

from ipc.decimals import NumberError, read_decimal, shown
from ipc.vocabulary import MAX_RESTING_ORDERS
from ipc.wire.messages import InstrumentInfo


class ScaleError(ValueError):
    """A decimal that is no whole number of steps; the text names the field and the rule."""


class Scale(NamedTuple):
    """A step of ``mantissa`` * 10 ** -``digits``: the tick of a price, the lot of a quantity."""

    mantissa: int
    digits: int

    @classmethod
    def parse(cls, text: str, field: str) -> "Scale":
        """Return the scale of a positive decimal such as "0.01". Raises ``ScaleError``."""
        try:
            mantissa, exponent = read_decimal(text)
        except NumberError as error:
            raise ScaleError(f"{field}: {shown(text)} {error}") from None
        if mantissa <= 0:
            raise ScaleError(f"{field}: {shown(text)} must be above zero")
        if exponent > 0:
            mantissa, exponent = mantissa * 10**exponent, 0
        if -exponent > 18 or mantissa >= 10**18:
            raise ScaleError(f"{field}: {shown(text)} must have at most 18 digits")
        return cls(mantissa, -exponent)

    def text(self, steps: int) -> str:
        """Return the exact decimal of a number of steps, with the step's own decimal places."""
        value = steps * self.mantissa
        if not self.digits:
            return str(value)
        whole, fraction = divmod(value, 10**self.digits)
        return f"{whole}.{fraction:0{self.digits}d}"

    def steps(self, value: "str | int | Decimal", field: str) -> int:
        """Return how many steps a decimal is. Raises ``ScaleError`` where they are not whole."""
        try:
            mantissa, exponent = read_decimal(value)
        except NumberError as error:
            raise ScaleError(f"{field}: {shown(value)} {error}") from None
        shift = exponent + self.digits
        steps: int
        steps, remainder = divmod(
            mantissa * 10 ** max(shift, 0), self.mantissa * 10 ** max(-shift, 0)
        )
        if remainder:
            raise ScaleError(f"{field}: {value} must be a multiple of {self.text(1)}")
        return steps


class Instrument(NamedTuple):
    """One tradable symbol: its number on the wire, its scales, its limits in ticks and orders."""

    number: int
    symbol: str
    tick: Scale
    lot: Scale
    min_price: int
    max_price: int
    max_resting_orders: int
    shard: int
    max_account_orders: int = MAX_RESTING_ORDERS
    """Of one account; never more than ``max_resting_orders`` count."""
    day_end_s: int = 0
    """When DAY orders end: seconds after midnight, UTC."""
    retired: bool = False
    """Whether it takes no orders any more: it is kept to say what earlier records hold."""

    def info(self) -> InstrumentInfo:
        """Return what a client is told at login."""
        return InstrumentInfo(
            self.number,
            self.symbol,
            self.tick.text(1),
            self.lot.text(1),
            self.min_price,
            self.max_price,
            self.shard,
            self.retired,
        )
