"""Who may do what, over which address, and what a hostile client meets."""

import asyncio
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from engine.config import ConfigError, load_config, parse_config
from engine.environment import with_environment
from engine.plan import Plan
from engine.sections import DatabaseSection
from engine.supervisor import ServeError
from frontend.client import Client
from frontend.client.asynchronous import AsyncClient
from frontend.client.commands import ServerMessage
from frontend.client.errors import ConnectError
from frontend.gateway.keys import digest_of, key_section, new_key
from ipc.memory.status import StatusReader
from ipc.wire.frames import HEADER
from ipc.wire.messages import MAX_COMMAND_BODY, Login, Reject
from tests.http import API, WAIT_S, Http, free_port, http_section, serving
from tests.product import Wire, make_config, running
from tests.test_http_socket import Ws

KEYS = {"alice": new_key(), "bob": new_key()}
SECTIONS = "\n".join(key_section(user, key) for user, key in KEYS.items()) + "\n"
ORDER = {"symbol": "AA", "order_type": "limit", "side": "buy", "price": 5, "quantity": 2}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    """Keys, TLS on a TCP port and on HTTP's, and small bounds."""
    directory = tmp_path_factory.mktemp("s")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(directory / "both.pem"))
    extra = f'[frontend]\ntcp = "127.0.0.1:{free_port()}"\n'
    extra += f'[tls]\ncertificate = "{directory}/both.pem"\nkey = "{directory}/both.pem"\n'
    with running(
        make_config(2, 4, extra + SECTIONS + http_section(free_port(), 2)), directory
    ) as plan:
        yield plan


@pytest.fixture(scope="module")
def trust(plan: Plan) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(plan.data_dir / "ca.pem"))


class Secure(Http):
    """A connection over TLS."""

    def __init__(self, plan: Plan, trust: ssl.SSLContext, key: str | None, bearer: bool) -> None:
        headers = {}
        if key is not None:
            headers = {"Authorization": f"Bearer {key}"} if bearer else {"X-API-Key": key}
        super().__init__(plan, headers)
        address = plan.http_address
        assert address is not None
        self.connection = HTTPSConnection(address.host, address.port, timeout=WAIT_S, context=trust)


def test_a_key_stands_for_its_user_alone(plan: Plan, trust: ssl.SSLContext) -> None:
    with (
        Secure(plan, trust, KEYS["alice"], True) as alice,
        Secure(plan, trust, KEYS["bob"], False) as bob,
    ):
        order_id = alice.post(f"{API}/orders", ORDER)["order_id"]
        path = f"{API}/orders/{order_id}"
        assert alice.get(path)["order"]["user_id"] == "alice"
        for method in ("GET", "DELETE"):
            reply = bob.call(method, path)
            assert (reply.status, reply.code) == (404, "ORDER_NOT_FOUND")
        assert bob.call("PATCH", path, {"price": 6}).code == "ORDER_NOT_FOUND"
        for method, target, body in (
            ("GET", f"{path}?user_id=alice", None),
            ("GET", f"{API}/orders?user_id=alice", None),
            ("DELETE", f"{API}/orders?user_id=alice", None),
            ("POST", f"{API}/orders", ORDER | {"user_id": "alice"}),
        ):
            reply = bob.call(method, target, body)
            assert (reply.status, reply.code) == (403, "FORBIDDEN")
        assert bob.get(f"{API}/orders")["orders"] == []
        batch = bob.post(f"{API}/orders/batch", {"orders": [ORDER | {"user_id": "alice"}, ORDER]})
        assert [item["success"] for item in batch["results"]] == [False, True]
        assert alice.get(f"{API}/orders")["count"] == 1
        assert alice.call("DELETE", path).status == 200


@pytest.mark.parametrize(
    "key", [None, "", "wrong", KEYS["alice"] + "x"], ids=["none", "empty", "wrong", "longer"]
)
def test_without_a_good_key_nothing_is_served_but_health(
    plan: Plan, trust: ssl.SSLContext, key: str | None
) -> None:
    with Secure(plan, trust, key, True) as http:
        for method, path in (
            ("GET", "/orders/1"),
            ("GET", "/orderbook?symbol=AA"),
            ("GET", "/metrics"),
            ("POST", "/orders"),
            ("DELETE", "/orders"),
        ):
            reply = http.call(method, API + path, None if method == "GET" else b"{}")
            assert (reply.status, reply.code) == (401, "UNAUTHORIZED")
            assert reply.headers["www-authenticate"] == "Bearer"
        for path in ("/health", "/ready", "/docs", "/openapi.json"):
            assert http.call("GET", path).status == 200


