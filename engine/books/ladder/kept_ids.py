"""client_order_ids that are kept for their accounts once the ring of recent orders forgets them.

The rules are those of ``engine.books.id_memory``. All is done when a block of orders begins: the
block that has just ended is counted, then the oldest is forgotten. Both walk through orders that
lie one after the other, and find their accounts; one with many recent orders costs no more than
that.

Kept ids are rows of a pool of fixed size, whose memory is used from its beginning. They are linked
from oldest to newest, of all and of each account, and found through chains by the same hash as
recent ones.
"""

import numpy as np

from engine.books.ladder.layout import WALK_LIMIT
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    Kept,
    Row,
    head_at,
    holder_at,
    instrument_at,
    kept_apart,
    kept_at,
    open_book,
    prefetch_read,
    prefetch_write,
    recent_at,
    state_at,
    unlikely,
)
from engine.books.ladder.order_index import (
    client_id_hash,
    distance,
    following,
    home_of,
    note_long_walk,
    note_probes,
    recent_index,
)
from ipc.native.compiled import called, inlined
from ipc.native.words import packed

_HALF = np.uint64(32)
_ZERO = np.uint64(0)
_NO_ROW = np.uint32(0)
_AHEAD = 8
"""Orders between asking for memory and using it."""


@inlined
def tables_of(book: Book) -> Kept:
    state = state_at(book.state)
    return packed(Kept(state.kept, state.heads, state.holders))


@inlined
def head_of(book: Book, hash32: Int) -> Row:
    return head_at(tables_of(book), hash32 >> state_at(book.state).head_shift)


@inlined
def ask_for_head(book: Book, hash32: Int) -> None:
    """Ask for what a search for a kept id begins with, where there are any."""
    if unlikely(state_at(book.state).kept_count != 0):
        prefetch_read(head_of(book, hash32))


@inlined
def kept_order_id(
    book: Book, hash32: Int, account: Int, instrument: Int, client_order_id: Int
) -> Int:
    """Return the order_id that a kept client_order_id has, or 0."""
    if state_at(book.state).kept_count == 0 or head_of(book, hash32).row == _NO_ROW:
        return 0
    return find(book.state, hash32, account, instrument, client_order_id)


@called
def find(address: Int, hash32: Int, account: Int, instrument: Int, client_order_id: Int) -> Int:
    kept_apart()
    book = open_book(address, True, True)
    tables = tables_of(book)
    number = head_of(book, hash32).row
    steps = 0
    while number != _NO_ROW:
        row = kept_at(tables, number)
        if (
            row.client_order_id == client_order_id
            and row.account == account
            and row.instrument == instrument
        ):
            return row.order_id
        number = row.chain
        steps += 1
        if steps == WALK_LIMIT:
            note_long_walk(book)
    return 0


# Accounts -----------------------------------------------------------------------------------------


@inlined
def holder_home(book: Book, account: Int) -> Int:
    mixed = account * book.account_factor
    mixed ^= mixed >> _HALF
    mixed *= book.last_factor
    return home_of(mixed >> _HALF, state_at(book.state).holder_entries)


@inlined
def is_free(row: Row) -> Bool:
    return row.recent == _NO_ROW and row.kept == _NO_ROW


@inlined
def holder_index(book: Book, account: Int) -> Int:
    """Return where an account's row is, or the free one where it would be."""
    tables, entries = tables_of(book), state_at(book.state).holder_entries
    home = holder_home(book, account)
    index = home
    while not is_free(holder_at(tables, index)) and holder_at(tables, index).account != account:
        index = following(index, entries)
    note_probes(book, home, index, entries)
    return index


@inlined
def holder_of(book: Book, account: Int) -> Row:
    """Return an account's row; a free one is its own from the first count on."""
    row = holder_at(tables_of(book), holder_index(book, account))
    row.account = account
    return row


