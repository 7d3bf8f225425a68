"""Candles: open, high, low, close and volume of the trades of each minute, and of longer intervals.

Minutes are made from every trade, once: from the rings, and from the log where a ring has moved on
since the last look. That is done when candles are asked for, in a thread of its own; the first
time, after a restart on a long log, it may take longer than a request may, and is said.
"""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import UNSET, UnsetType

from engine.trade_log.reader import LogTail, Position
from frontend.http.errors import ApiError, broken_rule
from frontend.http.history_reads import MEMORY, WITH_MEMORY, Found, HistoryReads, PastCandles
from frontend.http.market import Market
from frontend.http.market_models import (
    Candle,
    CandlesAnswer,
    CandlesQuery,
    TickerAnswer,
    TickerQuery,
    TopLevel,
)
from frontend.http.models import Source, lowered
from frontend.http.product_state import ProductState
from frontend.http.queries import read_query
from frontend.pace import Pace
from ipc.arrays import Records
from ipc.records import sequence_of, shard_of

INTERVALS = {
    "1m": 1,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "4h": 240,
    "1d": 1_440,
}
"""Minutes of each interval; they begin at whole multiples of it since the epoch."""
MAX_MINUTES = 50_000
"""Minutes with trades that are kept of a symbol: the oldest give way."""
MINUTE_NS = 60 * 10**9
DAY_NS = 86_400 * 10**9
BATCH_TRADES = 16_384
PIECE_TRADES, LOGGED_TRADES = 256, 16
"""Trades of a ring, and of the log, that are taken in between two rests."""
_INTERVAL_RULE = "must be one of " + ", ".join(INTERVALS)

Minute = list[int]
"""Open, high, low, close in ticks, volume in lots, trades."""


