"""Finding orders: by client_order_id and by order_id, live or recent.

**The hash.** Clients choose client_order_ids, and which of their orders live, so nobody may know
which of them collide. Each part of a key is multiplied by an odd 64-bit number of its own, the
products are added, the upper half of the sum is folded into the lower, and that is multiplied
again; the upper half of the product is the hash. All four numbers follow from the shard's secret
(``engine.books.secret``). It costs as many multiplications as fixed numbers would. Multiplying by a
random odd number and keeping the upper bits is universal: whatever two keys are chosen before, they
share one of ``n`` places with a probability of at most ``2 / n`` (Dietzfelbinger, Hagerup,
Katajainen, Penttonen, "A reliable randomized algorithm for the closest-pair problem", J. Algorithms
25, 1997; for keys of several words Thorup, "High speed hashing for integers and strings", 2015).
Sum and fold are one-to-one for the ids of an account and symbol, so that holds behind them; the
fold breaks up what multiplying alone keeps: equal steps between keys.

No answer shows a hash. Who measures time alone has to see one step more in a chain, some tens of
nanoseconds, through sockets that scatter a hundred times as much, and has to try about as many ids
as there are buckets for each one that he finds; the ring forgets faster. Should somebody find some
all the same: a search that passes over ``WALK_LIMIT`` orders or ``PROBE_LIMIT`` entries is the last
one of its kind, for before the next command everything is hashed anew, by the next numbers that
follow from the secret.

The last orders accepted stand in a ring by order sequence, where an order_id finds them at once;
for client_order_ids they are chained, newest first, from a table of buckets, as zlib chains its
window: what is too old drops out by its age, without any work. An order that the ring drops while
it lives is *old*, and moves into two open-addressed hashes, one for each of its ids (linear
probing, backward-shift deletion: Knuth, TAOCP 3, 6.4, algorithm R).
"""

import numpy as np

from engine.books.ladder import layout
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    bucket_at,
    client_id_at,
    instrument_at,
    instrument_of_side,
    level_at,
    order_at,
    order_id_at,
    recent_at,
    signed,
    state_at,
    unlikely,
)
from ipc.native.compiled import inlined
from ipc.records import SEQUENCE_BITS, SEQUENCE_MASK

_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_SIGNATURE_MASK = np.uint64(31)
_SEQUENCE_LOW = 0xFFFFFFFF
_WALK_LIMIT, _PROBE_LIMIT = layout.WALK_LIMIT, np.uint64(layout.PROBE_LIMIT)
_FAR_AGE = np.uint64(1 << 32)


@inlined
def client_id_hash(book: Book, account: Int, symbol: Int, client_order_id: Int) -> Int:
    """Return 32 bits of which clients know nothing, as uint64."""
    mixed = client_order_id * book.id_factor + np.uint64(symbol) * book.symbol_factor
    if book.accounts:
        mixed += account * book.account_factor
    mixed ^= mixed >> _HALF
    mixed *= book.last_factor
    return mixed >> _HALF


@inlined
def order_id_hash(book: Book, order_id: Int) -> Int:
    mixed = np.uint64(order_id) * book.id_factor
    mixed ^= mixed >> _HALF
    mixed *= book.last_factor
    return mixed >> _HALF


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


@inlined
def note_long_walk(book: Book) -> None:
    """Have everything hashed anew before the next command: where room is looked for, see to it."""
    state_at(book.state).old_limit = -1


@inlined
def note_probes(book: Book, home: Int, index: Int, entries: Int) -> None:
    """A search in an open-addressed hash has come from its home to an index."""
    if unlikely(distance(home, index, entries) > _PROBE_LIMIT):
        note_long_walk(book)


# client_order_ids of old orders ------------------------------------------------------------------


