"""The levels outside a side's window: a radix tree without one-child nodes.

This is PATRICIA (Morrison, JACM 15, 1968).
A fork names the highest bit in which the keys below it differ; keys with that bit 0 are ``low``.
So every operation takes at most as many steps as a key has bits, whatever the keys, and the shape
depends on nothing but the keys. n levels need n - 1 forks.
"""

import numpy as np

from engine.books.ladder.layout import LEAF, NO_KEY
from engine.books.ladder.memory import (
    Book,
    Bool,
    Int,
    fork_at,
    highest_bit,
    level_at,
    open_book,
    side_at,
    state_at,
)
from ipc.native.compiled import called, inlined

_ONE = np.uint64(1)
_NONE = np.uint32(0)
_LEAF = np.uint32(LEAF)


@inlined
def is_level(node: Int) -> Bool:
    return node >= _LEAF


@inlined
def level_of(node: Int) -> Int:
    return np.uint32(node - _LEAF)


@inlined
def node_key(book: Book, node: Int) -> Int:
    """Return the key of a leaf."""
    return level_at(book, level_of(node)).key


@inlined
def goes_high(book: Book, fork: Int, key: Int) -> Bool:
    return (np.uint64(key) >> np.uint64(fork_at(book, fork).bit)) & _ONE != np.uint64(0)


@inlined
def child(book: Book, fork: Int, high: Bool) -> Int:
    return fork_at(book, fork).high if high else fork_at(book, fork).low


@inlined
def set_child(book: Book, side: Int, fork: Int, high: Bool, node: Int) -> None:
    """Replace one child of a fork, or with fork 0 the root."""
    if fork == 0:
        side_at(book, side).far_root = node
    elif high:
        fork_at(book, fork).high = node
    else:
        fork_at(book, fork).low = node


@inlined
def nearest_leaf(book: Book, side: Int, key: Int) -> Int:
    """Return the leaf that shares the longest path with a key; the tree must not be empty."""
    node = side_at(book, side).far_root
    while not is_level(node):
        node = child(book, node, goes_high(book, node, key))
    return node


@inlined
def lowest_key(book: Book, node: Int) -> Int:
    """Return the lowest key of a subtree."""
    while not is_level(node):
        node = fork_at(book, node).low
    return node_key(book, node)


@called
def find(address: Int, side: Int, key: Int) -> Int:
    """Return the far level at a key, or 0."""
    book = open_book(address, False, False)
    if side_at(book, side).far_levels == 0:
        return _NONE
    leaf = nearest_leaf(book, side, key)
    return level_of(leaf) if node_key(book, leaf) == key else _NONE


@called
def next_key(address: Int, side: Int, key: Int) -> Int:
    """Return the lowest far key that is not below ``key``, or NO_KEY."""
    book = open_book(address, False, False)
    record = side_at(book, side)
    if record.far_levels == 0:
        return NO_KEY
    if key <= record.far_key:
        return record.far_key
    found = node_key(book, nearest_leaf(book, side, key))
    if found == key:
        return key
    differ = highest_bit(np.uint64(found ^ key))
    # Below the node where key would branch off, all keys are on one side of it.
    above = _NONE
    node = record.far_root
    while not is_level(node) and fork_at(book, node).bit > differ:
        if goes_high(book, node, key):
            node = fork_at(book, node).high
        else:
            above = fork_at(book, node).high
            node = fork_at(book, node).low
    if found > key:
        return lowest_key(book, node)
    return lowest_key(book, above) if above != 0 else NO_KEY


@called
def add(address: Int, side: Int, key: Int, level: Int) -> None:
    """Add a far level at a key that has none."""
    book = open_book(address, False, False)
    record = side_at(book, side)
    leaf = np.uint32(level + _LEAF)
    record.far_levels += 1
    record.far_key = min(record.far_key, key)
    if record.far_levels == 1:
        record.far_root = leaf
        return
    bit = highest_bit(np.uint64(node_key(book, nearest_leaf(book, side, key)) ^ key))
    parent, high = _NONE, False
    node = record.far_root
    while not is_level(node) and fork_at(book, node).bit > bit:
        parent, high = node, goes_high(book, node, key)
        node = child(book, node, high)
    fork = take_fork(book)
    row = fork_at(book, fork)
    row.bit = bit
    key_is_high = (np.uint64(key) >> bit) & _ONE != np.uint64(0)
    row.low = node if key_is_high else leaf
    row.high = leaf if key_is_high else node
    set_child(book, side, parent, high, fork)


@called
def remove(address: Int, side: Int, key: Int) -> None:
    """Remove the far level at a key, which exists."""
    book = open_book(address, False, False)
    record = side_at(book, side)
    record.far_levels -= 1
    grandparent, parent_high = _NONE, False
    parent, high = _NONE, False
    node = record.far_root
    while not is_level(node):
        grandparent, parent_high = parent, high
        parent, high = node, goes_high(book, node, key)
        node = child(book, node, high)
    if parent == 0:
        record.far_root = _NONE
        record.far_key = NO_KEY
        return
    set_child(book, side, grandparent, parent_high, child(book, parent, not high))
    give_fork(book, parent)
    if key == record.far_key:
        record.far_key = lowest_key(book, record.far_root)


@inlined
def take_fork(book: Book) -> Int:
    state = state_at(book.state)
    fork = state.free_fork
    if fork != 0:
        state.free_fork = fork_at(book, fork).low
        return fork
    fork = state.fresh_fork
    state.fresh_fork = fork + 1
    return fork


@inlined
def give_fork(book: Book, fork: Int) -> None:
    state = state_at(book.state)
    fork_at(book, fork).low = state.free_fork
    state.free_fork = fork
