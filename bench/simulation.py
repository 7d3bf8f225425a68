"""The life of a product in one thread, on a simulated disk: crashes everywhere, and a checker.

Matchers, journals, snapshots, rings, persister and trade log are the product's own; only the disk,
the clock and the moment of death are not. A seed decides everything, so it repeats a run exactly.
The checker knows what clients and readers were told, holds that against a book that never died, and
raises ``WrongError`` at the first difference.
"""

import argparse
import logging
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.flows import Flow, Profile, Texts, near
from bench.simulated_disk import CrashError, SimulatedDisk
from bench.truth import Truth
from engine.books.choice import book_limits, make_book
from engine.books.contract import Counters, state_hash
from engine.config import Config, parse_config
from engine.journal.shard_config import shard_config_of
from engine.plan import Plan
from engine.shard.account_sequences import AccountSequences
from engine.shard.durability import Durability
from engine.shard.matcher import Matcher
from engine.shard.pipeline_choice import make_pipeline
from engine.shard.plain_pipeline import PlainPipeline
from engine.shard.snapshotter import take_snapshot
from engine.shared import create_shared
from engine.trade_log.lines import to_records
from engine.trade_log.log import read_trades
from engine.trade_log.persister import Persister
from engine.trade_log.repair import repaired_log
from frontend.roles import ROLES
from ipc.memory.order_table import OrderTableWriter, create_table
from ipc.memory.ring import REPORTS, RingReader
from ipc.memory.status import StatusWriter
from ipc.records import TRADE, shard_of
from ipc.vocabulary import Administration
from ipc.wire.messages import server_decoder

STEPS = 60
BATCH = 8
_LIFETIME_NS = 3_000_000_000
"""Of orders that expire, at most."""
START_NS = 1_700_000_000_000_000_000
_TEXT = """
[engine]
matchers = 2
pin = false
recent_orders = 12
ring_trades = 16
ring_reports = 16
batch_commands = 8
ended_orders = 24
depth_levels = 8
[journal]
durability = "{durability}"
segment_bytes = {segment_bytes}
snapshots_kept = {kept}
[persister]
segment_bytes = 4096
compress = {compress}
fsync = {fsync}
"""
_INSTRUMENT = '[[instruments]]\nsymbol = "{}"\ntick_size = "0.01"\nmax_resting_orders = 30\n'

MakeKeeper = Callable[..., Durability]


class WrongError(AssertionError):
    """Something that was promised does not hold."""


class PowerLossError(BaseException):
    """The simulated machine stops."""


class CrashingStatus(StatusWriter):
    """A status slot whose every use may be the last thing that its process does."""

    def __init__(self, plan: Plan, role: str, number: int, disk: SimulatedDisk) -> None:
        super().__init__(plan.status_path, role, number)
        self._disk = disk

    def add(self, name: str, count: int) -> None:
        """See ``StatusWriter``."""
        self._disk.step()
        super().add(name, count)


