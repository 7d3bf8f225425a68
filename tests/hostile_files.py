"""The files of a shard that has traded: journal, two snapshots, a log with compressed segments."""

from pathlib import Path

from engine.plan import Plan
from engine.shard.snapshotter import take_snapshot
from engine.trade_log.lines import LineFormatter
from engine.trade_log.log import TradeLog
from tests.kept import commands_for, plan_of, recovered, write_journal


def product_files(directory: Path) -> Plan:
    """Make them, and return their plan."""
    plan = plan_of(directory, "[journal]\nsegment_bytes = 16384\n")
    commands = commands_for(plan, 1_200)
    end = None
    for part in range(3):
        write_journal(plan, commands[400 * part : 400 * part + 400], end=end)
        with_log = TradeLog(plan.log_dir, 8_192, background=False)
        found, trades = recovered(plan, with_log.last_sequence(0))
        end = found.end
        found.shard.close()
        with_log.append(LineFormatter(plan.instruments).format(trades))
        with_log.close()
        if part < 2:
            take_snapshot(plan, 0)
    return plan
