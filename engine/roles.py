"""The role table: a row for each kind of process that a product consists of.

This module holds the form of a row and the rows of this package. Whoever starts a product gives it
the whole table: the engine knows none of the rows that others add. Supervisor, status page, metrics
and what is compiled ahead read a row; to add a role is to write its module and its row.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec

from engine.children import PRELOAD_VARIABLE
from engine.config import Config, ConfigError, role_section
from engine.plan import Plan
from engine.sections import Section
from ipc.memory.status import MAX_COUNTERS, ProcessSlot

_OF_EACH = ("lost_lines",)
"""The counters that every process has."""


def only_one(_: Plan) -> Sequence[int]:
    """Return the number of the only process of a role."""
    return (0,)


@dataclass(frozen=True)
class Role:
    """What a product must know of one kind of process.

    A row goes to the processes that are made from it: what it names must be found by its name.
    """

    name: str
    entry: str
    """Where its work begins: ``module:function``, taking (plan, index, status, wakeup)."""
    numbers: Callable[[Plan], Sequence[int]] = only_one
    """Which processes of it a product has."""
    start: int = 0
    stop: int = 0
    """Its place in the order in which roles are started, and told to finish; the lowest first."""
    counts: tuple[str, ...] = ()
    """What it counts, beside what every process does."""
    gauges: frozenset[str] = frozenset()
    """Those of its counters that may fall, too."""
    own_core: bool = False
    """Whether each of its processes is to have a core of its own while there are enough."""
    reads_trades: bool = False
    """Whether the matchers wait until it is done with a trade: each process of it is a gating
    reader of every trade ring, and has a doorbell."""
    enters_orders: bool = False
    """Whether each of its processes has a gateway, by which it sends matchers orders: it has a
    number among all that do, and sessions and accounts by that."""
    halts: str = ""
    """What is missing where a process of it cannot go on, and the others do without; where this
    is empty, a process that dies again and again ends the product."""
    needed: bool = False
    """Whether the product is not ready where a process of it is not."""
    section: type[Section] | None = None
    """Its settings, where it has any of its own: ``[roles.NAME]`` of the configuration."""
    warm: tuple[tuple[str, str], ...] = ()
    """What is to be compiled before it serves: what that is, and ``module:function``."""

    @property
    def counters(self) -> tuple[str, ...]:
        """The names of all its counters, in the order of their words."""
        return (*self.counts, *_OF_EACH)

    def settings(self, config: Config) -> Any:
        """Return its settings, of the kind ``section``. Raises ``ConfigError``."""
        assert self.section is not None, self.name
        return role_section(config, self.name, self.section)


class GatewayNumber(NamedTuple):
    """Which of the gateways of a product one is, of any role, and how many there are."""

    number: int
    total: int


@dataclass(frozen=True)
class Member:
    """One process: its role, which of its kind it is, and the core it is pinned to.

    ``reader``: which of the gating readers of trade rings it is, if any; ``gateway``: which of the
    gateways.
    """

    role: Role
    index: int
    core: int | None
    reader: int | None = None
    gateway: GatewayNumber | None = None

    @property
    def name(self) -> str:
        """What it is called wherever it is named."""
        return f"{self.role.name} {self.index}"


SUPERVISOR = Role(
    "supervisor",
    "",  # nobody starts it
    needed=True,
    counts=("restarts", "snapshots", "snapshot_errors"),
)


def _shards(plan: Plan) -> Sequence[int]:
    return plan.shards


PERSISTER = Role(
    "persister",
    "engine.trade_log.persister:run",
    start=30,
    stop=50,
    reads_trades=True,
    needed=True,
    counts=(
        "trades",
        "bytes",
        "batches",
        "segments",
        "compressed_segments",
        "write_errors",
        "seal_errors",
        "torn_bytes_cut",
        "skipped_trades",
        "missing_trades",
    ),
    warm=(("the trade log", "engine.trade_log.lines:warm"),),
)
MATCHER = Role(
    "matcher",
    "engine.shard.matcher:run",
    _shards,
    start=10,
    stop=30,
    own_core=True,
    needed=True,
    halts="its shard is down",
    counts=(
        "commands",
        "order_sequence",
        "trade_sequence",
        "reports",
        "trades",
        "batches",
        "ring_full_waits",
        "links_cut_off",
        "sleeps",
        "canceled_on_disconnect",
        "resting_orders",
        "kept_ids",
        "displaced_ids",
        "displaced_reports",
        "journal_bytes",
        "journal_waits",
        "replayed",
    ),
    gauges=frozenset({"order_sequence", "trade_sequence", "resting_orders", "kept_ids"}),
)


def _sqlite(plan: Plan) -> Sequence[int]:
    return (0,) if plan.config.history.sqlite else ()


def _database(plan: Plan) -> Sequence[int]:
    return (0,) if plan.config.database.enabled else ()


def _mongodb(plan: Plan) -> Sequence[int]:
    return (0,) if plan.config.mongodb.enabled else ()


def _redis(plan: Plan) -> Sequence[int]:
    return (0,) if plan.config.redis.enabled else ()


def _kafka(plan: Plan) -> Sequence[int]:
    return (0,) if plan.config.kafka.enabled else ()


HISTORY = Role(
    "history",
    "engine.history.process:run",
    _sqlite,
    start=35,
    stop=35,  # once the matchers have ended it has all that there is
    halts="the history is not written",
    counts=(
        "commands",
        "trades",
        "write_errors",
        "away",
        "lag_commands",
        "lag_ms",
        "lag_bytes",
    ),
    gauges=frozenset({"away", "lag_commands", "lag_ms", "lag_bytes"}),
)
DATABASE = replace(
    HISTORY,
    name="database",
    entry="engine.history.process:run_database",
    numbers=_database,
    halts="the database is not written",
)
MONGODB = replace(
    HISTORY,
    name="mongodb",
    entry="engine.history.process:run_mongodb",
    numbers=_mongodb,
    halts="the MongoDB is not written",
)


REDIS = Role(
    "redis",
    "engine.cache.process:run",
    _redis,
    start=35,
    stop=35,
    halts="Redis is not written",
    counts=("commands", "trades", "fills", "write_errors", "away", "lag_commands", "lag_ms"),
    gauges=frozenset({"away", "lag_commands", "lag_ms"}),
)
KAFKA = Role(
    "kafka",
    "engine.kafka.process:run",
    _kafka,
    start=35,
    stop=35,
    halts="Kafka is not written",
    counts=(
        "commands",
        "trades",
        "snapshots",
        "transactions",
        "missing_trades",
        "write_errors",
        "away",
        "lag_commands",
        "lag_ms",
    ),
    gauges=frozenset({"away", "lag_commands", "lag_ms"}),
)
ENGINE_ROLES = (PERSISTER, MATCHER, HISTORY, DATABASE, MONGODB, REDIS, KAFKA)
"""The rows of this package, but for the supervisor, which every table has."""


class RoleTable:
    """All roles of a product: the supervisor, and the given ``rows``."""

    def __init__(self, rows: Iterable[Role]) -> None:
        """Take the rows. Raises ``ValueError`` where one cannot be."""
        self.rows = (SUPERVISOR, *rows)
        names = [row.name for row in self.rows]
        for row in self.rows:
            if names.count(row.name) > 1:
                raise ValueError(f"role {row.name}: must have one row, not several")
            if len(row.counters) > MAX_COUNTERS:
                raise ValueError(f"role {row.name}: must have {MAX_COUNTERS} counters at most")
            if not row.gauges <= set(row.counters):
                raise ValueError(f"role {row.name}: its gauges must be among its counters")

    def check(self, config: Config) -> None:
        """Verify the settings of roles. Raises ``ConfigError``."""
        kinds = {row.name: row for row in self.rows if row.section is not None}
        for name in config.roles:
            if name not in kinds:
                allowed = ", ".join(kinds) or "none"
                raise ConfigError(f"roles.{name}: unknown key; allowed here: {allowed}")
            kinds[name].settings(config)

    def started(self) -> list[Role]:
        """Return what the supervisor starts, in its order."""
        return sorted(self.rows[1:], key=lambda row: row.start)

    def stopped(self) -> list[Role]:
        """Return what the supervisor tells to finish, in its order."""
        return sorted(self.rows[1:], key=lambda row: row.stop)

    def members(self, plan: Plan) -> list[Member]:
        """Return the processes of a product, dealt to cores.

        Matchers own theirs, all else shares what is left. With two cores the first serves frontend,
        persister and queries, the second the matchers; with one everything shares it; with more
        each matcher has one of its own while there are enough.
        """
        each = [(row, number) for row in self.rows for number in row.numbers(plan)]
        side = [(row, number) for row, number in each if not row.own_core]
        owners = [(row, number) for row, number in each if row.own_core]
        own = max(1, min(len(owners), len(plan.cores) - 1))
        shared = plan.cores[:-own] or plan.cores
        found = [
            Member(row, number, shared[place % len(shared)])
            for place, (row, number) in enumerate(side)
        ]
        found += [
            Member(row, number, plan.cores[-own:][place % own])
            for place, (row, number) in enumerate(owners)
        ]
        readers = [member for member in found if member.role.reads_trades]
        gateways = [member for member in found if member.role.enters_orders]
        return [
            replace(
                m,
                reader=readers.index(m) if m in readers else None,
                gateway=GatewayNumber(gateways.index(m), len(gateways)) if m in gateways else None,
            )
            for m in found
        ]

    @property
    def warm(self) -> list[tuple[str, str]]:
        """What is to be compiled before the product serves."""
        return [step for row in self.rows for step in row.warm]

    @property
    def modules(self) -> list[str]:
        """The modules where the work of the roles begins."""
        return [row.entry.partition(":")[0] for row in self.rows if row.entry]


def slots(members: Iterable[Member]) -> list[ProcessSlot]:
    """Return the slots of processes on the status page."""
    return [ProcessSlot(m.role, m.index, m.core, m.reader) for m in members]


class Preload(NamedTuple):
    """What every process of a product finds loaded: the book that will match, the modules where
    its roles' work begins, and what they need to be compiled, as ``RoleTable.warm`` has it."""

    book: str
    modules: list[str]
    steps: list[tuple[str, str]]

    def text(self) -> str:
        """Return it for ``PRELOAD_VARIABLE``."""
        return msgspec.json.encode(self).decode()


def told_to_load() -> Preload:
    """Return what ``PRELOAD_VARIABLE`` says."""
    return msgspec.json.decode(os.environ[PRELOAD_VARIABLE], type=Preload)
