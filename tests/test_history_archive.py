"""History in SQLite with a bound: what leaves the file is in Parquet files, and read as before."""

import csv
import io
import os
import random
import signal
import subprocess
import sys
from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.books.contract import Records
from engine.config import ConfigError, load_config
from engine.environment import with_environment
from engine.history import archive
from engine.history.archive import DAY_NS, archive_of, bytes_used
from engine.history.destination import HistoryError
from engine.history.history import Page, everything
from engine.history.sqlite import SqliteDestination
from engine.history.sqlite_reader import SqliteHistory
from engine.plan import Plan
from engine.shard.holds import held_positions, release
from engine.shard.snapshotter import take_snapshot
from frontend.cli import main
from ipc.vocabulary import OrdStatus
from tests.exporting import NAME, export
from tests.histories import SqliteStore, planned, verified
from tests.kept import TIME_NS, TIME_STEP, commands_for, recovered, write_journal
from tests.product import config_text, make_config, until
from tests.test_history import position_of, reached
from tests.test_history_reading import as_signed, plain_orders
from tests.test_snapshot import SMALL, log_trades

pytest.importorskip("pyarrow")

CLEANUP = "[history]\ncleanup = true\nkeep_days = 40\n"
KILLS = int(os.environ.get("SHARDBOOK_EXPORTER_KILLS", "3"))
STORE = SqliteStore()
DAYS = 100
"""Over which commands are spread."""


def spread(plan: Plan, count: int, seed: int = 1, first_day: int = 0) -> Records:
    """Return commands whose times go on for ``DAYS`` days."""
    commands = commands_for(plan, count, seed)
    step = DAYS * DAY_NS // (count // TIME_STEP)
    commands["timestamp_ns"] = TIME_NS + first_day * DAY_NS + np.arange(count) // TIME_STEP * step
    return commands


def tidied(plan: Plan) -> None:
    """Have all leave that is to."""
    with closing(STORE.kept.destination(plan)) as opened:
        assert isinstance(opened, SqliteDestination)
        assert opened._mover is not None
        while opened._mover.step(list(opened.cursors().values())):
            pass


def answers(plan: Plan, accounts: list[int]) -> list[bytes]:
    """Return all that is asked for in several ways, page by page."""
    middle = TIME_NS + DAYS // 2 * DAY_NS
    found = []
    with closing(SqliteHistory(plan.history_path)) as history:
        for what in (history.orders, history.trades):
            for page in (
                Page({}, 333),
                Page({}, 97, symbol=2),
                Page({}, 97, account=accounts[0]),
                Page({}, 97, account=accounts[1], symbol=1, from_ns=middle),
                Page({}, 97, to_ns=middle),
                Page({}, 97, statuses=[int(OrdStatus.FILLED)]),
            ):
                below = everything([0])
                while len(rows := what(page._replace(below=below))):
                    found.append(rows.tobytes())
                    below = {0: int(rows[rows.dtype.names[0]][-1])}
        spans = ((0, 1 << 62), (TIME_NS + DAY_NS, middle))
        found += [history.candles(0, 1, 7 * DAY_NS, *times).tobytes() for times in spans]
        found += [history.order(order_id).tobytes() for order_id in (1, 7, 50, 1_000, 1 << 30)]
    return found


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(archive, "PIECE_ROWS", 300)
    plan = planned(tmp_path, STORE, SMALL + CLEANUP)
    write_journal(plan, spread(plan, 4_000))
    log_trades(plan)
    return plan


def accounts_of(plan: Plan) -> list[int]:
    return sorted({as_signed(order["account"]) for order in plain_orders(plan).values()})


