"""Which trades are a user's: those of the orders that the order tables know."""

from collections.abc import Iterable

import msgspec
import numpy as np

from engine.history.rows import signed
from frontend.http.market import Market
from frontend.http.market_models import TradeView
from frontend.http.product_state import ProductState
from frontend.http.searches import Work
from frontend.http.trade_rings import first_at
from ipc.arrays import Records, Words


class UserOrders(msgspec.Struct, frozen=True):
    """A user's orders when they were looked for."""

    order_ids: Words
    """Ascending."""
    since_ns: int
    """When the oldest of them was entered; no trade of theirs is older."""
    below: dict[int, int]
    """By shard, the trades that there were then: the sequence of the first later one."""

    def marked(self, view: TradeView) -> TradeView:
        """Return a trade of theirs with the order that is the user's, its side and its part."""
        buys = view.taker_side == "buy"
        taker, maker = view.buy_order_id, view.sell_order_id
        if not buys:
            taker, maker = maker, taker
        takes = self._has(taker)
        view.order_id = taker if takes else maker
        view.side = "buy" if takes == buys else "sell"
        view.liquidity = "taker" if takes else "maker"
        return view

    def with_trades(self, rows: Records, account: int) -> "UserOrders":
        """Return them with those orders of an account that trades (TRADE_ROW) name."""
        whose = signed(account)
        bought = rows["buy_order_id"][rows["buyer"] == whose]
        sold = rows["sell_order_id"][rows["seller"] == whose]
        named = np.concatenate((bought, sold)).astype(np.uint64)
        every = np.union1d(self.order_ids, named)
        return msgspec.structs.replace(self, order_ids=every)

    def _has(self, order_id: int) -> bool:
        place = int(np.searchsorted(self.order_ids, np.uint64(order_id)))
        return place < len(self.order_ids) and int(self.order_ids[place]) == order_id


def find_orders(
    state: ProductState, account: int, market: Market | None, shards: Iterable[int]
) -> Work[UserOrders]:
    """Find an account's orders, of one symbol or of all, in pieces of a search."""
    number = 0 if market is None else market.number
    found: list[Words] = [np.empty(0, np.uint64)]
    since_ns, below = 1 << 63, {}
    for shard in shards:
        table = state.tables[shard]
        # A trade can be read before the table has its taker's order: such are for later.
        below[shard] = first_at(state.rings[shard], table.completed + 1, "sequence")
        orders = yield from table.search(account, number, limit=table.capacity)
        found.append(orders["order_id"])
        if len(orders):
            since_ns = min(since_ns, int(orders["created_ns"].min()))
        yield
    return UserOrders(np.sort(np.concatenate(found)), since_ns, below)
