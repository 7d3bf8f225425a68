"""HTTP served by a product's workers, and by a node that has Redis alone: for tests of both."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from engine.plan import Plan
from tests.http import Http, free_port, http_section, serving
from tests.product import config_text, make_config, running, until
from tests.redis_server import RedisServer, redis_running

KINDS = ["worker", pytest.param("node", marks=pytest.mark.servers)]


@contextmanager
def serving_by(kind: str, extra: str = "", before: str = "", **more: int) -> Iterator[Plan]:
    """Run a product that is served over HTTP by its workers, or by a node beside it."""
    with ExitStack() as stack:
        if kind == "worker":
            yield stack.enter_context(serving(extra=extra, before=before, **more))
            return
        server = stack.enter_context(redis_running())
        plan, node = stack.enter_context(product_and_node(server, extra, before, **more))
        yield node_plan(plan, node)


class Node:
    """``shardbook api`` as a user starts it."""

    def __init__(self, config: Path, port: int, entry: int, under: Sequence[str] = ()) -> None:
        """``under`` is what it is run under."""
        self.port = port
        command = [*under, sys.executable, "-m", "frontend.cli", "api", "--config", str(config)]
        self.process = subprocess.Popen([*command, "--frontend", f"127.0.0.1:{entry}"])

    def end(self) -> int:
        """End it in order; return its exit code."""
        self.process.terminate()
        return self.process.wait(60)


def node_plan(plan: Plan, node: Node) -> Plan:
    """Return a product's plan whose HTTP is a node's."""
    http = msgspec.structs.replace(plan.config.http, address=f"127.0.0.1:{node.port}")
    return plan.with_config(msgspec.structs.replace(plan.config, http=http))


@contextmanager
def node_of(
    directory: Path,
    server: RedisServer,
    entry: int,
    extra: str = "",
    before: str = "",
    matchers: int = 2,
) -> Iterator[Node]:
    """Run a node, until it serves."""
    port = free_port()
    text = server.text() + before + http_section(port, 1, extra)
    config = directory / f"node-{port}.toml"
    config.write_text(config_text(matchers, 4, text))
    node = Node(config, port, entry)
    try:
        until(lambda: is_ready(node))
        yield node
    finally:
        node.end()


def is_ready(node: Node) -> bool:
    """Return whether a node says that it serves."""
    assert node.process.poll() is None
    http = msgspec.structs.replace(make_config().http, address=f"127.0.0.1:{node.port}")
    plan = Plan(msgspec.structs.replace(make_config(), http=http), Path("none"))
    try:
        with Http(plan) as client:
            return client.call("GET", "/ready").status == 200
    except OSError:
        return False


@contextmanager
def product_and_node(
    server: RedisServer, extra: str = "", before: str = "", matchers: int = 2
) -> Iterator[tuple[Plan, Node]]:
    """Run a product that is exported, and a node."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="sb-")))
        entry = free_port()
        text = f'{server.text()}[frontend]\ntcp = "127.0.0.1:{entry}"\n'
        product = directory / "data"
        config = make_config(matchers, 4, before + text)
        plan = stack.enter_context(running(config, product))
        node = stack.enter_context(node_of(directory, server, entry, extra, before, matchers))
        yield plan, node
