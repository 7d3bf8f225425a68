"""The process that all others of a product are forked from: what they import is loaded once."""

import fcntl
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from engine.children import PRELOAD_VARIABLE, PROGRESS_VARIABLE, SUPERVISOR_VARIABLE, starting
from engine.roles import Preload

_LOOK_S = 0.05
_NOTHING_BYTES = 16
"""What is told of a process that does nothing: its id, and then its exit code."""

Announce = Callable[[str], None]


class ForkServerError(RuntimeError):
    """The fork server has ended by itself."""


class ForkServer:
    """The fork server of a supervisor: ``start``, then make processes by ``context``; ``stop``.

    A supervisor that was itself made by a fork server shares that one, which others end.
    """

    def __init__(self, preload: Preload, progress: Path) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self._started = False
        # It looks for what to import before it learns this process's sys.path.
        here = str(Path(__file__).resolve().parent.parent)
        known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        self._progress = progress
        self._environment = {
            "PYTHONPATH": os.pathsep.join([here, *filter(None, known)]),
            SUPERVISOR_VARIABLE: str(os.getpid()),
            PRELOAD_VARIABLE: preload.text(),
            PROGRESS_VARIABLE: str(progress),
        }

    def start(self, announce: Announce, stopping: Callable[[], bool]) -> None:
        """Start it, which compiles ahead, and pass on what it is at; return where ``stopping``.

        Raises ``ForkServerError``.
        """
        self._started = True
        self.context.set_forkserver_preload(["engine.apart", "engine.preload"])
        with starting(self._environment):
            answers, work = _server().connect_to_new_process([])
        try:
            os.write(work, pickle.dumps({}) + pickle.dumps(_Nothing()))
            os.close(work)
            shown, answered = "", 0
            while answered < _NOTHING_BYTES and not stopping():
                if wait([answers], _LOOK_S):
                    answer = os.read(answers, _NOTHING_BYTES)
                    if not answer:
                        raise ForkServerError("the fork server died before it was ready")
                    answered += len(answer)
                text = self._progress.read_text() if self._progress.exists() else ""
                if text != shown:
                    if not shown:
                        announce("compiling for this machine, on the first start only")
                    announce(f"compiling {text}")
                    shown = text
        finally:
            os.close(answers)

    def died(self) -> bool:
        """Return whether it has ended by itself: how its processes end, nobody knows then."""
        pid = _server()._forkserver_pid
        if not self._started or pid is None or not os.waitpid(pid, os.WNOHANG)[0]:
            return False
        self._forget()
        return True

    def stop(self) -> None:
        """End it and what ``multiprocessing`` has beside it, once all that it made has ended."""
        if not self._started:
            return
        pid = _server()._forkserver_pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)  # it may compile, and has nothing to lose
            os.waitpid(pid, 0)
            self._forget()
            if self._progress.exists():  # processes that compile for it hold a lock on that
                with self._progress.open() as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
        tracker: Any = resource_tracker._resource_tracker
        if tracker._pid is not None:
            tracker._stop()

    def _forget(self) -> None:
        """Let go of what this process had of one that has ended."""
        server = _server()
        os.close(server._forkserver_alive_fd)
        Path(server._forkserver_address).unlink(missing_ok=True)
        server._forkserver_alive_fd = server._forkserver_address = server._forkserver_pid = None


class _Nothing:
    """A process that does nothing: made once the fork server makes any."""

    def _bootstrap(self, _parent: int) -> int:
        return 0


def _server() -> Any:
    return forkserver._forkserver
