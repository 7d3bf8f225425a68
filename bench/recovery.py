"""How fast a shard comes back: replay of its journal, snapshots, and a killed matcher.

    python -m bench.recovery [--commands N] [--orders N] [--directory PATH] [--parts replay ...]

Replay is measured in one thread, beside its physical limit on the same file: reading it and taking
zlib's CRC-32. A killed matcher is one of a running product with orders behind it; the clock runs
from the kill until a new order is accepted.

What others notice of snapshots is measured on two running products in turn, one order at a time.
One has a snapshot taken every 1,000 commands, or as often as its supervisor looks. The longest
answers of the other are the machine's own doing.
"""

import argparse
import contextlib
import os
import signal
import statistics
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from bench.measure import interleaved, machine, table, timed, versions
from bench.products import configured
from engine.books.contract import Records, state_hash
from engine.config import Config, load_config
from engine.journal.reader import End, JournalReader, segments_of
from engine.journal.shard_config import shard_config_of
from engine.journal.snapshot import sequence_of_snapshot, snapshots_of
from engine.journal.writer import JournalWriter
from engine.plan import Plan
from engine.shard.recovery import publish_nothing, recover
from engine.shard.snapshotter import LOCK, take_snapshot
from engine.storage import lock_directory
from frontend.client import Client
from frontend.client.commands import Order
from frontend.client.errors import ClientError
from frontend.launch import running_engine
from ipc.memory.mapping import SHARED_MEMORY
from ipc.memory.status import StatusReader
from ipc.records import COMMAND
from ipc.vocabulary import CommandType, OrderType, Side, TimeInForce

PARTS = ("replay", "snapshot", "kill")
TIME_NS = 1_700_000_000_000_000_000
BATCHES = (1, 16, 256, 4_096)
RUNS = 3
RESTING = 100_000
PINGS = 4_000
ROUNDS = 9
"""Of so many orders each."""
SNAPSHOT_COMMANDS = 1_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description=__doc__)
    parser.add_argument("--commands", type=int, default=2_000_000, help="in the journal")
    parser.add_argument("--orders", type=int, default=1_000_000, help="behind a killed matcher")
    parser.add_argument("--directory", type=Path, help="on the disk that is meant")
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=PARTS)
    options = parser.parse_args()
    print(f"machine: {machine()}")
    print(f"versions: {versions('numpy', 'numba')}")
    if "replay" in options.parts:
        print(replay_table(options.commands, options.directory), flush=True)
    if "snapshot" in options.parts:
        print(snapshot_lines(options.directory), flush=True)
    if "kill" in options.parts:
        for durability in ("async", "fsync"):
            print(kill_line(options.orders, durability, options.directory), flush=True)


# Replay ------------------------------------------------------------------------------------------


def commands_of(count: int, seed: int = 1, resting: int = 20_000, symbols: int = 5) -> Records:
    """Return a market's commands: as many orders as cancels, a fifth of the orders crossing.

    An order that is not filled rests until ``resting`` others have come after it.
    """
    rng = np.random.default_rng(seed)
    commands = np.zeros(count, COMMAND)
    number = np.arange(count, dtype=np.uint64)
    new = (rng.random(count) < 0.5) | (number < resting)
    cancels = np.flatnonzero(~new)
    orders = np.flatnonzero(new)[: len(cancels)]
    cancels = cancels[: len(orders)]
    commands["command_type"] = np.where(new, CommandType.NEW, CommandType.CANCEL)
    commands["client_order_id"] = number + np.uint64(1)
    commands["client_order_id"][cancels] = orders.astype(np.uint64) + np.uint64(1)
    commands["account"] = commands["client_order_id"] % np.uint64(100) + np.uint64(1)
    commands["symbol"] = commands["client_order_id"] % np.uint64(symbols) + np.uint64(1)
    buys = rng.random(count) < 0.5
    commands["side"] = np.where(buys, Side.BUY, Side.SELL)
    commands["order_type"], commands["time_in_force"] = OrderType.LIMIT, TimeInForce.GTC
    away = rng.integers(-20, 80, count)
    commands["price"] = 10_000 + np.where(buys, -away, away)
    commands["quantity"] = rng.integers(1, 100, count)
    commands["request_id"] = number
    commands["timestamp_ns"] = TIME_NS
    return commands


def one_shard(directory: Path | None) -> Plan:
    """Return the plan of one matcher for every symbol, whose journal is empty."""
    assert directory is not None
    plan = Plan(configured(load_config(), 1, False, None), directory / "data")
    plan.journal_dir(0).mkdir(parents=True)
    plan.log_dir.mkdir()
    return plan