class Simulation:
    """One run."""

    def __init__(self, seed: int, root: Path, make_keeper: MakeKeeper = Durability) -> None:
        self.seed = seed
        self.crashes = 0
        self.snapshots = 0
        self.history: list[object] = []
        """What happened, and what it came to."""
        self._rng = rng = random.Random(seed)
        self._make_keeper = make_keeper
        self._texts = Texts()
        self._clock_ns = START_NS
        self.plan = Plan(_config(rng), root / "data")
        self._fsync = self.plan.config.journal.durability == "fsync"
        self._disk = SimulatedDisk(root / "data", rng)
        for directory in (self.plan.log_dir, *map(self.plan.journal_dir, self.plan.shards)):
            directory.mkdir(parents=True)
        self._truths = {shard: self._truth(shard, root) for shard in self.plan.shards}
        self._matchers: dict[int, Matcher] = {}
        self._keepers: dict[int, Durability] = {}
        self._persister: Persister | None = None

    def run(self, steps: int = STEPS) -> None:
        """Live through so many steps. Raises ``WrongError``."""
        try:
            self._start()
            for _ in range(steps):
                self._step()
            self._disk.plan_crash(None)
            self._guard(self._stop)
            self._start()
            self._drain()
            self._check_log(complete=True)
        finally:
            self._abandon()
            shutil.rmtree(self.plan.run_dir, ignore_errors=True)

    # What happens --------------------------------------------------------------------------------

    def _step(self) -> None:
        rng = self._rng
        if rng.random() < 0.5:
            self._disk.plan_crash(rng.choice((1, 2, 3, 5, 8, 13, 21, 34, 55)))
        self._clock_ns += rng.choice((0, 1_000, 10**9, -(10**9), -(10**12)))
        choice = rng.random()
        shard = rng.choice(self.plan.shards)
        if choice < 0.62:
            self._guard(lambda: self._batch(shard))
        elif choice < 0.82:
            self._guard(self._persist)
        elif choice < 0.96:
            self._guard(lambda: self._snapshot(shard))
        else:
            self._guard(self._restart)

    def _guard(self, action: Callable[[], None]) -> None:
        """Do something; where the machine stops, start the product again until it stands."""
        try:
            action()
        except PowerLossError:
            self._disk.plan_crash(self._rng.choice((None, None, 3, 10, 30, 90)))
            self._guard(self._start)

    def _crashed(self) -> None:
        """Decide how much dies: everything, the machine, or (on return) only who was at work."""
        self.crashes += 1
        self._disk.plan_crash(self._rng.choice((None, None, 2, 10, 40)))
        if self._rng.random() < 0.5:
            self._die()

    def _die(self) -> None:
        self._abandon()
        if self._fsync and self._rng.random() < 0.6:
            self._disk.lose_power()
        raise PowerLossError

    def _batch(self, shard: int) -> None:
        truth = self._truths[shard]
        matcher = self._matchers[shard]
        commands = self._texts.given(truth.flow.commands(self._rng.randint(1, BATCH)))
        commands["command_type"] &= 0x7F  # all that the frame of a reject has room for
        commands["timestamp_ns"] = matcher.tick()
        timed = commands["expire_time_ns"] != 0
        left = commands["expire_time_ns"] % np.uint64(_LIFETIME_NS)
        commands["expire_time_ns"][timed] = (commands["timestamp_ns"] + left)[timed]
        commands["account"][commands["account"] == 0] = 1  # no stream speaks for account 0
        truth.given = np.concatenate((truth.given[: self._sequence(shard)], commands))
        truth.told.open(commands)
        truth.expected.open(commands)
        try:
            first = self._rng.randint(0, len(commands) - 1)
            if commands["command_type"][first - 1] == Administration.NAME:
                first -= 1  # it comes with its command
            if first:  # taken while the disk is at work, so that one sync serves both
                matcher.take(commands[:first], [truth.told])
            matcher.take(commands[first:], [truth.told])
            matcher.settle_all([truth.told])
        except CrashError:
            self._revive(shard)
        self._look(shard)
        truth.flow.learn(truth.told.reports(-3 * BATCH))

    def _revive(self, shard: int) -> None:
        """Start a matcher that died, as often as it takes."""
        while True:
            try:
                self._crashed()
                self._release_matcher(shard)
                self._start_matcher(shard)
                return
            except CrashError:
                continue

    def _persist(self) -> None:
        try:
            assert self._persister is not None
            self._persister.step()
        except CrashError:
            self._revive_persister()

    def _revive_persister(self) -> None:
        while True:
            try:
                self._crashed()
                self._release_persister()
                self._start_persister()
                return
            except CrashError:
                continue

    def _snapshot(self, shard: int) -> None:
        try:
            self.snapshots += take_snapshot(self.plan, shard, self._disk).path is not None
        except CrashError:
            self._crashed()

    def _restart(self) -> None:
        """Stop as told to, or be killed whole, and start again."""
        if self._rng.random() < 0.5:
            self._stop()
        else:
            self._die()
        self._start()

    def _stop(self) -> None:
        try:
            self._drain()
            for durability in self._keepers.values():
                durability.close()
        except CrashError:
            self._disk.plan_crash(None)
        self._abandon()

    def _drain(self) -> None:
        assert self._persister is not None
        while self._persister.available():
            self._persist()

    # Starting and ending -------------------------------------------------------------------------

    def _start(self) -> None:
        try:
            plan = self.plan
            repaired = repaired_log(
                plan.log_dir, plan.config.persister.segment_bytes, refill=True, storage=self._disk
            )
            shutil.rmtree(plan.run_dir, ignore_errors=True)
            plan.run_dir.mkdir(parents=True, mode=0o700)
            create_shared(plan, ROLES.members(plan), repaired.last_sequences)
            self._start_persister()
        except CrashError:
            self._die()
        for shard in plan.shards:
            try:
                self._start_matcher(shard)
            except CrashError:
                self._revive(shard)
        self._check_log(complete=False)

    def _start_persister(self) -> None:
        status = CrashingStatus(self.plan, "persister", 0, self._disk)
        self._persister = Persister(self.plan, status, self._disk, background=False)

    def _start_matcher(self, shard: int) -> None:
        status = CrashingStatus(self.plan, "matcher", shard, self._disk)
        durability = self._make_keeper(self.plan, shard, status, self._disk, background=False)
        self._keepers[shard] = durability
        self._matchers[shard] = Matcher(
            self.plan,
            shard,
            status,
            durability,
            lambda: self._clock_ns,
            self._persist,
            # One can die between its parts, the other is what runs.
            self._rng.choice((PlainPipeline, make_pipeline)),
        )
        self._look(shard)
        self._check_recovered(shard)

    def _release_matcher(self, shard: int) -> None:
        self._look(shard)
        self._matchers.pop(shard, None)
        durability = self._keepers.pop(shard, None)
        if durability is not None:
            durability.abandon()

    def _release_persister(self) -> None:
        if self._persister is not None:
            self._persister.abandon()
            self._persister = None

    def _abandon(self) -> None:
        """Let everything die at once, without a last word to the disk."""
        for shard in list(self._keepers):
            self._release_matcher(shard)
        self._release_persister()
        self._disk.close_all()

    # What must hold ------------------------------------------------------------------------------

    def _sequence(self, shard: int) -> int:
        return self._matchers[shard].book.counters().sequence

    def _look(self, shard: int) -> None:
        """Note the trades that readers can see."""
        if self.plan.ring_path(shard).exists():
            ring = RingReader(self.plan.ring_path(shard))
            truth = self._truths[shard]
            truth.shown_trade = max(truth.shown_trade, ring.published)
            ring.close()

    def _check_recovered(self, shard: int) -> None:
        truth, matcher = self._truths[shard], self._matchers[shard]
        sequence = self._sequence(shard)
        told = int(truth.told.reports(-1)["sequence"].max(initial=0))
        if not told <= sequence <= len(truth.given):
            raise WrongError(f"shard {shard}: command {told} was answered, {sequence} recovered")
        if sequence < truth.book.counters().sequence:
            raise WrongError(f"shard {shard}: recovered {sequence}, less than before")
        truth.given = truth.given[:sequence]
        truth.advance(sequence)
        self.history.append((self._disk.operations, shard, sequence, len(truth.told.frames)))
        if truth.shown_trade > len(truth.trades):
            raise WrongError(f"shard {shard}: trade {truth.shown_trade} was shown and is lost")
        if state_hash(matcher.book) != state_hash(truth.book):
            raise WrongError(f"shard {shard}: another state after command {sequence}")
        orders = truth.table.contents()
        if matcher.table.contents().tobytes() != orders.tobytes():
            raise WrongError(f"shard {shard}: another order table after command {sequence}")
        if matcher.table.texts_of(orders).tobytes() != truth.table.texts_of(orders).tobytes():
            raise WrongError(f"shard {shard}: other texts after command {sequence}")
        self._check_told(shard)
        self._check_report_ring(shard)

    def _check_report_ring(self, shard: int) -> None:
        """The ring holds the last reports, whether they were told or not, and nothing else."""
        ring = RingReader(self.plan.report_ring_path(shard), REPORTS)
        reports = ring.last(ring.capacity)
        places = [self._truths[shard].report_places.get(row.tobytes(), -1) for row in reports]
        last = len(self._truths[shard].report_places)
        if ring.published != last or places != list(range(last - len(places), last)):
            raise WrongError(f"shard {shard}: another report ring: {places}, of {last}")
        ring.close()

    def _check_told(self, shard: int) -> None:
        """Hold every report against those of the book that never died, in their order."""
        truth = self._truths[shard]
        for told in truth.told.frames[truth.checked :]:
            place = truth.frame_places.get(told)
            if place is None or place <= truth.last_place:
                raise WrongError(f"shard {shard}: told {server_decoder.decode(told[1])}")
            truth.last_place = place
        truth.checked = len(truth.told.frames)

    def _check_log(self, complete: bool) -> None:
        """The log holds each trade once, in order, without a gap; at the end all of them."""
        logged: dict[int, list[int]] = {shard: [] for shard in self.plan.shards}
        trades = list(read_trades(self.plan.log_dir))
        records = to_records(trades, self.plan.instruments)
        for trade in records:
            shard = shard_of(int(trade["trade_id"]))
            truth = self._truths[shard]
            place = len(logged[shard])
            logged[shard].append(int(trade["trade_id"]))
            if place >= len(truth.trades):
                raise WrongError(f"shard {shard}: the log has a trade too many: {trade}")
            expected = np.frombuffer(truth.trades[place], TRADE)[0].copy()
            expected["sequence"] = 0
            if trade.tobytes() != expected.tobytes():
                raise WrongError(f"shard {shard}: logged {trade}, not {expected}")
        for shard, truth in self._truths.items():
            if complete:
                truth.advance(len(truth.given))
                self._check_told(shard)
                if len(logged[shard]) != len(truth.trades):
                    raise WrongError(
                        f"shard {shard}: {len(truth.trades)} trades, {len(logged[shard])} logged"
                    )

    def _truth(self, shard: int, root: Path) -> Truth:
        plan, recent_orders = self.plan, self.plan.config.engine.recent_orders
        limits = [book_limits(i) for i in plan.instruments_of(shard)]
        shares = shard_config_of(plan, shard).shares()
        path = root / f"truth-{shard}"
        create_table(path, shard, plan.table_capacity(shard), plan.config.engine.ended_orders)
        profile = Profile(
            tuple(limits),
            near(100, 5),
            recent_orders,
            shares,
            3,
            (1, 9),
            reach=30,
            repeats=0.1,
        )
        start = Counters(0, 0, 0)
        book = make_book("ladder", shard, limits, recent_orders, start, shares=shares)
        flow = Flow(profile, self.seed + shard, shard)
        return Truth(book, OrderTableWriter(path), AccountSequences(shard), flow, flow.commands(0))


