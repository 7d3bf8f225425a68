"""Connections count from accept on, and strangers have bounds of their own."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPException, HTTPSConnection

import pytest
import trustme
from websockets.exceptions import ConnectionClosed

from engine.plan import Plan
from frontend.gateway.keys import key_section, new_key
from ipc.links.sockets import connect
from tests.http import API, WAIT_S, Http, free_port, serving
from tests.product import until
from tests.test_http_connection import HEALTH, Raw, counter
from tests.test_http_socket import Ws

KEY = new_key()
BOUNDS = "max_connections = 8\nmax_not_logged_in = 4\nlogin_timeout_s = 2"


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    with serving(1, BOUNDS, key_section("alice", KEY) + "\n", matchers=1) as plan:
        yield plan


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plan, ssl.SSLContext]]:
    directory = tmp_path_factory.mktemp("d")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(directory / "both.pem"))
    before = f'[tls]\ncertificate = "{directory}/both.pem"\nkey = "{directory}/both.pem"\n'
    before += key_section("alice", KEY) + "\n"
    before += f'[frontend]\ntcp = "127.0.0.1:{free_port()}"\nlogin_timeout_s = 1\n'
    with serving(1, BOUNDS, before, directory, matchers=1) as plan:
        yield plan, ssl.create_default_context(cafile=str(directory / "ca.pem"))


def gone(plan: Plan) -> bool:
    return counter(plan, "connections") == 0


def test_a_socket_logs_in_in_time_or_is_ended(plan: Plan) -> None:
    """However many pings it answers; who has logged in stays."""
    closed = counter(plan, "closed_login_timeout")
    with Ws(plan) as alice, Ws(plan, additional_headers={"X-API-Key": KEY}) as other:
        assert alice.ask("login", key=KEY)["type"] == "logged_in"
        with ExitStack() as stack:
            strangers = [stack.enter_context(Ws(plan)) for _ in range(4)]
            assert strangers[0].refused("login", key="wrong")[0] == "UNAUTHORIZED"
            for stranger in strangers:
                with pytest.raises(ConnectionClosed) as caught:
                    stranger.drain()
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1008
                assert caught.value.rcvd.reason.startswith("LOGIN_TIMEOUT: ")
        for ws in (alice, other):
            assert ws.ask("ping")["type"] == "pong"
    assert counter(plan, "closed_login_timeout") == closed + 4
    until(lambda: gone(plan))


def test_strangers_leave_places_to_those_with_keys(plan: Plan) -> None:
    until(lambda: gone(plan))
    refused = counter(plan, "refused_connections")
    with ExitStack() as stack:
        known = [stack.enter_context(Http(plan, {"X-API-Key": KEY})) for _ in range(3)]
        for http in known:
            http.get(f"{API}/orders")

        def crowded() -> bool:
            """Be many, again where those before have been ended already."""
            with ExitStack() as strangers:
                for _ in range(4):
                    strangers.enter_context(Raw(plan))
                with Raw(plan) as raw, suppress(EOFError):
                    status, body, _ = raw.answer()
                    assert (status, body["error"]["code"]) == (503, "BUSY")
                    assert "4 without a login" in str(body["error"])
                    return True
            return False

        until(crowded)
        assert counter(plan, "refused_connections") > refused
        for http in known:
            assert http.get(f"{API}/orders")["count"] == 0
    until(lambda: gone(plan))


def test_a_stranger_who_only_asks_for_health_is_ended(plan: Plan) -> None:
    with Raw(plan) as raw, Http(plan, {"X-API-Key": KEY}) as http:
        http.get(f"{API}/orders")
        raw.send(HEALTH)
        assert raw.answer()[0] == 200
        assert raw.ended()
        assert http.get(f"{API}/orders")["count"] == 0
        sock = http.connection.sock
        assert sock is not None, "it is the same connection"


def test_handshakes_that_are_not_begun_count_and_end(secure: tuple[Plan, ssl.SSLContext]) -> None:
    plan, trust = secure
    address = plan.http_address
    assert address is not None

    def asked() -> int:
        https = HTTPSConnection(address.host, address.port, timeout=WAIT_S, context=trust)
        try:
            https.request("GET", "/health")
            return https.getresponse().status
        except (OSError, HTTPException):
            return 0
        finally:
            https.close()

    assert asked() == 200

    def crowded() -> bool:
        """Be many, again where one of them was none too many or has been ended already."""
        idle = [socket.create_connection((address.host, address.port), WAIT_S) for _ in range(4)]
        idle[0].sendall(b"\x16\x03\x01")
        refused = counter(plan, "refused_connections")
        found = asked() == 0 and counter(plan, "refused_connections") > refused
        for sock in idle:
            with suppress(ConnectionResetError):
                assert sock.recv(1) == b""
            sock.close()
        return found

    def ended() -> bool:
        """Be many, and see that all have been ended in time."""
        closed = counter(plan, "closed_login_timeout")
        return crowded() and counter(plan, "closed_login_timeout") >= closed + 4

    until(ended)
    until(lambda: asked() == 200)
    with Ws(plan, ssl=trust, scheme="wss") as ws:  # its handshake done, it is a stranger yet
        with pytest.raises(ConnectionClosed) as caught:
            ws.drain()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.reason.startswith("LOGIN_TIMEOUT: ")
    with Ws(plan, ssl=trust, scheme="wss") as ws:
        ws.ask("login", key=KEY)
        until(lambda: asked() == 200 and counter(plan, "connections") <= 2)
        assert ws.ask("ping")["type"] == "pong"


def test_order_entry_waits_as_long_for_a_handshake_as_for_a_login(
    secure: tuple[Plan, ssl.SSLContext],
) -> None:
    _, tcp = secure[0].addresses()
    with connect(tcp, WAIT_S / 3) as sock, suppress(ConnectionResetError):
        assert sock.recv(1) == b""
