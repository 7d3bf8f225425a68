"""What tests of shared memory share: a second process that works until it is told to stop."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.fork_server import shared_fork_server

WAIT_S = 60.0


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; give the core away meanwhile."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        os.sched_yield()


@contextmanager
def working(target: Callable[..., None], *args: Any) -> Iterator[Callable[[], None]]:
    """Run ``target(*args, stop)`` in a process of its own; ``stop`` is an event that ends it.

    Yields a function that sets ``stop`` and waits for the process; the end of the block calls it.
    """
    context = shared_fork_server()
    stop = context.Event()
    process = context.Process(target=target, args=(*args, stop))
    process.start()

    def end() -> None:
        stop.set()
        process.join(WAIT_S)
        assert process.exitcode == 0, f"{target.__name__} ended with {process.exitcode}"

    try:
        yield end
        end()
    finally:
        if process.is_alive():
            process.kill()
            process.join()
