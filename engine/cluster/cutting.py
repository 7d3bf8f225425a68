"""Frames of a link, cut into pieces for the log: whole ones, up to a bound, and whose they are."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ipc.arrays import Bytes
from ipc.native.compiled import HAVE_NUMBA, compiled
from ipc.native.unaligned import load_u64
from ipc.wire.frames import HEADER, HEADER_BYTES
from ipc.wire.messages import MAX_BODY

MOST_BYTES = 1 << 16
"""Of the frames of one entry."""
MOST_FRAMES = 4_096
MORE, CONTROL, FULL, LONG, GROW = range(5)
"""Why cutting stopped: the rest is no whole frame, the next one is for this node itself, the bounds
are reached, a frame is longer than any may be, a stream's number is beyond the marks."""
_LOW, _SHIFT, _STREAM = np.uint64(0xFFFF_FFFF), np.uint64(32), np.uint64(0x7FFF_FFFF)
Marks = npt.NDArray[np.uint32]


@compiled
def _cut_words(
    data: Bytes, start: Any, end: Any, marks: Marks, mark: Any, streams: Marks
) -> tuple[Any, Any, Any]:
    position: Any = start
    count: Any = 0
    for _ in range(MOST_FRAMES):
        if end - position < HEADER_BYTES:
            return position, count, MORE
        head = load_u64(data, position)
        length, stream = np.int64(head & _LOW), np.int64((head >> _SHIFT) & _STREAM)
        if length > MAX_BODY:
            return position, count, LONG
        behind = position + HEADER_BYTES + length
        if behind > end:
            return position, count, MORE
        if behind - start > MOST_BYTES:
            return position, count, FULL
        if head >> _SHIFT == 0:
            return position, count, CONTROL
        if stream >= len(marks):
            return position, count, GROW
        if marks[stream] != mark:
            marks[stream] = mark
            streams[count] = stream
            count += 1
        position = behind
    return position, count, FULL


def _cut_plain(
    data: Bytes, start: int, end: int, marks: Marks, mark: int, streams: Marks
) -> tuple[int, int, int]:
    """Be ``_cut_words`` without compiled code."""
    position = count = 0
    position = start
    for _ in range(MOST_FRAMES):
        if end - position < HEADER_BYTES:
            return position, count, MORE
        length, whole = HEADER.unpack_from(data.data, position)
        stream = whole & int(_STREAM)
        behind = position + HEADER_BYTES + length
        if length > MAX_BODY:
            return position, count, LONG
        if behind > end:
            return position, count, MORE
        if behind - start > MOST_BYTES:
            return position, count, FULL
        if whole == 0:
            return position, count, CONTROL
        if stream >= len(marks):
            return position, count, GROW
        if marks[stream] != mark:
            marks[stream] = mark
            streams[count] = stream
            count += 1
        position = behind
    return position, count, FULL


_cut = _cut_words if HAVE_NUMBA else _cut_plain


class Cutter:
    """Cuts what has come on one link."""

    def __init__(self) -> None:
        self._data = np.zeros(1 << 18, np.uint8)
        self._start = self._end = 0
        self._marks = np.zeros(1_024, np.uint32)
        self._mark = 0
        self._streams = np.zeros(MOST_FRAMES, np.uint32)

    def room(self, count: int) -> memoryview:
        """Return where the next ``count`` bytes may be put, for ``received`` to follow."""
        if len(self._data) - self._end < count + 8:  # a load may reach beyond the last frame
            left = self._data[self._start : self._end].copy()
            if len(self._data) < len(left) + count + 8:
                self._data = np.zeros(2 * (len(left) + count + 8), np.uint8)
            self._data[: len(left)] = left
            self._start, self._end = 0, len(left)
        return self._data.data[self._end : self._end + count]

    def received(self, count: int) -> None:
        """Take the first ``count`` bytes of what was put into ``room``."""
        self._end += count

    def cut(self) -> tuple[bytes, list[int], int]:
        """Return the next whole frames, up to the bounds, the streams that they are of, and why
        there are no more of them."""
        self._mark = (self._mark + 1) & 0xFFFF_FFFF
        if self._mark == 0:
            self._marks[:] = 0
            self._mark = 1
        start = self._start
        self._start, count, why = map(
            int, _cut(self._data, start, self._end, self._marks, self._mark, self._streams)
        )
        found = self._data[start : self._start].tobytes(), self._streams[:count].tolist()
        if why == GROW:
            _, stream = HEADER.unpack_from(self._data.data, self._start)
            grown = np.zeros(2 * (stream & int(_STREAM)) + 2, np.uint32)
            grown[: len(self._marks)] = self._marks
            self._marks = grown
        return *found, why

    def control(self) -> bytes:
        """Take the body of the next frame, which ``CONTROL`` has told of."""
        length, _ = HEADER.unpack_from(self._data.data, self._start)
        start = self._start + HEADER_BYTES
        self._start = start + length
        return self._data[start : self._start].tobytes()


def warm() -> None:
    """Compile or load what cuts."""
    Cutter().cut()
