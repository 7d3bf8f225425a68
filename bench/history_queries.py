"""How long questions to a history take that has many rows.

    python -m bench.history_queries [--rows N] [--asked N] [--into sqlite postgres]

Orders and trades of 20 symbols, 1,000 accounts and 10 days are written as rows, as many of each as
told, by what exporters write them with. Then each question is asked about places at random; p50
and p99. Into PostgreSQL it goes where DATABASE_HOST and so on say; its schema "shardbook" is
dropped before.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.history import DATABASE, KINDS, TIME_NS, remove
from bench.measure import machine, table, versions
from bench.products import configured
from engine.config import load_config
from engine.environment import with_environment
from engine.history.destination import Cursor, Destination
from engine.history.history import History, Page
from engine.history.rows import ORDER_ROW, TRADE_ROW, Rows
from engine.plan import Plan
from ipc.records import REPORT, make_id
from ipc.vocabulary import OrderType, OrdStatus, Side, TimeInForce

SYMBOLS, ACCOUNTS, DAYS = 20, 1_000, 10
DAY_NS = 86_400 * 10**9
BATCH = 50_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--asked", type=int, default=200, help="times, of each question")
    parser.add_argument("--into", nargs="+", choices=list(KINDS), default=["sqlite"])
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    print(f"{machine()}; {versions('numpy')}")
    lines = []
    with TemporaryDirectory(prefix="sb-", dir=options.directory) as directory:
        config = with_environment(configured(load_config(), 1, False, None), DATABASE)
        plan = Plan(config, Path(directory))
        for name in options.into:
            kept = KINDS[name]
            remove(plan, kept)
            begun = time.monotonic()
            with closing(kept.destination(plan)) as destination:
                fill(destination, options.rows)
            took = time.monotonic() - begun
            print(f"{name}: {2 * options.rows / took:,.0f} rows/s while it was filled", flush=True)
            with closing(kept.reader(plan, 60.0)) as history:
                for question, ask in questions(history, options.rows).items():
                    times = sorted(timed(ask) for _ in range(options.asked))
                    p99 = times[min(len(times) - 1, len(times) * 99 // 100)]
                    lines.append(
                        [name, question, f"{times[len(times) // 2]:.2f} ms", f"{p99:.2f} ms"]
                    )
    what = f"{options.rows:,} orders and {options.rows:,} trades"
    print(table(what, ["history", "question", "p50", "p99"], lines))


def timed(ask: Callable[[], int]) -> float:
    """Return how long a question takes (ms), which must be answered with something."""
    begun = time.perf_counter()
    found = ask()
    took = time.perf_counter() - begun
    assert found
    return took * 1_000


def questions(history: History, rows: int) -> dict[str, Callable[[], int]]:
    """Return what is asked, each of which returns how many rows it found."""
    chance = np.random.default_rng(7)
    below = {0: make_id(1, 0)}
    ends_ns = TIME_NS + DAYS * DAY_NS

    def symbol() -> int:
        return int(chance.integers(1, SYMBOLS + 1))

    def moment() -> int:
        return int(chance.integers(TIME_NS + DAY_NS, ends_ns))

    def candles() -> int:
        start = moment() - DAY_NS
        return len(history.candles(0, symbol(), 60 * 10**9, start, start + DAY_NS))

    return {
        "last 100 trades of a symbol before a time": lambda: len(
            history.trades(Page(below, 100, symbol=symbol(), to_ns=moment()))
        ),
        "an order by id": lambda: len(history.order(int(chance.integers(1, rows)))),
        "a user's last 100 orders": lambda: len(
            history.orders(Page(below, 100, account=int(chance.integers(1, ACCOUNTS + 1))))
        ),
        "a user's last 100 trades": lambda: len(
            history.trades(Page(below, 100, account=int(chance.integers(1, ACCOUNTS + 1))))
        ),
        "candles of a minute, of a day": candles,
    }


def fill(destination: Destination, count: int) -> None:
    """Write as many orders and trades."""
    chance = np.random.default_rng(1)
    reports = np.zeros(0, REPORT)
    for first in range(0, count, BATCH):
        ids = np.arange(first + 1, min(first + BATCH, count) + 1)
        times = TIME_NS + ids * (DAYS * DAY_NS // count)
        orders = np.zeros(len(ids), ORDER_ROW)
        orders["order_id"], orders["created_ns"] = ids, times
        orders["updated_ns"] = times
        orders["account"] = chance.integers(1, ACCOUNTS + 1, len(ids))
        orders["symbol"] = ids % SYMBOLS + 1
        orders["side"] = np.where(ids % 2, Side.BUY, Side.SELL)
        orders["order_type"], orders["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
        orders["price"] = 1_000 + chance.integers(0, 100, len(ids))
        orders["quantity"] = orders["filled"] = chance.integers(1, 100, len(ids))
        orders["value_low"] = orders["price"] * orders["quantity"]
        orders["status"] = OrdStatus.FILLED
        trades = np.zeros(len(ids), TRADE_ROW)
        trades["trade_id"], trades["timestamp_ns"] = ids, times
        for name in ("symbol", "price", "quantity"):
            trades[name] = orders[name]
        trades["buy_order_id"], trades["sell_order_id"] = ids, np.maximum(ids - 1, 1)
        trades["buyer"] = orders["account"]
        trades["seller"] = np.roll(orders["account"], 1)
        trades["taker_side"] = Side.BUY
        position = int(ids[-1])
        cursor = Cursor(0, "", position, position, position, 0, int(times[-1]))
        destination.write(cursor, Rows(orders, trades, reports, 1))


if __name__ == "__main__":
    main()
