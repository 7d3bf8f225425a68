"""The order table of a shard: every live order, and the orders that ended last, for anyone to read.

Entries lie in slots, found through an open-addressed index of slot numbers by order_id (linear
probing, removal by backward shift; Knuth, TAOCP 3, 6.4, algorithm R). Ended orders keep their slot
in a queue, and the one that ended first gives it up when a new order finds no unused slot.

An entry's version is odd while it changes; the table's is while the index does. A reader that
finds an entry checks the entry's version and id; one that finds none checks the table's version.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ipc.atomics import fence
from ipc.compiled import compiled
from ipc.mapping import create_mapping, open_mapping
from ipc.records import ORDER
from ipc.vocabulary import ExecType, OrdStatus

Records = npt.NDArray[np.void]
Words = npt.NDArray[np.uint64]
Slots = npt.NDArray[np.uint32]

KIND = "order table"
ENTRY = np.dtype([("version", "<u8"), ("next_ended", "<u8"), *ORDER.descr])
MAX_TRIES = 10_000

# The table's own words, and what they count.
_VERSION, _USED, _LIVE, _FIRST_ENDED, _LAST_ENDED, _UNKNOWN, _OVERFLOWED = range(7)
_WORDS = 16

_NEW, _CANCELED, _REPLACED = int(ExecType.NEW), int(ExecType.CANCELED), int(ExecType.REPLACED)
_TRADE = int(ExecType.TRADE)
_FILLED, _ORDER_CANCELED = int(OrdStatus.FILLED), int(OrdStatus.CANCELED)
_ONE = np.uint64(1)
_NONE = np.uint64(0)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class TableBusyError(RuntimeError):
    """The writer changed what was being read during every one of MAX_TRIES tries."""


@compiled
def home_of(index: Slots, order_id: Any) -> Any:
    """Return where in ``index`` an order would stand if nobody else were there.

    Fibonacci hashing (Knuth, TAOCP 3, 6.4): dense ids must not form one long run, which removal
    would have to walk to its end.
    """
    mixed = order_id * _GOLDEN
    return (mixed ^ mixed >> np.uint64(32)) & np.uint64(len(index) - 1)


@compiled
def find(entries: Records, index: Slots, order_id: Any) -> Any:
    """Return where in ``index`` an order stands, or the empty place where it would."""
    mask = np.uint64(len(index) - 1)
    place = home_of(index, order_id)
    for _ in range(len(index)):
        slot = index[place]
        if slot == 0 or entries[slot].order_id == order_id:
            break
        place = (place + _ONE) & mask
    return place


@compiled
def remove(entries: Records, index: Slots, order_id: Any) -> None:
    """Take an order out of ``index``, closing the gap that it leaves."""
    mask = np.uint64(len(index) - 1)
    gap = find(entries, index, order_id)
    place = gap
    while True:
        place = (place + _ONE) & mask
        slot = index[place]
        if slot == 0:
            break
        home = home_of(index, entries[slot].order_id)
        if ((place - home) & mask) >= ((place - gap) & mask):
            index[gap] = slot
            gap = place
    index[gap] = 0


@compiled
def take_slot(entries: Records, index: Slots, words: Words) -> Any:
    """Return a slot for a new order, 0 where every order in the table lives."""
    if words[_USED] + _ONE < np.uint64(len(entries)):
        words[_USED] += _ONE
        return words[_USED]
    slot = words[_FIRST_ENDED]
    if slot != _NONE:
        words[_FIRST_ENDED] = entries[slot].next_ended
        if words[_FIRST_ENDED] == _NONE:
            words[_LAST_ENDED] = _NONE
        remove(entries, index, entries[slot].order_id)
    return slot


@compiled
def begin(entries: Records, slot: Any) -> None:
    """Begin to change an entry."""
    entries[slot].version |= _ONE
    fence()


@compiled
def end(entries: Records, slot: Any) -> None:
    """End a change of an entry."""
    fence()
    entries[slot].version += _ONE


@compiled
def enter(entries: Records, index: Slots, words: Words, report: Any) -> None:
    """Put a new order into the table."""
    slot = take_slot(entries, index, words)
    if slot == _NONE:
        words[_OVERFLOWED] += _ONE
        return
    begin(entries, slot)
    entry = entries[slot]
    entry.next_ended = _NONE
    entry.order_id = report.order_id
    entry.account = report.account
    entry.client_order_id = report.client_order_id
    entry.price = report.price
    entry.quantity = report.quantity
    entry.cum_qty = report.cum_qty
    entry.leaves_qty = report.leaves_qty
    entry.created_ns = report.timestamp_ns
    entry.updated_ns = report.timestamp_ns
    entry.symbol = report.symbol
    entry.reason = 0
    entry.side = report.side
    entry.order_type = report.order_type
    entry.time_in_force = report.time_in_force
    entry.flags = report.flags
    entry.ord_status = report.ord_status
    end(entries, slot)
    index[find(entries, index, report.order_id)] = slot
    words[_LIVE] += _ONE


@compiled
def update(entries: Records, index: Slots, words: Words, report: Any) -> None:
    """Change an order by a report; one that has ended queues up to give its slot away."""
    slot = np.uint64(index[find(entries, index, report.order_id)])
    if slot == _NONE:
        words[_UNKNOWN] += _ONE
        return
    begin(entries, slot)
    entry = entries[slot]
    entry.price = report.price
    entry.quantity = report.quantity
    entry.cum_qty = report.cum_qty
    entry.leaves_qty = report.leaves_qty
    entry.updated_ns = report.timestamp_ns
    entry.ord_status = report.ord_status
    if report.exec_type == _CANCELED:
        entry.reason = report.reason
    ended = report.ord_status in (_FILLED, _ORDER_CANCELED)
    end(entries, slot)
    if ended:
        if words[_LAST_ENDED] == _NONE:
            words[_FIRST_ENDED] = slot
        else:
            entries[words[_LAST_ENDED]].next_ended = slot
        words[_LAST_ENDED] = slot
        words[_LIVE] -= _ONE


@compiled
def apply_reports(entries: Records, index: Slots, words: Words, reports: Records) -> None:
    """Carry reports out on the table, in order."""
    words[_VERSION] |= _ONE
    fence()
    for position in range(len(reports)):
        report = reports[position]
        if report.exec_type == _NEW:
            enter(entries, index, words, report)
        elif report.exec_type in (_CANCELED, _REPLACED, _TRADE):
            update(entries, index, words, report)
    fence()
    words[_VERSION] += _ONE


@compiled
def copy_order(entries: Records, index: Slots, words: Words, order_id: Any, out: Records) -> int:
    """Copy an order to ``out[0]``: 1 if it was found whole, 0 if it is not there, -1 if torn."""
    version = words[_VERSION]
    fence()
    slot = index[find(entries, index, order_id)]
    if slot == 0:
        fence()
        return 0 if version & _ONE == _NONE and words[_VERSION] == version else -1
    before = entries[slot].version
    fence()
    out[0] = entries[slot]
    fence()
    if before & _ONE or entries[slot].version != before or out[0].order_id != order_id:
        return -1
    return 1


def _index_size(capacity: int) -> int:
    return 1 << (2 * capacity).bit_length()


def create_table(path: Path, shard: int, capacity: int) -> None:
    """Make an empty table of ``capacity`` orders, live and ended."""
    size = 8 * _WORDS + (capacity + 1) * ENTRY.itemsize + 4 * _index_size(capacity)
    create_mapping(path, KIND, ENTRY, capacity, size, shard)


class _Table:
    """What writer and readers see alike."""

    def __init__(self, path: Path, writable: bool) -> None:
        mapping = open_mapping(path, KIND, ENTRY, writable)
        self.mapping = mapping
        self.shard = mapping.tag
        entries = mapping.capacity + 1
        first_entry = 8 * _WORDS
        first_index = first_entry + entries * ENTRY.itemsize
        self._words = mapping.array(np.dtype("<u8"), 0, _WORDS)
        self._entries = mapping.array(ENTRY, first_entry, entries)
        self._index = mapping.array(np.dtype("<u4"), first_index, _index_size(mapping.capacity))

    @property
    def live_orders(self) -> int:
        """How many orders of the table have not ended."""
        return int(self._words[_LIVE])

    @property
    def overflowed_orders(self) -> int:
        """How many orders found no slot: none while capacity covers what may rest."""
        return int(self._words[_OVERFLOWED])


class OrderTableWriter(_Table):
    """The one writer."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=True)

    def apply(self, reports: Records) -> None:
        """Carry REPORT records out on the table, in order."""
        apply_reports(self._entries, self._index, self._words, reports)


