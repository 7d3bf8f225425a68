"""Load generators: processes that drive clients as told, so that the product is what is measured.

A generator does one job after the other: it connects the job's clients, says so, begins when told,
and hands back what it saw. All times are of the monotonic clock, which all processes share.
"""

import contextlib
import gc
import multiprocessing
import selectors
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from bench.answers import Counts
from bench.clients import SILENCE_S, Client, Target, connect_client
from bench.traffic import Share, Traffic

END_S = 10.0
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Job(Protocol):
    """What a generator does; a job crosses a pipe, and so does what it finds."""

    def prepare(self) -> None:
        """Connect, and do all that the clock must not see."""
        ...

    def run(self) -> object:
        """Do what is measured; return what was found."""
        ...

    def finish(self) -> object:
        """Leave nothing behind; return what has come since."""
        ...


@dataclass(frozen=True)
class ClientRun:
    """What one client sent and got so far."""

    commands: int
    id_sum: int
    command_bytes: int
    answer_bytes: int
    counts: Counts


@dataclass(frozen=True)
class PipelinedRun:
    """One generator's part of a run."""

    start_ns: int
    end_ns: int
    clients: list[ClientRun]


@dataclass
class Pipelined:
    """Send the first ``commands`` of a traffic, with ``window`` of them unanswered a client."""

    target: Target
    traffic: Path
    clients: Sequence[int]
    user_prefix: str
    commands: int
    window: int
    piece_bytes: int

    def prepare(self) -> None:
        """Connect every client that has anything to send."""
        self._clients = open_clients(
            self.target, self.traffic, self.clients, self.user_prefix, self.commands
        )

    def run(self) -> PipelinedRun:
        """Send it all and wait for all answers."""
        start_ns = time.monotonic_ns()
        drive(self._clients, self.window, self.piece_bytes)
        return PipelinedRun(start_ns, time.monotonic_ns(), [run_of(c) for c in self._clients])

    def finish(self) -> list[ClientRun]:
        """Cancel what rests and close; return what each client has got up to its very end."""
        for client in self._clients:
            client.withdraw()
        return [run_of(client) for client in self._clients]


def open_clients(
    target: Target, traffic: Path, clients: Sequence[int], user_prefix: str, commands: int
) -> list[Client]:
    """Connect clients of a traffic; each has an account of its own, named after the prefix."""
    shares = Traffic(traffic)
    parts: list[tuple[int, Share]] = [(c, shares.share(c).first(commands)) for c in clients]
    return [connect_client(target, f"{user_prefix}-{c}", s) for c, s in parts if len(s.ends)]


def run_of(client: Client) -> ClientRun:
    """Return what a client has sent and got."""
    share = client.share
    return ClientRun(
        len(share.ends),
        int(share.request_ids.sum()),
        client.sent_bytes,
        client.received_bytes,
        client.counts,
    )


def drive(clients: Sequence[Client], window: int, piece_bytes: int) -> None:
    """Let clients send all that they have and get every answer, in one loop."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.sock.setblocking(False)
            selector.register(client.sock, _READ, client)
        for client in clients:
            _send(selector, client, window, piece_bytes)
        unfinished = len(clients)
        while unfinished:
            ready = selector.select(SILENCE_S)
            if not ready:
                raise TimeoutError(f"no answer came for {SILENCE_S:.0f} s")
            for key, events in ready:
                client = key.data
                if events & _READ:
                    client.receive()
                    if client.done:
                        selector.unregister(client.sock)
                        unfinished -= 1
                        continue
                _send(selector, client, window, piece_bytes)


def _send(selector: selectors.BaseSelector, client: Client, window: int, piece_bytes: int) -> None:
    before = client.blocked
    client.send(window, piece_bytes)
    if client.blocked != before:
        selector.modify(client.sock, _READ | _WRITE if client.blocked else _READ, client)


class Generators:
    """The generator processes, as the one who measures sees them."""

    def __init__(self, pipes: Sequence[Connection], pids: list[int]) -> None:
        self.pids = pids
        self._pipes = pipes
        self._busy: Sequence[Connection] = ()

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Give a job to each of as many generators; return when all are prepared."""
        assert len(jobs) <= len(self._pipes)
        self._busy = self._pipes[: len(jobs)]
        for pipe, job in zip(self._busy, jobs, strict=True):
            pipe.send(job)
        self._hear()

    def run(self) -> list[object]:
        """Let the prepared jobs run; return what each has found."""
        self._tell()
        return self._hear()

    def finish(self) -> list[object]:
        """Let the jobs clean up; return what each has to add."""
        self._tell()
        return self._hear()

    def __len__(self) -> int:
        return len(self._pipes)

    def _tell(self) -> None:
        for pipe in self._busy:
            pipe.send(None)

    def _hear(self) -> list[object]:
        heard = []
        for pipe in self._busy:
            said = pipe.recv()
            if isinstance(said, Exception):
                raise said
            heard.append(said)
        return heard


@contextmanager
def generators(count: int) -> Iterator[Generators]:
    """Run generator processes for the length of a ``with`` block."""
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pipes, pids = [], []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_generate, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            stack.callback(process.join, END_S)
            stack.callback(ours.close)
            assert process.pid is not None
            pipes.append(ours)
            pids.append(process.pid)
        yield Generators(pipes, pids)


def _generate(orders: Connection) -> None:
    """Do jobs until the pipe is closed; what fails goes back through it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # its pauses would be counted as the product's
    with contextlib.suppress(EOFError):
        while True:
            job: Job = orders.recv()
            try:
                for step in (job.prepare, job.run, job.finish):
                    orders.send(step())
                    if step != job.finish:
                        orders.recv()
            except (OSError, RuntimeError, AssertionError) as error:
                orders.send(RuntimeError(f"{type(error).__name__}: {error}"))
