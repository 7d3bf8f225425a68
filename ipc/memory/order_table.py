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

A client_order_id that is a text stands behind all of that, in a part with room for one a slot. It
has memory for slots that have any once the first text comes (``note_texts``), so that who uses
numbers pays nothing for it. A text is written while its slot's version is odd.
"""

import secrets
from pathlib import Path

import numpy as np

from ipc.arrays import Records
from ipc.bounds import TEXT_BIT
from ipc.client_ids import NO_TEXTS, TEXT, TEXT_BYTES, TEXT_WORDS, KnownTexts, shown
from ipc.memory.atomics import fence, store_release
from ipc.memory.mapping import Mapping, create_mapping, open_mapping
from ipc.native.keyed import cell_at
from ipc.records import ORDER, TABLE_ENTRY
from ipc.vocabulary import ENDED

KIND = "order table"
WORDS = 16
_LIVE, EPOCH, USED, _HAND, _ENDS, _KEPT, FACTOR, CELL_BITS = range(8)
COMPLETED = 8
_RESERVE_SLOTS = 4_096
ENTRY_WORDS = TABLE_ENTRY.itemsize // 8
HEAD_BYTES = TABLE_ENTRY.itemsize - ORDER.itemsize
LOW = 0xFFFFFFFF


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
    first_slots = min(capacity, kept + kept // 4, _RESERVE_SLOTS)  # so many are soon in turn
    cells = _cells_for(first_slots, capacity)

    def fill(mapping: Mapping) -> None:
        words = mapping.words(0, WORDS)
        words[_KEPT], words[CELL_BITS] = kept, cells.bit_length() - 1
        words[FACTOR] = secrets.randbits(64) | 1 if factor is None else factor

    at_once = 8 * (WORDS + cells)
    texts = (capacity + 1) * TEXT_BYTES
    size = 8 * (WORDS + _cell_count(capacity)) + _align(slots) + texts
    create_mapping(path, KIND, TABLE_ENTRY, capacity, size, shard, fill, at_once)


class Table:
    """What writer and readers see alike."""

    def __init__(self, path: Path, writable: bool) -> None:
        mapping = open_mapping(path, KIND, TABLE_ENTRY, writable, sparse=True)
        self.mapping = mapping
        self.capacity = mapping.capacity
        self.shard = mapping.tag
        slots = self.capacity + 1
        self._most_cells = _cell_count(self.capacity)
        self._first_cell = 8 * WORDS
        self._first_account = self._first_cell + 8 * self._most_cells
        self._first_entry = self._first_account + _align(8 * slots)
        self.words = mapping.array("<u8", 0, WORDS)
        self.cells = mapping.array("<u8", self._first_cell, 1 << int(self.words[CELL_BITS]))
        self.accounts = mapping.array("<u8", self._first_account, slots)
        self.entries = mapping.array(TABLE_ENTRY, self._first_entry, slots)
        self._first_text = self._first_account + _align(
            _align(8 * slots) + slots * TABLE_ENTRY.itemsize
        )
        self.texts = mapping.array("<u8", self._first_text, slots * TEXT_WORDS)

    @property
    def live_orders(self) -> int:
        """How many orders of the table have not ended."""
        return int(self.words[_LIVE])

    def close(self) -> None:
        """Let go of the mapping; the table is of no use any more."""
        del self.words, self.entries, self.cells, self.accounts, self.texts
        self.mapping.close()


class OrderTableWriter(Table):
    """The one writer. On opening it takes over the orders that are there.

    An entry that its last writer left half written is dropped.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=True)
        from ipc.memory.order_table_kernel import apply_reports, rebuild

        self._apply_reports, self._rebuild = apply_reports, rebuild
        self.reserved = 0
        self._has_texts = False
        self._texts_reserved = 0
        """Slots below have memory for a text, where there are any."""
        self.known = KnownTexts()
        """Texts of orders that may enter."""
        self._control = self.mapping.words(0, WORDS)
        self.overflowed_orders = 0
        entries = self.entries[: int(self.words[USED]) + 1]
        torn = np.flatnonzero(entries["version"] & 1)
        entries["order_id"][torn] = self.accounts[torn] = 0
        entries["version"][torn] += 1
        rebuild(entries, self.cells, self.words)

    def complete(self, sequence: int) -> None:
        """Show that the shard's commands up to this one have had all their effects."""
        store_release(self._control, COMPLETED, sequence)

    def note_texts(self, commands: Records) -> None:
        """Take in the texts that stand among the commands (COMMAND) that a round has come to,
        before its reports.

        Raises ``TableFullError`` where there is no memory for texts.
        """
        if self.known.note(commands) and not self._has_texts:
            self._begin_texts()

    def text_of(self, order_id: int, client_order_id: int) -> str | None:
        """Return the text that the client_order_id of an order stands for, or of a command that was
        rejected; None where it is not known."""
        entries = self.entries
        cell = cell_at(order_id, int(self.words[FACTOR]), int(self.words[CELL_BITS]))
        slot = int(self.cells[cell]) & LOW
        while slot and entries[slot]["order_id"] != order_id:
            slot = int(entries[slot]["next"])
        if slot and entries[slot]["client_order_id"] == client_order_id:
            first = slot * TEXT_WORDS
            return shown(self.texts[first : first + TEXT_WORDS].tobytes())
        return self.known.find(client_order_id)

    def texts_of(self, orders: Records) -> Records:
        """Return the texts (TEXT) of those among orders (ORDER) that have one."""
        used = int(self.words[USED]) + 1
        wanted = orders["order_id"][orders["client_order_id"] >= np.uint64(TEXT_BIT)]
        found = np.zeros(len(wanted), TEXT)
        if len(wanted):
            ids = self.entries["order_id"][:used]
            by_id = np.argsort(ids, kind="stable")
            slots = by_id[np.searchsorted(ids, wanted, sorter=by_id)]
            texts = self.texts.view(TEXT["text"])
            found["order_id"], found["text"] = wanted, texts[slots]
        return found

    def _begin_texts(self) -> None:
        """Have room for texts from now on. Raises ``TableFullError``."""
        try:
            self._reserve_texts(self.reserved)
        except OSError:
            raise TableFullError(f"{self.mapping.path}: no memory for texts") from None
        self._has_texts = True

    def _reserve_texts(self, stop: int) -> None:
        """Give slots up to ``stop`` memory for texts. Raises OSError."""
        first = self._texts_reserved
        if first < stop:
            count = TEXT_BYTES * (stop - first)
            self.mapping.reserve(self._first_text + TEXT_BYTES * first, count)
            self._texts_reserved = stop

    def apply(self, reports: Records) -> None:
        """Carry REPORT records out on the table, in order.

        NEW enters an order; CANCELED, REPLACED, TRADE, TRIGGERED and EXPIRED change one, or enter
        one that is not known, with ``created_ns`` 0; others are ignored. Raises
        ``TableFullError`` at the first order that finds no slot; the reports before it are
        carried out.
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
            self.texts,
            self.known.words,
            reports,
        )

    def _reserve_more(self) -> bool:
        """Give further slots memory; without any, keep fewer ended orders. False: neither helps."""
        used = int(self.words[USED])
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
        if self._has_texts:
            self._reserve_texts(stop)
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
        self.words[EPOCH] |= np.uint64(1)
        fence()
        self.words[CELL_BITS] = wanted.bit_length() - 1
        self.cells = self.mapping.array("<u8", self._first_cell, wanted)
        return True

    def contents(self) -> Records:
        """Return the orders that stay (ORDER): the ended ones, as they ended, then the live by id.

        Tables that were given the same reports return the same.
        """
        entries = self.entries[1 : int(self.words[USED]) + 1]
        taken = np.flatnonzero(entries["order_id"])
        has_ended = np.isin(entries["ord_status"][taken], ENDED)
        live, ended = taken[~has_ended], taken[has_ended]
        ends = np.uint32(int(self.words[_ENDS]) & LOW)
        ended = ended[np.argsort(ends - entries["end_number"][ended])[::-1]]
        ended = ended[max(0, len(ended) - int(self.words[_KEPT])) :]
        live = live[np.argsort(entries["order_id"][live])]
        rows = entries[np.concatenate((ended, live))].view("u1").reshape(-1, TABLE_ENTRY.itemsize)
        orders: Records = np.ascontiguousarray(rows[:, HEAD_BYTES:]).view(ORDER)[:, 0]
        orders["end_number"] = 0
        orders["end_number"][: len(ended)] = np.arange(len(ended))
        return orders

    def adopt(self, orders: Records, texts: Records = NO_TEXTS) -> None:
        """Hold what ``contents`` and ``texts_of`` of a table returned, in place of what is there.

        Readers see the former orders, then wait for a moment, then see the new ones. Where there
        are more than the table holds, the first ones are left out. Raises ``TableFullError`` where
        there is no memory for them.
        """
        orders = orders[max(0, len(orders) - self.capacity) :]
        count, used = len(orders), int(self.words[USED])
        try:
            self._reserve(0, count + 1)
        except OSError:
            raise TableFullError(f"{self.mapping.path}: no memory for {count} orders") from None
        if len(texts):
            self._begin_texts()
        self.words[EPOCH] |= np.uint64(1)
        changed = self.entries[: max(count, used) + 1]
        versions = changed["version"]
        versions |= np.uint32(1)
        fence()
        for name in ORDER.names or ():
            changed[name][1 : count + 1] = orders[name]
            changed[name][count + 1 :] = 0
        self._adopt_texts(orders, texts)
        self.accounts[1 : count + 1] = orders["account"]
        self.accounts[count + 1 : used + 1] = 0
        ended = int(np.isin(orders["ord_status"], ENDED).sum())
        changed["end_number"][1 : ended + 1] = np.arange(ended)
        self.words[USED], self.words[_HAND], self.words[_ENDS] = count, 0, ended
        self._widen(count + 1)
        fence()
        versions += np.uint32(1)
        self._rebuild(self.entries[: count + 1], self.cells, self.words)

    def _adopt_texts(self, orders: Records, texts: Records) -> None:
        """Write down texts (TEXT) of orders that are entered one after the other from slot 1 on."""
        if len(texts):
            by_id = np.argsort(texts["order_id"])
            named = np.flatnonzero(np.isin(orders["order_id"], texts["order_id"]))
            ids = orders["order_id"][named]
            rows = by_id[np.searchsorted(texts["order_id"], ids, sorter=by_id)]
            self.texts.view(TEXT["text"])[1 + named] = texts["text"][rows]
