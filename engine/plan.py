"""What the processes of one running product share: its configuration, cores, and every path."""

import os
from collections.abc import Iterable
from pathlib import Path

from engine.config import Config
from ipc.instruments import Instrument
from ipc.links.sockets import Address, parse_address
from ipc.memory.mapping import run_directory

LOCK_FILE = "lock"


class Plan:
    """The configuration as it is carried out in one data directory: by ``shards`` of all that there
    are, or by each of them. A shard's number is its name, and no place in a list."""

    def __init__(
        self, config: Config, data_dir: Path | None = None, shards: Iterable[int] | None = None
    ) -> None:
        self.config = config
        self.data_dir = (data_dir or Path(config.data_dir)).absolute()
        self.run_dir = run_directory(self.data_dir)
        self.shards = sorted(range(config.engine.matchers) if shards is None else set(shards))
        held = set(self.shards)
        self.instruments = [i for i in config.listed() if i.shard in held]
        retired = [i for i in config.formerly_listed() if i.shard in held]
        self.known_instruments = self.instruments + retired
        """Those that are retired too: what any record may speak of."""
        self.cores: list[int | None] = [None]
        if config.engine.pin:
            self.cores = [*sorted(os.sched_getaffinity(0))]

    def __reduce__(self) -> tuple[type["Plan"], tuple[Config, Path, list[int]]]:
        """Go to another process as what it is made of."""
        return Plan, (self.config, self.data_dir, self.shards)

    def with_config(self, config: Config) -> "Plan":
        """Return what another configuration makes of the same shards in the same directory."""
        return Plan(config, self.data_dir, self.shards)

    def instruments_of(self, shard: int) -> list[Instrument]:
        """Return the instruments that a shard holds, by number."""
        return [instrument for instrument in self.instruments if instrument.shard == shard]

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
        return [*paths, str(self.doorbell_path(0))]

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

    def accounts_path(self, gateway: int) -> Path:
        """The append-only list of user ids and their accounts, of those that logged in there."""
        return self.data_dir / f"accounts-{gateway}.ndjson"

    def accounts_paths(self) -> list[Path]:
        """Return the lists of all gateways, and of those that an earlier configuration had."""
        return sorted(self.data_dir.glob("accounts-*.ndjson"))

    @property
    def history_path(self) -> Path:
        """The history in SQLite, where one is kept."""
        return self.data_dir / "history.sqlite"

    @property
    def config_path(self) -> Path:
        """The configuration that the running product has, as JSON, for readers."""
        return self.data_dir / "config.json"

    @property
    def status_path(self) -> Path:
        """The mapping where every process shows its state."""
        return self.run_dir / "status"

    def doorbell_path(self, reader: int) -> Path:
        """The datagram socket on which matchers wake a gating reader of their trade rings."""
        return self.run_dir / f"reader-{reader}.bell"

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