@called
def close_gap(address: Int, account: Int) -> None:
    """Move others up where an account's row has become free."""
    kept_apart()
    book = open_book(address, True, True)
    tables, entries = tables_of(book), state_at(book.state).holder_entries
    gap = holder_home(book, account)
    while not is_free(holder_at(tables, gap)):
        gap = following(gap, entries)
    index = following(gap, entries)
    while not is_free(holder_at(tables, index)):
        row = holder_at(tables, index)
        home = holder_home(book, row.account)
        if distance(home, index, entries) >= distance(gap, index, entries):
            free = holder_at(tables, gap)
            free.account = row.account
            free.recent = row.recent
            free.kept = row.kept
            free.oldest = row.oldest
            free.newest = row.newest
            row.recent = _NO_ROW
            row.kept = _NO_ROW
            gap = index
        index = following(index, entries)


@called
def keep_share(address: Int, index: Int) -> None:
    """Let an account's oldest kept ids go that are beyond its share."""
    kept_apart()
    book = open_book(address, True, True)
    row = holder_at(tables_of(book), index)
    most = state_at(book.state).account_ids
    while row.kept != _NO_ROW and np.int64(row.recent) + np.int64(row.kept) > most:
        unlink(book.state, row.oldest)
        row.oldest = release(book, row.oldest)
        row.kept -= 1


# Kept ids -----------------------------------------------------------------------------------------


@inlined
def hash_of(book: Book, row: Row) -> Int:
    symbol = instrument_at(book, row.instrument).symbol
    return client_id_hash(book, row.account, symbol, row.client_order_id)


@called
def unlink(address: Int, number: Int) -> None:
    """Take a kept id out of its chain, and from between older and newer ones."""
    kept_apart()
    book = open_book(address, True, True)
    state, tables = state_at(book.state), tables_of(book)
    row = kept_at(tables, number)
    head = head_of(book, hash_of(book, row))
    if head.row == number:
        head.row = row.chain
    else:
        before = head.row
        while kept_at(tables, before).chain != number:
            before = kept_at(tables, before).chain
        kept_at(tables, before).chain = row.chain
    if row.older != _NO_ROW:
        kept_at(tables, row.older).newer = row.newer
    else:
        state.oldest_kept = row.newer
    if row.newer != _NO_ROW:
        kept_at(tables, row.newer).older = row.older
    else:
        state.newest_kept = row.older


@inlined
def release(book: Book, number: Int) -> Int:
    """Give a row back; return the next newer one of its account."""
    state = state_at(book.state)
    row = kept_at(tables_of(book), number)
    following_row = row.newer_of_account
    row.order_id = 0
    row.chain = state.free_kept
    state.free_kept = number
    state.kept_count -= 1
    return following_row


@inlined
def displace(book: Book) -> None:
    """Let the oldest kept id of all go, to make room."""
    state, tables = state_at(book.state), tables_of(book)
    number = state.oldest_kept
    account = kept_at(tables, number).account
    unlink(book.state, number)
    holder = holder_at(tables, holder_index(book, account))
    holder.oldest = release(book, number)
    holder.kept -= 1
    state.displaced_ids += 1
    if is_free(holder):
        close_gap(book.state, account)


@called
def enter(address: Int, number: Int, no_more_recent: Int) -> None:
    """Make a row the first of its chain, and the newest of its account, of which so many ids are
    not recent any more."""
    kept_apart()
    book = open_book(address, True, True)
    tables = tables_of(book)
    row = kept_at(tables, number)
    head = head_of(book, hash_of(book, row))
    row.chain = head.row
    head.row = number
    row.newer_of_account = _NO_ROW
    holder = holder_of(book, row.account)
    if holder.kept == _NO_ROW:
        holder.oldest = number
    else:
        kept_at(tables, holder.newest).newer_of_account = number
    holder.newest = number
    holder.kept += 1
    holder.recent -= no_more_recent


