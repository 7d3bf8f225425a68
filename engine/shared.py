"""The shared memory of a product, laid out anew at its start."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from engine.books.contract import Records
from engine.plan import Plan
from engine.roles import Member, slots
from ipc.memory.depth_board import create_board
from ipc.memory.mapping import MappingError
from ipc.memory.order_table import create_table
from ipc.memory.ring import REPORTS, RingReader, RingWriter, create_ring
from ipc.memory.status import create_status
from ipc.records import REPORT


class LeftReports(NamedTuple):
    """The last reports of a shard (REPORT), oldest first, and the number of the last of them."""

    reports: Records
    last: int
    kept: Records = np.zeros(0, REPORT)
    """Those that are kept for their accounts, in their order in the ring."""


def left_reports(plan: Plan) -> dict[int, LeftReports]:
    """Return the reports that a killed product has left in its rings, by shard.

    Its journal makes them again, but only from the newest snapshot on; a session may ask for more.
    """
    found = {}
    for shard in plan.shards:
        try:
            kept_ring = RingReader(plan.kept_reports_path(shard), REPORTS)
            ring = RingReader(plan.report_ring_path(shard), REPORTS)
        except MappingError:
            continue
        kept = kept_ring.read(0, kept_ring.published).records
        kept_ring.close()
        last = ring.published
        reports = ring.read(0, last).records  # what a matcher on its way out adds is made again
        found[shard] = LeftReports(reports[-plan.config.engine.ring_reports :], last, kept)
        ring.close()
    return found


def create_shared(
    plan: Plan,
    members: Sequence[Member],
    logged: Mapping[int, int],
    left: Mapping[int, LeftReports] | None = None,
) -> None:
    """Make every mapping, for the ``members`` of a product. Trade rings are empty and go on after
    each shard's last trade in the log; report rings hold what was ``left``.

    Raises ``MappingError``.
    """
    engine = plan.config.engine
    readers = sum(member.reader is not None for member in members)
    for shard in plan.shards:
        create_ring(plan.ring_path(shard), shard, engine.ring_trades, logged.get(shard, 0), readers)
        create_ring(plan.report_ring_path(shard), shard, engine.ring_reports, 0, 0, REPORTS)
        create_ring(plan.kept_reports_path(shard), shard, engine.kept_reports, 0, 0, REPORTS)
        create_table(plan.table_path(shard), shard, plan.table_capacity(shard), engine.ended_orders)
        symbols = [instrument.number for instrument in plan.instruments_of(shard)]
        create_board(plan.board_path(shard), shard, symbols, engine.depth_levels)
    for shard, (reports, last, kept) in (left or {}).items():
        RingWriter(plan.kept_reports_path(shard), REPORTS).publish_new(
            kept[-engine.kept_reports :], 1
        )
        path, first = plan.report_ring_path(shard), last - len(reports) + 1
        create_ring(path, shard, engine.ring_reports, first - 1, 0, REPORTS)
        RingWriter(path, REPORTS).publish_new(reports, first)
    create_status(plan.status_path, slots(members))
