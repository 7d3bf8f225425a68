"""Exporters, their servers and the product killed under load: has all that there is arrived once?

    python -m bench.exporter_kills --into postgres [--kills 100] [--seed N] [--full-disk]

Eight clients trade. At random moments the exporter is killed, or its server (which comes back a
while later; a Redis empty), or the whole product, which is started again. In the end the product is
stopped in order, and what arrived is held against its journals and logs: a history by what
``shardbook history verify`` does, Redis against what the journals come to, and what readers of its
streams of trades have seen, on from what they saw last. Exit code 1 where there is a difference.

``--full-disk``, of PostgreSQL: its files lie on a small file system (which root mounts), that is
filled once on the way, until the exporter is held up, and emptied again.

The servers are those that tests use: see ``tests.postgres``, ``tests.mongo``,
``tests.redis_server``.
"""

import argparse
import itertools
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, NamedTuple

from bench.kill_check import differences, failures
from bench.kill_product import PATIENCE_S, POLL_S, Product, StuckError
from bench.kill_traders import Trader
from bench.kills import CLIENTS, SYMBOLS, kills_config, until_logged
from engine.history.kept import HISTORIES
from engine.history.verify import verify_history
from engine.plan import Plan
from engine.roles import DATABASE, HISTORY, MONGODB, REDIS
from engine.shard.holds import hold
from frontend.client import Client
from frontend.client.commands import Order
from ipc.memory.status import ProcessStatus, StatusReader

ROLES = {"sqlite": HISTORY, "postgres": DATABASE, "mongodb": MONGODB, "redis": REDIS}
MOST_ANSWERS = 400
"""Between two kills so many answers come at the most."""
LONGEST_AWAY_S = 0.6
PACE_S = 0.1
DISK_BYTES = 192 << 20
FREE_BYTES = 1 << 20


class Server(NamedTuple):
    """What an exporter writes to."""

    section: str
    """What turns the exporter on in a configuration."""
    kill: Callable[[], None] | None
    start: Callable[[], None]
    directory: Path | None = None
    """Of a small file system that its files lie on."""
    client: Callable[[], Any] | None = None


class Reader(threading.Thread):
    """Reads the streams of trades in Redis, on from what it has seen, whatever dies."""

    def __init__(self, plan: Plan, client: Any) -> None:
        from engine.cache.names import Names

        super().__init__(daemon=True)
        self._client = client
        names = Names(plan.config.redis.prefix)
        self._keys = {i.symbol: names.of(i.shard).trades(i.symbol) for i in plan.instruments}
        self.seen: dict[str, list[int]] = {symbol: [] for symbol in self._keys}
        self.ended = threading.Event()

    def run(self) -> None:
        """Read until ``ended`` is set and all is read."""
        import redis

        found = 1
        while found or not self.ended.is_set():
            found = 0
            for symbol, key in self._keys.items():
                seen = self.seen[symbol]
                after = f"({seen[-1]}-0" if seen else "-"
                try:
                    entries = self._client.xrange(key, after, "+", count=1_000)
                except redis.RedisError:
                    found = 1
                    continue
                seen += [int(name.partition("-")[0]) for name, _ in entries]
                found += len(entries)
            time.sleep(POLL_S)


class Steady(Trader):
    """A trader who lets some time pass between batches: what is held against rows stays bounded."""

    def _send(self, client: Client, orders: list[Order]) -> list[Order]:
        time.sleep(PACE_S)
        return super()._send(client, orders)


