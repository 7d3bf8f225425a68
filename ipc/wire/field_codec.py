"""Each field of commands and reports between its record and its message, in compiled code.

Written by ipc.schema.generate. ``ipc.wire.packing`` has the integers that this is made of.
"""

# ruff: noqa: RET504

from typing import Any

import numpy as np

from ipc.arrays import Bytes, Integers
from ipc.native.compiled import called, inlined
from ipc.native.unaligned import copy_bytes, store_u8, store_u64
from ipc.vocabulary import MAX_CLIENT_ID
from ipc.wire.packing import (
    FALSE,
    NIL,
    TRUE,
    byte,
    put_client_id,
    put_u16,
    put_u64,
    put_uint,
    put_unless,
    read_code,
    read_uint,
    read_word,
    skip_text,
)

_NONE = np.uint64(0)
_MAX_ID = np.uint64(MAX_CLIENT_ID)
_MAX_CODE = np.uint64(255)
_MAX_SYMBOL = np.uint64(65_535)
_LEAST = np.array([0, 9, 4, 7, 6, 3, 9, 9], np.int64)
_MOST = np.array([0, 15, 5, 10, 6, 3, 12, 15], np.int64)
"""Of each command, by its tag: items of the array without and with the optional ones."""
LAST_TAG = 7
MAX_COMMAND_FRAME = 94
"""Bytes that the longest frame of a command does not exceed."""
REPORT_ANSWERS_AT = 18
"""Where this code stands in the body of a ``Report`` that is written here."""


@called
def put_command(out: Bytes, at: int, command: Any) -> int:
    """Write the body of a command, whose type is one that there is."""
    tag = command.command_type
    out[at] = 0x90 | _MOST[tag]
    out[at + 1] = tag
    at = put_uint(out, at + 2, np.uint64(command.symbol))
    at = put_uint(out, at, command.request_id)
    if tag == 1:
        at = put_uint(out, at, command.client_order_id)
        at = put_uint(out, at, np.uint64(command.side))
        at = put_uint(out, at, np.uint64(command.order_type))
        at = put_uint(out, at, np.uint64(command.time_in_force))
        at = put_uint(out, at, command.price)
        at = put_uint(out, at, command.quantity)
        out[at] = TRUE if command.flags & 1 else FALSE  # post_only
        at += 1
        at = put_uint(out, at, command.stop_price)
        at = put_uint(out, at, np.uint64(command.self_trade_prevention))
        at = put_uint(out, at, command.display_quantity)
        at = put_uint(out, at, command.expire_time_ns)
        at = put_uint(out, at, command.minimum_quantity)
    elif tag in (2, 3, 4):
        at = put_uint(out, at, command.order_id)
        at = put_uint(out, at, command.client_order_id)
        if tag == 3:
            at = put_unless(out, at, command.price, command.flags & 8)
            at = put_unless(out, at, command.quantity, command.flags & 16)
            out[at] = TRUE if command.flags & 2 else FALSE  # reinsert
            at += 1
            at = put_uint(out, at, command.stop_price)
            at = put_uint(out, at, command.display_quantity)
        elif tag == 4:
            at = put_uint(out, at, command.quantity)
    elif tag in (6, 7):
        at = put_uint(out, at, np.uint64(command.side))
        at = put_uint(out, at, command.client_order_id)
        if tag == 6:
            at = put_uint(out, at, np.uint64(command.time_in_force))
            at = put_uint(out, at, command.price)
            at = put_uint(out, at, command.quantity)
            at = put_uint(out, at, command.stop_price)
            at = put_uint(out, at, command.display_quantity)
            at = put_uint(out, at, np.uint64(command.self_trade_prevention))
            at = put_uint(out, at, command.expire_time_ns)
        elif tag == 7:
            at = put_uint(out, at, np.uint64(command.order_type))
            at = put_uint(out, at, np.uint64(command.time_in_force))
            at = put_uint(out, at, command.price)
            at = put_uint(out, at, command.quantity)
            at = put_uint(out, at, command.minimum_quantity)
            at = put_uint(out, at, command.stop_price)
            at = put_uint(out, at, command.display_quantity)
            out[at] = TRUE if command.flags & 1 else FALSE  # post_only
            at += 1
            at = put_uint(out, at, np.uint64(command.self_trade_prevention))
            at = put_uint(out, at, command.expire_time_ns)
    return at


