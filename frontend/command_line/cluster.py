"""Several machines: ``shardbook cluster``."""

import argparse
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from engine.printable import printable
from frontend.command_line.endings import FAILURE, unwinding
from frontend.command_line.options import AddCommand, add_place, whole
from frontend.command_line.product import config_of, judge, say

if TYPE_CHECKING:
    from engine.config import Config


def add(command: AddCommand) -> None:
    """Add the commands of this group."""
    parser = command(
        "cluster", _cluster, "Several machines: Kafka's topics, and whether nodes agree."
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    init = actions.add_parser("init", help="make the topics of Kafka that are missing")
    add_place(init)
    add_place(
        actions.add_parser("status", help="logs, trades, and who writes them, as Kafka knows")
    )
    forget = actions.add_parser("forget", help="free the numbers of nodes that are gone for good")
    forget.add_argument("nodes", type=whole(0, 63), nargs="+", metavar="NODE")
    forget.add_argument("--config", type=Path, metavar="FILE", help="default: the one that ships")
    demo = actions.add_parser("demo", help="some nodes on this machine, with topics of their own")
    demo.add_argument("--brokers", metavar="HOST:PORT", help="default: those of the configuration")
    demo.add_argument("--nodes", type=whole(1, 16), default=3, metavar="N", help="default: 3")
    demo.add_argument("--config", type=Path, metavar="FILE", help="default: the one that ships")
    verify = actions.add_parser("verify", help="hold nodes and the topic of trades to each other")
    verify.add_argument("nodes", type=Path, nargs="+", metavar="DIR", help="data directories")
    verify.add_argument("--config", type=Path, metavar="FILE", help="default: the one that ships")


def _cluster(options: argparse.Namespace) -> int:
    from engine.environment import with_environment

    told = {name: text for name, text in os.environ.items() if name.startswith("KAFKA_")}
    config = with_environment(config_of(options), told)
    try:
        from engine.kafka.link import KafkaLinkError
        from engine.kafka.topics import initialise
    except ImportError as error:
        text = f"Kafka needs more to be installed: pip install 'shardbook[kafka]' ({error})"
        print(f"shardbook: {text}", file=sys.stderr)
        return FAILURE
    try:
        if options.action == "status":
            from engine.cluster.status import shard_statuses

            for found in shard_statuses(config.kafka, config.engine.matchers):
                say(found.line())
            return 0
        if options.action == "forget":
            from engine.cluster.forget import forget

            forget(config.kafka, config.engine.matchers, options.nodes)
            return 0
        if options.action == "demo":
            return _demo(config, options)
        if options.action == "verify":
            return _verify(config, options.nodes)
        for line in initialise(config.kafka, config.engine.matchers):
            say(line)
    except KafkaLinkError as error:
        print(f"shardbook: {printable(str(error))}", file=sys.stderr)
        return FAILURE
    return 0


def _verify(config: "Config", nodes: list[Path]) -> int:
    from ipc.native import code_cache

    code_cache.prefer(nodes[0].absolute() / "cache")
    from engine.cluster.verify import verify_nodes
    from frontend.reading import running_plan

    plans = [running_plan(config, node) for node in nodes]
    with unwinding(), TemporaryDirectory(prefix="shardbook-") as scratch:
        return judge(verify_nodes(plans, Path(scratch)), "all nodes agree")


def _demo(config: "Config", options: argparse.Namespace) -> int:
    from msgspec.structs import replace

    from engine.config import check_config
    from frontend.cluster_demo import run_nodes

    if options.brokers:
        config = replace(config, kafka=replace(config.kafka, brokers=options.brokers))
        check_config(config)
    with TemporaryDirectory(prefix="shardbook-") as directory:
        verdict = run_nodes(config, options.nodes, Path(directory), lambda _: _until_told(), say)
        return judge(verdict, "all nodes agree")


def _until_told() -> None:
    """Return at Ctrl-C, or where this is asked to end."""
    with suppress(KeyboardInterrupt), unwinding():
        while True:
            signal.pause()
