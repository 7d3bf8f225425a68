"""Orders over REST that memory has forgotten: they go on in the history, without a seam."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from engine.plan import Plan
from frontend.client import Client
from tests.histories import PostgresStore, SqliteStore, Store
from tests.http import API, Http
from tests.product import make_config, running, until
from tests.test_history_product import positions, role_of

HTTP = '[http]\naddress = "127.0.0.1:0"\n'
TRADES = 45
"""Of each symbol, with twice as many orders: far more than memory keeps."""


@pytest.fixture(scope="module")
def plan(shared_store: Store) -> Iterator[Plan]:
    sections = shared_store.section + HTTP
    with running(
        make_config(2, 2, sections, engine="ended_orders = 4\nring_trades = 16\n")
    ) as found:
        with Client(found.addresses()[0], "alice") as client:
            for n in range(TRADES):
                for symbol in ("AA", "BB"):
                    client.submit(symbol, "sell", 1, "1.00", client_order_id=f"sell/{n}")
                    client.submit(symbol, "buy", 1, "1.00")
            client.submit("AA", "buy", 7, "0.50")
        until(lambda: known(found, shared_store) == {90, 91})
        yield found


def known(plan: Plan, store: Store) -> set[int]:
    """Return the last order of each shard that the history has."""
    return {orders for orders, _ in positions(plan, store).values()}


def test_an_order_that_memory_has_forgotten_is_in_the_history(
    plan: Plan, shared_store: Store
) -> None:
    with Http(plan) as http:
        newest = http.get(f"{API}/orders?user_id=alice&symbol=AA&limit=1")["orders"][0]
        found = http.get(f"{API}/orders/{newest['order_id']}?user_id=alice")
        assert (found["source"], found["order"]) == ("memory", newest)
        old = http.get(f"{API}/orders/1?user_id=alice")
        assert old["source"] == shared_store.kept.name
        order = old["order"]
        assert (order["order_id"], order["status"], order["price"]) == (1, "FILLED", 1)
        assert (order["user_id"], order["side"], order["symbol"]) == ("alice", "SELL", "AA")
        assert (order["filled_quantity"], order["remaining_quantity"]) == (1, 0)
        assert order["client_order_id"] == "sell/0"
        for path in ("1?user_id=bob", "92?user_id=alice", f"{1 << 50}?user_id=alice"):
            assert http.call("GET", f"{API}/orders/{path}").code == "ORDER_NOT_FOUND"


def test_a_user_sees_each_order_once_the_newest_first(plan: Plan, shared_store: Store) -> None:
    with Http(plan) as http:
        answer = http.get(f"{API}/orders?user_id=alice&symbol=AA")
        ids = [order["order_id"] for order in answer["orders"]]
        assert (ids, answer["source"]) == (list(range(91, 0, -1)), both_of(shared_store))
        named = [order["client_order_id"] for order in reversed(answer["orders"])]
        assert named == [*(id for n in range(TRADES) for id in (f"sell/{n}", 0)), 0]
        both = http.get(f"{API}/orders?user_id=alice&limit=500")["orders"]
        assert len({order["order_id"] for order in both}) == len(both) == 181
        times = [order["timestamp"] for order in both]
        assert times == sorted(times, reverse=True)
        is_open = http.get(f"{API}/orders?user_id=alice&status=open")
        assert [order["order_id"] for order in is_open["orders"]] == [91]
        sells = http.get(f"{API}/orders?user_id=alice&side=sell&symbol=BB")["orders"]
        assert len(sells) == 45
        assert {order["side"] for order in sells} == {"SELL"}
        middle = answer["orders"][30]["timestamp"]
        older = http.get(f"{API}/orders?user_id=alice&symbol=AA&to={middle}")["orders"]
        newer = http.get(f"{API}/orders?user_id=alice&symbol=AA&from={middle}")["orders"]
        assert newer + older == answer["orders"]
        assert older[0]["timestamp"] < middle <= newer[-1]["timestamp"]
        assert http.get(f"{API}/orders?user_id=bob")["orders"] == []


def test_orders_go_on_in_the_history_page_by_page(plan: Plan, shared_store: Store) -> None:
    with Http(plan) as http:
        for asked, count in (
            ("user_id=alice", 181),
            ("user_id=alice&symbol=AA", 91),
            ("user_id=alice&symbol=AA&status=filled", 90),
            ("user_id=alice&side=buy&symbol=AA", 46),
        ):
            path = f"{API}/orders?{asked}&limit=7"
            answer = http.get(path)
            found = answer["orders"]
            while answer["next"] is not None:
                assert len(found) <= count
                answer = http.get(f"{path}&cursor={answer['next']}")
                found += answer["orders"]
            assert answer["source"] == both_of(shared_store)
            assert len({order["order_id"] for order in found}) == len(found) == count
            whole = http.get(f"{API}/orders?{asked}&limit=500")
            assert (whole["orders"], whole["next"]) == (found, None)
        for wrong in ("x", "1.2.3", "-1", "1."):
            refused = http.call("GET", f"{API}/orders?user_id=alice&cursor={wrong}")
            assert refused.code == "INVALID_REQUEST", refused
            assert "must be the next of an answer" in refused.raw.decode()


def test_trades_go_on_in_the_history_page_by_page(plan: Plan, shared_store: Store) -> None:
    with Http(plan) as http:
        for symbol, first in (("symbol=AA&", 45), ("", 90)):
            found, path = [], f"{API}/trades?{symbol}limit=7"
            answer = http.get(path)
            assert (answer["source"], answer["count"]) == ("memory", 7)
            found += answer["trades"]
            while answer["next"] is not None and len(found) <= first:
                answer = http.get(f"{path}&cursor={answer['next']}")
                found += answer["trades"]
            assert answer["source"] == both_of(shared_store)
            assert len({trade["trade_id"] for trade in found}) == len(found) == first
            times = [trade["timestamp"] for trade in found]
            assert times == sorted(times, reverse=True)
        middle = found[50]["timestamp"]
        older = http.get(f"{API}/trades?limit=100&to={middle}")
        assert older["trades"] == [trade for trade in found if trade["timestamp"] < middle]


def test_a_user_has_all_trades_that_there_were(plan: Plan, shared_store: Store) -> None:
    with Http(plan) as http:
        for asked, count in (("user_id=alice", 90), ("user_id=alice&symbol=BB", 45)):
            path = f"{API}/trades?{asked}&limit=7"
            answer = http.get(path)
            found = answer["trades"]
            while answer["next"] is not None:
                assert len(found) <= count
                answer = http.get(f"{path}&cursor={answer['next']}")
                found += answer["trades"]
            assert answer["source"] == both_of(shared_store)
            assert len({trade["trade_id"] for trade in found}) == len(found) == count
            times = [trade["timestamp"] for trade in found]
            assert times == sorted(times, reverse=True)
            assert {(trade["side"], trade["liquidity"]) for trade in found} == {("buy", "taker")}
            same = http.get(
                f"{API}/users/alice/trades?{asked[14:].lstrip('&')}&limit=7".replace("?&", "?")
            )
            first = http.get(path)
            assert (same["trades"], same["next"]) == (first["trades"], first["next"])
        assert http.get(f"{API}/trades?user_id=bob")["trades"] == []
        assert http.get(f"{API}/users/bob/trades")["trades"] == []
        assert http.get(f"{API}/users/%2561lice/trades")["trades"] == []  # of who is called %61lice
        for path, code in (
            ("users/alice", "NOT_FOUND"),
            ("users/alice/trades/7", "NOT_FOUND"),
            ("users/alice/orders", "NOT_FOUND"),
            ("users//trades", "INVALID_USER_ID"),
            ("users/alice/trades?user_id=bob", "INVALID_REQUEST"),
        ):
            assert http.call("GET", f"{API}/{path}").code == code, path
        assert http.call("POST", f"{API}/users/alice/trades").code == "METHOD_NOT_ALLOWED"


def test_a_user_has_days(plan: Plan, shared_store: Store) -> None:
    with Http(plan) as http:
        answer = http.get(f"{API}/users/alice/days?numbers=string")
        assert (answer["source"], answer["next"]) == (shared_store.kept.name, None)
        sums: dict[str, list[Decimal]] = {}
        for day in answer["days"]:
            assert day["timestamp"] % (86_400 * 10**9) == 0
            of = sums.setdefault(day["symbol"], [Decimal(0)] * 5)
            for place, name in enumerate(("trades", "bought", "sold", "paid", "received")):
                of[place] += Decimal(day[name])
        assert sums == {symbol: [Decimal(TRADES)] * 5 for symbol in ("AA", "BB")}
        one = http.get(f"{API}/users/alice/days?symbol=BB&to={answer['days'][-1]['timestamp']}")
        assert one["days"] == []
        assert http.get(f"{API}/users/bob/days")["days"] == []
        for path, code in (
            ("alice/days?symbol=ZZ", "UNKNOWN_SYMBOL"),
            ("/days", "INVALID_USER_ID"),
        ):
            assert http.call("GET", f"{API}/users/{path}").code == code


def test_how_far_the_history_is_behind_is_told(plan: Plan, shared_store: Store) -> None:
    role = role_of(shared_store)
    with Http(plan) as http:
        caught_up = {"state": "ready", "lag_commands": 0, "lag_ms": 0, "lag_bytes": 0}
        until(lambda: http.get("/health")[role] == caught_up)
        assert f"shardbook_{role}_lag_commands".encode() in http.call("GET", "/metrics").raw


def both_of(store: Store) -> str:
    """Return what is said of an answer of memory and history."""
    return f"memory, {store.kept.name}"


def test_where_the_history_is_away_the_others_answer_and_say_so() -> None:
    store = SqliteStore()
    small = "ended_orders = 4\nring_trades = 16\n"
    with running(make_config(1, 1, store.section + HTTP, engine=small)) as plan, Http(plan) as http:
        with Client(plan.addresses()[0], "alice") as client:
            for _ in range(TRADES):
                client.submit("AA", "sell", 1, "1.00")
                client.submit("AA", "buy", 1, "1.00")
        until(lambda: known(plan, store) == {90})
        aside = plan.history_path.with_suffix(".aside")
        plan.history_path.rename(aside)
        assert http.call("GET", f"{API}/orders/1?user_id=alice").code == "BUSY"
        orders = http.get(f"{API}/orders?user_id=alice")
        assert orders["source"] == "memory"
        assert 4 <= orders["count"] < 90
        trades = http.get(f"{API}/trades")
        assert (trades["source"], trades["count"]) == ("memory, log", TRADES)
        aside.rename(plan.history_path)
        assert http.get(f"{API}/orders/1?user_id=alice")["source"] == "sqlite"
        assert http.get(f"{API}/orders?user_id=alice")["count"] == 90


@pytest.mark.servers
def test_where_a_database_is_away_the_next_history_answers(postgres_store: PostgresStore) -> None:
    sections = f"{SqliteStore.section}timeout_ms = 2000\n{postgres_store.section}{HTTP}"
    small = "ended_orders = 4\nring_trades = 16\n"
    with running(make_config(1, 1, sections, engine=small)) as plan, Http(plan) as http:
        with Client(plan.addresses()[0], "alice") as client:
            for _ in range(TRADES):
                client.submit("AA", "sell", 1, "1.00")
                client.submit("AA", "buy", 1, "1.00")
        for store in (SqliteStore(), postgres_store):
            until(lambda store=store: known(plan, store) == {90})  # type: ignore[misc]
        path = f"{API}/orders/1?user_id=alice"
        aside = plan.history_path.with_suffix(".aside")
        plan.history_path.rename(aside)
        assert http.get(path)["source"] == "postgres"
        trades = http.get(f"{API}/trades")
        assert (trades["source"], trades["count"]) == ("memory, postgres", TRADES)
        with postgres_store.silent():
            trades = http.get(f"{API}/trades")
            assert (trades["source"], trades["count"]) == ("memory, log", TRADES)
        until(lambda: http.call("GET", path).status == 200)
        assert http.get(path)["source"] == "postgres"
        aside.rename(plan.history_path)
        until(lambda: http.get(path)["source"] == "sqlite")


def test_candles_go_on_in_the_history_where_neither_rings_nor_log_have_the_trades() -> None:
    store = SqliteStore()
    small = "ended_orders = 4\nring_trades = 16\n"
    sections = f"{store.section}{HTTP}[persister]\nsegment_bytes = 4096\ncompress = false\n"
    with running(make_config(1, 1, sections, engine=small)) as plan, Http(plan) as http:
        with Client(plan.addresses()[0], "alice") as client:
            for place in range(TRADES):
                client.submit("AA", "sell", 1, f"{1 + place / 100:.2f}")
                client.submit("AA", "buy", 1, "9.00")
        until(lambda: known(plan, store) == {90})
        until(lambda: any(plan.log_dir.glob("trades-*")))
        for path in plan.log_dir.glob("trades-*"):  # as who keeps them elsewhere does
            path.unlink()
        aside = plan.history_path.with_suffix(".aside")
        plan.history_path.rename(aside)
        answer = http.get(f"{API}/candles?symbol=AA&interval=1d")
        assert answer["source"] == "memory"
        assert 0 < sum(candle["trades"] for candle in answer["candles"]) < TRADES
        aside.rename(plan.history_path)
        for interval in ("1m", "1d"):
            answer = http.get(f"{API}/candles?symbol=AA&interval={interval}")
            candles = answer["candles"]
            assert answer["source"] == "memory, sqlite"
            assert sum(candle["trades"] for candle in candles) == TRADES
            assert (candles[0]["open"], candles[-1]["close"]) == (1, Decimal("1.44"))
        later = http.get(f"{API}/candles?symbol=AA&from={candles[0]['timestamp'] + 10**18}")
        assert (later["source"], later["candles"]) == ("memory", [])