class Killer:
    """Kills an exporter, its server and the product, one after the other, and sees them return."""

    def __init__(
        self, product: Product, server: Server, role: str, traders: list[Trader], seed: int
    ) -> None:
        self.kills: Counter[str] = Counter()
        self._product, self._server, self._role = product, server, role
        self._traders, self._dice = traders, random.Random(seed)
        self._kinds = ["exporter", "exporter", "product"]
        if server.kill is not None:
            self._kinds += ["server", "server", "both"]

    def kill(self, count: int) -> None:
        """Kill so often."""
        self._until(lambda: all(t.logged_in.is_set() for t in self._traders), "login of all")
        for number in range(count):
            self._until_answers(self._dice.randint(0, MOST_ANSWERS))
            kind = self._dice.choice(self._kinds)
            if kind == "product":
                self._product.kill()
            else:
                self._kill(kind)
            self.kills[kind] += 1
            if self._server.directory is not None and number == count // 2:
                self._fill_disk(self._server.directory)

    def _kill(self, kind: str) -> None:
        victim = self._exporter()
        if kind != "exporter":
            assert self._server.kill is not None
            self._server.kill()
        if kind != "server":
            os.kill(victim.pid, signal.SIGKILL)
        if kind != "exporter":
            time.sleep(self._dice.random() * LONGEST_AWAY_S)
            self._server.start()
        if kind != "server":
            self._until(lambda: self._exporter().pid not in (0, victim.pid), self._role)

    def _fill_disk(self, directory: Path) -> None:
        """Fill the server's disk until the exporter is held up; then make room."""
        filler = directory / "filler"
        room = shutil.disk_usage(directory).free - FREE_BYTES
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(room, 1))
        self._until(lambda: self._exporter().counters["away"] == 1, "disk that is full")
        self._until_answers(4 * MOST_ANSWERS)
        filler.unlink()
        self._server.start()
        self._until(lambda: self._exporter().counters["away"] == 0, "exporter that goes on")
        self.kills["disk full"] += 1

    def caught_up(self) -> None:
        """Return once the exporter has all that there is; it may take as long as it goes on."""
        left = 1 << 62
        while left:
            known = left
            self._until(lambda known=known: self._left(known) < known, "exporter that goes on")  # type: ignore[misc]
            left = self._left(known)

    def _left(self, known: int) -> int:
        """Return how many commands the exporter is behind, ``known`` where it does not say."""
        exporter = self._exporter()
        if exporter.state != "ready" or exporter.counters["away"]:
            return known
        return exporter.counters["lag_commands"]

    def _exporter(self) -> ProcessStatus:
        status = StatusReader(self._product.plan.status_path)
        return next(p for p in status.processes() if p.role == self._role)

    def _until_answers(self, count: int) -> None:
        goal = sum(t.answers for t in self._traders) + count
        self._until(lambda: sum(t.answers for t in self._traders) >= goal, f"{count} answers")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 2 * PATIENCE_S
        while not condition():
            if wrong := failures(self._traders):
                raise StuckError(f"while waiting for {what}: {wrong}")
            if time.monotonic() > deadline:
                raise StuckError(f"no {what}:\n{self._product.lines.read_text()[-4_000:]}")
            time.sleep(POLL_S)


@contextmanager
def server_of(into: str, full_disk: bool) -> Iterator[Server]:
    """Run the server of a destination."""
    with ExitStack() as stack:
        if into == "sqlite":
            yield Server("[history]\nsqlite = true\n", None, lambda: None)
        elif into == "postgres":
            yield _postgres(stack, full_disk)
        elif into == "mongodb":
            yield _mongodb(stack)
        else:
            from tests.redis_server import redis_running

            redis = stack.enter_context(redis_running())
            yield Server(redis.text(), redis.kill, redis.start, None, redis.client)


def _postgres(stack: ExitStack, full_disk: bool) -> Server:
    from tests.postgres import PostgresServer, programs

    bin_dir = programs()
    assert bin_dir is not None
    directory = Path(mkdtemp(prefix="sb-postgres-"))
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    if full_disk:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "shardbook", directory]
        subprocess.run(mount, check=True)
        stack.callback(subprocess.run, ["umount", "-l", directory], check=True)
    more = "-c max_wal_size=32MB -c min_wal_size=32MB" if full_disk else ""
    server = PostgresServer(directory, bin_dir, None, more)
    stack.callback(server.stop)
    server.database("kills")
    section = (
        f'[database]\nenabled = true\nhost = "127.0.0.1"\nport = {server.port}\nname = "kills"\n'
        'user = "shardbook"\nssl_mode = "disable"\n'
    )

    def kill() -> None:
        if (server.data / "postmaster.pid").exists():
            server.kill()

    return Server(section, kill, server.start, directory if full_disk else None)


def _mongodb(stack: ExitStack) -> Server:
    from tests.mongo import MongoServer, program

    path = program()
    assert path is not None
    directory = Path(stack.enter_context(TemporaryDirectory(prefix="sb-mongo-")))
    server = MongoServer(directory, path)
    stack.callback(server.stop)
    section = f'[mongodb]\nenabled = true\nuri = "{server.uri}"\nname = "kills"\n'
    return Server(section, server.kill, server.start)