def secure_ws(plan: Plan, trust: ssl.SSLContext, **options: Any) -> Ws:
    return Ws(plan, ssl=trust, scheme="wss", **options)


def test_a_socket_logs_in_by_header_or_by_message(plan: Plan, trust: ssl.SSLContext) -> None:
    headers = {"X-API-Key": KEYS["alice"]}
    with secure_ws(plan, trust, additional_headers=headers) as ws:
        ws.subscribe("orders")
        assert ws.refused("subscribe", channel="orders", user_id="bob")[0] == "FORBIDDEN"
    with secure_ws(plan, trust) as ws:
        assert ws.refused("subscribe", channel="depth", symbol="AA")[0] == "UNAUTHORIZED"
        assert ws.refused("order", order=ORDER)[0] == "UNAUTHORIZED"
        assert ws.refused("login", key="wrong")[0] == "UNAUTHORIZED"
        answer = ws.ask("LogIn", key=KEYS["bob"])
        assert (answer["type"], answer["user_id"]) == ("logged_in", "bob")
        assert ws.refused("login", key=KEYS["bob"])[0] == "INVALID_REQUEST"
        assert ws.ask("order", order=ORDER)["type"] == "result"
    address = plan.http_address
    assert address is not None
    # By hand: a WebSocket client may lose an answer over TLS that is followed by the end.
    refused = HTTPSConnection(address.host, address.port, timeout=WAIT_S, context=trust)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    nonce = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "X-API-Key": "wrong"}
    refused.request("GET", "/ws", headers=upgrade | nonce)
    response = refused.getresponse()
    assert response.status == 401
    assert b"UNAUTHORIZED" in response.read()
    refused.close()


def test_a_blocking_client_goes_on_when_an_engine_that_was_busy_reads_again(
    plan: Plan, trust: ssl.SSLContext
) -> None:
    _, tcp = plan.addresses()
    (frontend,) = (p for p in StatusReader(plan.status_path).processes() if p.role == "frontend")
    body = b"?" * MAX_COMMAND_BODY
    count = (8 << 20) // len(body)  # more than sockets hold
    frames = (HEADER.pack(len(body), 0) + body) * count
    with Client(tcp, "bob", api_key=KEYS["bob"], tls=trust) as client:
        os.kill(frontend.pid, signal.SIGSTOP)
        try:
            assert client._wire is not None
            client._wire.enqueue(frames)
            client._wire.write()
            left = len(client._wire.unsent)
        finally:
            os.kill(frontend.pid, signal.SIGCONT)
        assert 0 < left < len(frames)
        client.send_frames(b"")
        answers: list[ServerMessage] = []
        while len(answers) < count:
            answers += client.receive()
        assert {type(answer) for answer in answers} == {Reject}
        client.ping()


def test_the_order_entry_protocol_asks_for_the_key_too(plan: Plan, trust: ssl.SSLContext) -> None:
    unix, tcp = plan.addresses()
    with Client(unix, "alice", api_key=KEYS["alice"]) as client:
        assert client.submit("AA", "buy", 1, "1").order_id
    for user, key in (("alice", ""), ("alice", KEYS["bob"]), ("bob", "x")):
        with pytest.raises(ConnectError, match="LOGIN_REFUSED: api_key"):
            Client(unix, user, api_key=key)
    with Wire(plan) as wire:
        wire.send(Login("alice"))
        assert wire.closing().code == "LOGIN_REFUSED"

    with Client(tcp, "bob", api_key=KEYS["bob"], tls=trust) as client:
        assert client.submit("AA", "buy", 1, "1").order_id
    with pytest.raises(ConnectError, match="certificate verify failed"):
        Client(tcp, "bob", api_key=KEYS["bob"], tls=ssl.create_default_context())

    async def over_tls() -> None:
        async with AsyncClient(tcp, "bob", api_key=KEYS["bob"], tls=trust) as client:
            assert (await client.submit("AA", "buy", 1, "1")).order_id
        stranger = ssl.create_default_context()
        with pytest.raises(ConnectError):
            await AsyncClient(tcp, "bob", api_key=KEYS["bob"], tls=stranger).connect()

    asyncio.run(over_tls())
    with Wire(plan, address=tcp) as wire:
        wire.send(Login("bob", api_key=KEYS["bob"]))
        with pytest.raises((EOFError, ConnectionError)):
            wire.receive()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "[::]", "example.org"])
