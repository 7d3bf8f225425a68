"""Compiling, or loading, every kernel before a book is needed."""

import time
from collections.abc import Callable, Collection

import numpy as np

from engine.books.contract import BookLimits
from engine.books.ladder import kernel, restore
from engine.books.ladder.book import LadderBook
from ipc.records import COMMAND, LEVEL, REPORT, TRADE
from ipc.vocabulary import CommandType, OrderType, Side, TimeInForce

KERNELS = ("process", "depth", "resting", "rebuild", "restore")


def warm(
    say: Callable[[str], object] = lambda text: None, names: Collection[str] = KERNELS
) -> None:
    """Have kernels ready: load them from numba's cache, or compile them, which takes a while.

    ``say`` is called with a line of text before and after each.
    """
    book = _empty()
    command = np.zeros(1, COMMAND)
    command["command_type"], command["symbol"] = CommandType.NEW, 1
    command["side"], command["order_type"] = Side.BUY, OrderType.LIMIT
    command["time_in_force"] = TimeInForce.GTC
    command["price"] = command["quantity"] = command["client_order_id"] = 1
    reports, trades, levels = np.zeros(2, REPORT), np.zeros(0, TRADE), np.zeros(1, LEVEL)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("process", lambda: book.process(command, reports, trades)),
        ("depth", lambda: book.depth(1, Side.BUY, levels)),
        ("resting", book.resting),
        ("rebuild", book.grow),
        ("restore", lambda: _empty().restore(book.counters(), book.resting(), book.recent())),
    ]
    for name, use in steps:
        if name not in names:
            continue
        say(f"the book's kernel {name}: loading, or compiling the first time (some seconds)")
        started = time.perf_counter()
        use()
        function = restore.kernel if name == "restore" else getattr(kernel, name)
        loaded = sum(function.stats.cache_hits.values())
        how = "loaded" if loaded else "compiled"
        say(f"the book's kernel {name}: {how} in {time.perf_counter() - started:.1f} s")


def _empty() -> LadderBook:
    return LadderBook(0, [BookLimits(1, 1, 100, 10)], 4)
