"""The frontend process: listens on the order-entry addresses, and drains when told to stop."""

import asyncio
import contextlib
import sys
from functools import partial

import uvloop

from engine.children import FINISH
from engine.heap import Heap
from engine.plan import Plan
from engine.process import Wakeup
from frontend.gateway.client_connection import ClientConnection
from frontend.gateway.door import accept, handles
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
    gateway = await open_hall(plan, wakeup.gateway, status, plan.config.query.workers)
    loop = asyncio.get_running_loop()
    door, make = gateway.connections.door, partial(ClientConnection, gateway)
    servers: list[asyncio.Server] = []
    accepting: list[asyncio.Future[None]] = []
    for address in plan.addresses_of(index):
        try:
            sock = listen(address, shared=True)
        except OSError as error:
            sys.exit(f"frontend: cannot listen on {address}: {error.strerror}")
        notice_vanished(sock, config.peer_timeout_s)
        if address.host:
            context = server_context(plan.config.tls.certificate, plan.config.tls.key)
            if context is not None:
                accepting.append(asyncio.ensure_future(accept(sock, door, context, make)))
                continue
        for handle in handles(sock):
            if address.host:
                server = await loop.create_server(make, sock=handle, backlog=BACKLOG)
            else:
                server = await loop.create_unix_server(make, sock=handle, backlog=BACKLOG)
            servers.append(server)
    status.ready()
    await _until_stopped(gateway, wakeup)
    for server in servers:
        server.close()
    for each in accepting:
        each.cancel()
        await asyncio.wait([each])
    await _drain(gateway)


async def _until_stopped(gateway: Gateway, wakeup: Wakeup) -> None:
    """Return when the process is told to stop; sweep out silent sessions meanwhile."""
    loop = asyncio.get_running_loop()
    woken, heap = asyncio.Event(), Heap()

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
        gateway.connections.door.close_overdue(loop.time())
        gateway.connections.close_silent(loop.time())
        heap.look(loop.time())
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
