"""Trades and candles over REST: from the rings, from the log, and across the seam between them."""

import json
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.plan import Plan
from engine.trade_log.segments import closed_segments
from frontend.http.market import Markets
from frontend.http.market_models import TradesQuery
from frontend.http.trade_rings import CHUNK_TRADES, from_ring
from ipc.memory.ring import RingReader, RingWriter, create_ring
from ipc.records import TRADE
from tests.http import API, Http, free_port, http_section, serving
from tests.product import make_config, running, until

SMALL = """
[persister]
segment_bytes = 8192
"""
TRADES = 400


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    """A product whose rings hold 64 trades, and whose log has many segments."""
    config = make_config(2, 4, SMALL + http_section(free_port(), 2, "max_trade_limit = 500"))
    engine = msgspec.structs.replace(config.engine, ring_trades=64)
    small = msgspec.structs.replace(config, engine=engine)
    with running(small, tmp_path_factory.mktemp("t")) as plan:
        with Http(plan) as http:
            for n in range(TRADES):
                symbol = ("AA", "BB", "CC")[n % 3]
                http.order("maker", "sell", 1 + n % 7, 100 + n % 11, symbol=symbol)
                http.order("taker", "buy", 1 + n % 7, 120, symbol=symbol)
        until(lambda: len(closed_segments(plan.log_dir)) > 3)
        yield plan


@pytest.fixture
def http(plan: Plan) -> Iterator[Http]:
    with Http(plan) as client:
        yield client


