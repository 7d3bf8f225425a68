"""Followers: from any position on, all that a shard's commands come to, once and in order."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from engine.books.contract import Records, state_hash
from engine.journal.format import JournalError
from engine.journal.reader import End, JournalReader, segments_of
from engine.journal.shard_config import shard_config_of
from engine.journal.snapshot import sequence_of_snapshot, snapshots_of
from engine.journal.writer import JournalWriter
from engine.plan import Plan
from engine.roles import slots
from engine.shard.follower import BATCH_COMMANDS, Followed, Follower
from engine.shard.holds import held_positions, hold, release
from engine.shard.recovery import recover
from engine.shard.snapshotter import take_snapshot
from frontend.client import Client
from frontend.roles import ROLES
from ipc.memory.ring import RingReader
from ipc.memory.status import StatusWriter, create_status
from ipc.records import COMMAND, TRADE
from ipc.vocabulary import CommandType, OrderType, Side, TimeInForce
from tests.following import opened, position_of
from tests.kept import commands_for, plan_of, recovered, write_journal
from tests.product import until
from tests.test_serve import Served, logged, served
from tests.test_snapshot import SMALL, log_trades

AHEAD = 20_000
STEPS = [0, 1, 3_000, 10_000]
"""Commands between two kills, each as often as the others: enough for many segments."""
KILLS = int(os.environ.get("SHARDBOOK_FOLLOWER_KILLS", "4"))


@contextmanager
def following(plan: Plan, position: int | None = 0) -> Iterator[Follower]:
    follower = Follower(plan, 0, position, plan.data_dir / "followed")
    yield follower
    follower.close()


def everything(follower: Follower) -> tuple[list[Followed], bytes, bytes]:
    """Return all batches that there are, their reports and their trades."""
    batches = list(iter(follower.step, None))
    made = [as_bytes(batch) for batch in batches]
    return batches, b"".join(reports for reports, _ in made), b"".join(t for _, t in made)


def as_bytes(batch: Followed) -> tuple[bytes, bytes]:
    return batch.reports.tobytes(), batch.trades.tobytes()


def replayed(plan: Plan, shard: int = 0) -> tuple[bytes, bytes]:
    """Return the reports and trades that a start from the beginning gives."""
    reports, trades = [], []

    def publish(more_trades: Records, more_reports: Records, _: int) -> None:
        trades.append(more_trades.tobytes())
        reports.append(more_reports.tobytes())

    recover(plan, shard, 0, publish, plan.data_dir / "replayed").shard.close()
    return b"".join(reports), b"".join(trades)


def test_a_follower_gives_what_a_start_gives(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SMALL)
    write_journal(plan, commands_for(plan, 6_000))
    whole, _ = recovered(plan)
    with following(plan) as follower:
        batches, reports, trades = everything(follower)
        assert (reports, trades) == replayed(plan)
        assert max(len(batch.commands) for batch in batches) <= BATCH_COMMANDS
        assert follower.position == batches[-1].position == 6_000
        assert state_hash(follower.shard.book) == state_hash(whole.shard.book)
    first = 1
    for batch in batches:
        assert batch.first_report == first
        first += len(batch.reports)


@pytest.mark.parametrize("position", [0, 1, 999, 2_000, 2_001, 4_500, 6_000])
def test_it_goes_on_from_any_position(tmp_path: Path, position: int) -> None:
    plan = plan_of(tmp_path, SMALL)
    commands, end = commands_for(plan, 6_000), None
    hold(plan.journal_dir(0), "test", 0)
    for part in range(3):
        write_journal(plan, commands[2_000 * part : 2_000 * (part + 1)], end=end)
        take_snapshot(plan, 0)
        end = recovered(plan)[0].end
    with following(plan) as whole:
        batches, reports, trades = everything(whole)
    known = np.concatenate([batch.commands for batch in batches])[:position]
    with following(plan, position) as follower:
        assert follower.position == position
        _, reports_after, trades_after = everything(follower)
    with following(plan) as before:
        given: list[Records] = []
        before.shard.replay(
            known, lambda trades, made, _: given.extend((trades.copy(), made.copy()))
        )
    assert b"".join(made.tobytes() for made in given[1::2]) + reports_after == reports
    assert b"".join(made.tobytes() for made in given[::2]) + trades_after == trades


def test_it_stops_and_goes_on_while_the_journal_grows(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SMALL)
    commands = commands_for(plan, 5_000)
    journal = JournalWriter(plan.journal_dir(0), shard_config_of(plan, 0), End(), 16_384)
    followed: list[Followed] = []
    with following(plan) as follower:
        for start in range(0, 5_000, 100):
            batch = commands[start : start + 100]
            journal.append(batch, int(batch["timestamp_ns"][0]))
            if start % 3:
                followed += iter(follower.step, None)
            elif (more := follower.step()) is not None:
                followed.append(more)
        followed += iter(follower.step, None)
    journal.close()
    assert len(segments_of(plan.journal_dir(0))) > 5
    given = [b"".join(found) for found in zip(*map(as_bytes, followed), strict=True)]
    assert given == list(replayed(plan))


def test_a_reader_goes_on_where_what_it_has_read_is_removed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SMALL)
    directory, commands = plan.journal_dir(0), commands_for(plan, 3_000)
    write_journal(plan, commands[:2_000])
    reader = JournalReader(directory, shard_config_of(plan, 0), 0, live=True)
    assert sum(map(len, reader.chunks())) == 2_000
    old = [segment.path for segment in segments_of(directory)]
    write_journal(plan, commands[2_000:], end=recovered(plan)[0].end)
    for path in old:
        path.unlink()
    assert np.concatenate([chunk.copy() for chunk in reader.chunks()]).tobytes() == (
        commands[2_000:].tobytes()
    )


def test_it_sees_of_a_running_product_what_the_matcher_has_shown(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, '[journal]\ndurability = "fsync"\n')
    write_journal(plan, commands_for(plan, 1_000))
    plan.run_dir.mkdir(parents=True, mode=0o700)
    try:
        create_status(plan.status_path, slots(ROLES.members(plan)))
        matcher = StatusWriter(plan.status_path, "matcher", 0)
        StatusWriter(plan.status_path, "supervisor", 0).start(os.getpid(), 1)
        with following(plan) as follower:
            assert follower.step() is None
            assert not follower.wait(0)
            matcher.set("commands", 300)
            assert follower.wait(0)
            assert (more := follower.step()) is not None
            assert (more.position, len(more.commands)) == (300, 300)
            assert follower.step() is None
            matcher.set("commands", 1_000)
            assert follower.catch_up() == 1_000
            matcher.set("commands", 1_001)
            with pytest.raises(JournalError, match="carried out command 1001"):
                follower.step()
            matcher.set("commands", 0)  # it starts again, and replays
            assert follower.step() is None
        with following(plan, 500) as follower:
            assert follower.position == 500  # it was shown before
            assert follower.step() is None
    finally:
        shutil.rmtree(plan.run_dir)


def test_a_position_that_the_journal_does_not_know_is_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SMALL)
    write_journal(plan, commands_for(plan, 3_000))
    with pytest.raises(JournalError, match="ends with command 3000, but command 3001 was followed"):
        Follower(plan, 0, 3_001, tmp_path / "orders")
    assert not (tmp_path / "orders").exists()
    last = log_trades(plan)
    take_snapshot(plan, 0)
    write_journal(plan, commands_for(plan, 10, 2), end=recovered(plan, last)[0].end)
    take_snapshot(plan, 0)
    first = segments_of(plan.journal_dir(0))[0].first_sequence
    assert first > 1
    with pytest.raises(JournalError, match=f"begins with command {first}, and no snapshot stands"):
        Follower(plan, 0, 0, tmp_path / "orders")


def test_what_a_follower_holds_is_not_removed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SMALL)
    directory, commands, end = plan.journal_dir(0), commands_for(plan, 8_000), None
    for part in range(8):
        write_journal(plan, commands[1_000 * part : 1_000 * (part + 1)], end=end)
        logged_to = log_trades(plan)
        take_snapshot(plan, 0)
        end = recovered(plan, logged_to)[0].end
        if part == 1:
            hold(directory, "slow", 1_500)
            hold(directory, "quick", 2_000)
    assert held_positions(directory) == {"quick": 2_000, "slow": 1_500}
    assert sequence_of_snapshot(snapshots_of(directory)[-1]) == 1_000
    with following(plan, 1_500) as follower:
        assert follower.catch_up() == 8_000
    (directory / "slow.follower").write_text("15zz")
    assert held_positions(directory)["slow"] == 0
    release(directory, "slow")
    hold(directory, "quick", 7_999)
    write_journal(plan, commands_for(plan, 10, 2), end=end)
    log_trades(plan)
    assert take_snapshot(plan, 0).removed
    assert [sequence_of_snapshot(path) for path in snapshots_of(directory)] == [8_010, 8_000, 7_000]
    with following(plan, 7_999) as follower:
        assert follower.catch_up() == 8_010


# A running product -------------------------------------------------------------------------------


def crossing(count: int) -> Records:
    """Return orders of symbol 1 of which each second one trades with the one before."""
    orders = np.zeros(count, COMMAND)
    orders["command_type"], orders["symbol"] = CommandType.NEW, 1
    orders["order_type"], orders["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    orders["side"][::2], orders["side"][1::2] = Side.BUY, Side.SELL
    orders["price"], orders["quantity"] = 100, 5
    return orders


def trade_until(plan: Plan, stopped: Event, database: Path) -> None:
    """Trade, but not far ahead of who follows."""
    connection, entered = opened(database), 0
    with Client(plan.addresses()[0], "alice") as client:
        while not stopped.is_set():
            if entered < position_of(connection) + AHEAD:
                client.submit_array(crossing(500))
                entered += 500
            else:
                stopped.wait(0.001)


def follower_process(serving: Served, database: Path, *end: str) -> subprocess.Popen[bytes]:
    where = [str(serving.config), str(serving.plan.data_dir), "0", str(database)]
    return subprocess.Popen([sys.executable, "-m", "tests.following", *where, *end])


def logged_to(plan: Plan) -> int:
    return RingReader(plan.ring_path(0)).cursor_of(0)


def with_archive(plan: Plan) -> Plan:
    """Put what was archived back into the journal, and take the snapshots away."""
    for path in snapshots_of(plan.journal_dir(0)):
        path.unlink()
    shutil.copytree(plan.archive_dir(0), plan.journal_dir(0), dirs_exist_ok=True)
    return plan


def test_a_killed_follower_has_each_report_and_trade_once_and_in_order(
    tmp_path: Path, seed: int
) -> None:
    draw, stopped = random.Random(seed), Event()
    database = tmp_path / "followed.sqlite"
    connection = opened(database)
    settings = (
        f'[journal]\narchive = "{tmp_path}/old"\nsnapshot_commands = 0\nsegment_bytes = 16384\n'
    )
    with served(tmp_path, settings) as serving:
        plan = serving.plan
        hold(plan.journal_dir(0), "sqlite", 0)
        trader = Thread(target=trade_until, args=(plan, stopped, database))
        trader.start()
        try:
            taken = [0]
            for kill in range(KILLS):
                if kill % len(STEPS) == 0:
                    steps = draw.sample(STEPS, len(STEPS))
                more = position_of(connection) + steps.pop()
                wanted = draw.choice([more, max(more, *taken)])
                process = follower_process(serving, database)
                until(lambda wanted=wanted: position_of(connection) >= wanted)  # type: ignore[misc]
                process.send_signal(signal.SIGKILL)
                process.wait()
                hold(plan.journal_dir(0), "sqlite", position_of(connection))
                taken.append(take_snapshot(plan, 0).sequence)
        finally:
            stopped.set()
            trader.join()
        with Client(plan.addresses()[0], "alice") as client:
            client.submit_array(crossing(500))  # behind the last snapshot
        end = serving.member("matcher").counters["commands"]
        assert follower_process(serving, database, str(end)).wait(60) == 0
        hold(plan.journal_dir(0), "sqlite", end)
        until(lambda: logged_to(plan) == serving.member("matcher").counters["trade_sequence"])
        take_snapshot(plan, 0)
    parts = connection.execute("SELECT reports, trades FROM batches ORDER BY position").fetchall()
    reports, trades = (b"".join(pieces) for pieces in zip(*parts, strict=True))
    assert segments_of(plan.journal_dir(0))[0].first_sequence > 1, "nothing was pruned"
    assert (reports, trades) == replayed(with_archive(plan))
    assert np.frombuffer(trades, TRADE)["trade_id"].tolist() == logged(plan)
