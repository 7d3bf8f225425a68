"""Snapshots: what they stand for, when they may be used, and what they make useless."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest

from engine.books.contract import state_hash
from engine.journal.format import JournalError
from engine.journal.reader import segments_of
from engine.journal.shard_config import shard_config_of
from engine.journal.snapshot import read_snapshot, snapshots_of
from engine.plan import Plan
from engine.shard import snapshotter
from engine.shard.snapshot_schedule import PATIENCE_S, Schedule
from engine.shard.snapshotter import take_snapshot
from engine.storage import Storage
from engine.trade_log.lines import LineFormatter
from engine.trade_log.log import TradeLog
from ipc.records import SEQUENCE_MASK
from tests.kept import commands_for, plan_of, recovered, write_journal
from tests.product import until

SMALL = "[journal]\nsegment_bytes = 16384\n"


def log_trades(plan: Plan) -> int:
    """Log all trades that the journal makes; return the last one's sequence."""
    log = TradeLog(plan.log_dir, 1 << 20)
    _, trades = recovered(plan, log.last_sequence(0))
    log.append(LineFormatter(plan.instruments).format(trades))
    last = log.last_sequence(0)
    log.close()
    return last


def journal_end(plan: Plan) -> int:
    return recovered(plan)[0].end.sequence


