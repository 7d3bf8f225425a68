"""Orders over REST that memory has forgotten: they go on in the history, without a seam."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from engine.history.sqlite_reader import SqliteHistory
from engine.plan import Plan
from frontend.client import Client
from tests.http import API, Http
from tests.product import make_config, running, until
from tests.test_history_product import trade

SECTIONS = '[history]\nsqlite = true\n[http]\naddress = "127.0.0.1:0"\n'
ORDERS = 60
"""Far more than memory keeps."""


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    with running(make_config(2, 2, SECTIONS, engine="ended_orders = 4\n")) as found:
        with Client(found.addresses()[0], "alice") as client:
            trade(client, ORDERS // 2)
            client.submit("AA", "buy", 7, "0.50")
        until(lambda: known(found) == {60, 61})
        yield found


def known(plan: Plan) -> set[int]:
    """Return the last order of each shard that the history has."""
    with closing(SqliteHistory(plan.history_path)) as history:
        return {cursor.orders for cursor in history.cursors().values()}


def test_an_order_that_memory_has_forgotten_is_in_the_history(plan: Plan) -> None:
    with Http(plan) as http:
        newest = http.get(f"{API}/orders?user_id=alice&symbol=AA&limit=1")["orders"][0]
        found = http.get(f"{API}/orders/{newest['order_id']}?user_id=alice")
        assert (found["source"], found["order"]) == ("memory", newest)
        old = http.get(f"{API}/orders/1?user_id=alice")
        assert old["source"] == "sqlite"
        order = old["order"]
        assert (order["order_id"], order["status"], order["price"]) == (1, "FILLED", 1)
        assert (order["user_id"], order["side"], order["symbol"]) == ("alice", "SELL", "AA")
        assert (order["filled_quantity"], order["remaining_quantity"]) == (1, 0)
        for path in ("1?user_id=bob", "62?user_id=alice", f"{1 << 50}?user_id=alice"):
            assert http.call("GET", f"{API}/orders/{path}").code == "ORDER_NOT_FOUND"


def test_a_user_sees_each_order_once_the_newest_first(plan: Plan) -> None:
    with Http(plan) as http:
        answer = http.get(f"{API}/orders?user_id=alice&symbol=AA")
        ids = [order["order_id"] for order in answer["orders"]]
        assert (ids, answer["source"]) == (list(range(61, 0, -1)), "memory, sqlite")
        both = http.get(f"{API}/orders?user_id=alice&limit=500")["orders"]
        assert len({order["order_id"] for order in both}) == len(both) == 121
        times = [order["timestamp"] for order in both]
        assert times == sorted(times, reverse=True)
        is_open = http.get(f"{API}/orders?user_id=alice&status=open")
        assert [order["order_id"] for order in is_open["orders"]] == [61]
        sells = http.get(f"{API}/orders?user_id=alice&side=sell&symbol=BB")["orders"]
        assert len(sells) == 30
        assert {order["side"] for order in sells} == {"SELL"}
        middle = answer["orders"][30]["timestamp"]
        older = http.get(f"{API}/orders?user_id=alice&symbol=AA&to={middle}")["orders"]
        newer = http.get(f"{API}/orders?user_id=alice&symbol=AA&from={middle}")["orders"]
        assert newer + older == answer["orders"]
        assert older[0]["timestamp"] < middle <= newer[-1]["timestamp"]
        assert http.get(f"{API}/orders?user_id=bob")["orders"] == []


def test_how_far_the_history_is_behind_is_told(plan: Plan) -> None:
    with Http(plan) as http:
        caught_up = {"state": "ready", "lag_commands": 0, "lag_ms": 0, "lag_bytes": 0}
        until(lambda: http.get("/health")["history"] == caught_up)
        assert b"shardbook_history_lag_commands" in http.call("GET", "/metrics").raw
