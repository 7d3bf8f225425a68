"""The running product as a measurement sees it: its processes, its rings, and rounds of load."""

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from bench.bare_chain import Proportion, bare_chain, free_port
from bench.clients import Target
from bench.load import Generators, Job, Pipelined, PipelinedRun
from bench.processes import children_of, cpu_by_role
from bench.traffic import Traffic
from engine.config import Config
from engine.plan import Plan
from frontend.launch import running_engine
from frontend.roles import ROLES
from ipc.memory.ring import RingReader
from ipc.memory.status import StatusReader

LOGGED_S = 120.0
"""How long the persister may take to log what a round has left."""
POLL_S = 0.0002


class WrongCountError(AssertionError):
    """Not every command was answered once, or not every trade was reported twice and logged."""


@dataclass(frozen=True)
class Load:
    """How the clients of a round behave."""

    clients: int
    window: int
    piece_bytes: int


@dataclass(frozen=True)
class Round:
    """What one round of load gave. Times in seconds, CPU in nanoseconds by role."""

    commands: int
    seconds: float
    answered_s: float
    command_bytes: int
    answer_bytes: int
    reports: int
    rejects: int
    trades: int
    cpu_ns: dict[str, int]

    @property
    def rate(self) -> float:
        """Commands a second."""
        return self.commands / self.seconds

    @property
    def proportion(self) -> Proportion:
        """What the bare chain has to answer to move as many bytes."""
        return Proportion(self.answer_bytes, self.command_bytes)

    def cpu_us(self, role: str) -> float:
        """CPU microseconds of a role's processes for each command."""
        return self.cpu_ns.get(role, 0) / 1000 / self.commands


@dataclass(frozen=True)
class Measured:
    """What jobs found, when the last trade of it was logged, trades, and CPU time by role."""

    found: list[object]
    end_ns: int
    trades: int
    cpu_ns: dict[str, int]


class Product:
    """One running product."""

    _runs = itertools.count(1)

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        tcp = bool(plan.config.frontend.tcp)
        self.target = Target(plan.addresses()[-1 if tcp else 0], plan.config.engine.matchers)
        self.pids: dict[str, list[int]] = {}
        for process in StatusReader(plan.status_path).processes():
            self.pids.setdefault(process.role, []).append(process.pid)
        # What the supervisor forks from, and what else it keeps.
        known = {pid for pids in self.pids.values() for pid in pids}
        helpers = set(children_of(self.pids["supervisor"][0])) - known
        self.pids["fork server"] = sorted(helpers)
        self._rings = [RingReader(plan.ring_path(shard)) for shard in plan.shards]

    def user_prefix(self) -> str:
        """Return the beginning of user ids that nobody has had: fresh accounts for a flow."""
        return f"bench-{next(self._runs)}"

    def published(self) -> int:
        """Return how many trades the rings have had."""
        return sum(ring.published for ring in self._rings)

    def until_logged(self) -> None:
        """Return once the persister has written every trade that is published."""
        deadline = time.monotonic() + LOGGED_S
        while any(ring.cursor_of(0) < ring.published for ring in self._rings):
            if time.monotonic() > deadline:
                raise WrongCountError(f"trades not logged after {LOGGED_S:.0f} s")
            time.sleep(POLL_S)

    def round(self, load: Load, traffic: Traffic, commands: int, senders: Generators) -> Round:
        """Send the first ``commands`` of a traffic; the clock runs until the last is logged."""
        jobs = _jobs(self.target, load, traffic, commands, self.user_prefix(), len(senders))
        done = self.measured(jobs, senders)
        return _summed(_pipelined(done.found), done.end_ns, done.trades, done.cpu_ns)

    def measured(self, jobs: Sequence[Job], senders: Generators) -> "Measured":
        """Have jobs done, and see that every command is answered once and every trade logged."""
        pids = {**self.pids, "generators": senders.pids}
        senders.prepare(jobs)
        trades = self.published()
        before = cpu_by_role(pids)
        found = senders.run()
        self.until_logged()
        end_ns = time.monotonic_ns()
        after = cpu_by_role(pids)
        trades = self.published() - trades
        _check_answers(senders.finish(), trades)
        return Measured(found, end_ns, trades, {role: after[role] - before[role] for role in after})

    def bare_round(
        self,
        load: Load,
        traffic: Traffic,
        commands: int,
        senders: Generators,
        proportion: Proportion,
    ) -> Round:
        """Send the same through a bare chain on the same cores."""
        with bare_product(self.plan, proportion) as (target, pids):
            jobs = _jobs(target, load, traffic, commands, "", len(senders))
            senders.prepare(jobs)
            roles = {**pids, "generators": senders.pids}
            before = cpu_by_role(roles)
            runs = _pipelined(senders.run())
            after = cpu_by_role(roles)
            senders.finish()
        return _summed(runs, 0, 0, {role: after[role] - before[role] for role in after})