def _config(rng: random.Random) -> Config:
    text = _TEXT.format(
        durability=rng.choice(("async", "fsync")),
        segment_bytes=rng.choice((8_192, 16_384)),
        kept=rng.choice((2, 3)),
        compress=rng.choice(("true", "false")),
        fsync=rng.choice(("true", "false")),
    )
    return parse_config(text + "".join(map(_INSTRUMENT.format, ("AA", "BB", "CC"))), "simulation")


def simulate(seed: int, make_keeper: MakeKeeper = Durability, steps: int = STEPS) -> Simulation:
    """Run one seed; return what was. Raises ``WrongError``, naming how to repeat it."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="sb-", dir=memory if memory.is_dir() else None) as directory:
        simulation = Simulation(seed, Path(directory), make_keeper)
        try:
            simulation.run(steps)
        except Exception as error:
            error.add_note(f"repeat: python -m bench.simulation --first {seed} --seeds 1")
            raise
        return simulation


def main() -> None:
    """Run many seeds and say how many crashes they met."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    logging.disable()
    begun = time.monotonic()
    crashes = snapshots = 0
    for seed in range(options.first, options.first + options.seeds):
        simulation = simulate(seed, steps=options.steps)
        crashes += simulation.crashes
        snapshots += simulation.snapshots
    print(
        f"seeds {options.first} to {options.first + options.seeds - 1}: {crashes} crashes, "
        f"{snapshots} snapshots, nothing lost or doubled; "
        f"{time.monotonic() - begun:.0f} s"
    )


if __name__ == "__main__":
    main()