@inlined
def find_old_client_id(
    book: Book, hash32: Int, account: Int, instrument: Int, client_order_id: Int
) -> Int:
    """Return the slot of an old order, or 0."""
    home = home_of(hash32, book.client_id_entries)
    index = home
    while True:
        entry = client_id_at(book, index).entry
        if entry == _ZERO:
            note_probes(book, home, index, book.client_id_entries)
            return np.uint32(0)
        if entry >> _HALF == hash32:
            slot = np.uint32(entry & _LOW_HALF)
            order = order_at(book, slot)
            if (
                order.client_order_id == client_order_id
                and (not book.accounts or order.account == account)
                and instrument_of_side(level_at(book, order.level).side) == instrument
            ):
                note_probes(book, home, index, book.client_id_entries)
                return slot
        index = following(index, book.client_id_entries)


@inlined
def add_client_id(book: Book, hash32: Int, slot: Int) -> None:
    home = home_of(hash32, book.client_id_entries)
    index = home
    while client_id_at(book, index).entry != _ZERO:
        index = following(index, book.client_id_entries)
    client_id_at(book, index).entry = hash32 << _HALF | np.uint64(slot)
    note_probes(book, home, index, book.client_id_entries)


@inlined
def remove_client_id(book: Book, hash32: Int, slot: Int) -> None:
    """Remove an old order's entry, which exists, and close the gap."""
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


# order_ids of old orders --------------------------------------------------------------------------


@inlined
def add_order_id(book: Book, slot: Int) -> None:
    home = home_of(order_id_hash(book, order_at(book, slot).order_id), book.order_id_entries)
    index = home
    while order_id_at(book, index).slot != 0:
        index = following(index, book.order_id_entries)
    order_id_at(book, index).slot = slot
    note_probes(book, home, index, book.order_id_entries)


@inlined
def find_old_order_id(book: Book, order_id: Int) -> Int:
    home = home_of(order_id_hash(book, order_id), book.order_id_entries)
    index = home
    while True:
        slot = order_id_at(book, index).slot
        if slot == 0 or order_at(book, slot).order_id == order_id:
            note_probes(book, home, index, book.order_id_entries)
            return slot
        index = following(index, book.order_id_entries)


@inlined
def remove_order_id(book: Book, slot: Int) -> None:
    """Remove an old order's entry, which exists, and close the gap."""
    entries = book.order_id_entries
    gap = home_of(order_id_hash(book, order_at(book, slot).order_id), entries)
    while order_id_at(book, gap).slot != slot:
        gap = following(gap, entries)
    index = following(gap, entries)
    moved = order_id_at(book, index).slot
    while moved != 0:
        home = home_of(order_id_hash(book, order_at(book, moved).order_id), entries)
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
    """Return the sequence of the newest order in the ring with this client_order_id, or 0."""
    last = state_at(book.state).order_sequence
    bucket = bucket_at(book, hash32 >> book.bucket_shift)
    age = np.uint64((last - bucket.newest) & _SEQUENCE_LOW)
    held = (np.uint64(bucket.signature) >> (hash32 & _SIGNATURE_MASK)) & _ONE
    # Two conditions in one number, so that one branch decides: it is foreseen more often.
    age |= (held - _ONE) & _FAR_AGE
    steps = 0
    while age <= book.recent_mask:
        recent = recent_at(book, np.uint64(last) - age & book.recent_mask)
        if (
            recent.client_order_id == client_order_id
            and (not book.accounts or recent.account == account)
            and recent.instrument == instrument
        ):
            return last - signed(age)
        older = np.uint64((last - recent.previous) & _SEQUENCE_LOW)
        if older <= age:
            return 0
        age = older
        steps += 1
        if unlikely(steps == _WALK_LIMIT):
            note_long_walk(book)
    return 0


@inlined
def remember(
    book: Book, hash32: Int, account: Int, instrument: Int, client_order_id: Int, slot: Int
) -> None:
    """Enter the order just accepted as the most recent; what it displaces may live, and is old."""
    state = state_at(book.state)
    sequence = state.order_sequence
    recent = recent_at(book, recent_index(book, sequence))
    displaced = recent.slot
    displaced_id = state.shard_bits | (sequence - signed(book.recent_mask) - 1)
    if unlikely(displaced != 0 and order_at(book, displaced).order_id == displaced_id):
        become_old(book, displaced, recent.instrument)
    recent.account = account
    recent.client_order_id = client_order_id
    recent.slot = slot
    recent.instrument = instrument
    if client_order_id != _ZERO:
        chain(book, hash32, sequence)


