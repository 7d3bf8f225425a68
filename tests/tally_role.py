"""A role that is no part of the product: it counts trades, and holds the matchers until it has.

What a role takes: its work, and its row.
"""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from engine.plan import Plan
from engine.process import Wakeup
from engine.roles import Role
from engine.sections import Section
from ipc.memory.ring import GatingReader
from ipc.memory.status import StatusReader, StatusWriter

IDLE_WAIT_S = 0.05
"""A doorbell that was rung a moment ago is not rung again."""


class TallySection(Section, frozen=True):
    """``[roles.tally]``."""

    batch_trades: Annotated[int, Meta(ge=1)] = 64


def states_path(plan: Plan) -> Path:
    """Return the file that tells what everybody was at when the tally ended."""
    return plan.data_dir / "states.json"


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Count trades until told to finish, and until there are none left."""
    assert wakeup.reader is not None
    batch = TALLY.settings(plan.config).batch_trades
    rings = [GatingReader(plan.ring_path(shard), wakeup.reader) for shard in plan.shards]
    status.set("batch_trades", batch)
    status.ready()
    while True:
        stopping = wakeup.stopping
        for ring in rings:
            trades = ring.peek(batch)
            count, lots = len(trades), int(trades["quantity"].sum())
            ring.advance(count)  # first: what is shown as counted is not counted again
            status.add("lots", lots)
            status.add("trades", count)
        if any(ring.available() for ring in rings):
            continue
        if stopping:
            break
        for ring in rings:
            ring.set_waiting(True)
        if not any(ring.available() for ring in rings):
            wakeup.wait(IDLE_WAIT_S)
        for ring in rings:
            ring.set_waiting(False)
    processes = StatusReader(plan.status_path).processes()
    states = {process.role: process.state for process in processes}
    counted = {"trades": status.get("trades")}
    states_path(plan).write_bytes(msgspec.json.encode([states, counted]))


TALLY = Role(
    "tally",
    "tests.tally_role:run",
    start=35,
    stop=45,
    reads_trades=True,
    counts=("trades", "lots", "batch_trades"),
    gauges=frozenset({"batch_trades"}),
    section=TallySection,
)
