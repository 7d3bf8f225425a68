"""Bytes on their way to one socket: put at the end, sent from the front, in one buffer that grows.

Compiled code may put bytes there too: where the buffer is and what of it is in use stands in words
(OUTBOX) whose address does not change. It moves ``end`` where there is room, and asks for
``reserve`` where there is none. The buffer stays in use, so its memory stays near the processor.
"""

import numpy as np
import numpy.typing as npt

from ipc.native.views import address_of

FIRST_BYTES = 1 << 16
KEPT_BYTES = 1 << 22
"""A buffer larger than this is given back when it is empty."""

OUTBOX = np.dtype([(name, "<u8") for name in ("address", "size", "begin", "end")])
"""Where a buffer is, and which of its bytes wait to be sent."""

_ADDRESS, _SIZE, _BEGIN, _END = range(4)


class Outbox:
    """The unsent bytes of one connection."""

    def __init__(self) -> None:
        record = np.zeros(1, OUTBOX)
        self.address = address_of(record)
        """Where the OUTBOX record of this outbox is."""
        self._words = record.view(np.uint64).data
        self._take(FIRST_BYTES)

    def __len__(self) -> int:
        words = self._words
        return words[_END] - words[_BEGIN]

    def reserve(self, count: int) -> None:
        """Make room for ``count`` bytes behind the last; the buffer may become another one."""
        words = self._words
        begin, end, size = words[_BEGIN], words[_END], words[_SIZE]
        if end + count <= size:
            return
        unsent = self.buffer[begin:end]
        need = len(unsent) + count
        if need > size or begin < len(unsent):
            self._take(max(size, 1 << (need - 1).bit_length()))
        self.buffer[: len(unsent)] = unsent
        words[_BEGIN], words[_END] = 0, len(unsent)

    def append(self, data: bytes | memoryview) -> None:
        """Put bytes at the end."""
        self.reserve(len(data))
        end = self._words[_END]
        self._view[end : end + len(data)] = data
        self._words[_END] = end + len(data)

    def unsent(self) -> memoryview:
        """Return the bytes that were not sent yet; valid until the next ``reserve``."""
        words = self._words
        return self._view[words[_BEGIN] : words[_END]]

    def sent(self, count: int) -> None:
        """Forget so many bytes at the front."""
        words = self._words
        begin = words[_BEGIN] + count
        assert begin <= words[_END]
        if begin < words[_END]:
            words[_BEGIN] = begin
            return
        words[_BEGIN] = words[_END] = 0
        if words[_SIZE] > KEPT_BYTES:
            self._take(FIRST_BYTES)

    def _take(self, size: int) -> None:
        self.buffer: npt.NDArray[np.uint8] = np.empty(size, np.uint8)
        self._view = self.buffer.data
        self._words[_ADDRESS], self._words[_SIZE] = address_of(self.buffer), size
