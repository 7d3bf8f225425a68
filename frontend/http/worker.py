"""An HTTP worker: a process that serves REST and WebSocket, beside others on the same port."""

import asyncio
import contextlib
import gc
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import msgspec
import uvicorn
import uvloop

from engine.children import FINISH
from engine.heap import Heap
from engine.plan import Plan
from engine.process import Wakeup
from engine.roles import GatewayNumber
from engine.sections import HttpSection
from frontend.gateway.door import Door, Limits, accept, handles
from frontend.gateway.linked_gateway import open_hall
from frontend.http.access import Access, Admit
from frontend.http.api import Api
from frontend.http.app import App
from frontend.http.connection import PLACE, Bounds, Connection, connections
from frontend.http.docs import page
from frontend.http.log_limits import limit_logs
from frontend.http.manual import pages
from frontend.http.openapi import describe
from frontend.http.order_entry import OrderEntry
from frontend.http.product_state import ProductState
from frontend.http.socket_protocol import Farewells, SocketProtocol
from frontend.http.sockets import MAX_MESSAGE_BYTES
from frontend.pace import SWITCH_S
from frontend.version import product_version
from ipc.links.sockets import Address, listen, notice_vanished
from ipc.links.tls import server_context
from ipc.memory.status import StatusWriter

TICK_S = 1.0
GARBAGE = 20_000, 10, 5
"""How much is made before what is young, and then what is older, is looked through: a batch of
orders makes some 10,000 objects that all end with it."""
RECEIVE_BUFFER_BYTES = 64 << 10
"""Of each connection in the kernel: what is taken of one before another's turn."""
SEND_BUFFER_BYTES = 256 << 10
"""Of each connection in the kernel: a client that does not read is soon seen, and costs little."""


class Waking(Protocol):
    """What tells a worker to stop, as ``engine.process.Wakeup`` does."""

    stopping: bool

    def fileno(self) -> int:
        """Return what is readable once there is something to look at."""

    def wait(self, timeout_s: float | None) -> None:
        """Look."""


class Server(uvicorn.Server):
    """uvicorn's server, stopped by this process and not by signals of its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class SocketConnection(SocketProtocol):
    """A WebSocket, which has the place of the connection that it was."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave it."""
        self.app_state[PLACE].leave()
        super().connection_lost(exc)


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Serve HTTP until told to stop."""
    limit_logs()
    sys.setswitchinterval(SWITCH_S)
    uvloop.run(_serve(plan, index, status, wakeup))


async def _serve(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    api = await _open(plan, wakeup.gateway, status)
    await serve_api(plan, index, status, wakeup, api, App)


async def serve_api(
    plan: Plan,
    index: int,
    status: StatusWriter,
    wakeup: Waking,
    api: Api,
    make_app: Callable[[Api, Admit], App],
) -> None:
    """Serve what handlers use, until told to stop."""
    settings, tls = plan.config.http, plan.config.tls
    address, sock = _listen(plan, index)
    access = Access(settings, address, encrypted=bool(tls.certificate))
    app = make_app(api, access.admit)
    bounds = Bounds(settings.max_header_bytes, settings.max_body_bytes, settings.keep_alive_s)
    door = Door(Limits.of(settings), status, "refused_connections")
    keyed = bool(plan.config.keys)
    kind = connections(bounds, app.serve, access.admit, door, keyed, api.turns)
    server = Server(_server_config(app, kind, settings))
    context = server_context(tls.certificate, tls.key)
    serving = asyncio.ensure_future(server.serve(handles(sock) if context is None else []))
    while not server.started and not serving.done():
        await asyncio.sleep(0.001)
    gc.collect()
    gc.freeze()  # what stays is not looked through again and again
    gc.set_threshold(*GARBAGE)
    status.ready()
    accepting = None
    if context is not None:
        make = partial(
            kind, config=server.config, server_state=server.server_state, app_state={}, _loop=None
        )
        accepting = asyncio.ensure_future(accept(sock, door, context, make))
    await _until_stopped(server, door, status, wakeup)
    if accepting is not None:
        accepting.cancel()
        await asyncio.wait([accepting])
    server.should_exit = True
    await serving
    await api.close()


async def _open(plan: Plan, place: GatewayNumber | None, status: StatusWriter) -> Api:
    """Return what handlers use, linked to the matchers."""
    settings, version = plan.config.http, product_version()
    state = ProductState(plan)
    markets = state.markets
    entry = OrderEntry(
        await open_hall(plan, place, status, query_workers=0),
        state.tables,
        {market.number: market.shard for market in markets.all},
        settings.answer_timeout_s,
        settings.max_pending_orders,
    )
    symbols = [market.symbol for market in markets.all]
    description = describe(version, symbols, markets.default_symbol)
    return Api(
        plan,
        status,
        version,
        state,
        entry,
        msgspec.json.encode(description),
        page(description, pages()),
    )


def _listen(plan: Plan, index: int) -> tuple[Address, socket.socket]:
    """Return the address that all workers share, and this one's socket there."""
    address = plan.http_address
    assert address is not None
    try:
        sock = listen(address, shared=True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        notice_vanished(sock, plan.config.frontend.peer_timeout_s)
    except OSError as error:
        sys.exit(f"http {index}: cannot listen on {address}: {error.strerror}")
    return address, sock


def _server_config(app: App, kind: type[Connection], settings: HttpSection) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=kind,
        ws=SocketConnection,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=settings.heartbeat_s,
        ws_ping_timeout=settings.heartbeat_s,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.answer_timeout_s,
        backlog=1024,
    )


async def _until_stopped(server: Server, door: Door, status: StatusWriter, wakeup: Waking) -> None:
    """Return when the process is told to stop; close connections that only wait meanwhile."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    farewells, heap = Farewells(), Heap()

    def stop() -> None:
        wakeup.stopping = True
        woken.set()

    loop.add_signal_handler(FINISH, stop)
    loop.add_reader(wakeup.fileno(), woken.set)
    while not wakeup.stopping:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), TICK_S)
        woken.clear()
        wakeup.wait(0)
        connections = list(server.server_state.connections)
        status.set("connections", len(connections))
        for connection in connections:
            close_overdue = getattr(connection, "close_overdue", None)
            if close_overdue is not None:
                close_overdue(loop.time())
        door.close_overdue(loop.time())
        farewells.look((connection.transport for connection in connections), loop.time())
        heap.look(loop.time())
    loop.remove_reader(wakeup.fileno())
