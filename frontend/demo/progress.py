"""What a running demo shows: rates and the top of each book, as a live table or as plain lines."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TextIO

from rich.box import SIMPLE
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from frontend.reading import Reader

MAX_SYMBOLS = 6
"""Symbols shown on a plain line; on a terminal there are more."""
MAX_ROWS = 24


class Top(NamedTuple):
    """The best prices of one book as decimals, "-" where a side is empty."""

    symbol: str
    bid: str
    ask: str


class Sample(NamedTuple):
    """One look at a running engine. Orders are those accepted, commands all that came."""

    elapsed_s: float
    orders_per_s: float
    commands_per_s: float
    trades_per_s: float
    tops: list[Top]


class Progress(Protocol):
    """Somewhere to show samples."""

    def show(self, sample: Sample) -> None:
        """Show the newest sample."""
        ...


class Meter:
    """Takes samples of a running engine out of shared memory."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._start_s = self._last_s = time.monotonic()
        self._last_counts = self._counts()

    def sample(self) -> Sample:
        """Return the rates since the sample before, and the tops of the books now."""
        now, counts = time.monotonic(), self._counts()
        passed_s = max(now - self._last_s, 1e-9)
        orders, commands, trades = (
            (new - old) / passed_s for new, old in zip(counts, self._last_counts, strict=True)
        )
        self._last_s, self._last_counts = now, counts
        tops = [self._top(instrument.symbol) for instrument in self._reader.plan.instruments]
        return Sample(now - self._start_s, orders, commands, trades, tops)

    def _counts(self) -> list[int]:
        """Return how many orders, commands and trades all matchers have had."""
        matchers = [p.counters for p in self._reader.status() if p.role == "matcher"]
        return [
            sum(counters[name] for counters in matchers)
            for name in ("order_sequence", "commands", "trades")
        ]

    def _top(self, symbol: str) -> Top:
        book = self._reader.book(symbol, 1)
        tick = book.instrument.tick
        bid, ask = (
            tick.text(int(levels["price"][0])) if len(levels) else "-"
            for levels in (book.bids, book.asks)
        )
        return Top(symbol, bid, ask)


@contextmanager
def progress_on(out: TextIO) -> Iterator[Progress]:
    """Give what fits ``out``: a table that changes in place on a terminal, lines elsewhere."""
    if not out.isatty():
        yield _Lines(out)
        return
    with Live(console=Console(file=out), auto_refresh=False, transient=True) as live:
        yield _LiveTable(live)


class _Lines:
    """One line a sample."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, sample: Sample) -> None:
        """Print one line."""
        tops = "  ".join(f"{top.symbol} {top.bid}/{top.ask}" for top in sample.tops[:MAX_SYMBOLS])
        more = len(sample.tops) - MAX_SYMBOLS
        print(
            f"{_rates(sample)}  {tops}" + (f"  and {more} more" if more > 0 else ""),
            file=self._out,
            flush=True,
        )


class _LiveTable:
    """A table in place."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, sample: Sample) -> None:
        """Draw the table anew."""
        table = Table("symbol", box=SIMPLE)
        table.add_column("best bid", justify="right", min_width=12)
        table.add_column("best ask", justify="right", min_width=12)
        for top in sample.tops[:MAX_ROWS]:
            table.add_row(*top)
        more = len(sample.tops) - MAX_ROWS
        if more > 0:
            table.add_row(f"and {more} more")
        self._live.update(Group(_rates(sample), table), refresh=True)


def _rates(sample: Sample) -> str:
    return (
        f"{sample.elapsed_s:5.1f} s  {sample.orders_per_s:8,.0f} orders/s  "
        f"{sample.commands_per_s:8,.0f} commands/s  {sample.trades_per_s:8,.0f} trades/s"
    )
