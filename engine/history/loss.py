"""Where a history knows more than a journal: a loss of power took the journal's end, not the rows.

A start is refused then, as it is where the trade log knows more, for it would give ids again that
the history has. ``shardbook recover --accept-loss`` sets the shard's numbers beyond them, and has
the history go on from where the journal begins anew.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from engine.books.contract import Records
from engine.books.secret import identity
from engine.history.destination import AwayError, Cursor, HistoryError
from engine.history.kept import DEFAULT_TIMEOUT_S, HISTORIES, SQLITE, Kept, kept_by
from engine.history.past import first_cursor, rows_of_table, texts_by_number
from engine.history.rows import as_trades
from engine.journal.format import JournalError
from engine.journal.reader import JournalReader, read_header, segments_of
from engine.journal.snapshot import (
    Snapshot,
    read_snapshot,
    sequence_of_snapshot,
    snapshots_of,
)
from engine.plan import Plan
from engine.shard.holds import held_positions


class Known(NamedTuple):
    """How far one history goes with one shard."""

    kept: Kept
    cursor: Cursor


def known_to_histories(plan: Plan) -> dict[int, list[Known]]:
    """Return how far the histories of a data directory go, by shard.

    Raises ``HistoryError``.
    """
    found: dict[int, list[Known]] = {}
    for kept in HISTORIES:
        if kept.there(plan):
            for shard, cursor in _cursors(plan, kept).items():
                found.setdefault(shard, []).append(Known(kept, cursor))
    return found


def _cursors(plan: Plan, kept: Kept) -> dict[int, Cursor]:
    """Return how far a history goes with the shards of this data directory."""
    with closing(kept.reader(plan, DEFAULT_TIMEOUT_S)) as history:
        found = history.reached() if history.begun() else {}
    return {shard: cursor for shard, cursor in found.items() if _is_of(plan, cursor)}


def _is_of(plan: Plan, cursor: Cursor) -> bool:
    """Return whether a cursor may be of this data directory; exporters refuse others."""
    directory = plan.journal_dir(cursor.shard)
    try:
        secrets = [read_header(segment.path).secret for segment in segments_of(directory)[:1]]
        if not secrets:
            secrets = [read_snapshot(path).secret for path in snapshots_of(directory)[:1]]
    except (JournalError, OSError):
        return True  # whoever reads it next says so
    return not secrets or cursor.identity == identity(secrets[0])


def history_start(plan: Plan) -> str:
    """Return why a product must not start because of its histories; nothing where it may.

    A server that is away is no reason: what is known of it here, up to where it holds the journal,
    is what counts then.
    """
    for kept in kept_by(plan):
        try:
            if not kept.there(plan):
                continue
            try:
                known = {shard: c.position for shard, c in _cursors(plan, kept).items()}
            except AwayError as error:
                if kept is SQLITE:
                    return str(error)
                known = {
                    shard: held_positions(plan.journal_dir(shard)).get(kept.hold, 0)
                    for shard in plan.shards
                }
            for shard in sorted(known.keys() & set(plan.shards)):
                end = end_of_journal(plan.journal_dir(shard))
                if end < known[shard]:
                    return (
                        f"{ahead_text(shard, known[shard], end)}; `shardbook recover "
                        "--accept-loss` goes on without it"
                    )
        except (HistoryError, JournalError, OSError):
            continue  # the exporter or the matcher says so, and what follows
    return ""


def ahead_text(shard: int, position: int, end: int) -> str:
    """Say that a history is ahead of a journal that ends with command ``end``."""
    return (
        f"shard {shard}: the journal ends with command {end}, but the history has command "
        f"{position}: the end of the journal is lost"
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


def trades_behind(plan: Plan, kept: Kept, shard: int, last: int) -> Iterator[Records]:
    """Yield the trades (TRADE) that a history has behind a shard's trade ``last``, oldest first.

    Raises ``HistoryError``.
    """
    with closing(kept.reader(plan, DEFAULT_TIMEOUT_S)) as history:
        for rows in history.trades_after(shard, last):
            yield as_trades(rows)


def go_on_without(plan: Plan, snapshot: Snapshot, kept: Kept, known: Cursor) -> None:
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
    with closing(kept.destination(plan)) as destination:
        texts = texts_by_number(snapshot.orders, snapshot.texts)
        destination.begin(cursor, rows, note, texts)
