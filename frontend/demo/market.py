"""A market that does not exist: a maker's quotes around moving prices, and a taker's orders.

One maker and one taker trade in the symbols of one shard, in turn. The maker takes back what the
price has passed and what is too much, changes a little of the rest, and quotes anew; the taker
takes from both sides. Nothing is sent while something that it depends on is under way, so no
command comes too late: a reject would be a defect.

Commands come as arrays of COMMAND, computed with numpy and without a loop per command.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ipc.arrays import Integers, Records, joined, those
from ipc.instruments import Instrument
from ipc.records import COMMAND
from ipc.vocabulary import CommandType, OrderType, Side, TimeInForce

QUOTES = 16_384
"""New orders of the maker a turn."""
TAKES = 8_192
"""New orders of the taker a turn."""
RESTING = 12_000
"""Orders that the maker leaves on the books before it quotes anew."""

_MEAN_DISTANCE = 6.0  # ticks from the best price there may be to a quote
_MEAN_LOTS = 40.0
_START_TICKS = (8_000, 40_000)  # where a price starts: 80.00 to 400.00 at a tick of 0.01
_LOWEST_MID = 200  # ticks: the walk turns here, so that no price falls to zero
_CHANGED_SHARE = 0.04  # of the maker's orders that stay, replaced or reduced a turn
_MARKET_SHARE, _FOK_SHARE = 0.4, 0.05  # of the taker's orders; the rest is IOC

TARGET = np.dtype(
    [
        ("client_order_id", "<i8"),
        ("price", "<i8"),
        ("quantity", "<i8"),
        ("symbol", "<u2"),
        ("side", "u1"),
    ]
)
"""A quote that may rest."""


class Market:
    """The commands of a maker and a taker over some instruments, without end.

    ``client_order_id`` is dense over both: the first order has 1.
    """

    def __init__(self, instruments: Sequence[Instrument], seed: Sequence[int]) -> None:
        self._random = np.random.default_rng(list(seed))
        self._symbols = np.array([i.number for i in instruments], "<u2")
        self._low = np.array([i.min_price for i in instruments], np.int64)
        self._high = np.array([i.max_price for i in instruments], np.int64)
        # Some symbols are busier than others: the first about twice as much as the fourth.
        weights = 1 / np.sqrt(np.arange(1, len(instruments) + 1))
        self._bounds = np.cumsum(weights / weights.sum())
        start = self._random.integers(*_START_TICKS, len(instruments))
        self._mids: Integers = np.clip(start, self._low + _LOWEST_MID, self._high - _LOWEST_MID)
        self._targets = np.empty(0, TARGET)
        self.orders = 0
        """New orders so far: the highest client_order_id."""

    @property
    def quoted(self) -> Integers:
        """The client_order_ids of the quotes that may rest."""
        ids: Integers = self._targets["client_order_id"]
        return ids

    def changes(self, leaves: Integers) -> Records:
        """Move the prices; return what the maker takes back and changes.

        ``leaves`` is what is open of each of the ``quoted``, and nothing of them is under way.
        """
        self._mids = self._mids + self._random.integers(-1, 2, len(self._mids))
        low, high = self._low + _LOWEST_MID, self._high - _LOWEST_MID
        self._mids = np.clip(self._mids, low, np.maximum(low, high))
        is_open = leaves > 0
        targets, leaves = those(self._targets, is_open), leaves[is_open]
        places = np.searchsorted(self._symbols, targets["symbol"])
        best = self._best(places, targets["side"])
        bids = targets["side"] == Side.BUY
        gone = np.where(bids, targets["price"] > best, targets["price"] < best)
        staying = max(1, len(targets) - int(gone.sum()))
        surplus = 1 - RESTING / staying
        gone |= self._random.random(len(targets)) < surplus
        changed = ~gone & (leaves > 1) & (self._random.random(len(targets)) < _CHANGED_SHARE)
        replaced = changed & (self._random.random(len(targets)) < 0.7)
        targets["price"][replaced] = self._prices(places, targets["side"])[replaced]
        targets["quantity"][replaced] += 1  # the total: more than what has traded
        kinds = np.full(len(targets), CommandType.REDUCE, "u1")
        kinds[gone], kinds[replaced] = CommandType.CANCEL, CommandType.REPLACE
        rows = np.flatnonzero(gone | changed)
        commands = np.zeros(len(rows), COMMAND)
        commands["command_type"] = kinds[rows]
        for field in ("symbol", "client_order_id"):
            commands[field] = targets[field][rows]
        replaced = replaced[rows]
        commands["price"] = np.where(replaced, targets["price"][rows], 0)
        less = np.where(gone[rows], 0, leaves[rows] // 2)
        commands["quantity"] = np.where(replaced, targets["quantity"][rows], less)
        self._targets = those(targets, ~gone)
        return commands

    def quotes(self) -> Records:
        """Return the maker's new orders: none crosses what the maker has."""
        commands, places = self._orders(QUOTES)
        commands["order_type"], commands["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
        commands["price"] = self._prices(places, commands["side"])
        new = np.empty(QUOTES, TARGET)
        for field in TARGET.names or ():
            new[field] = commands[field]
        self._targets = joined((self._targets, new))
        return commands

    def takes(self) -> Records:
        """Return the taker's new orders: none rests."""
        commands, places = self._orders(TAKES)
        kinds = self._random.random(TAKES)
        market = kinds < _MARKET_SHARE
        fok = ~market & (kinds < _MARKET_SHARE + _FOK_SHARE)
        commands["order_type"] = np.where(market, OrderType.MARKET, OrderType.LIMIT)
        commands["time_in_force"] = np.where(fok, TimeInForce.FOK, TimeInForce.IOC)
        bids = commands["side"] == Side.BUY
        reach = self._random.integers(1, 6, TAKES)
        price = self._mids[places] + np.where(bids, reach, -reach)
        price = np.clip(price, self._low[places], self._high[places])
        commands["price"] = np.where(market, 0, price)
        return commands

    def nothing(self) -> Records:
        """Return an order that trades with nobody and is gone at once.

        Its answer comes behind all that the shard has told its account before.
        """
        command = np.zeros(1, COMMAND)
        command["command_type"], command["side"] = CommandType.NEW, Side.BUY
        command["order_type"], command["time_in_force"] = OrderType.LIMIT, TimeInForce.IOC
        command["symbol"], command["price"], command["quantity"] = self._symbols[0], self._low[0], 1
        self.orders += 1
        command["client_order_id"] = self.orders
        return command

    def _orders(self, count: int) -> tuple[Records, npt.NDArray[np.intp]]:
        """Return new orders without types and prices, and the place of the symbol of each."""
        places = np.searchsorted(self._bounds, self._random.random(count), side="right")
        places = np.minimum(places, len(self._symbols) - 1)
        commands = np.zeros(count, COMMAND)
        commands["command_type"] = CommandType.NEW
        commands["symbol"] = self._symbols[places]
        commands["side"] = self._random.integers(1, 3, count)
        commands["quantity"] = 1 + self._random.exponential(_MEAN_LOTS, count).astype(np.int64)
        commands["client_order_id"] = np.arange(self.orders + 1, self.orders + count + 1)
        self.orders += count
        return commands, places

    def _best(self, places: npt.NDArray[np.intp], sides: npt.NDArray[np.uint8]) -> Integers:
        """Return the best price that each of some quotes may have."""
        return self._mids[places] + np.where(sides == Side.BUY, -1, 1)

    def _prices(self, places: npt.NDArray[np.intp], sides: npt.NDArray[np.uint8]) -> Integers:
        """Return prices for quotes, most of them close to the best."""
        distance = self._random.exponential(_MEAN_DISTANCE, len(places)).astype(np.int64)
        price = self._best(places, sides) + np.where(sides == Side.BUY, -distance, distance)
        return np.clip(price, self._low[places] + 1, self._high[places])
