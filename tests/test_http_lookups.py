"""What clients of exchanges look for over REST: an order by their own id, their trades, times, and
the market at a glance; over the seam between rings and log."""

import re
import time
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from engine.plan import Plan
from engine.trade_log.segments import closed_segments
from frontend.gateway.keys import key_section, new_key
from frontend.http.manual import render
from frontend.times import nanoseconds, time_text
from tests.http import API, Http, free_port, http_section, serving
from tests.product import make_config, running, until

ROUNDS = 150
BY_ID = f"{API}/orders/by_client_order_id"
_ids = count(1)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    """A product whose rings hold 64 trades, and whose log has several segments."""
    section = http_section(free_port(), 2, 'max_trade_limit = 500\ndefault_symbol = "DD"')
    config = make_config(2, 4, "\n[persister]\nsegment_bytes = 8192\n" + section)
    engine = msgspec.structs.replace(config.engine, ring_trades=64)
    small = msgspec.structs.replace(config, engine=engine)
    with running(small, tmp_path_factory.mktemp("l")) as plan:
        yield plan


@pytest.fixture
def http(plan: Plan) -> Iterator[Http]:
    with Http(plan) as client:
        yield client
        for user in ("alice", "bob"):
            client.call("DELETE", f"{API}/orders?user_id={user}")


# By client_order_id ------------------------------------------------------------------------------


def test_an_order_is_found_and_cancelled_by_its_users_own_id(http: Http) -> None:
    number = next(_ids)
    order_id = http.order("alice", "sell", 5, 100, client_order_id=number)["order_id"]
    http.order("bob", "sell", 5, 101, client_order_id=number)
    http.order("alice", "sell", 5, 101, client_order_id=next(_ids))
    http.order("alice", "sell", 5, 102, client_order_id=number, symbol="AA")
    http.order("bob", "buy", 2, 100)
    seen = http.get(f"{BY_ID}/{number}?user_id=alice&symbol=DD&numbers=string")["order"]
    assert (seen["order_id"], seen["client_order_id"], seen["user_id"]) == (
        order_id,
        number,
        "alice",
    )
    assert (seen["status"], seen["remaining_quantity"], seen["reason"]) == ("PARTIAL", "3", None)
    by_default = http.get(f"{BY_ID}/{number}?user_id=alice")["order"]
    assert by_default == http.get(f"{API}/orders/{order_id}")["order"]
    gone = http.call("DELETE", f"{BY_ID}/{number}?user_id=alice&symbol=DD").body
    assert (gone["order_id"], gone["status"], gone["filled_quantity"]) == (
        order_id,
        "CANCELLED",
        2,
    )
    ended = http.get(f"{BY_ID}/{number}?user_id=alice")["order"]
    assert (ended["status"], ended["reason"]) == ("CANCELLED", "CANCEL_REQUESTED")
    again = http.call("DELETE", f"{BY_ID}/{number}?user_id=alice")
    assert (again.status, again.code) == (409, "ORDER_NOT_OPEN")
    details = again.body["error"]["details"]
    assert (details["field"], details["order_id"], details["status"]) == (
        "client_order_id",
        order_id,
        "CANCELLED",
    )
    other = http.get(f"{BY_ID}/{number}?user_id=alice&symbol=AA")["order"]
    assert (other["symbol"], other["status"]) == ("AA", "OPEN")


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "field"),
    [
        ("GET", "999999999?user_id=alice", 404, "ORDER_NOT_FOUND", "client_order_id"),
        ("DELETE", "999999999?user_id=alice", 404, "ORDER_NOT_FOUND", "client_order_id"),
        ("GET", "0?user_id=alice", 400, "INVALID_REQUEST", "client_order_id"),
        ("DELETE", f"{2**63}?user_id=alice", 400, "INVALID_REQUEST", "client_order_id"),
        ("GET", "x%20y?user_id=alice", 400, "INVALID_REQUEST", "client_order_id"),
        ("GET", "x?user_id=alice", 404, "ORDER_NOT_FOUND", "client_order_id"),
        ("GET", "7", 400, "INVALID_REQUEST", "user_id"),
        ("DELETE", "7", 400, "INVALID_REQUEST", "user_id"),
        ("GET", "7?user_id=alice&symbol=NOPE", 400, "UNKNOWN_SYMBOL", "symbol"),
        ("DELETE", "7?user_id=alice&symbol=NOPE", 400, "UNKNOWN_SYMBOL", "symbol"),
        ("PATCH", "7?user_id=alice", 405, "METHOD_NOT_ALLOWED", None),
        ("GET", "7/8?user_id=alice", 404, "ORDER_NOT_FOUND", "client_order_id"),
    ],
)
def test_what_is_wrong_with_a_look_up_is_named(
    http: Http, method: str, path: str, status: int, code: str, field: str | None
) -> None:
    reply = http.call(method, f"{BY_ID}/{path}")
    assert (reply.status, reply.code) == (status, code)
    assert reply.body["error"]["details"].get("field") == field


