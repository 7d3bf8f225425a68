"""Memory that a process had to hold for a while, given back to the system.

The C library keeps what is freed as holes between what is in use: after a flood of answers that
nobody read that would be hundreds of megabytes for ever.
"""

import gc
import os
from ctypes import CDLL

GROWN = 1.05
"""A process that holds less than this times what it came to last has nothing to give back."""
PAUSE_S, LONGEST_PAUSE_S = 5.0, 30.0
"""Between two times; twice as long each time that little came of it."""

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_trim = getattr(CDLL(None), "malloc_trim", None)  # glibc's


def give_back() -> None:
    """Give back what the C library holds and nobody uses, where it can."""
    if _trim is not None:
        _trim(0)


def resident_bytes() -> int:
    """Return how much memory this process has, with what it shares."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE_BYTES


class Heap:
    """The memory of this process, looked after now and then."""

    def __init__(self) -> None:
        self._least_bytes = resident_bytes()
        self._pause_s = PAUSE_S
        self._next_s = 0.0

    def look(self, now_s: float) -> bool:
        """Give back what is held in vain, where the process has grown; return whether it was tried.

        It takes a millisecond where there is nothing, and some 40 a gigabyte.
        """
        before = resident_bytes()
        if before < GROWN * self._least_bytes:
            self._least_bytes = min(self._least_bytes, before)
            return False
        if now_s < self._next_s:
            return False
        gc.collect()  # what ended in a circle, such as connections with what they had read
        give_back()
        after = resident_bytes()
        if before > GROWN * after:
            self._pause_s = PAUSE_S
        else:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._next_s = now_s + self._pause_s
        return True