@pytest.mark.parametrize("section", ["[frontend]\ntcp", "[http]\naddress"])
def test_an_open_address_needs_keys(host: str, section: str) -> None:
    text = f'{section} = "{host}:7000"\n[[instruments]]\nsymbol = "A"\ntick_size = "1"\n'
    with pytest.raises(ConfigError, match=r"must be a loopback address .* unless \[\[keys\]\]"):
        parse_config(text, "t")
    assert parse_config(SECTIONS + text, "t").keys


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[tls]\ncertificate = "x"\n', "tls: certificate and key must be given together"),
        ('[[keys]]\nuser_id = "u"\nsha256 = "x"\n', "keys[0].sha256 = 'x': expected str matching"),
        (key_section("u", "k") * 1 + "\n" + key_section("v", "k") + "\n", "must be listed twice"),
        ('[http]\ndefault_symbol = "B"\n', "http.default_symbol = 'B': must be the symbol of an"),
        ("[http]\nmax_trade_limit = 5\n", "http.default_trade_limit = 100: must be at most"),
        ("[http]\nmax_depth = 5\n", "http.default_depth = 20: must be at most http.max_depth (5)"),
        ('log_level = "LOUD"\n', "log_level = 'LOUD': must be one of 'DEBUG', 'INFO'"),
    ],
)
def test_mistakes_of_the_configuration_are_named(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text + '[[instruments]]\nsymbol = "A"\ntick_size = "1"\n', "t")
    assert expected in str(caught.value)


def test_a_certificate_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    before = f'[tls]\ncertificate = "{tmp_path}/none.pem"\nkey = "{tmp_path}/none.pem"\n'
    with (
        pytest.raises(ServeError, match=r"tls.certificate = .*none\.pem.* cannot be used"),
        serving(before=before),
    ):
        pass


def test_a_port_in_use_stops_the_start_and_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = make_config(1, 1, http_section(server.getsockname()[1]))
        with pytest.raises(ServeError, match="cannot listen on tcp:127"), running(config):
            pass


def test_the_environment_sets_what_it_names() -> None:
    config = with_environment(
        load_config(),
        {
            "PORT": "9999",
            "TRADE_HISTORY_SIZE": "10000",
            "TRADE_LOG_PATH": "/data/log/trades.ndjson",
            "LOG_LEVEL": "info",
            "MAX_TRADE_LIMIT": "500",
            "DEFAULT_SYMBOL": "",
            "HOME": "/",
            "DATABASE_ENABLED": "true",
            "DATABASE_HOST": "db.example",
            "DATABASE_PORT": "6432",
            "DATABASE_NAME": "market",
            "DATABASE_USER": "writer",
            "DATABASE_PASSWORD": "sesame",
            "DATABASE_SSL_MODE": "verify-full",
            "DATABASE_MAX_CONNECTIONS": "5",
        },
    )
    assert config.database == DatabaseSection(
        True, "db.example", 6432, "market", "writer", "verify-full", 5
    )
    assert b"sesame" not in msgspec.json.encode(config)
    assert config.http.address == "127.0.0.1:9999"
    assert config.engine.ring_trades == 16_384
    assert Plan(config).log_dir == Path("/data/log")
    assert (config.log_level, config.http.max_trade_limit) == ("INFO", 500)
    assert config.http.default_symbol == "COOTX"


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("PORT", "http", "must be a whole number of 1 to 65535"),
        ("PORT", "65536", "must be a whole number"),
        ("TRADE_HISTORY_SIZE", "-1", "must be a whole number"),
        ("TRADE_LOG_PATH", "/x/trades.log", "must be a directory, or the path of a trades.ndjson"),
        ("LOG_LEVEL", "loud", "must be DEBUG, INFO, WARNING or ERROR"),
        ("DEFAULT_SYMBOL", "NOPE", "must be the symbol of an instrument"),
        ("DATABASE_ENABLED", "on?", "must be true or false"),
        ("DATABASE_PORT", "0", "must be a whole number of 1 to 65535"),
        ("DATABASE_NAME", "a b", "database.name = 'a b': must be 1 to 255 printable"),
        ("DATABASE_SSL_MODE", "yes", "must be one of disable, allow, prefer"),
        ("DATABASE_MAX_CONNECTIONS", "1", "must be a whole number of 2 to 1000"),
        ("MAX_TRADE_LIMIT", "50", "http.default_trade_limit = 100: must be at most"),
    ],
)
def test_a_wrong_value_in_the_environment_is_named(name: str, value: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^environment.*{re.escape(name)}.*{re.escape(rule)}"):
        with_environment(load_config(), {name: value})


def test_the_command_line_makes_a_key(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "frontend.cli", "key", "carol"],
        capture_output=True,
        text=True,
        check=True,
    )
    key = made.stderr.split()[-1]
    instrument = '[[instruments]]\nsymbol = "A"\ntick_size = "1"\n'
    (section,) = parse_config(made.stdout + instrument, "t").keys
    assert (section.user_id, section.sha256) == ("carol", digest_of(key.encode()))


