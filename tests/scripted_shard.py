"""A real frontend process before shards that a test lets live and die as it needs.

A scripted shard carries out commands as a matcher does and keeps its state over its deaths, as
recovery does. The test steps it: what has arrived is carried out or lost, answered or not.
"""

import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engine.books.choice import make_book
from engine.books.contract import BookLimits, Counters
from engine.config import Config
from engine.plan import Plan
from engine.process import run_member
from engine.roles import GatewayNumber, Member, slots
from engine.shard.account_sequences import AccountSequences
from frontend.roles import FRONTEND, ROLES
from ipc.links.backend import Backend, Link
from ipc.memory.order_table import create_table
from ipc.memory.ring import REPORTS, RingWriter, create_ring
from ipc.memory.status import StatusReader, create_status
from ipc.records import COMMAND, REPORT, TRADE
from ipc.wire.frames import frame
from ipc.wire.matcher_codec import FRONTEND_STREAM, command_row
from ipc.wire.messages import (
    CloseStream,
    MassCancel,
    Message,
    OpenStream,
    StreamOpened,
    backend_decoder,
)
from tests.fork_server import shared_fork_server
from tests.product import UNTIL_S, Wire

TIME_NS = 1_700_000_000_000_000_000


class Waker:
    """What wakes a backend: nothing."""

    stopping = False

    def __init__(self) -> None:
        self._ends = socket.socketpair()

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def wait(self, timeout_s: float | None) -> None:
        del timeout_s


class ScriptedShard:
    """One shard; dead until ``start``."""

    def __init__(self, plan: Plan, shard: int) -> None:
        limits = [
            BookLimits(i.number, i.min_price, i.max_price, 1000) for i in plan.instruments_of(shard)
        ]
        self._plan = plan
        self._shard = shard
        self._waker = Waker()
        self._book = make_book("reference", shard, limits, 1000, Counters(0, 0, 0))
        self._sequences = AccountSequences(shard)
        self._ring = RingWriter(plan.report_ring_path(shard), REPORTS)
        self._reports, self._trades = np.zeros(4096, REPORT), np.zeros(4096, TRADE)
        self.backend: Backend | None = None

    def start(self) -> None:
        """Listen, with the state that there is."""
        self.backend = Backend(self._plan.matcher_address(self._shard), self._waker, 1 << 26)

    def die(self) -> None:
        """Be gone, with all that was not written yet."""
        assert self.backend is not None
        self.backend.close()
        self.backend = None

    def step(self) -> None:
        """Carry out and answer what has arrived."""
        if self.backend is not None:
            self.carry_out(self.backend.poll(0))
            self.backend.flush()

    def arrived(self, count: int) -> list[Link]:
        """Wait for so many bytes of commands, without carrying them out; return whose they are."""
        assert self.backend is not None
        links = self.backend.links
        while sum(link.decoder.pending_bytes for link in links) < count:
            self.backend.poll(1)
        return list(links)

    def carry_out(self, arrived: list[Link]) -> None:
        """Carry out what has arrived; the answers are queued, and published in the ring."""
        assert self.backend is not None
        commands, count = np.zeros(4096, COMMAND), 0
        for link in arrived:
            while True:
                count, odd = link.decoder.read(commands, count, TIME_NS)
                if odd is None:
                    break
                message = backend_decoder.decode(odd[1])
                if isinstance(message, CloseStream):
                    link.close_stream(message.stream)
                    continue
                assert isinstance(message, OpenStream)
                count = self._open(link, message, commands, count)
        gone = [
            account for link in self.backend.take_gone() for account in link.cancel_on_disconnect
        ]
        for account in gone:
            commands[count] = command_row(MassCancel(0, 0), account, TIME_NS)
            count += 1
        progress = self._book.process(commands[:count], self._reports, self._trades)
        assert progress.commands == count
        reports = self._reports[: progress.reports]
        self._ring.publish_new(reports, self._sequences.number(reports))
        for link in self.backend.links:
            link.send(link.encoder.encode(reports))

    def _open(self, link: Link, message: OpenStream, commands: np.ndarray, count: int) -> int:
        account = message.account
        if account not in link.accounts:
            link.open_stream(message.stream, account)
            opened = StreamOpened(self._sequences.last(account))
            link.send(frame(opened, message.stream | FRONTEND_STREAM))
        if message.cancel_on_disconnect:
            link.cancel_on_disconnect.add(account)
        elif account in link.cancel_on_disconnect:
            link.cancel_on_disconnect.remove(account)
            commands[count] = command_row(MassCancel(0, 0), account, TIME_NS)
            count += 1
        return count


class Stage:
    """The frontend process and the shards behind it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.shards = [ScriptedShard(plan, shard) for shard in plan.shards]
        self.query = Backend(plan.query_address(0), Waker(), 1 << 26)
        self._status = StatusReader(plan.status_path)

    def until(self, condition: Callable[[], bool]) -> None:
        """Let the living shards do their work until a condition holds, but not for ever."""
        deadline = time.monotonic() + UNTIL_S
        while not condition():
            assert time.monotonic() < deadline, f"this has not come true within {UNTIL_S:.0f} s"
            for shard in self.shards:
                shard.step()
            self.query.poll(0.001)

    def receive(self, wire: Wire, count: int = 1) -> list[Message]:
        """Return the next messages that a connection gets."""
        return [self._next(wire) for _ in range(count)]

    def log_in(self, user_id: str, cancel_on_disconnect: bool = False) -> Wire:
        """Return a connection that is logged in."""
        wire = Wire(self.plan)
        wire.log_in(user_id, cancel_on_disconnect=cancel_on_disconnect)
        (wire.welcome,) = self.receive(wire)  # type: ignore[assignment]
        return wire

    def counter(self, name: str) -> int:
        """Return a counter of the frontend."""
        processes = self._status.processes()
        return next(p.counters[name] for p in processes if p.role == "frontend")

    @property
    def ready(self) -> bool:
        """Whether the frontend serves."""
        return any(p.role == "frontend" and p.state == "ready" for p in self._status.processes())

    def kill(self, shard: int) -> None:
        """Let a shard die, and the frontend see it."""
        before = self.counter("shards_down")
        self.shards[shard].die()
        self.until(lambda: self.counter("shards_down") == before + 1)

    def _next(self, wire: Wire) -> Message:
        self.until(lambda: wire.has_message)
        return wire.receive()


@contextmanager
def staged(config: Config, absent: Sequence[int] = ()) -> Iterator[Stage]:
    """Run a frontend before scripted shards, which are alive, but for those that are absent."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="sb-")))
        plan = Plan(config, directory)
        plan.run_dir.mkdir(parents=True, mode=0o700)
        stack.callback(shutil.rmtree, plan.run_dir)
        members = ROLES.members(plan)
        create_status(plan.status_path, slots(members))
        for shard in plan.shards:
            for path in (plan.report_ring_path(shard), plan.kept_reports_path(shard)):
                create_ring(path, shard, 1024, 0, 0, REPORTS)
            create_table(plan.table_path(shard), shard, 1_024)
        stage = Stage(plan)
        for shard, scripted in enumerate(stage.shards):
            if shard not in absent:
                scripted.start()
        member = Member(FRONTEND, 0, None, gateway=GatewayNumber(0, 1))
        process = shared_fork_server().Process(target=run_member, args=(plan, member))
        process.start()
        stack.callback(process.join)
        stack.callback(process.kill)
        stage.until(lambda: stage.ready)
        yield stage
