"""Whether what clients were told while processes were killed is one story with what was kept."""

from collections.abc import Iterable, Sequence

import numpy as np

from bench.kill_traders import Trader, order_number
from engine.plan import Plan
from engine.trade_log.reader import read_trades
from frontend.demo.checks import check_book, check_log, check_order_table, check_quantities
from frontend.demo.tally import Tally
from frontend.demo.verdict import read_log
from frontend.reading import Reader
from ipc.arrays import Records
from ipc.bounds import TEXT_BIT
from ipc.records import SEQUENCE_BITS, make_id
from ipc.vocabulary import ExecType


def differences(plan: Plan, traders: Sequence[Trader]) -> list[str]:
    """Return a sentence on every difference. The product runs, and is at rest."""
    told = [np.concatenate(trader.reports) for trader in traders]
    tally = Tally()
    for reports in told:
        tally.add(reports[reports["client_order_id"] != 0])
    orders, fills = tally.orders(), tally.fills()
    found: list[str | None] = []
    for trader, reports in zip(traders, told, strict=True):
        found.append(check_numbers(plan, trader.user_id, reports))
        found.append(check_entries(trader, reports))
    log = read_log(read_trades(plan.log_dir), plan.instruments)
    found.append(check_order_of_log(plan, log))
    found.append(check_log(fills, log))
    found.append(check_quantities(orders, log))
    with Reader(plan) as reader:
        depth = plan.config.engine.depth_levels
        for instrument in plan.instruments:
            book = reader.book(instrument.symbol, depth)
            found.append(check_book(instrument.number, book.bids, book.asks, orders, depth))
        # The table keeps the orders that rest and the last that ended.
        kept = orders[np.argsort(orders["order_id"] & ((1 << SEQUENCE_BITS) - 1))][-2_000:]
        kept = np.unique(np.concatenate((kept, orders[orders["leaves_qty"] > 0])))
        shown = reader.orders(kept["order_id"].tolist())
        for order in shown[shown["client_order_id"] >= np.uint64(TEXT_BIT)]:
            named = shown["order_id"] == order["order_id"]
            shown["client_order_id"][named] = order_number(reader.client_order_id(order))
        found.append(check_order_table(kept, shown))
    return [difference for difference in found if difference is not None]


def check_numbers(plan: Plan, user_id: str, reports: Records) -> str | None:
    """See that an account was told every report of each shard once, in order, from the first on."""
    numbers = reports["account_sequence"][reports["account_sequence"] != 0]
    for shard in plan.shards:
        of_shard = numbers[numbers >> SEQUENCE_BITS == shard]
        wanted = np.arange(make_id(shard, 1), make_id(shard, len(of_shard) + 1))
        if not np.array_equal(of_shard, wanted):
            return f"{user_id}: reports of shard {shard} are missing or were told twice"
    return None


def check_entries(trader: Trader, reports: Records) -> str | None:
    """See that no order was entered twice, and that repetitions were told the first one's id."""
    entered = reports[reports["exec_type"] == ExecType.NEW]
    numbers, counts = np.unique(entered["client_order_id"], return_counts=True)
    if (counts > 1).any():
        return f"{trader.user_id}: order {numbers[counts > 1][0]} was entered more than once"
    ids = dict(zip(entered["client_order_id"].tolist(), entered["order_id"].tolist(), strict=True))
    for number, order_id in trader.duplicates.items():
        if ids.get(number) != order_id:
            return (
                f"{trader.user_id}: order {number} was entered as {ids.get(number)}, its "
                f"repetition was told {order_id}"
            )
    return None


def check_order_of_log(plan: Plan, log: Records) -> str | None:
    """See that the log holds every shard's trades in their order, from the first on."""
    for shard in plan.shards:
        ids = log["trade_id"][log["trade_id"] >> SEQUENCE_BITS == shard]
        if not np.array_equal(ids, np.arange(make_id(shard, 1), make_id(shard, len(ids) + 1))):
            return f"shard {shard}: the log misses trades, or has them twice or out of order"
    return None


def failures(traders: Iterable[Trader]) -> list[str]:
    """Return what went wrong with the clients themselves."""
    return [f"{t.user_id}: {t.failure!r}" for t in traders if t.failure is not None]
