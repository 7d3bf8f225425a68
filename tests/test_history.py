"""History: what the exporter keeps is all that there is, once and exact, in every database."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.accept_loss import SKIPPED_ORDERS, accept_loss
from engine.books.contract import Records
from engine.history.destination import AwayError, Cursor, HistoryError
from engine.history.exporter import Exporter
from engine.history.history import value_of
from engine.history.kept import SQLITE
from engine.history.past import earliest_position
from engine.history.rows import ORDER_ROW, TRADE_ROW, Rows, values
from engine.history.sqlite import SqliteDestination
from engine.history.sqlite_reader import SqliteHistory
from engine.journal.format import JournalError
from engine.journal.reader import End, segments_of
from engine.plan import Plan
from engine.shard.holds import held_positions, release
from engine.shard.snapshotter import take_snapshot
from engine.supervisor import ServeError, Supervisor
from frontend.roles import ROLES
from ipc.records import REPORT
from ipc.vocabulary import MAX_PRICE
from tests.exporting import NAME, export
from tests.histories import SqliteStore, Store, destination, planned, problems, reader, verified
from tests.kept import commands_for, recovered, write_journal
from tests.product import config_text, until
from tests.test_serve import logged
from tests.test_snapshot import SMALL, log_trades

KILLS = int(os.environ.get("SHARDBOOK_EXPORTER_KILLS", "4"))


def test_all_that_a_journal_comes_to_is_there_once(tmp_path: Path, store: Store) -> None:
    plan = planned(tmp_path, store, SMALL)
    write_journal(plan, commands_for(plan, 6_000))
    log_trades(plan)
    export(plan, store)
    lines = verified(plan, store)
    whole, trades = recovered(plan)
    counters = whole.shard.book.counters()
    orders, made = counters.order_sequence, len(trades)
    assert f"shard 0: order_rows: {orders} of {orders} that were given, 0 lost before" in lines
    assert any(
        line.startswith(f"shard 0: {made} trades held against the trade log") for line in lines
    )
    assert store.ask(plan, "SELECT count(*) FROM trades") == [(made,)]
    export(plan, store)
    assert verified(plan, store) == lines
    write_journal(plan, commands_for(plan, 3_000, 2), end=whole.end)
    log_trades(plan)
    export(plan, store, events=True)
    verified(plan, store)
    assert held_positions(plan.journal_dir(0)) == {NAME: 9_000}
    whole, _ = recovered(plan)
    [(first, last, events)] = store.ask(
        plan, "SELECT min(number), max(number), count(*) FROM order_events"
    )
    assert last == whole.shard.account_sequences.reports
    assert events == last - first + 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("DELETE FROM order_rows WHERE order_id = 1500", "order_rows: "),
        (
            "UPDATE order_rows SET filled = filled + 1 WHERE order_id = 1500",
            "order 1500: filled is",
        ),
        ("UPDATE order_rows SET value_low = value_low + 1 WHERE order_id = 9", "order 9: value is"),
        ("UPDATE trade_rows SET price = price + 1 WHERE trade_id = 700", "trade 700: price is"),
        ("UPDATE trade_rows SET buyer = buyer + 1 WHERE trade_id = 700", "trade 700: buyer is"),
        ("DELETE FROM trade_rows WHERE trade_id = 700", "trade 700: is missing"),
        ("DELETE FROM user_trades WHERE last_trade > 1000", "user_trades: "),
        ("UPDATE shards SET position = position + 1", "the journal ends with 6000"),
        ("UPDATE shards SET identity = 'other'", "another data directory"),
    ],
)
def test_a_difference_is_found(tmp_path: Path, store: Store, change: str, problem: str) -> None:
    plan = planned(tmp_path, store, SMALL)
    write_journal(plan, commands_for(plan, 6_000))
    log_trades(plan)
    export(plan, store)
    store.ask(plan, change.replace("user_trades", reader(plan, store).pieces))
    found = problems(plan, store)
    assert any(problem in line for line in found), found


def test_what_was_paid_is_exact_at_the_highest_prices() -> None:
    generator = np.random.default_rng(5)
    prices = generator.integers(MAX_PRICE - 1_000, MAX_PRICE + 1, 60).astype(np.uint64)
    quantities = generator.integers(1, 1 << 39, 60).astype(np.uint64)
    firsts = np.array([0, 7, 8, 30])
    for shift in (0, 40):
        high, low = values(prices >> np.uint64(shift), quantities, firsts)
        parts = zip(firsts, [*firsts[1:], 60], strict=True)
        expected = [
            sum((int(prices[n]) >> shift) * int(quantities[n]) for n in range(start, stop))
            for start, stop in parts
        ]
        assert [(int(a) << 62) + int(b) for a, b in zip(high, low, strict=True)] == expected


def test_the_database_adds_up_beyond_64_bits(tmp_path: Path, store: Store) -> None:
    plan = planned(tmp_path, store, SMALL)
    opened = destination(plan, store)
    paid = [(1, (1 << 62) - 1), (0, 7), (3, (1 << 62) - 5)]
    none = np.zeros(0, TRADE_ROW), np.zeros(0, REPORT), 1
    for position, (high, low) in enumerate(paid, 1):
        rows = np.zeros(1, ORDER_ROW)
        rows["order_id"], rows["value_high"], rows["value_low"] = 5, high, low
        opened.write(Cursor(0, "", position, 0, 0, 0, 0), Rows(rows, *none))
    opened.close()
    history = reader(plan, store)
    [order] = history.order(5)
    assert value_of(order) == sum((high << 62) + low for high, low in paid)
    history.close()


def test_a_second_exporter_is_refused(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, store, SMALL)
    first = destination(plan, store)
    with monkeypatch.context() as change:
        change.setattr(f"engine.history.{store.kept.name}.LOCK_WAIT_S", 0.2)
        refused = f"another exporter writes to it.* process {os.getpid()}"
        with pytest.raises(HistoryError, match=refused):
            destination(plan, store)
    first.close()
    destination(plan, store).close()


def test_a_history_of_another_data_directory_is_refused(tmp_path: Path, store: Store) -> None:
    plan, other = (planned(tmp_path / name, store, SMALL) for name in ("one", "other"))
    write_journal(plan, commands_for(plan, 100), secret=1)
    write_journal(other, commands_for(other, 100), secret=2)
    export(plan, store)
    if store.kept is SQLITE:
        plan.history_path.rename(other.history_path)
    with pytest.raises(HistoryError, match="filled from another data directory"):
        export(other, store)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("DROP TABLE trade_rows", "trade_rows is missing; move the file away"),
        ("DROP INDEX orders_by_account", "orders_by_account is missing"),
        ("ALTER TABLE users ADD COLUMN more", "users was changed by hand"),
        ("PRAGMA user_version = 77", "has schema version 77, this product knows"),
        ("PRAGMA application_id = 7", "is no history of this product"),
    ],
)
def test_a_file_changed_by_hand_is_refused(tmp_path: Path, change: str, problem: str) -> None:
    path = tmp_path / "history.sqlite"
    SqliteDestination(path).close()
    connection = sqlite3.connect(path)
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(HistoryError, match=problem):
        SqliteDestination(path)
    with pytest.raises(HistoryError, match=problem):
        SqliteHistory(path).cursors()


def test_a_table_dropped_under_the_exporter_ends_it(tmp_path: Path, store: Store) -> None:
    plan = planned(tmp_path, store, SMALL)
    write_journal(plan, commands_for(plan, 100))
    opened = destination(plan, store)
    exporter = Exporter(plan, opened, NAME)
    store.ask(plan, f"DROP TABLE trade_rows{'' if store.kept is SQLITE else ' CASCADE'}")
    with pytest.raises(HistoryError, match=r"no such table|does not exist"):
        exporter.step()
    opened.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(HistoryError, match="file is not a database"):
        SqliteDestination(path)


def test_a_history_that_knows_more_than_the_journal_is_refused(
    tmp_path: Path, store: Store
) -> None:
    plan = planned(tmp_path, store, SMALL)
    commands = commands_for(plan, 3_000)
    write_journal(plan, commands)
    export(plan, store)
    lose_from(plan, commands, 2_900)
    with pytest.raises(JournalError, match="ends with command 2900, but command 3000 was followed"):
        export(plan, store)
    write_journal(plan, commands_for(plan, 200, 7), end=recovered(plan)[0].end)
    with pytest.raises(HistoryError, match="it goes on from before what the history knows"):
        export(plan, store)


def lose_from(plan: Plan, commands: Records, end: int) -> None:
    """Leave no more of a journal than its first commands."""
    for segment in segments_of(plan.journal_dir(0)):
        segment.path.unlink()
    write_journal(plan, commands[:end])


def test_once_a_loss_is_accepted_no_id_is_given_again(tmp_path: Path, store: Store) -> None:
    plan = planned(tmp_path, store, SMALL)
    commands = commands_for(plan, 3_000)
    write_journal(plan, commands)
    export(plan, store, events=True)
    before = recovered(plan)[0].shard.book.counters()
    lose_from(plan, commands, 2_900)
    log_trades(plan)
    supervisor = Supervisor(plan, print, ROLES)
    with pytest.raises(ServeError, match=r"the history has command 3000.*--accept-loss"):
        supervisor.start()
    supervisor.stop()
    [line] = accept_loss(plan).lines
    assert "ends with command 2900, but the history has command 3000" in line
    assert accept_loss(plan).lines == ["shard 0: nothing is lost"]
    after = recovered(plan, before.trade_sequence)[0]
    counters = after.shard.book.counters()
    assert counters.sequence == 2_900
    assert counters.order_sequence == before.order_sequence + SKIPPED_ORDERS
    assert counters.trade_sequence == before.trade_sequence
    assert logged(plan) == list(range(1, before.trade_sequence + 1))
    write_journal(plan, commands_for(plan, 500, 7), end=after.end)
    export(plan, store, events=True)
    assert store.ask(plan, "SELECT position FROM shards") == [(3_400,)]
    last = before.order_sequence
    [(known,)] = store.ask(plan, f"SELECT count(*) FROM order_rows WHERE order_id <= {last}")
    assert known == last
    [(new,)] = store.ask(plan, f"SELECT min(order_id) FROM order_rows WHERE order_id > {last}")
    assert new == last + SKIPPED_ORDERS + 1
    [(note,)] = store.ask(plan, "SELECT note FROM notes")
    assert "commands 2901 to 3000 were lost by the journal" in str(note)


def test_where_the_journal_has_no_beginning_snapshot_and_log_give_what_they_have(
    tmp_path: Path,
    store: Store,
) -> None:
    plan = planned(tmp_path, store, SMALL, engine="ended_orders = 50\n")
    end = None
    for part in range(6):
        write_journal(plan, commands_for(plan, 1_000, part), end=end)
        last = log_trades(plan)
        take_snapshot(plan, 0)
        end = recovered(plan, last)[0].end
    begins = earliest_position(plan.journal_dir(0), 0)
    assert begins > 1_000
    whole = recovered(plan, last)[0].shard.book.counters()
    export(plan, store)
    lines = verified(plan, store)
    [(orders, lost, lost_trades)] = store.ask(
        plan, "SELECT orders, lost_orders, lost_trades FROM shards"
    )
    assert orders == whole.order_sequence
    assert store.ask(plan, "SELECT count(*) FROM order_rows") == [(orders - lost,)]
    assert (lost > 500, lost_trades) == (True, 0)
    assert store.ask(plan, "SELECT count(*) FROM trade_rows") == [(whole.trade_sequence,)]
    assert any(f"{lost} lost before" in line for line in lines)
    [(note,)] = store.ask(plan, "SELECT note FROM notes")
    assert f"no journal has commands 1 to {begins} any more: {lost} of their orders" in str(note)
    # What is open has paid what its trades say, also those from before.
    paid: dict[int, int] = defaultdict(int)
    for buy, sell, price, quantity in store.ask(
        plan, "SELECT buy_order_id, sell_order_id, price, quantity FROM trade_rows"
    ):
        for order_id in (buy, sell):
            paid[order_id] += price * quantity  # type: ignore[index, operator]
    for order_id, value in store.ask(plan, "SELECT order_id, value_low FROM order_rows"):
        assert value == paid[order_id], order_id  # type: ignore[index]


def test_an_exporter_that_was_let_go_of_says_so_and_goes_on(tmp_path: Path, store: Store) -> None:
    plan = planned(tmp_path, store, SMALL, engine="ended_orders = 50\n")
    write_journal(plan, commands_for(plan, 1_000))
    log_trades(plan)
    export(plan, store)
    release(plan.journal_dir(0), NAME)
    end = recovered(plan, log_trades(plan))[0].end
    for part in range(1, 6):
        write_journal(plan, commands_for(plan, 1_000, part), end=end)
        last = log_trades(plan)
        take_snapshot(plan, 0)
        end = recovered(plan, last)[0].end
    begins = earliest_position(plan.journal_dir(0), 0)
    assert begins > 1_000
    export(plan, store)
    verified(plan, store)
    assert store.ask(plan, "SELECT count(*) FROM order_rows WHERE status = -1") != [(0,)]
    [(note,)] = store.ask(plan, "SELECT note FROM notes")
    assert f"no journal has commands 1001 to {begins} any more" in str(note)


def test_an_exporter_too_far_behind_is_let_go_of_while_it_runs(
    tmp_path: Path, store: Store
) -> None:
    bound = "[history]\nmax_journal_bytes = 40000\n"
    plan = planned(tmp_path, store, SMALL + bound, engine="ended_orders = 50\n")
    end = write_part(plan, 0, None)
    opened = destination(plan, store)
    exporter = Exporter(plan, opened, NAME)
    assert exporter.step()
    exporter.settle(wait=True)
    assert held_positions(plan.journal_dir(0)) == {NAME: 1_000}
    for part in range(1, 8):
        end = write_part(plan, part, end)
    assert held_positions(plan.journal_dir(0)) == {}
    begins = earliest_position(plan.journal_dir(0), 0)
    assert begins > 1_000
    assert exporter.step() == 0
    while exporter.step():
        pass
    exporter.close()
    opened.close()
    verified(plan, store)
    [(note,)] = store.ask(plan, "SELECT note FROM notes")
    assert f"no journal has commands 1001 to {begins} any more" in str(note)


def write_part(plan: Plan, part: int, end: End | None) -> End:
    """Go on with 1,000 commands, log their trades and take a snapshot; return the journal's end."""
    write_journal(plan, commands_for(plan, 1_000, part), end=end)
    last = log_trades(plan)
    take_snapshot(plan, 0)
    return recovered(plan, last)[0].end