@called
def keep(address: Int, sequence: Int) -> None:
    """Keep the id of an order that is being forgotten."""
    kept_apart()
    book = open_book(address, True, True)
    state, tables = state_at(book.state), tables_of(book)
    if state.kept_count == state.kept_ids:
        displace(book)
    number = state.free_kept
    if number != _NO_ROW:
        state.free_kept = kept_at(tables, number).chain
    else:
        number = state.fresh_kept
        state.fresh_kept += 1
    recent = recent_at(book, recent_index(book, sequence))
    row = kept_at(tables, number)
    row.account = recent.account
    row.client_order_id = recent.client_order_id
    row.order_id = state.shard_bits | sequence
    row.instrument = recent.instrument
    row.newer = _NO_ROW
    row.older = state.newest_kept
    if state.newest_kept != _NO_ROW:
        kept_at(tables, state.newest_kept).newer = number
    else:
        state.oldest_kept = number
    state.newest_kept = number
    state.kept_count += 1
    enter(book.state, number, 1)


# Blocks -------------------------------------------------------------------------------------------


@inlined
def count_orders(book: Book, first: Int, last: Int) -> None:
    """Count the ids of recent orders for their accounts; kept ones beyond a share go."""
    most = state_at(book.state).account_ids
    for sequence in range(first, last + 1):
        recent = recent_at(book, recent_index(book, sequence))
        if recent.client_order_id == _ZERO:
            continue
        index = holder_index(book, recent.account)
        row = holder_at(tables_of(book), index)
        row.account = recent.account
        row.recent += 1
        if unlikely(row.kept != _NO_ROW) and np.int64(row.recent) + np.int64(row.kept) > most:
            keep_share(book.state, index)


@inlined
def ask_for_chain(book: Book, sequence: Int) -> None:
    """Ask for where the id of a recent order would be entered; it may be any."""
    recent = recent_at(book, recent_index(book, sequence))
    symbol = instrument_at(book, recent.instrument).symbol
    hash32 = client_id_hash(book, recent.account, symbol, recent.client_order_id)
    prefetch_write(head_of(book, hash32))


@inlined
def forget_orders(book: Book, first: Int, last: Int) -> None:
    """Take orders off what is recent, and keep the ids of those whose accounts have few."""
    most = state_at(book.state).account_ids
    keeping = False
    for sequence in range(first, last + 1):
        recent = recent_at(book, recent_index(book, sequence))
        if recent.client_order_id == _ZERO:
            continue
        if unlikely(keeping):  # where one is kept, others will be
            ask_for_chain(book, sequence + _AHEAD)
        row = holder_at(tables_of(book), holder_index(book, recent.account))
        keeping = np.int64(row.recent) <= most
        if unlikely(keeping):
            keep(book.state, sequence)
        else:
            row.recent -= 1


@called
def begin_block(address: Int) -> None:
    """The first order of a block is accepted, and not counted or in the ring yet."""
    kept_apart()
    book = open_book(address, True, True)
    state = state_at(book.state)
    last = state.order_sequence
    block = state.block_mask + 1
    if state.recent_orders == 0:
        state.forgotten = last + 1
        return
    if state.account_ids != 0:
        count_orders(book, last - block + 1, last)
    forgotten = last + block - state.recent_orders
    if forgotten > 0:
        if state.account_ids != 0:
            forget_orders(book, forgotten - block + 1, forgotten)
        state.forgotten = forgotten


@called
def relink(address: Int) -> None:
    """Count anew, and enter all that is kept, where heads and holders are empty."""
    kept_apart()
    book = open_book(address, True, True)
    state = state_at(book.state)
    if state.account_ids == 0:
        return
    last = (state.order_sequence - 1) & ~state.block_mask
    if last > state.forgotten:
        count_orders(book, state.forgotten + 1, last)
    number = state.oldest_kept
    while number != _NO_ROW:
        enter(book.state, number, 0)
        number = kept_at(tables_of(book), number).newer
