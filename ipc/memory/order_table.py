"""The order table of a shard: every live order, and the orders that ended last, for anyone to read.

An order stays in one slot from its entry until, ended, it gives the slot to a new one. Slots are
given in turn, round and round, for that is what the cache likes; those are passed over whose order
lives or is among the ``kept_orders`` that ended last. There are as few slots in turn as that takes,
and they get their memory as they are first used. There are four cells a slot with memory, at most
one a slot in all, rounded up to a power of two; where they become more, chains are made anew.

Slots are found by order_id through chains: an id's cell (``ipc.native.keyed``) holds the first slot
of a chain and, in its upper half, a version that changes whenever the chain loses a slot; each slot
holds the next one. Ids are dense, so orders of about the same age have neighbouring cells, which
the cache likes, and chains are hardly longer than one; open addressing would need a scattering hash
to avoid long runs, and moves entries under the readers' eyes.

Readers lock nothing. A slot's version is odd while it changes: a copy is good if the version was
even and the same before and after, and the id is the one sought. That an order is not there is
certain if the chain's cell is the same after the search as before: no slot of the chain was given
to another order meanwhile.
"""

import os
import secrets
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ipc.memory.atomics import fence, load_acquire, load_after, store_release
from ipc.memory.mapping import Mapping, create_mapping, open_mapping
from ipc.native.keyed import cell_at
from ipc.records import ORDER, TABLE_ENTRY
from ipc.vocabulary import OrdStatus

Records = npt.NDArray[np.void]
Slots = npt.NDArray[np.intp]
Words = npt.NDArray[np.uint64]

KIND = "order table"
MAX_TRIES = 10_000
_WORDS = 16
_LIVE, _EPOCH, _USED, _HAND, _ENDS, _KEPT, _FACTOR, _CELL_BITS = range(8)
COMPLETED = 8
_RESERVE_SLOTS = 4_096
_ENTRY_WORDS = TABLE_ENTRY.itemsize // 8
_HEAD_BYTES = TABLE_ENTRY.itemsize - ORDER.itemsize
_CLIENT_ORDER_ID, _CUM_QTY = 3, 6
assert TABLE_ENTRY.fields is not None
assert TABLE_ENTRY.fields["client_order_id"][1] == 8 * _CLIENT_ORDER_ID
assert TABLE_ENTRY.fields["cum_qty"][1] == 8 * _CUM_QTY
_CHUNK = 1024
_PART, _LOOK, _MOST_AT_ONCE = 8_192, 65_536, 16_384
"""Slots whose ids are gathered, accounts looked at, and that are put in order, in one piece."""
_SPINS, _LOW = 100, 0xFFFFFFFF


class TableBusyError(RuntimeError):
    """The writer changed what was being read during every one of MAX_TRIES tries."""


class TableFullError(RuntimeError):
    """Every order in the table is live, and there is no further slot, or no memory for one."""


def _cell_count(capacity: int) -> int:
    return 1 << capacity.bit_length()


def _cells_for(orders: int, capacity: int) -> int:
    """Return how many cells orders want: old ones lie anywhere among the dense ids of the new."""
    return min(4 * _cell_count(orders), _cell_count(capacity))


def _align(size: int) -> int:
    return (size + 63) & ~63


