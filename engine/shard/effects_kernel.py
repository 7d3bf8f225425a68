"""The compiled twins of the effects that ``engine.shard.effects`` lists, for one report each.

What each means is said there; here only how it is done in compiled code, which finds everything by
address in a CONTEXT. Two may have to stop until something grows; then the round goes on with the
report that they stopped at.
"""

from typing import Any, NamedTuple

import numpy as np

from engine.books.ladder import kernel
from engine.books.ladder.layout import FINISHED, SIDES
from engine.books.ladder.memory import open_book, state_at, symbol_at
from engine.roles import MATCHER
from engine.shard import effects
from engine.shard.account_sequences import NUMBERING, number_report
from engine.shard.effects import TWINS, Stage, effects_of
from engine.shard.summary import summarise_report
from ipc.bounds import TEXT_BIT
from ipc.client_ids import TEXT_BYTES
from ipc.links.outbox import OUTBOX
from ipc.memory import ring
from ipc.memory.depth_board_kernel import begin_page, levels_at, show_page
from ipc.memory.order_table import COMPLETED
from ipc.memory.order_table_kernel import (
    LIVE,
    LOOK_AHEAD,
    LOOK_CLOSER,
    apply_report,
    find_text,
    look_ahead,
    look_closer,
)
from ipc.memory.ring_kernel import claim, show
from ipc.memory.status import FIRST_REJECT, SLOT_WORDS, counter_place
from ipc.native.compiled import inlined
from ipc.native.kernel_atomics import store_release
from ipc.native.unaligned import copy_bytes
from ipc.native.views import array_at
from ipc.records import LEVEL, REPORT, TABLE_ENTRY, TRADE
from ipc.wire.report_encoder import MAX_FRAME, STREAM_TABLE, put_frame, stream_of

