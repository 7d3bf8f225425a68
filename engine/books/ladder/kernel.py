"""The compiled entry points: a batch of commands, the depth of a side, the growth of the hashes.

``numba`` keeps machine code by the entry point's own source file only. So that a changed rule never
runs as the old one, each entry point holds the digest of all sources it is made of as a constant,
which is part of numba's key.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from engine.books import rules
from engine.books.ladder import commands as book_commands
from engine.books.ladder import (
    cursor,
    extras,
    holdings,
    kept_ids,
    order_index,
    prices,
    queues,
    rare_orders,
    reports,
)
from engine.books.ladder.layout import (
    DONE,
    EXPIRING,
    FINISHED,
    FULL,
    GROW,
    HASH_MASK,
    LOOK_AHEAD,
    LOOK_CLOSER,
    NO_KEY,
    REPORTS_OF_A_START,
    SIDES,
    STREAM_AHEAD,
    WAITING,
)
from engine.books.ladder.memory import (
    Output,
    command_at,
    entry,
    hash_at,
    instrument_at,
    instrument_of_side,
    level_at,
    open_book,
    order_at,
    prefetch_read,
    recent_at,
    side_at,
    state_at,
    unlikely,
)
from ipc.native.by_address import address_of_function, call_of
from ipc.native.compiled import SOURCES, digest_of, inlined
from ipc.native.views import data_of
from ipc.native.words import packed
from ipc.records import COMMAND, REPORT, TRADE

MAX_RECENT_ORDERS = 1 << 24


_OURS = sorted(Path(__file__).parent.glob("*.py"))
SOURCE = digest_of([*_OURS, Path(rules.__file__)]) ^ SOURCES
_ZERO = np.uint64(0)


class Features(NamedTuple):
    """What a kernel does; a book has all, and a benchmark asks what each costs."""

    accounts: bool = True
    duplicates: bool = True


def make_process(features: Features, source: int = SOURCE, keep: bool = True) -> Any:
    """Return the kernel (state address, commands, reports, trades, resume) -> how far it came.

    ``keep`` keeps its machine code in numba's cache.
    With ``resume`` 0 it starts, with 1 it goes on after GROW. It returns why it ended (DONE, FULL,
    GROW) and how many commands, reports and trades are done since the start.
    """
    accounts, duplicates = features

    def process(
        address: int, commands: Any, reports: Any, trades: Any, resume: int
    ) -> tuple[int, int, int, int]:
        book = open_book(address, accounts, duplicates)
        state = state_at(book.state)
        state.source = source
        output = packed(Output(data_of(reports), len(reports), data_of(trades), len(trades)))
        first_command = data_of(commands)
        count = len(commands)
        if resume == 0:
            state.commands = 0
            state.reports = 0
            state.trades = 0
        done = state.commands
        for ahead in range(done, min(done + LOOK_AHEAD, count)):
            book_commands.look_ahead(book, command_at(first_command, ahead), ahead & HASH_MASK)
        status = DONE
        while done < count:
            if state.unfinished == FINISHED:
                if state.reports + REPORTS_OF_A_START > output.report_capacity:
                    status = FULL
                    break
                full = state.live_orders >= state.order_capacity
                if unlikely(full or state.old_orders >= state.old_limit):
                    status = GROW
                    break
                state.sequence += 1
            command = command_at(first_command, done)
            due = command.timestamp_ns >= state.next_expiry_ns
            late = unlikely(due | (state.unfinished == EXPIRING))
            if late and not rare_orders.expire(book.state, output, command):
                status = FULL
                break
            prefetch_read(command_at(first_command, done + STREAM_AHEAD))
            ahead = done + LOOK_AHEAD
            if ahead < count:
                book_commands.look_ahead(book, command_at(first_command, ahead), ahead & HASH_MASK)
            book_commands.look_closer(book, hash_at(book, (done + LOOK_CLOSER) & HASH_MASK).hash32)
            hash32 = hash_at(book, done & HASH_MASK).hash32
            if not book_commands.carry_out(book, output, command, hash32):
                status = FULL
                break
            done += 1
        state.commands = done
        return status, done, state.reports, state.trades

    return entry(process, keep)


@inlined
def fill_levels(book: Any, side: Any, levels: Any) -> int:
    """Fill LEVEL records with the best levels of a side; return how many."""
    key = side_at(book, side).best_key
    flip = side_at(book, side).flip
    count = 0
    while key != NO_KEY and count < len(levels):
        row = level_at(book, prices.find_level(book, side, key))
        levels[count].price = key ^ flip
        levels[count].quantity = row.quantity
        levels[count].order_count = row.order_count
        count += 1
        key = prices.next_key(book, side, key + 1)
    return count


def _make_depth(source: int) -> Any:
    def depth(address: int, side: int, levels: Any) -> int:
        if source == 0:
            return 0
        return fill_levels(open_book(address, True, True), side, levels)

    return entry(depth)


def _make_rebuild(source: int) -> Any:
    def rebuild(address: int, client_ids: Any, order_ids: Any, anew: bool) -> int:
        """Enter what stands in two former tables into the book's present, empty ones; count again.

        With ``anew`` under other factors: the chains of recent orders, whose buckets are empty, are
        made again too. No order may be at hand then.
        """
        book = open_book(address, True, True)
        if source == 0:
            return 0
        for index in range(len(client_ids)):
            entry = client_ids[index].entry
            if entry != _ZERO:
                slot, hash32 = np.uint32(entry), entry >> np.uint64(32)
                if anew:
                    order = order_at(book, slot)
                    instrument = instrument_of_side(level_at(book, order.level).side)
                    symbol = instrument_at(book, instrument).symbol
                    ids = (order.account, symbol, order.client_order_id)
                    hash32 = order_index.client_id_hash(book, *ids)
                order_index.add_client_id(book, hash32, slot)
        for index in range(len(order_ids)):
            slot = order_ids[index].slot
            if slot != 0:
                order_index.add_order_id(book, slot)
        if anew:
            last = state_at(book.state).order_sequence
            for sequence in range(max(1, last - np.int64(book.recent_mask)), last + 1):
                recent = recent_at(book, order_index.recent_index(book, sequence))
                if recent.client_order_id != _ZERO:
                    symbol = instrument_at(book, recent.instrument).symbol
                    ids = (recent.account, symbol, recent.client_order_id)
                    order_index.chain(book, order_index.client_id_hash(book, *ids), sequence)
            kept_ids.relink(address)
        if state_at(book.state).counted_instruments != 0:
            holdings.recount(address)
        return len(client_ids)

    return entry(rebuild)


def _make_resting(source: int) -> Any:
    def resting(address: int, orders: Any) -> int:
        """Fill RESTING records with the live orders in order; return how many."""
        book = open_book(address, True, True)
        state = state_at(book.state)
        if source == 0:
            return 0
        count = 0
        for side in range(state.instrument_count * SIDES):
            slot = cursor.first_slot(book, side)
            while slot != 0:
                order = order_at(book, slot)
                kind_bits = np.int64(order.kind_bits)
                orders[count].order_id = order.order_id
                orders[count].account = order.account
                orders[count].client_order_id = order.client_order_id
                orders[count].price = order.price
                orders[count].leaves_qty = order.leaves_qty
                orders[count].cum_qty = order.cum_qty
                orders[count].symbol = instrument_at(book, instrument_of_side(side)).symbol
                orders[count].side = reports.side_of(kind_bits)
                orders[count].flags = reports.flags_of(kind_bits)
                orders[count].order_type = reports.order_type_of(kind_bits)
                orders[count].time_in_force = reports.time_in_force_of(kind_bits)
                if side & WAITING:
                    orders[count].stop_price = queues.stop_price_of(book, side, slot)
                if reports.is_rare(kind_bits):
                    extra = extras.extra_of(book, slot)
                    orders[count].display_quantity = extra.display_quantity
                    orders[count].expire_time_ns = extra.expire_time_ns
                    orders[count].link = extra.link
                    orders[count].leaves_qty += extra.hidden
                    if side & WAITING == 0 and extra.display_quantity != 0:
                        orders[count].shown_quantity = order.leaves_qty
                count += 1
                slot = cursor.next_slot(book, side, slot)
        return count

    return entry(resting)


process = make_process(Features())
resting = _make_resting(SOURCE)
depth = _make_depth(SOURCE)
rebuild = _make_rebuild(SOURCE)

_kind_of: Any = numba.typeof
_tuple_of: Any = types.UniTuple
_RECORDS = (_kind_of(np.zeros(0, dtype)) for dtype in (COMMAND, REPORT, TRADE))
_PROCESS = _tuple_of(types.int64, 4)(types.int64, *_RECORDS, types.int64)
call_process = call_of(_PROCESS)
"""``process`` for compiled code, which gives its address and then a tuple of its arguments."""


def process_address() -> int:
    """Return where the machine code of ``process`` is."""
    return address_of_function(process, _PROCESS)