def pages(http: Http, query: str) -> list[dict[str, Any]]:
    """Return the trades of all pages."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = http.get(f"{API}/trades?{query}{cursor}")
        assert page["count"] == len(page["trades"])
        found += page["trades"]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


def ids(trades: list[dict[str, Any]]) -> list[int]:
    return [trade["trade_id"] for trade in trades]


@pytest.mark.parametrize("limit", [7, 64, 500])
@pytest.mark.parametrize("symbol", ["AA", "BB", "CC"])
def test_pages_of_a_symbol_hold_each_trade_once_newest_first(
    http: Http, symbol: str, limit: int
) -> None:
    found = pages(http, f"symbol={symbol}&limit={limit}")
    assert {trade["symbol"] for trade in found} == {symbol}
    numbers = [n for n in range(TRADES) if ("AA", "BB", "CC")[n % 3] == symbol][::-1]
    assert [trade["price"] for trade in found] == [100 + n % 11 for n in numbers]
    assert [trade["quantity"] for trade in found] == [1 + n % 7 for n in numbers]
    assert ids(found) == sorted(ids(found), reverse=True)
    assert all(trade["taker_side"] == "buy" for trade in found)


@pytest.mark.parametrize("limit", [13, 500])
def test_pages_of_all_symbols_hold_each_trade_once(http: Http, limit: int) -> None:
    found = pages(http, f"limit={limit}")
    assert len(set(ids(found))) == len(found) == TRADES
    times = [trade["timestamp"] for trade in found[:60]]
    assert times == sorted(times, reverse=True)


def test_before_a_trade_wherever_it_is(http: Http) -> None:
    every = pages(http, "symbol=BB&limit=500")
    for place in (0, 5, 40, 100, len(every) - 1):
        found = pages(http, f"symbol=BB&limit=20&before={every[place]['trade_id']}")
        assert ids(found) == ids(every[place + 1 :])


def test_before_a_recent_trade_over_all_symbols(http: Http) -> None:
    every = pages(http, "limit=500")
    found = http.get(f"{API}/trades?limit=20&before={every[10]['trade_id']}")["trades"]
    assert ids(found) == ids(every[11:31])
    reply = http.call("GET", f"{API}/trades?before={every[-1]['trade_id']}")
    assert (reply.status, reply.code) == (400, "INVALID_REQUEST")


def test_times_bound_what_is_shown(http: Http) -> None:
    every = pages(http, "symbol=AA&limit=500")
    first, last = every[100]["timestamp"], every[3]["timestamp"]
    found = pages(http, f"symbol=AA&limit=9&from={first}&to={last}")
    assert ids(found) == ids(every[4:101])
    assert http.get(f"{API}/trades?symbol=AA&from={time.time_ns()}")["trades"] == []
    assert pages(http, f"symbol=AA&to={every[-1]['timestamp']}") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=501", "limit"),
        ("limit=0", "limit"),
        ("before=0", "before"),
        ("cursor=x", "cursor"),
        ("cursor=1.2", "cursor"),
        ("symbol=AA&cursor=0.0.1.1", "cursor"),
        ("symbol=AA&before=35184372088833", "before"),
        ("from=-1", "from"),
    ],
)
def test_a_wrong_question_is_named(http: Http, query: str, field: str) -> None:
    reply = http.call("GET", f"{API}/trades?{query}")
    assert (reply.status, reply.code) == (400, "INVALID_REQUEST")
    assert reply.body["error"]["details"]["field"] == field


def expected_candles(trades: list[dict[str, Any]], minutes: int) -> list[dict[str, Any]]:
    """Return candles of trades, oldest first, by plain means."""
    length = minutes * 60 * 10**9
    by_start: dict[int, list[dict[str, Any]]] = {}
    for trade in trades:
        by_start.setdefault(trade["timestamp"] // length * length, []).append(trade)
    return [
        {
            "timestamp": start,
            "open": some[0]["price"],
            "high": max(trade["price"] for trade in some),
            "low": min(trade["price"] for trade in some),
            "close": some[-1]["price"],
            "volume": sum(trade["quantity"] for trade in some),
            "trades": len(some),
        }
        for start, some in sorted(by_start.items())
    ]


@pytest.mark.parametrize(("interval", "minutes"), [("1m", 1), ("5m", 5), ("1h", 60), ("1d", 1440)])
def test_candles_are_made_of_all_trades_of_log_and_ring(
    http: Http, interval: str, minutes: int
) -> None:
    trades = pages(http, "symbol=CC&limit=500")[::-1]
    answer = http.get(f"{API}/candles?symbol=CC&interval={interval}")
    assert answer["candles"] == expected_candles(trades, minutes)
    assert answer["count"] == len(answer["candles"])
    last = answer["candles"][-1]["timestamp"]
    assert http.get(f"{API}/candles?symbol=CC&interval={interval}&to={last}")["count"] == (
        answer["count"] - 1
    )
    assert http.get(f"{API}/candles?symbol=DD")["candles"] == []
    reply = http.call("GET", f"{API}/candles?symbol=CC&interval=7m")
    assert reply.body["error"]["details"]["field"] == "interval"


def test_a_candle_has_the_trade_that_was_just_told(http: Http) -> None:
    for n in range(5):
        http.order("maker", "sell", 1, 10 + n, symbol="DD")
        http.order("taker", "buy", 1, 50, symbol="DD")
        candles = http.get(f"{API}/candles?symbol=DD&interval=1d")["candles"]
        assert sum(candle["trades"] for candle in candles) == n + 1
        assert candles[-1]["close"] == 10 + n


def test_candles_catch_up_where_the_ring_has_moved_on(http: Http) -> None:
    """What was taken from the ring is not taken from the log once more."""
    for count in (10, 90, 90):
        for n in range(count):
            http.order("maker", "sell", 1 + n % 3, 20 + n % 5, symbol="DD")
            http.order("taker", "buy", 1 + n % 3, 50, symbol="DD")
        trades = pages(http, "symbol=DD&limit=500")[::-1]
        candles = http.get(f"{API}/candles?symbol=DD&interval=1m")["candles"]
        assert candles == expected_candles(trades, 1)


def test_a_restart_leaves_every_trade_to_read(tmp_path) -> None:
    with serving(workers=1, directory=tmp_path) as plan, Http(plan) as http:
        for n in range(10):
            http.order("maker", "sell", 1, 10 + n, symbol="AA")
            http.order("taker", "buy", 1, 50, symbol="AA")
        before = pages(http, "symbol=AA")
    with serving(workers=1, directory=tmp_path) as plan, Http(plan) as http:
        assert pages(http, "symbol=AA&limit=3") == before
        assert http.get(f"{API}/candles?symbol=AA&interval=1d")["candles"][-1]["trades"] == 10


def test_an_answer_is_the_same_until_there_is_another_trade(plan: Plan) -> None:
    with Http(plan) as http:
        query = f"{API}/trades?symbol=DD&limit=3"
        expected = [trade["quantity"] for trade in http.get(query)["trades"]]
        for quantity in range(11, 17):
            for _ in range(3):
                found = http.get(query)
                assert [trade["quantity"] for trade in found["trades"]] == expected
                texts = http.get(query + "&numbers=string")["trades"]
                assert texts == [
                    trade | {"price": str(trade["price"]), "quantity": str(trade["quantity"])}
                    for trade in found["trades"]
                ]
            http.order("maker", "sell", quantity, 5, symbol="DD")
            http.order("taker", "buy", quantity, 5, symbol="DD")
            expected = [quantity, *expected][:3]


def test_a_ring_is_searched_in_pieces(tmp_path: Path) -> None:
    create_ring(tmp_path / "ring", 0, 1 << 15, 0, 0)
    writer, reader = RingWriter(tmp_path / "ring"), RingReader(tmp_path / "ring")
    trades = np.zeros(30_000, TRADE)
    trades["trade_id"], trades["symbol"] = np.arange(1, 30_001), 1
    trades["symbol"][::10_000] = 2
    writer.publish(trades)
    rare = Markets(make_config(1, 2).listed(), "").named("BB")
    search = from_ring(reader, rare, TradesQuery(), 1 << 60, 100)
    pieces, found = 0, None
    while found is None:
        try:
            next(search)
            pieces += 1
        except StopIteration as stop:
            found = stop.value
    assert found["trade_id"].tolist() == [20_001, 10_001, 1]
    assert pieces >= 30_000 // CHUNK_TRADES


def test_what_the_newest_trades_of_a_ring_have_is_found_in_one_piece(tmp_path: Path) -> None:
    create_ring(tmp_path / "ring", 0, 1 << 10, 0, 0)
    writer, reader = RingWriter(tmp_path / "ring"), RingReader(tmp_path / "ring")
    trades = np.zeros(300, TRADE)
    trades["trade_id"], trades["symbol"] = np.arange(1, 301), 1
    writer.publish(trades)
    market = Markets(make_config(1, 2).listed(), "").named("AA")
    with pytest.raises(StopIteration) as found:
        next(from_ring(reader, market, TradesQuery(), 1 << 60, 100))
    assert found.value.value["trade_id"].tolist() == list(range(300, 200, -1))


ASKERS = 30


def test_a_page_does_not_wait_for_all_who_search_the_whole_log(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    section = "[persister]\nsegment_bytes = 8192\ncompress = false\n"
    config = make_config(2, 4, section + http_section(free_port(), 1, "max_trade_limit = 500"))
    engine = msgspec.structs.replace(config.engine, ring_trades=16)
    small = msgspec.structs.replace(config, engine=engine)
    with running(small, tmp_path_factory.mktemp("t")) as plan, ExitStack() as stack:
        honest, *askers = [stack.enter_context(Http(plan)) for _ in range(1 + ASKERS)]
        for _ in range(20):
            for side in ("sell", "buy"):
                order = {"user_id": "alice", "order_type": "limit", "side": side, "symbol": "AA"}
                order |= {"price": 5, "quantity": 1}
                honest.post(f"{API}/orders/batch", {"orders": [order] * 50})
        until(lambda: len(closed_segments(plan.log_dir)) > 12)
        newest = honest.get(f"{API}/trades?symbol=AA&limit=16")
        page = f"{API}/trades?symbol=AA&limit=1&cursor={newest['next']}"
        for client in (*askers, honest):
            client.get(f"{API}/health")  # it is connected then
        until(lambda: answered_meanwhile(honest, page, askers) < ASKERS // 2)


def answered_meanwhile(honest: Http, page: str, askers: list[Http]) -> int:
    """Let many search all of the log, and then one a bit; return how many were answered first."""
    for asker in askers:
        asker.connection.request("GET", f"{API}/trades?symbol=CC")
    assert honest.get(page)["count"] == 1
    sockets = [asker.connection.sock for asker in askers]
    served = len(select.select(sockets, [], [], 0)[0])
    for asker in askers:
        reply = asker.connection.getresponse()
        assert reply.status == 200
        assert json.loads(reply.read())["count"] == 0
    return served
