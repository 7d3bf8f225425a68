"""What one running product consists of: its processes, their cores, and every path they share."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.config import Config
from ipc.instruments import Instrument
from ipc.links.sockets import Address, parse_address
from ipc.memory.mapping import run_directory

LOCK_FILE = "lock"
Role = Literal["supervisor", "frontend", "matcher", "persister", "query", "http"]


@dataclass(frozen=True)
class Member:
    """One process: what it does, which of its kind it is, and the core it is pinned to."""

    role: Role
    index: int
    core: int | None


class Plan:
    """The configuration as it is carried out in one data directory."""

    def __init__(self, config: Config, data_dir: Path | None = None) -> None:
        self.config = config
        self.data_dir = (data_dir or Path(config.data_dir)).absolute()
        self.run_dir = run_directory(self.data_dir)
        self.instruments = config.listed()
        self.known_instruments = self.instruments + config.formerly_listed()
        """Those that are retired too: what any record may speak of."""
        self.shards = list(range(config.engine.matchers))
        self.members = _members(config)

    def instruments_of(self, shard: int) -> list[Instrument]:
        """Return the instruments that a shard holds, by number."""
        return [instrument for instrument in self.instruments if instrument.shard == shard]

    def member(self, role: Role, index: int) -> Member:
        """Return one process of the plan."""
        return next(m for m in self.members if m.role == role and m.index == index)

    def addresses_of(self, frontend: int) -> list[Address]:
        """Return where one frontend listens: its Unix socket, and TCP where it is configured."""
        found = [Address(path=str(self.config.socket_path(frontend, self.data_dir)))]
        if self.config.frontend.tcp:
            found.append(parse_address(self.config.frontend.tcp))
        return found

    def addresses(self) -> list[Address]:
        """Return where clients connect: every Unix socket, then TCP where it is configured."""
        each = [self.addresses_of(frontend) for frontend in range(self.config.frontend.processes)]
        return [found[0] for found in each] + each[0][1:]

    def socket_paths(self) -> list[str]:
        """Return the path of every Unix socket, the inner ones included."""
        inner = [self.matcher_address(shard) for shard in self.shards]
        inner += [self.query_address(index) for index in range(self.config.query.workers)]
        paths = [address.path for address in [*self.addresses(), *inner] if address.path]
        return [*paths, str(self.doorbell_path)]

    @property
    def frontends(self) -> int:
        """How many processes send matchers orders: frontends, and after them HTTP workers.

        Each has a number of its own among them, and sessions and accounts by that.
        """
        return self.config.frontend.processes + (
            self.config.http.workers if self.config.http.address else 0
        )

    def frontend_of_http(self, worker: int) -> int:
        """Return which of the frontends an HTTP worker is."""
        return self.config.frontend.processes + worker

    @property
    def http_address(self) -> Address | None:
        """Where every HTTP worker listens; None where HTTP is switched off."""
        text = self.config.http.address
        return parse_address(text) if text else None

    @property
    def lock_path(self) -> Path:
        """The file that a running supervisor holds locked."""
        return self.data_dir / LOCK_FILE

    @property
    def log_dir(self) -> Path:
        """The directory of trades.ndjson and its older segments."""
        return Path(self.config.persister.directory or self.data_dir / "log").absolute()

    def accounts_path(self, frontend: int) -> Path:
        """The append-only list of user ids and their accounts, of those that logged in there."""
        return self.data_dir / f"accounts-{frontend}.ndjson"

    def accounts_paths(self) -> list[Path]:
        """Return the lists of all frontends, and of those that an earlier configuration had."""
        return sorted(self.data_dir.glob("accounts-*.ndjson"))

    @property
    def config_path(self) -> Path:
        """The configuration that the running product has, as JSON, for readers."""
        return self.data_dir / "config.json"

    @property
    def status_path(self) -> Path:
        """The mapping where every process shows its state."""
        return self.run_dir / "status"

    @property
    def doorbell_path(self) -> Path:
        """The datagram socket on which matchers wake the persister."""
        return self.run_dir / "persister.bell"

    def ring_path(self, shard: int) -> Path:
        """The mapping of a shard's trade ring."""
        return self.run_dir / f"trades-{shard}"

    def report_ring_path(self, shard: int) -> Path:
        """The mapping of a shard's last reports."""
        return self.run_dir / f"reports-{shard}"

    def kept_reports_path(self, shard: int) -> Path:
        """The mapping of a shard's reports that are kept for their accounts."""
        return self.run_dir / f"kept-reports-{shard}"

    def table_path(self, shard: int) -> Path:
        """The mapping of a shard's order table."""
        return self.run_dir / f"orders-{shard}"

    def board_path(self, shard: int) -> Path:
        """The mapping of a shard's depth board."""
        return self.run_dir / f"depth-{shard}"

    def journal_dir(self, shard: int) -> Path:
        """The directory of a shard's journal and snapshots."""
        return self.data_dir / "journal" / str(shard)

    def archive_dir(self, shard: int) -> Path:
        """Where segments of a shard's journal go that no start needs, where one is configured."""
        return Path(self.config.journal.archive) / str(shard)

    def table_capacity(self, shard: int) -> int:
        """Return how many orders, resting and ended, the order table of a shard holds."""
        limits = (instrument.max_resting_orders for instrument in self.instruments_of(shard))
        return table_capacity(sum(limits), self.config.engine.ended_orders)

    def matcher_address(self, shard: int) -> Address:
        """Where a matcher listens for frontends."""
        return Address(path=str(self.run_dir / f"matcher-{shard}.sock"))

    def query_address(self, index: int) -> Address:
        """Where a query worker listens for frontends."""
        return Address(path=str(self.run_dir / f"query-{index}.sock"))


def table_capacity(resting: int, ended: int) -> int:
    """Return how many orders an order table holds where so many may rest, and ended ones must stay.

    With a quarter more than must stay, a slot to give away is never far, even in a full book.
    """
    return resting + ended + ended // 4


def _members(config: Config) -> list[Member]:
    """Deal processes to cores: matchers own theirs, all else shares what is left.

    With two cores the first serves frontend, persister and queries, the second the matchers; with
    one everything shares it; with more each matcher has one of its own while there are enough.
    """
    cores: list[int | None] = [None]
    if config.engine.pin:
        cores = []
        cores += sorted(os.sched_getaffinity(0))
    matchers = config.engine.matchers
    own = min(matchers, max(1, len(cores) - 1))
    matcher_cores = cores[-own:]
    shared = cores[:-own] or cores
    side: list[tuple[Role, int]] = [("supervisor", 0)]
    side += [("frontend", index) for index in range(config.frontend.processes)]
    side += [("persister", 0)]
    side += [("query", index) for index in range(config.query.workers)]
    if config.http.address:
        side += [("http", index) for index in range(config.http.workers)]
    members = [
        Member(role, index, shared[place % len(shared)]) for place, (role, index) in enumerate(side)
    ]
    members += [
        Member("matcher", shard, matcher_cores[shard % len(matcher_cores)])
        for shard in range(matchers)
    ]
    return members
