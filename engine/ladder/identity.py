"""Finding orders: by client_order_id and by order_id, live or recent.

A live client_order_id stands in an open-addressed hash (linear probing, backward-shift deletion:
Knuth, TAOCP 3, 6.4, algorithm R) of 8-byte entries, sparsely filled. The last orders accepted stand
in a ring by order sequence, and are chained, newest first, from a table of buckets, as zlib chains
its window: what is too old drops out by its age, without any work. The ring also finds recent
orders by order_id; an older live one stands in a second, smaller hash.
"""

import numpy as np

from engine.ladder.memory import (
    Book,
    Bool,
    Int,
    bucket_at,
    client_id_at,
    inlined,
    level_at,
    order_at,
    order_id_at,
    prefetch_write,
    recent_at,
    signed,
    state_at,
)
from ipc.records import SEQUENCE_BITS, SEQUENCE_MASK

_ACCOUNT_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SYMBOL_FACTOR = np.uint64(0xC2B2AE3D27D4EB4F)
_ID_FACTOR = np.uint64(0xFF51AFD7ED558CCD)
_HALF = np.uint64(32)
_FOLD = np.uint64(29)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_SIGNATURE_MASK = np.uint64(31)
_SEQUENCE_LOW = 0xFFFFFFFF
_RING_AHEAD = 16


@inlined
def client_id_hash(book: Book, account: Int, instrument: Int, client_order_id: Int) -> Int:
    """Return 32 well-mixed bits, as uint64."""
    mixed = client_order_id ^ (np.uint64(instrument) * _SYMBOL_FACTOR)
    if book.accounts:
        mixed ^= account * _ACCOUNT_FACTOR
    mixed *= _ID_FACTOR
    mixed ^= mixed >> _FOLD
    mixed *= _ACCOUNT_FACTOR
    return mixed >> _HALF


@inlined
def order_id_hash(order_id: Int) -> Int:
    return (np.uint64(order_id) * _ID_FACTOR) >> _HALF


@inlined
def home_of(hash32: Int, entries: Int) -> Int:
    """Return where an entry belongs in a table of any size below 2^32."""
    return (hash32 * entries) >> _HALF


@inlined
def following(index: Int, entries: Int) -> Int:
    index += _ONE
    return _ZERO if index == entries else index


@inlined
def distance(start: Int, end: Int, entries: Int) -> Int:
    """Return how many steps of ``following`` lead from start to end."""
    return end - start if end >= start else end + entries - start


# Live client_order_ids ---------------------------------------------------------------------------


@inlined
def find_client_id(
    book: Book, hash32: Int, account: Int, instrument: Int, client_order_id: Int
) -> Int:
    """Return the slot of a live order, or 0."""
    index = home_of(hash32, book.client_id_entries)
    while True:
        entry = client_id_at(book, index).entry
        if entry == _ZERO:
            return np.uint32(0)
        if entry >> _HALF == hash32:
            slot = np.uint32(entry & _LOW_HALF)
            order = order_at(book, slot)
            if (
                order.client_order_id == client_order_id
                and (not book.accounts or order.account == account)
                and signed(level_at(book, order.level).side) >> 1 == instrument
            ):
                return slot
        index = following(index, book.client_id_entries)


@inlined
def add_client_id(book: Book, hash32: Int, slot: Int) -> None:
    index = home_of(hash32, book.client_id_entries)
    while client_id_at(book, index).entry != _ZERO:
        index = following(index, book.client_id_entries)
    client_id_at(book, index).entry = hash32 << _HALF | np.uint64(slot)


@inlined
def remove_client_id(book: Book, hash32: Int, slot: Int) -> None:
    """Remove a live order's entry, which exists, and close the gap."""
    entries = book.client_id_entries
    sought = hash32 << _HALF | np.uint64(slot)
    gap = home_of(hash32, entries)
    while client_id_at(book, gap).entry != sought:
        gap = following(gap, entries)
    index = following(gap, entries)
    entry = client_id_at(book, index).entry
    while entry != _ZERO:
        home = home_of(entry >> _HALF, entries)
        if distance(home, index, entries) >= distance(gap, index, entries):
            client_id_at(book, gap).entry = entry
            gap = index
        index = following(index, entries)
        entry = client_id_at(book, index).entry
    client_id_at(book, gap).entry = _ZERO


# Live order_ids that are too old for the ring ----------------------------------------------------


@inlined
def add_order_id(book: Book, slot: Int) -> None:
    index = home_of(order_id_hash(order_at(book, slot).order_id), book.order_id_entries)
    while order_id_at(book, index).slot != 0:
        index = following(index, book.order_id_entries)
    order_id_at(book, index).slot = slot