def test_keys_keep_look_ups_and_trades_to_their_user() -> None:
    keys = {user: new_key() for user in ("alice", "bob")}
    sections = "\n".join(key_section(user, key) for user, key in keys.items())
    with serving(1, 'default_symbol = "AA"', sections + "\n") as plan:
        alice, bob = (Http(plan, {"X-API-Key": key}) for key in keys.values())
        with alice, bob:
            order_id = alice.order("alice", "sell", 5, 100, client_order_id=7)["order_id"]
            bob.order("bob", "buy", 2, 100)
            assert alice.get(f"{BY_ID}/7")["order"]["order_id"] == order_id
            assert bob.call("GET", f"{BY_ID}/7").code == "ORDER_NOT_FOUND"
            assert bob.call("DELETE", f"{BY_ID}/7").code == "ORDER_NOT_FOUND"
            for path in (f"{BY_ID}/7?user_id=alice", f"{API}/trades?user_id=alice"):
                assert alice.get(path)
                assert bob.call("GET", path).code == "FORBIDDEN"
                assert bob.call("GET", path.replace("user_id", "%75ser_id")).code == "FORBIDDEN"
            assert bob.get(f"{API}/trades?user_id=bob")["trades"][0]["liquidity"] == "taker"
            assert "liquidity" not in bob.get(f"{API}/trades")["trades"][0]
            with Http(plan) as stranger:
                assert stranger.get(f"{API}/time")["time"]
                assert stranger.call("GET", f"{API}/ticker").code == "UNAUTHORIZED"


# What became of the rest -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "filled", "reason"),
    [
        ({"order_type": "market"}, 6, "MARKET_REMAINDER"),
        ({"order_type": "limit", "price": 70, "time_in_force": "IOC"}, 6, "IOC_REMAINDER"),
        ({"order_type": "limit", "price": 70, "time_in_force": "FOK"}, 0, "FOK_UNFILLED"),
    ],
)
def test_an_order_that_is_not_filled_tells_why(
    http: Http, more: dict[str, Any], filled: int, reason: str
) -> None:
    http.order("alice", "sell", 6, 70)
    order = {"user_id": "bob", "side": "buy", "quantity": 40, **more}
    taken = http.post(f"{API}/orders?numbers=string", order)
    assert (taken["status"], taken["filled_quantity"]) == ("CANCELLED", str(filled))
    assert (taken["remaining_quantity"], taken["cancelled_quantity"]) == ("0", str(40 - filled))
    assert taken["reason"] == reason
    assert taken["reason_text"]
    assert http.get(f"{API}/orders/{taken['order_id']}")["order"]["reason"] == reason
    (again,) = http.post(f"{API}/orders/batch", {"orders": [order]})["results"]
    assert (again["reason"], again["cancelled_quantity"]) == (reason, 40)


def test_an_order_that_is_filled_or_rests_tells_of_no_reason(http: Http) -> None:
    rests = http.order("alice", "sell", 6, 70)
    filled = http.order("bob", "buy", 6)
    for answer in (rests, filled):
        assert not {"reason", "reason_text", "cancelled_quantity"} & set(answer)


# Times -------------------------------------------------------------------------------------------


