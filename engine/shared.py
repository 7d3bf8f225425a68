"""The shared memory of a product, laid out anew at its start."""

from collections.abc import Mapping

from engine.plan import Plan
from ipc.board import create_board
from ipc.ring import REPORTS, create_ring
from ipc.status import ProcessSlot, create_status
from ipc.table import create_table


def create_shared(plan: Plan, logged: Mapping[int, int]) -> None:
    """Make every mapping, empty; trade rings go on after each shard's last trade in the log.

    Raises ``MappingError``.
    """
    engine = plan.config.engine
    for shard in plan.shards:
        create_ring(plan.ring_path(shard), shard, engine.ring_trades, logged.get(shard, 0))
        create_ring(plan.report_ring_path(shard), shard, engine.ring_reports, 0, 0, REPORTS)
        create_table(plan.table_path(shard), shard, plan.table_capacity(shard), engine.ended_orders)
        symbols = [instrument.number for instrument in plan.instruments_of(shard)]
        create_board(plan.board_path(shard), shard, symbols, engine.depth_levels)
    create_status(plan.status_path, [ProcessSlot(m.role, m.index, m.core) for m in plan.members])
