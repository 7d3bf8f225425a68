"""How fast a history catches up, and how soon a trade stands in it while the product runs.

    python -m bench.history [--commands N] [--runs N] [--seconds N] [--parts catch-up live]
                            [--into sqlite postgres mongodb]

Catching up is one thread: it reads a journal, carries it out, and writes rows, exactly once, with
every index. Three flows: ``orders`` rest and are cancelled; ``trades`` are takers of one lot that
meet one large order, for every trade ends an order at least; ``mixed`` is half new orders, half
changes. ``rows`` are the same rows without what makes them, of orders alone and of trades alone.
Rates are of wall time and of CPU time; medians.

Into PostgreSQL it goes where DATABASE_HOST and so on say; its schema "shardbook" is dropped before.
Into MongoDB it goes where MONGODB_URI says; its database "shardbook" is dropped before.

Live, a client sends orders at an even pace, every second one of which trades; another thread looks
into the history every millisecond, and takes a trade's age when it first sees it.
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from bench.flows import Flow, Profile, near
from bench.measure import interleaved, machine, table, versions
from bench.products import configured
from engine.books.choice import book_limits
from engine.books.contract import Records
from engine.config import Config, load_config
from engine.environment import with_environment
from engine.history.destination import Cursor, HistoryError
from engine.history.exporter import Exporter
from engine.history.history import Page
from engine.history.kept import HISTORIES, MONGODB, POSTGRES, SQLITE, Kept
from engine.history.rows import rows_of
from engine.history.sqlite import NAME
from engine.journal.reader import End
from engine.journal.shard_config import shard_config_of
from engine.journal.writer import JournalWriter
from engine.plan import Plan
from engine.roles import DATABASE as DATABASE_ROLE
from engine.roles import HISTORY as HISTORY_ROLE
from engine.roles import MONGODB as MONGODB_ROLE
from engine.sections import HistorySection
from engine.shard.follower import Follower
from frontend.client import Client
from frontend.launch import running_engine
from ipc.memory.status import StatusReader
from ipc.records import COMMAND, make_id, sequence_of
from ipc.vocabulary import CommandType, OrderType, Side, TimeInForce

if TYPE_CHECKING:
    from pymongo import MongoClient

PARTS = ("catch-up", "live")
KINDS = {kept.name: kept for kept in HISTORIES}
ROLES_OF = {"sqlite": HISTORY_ROLE, "postgres": DATABASE_ROLE, "mongodb": MONGODB_ROLE}
DATABASE = {name: text for name, text in os.environ.items() if name.startswith("DATABASE_")}
ORDERS_S = 10_000
SENDS_S = 100
"""How often orders are sent, a second."""
ACCOUNTS = 1_000
TIME_NS = 1_700_000_000_000_000_000
BATCH = 256
TAKERS = 10_000
"""Orders of one lot that one large order meets."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10, help="of the live part")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--into", nargs="+", choices=list(KINDS), default=["sqlite"])
    parser.add_argument("--directory", type=Path)
    options = parser.parse_args()
    into = [KINDS[name] for name in options.into]
    print(f"{machine()}; {versions('numpy', 'numba')}")
    with TemporaryDirectory(prefix="sb-", dir=options.directory) as directory:
        if "catch-up" in options.parts:
            catch_up(Path(directory), options.commands, options.runs, into)
        if "live" in options.parts:
            for kept in into:
                live(Path(directory) / f"live-{kept.name}", options.seconds, kept)


class Exported(NamedTuple):
    """What a flow came to."""

    commands: int
    orders: int
    trades: int


def remove(plan: Plan, kept: Kept) -> None:
    """Remove a plan's history."""
    if kept is SQLITE:
        for left in plan.data_dir.glob("history.sqlite*"):
            left.unlink()
        return
    if kept is MONGODB:
        with mongodb(plan) as client:
            client.drop_database(plan.config.mongodb.name)
        return
    from engine.history.postgres_link import connected

    with connected(plan.config.database, "bench", 5.0) as connection:
        connection.execute("DROP SCHEMA IF EXISTS shardbook CASCADE")
        connection.execute("CHECKPOINT")


def mongodb(plan: Plan) -> "MongoClient[dict[str, Any]]":
    """Return a client of the MongoDB."""
    from engine.history.mongo_link import connected

    return connected(plan.config.mongodb, "bench", 60.0)


def bytes_of(plan: Plan, kept: Kept) -> int:
    """Return how large a plan's history is, its indexes included."""
    if kept is SQLITE:
        return plan.history_path.stat().st_size
    if kept is MONGODB:
        with mongodb(plan) as client:
            return int(client[plan.config.mongodb.name].command("dbStats")["storageSize"])
    from engine.history.postgres_link import connected

    with connected(plan.config.database, "bench", 5.0) as connection:
        [(size,)] = connection.execute("SELECT pg_database_size(current_database())").fetchall()
        return int(size)


