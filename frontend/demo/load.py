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
from frontend.demo.latencies import LatencyFile
from frontend.demo.probe import probe
from ipc.vocabulary import CommandType, ExecType, Reason

Records = npt.NDArray[np.void]
Tick = Callable[[], bool | None]
"""Called now and then while something goes on; True: it need not go on."""

TICK_S = 0.05
"""How often whoever waits is called."""
END_S = 10.0


class DemoError(Exception):
    """The demo could not go on; the text is for its user."""


@dataclass(frozen=True)
class Told:
    """What all clients together were told.

    ``orders`` holds the last report of every order (TOLD), ``fills`` every fill (FILL).
    ``sent_again`` counts commands that a killed matcher did not carry out the first time.
    """

    orders: Records
    fills: Records
    answers: Counter[tuple[CommandType, ExecType]]
    rejects: Counter[Reason]
    sent_again: int


class Load:
    """A probe and some driver processes. ``connect``, the steps in order, and always ``close``."""

    def __init__(self, prober: Assignment, drivers: Sequence[Assignment]) -> None:
        context = multiprocessing.get_context("spawn")
        self._assignments = [prober, *drivers]
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        targets = [probe] + [drive] * len(drivers)
        for target, assignment in zip(targets, self._assignments, strict=True):
            assignment.directory.mkdir()
            ours, theirs = context.Pipe()
            process = context.Process(target=target, args=(assignment, theirs), daemon=True)
            with starting():
                process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._finished: set[Connection] = set()

    @property
    def finished(self) -> bool:
        """Whether no driver enters any more, since there are as many orders as there may be."""
        return len(self._finished) == len(self._pipes) - 1

    def connect(self) -> LatencyFile:
        """Wait until every client is connected; return what the probe will measure."""
        self._hear("ready", self._pipes)
        return LatencyFile(self._assignments[0].directory)

    def one_at_a_time(self) -> None:
        """Let the probe alone work. All steps raise ``DemoError``."""
        _tell(self._pipes[0], "go")

    def full_rate(self) -> None:
        """Let the drivers work, and the probe beside them."""
        _tell(self._pipes[0], "beside")
        for pipe in self._pipes[1:]:
            _tell(pipe, "go")

    def work(self, seconds: float, tick: Tick) -> None:
        """Wait, calling ``tick``, until it is over, ``tick`` says so or no driver enters more."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.finished:
            waiting = [pipe for pipe in self._pipes if pipe not in self._finished]
            for pipe in wait(waiting, min(TICK_S, left)):
                assert isinstance(pipe, Connection)
                _expect("drained", _said(pipe))
                self._finished.add(pipe)
            if tick():
                return

    def end(self) -> Told:
        """Let the clients end; return what they were told."""
        probe_pipe, *drivers = self._pipes
        for pipe in drivers:
            _tell(pipe, "enough")
        self._hear("drained", [pipe for pipe in drivers if pipe not in self._finished])
        _tell(probe_pipe, "enough")
        self._hear("drained", [probe_pipe])
        for pipe in self._pipes:
            _tell(pipe, "flush")
        heard = self._hear(None, self._pipes)
        return self._gathered([said for said in heard if isinstance(said, Outcome)])

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        for process in self._processes:
            process.terminate()
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            process.join(END_S)
            pipe.close()

    def _hear(self, word: str | None, pipes: Sequence[Connection]) -> list[str | Outcome]:
        """Return the next thing that each of some processes says: ``word`` where it is given.

        Raises ``DemoError`` at once where one has failed.
        """
        heard: dict[Connection, str | Outcome] = {}
        while len(heard) < len(pipes):
            for pipe in wait([pipe for pipe in pipes if pipe not in heard]):
                assert isinstance(pipe, Connection)
                heard[pipe] = _said(pipe)
                if word is not None:
                    _expect(word, heard[pipe])
        return [heard[pipe] for pipe in pipes]

    def _gathered(self, outcomes: Sequence[Outcome]) -> Told:
        """Put the counts of all processes and the arrays that they left together."""
        orders, fills = (
            np.concatenate([np.load(a.directory / f"{name}.npy") for a in self._assignments])
            for name in ("orders", "fills")
        )
        answers: Counter[tuple[CommandType, ExecType]] = Counter()
        rejects: Counter[Reason] = Counter()
        for outcome in outcomes:
            answers += outcome.answers
            rejects += outcome.rejects
        return Told(orders, fills, answers, rejects, sum(o.sent_again for o in outcomes))


def _expect(word: str, said: str | Outcome) -> None:
    if said != word:
        raise DemoError(f"a client of the demo said {said!r}, not {word!r}")


def _tell(pipe: Connection, word: str) -> None:
    """Say something to one process. Raises ``DemoError`` where it has ended: with its last word."""
    try:
        pipe.send(word)
    except OSError:
        _expect(word, _said(pipe))


def _said(pipe: Connection) -> str | Outcome:
    """Return the next thing that one process says. Raises ``DemoError`` where it has failed."""
    try:
        said: str | Outcome | Failure = pipe.recv()
    except EOFError:
        raise DemoError("a client process of the demo died") from None
    if isinstance(said, Failure):
        raise DemoError(said.text)
    return said
