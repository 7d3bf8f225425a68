"""The newest trades of rings and log together, beside a plain list of all that there ever were."""

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine.plan import Plan
from engine.trade_log.lines import LineFormatter
from engine.trade_log.log import TradeLog, TradeLogError
from engine.trade_log.segments import ACTIVE, closed_segments, compressed_path, plain_path
from frontend.http.candles import Candles
from frontend.http.history_reads import HistoryReads
from frontend.http.market import Markets
from frontend.past_trades import PastTrades
from ipc.client_ids import RememberedTexts
from ipc.instruments import Scale
from ipc.memory.ring import RingReader, RingWriter, create_ring
from ipc.records import TRADE, make_id
from tests.product import make_config

RING = 32
SEGMENT_BYTES = 4_096


@dataclass
class Market:
    """Rings of 32 trades and a log of two shards, written together; ``every`` trade of them."""

    plan: Plan
    log: TradeLog
    every: list[tuple[int, int, int]] = field(default_factory=list)
    """trade_id, symbol and time of each, in order."""
    time_ns: int = 1_000

    def __post_init__(self) -> None:
        self.formatter = LineFormatter(self.plan.instruments)
        self._next = [1] * len(self.plan.shards)
        self.plan.run_dir.mkdir(mode=0o700)
        self.restart()

    def restart(self) -> None:
        """Begin with empty rings behind the log, as a start does."""
        for shard in self.plan.shards:
            create_ring(self.plan.ring_path(shard), shard, RING, self._next[shard] - 1, 0)
        self.rings = [RingWriter(self.plan.ring_path(shard)) for shard in self.plan.shards]

    def command(self, symbol: int, trades: int) -> None:
        """Make the trades of one command, all of one time."""
        shard = (symbol + 1) % 2
        self.time_ns += 1
        made = np.zeros(trades, TRADE)
        made["trade_id"] = make_id(shard, self._next[shard]) + np.arange(trades)
        self._next[shard] += trades
        made["symbol"], made["taker_side"], made["timestamp_ns"] = symbol, 1, self.time_ns
        made["price"] = made["quantity"] = made["buy_order_id"] = made["sell_order_id"] = 1
        self.log.append(self.formatter.format(made))
        self.rings[shard].publish(made)
        self.every += [(int(one), symbol, self.time_ns) for one in made["trade_id"]]

    def newest(self, symbol: int, limit: int) -> list[int]:
        """The ids that are to be found: symbol 0 is all."""
        return [one for one, of, _ in reversed(self.every) if symbol in (0, of)][:limit]

    def past(self) -> PastTrades:
        rings = {shard: RingReader(self.plan.ring_path(shard)) for shard in self.plan.shards}
        return PastTrades(rings, self.plan.instruments, self.plan.log_dir)

    def found(self, symbol: int, limit: int, past: PastTrades | None = None) -> list[int]:
        trades = (past or self.past()).newest(self.instrument(symbol), limit)
        assert trades.dtype == TRADE
        return trades["trade_id"].tolist()

    def instrument(self, symbol: int):
        return next((i for i in self.plan.instruments if i.number == symbol), None)


@pytest.fixture(params=[True, False], ids=["compressed", "plain"])
def market(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Market]:
    plan = Plan(make_config(), tmp_path)
    log = TradeLog(plan.log_dir, SEGMENT_BYTES, compress=request.param, background=False)
    yield Market(plan, log)
    log.close()


def test_whatever_happened_the_newest_are_found_newest_first(market: Market, seed: int) -> None:
    chance = random.Random(seed)
    past = market.past()
    for _ in range(60):
        for _ in range(chance.choice([0, 1, 5, 30])):
            market.command(chance.choice([1, 1, 1, 2, 3]), chance.choice([1, 1, 3, 7]))
        if chance.random() < 0.1:
            market.restart()
            past = market.past()
        for symbol in range(5):
            limit = chance.choice([0, 1, 3, RING, 100, 1_000])
            assert market.found(symbol, limit, past) == market.newest(symbol, limit)
            in_rings = past.in_rings(market.instrument(symbol), limit)
            if in_rings is not None:
                assert in_rings["trade_id"].tolist() == market.newest(symbol, limit)


def test_the_fields_of_a_trade_are_the_same_from_the_log(market: Market) -> None:
    market.command(1, 3)
    names = [name for name in TRADE.names or () if name not in ("sequence", "reserved")]
    first = market.past().newest(market.instrument(1), 3)
    market.restart()
    again = market.past().newest(market.instrument(1), 3)
    assert again[names].tolist() == first[names].tolist()


