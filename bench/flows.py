"""Random command streams for every corner of the rules, the same for the same seed.

A ``Profile`` says what a market looks like: its instruments, who trades, where prices lie, which
commands come how often. A ``Flow`` draws commands from it. So that commands on orders mostly hit,
a flow is told the reports of each batch (``learn``); they are the same for every right book, so
the stream depends on seed, profile and batch sizes only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.books.contract import BookLimits, Records
from engine.books.id_memory import IdShares
from ipc.arrays import Words
from ipc.bounds import TEXT_BIT
from ipc.client_ids import name_row, number_of
from ipc.records import COMMAND, SEQUENCE_BITS
from ipc.vocabulary import (
    CONDITIONAL,
    MAX_CLIENT_ID,
    MAX_PRICE,
    MAX_QUANTITY,
    MAX_RESTING_ORDERS,
    UNPRICED,
    CommandType,
    ExecType,
    Flag,
    OrderType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

Booleans = npt.NDArray[np.bool_]
Prices = Callable[[np.random.Generator, Words, Booleans], Words]
"""Draws a price for each command, given its place in the whole stream and whether it buys."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # of Knuth's multiplicative hashing
_ONE = np.uint64(1)
DAY_END_S = 6_400
_START_NS = 10**18 - 3_000_000
"""Three thousand commands, a microsecond each, before the day ends for those with DAY_END_S."""
_KINDS = np.array(list(CommandType)[:5], np.uint8)
_ORDERS = np.array(
    [
        (OrderType.LIMIT, TimeInForce.GTC, Flag.NONE),
        (OrderType.LIMIT, TimeInForce.GTC, Flag.POST_ONLY),
        (OrderType.LIMIT, TimeInForce.IOC, Flag.NONE),
        (OrderType.LIMIT, TimeInForce.FOK, Flag.NONE),
        (OrderType.MARKET, TimeInForce.GTC, Flag.NONE),
        (OrderType.MARKET, TimeInForce.IOC, Flag.NONE),
        (OrderType.MARKET, TimeInForce.FOK, Flag.NONE),
        (OrderType.STOP, TimeInForce.GTC, Flag.NONE),
        (OrderType.STOP, TimeInForce.FOK, Flag.NONE),
        (OrderType.STOP_LIMIT, TimeInForce.GTC, Flag.NONE),
        (OrderType.STOP_LIMIT, TimeInForce.IOC, Flag.NONE),
        (OrderType.STOP_LIMIT, TimeInForce.FOK, Flag.NONE),
        (OrderType.MARKET_IF_TOUCHED, TimeInForce.GTC, Flag.NONE),
        (OrderType.LIMIT_IF_TOUCHED, TimeInForce.GTC, Flag.NONE),
        (OrderType.MARKET_TO_LIMIT, TimeInForce.GTC, Flag.NONE),
        (OrderType.MARKET_TO_LIMIT, TimeInForce.FOK, Flag.NONE),
        (OrderType.MARKET_WITH_PROTECTION, TimeInForce.IOC, Flag.NONE),
        (OrderType.MARKET_WITH_PROTECTION, TimeInForce.FOK, Flag.NONE),
    ],
    np.uint8,
)

_SHARES = IdShares(100, 400)


@dataclass(frozen=True)
class Profile:
    """What a stream is made of. Weights need not sum to 1; shares are of all commands."""

    limits: tuple[BookLimits, ...]
    prices: Prices
    recent_orders: int = 1000
    shares: IdShares = _SHARES
    accounts: int = 4
    quantities: tuple[int, int] = (1, 20)  # the lowest and the highest
    # NEW, CANCEL, REPLACE, REDUCE, MASS_CANCEL
    commands: tuple[float, ...] = (50, 25, 15, 9.9, 0.1)
    # GTC, POST_ONLY, IOC, FOK, MARKET as GTC, IOC, FOK, STOP as GTC, FOK, STOP_LIMIT as GTC, IOC,
    # FOK, the two that are touched, MARKET_TO_LIMIT as GTC, FOK, MARKET_WITH_PROTECTION as IOC,
    # FOK; those left out do not come
    orders: tuple[float, ...] = (
        *(62, 10, 8, 5, 2, 3, 2, 1, 0.5, 2.5, 0.5, 0.5, 0.5, 0.5),
        *(0.5, 0.3, 0.8, 0.4),
    )
    buys: float = 0.5  # of all orders
    by_order_id: float = 0.5  # of the commands on orders; the others go by client_order_id
    reach: int = 1000  # commands on orders look back over this many
    repeats: float = 0.02  # of the NEW commands: an earlier client_order_id, or none
    foreign: float = 0.02  # commands in another account's name
    faults: float = 0.02  # commands with a field gone wrong
    minded: float = 0.05  # of the NEW commands: they may mind trading with their own account
    icebergs: float = 0.05  # of the NEW commands that can rest: they show a part
    timed: float = 0.05  # of the GTC ones: DAY or GTD instead
    minima: float = 0.2  # of the IOC ones: they have a minimum quantity
    lists: float = 0.02  # of the NEW commands: a list of orders instead, half of them pairs
    lifetime: int = 500  # commands that come before a GTD order expires, at most


