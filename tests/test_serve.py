"""The life of the product: starts, ends, kills of its processes, and what they leave behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from engine.config import load_config
from engine.plan import Plan
from engine.supervisor import ServeError, Supervisor
from engine.trade_log.log import read_trades
from frontend.roles import ROLES
from ipc.memory.status import ProcessStatus, StatusReader
from ipc.records import sequence_of
from ipc.vocabulary import ExecType, Reason
from ipc.wire.messages import Cancel, NewOrder, Ping, Pong, Reject, Report, ShardRestarted
from tests.fork_server import Program
from tests.product import WAIT_S, Wire, config_text, make_config, refused, until

AS_A_USER = (sys.executable,)
"""An interpreter of its own, and with it a fork server of its own."""


class Served:
    """``shardbook serve``, by the fork server of all tests or as a user starts it."""

    def __init__(
        self,
        directory: Path,
        extra: str = "",
        text: str = "",
        engine: str = "",
        python: Sequence[str] = (),
    ) -> None:
        """``python`` is the interpreter, and what it is to run under, if it is to have its own."""
        self.config = directory / "test.toml"
        text = text or f'data_dir = "{directory}/data"\n' + config_text(2, 4, extra, engine)
        self.config.write_text(text)
        self.plan = Plan(load_config(self.config))
        command = ["serve", "--config", str(self.config)]
        self.process: subprocess.Popen[str] | Program
        if python:
            self.process = subprocess.Popen(
                [*python, "-m", "frontend.cli", *command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        else:
            self.process = Program(command)
        self.lines: list[str] = []

    def until(self, word: str) -> str:
        """Return the next line of output that contains ``word``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if word in line:
                return line
        raise AssertionError(f"{word!r} never came: {self.lines}")

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        assert self.process.stdout is not None
        self.lines += list(self.process.stdout)
        return self.process.wait(60)

    def member(self, role: str, number: int = 0) -> ProcessStatus:
        """Return what a process says of itself."""
        processes = StatusReader(self.plan.status_path).processes()
        return next(p for p in processes if (p.role, p.number) == (role, number))


@contextmanager
def served(
    directory: Path,
    extra: str = "",
    engine: str = "",
    python: Sequence[str] = (),
) -> Iterator[Served]:
    serving = Served(directory, extra, engine=engine, python=python)
    try:
        serving.until("ready")
        yield serving
    finally:
        if serving.process.poll() is None:
            serving.process.send_signal(signal.SIGTERM)
        serving.end()


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


def cross(wire: Wire, price: int = 100) -> int:
    """Trade once with oneself; return the trade's id once both reports have come."""
    wire.send(NewOrder(1, 1, 0, 1, 2, 1, price, 5), NewOrder(1, 2, 0, 2, 2, 1, price, 5))
    trades = []
    while len(trades) < 2:
        report = wire.receive()
        if isinstance(report, Report) and report.exec_type == ExecType.TRADE:
            trades.append(report.trade_id)
    assert trades[0] == trades[1]
    return trades[0]


def linked(wire: Wire) -> None:
    """Wait until the frontend has found the matcher of symbol 1 again."""
    code = Reason.SHARD_DOWN
    while code == Reason.SHARD_DOWN:
        wire.send(Cancel(1, 9, 1 << 44))
        while not isinstance(answer := wire.receive(), Reject):
            assert isinstance(answer, ShardRestarted)
        code = Reason(answer.code)


