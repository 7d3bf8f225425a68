"""One fork server for every product of a test run: what they import and compile is loaded once.

A product's own supervisor starts a fork server anew, which costs most of its start. A command of
``shardbook`` that is a process of this fork server, a ``Program``, does all else that it would.
"""

import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing import forkserver, process, reduction
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, TextIO

from engine.children import PRELOAD_VARIABLE
from engine.roles import Preload
from frontend.roles import ROLES

ROOT = Path(__file__).resolve().parent.parent
PRELOAD = ["pytest", "tests.fork_server", "engine.supervisor", "frontend.cli", "engine.preload"]


class Supervising(ForkServerProcess):
    """A process that makes its own by the fork server that it comes from.

    ``multiprocessing`` says that it would, and starts another one (CPython 3.11 to 3.13): it looks
    for the server's process among its own children.
    """

    def run(self) -> None:
        """Do what is to be done, with that mended."""
        forkserver._forkserver.ensure_running = _is_running  # type: ignore[attr-defined]
        super().run()


class Telling(ForkServerProcess):
    """A process that says what it says where the process that makes it does."""

    output = 1

    def __getstate__(self) -> dict[str, Any]:
        """Take that descriptor along."""
        return self.__dict__ | {"taken": reduction.DupFd(self.output)}

    def run(self) -> None:
        """Do what is to be done, and say it there."""
        descriptor: int = self.__dict__["taken"].detach()
        for standard in (1, 2):
            os.dup2(descriptor, standard)
        os.close(descriptor)
        super().run()


def _command(arguments: list[str], directory: Path, environment: dict[str, str]) -> None:
    """Do a command in a process of its own, and let those that it makes speak as it does."""
    from frontend.cli import main

    forkserver._forkserver.ensure_running = _is_running  # type: ignore[attr-defined]
    ForkServerContext.Process = Telling  # type: ignore[misc, assignment]
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.exit(main(arguments))


class Program:
    """A command that runs, with what tests use of a ``subprocess.Popen``."""

    def __init__(self, arguments: Sequence[str]) -> None:
        ours, theirs = os.pipe()
        self.stdout: TextIO = open(ours)  # noqa: SIM115
        shared_fork_server()
        self._process = Telling(
            target=_command,
            args=([*arguments], Path.cwd(), dict(os.environ)),
            name="shardbook",
        )
        self._process.output = theirs
        self._process.start()
        os.close(theirs)
        process._children.discard(self._process)  # type: ignore[attr-defined]  # of whose end ours would wait
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it has ended, once that was asked."""
        return self.poll()

    def poll(self) -> int | None:
        """Return how it has ended; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end; return how that was."""
        self._process.join(timeout_s)
        code = self.poll()
        assert code is not None, f"it has not ended within {timeout_s} s"
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


class SharedForkServer(ForkServerContext):
    """The context of products; starts the fork server at the first of them."""

    Process = Supervising  # type: ignore[assignment]
    _started = False

    def start(self) -> "SharedForkServer":
        """Start the server, where it does not run yet; it takes this environment for good."""
        if not self._started:
            self.set_forkserver_preload(PRELOAD)
            before = dict(os.environ)
            known = [str(ROOT), *filter(None, [before.get("PYTHONPATH")])]
            preload = Preload("ladder", ROLES.modules, ROLES.warm)
            os.environ |= {
                "PYTHONPATH": os.pathsep.join(known),
                PRELOAD_VARIABLE: preload.text(),
            }
            try:
                forkserver.ensure_running()
            finally:
                os.environ.clear()
                os.environ.update(before)
            self._started = True
        return self


def _is_running(*_: Any) -> None:
    """Leave the fork server that there is."""


_shared = SharedForkServer()


def shared_fork_server() -> SharedForkServer:
    """Return the context that makes products by the fork server of this test run."""
    return _shared.start()
