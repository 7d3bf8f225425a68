"""What the log knows, all readers know: after a ringful of others' trades, and after a restart."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from engine.config import Config
from engine.plan import Plan
from frontend.cli import main
from frontend.client import Client
from tests.http import API, Http, free_port, http_section
from tests.product import make_config, running, until
from tests.test_http_socket import Ws

RING = 64


def config() -> Config:
    """A product of two shards whose rings hold 64 trades."""
    made = make_config(2, 4, "[persister]\nsegment_bytes = 8192\n" + http_section(free_port(), 1))
    return msgspec.structs.replace(
        made, engine=msgspec.structs.replace(made.engine, ring_trades=RING)
    )


def trade(http: Http, symbol: str, price: int, quantity: int = 1) -> None:
    http.order("maker", "sell", quantity, price, symbol=symbol)
    assert http.order("taker", "buy", quantity, price, symbol=symbol)["trades"]


def shown(plan: Plan, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[int]:
    """The trade ids that ``shardbook trades`` prints."""
    assert main(["trades", "--data-dir", str(plan.data_dir), *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = [line.split() for line in lines]
    return [int(row[1]) for row in words if len(row) > 1 and row[1].isdigit()]


def ids(http: Http, query: str) -> list[int]:
    return [trade["trade_id"] for trade in http.get(f"{API}/trades?{query}")["trades"]]


def ticker(plan: Plan, symbol: str) -> tuple[Decimal | None, Decimal | None]:
    with Ws(plan) as ws:
        ws.subscribe("ticker", symbol=symbol)
        message = ws.receive()
        return message["last_price"], message["last_quantity"]


@pytest.fixture(params=["ringful", "restart"])
def plan(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plan]:
    """One where CC (shard 0) traded three times, and DD (shard 1) never; long ago."""
    made = config()
    with running(made, tmp_path) as plan:
        with Http(plan) as http:
            for price in (31, 32, 33):
                trade(http, "CC", price, price - 30)
            for _ in range(RING + 5 if request.param == "ringful" else 0):
                trade(http, "AA", 7)
        if request.param == "ringful":
            yield plan
            return
    with running(made, tmp_path) as plan:
        yield plan


def test_every_reader_knows_the_last_trades(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    with Http(plan) as http, Client(plan.addresses()[0], "reader") as client:
        assert ids(http, "symbol=CC") == [3, 2, 1]
        assert [found.trade_id for found in client.trades("CC", limit=5)] == [3, 2, 1]
        assert [found.trade_id for found in client.trades("CC", limit=2)] == [3, 2]
        last = client.trades("CC", limit=1)[0]
        assert (last.price, last.quantity) == (Decimal(33), 3)
        assert client.trades("DD", limit=5) == []
        every = ids(http, "limit=500")
        assert [found.trade_id for found in client.trades(limit=500)] == every
        candles = http.get(f"{API}/candles?symbol=CC&interval=1d")["candles"]
        assert (candles[-1]["close"], candles[-1]["trades"]) == (33, 3)
    assert shown(plan, capsys, "--symbol", "CC") == [1, 2, 3]
    assert shown(plan, capsys, "--symbol", "CC", "--limit", "2") == [2, 3]
    assert shown(plan, capsys, "--symbol", "DD") == []
    assert shown(plan, capsys, "--limit", "500") == every[::-1]
    assert ticker(plan, "CC") == (33, 3)
    assert ticker(plan, "DD") == (None, None)


def test_a_ticker_that_nobody_listened_to_is_not_stale(plan: Plan) -> None:
    with Http(plan) as http:
        assert ticker(plan, "CC") == (33, 3)
        trade(http, "CC", 34, 4)
        for _ in range(RING + 5):
            trade(http, "AA", 7)
        assert ticker(plan, "CC") == (34, 4)
        trade(http, "CC", 35, 5)
        assert ticker(plan, "CC") == (35, 5)


def test_a_ticker_goes_on_from_what_the_log_knew(plan: Plan) -> None:
    with Ws(plan) as ws, Http(plan) as http:
        ws.subscribe("ticker", symbol="CC")
        assert ws.receive()["last_price"] == 33
        http.order("maker", "sell", 1, 40, symbol="CC")
        message = ws.receive()
        assert (message["best_ask"]["price"], message["last_price"]) == (40, 33)
        http.order("taker", "buy", 1, 40, symbol="CC")
        until(lambda: ws.receive()["last_price"] == 40)


def test_a_log_that_cannot_be_read_is_told_and_what_rings_know_goes_on(
    plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    until(lambda: not list(plan.log_dir.glob("*.tmp")))
    for path in plan.log_dir.glob("trades*"):
        path.write_bytes(b"\x1b[31m" + path.read_bytes()[5:])
    assert main(["trades", "--data-dir", str(plan.data_dir), "--symbol", "CC"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("shardbook: trade log: ")
    assert error.count("\n") == 1
    assert "\x1b" not in error
    with Http(plan) as http:
        trade(http, "CC", 50)
        assert ids(http, "symbol=CC&limit=1") != []
        reply = http.call("GET", f"{API}/trades?symbol=CC&limit=3")
        assert (reply.status, reply.code) == (503, "BUSY")
        assert ticker(plan, "CC") == (50, 1)
        assert ticker(plan, "DD") == (None, None)


def test_the_trades_of_one_command_come_newest_first_too(tmp_path: Path) -> None:
    with (
        running(config(), tmp_path) as plan,
        Http(plan) as http,
        Client(plan.addresses()[0], "reader") as client,
    ):
        for symbol in ("AA", "BB"):
            for price in (10, 11, 12):
                http.order("maker", "sell", 1, price, symbol=symbol)
            taken = http.order("taker", "buy", 3, 12, symbol=symbol)
            assert len(taken["trades"]) == 3
        shard = 1 << 45
        every = [shard | 3, shard | 2, shard | 1, 3, 2, 1]
        assert ids(http, "") == every
        assert [found.trade_id for found in client.trades(limit=9)] == every
        assert [found.trade_id for found in client.trades(limit=4)] == every[:4]
        for limit in (1, 2, 4, 5):
            found, cursor = [], ""
            while cursor is not None:
                page = http.get(f"{API}/trades?limit={limit}{cursor}")
                found += [trade["trade_id"] for trade in page["trades"]]
                cursor = page["next"] and f"&cursor={page['next']}"
            assert found == every
        assert ids(http, f"before={shard | 3}") == every[1:]
        batch = [
            {
                "user_id": "batch",
                "symbol": symbol,
                "order_type": "limit",
                "side": "buy",
                "price": 1,
                "quantity": 1,
            }
            for symbol in ("AA", "BB")
            for _ in range(4)
        ]
        made = http.post(f"{API}/orders/batch", {"orders": batch})["results"]
        orders = http.get(f"{API}/orders?user_id=batch")["orders"]
        for mine in (made[:4], made[4:]):
            numbers = [item["order_id"] for item in mine]
            listed = [o["order_id"] for o in orders if o["order_id"] in numbers]
            assert listed == numbers[::-1]