def test_what_leaves_the_file_is_read_as_before(plan: Plan) -> None:
    export(plan, STORE, events=True)
    accounts = accounts_of(plan)
    before, lines = answers(plan, accounts), verified(plan, STORE)
    [(orders, trades)] = STORE.ask(
        plan, "SELECT (SELECT count(*) FROM order_rows), (SELECT count(*) FROM trade_rows)"
    )
    tidied(plan)
    assert answers(plan, accounts) == before
    assert verified(plan, STORE) == lines
    left = dict(STORE.ask(plan, "SELECT kind, sum(rows) FROM archives GROUP BY kind"))
    [(last_ns,)] = STORE.ask(plan, "SELECT timestamp_ns FROM shards")
    assert isinstance(last_ns, int)
    old_ns = last_ns - 40 * DAY_NS
    for table, column in (("order_rows", "updated_ns"), ("trade_rows", "timestamp_ns")):
        is_open = " AND status > 1" if table == "order_rows" else ""
        rows = f"SELECT count(*) FROM {table} WHERE {column} < {old_ns}{is_open}"
        assert STORE.ask(plan, rows) == [(0,)]
    assert STORE.ask(plan, "SELECT count(*) FROM order_rows") == [(orders - left["orders"],)]
    assert STORE.ask(plan, "SELECT count(*) FROM trade_rows") == [(trades - left["trades"],)]
    assert left["orders"] > orders // 3  # type: ignore[operator]
    assert STORE.ask(plan, f"SELECT count(*) FROM order_events WHERE timestamp_ns < {old_ns}") == [
        (0,)
    ]
    assert left["events"] > left["orders"]
    names = [path.name for path in archive_of(plan.history_path).iterdir()]
    assert {name.split("-0-")[0] for name in names} >= {"orders-2023-11", "trades-2023-12"}
    # It goes on, orders that were open end and leave in their turn, and what a snapshot still
    # remembers of those that have left does not come back.
    end = recovered(plan)[0].end
    release(plan.journal_dir(0), NAME)
    for part in range(1, 5):
        write_journal(plan, spread(plan, 1_000, part, DAYS * part), end=end)
        last = log_trades(plan)
        take_snapshot(plan, 0)
        end = recovered(plan, last)[0].end
    export(plan, STORE)
    verified(plan, STORE)
    tidied(plan)
    lines = verified(plan, STORE)
    whole, _ = recovered(plan, last)
    given = whole.shard.book.counters().order_sequence
    assert any(f"of {given} that were given" in line for line in lines)
    assert not any("PROBLEM" in line for line in lines)


