"""History of a running product: written beside it, killed, at its end, and told of."""

import csv
import io
import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.history.destination import AwayError, HistoryError
from engine.history.kept import POSTGRES, SQLITE
from engine.plan import Plan
from engine.shard.holds import held_positions
from frontend.cli import main
from frontend.client import Client
from tests.histories import PostgresStore, SqliteStore, Store, reader
from tests.product import until
from tests.test_serve import Served, logged, served

KILLS = int(os.environ.get("SHARDBOOK_EXPORTER_KILLS", "3"))


def trade(client: Client, count: int) -> None:
    """Have as many trades with oneself in each of the first two symbols."""
    for _ in range(count):
        for symbol in ("AA", "BB"):
            client.submit(symbol, "sell", 1, "1.00")
            client.submit(symbol, "buy", 1, "1.00")


def positions(plan: Plan, store: Store) -> dict[int, tuple[int, int]]:
    """Return the last order and trade of each shard that the history has."""
    try:
        with closing(reader(plan, store)) as history:
            found = history.cursors()
    except (AwayError, HistoryError):
        return {}
    return {shard: (cursor.orders, cursor.trades) for shard, cursor in found.items()}


def role_of(store: Store) -> str:
    """Return the name of the exporter's role."""
    return "history" if store.kept is SQLITE else "database"


def run(capsys: pytest.CaptureFixture[str], serving: Served, *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["history", *arguments, "--config", str(serving.config)])
    return code, capsys.readouterr().out


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


@pytest.fixture
def serving(directory: Path, store: Store) -> Iterator[Served]:
    with served(directory, store.section) as found:
        yield found


def test_what_happens_stands_in_the_history_while_the_product_runs(
    serving: Served, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = serving.plan
    with Client(plan.addresses()[0], "alice") as client:
        trade(client, 5)
        resting = client.submit("AA", "buy", 7, "0.99").order_id
    until(lambda: positions(plan, store) == {0: (11, 5), 1: (10, 5)})
    until(lambda: serving.member(role_of(store)).counters["trades"] == 10)
    assert serving.member(role_of(store)).counters["lag_commands"] == 0
    until(lambda: "alice" in run(capsys, serving, "query", "orders", "--json")[1])
    code, out = run(
        capsys, serving, "query", "orders", "--user", "alice", "--symbol", "AA", "--json"
    )
    orders = [json.loads(line) for line in out.splitlines()]
    assert (code, len(orders), orders[0]["order_id"]) == (0, 11, resting)
    assert (orders[0]["status"], orders[0]["price"], orders[0]["filled"]) == ("OPEN", 0.99, 0)
    assert {order["status"] for order in orders[1:]} == {"FILLED"}
    assert {order["user_id"] for order in orders} == {"alice"}
    assert {order["average_price"] for order in orders[1:]} == {1}
    code, out = run(capsys, serving, "query", "trades", "--limit", "3", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["price"] for row in rows] == ["1.00"] * 3
    assert {row["buyer"] for row in rows} == {"alice"}
    code, out = run(capsys, serving, "verify")
    assert (code, out.splitlines()[-1]) == (0, "no difference")
    code, out = run(capsys, serving, "status")
    assert "shard 0: up to command" in out


def test_a_killed_exporter_comes_back_and_misses_nothing(
    serving: Served, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("SHARDBOOK_EXPORTER_SEED", random.randrange(1 << 30)))
    print(f"SHARDBOOK_EXPORTER_SEED={seed} (kills: SHARDBOOK_EXPORTER_KILLS)")
    chance, plan, done = random.Random(seed), serving.plan, 0
    with Client(plan.addresses()[0], "alice") as client:
        for _ in range(KILLS):
            pid = serving.member(role_of(store)).pid
            count = chance.randrange(1, 40)
            trade(client, count)
            os.kill(pid, signal.SIGKILL)
            trade(client, count)
            done += 2 * count
            until(lambda pid=pid: serving.member(role_of(store)).pid not in (0, pid))  # type: ignore[misc]
    until(lambda: positions(plan, store) == {0: (2 * done, done), 1: (2 * done, done)})
    assert run(capsys, serving, "verify")[0] == 0


def test_at_its_end_all_is_in_the_history(
    directory: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        served(directory, store.section) as serving,
        Client(serving.plan.addresses()[0], "alice") as client,
    ):
        trade(client, 200)
    assert serving.process.returncode == 0
    assert positions(serving.plan, store) == {0: (400, 200), 1: (400, 200)}
    assert len(logged(serving.plan)) == 400
    assert run(capsys, serving, "verify")[0] == 0


def test_an_exporter_that_cannot_go_on_leaves_the_product_alone(directory: Path) -> None:
    (directory / "data").mkdir()
    (directory / "data" / "history.sqlite").write_bytes(b"no database" * 1_000)
    serving = Served(directory, SqliteStore.section)
    try:
        line = serving.until("history.sqlite")
        assert "file is not a database" in line
    finally:
        serving.process.send_signal(signal.SIGTERM)
        serving.end()


@pytest.mark.servers
def test_a_server_that_is_away_costs_the_product_nothing(
    directory: Path, postgres_store: PostgresStore, capsys: pytest.CaptureFixture[str]
) -> None:
    server = postgres_store.server
    server.stop()
    try:
        with (
            served(directory, postgres_store.section) as serving,
            Client(serving.plan.addresses()[0], "alice") as client,
        ):
            plan = serving.plan
            until(lambda: serving.member("database").counters["away"] == 1)
            until(lambda: held_positions(plan.journal_dir(0)) == {POSTGRES.hold: 0})
            trade(client, 20)
            assert serving.member("database").state == "ready"
            server.start()
            until(lambda: positions(plan, postgres_store) == {0: (40, 20), 1: (40, 20)})
            until(lambda: serving.member("database").counters["away"] == 0)
            server.kill()
            trade(client, 20)
            until(lambda: serving.member("database").counters["away"] == 1)
            server.start()
            until(lambda: positions(plan, postgres_store) == {0: (80, 40), 1: (80, 40)})
            assert run(capsys, serving, "verify")[0] == 0
        said = "".join(serving.lines)
        assert said.count("is held up, and tried again") == 2
        assert said.count("goes on") == 2
    finally:
        server.start()
