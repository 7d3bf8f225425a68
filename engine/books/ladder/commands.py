"""What each command does to a book: the rules of ``engine.books.rules``, in their order.

A command is carried out in three steps: *decide* whom it concerns and whether it may, changing
nothing that shows; *answer*; and then let an order enter the book, or let go of it. The second and
third are the same code for all commands that name one order, which keeps the machine code small.
"""

from typing import NamedTuple

import numpy as np

from engine.books import rules
from engine.books.ladder import (
    cursor,
    kept_ids,
    matching,
    order_index,
    queues,
    rare_orders,
    reports,
    stops,
)
from engine.books.ladder.layout import FINISHED, MATCHING, SIDES, TRIGGERING, WAITING
from engine.books.ladder.mass_cancel import others
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    Output,
    Row,
    bucket_at,
    client_id_at,
    hash_at,
    instrument_at,
    instrument_of_side,
    level_at,
    order_at,
    prefetch_write,
    recent_at,
    side_at,
    signed,
    state_at,
    unlikely,
)
from engine.books.ladder.new_orders import (
    accept,
    amounts_of,
    check_kind,
    check_replace,
    check_room,
    first_order_id,
    instrument_of,
    reject,
)
from ipc.codes import (
    COMMAND_TYPE_CANCEL,
    COMMAND_TYPE_MASS_CANCEL,
    COMMAND_TYPE_NEW,
    COMMAND_TYPE_REDUCE,
    COMMAND_TYPE_REPLACE,
    EXEC_TYPE_CANCELED,
    EXEC_TYPE_NEW,
    EXEC_TYPE_REJECTED,
    EXEC_TYPE_REPLACED,
    FLAG_POST_ONLY,
    FLAG_REINSERT,
    ORDER_TYPE_LIMIT,
    REASON_CANCEL_REQUESTED,
    REASON_DUPLICATE_CLIENT_ORDER_ID,
    REASON_INVALID_COMMAND,
    REASON_INVALID_DISPLAY_QUANTITY,
    REASON_INVALID_ORDER_ID,
    REASON_INVALID_STOP_PRICE,
    REASON_NONE,
    REASON_POST_ONLY_WOULD_TRADE,
    REASON_UNKNOWN_ORDER,
    REASON_UNKNOWN_SYMBOL,
    SIDE_BUY,
)
from ipc.native.compiled import inlined

_ZERO = np.uint64(0)
_NO_SLOT = np.uint32(0)
_RARE = -1
"""In the place of a reason: the command is on a rare order, and ``rare_orders`` does it."""


class Decision(NamedTuple):
    """What a command comes to. REJECTED has a reason; the order's node is ``slot`` otherwise."""

    exec_type: Int
    reason: Int
    side: Int
    slot: Int
    enters: Bool  # the order then trades and rests


@inlined
def rejected(reason: Int) -> Decision:
    return Decision(EXEC_TYPE_REJECTED, reason, 0, _NO_SLOT, False)


# NEW ---------------------------------------------------------------------------------------------


@inlined
def decide_new(book: Book, command: Row, hash32: Int) -> Decision:
    head = command.head
    kind_bits = reports.kind_bits_of(head)
    instrument = instrument_of(book, reports.symbol_of(head))
    if unlikely(instrument < 0):
        return rejected(REASON_UNKNOWN_SYMBOL)
    rare = command.stop_price | command.display_quantity
    rare |= command.expire_time_ns | command.minimum_quantity
    plain_time = reports.is_common_time(reports.time_in_force_of(kind_bits))
    if unlikely(
        (reports.order_type_of(kind_bits) > ORDER_TYPE_LIMIT) | (rare != _ZERO) | (not plain_time)
    ):
        return rejected(_RARE)
    reason = check_kind(book, command, instrument, kind_bits)
    if unlikely(reason != REASON_NONE):
        return rejected(reason)
    if book.duplicates and unlikely(first_order_id(book, hash32, command, instrument) != 0):
        return rejected(REASON_DUPLICATE_CLIENT_ORDER_ID)
    side = instrument * SIDES + reports.side_of(kind_bits) - SIDE_BUY
    reason = check_state(book, command, instrument, side, kind_bits)
    if unlikely(reason != REASON_NONE):
        return rejected(reason)
    slot = accept(book, command, instrument, hash32, kind_bits)
    return Decision(EXEC_TYPE_NEW, REASON_NONE, side, slot, True)


