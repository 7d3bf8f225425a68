"""Looking at what a product has kept, without changing it: ``shardbook verify`` and a dry run.

Both only read, and may be used while the product runs; then the end of a journal is where it was
when it was read.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engine.books.choice import configured, make_book
from engine.books.contract import Counters, state_hash
from engine.journal.format import JournalError
from engine.journal.reader import JournalReader, is_configure, read_header, segments_of
from engine.journal.shard_config import differences, shard_config_of
from engine.journal.snapshot import read_snapshot, snapshots_of
from engine.plan import LOCK_FILE, Plan
from engine.shard.recovery import find_start, publish_nothing, recover, refuse
from engine.trade_log.log import TradeLogError, logged_sequences, read_trades
from engine.trade_log.segments import active_number, closed_segments, read_seal
from ipc.decimals import is_whole
from ipc.records import REPORT, TRADE, sequence_of, shard_of


@dataclass
class Verdict:
    """What was found: lines for people, and whether all of it is whole."""

    lines: list[str] = field(default_factory=list)
    problems: int = 0

    def say(self, line: str) -> None:
        """Add what was found."""
        self.lines.append(line)

    def wrong(self, line: str) -> None:
        """Add what is not as it must be."""
        self.problems += 1
        self.lines.append(f"PROBLEM: {line}")

    @contextlib.contextmanager
    def judging(self, name: str) -> Iterator[None]:
        """Take what is raised as a problem of ``name``."""
        try:
            yield
        except (JournalError, TradeLogError, OSError) as error:
            self.problems += 1
            self.lines.append(f"{name}: PROBLEM: {error}")


def verify(data_dir: Path, log_dir: Path | None = None) -> Verdict:
    """Check every byte of journals, snapshots and trade log in a data directory, and whether the
    log has the trades that the journals come to. ``log_dir``: where the log lies elsewhere."""
    verdict = Verdict()
    if not data_dir.is_dir():
        raise JournalError(f"{data_dir}: is no data directory")
    shards = sorted(
        (path for path in (data_dir / "journal").glob("*") if is_whole(path.name)),
        key=lambda path: int(path.name),
    )
    made: dict[int, int] = {}
    for directory in shards:
        before = verdict.problems
        _verify_shard(verdict, directory)
        if verdict.problems > before:
            continue  # what is damaged comes to nothing that could be compared
        with verdict.judging(f"shard {directory.name}"):
            made[int(directory.name)] = _trades_made(directory)
    if not shards:
        verdict.say("no journal")
    with verdict.judging("trade log"):
        logged = _verify_log(verdict, log_dir or data_dir / "log")
        _compare(verdict, made, logged, runs=_runs(data_dir))
    return verdict


def _trades_made(directory: Path) -> int:
    """Return how many trades a shard has made, as its newest snapshot and its journal say."""
    segments = segments_of(directory)
    newest = next(iter(snapshots_of(directory)), None)
    if newest is not None:
        shard_config = read_snapshot(newest).shard_config
    elif segments:
        shard_config = read_header(segments[-1].path).shard_config
    else:
        return 0
    found = find_start(directory, shard_config, None).snapshot
    shard_config, secret = found.shard_config, found.secret
    limits, recent_orders = shard_config.limits(), shard_config.recent_orders
    shard, start, shares = shard_config.shard, Counters(0, 0, 0), shard_config.shares()
    book = make_book("ladder", shard, limits, recent_orders, start, secret, shares)
    book.restore(*found.book_state())
    reports, trades = np.zeros(8_192, REPORT), np.zeros(4_096, TRADE)
    reader = JournalReader(directory, shard_config, found.counters.sequence, live=True)
    for commands in reader.chunks():
        if is_configure(commands):
            assert reader.shard_config is not None
            config = reader.shard_config
            limits, recent_orders = config.limits(), config.recent_orders
            book = configured(book, "ladder", shard, limits, recent_orders, secret, config.shares())
            continue
        done = 0
        while done < len(commands):
            done += book.process(commands[done:], reports, trades).commands
    return book.counters().trade_sequence


def _compare(
    verdict: Verdict, made: Mapping[int, int], logged: Mapping[int, int], *, runs: bool
) -> None:
    """Hold what the log has against what the journals come to, by shard."""
    for shard, last in sorted(made.items()):
        known = logged.get(shard, 0)
        if known < last and runs:
            verdict.say(f"trade log: shard {shard}: {last - known} trades are still to be logged")
        elif known < last:
            verdict.problems += 1
            verdict.say(
                f"trade log: shard {shard}: PROBLEM: trades {known + 1} to {last}, which the "
                "journal has, are missing; a start logs them"
            )
        elif known > last and not runs:
            verdict.problems += 1
            verdict.say(
                f"trade log: shard {shard}: PROBLEM: it ends with trade {known}, the journal with "
                f"trade {last}: the end of the journal is lost"
            )


def _runs(data_dir: Path) -> bool:
    """Return whether a product works in a data directory now."""
    try:
        lock = os.open(data_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


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
        changes = [commands for commands in reader.chunks() if is_configure(commands)]
        verdict.say(
            f"{name}: journal: {len(segments)} segments, commands "
            f"{segments[0].first_sequence} to {reader.end.sequence}, whole"
        )
        if changes:
            verdict.say(f"{name}: journal: the configuration changes in it {len(changes)} times")
        if reader.end.torn_bytes:
            verdict.say(
                f"{name}: journal: {reader.end.path}: byte {reader.end.offset}: "
                f"{reader.end.torn_bytes} bytes of an unfinished batch, which a start will cut"
            )
    for aside in sorted(directory.glob("*.tmp")):
        verdict.say(f"{name}: {aside.name}: unfinished, of no meaning")


def _verify_log(verdict: Verdict, directory: Path) -> dict[int, int]:
    """Check the log; return each shard's last trade in it, or in what was moved away before it."""
    seal, segments = read_seal(directory), closed_segments(directory)
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
    oldest = min([*segments, active_number(directory)])
    if oldest > 1:
        verdict.say(f"trade log: segments before {oldest} were moved away")
    if segments:
        return last  # what was sealed behind them is missing, not moved away
    return {
        shard: max(last.get(shard, 0), seal.last_sequences.get(shard, 0))
        for shard in last.keys() | seal.last_sequences.keys()
    }


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
    wanted = shard_config_of(plan, shard)
    for change in differences(state.shard_config, wanted):
        verdict.say(f"shard {shard}: would change its configuration: {change}")
    try:
        refuse(recovered, wanted)
    finally:
        state.close()
