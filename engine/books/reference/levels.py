"""The resting orders of one instrument, as the reference book keeps them.

A side is a sorted mapping from rank to price level, a level a queue of orders. The rank is the
price of an ask and the negated price of a bid: so on both sides the best level comes first, and an
order may trade with the opposite levels whose rank is not above its own limit, its reach.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import dropwhile, islice

from sortedcontainers import SortedDict

from engine.books.contract import BookLimits
from engine.books.reference.records import Order
from ipc.vocabulary import MAX_PRICE, MAX_QUANTITY, OrderType, Side, TimeInForce

BUY, SELL = int(Side.BUY), int(Side.SELL)
_MARKET, _LIMIT = int(OrderType.MARKET), int(OrderType.LIMIT)
_GTC = int(TimeInForce.GTC)
_NO_RANK = MAX_PRICE + 1  # beyond the reach of any order


def _rank(side: int, price: int) -> int:
    return price if side == SELL else -price


def _reach(side: int, order_type: int, price: int) -> int:
    if order_type == _MARKET:
        return MAX_PRICE
    return price if side == BUY else -price


@dataclass(slots=True)
class _Level:
    """The orders of one price, oldest first, and the sum of their leaves_qty.

    An OrderedDict finds its first entry at once; a dict walks past every entry deleted before it.
    """

    orders: OrderedDict[int, Order] = field(default_factory=OrderedDict)
    quantity: int = 0


class PriceLevels:
    """Both sides of one instrument's book."""

    def __init__(self, limits: BookLimits) -> None:
        self.limits = limits
        self.resting_orders = 0
        self.account_orders: Counter[int] = Counter()
        self._sides: dict[int, SortedDict] = {BUY: SortedDict(), SELL: SortedDict()}
        self._best_rank = {BUY: _NO_RANK, SELL: _NO_RANK}

    def crosses(self, side: int, order_type: int, price: int) -> bool:
        """Tell whether such an order would trade at once."""
        best_rank = self._best_rank[SELL if side == BUY else BUY]
        return best_rank <= _reach(side, order_type, price)

    def next_maker(self, taker: Order) -> Order | None:
        """Return the order that a taker would trade with first, or None."""
        if not self.crosses(taker.side, taker.order_type, taker.price):
            return None
        opposite = SELL if taker.side == BUY else BUY
        level = self._sides[opposite][self._best_rank[opposite]]
        maker: Order = next(iter(level.orders.values()))
        return maker

    def can_fill(self, taker: Order) -> bool:
        """Tell whether the opposite side holds a taker's whole quantity within its price."""
        missing = taker.leaves_qty
        reach = _reach(taker.side, taker.order_type, taker.price)
        for rank, level in self._sides[SELL if taker.side == BUY else BUY].items():
            if rank > reach:
                break
            missing -= level.quantity
            if missing <= 0:
                return True
        return False

    def add(self, order: Order) -> None:
        """Let an order rest, at the back of its level."""
        levels = self._sides[order.side]
        rank = _rank(order.side, order.price)
        level = levels.get(rank)
        if level is None:
            level = levels[rank] = _Level()
            self._best_rank[order.side] = min(rank, self._best_rank[order.side])
        level.orders[order.order_id] = order
        level.quantity += order.leaves_qty
        self.resting_orders += 1
        self.account_orders[order.account] += 1

    def take(self, order: Order, quantity: int) -> None:
        """Take quantity off a resting order, which keeps its place; remove an empty one."""
        level = self._sides[order.side][_rank(order.side, order.price)]
        order.leaves_qty -= quantity
        level.quantity -= quantity
        if order.leaves_qty == 0:
            self.remove(order)

    def remove(self, order: Order) -> None:
        """Remove a resting order, and its level where it was the last."""
        levels = self._sides[order.side]
        rank = _rank(order.side, order.price)
        level = levels[rank]
        level.quantity -= order.leaves_qty
        del level.orders[order.order_id]
        if not level.orders:
            del levels[rank]
            if rank == self._best_rank[order.side]:
                self._best_rank[order.side] = next(iter(levels), _NO_RANK)
        self.resting_orders -= 1
        self.account_orders[order.account] -= 1
        if not self.account_orders[order.account]:
            del self.account_orders[order.account]

    def depth(self, side: int) -> Iterator[tuple[int, int, int]]:
        """Yield price, quantity and order count of each level, best first."""
        for rank, level in self._sides[side].items():
            yield abs(rank), level.quantity, len(level.orders)

    def orders(self) -> Iterator[Order]:
        """Yield the resting orders: bids then asks, best price first, oldest first."""
        for side in (BUY, SELL):
            for level in self._sides[side].values():
                yield from level.orders.values()

    def orders_behind(self, order: Order) -> Iterator[Order]:
        """Yield the resting orders that come after one in ``orders``."""
        levels, rank = self._sides[order.side], _rank(order.side, order.price)
        queue = dropwhile(lambda other: other is not order, levels[rank].orders.values())
        yield from islice(queue, 1, None)
        for worse in levels.irange(rank, inclusive=(False, False)):
            yield from levels[worse].orders.values()
        if order.side == BUY:
            for level in self._sides[SELL].values():
                yield from level.orders.values()

    def check(self, uncrossed: bool) -> None:
        """Verify the structure; raise AssertionError where it does not hold."""
        name = self.limits.symbol
        count = sum(1 for _ in self.orders())
        assert count == self.resting_orders, f"{name}: count of resting orders"
        accounts = Counter(order.account for order in self.orders())
        assert accounts == self.account_orders, f"{name}: count of an account's orders"
        assert count <= self.limits.max_resting_orders, f"{name}: more orders than its capacity"
        for side in (BUY, SELL):
            self._check_side(side)
        bids, asks = list(self._sides[BUY]), list(self._sides[SELL])
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
            assert level.quantity == sum(order.leaves_qty for order in orders), f"{where}: sum"
            assert 1 <= abs(rank) <= MAX_PRICE, f"{where}: out of range"
            for order_id, order in level.orders.items():
                assert order.order_id == order_id, f"{where}: order_id"
                assert order.symbol == symbol, f"{where}: another symbol's order"
                assert (order.side, _rank(side, order.price)) == (side, rank), f"{where}: price"
                assert (order.order_type, order.time_in_force) == (_LIMIT, _GTC), f"{where}: type"
                assert order.leaves_qty > 0, f"{where}: nothing left of an order"
                assert order.leaves_qty + order.cum_qty <= MAX_QUANTITY, f"{where}: quantity"
