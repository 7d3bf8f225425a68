"""Who has vanished from the network without a word is noticed: clients by the engine, and it by
them. In two network namespaces whose link is cut."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from threading import Event
from typing import Any, NamedTuple

import pytest
import trustme

from engine.plan import Plan
from engine.sections import FrontendSection
from frontend.client import Client
from frontend.client.errors import ConnectError, ConnectionLostError
from frontend.gateway.keys import key_section, new_key
from frontend.launch import running_engine
from ipc.links.sockets import PEER_TIMEOUT_S, Address, connect, listen, notice_vanished
from ipc.memory.status import StatusReader
from ipc.vocabulary import ExecType, Reason
from ipc.wire.messages import Login, NewOrder, Report, Welcome
from tests.http import API, free_port, http_section
from tests.peer import Awaited
from tests.product import WAIT_S, Wire, make_config, until
from tests.test_http_security import Secure
from tests.test_http_socket import Ws
from tests.two_machines import Machines

USERS = ["alice", "bob"]
KEYS = {user: new_key() for user in USERS}
ORDER = {"symbol": "AA", "order_type": "limit", "side": "buy", "price": 5, "quantity": 2}
HTTP = "keep_alive_s = 86400\nheartbeat_s = 3600"


class Site(NamedTuple):
    """An engine that runs on a machine of its own."""

    machines: Machines
    plan: Plan
    trust: ssl.SSLContext | None
    peer_timeout_s: int
    """What clients are to ask for."""

    def client(self, user_id: str, kind: Callable[..., Any] = Client, **options: Any) -> Any:
        """Return a client of the other machine; to be called there."""
        options |= {"api_key": KEYS[user_id], "tls": self.trust, "timeout_s": WAIT_S}
        return kind(
            self.plan.addresses()[1], user_id, peer_timeout_s=self.peer_timeout_s, **options
        )


@pytest.fixture(scope="module", params=[True, False], ids=["tls", "plain"])
def site(
    request: pytest.FixtureRequest, machines: Machines, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """With TLS what is configured is short, and without it what logins ask for."""
    directory = tmp_path_factory.mktemp("v")
    host = machines.engine.address
    text = f'[frontend]\ntcp = "{host}:{free_port()}"\n'
    text += f"peer_timeout_s = {1 if request.param else 3_600}\n"
    trust = None
    if request.param:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        issued = authority.issue_cert(host)
        issued.private_key_and_cert_chain_pem.write_to_path(str(directory / "both.pem"))
        text += f'[tls]\ncertificate = "{directory}/both.pem"\nkey = "{directory}/both.pem"\n'
        trust = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    text += "\n".join(key_section(user, key) for user, key in KEYS.items()) + "\n"
    text += http_section(free_port(), 1, HTTP).replace("127.0.0.1", host)
    config = make_config(2, 4, text)
    with ExitStack() as stack:
        plan = machines.engine.call(lambda: stack.enter_context(running_engine(config, directory)))
        yield Site(machines, plan, trust, 0 if request.param else 1)


@pytest.fixture
def here() -> Iterator[ExitStack]:
    """What is closed at the end of a test, when the link is back."""
    with ExitStack() as stack:
        yield stack


def log_in(plan: Plan, user_id: str) -> Wire:
    """Return a session over the Unix socket, which no cut reaches."""
    wire = Wire(plan)
    wire.send(Login(user_id, api_key=KEYS[user_id]))
    assert isinstance(wire.receive(), Welcome)
    return wire


def cancelled(order_id: int) -> Callable[[Any], bool]:
    """Return what tells the report that cancels an order on disconnect."""

    def is_it(message: Any) -> bool:
        return (
            isinstance(message, Report)
            and (message.order_id, message.exec_type) == (order_id, ExecType.CANCELED)
            and message.reason == Reason.MASS_CANCEL
        )

    return is_it


def counters(plan: Plan, role: str) -> dict[str, int]:
    processes = StatusReader(plan.status_path).processes()
    return next(process.counters for process in processes if process.role == role)


def test_the_orders_of_a_client_that_vanishes_go(site: Site, here: ExitStack) -> None:
    plan, clients = site.plan, site.machines.clients
    orders, witnesses = {}, {}
    for user in USERS:
        witness = witnesses[user] = here.enter_context(log_in(plan, user))
        client = clients.call(lambda user=user: site.client(user, cancel_on_disconnect=True))
        here.callback(client.close)
        orders[user] = client.submit("AA", "buy", 2, "5").order_id
        witness.until(lambda message: isinstance(message, Report))
    with clients.silent():
        # To alice goes nothing more, and what goes to bob is not taken.
        witnesses["bob"].send(NewOrder(1, 1, 0, 1, 2, 1, 500, 2))
        for user in USERS:
            witnesses[user].until(cancelled(orders[user]))
    assert counters(plan, "frontend")["sessions"] == len(USERS)


@pytest.mark.parametrize("site", [True], ids=["tls"], indirect=True, scope="module")
def test_connections_over_http_end_when_their_client_vanishes(site: Site, here: ExitStack) -> None:
    plan, trust, clients = site.plan, site.trust, site.machines.clients
    assert trust is not None

    def open_all() -> None:
        http = here.enter_context(Secure(plan, trust, KEYS["alice"], True))
        http.get(f"{API}/orders")
        headers = {"X-API-Key": KEYS["bob"]}
        for channel in ("orders", "ticker"):
            options = {"scheme": "wss", "ssl": trust, "ping_interval": None}
            ws = Ws(plan, additional_headers=headers, **options)
            here.enter_context(ws)
            ws.subscribe(channel, symbol="AA")

    witness = here.enter_context(log_in(plan, "bob"))
    clients.call(open_all)
    until(lambda: counters(plan, "http")["connections"] == 3)
    with clients.silent():
        witness.send(NewOrder(1, 2, 0, 1, 2, 1, 500, 2))  # whose report is not taken
        until(lambda: counters(plan, "http")["connections"] == 0)
        assert counters(plan, "http")["sockets"] == 0


@pytest.mark.parametrize("kind", [Client, Awaited], ids=["blocking", "async"])
def test_a_client_notices_that_the_engine_has_vanished(
    site: Site, kind: Callable[..., Any]
) -> None:
    clients, engine = site.machines.clients, site.machines.engine
    short = site._replace(peer_timeout_s=1)
    ready: list[Any] = []
    cut = Event()

    def use(call: Callable[[Any], Any]) -> None:
        client = short.client("alice", kind)
        try:
            ready.append(client)
            assert cut.wait(WAIT_S)
            # The kernel may know that nobody answers for that address before it gives up.
            with pytest.raises(ConnectionLostError, match=r"timed out|No route to host"):
                call(client)
        finally:
            client.close()
            if kind is Awaited:
                client.end()

    calls = (lambda client: next(client.reports(WAIT_S)), lambda client: client.ping())
    ends = [clients.start(partial(use, call)) for call in calls]
    until(lambda: len(ready) == 2 or any(end.done() for end in ends))
    with engine.silent():
        cut.set()
        for end in ends:
            end.result()


def test_by_default_that_takes_less_than_a_minute() -> None:
    assert FrontendSection().peer_timeout_s == PEER_TIMEOUT_S
    with listen(Address(host="127.0.0.1")) as server, ExitStack() as stack:
        notice_vanished(server, PEER_TIMEOUT_S)
        client = stack.enter_context(connect(Address("", *server.getsockname())))
        server.setblocking(True)
        accepted = stack.enter_context(server.accept()[0])
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle_s, interval_s, count, unacknowledged_ms = (
            accepted.getsockopt(socket.IPPROTO_TCP, option)
            for option in (
                socket.TCP_KEEPIDLE,
                socket.TCP_KEEPINTVL,
                socket.TCP_KEEPCNT,
                socket.TCP_USER_TIMEOUT,
            )
        )
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    # What is sent while silence is being probed begins the other clock.
    assert idle_s + interval_s * count + unacknowledged_ms / 1_000 < 60


@pytest.mark.parametrize("seconds", [-1, 3_601, "1"])
def test_a_time_that_cannot_be_is_refused(seconds: Any) -> None:
    with pytest.raises(ConnectError, match="peer_timeout_s"):
        Client("unix:/nowhere", "alice", peer_timeout_s=seconds)
