"""History in PostgreSQL: servers that go away, tables of others, secrets, and what people read."""

import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from engine.books.contract import Records
from engine.config import ConfigError
from engine.history import exporter as exporting
from engine.history.destination import AwayError, Destination, HistoryError
from engine.history.exporter import Exporter
from engine.history.history import Page, everything
from engine.history.kept import POSTGRES, migrate_database
from engine.history.loss import history_start
from engine.history.postgres_schema import VERSION
from engine.plan import Plan
from tests.cutting import cutting
from tests.exporting import export
from tests.histories import PostgresStore, destination, planned, reader, verified
from tests.kept import commands_for, recovered, write_journal
from tests.postgres import LOCKED
from tests.product import make_config
from tests.test_history import lose_from
from tests.test_snapshot import SMALL, log_trades

pytestmark = pytest.mark.servers
KILLS = int(os.environ.get("SHARDBOOK_SERVER_KILLS", "3"))


def written(directory: Path, store: PostgresStore, count: int = 3_000) -> tuple[Plan, Records]:
    """Return a plan with a journal and its trade log, and the commands."""
    plan = planned(directory, store, SMALL)
    commands = commands_for(plan, count)
    write_journal(plan, commands)
    log_trades(plan)
    return plan, commands


@contextmanager
def exporter_of(plan: Plan, opened: Destination) -> Iterator[Exporter]:
    exporter = Exporter(plan, opened, POSTGRES.hold)
    try:
        yield exporter
    finally:
        exporter.close()
        opened.close()


def test_killed_servers_cost_no_row_and_double_none(
    tmp_path: Path, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("SHARDBOOK_EXPORTER_SEED", random.randrange(1 << 30)))
    print(f"SHARDBOOK_EXPORTER_SEED={seed} (kills: SHARDBOOK_SERVER_KILLS)")
    chance, server = random.Random(seed), postgres_store.server
    plan, _ = written(tmp_path, postgres_store, 40_000)
    monkeypatch.setattr(exporting, "BATCH_COMMANDS", 64)
    monkeypatch.setattr(exporting, "_LAST_RETRY_S", 0.1)
    kills = 0
    with exporter_of(plan, destination(plan, postgres_store)) as exporter:
        ended = threading.Event()

        def kill() -> None:
            nonlocal kills
            while not ended.is_set() and kills < KILLS:
                before = exporter.shards[0].position
                while not ended.is_set() and exporter.shards[0].position <= before:
                    time.sleep(0.001)
                time.sleep(chance.random() * 0.05)
                server.kill()
                server.start()
                kills += 1

        killer = threading.Thread(target=kill)
        killer.start()
        exporter.run(lambda: exporter.shards[0].position >= 40_000, time.sleep)
        ended.set()
        killer.join()
        server.start()
        assert kills
        assert exporter.failures
    verified(plan, postgres_store)


def test_a_commit_whose_answer_is_lost_is_not_done_twice(
    tmp_path: Path, postgres_store: PostgresStore
) -> None:
    plan, _ = written(tmp_path, postgres_store)
    with cutting(postgres_store.server.port, b"COMMIT\0") as cutter:
        database = msgspec.structs.replace(plan.config.database, port=cutter.port)
        through = plan.with_config(msgspec.structs.replace(plan.config, database=database))
        with exporter_of(plan, POSTGRES.destination(through)) as exporter:
            for position in (0, 3_000):
                cutter.cut.set()
                assert exporter.step() == 0
                assert exporter.away is not None
                assert not cutter.cut.is_set()
                stored = postgres_store.ask(plan, "SELECT position FROM shards")
                assert stored == [(position,)]
            exporter.step()
            assert exporter.away is None
            assert exporter.shards[0].position == 3_000
    verified(plan, postgres_store)


def test_a_server_that_stops_is_waited_for(
    tmp_path: Path, postgres_store: PostgresStore, caplog: pytest.LogCaptureFixture
) -> None:
    plan, _ = written(tmp_path, postgres_store)
    server = postgres_store.server
    with exporter_of(plan, destination(plan, postgres_store)) as exporter:
        assert exporter.step()
        server.stop()
        write_journal(plan, commands_for(plan, 500, 2), end=recovered(plan)[0].end)
        for _ in range(3):
            assert exporter.step() == 0
            assert "postgresql://shardbook@127.0.0.1" in (exporter.away or "")
            assert exporter.shards[0].lag().commands == 500
        with pytest.raises(AwayError):
            reader(plan, postgres_store).cursors()
        server.start()
        assert exporter.step() == 500
        assert exporter.away is None
    said = [record.message for record in caplog.records]
    assert [line.split(":")[1].split(",")[0].strip() for line in said] == ["is held up", "goes on"]


