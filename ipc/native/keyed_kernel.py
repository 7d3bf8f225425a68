"""``ipc.native.keyed`` for words in compiled code."""

from typing import Any

import numpy as np

from ipc.native.compiled import HAVE_NUMBA, compiled
from ipc.native.keyed import cell_at, place_of

_HALF = np.uint64(32)


def _home_of(number: Any, factor: Any, slots: Any) -> Any:
    """``place_of`` for words, as one."""
    return (((number * factor) >> _HALF) * np.uint64(slots)) >> _HALF


def _plain_home_of(number: Any, factor: Any, slots: Any) -> Any:
    return np.uint64(place_of(int(number), int(factor), int(slots)))


def _cell_of(order_id: Any, factor: Any, cell_bits: Any) -> Any:
    """``cell_at`` for words, as one."""
    start = ((order_id >> cell_bits) * factor) >> _HALF
    return (order_id + start) & ((np.uint64(1) << cell_bits) - np.uint64(1))


def _plain_cell_of(order_id: Any, factor: Any, cell_bits: Any) -> Any:
    return np.uint64(cell_at(int(order_id), int(factor), int(cell_bits)))


home_of = compiled(_home_of) if HAVE_NUMBA else _plain_home_of
cell_of = compiled(_cell_of) if HAVE_NUMBA else _plain_cell_of
