"""What the writer of an order table does to it, compiled: see ``ipc.memory.order_table`` for the
layout.

Arrays, all of them shared: ``entries`` (TABLE_ENTRY, slot 0 unused), ``cells``, ``accounts`` and
``words`` (u64). Slots 1 to ``words[USED]`` are in turn; those below ``reserved`` have memory.
``texts`` (u64) has TEXT_WORDS a slot: the text that an order's client_order_id stands for; nobody
touches it of other orders. ``known`` is what ``ipc.client_ids.KnownTexts`` has.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ipc.arrays import Records, Words
from ipc.bounds import TEXT_BIT
from ipc.client_ids import NAMED_WORDS, TEXT_WORDS
from ipc.codes import (
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_EXPIRED,
    EXEC_TYPE_NEW,
    EXEC_TYPE_REJECTED,
    EXEC_TYPE_REPLACED,
    EXEC_TYPE_TRADE,
    EXEC_TYPE_TRIGGERED,
)
from ipc.native.compiled import called, compiled, inlined
from ipc.native.kernel_atomics import fence, store_release
from ipc.native.keyed_kernel import cell_of
from ipc.native.prefetch import prefetch
from ipc.native.views import data_of
from ipc.vocabulary import ENDED

LIVE, EPOCH, USED, HAND, ENDS, KEPT, FACTOR, CELL_BITS = map(np.uint64, range(8))
"""The table's own words: how many orders live; a count that is odd while chains are made anew; the
last slot in turn; the slot given last; how many orders have ended; how many of them stay; what
cells are keyed with, and how many bits of a number choose one: see ``ipc.native.keyed``."""

LOOK_AHEAD, LOOK_CLOSER = 16, 8
"""How many reports ahead of its use a cell is asked for, and a slot."""
_TEXT_BIT = np.uint64(TEXT_BIT)
_ZERO, _ONE, _HALF = np.uint64(0), np.uint64(1), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


def _set_of(codes: Iterable[int]) -> np.uint32:
    """Return codes below 32 as a set that one instruction looks into."""
    return np.uint32(sum(1 << code for code in codes))


_ENDED = _set_of(ENDED)
_OF_ORDERS = _set_of(
    (
        EXEC_TYPE_NEW,
        EXEC_TYPE_CANCELED,
        EXEC_TYPE_REPLACED,
        EXEC_TYPE_TRADE,
        EXEC_TYPE_TRIGGERED,
        EXEC_TYPE_EXPIRED,
    )
)


@inlined
def _is_of(codes: Any, code: Any) -> bool:
    found: bool = (codes >> np.uint32(code)) & np.uint32(1) != 0
    return found


@inlined
def find(entries: Records, cells: Words, words: Words, order_id: Any) -> Any:
    """Return the slot of an order, 0 where the table does not have it."""
    slot = cells[cell_of(order_id, words[FACTOR], words[CELL_BITS])] & _LOW
    while slot != _ZERO and entries[slot]["order_id"] != order_id:
        slot = np.uint64(entries[slot]["next"])
    return slot


@inlined
def link(entries: Records, cells: Words, words: Words, slot: Any) -> None:
    """Put a slot at the head of its order's chain."""
    cell = cell_of(entries[slot]["order_id"], words[FACTOR], words[CELL_BITS])
    word = cells[cell]
    entries[slot]["next"] = word & _LOW
    store_release(cells, cell, (word & ~_LOW) | slot)


@called
def unlink(entries: Records, cells: Words, words: Words, slot: Any) -> None:
    """Take a slot out of its order's chain, and say so in the chain's version."""
    cell = cell_of(entries[slot]["order_id"], words[FACTOR], words[CELL_BITS])
    word = cells[cell]
    first = word & _LOW
    after = np.uint64(entries[slot]["next"])
    if first == slot:
        first = after
    else:
        before = first
        while entries[before]["next"] != slot:
            before = np.uint64(entries[before]["next"])
        entries[before]["next"] = after
    store_release(cells, cell, (((word >> _HALF) + _ONE) << _HALF) | first)
    fence()