def test_what_an_exporter_needs_is_kept(tmp_path: Path, store: Store) -> None:
    plan = planned(tmp_path, store, SMALL)
    opened = destination(plan, store)
    exporter = Exporter(plan, opened, NAME)
    end = None
    for part in range(5):
        write_journal(plan, commands_for(plan, 1_000, part), end=end)
        last = log_trades(plan)
        take_snapshot(plan, 0)
        end = recovered(plan, last)[0].end
    assert earliest_position(plan.journal_dir(0), 0) == 0
    while exporter.step():
        pass
    exporter.close()
    opened.close()
    assert held_positions(plan.journal_dir(0)) == {NAME: 5_000}
    assert store.ask(plan, "SELECT lost_orders, position FROM shards") == [(0, 5_000)]


def test_a_full_disk_is_waited_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore()
    plan = planned(tmp_path, store, SMALL)
    write_journal(plan, commands_for(plan, 6_000))
    log_trades(plan)
    opened = SqliteDestination(plan.history_path)
    exporter = Exporter(plan, opened, NAME)
    (pages,) = opened._connection.execute("PRAGMA page_count").fetchone()
    opened._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    for _ in range(3):
        assert exporter.step() == 0
        assert "database or disk is full" in (exporter.away or "")
    assert exporter.shards[0].lag().commands == 0 or exporter.shards[0].cursor is not None
    opened._connection.execute("PRAGMA max_page_count = 1000000")
    while exporter.step():
        pass
    assert exporter.away is None
    exporter.close()
    opened.close()
    verified(plan, store)
    said = [record.message for record in caplog.records]
    assert [line.split(":")[1].split(",")[0].strip() for line in said] == ["is held up", "goes on"]