class Candles:
    """The minutes of every symbol, up to a sequence of each shard. Not safe for two threads."""

    def __init__(
        self, state: ProductState, history: HistoryReads, log_dir: Path, timeout_s: float
    ) -> None:
        self._state = state
        self._history = history
        self._log_dir = log_dir
        self._timeout_s = timeout_s
        self._minutes: dict[int, dict[int, Minute]] = {
            number: {} for number in state.markets.by_number
        }
        self._seen = dict.fromkeys(state.shards, 0)
        self._since_ns: dict[int, int] = {}
        """By shard, where trades before it are not known."""
        self._cut: set[int] = set()
        """Symbols whose oldest minutes have given way."""
        self._position = Position(0, 0)
        self._stopping = threading.Event()
        self._pace = Pace()
        self._thread = ThreadPoolExecutor(1, "candles")

    def catch_up(self) -> None:
        """Take in all trades that there are, from the log where the rings have lost some."""
        with self._pace.work():
            self._catch_up()

    def _catch_up(self) -> None:
        for shard, ring in self._state.rings.items():
            while not self._stopping.is_set():
                result = ring.read(self._seen[shard], BATCH_TRADES)
                if result.lost_records:
                    before = self._seen[shard]
                    self._read_log()
                    if self._seen[shard] > before:
                        continue
                    # The log does not have them: its segments were moved away.
                if not len(result.records):
                    break
                for first in range(0, len(result.records), PIECE_TRADES):
                    self._add(result.records[first : first + PIECE_TRADES])
                    self._pace.rest()

    def of(
        self, number: int, minutes: int, first: int, limit: int, end: int, since: int = 0
    ) -> dict[int, Minute]:
        """Return up to ``limit`` candles, the last ones that begin before ``end``, by their minute.

        ``minutes`` is the length of one; none begins before ``first``, nor has what was before
        ``since``. All of them are minutes.
        """
        found: dict[int, Minute] = {}
        known = self._minutes[number]
        for minute in sorted(known, reverse=True):
            start = minute - minute % minutes
            if start >= end or start < first or minute < since:
                continue
            if start not in found:
                if len(found) == limit:
                    break
                found[start] = list(known[minute])
            else:
                _prepend(found[start], known[minute])
        return found

    def day(self, market: Market, now_ns: int) -> tuple[Minute | None, int, int | None]:
        """Return the last 24 hours as a candle, None without a trade; their begin, and the last
        price of all. The begin is a minute's, and later where older trades are not known."""
        known = self._minutes[market.number]
        last = known[next(reversed(known))][3] if known else None
        since_ns = self._since_ns.get(market.shard, 0)
        first, end = (now_ns - DAY_NS) // MINUTE_NS, now_ns // MINUTE_NS + 1
        first = max(first, since_ns // MINUTE_NS)
        whole: Minute | None = None
        for minute in filter(None, map(known.get, range(end - 1, first - 1, -1))):
            if whole is None:
                whole = list(minute)
            else:
                _prepend(whole, minute)
        return whole, max(first * MINUTE_NS, since_ns), last

    async def ticker(self, asked_for: bytes) -> TickerAnswer:
        """Return a symbol's market at a glance, as a query string asks. Raises ``ApiError``."""
        query = read_query(TickerQuery, asked_for)
        market, quoted = self._state.markets.named(query.symbol), query.numbers == "string"
        await self._caught_up()
        now_ns = time.time_ns()
        loop = asyncio.get_running_loop()
        day, since_ns, last = await loop.run_in_executor(self._thread, self.day, market, now_ns)
        view = self._state.boards[market.shard].read(market.number)
        prices, quantities = market.prices[quoted], market.quantities[quoted]
        bids, asks = view.bids[:1].tolist(), view.asks[:1].tolist()
        return TickerAnswer(
            timestamp=now_ns,
            symbol=market.symbol,
            last_price=None if last is None else prices[last],
            best_bid=TopLevel(prices[bids[0][0]], quantities[bids[0][1]]) if bids else None,
            best_ask=TopLevel(prices[asks[0][0]], quantities[asks[0][1]]) if asks else None,
            from_=since_ns,
            open_price=prices[day[0]] if day else None,
            high_price=prices[day[1]] if day else None,
            low_price=prices[day[2]] if day else None,
            volume=quantities[day[4] if day else 0],
            trades=day[5] if day else 0,
        )

    async def _caught_up(self) -> None:
        """Wait until all trades that there are have been taken in. Raises ``ApiError``."""
        loop = asyncio.get_running_loop()
        reading = loop.run_in_executor(self._thread, self.catch_up)
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(reading)
        except TimeoutError:
            raise ApiError("BUSY", "candles are still being made from the log") from None

    def whole_since(self, market: Market) -> int:
        """Return from which minute on all trades of a symbol are known; 0: all are."""
        since_ns = self._since_ns.get(market.shard)
        since = 0 if since_ns is None else since_ns // MINUTE_NS + 1
        if market.number in self._cut:
            since = max(since, min(self._minutes[market.number]))
        return since

    async def candles(self, asked_for: bytes, who: str | None) -> CandlesAnswer:
        """Return candles of the intervals that had trades, oldest first, as a query string asks;
        ``who`` asks, if that is known.

        What is not known here is the history's, where one is kept.

        Raises ``ApiError``.
        """
        query = read_query(CandlesQuery, asked_for)
        market = self._state.markets.named(query.symbol)
        interval = lowered(query.interval)
        minutes = INTERVALS.get(interval)
        if minutes is None:
            raise broken_rule("interval", _INTERVAL_RULE)
        await self._caught_up()
        first = 0 if query.from_ is None else -(-query.from_ // MINUTE_NS)
        end = time.time_ns() // MINUTE_NS + 1 if query.to is None else -(-query.to // MINUTE_NS)
        asked = market.number, minutes, first, query.limit, end
        loop = asyncio.get_running_loop()
        since = self.whole_since(market)
        source: Source | UnsetType = MEMORY if self._history.kept else UNSET
        found = await loop.run_in_executor(self._thread, self.of, *asked, since)
        if since > first and (len(found) < query.limit or min(found) < since):
            older = None
            if self._history.kept:
                older = await self._older(who, market, minutes, query.limit, first, min(since, end))
            if older is None:
                found = await loop.run_in_executor(self._thread, self.of, *asked)
            else:
                source = WITH_MEMORY[older.source]
                found = _with_older(found, older.rows, query.limit)
        quoted = query.numbers == "string"
        candles = [_candle(market, start, found[start], quoted) for start in sorted(found)]
        return CandlesAnswer(
            timestamp=time.time_ns(),
            symbol=market.symbol,
            interval=interval,
            candles=candles,
            count=len(candles),
            source=source,
        )

    async def _older(
        self, who: str | None, market: Market, minutes: int, limit: int, first: int, end: int
    ) -> Found[Records] | None:
        """Return the last candles of the time between two minutes from a history."""
        asked = PastCandles(
            market.shard,
            market.number,
            minutes * MINUTE_NS,
            -(-first // minutes) * minutes * MINUTE_NS,
            end * MINUTE_NS,
            limit,
            self._state.rings[market.shard].published,
        )
        return await self._history.candles(who, asked)

    def close(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self._thread.shutdown(cancel_futures=True)

    def _read_log(self) -> None:
        """Take in what the log has more than is known."""
        markets = self._state.markets
        with contextlib.closing(LogTail(self._log_dir, self._position)) as tail:
            while not self._stopping.is_set() and (trades := tail.read()):
                for number, trade in enumerate(trades):
                    if number % LOGGED_TRADES == 0:
                        self._pace.rest()
                    shard, sequence = shard_of(trade.trade_id), sequence_of(trade.trade_id)
                    if sequence <= self._seen.get(shard, 1 << 60):
                        continue
                    said = markets.said(trade.symbol, trade.price, trade.quantity)
                    if said is not None:
                        market, price, quantity = said
                        self._take(trade.trade_id, trade.timestamp, market.number, price, quantity)
                self._position = tail.position

    def _add(self, trades: Records) -> None:
        """Take in trades that follow what is known of their shards."""
        for trade_id, _, time_ns, price, quantity, _, _, symbol, *_ in trades.tolist():
            self._take(trade_id, time_ns, symbol, price, quantity)

    def _take(self, trade_id: int, time_ns: int, symbol: int, price: int, quantity: int) -> None:
        shard, sequence = shard_of(trade_id), sequence_of(trade_id)
        if sequence != self._seen[shard] + 1:
            self._since_ns[shard] = time_ns
        self._seen[shard] = sequence
        minutes = self._minutes[symbol]
        minute = minutes.get(time_ns // MINUTE_NS)
        if minute is None:
            minutes[time_ns // MINUTE_NS] = [price, price, price, price, quantity, 1]
            if len(minutes) > MAX_MINUTES:
                self._cut.add(symbol)
                del minutes[min(minutes)]
            return
        if price > minute[1]:
            minute[1] = price
        elif price < minute[2]:
            minute[2] = price
        minute[3] = price
        minute[4] += quantity
        minute[5] += 1


def _candle(market: Market, start: int, minute: Minute, quoted: bool) -> Candle:
    prices, quantities = market.prices[quoted], market.quantities[quoted]
    first, high, low, last, volume, count = minute
    return Candle(
        start * MINUTE_NS,
        prices[first],
        prices[high],
        prices[low],
        prices[last],
        quantities[volume],
        count,
    )


def _with_older(found: dict[int, Minute], older: Records, limit: int) -> dict[int, Minute]:
    """Return the last candles of those here and of older ones (CANDLE_ROW)."""
    for start_ns, *candle in older.tolist():
        start = start_ns // MINUTE_NS
        if start in found:
            _prepend(found[start], candle)
        else:
            found[start] = candle
    return {start: found[start] for start in sorted(found)[-limit:]}


def _prepend(candle: Minute, minute: Minute) -> None:
    """Put an earlier minute in front of a candle."""
    candle[0] = minute[0]
    candle[1] = max(candle[1], minute[1])
    candle[2] = min(candle[2], minute[2])
    candle[4] += minute[4]
    candle[5] += minute[5]