@inlined
def is_ended(ord_status: Any) -> Any:
    """Return whether an order of this status is at its end."""
    return _is_of(_ENDED, ord_status)


@inlined
def take(entries: Records, cells: Words, words: Words, reserved: int) -> Any:
    """Return a slot for an order that enters, 0 where there is none with memory.

    A further slot comes into turn while fewer than a quarter more are ended than stay.
    """
    used, kept = words[USED], words[KEPT]
    ended = used - words[LIVE]
    if ended <= kept + (kept >> np.uint64(2)) and used + _ONE < np.uint64(len(entries)):
        if used + _ONE < np.uint64(reserved):
            words[USED] = used + _ONE
            return used + _ONE
        return _ZERO
    if ended == _ZERO:
        return _ZERO
    kept = min(kept, ended - _ONE)
    slot = words[HAND]
    while True:  # the order that ended first is old enough
        slot = slot + _ONE if slot < used else _ONE
        entry = entries[slot]
        if entry["order_id"] == _ZERO:
            break
        age = (words[ENDS] - np.uint64(entry["end_number"])) & _LOW
        if is_ended(entry["ord_status"]) and age > kept:
            unlink(entries, cells, words, slot)
            break
    words[HAND] = slot
    return slot


@inlined
def write(entry: Any, report: Any, entering: Any) -> None:
    """Put into an entry what a report says; what cannot change only where an order enters."""
    if entering:
        entry["order_id"] = report["order_id"]
        entry["account"] = report["account"]
        entry["client_order_id"] = report["client_order_id"]
        entry["created_ns"] = (
            report["timestamp_ns"] if report["exec_type"] == EXEC_TYPE_NEW else _ZERO
        )
        entry["symbol"] = report["symbol"]
        entry["side"] = report["side"]
        entry["order_type"] = report["order_type"]
        entry["time_in_force"] = report["time_in_force"]
        entry["flags"] = report["flags"]
        entry["stop_price"] = (
            report["last_price"] if report["exec_type"] == EXEC_TYPE_NEW else _ZERO
        )
        entry["display_quantity"] = (
            report["last_qty"] if report["exec_type"] == EXEC_TYPE_NEW else _ZERO
        )
    elif report["exec_type"] in (EXEC_TYPE_REPLACED, EXEC_TYPE_TRIGGERED):
        entry["flags"] = report["flags"]
        if report["last_price"] != _ZERO and report["reason"] == 0:
            entry["stop_price"] = report["last_price"]
        if report["last_qty"] != _ZERO and report["reason"] == 0:
            entry["display_quantity"] = report["last_qty"]
    entry["price"] = report["price"]
    entry["quantity"] = report["quantity"]
    entry["cum_qty"] = report["cum_qty"]
    entry["leaves_qty"] = report["leaves_qty"]
    entry["updated_ns"] = report["timestamp_ns"]
    entry["ord_status"] = report["ord_status"]
    entry["reason"] = report["reason"]
    if report["reason"] != 0 and not is_ended(report["ord_status"]):
        entry["reason"] = 0  # why it is what it is, of what has come to its end


@called
def known_row(known: Words, number: Any) -> int:
    """Return where the row of a number begins, -1 where it is not known."""
    low, high = 0, len(known) // NAMED_WORDS
    while low < high:
        middle = (low + high) // 2
        if known[middle * NAMED_WORDS] < number:
            low = middle + 1
        else:
            high = middle
    at = low * NAMED_WORDS
    return at if at < len(known) and known[at] == number else -1


@called
def write_text(texts: Words, slot: Any, known: Words, number: Any) -> None:
    """Keep with an order the text that its client_order_id stands for; zeros where none does."""
    row = known_row(known, number)
    first = np.int64(slot) * TEXT_WORDS
    for word in range(TEXT_WORDS):
        texts[first + word] = known[row + 1 + word] if row >= 0 else _ZERO


