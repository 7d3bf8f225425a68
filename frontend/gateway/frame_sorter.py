"""Sorting whole frames by where they go, in compiled code: no Python object a frame.

Towards matchers a frame's destination follows from tag and symbol, and the account's stream is
written into its header; back to clients it is the stream. Either way the frames of one
destination end up in one piece, in the order in which they came.
"""

from struct import Struct
from typing import Any

import numpy as np

from ipc.arrays import Bytes, Integers
from ipc.native.compiled import called, compiled
from ipc.native.unaligned import copy_bytes, load_u32, store_u32
from ipc.wire.field_codec import REPORT_ANSWERS_AT
from ipc.wire.frames import HEADER_BYTES, frame
from ipc.wire.messages import (
    COMMAND_TAGS,
    MAX_COMMAND_BODY,
    QUERY_TAGS,
    SERVER_MESSAGES,
    MassCancel,
    Report,
    tag_of,
)
from ipc.wire.packing import ARRAY16, FIXINT_END, read_uint

DONE = 0
"""Sorting stopped: no further frame is whole."""
ODD = 1
"""Sorting stopped: the next frame is whole, and its destination is not plain."""
TOO_LONG = 2
"""Sorting stopped: the next header announces more than a body may have."""
FULL = 3
"""Sorting stopped: as many frames are sorted as fit the index."""

MAX_FRAMES = 65_536
"""Frames sorted at a time."""

_HEADER = HEADER_BYTES
_REPORT_TAG = tag_of(Report)
_FIRST_COMMAND, _LAST_COMMAND = min(COMMAND_TAGS), max(COMMAND_TAGS)
_FIRST_QUERY, _LAST_QUERY = min(QUERY_TAGS), max(QUERY_TAGS)
assert len(COMMAND_TAGS) == _LAST_COMMAND - _FIRST_COMMAND + 1
assert len(QUERY_TAGS) == _LAST_QUERY - _FIRST_QUERY + 1
assert _LAST_COMMAND < _FIRST_QUERY


@called
def destination(
    data: Bytes, start: int, stop: int, link_of_symbol: Integers, query_link: int
) -> int:
    """Return the link of the message in ``data[start:stop]``, -1 where it is not plain."""
    if stop - start < 3 or data[start] & 0xF0 != 0x90:
        return -1
    tag = int(data[start + 1])
    if tag < _FIRST_COMMAND or tag > _LAST_COMMAND:
        return query_link if _FIRST_QUERY <= tag <= _LAST_QUERY else -1
    symbol, _ = read_uint(data, start + 2, stop)
    if symbol >= np.uint64(len(link_of_symbol)):
        return -1
    return int(link_of_symbol[np.int64(symbol)])


@compiled
def sort_by_symbol(
    data: Bytes,
    position: int,
    end: int,
    max_body: int,
    stream: Any,
    link_of_symbol: Integers,
    query_link: int,
    frames: Integers,
    ends: Integers,
    out: Bytes,
) -> tuple[int, int, int]:
    """Sort the plain frames of ``data[position:end]`` by link into ``out``.

    ``frames`` is scratch of shape (MAX_FRAMES, 3); ``ends[link]`` becomes where the link's frames
    end in ``out`` (they begin where the link's before it end), and how many they are. Returns the
    position of the first frame that was not sorted, why (DONE, ODD, TOO_LONG, FULL), and how many
    frames were.
    """
    count = 0
    why = DONE
    ends[:, :] = 0
    while end - position >= _HEADER:
        length = int(load_u32(data, position))
        if length > max_body:
            why = TOO_LONG
            break
        stop = position + _HEADER + length
        if stop > end:
            break
        if count == len(frames):
            why = FULL
            break
        link = destination(data, position + _HEADER, stop, link_of_symbol, query_link)
        if link < 0:
            why = ODD
            break
        frames[count, 0] = position
        frames[count, 1] = stop
        frames[count, 2] = link
        ends[link, 0] += stop - position
        ends[link, 1] += 1
        count += 1
        position = stop
    total = 0
    for link in range(len(ends)):
        size = ends[link, 0]
        ends[link, 0] = total
        total += size
    for index in range(count):
        link = frames[index, 2]
        at = ends[link, 0]
        copy_bytes(out, at, data, frames[index, 0], frames[index, 1] - frames[index, 0])
        store_u32(out, at + 4, stream)
        ends[link, 0] = at + frames[index, 1] - frames[index, 0]
    return position, why, count