@inlined
def chain(book: Book, hash32: Int, sequence: Int) -> None:
    """Make an order of the ring the newest of its bucket."""
    bucket = bucket_at(book, hash32 >> book.bucket_shift)
    age = np.uint64((sequence - bucket.newest) & _SEQUENCE_LOW)
    kept = bucket.signature if age <= book.recent_mask else np.uint32(0)
    bucket.signature = np.uint32(_ONE << (hash32 & _SIGNATURE_MASK)) | kept
    recent_at(book, recent_index(book, sequence)).previous = bucket.newest
    bucket.newest = sequence


# Orders by their ids ------------------------------------------------------------------------------


@inlined
def become_old(book: Book, slot: Int, instrument: Int) -> None:
    """Keep a live order findable once the ring has dropped it."""
    state_at(book.state).old_orders += 1
    order = order_at(book, slot)
    add_order_id(book, slot)
    if order.client_order_id != _ZERO:
        symbol = instrument_at(book, instrument).symbol
        hash32 = client_id_hash(book, order.account, symbol, order.client_order_id)
        add_client_id(book, hash32, slot)


@inlined
def find_client_id(
    book: Book, hash32: Int, account: Int, instrument: Int, client_order_id: Int
) -> Int:
    """Return the slot of a live order, or 0."""
    sequence = find_recent(book, hash32, account, instrument, client_order_id)
    if sequence != 0:
        return live_slot(book, sequence)
    if state_at(book.state).old_orders == 0:
        return np.uint32(0)
    return find_old_client_id(book, hash32, account, instrument, client_order_id)


@inlined
def known_order_id(
    book: Book, hash32: Int, account: Int, instrument: Int, client_order_id: Int
) -> Int:
    """Return the order_id that a client_order_id has: of a live order, or of a recent one, or 0."""
    state = state_at(book.state)
    sequence = find_recent(book, hash32, account, instrument, client_order_id)
    if unlikely(sequence != 0):
        if sequence > state.forgotten or live_slot(book, sequence) != 0:
            return state.shard_bits | sequence
        return 0
    if state.old_orders == 0:
        return 0
    slot = find_old_client_id(book, hash32, account, instrument, client_order_id)
    return order_at(book, slot).order_id


@inlined
def live_slot(book: Book, sequence: Int) -> Int:
    """Return the slot of an order that stands in the ring, or 0 where it has ended."""
    slot = recent_at(book, recent_index(book, sequence)).slot
    order_id = state_at(book.state).shard_bits | sequence
    return slot if order_at(book, slot).order_id == order_id else np.uint32(0)


@inlined
def find_order_id(book: Book, order_id: Int) -> Int:
    """Return the slot of a live order, or 0; any number may be asked for."""
    state = state_at(book.state)
    if order_id >> SEQUENCE_BITS != state.shard_bits >> SEQUENCE_BITS:
        return np.uint32(0)
    sequence = order_id & SEQUENCE_MASK
    if sequence == 0 or sequence > state.order_sequence:
        return np.uint32(0)
    if in_ring(book, sequence):
        return live_slot(book, sequence)
    return find_old_order_id(book, order_id)


@inlined
def forget(book: Book, slot: Int, instrument: Int) -> None:
    """Take an order that ends out of the indexes of old orders; out of the ring it drops itself."""
    order = order_at(book, slot)
    if in_ring(book, order.order_id & SEQUENCE_MASK):
        return
    state_at(book.state).old_orders -= 1
    remove_order_id(book, slot)
    if order.client_order_id != _ZERO:
        symbol = instrument_at(book, instrument).symbol
        hash32 = client_id_hash(book, order.account, symbol, order.client_order_id)
        remove_client_id(book, hash32, slot)
