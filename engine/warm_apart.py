"""Compiling in processes that end, as many at once as there are cores.

What a compiler leaves behind in memory goes with them; the process that needs the machine code
loads it from the cache they have filled. Where that cannot be, it compiles by itself.
"""

import fcntl
import gc
import os
from collections.abc import Sequence
from pathlib import Path

from engine.children import PROGRESS_VARIABLE, die_with_parent
from engine.warm import Others, Step, Tell, steps_of, warm
from ipc.native.code_cache import NotKeptError, keeps_all, only_kept
from ipc.native.compiled import HAVE_NUMBA

MOST_AT_ONCE = 4
"""Processes; the longest step takes more than half of all their work, so more would only wait."""


def warm_apart(book: str, others: Others, tell: Tell) -> None:
    """Do what ``warm`` does, and call ``tell`` only where anything has to be compiled.

    Processes are forked, so no thread may run beside this one.
    """
    if not HAVE_NUMBA:
        return
    with steps_of(book, others) as steps:
        missing = [step for step in steps if not _load(step)]
        if missing and keeps_all():
            _compile(missing, tell)
            missing = [step for step in missing if not _load(step)]
            steps.clear()
    if missing:
        warm(book, others, tell)


def warm_fork_server(book: str, others: Others) -> None:
    """Do so for the processes of a product; the progress file, if any, says what is compiled.

    It is locked until all that compile have ended.
    """
    path = os.environ.get(PROGRESS_VARIABLE)
    held: list[int] = []

    def tell(text: str) -> None:
        if path is None:
            return
        if not held:
            held.append(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
            fcntl.flock(held[0], fcntl.LOCK_SH)
        Path(path).write_text(text)

    try:
        warm_apart(book, others, tell)
    finally:
        for descriptor in held:
            os.close(descriptor)


def _load(step: Step) -> bool:
    """Load all that a step needs; return whether that was kept."""
    try:
        with only_kept():
            for each in step.all():
                each.use()
    except NotKeptError:
        return False
    return True


def _compile(steps: Sequence[Step], tell: Tell) -> None:
    """Take steps, each in a process of its own, in their order; one that fails is just missing."""
    running: dict[int, str] = {}
    at_once = min(MOST_AT_ONCE, len(os.sched_getaffinity(0)))
    for number, step in enumerate(steps, 1):
        if len(running) == at_once:
            running.pop(os.wait()[0], None)
        tell(f"{number} of {len(steps)}: {', '.join([*running.values(), step.name])}")
        running[_forked(step)] = step.name
    while running:
        running.pop(os.wait()[0], None)


def _forked(step: Step) -> int:
    """Return the id of a new process that does only this, has others do what follows, and ends."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        die_with_parent()
        gc.disable()  # a tenth of the time: numba makes much, and keeps what it makes
        if os.getppid() == parent:
            step.use()
            _compile(step.then, lambda text: None)
    finally:
        os._exit(0)
