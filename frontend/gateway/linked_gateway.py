"""A gateway with links to the matchers: what every process begins with that takes orders."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator

from engine.plan import Plan
from engine.roles import GatewayNumber
from engine.sections import MAX_NODES
from frontend.gateway.accounts import AccountRegistry
from frontend.gateway.gateway import Gateway
from frontend.gateway.keys import Keys
from frontend.gateway.matcher_links import BackendLink
from frontend.gateway.report_history import ReportHistory
from frontend.gateway.router import Router
from frontend.gateway.sessions import MAX_SESSION
from frontend.version import product_version
from ipc.memory.order_table_reader import OrderTableReader
from ipc.memory.ring import REPORTS, RingReader
from ipc.memory.status import StatusWriter

DRAIN_S = 10.0
"""How long answers may take to arrive and to be read once the product stops."""
LINK_WAIT_S = 2.0
"""How long a process that begins waits for a matcher: one that is back in the midst of the day is
not to wait for a shard that is down before it serves the others."""


def session_numbers(place: GatewayNumber) -> Iterator[int]:
    """Return the numbers of a gateway's sessions, none of which another gateway gives.

    They begin by the clock, so that a restarted process does not soon repeat them.
    """
    turns = MAX_SESSION // place.total
    for turn in itertools.count(time.time_ns() >> 26):
        yield max(1, turn % turns) * place.total - place.number


def _among_nodes(plan: Plan, place: GatewayNumber) -> GatewayNumber:
    """Return which of the gateways of a cluster one is, whose nodes have equally many."""
    cluster = plan.config.cluster
    if not cluster.enabled:
        return place
    return GatewayNumber(cluster.node * place.total + place.number, MAX_NODES * place.total)


async def open_hall(
    plan: Plan, place: GatewayNumber | None, status: StatusWriter, query_workers: int
) -> Gateway:
    """Return the gateway of a process, which ``Wakeup.gateway`` names, and link it."""
    assert place is not None, "its role does not say that it enters orders"
    config = plan.config.frontend
    rings = {shard: RingReader(plan.report_ring_path(shard), REPORTS) for shard in plan.shards}
    kept = {shard: RingReader(plan.kept_reports_path(shard), REPORTS) for shard in plan.shards}
    tables = {shard: OrderTableReader(plan.table_path(shard)) for shard in plan.shards}
    waits, keeps = config.when_busy == "wait", config.when_shard_down == "hold"
    bound = config.max_queued_bytes
    matchers = {
        shard: BackendLink(plan.matcher_address(shard), bound, shard, waits, keeps)
        for shard in plan.shards
    }
    workers = [
        BackendLink(plan.query_address(index), bound, None, waits) for index in range(query_workers)
    ]
    shards = {instrument.number: instrument.shard for instrument in plan.instruments}
    gateway = Gateway(
        config,
        plan.known_instruments,
        AccountRegistry(plan.accounts_path(place.number), config.max_accounts),
        ReportHistory(rings, kept, tables),
        Router(shards, matchers, workers),
        status,
        product_version(),
        session_numbers(_among_nodes(plan, place)),
        Keys(plan.config.keys),
    )
    gateway.link_found()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINK_WAIT_S):
            await asyncio.gather(*(link.begin(gateway) for link in gateway.router.all()))
    return gateway


async def close_links(gateway: Gateway) -> None:
    """Send no more commands, and let every answer arrive."""
    links = gateway.router.all()
    for link in links:
        link.finish()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(link.closed.wait() for link in links)), DRAIN_S)