@called
def read_command(data: Bytes, start: int, stop: int, command: Any) -> bool:
    """Fill all but account and time of ``command`` from the body ``data[start:stop]``.

    Returns whether the body is a plain command, whole and with nothing behind it.
    """
    if stop - start < 3 or data[start] & 0xF0 != 0x90:
        return False
    items = int(data[start]) & 0x0F
    tag = int(data[start + 1])
    if tag < 1 or tag > LAST_TAG or items < _LEAST[tag] or items > _MOST[tag]:
        return False
    symbol, at = read_uint(data, start + 2, stop)
    request_id, at = read_uint(data, at, stop)
    side = _NONE
    order_type = _NONE
    time_in_force = _NONE
    self_trade_prevention = _NONE
    order_id = _NONE
    client_order_id = _NONE
    price = _NONE
    quantity = _NONE
    stop_price = _NONE
    display_quantity = _NONE
    expire_time_ns = _NONE
    minimum_quantity = _NONE
    flags = 0
    if tag == 1:
        client_order_id, at = read_uint(data, at, stop)
        side, at = read_uint(data, at, stop)
        order_type, at = read_uint(data, at, stop)
        time_in_force, at = read_uint(data, at, stop)
        price, at = read_uint(data, at, stop)
        quantity, at = read_uint(data, at, stop)
        if items > 9:
            if at >= stop or data[at] not in (FALSE, TRUE):
                return False
            if data[at] == TRUE:  # post_only
                flags |= 1
            at += 1
        if items > 10:
            stop_price, at = read_uint(data, at, stop)
        if items > 11:
            self_trade_prevention, at = read_uint(data, at, stop)
        if items > 12:
            display_quantity, at = read_uint(data, at, stop)
        if items > 13:
            expire_time_ns, at = read_uint(data, at, stop)
        if items > 14:
            minimum_quantity, at = read_uint(data, at, stop)
    elif tag in (2, 3, 4):
        order_id, at = read_uint(data, at, stop)
        if items > 4:
            client_order_id, at = read_uint(data, at, stop)
        if tag == 3:
            if at < stop and data[at] == NIL:
                flags |= 8
                at += 1
            else:
                price, at = read_uint(data, at, stop)
            if at < stop and data[at] == NIL:
                flags |= 16
                at += 1
            else:
                quantity, at = read_uint(data, at, stop)
            if items > 7:
                if at >= stop or data[at] not in (FALSE, TRUE):
                    return False
                if data[at] == TRUE:  # reinsert
                    flags |= 2
                at += 1
            if items > 8:
                stop_price, at = read_uint(data, at, stop)
            if items > 9:
                display_quantity, at = read_uint(data, at, stop)
        elif tag == 4:
            quantity, at = read_uint(data, at, stop)
    elif tag in (6, 7):
        side, at = read_uint(data, at, stop)
        client_order_id, at = read_uint(data, at, stop)
        if tag == 6:
            time_in_force, at = read_uint(data, at, stop)
            price, at = read_uint(data, at, stop)
            quantity, at = read_uint(data, at, stop)
            stop_price, at = read_uint(data, at, stop)
            if items > 9:
                display_quantity, at = read_uint(data, at, stop)
            if items > 10:
                self_trade_prevention, at = read_uint(data, at, stop)
            if items > 11:
                expire_time_ns, at = read_uint(data, at, stop)
        elif tag == 7:
            order_type, at = read_uint(data, at, stop)
            time_in_force, at = read_uint(data, at, stop)
            price, at = read_uint(data, at, stop)
            quantity, at = read_uint(data, at, stop)
            if items > 9:
                minimum_quantity, at = read_uint(data, at, stop)
            if items > 10:
                stop_price, at = read_uint(data, at, stop)
            if items > 11:
                display_quantity, at = read_uint(data, at, stop)
            if items > 12:
                if at >= stop or data[at] not in (FALSE, TRUE):
                    return False
                if data[at] == TRUE:  # post_only
                    flags |= 1
                at += 1
            if items > 13:
                self_trade_prevention, at = read_uint(data, at, stop)
            if items > 14:
                expire_time_ns, at = read_uint(data, at, stop)
    if side > _MAX_CODE:
        return False
    if order_type > _MAX_CODE:
        return False
    if time_in_force > _MAX_CODE:
        return False
    if self_trade_prevention > _MAX_CODE:
        return False
    if symbol > _MAX_SYMBOL:
        return False
    if request_id > _MAX_ID:
        return False
    if order_id > _MAX_ID:
        return False
    if client_order_id > _MAX_ID:
        return False
    if price > _MAX_ID:
        return False
    if quantity > _MAX_ID:
        return False
    if stop_price > _MAX_ID:
        return False
    if display_quantity > _MAX_ID:
        return False
    if expire_time_ns > _MAX_ID:
        return False
    if minimum_quantity > _MAX_ID:
        return False
    if at != stop:
        return False
    command.command_type = tag
    command.side = side
    command.order_type = order_type
    command.time_in_force = time_in_force
    command.flags = flags
    command.self_trade_prevention = self_trade_prevention
    command.symbol = symbol
    command.request_id = request_id
    command.order_id = order_id
    command.client_order_id = client_order_id
    command.price = price
    command.quantity = quantity
    command.stop_price = stop_price
    command.display_quantity = display_quantity
    command.expire_time_ns = expire_time_ns
    command.minimum_quantity = minimum_quantity
    return True


