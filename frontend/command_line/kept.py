"""What is kept on disk: ``shardbook snapshot``, ``verify``, ``recover`` and ``history``."""

import argparse
import os
import sys
from pathlib import Path

from frontend.command_line.endings import unwinding
from frontend.command_line.options import AddCommand, add_place, moment, user, whole
from frontend.command_line.product import config_of, judge, place, say, with_database


def add(command: AddCommand) -> None:
    """Add the commands of this group."""
    add_place(command("snapshot", _snapshot, "Take a snapshot of each shard, running or not."))

    verify = command("verify", _verify, "Check journals, snapshots and trade log, byte by byte.")
    verify.add_argument("directory", type=Path, metavar="DIR", help="a data directory")
    verify.add_argument(
        "--log", type=Path, metavar="DIR", help="where the trade log lies elsewhere"
    )

    _add_history(command("history", _history, "Read the history, and check it."))

    recover = command("recover", _recover, "Look at what a start would do, or accept a loss.")
    how = recover.add_mutually_exclusive_group(required=True)
    how.add_argument("--dry-run", action="store_true", help="show it, and change nothing")
    how.add_argument(
        "--accept-loss", action="store_true", help="go on without what a start is refused for"
    )
    add_place(recover)


def _add_history(parser: argparse.ArgumentParser) -> None:
    """Add what can be done with a history."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = actions.add_parser("status", help="how far it goes, and what it lacks")
    status.add_argument("--json", action="store_true")
    verify = actions.add_parser("verify", help="hold it against journals and trade log")
    migrate = actions.add_parser("migrate", help="make or renew the tables of the database")
    backfill = actions.add_parser("backfill", help="take in all that there is, and end")
    query = actions.add_parser("query", help="print orders or trades, newest first")
    query.add_argument("what", choices=("orders", "trades"))
    query.add_argument("--order-id", type=whole(1, 2**53 - 1), metavar="ID", help="one order")
    query.add_argument("--symbol", metavar="S")
    query.add_argument("--user", type=user, metavar="USER")
    words = ("OPEN", "PARTIAL", "FILLED", "CANCELLED", "EXPIRED", "UNKNOWN")
    query.add_argument("--status", action="append", choices=words, help="of orders; repeatable")
    query.add_argument("--limit", type=whole(1, 1 << 40), default=100, metavar="N")
    how = query.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="a JSON object a line")
    how.add_argument("--csv", action="store_true")
    how.add_argument("--parquet", type=Path, metavar="FILE", help="into a file")
    export = actions.add_parser(
        "export", help="write all orders and trades to Parquet files, for pandas, polars, DuckDB"
    )
    export.add_argument("directory", type=Path, metavar="DIR", help="where they are made")
    for action in (query, export):
        action.add_argument("--from", type=moment, dest="start", default=0, metavar="T")
        action.add_argument("--to", type=moment, dest="end", default=1 << 63, metavar="T")
    for action in (status, verify, backfill, query, export):
        action.add_argument(
            "--source",
            choices=("sqlite", "postgres", "mongodb"),
            help="default: what is kept; SQLite first",
        )
    for action in (status, verify, migrate, backfill, query, export):
        add_place(action)


def _snapshot(options: argparse.Namespace) -> int:
    config = config_of(options)
    data_dir = place(options, config)
    from engine.places import check_owner
    from engine.shard.snapshot_schedule import step_back
    from engine.shard.snapshotter import take_snapshot
    from frontend.reading import running_plan

    plan = running_plan(config, data_dir)
    check_owner(plan)
    step_back(plan, late=True)  # somebody waits for it
    os.umask(plan.config.file_mask())
    with unwinding():
        for shard in plan.shards:
            taken = take_snapshot(plan, shard)
            if taken.path is None:
                say(f"shard {shard}: nothing new")
            else:
                say(
                    f"shard {shard}: {taken.path}: {taken.resting_orders} resting orders, "
                    f"{taken.commands} commands since the last; {taken.removed} older files removed"
                )
    return 0


def _verify(options: argparse.Namespace) -> int:
    from engine.verify import verify

    with unwinding():
        return judge(verify(options.directory, options.log), "all whole")


def _recover(options: argparse.Namespace) -> int:
    from engine.accept_loss import accept_loss
    from engine.listing import plan_of
    from engine.places import check_owner
    from engine.verify import dry_run

    plan = plan_of(with_database(config_of(options)), options.data_dir, damaged=True)
    os.umask(plan.config.file_mask())
    with unwinding():
        if options.dry_run:
            return judge(dry_run(plan), "a start would go on from here")
        check_owner(plan)
        for line in accept_loss(plan).lines:
            say(line)
    return 0


def _history(options: argparse.Namespace) -> int:
    config = with_database(config_of(options))
    data_dir = place(options, config)
    from engine.places import check_owner
    from frontend import history_commands
    from frontend.reading import running_plan

    plan = running_plan(config, data_dir)
    with unwinding():
        if options.action == "migrate":
            return history_commands.history_migrate(plan, sys.stdout)
        if options.action == "backfill":
            check_owner(plan)
            os.umask(plan.config.file_mask())
            return history_commands.history_backfill(plan, options.source, sys.stdout)
        if options.action == "status":
            return history_commands.history_status(
                plan, options.source, sys.stdout, as_json=options.json
            )
        if options.action == "verify":
            verdict = history_commands.history_verify(plan, options.source)
            return judge(verdict, "no difference")
        if options.action == "export":
            return history_commands.history_export(plan, options, sys.stdout)
        return history_commands.history_query(plan, options, sys.stdout)
