"""Work in a process of its own, which ends with it: what it took of memory is given back.

So a process that lives long need not keep what it imports for a moment.
"""

import importlib
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection, wait
from typing import Any

from engine.children import ENDING, die_with_parent, take
from ipc.native.code_cache import FOUND_VARIABLE


class ErrandError(RuntimeError):
    """The process has ended without an answer."""


def run_errand(entry: str, arguments: tuple[Any, ...], told: int) -> Any:
    """Return what a function returns, called in a process made for it; ``entry`` names it as
    ``module:function``. What it returns is made of Python's own types, or its module comes along.
    None where the descriptor ``told`` becomes readable before: the process is killed.

    Raises ``ErrandError`` where it ends otherwise.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(entry, arguments, theirs), name="shardbook-errand")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    try:
        if told in wait([ours, told]):
            return None
        answer, found = ours.recv()
        if found is not None:  # where machine code can be kept, for all that come after
            os.environ[FOUND_VARIABLE] = found
        return answer
    except EOFError:
        process.join()
        raise ErrandError(f"{entry} ended with exit code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def _run(entry: str, arguments: tuple[Any, ...], answer: Connection) -> None:
    """Be that process."""
    die_with_parent()
    take(ENDING, signal.SIG_IGN)
    module, _, function = entry.partition(":")
    result = getattr(importlib.import_module(module), function)(*arguments)
    answer.send((result, os.environ.get(FOUND_VARIABLE)))
