"""One round in one compiled call: match a batch, and show readers and clients what came of it.

What each step means is said where it is defined; here only their order. Trades go into the ring
first. Every report gets its number before anything is made of it, and the order table shows it
before its frame can leave. When all are through, the depth of what they touched is shown, then the
counters, and at last up to which command everything is complete.
"""

from pathlib import Path
from typing import Any

import numpy as np

from engine.books.ladder import kernel
from engine.books.ladder.layout import FINISHED, GROW
from engine.books.ladder.memory import entry, open_book, state_at, symbol_at
from engine.roles import MATCHER
from engine.shard import account_sequences, summary
from engine.shard.account_sequences import NUMBERING, number_report
from engine.shard.summary import summarise_report
from ipc.links import outbox
from ipc.links.outbox import OUTBOX
from ipc.memory import (
    depth_board,
    depth_board_kernel,
    order_table,
    order_table_kernel,
    ring,
    ring_kernel,
    status,
)
from ipc.memory.depth_board_kernel import begin_page, levels_at, show_page
from ipc.memory.order_table import COMPLETED
from ipc.memory.order_table_kernel import (
    LIVE,
    LOOK_AHEAD,
    LOOK_CLOSER,
    apply_report,
    look_ahead,
    look_closer,
)
from ipc.memory.ring_kernel import claim, free_rows, show
from ipc.memory.status import FIRST_REJECT, SLOT_WORDS, counter_place
from ipc.native.compiled import SOURCES, digest_of, inlined
from ipc.native.kernel_atomics import store_release
from ipc.native.unaligned import copy_bytes
from ipc.native.views import array_at
from ipc.records import LEVEL, REPORT, TABLE_ENTRY, TRADE, make_id
from ipc.wire.report_encoder import MAX_FRAME, STREAM_TABLE, put_frame, stream_of

DONE, MORE_ORDERS, MORE_ACCOUNTS, MORE_SLOTS, MORE_OUTBOX, WRONG_TRADES = range(6)
"""Why a round has stopped: it is through, or something must grow before it can go on; or the ids of
its trades do not follow the ring's last."""

MATCH, SHOW = 0, 1
"""Where a round begins, or goes on."""

CONTEXT = np.dtype(
    [
        (name, "<u8")
        for name in (
            "stage",
            "resume",  # 1: matching goes on in the midst of a batch
            "finished",  # commands of the batch that this round has matched to their end
            "report_count",
            "trade_count",
            "shown",  # reports that are
            "numbered",  # reports that have their number
            "symbol_count",  # of those that reports have touched
            "small_outbox",  # the link whose outbox has to grow
            "book",
            "reports",  # REPORT records
            "report_capacity",
            "trades",
            "trade_capacity",
            "trade_words",
            "trade_rows",
            "trade_ring",  # how many rows
            "trade_readers",
            "trade_base",  # the shard's id of 0
            "ring_words",  # of the report ring
            "ring_rows",
            "ring",
            "entries",
            "entry_count",
            "cells",
            "cell_count",
            "accounts",
            "words",
            "word_count",
            "reserved",  # slots of the order table that have memory
            "numbering",
            "seen",
            "symbol_limit",  # symbols are below it
            "symbols",
            "symbol_capacity",
            "slots",  # of the depth board, by symbol
            "page_bytes",
            "levels",
            "status",
            "texts",
            "text_bytes",
            "reasons",
            "lengths",
            "links",  # LINK records
            "link_count",
        )
    ]
)
"""Where everything is, by address, and how far the round has come."""

LINK = np.dtype([("streams", "<u8"), ("outbox", "<u8")])
"""A connection: its STREAM_TABLE, which says whose reports it wants, and its OUTBOX."""

_ROW = REPORT.itemsize
_TRADE_ROW = TRADE.itemsize
_TRADE_ID_BITS = np.uint64(make_id(1, 0) - 1)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_PLACES = tuple(
    counter_place(MATCHER, name)
    for name in (
        "commands",
        "order_sequence",
        "trade_sequence",
        "resting_orders",
        "kept_ids",
        "displaced_ids",
        "reports",
        "trades",
    )
)
(
    _COMMANDS, _ORDER_SEQUENCE, _TRADE_SEQUENCE, _RESTING_ORDERS, _KEPT_IDS, _DISPLACED_IDS,
    _REPORTS, _TRADES,
) = _PLACES  # fmt: skip
_REASONS = SLOT_WORDS - FIRST_REJECT


@inlined
def show_trades(c: Any) -> bool:
    """Put the trades into the ring; False, and nothing is done, where their ids do not follow."""
    count: Any = np.int64(c.trade_count)
    words = array_at(c.trade_words, ring.FIRST_READER, np.uint64)
    trades = array_at(c.trades, count, TRADE)
    if trades[count - 1].trade_id != c.trade_base + words[ring.PUBLISHED] + c.trade_count:
        return False
    rows = array_at(c.trade_rows, np.int64(c.trade_ring) * _TRADE_ROW, np.uint8)
    trade_bytes = array_at(c.trades, count * _TRADE_ROW, np.uint8)
    start = np.int64((claim(words, count) + _ONE) & (c.trade_ring - _ONE))
    head = min(count, np.int64(c.trade_ring) - start)
    copy_bytes(rows, start * _TRADE_ROW, trade_bytes, 0, head * _TRADE_ROW)
    copy_bytes(rows, 0, trade_bytes, head * _TRADE_ROW, (count - head) * _TRADE_ROW)
    show(words, count)
    return True


