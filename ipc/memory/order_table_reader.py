"""How anybody reads an order table: without a lock, while its matcher writes it.

What a reader finds is whole or is not given: see ``ipc.memory.order_table``. A search goes in
pieces of about a millisecond, between which whoever serves others can serve them.
"""

import os
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ipc.arrays import Records, Words, those
from ipc.client_ids import TEXT_WORDS, ClientOrderId, is_text, shown
from ipc.memory.atomics import fence, load_acquire, load_after
from ipc.memory.order_table import (
    CELL_BITS,
    COMPLETED,
    ENTRY_WORDS,
    EPOCH,
    FACTOR,
    HEAD_BYTES,
    LOW,
    USED,
    WORDS,
    Table,
)
from ipc.native.keyed import cell_at
from ipc.records import ORDER, TABLE_ENTRY

Slots = npt.NDArray[np.intp]

MAX_TRIES = 10_000
_CLIENT_ORDER_ID, _CUM_QTY = 3, 6
assert TABLE_ENTRY.fields is not None
assert TABLE_ENTRY.fields["client_order_id"][1] == 8 * _CLIENT_ORDER_ID
assert TABLE_ENTRY.fields["cum_qty"][1] == 8 * _CUM_QTY
_CHUNK = 1024
_PART, _LOOK, _MOST_AT_ONCE = 8_192, 65_536, 16_384
"""Slots whose ids are gathered, accounts looked at, and that are put in order, in one piece."""
_SPINS = 100


class TableBusyError(RuntimeError):
    """The writer changed what was being read during every one of MAX_TRIES tries."""


class OrderTableReader(Table):
    """A reader; ``torn_copies`` counts the tries that met a change."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, writable=False)
        slots = self.capacity + 1
        self._factor = int(self.words[FACTOR])
        self._table_words = self.mapping.words(0, WORDS)
        self._entry_words = self.mapping.words(self._first_entry, slots * ENTRY_WORDS)
        self._entry_bytes = self._entry_words.cast("B")
        self._cell_words = self.mapping.words(self._first_cell, self._most_cells)
        self._rows = self.entries.view("<u8").reshape(slots, ENTRY_WORDS)
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
            cell = cell_at(order_id, self._factor, self._table_words[CELL_BITS])
            slot = load_acquire(self._cell_words, cell) & LOW
            words = self._entry_words
            if words[slot * ENTRY_WORDS + 1] != order_id:
                slot = self._search(slot, order_id)
            if not slot:
                return None if self.get(order_id) is None else self.cum_qty(order_id)
            base = slot * ENTRY_WORDS
            version = load_acquire(words, base) & LOW
            found, cum_qty = words[base + 1], words[base + _CUM_QTY]
            if not version & 1 and load_after(words, base) & LOW == version and found == order_id:
                return cum_qty
            self._lose(1, tries)
        raise TableBusyError(f"{self.mapping.path}: order {order_id} never held still")

    def get(self, order_id: int) -> np.void | None:
        """Return a copy of an order (ORDER), None if the table does not have it.

        Raises ``TableBusyError``.
        """
        for tries in range(MAX_TRIES):
            epoch = load_acquire(self._table_words, EPOCH)
            cell = cell_at(order_id, self._factor, self._table_words[CELL_BITS])
            head = load_acquire(self._cell_words, cell)
            slot = self._search(head & LOW, order_id)
            if slot:
                order = self._copy(slot, order_id)
                if order is not None:
                    return order
            elif (
                load_after(self._cell_words, cell) == head
                and load_after(self._table_words, EPOCH) == epoch
                and not epoch & 1
            ):
                return None
            self._lose(1, tries)
        raise TableBusyError(f"{self.mapping.path}: order {order_id} never held still")

    def client_order_id(self, order: np.void) -> ClientOrderId:
        """Return an order's (ORDER) client_order_id as its client gave it; 0: none, or a text that
        went with the order meanwhile. Raises ``TableBusyError``."""
        number, order_id = int(order["client_order_id"]), int(order["order_id"])
        return (self.text_of(order_id, number) or 0) if is_text(number) else number

    def text_of(self, order_id: int, client_order_id: int) -> str | None:
        """Return the text that the client_order_id of an order stands for, None where the table
        does not have it. Raises ``TableBusyError``."""
        for tries in range(MAX_TRIES):
            cell = cell_at(order_id, self._factor, self._table_words[CELL_BITS])
            slot = self._search(load_acquire(self._cell_words, cell) & LOW, order_id)
            if not slot:
                order = self.get(order_id)
                if order is None or int(order["client_order_id"]) != client_order_id:
                    return None
                continue
            words, base = self._entry_words, slot * ENTRY_WORDS
            version = load_acquire(words, base) & LOW
            same = words[base + 1] == order_id
            same &= words[base + _CLIENT_ORDER_ID] == client_order_id
            text = (
                self.texts[slot * TEXT_WORDS : (slot + 1) * TEXT_WORDS].tobytes() if same else b""
            )
            if not version & 1 and load_after(words, base) & LOW == version:
                return shown(text)
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
        below: int = 1 << 64,
    ) -> Generator[None, None, Records]:
        """Do what ``of_account`` does in pieces of about a millisecond at the most, with orders
        whose ids are below one."""
        first_below = below
        for tries in range(_SPINS):
            epoch = int(self._table_words[EPOCH])
            slots, order_ids = yield from self._slots_of(account, client_order_id)
            found, count = [np.empty(0, ORDER)], 0
            below, batch = first_below, _CHUNK
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
                    found.append(those(orders, wanted))
                    count += len(found[-1])
                    yield
                    if count >= limit:
                        break
                if not len(newest):
                    break
            if int(self._table_words[EPOCH]) == epoch:
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
        used = int(self._table_words[USED]) + 1
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
            base = slot * ENTRY_WORDS
            if words[base + 1] == order_id:
                return slot
            slot = words[base] >> 32
        return 0

    def _copy(self, slot: int, order_id: int) -> np.void | None:
        """Return a slot's order if it is whole and the one that is wanted."""
        words, base = self._entry_words, slot * ENTRY_WORDS
        version = load_acquire(words, base) & LOW
        start = 8 * base
        raw = bytes(self._entry_bytes[start + HEAD_BYTES : start + TABLE_ENTRY.itemsize])
        if version & 1 or load_after(words, base) & LOW != version:
            return None
        order: np.void = np.frombuffer(raw, ORDER)[0]
        return order if order["order_id"] == order_id else None

    def _copies(self, slots: npt.NDArray[np.intp]) -> Records:
        """Return whole copies of what lies in slots, whatever order that is."""
        rows = np.empty((len(slots), ENTRY_WORDS), "<u8")
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
                return np.ascontiguousarray(rows[:, HEAD_BYTES // 8 :]).view(ORDER)[:, 0]
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
