"""The demo as a whole: it shows, sums up, checks, and leaves nothing behind however it ends."""

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

import frontend.demo.run
from engine.books.contract import Records
from engine.trade_log.lines import LoggedTrade
from frontend.demo.load import DemoError, Load, Told
from frontend.demo.run import demo_config, run_demo, sample_orders
from ipc.instruments import Instrument
from ipc.memory.mapping import run_directory
from ipc.records import ORDER, make_id

COMMAND = [sys.executable, "-m", "frontend.cli", "demo"]
WAIT_S = 90.0
CHECKS = 5


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory where a demo makes its own: its name is short, as a socket's must be."""
    directory = tmp_path_factory.mktemp("d")
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", None)
    return directory


def left_behind(place: Path, first_line: str) -> list[Path]:
    """Return what is left of a demo in its directory and in shared memory."""
    found = re.search(rf"in ({place}/\S+), ", first_line)
    assert found, first_line
    run_dir = run_directory(Path(found[1]) / "data")
    return [path for path in (*place.iterdir(), run_dir) if path.exists()]


def test_a_demo_shows_sums_up_and_checks(place: Path) -> None:
    command = [*COMMAND, "--seconds", "2", "--symbols", "5", "--seed", "11"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"demo of 2 s in \S+, --seed 11\n", done.stdout)
    assert re.search(r"^matcher 1 on .*: AAPL, MSFT$", done.stdout, re.M)
    shown = re.findall(
        r"^ +[\d.]+ s +[\d,]+ orders/s +[\d,]+ commands/s +[\d,]+ trades/s "
        r" COOTX \d+\.\d\d/\d+\.\d\d  AAPL .*  TSLA \S+$",
        done.stdout,
        re.M,
    )
    assert len(shown) >= 2
    summary = {line.split()[0]: line for line in done.stdout.split("\n\n")[-1].splitlines()}
    orders, commands, trades, samples = (
        int(re.search(pattern, summary[name])[1].replace(",", ""))
        for name, pattern in (
            ("orders", r"orders +([\d,]+) \([\d,]+/s\)"),
            ("commands", r"commands +([\d,]+) \([\d,]+/s\): .* new orders, .* cancels, .*"),
            ("trades", r"trades +([\d,]+) \([\d,]+/s\)"),
            ("latency", r"p50 [\d,]+ us, p99 [\d,]+ us, p99.9 [\d,]+ us .*, of ([\d,]+) commands"),
        )
    )
    assert commands > orders > trades > 0
    assert samples > 0
    checks = re.findall(r"^ok +(\d+) (.*)$", done.stdout, re.M)
    assert len(checks) == CHECKS
    assert int(checks[0][0]) == trades
    assert "FAILED" not in done.stdout
    assert left_behind(place, done.stdout.splitlines()[0]) == []


def test_an_interrupted_demo_ends_quietly_and_leaves_nothing(place: Path) -> None:
    demo = subprocess.Popen(
        [*COMMAND, "--seconds", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    try:
        first = line = demo.stdout.readline()
        while line and " orders/s " not in line:
            line = demo.stdout.readline()
        os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: to every process of the demo
        _, errors = demo.communicate(timeout=WAIT_S)
    finally:
        demo.kill()
    assert (demo.returncode, errors) == (130, "")
    assert left_behind(place, first) == []


def test_it_stops_at_its_most_orders_and_names_a_failed_check(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_log = frontend.demo.run.read_log
    lost: list[int] = []

    def losing(trades: Iterable[LoggedTrade], instruments: Sequence[Instrument]) -> Records:
        log = read_log(trades, instruments)
        lost.append(int(log["trade_id"][3]))
        return np.delete(log, 3)

    monkeypatch.setattr(frontend.demo.run, "read_log", losing)
    monkeypatch.setattr(frontend.demo.run, "MAX_ORDERS", 3_000)
    out = io.StringIO()
    assert run_demo(3_600, 4, 5, out) == 1
    assert re.search(r"^stopped early, after [3-8],\d{3} orders", out.getvalue(), re.M)
    failed = re.findall(r"^FAILED .*", out.getvalue(), re.M)
    assert f": trade {lost[0]} was reported and is not in the log" in failed[0]
    assert len(failed) < CHECKS


def test_a_demo_that_loses_a_driver_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Load.run

    def killing(load: Load, tick: Callable[[], None]) -> Told:
        return run(load, load._processes[0].kill)

    monkeypatch.setattr(Load, "run", killing)
    out = io.StringIO()
    with pytest.raises(DemoError, match="a client process of the demo died"):
        run_demo(60, 4, 5, out)
    assert left_behind(place, out.getvalue().splitlines()[0]) == []


@pytest.mark.parametrize(("symbols", "matchers"), [(1, 1), (4, 2), (300, 2)])
def test_the_configuration_holds_the_symbols_asked_for(
    symbols: int, matchers: int, tmp_path: Path
) -> None:
    config = demo_config(tmp_path, symbols)
    names = [section.symbol for section in config.instruments]
    assert len(set(names)) == symbols
    assert config.engine.matchers >= matchers


def test_sampled_orders_are_open_or_ended_not_long_ago() -> None:
    orders = np.zeros(40_000, ORDER)
    orders["order_id"] = make_id(1, 1) + np.arange(40_000)
    orders["leaves_qty"][::4] = 1
    sample = sample_orders(orders, [0, 1], np.random.default_rng(3))
    is_open = sample["leaves_qty"] > 0
    assert (is_open.sum(), (~is_open).sum()) == (1_000, 1_000)
    assert len(np.unique(sample["order_id"])) == 2_000
    assert sample["order_id"][is_open].min() < make_id(1, 10_000)
    assert sample["order_id"][~is_open].min() > make_id(1, 35_000)