@contextmanager
def running_product(config: Config, parent: Path | None = None) -> Iterator[Product]:
    """Run a product in a temporary directory."""
    with contextlib.ExitStack() as stack:
        directory = TemporaryDirectory(prefix="sb-", dir=parent)
        path = Path(stack.enter_context(directory))
        yield Product(stack.enter_context(running_engine(config, path)))


@contextmanager
def bare_product(
    plan: Plan, proportion: Proportion
) -> Iterator[tuple[Target, dict[str, list[int]]]]:
    """Run a bare chain with as many matchers as a product, and on the same cores."""
    cores: dict[str, Sequence[int | None]] = {
        role: [member.core for member in ROLES.members(plan) if member.role.name == role]
        for role in ("frontend", "matcher")
    }
    matchers, tcp = plan.config.engine.matchers, bool(plan.config.frontend.tcp)
    with (
        TemporaryDirectory(prefix="sb-") as directory,
        bare_chain(Path(directory), matchers, proportion, cores, tcp) as chain,
    ):
        yield Target(chain.address, matchers, proportion), chain.pids


def configured(
    config: Config, matchers: int, pin: bool, book: str | None, tcp: bool = False
) -> Config:
    """Return a configuration with other matchers; without their own data directory and ports.

    With ``tcp`` it has a port of the loopback address besides, which nobody else listens on now.
    """
    engine = msgspec.structs.replace(
        config.engine, matchers=matchers, pin=pin, book=book or config.engine.book
    )
    frontend = msgspec.structs.replace(
        config.frontend, socket="", tcp=str(free_port()).removeprefix("tcp:") if tcp else ""
    )
    http = msgspec.structs.replace(config.http, address="")
    # As of a file: an unknown book is refused here.
    instruments = [  # one client may fill a book: it is the book that is measured
        msgspec.structs.replace(section, max_account_orders=section.max_resting_orders)
        for section in config.instruments
    ]
    changed = msgspec.structs.replace(
        config, instruments=instruments, engine=engine, frontend=frontend, http=http
    )
    return msgspec.convert(msgspec.to_builtins(changed), Config)


def _jobs(
    target: Target, load: Load, traffic: Traffic, commands: int, prefix: str, generators: int
) -> list[Job]:
    """Deal the clients of a load to the generators."""
    dealt: list[Sequence[int]] = [
        range(number, load.clients, generators) for number in range(generators)
    ]
    return [
        Pipelined(
            target, traffic.directory, clients, prefix, commands, load.window, load.piece_bytes
        )
        for clients in dealt
        if clients
    ]


def _pipelined(found: Sequence[object]) -> list[PipelinedRun]:
    return [run for run in found if isinstance(run, PipelinedRun)]


def _summed(
    runs: Sequence[PipelinedRun],
    end_ns: int,
    trades: int,
    cpu_ns: dict[str, int],
) -> Round:
    clients = [client for run in runs for client in run.clients]
    start_ns = min(run.start_ns for run in runs)
    answered_ns = max(run.end_ns for run in runs)
    return Round(
        commands=sum(client.commands for client in clients),
        seconds=(max(end_ns, answered_ns) - start_ns) / 1e9,
        answered_s=(answered_ns - start_ns) / 1e9,
        command_bytes=sum(client.command_bytes for client in clients),
        answer_bytes=sum(client.answer_bytes for client in clients),
        reports=sum(client.counts.reports for client in clients),
        rejects=sum(client.counts.rejects for client in clients),
        trades=trades,
        cpu_ns=cpu_ns,
    )


def _check_answers(finished: Sequence[object], trades: int) -> None:
    """Hold all that clients got, to their very end, against what they sent.

    ``finished`` is what their jobs found at the end. Raises ``WrongCountError``.
    """
    clients = [client for run in finished if isinstance(run, list) for client in run]
    for client in clients:
        # And one for the cancellation of everything at the end, whose request_id is 1.
        if client.counts[:2] != (client.commands + 1, client.id_sum + 1):
            raise WrongCountError(f"{client.commands} commands, but answered were {client.counts}")
    fills = sum(client.counts.fills for client in clients)
    if fills != 2 * trades:
        raise WrongCountError(f"{trades} trades, but {fills} reports of them")