def test_killed_at_any_moment_it_misses_and_doubles_nothing(tmp_path: Path, store: Store) -> None:
    seed = random.randrange(1 << 30)
    print(f"SHARDBOOK_EXPORTER_SEED={seed} (kills: SHARDBOOK_EXPORTER_KILLS)")
    chance = random.Random(int(os.environ.get("SHARDBOOK_EXPORTER_SEED", seed)))
    plan = planned(tmp_path, store, SMALL)
    write_journal(plan, commands_for(plan, 40_000))
    log_trades(plan)
    config = tmp_path / "test.toml"
    config.write_text(config_text(1, 2, SMALL + store.section))
    command = [sys.executable, "-m", "tests.exporting", str(config), str(plan.data_dir)]
    command.append(store.kept.name)
    kills = 0
    while kills < KILLS:
        before = position_of(plan, store)
        aim = before + chance.choice([1, 64, 500, 4_000])
        with subprocess.Popen(command) as process:
            until(partial(reached, plan, store, min(aim, 40_000), process))
            process.send_signal(signal.SIGKILL)
        kills += 1
        if position_of(plan, store) >= 40_000:
            store.remove(plan)
    export(plan, store)
    verified(plan, store)


def reached(plan: Plan, store: Store, aim: int, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None
    return position_of(plan, store) >= aim


def position_of(plan: Plan, store: Store) -> int:
    try:
        with closing(reader(plan, store)) as history:
            found = history.cursors()
    except (AwayError, HistoryError):
        return 0
    return found[0].position if found else 0
