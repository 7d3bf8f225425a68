"""The last ids that a shard gave, kept in a file from one run to the next: no id is given twice.

The file is three u64 words (commands, orders, trades), mapped and written before any report of a
batch leaves, so it survives the death of the process.
"""

import mmap
import os
from pathlib import Path

from engine.book import Counters

_BYTES = 24


class SequenceFile:
    """One shard's file; its matcher is the only writer."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Allocated, not only long: a full disk must be an error here, not a crash later.
            os.posix_fallocate(descriptor, 0, _BYTES)
            self._map = mmap.mmap(descriptor, _BYTES)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._map).cast("Q")

    def load(self) -> Counters:
        """Return what was stored last; zeros in a new file."""
        return Counters(*self._words)

    def store(self, counters: Counters) -> None:
        """Keep the counters."""
        self._words[0], self._words[1], self._words[2] = counters

    def close(self) -> None:
        """Release the mapping."""
        self._words.release()
        self._map.close()
