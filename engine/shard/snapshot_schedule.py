"""When snapshots are taken while the product runs, and the processes that take them."""

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import NoReturn

from engine.children import ENDING, die_with_parent, take
from engine.journal.format import JournalError
from engine.journal.snapshot import sequence_of_snapshot, snapshots_of
from engine.outlet import open_outlets
from engine.plan import Plan
from engine.printable import printable
from engine.trade_log.segments import TradeLogError

_NICENESS = 19
_LATE_NICENESS = 10
PATIENCE_S = 10.0
"""How long a snapshot may wait for idle time. Then it is begun anew with a share of its own: the
journal would grow for as long as the machine is busy."""


class Schedule:
    """Starts a process for each snapshot that is due, one at a time."""

    def __init__(
        self,
        plan: Plan,
        context: ForkServerContext,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._context = context
        self._clock_s = clock_s
        self._running: tuple[int, BaseProcess] | None = None
        self._late_s = 0.0
        self._last = {
            shard: max(map(sequence_of_snapshot, snapshots_of(plan.journal_dir(shard))), default=0)
            for shard in plan.shards
        }

    def step(self, sequences: dict[int, int], ended: Callable[[int, bool], None]) -> None:
        """Look what is due: ``sequences`` are the shards' last commands.

        ``ended`` is called with the shard and the outcome where one was taken, or could not be.
        """
        if self._running is not None:
            shard, process = self._running
            if process.exitcode is None:
                if self._clock_s() > self._late_s:
                    self.stop()
                    self._running = shard, self._start(shard, late=True)
                return
            ended(shard, process.exitcode == 0)
            process.close()
            self._running = None
        every = self._plan.config.journal.snapshot_commands
        for shard, sequence in sequences.items():
            if every and sequence - self._last[shard] >= every:
                self._last[shard] = sequence
                self._running = shard, self._start(shard, late=False)
                return

    @property
    def pid(self) -> int | None:
        """The process that takes a snapshot; None where none does."""
        return None if self._running is None else self._running[1].pid

    def stop(self) -> None:
        """End the process that runs; what it has not finished counts for nothing."""
        if self._running is not None:
            _, process = self._running
            process.kill()
            process.join()
            process.close()
            self._running = None

    def _start(self, shard: int, late: bool) -> BaseProcess:
        self._late_s = math.inf if late else self._clock_s() + PATIENCE_S
        process = self._context.Process(
            target=_run,
            args=(self._plan, shard, late),
            name=f"shardbook-snapshot-{shard}",
            daemon=True,
        )
        process.start()
        assert process.pid is not None
        with contextlib.suppress(OSError):  # it is gone, or may not be changed by others
            step_back(self._plan, process.pid, late)  # sooner than it could by itself
        return process


def step_back(plan: Plan, pid: int = 0, late: bool = False) -> None:
    """Have a process run where no matcher does, and only while nobody else wants to; 0: this one.

    One that is ``late`` gets a small share in any case.

    Between two calls of the kernel it gives way at once. During one it may not, so it keeps those
    short: what it reads and writes it reads and writes in pieces.
    """
    if late:
        os.setpriority(os.PRIO_PROCESS, pid, _LATE_NICENESS)
    elif hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.setpriority(os.PRIO_PROCESS, pid, _NICENESS)
    core = plan.cores[0]
    if core is not None:
        os.sched_setaffinity(pid, {core})


def _run(plan: Plan, shard: int, late: bool) -> NoReturn:
    """Be the process that takes one snapshot."""
    from engine.shard.snapshotter import (
        take_snapshot,  # compiled code, which a Schedule has no use for
    )

    die_with_parent()  # what is not finished counts for nothing
    take(ENDING, signal.SIG_IGN)
    open_outlets()
    os.umask(plan.config.file_mask())
    step_back(plan, late=late)
    try:
        take_snapshot(plan, shard)
    except (JournalError, TradeLogError, OSError) as error:
        sys.exit(f"snapshot of shard {shard}: {printable(str(error))}")
    sys.exit(0)
