"""What guards exporters against loss by their own retries, bounds and other shards."""

import fcntl
import os
import shutil
import time
from pathlib import Path
from threading import Event, Semaphore, Timer
from typing import Any

import numpy as np
import pytest

from engine.cache.past import newest_trades
from engine.history import exporter as exporting
from engine.history import past, sqlite
from engine.history.destination import AwayError, Cursor
from engine.history.exporter import FIRST_COMMANDS, Exporter
from engine.history.past import logged_trades
from engine.history.postgres import PostgresDestination
from engine.history.process import run
from engine.history.rows import ORDER_ROW, TRADE_ROW, Rows
from engine.history.sqlite import NAME
from engine.journal.format import JournalError
from engine.journal.reader import segments_of
from engine.journal.snapshot import sequence_of_snapshot, snapshots_of
from engine.plan import Plan
from engine.roles import slots
from engine.shard.follower import BATCH_COMMANDS, Follower
from engine.shard.holds import held_positions
from engine.shard.snapshotter import take_snapshot
from engine.trade_log.lines import LineFormatter
from engine.trade_log.log import TradeLog
from frontend.roles import ROLES
from ipc.memory.ring import RingWriter, create_ring
from ipc.memory.status import StatusWriter, create_status
from ipc.records import REPORT, TRADE, make_id, sequence_of
from ipc.vocabulary import OrdStatus, Side
from tests.histories import PostgresStore, SqliteStore, Store, destination, planned, verified
from tests.kept import commands_for, plan_of, recovered, write_journal
from tests.product import until
from tests.test_snapshot import SMALL, log_trades


def test_one_transaction_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path, SqliteStore(), SMALL)
    write_journal(plan, commands_for(plan, 6_000))
    opened = destination(plan, SqliteStore())
    exporter = Exporter(plan, opened, NAME)
    for name in ("BATCH_COMMANDS", "BATCH_REPORTS"):
        with monkeypatch.context() as change:
            change.setattr(exporting, name, 1)
            assert 0 < exporter.step() <= BATCH_COMMANDS
    exporter.close()
    opened.close()


def test_only_what_is_durable_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path, SqliteStore(), SMALL)
    write_journal(plan, commands_for(plan, 6_000))
    opened = destination(plan, SqliteStore())
    allowed, sync = Semaphore(0), opened.sync

    def slowly() -> None:
        allowed.acquire(timeout=60)
        sync()

    monkeypatch.setattr(opened, "sync", slowly)
    monkeypatch.setattr(exporting, "BATCH_COMMANDS", 1)
    monkeypatch.setattr(exporting, "SETTLE_S", 0.0)
    exporter = Exporter(plan, opened, NAME)
    first = exporter.step()  # begins to be made durable
    assert exporter.step() > 0
    assert held_positions(plan.journal_dir(0)) == {NAME: 0}
    allowed.release()
    until(lambda: (exporter.settle(), held_positions(plan.journal_dir(0)))[1] != {NAME: 0})  # type: ignore[func-returns-value]
    assert held_positions(plan.journal_dir(0)) == {NAME: first}
    allowed.release(9)
    exporter.close()
    opened.close()


def test_what_is_written_is_made_durable_and_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, SqliteStore(), SMALL)
    opened = destination(plan, SqliteStore())
    rows = np.zeros(2_000, ORDER_ROW)
    rows["order_id"] = np.arange(1, 2_001)
    trades, reports = np.zeros(0, TRADE_ROW), np.zeros(0, REPORT)
    opened.write(Cursor(0, "", 1, 2_000, 0, 0, 0), Rows(rows, trades, reports, 1))
    synced, sync = list[str](), os.fdatasync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve().name)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", noted)
    before = plan.history_path.stat().st_size
    opened.sync()
    assert (synced, plan.history_path.stat().st_size) == ([f"{plan.history_path.name}-wal"], before)
    monkeypatch.setattr(sqlite, "_CHECKPOINT_BYTES", 0)
    opened.sync()
    assert plan.history_path.stat().st_size > before
    opened.close()