def redis_differences(plan: Plan, client: Any, reader: Reader) -> list[str]:
    """Return a sentence on every difference of Redis, the product being at rest."""
    from tests.caching import as_it_is, in_redis

    found = []
    for shard in plan.shards:
        wanted, there = as_it_is(plan, shard, 1 << 30), in_redis(plan, client, shard)
        most = plan.config.redis.trades
        for symbol, ids in wanted.trades.items():
            if there.trades[symbol][-most:] != ids[-most:]:
                found.append(f"{symbol}: the trades in Redis differ")
            if reader.seen[symbol] != ids:
                found.append(f"{symbol}: a reader has seen other trades than there were")
        if there.books != wanted.books:
            found.append(f"shard {shard}: books differ")
        open_there = {account: ids for account, ids in there.open_orders.items() if ids}
        if open_there != {account: ids for account, ids in wanted.open_orders.items() if ids}:
            found.append(f"shard {shard}: lists of open orders differ")
        live = set().union(*wanted.open_orders.values())
        missing = live - there.orders.keys()
        wrong = [n for n, order in there.orders.items() if wanted.orders.get(n, order) != order]
        unknown = there.orders.keys() - wanted.orders.keys()
        print(
            f"shard {shard}: {len(there.orders)} orders, {len(live)} of them open, "
            f"{sum(map(len, wanted.trades.values()))} trades; {len(unknown)} orders are in Redis "
            "that the order table has forgotten"
        )
        if missing or wrong:
            found.append(f"shard {shard}: {len(missing)} orders are missing, {len(wrong)} differ")
    return found


def history_differences(plan: Plan, into: str) -> list[str]:
    """Return what is wrong with a history."""
    [kept] = [kept for kept in HISTORIES if kept.name == into]
    history = kept.reader(plan, PATIENCE_S)
    try:
        verdict = verify_history(plan, history, plan.data_dir / "verified")
    finally:
        history.close()
    print("\n".join(verdict.lines))
    return [line for line in verdict.lines if "PROBLEM" in line]


def run(directory: Path, into: str, kills: int, seed: int, full_disk: bool) -> list[str]:
    """Run, kill, and compare; return every difference."""
    with server_of(into, full_disk) as server:
        config = kills_config().replace("[engine]", f"{server.section}[engine]", 1)
        product = Product(config, directory)
        product.start()
        try:
            return _run(product, server, into, kills, seed)
        finally:
            product.end()


def _run(product: Product, server: Server, into: str, kills: int, seed: int) -> list[str]:
    plan, ids, reader = product.plan, itertools.count(1), None
    for shard in plan.shards:
        hold(plan.journal_dir(shard), "kills", 0)  # what is compared begins with them
    if server.client is not None:
        reader = Reader(plan, server.client())
        reader.start()
    last = threading.Barrier(CLIENTS)
    addresses = [str(address) for address in plan.addresses()]
    traders = [
        Steady(addresses[n % len(addresses)], n, list(SYMBOLS), ids, seed, last)
        for n in range(CLIENTS)
    ]
    killer = Killer(product, server, ROLES[into].name, traders, seed)
    for trader in traders:
        trader.start()
    try:
        killer.kill(kills)
    finally:
        for trader in traders:
            trader.stop.set()
        for trader in traders:
            trader.join(2 * PATIENCE_S)
    print(f"killed: {dict(killer.kills)}; {sum(t.answers for t in traders)} answers")
    found = failures(traders)
    until_logged(plan)
    found += differences(plan, traders)
    killer.caught_up()
    if reader is not None:
        reader.ended.set()
        reader.join(PATIENCE_S)
    if code := product.stop():
        found.append(f"exit code {code}:\n{product.lines.read_text()[-4_000:]}")
    if reader is None:
        return found + history_differences(plan, into)
    assert server.client is not None
    return found + redis_differences(plan, server.client(), reader)


def main() -> int:
    """Run by hand."""
    parser = argparse.ArgumentParser(prog="python -m bench.exporter_kills", description=__doc__)
    parser.add_argument("--into", choices=list(ROLES), required=True)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--full-disk", action="store_true")
    options = parser.parse_args()
    print(
        f"repeat: python -m bench.exporter_kills --into {options.into} --kills {options.kills} "
        f"--seed {options.seed}{' --full-disk' if options.full_disk else ''}",
        flush=True,
    )
    with TemporaryDirectory(prefix="sb-") as directory:
        found = run(Path(directory), options.into, options.kills, options.seed, options.full_disk)
    for difference in found:
        print(f"WRONG: {difference}")
    print("no difference" if not found else f"{len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
