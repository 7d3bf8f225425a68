"""``shardbook demo`` and ``replay``: order flows, simulated or recorded."""

import argparse
import sys
from pathlib import Path

from frontend.command_line.endings import unwinding
from frontend.command_line.options import AddCommand, seconds, speed, whole
from frontend.command_line.product import config_of, say

DEMO_S = 10.0


def add(command: AddCommand) -> None:
    """Add the commands of this group."""
    demo = command("demo", _demo, "Run the engine under a simulated market, and check it.")
    demo.add_argument("--seconds", type=seconds, metavar="N", help="default 10")
    demo.add_argument("--symbols", type=whole(1, 1_000), default=4, metavar="N", help="default 4")
    demo.add_argument("--seed", type=whole(0, 2**63 - 1), metavar="N", help="default: a new one")
    demo.add_argument(
        "--page",
        action="store_true",
        help="a calm market to watch and trade in on the page, until Ctrl-C; checks nothing",
    )

    _add_replay(command("replay", _replay, "Send recorded order flows to an engine."))


def _add_replay(parser: argparse.ArgumentParser) -> None:
    """Add what a replay is told."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="CSV, plain or gzip")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--connect", metavar="ADDRESS", help="unix:PATH or tcp:HOST:PORT")
    where.add_argument("--config", type=Path, metavar="FILE", help="of the engine to start")
    parser.add_argument("--fills", type=Path, metavar="OUT.csv", help="where to write the fills")
    parser.add_argument(
        "--speed",
        type=speed,
        default="max",
        metavar="N|max",
        help="times the recorded speed; default max",
    )


def _demo(options: argparse.Namespace) -> int:
    from frontend.demo.open_market import run_page
    from frontend.demo.run import run_demo

    with unwinding():
        if options.page:
            return run_page(options.seconds, options.symbols, options.seed, sys.stdout)
        length_s = DEMO_S if options.seconds is None else options.seconds
        return run_demo(length_s, options.symbols, options.seed, sys.stdout)


def _replay(options: argparse.Namespace) -> int:
    from frontend.replay.run import replay

    with unwinding():
        config = config_of(options) if options.config else None
        summary = replay(options.files, options.connect, config, options.fills, options.speed, say)
        for line in summary.lines():
            say(line)
    return 0