@called
def find_text(
    entries: Records, cells: Words, words: Words, texts: Words, known: Words, report: Any
) -> Any:
    """Return the address of the text that a report's client_order_id stands for, of TEXT_BYTES with
    zeros behind it; 0 where it is not known."""
    slot = _ZERO
    if report["exec_type"] != EXEC_TYPE_REJECTED:
        slot = find(entries, cells, words, report["order_id"])
    at, row = np.int64(slot) * TEXT_WORDS, known_row(known, report["client_order_id"])
    if slot != _ZERO and texts[at] != _ZERO:
        return data_of(texts) + np.uint64(8 * at)
    return data_of(known) + np.uint64(8 * (row + 1)) if row >= 0 else _ZERO


@inlined
def look_ahead(cells: Words, words: Words, report: Any) -> None:
    """Ask for the cell of the order of a report that will be carried out soon."""
    prefetch(cells, cell_of(report["order_id"], words[FACTOR], words[CELL_BITS]))


@inlined
def look_closer(entries: Records, cells: Words, words: Words, report: Any) -> None:
    """Ask for the slot of the order of a report that comes sooner; its cell should be there."""
    slot = cells[cell_of(report["order_id"], words[FACTOR], words[CELL_BITS])] & _LOW
    prefetch(entries, slot)
    prefetch(entries["end_number"], slot)


@inlined
def apply_report(
    entries: Records,
    cells: Words,
    accounts: Words,
    words: Words,
    reserved: int,
    texts: Words,
    known_texts: Words,
    report: Any,
) -> bool:
    """Carry one report out; return False, with nothing done, where no slot is to be had."""
    if not _is_of(_OF_ORDERS, report["exec_type"]):
        return True
    slot = find(entries, cells, words, report["order_id"])
    known = slot != _ZERO
    lived = known and not is_ended(entries[slot]["ord_status"])
    lives = not is_ended(report["ord_status"])
    if not known:
        slot = take(entries, cells, words, reserved)
        if slot == _ZERO:
            return False
    versions = entries["version"]
    version = versions[slot] | np.uint32(1)
    store_release(versions, slot, version)
    fence()
    entering = not known or report["exec_type"] == EXEC_TYPE_NEW
    write(entries[slot], report, entering)
    if entering:
        accounts[slot] = report["account"]
        if report["client_order_id"] >= _TEXT_BIT:
            write_text(texts, slot, known_texts, report["client_order_id"])
    store_release(versions, slot, version + np.uint32(1))
    if not known:
        link(entries, cells, words, slot)
    if not lives and (lived or not known):
        entries[slot]["end_number"] = words[ENDS]
        words[ENDS] += _ONE
    words[LIVE] = words[LIVE] + np.uint64(lives) - np.uint64(lived)
    return True


@compiled
def apply_reports(
    entries: Records,
    cells: Words,
    accounts: Words,
    words: Words,
    reserved: int,
    texts: Words,
    known_texts: Words,
    reports: Records,
) -> int:
    """Carry reports out in order; return how many, fewer than all where no slot is to be had."""
    for position in range(len(reports)):
        report = reports[position]
        if not apply_report(entries, cells, accounts, words, reserved, texts, known_texts, report):
            return position
    return len(reports)


@compiled
def rebuild(entries: Records, cells: Words, words: Words) -> None:
    """Make chains anew from the entries in turn, and count those that live."""
    words[EPOCH] |= _ONE
    fence()
    for cell in range(len(cells)):
        cells[cell] = ((cells[cell] >> _HALF) + _ONE) << _HALF
    live = _ZERO
    for index in range(1, len(entries)):
        slot = np.uint64(index)
        if entries[slot]["order_id"] != _ZERO:
            link(entries, cells, words, slot)
            if not is_ended(entries[slot]["ord_status"]):
                live += _ONE
    words[LIVE] = live
    fence()
    words[EPOCH] += _ONE