def test_a_lock_that_goes_soon_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    ending = Timer(0.3, os.close, [lock])  # as where one that was killed takes a while to end
    ending.start()
    sqlite.SqliteDestination(path).close()
    ending.join()


def test_an_open_order_of_another_shard_is_left_alone(tmp_path: Path, store: Store) -> None:
    plan = planned(tmp_path, store, SMALL)
    opened = destination(plan, store)
    trades, reports = np.zeros(0, TRADE_ROW), np.zeros(0, REPORT)
    for shard in (0, 1):
        rows = np.zeros(1, ORDER_ROW)
        rows["order_id"], rows["created_ns"] = make_id(shard, 5), 1
        rows["status"] = OrdStatus.NEW
        opened.write(Cursor(shard, "", 1, 5, 0, 0, 0), Rows(rows, trades, reports, 1))
    opened.begin(Cursor(0, "", 9, 7, 0, 0, 0), np.zeros(0, ORDER_ROW), "a gap", {})
    assert opened.cursors()[0].lost_orders == 1  # its own is lost sight of
    opened.close()
    found = store.ask(plan, "SELECT status FROM order_rows ORDER BY order_id")
    assert found == [(-1,), (OrdStatus.NEW,)]


def past_plan(directory: Path, store: Store) -> tuple[Plan, int]:
    """Return a plan whose journal's beginning is gone, and the last trade of its log."""
    plan = planned(directory, store, SMALL, engine="ended_orders = 50\n")
    end, last = None, 0
    for part in range(6):
        write_journal(plan, commands_for(plan, 1_000, part), end=end)
        last = log_trades(plan)
        take_snapshot(plan, 0)
        end = recovered(plan, last)[0].end
    return plan, last


def test_a_piece_of_the_log_that_was_not_taken_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore()
    plan, _ = past_plan(tmp_path, store)
    monkeypatch.setattr(past, "TRADES_AT_ONCE", 100)
    opened = destination(plan, store)
    write, calls = opened.write_past, iter(range(1 << 30))

    def fail_once(*arguments: Any) -> None:
        if next(calls) == 2:
            raise AwayError("away")
        write(*arguments)

    monkeypatch.setattr(opened, "write_past", fail_once)
    exporter = Exporter(plan, opened, NAME)
    while exporter.step() or exporter.away:
        pass
    assert exporter.failures == 1
    exporter.close()
    opened.close()
    assert store.ask(plan, "SELECT lost_trades FROM shards") == [(0,)]
    verified(plan, store)


@pytest.mark.parametrize("kept", [slice(200, None), slice(0, 100)], ids=["end", "beginning"])
def test_trades_that_the_log_lacks_are_counted(tmp_path: Path, kept: slice) -> None:
    store = SqliteStore()
    plan, last = past_plan(tmp_path, store)
    [log] = [path for path in plan.log_dir.iterdir() if path.suffix == ".ndjson"]
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[kept]))
    opened = destination(plan, store)
    exporter = Exporter(plan, opened, NAME)
    while exporter.step():
        pass
    exporter.close()
    opened.close()
    [(lost,)] = store.ask(plan, "SELECT lost_trades FROM shards")
    assert lost == 200 if kept.start else lost > 100
    assert store.ask(plan, "SELECT count(*) FROM trade_rows") == [(last - lost,)]
    verified(plan, store)


def test_a_damaged_snapshot_is_no_beginning(tmp_path: Path) -> None:
    plan, _ = past_plan(tmp_path, SqliteStore())
    directory = plan.journal_dir(0)
    first = past.earliest_position(directory, 0)
    [path] = [path for path in snapshots_of(directory) if sequence_of_snapshot(path) == first]
    path.write_bytes(path.read_bytes()[:-1])
    assert past.earliest_position(directory, 0) > first


