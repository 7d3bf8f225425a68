"""One fork server for every product of a test run: what they import and compile is loaded once.

A product's own supervisor starts a fork server anew, which costs most of its start; those that
``shardbook serve`` starts (``tests.test_serve``) do so in tests, too.
"""

import os
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from engine.children import PRELOAD_VARIABLE
from engine.roles import Preload
from frontend.roles import ROLES

ROOT = Path(__file__).resolve().parent.parent


class Supervising(ForkServerProcess):
    """A process that makes its own by the fork server that it comes from.

    ``multiprocessing`` says that it would, and starts another one (CPython 3.11 to 3.13): it looks
    for the server's process among its own children.
    """

    def run(self) -> None:
        """Do what is to be done, with that mended."""
        forkserver._forkserver.ensure_running = _is_running  # type: ignore[attr-defined]
        super().run()


class SharedForkServer(ForkServerContext):
    """The context of products; starts the fork server at the first of them."""

    Process = Supervising  # type: ignore[assignment]
    _started = False

    def start(self) -> "SharedForkServer":
        """Start the server, where it does not run yet; it takes this environment for good."""
        if not self._started:
            self.set_forkserver_preload(["pytest", "tests.fork_server", "engine.preload"])
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
