"""What orders that wait, and icebergs, cost: ``python -m bench.waiting`` prints all of it.

How long one trade takes that triggers 100,000 stop orders, by what comes of them; what 1,000,000
that wait add to commands that trigger none, against the same commands without them, in interleaved
runs; a flow with a tenth each of stop orders, icebergs and orders that mind their own account's,
against the same flow without; and the resident bytes of a stop order and of an iceberg, each
measured in a process of its own.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np

from bench.measure import interleaved, machine, table, timed, versions
from bench.memory import resident
from bench.workloads import generated
from engine.books.contract import Book, BookLimits, Records
from engine.books.ladder import LadderBook
from ipc.records import COMMAND, REPORT, TRADE
from ipc.vocabulary import (
    MAX_PRICE,
    MAX_RESTING_ORDERS,
    CommandType,
    ExecType,
    OrderType,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

LIMITS = BookLimits(1, 1, MAX_PRICE, MAX_RESTING_ORDERS)
BATCH = 4096
TRIGGERED = 100_000
WAITING = 1_000_000
STOP_PRICES = 1_000
_TRIGGER_PRICE = 1 << 20
_SEED = 5

KINDS = {
    "nothing to trade with": (OrderType.STOP, False),
    "each rests": (OrderType.STOP_LIMIT, False),
    "each trades": (OrderType.STOP, True),
}
"""What comes of those that trigger: their type, and whether there is enough to trade with."""


def orders(count: int, **fields: object) -> Records:
    """Return NEW commands of GTC limit orders to sell 5, each with an id, unless fields differ."""
    records = np.zeros(count, COMMAND)
    number = np.arange(1, count + 1)
    usual = {
        "command_type": CommandType.NEW,
        "symbol": 1,
        "request_id": number,
        "account": number % 500 + 1,
        "client_order_id": number,
        "side": Side.SELL,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "quantity": 5,
        "timestamp_ns": 1,
    }
    for name, value in (usual | fields).items():
        records[name] = value
    return records


def enter(book: Book, commands: Records, reports: Records, trades: Records) -> int:
    """Let a book carry commands out; return how many reports it gave."""
    count = 0
    while len(commands):
        progress = book.process(commands, reports, trades)
        count += progress.reports
        commands = commands[progress.commands :]
    return count


def stops(count: int, order_type: int, highest: int) -> Records:
    """Return stop orders to sell, in no order of their stop prices."""
    random = np.random.default_rng(_SEED)
    prices = highest - random.integers(0, STOP_PRICES, count)
    limit = highest - STOP_PRICES if order_type == OrderType.STOP_LIMIT else 0
    return orders(count, order_type=order_type, stop_price=prices, price=limit)


def cascade(kind: str, reports: Records, trades: Records) -> Callable[[], object]:
    """Prepare a book in which one trade triggers TRIGGERED orders; return that command's run."""
    order_type, meets = KINDS[kind]
    book = LadderBook(0, [LIMITS], 1 << 16)
    book.process(orders(1, price=_TRIGGER_PRICE, side=Side.BUY, client_order_id=0), reports, trades)
    book.process(orders(1, price=_TRIGGER_PRICE, client_order_id=0), reports, trades)
    enter(book, stops(TRIGGERED, order_type, _TRIGGER_PRICE - 1), reports, trades)
    low = _TRIGGER_PRICE - STOP_PRICES
    more = 5 * TRIGGERED if meets else 0
    bid = orders(1, price=low, side=Side.BUY, client_order_id=0, account=999, quantity=5 + more)
    book.process(bid, reports, trades)
    taker = orders(1, price=low, client_order_id=0, account=998)
    book.check()

    def run() -> None:
        progress = book.process(taker, reports, trades)
        assert progress.commands == 1
        told = reports["exec_type"][: progress.reports]
        assert np.count_nonzero(told == ExecType.TRIGGERED) == TRIGGERED

    return run


def beside(waiting: int, reports: Records, trades: Records, commands: Records) -> Callable[[], int]:
    """Prepare a book in which so many wait, far away; return the run of ``commands`` in it."""
    book = LadderBook(0, [LIMITS], 1 << 16)
    far = orders(
        waiting,
        order_type=OrderType.STOP,
        side=Side.BUY,
        client_order_id=0,
        stop_price=MAX_PRICE - np.arange(waiting) % STOP_PRICES,
    )
    enter(book, far, reports, trades)

    def run() -> int:
        return sum(
            enter(book, commands[start : start + BATCH], reports, trades)
            for start in range(0, len(commands), BATCH)
        )

    return run


