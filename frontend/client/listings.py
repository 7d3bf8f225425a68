"""The instruments as a client knows them: told at login, decimals on one side, integers inside."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from frontend.client.errors import InvalidOrderError, ProtocolError
from ipc.decimals import shown
from ipc.instruments import Scale, ScaleError
from ipc.vocabulary import MAX_PRICE, MAX_QUANTITY, RULES, Reason
from ipc.wire.messages import InstrumentInfo

Number = Decimal | str | int
"""A price or a quantity of a caller. Floats are refused: their decimal is not what was written."""


class Listing(NamedTuple):
    """One instrument: its number on the wire, what a tick and a lot are, its band, its shard."""

    number: int
    symbol: str
    tick: Scale
    lot: Scale
    min_price: int
    max_price: int
    shard: int
    retired: bool = False
    """Whether it takes no orders any more: reports of earlier ones may still come."""

    @classmethod
    def from_info(cls, info: InstrumentInfo) -> "Listing":
        """Read what the engine told. Raises ``ProtocolError``."""
        try:
            tick = Scale.parse(info.tick_size, "tick_size")
            lot = Scale.parse(info.lot_size, "lot_size")
        except ScaleError as error:
            raise ProtocolError(f"instrument {info.symbol!r}: {error}") from None
        band = info.min_price, info.max_price
        return cls(info.number, info.symbol, tick, lot, *band, info.shard, info.retired)

    def price(self, ticks: int) -> Decimal:
        """Return a price of the wire as a decimal."""
        return Decimal(self.tick.text(ticks))

    def quantity(self, lots: int) -> Decimal:
        """Return a quantity of the wire as a decimal."""
        return Decimal(self.lot.text(lots))

    def ticks(self, price: Number) -> int:
        """Return a caller's price in ticks. Raises ``InvalidOrderError``."""
        return _steps(self.tick, price, "price", MAX_PRICE, Reason.INVALID_PRICE)

    def lots(self, quantity: Number) -> int:
        """Return a caller's quantity in lots. Raises ``InvalidOrderError``."""
        return _steps(self.lot, quantity, "quantity", MAX_QUANTITY, Reason.INVALID_QUANTITY)


class Listings:
    """All instruments of an engine, by name and by number; by number also those retired."""

    def __init__(self, infos: Iterable[InstrumentInfo] = ()) -> None:
        listings = [Listing.from_info(info) for info in infos]
        self._by_symbol = {listing.symbol: listing for listing in listings if not listing.retired}
        self._by_number = {listing.number: listing for listing in listings}

    def __iter__(self) -> Iterator[Listing]:
        return iter(self._by_symbol.values())

    def __len__(self) -> int:
        return len(self._by_symbol)

    def shards(self) -> npt.NDArray[np.int64]:
        """Return the shard of each symbol number, -1 for numbers that are none."""
        shards = np.full(max(self._by_number, default=0) + 2, -1, np.int64)
        for number, listing in self._by_number.items():
            shards[number] = listing.shard
        return shards

    def named(self, symbol: str) -> Listing:
        """Return the instrument of a caller's symbol. Raises ``InvalidOrderError``."""
        listing = self._by_symbol.get(symbol)
        if listing is None:
            some = ", ".join(sorted(self._by_symbol)[:12])
            more = len(self._by_symbol) - 12
            raise InvalidOrderError(
                "symbol",
                f"{shown(symbol)} is not traded here; there are {some}"
                + (f" and {more} more" if more > 0 else ""),
            )
        return listing

    def numbered(self, number: int) -> Listing:
        """Return the instrument of a number that the engine sent. Raises ``ProtocolError``."""
        listing = self._by_number.get(number)
        if listing is None:
            raise ProtocolError(f"symbol: {number} is no instrument that the engine listed")
        return listing


def _steps(scale: Scale, value: Number, field: str, most: int, reason: Reason) -> int:
    try:
        steps = scale.steps(value, field)
    except ScaleError as error:
        raise InvalidOrderError(field, str(error).removeprefix(f"{field}: ")) from None
    if not 1 <= steps <= most:
        raise InvalidOrderError(
            field, f"{shown(value)} is {shown(steps)} steps: {RULES[reason].text}"
        )
    return steps
