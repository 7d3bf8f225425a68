"""Looking at a data directory: verify, a dry run, and going on after a loss."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.accept_loss import SKIPPED_ORDERS, accept_loss
from engine.books.contract import state_hash
from engine.journal.format import JournalError
from engine.journal.reader import segments_of
from engine.journal.snapshot import snapshots_of
from engine.plan import Plan
from engine.shard.snapshotter import take_snapshot
from engine.trade_log.lines import trade_id_of
from engine.trade_log.log import read_trades
from engine.trade_log.segments import ACTIVE, closed_segments, plain_path, read_seal
from engine.verify import dry_run, verify
from frontend.cli import main
from frontend.client import Client
from ipc.records import SEQUENCE_MASK
from tests.kept import commands_for, plan_of, recovered, write_journal
from tests.product import config_text, make_config, running, until
from tests.test_snapshot import log_trades


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_what_is_whole_is_said_to_be_and_nothing_is_changed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    write_journal(plan, commands_for(plan, 2_000))
    take_snapshot(plan, 0)
    trades = log_trades(plan)
    (plan.data_dir / "orders").unlink()
    before = contents(plan.data_dir)
    verdict = verify(plan.data_dir)
    said = "\n".join(verdict.lines)
    assert not verdict.problems, said
    assert "shard 0: snapshot 0000000000002000.snapshot: commands up to 2000" in said
    assert "shard 0: journal: 1 segments, commands 1 to 2000, whole" in said
    assert f"trade log: shard 0: {trades} trades, up to {trades}, each once, in order" in said
    dry = dry_run(plan)
    assert not dry.problems
    state = state_hash(recovered(plan, trades)[0].shard.book)
    (plan.data_dir / "orders").unlink()
    assert f"of which 0 would be logged now; state {state}" in dry.lines[-1]
    assert contents(plan.data_dir) == before


def test_every_kind_of_damage_is_found(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    write_journal(plan, commands_for(plan, 2_000))
    take_snapshot(plan, 0)
    log_trades(plan)
    (plan.data_dir / "orders").unlink(missing_ok=True)
    for path, said in (
        (segments_of(plan.journal_dir(0))[0].path, "byte 4096: the batch after command 0"),
        (snapshots_of(plan.journal_dir(0))[0], "the snapshot is damaged"),
        (plan.log_dir / ACTIVE, "JSON is malformed"),
    ):
        data = path.read_bytes()
        path.write_bytes(data[:4_200] + bytes([data[4_200] ^ 1, 0]) + data[4_202:])
        verdict = verify(plan.data_dir)
        assert verdict.problems == 1
        (line,) = (line for line in verdict.lines if "PROBLEM" in line)
        assert str(path) in line
        assert said in line
        path.write_bytes(data)
    lines = (plan.log_dir / ACTIVE).read_bytes().splitlines(keepends=True)
    for wrong, said in (
        (lines[:5] + lines[4:], "is there twice"),
        (lines[:5] + lines[6:], "trades 6 to 6 are missing"),
    ):
        (plan.log_dir / ACTIVE).write_bytes(b"".join(wrong))
        assert said in verify(plan.data_dir).lines[-1]


def test_the_commands_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(tmp_path)
    config = tmp_path / "test.toml"
    config.write_text(config_text(1, 2))
    place = ["--config", str(config), "--data-dir", str(plan.data_dir)]
    write_journal(plan, commands_for(plan, 500))
    assert main(["snapshot", *place]) == 0
    assert "0000000000000500.snapshot" in capsys.readouterr().out
    assert main(["recover", "--dry-run", *place]) == 0
    assert "500 commands of the journal" in capsys.readouterr().out
    assert main(["verify", str(plan.data_dir)]) == 1
    said = capsys.readouterr().out
    assert "which the journal has, are missing; a start logs them" in said
    assert said.endswith("1 problems\n")
    log_trades(plan)
    assert main(["verify", str(plan.data_dir)]) == 0
    assert capsys.readouterr().out.endswith("all whole\n")
    path = segments_of(plan.journal_dir(0))[0].path
    data = path.read_bytes()
    path.write_bytes(data[:5_000] + b"?" + data[5_001:])
    assert main(["verify", str(plan.data_dir)]) == 1
    assert "1 problems" in capsys.readouterr().out
    assert main(["recover", "--dry-run", *place]) == 1
    assert main(["verify", str(tmp_path / "nothing")]) == 1
    assert "is no data directory" in capsys.readouterr().err


def logged_product(directory: Path, segment_bytes: int = 8_192) -> tuple[Plan, bytes]:
    """The plan of a product that has traded and stopped, and all lines of its log."""
    extra = f"[persister]\nsegment_bytes = {segment_bytes}\ncompress = false\n"
    with (
        running(make_config(2, 2, extra), directory) as plan,
        Client(plan.addresses()[0], "alice") as client,
    ):
        for symbol in ("AA", "BB"):
            for _ in range(60):
                client.submit(symbol, "buy", 1, "10.00")
                client.submit(symbol, "sell", 1, "10.00")
        until(lambda: len(lines(plan).splitlines()) == 120)
        # Without a seal that knows it, a segment that is gone would not be missed.
        until(lambda: read_seal(plan.log_dir).segment == closed_segments(plan.log_dir)[-1] > 1)
    return plan, lines(plan)


def lines(plan: Plan) -> bytes:
    """All lines of a log, by trade_id."""
    paths = plan.log_dir.glob("trades*")
    found = [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]
    return b"".join(sorted(found, key=trade_id_of))


def truncated(plan: Plan) -> None:
    """Cut the log in the midst of a line."""
    os.truncate(plan.log_dir / ACTIVE, (plan.log_dir / ACTIVE).stat().st_size // 2)


def moved_away(plan: Plan) -> None:
    (plan.log_dir / ACTIVE).rename(plan.data_dir / "elsewhere")


def sealed_moved_away(plan: Plan) -> None:
    """The newest closed segment goes, and all behind it."""
    newest = closed_segments(plan.log_dir)[-1]
    assert newest > 1
    plain_path(plan.log_dir, newest).rename(plan.data_dir / "elsewhere")
    os.truncate(plan.log_dir / ACTIVE, 0)


@pytest.mark.parametrize("lose", [truncated, moved_away, sealed_moved_away])
def test_trades_that_the_log_has_lost_are_named_and_a_start_logs_them_again(
    tmp_path: Path, lose: Callable[[Plan], None], capsys: pytest.CaptureFixture[str]
) -> None:
    plan, everything = logged_product(tmp_path)
    assert main(["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("all whole\n")
    lose(plan)
    assert lines(plan) != everything
    assert main(["verify", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "which the journal has, are missing; a start logs them" in said
    assert "all whole" not in said
    with running(plan.config, tmp_path):
        assert not verify(tmp_path).problems
    assert lines(plan) == everything
    assert main(["verify", str(tmp_path)]) == 0


def test_a_log_that_lies_elsewhere_is_checked_there(tmp_path: Path) -> None:
    plan, _ = logged_product(tmp_path / "data")
    plan.log_dir.rename(tmp_path / "log")
    assert verify(tmp_path / "data").problems == 2
    assert not verify(tmp_path / "data", tmp_path / "log").problems


def test_old_segments_that_were_moved_away_are_no_loss(tmp_path: Path) -> None:
    plan, _ = logged_product(tmp_path)
    for number in closed_segments(plan.log_dir)[:-1]:
        plain_path(plan.log_dir, number).unlink()
        verdict = verify(tmp_path)
        assert not verdict.problems
        assert f"trade log: segments before {number + 1} were moved away" in verdict.lines
    with running(plan.config, tmp_path):
        pass
    assert not verify(tmp_path).problems


def test_a_loss_can_be_accepted_and_no_id_is_given_again(tmp_path: Path) -> None:
    """The end of the journal is gone, but the log has trades of it."""
    plan = plan_of(tmp_path)
    everything = commands_for(plan, 3_000)
    write_journal(plan, everything)
    last = log_trades(plan)
    path = segments_of(plan.journal_dir(0))[0].path
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(JournalError, match="the end of the journal is lost"):
        recovered(plan, last)
    verdict = accept_loss(plan)
    assert "the end of the journal is lost: accepted; it goes on after command" in verdict.lines[-1]
    found, trades = recovered(plan, last)
    assert not len(trades)
    counters = found.shard.book.counters()
    assert counters.trade_sequence == last
    logged = list(read_trades(plan.log_dir))
    known = max(max(trade.buy_order_id, trade.sell_order_id) for trade in logged)
    assert counters.order_sequence >= (known & SEQUENCE_MASK) + SKIPPED_ORDERS
    assert len(found.shard.book.resting())
    write_journal(plan, everything[:100], end=found.end)
    again, more = recovered(plan, last)
    assert again.commands == 100
    assert [int(trade) & SEQUENCE_MASK for trade in more["trade_id"]] == list(
        range(last + 1, last + 1 + len(more))
    )
    assert accept_loss(plan).lines == ["shard 0: nothing is lost"]


def test_what_can_be_read_before_damage_is_logged_when_the_loss_is_accepted(
    tmp_path: Path,
) -> None:
    plan = plan_of(tmp_path)
    write_journal(plan, commands_for(plan, 2_000))
    expected = recovered(plan)[1]
    path = segments_of(plan.journal_dir(0))[0].path
    data = path.read_bytes()
    place = len(data) * 4 // 5
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(JournalError, match="is damaged"):
        recovered(plan)
    accept_loss(plan)
    logged = [trade.trade_id for trade in read_trades(plan.log_dir)]
    assert logged
    assert logged == expected["trade_id"][: len(logged)].tolist()
    found, trades = recovered(plan, len(logged))
    assert not len(trades)
    assert found.found.path is not None
    found.shard.book.check()