def catch_up(directory: Path, commands: int, runs: int, into: list[Kept]) -> None:
    """Print how fast each flow gets into a history."""
    flows: dict[str, Callable[[Plan, int], Records]] = {
        "orders": resting_and_cancelled,
        "trades": takers,
        "mixed": mixed,
    }
    plans = {}
    for name, flow in flows.items():
        config = with_environment(configured(load_config(), 1, False, None), DATABASE)
        plan = Plan(with_mongodb(config), directory / name)
        plan.journal_dir(0).mkdir(parents=True)
        write_journal(plan, flow(plan, commands))
        plans[name] = plan
    exported: dict[str, Exported] = {}
    sizes: dict[str, int] = {}

    def prepare(flow: str, kept: Kept) -> Callable[[], object]:
        name, plan = f"{flow}, {kept.name}", plans[flow]
        remove(plan, kept)
        destination = kept.destination(plan)
        exporter = Exporter(plan, destination, NAME)
        export = exporter.shards[0]

        def run() -> None:
            while exporter.step():
                pass
            exporter.close()
            destination.close()
            assert export.cursor is not None
            cursor = export.cursor
            size = bytes_of(plan, kept)
            exported[name] = Exported(cursor.position, cursor.orders, cursor.trades)
            sizes[name] = size

        return run

    cases = {
        f"{flow}, {kept.name}": partial(prepare, flow, kept) for flow in flows for kept in into
    }
    timings = interleaved(cases, runs)
    rows = []
    for name, timing in timings.items():
        found = exported[name]
        rows.append(
            [
                name,
                *(f"{count * 1e9 / timing.wall_ns:,.0f}" for count in found),
                *(f"{count * 1e9 / timing.cpu_ns:,.0f}" for count in found),
                f"{sizes[name] / (found.orders + found.trades):.0f}",
            ]
        )
    heads = ["flow", "commands/s", "orders/s", "trades/s", "by CPU: commands/s", "orders/s"]
    print(table("catching up", [*heads, "trades/s", "bytes a row"], rows))
    rows_alone(plans, runs, [kept for kept in into if kept is not MONGODB])


def with_mongodb(config: Config) -> Config:
    """Return a configuration with the MongoDB that the environment names."""
    uri = os.environ.get("MONGODB_URI", config.mongodb.uri)
    return msgspec.structs.replace(config, mongodb=msgspec.structs.replace(config.mongodb, uri=uri))


def rows_alone(plans: dict[str, Plan], runs: int, into: list[Kept]) -> None:
    """Print how fast rows are written, of orders alone and of trades alone."""
    batches = {}
    for name, keep in (("orders", "trades"), ("trades", "orders")):
        plan = plans[name]
        follower = Follower(plan, 0, 0, plan.data_dir / "followed")
        steps = list(iter(follower.step, None))
        follower.close()
        groups = [steps[n : n + 8] for n in range(0, len(steps), 8)]
        made = [rows_of(group) for group in groups]
        batches[name] = [rows._replace(**{keep: getattr(rows, keep)[:0]}) for rows in made]

    def prepare(name: str, kept: Kept) -> Callable[[], object]:
        plan = plans[name]
        remove(plan, kept)
        destination = kept.destination(plan)

        def run() -> None:
            for position, rows in enumerate(batches[name], 1):
                destination.write(Cursor(0, "", position, 0, 0, 0, 0), rows)
            destination.close()

        return run

    cases = {
        f"{name}, {kept.name}": partial(prepare, name, kept) for name in batches for kept in into
    }
    timings = interleaved(cases, runs)
    lines = []
    for name, timing in timings.items():
        what = name.split(",")[0]
        count = sum(len(getattr(rows, what)) for rows in batches[what])
        rates = (count * 1e9 / timing.wall_ns, count * 1e9 / timing.cpu_ns)
        lines.append([name, *(f"{rate:,.0f}" for rate in rates)])
    print(table("rows alone", ["rows", "rows/s", "by CPU"], lines))


def live(directory: Path, seconds: int, kept: Kept) -> None:
    """Print how old trades are when they stand in the history."""
    config = with_environment(configured(load_config(), 2, False, None), DATABASE)
    config = with_mongodb(config)
    database = msgspec.structs.replace(config.database, enabled=kept is POSTGRES)
    documents = msgspec.structs.replace(config.mongodb, enabled=kept is MONGODB)
    history = HistorySection(sqlite=kept is SQLITE)
    config = msgspec.structs.replace(config, history=history, database=database, mongodb=documents)
    if kept is not SQLITE:
        remove(Plan(config, directory), kept)
    role = ROLES_OF[kept.name]
    with running_engine(config, directory) as plan:
        stop = Event()
        with ThreadPoolExecutor(1) as pool:
            seen = pool.submit(watch, plan, kept, stop)
            with Client(plan.addresses()[0], "alice") as client:
                late = send_evenly(client, seconds)
            time.sleep(1)
            stop.set()
            ages = sorted(seen.result())
        [exporter] = [p for p in StatusReader(plan.status_path).processes() if p.role == role.name]
        ticks = Path(f"/proc/{exporter.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    cpu = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    rows = [
        [f"{name}", f"{ages[min(len(ages) - 1, int(len(ages) * part))] / 1e6:.1f} ms"]
        for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("highest", 1.0))
    ]
    rows.append(["sends that began late", f"{late} of {seconds * SENDS_S}"])
    rows.append(["the exporter's CPU", f"{cpu / seconds * 100:.0f} % of a core"])
    print(table(f"live, {kept.name}, {len(ages)} trades at {ORDERS_S} orders/s", ["age", ""], rows))


