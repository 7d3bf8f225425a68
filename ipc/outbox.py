"""Bytes on their way to one socket: put at the end, sent from the front, in one buffer that grows.

Compiled code may put bytes there too: ``reserve`` room, write from ``end`` on at ``address``, and
say so with ``added``. The buffer stays while it is in use, so its memory stays near the processor.
"""

import numpy as np
import numpy.typing as npt

from ipc.views import address_of

FIRST_BYTES = 1 << 16
KEPT_BYTES = 1 << 22
"""A buffer larger than this is given back when it is empty."""


class Outbox:
    """The unsent bytes of one connection."""

    def __init__(self) -> None:
        self.begin = 0
        self.end = 0
        """The unsent bytes are ``buffer[begin:end]``."""
        self._take(FIRST_BYTES)

    def __len__(self) -> int:
        return self.end - self.begin

    def reserve(self, count: int) -> None:
        """Make room for ``count`` bytes behind ``end``; the buffer may become another one."""
        if self.begin == self.end:
            self.begin = self.end = 0
            if self._size > KEPT_BYTES and count <= FIRST_BYTES:
                self._take(FIRST_BYTES)
        if self.end + count <= self._size:
            return
        unsent = self.buffer[self.begin : self.end]
        need = len(unsent) + count
        if need > self._size or self.begin < len(unsent):
            self._take(max(self._size, 1 << (need - 1).bit_length()))
        self.buffer[: len(unsent)] = unsent
        self.begin, self.end = 0, len(unsent)

    def added(self, end: int) -> None:
        """Take what was written from ``end`` on up to the new ``end``."""
        assert self.end <= end <= self._size
        self.end = end

    def append(self, data: bytes | memoryview) -> None:
        """Put bytes at the end."""
        self.reserve(len(data))
        end = self.end + len(data)
        self._view[self.end : end] = data
        self.end = end

    def unsent(self) -> memoryview:
        """Return the bytes that were not sent yet; valid until the next ``reserve``."""
        return self._view[self.begin : self.end]

    def sent(self, count: int) -> None:
        """Forget so many bytes at the front."""
        self.begin += count
        assert self.begin <= self.end

    def _take(self, size: int) -> None:
        self.buffer: npt.NDArray[np.uint8] = np.empty(size, np.uint8)
        self.address = address_of(self.buffer)
        self._view = self.buffer.data
        self._size = size
