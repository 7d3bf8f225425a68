"""Reads over REST: books, orders, instruments, health, metrics and the description."""

import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import count

import pytest

from engine.plan import Plan
from tests.http import API, Http
from tests.nodes import KINDS, serving_by
from tests.product import until

_users = count(1)


@pytest.fixture(scope="module", params=KINDS)
def plan(request: pytest.FixtureRequest) -> Iterator[Plan]:
    extra = 'default_symbol = "AA"\ndefault_depth = 3\nmax_depth = 10\nmax_order_limit = 20'
    with serving_by(request.param, extra + "\ndefault_order_limit = 5") as running:
        yield running


@pytest.fixture
def http(plan: Plan) -> Iterator[Http]:
    with Http(plan) as client:
        yield client
        for user in ("maker", "taker"):
            client.call("DELETE", f"{API}/orders?user_id={user}")


def fill_book(http: Http) -> None:
    for n in range(5):
        http.order("maker", "buy", 2 + n, f"{100 - n}.00")
        http.order("maker", "sell", 1, f"{101 + n}.01")
        http.order("maker", "sell", 1, f"{101 + n}.01")


def test_the_book_shows_levels_best_first_with_spread_and_middle(http: Http) -> None:
    fill_book(http)
    book = http.get(f"{API}/orderbook?depth=2")
    assert book["symbol"] == "AA"
    assert book["bids"] == [
        {"price": 100, "quantity": 2, "order_count": 1},
        {"price": 99, "quantity": 3, "order_count": 1},
    ]
    assert book["asks"][0] == {"price": Decimal("101.01"), "quantity": 2, "order_count": 2}
    assert book["spread"] == Decimal("1.01")
    assert book["mid_price"] == Decimal("100.505")
    assert book["sequence"] > 0
    assert len(http.get(f"{API}/orderbook")["bids"]) == 3
    assert len(http.get(f"{API}/orderbook?depth=10&symbol=AA")["asks"]) == 5
    top = http.get(f"{API}/orderbook/top?numbers=string")
    assert top["best_bid"] == {"price": "100.00", "quantity": "2"}
    assert top["best_ask"] == {"price": "101.01", "quantity": "2"}
    assert (top["spread"], top["mid_price"]) == ("1.01", "100.505")


def test_an_empty_book_has_no_middle(http: Http) -> None:
    book = http.get(f"{API}/orderbook?symbol=BB")
    assert (book["bids"], book["asks"]) == ([], [])
    assert book["spread"] is None
    top = http.get(f"{API}/orderbook/top?symbol=BB")
    assert (top["best_bid"], top["best_ask"], top["mid_price"]) == (None, None, None)


@pytest.mark.parametrize(
    ("path", "code", "field"),
    [
        ("/orderbook?symbol=NOPE", "UNKNOWN_SYMBOL", "symbol"),
        ("/orderbook?depth=0", "INVALID_REQUEST", "depth"),
        ("/orderbook?depth=11", "INVALID_REQUEST", "depth"),
        ("/orderbook?depth=x", "INVALID_REQUEST", "depth"),
        ("/orderbook?depht=3", "INVALID_REQUEST", "depht"),
        ("/orderbook?depth=3&depth=4", "INVALID_REQUEST", None),
        ("/orderbook?depth", "INVALID_REQUEST", None),
        ("/orderbook?symbol=%FF", "INVALID_REQUEST", None),
        ("/orderbook?numbers=float", "INVALID_REQUEST", "numbers"),
        ("/orders?limit=21", "INVALID_REQUEST", "limit"),
        ("/orders?status=new", "INVALID_REQUEST", "status"),
        ("/orders?side=up", "INVALID_SIDE", "side"),
        ("/orders?symbol=NOPE", "UNKNOWN_SYMBOL", "symbol"),
        ("/orders/0", "INVALID_ORDER_ID", "order_id"),
    ],
)
def test_what_is_wrong_with_a_query_is_named(
    http: Http, path: str, code: str, field: str | None
) -> None:
    reply = http.call("GET", API + path)
    assert (reply.status, reply.code) == (400, code)
    assert reply.body["error"]["details"].get("field") == field


def test_paths_and_methods_that_are_not_there(http: Http) -> None:
    for path in ("/none", "/orders", "/api/v2/orders", f"{API}/order", "/orderbook"):
        reply = http.call("GET", path)
        assert (reply.status, reply.code) == (404, "NOT_FOUND")
    reply = http.call("PUT", f"{API}/orders", b"{}")
    assert (reply.status, reply.code) == (405, "METHOD_NOT_ALLOWED")
    assert reply.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, POST"
    assert http.call("POST", f"{API}/orders/7", b"{}").status == 405


def test_orders_of_a_user_are_filtered_newest_first(http: Http) -> None:
    user = f"filter-{next(_users)}"
    ids = [http.order(user, "buy", 1, 1 + n, symbol="CC")["order_id"] for n in range(6)]
    sold = http.order(user, "sell", 3, 200, symbol="DD")["order_id"]
    http.call("DELETE", f"{API}/orders/{ids[0]}")
    http.order("taker", "buy", 1, 200, symbol="DD")

    def listed(query: str) -> list[int]:
        answer = http.get(f"{API}/orders?user_id={user}{query}")
        assert answer["count"] == len(answer["orders"])
        return [order["order_id"] for order in answer["orders"]]

    assert listed("") == [sold, *ids[:1:-1]][:5]
    assert listed("&limit=20") == [sold, *ids[::-1]]
    assert listed("&symbol=CC&limit=2") == ids[:3:-1]
    assert listed("&side=SELL") == [sold]
    assert listed("&side=buy&status=cancelled") == [ids[0]]
    assert listed("&status=Partial") == [sold]
    assert listed("&status=OPEN") == ids[:0:-1]
    assert listed("&status=rejected") == []
    everybody = http.get(f"{API}/orders?limit=20")["orders"]
    assert {"taker", user} <= {order["user_id"] for order in everybody}
    assert len(everybody) <= 20