@inlined
def check_state(book: Book, command: Row, instrument: Int, side: Int, kind_bits: Int) -> Int:
    """Return 0, or the first Reason why a book does not take an order now."""
    own, opposite = side_at(book, side), side_at(book, side ^ 1)
    resting = own.order_count + opposite.order_count
    bound = instrument_at(book, instrument).max_account_orders
    if reports.is_resting_kind(kind_bits) and unlikely(resting >= bound):
        reason = check_room(book.state, command.account, instrument)
        if reason != REASON_NONE:
            return reason
    if reports.flags_of(kind_bits) & FLAG_POST_ONLY:
        limit = matching.limit_key(book, side ^ 1, kind_bits, signed(command.price))
        if opposite.best_key <= limit:
            return REASON_POST_ONLY_WOULD_TRADE
    return REASON_NONE


# CANCEL, REPLACE, REDUCE -------------------------------------------------------------------------


@inlined
def decide_change(book: Book, command: Row, command_type: Int, hash32: Int) -> Decision:
    instrument = instrument_of(book, reports.symbol_of(command.head))
    reason = check_change(book, command, command_type, instrument)
    if unlikely(reason != REASON_NONE):
        return rejected(reason)
    slot = find_order(book, command, instrument, hash32)
    if slot == 0:
        return rejected(REASON_UNKNOWN_ORDER)
    order = order_at(book, slot)
    side = signed(level_at(book, order.level).side)
    if unlikely((side & WAITING != 0) | reports.is_rare(signed(order.kind_bits))):
        return Decision(EXEC_TYPE_REJECTED, _RARE, side, slot, False)
    if command_type == COMMAND_TYPE_CANCEL:
        queues.leave(book, side, slot)
        return Decision(EXEC_TYPE_CANCELED, REASON_CANCEL_REQUESTED, side, slot, False)
    leaves_qty = signed(command.quantity)
    price = order.price
    keeps_place = command_type == COMMAND_TYPE_REDUCE
    if keeps_place:
        leaves_qty = order.leaves_qty - leaves_qty
    else:
        reinsert = reports.flags_of(reports.kind_bits_of(command.head)) & FLAG_REINSERT != 0
        price, leaves_qty = amounts_of(order, command, order.leaves_qty)
        if unlikely(command.stop_price | command.display_quantity != _ZERO):
            stops_too = command.stop_price != _ZERO
            return rejected(
                REASON_INVALID_STOP_PRICE if stops_too else REASON_INVALID_DISPLAY_QUANTITY
            )
        reason = check_replace(book, side, slot, price, leaves_qty, reinsert)
        if unlikely(reason != REASON_NONE):
            return rejected(reason)
        if not reinsert:
            leaves_qty -= order.cum_qty
            keeps_place = price == order.price and leaves_qty < order.leaves_qty
    if keeps_place and leaves_qty > 0:
        queues.take_quantity(book, slot, order.leaves_qty - leaves_qty)
        return Decision(EXEC_TYPE_REPLACED, REASON_NONE, side, slot, False)
    queues.leave(book, side, slot)
    if keeps_place:
        return Decision(EXEC_TYPE_CANCELED, REASON_CANCEL_REQUESTED, side, slot, False)
    order.price = price
    order.leaves_qty = leaves_qty
    return Decision(EXEC_TYPE_REPLACED, REASON_NONE, side, slot, True)


@inlined
def check_change(book: Book, command: Row, command_type: Int, instrument: Int) -> Int:
    """Return 0, or the first Reason why a command's own fields cannot change an order."""
    order_id = command.order_id
    if order_id == _ZERO and command.client_order_id == _ZERO:
        return REASON_INVALID_ORDER_ID
    if instrument < 0 and (order_id == _ZERO or reports.symbol_of(command.head) != 0):
        return REASON_UNKNOWN_SYMBOL
    if command_type == COMMAND_TYPE_CANCEL:
        return REASON_NONE
    quantity = signed(command.quantity)
    if command_type == COMMAND_TYPE_REPLACE:
        flags = reports.flags_of(reports.kind_bits_of(command.head))
        further = signed(command.stop_price | command.display_quantity)
        return rules.check_replace(flags, signed(command.price), quantity, further)
    return rules.check_quantity(quantity)


