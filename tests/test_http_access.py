"""Which pages of a browser may use the product, and that every other client may."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from engine.config import ConfigError, parse_config
from engine.plan import Plan
from engine.sections import HttpSection
from frontend.http.access import Access
from frontend.http.errors import ApiError
from ipc.links.sockets import Address
from tests.http import API, Http, serving
from tests.test_http_socket import Ws

ORDER = {"user_id": "u", "order_type": "limit", "side": "buy", "price": 1, "quantity": 1}
DESK = "https://desk.example.org"
EVIL = "http://evil.example"


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    with serving(workers=1, extra='default_symbol = "AA"') as plan:
        yield plan


@pytest.fixture(scope="module")
def named() -> Iterator[Plan]:
    """A product behind a proxy, for the pages of another host."""
    extra = f'allowed_hosts = ["Shardbook.example"]\nallowed_origins = ["{DESK}"]\n'
    with serving(workers=1, extra='default_symbol = "AA"\n' + extra) as plan:
        yield plan


def port_of(plan: Plan) -> int:
    assert plan.http_address is not None
    return plan.http_address.port


def resting(plan: Plan) -> int:
    with Http(plan) as http:
        count: int = http.get(f"{API}/orders?user_id=u")["count"]
        return count


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:{}", "127.0.0.1:1", "[::1]:{}", "[::1]"])
def test_this_machine_goes_by_several_names(plan: Plan, host: str) -> None:
    with Http(plan) as http:
        assert http.call("GET", "/health", Host=host.format(port_of(plan))).status == 200


@pytest.mark.parametrize("path", ["/health", "/metrics", f"{API}/orderbook", "/nothing"])
@pytest.mark.parametrize("host", ["evil.example:{}", "127.0.0.1.evil.example", "localhost.evil"])
def test_another_host_is_refused(plan: Plan, host: str, path: str) -> None:
    """A name of a stranger's that leads here makes his page one of this host's own."""
    with Http(plan) as http:
        name = host.format(port_of(plan))
        reply = http.call("GET", path, Host=name, Origin=f"http://{name}")
        assert (reply.status, reply.code) == (403, "FORBIDDEN")
        assert reply.body["error"]["details"]["field"] == "Host"
        assert "http.allowed_hosts" in reply.body["error"]["message"]
        assert http.call("GET", "/health").status == 200


@pytest.mark.parametrize("host", ["", "a b", "localhost:x", "[::1", "localhost/", "u@localhost"])
def test_a_host_that_is_none_is_refused(plan: Plan, host: str) -> None:
    with Http(plan) as http:
        assert http.call("GET", "/health", Host=host).status == 400


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost:1", "https://127.0.0.1:{}"])
def test_a_page_of_another_origin_is_refused(plan: Plan, method: str, origin: str) -> None:
    before = resting(plan)
    with Http(plan) as http:
        path = f"{API}/orders" if method in ("POST", "GET") else f"{API}/orders/1"
        body = ORDER if method in ("POST", "PATCH") else None
        origin = origin.format(port_of(plan))
        reply = http.call(method, path, body, Origin=origin)
        assert (reply.status, reply.code) == (403, "FORBIDDEN")
        assert reply.body["error"]["details"]["field"] == "Origin"
        assert "access-control-allow-origin" not in reply.headers
    assert resting(plan) == before


def test_a_page_of_this_host_may_ask(plan: Plan) -> None:
    with Http(plan) as http:
        own = f"http://127.0.0.1:{port_of(plan)}"
        for _ in range(2):  # the head is known the second time
            reply = http.call("POST", f"{API}/orders", ORDER, Origin=own)
            assert reply.status == 200
            assert "access-control-allow-origin" not in reply.headers
        with Ws(plan, origin=own) as ws:  # type: ignore[arg-type]
            assert ws.ask("ping")["type"] == "pong"


@pytest.mark.parametrize(
    "media",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "application/jsonp",
        "",
    ],
)
def test_a_body_must_be_said_to_be_json(plan: Plan, media: str | None) -> None:
    before = resting(plan)
    with Http(plan) as http:
        for _ in range(2):
            body = json.dumps(ORDER).encode()
            http.connection.putrequest("POST", f"{API}/orders")
            http.connection.putheader("Content-Length", str(len(body)))
            if media is not None:
                http.connection.putheader("Content-Type", media)
            http.connection.endheaders(body)
            response = http.connection.getresponse()
            error = json.loads(response.read())["error"]
            assert (response.status, error["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
            assert error["details"]["field"] == "Content-Type"
            assert "must be application/json" in error["message"]
    assert resting(plan) == before


def test_curl_is_told_what_to_send(plan: Plan) -> None:
    curl = ["curl", "-s", f"http://127.0.0.1:{port_of(plan)}{API}/orders", "-d", json.dumps(ORDER)]
    told = json.loads(subprocess.run(curl, capture_output=True, check=True, timeout=60).stdout)
    assert "-H 'Content-Type: application/json'" in told["error"]["message"]
    curl += ["-H", "Content-Type: application/json"]
    told = json.loads(subprocess.run(curl, capture_output=True, check=True, timeout=60).stdout)
    assert told["status"] == "OPEN"


@pytest.mark.parametrize("media", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_goes_by_several_names(plan: Plan, media: str) -> None:
    with Http(plan) as http:
        reply = http.call("POST", f"{API}/orders", ORDER, **{"Content-Type": media})
        assert reply.status == 200
        assert http.call("DELETE", f"{API}/orders?user_id=u").status == 200


@pytest.mark.parametrize("name", ["Host", "Origin", "Content-Type"])
def test_what_is_said_twice_is_refused(plan: Plan, name: str) -> None:
    with Http(plan) as http:
        http.connection.putrequest("GET", "/health", skip_host=True)
        for value in ("localhost", "localhost"):
            http.connection.putheader(name, value)
        http.connection.endheaders()
        response = http.connection.getresponse()
        error = json.loads(response.read())["error"]
        assert (response.status, error["code"]) == (400, "INVALID_REQUEST")
        assert error["details"] == {"field": name, "rule": "must be given once"}


@pytest.mark.parametrize(
    "headers", [{"origin": EVIL}, {"additional_headers": {"Host": "evil.example"}}]
)
def test_a_socket_of_a_page_elsewhere_is_refused(plan: Plan, headers: dict[str, Any]) -> None:
    if "origin" not in headers:
        with Http(plan) as http:
            upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Host": "evil.example"}
            nonce = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
            assert http.call("GET", "/ws", **upgrade, **nonce).code == "FORBIDDEN"
            return
    with pytest.raises(InvalidStatus) as caught:
        Ws(plan, **headers)
    assert caught.value.response.status_code == 403


def test_a_page_that_is_allowed_asks_first_and_reads_the_answer(named: Plan) -> None:
    with Http(named, {"Origin": DESK.upper().replace("HTTPS", "https")}) as http:
        for path in (f"{API}/orders", f"{API}/orders/1", "/health"):
            asked = http.call(
                "OPTIONS", path, **{"Access-Control-Request-Method": "POST", "Host": "localhost"}
            )
            assert asked.status == 200
            assert asked.headers["access-control-allow-origin"] == DESK
            methods = asked.headers["access-control-allow-methods"].split(", ")
            assert ("POST" in methods) == (path == f"{API}/orders")
            assert ("PATCH" in methods) == path.endswith("/1")
            allowed = asked.headers["access-control-allow-headers"]
            assert allowed == "authorization, content-type, x-api-key"
            assert asked.headers["vary"] == "origin"
        assert http.call("OPTIONS", "/nothing").status == 404
        for _ in range(2):  # the head is known the second time
            reply = http.call("POST", f"{API}/orders", ORDER)
            assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, DESK)
        reply = http.call("POST", f"{API}/orders", ORDER | {"side": "up"})
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (400, DESK)
        reply = http.call("POST", f"{API}/orders", b" " * (1 << 21))
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (413, DESK)
    with Http(named) as http:
        assert http.call("GET", "/health", Origin=EVIL).status == 403
        assert http.call("GET", "/health", Host="shardbook.example").status == 200
        assert http.call("GET", "/health", Host="localhost").status == 200
        assert http.call("GET", "/health", Host="evil.example").status == 403
    with Ws(named, origin=DESK) as ws:  # type: ignore[arg-type]
        assert ws.ask("ping")["type"] == "pong"


def test_options_tells_the_methods_of_a_path(plan: Plan) -> None:
    with Http(plan) as http:
        reply = http.call("OPTIONS", f"{API}/orders")
        assert (reply.status, reply.body["success"]) == (200, True)
        assert reply.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, POST"
        assert "access-control-allow-methods" not in reply.headers
        assert http.call("PUT", f"{API}/orders").headers["allow"] == reply.headers["allow"]


def test_head_is_get_without_the_body(plan: Plan) -> None:
    with Http(plan) as http:
        order_id = http.post(f"{API}/orders", ORDER)["order_id"]
        paths = ("/orderbook", "/orderbook/top", "/trades", "/candles", "/symbols", "/orders")
        for path in (*paths, f"/orders/{order_id}", "/health", "/ready", "/docs", "/openapi.json"):
            reply = http.call("HEAD", API + path)
            assert (reply.status, reply.body) == (200, b""), path
            assert reply.headers["content-length"] != "0"
            got = http.call("GET", API + path)
            assert got.headers["content-type"] == reply.headers["content-type"]
        assert http.call("HEAD", "/metrics").status == 200
        assert http.call("HEAD", f"{API}/orders/batch").status in (400, 405)


LOOPBACK, ABROAD = Address(host="127.0.0.1", port=8080), Address(host="0.0.0.0", port=8080)


@pytest.mark.parametrize(
    ("address", "hosts", "host", "taken"),
    [
        (ABROAD, [], b"anything.example", True),
        (ABROAD, ["a.example"], b"anything.example", False),
        (ABROAD, ["a.example"], b"A.EXAMPLE.:99", True),
        (ABROAD, ["a.example"], b"localhost", True),
        (LOOPBACK, ["*"], b"anything.example", True),
        (LOOPBACK, ["10.0.0.1"], b"10.0.0.1:8080", True),
        (LOOPBACK, ["fe80::1"], b"[FE80::1]:8080", True),
        (LOOPBACK, [], b"127.0.0.2", False),
        (Address(host="127.0.0.2", port=1), [], b"127.0.0.2", True),
    ],
)
def test_hosts_are_those_of_the_configuration(
    address: Address, hosts: list[str], host: bytes, taken: bool
) -> None:
    access = Access(HttpSection(allowed_hosts=hosts), address, encrypted=False)
    if taken:
        assert access.admit([(b"host", host)], False) == b""
    else:
        with pytest.raises(ApiError, match="Host"):
            access.admit([(b"host", host)], False)


def test_any_origin_may_be_allowed() -> None:
    access = Access(HttpSection(allowed_origins=["*"]), LOOPBACK, encrypted=True)
    headers = [(b"host", b"localhost"), (b"origin", b"http://x.example")]
    assert b"allow-origin: http://x.example\r\n" in access.admit(headers, False)
    own = [(b"host", b"localhost:8080"), (b"origin", b"https://localhost:8080")]
    assert access.admit(own, False) == b""


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_nothing_foreign_is_admitted(host: bytes, origin: bytes, media: bytes) -> None:
    access = Access(HttpSection(), LOOPBACK, encrypted=False)
    headers = [(b"host", host), (b"origin", origin), (b"content-type", media)]
    with pytest.raises(ApiError):
        access.admit(headers, True)


@pytest.mark.parametrize(
    "line",
    [
        'allowed_hosts = ["a.example:80"]',
        'allowed_hosts = ["http://a"]',
        'allowed_hosts = [""]',
        'allowed_origins = ["desk.example.org"]',
        'allowed_origins = ["https://desk.example.org/"]',
        'allowed_origins = ["https://*.example.org"]',
        'allowed_origins = ["null"]',
    ],
)
def test_a_name_that_is_none_is_named(line: str) -> None:
    key = line.partition(" ")[0]
    text = f'[http]\n{line}\n[[instruments]]\nsymbol = "A"\ntick_size = "1"\n'
    with pytest.raises(ConfigError, match=rf"http\.{key}\[0\] = .*: must be "):
        parse_config(text, "t")
