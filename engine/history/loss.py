"""Where a history knows more than a journal: a loss of power took the journal's end, not the rows.

A start is refused then, as it is where the trade log knows more, for it would give ids again that
the history has. ``shardbook recover --accept-loss`` sets the shard's numbers beyond them, and has
the history go on from where the journal begins anew.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from engine.books.contract import Records
from engine.books.secret import identity
from engine.history.destination import AwayError, Cursor, HistoryError
from engine.history.past import TRADES_AT_ONCE, first_cursor, rows_of_table
from engine.history.rows import TRADE_ROW, as_trades
from engine.history.sqlite import SqliteDestination
from engine.history.sqlite_reader import SqliteHistory
from engine.journal.format import JournalError
from engine.journal.reader import JournalReader, segments_of
from engine.journal.snapshot import Snapshot, sequence_of_snapshot, snapshots_of
from engine.plan import Plan
from ipc.records import make_id


def known_to_history(plan: Plan) -> dict[int, Cursor]:
    """Return how far the history of a data directory goes, by shard; nothing where there is none.

    Raises ``HistoryError``.
    """
    if not plan.history_path.exists():
        return {}
    with closing(SqliteHistory(plan.history_path)) as history:
        return history.cursors()


def history_start(plan: Plan) -> str:
    """Return why a product must not start because of its history; nothing where it may."""
    try:
        lost = what_only_history_knows(plan)
    except AwayError as error:
        return str(error)
    except (HistoryError, JournalError, OSError):
        return ""  # the exporter or the matcher says so, and what follows
    return f"{lost[0]}; `shardbook recover --accept-loss` goes on without it" if lost else ""


def what_only_history_knows(plan: Plan) -> list[str]:
    """Return a line for each shard whose journal ends before what the history has of it.

    Raises ``HistoryError``, ``JournalError`` and ``OSError``.
    """
    lines = []
    for shard, cursor in known_to_history(plan).items():
        if shard not in plan.shards:
            continue
        end = end_of_journal(plan.journal_dir(shard))
        if end < cursor.position:
            lines.append(ahead_text(cursor, end))
    return lines


def ahead_text(cursor: Cursor, end: int) -> str:
    """Say that a history is ahead of a journal that ends with command ``end``."""
    return (
        f"shard {cursor.shard}: the journal ends with command {end}, but the history has command "
        f"{cursor.position}: the end of the journal is lost"
    )


def end_of_journal(directory: Path) -> int:
    """Return the last whole command of a journal. Raises ``JournalError`` and ``OSError``."""
    segments = segments_of(directory)
    if not segments:
        return max(map(sequence_of_snapshot, snapshots_of(directory)), default=0)
    reader = JournalReader(directory, None, segments[-1].first_sequence - 1, live=True)
    for _ in reader.chunks():
        pass
    return reader.end.sequence


def trades_behind(plan: Plan, shard: int, last: int) -> Iterator[Records]:
    """Yield the trades (TRADE) that the history has behind a shard's trade ``last``, oldest first.

    Raises ``HistoryError``.
    """
    with closing(SqliteHistory(plan.history_path)) as history, history.reading() as ask:
        after, end = make_id(shard, last), make_id(shard + 1, 0)
        while rows := ask(
            "SELECT * FROM trade_rows WHERE trade_id > ? AND trade_id < ? ORDER BY trade_id "
            f"LIMIT {TRADES_AT_ONCE}",
            after,
            end,
        ):
            yield as_trades(np.array(rows, TRADE_ROW))
            after = rows[-1][0]


def go_on_without(plan: Plan, snapshot: Snapshot, known: Cursor) -> None:
    """Have a history that knows more go on with the snapshot that a shard begins anew with.

    What only it knows stays. Raises ``HistoryError``.
    """
    counters = snapshot.counters
    rows = rows_of_table(snapshot.orders)
    cursor = first_cursor(
        known.shard,
        identity(snapshot.secret),
        counters.sequence,
        (counters.order_sequence, counters.trade_sequence, snapshot.reports),
        snapshot.timestamp_ns,
        rows,
        known,
    )
    note = (
        f"commands {counters.sequence + 1} to {known.position} were lost by the journal: what came "
        f"of them is here alone; orders go on after {counters.order_sequence}"
    )
    with closing(SqliteDestination(plan.history_path)) as destination:
        destination.begin(cursor, rows, note)
