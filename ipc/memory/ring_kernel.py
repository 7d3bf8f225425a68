"""What the writer of a ring does in compiled code; ``ipc.memory.ring`` says what it means.

Arrays: ``words`` (u64, the ring's own) and ``rows`` (bytes of all rows).
"""

from typing import Any

import numpy as np

from ipc.arrays import Words
from ipc.memory.ring import CLAIMED, CURSOR, FIRST_READER, LINE, PUBLISHED
from ipc.native.compiled import inlined
from ipc.native.kernel_atomics import fence, load_acquire, store_release


@inlined
def free_rows(words: Words, capacity: Any, readers: Any) -> Any:
    """Return how many records fit without overtaking a gating reader."""
    last = words[PUBLISHED]
    room: Any = np.int64(capacity)
    for reader in range(readers):
        cursor = load_acquire(words, np.uint64(FIRST_READER + LINE * reader + CURSOR))
        room = min(room, np.int64(capacity) - np.int64(last - cursor))
    return room


@inlined
def claim(words: Words, count: Any) -> Any:
    """Announce further records; return the sequence of the last one before them.

    Where a writer died in the midst of a batch it has claimed more: that stays spoiled.
    """
    last = words[PUBLISHED]
    words[CLAIMED] = max(last + np.uint64(count), words[CLAIMED])
    fence()
    return last


@inlined
def show(words: Words, count: Any) -> None:
    """Show the records that were claimed."""
    store_release(words, np.uint64(PUBLISHED), words[PUBLISHED] + np.uint64(count))