def test_a_shard_from_a_snapshot_is_the_one_from_all_commands(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    everything = commands_for(plan, 6_000)
    write_journal(plan, everything[:2_000])
    whole, _ = recovered(plan)
    taken = take_snapshot(plan, 0)
    assert (taken.sequence, taken.commands) == (2_000, 2_000)
    write_journal(plan, everything[2_000:], end=whole.end)
    log_trades(plan)
    published = read_snapshot(snapshots_of(plan.journal_dir(0))[0]).counters.trade_sequence
    assert published
    later, trades = recovered(plan, published)
    assert (later.commands, later.found.path) == (4_000, taken.path)
    for path in snapshots_of(plan.journal_dir(0)):
        path.unlink()
    whole, all_trades = recovered(plan)
    assert whole.commands == 6_000
    assert state_hash(later.shard.book) == state_hash(whole.shard.book)
    assert all_trades[published:].tobytes() == trades.tobytes()
    one, other = (found.shard.table.contents() for found in (later, whole))
    assert sorted(map(bytes, one)) == sorted(map(bytes, other))


def test_a_snapshot_ahead_of_the_log_is_passed_over(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    everything = commands_for(plan, 3_000)
    write_journal(plan, everything[:1_000])
    take_snapshot(plan, 0)
    trades = read_snapshot(snapshots_of(plan.journal_dir(0))[0]).counters.trade_sequence
    for published, used in ((trades, True), (trades - 1, False), (0, False)):
        found, again = recovered(plan, published)
        assert (found.found.path is not None) == used
        assert len(again) == trades - published
        assert bool(found.found.notes) == (not used)
        if len(again):
            assert int(again["trade_id"][0]) & SEQUENCE_MASK == published + 1


def test_a_log_ahead_of_the_journal_is_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    write_journal(plan, commands_for(plan, 1_000))
    trades = len(recovered(plan)[1])
    with pytest.raises(JournalError, match=f"trade {trades}, but the trade log has trade 9999"):
        recovered(plan, 9_999)


def test_old_snapshots_and_segments_go_once_the_log_has_their_trades(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SMALL)
    everything = commands_for(plan, 5_000)
    directory = plan.journal_dir(0)
    end = None
    for part in range(5):
        write_journal(plan, everything[part * 1_000 : (part + 1) * 1_000], end=end)
        take_snapshot(plan, 0)
        end = recovered(plan)[0].end
    # Nothing is in the log yet, so that a start needs everything.
    assert len(snapshots_of(directory)) == 5
    assert segments_of(directory)[0].first_sequence == 1
    last = log_trades(plan)
    write_journal(plan, commands_for(plan, 100, 2), end=end)
    before = state_hash(recovered(plan, last)[0].shard.book)
    taken = take_snapshot(plan, 0)
    assert taken.removed
    assert [read_snapshot(p).counters.sequence for p in snapshots_of(directory)] == [5_100, 5_000]
    first = segments_of(directory)[0].first_sequence
    assert 4_000 < first <= 5_001
    assert state_hash(recovered(plan, log_trades(plan))[0].shard.book) == before
    newest = snapshots_of(directory)[0]
    newest.write_bytes(newest.read_bytes()[:-1])
    found, _ = recovered(plan, last)
    assert found.found.path == snapshots_of(directory)[1]
    assert "damaged" in found.found.notes[0]
    assert state_hash(found.shard.book) == before


def test_what_one_that_ended_early_left_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, SMALL)
    everything = commands_for(plan, 3_000)
    end, last = None, 0
    for part in range(3):
        write_journal(plan, everything[part * 1_000 : (part + 1) * 1_000], end=end)
        end = recovered(plan, last)[0].end
        last = log_trades(plan)
        if part == 2:
            monkeypatch.setattr(snapshotter, "prune", lambda *_: sys.exit("ended early"))
            with pytest.raises(SystemExit):
                take_snapshot(plan, 0)
            monkeypatch.undo()
        else:
            take_snapshot(plan, 0)
    before = segments_of(plan.journal_dir(0))[0].first_sequence
    taken = take_snapshot(plan, 0)
    assert (taken.path, taken.commands) == (None, 0)
    assert taken.removed
    assert segments_of(plan.journal_dir(0))[0].first_sequence > before


def test_old_segments_are_archived_where_that_is_asked_for(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, f'{SMALL}archive = "{tmp_path}/old"\n')
    everything = commands_for(plan, 3_000)
    end, last = None, 0
    kept = {}
    for part in range(3):
        write_journal(plan, everything[part * 1_000 : (part + 1) * 1_000], end=end)
        end = recovered(plan, last)[0].end
        kept |= {s.path.name: s.path.read_bytes() for s in segments_of(plan.journal_dir(0))}
        last = log_trades(plan)
        take_snapshot(plan, 0)
    archived = {path.name: path.read_bytes() for path in plan.archive_dir(0).iterdir()}
    assert archived
    assert archived.items() <= kept.items()
    here = {segment.path.name for segment in segments_of(plan.journal_dir(0))}
    assert here | archived.keys() == kept.keys()
    assert not here & archived.keys()


def test_every_byte_flipped(tmp_path: Path) -> None:
    """A snapshot that is not whole is passed over, saying where; what comes of it is the same."""
    plan = plan_of(tmp_path, symbols=1)
    write_journal(plan, commands_for(plan, 40))
    whole = recovered(plan)[0]
    before = state_hash(whole.shard.book)
    take_snapshot(plan, 0)
    log_trades(plan)
    path = snapshots_of(plan.journal_dir(0))[0]
    data = path.read_bytes()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(JournalError, match=f"{path}: byte "):
            read_snapshot(path)
    found, _ = recovered(plan)
    assert found.found.path is None
    assert f"{path}: byte" in found.found.notes[0]
    assert state_hash(found.shard.book) == before


def test_without_a_whole_snapshot_and_the_journal_before_it_a_start_is_refused(
    tmp_path: Path,
) -> None:
    plan = plan_of(tmp_path, SMALL)
    write_journal(plan, commands_for(plan, 2_000))
    take_snapshot(plan, 0)
    segments_of(plan.journal_dir(0))[0].path.unlink()
    path = snapshots_of(plan.journal_dir(0))[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(JournalError, match=f"no snapshot can be used.*{path}: byte"):
        recovered(plan)


def test_a_snapshot_of_another_version_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path)
    write_journal(plan, commands_for(plan, 100))
    with monkeypatch.context() as patch:
        patch.setattr("engine.journal.snapshot.VERSION", 99)
        take_snapshot(plan, 0)
    with pytest.raises(JournalError, match="has version 99, this program reads 7"):
        recovered(plan)


def test_a_journal_that_ends_before_its_snapshot_is_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    write_journal(plan, commands_for(plan, 500))
    take_snapshot(plan, 0)
    log_trades(plan)
    last = len(recovered(plan)[1])
    for segment in segments_of(plan.journal_dir(0)):
        segment.path.unlink()
    with pytest.raises(JournalError, match="ends with command 0, before the snapshot"):
        recovered(plan, last)


def test_a_snapshot_is_begun_from_under_its_own_configuration(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    write_journal(plan, commands_for(plan, 500))
    taken = take_snapshot(plan, 0)
    other = plan_of(tmp_path / "other", symbols=3)
    found, _ = recovered(Plan(other.config, plan.data_dir), log_trades(plan))
    assert found.found.path == taken.path
    assert found.shard.shard_config == shard_config_of(plan, 0)
    # And one taken under another file is still of the configuration that is in force.
    write_journal(plan, commands_for(plan, 100, 2), end=found.end)
    taken = take_snapshot(Plan(other.config, plan.data_dir), 0)
    assert taken.path is not None
    assert read_snapshot(taken.path).shard_config == shard_config_of(plan, 0)


def test_a_snapshot_leaves_nothing_behind_and_tells_of_nothing_new(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert take_snapshot(plan, 0).path is None
    write_journal(plan, commands_for(plan, 500))
    assert take_snapshot(plan, 0).path is not None
    assert take_snapshot(plan, 0).path is None
    names = sorted(path.name for path in plan.journal_dir(0).iterdir())
    assert names == ["0000000000000001.journal", "0000000000000500.snapshot", "snapshots"]


class Recorder(Storage):
    """Notes which files are synchronised and renamed, in order."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self.done.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))

    def rename(self, path: Path, target: Path) -> None:
        super().rename(path, target)
        self.done.append(("rename", target.name))


def test_a_snapshot_is_never_ahead_of_the_journal_on_the_disk(tmp_path: Path) -> None:
    """And it is whole there before it has its name."""
    plan = plan_of(tmp_path)
    write_journal(plan, commands_for(plan, 500))
    disk = Recorder()
    take_snapshot(plan, 0, disk)
    name = "0000000000000500.snapshot"
    assert disk.done == [
        ("sync", "0000000000000001.journal"),
        ("sync", f"{name}.tmp"),
        ("rename", name),
    ]


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="Linux alone has it")
def test_a_process_that_takes_a_snapshot_steps_back_before_it_does_anything(
    tmp_path: Path,
) -> None:
    plan = plan_of(tmp_path, "[journal]\nsnapshot_commands = 5\n")
    write_journal(plan, commands_for(plan, 10))
    schedule = Schedule(plan, multiprocessing.get_context("forkserver"))
    ends: list[tuple[int, bool]] = []
    schedule.step({0: 4}, lambda *end: ends.append(end))
    assert schedule.pid is None
    schedule.step({0: 10}, lambda *end: ends.append(end))
    assert schedule.pid is not None
    assert os.sched_getscheduler(schedule.pid) == os.SCHED_IDLE

    def ended() -> bool:
        schedule.step({}, lambda *end: ends.append(end))
        return bool(ends)

    until(ended)
    assert (ends, schedule.pid) == ([(0, True)], None)
    assert [path.name for path in snapshots_of(plan.journal_dir(0))] == [
        "0000000000000010.snapshot"
    ]


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="Linux alone has it")
def test_a_snapshot_that_gets_no_time_is_begun_anew_with_a_share(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "[journal]\nsnapshot_commands = 5\n")
    write_journal(plan, commands_for(plan, 10))
    now_s = 0.0
    schedule = Schedule(plan, multiprocessing.get_context("forkserver"), lambda: now_s)
    ends: list[tuple[int, bool]] = []

    def step(later_s: float = 0.0) -> bool:
        nonlocal now_s
        now_s += later_s
        schedule.step({0: 10}, lambda *end: ends.append(end))
        return bool(ends)

    step()
    starved = schedule.pid
    assert starved is not None
    os.kill(starved, signal.SIGSTOP)
    step(PATIENCE_S)
    assert schedule.pid == starved
    step(1.0)
    late = schedule.pid
    assert late is not None
    with pytest.raises(ProcessLookupError):
        os.kill(starved, 0)
    assert os.sched_getscheduler(late) == os.SCHED_OTHER
    assert os.getpriority(os.PRIO_PROCESS, late) == 10
    until(lambda: step(2 * PATIENCE_S))  # it is given all the time it takes
    assert ends == [(0, True)]


def test_what_a_killed_snapshot_left_goes_with_the_next(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    write_journal(plan, commands_for(plan, 10))
    directory = plan.journal_dir(0)
    for name in ("snapshot-orders-0-77.tmp", "0000000000000005.snapshot.tmp"):
        (directory / name).write_bytes(b"unfinished")
    assert take_snapshot(plan, 0).path is not None
    assert not list(directory.glob("*.tmp"))
