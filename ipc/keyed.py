"""Where the search for a number begins in a table of numbers that strangers choose.

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


home_of = compiled(_home_of) if HAVE_NUMBA else _plain_home_of