def test_the_clock_is_told(http: Http) -> None:
    before = time.time_ns()
    answer = http.get(f"{API}/time")
    assert before <= answer["timestamp"] <= time.time_ns()
    assert nanoseconds(answer["time"]) == answer["timestamp"]


def test_times_may_be_dates(http: Http) -> None:
    user = f"dates-{next(_ids)}"
    ids = [http.order(user, "sell", 1, 200, symbol="CC")["order_id"] for _ in range(4)]
    http.order(user, "buy", 4, 200, symbol="CC")
    entered = [http.get(f"{API}/orders/{order_id}")["order"]["timestamp"] for order_id in ids]
    window = f"from={time_text(entered[1])}&to={time_text(entered[3])}"
    found = http.get(f"{API}/orders?user_id={user}&side=sell&{window}")["orders"]
    assert [order["order_id"] for order in found] == ids[2:0:-1]
    every = http.get(f"{API}/trades?user_id={user}")["trades"]
    edge = time_text(every[0]["timestamp"])
    assert http.get(f"{API}/trades?user_id={user}&to={edge}")["trades"] == []
    zoned = quote(edge.replace("Z", "+00:00"))
    assert http.get(f"{API}/trades?user_id={user}&from={zoned}")["trades"] == every
    today = time_text(time.time_ns())[:10]
    assert http.get(f"{API}/candles?symbol=CC&from={today}")["count"] >= 1
    assert http.get(f"{API}/candles?symbol=CC&to=1970-01-01")["count"] == 0


@pytest.mark.parametrize("path", ["trades", "orders", "candles"])
@pytest.mark.parametrize("value", ["yesterday", "-1", "1969-12-31", "2026-02-30", f"{2**63}", ""])
def test_what_is_no_time_is_named(http: Http, path: str, value: str) -> None:
    for field in ("from", "to"):
        reply = http.call("GET", f"{API}/{path}?{field}={value}")
        assert (reply.status, reply.code) == (400, "INVALID_REQUEST")
        assert reply.body["error"]["details"]["field"] == field


# A user's trades, and the market at a glance -----------------------------------------------------


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


@pytest.fixture(scope="module")
def traded(plan: Plan) -> dict[str, list[tuple[int, str, str, int]]]:
    """Trade among three users over two shards; return order, side, part and price, newest first."""
    mine: dict[str, list[tuple[int, str, str, int]]] = {}
    with Http(plan) as http:
        for n in range(ROUNDS):
            symbol = ("AA", "BB")[n % 2]
            maker, taker = [("ann", "ben"), ("ben", "cid"), ("cid", "cid")][n % 3]
            side, other = [("sell", "buy"), ("buy", "sell")][n % 2]
            price = 50 + n % 7
            made = http.order(maker, side, 1 + n % 3, price, symbol=symbol)["order_id"]
            took = http.order(taker, other, 1 + n % 3, price, symbol=symbol)["order_id"]
            if maker != taker:
                mine.setdefault(maker, []).insert(0, (made, side, "maker", price))
            mine.setdefault(taker, []).insert(0, (took, other, "taker", price))
    until(lambda: len(closed_segments(plan.log_dir)) > 1)
    return mine


@pytest.mark.parametrize("limit", [3, 500])
@pytest.mark.parametrize("user", ["ann", "ben", "cid"])
def test_a_users_trades_are_all_of_theirs_and_no_others(
    http: Http, traded: dict[str, list[tuple[int, str, str, int]]], user: str, limit: int
) -> None:
    found = pages(http, f"user_id={user}&limit={limit}")
    seen = [(t["order_id"], t["side"], t["liquidity"], t["price"]) for t in found]
    assert sorted(seen) == sorted(traded[user])
    for symbol in ("AA", "BB"):
        some = pages(http, f"user_id={user}&limit={limit}&symbol={symbol}")
        assert some == [trade for trade in found if trade["symbol"] == symbol]
        ids = [trade["trade_id"] for trade in some]
        assert ids == sorted(ids, reverse=True)
    for trade in found:
        order = "buy_order_id" if trade["side"] == "buy" else "sell_order_id"
        assert trade[order] == trade["order_id"]
        assert (trade["taker_side"] == trade["side"]) == (trade["liquidity"] == "taker")