@inlined
def find_old_order_id(book: Book, order_id: Int) -> Int:
    index = home_of(order_id_hash(order_id), book.order_id_entries)
    while True:
        slot = order_id_at(book, index).slot
        if slot == 0 or order_at(book, slot).order_id == order_id:
            return slot
        index = following(index, book.order_id_entries)


@inlined
def remove_order_id(book: Book, slot: Int) -> None:
    """Remove an old order's entry, which exists, and close the gap."""
    entries = book.order_id_entries
    gap = home_of(order_id_hash(order_at(book, slot).order_id), entries)
    while order_id_at(book, gap).slot != slot:
        gap = following(gap, entries)
    index = following(gap, entries)
    moved = order_id_at(book, index).slot
    while moved != 0:
        home = home_of(order_id_hash(order_at(book, moved).order_id), entries)
        if distance(home, index, entries) >= distance(gap, index, entries):
            order_id_at(book, gap).slot = moved
            gap = index
        index = following(index, entries)
        moved = order_id_at(book, index).slot
    order_id_at(book, gap).slot = np.uint32(0)


# Recent orders -----------------------------------------------------------------------------------


@inlined
def recent_index(book: Book, order_sequence: Int) -> Int:
    return np.uint64(order_sequence) & book.recent_mask


@inlined
def in_ring(book: Book, order_sequence: Int) -> Bool:
    """Tell whether a sequence number given already still stands in the ring."""
    last = state_at(book.state).order_sequence
    return np.uint64(last - order_sequence) <= book.recent_mask


@inlined
def find_recent(
    book: Book, hash32: Int, account: Int, instrument: Int, client_order_id: Int
) -> Int:
    """Return the order_id of the newest recent order of this client_order_id, or 0."""
    state = state_at(book.state)
    bucket = bucket_at(book, hash32 >> book.bucket_shift)
    age = (state.order_sequence - bucket.newest) & _SEQUENCE_LOW
    if age >= state.recent_orders:
        return 0
    if not (np.uint64(bucket.signature) >> (hash32 & _SIGNATURE_MASK)) & _ONE:
        return 0
    while True:
        sequence = state.order_sequence - age
        recent = recent_at(book, recent_index(book, sequence))
        if (
            recent.client_order_id == client_order_id
            and recent.account == account
            and recent.instrument == instrument
        ):
            return state.shard_bits | sequence
        older = (state.order_sequence - recent.previous) & _SEQUENCE_LOW
        if older <= age or older >= state.recent_orders:
            return 0
        age = older


@inlined
def remember(
    book: Book, hash32: Int, account: Int, instrument: Int, client_order_id: Int, slot: Int
) -> None:
    """Enter the order just accepted as the most recent; what it displaces may be old but live."""
    state = state_at(book.state)
    sequence = state.order_sequence
    prefetch_write(recent_at(book, recent_index(book, sequence + _RING_AHEAD)))
    recent = recent_at(book, recent_index(book, sequence))
    displaced = recent.slot
    displaced_id = state.shard_bits | (sequence - signed(book.recent_mask) - 1)
    if displaced != 0 and order_at(book, displaced).order_id == displaced_id:
        add_order_id(book, displaced)
    recent.account = account
    recent.client_order_id = client_order_id
    recent.slot = slot
    recent.instrument = instrument
    if client_order_id == _ZERO:
        return
    bucket = bucket_at(book, hash32 >> book.bucket_shift)
    signature = np.uint32(_ONE << (hash32 & _SIGNATURE_MASK))
    age = (sequence - bucket.newest) & _SEQUENCE_LOW
    if age < state.recent_orders:
        signature |= bucket.signature
    bucket.signature = signature
    recent.previous = bucket.newest
    bucket.newest = sequence


@inlined
def find_order_id(book: Book, order_id: Int) -> Int:
    """Return the slot of a live order, or 0; any number may be asked for."""
    state = state_at(book.state)
    if order_id >> SEQUENCE_BITS != state.shard_bits >> SEQUENCE_BITS:
        return np.uint32(0)
    sequence = order_id & SEQUENCE_MASK
    if sequence == 0 or sequence > state.order_sequence:
        return np.uint32(0)
    if not in_ring(book, sequence):
        return find_old_order_id(book, order_id)
    slot = recent_at(book, recent_index(book, sequence)).slot
    return slot if order_at(book, slot).order_id == order_id else np.uint32(0)


@inlined
def forget(book: Book, slot: Int, instrument: Int, client_id_known: Bool) -> None:
    """Take an order that ends out of the indexes of live orders."""
    order = order_at(book, slot)
    if client_id_known and order.client_order_id != _ZERO:
        hash32 = client_id_hash(book, order.account, instrument, order.client_order_id)
        remove_client_id(book, hash32, slot)
    if book.duplicates and not in_ring(book, order.order_id & SEQUENCE_MASK):
        remove_order_id(book, slot)