class Flow:
    """Draws the commands of one profile and seed; ``shard`` is that of the order ids."""

    def __init__(self, profile: Profile, seed: int, shard: int = 0) -> None:
        self.profile = profile
        self._shard_bits = np.uint64(shard << SEQUENCE_BITS)
        self._random = np.random.default_rng(seed)
        self._accounts = self._random.integers(1, 2**64, profile.accounts, np.uint64)
        self._symbols = np.array([limit.symbol for limit in profile.limits], np.uint16)
        self._drawn = 0
        self._accepted = 0
        self._known = np.zeros(0, COMMAND)  # resting once: with its order_id, as learned

    def commands(self, count: int) -> Records:
        """Draw the next ``count`` commands (COMMAND)."""
        profile, random = self.profile, self._random
        drawn = np.zeros(count, COMMAND)
        place = np.arange(self._drawn, self._drawn + count, dtype=np.uint64)
        drawn["command_type"] = random.choice(_KINDS, count, p=_shares(profile.commands))
        drawn["request_id"] = place + np.uint64(1)
        drawn["timestamp_ns"] = np.uint64(_START_NS) + place * np.uint64(1000)
        drawn["symbol"] = random.choice(self._symbols, count)
        drawn["account"] = random.choice(self._accounts, count)
        buys = random.random(count) < profile.buys
        drawn["side"] = np.where(buys, Side.BUY, Side.SELL)
        drawn["price"] = profile.prices(random, place, buys)
        low, high = profile.quantities
        drawn["quantity"] = random.integers(low, high, count, np.uint64, endpoint=True)
        new = drawn["command_type"] == CommandType.NEW
        self._draw_orders(drawn, new)
        self._draw_targets(drawn, new)
        self._draw_lists(drawn, new)
        self._draw_faults(drawn)
        self._drawn += count
        return drawn

    def learn(self, reports: Records) -> None:
        """Take in the reports of the commands drawn last, to aim at the orders they accepted."""
        accepted = reports[reports["exec_type"] == ExecType.NEW]
        self._accepted += len(accepted)
        known = np.zeros(len(accepted), COMMAND)
        for name in _REMEMBERED:
            known[name] = accepted[name]
        known = np.concatenate([self._known, known])
        on_orders = reports["exec_type"] != ExecType.REJECTED
        ended = reports["order_id"][on_orders & (reports["leaves_qty"] == 0)]
        live = ~np.isin(known["order_id"], ended)
        self._known = known[live][-self.profile.reach :]

    def _draw_orders(self, drawn: Records, new: Booleans) -> None:
        """Fill in what NEW commands alone have; ``new`` says which they are."""
        profile, random = self.profile, self._random
        count = np.count_nonzero(new)
        weights = (*profile.orders, *[0.0] * (len(_ORDERS) - len(profile.orders)))
        terms = random.choice(_ORDERS, count, p=_shares(weights))
        drawn["order_type"][new] = terms[:, 0]
        drawn["time_in_force"][new] = terms[:, 1]
        drawn["flags"][new] = terms[:, 2]
        drawn["price"][new & np.isin(drawn["order_type"], UNPRICED)] = 0
        protected = new & (drawn["order_type"] == OrderType.MARKET_WITH_PROTECTION)
        drawn["price"][protected] = drawn["price"][protected] % np.uint64(7)
        stops = new & np.isin(drawn["order_type"], CONDITIONAL)
        place = self._drawn + np.flatnonzero(stops).astype(np.uint64)
        drawn["stop_price"][stops] = profile.prices(random, place, drawn["side"][stops] == Side.BUY)
        ids = drawn["request_id"][new].copy()
        repeated = random.random(count) < profile.repeats
        back = random.integers(0, 2 * profile.recent_orders + 2, count, np.uint64)
        ids[repeated] -= np.minimum(back, ids)[repeated]
        drawn["client_order_id"][new] = ids
        modes = random.integers(0, len(SelfTradePrevention), count)
        minded = random.random(count) < profile.minded
        drawn["self_trade_prevention"][new] = np.where(minded, modes, 0)
        least = new & (drawn["time_in_force"] == TimeInForce.IOC)
        least &= random.random(len(drawn)) < profile.minima
        minima = random.integers(1, drawn["quantity"], endpoint=True)
        drawn["minimum_quantity"] = np.where(least, minima, 0)
        can_rest = new & (drawn["time_in_force"] == TimeInForce.GTC) & (drawn["price"] != 0)
        timed = new & (drawn["time_in_force"] == TimeInForce.GTC)
        timed &= random.random(len(drawn)) < profile.timed
        dated = timed & (random.random(len(drawn)) < 0.7)
        drawn["time_in_force"][timed] = TimeInForce.DAY
        drawn["time_in_force"][dated] = TimeInForce.GTD
        left = random.integers(0, profile.lifetime, len(drawn), np.uint64) * np.uint64(1000)
        drawn["expire_time_ns"] = np.where(dated, drawn["timestamp_ns"] + left, 0)
        hides = can_rest & (random.random(len(drawn)) < profile.icebergs)
        parts = random.integers(1, 9, len(drawn), np.uint64)
        drawn["display_quantity"] = np.where(hides, (drawn["quantity"] - _ONE) // parts + _ONE, 0)
        # The account and the symbol follow from the id, so that a repeated one repeats those too.
        number = ids * _GOLDEN >> np.uint64(32)
        drawn["account"][new] = self._accounts[number % np.uint64(len(self._accounts))]
        drawn["symbol"][new] = self._symbols[number % np.uint64(len(self._symbols))]

    def _draw_lists(self, drawn: Records, new: Booleans) -> None:
        """Make lists of some NEW commands: exits near their price, mostly on the right sides."""
        random, count = self._random, len(drawn)
        listed = new & (random.random(count) < self.profile.lists)
        pair = listed & (random.random(count) < 0.5)
        drawn["command_type"][listed] = CommandType.NEW_BRACKET
        drawn["command_type"][pair] = CommandType.NEW_OCO
        place = self._drawn + np.arange(count, dtype=np.uint64)
        buys = drawn["side"] == Side.BUY
        price = self.profile.prices(random, place, buys)
        market = listed & ~pair & (random.random(count) < 0.3)
        drawn["order_type"][listed] = OrderType.LIMIT
        drawn["order_type"][market] = OrderType.MARKET
        drawn["price"][listed] = np.where(market, 0, price)[listed]
        for name in ("display_quantity", "minimum_quantity", "stop_price"):
            drawn[name][listed] = 0
        exits = np.array([self.profile.prices(random, place, ~buys) for _ in range(3)])
        # A bracket that buys sells above and stops below; a pair that buys does the reverse.
        above = np.where(buys != pair, exits[0] < exits[1], exits[0] > exits[1])
        take = np.where(above, exits[1], exits[0])
        stop = np.where(above, exits[0], exits[1])
        stop = np.where(pair, np.where(buys, price + _ONE, price - np.minimum(price, _ONE)), stop)
        drawn["stop_price"][listed] = stop[listed]
        alone = random.random(count)
        drawn["minimum_quantity"] = np.where(
            listed & ~pair & (alone < 0.8), take, drawn["minimum_quantity"]
        )
        drawn["stop_price"][listed & ~pair & (alone > 0.7)] = 0
        limits = listed & (drawn["stop_price"] != 0) & (random.random(count) < 0.5)
        drawn["display_quantity"][limits] = exits[2][limits]
        drawn["time_in_force"][pair & (drawn["time_in_force"] > TimeInForce.GTC)] = TimeInForce.GTC
        drawn["expire_time_ns"][listed & (drawn["time_in_force"] != TimeInForce.GTD)] = 0
        drawn["flags"][listed & ~pair & (drawn["order_type"] != OrderType.LIMIT)] = 0

    def _draw_targets(self, drawn: Records, new: Booleans) -> None:
        """Aim CANCEL, REPLACE and REDUCE at orders known, or at those of this very batch."""
        profile, random = self.profile, self._random
        fresh = drawn[new]
        rank = np.arange(1, len(fresh) + 1, dtype=np.uint64)
        # Right where every NEW so far is accepted.
        fresh["order_id"] = self._shard_bits | (np.uint64(self._accepted) + rank)
        known = np.concatenate([self._known, fresh])
        aimed = ~new & (drawn["command_type"] != CommandType.MASS_CANCEL)
        end = len(self._known) + np.cumsum(new)[aimed]
        back = random.integers(0, np.clip(end, 1, profile.reach))
        if len(known):
            self._take_over(drawn, aimed, known[np.maximum(end - 1 - back, 0)])
        foreign = random.random(len(drawn)) < profile.foreign
        drawn["account"][foreign] = random.choice(self._accounts, np.count_nonzero(foreign))
        mass = drawn["command_type"] == CommandType.MASS_CANCEL
        everywhere = mass & (random.random(len(drawn)) < 0.3)
        drawn["symbol"][everywhere] = 0

    def _take_over(self, drawn: Records, aimed: Booleans, orders: Records) -> None:
        """Let the ``aimed`` commands name these orders, by either id, or by both."""
        random, count = self._random, len(orders)
        by_order_id = random.random(count) < self.profile.by_order_id
        both = random.random(count) < 0.1
        drawn["account"][aimed] = orders["account"]
        without_symbol = by_order_id & (random.random(count) < 0.5)
        drawn["symbol"][aimed] = np.where(without_symbol, 0, orders["symbol"])
        drawn["order_id"][aimed] = np.where(by_order_id | both, orders["order_id"], 0)
        by_client_id = ~by_order_id | both
        drawn["client_order_id"][aimed] = np.where(by_client_id, orders["client_order_id"], 0)
        drawn["flags"][aimed] = np.where(random.random(count) < 0.3, Flag.REINSERT, 0)
        kept = random.choice(np.array(_KEPT, np.uint8), count, p=_shares(_KEPT_SHARES))
        drawn["flags"][aimed & (drawn["command_type"] == CommandType.REPLACE)] |= kept[
            drawn["command_type"][aimed] == CommandType.REPLACE
        ]
        same_price = random.random(count) < 0.4
        stops = np.isin(orders["order_type"], CONDITIONAL) & (
            drawn["command_type"][aimed] == _REPLACE
        )
        stops &= random.random(count) < 0.5
        drawn["stop_price"][aimed] = np.where(stops, drawn["price"][aimed], 0)
        hides = (orders["flags"] & Flag.RARE != 0) | (orders["display_quantity"] != 0)
        hides &= (drawn["command_type"][aimed] == _REPLACE) & (random.random(count) < 0.3)
        shown = drawn["quantity"][aimed] // np.uint64(4) + _ONE
        drawn["display_quantity"][aimed] = np.where(hides, shown, 0)
        drawn["price"][aimed] = np.where(same_price, orders["price"], drawn["price"][aimed])
        # Half of them a part of the order, so that it keeps its place.
        part = random.random(count) < 0.5
        smaller = random.integers(1, np.maximum(orders["quantity"], 1), endpoint=True)
        drawn["quantity"][aimed] = np.where(part, smaller, drawn["quantity"][aimed])

    def _draw_faults(self, drawn: Records) -> None:
        """Put a wrong value in one field of some commands."""
        random = self._random
        faulty = np.flatnonzero(random.random(len(drawn)) < self.profile.faults)
        fields = random.integers(0, len(_FAULTS), len(faulty))
        for number, (name, values) in enumerate(_FAULTS):
            places = faulty[fields == number]
            drawn[name][places] = random.choice(np.array(values, drawn[name].dtype), len(places))


_KEPT = (0, Flag.KEEP_PRICE, Flag.KEEP_QUANTITY, Flag.KEEP_PRICE | Flag.KEEP_QUANTITY)
_KEPT_SHARES = (78, 10, 10, 2)
_REPLACE = int(CommandType.REPLACE)
_REMEMBERED = (
    "account", "symbol", "side", "order_type", "order_id", "client_order_id", "price", "quantity",
    "flags",
)  # fmt: skip
_CODES = (*range(9), 19, 20, 36, 38, 255)
_FAULTS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("command_type", _CODES),
    ("side", _CODES),
    ("order_type", _CODES),
    ("time_in_force", _CODES),
    ("flags", _CODES),
    ("symbol", (0, 1, 2, 3, 4, 1000, 65534, 65535)),
    ("account", (0, 1, 2**64 - 1)),
    ("order_id", (0, 1, 2, 100, 1 << SEQUENCE_BITS, (1 << SEQUENCE_BITS) + 1, 2**53, 2**64 - 1)),
    ("client_order_id", (0, 1, 2, 3, MAX_CLIENT_ID, 2**64 - 1)),
    ("price", (0, 1, 2, MAX_PRICE, MAX_PRICE + 1, 2**63, 2**64 - 1)),
    ("quantity", (0, 1, MAX_QUANTITY - 1, MAX_QUANTITY, MAX_QUANTITY + 1, 2**63, 2**64 - 1)),
    ("stop_price", (0, 1, 50, MAX_PRICE, MAX_PRICE + 1, 2**63, 2**64 - 1)),
    ("self_trade_prevention", _CODES),
    ("display_quantity", (0, 1, 3, MAX_QUANTITY, MAX_QUANTITY + 1, 2**63, 2**64 - 1)),
    ("minimum_quantity", (0, 1, 5, MAX_QUANTITY, 2**63, 2**64 - 1)),
    ("expire_time_ns", (0, 1, MAX_CLIENT_ID, 2**63, 2**64 - 1)),
    # These must make no difference.
    ("timestamp_ns", (0,)),
    ("request_id", (0, MAX_CLIENT_ID, 2**64 - 1)),
)