def test_who_writes_while_the_exporter_is_away_is_noticed(
    tmp_path: Path, postgres_store: PostgresStore
) -> None:
    plan, _ = written(tmp_path, postgres_store)
    with exporter_of(plan, destination(plan, postgres_store)) as exporter:
        postgres_store.ask(
            plan,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{postgres_store.name}' AND pid <> pg_backend_pid()",
        )
        export(plan, postgres_store)
        assert exporter.step() == 0
        with pytest.raises(HistoryError, match="another exporter has written meanwhile"):
            exporter.step()
    verified(plan, postgres_store)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("DROP TABLE trade_rows CASCADE", "shardbook.trade_rows is missing; drop the schema"),
        ("DROP INDEX orders_by_account", "shardbook.orders_by_account is missing"),
        ("ALTER TABLE users ADD COLUMN more text", "shardbook.users was changed by hand"),
        ("INSERT INTO versions VALUES (7)", f"has version 7, this product knows {VERSION}"),
        ("DROP TABLE versions CASCADE", "but is no history of this product"),
    ],
)
def test_a_schema_changed_by_hand_is_refused(
    tmp_path: Path, postgres_store: PostgresStore, change: str, problem: str
) -> None:
    plan = planned(tmp_path, postgres_store)
    destination(plan, postgres_store).close()
    postgres_store.ask(plan, change)
    for opening in (
        lambda: destination(plan, postgres_store),
        lambda: reader(plan, postgres_store).cursors(),
    ):
        with pytest.raises(HistoryError, match=problem) as raised:
            opening()
        assert not isinstance(raised.value, AwayError)


def test_a_schema_of_others_is_left_alone(tmp_path: Path, postgres_store: PostgresStore) -> None:
    plan = planned(tmp_path, postgres_store)
    for statement in ("CREATE SCHEMA shardbook", "CREATE TABLE shardbook.theirs (a int)"):
        postgres_store.ask(plan, statement)
    with pytest.raises(HistoryError, match="has a relation theirs, but is no history"):
        migrate_database(plan)
    with pytest.raises(HistoryError, match="has a relation theirs, but is no history"):
        destination(plan, postgres_store)
    tables = postgres_store.ask(
        plan, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'shardbook'"
    )
    assert tables == [("theirs",)]


def test_tables_are_made_once(tmp_path: Path, postgres_store: PostgresStore) -> None:
    plan = planned(tmp_path, postgres_store)
    history = reader(plan, postgres_store)
    assert not history.begun()
    with pytest.raises(HistoryError, match="`shardbook history migrate` makes it"):
        history.cursors()
    assert migrate_database(plan) == list(range(1, VERSION + 1))
    assert migrate_database(plan) == []
    assert history.begun()
    assert history.cursors() == {}
    history.close()


def test_a_password_is_taken_and_never_shown(
    tmp_path: Path, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, postgres_store)
    destination(plan, postgres_store).close()
    for statement in (
        f"DROP ROLE IF EXISTS {LOCKED}",
        f"CREATE ROLE {LOCKED} LOGIN PASSWORD 'sesame'",
        f"GRANT USAGE ON SCHEMA shardbook TO {LOCKED}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA shardbook TO {LOCKED}",
    ):
        postgres_store.ask(plan, statement)
    database = msgspec.structs.replace(plan.config.database, user=LOCKED)
    other = plan.with_config(msgspec.structs.replace(plan.config, database=database))
    monkeypatch.setenv("DATABASE_PASSWORD", "open-barley")
    with pytest.raises(AwayError, match="password authentication failed") as raised:
        reader(other, postgres_store).cursors()
    assert "barley" not in str(raised.value)
    monkeypatch.setenv("DATABASE_PASSWORD", "sesame")
    assert reader(other, postgres_store).cursors() == {}
    with pytest.raises(HistoryError, match="permission denied") as raised:
        Exporter(other, destination(other, postgres_store), POSTGRES.hold)
    assert "sesame" not in str(raised.value)
    postgres_store.ask(plan, f"DROP OWNED BY {LOCKED}")
    postgres_store.ask(plan, f"DROP ROLE {LOCKED}")


