"""The frontend process: listens on the order-entry addresses, and drains when told to stop."""

import asyncio
import contextlib
import sys

import uvloop

from engine.children import FINISH
from engine.plan import Plan
from engine.process import Wakeup
from frontend.gateway.client_connection import ClientConnection
from frontend.gateway.gateway import Gateway
from frontend.gateway.linked_gateway import DRAIN_S, close_links, open_hall
from ipc.links.sockets import BACKLOG, listen, notice_vanished
from ipc.links.tls import server_context
from ipc.memory.status import StatusWriter


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Serve clients until told to stop."""
    uvloop.run(_serve(plan, index, status, wakeup))


async def _serve(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    config = plan.config.frontend
    gateway = await open_hall(plan, index, status, plan.config.query.workers)
    loop = asyncio.get_running_loop()
    servers = []
    for address in plan.addresses_of(index):
        try:
            sock = listen(address, shared=True)
        except OSError as error:
            sys.exit(f"frontend: cannot listen on {address}: {error.strerror}")
        notice_vanished(sock, config.peer_timeout_s)
        if address.host:
            context = server_context(plan.config.tls.certificate, plan.config.tls.key)
            # Before its handshake is done a connection is not ours to time.
            timeout_s = config.login_timeout_s or None
            server = await loop.create_server(
                lambda: ClientConnection(gateway),
                sock=sock,
                ssl=context,
                ssl_handshake_timeout=timeout_s if context else None,
                backlog=BACKLOG,
            )
        else:
            server = await loop.create_unix_server(
                lambda: ClientConnection(gateway), sock=sock, backlog=BACKLOG
            )
        servers.append(server)
    status.ready()
    await _until_stopped(gateway, wakeup)
    for server in servers:
        server.close()
    await _drain(gateway)


async def _until_stopped(gateway: Gateway, wakeup: Wakeup) -> None:
    """Return when the process is told to stop; sweep out silent sessions meanwhile."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def stop() -> None:
        wakeup.stopping = True
        woken.set()

    loop.add_signal_handler(FINISH, stop)
    loop.add_reader(wakeup.fileno(), woken.set)
    while not wakeup.stopping:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), 1.0)
        woken.clear()
        wakeup.wait(0)
        gateway.connections.close_silent(loop.time())
    loop.remove_reader(wakeup.fileno())


async def _drain(gateway: Gateway) -> None:
    """Take no more commands, let every answer arrive, and see the clients off."""
    for connection in gateway.connections:
        connection.stop_reading()
    await close_links(gateway)
    for connection in gateway.connections:
        connection.close("SHUTTING_DOWN", "the engine is stopping")
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DRAIN_S
    while gateway.connections and loop.time() < deadline:
        await asyncio.sleep(0.01)
    for connection in gateway.connections:
        connection.abort()