def send_evenly(client: Client, seconds: int) -> int:
    """Send pairs of orders that trade; return how many sends began late."""
    count = ORDERS_S // SENDS_S
    commands = np.zeros(count, COMMAND)
    commands["command_type"] = CommandType.NEW
    commands["side"] = [Side.SELL, Side.BUY] * (count // 2)
    commands["symbol"] = [1, 1, 2, 2] * (count // 4)
    commands["order_type"], commands["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    commands["price"], commands["quantity"] = 1_000, 1
    late, begun = 0, time.monotonic()
    for number in range(seconds * SENDS_S):
        left = begun + number / SENDS_S - time.monotonic()
        if left > 0:
            time.sleep(left)
        late += left <= 0
        client.submit_array(commands)
        client.receive_array(0)
    return late


def watch(plan: Plan, kept: Kept, stop: Event) -> list[int]:
    """Return the age (ns) of each trade when it is first seen."""
    ages: list[int] = []
    last = dict.fromkeys(plan.shards, 0)
    history = kept.reader(plan, 60.0)
    while not stop.is_set():
        try:
            cursors = history.cursors()
        except HistoryError:
            continue  # nothing is there yet
        for shard, cursor in cursors.items():
            new = cursor.trades - last[shard]
            found = history.trades(Page({shard: make_id(shard + 1, 0)}, new)) if new > 0 else ()
            now = time.time_ns()
            found = [row for row in found if sequence_of(int(row["trade_id"])) > last[shard]]
            ages += [now - int(row["timestamp_ns"]) for row in found]
            last[shard] += len(found)
        time.sleep(0.001)
    history.close()
    return ages


def resting_and_cancelled(plan: Plan, count: int) -> Records:
    """Return orders that rest, each cancelled a thousand orders later."""
    commands = np.zeros(count, COMMAND)
    places = np.arange(count)
    is_new = (places % 2 == 0) | (places < 2_000)
    entered = np.cumsum(is_new)
    numbers = np.where(is_new, entered, entered - 1_000)
    commands["command_type"] = np.where(is_new, CommandType.NEW, CommandType.CANCEL)
    _fill(plan, commands, numbers)
    commands["side"] = np.where(numbers % 2, Side.BUY, Side.SELL)
    commands["price"] = np.where(numbers % 2, 1_000 - numbers % 50, 1_001 + numbers % 50)
    commands["quantity"] = numbers % 90 + 1
    return commands


def takers(plan: Plan, count: int) -> Records:
    """Return large resting orders, each followed by as many takers of one lot."""
    commands = np.zeros(count, COMMAND)
    places = np.arange(count)
    taking = places % (TAKERS + 1) > 0
    commands["command_type"] = CommandType.NEW
    _fill(plan, commands, places + 1)
    commands["symbol"] = plan.instruments[0].number
    commands["side"] = np.where(taking, Side.BUY, Side.SELL)
    commands["price"] = 1_000
    commands["quantity"] = np.where(taking, 1, TAKERS)
    return commands


def mixed(plan: Plan, count: int) -> Records:
    """Return random commands of every kind on all symbols."""
    limits = [book_limits(instrument) for instrument in plan.instruments]
    profile = Profile(tuple(limits), near(1_000, 30), accounts=ACCOUNTS, faults=0)
    commands = Flow(profile, 1).commands(count)
    commands["timestamp_ns"] = TIME_NS + np.arange(count) // BATCH * 1_000_000
    return commands


def _fill(plan: Plan, commands: Records, numbers: npt.NDArray[np.int64]) -> None:
    """Give commands what does not matter: client_order_ids by number, accounts, symbols, times."""
    symbols = np.array([instrument.number for instrument in plan.instruments])
    accounts = np.random.default_rng(1).integers(1, 2**64, ACCOUNTS, np.uint64)
    commands["client_order_id"] = numbers
    commands["account"] = accounts[numbers % ACCOUNTS]
    commands["symbol"] = symbols[numbers % len(symbols)]
    commands["order_type"] = OrderType.LIMIT
    commands["time_in_force"] = TimeInForce.GTC
    commands["timestamp_ns"] = TIME_NS + np.arange(len(commands)) // BATCH * 1_000_000


def write_journal(plan: Plan, commands: Records) -> None:
    """Write a shard's whole journal."""
    journal = JournalWriter(
        plan.journal_dir(0),
        shard_config_of(plan, 0),
        End(),
        plan.config.journal.segment_bytes,
        secret=1,
    )
    for start in range(0, len(commands), BATCH):
        batch = commands[start : start + BATCH]
        journal.append(batch, int(batch["timestamp_ns"][0]))
    journal.close()


if __name__ == "__main__":
    main()
