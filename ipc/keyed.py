"""Where the search for a number begins in a table of numbers that strangers choose, or keep.

Multiplied by a secret odd number, the upper bits of the product say where: whatever numbers are
chosen without knowing it, two of them share one of ``n`` places with a probability of at most
``2 / n`` (Dietzfelbinger, Hagerup, Katajainen, Penttonen, J. Algorithms 25, 1997).
"""

from typing import Any

import numpy as np

from ipc.compiled import HAVE_NUMBA, compiled

_HALF = np.uint64(32)
_WORD_MASK = (1 << 64) - 1


def place_of(number: int, factor: int, slots: int) -> int:
    """Return the place, below ``slots``."""
    return ((number * factor & _WORD_MASK) >> 32) * slots >> 32


def _home_of(number: Any, factor: Any, slots: Any) -> Any:
    """``place_of`` for words, as one."""
    return (((number * factor) >> _HALF) * np.uint64(slots)) >> _HALF


def _plain_home_of(number: Any, factor: Any, slots: Any) -> Any:
    return np.uint64(place_of(int(number), int(factor), int(slots)))


def cell_at(order_id: int, factor: int, cell_bits: int) -> int:
    """Return the cell of an order in a table of ``1 << cell_bits`` of them.

    Orders that follow each other have neighbouring cells, as caches like it. Each lap of as many
    orders as there are cells begins at a cell of its own, a secret one: who keeps orders alive that
    are so far apart would else have all of them in one cell.
    """
    start = ((order_id >> cell_bits) * factor & _WORD_MASK) >> 32
    return (order_id + start) & ((1 << cell_bits) - 1)


def _cell_of(order_id: Any, factor: Any, cell_bits: Any) -> Any:
    """``cell_at`` for words, as one."""
    start = ((order_id >> cell_bits) * factor) >> _HALF
    return (order_id + start) & ((np.uint64(1) << cell_bits) - np.uint64(1))


def _plain_cell_of(order_id: Any, factor: Any, cell_bits: Any) -> Any:
    return np.uint64(cell_at(int(order_id), int(factor), int(cell_bits)))


home_of = compiled(_home_of) if HAVE_NUMBA else _plain_home_of
cell_of = compiled(_cell_of) if HAVE_NUMBA else _plain_cell_of