def test_one_key_is_sent_and_at_the_head(plan: Plan, trust: ssl.SSLContext) -> None:
    address = plan.http_address
    assert address is not None
    alice, bob = KEYS["alice"], KEYS["bob"]
    for lines in (
        f"X-API-Key: {alice}\r\nX-API-Key: {alice}",
        f"X-API-Key: {alice}\r\nAuthorization: Bearer {bob}",
        f"Authorization: Bearer {alice}\r\nAuthorization: Bearer {bob}",
        f"Transfer-Encoding: chunked\r\n\r\n0\r\nX-API-Key: {alice}",
    ):
        request = f"DELETE {API}/orders HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n"
        with (
            socket.create_connection((address.host, address.port), WAIT_S) as bare,
            trust.wrap_socket(bare, server_hostname=address.host) as sock,
        ):
            sock.sendall(request.encode())
            assert b" 401 " in sock.recv(65_536)


# Hostile bytes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Iterator[Plan]:
    with serving(
        workers=1, extra="max_header_bytes = 2048\nmax_connections = 8\nkeep_alive_s = 1"
    ) as p:
        yield p


def raw(plan: Plan, data: bytes) -> bytes:
    """Send bytes and return everything up to the end of the connection."""
    address = plan.http_address
    assert address is not None
    with socket.create_connection((address.host, address.port), WAIT_S) as sock:
        sock.sendall(data)
        found = b""
        while piece := sock.recv(65_536):
            found += piece
        return found


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "INVALID_REQUEST"),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400, "INVALID_REQUEST"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9, 400, "INVALID_REQUEST"),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 3_000 + b"\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
        (b"GET /" + b"x" * 3_000 + b" HTTP/1.1\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2_000, 431, "HEADERS_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 9_000, 431, "HEADERS_TOO_LARGE"),
    ],
)
def test_what_is_no_good_request_is_answered_and_ended(
    small: Plan, data: bytes, status: int, code: str
) -> None:
    found = raw(small, data)
    assert found.startswith(f"HTTP/1.1 {status} ".encode())
    assert f'"code":"{code}"'.encode() in found
    with Http(small) as http:
        assert http.get("/health")["status"] == "healthy"


@pytest.mark.parametrize(
    "data", [b"", b"GET / HT", b"POST /api/v1/orders HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"]
)
def test_a_request_that_never_ends_is_not_waited_for(small: Plan, data: bytes) -> None:
    assert raw(small, data) == b""


def test_connections_beyond_the_bound_are_refused(small: Plan) -> None:
    address = small.http_address
    assert address is not None
    open_ones = [socket.create_connection((address.host, address.port), WAIT_S) for _ in range(8)]
    found = raw(small, b"")
    assert found.startswith(b"HTTP/1.1 503 ")
    assert b'"code":"BUSY"' in found
    for sock in open_ones:
        sock.close()


def test_an_error_tells_nothing_of_the_inside(small: Plan) -> None:
    with Http(small) as http:
        for body in (b"{", b'{"user_id": "x"}', b"[" * 5_000):
            raw_reply = http.call("POST", f"{API}/orders", body).raw
            for word in (b"Traceback", b".py", b"msgspec", b"/tmp", b"frontend"):
                assert word not in raw_reply