def _table_path() -> Path:
    """Return where a replay's order table lies: in memory, as a matcher's does."""
    return SHARED_MEMORY / f"sb-orders-{os.getpid()}"


def write_journal(plan: Plan, commands: Records, batch: int, end: End | None = None) -> float:
    """Append commands in batches; return the seconds that took."""
    begun = time.perf_counter()
    journal = JournalWriter(
        plan.journal_dir(0),
        shard_config_of(plan, 0),
        end or End(),
        plan.config.journal.segment_bytes,
    )
    for start in range(0, len(commands), batch):
        journal.append(commands[start : start + batch], TIME_NS)
    journal.close()
    return time.perf_counter() - begun


def replay_table(count: int, parent: Path | None) -> str:
    """Measure replay, for several sizes of batches."""
    rows = []
    for batch in BATCHES:
        commands = commands_of(count if batch > 1 else count // 4)
        with TemporaryDirectory(prefix="sb-", dir=parent) as directory:
            plan = one_shard(Path(directory))
            written_s = write_journal(plan, commands, batch)
            table_path = _table_path()
            timings = interleaved(
                {
                    "read": lambda plan=plan: lambda: _limit(plan),
                    "check": lambda plan=plan: lambda: _check(plan),
                    "recover": lambda plan=plan, path=table_path: lambda: _recover(plan, path),
                },
                RUNS,
            )
        rate = {name: len(commands) / timing.wall_ns * 1e3 for name, timing in timings.items()}
        rows.append(
            [
                str(batch),
                f"{len(commands) / written_s / 1e6:.1f}",
                f"{rate['read']:.1f}",
                f"{rate['check']:.1f}",
                f"{rate['recover']:.1f}",
                f"{rate['recover'] / rate['read']:.2f}",
            ]
        )
    header = ["commands a batch", "append", "read and CRC", "reader", "recover", "ratio"]
    return table("replay, million commands/s of wall time, one thread:", header, rows)


def _limit(plan: Plan) -> None:
    for segment in segments_of(plan.journal_dir(0)):
        with segment.path.open("rb", buffering=0) as file:
            while data := file.read(8 << 20):
                zlib.crc32(data)


def _check(plan: Plan) -> None:
    for _ in JournalReader(plan.journal_dir(0), None, 0).chunks():
        pass


def _recover(plan: Plan, table_path: Path) -> None:
    recover(plan, 0, 0, publish_nothing, table_path).shard.close()


# Snapshots ---------------------------------------------------------------------------------------


def snapshot_lines(parent: Path | None) -> str:
    """Measure taking and loading a snapshot, and what others notice of its being taken."""
    lines = []
    with TemporaryDirectory(prefix="sb-", dir=parent) as directory:
        plan = one_shard(Path(directory))
        write_journal(plan, commands_of(1_000_000, resting=RESTING * 5 // 4), 4_096)
        whole = recover(plan, 0, 0, publish_nothing, _table_path()).shard
        resting = len(whole.book.resting())
        before = state_hash(whole.book)
        trades = whole.book.counters().trade_sequence
        whole.close()
        taking = timed(lambda: take_snapshot(plan, 0))
        found = []

        def load() -> None:
            found.append(recover(plan, 0, trades, publish_nothing, _table_path()))

        loading = timed(load)
        assert found[0].commands == 0
        assert state_hash(found[0].shard.book) == before
        found[0].shard.close()
        size = max(path.stat().st_size for path in plan.journal_dir(0).glob("*.snapshot"))
        lines.append(
            f"snapshot of {resting} resting orders, a million commands after the beginning: "
            f"{size / 1e6:.0f} MB, taken in {taking.wall_ns / 1e6:.0f} ms by a process of its own, "
            f"loaded in {loading.wall_ns / 1e6:.0f} ms"
        )
    return "\n".join([*lines, *_answers_beside_snapshots(parent)])


def _answers_beside_snapshots(parent: Path | None) -> list[str]:
    """Measure single orders on two products in turn, of which one takes snapshots."""
    rounds: dict[str, list[list[int]]] = {"without snapshots": [], "with snapshots": []}
    with contextlib.ExitStack() as stack:
        cases = []
        for every in (0, SNAPSHOT_COMMANDS):
            directory = stack.enter_context(TemporaryDirectory(prefix="sb-", dir=parent))
            config = load_config()
            journal = msgspec.structs.replace(config.journal, snapshot_commands=every)
            config = msgspec.structs.replace(config, journal=journal)
            plan = stack.enter_context(product(config, directory))
            address = f"unix:{plan.addresses()[0].path}"
            client = stack.enter_context(Client(address, user_id="bench"))
            _rest(client, RESTING)
            cases.append((plan, client))
        begun = _until_none_is_due(cases[1][0])
        for _ in range(ROUNDS):
            for taken, (_, client) in zip(rounds.values(), cases, strict=True):
                taken.append(round_trips(client))
            snapshots = _until_none_is_due(cases[1][0]) - begun
    lines = []
    for name, taken in rounds.items():
        p50, p99, p999 = np.percentile(np.concatenate(taken), (50, 99, 99.9)) / 1e3
        longest = [max(times) / 1e6 for times in taken]
        lines.append(
            f"one order at a time beside {RESTING} resting ones, {name}: {p50:.0f} us, p99 "
            f"{p99:.0f}, p99.9 {p999:.0f}; a round's longest {statistics.median(longest):.1f} ms "
            f"({min(longest):.1f}..{max(longest):.1f})"
        )
    return [*lines, f"{snapshots} snapshots were taken in {ROUNDS} rounds of {PINGS} orders"]


def _until_none_is_due(plan: Plan) -> int:
    """Wait until a product took the snapshots that are due; return how many it has taken."""
    while True:
        processes = StatusReader(plan.status_path).processes()
        commands = next(p.counters["commands"] for p in processes if p.role == "matcher")
        last = max(map(sequence_of_snapshot, snapshots_of(plan.journal_dir(0))), default=0)
        if commands - last < plan.config.journal.snapshot_commands:
            os.close(lock_directory(plan.journal_dir(0) / LOCK, timeout_s=60))
            return next(p.counters["snapshots"] for p in processes if p.role == "supervisor")
        time.sleep(0.01)


def round_trips(client: Client) -> list[int]:
    """Return how long each of some orders took to be answered, in nanoseconds."""
    taken = []
    for _ in range(PINGS):
        begun = time.perf_counter_ns()
        order = client.submit("AAPL", "buy", quantity=1, price="1.00")
        taken.append(time.perf_counter_ns() - begun)
        client.cancel(order.order_id)
    return taken


@contextlib.contextmanager
def product(config: Config, directory: str) -> Iterator[Plan]:
    """Run a product."""
    with running_engine(configured(config, 1, True, None), Path(directory)) as plan:
        yield plan


def _rest(client: Client, count: int) -> None:
    """Let so many orders rest."""
    for start in range(0, count, 5_000):
        orders = [
            Order("AAPL", "buy", quantity=5, price=f"{10 + number % 4_000 / 100:.2f}")
            for number in range(start, min(start + 5_000, count))
        ]
        client.submit_batch(orders)


# A killed matcher --------------------------------------------------------------------------------


def kill_line(orders: int, durability: str, parent: Path | None) -> str:
    """Kill matchers with so many orders behind them; return how long they took to serve again."""
    config = load_config()
    journal = msgspec.structs.replace(
        config.journal, durability=durability, snapshot_commands=orders * 100
    )
    config = msgspec.structs.replace(config, journal=journal)
    taken = []
    with TemporaryDirectory(prefix="sb-", dir=parent) as directory:
        plan = Plan(configured(config, 1, True, None), Path(directory))
        plan.journal_dir(0).mkdir(parents=True)
        write_journal(plan, commands_of(orders), 1_024)
        with running_engine(plan.config, Path(directory)) as plan:
            for _ in range(RUNS):
                matcher = next(
                    p for p in StatusReader(plan.status_path).processes() if p.role == "matcher"
                )
                begun = time.monotonic()
                os.kill(matcher.pid, signal.SIGKILL)
                _until_accepted(plan)
                taken.append(time.monotonic() - begun)
    return (
        f"a killed matcher with {orders} orders behind it, {durability}: serves again after "
        f"{statistics.median(taken):.2f} s ({min(taken):.2f}..{max(taken):.2f})"
    )


def _until_accepted(plan: Plan) -> None:
    while True:
        with (
            contextlib.suppress(ClientError),
            Client(f"unix:{plan.addresses()[0].path}", user_id="bench") as client,
        ):
            client.submit("AAPL", "buy", quantity=1, price="0.01")
            return
        time.sleep(0.005)


if __name__ == "__main__":
    main()
