"""Instruments at the HTTP edge: symbols and decimals on one side, numbers inside on the other.

Prices and quantities leave as the exact decimals of their steps, written once and remembered:
as JSON numbers, or as texts of the same. What they come as is remembered too.
"""

import contextlib
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache

import msgspec
from msgspec import Raw

from frontend.http.errors import ApiError, broken_rule
from ipc.decimals import MAX_CHARACTERS, NumberError
from ipc.instruments import Instrument, Scale, ScaleError
from ipc.vocabulary import MAX_PRICE, MAX_QUANTITY, RULES, Reason

MAX_REMEMBERED = 65_536
"""Decimals of one scale that are kept written."""
REMEMBERED_STEPS = 8_192
"""Of the decimals of a log."""
MAX_REMEMBERED_BYTES = 32
"""Of a decimal that came: a longer one is read each time."""
NAMED = 12
"""Symbols that an error names."""
_NUMBER_STARTS = [b"%d" % digit for digit in range(10)] + [b"-"]


class Steps(dict[bytes, int]):
    """Decimals of one scale as steps, of ``field``, by how they were written: ``steps.of(raw)``."""

    __slots__ = ("_field", "_most", "_reason", "_scale")

    def __init__(self, scale: Scale, field: str, most: int, reason: Reason) -> None:
        super().__init__()
        self._scale = scale
        self._field = field
        self._most = most
        self._reason = reason

    def of(self, written: Raw) -> int:
        """Return a JSON number, or a text of one, in steps. Raises ``ApiError``."""
        data = bytes(written)
        return self.get(data) or self._learn(data)

    def is_zero(self, written: Raw) -> bool:
        """Return whether a JSON number, or a text of one, is 0. Raises ``ApiError``."""
        return not self._read(bytes(written))

    def _learn(self, data: bytes) -> int:
        steps = self._read(data)
        if not 1 <= steps <= self._most:
            raise broken_rule(self._field, RULES[self._reason].text, self._reason.name)
        if len(data) <= MAX_REMEMBERED_BYTES:
            if len(self) >= MAX_REMEMBERED:
                self.clear()
            self[data] = steps
        return steps

    def _read(self, data: bytes) -> int:
        field = self._field
        try:
            return self._scale.steps(_text_of(data), field)
        except ScaleError as error:
            rule = str(error).removeprefix(f"{field}: ")
        except NumberError as error:
            rule = str(error)
        raise broken_rule(field, rule, self._reason.name)


def _text_of(data: bytes) -> str:
    """Return the text of a JSON number, or what a JSON text holds. Raises ``NumberError``."""
    if len(data) > MAX_CHARACTERS + len('""'):
        raise NumberError(f"must have at most {MAX_CHARACTERS} characters")
    if data[:1] in _NUMBER_STARTS:
        return data.decode("ascii")
    try:
        return msgspec.json.decode(data, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise NumberError("must be a number, or the text of one") from None


class Decimals(dict[int, Raw]):
    """Steps of one scale as JSON: ``decimals[steps]``."""

    __slots__ = ("_quoted", "_scale")

    def __init__(self, scale: Scale, quoted: bool) -> None:
        super().__init__()
        self._scale = scale
        self._quoted = quoted

    def __missing__(self, steps: int) -> Raw:
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        text = self._scale.text(steps)
        written = self[steps] = Raw(f'"{text}"' if self._quoted else text)
        return written


class Market:
    """One instrument, and its decimals: ``prices[quoted][ticks]``, ``quantities[quoted][lots]``.

    Their way back is ``ticks.of(price)``, ``stops.of(stop_price)``, ``lots.of(quantity)``,
    ``displays.of(display_quantity)``, ``minima.of(minimum_quantity)``; of a list's exits
    ``takes.of(take_price)``, ``stop_limits.of(stop_limit_price)``.
    """

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.number = instrument.number
        self.symbol = instrument.symbol
        self.shard = instrument.shard
        self.prices = (Decimals(instrument.tick, False), Decimals(instrument.tick, True))
        self.quantities = (Decimals(instrument.lot, False), Decimals(instrument.lot, True))
        self.ticks = Steps(instrument.tick, "price", MAX_PRICE, Reason.INVALID_PRICE)
        self.stops = Steps(instrument.tick, "stop_price", MAX_PRICE, Reason.INVALID_STOP_PRICE)
        self.lots = Steps(instrument.lot, "quantity", MAX_QUANTITY, Reason.INVALID_QUANTITY)
        shown = ("display_quantity", MAX_QUANTITY, Reason.INVALID_DISPLAY_QUANTITY)
        self.displays = Steps(instrument.lot, *shown)
        least = ("minimum_quantity", MAX_QUANTITY, Reason.INVALID_MINIMUM_QUANTITY)
        self.minima = Steps(instrument.lot, *least)
        exits = (MAX_PRICE, Reason.INVALID_LIST)
        self.takes = Steps(instrument.tick, "take_price", *exits)
        self.stop_limits = Steps(instrument.tick, "stop_limit_price", *exits)
        half = Scale(instrument.tick.mantissa * 5, instrument.tick.digits + 1)
        self._halves = (Decimals(half, False), Decimals(half, True))

    def middle(self, bid: int, ask: int, quoted: bool) -> Raw:
        """Return the mean of two prices; with half a tick where it lies between two."""
        both = bid + ask
        return self._halves[quoted][both] if both & 1 else self.prices[quoted][both // 2]


class Markets:
    """All instruments, by symbol and by number; by number also those that are retired."""

    def __init__(self, instruments: Iterable[Instrument], default_symbol: str) -> None:
        known = [Market(instrument) for instrument in instruments]
        self.all = [market for market in known if not market.instrument.retired]
        self.by_number = {market.number: market for market in known}
        self._by_symbol = {market.symbol: market for market in self.all}
        self._listings: dict[str, list[Market]] = {}
        for market in sorted(known, key=lambda market: -market.number):
            self._listings.setdefault(market.symbol, []).append(market)
        self.default_symbol = default_symbol or None

    def named(self, symbol: str | None) -> Market:
        """Return a symbol's market, the default one for None. Raises ``ApiError``."""
        if symbol is None:
            symbol = self.default_symbol
            if symbol is None:
                raise broken_rule("symbol", "must be given", "INVALID_REQUEST")
        market = self._by_symbol.get(symbol)
        if market is None:
            some = ", ".join(sorted(self._by_symbol)[:NAMED])
            more = len(self._by_symbol) - NAMED
            rule = f"must be traded here; there are {some}"
            rule += f" and {more} more" if more > 0 else ""
            raise ApiError("UNKNOWN_SYMBOL", f"symbol: {rule}", field="symbol", rule=rule)
        return market

    def said(
        self, symbol: str, price: Decimal, quantity: Decimal
    ) -> tuple[Market, int, int] | None:
        """Return what a trade of the log is of, and its price and quantity in ticks and lots.

        That is what was listed last under its symbol and can say it; None where nothing can.
        """
        for market in self._listings.get(symbol, ()):
            with contextlib.suppress(ScaleError):
                ticks = _steps(market.instrument.tick, price)
                return market, ticks, _steps(market.instrument.lot, quantity)
        return None


@lru_cache(REMEMBERED_STEPS)
def _steps(scale: Scale, value: Decimal) -> int:
    """Return how many steps a decimal is: those of a log are the same again and again."""
    return scale.steps(value, "value")