def test_views_show_exact_decimals_and_whose_trades_are_whose(
    tmp_path: Path, postgres_store: PostgresStore
) -> None:
    plan, _ = written(tmp_path, postgres_store)
    export(plan, postgres_store)
    history = reader(plan, postgres_store)
    page = Page(everything([0]), 10_000)
    scales = {i.number: i for i in plan.instruments}
    rows = postgres_store.ask(
        plan, "SELECT trade_id, symbol, price, quantity, timestamp_ns FROM trades ORDER BY 1 DESC"
    )
    trades = history.trades(page)
    assert len(rows) == len(trades) > 500
    for row, trade in zip(rows, trades, strict=True):
        instrument = scales[int(trade["symbol"])]
        price = Decimal(instrument.tick.text(int(trade["price"])))
        quantity = Decimal(instrument.lot.text(int(trade["quantity"])))
        expected = (int(trade["trade_id"]), instrument.symbol, price, quantity)
        assert row == (*expected, int(trade["timestamp_ns"]))
    account = int(trades[0]["buyer"])
    whose = postgres_store.ask(
        plan,
        "SELECT DISTINCT trade_id FROM user_trades "
        f"WHERE account = {account} ORDER BY trade_id DESC",
    )
    mine = history.trades(page._replace(account=account))
    assert [row[0] for row in whose] == mine["trade_id"].tolist()
    [(paid,)] = postgres_store.ask(plan, "SELECT sum(value) FROM orders")
    [(made,)] = postgres_store.ask(plan, "SELECT 2 * sum(price * quantity) FROM trades")
    assert paid == made
    history.close()


def test_a_start_is_refused_where_only_the_database_knows_more(
    tmp_path: Path, postgres_store: PostgresStore
) -> None:
    plan, commands = written(tmp_path, postgres_store)
    with exporter_of(plan, destination(plan, postgres_store)) as exporter:
        while exporter.step():
            pass
    assert history_start(plan) == ""
    lose_from(plan, commands, 2_900)
    assert "the journal ends with command 2900, but the history has command 3000" in (
        history_start(plan)
    )
    postgres_store.server.stop()
    try:
        # What is known here of a server that is away: up to where it let the journal go.
        (plan.journal_dir(0) / f"{POSTGRES.hold}.follower").write_text("2950\n")
        assert "but the history has command 2950" in history_start(plan)
        (plan.journal_dir(0) / f"{POSTGRES.hold}.follower").write_text("2900\n")
        assert history_start(plan) == ""
    finally:
        postgres_store.server.start()


def test_a_start_goes_on_beside_a_database_of_another_data_directory(
    tmp_path: Path, postgres_store: PostgresStore
) -> None:
    plan, other = (planned(tmp_path / name, postgres_store, SMALL) for name in ("one", "other"))
    write_journal(plan, commands_for(plan, 200), secret=1)
    write_journal(other, commands_for(other, 100), secret=2)
    export(plan, postgres_store)
    assert history_start(other) == ""  # its exporter refuses, and matching goes on


def test_a_question_that_takes_too_long_ends(tmp_path: Path, postgres_store: PostgresStore) -> None:
    plan, _ = written(tmp_path, postgres_store)
    export(plan, postgres_store)
    held = threading.Event()
    release = threading.Event()

    def hold() -> None:
        import psycopg

        server = postgres_store.server
        with psycopg.connect(
            host="127.0.0.1", port=server.port, dbname=postgres_store.name, user="shardbook"
        ) as connection:
            connection.execute("LOCK TABLE shardbook.order_rows")
            held.set()
            release.wait(20)

    holding = threading.Thread(target=hold)
    holding.start()
    held.wait(60)
    try:
        history = reader(plan, postgres_store, 0.2)
        with pytest.raises(AwayError, match="statement timeout"):
            history.orders(Page(everything([0]), 10))
        history.close()
    finally:
        release.set()
        holding.join()


def test_a_server_that_is_silent_counts_as_away(
    tmp_path: Path, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _ = written(tmp_path, postgres_store)
    monkeypatch.setattr("engine.history.postgres.LONGEST_S", 0.5)
    monkeypatch.setattr("engine.history.postgres.LOCK_WAIT_S", 0.5)
    with exporter_of(plan, destination(plan, postgres_store)) as exporter:
        history = reader(plan, postgres_store, 0.5)
        assert history.cursors() == {}
        with postgres_store.silent():
            assert exporter.step() == 0
            assert "does not answer within 1 s" in (exporter.away or "")
            with pytest.raises(AwayError, match="does not answer within 1 s"):
                history.cursors()
        monkeypatch.setattr("engine.history.postgres.LOCK_WAIT_S", 30.0)
        monkeypatch.setattr("engine.history.postgres.LONGEST_S", 30.0)
        while exporter.step() or exporter.away is not None:
            pass
        history.close()
    verified(plan, postgres_store)


def test_a_client_library_that_is_missing_is_named(
    tmp_path: Path, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, postgres_store)
    for module in ("engine.history.postgres", "engine.history.postgres_link"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(HistoryError, match=r"pip install 'shardbook\[postgres\]'"):
        destination(plan, postgres_store)


def test_connections_are_bounded_by_what_the_product_needs(postgres_store: PostgresStore) -> None:
    most = f"{postgres_store.section}max_connections = 3\n"
    make_config(extra=f"{most}[http]\nworkers = 2\n")
    with pytest.raises(ConfigError, match="max_connections = 3: must be 4 or more: the exporter"):
        make_config(extra=f"{most}[http]\nworkers = 3\n")