def logged(plan: Plan) -> list[int]:
    return [trade.trade_id for trade in read_trades(plan.log_dir)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_drains_and_leaves_nothing(directory: Path, number: signal.Signals) -> None:
    with served(directory, python=AS_A_USER) as serving:
        plan = serving.plan
        with Wire(plan, "alice") as wire:
            trade_ids = [cross(wire) for _ in range(50)]
            serving.process.send_signal(number)
            assert wire.closing().code == "SHUTTING_DOWN"
        assert serving.end() == 0
    assert logged(plan) == trade_ids
    assert not plan.run_dir.exists()
    assert refused(plan)


def test_plan_of_processes_is_printed(directory: Path) -> None:
    with served(directory) as serving:
        text = "".join(serving.lines)
        for words in ("frontend 0 on", "matcher 0 on", "matcher 1 on", "AA, CC", "BB, DD"):
            assert words in text
        assert f"listening on unix:{serving.plan.addresses()[0].path}" in text


def test_second_start_says_the_directory_is_in_use(directory: Path) -> None:
    with served(directory) as serving:
        second = Served(directory)
        assert second.end() == 1
        text = "".join(second.lines)
        assert "is in use by process" in text
        assert str(serving.process.pid) in text
        assert "Traceback" not in text
        with Wire(serving.plan, "alice") as wire:
            cross(wire)


def test_start_after_everything_was_killed(directory: Path) -> None:
    """What a kill leaves (socket, mappings) does not stop the next start, and no trade is lost."""
    with served(directory, python=AS_A_USER) as serving:
        plan = serving.plan
        with Wire(plan, "alice") as wire:
            before = [cross(wire) for _ in range(20)]
        pids = [p.pid for p in StatusReader(plan.status_path).processes()]
        for pid in [serving.process.pid, *pids]:
            with_pid_gone(pid)
        serving.end()
    assert plan.run_dir.exists()
    assert Path(plan.addresses()[0].path).exists()
    with served(directory, python=AS_A_USER) as serving, Wire(plan, "alice") as wire:
        after = [cross(wire) for _ in range(20)]
    assert logged(plan) == before + after
    assert min(after) > max(before)


def test_trades_that_were_not_logged_are_by_the_next_start(directory: Path) -> None:
    with served(directory) as serving:
        plan = serving.plan
        os.kill(serving.member("persister").pid, signal.SIGSTOP)
        with Wire(plan, "alice") as wire:
            before = [cross(wire) for _ in range(20)]
        assert logged(plan) == []
        pids = [p.pid for p in StatusReader(plan.status_path).processes()]
        for pid in [serving.process.pid, *pids]:
            with_pid_gone(pid)
        serving.end()
    with served(directory) as serving, Wire(plan, "alice") as wire:
        assert "replayed 40 commands of its journal" in "".join(serving.lines)
        after = [cross(wire) for _ in range(20)]
    assert logged(plan) == before + after


def test_too_little_shared_memory_is_said(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.places.available_bytes", lambda: 1 << 20)
    plan = Plan(make_config(), directory)
    supervisor = Supervisor(plan, print, ROLES)
    with pytest.raises(ServeError, match="MB of shared memory are needed, 1 MB are free"):
        supervisor.start()
    supervisor.stop()
    assert not plan.run_dir.exists()


def test_a_signal_is_heeded_at_once(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = Supervisor(Plan(make_config(), directory), print, ROLES)

    def told_meanwhile(ends: list[int], _: float) -> list[object]:
        supervisor.end()
        ended = wait(ends, WAIT_S)
        assert ended, "it would have waited on"
        return ended

    monkeypatch.setattr("engine.supervisor.wait", told_meanwhile)
    supervisor.watch()


def with_pid_gone(pid: int) -> None:
    """Kill a process that may be gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_children_end_when_the_supervisor_is_killed(directory: Path) -> None:
    with served(directory, python=AS_A_USER) as serving:
        plan = serving.plan
        with Wire(plan, "alice") as wire:
            trade_ids = [cross(wire) for _ in range(20)]
        pids = [p.pid for p in StatusReader(plan.status_path).processes()]
        serving.process.kill()
        serving.end()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert logged(plan) == trade_ids


def test_killed_processes_are_restarted(directory: Path) -> None:
    with served(directory, python=AS_A_USER) as serving:
        plan = serving.plan
        with Wire(plan, "alice") as wire:
            traded = [cross(wire) for _ in range(20)]
        for role in ("persister", "query", "frontend", "matcher"):
            pid = serving.member(role).pid
            os.kill(pid, signal.SIGKILL)
            assert "restarting" in serving.until(f"{role} 0 died")
            serving.until(f"{role} 0 is back")
            with Wire(plan, "alice") as wire:
                linked(wire)
                traded += [cross(wire) for _ in range(20)]
                wire.send(Ping(7))
                assert wire.receive() == Pong(7)
            assert serving.member(role).pid != pid
    assert logged(plan) == traded
    assert [sequence_of(trade_id) for trade_id in traded] == list(range(1, 101))


def test_unwritable_data_directory_is_named(directory: Path) -> None:
    (directory / "data").write_text("a file, not a directory")
    serving = Served(directory)
    assert serving.end() == 1
    assert f"data directory {directory}/data" in "".join(serving.lines)


def test_tcp_serves_as_the_unix_socket_does(directory: Path) -> None:
    port = 20_000 + os.getpid() % 20_000
    with served(directory, f'[frontend]\ntcp = "127.0.0.1:{port}"\n') as serving:
        assert f"listening on tcp:127.0.0.1:{port}" in "".join(serving.lines)
        with Wire(serving.plan, "alice", serving.plan.addresses()[1]) as wire:
            cross(wire)


def test_address_in_use_is_named(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        serving = Served(directory, f'[frontend]\ntcp = "127.0.0.1:{port}"\n')
        assert serving.end() == 1
    text = "".join(serving.lines)
    assert f"cannot listen on tcp:127.0.0.1:{port}: Address already in use" in text
    assert "Traceback" not in text


def test_engine_of_a_killed_owner_ends_by_itself(directory: Path) -> None:
    """A product that a program started for itself does not outlive the program."""
    program = f"""
from pathlib import Path
from engine.config import load_config
from frontend.launch import running_engine
if __name__ == "__main__":
    config = load_config(Path({str(directory / "test.toml")!r}))
    with running_engine(config, Path({str(directory / "data")!r})) as plan:
        print("up", flush=True)
        input()
"""
    (directory / "owner.py").write_text(program)
    (directory / "test.toml").write_text(config_text())
    owner = subprocess.Popen(
        [sys.executable, str(directory / "owner.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"up\n"
    plan = Plan(load_config(directory / "test.toml"), directory / "data")
    pids = [p.pid for p in StatusReader(plan.status_path).processes()]
    owner.kill()
    owner.communicate()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert not plan.run_dir.exists()