def test_instruments_are_told_with_their_limits(http: Http) -> None:
    answer = http.get(f"{API}/symbols?numbers=string")
    assert answer["default_symbol"] == "AA"
    assert [view["symbol"] for view in answer["symbols"]] == ["AA", "BB", "CC", "DD"]
    first = answer["symbols"][0]
    assert (first["tick_size"], first["lot_size"]) == ("0.01", "1")
    assert (first["min_price"], first["max_price"]) == ("0.01", "90071992547409.92")


@pytest.mark.parametrize("prefix", ["", API])
def test_health_ready_metrics_and_docs_have_both_paths(http: Http, prefix: str) -> None:
    health = http.get(f"{prefix}/health")
    assert health["status"] == "healthy"
    assert health["version"]
    assert health["uptime_s"] > 0
    assert http.get(f"{prefix}/ready")["shards"] == 2
    docs = http.call("GET", f"{prefix}/docs")
    assert docs.headers["content-type"].startswith("text/html")
    assert b"/api/v1/orders/batch" in docs.raw
    assert b"http://" not in docs.raw.replace(b"http://127", b"")
    reply = http.call("GET", f"{prefix}/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")


def samples(http: Http) -> dict[str, float]:
    """Return every figure by name and labels, having checked the format."""
    raw = http.call("GET", "/metrics").raw.decode()
    found: dict[str, float] = {}
    typed: set[str] = set()
    for line in raw.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert name not in typed
            assert kind in ("counter", "gauge", "histogram")
            typed.add(name)
        elif not line.startswith("# HELP "):
            match = re.fullmatch(r"([a-z_]+)\{([a-z]+=\"[^\"]*\",?)+\} [0-9.e+-]+", line)
            assert match, line
            family = re.sub(r"_(bucket|sum|count)$", "", match[1])
            assert match[1] in typed or family in typed
            name, value = line.rsplit(" ", 1)
            assert name not in found
            found[name] = float(value)
    return found


def test_metrics_of_any_worker_tell_of_all(
    plan: Plan, http: Http, request: pytest.FixtureRequest
) -> None:
    if "node" in request.node.name:
        pytest.skip("a node counts for itself: the product's figures are the product's")
    before = samples(http)
    for _ in range(20):
        with Http(plan) as other:  # dealt to either worker
            other.order("maker", "buy", 1, 1)
    http.call("POST", f"{API}/orders", {"user_id": "maker"})
    taken = http.order("taker", "sell", 1, 1)
    assert taken["trades"]

    expected = {
        r"shardbook_http_orders_total": 21,
        r"shardbook_http_order_seconds_count": 21,
        r'shardbook_http_order_seconds_bucket.*le="\+Inf"': 21,
        r"shardbook_http_errors_client_total": 1,
        r"shardbook_matcher_trades_total": 1,
        r"shardbook_ring_published_trades_total": 1,
    }

    def grown() -> dict[str, float]:
        after = samples(http)
        return {
            pattern: sum(after[n] - before.get(n, 0) for n in after if re.match(pattern, n))
            for pattern in expected
        }

    until(lambda: grown() == expected)
    after = samples(http)
    workers = [n for n in after if n.startswith("shardbook_http_orders_total") and after[n]]
    assert len(workers) == 2
    until(lambda: not any(samples(http)[n] for n in after if "persister_lag" in n))
    http.call("POST", f"{API}/orders", {"user_id": "maker", "side": "buy", "quantity": 1})
    wrong = {"user_id": "maker", "order_type": "limit", "side": "buy", "quantity": 1, "price": 1}
    http.call("POST", f"{API}/orders", wrong | {"client_order_id": 5})
    http.call("POST", f"{API}/orders", wrong | {"client_order_id": 5})
    duplicates = 'role="matcher",shard="0",code="DUPLICATE_CLIENT_ORDER_ID"'
    until(lambda: samples(http)[f"shardbook_rejects_total{{{duplicates}}}"] == 1)


def test_the_description_names_every_call(http: Http) -> None:
    description = http.call("GET", f"{API}/openapi.json").body
    assert description["openapi"] == "3.1.0"
    for path, method in [
        ("/orders", "post"),
        ("/orders/batch", "post"),
        ("/orders/{order_id}", "patch"),
        ("/orders/{order_id}", "delete"),
        ("/orderbook/top", "get"),
        ("/trades", "get"),
        ("/candles", "get"),
    ]:
        assert description["paths"][API + path][method]["responses"]["200"]
    assert "/health" in description["paths"]


def test_the_page_is_served_and_kept_by_its_tag(http: Http) -> None:
    first = http.call("GET", "/")
    assert first.status == 200
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    assert b'<script src="page/main.js" type="module">' in first.raw
    assert "default-src 'none'" in first.headers["content-security-policy"]
    again = http.call("GET", "/", None, **{"If-None-Match": first.headers["etag"]})
    assert (again.status, again.raw) == (304, b"")
    assert again.headers["content-length"] == first.headers["content-length"]
    assert http.call("HEAD", "/page/main.js").headers["content-type"].startswith("text/javascript")
    packed = http.call("GET", "/page/main.js", None, **{"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert http.call("POST", "/", {}).status == http.call("GET", "/page/none.js").status == 404
    assert http.get("/health")["status"] == "healthy"
