"""The price levels of one side: an exact window near the market, a tree for what lies far.

A level whose key lies in its side's window is found by its place in an array; a bitmap of two
layers finds the next one. The array is used as a ring, key modulo ``WINDOW``, so a window moves
without touching the levels that stay in it. All other levels stand in a radix tree
(``engine.books.ladder.sparse_levels``). A window moves when the far levels made since its last move
outnumber those that would have to leave it, so every move is paid for; or, at once, when it is
empty.
"""

import numpy as np

from engine.books.ladder import sparse_levels
from engine.books.ladder.layout import (
    MOVE_TRIAL,
    NO_KEY,
    WINDOW,
    WINDOW_LEAD,
    WINDOW_SLACK,
    WINDOW_SUMMARIES,
    WINDOW_WORDS,
    WORD_BITS,
)
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    count_bits,
    level_at,
    lowest_bit,
    near_at,
    open_book,
    order_at,
    side_at,
    signed,
    state_at,
    summary_at,
    unlikely,
    word_at,
)
from ipc.native.compiled import called, inlined

_ONE = np.uint64(1)
_ALL_BUT_LOWEST = np.uint64(0xFFFFFFFFFFFFFFFE)
_ZERO = np.uint64(0)
_BIT_MASK = np.uint64(WORD_BITS - 1)
_WORD_SHIFT = np.uint64(WORD_BITS.bit_length() - 1)
_POSITION_MASK = np.uint64(WINDOW - 1)
_SUMMARY_MASK = np.uint64(WINDOW_SUMMARIES - 1)
_WINDOW = np.uint64(WINDOW)
_WORDS = np.uint64(WINDOW_WORDS)
_SUMMARIES = np.uint64(WINDOW_SUMMARIES)


# The window --------------------------------------------------------------------------------------


@inlined
def in_window(window_key: Int, key: Int) -> Bool:
    return np.uint64(key - window_key) < _WINDOW


@inlined
def position_of(key: Int) -> Int:
    return np.uint64(key) & _POSITION_MASK


@inlined
def word_bits(book: Book, side: Int, position: Int) -> Int:
    """Return the word of the bitmap that holds a position."""
    return word_at(book, np.uint64(side) * _WORDS + (position >> _WORD_SHIFT)).bits


@inlined
def near_level(book: Book, side: Int, key: Int) -> Int:
    """Return the level at a key within the window, or 0."""
    position = position_of(key)
    if (word_bits(book, side, position) >> (position & _BIT_MASK)) & _ONE:
        return near_at(book, np.uint64(side) * _WINDOW + position).level
    return np.uint32(0)


@inlined
def add_near(book: Book, side: Int, key: Int, level: Int) -> None:
    position = position_of(key)
    near_at(book, np.uint64(side) * _WINDOW + position).level = level
    word_number = position >> _WORD_SHIFT
    word_at(book, np.uint64(side) * _WORDS + word_number).bits |= _ONE << (position & _BIT_MASK)
    summary = summary_at(book, np.uint64(side) * _SUMMARIES + (word_number >> _WORD_SHIFT))
    summary.bits |= _ONE << (word_number & _BIT_MASK)
    side_at(book, side).near_levels += 1


@inlined
def remove_near(book: Book, side: Int, key: Int) -> None:
    position = position_of(key)
    word_number = position >> _WORD_SHIFT
    word = word_at(book, np.uint64(side) * _WORDS + word_number)
    word.bits &= ~(_ONE << (position & _BIT_MASK))
    if word.bits == _ZERO:
        summary = summary_at(book, np.uint64(side) * _SUMMARIES + (word_number >> _WORD_SHIFT))
        summary.bits &= ~(_ONE << (word_number & _BIT_MASK))
    side_at(book, side).near_levels -= 1


@inlined
def next_position(book: Book, side: Int, position: Int) -> Int:
    """Return the first position taken at or, round the ring, after one; there must be one."""
    first_word = np.uint64(side) * _WORDS
    first_summary = np.uint64(side) * _SUMMARIES
    number = position >> _WORD_SHIFT
    bits = word_at(book, first_word + number).bits >> (position & _BIT_MASK)
    if bits != _ZERO:
        return position + lowest_bit(bits)
    group = number >> _WORD_SHIFT
    bits = summary_at(book, first_summary + group).bits
    bits &= _ALL_BUT_LOWEST << (number & _BIT_MASK)
    while bits == _ZERO:
        group = (group + _ONE) & _SUMMARY_MASK
        bits = summary_at(book, first_summary + group).bits
    number = (group << _WORD_SHIFT) + lowest_bit(bits)
    return (number << _WORD_SHIFT) + lowest_bit(word_at(book, first_word + number).bits)


@inlined
def next_near_key(book: Book, side: Int, key: Int) -> Int:
    """Return the best key of the window at or after ``key``, which lies in it, or NO_KEY."""
    record = side_at(book, side)
    if record.near_levels == 0:
        return NO_KEY
    position = next_position(book, side, position_of(key))
    window_key = record.window_key
    found = window_key + signed((position - np.uint64(window_key)) & _POSITION_MASK)
    return found if found >= key else NO_KEY


# Both kinds of level -----------------------------------------------------------------------------