def test_told_to_stop_it_takes_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, SqliteStore(), SMALL)
    write_journal(plan, commands_for(plan, 6_000))
    opened = destination(plan, SqliteStore())
    monkeypatch.setattr(exporting, "BATCH_COMMANDS", 1)
    exporter = Exporter(plan, opened, NAME)
    exporter.run(lambda: True, time.sleep)
    exporter.close()
    opened.close()
    assert held_positions(plan.journal_dir(0)) == {NAME: 6_000}


class Orphaned:
    """What an exporter waits on whose product has died."""

    stopping = orphaned = False

    def wait(self, timeout_s: float | None) -> None:
        self.stopping = self.orphaned = True


class Watched(StatusWriter):
    """Notes how far behind an exporter said to be when it was ready."""

    lag = 0

    def ready(self) -> None:
        self.lag = self.words[self._place["lag_commands"]]
        super().ready()


def test_an_exporter_whose_product_has_died_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    plan = planned(tmp_path, SqliteStore(), SMALL)
    write_journal(plan, commands_for(plan, 12_000))
    plan.run_dir.mkdir(parents=True, mode=0o700)
    try:
        create_status(plan.status_path, slots(ROLES.members(plan)))
        StatusWriter(plan.status_path, "supervisor", 0).start(os.getpid(), 1)
        StatusWriter(plan.status_path, "matcher", 0).set("commands", 12_000)
        before = 0
        for _ in range(2):
            status = Watched(plan.status_path, "history", 0)
            run(plan, 0, status, Orphaned())
            assert status.lag == 12_000 - before  # said before anything was opened
            position = held_positions(plan.journal_dir(0))[NAME]
            assert FIRST_COMMANDS <= position - before < 2 * FIRST_COMMANDS
            before = position
    finally:
        shutil.rmtree(plan.run_dir)


