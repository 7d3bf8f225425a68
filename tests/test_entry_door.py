"""Order entry's connections count from accept on, and strangers have bounds of their own."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
import trustme

from engine.plan import Plan
from frontend.client import Client
from frontend.client.errors import ClientError
from frontend.gateway.keys import key_section, new_key
from ipc.links.sockets import Address, connect
from ipc.memory.status import StatusReader
from tests.http import free_port
from tests.product import WAIT_S, Wire, make_config, running, until

KEY = new_key()
USER = key_section("alice", KEY) + "\n"
BOUNDS = "max_sessions = 8\nmax_not_logged_in = 4\nlogin_timeout_s = 2\n"
FEW = "max_connections_per_address = 3\n"


def own_host() -> str:
    """Return an address of this machine that is no loopback one, or skip the test."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with suppress(OSError):
            sock.connect(("192.0.2.1", 9))  # nothing is sent
        host: str = sock.getsockname()[0]
    if host.startswith(("127.", "0.")):
        pytest.skip("this machine has no address but loopback ones")
    return host


@contextmanager
def entry(bounds: str, before: str = USER, host: str = "127.0.0.1") -> Iterator[Plan]:
    extra = f'{before}[frontend]\ntcp = "{host}:{free_port()}"\n{bounds}'
    with running(make_config(1, 1, extra)) as plan:
        yield plan


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plan, ssl.SSLContext]]:
    directory = tmp_path_factory.mktemp("d")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(directory / "both.pem"))
    tls = f'[tls]\ncertificate = "{directory}/both.pem"\nkey = "{directory}/both.pem"\n'
    with entry(BOUNDS, USER + tls) as plan:
        yield plan, ssl.create_default_context(cafile=str(directory / "ca.pem"))


def counter(plan: Plan, name: str) -> int:
    [frontend] = [p for p in StatusReader(plan.status_path).processes() if p.role == "frontend"]
    return frontend.counters[name]


def refused_at(crowd: Callable[[ExitStack], object], refused: Callable[[], bool]) -> bool:
    """Return whether one more was refused beside a crowd; some of it may have been ended before."""
    with ExitStack() as stack:
        crowd(stack)
        return refused()


def test_handshakes_that_are_not_begun_or_finished_count_and_end(
    secure: tuple[Plan, ssl.SSLContext],
) -> None:
    plan, trust = secure
    _, tcp = plan.addresses()

    def crowd(stack: ExitStack) -> None:
        idle = [stack.enter_context(connect(tcp, WAIT_S)) for _ in range(4)]
        idle[0].sendall(b"\x16\x03\x01")

    with Client(tcp, "alice", api_key=KEY, tls=trust) as alice:
        until(lambda: refused_at(crowd, lambda: no_handshake(tcp, trust)))
        assert counter(plan, "refused_too_many_sessions") > 0
        alice.ping()
        closed = counter(plan, "closed_login_timeout")
        with ExitStack() as stack:
            crowd(stack)
            until(lambda: counter(plan, "closed_login_timeout") >= closed + 4)
        alice.ping()
    with Client(tcp, "alice", api_key=KEY, tls=trust) as again:
        again.ping()


def no_handshake(tcp: Address, trust: ssl.SSLContext) -> bool:
    try:
        Client(tcp, "alice", api_key=KEY, tls=trust, timeout_s=WAIT_S).close()
    except (ClientError, OSError):
        return True
    return False


def test_the_time_to_log_in_runs_from_accept_over_tls_too(
    secure: tuple[Plan, ssl.SSLContext],
) -> None:
    plan, trust = secure
    _, tcp = plan.addresses()
    with connect(tcp, WAIT_S) as sock, trust.wrap_socket(sock, server_hostname=tcp.host) as tls:
        assert b"LOGIN_TIMEOUT" in tls.recv(1_024)


def test_strangers_leave_places_to_those_who_are_logged_in() -> None:
    with entry(BOUNDS) as plan:
        _, tcp = plan.addresses()

        def crowd(stack: ExitStack) -> None:
            for _ in range(4):
                stack.enter_context(Wire(plan, address=tcp))

        def told() -> bool:
            with Wire(plan, address=tcp) as wire:
                closing = wire.closing()
                return closing.code == "TOO_MANY_SESSIONS" and "4 without a login" in closing.text

        with ExitStack() as stack:
            known = [stack.enter_context(Client(tcp, "alice", api_key=KEY)) for _ in range(3)]
            until(lambda: refused_at(crowd, told))
            for client in known:
                client.ping()
        with Client(tcp, "alice", api_key=KEY) as again:
            again.ping()


def test_an_address_has_no_more_than_its_share() -> None:
    host = own_host()
    with entry(FEW, host=host) as plan, ExitStack() as stack:
        near, far = plan.addresses()
        for _ in range(3):
            stack.enter_context(Client(far, "alice", api_key=KEY)).ping()
        with Wire(plan, address=far) as wire:
            closing = wire.closing()
        assert closing.code == "TOO_MANY_SESSIONS"
        assert closing.text == "this address has 3 connections already; try again later"
        assert counter(plan, "refused_too_many_sessions") == 1
        for _ in range(4):
            stack.enter_context(Client(near, "alice", api_key=KEY)).ping()


def test_a_unix_socket_and_loopback_are_no_address() -> None:
    with entry(FEW) as plan, ExitStack() as stack:
        for address in plan.addresses() * 4:
            stack.enter_context(Client(address, "alice", api_key=KEY)).ping()
