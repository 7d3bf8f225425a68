"""What the writer of an order table does to it, compiled: see ``ipc.table`` for the layout.

Arrays: ``entries`` (TABLE_ENTRY, slot 0 unused), ``cells`` and ``accounts`` (u64), which readers
see, and the writer's own ``queue`` (u32, slots by 2): the slots that may be given away, as a
doubly linked list of (before, after) through slot 0, the next one to be given away first.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ipc.compiled import compiled
from ipc.kernel_atomics import fence, store_release
from ipc.vocabulary import ExecType, OrdStatus

Records = npt.NDArray[np.void]
Words = npt.NDArray[np.uint64]
Slots = npt.NDArray[np.uint32]

BEFORE, AFTER = np.uint64(0), np.uint64(1)
LIVE, EPOCH = np.uint64(0), np.uint64(1)
"""The table's own words: how many orders live; a count that is odd while chains are made anew."""

_NEW, _CANCELED = int(ExecType.NEW), int(ExecType.CANCELED)
_REPLACED, _TRADE = int(ExecType.REPLACED), int(ExecType.TRADE)
_STATUS_FILLED, _STATUS_CANCELED = int(OrdStatus.FILLED), int(OrdStatus.CANCELED)
_ZERO, _ONE, _HALF = np.uint64(0), np.uint64(1), np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@compiled
def find(entries: Records, cells: Words, order_id: Any) -> Any:
    """Return the slot of an order, 0 where the table does not have it."""
    slot = cells[order_id & np.uint64(len(cells) - 1)] & _LOW
    while slot != _ZERO and entries[slot]["order_id"] != order_id:
        slot = np.uint64(entries[slot]["next"])
    return slot


@compiled
def link(entries: Records, cells: Words, slot: Any) -> None:
    """Put a slot at the head of its order's chain."""
    cell = entries[slot]["order_id"] & np.uint64(len(cells) - 1)
    word = cells[cell]
    entries[slot]["next"] = word & _LOW
    store_release(cells, cell, (word & ~_LOW) | slot)


@compiled
def unlink(entries: Records, cells: Words, slot: Any) -> None:
    """Take a slot out of its order's chain, and say so in the chain's version."""
    cell = entries[slot]["order_id"] & np.uint64(len(cells) - 1)
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


@compiled
def append(queue: Slots, slot: Any) -> None:
    """Put a slot at the end of the queue."""
    last = np.uint64(queue[_ZERO, BEFORE])
    queue[last, AFTER] = slot
    queue[slot, BEFORE], queue[slot, AFTER] = last, _ZERO
    queue[_ZERO, BEFORE] = slot


@compiled
def withdraw(queue: Slots, slot: Any) -> None:
    """Take a slot out of the queue."""
    before, after = np.uint64(queue[slot, BEFORE]), np.uint64(queue[slot, AFTER])
    queue[before, AFTER], queue[after, BEFORE] = after, before


@compiled
def is_ended(ord_status: Any) -> Any:
    """Return whether an order of this status is at its end."""
    return ord_status in (_STATUS_FILLED, _STATUS_CANCELED)


@compiled
def write(entry: Any, report: Any, entering: Any) -> None:
    """Put into an entry what a report says; what cannot change only where an order enters."""
    if entering:
        entry["order_id"] = report["order_id"]
        entry["account"] = report["account"]
        entry["client_order_id"] = report["client_order_id"]
        entry["created_ns"] = report["timestamp_ns"] if report["exec_type"] == _NEW else _ZERO
        entry["symbol"] = report["symbol"]
        entry["side"] = report["side"]
        entry["order_type"] = report["order_type"]
        entry["time_in_force"] = report["time_in_force"]
        entry["flags"] = report["flags"]
    entry["price"] = report["price"]
    entry["quantity"] = report["quantity"]
    entry["cum_qty"] = report["cum_qty"]
    entry["leaves_qty"] = report["leaves_qty"]
    entry["updated_ns"] = report["timestamp_ns"]
    entry["ord_status"] = report["ord_status"]
    entry["reason"] = report["reason"]


@compiled
def apply_reports(
    entries: Records, cells: Words, accounts: Words, queue: Slots, words: Words, reports: Records
) -> int:
    """Carry reports out in order; return how many, fewer than all where no slot is to be had."""
    versions = entries["version"]
    for position in range(len(reports)):
        report = reports[position]
        if report["exec_type"] not in (_NEW, _CANCELED, _REPLACED, _TRADE):
            continue
        slot = find(entries, cells, report["order_id"])
        known = slot != _ZERO
        lived = known and not is_ended(entries[slot]["ord_status"])
        lives = not is_ended(report["ord_status"])
        if not known:
            slot = np.uint64(queue[_ZERO, AFTER])
            if slot == _ZERO:
                return position
            if entries[slot]["order_id"] != _ZERO:
                unlink(entries, cells, slot)
        version = versions[slot] | np.uint32(1)
        store_release(versions, slot, version)
        fence()
        entering = not known or report["exec_type"] == _NEW
        write(entries[slot], report, entering)
        if entering:
            accounts[slot] = report["account"]
        store_release(versions, slot, version + np.uint32(1))
        if not known:
            link(entries, cells, slot)
        if lives and not lived:
            withdraw(queue, slot)
            words[LIVE] += _ONE
        elif lived and not lives:
            append(queue, slot)
            words[LIVE] -= _ONE
        elif not known:
            withdraw(queue, slot)
            append(queue, slot)
    return len(reports)


@compiled
def rebuild(
    entries: Records, cells: Words, queue: Slots, words: Words, order: npt.NDArray[np.int64]
) -> None:
    """Make chains and queue anew from the entries; ``order``: all slots, in the queue's order."""
    words[EPOCH] |= _ONE
    fence()
    for cell in range(len(cells)):
        cells[cell] = ((cells[cell] >> _HALF) + _ONE) << _HALF
    queue[_ZERO, BEFORE] = queue[_ZERO, AFTER] = 0
    live = _ZERO
    for position in range(len(order)):
        slot = np.uint64(order[position])
        if entries[slot]["order_id"] != _ZERO:
            link(entries, cells, slot)
        if entries[slot]["order_id"] == _ZERO or is_ended(entries[slot]["ord_status"]):
            append(queue, slot)
        else:
            live += _ONE
    words[LIVE] = live
    fence()
    words[EPOCH] += _ONE


@compiled
def queued(queue: Slots, slots: npt.NDArray[np.int64]) -> int:
    """Fill ``slots`` with those of the queue, in its order; return how many."""
    count = 0
    slot = np.uint64(queue[_ZERO, AFTER])
    while slot != _ZERO:
        slots[count] = slot
        count += 1
        slot = np.uint64(queue[slot, AFTER])
    return count