def test_batches_grow_while_they_are_written_soon_and_shrink_while_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, SqliteStore())
    write_journal(plan, commands_for(plan, 24 * FIRST_COMMANDS))
    opened = destination(plan, SqliteStore())
    monkeypatch.setattr(exporting, "BATCH_REPORTS", 1 << 30)
    exporter = Exporter(plan, opened, NAME)
    for slow_s, sizes in ((60.0, [1, 2, 4, 4]), (-1.0, [4, 2, 1, 1])):
        monkeypatch.setattr(exporting, "SLOW_S", slow_s)
        assert [exporter.step() // FIRST_COMMANDS for _ in sizes] == sizes
    exporter.close()
    opened.close()


def test_a_journal_that_is_damaged_ends_it(tmp_path: Path) -> None:
    plan = planned(tmp_path, SqliteStore(), SMALL)
    write_journal(plan, commands_for(plan, 6_000))
    opened = destination(plan, SqliteStore())
    exporter = Exporter(plan, opened, NAME)
    damaged = segments_of(plan.journal_dir(0))[-2].path
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(JournalError):
        until(lambda: exporter.step() < 0)
    exporter.close()
    opened.close()


def test_of_the_log_a_shard_takes_its_own(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    trades = np.zeros(9, TRADE)
    trades["trade_id"] = [make_id(n % 2, 1 + n // 2) for n in range(9)]
    trades["symbol"] = [plan.instruments[n % 2].number for n in range(9)]
    trades["price"], trades["quantity"] = 5, 1
    trades["taker_side"] = Side.BUY
    log = TradeLog(plan.log_dir, 1 << 20)
    log.append(LineFormatter(plan.instruments).format(trades))
    log.close()
    [(found, _, end)] = logged_trades(plan, 0, 2, 4)
    assert [sequence_of(int(i)) for i in found["trade_id"]] == [2, 3, 4]
    assert end == 4


def test_a_ring_that_lags_is_no_source_of_the_newest_trades(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    write_journal(plan, commands_for(plan, 1_000))
    last = log_trades(plan)
    made = recovered(plan)[1]
    plan.run_dir.mkdir(mode=0o700)
    create_ring(plan.ring_path(0), 0, 1 << 12, 0, 0)
    ring = RingWriter(plan.ring_path(0))
    for published in (last - 5, last):
        ring.publish(made[ring.published : published])
        found = newest_trades(plan, 0, last, 1_000)
        assert found["trade_id"].tolist() == made["trade_id"].tolist()
    ring.close()


@pytest.mark.servers
@pytest.mark.parametrize("done", [False, True], ids=["not_done", "answer_lost"])
def test_what_is_made_ahead_waits_for_what_is_tried_again(
    tmp_path: Path, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    plan = planned(tmp_path, postgres_store, SMALL)
    write_journal(plan, commands_for(plan, 12_000))
    log_trades(plan)
    opened = destination(plan, postgres_store)
    write, calls = opened.write, iter(range(1 << 30))

    def fail_once(*arguments: Any) -> None:
        fails = next(calls) == 2
        if done or not fails:
            write(*arguments)
        if fails:
            raise AwayError("away")

    monkeypatch.setattr(opened, "write", fail_once)
    monkeypatch.setattr(exporting, "BATCH_COMMANDS", 1)  # each is full
    exporter = Exporter(plan, opened, NAME)
    behind = []
    while exporter.step() or exporter.away:
        behind.append(exporter.shards[0].lag().commands)
    assert max(behind) > 0  # what is made and waits
    assert (exporter.failures, exporter.shards[0].commands) == (1, 12_000)
    exporter.close()
    opened.close()
    verified(plan, postgres_store)


@pytest.mark.servers
def test_a_journal_that_ends_early_ends_it_once_what_was_made_is_written(
    tmp_path: Path, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, postgres_store, SMALL)
    write_journal(plan, commands_for(plan, 6_000))
    opened = destination(plan, postgres_store)
    monkeypatch.setattr(exporting, "BATCH_COMMANDS", 1)
    exporter = Exporter(plan, opened, NAME)
    damaged = segments_of(plan.journal_dir(0))[-2].path
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(JournalError):
        until(lambda: exporter.step() < 0)
    written = opened.cursors()[0].position
    exporter.close()
    opened.close()
    assert written == exporter.shards[0].position > 0


@pytest.mark.servers
def test_what_was_carried_out_before_a_failure_is_not_passed_over(
    tmp_path: Path, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, postgres_store, SMALL)
    write_journal(plan, commands_for(plan, 12_000))
    log_trades(plan)
    step, write, calls = Follower.step, PostgresDestination.write, iter(range(1 << 30))
    begun = Event()

    def noted(*arguments: Any) -> None:
        begun.set()
        write(*arguments)

    def fail_once(*arguments: Any) -> Any:
        if begun.is_set() and next(calls) == 1:  # of what is made ahead
            raise JournalError("for once")
        return step(*arguments)

    monkeypatch.setattr(PostgresDestination, "write", noted)

    monkeypatch.setattr(Follower, "step", fail_once)
    monkeypatch.setattr(exporting, "BATCH_COMMANDS", 2 * BATCH_COMMANDS)
    with pytest.raises(JournalError, match="for once"):
        drain(plan, postgres_store)
    drain(plan, postgres_store)
    verified(plan, postgres_store)


def drain(plan: Plan, store: Store) -> None:
    """Export all that there is."""
    opened = destination(plan, store)
    exporter = Exporter(plan, opened, NAME)
    try:
        while exporter.step():
            pass
    finally:
        exporter.close()
        opened.close()


@pytest.mark.servers
def test_a_commit_is_waited_for_whatever_the_database_says(
    tmp_path: Path, postgres_store: PostgresStore
) -> None:
    plan = planned(tmp_path, postgres_store, SMALL)
    name = postgres_store.name
    postgres_store.ask(plan, f"ALTER DATABASE {name} SET synchronous_commit = 'off'")
    opened: Any = destination(plan, postgres_store)
    [(said,)] = opened._link().execute("SHOW synchronous_commit").fetchall()
    opened.close()
    assert said == "on"
