"""The one pass over a batch's reports: number, order table, report ring, summary, frames.

What each of them means is said where it is defined; here only their order for one report: it gets
its number before anything is made of it, and the table shows it before its frames can leave.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from engine import account_sequences, summary
from engine.account_sequences import number_report
from engine.summary import summarise_report
from ipc import records, report_encoder, table_kernel, vocabulary
from ipc.compiled import compiled
from ipc.records import REPORT, TABLE_ENTRY
from ipc.report_encoder import put_frame, stream_of
from ipc.table_kernel import LOOK_AHEAD, LOOK_CLOSER, apply_report, look_ahead, look_closer
from ipc.unaligned import copy_bytes
from ipc.views import array_at

DONE, MORE_ACCOUNTS, MORE_SLOTS = range(3)
"""Why the pass has ended: it is through, or something must grow before it can go on."""

CONTEXT = np.dtype(
    [
        (name, "<u8")
        for name in (
            "reports",  # REPORT records
            "entries",
            "entry_count",
            "cells",
            "cell_count",
            "accounts",
            "words",
            "word_count",
            "reserved",  # slots of the order table that have memory
            "ring",  # the rows of the report ring
            "ring_mask",
            "numbers_base",
            "numbered_accounts",
            "sequences",
            "number_slots",
            "room",  # further accounts that the numbering has room for
            "numbered",  # reports of this batch that have their number
            "seen",
            "seen_count",
            "symbols",
            "symbol_capacity",
            "rejects",
            "reject_count",
            "symbol_count",  # of this batch, so far
            "texts",
            "text_bytes",
            "reasons",
            "lengths",
            "links",  # LINK records
            "link_count",
        )
    ]
)
"""Where everything is, by address, and how far the pass has come."""

LINK = np.dtype([(name, "<u8") for name in ("keys", "streams", "slots", "out", "end")])
"""A connection: which accounts it wants, and where its frames go."""


def _source_digest() -> int:
    """Return a number that changes with any source file that the machine code is made of."""
    modules = (account_sequences, summary, records, report_encoder, table_kernel, vocabulary)
    digest = hashlib.blake2b(digest_size=7)
    for module in modules:
        digest.update(Path(module.__file__ or "").read_bytes())
    return int.from_bytes(digest.digest(), "little")


SOURCE = _source_digest()
_ROW = REPORT.itemsize


@compiled
def publish_reports(context: Any, start: int, stop: int, first_row: int) -> tuple[int, int]:
    """Show reports ``start`` to ``stop`` of a batch; row ``first_row`` of the ring gets the first.

    Returns why it ended, and the first report that is not shown yet: call again from there.
    """
    c = context[0]
    if SOURCE == 0:
        return DONE, start
    reports = array_at(c.reports, stop, REPORT)
    report_bytes = array_at(c.reports, stop * _ROW, np.uint8)
    entries = array_at(c.entries, c.entry_count, TABLE_ENTRY)
    cells = array_at(c.cells, c.cell_count, np.uint64)
    accounts = array_at(c.accounts, c.entry_count, np.uint64)
    words = array_at(c.words, c.word_count, np.uint64)
    ring = array_at(c.ring, (c.ring_mask + np.uint64(1)) * np.uint64(_ROW), np.uint8)
    ring_mask: Any = np.int64(c.ring_mask)
    numbered_accounts = array_at(c.numbered_accounts, c.number_slots, np.uint64)
    sequences = array_at(c.sequences, c.number_slots, np.uint64)
    seen = array_at(c.seen, c.seen_count, np.int64)
    symbols = array_at(c.symbols, c.symbol_capacity, np.int64)
    rejects = array_at(c.rejects, c.reject_count, np.int64)
    texts = array_at(c.texts, c.text_bytes, np.uint8)
    lengths = array_at(c.lengths, c.reasons, np.int64)
    links = array_at(c.links, c.link_count, LINK)
    reserved: Any = np.int64(c.reserved)
    room: Any = np.int64(c.room)
    symbol_count: Any = np.int64(c.symbol_count)
    status, index = DONE, start
    while index < stop:
        report = reports[index]
        if index + LOOK_AHEAD < stop:
            look_ahead(cells, reports[index + LOOK_AHEAD])
            look_closer(entries, cells, reports[index + LOOK_CLOSER])
        if index >= np.int64(c.numbered):
            new = number_report(report, c.numbers_base, numbered_accounts, sequences, room)
            if new < 0:
                status = MORE_ACCOUNTS
                break
            room -= new
            c.numbered = np.uint64(index + 1)
        if not apply_report(entries, cells, accounts, words, reserved, report):
            status = MORE_SLOTS
            break
        row = (first_row + index - start) & ring_mask
        copy_bytes(ring, row * _ROW, report_bytes, index * _ROW, _ROW)
        symbol_count = summarise_report(report, seen, symbols, rejects, symbol_count)
        for place in range(len(links)):
            link = links[place]
            keys = array_at(link.keys, link.slots, np.uint64)
            streams = array_at(link.streams, link.slots, np.uint64)
            stream = stream_of(report.account, keys, streams)
            if stream != np.uint64(0):
                out = array_at(link.out, 1 << 40, np.uint8)
                end: Any = np.int64(link.end)
                link.end = np.uint64(put_frame(out, end, report, stream, texts, lengths))
        index += 1
    c.room = np.uint64(room)
    c.symbol_count = np.uint64(symbol_count)
    return status, index