@called
def is_answer(data: Bytes, start: int, stop: int) -> bool:
    """Return whether the message in ``data[start:stop]`` ends a command's or query's wait.

    All but reports do. A report says itself whether it does, at a fixed place.
    """
    if (
        stop - start <= REPORT_ANSWERS_AT
        or data[start] != ARRAY16
        or data[start + 3] != _REPORT_TAG
    ):
        return True
    return bool(data[start + REPORT_ANSWERS_AT] != 0)


@compiled
def sort_by_stream(
    data: Bytes, end: int, frames: Integers, groups: Integers, group_of: Integers, out: Bytes
) -> tuple[int, int]:
    """Sort the whole frames at the beginning of ``data`` by stream into ``out``.

    ``frames`` is scratch of shape (MAX_FRAMES, 3), ``group_of[stream]`` too: all -1 before and
    after. A stream beyond it ends the sorting. ``groups`` of shape (MAX_FRAMES, 3) becomes, by
    first appearance, stream, where its frames end in ``out``, and how many of them are answers.
    Returns how many bytes were sorted and how many groups there are.
    """
    position = count = used = 0
    while end - position >= _HEADER and count < len(frames):
        stop = position + _HEADER + int(load_u32(data, position))
        if stop > end:
            break
        stream = int(load_u32(data, position + 4))
        if stream >= len(group_of):
            break
        group = group_of[stream]
        if group < 0:
            group = used
            group_of[stream] = group
            groups[group, 0] = stream
            groups[group, 1] = 0
            groups[group, 2] = 0
            used += 1
        frames[count, 0] = position
        frames[count, 1] = stop
        frames[count, 2] = group
        groups[group, 1] += stop - position
        groups[group, 2] += is_answer(data, position + _HEADER, stop)
        count += 1
        position = stop
    total = 0
    for group in range(used):
        size = groups[group, 1]
        groups[group, 1] = total
        total += size
        group_of[groups[group, 0]] = -1
    for index in range(count):
        group = frames[index, 2]
        at = groups[group, 1]
        copy_bytes(out, at, data, frames[index, 0], frames[index, 1] - frames[index, 0])
        groups[group, 1] = at + frames[index, 1] - frames[index, 0]
    return position, used


FEW_BYTES = 512
"""What comes in a piece no longer than this is sorted without compiled code, where that is plain: a
call of it, out of a sleep, costs as much as all else of a frame that comes by itself."""
_ONE_COMMAND = Struct("<IIBBB")
"""Length, stream, the head of the array, tag, symbol."""
_ONE_ANSWER = Struct(f"<IIB2xB{REPORT_ANSWERS_AT - 4}xB")
"""Length, stream, the head of the array, and of a report the tag and whether it answers."""
_STREAM = Struct("<I")


