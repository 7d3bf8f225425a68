"""Some nodes of a cluster on one machine, for trying: ``shardbook cluster demo``."""

import secrets
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import replace

from engine.cluster.verify import verify_nodes
from engine.config import Config, check_config
from engine.kafka.topics import initialise
from engine.plan import Plan
from engine.sections import ClusterSection
from engine.verify import Verdict
from frontend.launch import running_engine
from ipc.links.sockets import parse_address


def run_nodes(
    config: Config,
    count: int,
    directory: Path,
    wait: Callable[[list[Plan]], None],
    say: Callable[[str], None],
) -> Verdict:
    """Run nodes, their topics new, until ``wait`` returns; then hold them against each other.

    HTTP is at the configured port and those behind it, 0 being any that is free. Raises
    ``ConfigError``, ``KafkaLinkError`` and ``ServeError``.
    """
    kafka = replace(config.kafka, enabled=True, prefix=f"demo-{secrets.token_hex(4)}")
    for line in initialise(kafka, config.engine.matchers):
        say(line)
    http = parse_address(config.http.address)
    with ExitStack() as stack:
        plans = []
        for node in range(count):
            port = http.port + node if http.port else 0
            own = replace(
                config,
                kafka=replace(kafka, group_id=kafka.prefix),
                cluster=ClusterSection(enabled=True, node=node),
                http=replace(config.http, address=f"{http.host}:{port}"),
            )
            check_config(own)
            plan = stack.enter_context(running_engine(own, directory / f"node-{node}"))
            plans.append(plan)
            addresses = " and ".join(map(str, plan.addresses()))
            say(f"node {node}: http://{plan.config.http.address}, orders at {addresses}")
        say(f"{count} nodes serve one market; what is entered on one is on all. Ctrl-C ends them.")
        wait(plans)
    return verify_nodes(plans, directory)
