"""The role table: a role is its module and its row, and the engine knows nobody above it."""

import ast
import os
import re
import signal
from dataclasses import replace
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from engine.config import ConfigError
from engine.plan import Plan
from engine.roles import (
    DATABASE,
    ENGINE_ROLES,
    HISTORY,
    KAFKA,
    MATCHER,
    MONGODB,
    PERSISTER,
    REDIS,
    GatewayNumber,
    RoleTable,
)
from engine.supervisor import ServeError
from frontend.gateway.linked_gateway import session_numbers
from frontend.gateway.sessions import MAX_SESSION
from frontend.launch import running_engine
from frontend.reading import ProcessView, Reader
from frontend.roles import FRONTEND, HTTP, QUERY, ROLES
from ipc.wire.messages import NewOrder
from tests.fork_server import shared_fork_server
from tests.http import Http, free_port, http_section
from tests.line_role import LINES
from tests.product import Wire, make_config, until
from tests.tally_role import TALLY, states_path

ROOT = Path(__file__).parent.parent
TABLE = RoleTable((*ROLES.rows[1:], TALLY))


def trade(wire: Wire, count: int, first: int) -> None:
    """Trade with oneself, one lot each time."""
    for number in range(first, first + count):
        for side in (1, 2):
            wire.send(NewOrder(1, number, 0, side, 2, 1, 100, 1))


def view(plan: Plan, role: str) -> ProcessView:
    with Reader(plan) as reader:
        return next(process for process in reader.status() if process.role == role)


