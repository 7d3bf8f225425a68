"""Signals that end the product, whenever and to whomever they come, and what they leave behind.

``python -m bench.stops`` does the same for as long as it is let.
"""

import os
import resource
import secrets
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bench.stops import MARK, Stops, marked
from engine.config import load_config
from engine.plan import Plan
from engine.trade_log.log import read_trades
from ipc.memory.status import ProcessStatus, StatusReader
from ipc.vocabulary import ExecType
from ipc.wire.messages import NewOrder, Report
from tests.product import WAIT_S, Wire, config_text, until

COMMAND = (sys.executable, "-m", "frontend", "serve")
OWN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
"""Makes its standard input the terminal of its session, then becomes the command it is given."""


class Marked:
    """``shardbook serve`` in a group of its own; its processes and their children are known."""

    def __init__(
        self, directory: Path, command: Sequence[str] = COMMAND, cold: bool = False, **options: int
    ) -> None:
        config = directory / "test.toml"
        config.write_text(f'data_dir = "{directory}/data"\n' + config_text(2, 4))
        self.plan = Plan(load_config(config))
        self.output = directory / "output"
        self.mark = secrets.token_hex(8)
        environment = {**os.environ, MARK: self.mark}
        if cold:
            environment["NUMBA_CACHE_DIR"] = str(directory / "cache")
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--config", str(config)],
                env=environment,
                start_new_session=True,
                **{"stdout": out.fileno(), "stderr": out.fileno(), **options},  # type: ignore[call-overload]
            )

    @property
    def left(self) -> list[str]:
        """The processes that there are of it."""
        return marked(self.mark)

    def says(self, word: str) -> bool:
        """Return whether it has said something; it must not have ended before."""
        said = word in self.output.read_text()
        assert said or self.process.poll() is None, self.output.read_text()
        return said

    def members(self) -> list[ProcessStatus]:
        """Return what its processes show; nothing while there is nothing to read."""
        try:
            return StatusReader(self.plan.status_path).processes()
        except RuntimeError:
            return []

    def member(self, role: str) -> ProcessStatus:
        """Return what the first process of a role shows."""
        return next(process for process in self.members() if process.role == role)

    def serves(self) -> bool:
        """Return whether all of it serves."""
        members = self.members()
        return bool(members) and all(member.state == "ready" for member in members)


@contextmanager
def starting(
    directory: Path, command: Sequence[str] = COMMAND, cold: bool = False, **options: int
) -> Iterator[Marked]:
    served = Marked(directory, command, cold, **options)
    try:
        yield served
    finally:
        served.process.kill()
        served.process.wait()
        until(lambda: not served.left)


@pytest.fixture
def directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="sb-") as name:
        yield Path(name)


def trade(wire: Wire, count: int) -> list[int]:
    """Trade with oneself; return the ids of the trades, once both sides have been told."""
    told: list[int] = []
    for _ in range(count):
        wire.send(NewOrder(1, 1, 0, 1, 2, 1, 100, 5), NewOrder(1, 2, 0, 2, 2, 1, 100, 5))
    while len(told) < 2 * count:
        report = wire.receive()
        if isinstance(report, Report) and report.exec_type == ExecType.TRADE:
            told.append(report.trade_id)
    return sorted(set(told))


def logged(plan: Plan) -> list[int]:
    return [trade.trade_id for trade in read_trades(plan.log_dir)]


def check_end(served: Marked) -> None:
    """It ends well, at once, and nothing is left of it."""
    assert served.process.wait(WAIT_S) == 0, served.output.read_text()
    assert served.left == []
    assert not served.plan.run_dir.exists()
    assert "Traceback" not in served.output.read_text()


def test_whenever_a_signal_comes_nothing_is_left_and_nothing_lost(seed: int) -> None:
    with TemporaryDirectory(prefix="sb-") as directory:
        stops = Stops(Path(directory), seed)
        stops.run(6)
    assert stops.outcome.wrong == []
    assert stops.outcome.rounds == 8
    assert stops.outcome.trades > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_the_group_drains_in_order(directory: Path, number: signal.Signals) -> None:
    with starting(directory) as served:
        until(lambda: served.says("\nready\n"))
        with Wire(served.plan, "alice") as wire:
            told = trade(wire, 300)
            os.killpg(served.process.pid, number)
            assert wire.closing().code == "SHUTTING_DOWN"
        check_end(served)
    assert logged(served.plan) == told