@inlined
def find_order(book: Book, command: Row, instrument: Int, hash32: Int) -> Int:
    """Return the slot of the live order that a command names and its account owns, or 0."""
    if command.order_id == _ZERO:
        ids = (command.account, instrument, command.client_order_id)
        return spared(book, order_index.find_client_id(book, hash32, *ids))
    slot = order_index.find_order_id(book, signed(command.order_id))
    order = order_at(book, slot)
    of_other_account = book.accounts and order.account != command.account
    own_instrument = instrument_of_side(level_at(book, order.level).side)
    if of_other_account or (instrument >= 0 and own_instrument != instrument):
        return _NO_SLOT
    return spared(book, slot)


@inlined
def spared(book: Book, slot: Int) -> Int:
    """Return an order's slot, or 0 where a mass cancel that is under way is to take it."""
    if unlikely(state_at(book.state).watching != 0) and slot != 0:
        return _NO_SLOT if cursor.is_doomed(book.state, slot) else slot
    return slot


# All of them -------------------------------------------------------------------------------------


@inlined
def decide(book: Book, command: Row, command_type: Int, hash32: Int) -> Decision:
    if command_type == COMMAND_TYPE_NEW:
        return decide_new(book, command, hash32)
    if (
        command_type - COMMAND_TYPE_CANCEL <= COMMAND_TYPE_REDUCE - COMMAND_TYPE_CANCEL
        and command_type >= COMMAND_TYPE_CANCEL
    ):
        return decide_change(book, command, command_type, hash32)
    return rejected(REASON_INVALID_COMMAND)


@inlined
def look_ahead(book: Book, command: Row, place: Int) -> None:
    """Hash the client_order_id of a command some way ahead, and ask for what it leads to."""
    symbol = reports.symbol_of(command.head)
    hash32 = order_index.client_id_hash(book, command.account, symbol, command.client_order_id)
    hash_at(book, place).hash32 = hash32
    prefetch_write(bucket_at(book, hash32 >> book.bucket_shift))
    kept_ids.ask_for_head(book, hash32)
    if state_at(book.state).old_orders != 0:
        prefetch_write(client_id_at(book, order_index.home_of(hash32, book.client_id_entries)))


@inlined
def look_closer(book: Book, hash32: Int) -> None:
    """Ask for the recent order that a bucket leads to, a command's own if it is on a live one."""
    newest = bucket_at(book, hash32 >> book.bucket_shift).newest
    prefetch_write(recent_at(book, order_index.recent_index(book, signed(newest))))


@inlined
def carry_out(book: Book, output: Output, command: Row, hash32: Int) -> Bool:
    """Carry out one command, or go on with it; False where a buffer is full before its end."""
    state = state_at(book.state)
    command_type = reports.command_type_of(command.head)
    if unlikely(command_type >= COMMAND_TYPE_MASS_CANCEL):
        return others(book.state, output, command, book.accounts, book.duplicates)
    if unlikely(state.unfinished != FINISHED):
        if state.unfinished == TRIGGERING:
            return stops.go_on(book.state, output, book.accounts, book.duplicates)
        side, slot = state.unfinished_side, state.unfinished_slot
        state.unfinished = FINISHED
    else:
        decision = decide(book, command, command_type, hash32)
        if decision.exec_type == EXEC_TYPE_REJECTED:
            if unlikely(decision.reason == _RARE):
                features = (book.accounts, book.duplicates)
                if decision.slot == 0:
                    return rare_orders.new(book.state, output, command, hash32, *features)
                on_order = (decision.side, decision.slot)
                return rare_orders.change(book.state, output, command, *on_order, *features)
            reject(book, output, command, hash32, decision.reason)
            return True
        side, slot = decision.side, decision.slot
        state.symbol = instrument_at(book, instrument_of_side(side)).symbol
        reports.answer(book, output, command, slot, decision.exec_type, decision.reason, 1)
        if decision.exec_type == EXEC_TYPE_CANCELED:
            queues.end_order(book, side, slot)
        if not decision.enters:
            return True
    if matching.enter(book, output, command, side, slot):
        if unlikely(state.traded_high != 0):
            features = (book.accounts, book.duplicates)
            return stops.trigger_reached(book.state, output, command, side, *features)
        return True
    state.unfinished = MATCHING
    state.unfinished_side = side
    state.unfinished_slot = slot
    return False
