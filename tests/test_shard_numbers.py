"""A shard's number is its name: a product of shards 3 and 7 does all that others do."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.config import parse_config
from engine.plan import Plan
from engine.roles import MATCHER
from engine.shard.snapshotter import take_snapshot
from engine.verify import dry_run, verify
from frontend.client import Client
from frontend.gateway.resume import named_shards
from frontend.launch import running_engine
from frontend.reading import Reader, running_plan
from frontend.roles import ROLES
from ipc.records import make_id, shard_of
from ipc.wire.messages import BookQuery, BookSnapshot, MassCancel, MassCancelReport, Report
from tests.fork_server import shared_fork_server
from tests.http import API, Http, free_port, http_section
from tests.product import Wire, until

SHARDS = (3, 7)
SHARD_OF = {"OTHER": 0, "AA": 7, "BB": 3, "CC": 7}
HELD = ["AA", "BB", "CC"]


def make_config(port: int) -> str:
    text = http_section(port, 1) + "[frontend]\nprocesses = 2\n"
    text += "[engine]\nmatchers = 8\npin = false\n"
    for symbol, shard in SHARD_OF.items():
        text += f'[[instruments]]\nsymbol = "{symbol}"\ntick_size = "0.01"\nshard = {shard}\n'
    return text


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    config = parse_config(make_config(free_port()), "test")
    return Plan(config, tmp_path_factory.mktemp("s"), SHARDS)


@pytest.fixture(scope="module")
def product(plan: Plan) -> Iterator[Plan]:
    with running_engine(
        plan.config, plan.data_dir, context=shared_fork_server(), shards=SHARDS
    ) as running:
        yield running


def cross(client: Client, symbol: str, price: str, lots: int) -> int:
    """Trade with oneself; return the trade's id."""
    client.submit(symbol, "sell", lots, price)
    client.submit(symbol, "buy", lots, price)
    return int(client.trades(symbol, 1)[0].trade_id)


def test_what_the_plan_has(plan: Plan) -> None:
    assert plan.shards == [3, 7]
    assert [instrument.symbol for instrument in plan.instruments] == HELD
    matchers = [member.index for member in ROLES.members(plan) if member.role == MATCHER]
    assert matchers == [3, 7]
    (row,) = (row for row in ROLES.rows if row == MATCHER)
    assert list(row.numbers(plan)) == [3, 7]


def test_a_product_of_shards_3_and_7(product: Plan) -> None:
    address = str(product.addresses()[0])
    assert running_plan(product.config, product.data_dir).shards == [3, 7]
    with Client(address, "alice") as client, Http(product) as http, Reader(product) as reader:
        before = reader.positions()
        following = reader.follow(after=before)
        trades = {symbol: cross(client, symbol, "10.00", 5) for symbol in HELD}
        for symbol, trade_id in trades.items():
            assert shard_of(trade_id) == SHARD_OF[symbol]
            assert reader.trades(symbol, 1)["trade_id"].tolist() == [trade_id]
            found = http.get(f"{API}/trades?symbol={symbol}&limit=1")
            assert [trade["trade_id"] for trade in found["trades"]] == [trade_id]
            assert http.get(f"{API}/candles?symbol={symbol}&interval=1m")["count"] == 1
        every = sorted(trades.values())
        assert sorted(reader.trades(None, 3)["trade_id"].tolist()) == every
        seen: list[int] = []
        while len(seen) < 3:
            seen += next(following).trades["trade_id"].tolist()
        assert sorted(seen) == every
        page = http.get(f"{API}/trades?limit=2")
        rest = http.get(f"{API}/trades?limit=2&cursor={page['next']}")
        shown = [trade["trade_id"] for part in (page, rest) for trade in part["trades"]]
        assert sorted(shown) == every
        assert {shard: reader.positions()[shard] for shard in SHARDS} == {
            shard: before[shard] + sum(shard_of(one) == shard for one in every) for shard in SHARDS
        }


