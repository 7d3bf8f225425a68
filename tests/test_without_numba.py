"""The whole product where numba is not installed: slower, and the same in every other way."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.trade_log.log import read_trades
from frontend.reading import running_plan
from tests.http import API, Http
from tests.plain_environment import make_plain_environment
from tests.product import until
from tests.test_recovery import (
    kill_everything,
    kill_matcher,
    shown,
    still_the_same,
    trade_some,
)
from tests.test_serve import Served, served

EXTRA = '[http]\naddress = "127.0.0.1:0"\ndefault_symbol = "AA"\n'


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment without numba."""
    return str(make_plain_environment(tmp_path_factory.mktemp("plain") / "venv"))


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("p")


def test_numba_is_missing_there(python: str) -> None:
    code = "from ipc.native.compiled import HAVE_NUMBA; print(HAVE_NUMBA)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("kill", [kill_matcher, kill_everything])
def test_orders_trades_and_recovery(
    python: str, directory: Path, kill: Callable[[Served], None]
) -> None:
    with served(directory, EXTRA, python=[python]) as serving:
        plan = serving.plan
        order_ids = trade_some(plan)
        before = shown(plan, order_ids)
        kill(serving)
        if kill is kill_matcher:
            still_the_same(plan, order_ids, before)
    if kill is kill_everything:
        with served(directory, EXTRA, python=[python]) as again:
            still_the_same(plan, order_ids, before)
        assert "replayed" in "".join(again.lines)


def test_rest(python: str, directory: Path) -> None:
    with served(directory, EXTRA, python=[python]) as serving:
        plan = running_plan(serving.plan.config, serving.plan.data_dir)
        with Http(plan) as http:
            until(lambda: http.call("GET", "/ready").status == 200)
            resting = http.order("alice", "sell", 9, "1.25", client_order_id=7)
            taken = http.order("bob", "buy", 4)
            assert (taken["status"], taken["filled_quantity"]) == ("FILLED", 4)
            swept = http.order("bob", "buy", 8, "1.25", time_in_force="ioc")
            assert (swept["status"], swept["filled_quantity"]) == ("CANCELLED", 5)
            found = http.get(f"{API}/orders/{resting['order_id']}")["order"]
            assert (found["status"], found["filled_quantity"]) == ("FILLED", 9)
            again = http.call(
                "POST",
                f"{API}/orders",
                {"user_id": "alice", "order_type": "limit", "side": "sell", "price": 1,
                 "quantity": 9, "client_order_id": 7},
            )  # fmt: skip
            assert again.status == 409
            orders = [
                {"user_id": "alice", "order_type": "limit", "side": "buy", "price": 1,
                 "quantity": number}
                for number in range(1, 30)
            ]  # fmt: skip
            summary = http.post(f"{API}/orders/batch", {"orders": orders})["summary"]
            assert set(summary.values()) == {0, 29}
            assert len(http.get(f"{API}/orderbook?symbol=AA")["bids"]) == 1
            trades = http.get(f"{API}/trades?symbol=AA")["trades"]
            assert [trade["quantity"] for trade in trades] == [5, 4]
    assert [trade.quantity for trade in read_trades(plan.log_dir)] == [4, 5]


def test_the_demo_finds_every_trade(python: str, directory: Path) -> None:
    command = [python, "-m", "frontend.cli", "demo", "--seconds", "0.3", "--symbols", "3"]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "numba is missing" in done.stderr
    assert done.stdout.count("\nok ") == 4 + 5  # steps and checks
