"""Phases without and with hostile clients in turn, on one running product."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import numpy.typing as npt

from bench.bare_chain import free_port
from bench.clients import Target
from bench.hostile.bare import Bare
from bench.hostile.checks import check_at_rest, check_numbers, check_share
from bench.hostile.crowd import NICENESS, Crowd, Toll
from bench.hostile.foe import API, Scene
from bench.hostile.honest import AGAIN, HonestRun, Reading, ReadsRun, Trading
from bench.http_load import request
from bench.latency import WARM_ORDERS, LatencyRun
from bench.load import Generators, Job, Pipelined, generators
from bench.processes import cpu_by_role, pss_bytes
from bench.products import Product, configured, running_product
from bench.traffic import Traffic, encode_traffic
from engine.config import Config, load_config
from engine.sections import KeySection
from engine.trade_log.reader import read_trades
from frontend.client import Client
from frontend.client.errors import ClientError
from frontend.demo.tally import Tally
from frontend.demo.verdict import read_log
from frontend.gateway.keys import digest_of
from ipc.arrays import Records
from ipc.links.sockets import Address
from ipc.vocabulary import Reason

GENERATORS = "honest", "readers", "hostile", "bare endpoint"
HONEST = 8
FOES = 24
"""Users of the hostile clients that have keys."""
RESTING_ORDERS = 4_000
WARM_COMMANDS = 400_000
"""Sent before anything is measured, so that rings and tables are in use all over."""
PATIENCE_S = 60.0
CANCEL_S = 15.0
SETTLE_S = 45.0
"""How long memory may take to come back: the longest of the product's timeouts, and some more."""
SAMPLE_S = 0.5
BACK = 1.1
"""Memory counts as back within this of what it was."""


class Kind(Enum):
    """What goes on beside the honest clients in a phase."""

    CALM = "without"
    BARE = "beside a bare endpoint"
    """The attackers attack another endpoint: what they take of the machine's cores."""
    HOSTILE = "beside hostile"


@dataclass(frozen=True)
class Plan:
    """What a run consists of."""

    seconds: float
    """Of hostile phases altogether; the others are half as long."""
    clients: int
    rounds: int
    orders_s: int
    reads_s: int
    only: Sequence[str]
    keyed: bool
    pin: bool
    seed: int
    settle_s: float = SETTLE_S
    warm_commands: int = WARM_COMMANDS
    config: Path | None = None


@dataclass
class Phase:
    """What one phase found."""

    kind: Kind
    orders_ns: npt.NDArray[np.int64]
    reads: ReadsRun
    cpu_share: dict[str, float]
    """Cores that each role's processes had."""
    most_bytes: int
    """Anonymous memory of the product's processes at its highest."""
    tolls: dict[str, Toll]
    orders: int = 0
    repeated: int = 0
    """Orders that were sent again under the same client_order_id, a second after the first."""
    taken_again: int = 0
    rejects: Counter[str] = field(default_factory=Counter)


@dataclass
class Outcome:
    """What a run found."""

    phases: list[Phase] = field(default_factory=list)
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    """Memory by role, in bytes."""
    settled_s: float = 0.0
    lost: list[str] = field(default_factory=list)
    """A sentence on everything that was lost, told twice, or is not one story."""
    unread: list[str] = field(default_factory=list)
    """A sentence on honest reads that were refused, or not answered in time."""
    trades: int = 0


def settings(plan: Plan) -> tuple[Config, dict[str, str]]:
    """Return the configuration, and the keys by user: all but the hostile strangers have one."""
    config = configured(load_config(plan.config), 2, plan.pin, None, tcp=True)
    address = str(free_port()).removeprefix("tcp:")
    http = msgspec.structs.replace(config.http, address=address)
    phases = range(3 * plan.rounds + 1)
    users = [f"honest-{phase}-{client}" for phase in phases for client in range(HONEST)]
    users += [f"warm-{client}" for client in range(HONEST)] + ["reader", *_foes()]
    keys = {user: f"{user} {plan.seed}" for user in users} if plan.keyed else {}
    sections = [KeySection(user, digest_of(key.encode())) for user, key in keys.items()]
    return msgspec.structs.replace(config, http=http, keys=sections), keys


def _foes() -> list[str]:
    return [f"foe-{number}" for number in range(FOES)]


