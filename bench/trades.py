"""What trades cost once they are in the ring: logging them, and reading the last of them."""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engine.config import Config
from engine.plan import Plan
from engine.roles import PERSISTER
from engine.trade_log.persister import Persister
from frontend.roles import QUERY, ROLES
from ipc.arrays import Records
from ipc.memory.ring import RingReader, RingWriter, create_ring
from ipc.memory.status import ProcessSlot, StatusWriter, create_status
from ipc.records import TRADE, make_id

LAST_TRADES = 100
STILL_TRADES = 1 << 7
"""Trades of a ring that nobody writes: as many as are read, and a power of two."""
TRADES = 1 << 20
"""Trades that a persister alone writes in one go."""
_READS = 256
"""Reads between two looks at whether to stop."""
END_S = 10.0


@dataclass(frozen=True)
class Work:
    """How often something was done, in how long, and with how much CPU time."""

    count: int
    wall_ns: int
    cpu_ns: int

    @property
    def rate(self) -> float:
        """Times a second."""
        return self.count * 1e9 / self.wall_ns

    @property
    def cpu_rate(self) -> float:
        """Times a second of CPU time: with a core of its own."""
        return self.count * 1e9 / self.cpu_ns


def persister_alone(config: Config, seed: int, parent: Path | None = None) -> Work:
    """Log TRADES trades that are all in the ring before the clock runs, in this process."""
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(TemporaryDirectory(prefix="sb-", dir=parent))
        plan = Plan(config, Path(path))
        plan.run_dir.mkdir(parents=True, mode=0o700)
        stack.callback(_remove, plan)
        create_status(plan.status_path, [ProcessSlot(PERSISTER, 0, None, 0)])
        for shard in plan.shards:
            create_ring(plan.ring_path(shard), shard, TRADES, 0)
        RingWriter(plan.ring_path(0)).publish(_trades(plan, seed))
        status = StatusWriter(plan.status_path, "persister", 0)
        status.start(os.getpid(), time.time_ns())
        persister = Persister(plan, status)
        stack.callback(persister.close)
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        while persister.available():
            persister.step()
            if persister.failing:
                raise OSError("the trade log cannot be written")
        return Work(TRADES, time.perf_counter_ns() - wall, time.process_time_ns() - cpu)


def _trades(plan: Plan, seed: int) -> Records:
    random = np.random.default_rng(seed)
    trades = np.zeros(TRADES, TRADE)
    trades["trade_id"] = np.arange(make_id(0, 1), make_id(0, 1) + TRADES)
    trades["sequence"] = np.arange(TRADES)
    trades["timestamp_ns"] = time.time_ns() + np.arange(TRADES) * 1_000
    trades["price"] = random.integers(8_000, 40_000, TRADES)
    trades["quantity"] = random.integers(1, 200, TRADES)
    trades["buy_order_id"] = random.integers(1, 1 << 24, TRADES)
    trades["sell_order_id"] = random.integers(1, 1 << 24, TRADES)
    numbers = [instrument.number for instrument in plan.instruments_of(0)]
    trades["symbol"] = random.choice(numbers, TRADES)
    trades["taker_side"] = random.integers(1, 3, TRADES)
    return trades


def _remove(plan: Plan) -> None:
    for path in plan.run_dir.iterdir():
        path.unlink()
    plan.run_dir.rmdir()


class Reader:
    """A process that reads the last trades of a ring as fast as it can, while told to."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def start(self) -> None:
        """Begin reading."""
        self._pipe.send(None)

    def stop(self) -> Work:
        """Stop reading; return how it went."""
        self._pipe.send(None)
        work: Work = self._pipe.recv()
        return work


@contextmanager
def still_ring(parent: Path | None = None) -> Iterator[Path]:
    """Give a ring of trades that nobody writes any more."""
    with TemporaryDirectory(prefix="sb-", dir=parent) as directory:
        path = Path(directory) / "still"
        create_ring(path, 0, STILL_TRADES, 0, gating_readers=0)
        trades = np.zeros(STILL_TRADES, TRADE)
        trades["trade_id"] = np.arange(make_id(0, 1), make_id(0, 1) + len(trades))
        RingWriter(path).publish(trades)
        yield path


@contextmanager
def reader(plan: Plan, ring: Path) -> Iterator[Reader]:
    """Run a reader of a ring, on the core of the product's query worker."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    core = next(m.core for m in ROLES.members(plan) if m.role == QUERY)
    process = context.Process(target=_read, args=(ring, core, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield Reader(ours)
    finally:
        ours.close()
        process.join(END_S)


def _read(path: Path, core: int | None, pipe: Connection) -> None:
    """Be a reader, until the pipe is closed."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    ring = RingReader(path)
    ring.last(LAST_TRADES)
    with contextlib.suppress(EOFError):
        pipe.send(None)
        while True:
            pipe.recv()
            reads = 0
            wall, cpu = time.perf_counter_ns(), time.process_time_ns()
            while not pipe.poll():
                for _ in range(_READS):
                    ring.last(LAST_TRADES)
                reads += _READS
            pipe.recv()
            pipe.send(Work(reads, time.perf_counter_ns() - wall, time.process_time_ns() - cpu))
