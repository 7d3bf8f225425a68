"""Looking at what a product has kept, without changing it: ``shardbook verify`` and a dry run.

Both only read, and may be used while the product runs; then the end of a journal is where it was
when it was read.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.book import state_hash
from engine.journal_format import JournalError
from engine.journal_reader import JournalReader, segments_of
from engine.plan import Plan
from engine.recovery import publish_nothing, recover
from engine.snapshot import read_snapshot, snapshots_of
from engine.trade_log import TradeLogError, logged_sequences, read_trades
from ipc.decimals import is_whole
from ipc.records import sequence_of, shard_of


@dataclass
class Verdict:
    """What was found: lines for people, and whether all of it is whole."""

    lines: list[str] = field(default_factory=list)
    problems: int = 0

    def say(self, line: str) -> None:
        """Add what was found."""
        self.lines.append(line)

    @contextlib.contextmanager
    def judging(self, name: str) -> Iterator[None]:
        """Take what is raised as a problem of ``name``."""
        try:
            yield
        except (JournalError, TradeLogError, OSError) as error:
            self.problems += 1
            self.lines.append(f"{name}: PROBLEM: {error}")


def verify(data_dir: Path) -> Verdict:
    """Check every byte of journals, snapshots and trade log in a data directory."""
    verdict = Verdict()
    if not data_dir.is_dir():
        raise JournalError(f"{data_dir}: is no data directory")
    shards = sorted(
        (path for path in (data_dir / "journal").glob("*") if is_whole(path.name)),
        key=lambda path: int(path.name),
    )
    for directory in shards:
        _verify_shard(verdict, directory)
    if not shards:
        verdict.say("no journal")
    with verdict.judging("trade log"):
        _verify_log(verdict, data_dir / "log")
    return verdict


def _verify_shard(verdict: Verdict, directory: Path) -> None:
    name = f"shard {directory.name}"
    for path in reversed(snapshots_of(directory)):
        with verdict.judging(f"{name}: snapshot"):
            snapshot = read_snapshot(path)
            verdict.say(
                f"{name}: snapshot {path.name}: commands up to {snapshot.counters.sequence}, "
                f"{len(snapshot.resting)} resting orders, trades up to "
                f"{snapshot.counters.trade_sequence}"
            )
    segments = segments_of(directory)
    if not segments:
        verdict.say(f"{name}: journal: no segments")
        return
    with verdict.judging(f"{name}: journal"):
        reader = JournalReader(directory, None, segments[0].first_sequence - 1)
        for _ in reader.chunks():
            pass
        verdict.say(
            f"{name}: journal: {len(segments)} segments, commands "
            f"{segments[0].first_sequence} to {reader.end.sequence}, whole"
        )
        if reader.end.torn_bytes:
            verdict.say(
                f"{name}: journal: {reader.end.path}: byte {reader.end.offset}: "
                f"{reader.end.torn_bytes} bytes of an unfinished batch, which a start will cut"
            )
    for aside in sorted(directory.glob("*.tmp")):
        verdict.say(f"{name}: {aside.name}: unfinished, of no meaning")


def _verify_log(verdict: Verdict, directory: Path) -> None:
    counts: dict[int, int] = {}
    last: dict[int, int] = {}
    for trade in read_trades(directory):
        shard, sequence = shard_of(trade.trade_id), sequence_of(trade.trade_id)
        counts[shard] = counts.get(shard, 0) + 1
        if sequence <= last.get(shard, 0):
            raise TradeLogError(
                f"{directory}: trade {trade.trade_id} is there twice or after a later one"
            )
        if shard in last and sequence != last[shard] + 1:
            raise TradeLogError(
                f"{directory}: shard {shard}: trades {last[shard] + 1} to {sequence - 1} are "
                "missing"
            )
        last[shard] = sequence
    for shard in sorted(counts):
        verdict.say(
            f"trade log: shard {shard}: {counts[shard]} trades, up to {last[shard]}, each once, "
            "in order"
        )
    if not counts:
        verdict.say("trade log: no trades")


def dry_run(plan: Plan) -> Verdict:
    """Show what a start would do with a data directory, having done it in memory."""
    verdict = Verdict()
    logged: dict[int, int] = {}
    with verdict.judging("trade log"):
        logged = logged_sequences(plan.log_dir)
    for shard in plan.shards:
        with verdict.judging(f"shard {shard}"), TemporaryDirectory(prefix="sb-") as scratch:
            _dry_run_shard(verdict, plan, shard, logged.get(shard, 0), Path(scratch) / "orders")
    return verdict


def _dry_run_shard(verdict: Verdict, plan: Plan, shard: int, logged: int, table_path: Path) -> None:
    recovered = recover(plan, shard, logged, publish_nothing, table_path)
    state, found, end = recovered.shard, recovered.found, recovered.end
    for note in found.notes:
        verdict.say(f"shard {shard}: {note}")
    begins = found.path.name if found.path else "the beginning, with empty books"
    counters = state.book.counters()
    verdict.say(
        f"shard {shard}: from {begins}, then {recovered.commands} commands of the journal, up to "
        f"command {counters.sequence}"
    )
    if end.torn_bytes:
        verdict.say(
            f"shard {shard}: {end.path}: would cut {end.torn_bytes} bytes at byte {end.offset}"
        )
    verdict.say(
        f"shard {shard}: {len(state.book.resting())} resting orders, last order "
        f"{counters.order_sequence}, last trade {counters.trade_sequence}, of which "
        f"{counters.trade_sequence - logged} would be logged now; state {state_hash(state.book)}"
    )
    state.close()
