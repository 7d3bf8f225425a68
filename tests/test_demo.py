"""The demo as a whole: it shows, sums up, checks, and leaves nothing behind however it ends."""

import io
import json
import multiprocessing
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import frontend.demo.run
import frontend.demo.verdict
from engine.books.contract import Records
from engine.trade_log.lines import LoggedTrade
from frontend.cli import main
from frontend.demo.driver import Failure
from frontend.demo.killing import Kill
from frontend.demo.load import DemoError, Load, Tick, _tell
from frontend.demo.run import demo_config, run_demo
from frontend.demo.verdict import sample_orders
from ipc.instruments import Instrument
from ipc.memory.mapping import run_directory
from ipc.records import ORDER, make_id

COMMAND = [sys.executable, "-m", "frontend.cli", "demo"]
WAIT_S = 90.0
CHECKS = 5
MOST_KILLS = 4


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
        r"^ +[\d.]+ s +[\d,]+ orders/s +[\d,]+ trades/s  COOTX \S+/\S+  AAPL .*  TSLA \S+$",
        done.stdout,
        re.M,
    )
    assert len(shown) >= 2
    steps = re.findall(r"^ok        (.*?): .*$", done.stdout, re.M)
    for step in ("one at a time", "arrays at full rate", "a matcher killed", "checks"):
        assert step in steps
    alone = re.search(
        r"one client; p50 [\d,]+ us, p99 [\d,]+ us, p99.9 .* of ([\d,]+)", done.stdout
    )
    assert number(alone) > 0
    commands = number(
        re.search(r"^([\d,]+) commands: .* new orders, .* reduces$", done.stdout, re.M)
    )
    orders = number(re.search(r"^([\d,]+) orders accepted; rejected: none$", done.stdout, re.M))
    checks = re.findall(r"^ok +([\d,]+) (.*)$", done.stdout, re.M)
    trades = int(checks[0][0].replace(",", ""))
    assert commands > orders > trades > 0
    assert len(checks) == CHECKS
    assert "FAILED" not in done.stdout
    assert left_behind(place, done.stdout.splitlines()[0]) == []


def number(found: re.Match[str] | None) -> int:
    """Return the number that was found."""
    assert found is not None
    return int(found[1].replace(",", ""))


def test_a_picture_stays_on_a_terminal(place: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 120))
    environment = os.environ | {"TERM": "xterm-256color"}
    demo = subprocess.Popen(
        [*COMMAND, "--seconds", "2"], stdout=theirs, stdin=theirs, env=environment
    )
    os.close(theirs)
    said = bytearray()
    try:
        with suppress(OSError):  # all ends of the terminal are closed
            while data := os.read(ours, 65_536):
                said += data
        assert demo.wait(WAIT_S) == 0
    finally:
        demo.kill()
        os.close(ours)
    text = said.decode()
    last = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text[text.rindex("shardbook demo: ") :])
    for piece in ("orders/s", "COOTX, depth", "last trades", "latency alone", "at full load"):
        assert piece in last
    assert len(re.findall(r"^ok ", last, re.M)) == CHECKS + 4
    assert last.rstrip().endswith("sent again")
    assert "\x1b[1A\x1b[2K" not in text[text.rindex("latency alone") :]


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


def test_with_the_page_a_market_moves_until_it_is_interrupted(place: Path) -> None:
    demo = subprocess.Popen(
        [*COMMAND, "--page", "--symbols", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    try:
        first = demo.stdout.readline()
        told = re.fullmatch(r"page: (http://127\.0\.0\.1:\d+/)\n", demo.stdout.readline())
        assert told
        with urllib.request.urlopen(told[1], timeout=WAIT_S) as answer:
            assert b"page/main.js" in answer.read()
        seen = set()
        while len(seen) < 4:
            with urllib.request.urlopen(
                f"{told[1]}api/v1/orderbook?symbol=COOTX", timeout=WAIT_S
            ) as answer:
                seen.add(json.load(answer)["sequence"])
        os.killpg(demo.pid, signal.SIGINT)
        _, errors = demo.communicate(timeout=WAIT_S)
    finally:
        demo.kill()
    assert (demo.returncode, errors) == (130, "")
    assert left_behind(place, first) == []


def test_it_stops_at_its_most_orders_and_names_a_failed_check(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_log = frontend.demo.verdict.read_log
    lost: list[int] = []

    def losing(
        trades: Iterable[LoggedTrade],
        instruments: Sequence[Instrument],
        tell: Callable[[int], None],
    ) -> Records:
        log = read_log(trades, instruments, tell)
        lost.append(int(log["trade_id"][3]))
        return np.delete(log, 3)

    monkeypatch.setattr(frontend.demo.verdict, "read_log", losing)
    monkeypatch.setattr(frontend.demo.run, "MAX_ORDERS", 60_000)
    monkeypatch.setattr(frontend.demo.run, "ALONE_SHARE", 1e-6)
    out = io.StringIO()
    assert run_demo(3_600, 4, 5, out) == 1
    accepted = number(re.search(r"^([\d,]+) orders accepted", out.getvalue(), re.M))
    assert 40_000 < accepted < 200_000
    failed = re.findall(r"^FAILED .*", out.getvalue(), re.M)
    assert f": trade {lost[0]} was reported and is not in the log" in failed[0]
    assert len(failed) <= CHECKS
    assert "FAILED    checks: they do not tell one story" in failed


def test_what_a_killed_matcher_did_not_carry_out_is_sent_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed again and again under load: most kills meet commands that are under way."""
    kills: list[int] = []

    class Again(Kill):
        def look(self) -> bool:
            back = super().look()
            if not back or len(kills) == MOST_KILLS:
                return back
            kills.append(self.pid)
            self.__init__(self._reader, self._shard)  # type: ignore[misc]
            return False

    monkeypatch.setattr(frontend.demo.run, "Kill", Again)
    monkeypatch.setattr(frontend.demo.run, "ALONE_SHARE", 0.05)
    monkeypatch.setattr(frontend.demo.run, "KILL_SHARE", 0.9)
    out = io.StringIO()
    assert run_demo(1, 2, 7, out) == 0, out.getvalue()  # it goes on until the last is back
    assert "rejected: none" in out.getvalue()
    assert len(set(kills)) == len(kills) == MOST_KILLS


def test_a_demo_that_loses_a_driver_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Load.work

    def killing(load: Load, seconds: float, tick: Tick) -> None:
        load._processes[-1].kill()
        work(load, seconds, tick)

    monkeypatch.setattr(Load, "work", killing)
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


def test_a_client_that_has_failed_is_heard_when_it_is_told_something() -> None:
    ours, theirs = multiprocessing.Pipe()
    theirs.send(Failure("it ran out of road"))
    theirs.close()
    with pytest.raises(DemoError, match="it ran out of road"):
        _tell(ours, "flush")


def test_a_pipe_that_breaks_inside_is_no_reader_who_has_seen_enough(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def breaks(*_: object) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(frontend.demo.run, "run_demo", breaks)
    with pytest.raises(BrokenPipeError):
        main(["demo"])