@inlined
def find_level(book: Book, side: Int, key: Int) -> Int:
    """Return the level at a key, or 0."""
    record = side_at(book, side)
    if in_window(record.window_key, key):
        return near_level(book, side, key)
    return sparse_levels.find(book.state, side, key)


@inlined
def next_key(book: Book, side: Int, key: Int) -> Int:
    """Return the best key at or after one, or NO_KEY."""
    record = side_at(book, side)
    window_key = record.window_key
    near = NO_KEY
    if key < window_key + WINDOW:
        near = next_near_key(book, side, max(key, window_key))
    if record.far_levels == 0:
        return near
    return min(near, sparse_levels.next_key(book.state, side, key))


@inlined
def add_level(book: Book, side: Int, key: Int, slot: Int) -> None:
    """Make a level at a key that has none, with an order as its only one."""
    state = state_at(book.state)
    level = state.free_level
    if level != 0:
        state.free_level = level_at(book, level).oldest
    else:
        level = state.fresh_level
        state.fresh_level = level + 1
    order = order_at(book, slot)
    order.previous = 0
    order.level = level
    row = level_at(book, level)
    row.key = key
    row.quantity = order.leaves_qty
    row.oldest = slot
    row.youngest = slot
    row.order_count = 1
    row.side = side
    record = side_at(book, side)
    if unlikely(not in_window(record.window_key, key)):
        add_far(book.state, side, key, level)
    else:
        add_near(book, side, key, level)
    better = key < record.best_key  # hard to foresee: computed, not branched on
    record.best_key = key if better else record.best_key
    record.best_level = level if better else record.best_level


@inlined
def remove_level(book: Book, side: Int, level: Int) -> None:
    """Remove a level whose last order leaves."""
    record = side_at(book, side)
    row = level_at(book, level)
    key = row.key
    if unlikely(not in_window(record.window_key, key)):
        sparse_levels.remove(book.state, side, key)
    else:
        remove_near(book, side, key)
    state = state_at(book.state)
    row.oldest = state.free_level
    state.free_level = level
    if key == record.best_key:
        find_best(book, side, key)


@inlined
def find_best(book: Book, side: Int, gone: Int) -> None:
    """Set a side's best level after the one at key ``gone`` was removed."""
    record = side_at(book, side)
    if record.near_levels == 0:
        if record.far_levels == 0:
            record.best_key = NO_KEY
            record.best_level = 0
            return
        place_window(book.state, side, record.far_key)
        gone = record.window_key
    window_key = record.window_key
    start = gone if in_window(window_key, gone) else window_key
    position = next_position(book, side, position_of(start))
    key = window_key + signed((position - np.uint64(window_key)) & _POSITION_MASK)
    level = near_at(book, np.uint64(side) * _WINDOW + position).level
    if record.far_key < key:
        key = record.far_key
        level = sparse_levels.find(book.state, side, key)
    record.best_key = key
    record.best_level = level


# Moving the window -------------------------------------------------------------------------------


@inlined
def window_key_for(best_key: Int) -> Int:
    """Return where the window of a side with this best key should begin."""
    return (best_key - WINDOW_LEAD) & -WORD_BITS


@called
def add_far(address: Int, side: Int, key: Int, level: Int) -> None:
    """Add a level outside the window, or move the window to it if that pays."""
    book = open_book(address, False, False)
    record = side_at(book, side)
    if record.near_levels == 0 and key < record.best_key:
        place_window(book.state, side, key)
        add_near(book, side, key, level)
        return
    sparse_levels.add(book.state, side, key, level)
    record.credit += 1
    if record.credit % MOVE_TRIAL != 0:
        return
    target = window_key_for(min(record.best_key, key))
    if abs(target - record.window_key) >= WINDOW_SLACK:
        leaving = record.near_levels - count_near(book.state, side, target)
        if leaving <= record.credit:
            place_window(book.state, side, min(record.best_key, key))


@called
def count_near(address: Int, side: Int, target: Int) -> Int:
    """Return how many levels of the window would stay if it began at ``target``."""
    book = open_book(address, False, False)
    window_key = side_at(book, side).window_key
    count = 0
    key = max(window_key, target)
    end = min(window_key, target) + WINDOW
    while key < end:
        count += signed(count_bits(word_bits(book, side, position_of(key))))
        key += WORD_BITS
    return count


@inlined
def evict(book: Book, side: Int, start: Int, end: Int) -> None:
    """Move the levels with keys from start to end, both in the window, out of it."""
    while start < end:
        leaving = next_near_key(book, side, start)
        if leaving >= end:
            return
        level = near_level(book, side, leaving)
        remove_near(book, side, leaving)
        sparse_levels.add(book.state, side, leaving, level)
        start = leaving + 1


@called
def place_window(address: Int, side: Int, best_key: Int) -> None:
    """Move a side's window to where it suits its best key."""
    book = open_book(address, False, False)
    record = side_at(book, side)
    old, new = record.window_key, window_key_for(best_key)
    if record.near_levels != 0:
        evict(book, side, old, min(old + WINDOW, new))
        evict(book, side, max(old, new + WINDOW), old + WINDOW)
    record.window_key = new
    record.credit = 0
    key = sparse_levels.next_key(book.state, side, new)
    while key < new + WINDOW:
        level = sparse_levels.find(book.state, side, key)
        sparse_levels.remove(book.state, side, key)
        add_near(book, side, key, level)
        key = sparse_levels.next_key(book.state, side, key)