class SymbolSorter:
    """Sorts what clients send by link: so many matchers, then one query worker."""

    def __init__(self, link_of_symbol: dict[int, int], matchers: int, max_body: int) -> None:
        self._max_body = max_body
        self._query_link = matchers
        self._link_of_symbol = np.full(max(link_of_symbol, default=0) + 1, -1, np.int64)
        for symbol, link in link_of_symbol.items():
            self._link_of_symbol[symbol] = link
        self._link_of_byte = [link_of_symbol.get(symbol, -1) for symbol in range(FIXINT_END)]
        self._link_of_byte += [-1] * (256 - FIXINT_END)
        self._frames = np.zeros((MAX_FRAMES, 3), np.int64)
        self._ends = np.zeros((matchers + 1, 2), np.int64)

    def sort(
        self, data: bytes | memoryview, position: int, stream: int, limit: int = MAX_FRAMES
    ) -> tuple[int, int, int, list[tuple[int, bytes | memoryview, int]]]:
        """Sort up to ``limit`` plain frames from ``position`` on, with ``stream`` in their headers.

        Returns the position of the first frame that was not sorted, why (see the codes above),
        how many were sorted, and ``(link, frames, how many)`` for every link that gets any.
        """
        out = np.empty(len(data) - position, np.uint8)
        position, why, count = sort_by_symbol(
            np.frombuffer(data, np.uint8),
            position,
            len(data),
            self._max_body,
            np.uint64(stream),
            self._link_of_symbol,
            self._query_link,
            self._frames[:limit],
            self._ends,
            out,
        )
        pieces = []
        start = 0
        if count:
            for link, (end, commands) in enumerate(self._ends.tolist()):
                if commands:
                    pieces.append((link, _piece(out, start, end), commands))
                    start = end
        return position, why, count, pieces

    def sort_few(self, data: memoryview, stream: int) -> tuple[int, int]:
        """Write ``stream`` into the headers of a few frames that are all for one link.

        Returns the link and how many they are, as ``sort`` would find; -1 where that is not plain
        to see, or where the last one is not whole, and ``sort`` has to look.
        """
        position, end, count, link = 0, len(data), 0, -1
        while end - position >= _ONE_COMMAND.size:
            length, _, head, tag, symbol = _ONE_COMMAND.unpack_from(data, position)
            if head & 0xF0 != 0x90 or length < 3 or symbol >= FIXINT_END:
                break
            if tag < _FIRST_COMMAND or tag > _LAST_COMMAND:
                found = self._query_link if _FIRST_QUERY <= tag <= _LAST_QUERY else -1
            else:
                found = self._link_of_byte[symbol]
            if found != link:
                if found < 0 or count:
                    break
                link = found
            elif found < 0:
                break
            _STREAM.pack_into(data, position + 4, stream)
            position += HEADER_BYTES + length
            count += 1
        return (link, count) if position == end else (-1, 0)


class StreamSorter:
    """Sorts what a matcher or worker answers by the account that it is for."""

    def __init__(self) -> None:
        self._group_of = np.full(1024, -1, np.int64)
        self._frames = np.zeros((MAX_FRAMES, 3), np.int64)
        self._groups = np.zeros((MAX_FRAMES, 3), np.int64)

    def open_stream(self, stream: int) -> None:
        """Make room for a stream."""
        if stream >= len(self._group_of):
            self._group_of = np.full(2 * stream, -1, np.int64)

    def sort(
        self, data: bytes | memoryview
    ) -> tuple[int, list[tuple[int, bytes | memoryview, int]]]:
        """Return how many bytes were sorted, and by first appearance of each stream
        ``(stream, frames, answers)``, with the number of commands and queries that they answer.

        Stops at a frame that is cut off, or of a stream that was not opened.
        """
        out = np.empty(len(data), np.uint8)
        position, used = sort_by_stream(
            np.frombuffer(data, np.uint8),
            len(data),
            self._frames,
            self._groups,
            self._group_of,
            out,
        )
        pieces = []
        start = 0
        for stream, end, answers in self._groups[:used].tolist():
            pieces.append((stream, _piece(out, start, end), answers))
            start = end
        return position, pieces

    def sort_few(self, data: bytes) -> tuple[int, int]:
        """Return the stream of a few frames that are all of one, and how many answers they have.

        As ``sort`` would find; -1 where that is not plain to see, or where the last one is not
        whole, and ``sort`` has to look.
        """
        position, end, answers, stream = 0, len(data), 0, -1
        while end - position >= _ONE_ANSWER.size:
            length, number, head, tag, answering = _ONE_ANSWER.unpack_from(data, position)
            if number != stream:
                if position or number >= len(self._group_of):
                    break
                stream = number
            plain = length > REPORT_ANSWERS_AT and head == ARRAY16 and tag == _REPORT_TAG
            answers += not plain or answering != 0
            position += HEADER_BYTES + length
        return (stream, answers) if position == end else (-1, 0)


def _piece(out: Bytes, start: int, end: int) -> bytes | memoryview:
    """Return a part of ``out``: as it is, or copied where a little would keep all of it alive."""
    return out.data[start:end] if 2 * (end - start) > len(out) else out[start:end].tobytes()


def warm() -> None:
    """Compile or load what sorts."""
    data = frame(MassCancel(1, 1), 1)
    assert SymbolSorter({1: 0}, 1, MAX_COMMAND_BODY).sort(data, 0, 1)[1] == DONE
    assert StreamSorter().sort(data)[0] == len(data)


def count_answers(message: SERVER_MESSAGES) -> int:
    """Return what ``is_answer`` says of a message that may be written in any width."""
    if not isinstance(message, Report):
        return 1
    return int(message.answers != 0)
