"""Filling an empty compiled book with the state of another: what a snapshot keeps of it."""

from typing import Any

import numpy as np

from engine.books import rules
from engine.books.contract import Counters, Records
from engine.books.ladder import extras, kept_ids, order_index, queues, reports, stops
from engine.books.ladder.kernel import SOURCE
from engine.books.ladder.layout import SIDES, SWEEPING
from engine.books.ladder.memory import entry as entry_point
from engine.books.ladder.memory import open_book, order_at, signed, state_at, symbol_at
from engine.books.ladder.tables import Tables
from ipc.codes import SIDE_BUY
from ipc.records import SEQUENCE_MASK

RING_ENTRY = np.dtype(
    [
        ("sequence", "<i8"),
        ("account", "<u8"),
        ("client_order_id", "<u8"),
        ("symbol", "<u8"),
        ("slot", "<u4"),  # 0: the order has ended
        ("reserved", "<u4"),
    ]
)
"""One order that stands in the ring of recent orders."""


def _make_restore(source: int) -> Any:
    def restore(address: int, orders: Any, slots: Any, entries: Any, last: int, whole: bool) -> int:
        """Enter resting orders, filling their ``slots``, or, where there are none, ring entries.

        Both are in order; ``last`` is the last order sequence. ``whole``: the ring is then as it
        should be, and what is kept beyond it can be entered.
        """
        book = open_book(address, True, True)
        state = state_at(book.state)
        if source == 0:
            return 0
        state.order_sequence = last
        for index in range(len(orders)):
            row = orders[index]
            instrument = signed(symbol_at(book, row.symbol).instrument) - 1
            side = instrument * SIDES + signed(row.side) - SIDE_BUY
            slot = queues.take_order(book)
            slots[index] = slot
            order = order_at(book, slot)
            order.account = row.account
            order.client_order_id = row.client_order_id
            order.order_id = signed(row.order_id)
            order.price = signed(row.price)
            order.leaves_qty = signed(row.leaves_qty)
            order.cum_qty = signed(row.cum_qty)
            order.level = 0
            terms = signed(row.order_type) << 8 | signed(row.time_in_force) << 16
            order.kind_bits = signed(row.side) | terms | signed(row.flags) << 24
            rare = reports.is_rare(signed(order.kind_bits))
            if rare:
                further = (signed(row.display_quantity), signed(row.expire_time_ns))
                extras.take_extra(book, slot, *further)
                extra = extras.extra_of(book, slot)
                extra.link = row.link
                extra.stop_price = signed(row.stop_price)
            if signed(row.link) & rules.LINK_HELD:
                stops.hold(book.state, side, slot)
            elif row.stop_price != 0:
                stops.wait(book.state, side, slot, signed(row.stop_price))
            elif rare:
                hides = row.display_quantity != 0
                shown = signed(row.shown_quantity) if hides else order.leaves_qty
                queues.rest_rare(book.state, side, slot, shown)
            else:
                queues.rest(book, side, slot)
            if not order_index.in_ring(book, signed(row.order_id) & SEQUENCE_MASK):
                order_index.become_old(book, slot, instrument)
        for index in range(len(entries)):
            entry = entries[index]
            account, client_order_id = entry.account, entry.client_order_id
            instrument = signed(symbol_at(book, entry.symbol).instrument) - 1
            hash32 = order_index.client_id_hash(book, account, entry.symbol, client_order_id)
            state.order_sequence = entry.sequence
            order_index.remember(book, hash32, account, instrument, client_order_id, entry.slot)
        state.order_sequence = last
        if whole:
            kept_ids.relink(address)
        return len(orders)

    return entry_point(restore)


kernel = _make_restore(SOURCE)


def restore(
    tables: Tables,
    counters: Counters,
    resting: Records,
    recent: Records,
    sweeps: Records,
    last_prices: Records,
) -> None:
    """Give the tables of an empty book the state that counters, RESTING and RECENT describe.

    ``sweeps``: the mass cancels that are under way, see ``Book.sweeps``; ``last_prices``: see
    ``Book.last_prices``.
    """
    listed = last_prices[tables.symbols["instrument"][last_prices["symbol"]] != 0]
    places = tables.symbols["instrument"][listed["symbol"]] - 1
    tables.instruments["last_price"][places] = listed["price"]
    tables.reserve(len(resting))
    tables.begin_after(counters)
    ids = recent["order_id"] & np.uint64(SEQUENCE_MASK)
    forgotten = ids <= np.uint64(tables.state["forgotten"][0])
    tables.keep(recent[forgotten])
    recent = recent[~forgotten]
    state: Any = tables.state[0]
    last = counters.order_sequence
    slots = np.zeros(len(resting), np.uint32)
    kernel(tables.address, resting, slots, np.zeros(0, RING_ENTRY), last, False)
    entries = _ring_entries(resting, slots, recent, last - len(tables.recent))
    kernel(tables.address, resting[:0], slots, entries, last, True)
    tables.sweeps[: len(sweeps)] = sweeps
    state["sweep_count"] = len(sweeps)
    if len(sweeps):
        state["watching"] = SWEEPING
        at_cursor = np.flatnonzero(resting["order_id"] == sweeps["client_order_id"][0])
        state["sweep_slot"] = slots[at_cursor[0]] if len(at_cursor) else 0
        tables.sweeps["client_order_id"][0] = 0


def _ring_entries(resting: Records, slots: Any, recent: Records, before: int) -> Records:
    """Return what stands in the ring, by sequence: recent orders, live ones after ``before``."""
    found = np.zeros(len(recent) + len(resting), RING_ENTRY)
    for rows, part in ((recent, found[: len(recent)]), (resting, found[len(recent) :])):
        part["sequence"] = rows["order_id"] & np.uint64(SEQUENCE_MASK)
        for name in ("account", "client_order_id", "symbol"):
            part[name] = rows[name]
    found["slot"][len(recent) :] = slots
    # Where an order is both, the resting one, which knows its slot, comes last and stays.
    found = found[found["sequence"] > before]
    found = found[np.lexsort((found["slot"], found["sequence"]))]
    again = np.zeros(len(found), np.bool_)
    again[:-1] = found["sequence"][1:] == found["sequence"][:-1]
    entries: Records = found[~again]
    return entries
