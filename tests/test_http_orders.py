"""Order entry over REST: every row and code, over real HTTP, from two workers."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest

from engine.plan import Plan
from tests.http import API, Http, serving
from tests.nodes import KINDS, serving_by

_ids = count(1)
LIMIT = {"user_id": "u", "order_type": "limit", "side": "buy", "price": 1, "quantity": 1}


@pytest.fixture(scope="module", params=KINDS)
def plan(request: pytest.FixtureRequest) -> Iterator[Plan]:
    extra = 'default_symbol = "AA"\nmax_batch_orders = 50\nmax_body_bytes = 20000'
    with serving_by(request.param, extra) as p:
        yield p


@pytest.fixture
def http(plan: Plan) -> Iterator[Http]:
    with Http(plan) as client:
        yield client
        for user in ("alice", "bob", "carol", "u"):
            client.call("DELETE", f"{API}/orders?user_id={user}")


def test_an_order_rests_then_trades_and_both_sides_see_it(http: Http) -> None:
    rested = http.order("alice", "buy", 10, 100.25, client_order_id=next(_ids))
    assert rested["status"] == "OPEN"
    assert (rested["filled_quantity"], rested["remaining_quantity"]) == (0, 10)
    assert rested["trades"] == []
    taken = http.order("bob", "SELL", 4, "100.20")
    (trade,) = taken["trades"]
    assert taken["status"] == "FILLED"
    assert (taken["filled_quantity"], taken["remaining_quantity"]) == (4, 0)
    assert trade["buy_order_id"] == rested["order_id"]
    assert trade["sell_order_id"] == taken["order_id"]
    assert "client_order_id" not in taken, "it has none"
    assert (trade["price"], trade["quantity"]) == (Decimal("100.25"), 4)
    assert trade["timestamp"] > 10**18
    seen = http.get(f"{API}/orders/{rested['order_id']}")["order"]
    assert seen["status"] == "PARTIAL"
    assert (seen["quantity"], seen["filled_quantity"], seen["remaining_quantity"]) == (10, 4, 6)
    assert (seen["user_id"], seen["symbol"], seen["side"]) == ("alice", "AA", "BUY")
    assert (seen["order_type"], seen["price"]) == ("LIMIT", Decimal("100.25"))
    assert seen["client_order_id"] == rested["client_order_id"]


def test_an_order_that_trades_with_many_shows_all_trades_in_order(http: Http) -> None:
    makers = [http.order("alice", "sell", 2, 50 + n)["order_id"] for n in range(20)]
    taken = http.order("bob", "buy", 41, 100)
    assert [trade["sell_order_id"] for trade in taken["trades"]] == makers
    assert [trade["price"] for trade in taken["trades"]] == [50 + n for n in range(20)]
    ids = [trade["trade_id"] for trade in taken["trades"]]
    assert ids == list(range(ids[0], ids[0] + 20))
    assert (taken["status"], taken["remaining_quantity"]) == ("PARTIAL", 1)


def test_a_market_order_ends_cancelled_where_the_book_ran_out(http: Http) -> None:
    http.order("alice", "sell", 6, 70)
    taken = http.order("bob", "buy", 40)
    assert (taken["status"], taken["filled_quantity"]) == ("CANCELLED", 6)
    assert http.order("bob", "buy", 1)["status"] == "CANCELLED"


def test_an_order_of_a_batch_is_told_as_much_as_one_by_itself(http: Http) -> None:
    http.order("alice", "sell", 2, 60)
    order = LIMIT | {"price": 60, "quantity": 5}
    number = next(_ids)
    orders = [order | {"client_order_id": number}, order | {"side": "sell", "quantity": 4}]
    found = http.post(f"{API}/orders/batch", {"orders": orders})["results"]
    alone = [http.get(f"{API}/orders/{result['order_id']}")["order"] for result in found]
    assert [(r["status"], r["filled_quantity"], r["remaining_quantity"]) for r in found] == [
        ("PARTIAL", 2, 3),
        ("PARTIAL", 3, 1),
    ]
    assert [[trade["quantity"] for trade in result["trades"]] for result in found] == [[2], [3]]
    assert (found[0]["client_order_id"], "client_order_id" in found[1]) == (number, False)
    assert [order["status"] for order in alone] == ["FILLED", "PARTIAL"]


@pytest.mark.parametrize("force", ["IOC", "ioc", "FOK", "Fok"])
def test_times_in_force(http: Http, force: str) -> None:
    http.order("alice", "sell", 5, 70)
    taken = http.order("bob", "buy", 8, 70, time_in_force=force)
    assert taken["status"] == "CANCELLED"
    assert taken["filled_quantity"] == (5 if force.upper() == "IOC" else 0)


@pytest.mark.parametrize("side", ["buy", "BUY", "Buy", "bUY"])
@pytest.mark.parametrize("kind", ["limit", "LIMIT", "Limit"])
def test_words_may_be_in_any_case(http: Http, side: str, kind: str) -> None:
    assert http.post(f"{API}/orders", LIMIT | {"side": side, "order_type": kind})["order_id"]


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("0.30", "0.30"),
        ("1e2", "100.00"),
        ("1E+2", "100.00"),
        ('"1.5"', "1.50"),
        ("90071992547409.92", "90071992547409.92"),
        ("0.1000000000000000000000", "0.10"),
        ("70.07", "70.07"),
    ],
)
def test_a_price_is_taken_exactly_as_written(http: Http, text: str, exact: str) -> None:
    body = json.dumps(LIMIT | {"symbol": "DD"}).replace('"price": 1', f'"price": {text}').encode()
    order_id = http.call("POST", f"{API}/orders", body).body["order_id"]
    reply = http.call("GET", f"{API}/orders/{order_id}")
    assert f'"price":{exact},'.encode() in reply.raw
    text_reply = http.call("GET", f"{API}/orders/{order_id}?numbers=string")
    assert f'"price":"{exact}",'.encode() in text_reply.raw
    assert b'"quantity":"1"' in text_reply.raw


LONG = {
    "zeros": "81." + "0" * 5_000,
    "digits": "9" * 5_000,
    "power": "1e" + "9" * 5_000,
    "text": '"' + "9" * 5_000 + '"',
    "escapes": '"' + r"\u0039" * 900 + '"',
    "hundred": "1" + "0" * 100,
}
STRANGE = [
    '"1_0"',
    '"\uff11"',
    '" 1"',
    '"1 "',
    '"0x1"',
    '"\ud800"',
    "[[1]]",
    "true",
    "{}",
    '""',
    "1e400",
]


@pytest.mark.parametrize("text", [*LONG.values(), *STRANGE], ids=[*LONG, *map(repr, STRANGE)])
@pytest.mark.parametrize("field", ["price", "quantity"])
def test_a_number_is_short_and_ascii(http: Http, field: str, text: str) -> None:
    """And the orders of a batch beside a wrong one are told what became of them."""
    order = LIMIT | {"price": 81}
    wrong = json.dumps(order | {field: 1234}).replace("1234", text)
    path = f"{API}/orders"
    entered = http.post(path, order)["order_id"]
    batch = f'{{"orders": [{json.dumps(order)}, {wrong}, {json.dumps(order)}]}}'
    changed = f'{{"{field}": {text}}}'
    for found in (
        http.call("POST", path, wrong.encode("utf-8", "surrogatepass")),
        http.call("PATCH", f"{path}/{entered}", changed.encode("utf-8", "surrogatepass")),
    ):
        assert (found.status, found.code) == (400, f"INVALID_{field.upper()}")
        assert found.body["error"]["details"]["field"] == field
        assert len(found.body["error"]["message"]) < 250
    found = http.call("POST", f"{path}/batch", batch.encode("utf-8", "surrogatepass"))
    results = found.body["results"]
    assert [result["success"] for result in results] == [True, False, True]
    assert results[1]["error"]["code"] == f"INVALID_{field.upper()}"
    market = json.dumps(order | {"order_type": "market", "price": 1234}).replace("1234", text)
    assert http.call("POST", path, market.encode("utf-8", "surrogatepass")).code == "INVALID_PRICE"


def test_a_market_order_may_say_that_it_has_no_price(http: Http) -> None:
    for price in (0, 0.0, "0.00", None):
        order = LIMIT | {"order_type": "market", "price": price}
        assert http.post(f"{API}/orders", order)["status"] == "CANCELLED"


@pytest.mark.parametrize(
    "path",
    [
        f"{API}/orders?side={'x' * 60}",
        f"{API}/orders?status={'x' * 60}",
        f"{API}/orders?{'x' * 3_000}=1",
        f"{API}/orders?numbers={'x' * 3_000}",
        f"{API}/orderbook?symbol={'x' * 3_000}",
        f"{API}/orderbook?depth={'9' * 3_000}",
        f"{API}/orders/{'9' * 3_000}",
        f"{API}/candles?interval={'x' * 60}",
    ],
)
def test_an_error_repeats_little_of_what_was_asked(http: Http, path: str) -> None:
    error = http.call("GET", path).body["error"]
    assert len(error["message"]) < 250
    assert len(error["details"]["field"]) <= 100


def test_words_of_a_question_may_be_in_any_case(http: Http) -> None:
    order_id = http.order("alice", "buy", 1, 1)["order_id"]
    for words in ("side=Buy&status=oPEN", "side=BUY&status=open&numbers=STRING"):
        (found,) = http.get(f"{API}/orders?user_id=alice&{words}")["orders"]
        assert found["order_id"] == order_id
        assert found["price"] == ("1.00" if "STRING" in words else 1)
    assert http.get(f"{API}/candles?interval=1D&numbers=Number")["interval"] == "1d"
    for words in ("side=\u017fell", "status=\ufb01lled", "numbers=\u017fTRING"):
        reply = http.call("GET", f"{API}/orders?{quote(words, safe='=')}")
        assert (reply.status, reply.body["success"]) == (400, False)


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in LIMIT.items() if name not in names}


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", "INVALID_REQUEST", None),
        (b"{", "INVALID_REQUEST", None),
        (b"\xff\xfe", "INVALID_REQUEST", None),
        (b"[" * 15_000, "INVALID_REQUEST", ""),
        (b"[]", "INVALID_REQUEST", ""),
        (LIMIT | {"qty": 1}, "INVALID_REQUEST", "qty"),
        (without("user_id"), "INVALID_REQUEST", "user_id"),
        (without("side"), "INVALID_REQUEST", "side"),
        (without("order_type"), "INVALID_REQUEST", "order_type"),
        (without("quantity"), "INVALID_REQUEST", "quantity"),
        (LIMIT | {"user_id": ""}, "INVALID_USER_ID", "user_id"),
        (LIMIT | {"user_id": "x" * 65}, "INVALID_USER_ID", "user_id"),
        (LIMIT | {"user_id": 7}, "INVALID_USER_ID", "user_id"),
        (LIMIT | {"side": "sel"}, "INVALID_SIDE", "side"),
        (LIMIT | {"side": 1}, "INVALID_SIDE", "side"),
        (LIMIT | {"order_type": "pegged"}, "INVALID_ORDER_TYPE", "order_type"),
        (LIMIT | {"time_in_force": "GTX"}, "INVALID_TIME_IN_FORCE", "time_in_force"),
        (LIMIT | {"post_only": 1}, "INVALID_POST_ONLY", "post_only"),
        (
            LIMIT | {"post_only": True, "time_in_force": "IOC"},
            "INVALID_POST_ONLY",
            "post_only",
        ),
        (without("price"), "INVALID_PRICE", "price"),
        (LIMIT | {"price": 0}, "INVALID_PRICE", "price"),
        (LIMIT | {"price": -1}, "INVALID_PRICE", "price"),
        (LIMIT | {"price": 1.001}, "INVALID_PRICE", "price"),
        (LIMIT | {"price": "1,5"}, "INVALID_PRICE", "price"),
        (LIMIT | {"price": "NaN"}, "INVALID_PRICE", "price"),
        (LIMIT | {"price": "Infinity"}, "INVALID_PRICE", "price"),
        (LIMIT | {"price": "1e999999999"}, "INVALID_PRICE", "price"),
        (LIMIT | {"price": 10**30}, "INVALID_PRICE", "price"),
        (LIMIT | {"price": [1]}, "INVALID_PRICE", "price"),
        (LIMIT | {"price": True}, "INVALID_PRICE", "price"),
        (LIMIT | {"order_type": "market"}, "INVALID_PRICE", "price"),
        (LIMIT | {"quantity": 0}, "INVALID_QUANTITY", "quantity"),
        (LIMIT | {"quantity": -5}, "INVALID_QUANTITY", "quantity"),
        (LIMIT | {"quantity": 1.5}, "INVALID_QUANTITY", "quantity"),
        (LIMIT | {"quantity": 2**60}, "INVALID_QUANTITY", "quantity"),
        (LIMIT | {"quantity": None}, "INVALID_QUANTITY", "quantity"),
        (LIMIT | {"symbol": "NOPE"}, "UNKNOWN_SYMBOL", "symbol"),
        (LIMIT | {"client_order_id": -1}, "INVALID_REQUEST", "client_order_id"),
        (LIMIT | {"client_order_id": 2**63}, "INVALID_REQUEST", "client_order_id"),
    ],
)
def test_what_is_wrong_with_an_order_is_named(
    http: Http, body: Any, code: str, field: str | None
) -> None:
    reply = http.call("POST", f"{API}/orders", body)
    assert (reply.status, reply.code) == (400, code), reply.body
    assert reply.body["success"] is False
    error = reply.body["error"]
    assert error["details"].get("field") == field
    if field:
        assert error["details"]["rule"]
        assert error["message"] == f"{field}: {error['details']['rule']}"


def test_a_symbol_must_be_named_where_there_is_no_default() -> None:
    with serving(workers=1) as plan, Http(plan) as http:
        reply = http.call("POST", f"{API}/orders", LIMIT)
        assert (reply.status, reply.code) == (400, "INVALID_REQUEST")
        assert reply.body["error"]["details"] == {"field": "symbol", "rule": "must be given"}
        assert http.post(f"{API}/orders", LIMIT | {"symbol": "BB"})["status"] == "OPEN"


def test_a_repeated_client_order_id_is_a_conflict_that_names_the_first(http: Http) -> None:
    number = 10**6 + next(_ids)
    first = http.order("alice", "buy", 1, 1, client_order_id=number)
    body = LIMIT | {"user_id": "alice", "client_order_id": number}
    reply = http.call("POST", f"{API}/orders", body)
    assert (reply.status, reply.code) == (409, "DUPLICATE_CLIENT_ORDER_ID")
    assert reply.body["error"]["details"]["order_id"] == first["order_id"]


def test_a_post_only_order_that_would_trade_is_a_conflict(http: Http) -> None:
    http.order("alice", "sell", 1, 60)
    body = LIMIT | {"price": 60, "post_only": True}
    reply = http.call("POST", f"{API}/orders", body)
    assert (reply.status, reply.code) == (409, "POST_ONLY_WOULD_TRADE")
    assert http.order("bob", "buy", 1, 59, post_only=True)["status"] == "OPEN"


def test_replacing_changes_price_and_quantity_and_may_trade(http: Http) -> None:
    rested = http.order("alice", "buy", 10, 40)
    path = f"{API}/orders/{rested['order_id']}"
    changed = http.call("PATCH", path, {"price": "41.5"}).body
    assert (changed["status"], changed["remaining_quantity"]) == ("OPEN", 10)
    http.order("bob", "sell", 3, 45)
    traded = http.call("PATCH", path, {"price": 45, "quantity": 8}).body
    assert (traded["status"], traded["filled_quantity"]) == ("PARTIAL", 3)
    assert traded["remaining_quantity"] == 5
    assert len(traded["trades"]) == 1
    reply = http.call("PATCH", path, {"quantity": 2})
    assert (reply.status, reply.code) == (409, "ALREADY_FILLED")
    reply = http.call("PATCH", path, {})
    assert (reply.status, reply.code) == (400, "INVALID_REQUEST")
    reply = http.call("PATCH", path, {"price": 0})
    assert (reply.status, reply.code) == (400, "INVALID_PRICE")


def test_cancelling_one_order_and_what_can_no_longer_be_cancelled(http: Http) -> None:
    rested = http.order("alice", "buy", 10, 40)
    path = f"{API}/orders/{rested['order_id']}"
    reply = http.call("DELETE", f"{path}?user_id=bob")
    assert (reply.status, reply.code) == (404, "ORDER_NOT_FOUND")
    gone = http.call("DELETE", path).body
    assert (gone["order_id"], gone["status"]) == (rested["order_id"], "CANCELLED")
    reply = http.call("DELETE", path)
    assert (reply.status, reply.code) == (409, "ORDER_NOT_OPEN")
    assert reply.body["error"]["details"]["status"] == "CANCELLED"
    for method in ("GET", "DELETE"):
        reply = http.call(method, f"{API}/orders/{2**45 + 10**9}")
        assert (reply.status, reply.code) == (404, "ORDER_NOT_FOUND")
    for text in ("0", "x", str(2**53), "-1", "1.5", ""):
        reply = http.call("DELETE", f"{API}/orders/{text}")
        assert (reply.status, reply.code) == (400, "INVALID_ORDER_ID")


def test_cancelling_all_orders_of_a_user_in_one_symbol_or_in_all(http: Http) -> None:
    for symbol in ("AA", "AA", "BB", "CC"):
        http.order("carol", "buy", 1, 1, symbol=symbol)
    http.order("alice", "buy", 1, 1)
    reply = http.call("DELETE", f"{API}/orders?user_id=carol&symbol=AA")
    assert reply.body["cancelled"] == 2
    assert http.call("DELETE", f"{API}/orders?user_id=carol").body["cancelled"] == 2
    left = http.get(f"{API}/orders?user_id=alice&status=open")
    assert left["count"] == 1
    reply = http.call("DELETE", f"{API}/orders")
    assert (reply.status, reply.code) == (400, "INVALID_REQUEST")


def test_a_batch_judges_each_order_by_itself(http: Http) -> None:
    orders = [
        LIMIT | {"user_id": "alice", "side": "sell", "price": 30, "quantity": 2},
        LIMIT | {"quantity": 0},
        LIMIT | {"user_id": "bob", "price": 30, "quantity": 3, "client_order_id": next(_ids)},
        7,
        LIMIT | {"symbol": "NOPE"},
        LIMIT | {"symbol": "BB"},
    ]
    reply = http.post(f"{API}/orders/batch", {"orders": orders})
    assert reply["summary"] == {"total": 6, "successful": 3, "failed": 3}
    results = reply["results"]
    assert [item["index"] for item in results] == list(range(6))
    assert [item["success"] for item in results] == [True, False, True, False, False, True]
    assert results[1]["error"]["code"] == "INVALID_QUANTITY"
    assert results[3]["error"]["code"] == "INVALID_REQUEST"
    assert results[4]["error"]["code"] == "UNKNOWN_SYMBOL"
    assert (results[2]["status"], results[2]["filled_quantity"]) == ("PARTIAL", 2)
    assert results[2]["trades"][0]["sell_order_id"] == results[0]["order_id"]


@pytest.mark.parametrize("orders", [[], [LIMIT] * 51, 3, None])
def test_a_batch_has_a_bound(http: Http, orders: Any) -> None:
    reply = http.call("POST", f"{API}/orders/batch", {"orders": orders})
    assert (reply.status, reply.code) == (400, "INVALID_REQUEST")
    assert reply.body["error"]["details"]["field"] == "orders"
    assert http.post(f"{API}/orders/batch", {"orders": [LIMIT] * 50})["summary"]["failed"] == 0


def test_a_body_beyond_the_bound_is_refused(http: Http) -> None:
    reply = http.call("POST", f"{API}/orders", b" " * 20_001)
    assert (reply.status, reply.code) == (413, "BODY_TOO_LARGE")
    assert http.call("POST", f"{API}/orders", b" " * 20_000).status == 400


def test_a_read_after_the_reply_sees_the_write_whichever_worker_answers(plan: Plan) -> None:
    def trade(number: int) -> None:
        with Http(plan) as writer, Http(plan) as reader:
            user = f"reader-{number}"
            for _ in range(40):
                order_id = writer.order(user, "buy", 2, 1 + number, symbol="CC")["order_id"]
                seen = reader.get(f"{API}/orders/{order_id}")["order"]
                assert (seen["status"], seen["user_id"]) == ("OPEN", user)
                assert writer.call("DELETE", f"{API}/orders/{order_id}").status == 200
                seen = reader.get(f"{API}/orders/{order_id}")["order"]
                assert seen["status"] == "CANCELLED"

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(trade, range(6)))


def test_an_order_told_open_is_done_although_another_trades_with_it_at_once(plan: Plan) -> None:
    """What a reply says is what its own command did, not what came after it."""

    def trade(number: int) -> list[dict[str, Any]]:
        side = "buy" if number % 2 else "sell"
        with Http(plan) as http:
            return [http.order(f"pair-{number}", side, 1, 77, symbol="DD") for _ in range(100)]

    with ThreadPoolExecutor(4) as pool:
        answers = [answer for some in pool.map(trade, range(4)) for answer in some]
    taken = [answer for answer in answers if answer["trades"]]
    assert all(answer["status"] == "FILLED" for answer in taken)
    assert all(answer["status"] == "OPEN" for answer in answers if not answer["trades"])
    assert len(taken) == 200