def create_table(
    path: Path,
    shard: int,
    capacity: int,
    kept_orders: int | None = None,
    factor: int | None = None,
) -> None:
    """Make an empty table of ``capacity`` orders, live and ended.

    ``capacity`` must exceed the sum of ``max_resting_orders`` of the shard's instruments.
    The ``kept_orders`` that ended last stay in it, as long as they fit; by default as many as fit.
    Cells are keyed with ``factor``, odd; where it is not given it is drawn.
    """
    slots = _align(8 * (capacity + 1)) + (capacity + 1) * TABLE_ENTRY.itemsize
    kept = capacity if kept_orders is None else kept_orders
    cells = _cells_for(min(capacity, kept + kept // 4), capacity)  # so many are soon in turn

    def fill(mapping: Mapping) -> None:
        words = mapping.words(0, _WORDS)
        words[_KEPT], words[_CELL_BITS] = kept, cells.bit_length() - 1
        words[_FACTOR] = secrets.randbits(64) | 1 if factor is None else factor

    at_once = 8 * (_WORDS + cells)
    size = 8 * (_WORDS + _cell_count(capacity)) + slots
    create_mapping(path, KIND, TABLE_ENTRY, capacity, size, shard, fill, at_once)


class _Table:
    """What writer and readers see alike."""

    def __init__(self, path: Path, writable: bool) -> None:
        mapping = open_mapping(path, KIND, TABLE_ENTRY, writable, sparse=True)
        self.mapping = mapping
        self.capacity = mapping.capacity
        self.shard = mapping.tag
        slots = self.capacity + 1
        self._most_cells = _cell_count(self.capacity)
        self._first_cell = 8 * _WORDS
        self._first_account = self._first_cell + 8 * self._most_cells
        self._first_entry = self._first_account + _align(8 * slots)
        self.words = mapping.array("<u8", 0, _WORDS)
        self.cells = mapping.array("<u8", self._first_cell, 1 << int(self.words[_CELL_BITS]))
        self.accounts = mapping.array("<u8", self._first_account, slots)
        self.entries = mapping.array(TABLE_ENTRY, self._first_entry, slots)

    @property
    def live_orders(self) -> int:
        """How many orders of the table have not ended."""
        return int(self.words[_LIVE])

    def close(self) -> None:
        """Let go of the mapping; the table is of no use any more."""
        del self.words, self.entries, self.cells, self.accounts
        self.mapping.close()


class OrderTableWriter(_Table):
    """The one writer. On opening it takes over the orders that are there.

    An entry that its last writer left half written is dropped.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=True)
        from ipc.memory.order_table_kernel import apply_reports, rebuild

        self._apply_reports, self._rebuild = apply_reports, rebuild
        self.reserved = 0
        self._control = self.mapping.words(0, _WORDS)
        self.overflowed_orders = 0
        entries = self.entries[: int(self.words[_USED]) + 1]
        torn = np.flatnonzero(entries["version"] & 1)
        entries["order_id"][torn] = self.accounts[torn] = 0
        entries["version"][torn] += 1
        rebuild(entries, self.cells, self.words)

    def complete(self, sequence: int) -> None:
        """Show that the shard's commands up to this one have had all their effects."""
        store_release(self._control, COMPLETED, sequence)

    def apply(self, reports: Records) -> None:
        """Carry REPORT records out on the table, in order.

        NEW enters an order; CANCELED, REPLACED, TRADE and TRIGGERED change one, or enter one that
        is not known, with ``created_ns`` 0; others are ignored. Raises ``TableFullError`` at the
        first order that finds no slot; the reports before it are carried out.
        """
        done = self._carry_out(reports)
        while done < len(reports):
            self.make_room(reports, done)
            done += self._carry_out(reports[done:])

    def make_room(self, reports: Records, done: int) -> None:
        """Get memory for further slots, one of which the report after ``done`` others needs.

        Raises ``TableFullError``.
        """
        if not self._reserve_more():
            self.overflowed_orders += 1
            raise TableFullError(
                f"{self.mapping.path}: {self.live_orders} orders are live, no slot or memory "
                f"for order {reports['order_id'][done]} (report {done} of {len(reports)})"
            )

    def _carry_out(self, reports: Records) -> int:
        """Carry out as many reports as there are slots with memory for; return how many."""
        return self._apply_reports(
            self.entries,
            self.cells,
            self.accounts,
            self.words,
            self.reserved,
            reports,
        )

    def _reserve_more(self) -> bool:
        """Give further slots memory; without any, keep fewer ended orders. False: neither helps."""
        used = int(self.words[_USED])
        first = max(self.reserved, used + 1)
        stop = min(first + _RESERVE_SLOTS, self.capacity + 1)
        if first < stop:
            try:
                self._reserve(first, stop)
            except OSError:
                self.words[_KEPT] = min(int(self.words[_KEPT]), (used - self.live_orders) // 2)
            else:
                if self._widen(stop):
                    self._rebuild(self.entries[: used + 1], self.cells, self.words)
                return True
        return used > self.live_orders

    def _reserve(self, first: int, stop: int) -> None:
        """Give slots up to ``stop`` memory; those before ``first`` have it. Raises OSError."""
        count, entry = stop - first, TABLE_ENTRY.itemsize
        self.mapping.reserve(self._first_account + 8 * first, 8 * count)
        self.mapping.reserve(self._first_entry + entry * first, entry * count)
        self.reserved = max(self.reserved, stop)

    def _widen(self, slots: int) -> bool:
        """Have as many cells as slots want, if there is memory; return whether there are more.

        Readers wait then until chains are made anew.
        """
        count = len(self.cells)
        wanted = _cells_for(slots - 1, self.capacity)
        if wanted <= count:
            return False
        try:
            self.mapping.reserve(self._first_cell + 8 * count, 8 * (wanted - count))
        except OSError:
            return False  # chains are longer, that is all
        self.words[_EPOCH] |= np.uint64(1)
        fence()
        self.words[_CELL_BITS] = wanted.bit_length() - 1
        self.cells = self.mapping.array("<u8", self._first_cell, wanted)
        return True

    def contents(self) -> Records:
        """Return the orders that stay (ORDER): the ended ones, as they ended, then the live by id.

        Tables that were given the same reports return the same.
        """
        entries = self.entries[1 : int(self.words[_USED]) + 1]
        taken = np.flatnonzero(entries["order_id"])
        has_ended = np.isin(entries["ord_status"][taken], (OrdStatus.FILLED, OrdStatus.CANCELED))
        live, ended = taken[~has_ended], taken[has_ended]
        ends = np.uint32(int(self.words[_ENDS]) & _LOW)
        ended = ended[np.argsort(ends - entries["end_number"][ended])[::-1]]
        ended = ended[max(0, len(ended) - int(self.words[_KEPT])) :]
        live = live[np.argsort(entries["order_id"][live])]
        rows = entries[np.concatenate((ended, live))].view("u1").reshape(-1, TABLE_ENTRY.itemsize)
        orders: Records = np.ascontiguousarray(rows[:, _HEAD_BYTES:]).view(ORDER)[:, 0]
        orders["end_number"] = 0
        orders["end_number"][: len(ended)] = np.arange(len(ended))
        return orders

    def adopt(self, orders: Records) -> None:
        """Hold what ``contents`` of a table returned, in place of what is there.

        Readers see the former orders, then wait for a moment, then see the new ones. Where there
        are more than the table holds, the first ones are left out. Raises ``TableFullError`` where
        there is no memory for them.
        """
        orders = orders[max(0, len(orders) - self.capacity) :]
        count, used = len(orders), int(self.words[_USED])
        try:
            self._reserve(0, count + 1)
        except OSError:
            raise TableFullError(f"{self.mapping.path}: no memory for {count} orders") from None
        self.words[_EPOCH] |= np.uint64(1)
        changed = self.entries[: max(count, used) + 1]
        versions = changed["version"]
        versions |= np.uint32(1)
        fence()
        for name in ORDER.names or ():
            changed[name][1 : count + 1] = orders[name]
            changed[name][count + 1 :] = 0
        self.accounts[1 : count + 1] = orders["account"]
        self.accounts[count + 1 : used + 1] = 0
        ended = int(np.isin(orders["ord_status"], (OrdStatus.FILLED, OrdStatus.CANCELED)).sum())
        changed["end_number"][1 : ended + 1] = np.arange(ended)
        self.words[_USED], self.words[_HAND], self.words[_ENDS] = count, 0, ended
        self._widen(count + 1)
        fence()
        versions += np.uint32(1)
        self._rebuild(self.entries[: count + 1], self.cells, self.words)


class OrderTableReader(_Table):
    """A reader; ``torn_copies`` counts the tries that met a change."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=False)
        slots = self.capacity + 1
        self._factor = int(self.words[_FACTOR])
        self._table_words = self.mapping.words(0, _WORDS)
        self._entry_words = self.mapping.words(self._first_entry, slots * _ENTRY_WORDS)
        self._entry_bytes = self._entry_words.cast("B")
        self._cell_words = self.mapping.words(self._first_cell, self._most_cells)
        self._rows = self.entries.view("<u8").reshape(slots, _ENTRY_WORDS)
        self.torn_copies = 0

    @property
    def completed(self) -> int:
        """The last command of the shard all of whose effects are shown."""
        return load_acquire(self._table_words, COMPLETED)

    def cum_qty(self, order_id: int) -> int | None:
        """Return how many lots of an order are filled, None if the table does not have it.

        Less work than ``get``. Raises ``TableBusyError``.
        """
        for tries in range(MAX_TRIES):
            cell = cell_at(order_id, self._factor, self._table_words[_CELL_BITS])
            slot = load_acquire(self._cell_words, cell) & _LOW
            words = self._entry_words
            if words[slot * _ENTRY_WORDS + 1] != order_id:
                slot = self._search(slot, order_id)
            if not slot:
                return None if self.get(order_id) is None else self.cum_qty(order_id)
            base = slot * _ENTRY_WORDS
            version = load_acquire(words, base) & _LOW
            found, cum_qty = words[base + 1], words[base + _CUM_QTY]
            if not version & 1 and load_after(words, base) & _LOW == version and found == order_id:
                return cum_qty
            self._lose(1, tries)
        raise TableBusyError(f"{self.mapping.path}: order {order_id} never held still")

    def get(self, order_id: int) -> np.void | None:
        """Return a copy of an order (ORDER), None if the table does not have it.

        Raises ``TableBusyError``.
        """
        for tries in range(MAX_TRIES):
            epoch = load_acquire(self._table_words, _EPOCH)
            cell = cell_at(order_id, self._factor, self._table_words[_CELL_BITS])
            head = load_acquire(self._cell_words, cell)
            slot = self._search(head & _LOW, order_id)
            if slot:
                order = self._copy(slot, order_id)
                if order is not None:
                    return order
            elif (
                load_after(self._cell_words, cell) == head
                and load_after(self._table_words, _EPOCH) == epoch
                and not epoch & 1
            ):
                return None
            self._lose(1, tries)
        raise TableBusyError(f"{self.mapping.path}: order {order_id} never held still")

    def get_many(self, order_ids: Sequence[int]) -> Records:
        """Return copies of orders (ORDER) in their places; zeros stand for one that is not there.

        Raises ``TableBusyError``.
        """
        found = np.zeros(len(order_ids), ORDER)
        for place, order_id in enumerate(order_ids):
            order = self.get(order_id)
            if order is not None:
                found[place] = order
        return found

    def of_account(
        self,
        account: int | None,
        symbol: int = 0,
        side: int = 0,
        ord_status: int | None = None,
        limit: int = 100,
    ) -> Records:
        """Return copies of an account's orders (ORDER), newest first; None and 0: any.

        Each is whole; an order that enters or leaves meanwhile may be among them or not. Raises
        ``TableBusyError``.
        """
        search = self.search(account, symbol, side, ord_status, limit)
        while True:
            try:
                next(search)
            except StopIteration as stop:
                found: Records = stop.value
                return found

    def search(
        self,
        account: int | None,
        symbol: int = 0,
        side: int = 0,
        ord_status: int | None = None,
        limit: int = 100,
        client_order_id: int = 0,
    ) -> Generator[None, None, Records]:
        """Do what ``of_account`` does in pieces of about a millisecond at the most."""
        for tries in range(_SPINS):
            epoch = int(self._table_words[_EPOCH])
            slots, order_ids = yield from self._slots_of(account, client_order_id)
            found, count = [np.empty(0, ORDER)], 0
            below, batch = 1 << 64, _CHUNK
            while count < limit:
                newest, below = yield from _newest(slots, order_ids, below, batch)
                batch = min(4 * batch, _MOST_AT_ONCE)
                for first in range(0, len(newest), _CHUNK):
                    orders = self._copies(newest[first : first + _CHUNK])
                    wanted = orders["order_id"] != 0
                    if account is not None:
                        wanted &= orders["account"] == account
                    if symbol:
                        wanted &= orders["symbol"] == symbol
                    if side:
                        wanted &= orders["side"] == side
                    if ord_status is not None:
                        wanted &= orders["ord_status"] == ord_status
                    if client_order_id:
                        wanted &= orders["client_order_id"] == client_order_id
                    found.append(orders[wanted])
                    count += len(found[-1])
                    yield
                    if count >= limit:
                        break
                if not len(newest):
                    break
            if int(self._table_words[_EPOCH]) == epoch:
                every = np.concatenate(found)
                return every[np.argsort(every["order_id"])[::-1]][:limit]
            self._lose(0, tries)  # orders have been given other slots meanwhile
        raise TableBusyError(f"{self.mapping.path}: it was made anew again and again")

    def _slots_of(
        self, account: int | None, client_order_id: int = 0
    ) -> Generator[None, None, tuple[list[Slots], list[Words]]]:
        """Return the slots that had orders of an account, in parts, and those orders' ids.

        With a ``client_order_id`` those of no other that could be seen.
        """
        slots: list[Slots] = []
        order_ids: list[Words] = []
        used = int(self._table_words[_USED]) + 1
        for start in range(0, used, _LOOK):
            part = self.accounts[start : min(start + _LOOK, used)]
            mine = start + np.flatnonzero(part if account is None else part == account)
            yield
            for first in range(0, len(mine), _PART):
                part = mine[first : first + _PART]
                if client_order_id:
                    part = part[self._rows[part, _CLIENT_ORDER_ID] == client_order_id]
                slots.append(part)
                order_ids.append(self._rows[slots[-1], 1])
                yield
        return slots, order_ids

    def _lose(self, copies: int, tries: int) -> None:
        """Count copies that met a change; after some, let a writer run that waits for the core."""
        self.torn_copies += copies
        if tries >= _SPINS:
            os.sched_yield()

    def _search(self, slot: int, order_id: int) -> int:
        """Follow a chain; a writer may send this astray, but not in circles for ever."""
        words = self._entry_words
        for _ in range(self.capacity):
            if not slot:
                break
            base = slot * _ENTRY_WORDS
            if words[base + 1] == order_id:
                return slot
            slot = words[base] >> 32
        return 0

    def _copy(self, slot: int, order_id: int) -> np.void | None:
        """Return a slot's order if it is whole and the one that is wanted."""
        words, base = self._entry_words, slot * _ENTRY_WORDS
        version = load_acquire(words, base) & _LOW
        start = 8 * base
        raw = bytes(self._entry_bytes[start + _HEAD_BYTES : start + TABLE_ENTRY.itemsize])
        if version & 1 or load_after(words, base) & _LOW != version:
            return None
        order: np.void = np.frombuffer(raw, ORDER)[0]
        return order if order["order_id"] == order_id else None

    def _copies(self, slots: npt.NDArray[np.intp]) -> Records:
        """Return whole copies of what lies in slots, whatever order that is."""
        rows = np.empty((len(slots), _ENTRY_WORDS), "<u8")
        versions = self.entries["version"]
        places = np.arange(len(slots))
        for tries in range(MAX_TRIES):
            before = versions[slots[places]]
            fence()
            rows[places] = self._rows[slots[places]]
            fence()
            torn = (before & 1 != 0) | (versions[slots[places]] != before)
            places = places[torn]
            if not len(places):
                return np.ascontiguousarray(rows[:, _HEAD_BYTES // 8 :]).view(ORDER)[:, 0]
            self._lose(len(places), tries)
        raise TableBusyError(f"{self.mapping.path}: {len(places)} orders never held still")


def _newest(
    slots: list[Slots], order_ids: list[Words], below: int, count: int
) -> Generator[None, None, tuple[Slots, int]]:
    """Return the slots of the newest orders below an id, newest first, and the oldest one's id."""
    best, best_ids = np.empty(0, np.intp), np.empty(0, np.uint64)
    for some, some_ids in zip(slots, order_ids, strict=True):
        older = some_ids < below
        best = np.concatenate((best, some[older]))
        best_ids = np.concatenate((best_ids, some_ids[older]))
        if len(best) > count:
            kept = np.argpartition(best_ids, len(best) - count)[-count:]
            best, best_ids = best[kept], best_ids[kept]
        yield
    order = np.argsort(best_ids)[::-1]
    return best[order], int(best_ids[order[-1]]) if len(best) else 0
