"""Whether the honest ones' orders and trades are all there, whatever else was traded meanwhile."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from engine.plan import Plan
from frontend.demo.checks import FILL, both_sides, check_book, check_order_table
from frontend.reading import Reader
from ipc.arrays import Records
from ipc.records import SEQUENCE_BITS, make_id

LATEST = 2_000
"""Orders that the order table has for sure."""


def check_share(fills: Records, orders: Records, log: Records) -> str | None:
    """Compare what some accounts were told with the log, where others have traded as well.

    Each side of a trade that is one of their ``orders`` (ORDER) was reported exactly once, as the
    ``log`` (TRADE) has it, and nothing else was; cum_qty is the sum of an order's trades.
    """
    sides = both_sides(log)
    own = sides[np.isin(sides["order_id"], orders["order_id"])]
    own, fills = _sorted(own), _sorted(fills)
    if len(own) != len(fills) or (own != fills).any():
        surplus = Counter(row.tobytes() for row in fills)
        surplus.subtract(row.tobytes() for row in own)
        differ = np.frombuffer(b"".join(row for row, count in surplus.items() if count), FILL)
        return (
            f"{len(fills)} fills were told and {len(own)} are in the log; the first that differs "
            f"is of trade {differ['trade_id'].min()}"
        )
    sums = np.zeros(len(orders), np.uint64)
    orders = orders[np.argsort(orders["order_id"])]
    np.add.at(sums, np.searchsorted(orders["order_id"], own["order_id"]), own["quantity"])
    wrong = np.flatnonzero(sums != orders["cum_qty"])
    if len(wrong):
        order = orders[wrong[0]]
        return (
            f"order {order['order_id']}: its last report says cum_qty {order['cum_qty']}, its "
            f"trades in the log are {sums[wrong[0]]} lots"
        )
    return None


def check_numbers(log: Records, shards: Sequence[int]) -> str | None:
    """See that the log has every shard's trades from the first on, each once and in order."""
    for shard in shards:
        ids = log["trade_id"][log["trade_id"] >> SEQUENCE_BITS == shard]
        if not np.array_equal(ids, np.arange(make_id(shard, 1), make_id(shard, len(ids) + 1))):
            return f"shard {shard}: the log misses trades, or has them twice or out of order"
    return None


def check_at_rest(plan: Plan, orders: Records) -> str | None:
    """See that nothing rests any more in book or table, and that the table knows the last orders.

    ``orders`` are the honest ones', all withdrawn; and so are those of everybody else.
    """
    latest = orders[np.argsort(orders["order_id"] & ((1 << SEQUENCE_BITS) - 1))][-LATEST:]
    latest = latest[np.argsort(latest["order_id"])]
    with Reader(plan) as reader:
        depth = plan.config.engine.depth_levels
        for instrument in plan.instruments:
            book = reader.book(instrument.symbol, depth)
            found = check_book(instrument.number, book.bids, book.asks, orders, depth)
            if found is not None:
                return found
        return check_order_table(latest, reader.orders(latest["order_id"].tolist()))


def _sorted(fills: Records) -> Records:
    return fills[np.lexsort((fills["order_id"], fills["trade_id"]))]