def test_a_role_is_a_module_and_a_row(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("r")
    extra = http_section(free_port(), 1) + "[roles.tally]\nbatch_trades = 3\n"
    lines: list[str] = []
    fork_server = shared_fork_server()
    with running_engine(
        make_config(2, 2, extra), directory, lines.append, fork_server, TABLE
    ) as plan:
        assert any(line.startswith("tally 0 on ") for line in lines)
        with Wire(plan, "alice") as wire, Http(plan) as http:
            trade(wire, 10, 1)
            until(lambda: view(plan, "tally").counters["trades"] == 10)
            assert view(plan, "tally").counters == {
                "trades": 10,
                "lots": 10,
                "batch_trades": 3,
                "lost_lines": 0,
            }
            assert view(plan, "tally").lag_trades == {0: 0, 1: 0}

            pid = view(plan, "tally").pid
            os.kill(pid, signal.SIGKILL)
            until(lambda: view(plan, "tally").state == "ready" and view(plan, "tally").pid != pid)
            assert view(plan, "supervisor").counters["restarts"] == 1
            trade(wire, 5, 11)
            until(lambda: view(plan, "tally").counters["trades"] == 5)
            until(lambda: not any(view(plan, "persister").lag_trades.values()))

            metrics = http.call("GET", "/metrics").raw.decode().splitlines()
            assert 'shardbook_up{role="tally",number="0"} 1' in metrics
            assert "# TYPE shardbook_tally_trades_total counter" in metrics
            assert 'shardbook_tally_trades_total{role="tally",number="0"} 5' in metrics
            assert 'shardbook_tally_batch_trades{role="tally",number="0"} 3' in metrics
            assert 'shardbook_tally_lag_trades{shard="0"} 0' in metrics
            assert 'shardbook_persister_lag_trades{shard="0"} 0' in metrics

            os.kill(view(plan, "tally").pid, signal.SIGSTOP)
            trade(wire, 4, 16)  # which it has to count on its way out
            until(lambda: view(plan, "tally").lag_trades[0] == 4)
            os.kill(view(plan, "tally").pid, signal.SIGCONT)
    states, counted = msgspec.json.decode(states_path(plan).read_bytes())
    assert counted == {"trades": 9}
    assert states == {
        **dict.fromkeys(("http", "frontend", "matcher", "query"), "stopped"),
        **dict.fromkeys(("tally", "persister"), "ready"),
        "supervisor": "draining",
    }
    assert any("tally 0 died (exit code -9); restarting it" in line for line in lines)
    assert lines[-1] == "stopped"


def test_a_process_that_cannot_begin_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    broken = RoleTable((*ROLES.rows[1:], replace(TALLY, entry="tests.tally_role:nothing")))
    directory = tmp_path_factory.mktemp("r")
    context = shared_fork_server()
    with (
        pytest.raises(ServeError, match="tally 0 did not start"),
        running_engine(make_config(1, 1), directory, None, context, broken),
    ):
        pass


@pytest.mark.parametrize(
    ("section", "error"),
    [
        ("tally]\nbatch_trades = 0", r"roles\.tally\.batch_trades = 0: expected int >= 1"),
        ("tally]\nbatches = 1", r"roles\.tally\.batches = 1: unknown key; .*: batch_trades"),
        ("talley]\nbatch_trades = 1", r"roles\.talley: unknown key; allowed here: tally"),
    ],
)
def test_settings_of_a_role_are_checked(section: str, error: str, tmp_path: Path) -> None:
    config = make_config(1, 1, f"[roles.{section}\n")
    with pytest.raises(ConfigError, match=error):
        TABLE.check(config)
    with (
        pytest.raises(ServeError, match=error),
        running_engine(config, tmp_path, None, shared_fork_server(), TABLE),
    ):
        pass


def test_a_table_that_cannot_be() -> None:
    for rows, error in (
        ((TALLY, TALLY), "role tally: must have one row"),
        ((replace(TALLY, counts=tuple(map(str, range(64)))),), "must have 64 counters at most"),
        ((replace(TALLY, gauges=frozenset({"others"})),), "its gauges must be among its counters"),
    ):
        with pytest.raises(ValueError, match=error):
            RoleTable(rows)


def test_the_orders_of_the_product() -> None:
    exporters = [HISTORY, DATABASE, MONGODB, REDIS, KAFKA]
    assert ROLES.started() == [MATCHER, QUERY, PERSISTER, *exporters, FRONTEND, HTTP]
    assert ROLES.stopped() == [HTTP, FRONTEND, MATCHER, *exporters, QUERY, PERSISTER]
    names = [row.name for row in ROLES.rows]
    engine = ["persister", "matcher", "history", "database", "mongodb", "redis", "kafka"]
    assert names == ["supervisor", "frontend", *engine, "query", "http"]


def test_each_gateway_has_a_number_and_its_own_sessions(tmp_path: Path) -> None:
    table = RoleTable((*ROLES.rows[1:], LINES))
    config = make_config(1, 1, http_section(1, 2) + "[frontend]\nprocesses = 3\n")
    members = table.members(Plan(config, tmp_path))
    found = {member.name: member.gateway for member in members if member.role.enters_orders}
    names = [f"frontend {n}" for n in range(3)] + ["http 0", "http 1", "lines 0"]
    assert found == {name: GatewayNumber(place, 6) for place, name in enumerate(names)}
    assert all((m.gateway is None) != m.role.enters_orders for m in members)
    each = [islice(session_numbers(place), 100) for place in found.values() if place is not None]
    numbers = [number for some in each for number in some]
    assert len(set(numbers)) == 600
    assert all(0 < number < MAX_SESSION for number in numbers)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_matchers_have_cores_of_their_own(count: int, tmp_path: Path) -> None:
    plan = Plan(make_config(3, 3), tmp_path)
    plan.cores = list(range(count))
    members = ROLES.members(plan)
    own = [member.core for member in members if member.role == MATCHER]
    others = {member.core for member in members if member.role != MATCHER}
    assert own == {1: [0, 0, 0], 2: [1, 1, 1], 3: [1, 2, 1]}.get(count, [*range(count - 3, count)])
    assert count == 1 or not others & set(own)
    assert [m.name for m in members if m.reader is not None] == ["persister 0"]
    assert members[0].core == plan.cores[0]


def named(text: str) -> list[str]:
    """Return the modules that a source names: in an import, or in a string that is a value."""
    tree = ast.parse(text)
    words = {
        id(node.value): None
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and id(node) not in words:
            dotted = re.findall(r"\w+(?:\.\w+)+", str(node.value))
            found += [name for name in dotted if is_ours(name)]
    return found


def is_ours(name: str) -> bool:
    """Return whether a dotted name begins with a module of the product."""
    module = ROOT.joinpath(*name.split(".")[:2])
    return module.is_dir() or module.with_suffix(".py").exists()


@pytest.mark.parametrize(("package", "below"), [("ipc", ["ipc"]), ("engine", ["ipc", "engine"])])
def test_nothing_names_what_is_above_it(package: str, below: list[str]) -> None:
    above = {"ipc", "engine", "frontend", "bench", "tests"} - set(below)
    assert named('ENTRY = "frontend.gateway.server:run"') == ["frontend.gateway.server"]
    assert named('key = "frontend.tcp"') == []
    for path in (ROOT / package).rglob("*.py"):
        upward = [name for name in named(path.read_text()) if name.split(".")[0] in above]
        assert not upward, path


def test_the_engine_has_a_table_of_its_own(tmp_path: Path) -> None:
    plan = Plan(make_config(2, 2), tmp_path)
    names = [member.name for member in RoleTable(ENGINE_ROLES).members(plan)]
    assert names == ["supervisor 0", "persister 0", "matcher 0", "matcher 1"]