(
    DONE, MORE_ORDERS, MORE_ACCOUNTS, MORE_SLOTS, MORE_OUTBOX, MORE_TRADE_ROWS, MORE_REPORT_ROWS,
    WRONG_TRADES, NO_PROCESS, MORE_TEXTS,
) = range(10)  # fmt: skip
"""Why a round has stopped: it is through, or something must grow before it can go on; or the ids of
its trades do not follow the ring's last; or its commands have texts that are to be noted."""

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
            "numbered",  # reports that have their number though they are not shown
            "symbol_count",  # of those that reports have touched
            "small_outbox",  # the link whose outbox has to grow
            "process",  # where the book's kernel is; 0: not known yet
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
            "trade_reserved",  # the last trade whose row has memory
            "ring_words",  # of the report ring
            "ring_rows",
            "ring",
            "ring_reserved",  # the last report whose row has memory
            "entries",
            "entry_count",
            "cells",
            "cell_count",
            "accounts",
            "words",
            "word_count",
            "reserved",  # slots of the order table that have memory
            "names",  # texts of orders
            "name_words",
            "known",  # texts of orders that may enter
            "known_words",
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
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_TEXT_BIT = np.uint64(TEXT_BIT)
PLACES = tuple(
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
"""Of the counters that are written here."""
(
    _COMMANDS, _ORDER_SEQUENCE, _TRADE_SEQUENCE, _RESTING_ORDERS, _KEPT_IDS, _DISPLACED_IDS,
    _REPORTS, _TRADES,
) = PLACES  # fmt: skip
_REASONS = SLOT_WORDS - FIRST_REJECT


class Views(NamedTuple):
    """What a CONTEXT names, and does not change while reports are shown; what does, is in there."""

    context: Any
    reports: Any
    report_bytes: Any
    numbering: Any
    base: Any
    factor: Any
    most_known: Any
    """How many accounts find a place before there must be more."""
    numbered: Any
    numbered_accounts: Any
    sequences: Any
    entries: Any
    cells: Any
    accounts: Any
    words: Any
    reserved: Any
    names: Any
    known: Any
    rows: Any
    row_mask: Any
    row: Any
    """Where in the ring, but for its size, report 0 would be."""
    seen: Any
    symbols: Any
    rejects: Any
    links: Any
    texts: Any
    lengths: Any


@inlined
def views_of(context: Any, stop: Any, row: Any) -> Any:
    c = context[0]
    numbering = array_at(c.numbering, 1, NUMBERING)
    n = numbering[0]
    return Views(
        context,
        array_at(c.reports, stop, REPORT),
        array_at(c.reports, stop * _ROW, np.uint8),
        numbering,
        n.base,
        n.factor,
        np.int64(n.slots // np.uint64(2)),
        np.int64(c.numbered),
        array_at(n.accounts, np.int64(n.slots), np.uint64),
        array_at(n.sequences, np.int64(n.slots), np.uint64),
        array_at(c.entries, np.int64(c.entry_count), TABLE_ENTRY),
        array_at(c.cells, np.int64(c.cell_count), np.uint64),
        array_at(c.accounts, np.int64(c.entry_count), np.uint64),
        array_at(c.words, np.int64(c.word_count), np.uint64),
        np.int64(c.reserved),
        array_at(c.names, np.int64(c.name_words), np.uint64),
        array_at(c.known, np.int64(c.known_words), np.uint64),
        array_at(c.ring_rows, np.int64(c.ring) * _ROW, np.uint8),
        c.ring - _ONE,
        row,
        array_at(c.seen, np.int64(c.symbol_limit), np.int64),
        array_at(c.symbols, np.int64(c.symbol_capacity), np.int64),
        array_at(c.status + np.uint64(8 * FIRST_REJECT), _REASONS, np.uint64),
        array_at(c.links, np.int64(c.link_count), LINK),
        array_at(c.texts, np.int64(c.text_bytes), np.uint8),
        array_at(c.lengths, np.int64(c.reasons), np.int64),
    )


# For all trades ----------------------------------------------------------------------------------


@inlined
def publish_trades(c: Any, timestamp_ns: Any) -> int:
    """Return WRONG_TRADES, with nothing done, where their ids do not follow the ring's last."""
    count: Any = np.int64(c.trade_count)
    words = array_at(c.trade_words, ring.FIRST_READER, np.uint64)
    trades = array_at(c.trades, count, TRADE)
    if trades[count - 1].trade_id != c.trade_base + words[ring.PUBLISHED] + c.trade_count:
        return WRONG_TRADES
    rows = array_at(c.trade_rows, np.int64(c.trade_ring) * _TRADE_ROW, np.uint8)
    trade_bytes = array_at(c.trades, count * _TRADE_ROW, np.uint8)
    start = np.int64((claim(words, count) + _ONE) & (c.trade_ring - _ONE))
    head = min(count, np.int64(c.trade_ring) - start)
    copy_bytes(rows, start * _TRADE_ROW, trade_bytes, 0, head * _TRADE_ROW)
    copy_bytes(rows, 0, trade_bytes, head * _TRADE_ROW, (count - head) * _TRADE_ROW)
    show(words, count)
    return DONE


# For each report ---------------------------------------------------------------------------------


@inlined
def number(v: Views, index: Any) -> int:
    """Return MORE_ACCOUNTS where its account finds no place; not again where the next stopped."""
    if index < v.numbered:
        return DONE
    n = v.numbering[0]
    room: Any = v.most_known - np.int64(n.known)
    new = number_report(v.reports[index], v.base, v.factor, v.numbered_accounts, v.sequences, room)
    if new < 0:
        return MORE_ACCOUNTS
    if new > 0:
        n.known += np.uint64(new)
    return DONE


@inlined
def enter_orders(v: Views, index: Any) -> int:
    """Return MORE_SLOTS where its order finds no place."""
    table = (v.entries, v.cells, v.accounts, v.words, v.reserved, v.names, v.known)
    if apply_report(*table, v.reports[index]):
        return DONE
    v.context[0].numbered = np.uint64(index + 1)
    return MORE_SLOTS


@inlined
def publish_reports(v: Views, index: Any) -> int:
    row = np.int64((v.row + np.uint64(index)) & v.row_mask)
    copy_bytes(v.rows, row * _ROW, v.report_bytes, index * _ROW, _ROW)
    return DONE


@inlined
def summarise(v: Views, index: Any) -> int:
    c = v.context[0]
    known: Any = np.int64(c.symbol_count)
    found = summarise_report(v.reports[index], v.seen, v.symbols, v.rejects, known)
    if found != known:
        c.symbol_count = np.uint64(found)
    return DONE


@inlined
def send(v: Views, index: Any) -> int:
    report = v.reports[index]
    at = _ZERO
    if report.client_order_id >= _TEXT_BIT:
        at = find_text(v.entries, v.cells, v.words, v.names, v.known, report)
    name = array_at(at, TEXT_BYTES if at != _ZERO else 0, np.uint8)
    for place in range(len(v.links)):
        known = array_at(v.links[place].streams, 1, STREAM_TABLE)[0]
        keys = array_at(known.keys, np.int64(known.slots), np.uint64)
        streams = array_at(known.streams, np.int64(known.slots), np.uint64)
        stream = stream_of(report.account, known.factor, keys, streams)
        if stream != _ZERO:
            box = array_at(v.links[place].outbox, 1, OUTBOX)[0]
            out = array_at(box.address, np.int64(box.size), np.uint8)
            end: Any = np.int64(box.end)
            box.end = np.uint64(put_frame(out, end, report, stream, v.texts, v.lengths, name))
    return DONE


# Once all reports are through --------------------------------------------------------------------


@inlined
def show_depth(c: Any, timestamp_ns: Any) -> int:
    sequence = np.uint64(state_at(c.book).sequence)
    book = open_book(c.book, True, True)
    symbols = array_at(c.symbols, np.int64(c.symbol_capacity), np.int64)
    seen = array_at(c.seen, np.int64(c.symbol_limit), np.int64)
    slots = array_at(c.slots, np.int64(c.symbol_limit), np.uint64)
    levels = np.int64(c.levels)
    for place in range(np.int64(c.symbol_count)):
        symbol = symbols[place]
        seen[symbol] = 0
        side = (np.int64(symbol_at(book, symbol).instrument) - 1) * SIDES
        page = begin_page(slots[symbol], c.page_bytes)
        best_bids = array_at(levels_at(page, 0, c.levels), levels, LEVEL)
        best_asks = array_at(levels_at(page, 1, c.levels), levels, LEVEL)
        bids = kernel.fill_levels(book, side, best_bids)
        asks = kernel.fill_levels(book, side + 1, best_asks)
        show_page(slots[symbol], page, sequence, np.uint64(timestamp_ns), bids, asks)
    return DONE


@inlined
def count(c: Any, timestamp_ns: Any) -> int:
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
    return DONE


# The list ----------------------------------------------------------------------------------------

TWINS.update(
    {
        effects.publish_trades: publish_trades,
        effects.number: number,
        effects.enter_orders: enter_orders,
        effects.publish_reports: publish_reports,
        effects.summarise: summarise,
        effects.send: send,
        effects.show_depth: show_depth,
        effects.count: count,
    }
)


def _one_after_the_other(twins: list[Any]) -> Any:
    """Return a function that does all of them, up to one that stops; compiled into its caller."""
    first = twins[0]
    if len(twins) == 1:
        return first
    others = _one_after_the_other(twins[1:])

    @inlined
    def do(what: Any, which: Any) -> int:
        why: int = first(what, which)
        if why != DONE:
            return why
        result: int = others(what, which)
        return result

    return do


def _of(stage: Stage) -> Any:
    """Return the effects of a stage, in the order of the list.

    Raises TypeError where an effect has no compiled twin.
    """
    listed = effects_of(stage)
    for effect in listed:
        if effect not in TWINS:
            raise TypeError(f"{effect.__module__}.{effect.__name__} has no compiled twin")
    return _one_after_the_other([TWINS[effect] for effect in listed])


carry_out_trades, _carry_out_report, carry_out_round = map(
    _of, (Stage.TRADES, Stage.REPORT, Stage.ROUND)
)


@inlined
def show_reports(context: Any, stop: Any, row: Any) -> int:
    """Show reports up to ``stop``; ``row`` of the ring is where report 0 would be.

    Returns DONE, or why it has stopped before ``c.shown``.
    """
    c, v = context[0], views_of(context, stop, row)
    index: Any = np.int64(c.shown)
    why: int = DONE
    while index < stop:
        if index + LOOK_AHEAD < stop:
            look_ahead(v.cells, v.words, v.reports[index + LOOK_AHEAD])
            look_closer(v.entries, v.cells, v.words, v.reports[index + LOOK_CLOSER])
        why = _carry_out_report(v, index)
        if why != DONE:
            break
        index += 1
    c.shown = np.uint64(index)
    return why


@inlined
def lacks_rows(words_address: Any, count: Any, reserved: Any) -> bool:
    """Return whether rows of a ring for so many records have no memory yet."""
    words = array_at(words_address, ring.FIRST_READER, np.uint64)
    lacks: bool = words[ring.PUBLISHED] + count > reserved
    return lacks


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
def show_all_reports(context: Any) -> int:
    """Show all reports, a ring at a time; return DONE, or why it has stopped before the end."""
    c = context[0]
    words = array_at(c.ring_words, ring.FIRST_READER, np.uint64)
    while c.shown < c.report_count:
        begin = c.shown // c.ring * c.ring
        stop = min(c.report_count, begin + c.ring)
        last = claim(words, np.int64(stop - begin))
        why: int = show_reports(context, np.int64(stop), last + _ONE - begin)
        if why != DONE:
            return why
        show(words, np.int64(stop - begin))
    return DONE
