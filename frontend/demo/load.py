"""The client processes of a demo: starts them, takes them through their steps, gathers the rest."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import numpy as np
import numpy.typing as npt

from engine.children import starting
from frontend.demo.driver import Assignment, Failure, Outcome, drive
from frontend.demo.probe import probe
from ipc.arrays import Records
from ipc.vocabulary import CommandType, ExecType, Reason

Tick = Callable[[], None]

TICK_S = 0.5
"""How often whoever waits is called."""
END_S = 10.0


class DemoError(Exception):
    """The demo could not go on; the text is for its user."""


@dataclass(frozen=True)
class Told:
    """What all clients together sent and were told.

    ``orders`` holds the last report of every order (ORDER without its times), ``fills`` every fill
    (FILL). ``latencies_ns`` are the probe's.
    """

    orders: Records
    fills: Records
    latencies_ns: npt.NDArray[np.int64]
    answers: Counter[tuple[CommandType, ExecType]]
    rejects: Counter[Reason]
    elapsed_s: float
    reached_max_orders: bool


class Load:
    """Some driver processes and probes. ``connect``, ``run``, and in any case ``close``."""

    def __init__(self, drivers: Sequence[Assignment], probes: Sequence[Assignment]) -> None:
        context = multiprocessing.get_context("spawn")
        self._assignments = [*drivers, *probes]
        self._drivers = len(drivers)
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        targets = [drive] * len(drivers) + [probe] * len(probes)
        for target, assignment in zip(targets, self._assignments, strict=True):
            assignment.directory.mkdir()
            ours, theirs = context.Pipe()
            process = context.Process(target=target, args=(assignment, theirs), daemon=True)
            with starting():
                process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def connect(self) -> None:
        """Wait until every client is connected. Raises ``DemoError``."""
        self._hear("ready")

    def run(self, tick: Tick) -> Told:
        """Let the clients do their work, calling ``tick`` meanwhile. Raises ``DemoError``."""
        self._tell("go")
        self._hear("drained", tick, self._pipes[: self._drivers])
        for pipe in self._pipes[self._drivers :]:
            pipe.send("enough")
        self._hear("drained", None, self._pipes[self._drivers :])
        self._tell("flush")
        outcomes = [heard for heard in self._hear(None) if isinstance(heard, Outcome)]
        return self._gathered(outcomes)

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        for process in self._processes:
            process.terminate()
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            process.join(END_S)
            pipe.close()

    def _tell(self, word: str) -> None:
        for pipe in self._pipes:
            pipe.send(word)

    def _hear(
        self, word: str | None, tick: Tick | None = None, pipes: Sequence[Connection] = ()
    ) -> list[str | Outcome]:
        """Return the next thing that each process says, which must be ``word`` where it is given.

        Without ``pipes`` of all processes. Raises ``DemoError`` at once where one has failed.
        """
        pipes = pipes or self._pipes
        heard: dict[Connection, str | Outcome] = {}
        next_tick_s = time.monotonic() + TICK_S
        while len(heard) < len(pipes):
            silent = [pipe for pipe in pipes if pipe not in heard]
            for pipe in wait(silent, max(0.0, next_tick_s - time.monotonic())):
                assert isinstance(pipe, Connection)
                heard[pipe] = _said(pipe)
                if word is not None and heard[pipe] != word:
                    raise DemoError(f"a client of the demo said {heard[pipe]!r}, not {word!r}")
            if time.monotonic() >= next_tick_s:
                next_tick_s += TICK_S
                if tick is not None:
                    tick()
        return [heard[pipe] for pipe in pipes]

    def _gathered(self, outcomes: Sequence[Outcome]) -> Told:
        """Put the counts of all processes and the arrays that they left together."""
        orders, fills, latencies_ns = (
            np.concatenate([np.load(a.directory / f"{name}.npy") for a in self._assignments])
            for name in ("orders", "fills", "latencies_ns")
        )
        answers: Counter[tuple[CommandType, ExecType]] = Counter()
        rejects: Counter[Reason] = Counter()
        for outcome in outcomes:
            answers += outcome.answers
            rejects += outcome.rejects
        return Told(
            orders,
            fills,
            latencies_ns,
            answers,
            rejects,
            max(outcome.elapsed_s for outcome in outcomes),
            any(outcome.reached_max_orders for outcome in outcomes),
        )


def _said(pipe: Connection) -> str | Outcome:
    """Return the next thing that one process says. Raises ``DemoError`` where it has failed."""
    try:
        said: str | Outcome | Failure = pipe.recv()
    except EOFError:
        raise DemoError("a client process of the demo died") from None
    if isinstance(said, Failure):
        raise DemoError(said.text)
    return said