def test_what_was_looked_through_in_vain_is_not_again(market: Market) -> None:
    """With no time at all each call gets on by a segment, and so comes to the end."""
    market.command(3, 1)
    while len(closed_segments(market.plan.log_dir)) < 4:
        market.command(1, 5)
    past, tries = market.past(), 0
    while True:
        try:
            found = past.newest(market.instrument(3), 1, timeout_s=0)
        except TimeoutError:
            tries += 1
            assert tries < 10
        else:
            break
    assert found["trade_id"].tolist() == market.newest(3, 1)
    assert tries == 3
    while len(closed_segments(market.plan.log_dir)) < 6:
        market.command(1, 5)
    market.command(3, 1)  # into the segment that was the active one, and was looked through
    for _ in range(2):
        market.command(1, RING)
    assert market.found(3, 1, past) == market.newest(3, 1)


def test_segments_that_were_moved_away_are_the_end(market: Market) -> None:
    while len(closed_segments(market.plan.log_dir)) < 4:
        market.command(1, 5)
    for number in (1, 2):
        for path in (plain_path, compressed_path):
            path(market.plan.log_dir, number).unlink(missing_ok=True)
    found = market.found(1, 1_000)
    assert found == market.newest(1, len(found))
    assert RING < len(found) < len(market.every)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:40] + bytes([data[40] ^ 255]) + data[41:],
        lambda data: data[:-9] + b"\n",
        lambda data: b"{}\n" * 400,
    ],
)
def test_a_damaged_segment_is_named(market: Market, spoil: Callable[[bytes], bytes]) -> None:
    while not closed_segments(market.plan.log_dir):
        market.command(1, 5)
    market.restart()
    (path,) = (p for p in market.plan.log_dir.glob("trades-*"))
    path.write_bytes(spoil(path.read_bytes()))
    (market.plan.log_dir / ACTIVE).unlink(missing_ok=True)
    with pytest.raises(TradeLogError, match=r"000001|segment 1"):
        market.past().newest(None, 1_000)


def test_candles_are_made_of_what_is_there_where_segments_were_moved_away(market: Market) -> None:
    market.command(1, 7)
    market.restart()
    market.command(1, 3)
    for path in market.plan.log_dir.glob("trades*"):
        path.unlink()
    markets = Markets(market.plan.instruments, "")
    rings = {shard: RingReader(market.plan.ring_path(shard)) for shard in market.plan.shards}
    plan = market.plan
    state = SimpleNamespace(
        markets=markets, rings=rings, shards=plan.shards, instruments=plan.instruments
    )
    candles = Candles(state, HistoryReads(plan, RememberedTexts()), plan.log_dir, 30.0)  # type: ignore[arg-type]
    catching_up = threading.Thread(target=candles.catch_up, daemon=True)
    catching_up.start()
    catching_up.join(30)
    still = catching_up.is_alive()
    candles.close()
    assert not still
    (candle,) = candles.of(1, 1, 0, 10, 10).values()
    assert candle[5] == 3


def test_trades_of_what_is_no_longer_listed_are_passed_over(tmp_path: Path) -> None:
    plan = Plan(make_config(), tmp_path)
    with_log = TradeLog(plan.log_dir, SEGMENT_BYTES, background=False)
    market = Market(plan, with_log)
    for symbol in (1, 3, 1):
        market.command(symbol, 2)
    market.restart()
    rings = {shard: RingReader(plan.ring_path(shard)) for shard in plan.shards}
    (first, *_) = plan.instruments
    past = PastTrades(rings, [first], plan.log_dir)
    assert past.newest(None, 10)["trade_id"].tolist() == market.newest(1, 10)
    coarse = first._replace(tick=first.tick._replace(mantissa=7))
    assert not len(PastTrades(rings, [coarse], plan.log_dir).newest(None, 10))
    with_log.close()


def test_candles_are_of_what_is_listed_and_what_is_retired_stops_none(market: Market) -> None:
    """What the log has in another tick, or of a symbol that nobody knows, is no candle here."""
    market.command(1, 7)
    market.restart()
    rings = {shard: RingReader(market.plan.ring_path(shard)) for shard in market.plan.shards}
    (old,) = [one for one in market.plan.instruments if one.number == 1]
    new = old._replace(number=9, tick=Scale(7, 0))
    for known, counts in (
        ([old._replace(retired=True), new], {1: 7, 9: 0}),
        ([new], {9: 0}),
        ([new._replace(symbol="ZZ")], {9: 0}),
        ([old], {1: 7}),
    ):
        markets = Markets(known, "")
        state = SimpleNamespace(
            markets=markets, rings=rings, shards=market.plan.shards, instruments=known
        )
        candles = Candles(
            state, HistoryReads(market.plan, RememberedTexts()), market.plan.log_dir, 30.0
        )  # type: ignore[arg-type]
        candles.catch_up()
        for number, count in counts.items():
            found = candles.of(number, 1, 0, 10, 10).values()
            assert sum(candle[5] for candle in found) == count
        candles.close()
        assert [one.number for one in markets.all] == [n for n in counts if n == known[-1].number]
