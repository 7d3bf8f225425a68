"""The latencies that a probe measures, in a file that the demo reads while they are measured."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

Latencies = npt.NDArray[np.int64]

MAX_SAMPLES = 1 << 20
_NAME = "latencies_ns.npy"


class LatencyFile:
    """How many there are, and then each in nanoseconds, in the order they were measured."""

    def __init__(self, directory: Path, create: bool = False) -> None:
        path = directory / _NAME
        if create:
            shape = (1 + MAX_SAMPLES,)
            self._words = np.lib.format.open_memmap(path, "w+", np.int64, shape)
        else:
            self._words = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return int(self._words[0])

    @property
    def is_full(self) -> bool:
        """Whether there is no room for more."""
        return len(self) == MAX_SAMPLES

    def add(self, latency_ns: int) -> None:
        """Append one; there must be room."""
        count = len(self)
        self._words[1 + count] = latency_ns
        self._words[0] = count + 1

    def between(self, start: int, end: int | None = None) -> Latencies:
        """Return those from number ``start`` up to ``end``, or as far as there are any."""
        return self._words[1 + start : 1 + (len(self) if end is None else end)].copy()