def mixed(commands: Records) -> Records:
    """Return commands with a tenth each of the new orders that can rest a stop order, an iceberg,
    or one that minds its account's: all are of one account."""
    found = commands.copy()
    new = (found["command_type"] == CommandType.NEW) & (found["time_in_force"] == TimeInForce.GTC)
    drawn = np.random.default_rng(_SEED).random(len(found))
    stop, iceberg = new & (drawn < 0.1), new & (drawn >= 0.1) & (drawn < 0.2)
    minds = new & (drawn >= 0.2) & (drawn < 0.3)
    found["order_type"][stop] = OrderType.STOP_LIMIT
    away = np.where(found["side"] == Side.BUY, 3, -3)
    found["stop_price"][stop] = (found["price"].astype(np.int64) + away)[stop]
    found["display_quantity"][iceberg] = (found["quantity"] // np.uint64(4) + np.uint64(1))[iceberg]
    found["self_trade_prevention"][minds] = SelfTradePrevention.DECREMENT
    return found


def alone(reports: Records, trades: Records, commands: Records) -> Callable[[], int]:
    """Prepare an empty book; return the run of ``commands`` in it."""
    return beside(0, reports, trades, commands)


def print_mixed(runs: int, count: int) -> None:
    """What those flows cost."""
    reports, trades = np.zeros(4 * BATCH, REPORT), np.zeros(2 * BATCH, TRADE)
    plain = generated(count).commands
    flows = {"plain": plain, "mixed": mixed(plain)}
    contenders = {name: partial(alone, reports, trades, flow) for name, flow in flows.items()}
    taken = {name: timing.cpu_ns for name, timing in interleaved(contenders, runs).items()}
    body = [[name, f"{count / ns * 1e3:.1f}"] for name, ns in taken.items()]
    body.append(["mixed of plain", f"{taken['plain'] / taken['mixed']:.2f}"])
    title = f"{count:,} commands, million/s of CPU time"
    print(f"\n{table(title, ['', 'rate'], body)}", flush=True)


def _bytes(kind: str, count: int) -> float:
    """Measure what an order takes at rest, in this process."""
    reports, trades = np.zeros(2 * BATCH, REPORT), np.zeros(1, TRADE)
    reports.view(np.uint8)[:] = 0
    price = _TRIGGER_PRICE + np.arange(count) % STOP_PRICES
    waits = {"order_type": OrderType.STOP, "side": Side.BUY, "stop_price": price}
    hides = {"price": price, "display_quantity": 2}
    commands = orders(count, client_order_id=0, **(waits if kind == "stop" else hides))
    enter(LadderBook(0, [LIMITS], 0), commands[:BATCH], reports, trades)
    book = LadderBook(0, [LIMITS], 0)
    before = resident()
    for start in range(0, count, BATCH):
        enter(book, commands[start : start + BATCH], reports, trades)
    grown = resident() - before
    assert len(book.resting()) == count
    return grown / count


def print_cascades(runs: int) -> None:
    """What one trade takes that triggers all of them."""
    reports, trades = np.zeros(4 * TRIGGERED, REPORT), np.zeros(TRIGGERED + 9, TRADE)
    contenders = {name: partial(cascade, name, reports, trades) for name in KINDS}
    body = [
        [name, f"{timing.cpu_ns / 1e6:.1f}", f"{timing.best_cpu_ns / 1e6:.1f}"]
        for name, timing in interleaved(contenders, runs).items()
    ]
    title = f"One trade that triggers {TRIGGERED:,} orders, milliseconds of CPU time"
    print(f"\n{table(title, ['', 'median', 'best'], body)}", flush=True)


def print_beside(runs: int, count: int) -> None:
    """What those that wait add to the commands of others."""
    reports, trades = np.zeros(4 * BATCH, REPORT), np.zeros(2 * BATCH, TRADE)
    commands = generated(count).commands
    timings: dict[int, list[int]] = {0: [], WAITING: []}
    for _ in range(runs):
        for waiting, taken in timings.items():
            taken.append(timed(beside(waiting, reports, trades, commands)).cpu_ns)
    ratios = sorted(one / other for one, other in zip(*timings.values(), strict=True))
    costs = [f"{np.median(taken) / count:.0f}" for taken in timings.values()]
    title = f"{count:,} commands that trigger none, CPU nanoseconds each"
    header = ["", "none wait", f"{WAITING:,} wait", "ratio, none/those"]
    print(f"\n{table(title, header, [['ladder', *costs, f'{ratios[len(ratios) // 2]:.3f}']])}")


def print_bytes(count: int) -> None:
    """What each takes at rest."""
    body = []
    for kind in ("stop", "iceberg"):
        command = [sys.executable, "-m", "bench.waiting", "--bytes", kind, "--count", str(count)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        body.append([kind, f"{json.loads(printed):.0f}"])
    print(f"\n{table(f'Resident bytes of each of {count:,}', ['', 'bytes'], body)}", flush=True)


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.waiting", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--commands", type=int, default=500_000)
    parser.add_argument("--count", type=int, default=500_000, help="orders of which bytes are told")
    parser.add_argument("--bytes", choices=("stop", "iceberg"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bytes:
        print(json.dumps(_bytes(arguments.bytes, arguments.count)))
        return
    print(f"machine: {machine()}")
    print(f"versions: {versions('numba', 'numpy')}")
    print_cascades(arguments.runs)
    print_beside(arguments.runs, arguments.commands)
    print_mixed(arguments.runs, arguments.commands)
    print_bytes(arguments.count)


if __name__ == "__main__":
    main()