@inlined
def outbox_without_room(c: Any) -> int:
    """Return the first link whose outbox has no room for frames of all reports, or -1."""
    links = array_at(c.links, np.int64(c.link_count), LINK)
    need = c.report_count * np.uint64(MAX_FRAME)
    for place in range(len(links)):
        room = array_at(links[place].outbox, 1, OUTBOX)[0]
        if room.end + need > room.size:
            return place
    return -1


@inlined
def send_report(c: Any, report: Any, texts: Any, lengths: Any) -> None:
    """Put a report's frame into the outbox of each link that has opened its account."""
    links = array_at(c.links, np.int64(c.link_count), LINK)
    for place in range(len(links)):
        known = array_at(links[place].streams, 1, STREAM_TABLE)[0]
        keys = array_at(known.keys, np.int64(known.slots), np.uint64)
        streams = array_at(known.streams, np.int64(known.slots), np.uint64)
        stream = stream_of(report.account, known.factor, keys, streams)
        if stream != _ZERO:
            box = array_at(links[place].outbox, 1, OUTBOX)[0]
            out = array_at(box.address, np.int64(box.size), np.uint8)
            end: Any = np.int64(box.end)
            box.end = np.uint64(put_frame(out, end, report, stream, texts, lengths))


@inlined
def show_reports(c: Any, stop: Any, row: Any) -> int:
    """Show reports up to ``stop``; ``row`` of the ring gets the first that is not shown yet.

    Returns DONE, or why it has stopped before ``c.shown``.
    """
    reports = array_at(c.reports, stop, REPORT)
    report_bytes = array_at(c.reports, stop * _ROW, np.uint8)
    entries = array_at(c.entries, np.int64(c.entry_count), TABLE_ENTRY)
    cells = array_at(c.cells, np.int64(c.cell_count), np.uint64)
    accounts = array_at(c.accounts, np.int64(c.entry_count), np.uint64)
    words = array_at(c.words, np.int64(c.word_count), np.uint64)
    rows = array_at(c.ring_rows, np.int64(c.ring) * _ROW, np.uint8)
    mask = c.ring - _ONE
    n = array_at(c.numbering, 1, NUMBERING)[0]
    numbered_accounts = array_at(n.accounts, np.int64(n.slots), np.uint64)
    sequences = array_at(n.sequences, np.int64(n.slots), np.uint64)
    seen = array_at(c.seen, np.int64(c.symbol_limit), np.int64)
    symbols = array_at(c.symbols, np.int64(c.symbol_capacity), np.int64)
    rejects = array_at(c.status + np.uint64(8 * FIRST_REJECT), _REASONS, np.uint64)
    texts = array_at(c.texts, np.int64(c.text_bytes), np.uint8)
    lengths = array_at(c.lengths, np.int64(c.reasons), np.int64)
    reserved: Any = np.int64(c.reserved)
    room: Any = np.int64(n.slots // np.uint64(2)) - np.int64(n.known)
    symbol_count: Any = np.int64(c.symbol_count)
    numbered: Any = np.int64(c.numbered)
    index: Any = np.int64(c.shown)
    why = DONE
    while index < stop:
        report = reports[index]
        if index + LOOK_AHEAD < stop:
            look_ahead(cells, words, reports[index + LOOK_AHEAD])
            look_closer(entries, cells, words, reports[index + LOOK_CLOSER])
        if index >= numbered:
            new = number_report(report, n.base, n.factor, numbered_accounts, sequences, room)
            if new < 0:
                why = MORE_ACCOUNTS
                break
            room -= new
            numbered = index + 1
        if not apply_report(entries, cells, accounts, words, reserved, report):
            why = MORE_SLOTS
            break
        copy_bytes(rows, np.int64(row & mask) * _ROW, report_bytes, index * _ROW, _ROW)
        row += _ONE
        symbol_count = summarise_report(report, seen, symbols, rejects, symbol_count)
        send_report(c, report, texts, lengths)
        index += 1
    n.known = np.uint64(np.int64(n.slots // np.uint64(2)) - room)
    c.numbered = np.uint64(numbered)
    c.symbol_count = np.uint64(symbol_count)
    c.shown = np.uint64(index)
    return why


@inlined
def show_all_reports(c: Any) -> int:
    """Show all reports, a ring at a time; return DONE, or why it has stopped before the end."""
    words = array_at(c.ring_words, ring.FIRST_READER, np.uint64)
    while c.shown < c.report_count:
        begin = c.shown // c.ring * c.ring
        stop = min(c.report_count, begin + c.ring)
        last = claim(words, np.int64(stop - begin))
        why = show_reports(c, np.int64(stop), last + _ONE + c.shown - begin)
        if why != DONE:
            return why
        show(words, np.int64(stop - begin))
    return DONE


@inlined
def show_depths(c: Any, sequence: Any, timestamp_ns: Any) -> None:
    """Show the best levels of every symbol that was touched."""
    book = open_book(c.book, True, True)
    symbols = array_at(c.symbols, np.int64(c.symbol_capacity), np.int64)
    seen = array_at(c.seen, np.int64(c.symbol_limit), np.int64)
    slots = array_at(c.slots, np.int64(c.symbol_limit), np.uint64)
    levels = np.int64(c.levels)
    for place in range(np.int64(c.symbol_count)):
        symbol = symbols[place]
        seen[symbol] = 0
        side = (np.int64(symbol_at(book, symbol).instrument) - 1) * 2
        page = begin_page(slots[symbol], c.page_bytes)
        best_bids = array_at(levels_at(page, 0, c.levels), levels, LEVEL)
        best_asks = array_at(levels_at(page, 1, c.levels), levels, LEVEL)
        bids = kernel.fill_levels(book, side, best_bids)
        asks = kernel.fill_levels(book, side + 1, best_asks)
        show_page(slots[symbol], page, sequence, timestamp_ns, bids, asks)


@inlined
def show_counters(c: Any) -> None:
    """Count, and say up to which command everything is shown."""
    state = state_at(c.book)
    words = array_at(c.words, np.int64(c.word_count), np.uint64)
    status_words = array_at(c.status, SLOT_WORDS, np.uint64)
    status_words[_COMMANDS] = np.uint64(state.sequence)
    status_words[_ORDER_SEQUENCE] = np.uint64(state.order_sequence)
    status_words[_TRADE_SEQUENCE] = np.uint64(state.trade_sequence)
    status_words[_RESTING_ORDERS] = words[LIVE]
    status_words[_KEPT_IDS] = np.uint64(state.kept_count)
    status_words[_DISPLACED_IDS] = np.uint64(state.displaced_ids)
    status_words[_REPORTS] += c.report_count
    status_words[_TRADES] += c.trade_count
    n = array_at(c.numbering, 1, NUMBERING)[0]
    n.reports += c.report_count
    begun = 0 if state.unfinished == FINISHED else 1
    store_release(words, np.uint64(COMPLETED), np.uint64(state.sequence - begun))


def make_pipeline(source: int) -> Any:
    """Return the round (context's address, commands, time) -> DONE or why it has stopped.

    ``source`` is a number that changes with any source it is made of: numba keeps its machine code
    by its closure too.
    """

    def run_pipeline(address: int, commands: Any, timestamp_ns: int) -> int:
        c = array_at(np.uint64(address), 1, CONTEXT)[0]
        if source == 0:
            return DONE
        if c.stage == np.uint64(MATCH):
            trade_words = array_at(c.trade_words, 1 << 20, np.uint64)
            if c.resume == _ZERO:
                free = free_rows(trade_words, np.int64(c.trade_ring), np.int64(c.trade_readers))
                c.trade_count = np.uint64(min(free, np.int64(c.trade_capacity)))
            why, finished, reports, trades = kernel.process(
                np.int64(c.book),
                commands,
                array_at(c.reports, np.int64(c.report_capacity), REPORT),
                array_at(c.trades, np.int64(c.trade_count), TRADE),
                np.int64(c.resume),
            )
            if why == GROW:
                c.resume = _ONE
                return MORE_ORDERS
            c.resume = _ZERO
            c.finished = np.uint64(finished)
            c.report_count = np.uint64(reports)
            c.trade_count = np.uint64(trades)
            c.shown = _ZERO
            c.numbered = _ZERO
            c.symbol_count = _ZERO
            if trades > 0 and not show_trades(c):
                return WRONG_TRADES
            c.stage = np.uint64(SHOW)
        if c.shown == _ZERO:
            small = outbox_without_room(c)
            if small >= 0:
                c.small_outbox = np.uint64(small)
                return MORE_OUTBOX
        why_shown = show_all_reports(c)
        if why_shown != DONE:
            return why_shown
        show_depths(c, np.uint64(state_at(c.book).sequence), np.uint64(timestamp_ns))
        show_counters(c)
        c.stage = np.uint64(MATCH)
        return DONE

    return entry(run_pipeline)


_MODULES = (
    account_sequences, depth_board, depth_board_kernel, order_table, order_table_kernel, outbox,
    ring, ring_kernel, status, summary,
)  # fmt: skip
_FILES = [Path(module.__file__ or "") for module in _MODULES]
_NUMBERS = hash(_PLACES) & (1 << 56) - 1  # of the role table, which has much else in it
run_pipeline = make_pipeline(digest_of(_FILES) ^ SOURCES ^ kernel.SOURCE ^ _NUMBERS)