class OrderTableReader(_Table):
    """A reader; ``torn_copies`` counts the tries that met a change."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=False)
        self.torn_copies = 0
        self._out = np.zeros(1, ENTRY)

    def get(self, order_id: int) -> np.void | None:
        """Return an order (ENTRY: the fields of ORDER and two more), None if it is not there.

        Raises ``TableBusyError``.
        """
        for _ in range(MAX_TRIES):
            found = copy_order(
                self._entries, self._index, self._words, np.uint64(order_id), self._out
            )
            if found >= 0:
                return self._out.copy()[0] if found else None
            self.torn_copies += 1
        raise TableBusyError(f"{self.mapping.path}: order {order_id} never held still")

    def of_account(
        self,
        account: int,
        symbol: int = 0,
        side: int = 0,
        ord_status: int | None = None,
        limit: int = 100,
    ) -> Records:
        """Return copies of an account's orders (ENTRY), newest first; 0 and None: any."""
        used = self._entries[1 : int(self._words[_USED]) + 1]
        ids = used["order_id"][used["account"] == account]
        found: list[np.void] = []
        for order_id in np.sort(ids)[::-1].tolist():
            order = self.get(order_id)
            if (
                order is not None
                and order["account"] == account
                and symbol in (0, order["symbol"])
                and side in (0, order["side"])
                and ord_status in (None, order["ord_status"])
            ):
                found.append(order)
            if len(found) >= limit:
                break
        return np.array(found, ENTRY)