def test_a_piece_that_is_not_listed_is_none(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    export(plan, STORE)
    accounts = accounts_of(plan)
    before = answers(plan, accounts)
    written = []
    with monkeypatch.context() as change:

        def write(path: Path, rows: Records, sort: tuple[str, ...]) -> None:
            write_rows(path, rows, sort)
            written.append(path)
            raise HistoryError("killed here")

        write_rows = archive.write_rows
        change.setattr(archive, "write_rows", write)
        with pytest.raises(HistoryError, match="killed here"):
            tidied(plan)
    assert written[0].is_file()
    assert STORE.ask(plan, "SELECT count(*) FROM archives") == [(0,)]
    assert answers(plan, accounts) == before
    tidied(plan)
    assert answers(plan, accounts) == before
    # One that is gone is missed, rather than left out.
    piece = written[0]
    piece.rename(piece.with_suffix(".aside"))
    with pytest.raises(HistoryError, match=r"\.parquet: is missing"):
        answers(plan, accounts)


def test_the_file_stays_within_its_size(plan: Plan) -> None:
    export(plan, STORE)
    accounts = accounts_of(plan)
    before = answers(plan, accounts)
    path = plan.history_path
    with closing(SqliteDestination(path)) as opened:
        whole = bytes_used(opened._connection)
    most = whole * 3 // 4
    bounds = archive.Bounds(0, most, 1.0)
    with closing(SqliteDestination(path, bounds=bounds)) as opened:
        assert opened._mover is not None
        while opened._mover.step(list(opened.cursors().values())):
            pass
        assert most * 0.8 < bytes_used(opened._connection) <= most
    assert answers(plan, accounts) == before
    verified(plan, STORE)


def test_killed_while_rows_leave_it_misses_and_doubles_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    print(f"SHARDBOOK_EXPORTER_SEED={seed} (kills: SHARDBOOK_EXPORTER_KILLS)")
    chance = random.Random(int(os.environ.get("SHARDBOOK_EXPORTER_SEED", seed)))
    cleanup = CLEANUP.replace("40", "2\ncleanup_interval_s = 0")
    plan = planned(tmp_path, STORE, SMALL + cleanup)
    write_journal(plan, spread(plan, 20_000))
    log_trades(plan)
    config = tmp_path / "test.toml"
    config.write_text(config_text(1, 2, SMALL + cleanup + "sqlite = true\n"))
    command = [sys.executable, "-m", "tests.exporting", str(config), str(plan.data_dir), "sqlite"]
    for _ in range(KILLS):
        aim = position_of(plan, STORE) + chance.choice([1_000, 2_000, 5_000])
        with subprocess.Popen(command) as process:
            until(partial(reached, plan, STORE, min(aim, 20_000), process))
            process.send_signal(signal.SIGKILL)
    export(plan, STORE)
    assert STORE.ask(plan, "SELECT count(*) FROM archives") != [(0,)]
    verified(plan, STORE)


def test_exported_files_have_what_a_query_shows(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow.parquet

    export(plan, STORE)
    tidied(plan)
    config = tmp_path / "test.toml"
    config.write_text(config_text(1, 2, SMALL + CLEANUP + "sqlite = true\n"))
    place = ["--config", str(config), "--data-dir", str(plan.data_dir)]
    assert main(["history", "export", str(tmp_path / "out"), *place]) == 0
    assert "orders.parquet: " in capsys.readouterr().out
    for what in ("orders", "trades"):
        assert main(["history", "query", what, "--limit", "100000", "--csv", *place]) == 0
        shown = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        rows = pyarrow.parquet.read_table(tmp_path / "out" / f"{what}.parquet").to_pylist()
        assert len(rows) == len(shown) > 500
        for row, texts in zip(rows, shown, strict=True):
            assert row.pop("client_order_text", None) is None  # these have numbers
            for name, value in row.items():
                if name.endswith("_at") or name == "time":
                    continue
                text = texts[name]
                if isinstance(value, Decimal):
                    assert value == Decimal(text), (name, row)
                else:
                    assert ("" if value is None else str(value)) == text, (name, row)
    table = pyarrow.parquet.read_table(tmp_path / "out" / "trades.parquet")
    nanoseconds = table.column("time").cast("int64").to_pylist()
    assert nanoseconds == [int(texts["timestamp_ns"]) for texts in shown]
    path = tmp_path / "one.parquet"
    assert main(["history", "query", "orders", "--limit", "7", "--parquet", str(path), *place]) == 0
    assert capsys.readouterr().out == f"{path}: 7 orders\n"
    assert pyarrow.parquet.read_table(path).num_rows == 7
    assert main(["history", "status", *place]) == 0
    assert "archive: " in capsys.readouterr().out


def test_a_history_is_filled_at_once(
    plan: Plan,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / "test.toml"
    place = ["--config", str(config), "--data-dir", str(plan.data_dir)]
    for section, held in (("", {}), ("[history]\nsqlite = true\n", {STORE.kept.hold: 4_000})):
        config.write_text(config_text(1, 2, SMALL + section))
        STORE.remove(plan)
        assert main(["history", "backfill", "--source", "sqlite", *place]) == 0
        assert capsys.readouterr().out == "sqlite: 4000 commands taken in\n"
        assert held_positions(plan.journal_dir(0)) == held
        verified(plan, STORE)
    monkeypatch.setattr("engine.history.sqlite.LOCK_WAIT_S", 0.1)
    with closing(STORE.kept.destination(plan)):
        assert main(["history", "backfill", *place]) == 1
        assert "another exporter writes to it" in capsys.readouterr().err


def test_without_pyarrow_it_says_what_is_to_be_installed(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(plan, STORE)
    tidied(plan)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(HistoryError, match=r"pip install 'shardbook\[parquet\]'"):
        STORE.kept.destination(plan)
    with (
        closing(SqliteHistory(plan.history_path)) as history,
        pytest.raises(HistoryError, match=r"pip install 'shardbook\[parquet\]'"),
    ):
        history.order(1)


def test_cleanup_is_configured_as_it_was_called() -> None:
    names = {"ORDER_CLEANUP_ENABLED": "true", "ORDER_CLEANUP_INTERVAL": "60"}
    history = with_environment(load_config(), names).history
    assert (history.cleanup, history.cleanup_interval_s, history.keep_days) == (True, 60, 90)
    with pytest.raises(ConfigError, match=r"needs history\.keep_days or history\.max_bytes"):
        make_config(1, 1, "[history]\ncleanup = true\nkeep_days = 0\n")