@inlined
def put_report(out: Bytes, at: int, report: Any, name: Bytes) -> int:
    """Write the body of a ``Report``; codes of one byte are all below 128.

    ``name``: the text that its client_order_id stands for; empty where there is none.
    The bytes before the first long integer are put together in words; what the last one
    has too many is written over.
    """
    store_u64(
        out,
        at + 0,
        np.uint64(0xCD000000141900DC)
        | byte(report.exec_type, 4)
        | byte(report.ord_status, 5)
        | byte(report.command_type, 6),
    )
    store_u64(
        out,
        at + 8,
        np.uint64(0xCD00000000000000)
        | byte(np.uint64(report.symbol) >> np.uint64(8), 0)
        | byte(report.symbol & 0xFF, 1)
        | byte(report.side, 2)
        | byte(report.order_type, 3)
        | byte(report.time_in_force, 4)
        | byte(report.flags, 5)
        | byte(report.liquidity, 6),
    )
    store_u64(
        out,
        at + 16,
        np.uint64(0x0)
        | byte(np.uint64(report.reason) >> np.uint64(8), 0)
        | byte(report.reason & 0xFF, 1)
        | byte(report.answers, 2),
    )
    at += 19
    at = put_u64(out, at, report.request_id)
    at = put_u64(out, at, report.order_id)
    at = put_client_id(out, at, report.client_order_id, name)
    at = put_u64(out, at, report.price)
    at = put_u64(out, at, report.quantity)
    at = put_u64(out, at, report.cum_qty)
    at = put_u64(out, at, report.leaves_qty)
    at = put_u64(out, at, report.last_price)
    at = put_u64(out, at, report.last_qty)
    at = put_u64(out, at, report.trade_id)
    at = put_u64(out, at, report.timestamp_ns)
    at = put_u64(out, at, report.sequence)
    at = put_u64(out, at, report.account_sequence)
    return at


