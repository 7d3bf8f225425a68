"""Looks at a running product, out of shared memory, as any reader may take them."""

import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from frontend.demo.latencies import Latencies, LatencyFile
from frontend.reading import Reader
from frontend.times import time_text
from ipc.instruments import Instrument
from ipc.vocabulary import Side

DEPTH = 8
"""Price levels a side."""
TAPE = 2 * DEPTH
"""Last trades."""
HISTORY = 60
"""Rates that are kept."""
_MIN_PASSED_S = 0.05


class Top(NamedTuple):
    """The best prices of one book as decimals, "-" where a side is empty."""

    symbol: str
    bid: str
    ask: str


class Rung(NamedTuple):
    """A price level."""

    price: str
    lots: int
    orders: int


class Print(NamedTuple):
    """A trade; ``time`` is hours to milliseconds, UTC."""

    time: str
    symbol: str
    side: str
    price: str
    quantity: str


class Percentiles(NamedTuple):
    """Of some latencies, in microseconds."""

    p50: float
    p99: float
    p999: float
    commands: int

    def __str__(self) -> str:
        return (
            f"p50 {self.p50:,.0f} us, p99 {self.p99:,.0f} us, p99.9 {self.p999:,.0f} us "
            f"of {self.commands:,}"
        )


class Sample(NamedTuple):
    """One look. Rates are since the look before; ``rates`` are those of orders, newest last."""

    elapsed_s: float
    orders_per_s: float
    trades_per_s: float
    rates: Sequence[float]
    tops: Sequence[Top]
    bids: Sequence[Rung]
    asks: Sequence[Rung]
    tape: Sequence[Print]


def percentiles(latencies_ns: Latencies) -> Percentiles | None:
    """Return the percentiles of latencies, None of none."""
    if not len(latencies_ns):
        return None
    found = np.percentile(latencies_ns, [50, 99, 99.9], method="higher") / 1e3
    p50, p99, p999 = found.tolist()
    return Percentiles(p50, p99, p999, len(latencies_ns))


class Meter:
    """Takes samples; depth is that of the first symbol, the tape that of all."""

    def __init__(self, reader: Reader, latencies: LatencyFile) -> None:
        self.latencies = latencies
        self._reader = reader
        self._counts: dict[tuple[str, int], int] = {}
        self._start_s = self._last_s = time.monotonic()
        self._last_totals = self.totals()
        self._rates: deque[float] = deque(maxlen=HISTORY)

    def totals(self) -> tuple[int, int]:
        """Return how many orders were accepted so far, and how many trades there were."""
        for process in self._reader.status():
            if process.role == "matcher":
                for name in ("order_sequence", "trades"):
                    # One that was killed shows nothing until it is back, and then all again.
                    before = self._counts.get((name, process.index), 0)
                    count = max(before, process.counters[name])
                    self._counts[name, process.index] = count
        orders, trades = (
            sum(count for (kind, _), count in self._counts.items() if kind == name)
            for name in ("order_sequence", "trades")
        )
        return orders, trades

    def sample(self) -> Sample:
        """Look now."""
        now, totals = time.monotonic(), self.totals()
        passed_s = max(now - self._last_s, _MIN_PASSED_S)
        orders_per_s, trades_per_s = (
            (new - old) / passed_s for new, old in zip(totals, self._last_totals, strict=True)
        )
        self._last_s, self._last_totals = now, totals
        self._rates.append(orders_per_s)
        instruments = self._reader.plan.instruments
        book = self._reader.book(instruments[0].symbol, DEPTH)
        bids, asks = (_rungs(book.instrument, levels) for levels in (book.bids, book.asks))
        return Sample(
            now - self._start_s,
            orders_per_s,
            trades_per_s,
            tuple(self._rates),
            [self._top(instrument.symbol) for instrument in instruments],
            bids,
            asks,
            self._tape(),
        )

    def _top(self, symbol: str) -> Top:
        book = self._reader.book(symbol, 1)
        bid, ask = (
            rungs[0].price if rungs else "-"
            for rungs in (_rungs(book.instrument, side) for side in (book.bids, book.asks))
        )
        return Top(symbol, bid, ask)

    def _tape(self) -> list[Print]:
        """Return the last trades, newest first."""
        shards = self._reader.plan.shards
        found = [trade for s in shards for trade in self._reader.trades_of_shard(s, TAPE)]
        found.sort(key=lambda trade: (int(trade["timestamp_ns"]), int(trade["trade_id"])))
        return [self._print(trade) for trade in found[: -TAPE - 1 : -1]]

    def _print(self, trade: np.void) -> Print:
        instrument = self._reader.instruments[int(trade["symbol"])]
        return Print(
            time_text(int(trade["timestamp_ns"]))[11:23],
            instrument.symbol,
            "buy" if trade["taker_side"] == Side.BUY else "sell",
            instrument.tick.text(int(trade["price"])),
            instrument.lot.text(int(trade["quantity"])),
        )


def _rungs(instrument: Instrument, levels: np.ndarray) -> list[Rung]:
    return [
        Rung(
            instrument.tick.text(int(level["price"])),
            int(level["quantity"]),
            int(level["order_count"]),
        )
        for level in levels
    ]