def _shares(weights: tuple[float, ...]) -> npt.NDArray[np.float64]:
    return np.array(weights) / sum(weights)


# Where prices lie ------------------------------------------------------------------------------


def _around(middle: Words, random: np.random.Generator, width: int, buys: Booleans) -> Words:
    """Bids mostly below ``middle`` and asks above, a fifth across, most of them near."""
    count = len(buys)
    reach = random.integers(1, width, count, np.int64, endpoint=True)
    away = random.integers(-(reach // 4), reach, endpoint=True)
    prices = middle.astype(np.int64) + np.where(buys, -away, away)
    return np.maximum(prices, 1).astype(np.uint64)


def near(middle: int, width: int) -> Prices:
    """Prices within ``width`` ticks around one price."""
    return lambda random, place, buys: _around(
        np.full(len(place), middle, np.uint64), random, width, buys
    )


def only(*prices: int) -> Prices:
    """Only these prices, whatever the side."""
    return lambda random, place, _: random.choice(np.array(prices, np.uint64), len(place))


def drifting(low: int, high: int, period: int, width: int) -> Prices:
    """A market whose middle goes from ``low`` to ``high`` and back in ``period`` commands."""

    def draw(random: np.random.Generator, place: Words, buys: Booleans) -> Words:
        half = period // 2
        phase = (place % np.uint64(period)).astype(np.int64)
        done = np.minimum(phase, period - phase)
        return _around((low + (high - low) * done // half).astype(np.uint64), random, width, buys)

    return draw


def jumping(highest: int, stay: int, width: int) -> Prices:
    """A market whose middle is somewhere else up to ``highest`` after every ``stay`` commands."""

    def draw(random: np.random.Generator, place: Words, buys: Booleans) -> Words:
        number = place // np.uint64(stay) * _GOLDEN  # a hash, so that batches do not matter
        middle = (number >> np.uint64(11)) % np.uint64(highest) + np.uint64(width)
        return _around(middle, random, width, buys)

    return draw


def anywhere(random: np.random.Generator, place: Words, _: Booleans) -> Words:
    """Every magnitude from 1 to MAX_PRICE alike."""
    top = np.uint64(1) << random.integers(0, MAX_PRICE.bit_length(), len(place), np.uint64)
    below: Words = random.integers(0, np.maximum(top // np.uint64(2), 1), dtype=np.uint64)
    return top - below


def own_level(random: np.random.Generator, place: Words, buys: Booleans) -> Words:
    """Nearly every order on a level of its own, over 2^40 ticks, one in fifty across."""
    half = np.int64(MAX_PRICE // 2)
    away = random.integers(1, 2**40, len(place), np.int64)
    away[random.random(len(place)) < 0.02] *= -1
    return (half + np.where(buys, -away, away)).astype(np.uint64)


# The profiles ----------------------------------------------------------------------------------


def _limits(*symbols: int, orders: int = MAX_RESTING_ORDERS) -> tuple[BookLimits, ...]:
    return tuple(BookLimits(symbol, 1, MAX_PRICE, orders) for symbol in symbols)


_CALM = (80, 12, 4, 4, 0)
"""Commands of a book that grows large: little is taken away."""

PROFILES: dict[str, Profile] = {
    "mixed": Profile(_limits(1, 2, 3), near(1000, 20)),
    "tiny": Profile(
        (BookLimits(1, 9, 15, 4),),
        near(12, 4),
        recent_orders=3,
        accounts=2,
        reach=8,
        faults=0.1,
        shares=IdShares(4, 6),
    ),
    "capacity": Profile(
        (BookLimits(1, 1, MAX_PRICE, 60, 18), BookLimits(2, 1, MAX_PRICE, 60)),
        near(10**6, 300),
        commands=(80, 10, 5, 4, 1),
    ),
    "one_price": Profile(_limits(1), only(777), buys=0.8, accounts=500, reach=300, commands=_CALM),
    "two_prices": Profile(_limits(1), only(1, MAX_PRICE), commands=(60, 20, 12, 7.9, 0.1)),
    "anywhere": Profile(_limits(1), anywhere, commands=(55, 25, 15, 4.99, 0.01)),
    "extremes": Profile(
        _limits(1), only(1, 2, 3, 2**32, MAX_PRICE - 2, MAX_PRICE - 1, MAX_PRICE), reach=200
    ),
    "own_level": Profile(_limits(1), own_level, accounts=500, commands=_CALM, reach=50_000),
    "drifting": Profile(_limits(1), drifting(10**6, 2 * 10**6, 50_000, 100), reach=2000),
    "jumping": Profile(_limits(1, 9), jumping(2**50, 700, 1000), reach=3000),
    "huge": Profile(
        _limits(1),
        near(2**40, 30_000),
        recent_orders=1 << 17,
        shares=IdShares(10, 1 << 18),
        accounts=100_000,
        commands=_CALM,
        orders=(90, 8, 1, 1, 0, 0, 0),
        reach=100_000,
    ),
    "sweeps": Profile(
        _limits(1, 2),
        near(5000, 200),
        quantities=(1, MAX_QUANTITY),
        buys=0.6,
        orders=(80, 0, 5, 5, 4, 4, 2),
        commands=(80, 8, 8, 3.8, 0.2),
    ),
    "large_quantities": Profile(
        _limits(1),
        near(100, 5),
        accounts=500,
        quantities=(MAX_QUANTITY - 5, MAX_QUANTITY),
        commands=_CALM,
        buys=0.7,
    ),
    "symbols": Profile(_limits(*range(1, 400), 32768, 65535), near(1000, 10), recent_orders=5000),
    "accounts": Profile(
        _limits(1, 2),
        near(1000, 50),
        accounts=60_000,
        recent_orders=20_000,
        reach=20_000,
        shares=IdShares(3, 1 << 16),
    ),
    "duplicates": Profile(
        _limits(1, 2), near(50, 10), recent_orders=16, accounts=2, repeats=0.6, reach=40
    ),
    "shares": Profile(
        _limits(1, 2),
        near(50, 10),
        recent_orders=64,
        accounts=12,
        repeats=0.5,
        reach=60,
        shares=IdShares(20, 100),
    ),
    "recent_only": Profile(_limits(1), near(50, 10), repeats=0.5, shares=IdShares()),
    "no_memory": Profile(_limits(1, 2), near(50, 10), recent_orders=0, repeats=0.5, reach=60),
    "faulty": Profile(
        (BookLimits(1, 1, MAX_PRICE, 1000), BookLimits(4, 40, 60, 1000)),
        near(50, 12),
        accounts=3,
        foreign=0.3,
        faults=0.6,
    ),
    "stops": Profile(
        _limits(1, 2),
        near(1000, 40),
        orders=(30, 2, 4, 2, 2, 2, 1, 8, 5, 25, 5, 5, 4, 5),
        commands=(60, 15, 20, 5, 0.2),
    ),
    "stop_cascades": Profile(
        (BookLimits(1, 60, 140, 400, 150),),
        near(100, 12),
        orders=(20, 0, 1, 1, 1, 1, 0, 20, 5, 30, 5, 5, 5, 5),
        commands=(80, 5, 10, 4.6, 0.4),
        quantities=(1, 60),
        minded=0.5,
        recent_orders=50,
        reach=300,
        accounts=3,
    ),
    "icebergs": Profile(
        _limits(1, 2),
        near(1000, 12),
        icebergs=0.6,
        quantities=(1, 300),
        commands=(60, 10, 20, 9.7, 0.3),
    ),
    "icebergs_among_stops": Profile(
        (BookLimits(1, 60, 140, 400, 150),),
        near(100, 8),
        orders=(30, 2, 1, 4, 1, 1, 1, 10, 3, 30, 3, 3, 3, 5),
        commands=(75, 5, 13, 6, 1),
        quantities=(1, 90),
        icebergs=0.5,
        minded=0.6,
        timed=0.3,
        lifetime=150,
        recent_orders=50,
        reach=300,
        accounts=3,
    ),
    "lists": Profile(
        _limits(1, 2),
        near(1000, 15),
        orders=(30, 2, 6, 3, 2, 2, 1, 3, 1, 5, 1, 1, 1, 1),
        commands=(70, 18, 6, 4, 2),
        lists=0.4,
        minded=0.3,
        timed=0.2,
        quantities=(1, 40),
    ),
    "lists_in_cascades": Profile(
        (BookLimits(1, 60, 140, 60, 25, DAY_END_S),),
        near(100, 7),
        orders=(30, 2, 4, 3, 2, 2, 1, 8, 2, 12, 2, 2, 2, 3),
        commands=(74, 12, 6, 4, 4),
        quantities=(1, 60),
        lists=0.5,
        icebergs=0.3,
        minded=0.5,
        timed=0.3,
        lifetime=60,
        recent_orders=20,
        reach=60,
        accounts=3,
    ),
    "best_prices": Profile(
        (BookLimits(1, 90, 110, 60, 25), BookLimits(2, 1, 400, 60)),
        near(100, 6),
        orders=(30, 2, 12, 5, 2, 2, 2, 3, 1, 3, 1, 1, 1, 1, 12, 5, 15, 6),
        minima=0.6,
        minded=0.3,
        icebergs=0.3,
        timed=0.2,
        commands=(75, 10, 10, 4, 1),
    ),
    "timed": Profile(
        tuple(limit._replace(day_end_s=DAY_END_S) for limit in _limits(1, 2)),
        near(1000, 40),
        orders=(50, 3, 4, 2, 2, 2, 1, 4, 2, 10, 2, 1, 2, 3),
        timed=0.8,
        icebergs=0.3,
        commands=(60, 8, 24, 7.5, 0.5),
    ),
    "mass_cancels": Profile(
        _limits(1, 2, 3, 4), near(1000, 60), accounts=3, commands=(80, 5, 5, 5, 5)
    ),
}
"""Every market that the books are held against each other on, by name."""


class Texts:
    """Gives an eighth of a flow's client_order_ids a text."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def given(self, commands: Records) -> Records:
        """Return the next commands (COMMAND), each that has a text behind its NAME."""
        ids = commands["client_order_id"]
        is_text = ids >= np.uint64(TEXT_BIT)  # of an order that a flow has learned of
        places = np.flatnonzero(is_text | (ids & np.uint64(7) == 1))
        named = np.zeros(len(places), COMMAND)
        for row, place in enumerate(places.tolist()):
            account, now_ns = (int(commands[name][place]) for name in ("account", "timestamp_ns"))
            number = int(ids[place])
            text = self._known.get(number, f"order-{number}")
            named[row] = name_row(text, account, now_ns)
            for further in ("", ".2", ".3"):
                self._known[number_of(text + further)] = text + further
        commands = commands.copy()
        commands["client_order_id"][places] = named["client_order_id"]
        return np.insert(commands, places, named)