def test_a_signal_to_each_process_drains_in_order(directory: Path) -> None:
    """A service manager sends it to all that it finds, in whatever order, the supervisor last."""
    with starting(directory) as served:
        until(lambda: served.says("\nready\n"))
        with Wire(served.plan, "alice") as wire:
            told = trade(wire, 300)
            pids = [int(process.split()[0]) for process in served.left]
            assert len(pids) > len(served.members())  # fork server and resource tracker
            for pid in sorted(pids, key=lambda pid: pid == served.process.pid):
                os.kill(pid, signal.SIGTERM)
            assert wire.closing().code == "SHUTTING_DOWN"
        check_end(served)
    assert "died" not in served.output.read_text()
    assert logged(served.plan) == told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_can_be_stopped_while_it_compiles(directory: Path, number: signal.Signals) -> None:
    with starting(directory, cold=True) as served:
        until(lambda: served.says("compiling for"))
        os.killpg(served.process.pid, number)
        check_end(served)
        assert served.output.read_text().endswith("told to end before it was ready\nstopped\n")


def test_nothing_goes_on_compiling_for_a_killed_supervisor(directory: Path) -> None:
    with starting(directory, cold=True) as served:
        until((served.plan.run_dir / "warming").exists)
        served.process.kill()
        until(lambda: not served.left)
        assert not list((directory / "cache").rglob("*.nbc"))  # it was not for having ended


def test_nohup_is_heeded(directory: Path) -> None:
    with starting(directory, ("nohup", *COMMAND)) as served:
        until(lambda: served.says("\nready\n"))
        os.killpg(served.process.pid, signal.SIGHUP)
        with Wire(served.plan, "alice") as wire:
            told = trade(wire, 1)
        os.killpg(served.process.pid, signal.SIGTERM)
        check_end(served)
    assert logged(served.plan) == told


def test_a_fork_server_that_dies_takes_nothing_with_it(directory: Path) -> None:
    with starting(directory) as served:
        until(lambda: served.says("\nready\n"))
        with Wire(served.plan, "alice") as wire:
            told = trade(wire, 300)
            (pid,) = (
                p.split()[0]
                for p in served.left
                if "multiprocessing.forkserver" in p
                and int(p.split()[0]) not in {m.pid for m in served.members()}
            )
            os.kill(int(pid), signal.SIGKILL)
            assert wire.closing().code == "SHUTTING_DOWN"
        assert served.process.wait(WAIT_S) == 1
        assert "the fork server died" in served.output.read_text()
        assert served.left == []
    assert logged(served.plan) == told


# Nobody reads what it says -----------------------------------------------------------------------


def test_readers_of_its_lines_may_go(directory: Path) -> None:
    reader, writer = os.pipe()
    with starting(directory, stdout=writer, stderr=writer) as served:
        os.close(writer)
        until(served.serves)
        os.close(reader)
        go_on_unheard(served)


def test_the_disk_of_its_lines_may_be_full(directory: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with starting(directory, stdout=full, stderr=full) as served:
        os.close(full)
        go_on_unheard(served)


def test_its_standard_streams_may_be_closed(directory: Path) -> None:
    command = ("/bin/sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', *COMMAND)
    with starting(directory, command) as served:
        go_on_unheard(served, lost=False)


def test_a_terminal_that_stops_who_writes_unasked_does_not_stop_it(directory: Path) -> None:
    terminal, ours = os.openpty()
    settings = termios.tcgetattr(ours)
    settings[3] |= termios.TOSTOP
    termios.tcsetattr(ours, termios.TCSANOW, settings)
    command = (sys.executable, "-c", OWN_TERMINAL, *COMMAND)
    with starting(directory, command, stdin=ours, stdout=ours, stderr=ours) as served:
        os.close(ours)
        go_on_unheard(served, lost=False)
    os.close(terminal)


def go_on_unheard(served: Marked, lost: bool = True) -> None:
    """See it announce a death, complain in a child, trade, and end well."""
    until(served.serves)
    before = served.member("query").pid
    os.kill(before, signal.SIGKILL)
    until(lambda: served.serves() and served.member("query").pid != before)
    persister = served.member("persister").pid
    with Wire(served.plan, "alice") as wire:
        told = trade(wire, 1)
        limit = resource.prlimit(persister, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        told += trade(wire, 1)
        until(lambda: served.member("persister").counters["write_errors"] > 0)
        resource.prlimit(persister, resource.RLIMIT_FSIZE, limit)
        if lost:
            for role in ("supervisor", "persister"):
                until(lambda role=role: served.member(role).counters["lost_lines"] > 0)  # type: ignore[misc]
        os.killpg(served.process.pid, signal.SIGTERM)
        assert wire.closing().code == "SHUTTING_DOWN"
    check_end(served)
    assert logged(served.plan) == told
