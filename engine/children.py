"""What a process is started under: signals held until it takes them, and the installed code only.

A signal to a terminal's or a service manager's whole group reaches every process of the product.
Only the supervisor takes it: it drains the others in their order, by ``FINISH``.
"""

import ctypes
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

ENDING = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)
"""Signals that ask a program to end, and would end one that knows nothing of them."""

FINISH = signal.SIGRTMIN
"""What a supervisor sends to a process of its own: nobody else has a use for it."""

_PR_SET_PDEATHSIG = 1

SUPERVISOR_VARIABLE = "SHARDBOOK_SUPERVISOR"
"""Environment variable of the fork server: the process that it belongs to."""

PROGRESS_VARIABLE = "SHARDBOOK_WARM_PROGRESS"
"""Environment variable of the fork server: the file in which it says what it compiles."""

PRELOAD_VARIABLE = "SHARDBOOK_PRELOAD"
"""Environment variable of the fork server: what it is to load, see ``engine.roles.Preload``."""

SAFE_PATH = "PYTHONSAFEPATH"
"""Environment variable: a process does not look for modules in the directory where it starts."""


@contextmanager
def starting(environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Start processes in this block, with ``environment`` added to this one's.

    They have ``ENDING`` held from their first moment on, and ``take`` them when they know how.
    """
    before = dict(os.environ)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        os.environ.update({SAFE_PATH: "1", **(environment or {})})
        resource_tracker.ensure_running()  # which lets some in again
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def take(numbers: Iterable[int], action: Callable[[int, Any], object] | signal.Handlers) -> None:
    """Do ``action`` on signals from now on, on those too that were held so far."""
    numbers = list(numbers)
    for number in numbers:
        signal.signal(number, action)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def leave_ending_to_starter() -> None:
    """Be ended by the program that started this process, by its SIGTERM, and by no other signal."""
    take(ENDING, signal.SIG_IGN)
    take([signal.SIGTERM], signal.SIG_DFL)


def heeded() -> list[signal.Signals]:
    """Return the signals that are to end this program: not SIGHUP where ``nohup`` started it."""
    kept = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in ENDING if number != signal.SIGHUP or not kept]


def die_with_parent() -> None:
    """Have this process killed when the one that made it ends, where the system can do that."""
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def has_ended(pid: int) -> bool:
    """Return whether a process has ended, whoever its parent is."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] in "ZX"
