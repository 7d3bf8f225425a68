"""Filling an empty compiled book with the state of another: what a snapshot keeps of it."""

from typing import Any

import numpy as np

from engine.book import Counters, Records
from engine.ladder import identity, matching
from engine.ladder.kernel import SOURCE
from engine.ladder.memory import (
    entry,
    open_book,
    order_at,
    recent_at,
    signed,
    state_at,
    symbol_at,
)
from engine.ladder.tables import Tables
from ipc.records import SEQUENCE_MASK
from ipc.vocabulary import OrderType, Side, TimeInForce

_RESTING_KIND = int(OrderType.LIMIT) << 8 | int(TimeInForce.GTC) << 16
_BUY = int(Side.BUY)
_ZERO = np.uint64(0)
_NO_SLOT = np.uint32(0)


def _make_restore(source: int) -> Any:
    def restore(address: int, orders: Any, recents: Any, last: int) -> int:
        """Enter recent client_order_ids and resting orders, in order; ``last`` order sequence."""
        book = open_book(address, True, True)
        state = state_at(book.state)
        if source == 0:
            return 0
        for index in range(len(recents)):
            account, client_order_id = recents[index].account, recents[index].client_order_id
            instrument = signed(symbol_at(book, recents[index].symbol).instrument) - 1
            state.order_sequence = signed(recents[index].order_id) & SEQUENCE_MASK
            hash32 = identity.client_id_hash(book, account, instrument, client_order_id)
            identity.remember(book, hash32, account, instrument, client_order_id, _NO_SLOT)
        state.order_sequence = last
        for index in range(len(orders)):
            row = orders[index]
            instrument = signed(symbol_at(book, row.symbol).instrument) - 1
            side = instrument * 2 + signed(row.side) - _BUY
            slot = matching.take_order(book)
            order = order_at(book, slot)
            order.account = row.account
            order.client_order_id = row.client_order_id
            order.order_id = signed(row.order_id)
            order.price = signed(row.price)
            order.leaves_qty = signed(row.leaves_qty)
            order.cum_qty = signed(row.cum_qty)
            order.level = 0
            order.terms = signed(row.side) | _RESTING_KIND | signed(row.flags) << 24
            matching.rest(book, side, slot)
            if row.client_order_id != _ZERO:
                hash32 = identity.client_id_hash(book, row.account, instrument, row.client_order_id)
                identity.add_client_id(book, hash32, slot)
            sequence = signed(row.order_id) & SEQUENCE_MASK
            if identity.in_ring(book, sequence):
                recent_at(book, identity.recent_index(book, sequence)).slot = slot
            else:
                identity.add_order_id(book, slot)
        return len(orders)

    return entry(restore)


kernel = _make_restore(SOURCE)


def restore(tables: Tables, counters: Counters, resting: Records, recent: Records) -> None:
    """Give the tables of an empty book the state that counters, RESTING and RECENT describe."""
    tables.reserve(len(resting))
    state: Any = tables.state[0]
    state["sequence"], state["order_sequence"], state["trade_sequence"] = counters
    kernel(tables.address, resting, recent, counters.order_sequence)