def test_orders_are_found_where_they_rest(product: Plan) -> None:
    address = str(product.addresses()[1])
    with Client(address, "bob") as client, Http(product) as http, Reader(product) as reader:
        for symbol in HELD:
            resting = client.submit(symbol, "buy", 3, "5.00")
            order_id = int(resting.order_id)
            assert shard_of(order_id) == SHARD_OF[symbol]
            assert reader.order(order_id) is not None
            assert http.get(f"{API}/orders/{order_id}")["order"]["order_id"] == order_id
            book = http.get(f"{API}/orderbook?symbol={symbol}")
            assert book["bids"][0]["quantity"] == 3
            assert reader.book(symbol, 1).bids["quantity"].tolist() == [3]
        entered = http.order("bob", "buy", 2, 4, symbol="BB")
        assert shard_of(entered["order_id"]) == 3
        assert http.get(f"{API}/orders?user_id=bob&limit=10")["count"] == 4
        for shard in (0, 2, 5, 8, 9):
            assert reader.order(make_id(shard, 1)) is None
            assert http.call("GET", f"{API}/orders/{make_id(shard, 1)}").code == "ORDER_NOT_FOUND"
        with Wire(product, "bob") as wire:
            wire.send(BookQuery(2, 1, 5))
            (book_answer,) = (m for m in [wire.receive()] if isinstance(m, BookSnapshot))
            assert [level.quantity for level in book_answer.bids] == [3]
            wire.send(MassCancel(0, 9))
            *_, last = wire.until(lambda message: isinstance(message, MassCancelReport))
            assert isinstance(last, MassCancelReport)
            assert last.canceled_orders == 4


def test_what_was_missed_is_asked_for_by_shard(product: Plan) -> None:
    with Client(str(product.addresses()[0]), "carol") as client:
        cross(client, "AA", "7.00", 1)
        cross(client, "BB", "7.00", 1)
    with Wire(product, "carol") as wire:
        assert wire.welcome is not None
        assert [shard_of(one) for one in wire.welcome.account_sequences] == [3, 7]
    resume = [make_id(7, 0), make_id(3, 1)]
    with Wire(product, "carol", resume=resume) as wire:
        missed = [wire.receive() for _ in range(7)]
        reports = [message for message in missed if isinstance(message, Report)]
        shards = [shard_of(report.account_sequence) for report in reports]
        assert shards == [3, 3, 3, 7, 7, 7, 7]
    with Wire(product) as wire:
        wire.log_in("carol", [make_id(0, 0)])
        assert "of shards 3, 7" in wire.closing().text


def test_metrics_and_status_name_them(product: Plan) -> None:
    with Http(product) as http, Reader(product) as reader:
        assert http.get(f"{API}/ready")["shards"] == 2
        raw = http.call("GET", "/metrics").raw.decode()
        for shard in SHARDS:
            assert f'shardbook_up{{role="matcher",shard="{shard}"}} 1' in raw
            assert f'shardbook_live_orders{{shard="{shard}"}} ' in raw
            assert f'shardbook_persister_lag_trades{{shard="{shard}"}} ' in raw
        persister = next(p for p in reader.status() if p.role == "persister")
        assert list(persister.lag_trades) == [3, 7]


def test_a_matcher_comes_back_and_the_next_start_finds_all(plan: Plan, product: Plan) -> None:
    with Client(str(product.addresses()[0]), "dave") as client, Reader(product) as reader:
        for symbol in HELD:
            client.submit(symbol, "buy", 4, "6.00")
        for shard in SHARDS:
            assert take_snapshot(product, shard).path is not None
        client.submit("CC", "buy", 4, "6.50")

        def matcher() -> int:
            return next(p.pid for p in reader.status() if (p.role, p.index) == ("matcher", 7))

        pid = matcher()
        os.kill(pid, signal.SIGKILL)
        until(lambda: matcher() not in (0, pid) and reader.status()[-1].state == "ready")
        until(lambda: all(p.state == "ready" for p in reader.status()))
        assert reader.book("CC", 2).bids["quantity"].tolist() == [4, 4]
        assert reader.book("AA", 2).bids["quantity"].tolist() == [4]


def test_the_data_directory_is_whole(plan: Plan, tmp_path: Path) -> None:
    """Once the product of this module has stopped; also where this test runs by itself."""
    config = parse_config(make_config(free_port()), "test")
    context = shared_fork_server()
    last = 0
    for _ in range(2):
        with running_engine(config, tmp_path, context=context, shards=SHARDS) as running:
            with Client(str(running.addresses()[0]), "erin") as client:
                trade_id = cross(client, "AA", "10.00", 5)
                client.submit("BB", "buy", 1, "3.00")
            with Reader(running) as reader:
                assert trade_id == make_id(7, last + 1)
                last += 1
                assert reader.book("BB", 1).bids["quantity"].tolist() == [last]
    verdict = verify(tmp_path)
    assert not verdict.problems, verdict.lines
    stopped = Plan(config, tmp_path, SHARDS)
    shown = dry_run(stopped)
    assert not shown.problems, shown.lines
    text = "\n".join(shown.lines)
    assert "shard 3: 2 resting orders" in text
    assert "shard 7: 0 resting orders, last order 4, last trade 2" in text


def test_how_shards_stand_in_a_sentence() -> None:
    assert named_shards([0, 1, 2]) == "shards 0 to 2"
    assert named_shards([0]) == "shards 0 to 0"
    assert named_shards([7, 3]) == "shards 3, 7"
