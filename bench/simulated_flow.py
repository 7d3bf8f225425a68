"""A market that does not exist: an endless, seeded flow of orders around moving prices.

Each symbol has a mid price that walks at random. Limit orders rest at a few ticks' distance from
it, most of them close; some cross, market orders and IOCs take what rests; the rest of the flow
cancels, replaces and reduces orders sent before; now and then an account takes back all that it
has in one symbol. The flow never looks at an answer, so that the
same seed gives the same commands whatever the engine does with them: an order that it cancels may
have traded already, as it happens on a real market.

Commands come in chunks, as arrays of COMMAND, computed with numpy and without a loop per command.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ipc.arrays import Integers, Records
from ipc.instruments import Instrument
from ipc.records import COMMAND
from ipc.vocabulary import MAX_QUANTITY, CommandType, Flag, OrderType, Side, TimeInForce

_PASSIVE, _POST_ONLY, _CROSSING, _IOC, _FOK, _MARKET, _CANCEL, _REPLACE, _REDUCE = range(9)
_MASS_CANCEL = 9  # one a chunk, its first command
MIX = np.array([0.42, 0.05, 0.04, 0.03, 0.005, 0.025, 0.345, 0.06, 0.025])
"""Shares of: passive, post-only and crossing limits, IOC, FOK, market, cancel, replace, reduce."""

_MEAN_DISTANCE = 6.0  # ticks from the mid to a passive order, beyond the first
_MEAN_LOTS = 40.0
_STEP_SHARE = 0.02  # of the commands of a symbol that move its mid by a tick
_START_TICKS = (8_000, 40_000)  # where a mid starts: 80.00 to 400.00 at a tick of 0.01
_LOWEST_MID = 200  # ticks: the walk turns here, so that no price falls to zero

TARGET = np.dtype(
    [
        ("client_order_id", "<i8"),
        ("account", "<u8"),
        ("price", "<i8"),
        ("quantity", "<i8"),
        ("symbol", "<u2"),
        ("side", "u1"),
    ]
)
"""An order that may still rest, for a later cancel, replace or reduce."""


class SimulatedFlow:
    """The commands of several accounts over several instruments, without end.

    ``client_order_id`` and ``request_id`` are dense over the whole flow: the first order and the
    first command have 1. About ``resting_orders`` orders are kept on the books in all.
    """

    def __init__(
        self,
        instruments: Sequence[Instrument],
        accounts: Sequence[int],
        seed: Sequence[int],
        resting_orders: int = 4_000,
    ) -> None:
        self._random = np.random.default_rng(list(seed))
        self._symbols = np.array([i.number for i in instruments], "<u2")
        self._low = np.array([i.min_price for i in instruments], np.int64)
        self._high = np.array([i.max_price for i in instruments], np.int64)
        self._accounts = np.array(accounts, "<u8")
        # Some symbols are busier than others: the first about twice as much as the fourth.
        weights = 1 / np.sqrt(np.arange(1, len(instruments) + 1))
        self._symbol_bounds = np.cumsum(weights / weights.sum())
        self._kind_bounds = np.cumsum(MIX)
        start = self._random.integers(*_START_TICKS, len(instruments))
        self._mids: Integers = np.clip(start, self._low + _LOWEST_MID, self._high)
        self._targets = np.empty(0, TARGET)
        self._resting_orders = resting_orders
        self.orders = 0
        """New orders so far: the highest client_order_id."""
        self.commands = 0
        """Commands so far: the highest request_id."""

    def chunk(self, count: int) -> Records:
        """Return the next ``count`` commands, as COMMAND records."""
        kinds = np.searchsorted(self._kind_bounds, self._random.random(count)).astype(np.int64)
        np.minimum(kinds, _REDUCE, out=kinds)
        places = np.searchsorted(self._symbol_bounds, self._random.random(count))
        np.minimum(places, len(self._symbols) - 1, out=places)
        mids = self._walk(places)
        commands = np.zeros(count, COMMAND)
        commands["request_id"] = np.arange(self.commands + 1, self.commands + count + 1)
        self.commands += count
        kinds[0] = _MASS_CANCEL
        self._withdraw(commands[:1])
        kinds, taken = self._deal_targets(kinds)
        changes = np.flatnonzero(_is_change(kinds))
        entries = np.flatnonzero(kinds < _CANCEL)
        self._enter(commands, entries, kinds[entries], places[entries], mids[entries])
        self._change(commands, changes, kinds[changes], taken)
        self._remember(commands, entries, kinds, changes, taken)
        return commands

    def _walk(self, places: npt.NDArray[np.intp]) -> Integers:
        """Move the mids and return the one that each command of a chunk sees."""
        steps = np.where(self._random.random(len(places)) < _STEP_SHARE, 1, 0)
        steps *= self._random.integers(0, 2, len(places)) * 2 - 1
        by_symbol = np.argsort(places, kind="stable")
        moved = np.cumsum(steps[by_symbol])
        counts = np.bincount(places, minlength=len(self._symbols))
        ends = np.cumsum(counts)
        before = np.concatenate(([0], moved))[ends - counts]
        mids = np.empty(len(places), np.int64)
        mids[by_symbol] = moved - np.repeat(before, counts) + np.repeat(self._mids, counts)
        self._mids = self._mids + np.concatenate(([0], moved))[ends] - before
        low = np.minimum(self._low + _LOWEST_MID, self._high)
        self._mids = np.clip(self._mids, low, self._high)
        return np.clip(mids, low[places], self._high[places])

    def _withdraw(self, command: Records) -> None:
        """Let one account take back its orders in one symbol.

        It keeps the books small: without it, orders forgotten by mistake would pile up.
        """
        command["command_type"] = CommandType.MASS_CANCEL
        command["account"] = account = self._random.choice(self._accounts)
        command["symbol"] = symbol = self._random.choice(self._symbols)
        gone = (self._targets["account"] == account) & (self._targets["symbol"] == symbol)
        self._targets = self._targets[~gone]

    def _deal_targets(self, kinds: Integers) -> tuple[Integers, Records]:
        """Give every cancel, replace and reduce an order of its own.

        Orders that their symbol's mid has passed have most likely traded and are forgotten. Where
        there are too few orders a change becomes a new order, where too many an order a cancel.
        """
        mids = self._mids[np.searchsorted(self._symbols, self._targets["symbol"])]
        is_bid = self._targets["side"] == Side.BUY
        alive = np.where(is_bid, self._targets["price"] < mids, self._targets["price"] > mids)
        self._targets = self._targets[alive]
        kinds = kinds.copy()
        changes = np.flatnonzero(_is_change(kinds))
        kinds[changes[len(self._targets) // 2 :]] = _PASSIVE
        surplus = len(self._targets) - self._resting_orders
        if surplus > 0:
            kinds[np.flatnonzero(kinds == _PASSIVE)[:surplus]] = _CANCEL
        count = int(_is_change(kinds).sum())
        self._random.shuffle(self._targets)
        taken, self._targets = self._targets[:count], self._targets[count:]
        return kinds, taken

    def _enter(
        self,
        commands: Records,
        rows: npt.NDArray[np.intp],
        kinds: Integers,
        places: npt.NDArray[np.intp],
        mids: Integers,
    ) -> None:
        """Fill in the new orders."""
        count = len(rows)
        sides = self._random.integers(1, 3, count)
        distance = self._distances(count)
        crosses = (kinds == _CROSSING) | (kinds == _IOC) | (kinds == _FOK)
        distance[crosses] *= -1
        price = mids + np.where(sides == Side.BUY, -distance, distance)
        price = np.clip(price, self._low[places], self._high[places])
        market = kinds == _MARKET
        time_in_force = np.full(count, TimeInForce.GTC, "u1")
        time_in_force[(kinds == _IOC) | market] = TimeInForce.IOC
        time_in_force[kinds == _FOK] = TimeInForce.FOK
        commands["command_type"][rows] = CommandType.NEW
        commands["symbol"][rows] = self._symbols[places]
        commands["side"][rows] = sides
        commands["order_type"][rows] = np.where(market, OrderType.MARKET, OrderType.LIMIT)
        commands["time_in_force"][rows] = time_in_force
        commands["flags"][rows] = np.where(kinds == _POST_ONLY, Flag.POST_ONLY, Flag.NONE)
        commands["price"][rows] = np.where(market, 0, price)
        commands["quantity"][rows] = self._quantities(count)
        commands["account"][rows] = self._accounts[
            self._random.integers(0, len(self._accounts), count)
        ]
        commands["client_order_id"][rows] = np.arange(self.orders + 1, self.orders + count + 1)
        self.orders += count

    def _change(
        self, commands: Records, rows: npt.NDArray[np.intp], kinds: Integers, taken: Records
    ) -> None:
        """Fill in the cancels, replaces and reduces of ``taken``, and change those as asked."""
        count = len(rows)
        types = np.full(count, CommandType.CANCEL, "u1")
        replace, reduce = kinds == _REPLACE, kinds == _REDUCE
        types[replace], types[reduce] = CommandType.REPLACE, CommandType.REDUCE
        commands["command_type"][rows] = types
        for field in ("symbol", "account", "client_order_id"):
            commands[field][rows] = taken[field]
        # A third of the replaces keeps its price and takes less, and so keeps its place.
        places = np.searchsorted(self._symbols, taken["symbol"])
        distance = self._distances(count)
        price = self._mids[places] + np.where(taken["side"] == Side.BUY, -distance, distance)
        price = np.clip(price, self._low[places], self._high[places])
        keeps = self._random.random(count) < 1 / 3
        price = np.where(keeps, taken["price"], price)
        quantity = np.where(keeps, (taken["quantity"] + 1) // 2, self._quantities(count))
        commands["price"][rows] = np.where(replace, price, 0)
        commands["quantity"][rows] = np.where(
            replace, quantity, np.where(reduce, (taken["quantity"] + 3) // 4, 0)
        )
        commands["flags"][rows] = np.where(
            replace & (self._random.random(count) < 0.2), Flag.REINSERT, Flag.NONE
        )
        taken["price"] = np.where(replace, price, taken["price"])
        taken["quantity"] = np.where(replace, quantity, taken["quantity"])

    def _remember(
        self,
        commands: Records,
        entries: npt.NDArray[np.intp],
        kinds: Integers,
        changes: npt.NDArray[np.intp],
        taken: Records,
    ) -> None:
        """Keep what may rest now for later changes."""
        rests = entries[kinds[entries] <= _CROSSING]
        new = np.empty(len(rests), TARGET)
        for field in TARGET.names or ():
            new[field] = commands[field][rests]
        kept = taken[kinds[changes] != _CANCEL]
        self._targets = np.concatenate((self._targets, kept, new))

    def _distances(self, count: int) -> Integers:
        return 1 + self._random.exponential(_MEAN_DISTANCE, count).astype(np.int64)

    def _quantities(self, count: int) -> Integers:
        lots = 1 + self._random.exponential(_MEAN_LOTS, count).astype(np.int64)
        return np.minimum(lots, MAX_QUANTITY)


def _is_change(kinds: Integers) -> npt.NDArray[np.bool_]:
    """Return which commands change one order that was sent before."""
    return (kinds >= _CANCEL) & (kinds <= _REDUCE)