def test_who_never_traded_has_no_trades(http: Http) -> None:
    answer = http.get(f"{API}/trades?user_id=nobody")
    assert (answer["trades"], answer["next"]) == ([], None)


def test_a_trade_is_its_users_as_soon_as_it_is_answered(http: Http) -> None:
    for _ in range(50):
        http.order("alice", "sell", 1, 300, symbol="BB")
        took = http.order("eve", "buy", 1, 300, symbol="BB")
        newest = http.get(f"{API}/trades?user_id=eve&limit=1")["trades"]
        assert [t["trade_id"] for t in newest] == [t["trade_id"] for t in took["trades"]]


def test_the_ticker_tells_last_best_and_a_day(
    http: Http, traded: dict[str, list[tuple[int, str, str, int]]]
) -> None:
    every = pages(http, "symbol=AA&limit=500")
    http.order("alice", "buy", 3, "40.5", symbol="AA")
    http.order("alice", "sell", 2, "60.25", symbol="AA")
    for _ in range(2):
        ticker = http.get(f"{API}/ticker?symbol=AA")
        assert ticker["last_price"] == every[0]["price"]
        assert ticker["open_price"] == every[-1]["price"]
        prices = [trade["price"] for trade in every]
        assert (ticker["high_price"], ticker["low_price"]) == (max(prices), min(prices))
        assert ticker["volume"] == sum(trade["quantity"] for trade in every)
        assert ticker["trades"] == len(every)
        assert ticker["best_bid"] == {"price": Decimal("40.5"), "quantity": 3}
        assert ticker["best_ask"] == {"price": Decimal("60.25"), "quantity": 2}
        since = ticker["timestamp"] - ticker["from"]
        assert 86_400 * 10**9 <= since < 86_460 * 10**9
        assert ticker["from"] % (60 * 10**9) == 0
    text = http.get(f"{API}/ticker?symbol=AA&numbers=string")
    assert text["last_price"] == f"{every[0]['price']}"


def test_a_market_without_trades_has_a_ticker_of_nothing(tmp_path: Path) -> None:
    with serving(extra='default_symbol = "AA"', directory=tmp_path) as plan, Http(plan) as http:
        ticker = http.get(f"{API}/ticker")
        assert (ticker["symbol"], ticker["volume"], ticker["trades"]) == ("AA", 0, 0)
        for name in ("last", "open", "high", "low"):
            assert ticker[f"{name}_price"] is None
        assert (ticker["best_bid"], ticker["best_ask"]) == (None, None)
        assert http.call("GET", f"{API}/ticker?symbol=NOPE").code == "UNKNOWN_SYMBOL"


# The manual ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", API])
def test_the_manual_is_served_as_plain_pages(http: Http, prefix: str) -> None:
    index = http.call("GET", f"{prefix}/docs").raw.decode()
    names = re.findall(r'<a href="docs/([a-z]+)">', index)
    assert {"limits", "reading"} <= set(names)
    for name in names:
        page = http.call("GET", f"{prefix}/docs/{name}")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        text = page.raw.decode()
        assert "<h1>" in text
        assert f'<a href="{name}">' in text
        assert not re.search(r"<script|<img|<link|\bsrc=", text)
    assert (
        "<td><code>frontend.max_sessions</code>"
        in http.call("GET", f"{prefix}/docs/limits").raw.decode()
    )
    for name in ("nope", "..%2Flimits", "limits.md", ""):
        reply = http.call("GET", f"{prefix}/docs/{name}")
        assert (reply.status, reply.code) == (404, "NOT_FOUND")


def test_what_a_page_says_stays_text() -> None:
    text = "# A & <b>\n\n<script>x</script> [bad](javascript:x) [ours](limits.md#top)\n\n"
    text += "<!-- a mark -->\n\n|a|\n|-|\n|`<i>`|\n"
    page = render(text).decode()
    assert "<title>A &amp; &lt;b&gt;</title>" in page
    assert "<script" not in page
    assert "a mark" not in page
    assert 'href="javascript' not in page
    assert '<a href="limits#top">ours</a>' in page
    assert "<td><code>&lt;i&gt;</code></td>" in page
