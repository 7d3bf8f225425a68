"""What a book's memory costs, as the resident set of a process that has nothing else to do."""

import gc
import json
import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np

from bench import judge
from bench.equality import BOOKS
from engine.books.contract import BookLimits
from ipc.records import REPORT, TRADE
from ipc.vocabulary import MAX_PRICE, MAX_RESTING_ORDERS

IDLE_SYMBOLS = 2000
BATCH = 4096
_MIDDLE = 1 << 20
_LEVELS = 1000


class Memory(NamedTuple):
    """Resident bytes."""

    idle_symbol: float
    order: float


def memory_of(book: str, orders: int) -> Memory:
    """Measure a book in a process of its own: an idle symbol, and each of ``orders`` resting.

    The orders rest on 1,000 levels of each side of one symbol. Raises CalledProcessError where the
    process fails.
    """
    command = [sys.executable, "-m", "bench.memory", book, str(orders)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Memory(**json.loads(printed))


def resident() -> int:
    """Return the resident bytes of this process."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _measure(name: str, orders: int) -> Memory:
    make_book = BOOKS[name]
    limits = [BookLimits(n, 1, MAX_PRICE, MAX_RESTING_ORDERS) for n in range(1, IDLE_SYMBOLS + 2)]
    # All that is not the book's is there, and used once, before anything is measured.
    reports, trades = np.zeros(2 * BATCH, REPORT), np.zeros(1, TRADE)
    reports.view(np.uint8)[:] = 0
    batches = [
        _bids_and_asks(start, min(BATCH, orders - start)) for start in range(0, orders, BATCH)
    ]
    make_book(0, limits[:1], 0).process(batches[0], reports, trades)
    before = resident()
    idle = make_book(0, limits, 0)
    one_symbol = (resident() - before) / len(limits)
    idle.check()
    book = make_book(0, limits[:1], 0)
    before = resident()
    for batch in batches:
        assert book.process(batch, reports, trades).commands == len(batch)
    grown = resident() - before
    assert len(book.resting()) == orders
    return Memory(one_symbol, grown / orders)


def _bids_and_asks(start: int, count: int) -> np.ndarray:
    number = np.arange(start, start + count, dtype=np.uint64)
    side = number & np.uint64(1)
    away = number // np.uint64(2) % np.uint64(_LEVELS) + np.uint64(1)
    price = np.where(side == 0, np.uint64(_MIDDLE) - away, np.uint64(_MIDDLE) + away)
    nothing = np.zeros(count, np.uint64)
    quantity = number % np.uint64(100) + np.uint64(1)
    return judge.commands(nothing, side, nothing, quantity, number, price)


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]))._asdict()))
