"""Going on after a loss that no start can make good: ``shardbook recover --accept-loss``.

Where the end of a journal is gone (a loss of power without ``fsync``, a damaged file), a start is
refused, for it could give ids again that the trade log or a client knows. Told to accept that, this
brings each shard back as far as its journal can be read, sets its numbers beyond all that the log
knows, and lets the shard begin from there, with a snapshot. What it leaves out is kept aside in the
directory ``lost``. Nothing is done for a shard that has lost nothing.
"""

import contextlib
import os
import time
from pathlib import Path

import numpy as np

from engine.books.contract import Counters, Records
from engine.books.id_memory import forgotten_before, still_remembered
from engine.history.destination import HistoryError
from engine.history.loss import ahead_text, go_on_without, known_to_histories, trades_behind
from engine.journal.format import JournalError
from engine.journal.reader import End, JournalReader, segments_of
from engine.journal.shard_config import shard_config_of
from engine.journal.snapshot import Snapshot, snapshots_of, write_snapshot
from engine.journal.writer import JournalWriter
from engine.plan import Plan
from engine.shard.recovery import Shard, find_start, recover
from engine.storage import LockedError, Storage, lock_directory
from engine.trade_log.lines import LineFormatter
from engine.trade_log.log import TradeLog, read_trades
from engine.trade_log.repair import repaired_log
from engine.verify import Verdict
from ipc.records import SEQUENCE_MASK, make_id, shard_of

SKIPPED_ORDERS = 1 << 20
"""How far order ids go on beyond the last that is known: some may have been given and be lost."""


def accept_loss(plan: Plan) -> Verdict:
    """Let every shard go on from what there is. The product must not be running.

    Raises ``JournalError`` and ``OSError``.
    """
    verdict = Verdict()
    repaired = repaired_log(plan.log_dir, plan.config.persister.segment_bytes, refill=True)
    for note in repaired.notes:
        verdict.say(f"trade log: {note}")
    for shard in plan.shards:
        directory = plan.journal_dir(shard)
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock = lock_directory(directory)
        except LockedError as error:
            raise JournalError(f"{error}: stop the product first") from None
        try:
            _accept(verdict, plan, shard, repaired.last_sequences.get(shard, 0))
        finally:
            os.close(lock)
    return verdict


def _accept(verdict: Verdict, plan: Plan, shard: int, logged: int) -> None:
    scratch = plan.journal_dir(shard) / "orders.tmp"
    try:
        known = known_to_histories(plan).get(shard, [])
    except HistoryError as error:
        raise JournalError(
            f"{error}; where it is lost, too, move the file away or switch the database off"
        ) from None
    position = max((history.cursor.position for history in known), default=0)
    try:
        recovered = recover(plan, shard, logged, lambda *_: None, scratch)
    except JournalError as error:
        problem = str(error)
    else:
        recovered.shard.close()
        if position <= recovered.end.sequence:
            verdict.say(f"shard {shard}: nothing is lost")
            return
        problem = ahead_text(shard, position, recovered.end.sequence)
    directory, shard_config = plan.journal_dir(shard), shard_config_of(plan, shard)
    try:
        found = find_start(directory, shard_config, logged)
    except JournalError:
        found = find_start(directory, shard_config, None)
    state = Shard(plan, shard, found.snapshot, scratch)
    log = TradeLog(plan.log_dir, plan.config.persister.segment_bytes, compress=False)
    formatter = LineFormatter(plan.known_instruments)

    def log_new(trades: Records, *_: object) -> None:
        new = trades[(trades["trade_id"] & np.uint64(SEQUENCE_MASK)) > log.last_sequence(shard)]
        if len(new):
            log.append(formatter.format(new))

    with contextlib.closing(state), contextlib.closing(log):
        after, secret = found.snapshot.counters.sequence, found.snapshot.secret
        reader = JournalReader(directory, state.shard_config, after, secret=secret, live=True)
        with contextlib.suppress(JournalError):
            for commands in reader.chunks():
                state.replay_from(reader, commands, log_new)
        for history in known:
            for trades in trades_behind(plan, history.kept, shard, log.last_sequence(shard)):
                log_new(trades)  # a start needs the log to have all ids that are taken
        orders = max((history.cursor.orders for history in known), default=0)
        snapshot = _beyond(plan, shard, state.snapshot(), log.last_sequence(shard), orders)
    _begin_anew(directory, snapshot)
    for history in known:
        if history.cursor.position > snapshot.counters.sequence:
            go_on_without(plan, snapshot, *history)
    verdict.problems += 1
    verdict.say(
        f"shard {shard}: {problem}: accepted; it goes on after command "
        f"{snapshot.counters.sequence}, with trade {snapshot.counters.trade_sequence + 1} and "
        f"order {snapshot.counters.order_sequence + 1}; the rest lies in {directory / 'lost'}"
    )


def _beyond(plan: Plan, shard: int, snapshot: Snapshot, logged: int, orders: int) -> Snapshot:
    """Return a snapshot whose numbers go on after all that the log and the history know.

    Orders that were recent are so no more by that: of their client_order_ids each account keeps its
    share.
    """
    counters = snapshot.counters
    known = max(counters.order_sequence, orders)
    for trade in read_trades(plan.log_dir, after=make_id(shard, counters.trade_sequence)):
        if shard_of(trade.trade_id) == shard:
            ids = (trade.buy_order_id, trade.sell_order_id)
            known = max(known, *(order_id & SEQUENCE_MASK for order_id in ids))
    last = known + SKIPPED_ORDERS
    beyond = Counters(counters.sequence, last, max(counters.trade_sequence, logged))
    terms = snapshot.shard_config
    forgotten = forgotten_before(last, terms.recent_orders)
    shares = terms.shares().checked(terms.recent_orders)
    recent = still_remembered(snapshot.recent, forgotten, shares)
    return Snapshot(
        snapshot.shard_config,
        beyond,
        max(snapshot.timestamp_ns, time.time_ns()),
        snapshot.reports,
        snapshot.secret,
        snapshot.resting,
        recent,
        snapshot.sweeps,
        snapshot.last_prices,
        snapshot.orders,
        snapshot.texts,
        snapshot.accounts,
    )


def _begin_anew(directory: Path, snapshot: Snapshot) -> None:
    """Put all files aside, and let the snapshot and an empty segment take their place."""
    storage = Storage()
    lost = directory / "lost"
    lost.mkdir(exist_ok=True)
    for path in [*snapshots_of(directory), *(segment.path for segment in segments_of(directory))]:
        storage.rename(path, lost / f"{time.time_ns()}-{path.name}")
    write_snapshot(directory, snapshot, storage)
    end = End(sequence=snapshot.counters.sequence)
    journal = JournalWriter(
        directory, snapshot.shard_config, end, 0, secret=snapshot.secret, fsync=True
    )
    journal.begin()
    journal.close()
