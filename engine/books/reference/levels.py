"""The live orders of one instrument, as the reference book keeps them.

A side is a sorted mapping from rank to price level, a level a queue of orders. The rank is the
price of an ask and the negated price of a bid: so on both sides the best level comes first, and an
order may trade with the opposite levels whose rank is not above its own limit, its reach. Orders
that wait stand in two further sides by their stop prices, those for a rise and those for a fall:
the one that triggers first comes first.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import dropwhile, islice, takewhile

from sortedcontainers import SortedDict

from engine.books.contract import BookLimits
from engine.books.reference.records import Order
from engine.books.rules import (
    HELD_PRICE,
    LINK_HELD,
    can_rest,
    is_priceless,
    is_reached,
    waits_for_rise,
)
from ipc.codes import (
    FLAG_RARE,
    FLAG_TRIGGERED,
    ORDER_TYPE_LIMIT,
    SELF_TRADE_PREVENTION_CANCEL_OLDEST,
    SIDE_BUY,
    SIDE_SELL,
    TIME_IN_FORCE_DAY,
    TIME_IN_FORCE_GTD,
)
from ipc.vocabulary import (
    CONDITIONAL,
    MAX_PRICE,
    MAX_QUANTITY,
)

_RISE, _FALL = 3, 4
_SIDES = (SIDE_BUY, SIDE_SELL, _RISE, _FALL)
_NO_RANK = HELD_PRICE + 1  # beyond the reach of any order


def _place(order: Order) -> tuple[int, int]:
    """Return the side and the rank where an order rests or waits."""
    if order.link & LINK_HELD:
        return _RISE, HELD_PRICE
    if order.stop_price:
        rise = waits_for_rise(order.order_type, order.side)
        return (_RISE, order.stop_price) if rise else (_FALL, -order.stop_price)
    return order.side, order.price if order.side == SIDE_SELL else -order.price


def _reach(side: int, order_type: int, price: int) -> int:
    if is_priceless(order_type):
        return MAX_PRICE
    return price if side == SIDE_BUY else -price


@dataclass(slots=True)
class _Level:
    """The orders of one price, oldest first, and the sum of what is shown of them.

    An OrderedDict finds its first entry at once; a dict walks past every entry deleted before it.
    """

    orders: OrderedDict[int, Order] = field(default_factory=OrderedDict)
    quantity: int = 0


class PriceLevels:
    """Both sides of one instrument's book, and the orders that wait."""

    def __init__(self, limits: BookLimits) -> None:
        self.limits = limits
        self.live_orders = 0
        """Those that rest, and those that wait."""
        self.account_orders: Counter[int] = Counter()
        self.last_price = 0
        """Of the last trade; 0: there was none."""
        self.traded: tuple[int, int] | None = None
        """The lowest and the highest price of the trades that have triggered nothing yet."""
        self._sides: dict[int, SortedDict] = {side: SortedDict() for side in _SIDES}
        self._best_rank = dict.fromkeys(_SIDES, _NO_RANK)

    def crosses(self, side: int, order_type: int, price: int) -> bool:
        """Tell whether such an order would trade at once."""
        best_rank = self._best_rank[SIDE_SELL if side == SIDE_BUY else SIDE_BUY]
        return best_rank <= _reach(side, order_type, price)

    def next_maker(self, taker: Order) -> Order | None:
        """Return the order that a taker would trade with first, or None."""
        if not self.crosses(taker.side, taker.order_type, taker.price):
            return None
        opposite = SIDE_SELL if taker.side == SIDE_BUY else SIDE_BUY
        level = self._sides[opposite][self._best_rank[opposite]]
        maker: Order = next(iter(level.orders.values()))
        return maker

    def best_price(self, side: int) -> int:
        """Return the best price of a side, 0 where nothing rests there."""
        best: int = abs(next(iter(self._sides[side]), 0))
        return best

    def can_fill(self, taker: Order, quantity: int) -> bool:
        """Tell whether the opposite side holds so much for a taker within its price, hidden parts
        included, and without those of its account where it minds them."""
        missing = quantity
        reach = _reach(taker.side, taker.order_type, taker.price)
        for rank, level in self._sides[SIDE_SELL if taker.side == SIDE_BUY else SIDE_BUY].items():
            if rank > reach:
                break
            others = list(level.orders.values())
            if taker.prevention:
                others = [maker for maker in others if maker.account != taker.account]
            own = len(level.orders) - len(others)
            if own and taker.prevention != SELF_TRADE_PREVENTION_CANCEL_OLDEST:
                before = takewhile(
                    lambda maker: maker.account != taker.account, level.orders.values()
                )
                return bool(missing <= sum(maker.shown for maker in before))
            missing -= sum(maker.leaves_qty for maker in others)
            if missing <= 0:
                return True
        return False

    def add(self, order: Order) -> None:
        """Let an order rest, or wait, at the back of its level."""
        if order.display_quantity and not order.stop_price:
            order.hidden = max(0, order.leaves_qty - order.display_quantity)
        self.put_back(order)

    def put_back(self, order: Order) -> None:
        """The same, for an order of which it is known what is hidden."""
        side, rank = _place(order)
        levels = self._sides[side]
        level = levels.get(rank)
        if level is None:
            level = levels[rank] = _Level()
            self._best_rank[side] = min(rank, self._best_rank[side])
        level.orders[order.order_id] = order
        level.quantity += order.shown
        self.live_orders += 1
        self.account_orders[order.account] += 1

    def take(self, order: Order, quantity: int) -> None:
        """Take quantity off an order, which keeps its place: of what is hidden first."""
        side, rank = _place(order)
        hidden = min(order.hidden, quantity)
        order.leaves_qty -= quantity
        order.hidden -= hidden
        self._sides[side][rank].quantity -= quantity - hidden

    def trade(self, maker: Order, quantity: int) -> None:
        """Take quantity off what is shown of a resting order."""
        side, rank = _place(maker)
        maker.leaves_qty -= quantity
        self._sides[side][rank].quantity -= quantity

    def is_last(self, order: Order) -> bool:
        """Tell whether an order is the last one of its level."""
        side, rank = _place(order)
        return next(reversed(self._sides[side][rank].orders.values())) is order

    def refresh(self, order: Order) -> None:
        """Show a new part of an iceberg, at the back of its level."""
        side, rank = _place(order)
        level = self._sides[side][rank]
        order.hidden -= min(order.hidden, order.display_quantity)
        level.quantity += order.shown
        level.orders.move_to_end(order.order_id)

    def remove(self, order: Order) -> None:
        """Remove an order that rests or waits, and its level where it was the last."""
        side, rank = _place(order)
        levels = self._sides[side]
        level = levels[rank]
        level.quantity -= order.shown
        order.hidden = 0
        del level.orders[order.order_id]
        if not level.orders:
            del levels[rank]
            if rank == self._best_rank[side]:
                self._best_rank[side] = next(iter(levels), _NO_RANK)
        self.live_orders -= 1
        self.account_orders[order.account] -= 1
        if not self.account_orders[order.account]:
            del self.account_orders[order.account]

    def note_trade(self, price: int) -> None:
        """A trade was made at a price."""
        self.last_price = price
        low, high = self.traded or (price, price)
        self.traded = min(low, price), max(high, price)

    def next_reached(self, low: int, high: int) -> Order | None:
        """Return the order that triggers first where trades were made at prices of low to high."""
        for side, price in ((_RISE, high), (_FALL, low)):
            for rank, level in self._sides[side].items():
                if is_reached(side == _RISE, abs(rank), price):
                    order: Order = next(iter(level.orders.values()))
                    return order
                break
        return None

    def depth(self, side: int) -> Iterator[tuple[int, int, int]]:
        """Yield price, quantity and order count of each level, best first."""
        for rank, level in self._sides[side].items():
            yield abs(rank), level.quantity, len(level.orders)

    def orders(self) -> Iterator[Order]:
        """Yield the live orders: bids, asks, those that wait for a rise, for a fall; those of a
        better level first, oldest first."""
        for side in _SIDES:
            for level in self._sides[side].values():
                yield from level.orders.values()

    def orders_behind(self, order: Order) -> Iterator[Order]:
        """Yield the live orders that come after one in ``orders``."""
        side, rank = _place(order)
        levels = self._sides[side]
        queue = dropwhile(lambda other: other is not order, levels[rank].orders.values())
        yield from islice(queue, 1, None)
        for worse in levels.irange(rank, inclusive=(False, False)):
            yield from levels[worse].orders.values()
        for further in _SIDES[side:]:
            for level in self._sides[further].values():
                yield from level.orders.values()

    def check(self, uncrossed: bool) -> None:
        """Verify the structure; raise AssertionError where it does not hold."""
        name = self.limits.symbol
        count = sum(1 for _ in self.orders())
        assert count == self.live_orders, f"{name}: count of live orders"
        accounts = Counter(order.account for order in self.orders())
        assert accounts == self.account_orders, f"{name}: count of an account's orders"
        assert count <= self.limits.max_resting_orders, f"{name}: more orders than its capacity"
        for side in _SIDES:
            self._check_side(side)
        if uncrossed:
            low, high = self.last_price, self.last_price
            assert self.traded is None, f"{name}: trades that have triggered nothing yet"
            assert not self.next_reached(low, high), f"{name}: an order waits that is reached"
        bids, asks = list(self._sides[SIDE_BUY]), list(self._sides[SIDE_SELL])
        if uncrossed and bids and asks:
            assert -bids[0] < asks[0], f"{name}: the book is crossed"

    def _check_side(self, side: int) -> None:
        symbol = self.limits.symbol
        levels = self._sides[side]
        assert list(levels) == sorted(levels), f"{symbol}: levels out of order"
        assert self._best_rank[side] == min(levels, default=_NO_RANK), f"{symbol}: best level"
        for rank, level in levels.items():
            where = f"{symbol}: level {abs(rank)}"
            orders = level.orders.values()
            assert orders, f"{where}: empty"
            assert level.quantity == sum(order.shown for order in orders), f"{where}: sum"
            assert 1 <= abs(rank) <= HELD_PRICE, f"{where}: out of range"
            for order_id, order in level.orders.items():
                assert order.order_id == order_id, f"{where}: order_id"
                assert order.symbol == symbol, f"{where}: another symbol's order"
                assert _place(order) == (side, rank), f"{where}: price"
                self._check_kind(order, where)
                assert order.leaves_qty > 0, f"{where}: nothing left of an order"
                assert order.leaves_qty + order.cum_qty <= MAX_QUANTITY, f"{where}: quantity"

    def _check_kind(self, order: Order, where: str) -> None:
        display_quantity = order.display_quantity
        rare = order.flags & FLAG_RARE != 0
        has = display_quantity | order.expire_time_ns | order.link
        assert rare == (has != 0), f"{where}: flags"
        expires = order.time_in_force in (TIME_IN_FORCE_DAY, TIME_IN_FORCE_GTD)
        assert expires == (order.expire_time_ns != 0), f"{where}: expire_time_ns"
        hides = display_quantity and not order.stop_price
        assert 0 <= order.hidden <= order.leaves_qty * bool(hides), f"{where}: hidden"
        if hides:
            assert 0 < order.shown <= display_quantity, f"{where}: shown"
        kind, triggered = order.order_type, order.flags & FLAG_TRIGGERED != 0
        if order.link & LINK_HELD and not order.stop_price:
            assert kind == ORDER_TYPE_LIMIT, f"{where}: type of one that is held"
        elif order.stop_price:
            assert kind in CONDITIONAL, f"{where}: type"
            assert not triggered, f"{where}: waits and is triggered"
            assert order.cum_qty == 0, f"{where}: waits and is filled"
        else:
            assert can_rest(kind, order.time_in_force), f"{where}: type or time_in_force"
            assert triggered == (kind in CONDITIONAL), f"{where}: triggered"