class Bench:
    """One product, the generators of all kinds of clients, and all that they were told."""

    def __init__(
        self, plan: Plan, product: Product, keys: dict[str, str], scratch: Path, senders: Generators
    ) -> None:
        self.plan = plan
        self.outcome = Outcome()
        self._product = product
        self._keys = keys
        self._scratch = scratch
        self._senders = senders
        target = product.target
        self._target = Target(target.address, target.matchers, api_keys=keys)
        instruments = product.plan.instruments
        commands = max(plan.warm_commands, self._commands(plan.seconds / plan.rounds))
        self._traffic: Traffic = encode_traffic(
            scratch / "flow",
            instruments,
            HONEST,
            commands,
            plan.seed,
            RESTING_ORDERS * len(instruments),
        )
        http = product.plan.http_address
        assert http is not None
        self._scene = Scene(
            tuple(product.plan.addresses()),
            http,
            tuple(_foes()),
            {user: keys[user] for user in _foes()} if keys else {},
            tuple((one.number, one.symbol) for one in instruments),
            target.matchers,
            plan.seed,
        )
        bare = tuple(
            Address(path=f"{scratch}/bare.sock") if at.path else free_port()
            for at in self._scene.entry
        )
        self._bare_scene = replace(self._scene, entry=bare, http=free_port())
        self._only = plan.only
        self._fills: list[Records] = []
        self._orders: list[Records] = []

    def warm_up(self) -> None:
        """Trade before anything is measured."""
        flow, commands = self._traffic.directory, self.plan.warm_commands
        warm = Pipelined(self._target, flow, range(HONEST), "warm", commands, 256, 65_536)
        self._senders.prepare([warm])
        self._senders.run()
        self._senders.finish()

    def run(self) -> Outcome:
        """Warm up, then measure phase by phase; hold everything against the log at the end."""
        plan = self.plan
        self.warm_up()
        hostile_s = plan.seconds / plan.rounds
        for number in range(plan.rounds):
            self._phase(3 * number, hostile_s / 2, Kind.CALM)
            self._phase(3 * number + 1, hostile_s / 2, Kind.BARE)
            if not number:
                self.outcome.before = self._memory()
            self._phase(3 * number + 2, hostile_s, Kind.HOSTILE)
        self._phase(3 * plan.rounds, hostile_s / 2, Kind.CALM)
        self._settle()
        self._withdraw_foes()  # what the product has come to since
        self._check()
        return self.outcome

    def one(self, number: int, name: str) -> Outcome:
        """Measure a phase without, one beside a bare endpoint and one with an attack alone.

        Look at memory around the last.
        """
        self.outcome = Outcome()
        self._only = [name]
        hostile_s = self.plan.seconds / self.plan.rounds
        self._phase(3 * number, hostile_s / 2, Kind.CALM)
        self._phase(3 * number + 1, hostile_s / 2, Kind.BARE)
        self.outcome.before = self._memory()
        self._phase(3 * number + 2, hostile_s, Kind.HOSTILE)
        self._settle()
        return self.outcome

    # One phase ----------------------------------------------------------------------------------

    def _commands(self, seconds: float) -> int:
        return max(3 * WARM_ORDERS, int(self.plan.orders_s * seconds))

    def _jobs(self, number: int, seconds: float, kind: Kind) -> list[Job]:
        commands = self._commands(seconds)
        trading = Trading(
            self._target,
            self._traffic.directory,
            range(HONEST),
            f"honest-{number}",
            commands,
            self.plan.orders_s,
            self._told(number),
        )
        reading = Reading(self._scene.http, self._reads(number), self.plan.reads_s, seconds)
        jobs: list[Job] = [trading, reading]
        if kind is not Kind.CALM:
            scene = self._scene if kind is Kind.HOSTILE else self._bare_scene
            jobs.append(Crowd(scene, self.plan.clients, seconds, self._only))
        if kind is Kind.BARE:
            jobs.append(Bare(scene, seconds, NICENESS))
        return jobs

    def _phase(self, number: int, seconds: float, kind: Kind) -> None:
        product, senders = self._product, self._senders
        roles = dict(zip(GENERATORS, ([pid] for pid in senders.pids), strict=True))
        roles |= product.pids
        senders.prepare(self._jobs(number, seconds, kind))
        before, begun_s = cpu_by_role(roles), time.monotonic()
        with _highest(product) as highest:
            found = senders.run()
        took_s, after = time.monotonic() - begun_s, cpu_by_role(roles)
        trading, reads, *tolls = found
        assert isinstance(trading, LatencyRun)
        assert isinstance(reads, ReadsRun)
        if kind is Kind.HOSTILE:
            self._withdraw_foes()
        product.until_logged()
        clients = senders.finish()[0]
        assert isinstance(clients, list)
        phase = Phase(
            kind,
            trading.latencies_ns,
            reads,
            {role: (after[role] - before[role]) / 1e9 / took_s for role in roles},
            max(highest),
            tolls[0] if kind is Kind.HOSTILE else {},  # type: ignore[arg-type]
        )
        self._take_told(number, phase, clients)
        self.outcome.phases.append(phase)

    def _told(self, number: int) -> Path:
        return self._scratch / f"told-{number}"

    def _take_told(self, number: int, phase: Phase, clients: Sequence[HonestRun]) -> None:
        """Take what the honest ones were told in a phase; see that each command was answered."""
        tally = Tally()
        for place, (client, repeated, taken_again) in enumerate(clients):
            phase.orders += client.commands
            # And those that were repeated, and one for the cancellation of everything at the end.
            answers = client.commands + repeated + 1
            if client.counts[:2] != (answers, client.id_sum + repeated * AGAIN + 1):
                self.outcome.lost.append(
                    f"phase {number}: {client.commands} commands, answered: {client.counts}"
                )
            phase.repeated += repeated
            phase.taken_again += taken_again
            reports = np.load(self._told(number) / f"{place}.npy")
            tally.add(reports)
        self._fills.append(tally.fills().copy())
        self._orders.append(tally.orders())
        phase.rejects = Counter({Reason(code).name: n for code, n in tally.rejects().items()})
        self.outcome.unread += [
            f"phase {number}: {count} reads: {how}" for how, count in phase.reads.lost.items()
        ]

    def _reads(self, number: int) -> list[bytes]:
        """Return what is read in turn."""
        names = [symbol for _, symbol in self._scene.symbols]
        user = "reader" if self._keys else f"honest-{number}-0"
        paths = ["/health", f"{API}/orders?user_id={user}"]
        for name in names:
            paths += [f"{API}/orderbook?symbol={name}", f"{API}/trades?symbol={name}&limit=100"]
        key = self._keys.get("reader")
        header = f"X-API-Key: {key}\r\n".encode() if key else b""
        requests = (request("GET", path) for path in paths)
        return [data.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n") for data in requests]

    def _withdraw_foes(self) -> None:
        """Cancel all that the hostile ones have in the books, also what is still on its way."""
        address = self._product.plan.addresses()[0]
        deadline = time.monotonic() + PATIENCE_S
        left, users = 1, self._scene.users
        while left and time.monotonic() < deadline:
            left = 0
            for user in users:
                key = self._scene.keys.get(user, "")
                try:
                    with Client(address, user, timeout_s=CANCEL_S, api_key=key) as client:
                        left += client.cancel_all()
                except ClientError as error:
                    left += 1
                    failure = f"{user} cannot cancel its orders: {error}"
                    if failure not in self.outcome.lost:
                        self.outcome.lost.append(failure)
            time.sleep(SAMPLE_S)

    # The end ------------------------------------------------------------------------------------

    def _memory(self) -> dict[str, int]:
        """Return the memory of each role's processes; what is shared counts once in all."""
        pids = Product(self._product.plan).pids
        return {role: sum(map(pss_bytes, members)) for role, members in pids.items()}

    def _settle(self) -> None:
        """Wait for memory to come back, within bounds."""
        begun_s = time.monotonic()
        most = BACK * sum(self.outcome.before.values())
        while True:
            self.outcome.after = self._memory()
            self.outcome.settled_s = time.monotonic() - begun_s
            if sum(self.outcome.after.values()) <= most:
                return
            if self.outcome.settled_s > self.plan.settle_s:
                return
            time.sleep(SAMPLE_S)

    def _check(self) -> None:
        """Hold what the honest ones were told against log, books and order table."""
        plan, lost = self._product.plan, self.outcome.lost
        log = read_log(read_trades(plan.log_dir), plan.instruments)
        self.outcome.trades = len(log)
        fills, orders = np.concatenate(self._fills), np.concatenate(self._orders)
        for found in (
            check_numbers(log, plan.shards),
            check_share(fills, orders, log),
            check_at_rest(plan, self._orders[-1]),
        ):
            if found is not None:
                lost.append(found)
        pids = Product(plan).pids
        for role, members in self._product.pids.items():
            died = set(members) - set(pids.get(role, []))
            if died and role != "fork server":
                lost.append(f"{len(died)} processes died: {role}")


@contextmanager
def _highest(product: Product) -> Iterator[list[int]]:
    """Look at the product's anonymous memory again and again; give what it was."""
    seen = [0]
    over = threading.Event()

    def look() -> None:
        while not over.wait(SAMPLE_S):
            seen.append(sum(_anonymous(pid) for pids in product.pids.values() for pid in pids))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _anonymous(pid: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def run(plan: Plan) -> Outcome:
    """Run a product in a temporary directory, and both kinds of clients beside it."""
    config, keys = settings(plan)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="sb-")))
        senders = stack.enter_context(generators(len(GENERATORS)))
        product = stack.enter_context(running_product(config))
        return Bench(plan, product, keys, scratch, senders).run()


def run_each(plan: Plan, names: Sequence[str]) -> Iterator[tuple[str, Outcome]]:
    """Try attacks one by one; on one product, or on another where one has done for it.

    What was told is not held against the log: that is for ``run``.
    """
    left = list(enumerate(names))
    config, keys = settings(plan)
    while left:
        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(TemporaryDirectory(prefix="sb-")))
            senders = stack.enter_context(generators(len(GENERATORS)))
            product = stack.enter_context(running_product(config))
            bench = Bench(plan, product, keys, scratch, senders)
            bench.warm_up()
            while left:
                number, name = left.pop(0)
                try:
                    yield name, bench.one(number, name)
                except (RuntimeError, OSError) as error:
                    yield name, Outcome(lost=[str(error)])
                    break
