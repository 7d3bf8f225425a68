"""A calm market for people to watch and trade in: some changes a second, around prices that drift.

Makers quote around a price that nobody sees and take old quotes back; takers come in small swarms.
Everything goes over the socket by the client library, one order at a time.
"""

import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from frontend.client.blocking import Client
from frontend.client.errors import OrderRejectedError
from ipc.instruments import Instrument
from ipc.vocabulary import OrderType, OrdStatus, Side
from ipc.wire.messages import Report

MAKER, TAKER = "demo-maker", "demo-taker"
RESTING = 240
"""Quotes of a symbol that may rest; then the oldest goes for each new one."""
FIRST_QUOTES = 160
_START_TICKS = (8_000, 40_000)
_LOWEST_TICKS = 200
_TAKE_SHARE, _DRIFT_SHARE = 0.12, 0.10
_MEAN_DISTANCE = 9.0
_MEAN_LOTS = 45.0
_LIFETIME_S = (60.0, 900.0)
"""How long a quote stands that nobody trades with or takes back."""
_ICEBERG_SHARE, _ICEBERG_LOTS, _PARTS = 0.3, 100, 4
"""Of the quotes of so many lots and more: they show a fourth of themselves at a time."""
_GONE = (OrdStatus.FILLED, OrdStatus.EXPIRED)


class Act(NamedTuple):
    """What happens next: a quote, or an order at the market where ``ticks`` is 0."""

    side: Side
    ticks: int
    lots: int


class Price:
    """One symbol's price that nobody sees, and what comes of it."""

    def __init__(self, instrument: Instrument, chance: random.Random) -> None:
        self._chance = chance
        self._lowest = instrument.min_price + _LOWEST_TICKS
        self._highest = instrument.max_price - _LOWEST_TICKS
        start = chance.randint(*_START_TICKS)
        self.ticks = min(max(start, self._lowest), self._highest)
        self._trend = 0

    def quote(self) -> Act:
        """Return a quote near the price."""
        chance = self._chance
        side = chance.choice((Side.BUY, Side.SELL))
        distance = 1 + int(chance.expovariate(1 / _MEAN_DISTANCE))
        ticks = self.ticks - distance if side == Side.BUY else self.ticks + distance
        lots = 1 + int(chance.expovariate(1 / _MEAN_LOTS))
        return Act(side, max(1, ticks), lots)

    def next(self) -> Act:
        """Return what happens next, and let the price go on."""
        chance = self._chance
        if chance.random() < 0.01:
            self._trend = chance.choice((-1, 0, 0, 1))
        if chance.random() < _DRIFT_SHARE:
            step = chance.choice((-1, 1, self._trend))
            self.ticks = min(max(self.ticks + step, self._lowest), self._highest)
        if chance.random() < _TAKE_SHARE:
            up = chance.random() < 0.5 + 0.2 * self._trend
            lots = 1 + int(chance.expovariate(1 / _MEAN_LOTS))
            return Act(Side.BUY if up else Side.SELL, 0, lots)
        return self.quote()


class CalmMarket:
    """Trades in some instruments through a product's order entry."""

    def __init__(self, address: str, instruments: Sequence[Instrument], seed: int) -> None:
        self._chance = random.Random(seed)
        self._instruments = instruments
        self._prices = [Price(instrument, self._chance) for instrument in instruments]
        self._quotes: list[deque[int]] = [deque() for _ in instruments]
        self._places = {instrument.number: n for n, instrument in enumerate(instruments)}
        self._maker, self._taker = Client(address, user_id=MAKER), Client(address, user_id=TAKER)

    def close(self) -> None:
        """End both connections."""
        self._maker.close()
        self._taker.close()

    def fill(self) -> None:
        """Have every book begin with some quotes."""
        for place, price in enumerate(self._prices):
            for _ in range(FIRST_QUOTES):
                self._carry_out(place, price.quote())

    def run(self, changes_per_s: float, going: Callable[[], bool]) -> None:
        """Go on, at that rate over all symbols, for as long as it is asked to."""
        due_s = time.monotonic()
        while going():
            place = self._chance.randrange(len(self._instruments))
            self._carry_out(place, self._prices[place].next())
            due_s = max(due_s + 1 / changes_per_s, time.monotonic() - 0.2)
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _carry_out(self, place: int, act: Act) -> None:
        instrument, quotes = self._instruments[place], self._quotes[place]
        quantity = instrument.lot.text(act.lots)
        if act.ticks:
            price = instrument.tick.text(act.ticks)
            lifetime_s = self._chance.uniform(*_LIFETIME_S)
            shown = instrument.lot.text(-(-act.lots // _PARTS)) if self._hides(act) else None
            made = self._maker.submit(
                instrument.symbol,
                act.side,
                quantity,
                price,
                time_in_force="gtd",
                expire_time_ns=time.time_ns() + int(lifetime_s * 1e9),
                display_quantity=shown,
            )
            quotes.append(made.order_id)
            if len(quotes) > RESTING:
                self._take_back(quotes.popleft())
        else:
            kind = OrderType.MARKET
            self._taker.submit(instrument.symbol, act.side, quantity, order_type=kind)
        self._hear()

    def _hides(self, act: Act) -> bool:
        """Tell whether a quote shows a part of itself at a time."""
        return act.lots >= _ICEBERG_LOTS and self._chance.random() < _ICEBERG_SHARE

    def _hear(self) -> None:
        """Forget the quotes that are traded, or whose time is over."""
        self._taker.receive(0)
        for message in self._maker.receive(0):
            if isinstance(message, Report) and message.ord_status in _GONE:
                with contextlib.suppress(ValueError):  # it was taken back
                    self._quotes[self._places[message.symbol]].remove(message.order_id)

    def _take_back(self, order_id: int) -> None:
        with contextlib.suppress(OrderRejectedError):  # it was traded meanwhile
            self._maker.cancel(order_id)