@inlined
def put_reject(
    out: Bytes, at: int, report: Any, texts: Bytes, lengths: Integers, name: Bytes
) -> int:
    """Write the body of a ``Reject``; ``texts`` have what its reason says."""
    store_u8(out, at, 0x9D)
    store_u8(out, at + 1, 21)
    store_u8(out, at + 2, report.command_type & 0x7F)
    at = put_u16(out, at + 3, report.symbol)
    at = put_u64(out, at, report.request_id)
    at = put_u64(out, at, report.order_id)
    at = put_client_id(out, at, report.client_order_id, name)
    reason = report.reason
    length = lengths[reason]
    copy_bytes(out, at, texts, reason * (len(texts) // len(lengths)), length)
    at += length
    at = put_u64(out, at, report.timestamp_ns)
    at = put_u64(out, at, report.sequence)
    at = put_u64(out, at, report.account_sequence)
    return at


@called
def put_mass_cancel(out: Bytes, at: int, report: Any) -> int:
    """Write the body of a ``MassCancelReport``."""
    store_u8(out, at, 0x97)
    store_u8(out, at + 1, 22)
    at = put_u16(out, at + 2, report.symbol)
    at = put_u64(out, at, report.request_id)
    at = put_u64(out, at, report.quantity)
    at = put_u64(out, at, report.timestamp_ns)
    at = put_u64(out, at, report.sequence)
    at = put_u64(out, at, report.account_sequence)
    return at


@called
def read_report(data: Bytes, at: int, stop: int, report: Any) -> int:
    """Fill all but account from what a ``Report`` says; return where that ends."""
    report.exec_type, at = read_code(data, at, stop, 255)
    report.ord_status, at = read_code(data, at, stop, 255)
    report.command_type, at = read_code(data, at, stop, 255)
    report.symbol, at = read_code(data, at, stop, 65535)
    report.side, at = read_code(data, at, stop, 255)
    report.order_type, at = read_code(data, at, stop, 255)
    report.time_in_force, at = read_code(data, at, stop, 255)
    report.flags, at = read_code(data, at, stop, 255)
    report.liquidity, at = read_code(data, at, stop, 255)
    report.reason, at = read_code(data, at, stop, 65535)
    report.answers, at = read_code(data, at, stop, 4294967295)
    report.request_id, at = read_word(data, at, stop)
    report.order_id, at = read_word(data, at, stop)
    report.client_order_id, at = read_word(data, at, stop)
    report.price, at = read_word(data, at, stop)
    report.quantity, at = read_word(data, at, stop)
    report.cum_qty, at = read_word(data, at, stop)
    report.leaves_qty, at = read_word(data, at, stop)
    report.last_price, at = read_word(data, at, stop)
    report.last_qty, at = read_word(data, at, stop)
    report.trade_id, at = read_word(data, at, stop)
    report.timestamp_ns, at = read_word(data, at, stop)
    report.sequence, at = read_word(data, at, stop)
    report.account_sequence, at = read_word(data, at, stop)
    return at


@called
def read_reject(data: Bytes, at: int, stop: int, report: Any) -> int:
    """Fill all but account from what a ``Reject`` says; return where that ends."""
    report.exec_type = 8
    report.ord_status = 8
    report.side = 0
    report.order_type = 0
    report.time_in_force = 0
    report.flags = 0
    report.liquidity = 0
    report.answers = 1
    report.price = 0
    report.quantity = 0
    report.cum_qty = 0
    report.leaves_qty = 0
    report.last_price = 0
    report.last_qty = 0
    report.trade_id = 0
    report.command_type, at = read_code(data, at, stop, 255)
    report.symbol, at = read_code(data, at, stop, 65535)
    report.request_id, at = read_word(data, at, stop)
    report.order_id, at = read_word(data, at, stop)
    report.client_order_id, at = read_word(data, at, stop)
    report.reason, at = read_code(data, at, stop, 65535)
    at = skip_text(data, at, stop)  # code_name
    at = skip_text(data, at, stop)  # field
    at = skip_text(data, at, stop)  # text
    report.timestamp_ns, at = read_word(data, at, stop)
    report.sequence, at = read_word(data, at, stop)
    report.account_sequence, at = read_word(data, at, stop)
    return at


@called
def read_mass_cancel(data: Bytes, at: int, stop: int, report: Any) -> int:
    """Fill all but account from what a ``MassCancelReport`` says; return where that ends."""
    report.exec_type = 20
    report.ord_status = 0
    report.command_type = 5
    report.side = 0
    report.order_type = 0
    report.time_in_force = 0
    report.flags = 0
    report.liquidity = 0
    report.reason = 0
    report.answers = 1
    report.order_id = 0
    report.client_order_id = 0
    report.price = 0
    report.cum_qty = 0
    report.leaves_qty = 0
    report.last_price = 0
    report.last_qty = 0
    report.trade_id = 0
    report.symbol, at = read_code(data, at, stop, 65535)
    report.request_id, at = read_word(data, at, stop)
    report.quantity, at = read_word(data, at, stop)
    report.timestamp_ns, at = read_word(data, at, stop)
    report.sequence, at = read_word(data, at, stop)
    report.account_sequence, at = read_word(data, at, stop)
    return at
