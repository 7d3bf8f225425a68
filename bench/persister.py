"""How fast trades come into the log: formatting, and ring to file, beside plain writes.

    python -m bench.persister [--trades N] [--runs N] [--directory PATH]

Every contender handles the same trades in the same batches; the physical limit is ``os.write`` of
the same bytes, already formatted, into a new file. One thread, warm, medians of interleaved runs.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from bench.measure import Contenders, interleaved, machine, table, versions
from engine.books.contract import Records
from engine.config import Config
from engine.plan import Plan
from engine.roles import PERSISTER
from engine.sections import InstrumentSection, PersisterSection
from engine.trade_log.lines import LineFormatter, parse_lines
from engine.trade_log.persister import BATCH_TRADES, Persister
from ipc.memory.ring import RingWriter, create_ring
from ipc.memory.status import ProcessSlot, StatusWriter, create_status
from ipc.records import TRADE, make_id

TIME_NS = 1_763_800_000_000_000_000
SHARD = 1
"""Not 0: ids of other shards have 14 digits and more."""


def trades_of(count: int, seed: int = 23) -> Records:
    """Return trades of 5 symbols as a busy day of one shard has them."""
    rng = np.random.default_rng(seed)
    trades = np.zeros(count, TRADE)
    trades["trade_id"] = make_id(SHARD, 1) + np.arange(count)
    trades["timestamp_ns"] = TIME_NS + np.cumsum(rng.integers(0, 2_000, count))
    trades["price"] = rng.integers(9_000, 20_000, count)
    trades["quantity"] = rng.integers(1, 1_000, count)
    trades["buy_order_id"] = make_id(SHARD, 5_000_000) + rng.integers(0, 100_000, count)
    trades["sell_order_id"] = make_id(SHARD, 5_000_000) + rng.integers(0, 100_000, count)
    trades["symbol"] = rng.integers(1, 6, count)
    trades["taker_side"] = rng.integers(1, 3, count)
    return trades


def plan_of(directory: Path, fsync: bool) -> Plan:
    """Return a plan of two shards and five symbols, its log under ``directory``."""
    names = ("COOTX", "AAPL", "GOOGL", "MSFT", "TSLA")
    instruments = [InstrumentSection(name, "0.01") for name in names]
    return Plan(Config(instruments, persister=PersisterSection(fsync=fsync)), directory)


class Stopping:
    """A wakeup that says: finish what there is."""

    stopping = True

    def wait(self, timeout_s: float | None) -> None:
        """Never waits."""


class Bench:
    """The contenders over one set of trades, in one directory."""

    def __init__(self, trades: Records, directory: Path) -> None:
        self.trades = trades
        self.directory = directory
        self._formatter = LineFormatter(plan_of(directory, False).instruments)
        self._batches = [
            trades[start : start + BATCH_TRADES] for start in range(0, len(trades), BATCH_TRADES)
        ]
        self._lines = [bytes(self._formatter.format(batch)) for batch in self._batches]
        self._objects = [parse_lines(lines) for lines in self._lines]
        self.bytes = sum(map(len, self._lines))

    def contenders(self) -> Contenders:
        """Return all contenders by name."""
        return {
            "write() of the same bytes": lambda: self._write(False),
            "write() and fdatasync a batch": lambda: self._write(True),
            "formatting": lambda: self._format,
            "msgspec, from objects made before": lambda: self._encode,
            "persister": lambda: self._persister(False),
            "persister, fsync": lambda: self._persister(True),
        }

    def _write(self, fsync: bool) -> Callable[[], None]:
        self.clear()
        path = self.directory / "plain"

        def run() -> None:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for lines in self._lines:
                os.write(descriptor, lines)
                if fsync:
                    os.fdatasync(descriptor)
            os.close(descriptor)

        return run

    def _format(self) -> None:
        for batch in self._batches:
            self._formatter.format(batch)

    def _encode(self) -> None:
        encoder = msgspec.json.Encoder(decimal_format="number")
        for objects in self._objects:
            encoder.encode_lines(objects)

    def _persister(self, fsync: bool) -> Callable[[], None]:
        """Prepare a ring that holds all trades, and return a run that logs them all."""
        self.clear()
        plan = plan_of(self.directory, fsync)
        plan.run_dir.mkdir(parents=True, mode=0o700)
        create_status(plan.status_path, [ProcessSlot(PERSISTER, 0, None, 0)])
        for shard in plan.shards:
            create_ring(plan.ring_path(shard), shard, 1 << (len(self.trades) - 1).bit_length(), 0)
        RingWriter(plan.ring_path(SHARD)).publish(self.trades)
        persister = Persister(plan, StatusWriter(plan.status_path, "persister", 0))

        def run() -> None:
            persister.run(Stopping())
            persister.close()

        return run

    def clear(self) -> None:
        """Remove what a run left."""
        shutil.rmtree(plan_of(self.directory, False).run_dir, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)


def main() -> None:
    """Print trades a second of every contender, and its part of plain writing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trades", type=int, default=1 << 17)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--directory", type=Path, help="where the log goes; default: temporary")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        bench = Bench(trades_of(options.trades), Path(directory) / "log")
        found = interleaved(bench.contenders(), options.runs)
        bench.clear()
    limit = found["write() of the same bytes"]
    rows = [
        [
            name,
            f"{options.trades / timing.cpu_ns * 1e3:.2f}",
            f"{options.trades / timing.wall_ns * 1e3:.2f}",
            f"{timing.cpu_ns / options.trades:.0f}",
            f"{timing.cpu_ns / limit.cpu_ns:.1f}",
            f"{timing.wall_ns / limit.wall_ns:.1f}",
        ]
        for name, timing in found.items()
    ]
    print(machine())
    print(versions("numpy", "numba", "msgspec"))
    header = ["", "M trades/s of CPU", "M trades/s", "CPU ns a trade", "CPU, write() = 1", "time"]
    size = f"{bench.bytes / options.trades:.0f} bytes a line"
    title = f"{options.trades:,} trades, batches of {BATCH_TRADES:,}, {size}, {options.runs} runs"
    print(table(title, header, rows))


if __name__ == "__main__":
    main()
