"""The frontend process: listens on the order-entry addresses, and drains when told to stop."""

import asyncio
import contextlib
import itertools
import signal
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import uvloop

from engine.plan import Plan
from engine.process import Wakeup
from frontend.accounts import AccountRegistry
from frontend.backends import BackendLink
from frontend.entry import ClientConnection
from frontend.gateway import GatewayConnection
from frontend.hall import MAX_SESSION, Hall
from frontend.keys import Keys
from frontend.report_history import ReportHistory
from frontend.router import Router
from ipc.ring import REPORTS, RingReader
from ipc.sockets import BACKLOG, listen
from ipc.status import StatusWriter
from ipc.tls import server_context

DRAIN_S = 10.0
"""How long answers may take to arrive and to be read once the product stops."""


def product_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("shardbook")
    except PackageNotFoundError:
        return "0+source"


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Serve clients until told to stop."""
    uvloop.run(_serve(plan, index, status, wakeup))


def session_numbers(index: int, frontends: int) -> Iterator[int]:
    """Return the numbers of a frontend's sessions, none of which another frontend gives.

    They begin by the clock, so that a restarted frontend does not soon repeat them.
    """
    turns = MAX_SESSION // frontends
    for turn in itertools.count(time.time_ns() >> 26):
        yield max(1, turn % turns) * frontends - index


async def _serve(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    config = plan.config.frontend
    registry = AccountRegistry(plan.accounts_path(index), config.max_accounts)
    sessions = session_numbers(index, config.processes)
    rings = [RingReader(plan.report_ring_path(shard), REPORTS) for shard in plan.shards]
    history = ReportHistory(rings)
    hall = Hall(
        config,
        plan.instruments,
        registry,
        history,
        status,
        product_version(),
        sessions,
        Keys(plan.config.keys),
    )
    waits, keeps = config.when_busy == "wait", config.when_shard_down == "hold"
    bound = config.max_queued_bytes
    matchers = [
        BackendLink(plan.matcher_address(shard), bound, hall, shard, waits, keeps)
        for shard in plan.shards
    ]
    workers = [
        BackendLink(plan.query_address(index), bound, hall, None, waits)
        for index in range(plan.config.query.workers)
    ]
    shards = {instrument.number: instrument.shard for instrument in plan.instruments}
    hall.router = Router(shards, matchers, workers)
    await asyncio.gather(*(link.connect() for link in hall.router.all()))
    loop = asyncio.get_running_loop()
    servers = []
    for address in plan.addresses_of(index):
        try:
            sock = listen(address, shared=config.processes > 1)
        except OSError as error:
            sys.exit(f"frontend: cannot listen on {address}: {error.strerror}")
        if address.host:
            context = server_context(plan.config.tls.certificate, plan.config.tls.key)
            server = await loop.create_server(
                lambda: ClientConnection(hall), sock=sock, ssl=context, backlog=BACKLOG
            )
        else:
            server = await loop.create_unix_server(
                lambda: ClientConnection(hall), sock=sock, backlog=BACKLOG
            )
        servers.append(server)
    if plan.http_address is not None:
        sock = listen(plan.gateway_address(index))
        servers.append(
            await loop.create_unix_server(
                lambda: GatewayConnection(hall), sock=sock, backlog=BACKLOG
            )
        )
    status.ready()
    await _until_stopped(hall, wakeup)
    for server in servers:
        server.close()
    await _drain(hall)
    registry.close()


async def _until_stopped(hall: Hall, wakeup: Wakeup) -> None:
    """Return when the process is told to stop; sweep out silent sessions meanwhile."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def stop() -> None:
        wakeup.stopping = True
        woken.set()

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_reader(wakeup.fileno(), woken.set)
    while not wakeup.stopping:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), 1.0)
        woken.clear()
        wakeup.wait(0)
        hall.close_silent(loop.time())
    loop.remove_reader(wakeup.fileno())


async def _drain(hall: Hall) -> None:
    """Take no more commands, let every answer arrive, and see the clients off."""
    for connection in hall.connections:
        connection.hold()
    links = hall.router.all()
    for link in links:
        link.finish()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(link.closed.wait() for link in links)), DRAIN_S)
    for connection in hall.connections:
        connection.close("SHUTTING_DOWN", "the engine is stopping")
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DRAIN_S
    while hall.connections and loop.time() < deadline:
        await asyncio.sleep(0.01)
    for connection in hall.connections:
        if connection.transport is not None:
            connection.transport.abort()
