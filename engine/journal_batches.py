"""Batches of a journal: commands packed into bytes, and bytes checked and unpacked again.

Both run compiled, many commands at a time; see ``engine.journal_format`` for the bytes.
"""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from zlib_ng.zlib_ng import crc32

from engine.book import Records
from engine.journal_format import BEGIN_MARK, END_MARK, MARKS_BYTES, MAX_BATCH_COMMANDS
from ipc.compiled import HAVE_NUMBA, compiled
from ipc.records import BATCH, BATCH_END, COMMAND, KEPT_COMMAND

MORE, FULL, BAD = 0, 1, 2
"""Why ``scan`` stopped: no whole batch is left, no room for its commands, a wrong batch."""

_BEGIN = struct.Struct("<IIQQ")
_END = struct.Struct("<II")
_WORD_BYTES = 8
_COMMAND_WORDS = COMMAND.itemsize // _WORD_BYTES
_KEPT_WORDS = KEPT_COMMAND.itemsize // _WORD_BYTES
_BATCH_WORDS = BATCH.itemsize // _WORD_BYTES
_FIRST_ROOM = 4_096
assert _BEGIN.size == BATCH.itemsize
assert _END.size == BATCH_END.itemsize == _WORD_BYTES
assert COMMAND.fields is not None
assert COMMAND.fields["timestamp_ns"][1] == KEPT_COMMAND.itemsize

Words = npt.NDArray[np.uint64]


def batch_bytes(count: int) -> int:
    """Return how long a batch of so many commands is."""
    return MARKS_BYTES + count * KEPT_COMMAND.itemsize


MAX_BATCH_BYTES = batch_bytes(MAX_BATCH_COMMANDS)


class Packer:
    """Makes batches, in one buffer."""

    def __init__(self) -> None:
        self._make_room(_FIRST_ROOM)

    def pack(self, commands: Records, first_sequence: int, timestamp_ns: int) -> memoryview:
        """Return the bytes of commands (COMMAND) as one batch, valid until the next one.

        Raises ``ValueError`` where a command holds what a batch does not keep.
        """
        count = len(commands)
        if count > self._room:
            self._make_room(count)
        buffer, end = self._buffer, BATCH.itemsize + count * KEPT_COMMAND.itemsize
        _BEGIN.pack_into(buffer, 0, BEGIN_MARK, count, first_sequence, timestamp_ns)
        if not _pack(commands.view(np.uint64), count, timestamp_ns, self._words):
            raise ValueError(
                f"timestamp_ns, stop_price or display_quantity of a command of a batch of time "
                f"{timestamp_ns}: must be the batch's time, 0 and 0, as a journal keeps no other"
            )
        _END.pack_into(buffer, end, crc32(buffer[:end]), END_MARK)
        return buffer[: end + _END.size]

    def _make_room(self, count: int) -> None:
        whole = np.zeros(batch_bytes(count) // _WORD_BYTES, np.uint64)
        self._room = count
        self._words = whole[_BATCH_WORDS:]
        self._buffer = whole.view(np.uint8).data


def _pack_plain(words: Words, count: int, timestamp_ns: int, out: Words) -> bool:
    """Be ``_pack`` without compiled code."""
    rows = words.reshape(count, _COMMAND_WORDS)
    out[: count * _KEPT_WORDS].reshape(count, _KEPT_WORDS)[:] = rows[:, :_KEPT_WORDS]
    wanted = np.array([timestamp_ns, 0, 0], np.uint64)
    return bool((rows[:, _KEPT_WORDS:] == wanted).all())


@compiled
def _pack_words(words: Words, count: int, timestamp_ns: Any, out: Words) -> Any:
    """Copy what is kept of commands; tell whether the rest of each is as it must be."""
    wrong = np.uint64(0)
    time = np.uint64(timestamp_ns)
    place = 0
    for index in range(count):
        start = index * _COMMAND_WORDS
        for word in range(_KEPT_WORDS):
            out[place + word] = words[start + word]
        wrong |= (words[start + _KEPT_WORDS] ^ time) | words[start + 8] | words[start + 9]
        place += _KEPT_WORDS
    return wrong == 0


_pack = _pack_words if HAVE_NUMBA else _pack_plain


def warm() -> None:
    """Compile what writes a journal."""
    Packer().pack(np.zeros(1, COMMAND), 1, 0)


# Checking many batches ---------------------------------------------------------------------------


def _crc_tables() -> npt.NDArray[np.uint32]:
    """Return the tables of a CRC-32 of eight bytes at a time (Kounavis and Berry, 2005)."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
        tables[0, byte] = value
    for number in range(1, 8):
        before = tables[number - 1]
        tables[number] = before >> 8 ^ tables[0, before & 0xFF]
    return tables


TABLES = _crc_tables()
_BYTE = np.uint64(0xFF)
_LOW = np.uint64(0xFFFFFFFF)
_S8, _S16, _S24, _S32 = np.uint64(8), np.uint64(16), np.uint64(24), np.uint64(32)
_S40, _S48, _S56 = np.uint64(40), np.uint64(48), np.uint64(56)


@compiled
def crc_of_words(words: Words, first: Any, end: Any, tables: npt.NDArray[np.uint32]) -> Any:
    """Return the CRC-32 of words from ``first`` up to ``end``, equal to ``zlib.crc32``'s."""
    crc = _LOW
    for index in range(first, end):
        word = words[index] ^ crc
        crc = np.uint64(
            tables[7, word & _BYTE]
            ^ tables[6, (word >> _S8) & _BYTE]
            ^ tables[5, (word >> _S16) & _BYTE]
            ^ tables[4, (word >> _S24) & _BYTE]
            ^ tables[3, (word >> _S32) & _BYTE]
            ^ tables[2, (word >> _S40) & _BYTE]
            ^ tables[1, (word >> _S48) & _BYTE]
            ^ tables[0, word >> _S56]
        )
    return crc ^ _LOW


@compiled
def _scan_words(
    words: Words,
    end: int,
    sequence: Any,
    after: Any,
    out: Words,
    room: int,
    tables: npt.NDArray[np.uint32],
) -> Any:
    """Be ``scan`` in words; ``room`` is how many commands fit into ``out``."""
    position: Any = 0
    count: Any = 0
    timestamp_ns: Any = 0
    why = MORE
    while position + _BATCH_WORDS < end:
        head = words[position]
        batch = np.int64(head >> _S32)
        if (
            head & _LOW != BEGIN_MARK
            or batch == 0
            or batch > MAX_BATCH_COMMANDS
            or np.int64(words[position + 1]) != sequence + 1
        ):
            why = BAD
            break
        last = position + _BATCH_WORDS + batch * _KEPT_WORDS
        if last >= end:
            break
        if count + batch > room:
            why = FULL
            break
        if crc_of_words(words, position, last, tables) != words[last] & _LOW:
            why = BAD
            break
        known: Any = min(batch, max(0, after - sequence))
        start = position + _BATCH_WORDS + known * _KEPT_WORDS
        place = count * _COMMAND_WORDS
        for _ in range(batch - known):
            for word in range(_KEPT_WORDS):
                out[place + word] = words[start + word]
            out[place + _KEPT_WORDS] = words[position + 2]
            out[place + 8] = out[place + 9] = np.uint64(0)
            start += _KEPT_WORDS
            place += _COMMAND_WORDS
        count += batch - known
        sequence += batch
        timestamp_ns = np.int64(words[position + 2])
        position = last + 1
    return position, count, sequence, timestamp_ns, why


def _scan_plain(
    data: memoryview, sequence: int, after: int, out: Records
) -> tuple[int, int, int, int, int]:
    """Be ``scan`` without compiled code."""
    position = count = timestamp_ns = 0
    data = data[: len(data) // _WORD_BYTES * _WORD_BYTES]
    while position + BATCH.itemsize < len(data):
        mark, batch, first, written_ns = _BEGIN.unpack_from(data, position)
        if mark != BEGIN_MARK or not 0 < batch <= MAX_BATCH_COMMANDS or first != sequence + 1:
            return position, count, sequence, timestamp_ns, BAD
        last = position + BATCH.itemsize + batch * KEPT_COMMAND.itemsize
        if last + BATCH_END.itemsize > len(data):
            break
        if count + batch > len(out):
            return position, count, sequence, timestamp_ns, FULL
        if crc32(data[position:last]) != _END.unpack_from(data, last)[0]:
            return position, count, sequence, timestamp_ns, BAD
        known = min(batch, max(0, after - sequence))
        start = position + BATCH.itemsize + known * KEPT_COMMAND.itemsize
        kept = np.frombuffer(data[start:last], np.uint64).reshape(-1, _KEPT_WORDS)
        rows = out[count : count + batch - known].view(np.uint64).reshape(-1, _COMMAND_WORDS)
        rows[:, :_KEPT_WORDS] = kept
        rows[:, _KEPT_WORDS:] = written_ns, 0, 0
        count += batch - known
        sequence += batch
        timestamp_ns = written_ns
        position = last + BATCH_END.itemsize
    return position, count, sequence, timestamp_ns, MORE


def scan(
    data: npt.NDArray[np.uint8], sequence: int, after: int, out: Records
) -> tuple[int, int, int, int, int]:
    """Check the batches that ``data`` begins with, and copy their commands behind ``after``.

    ``sequence`` is that of the last command before them. Returns how many bytes and commands that
    were, the last sequence and time stamp (0: no batch), and why it stopped.
    """
    if not HAVE_NUMBA:
        return _scan_plain(data.data, sequence, after, out)
    words = data[: len(data) // _WORD_BYTES * _WORD_BYTES].view(np.uint64)
    target = out.view(np.uint64)
    position, count, sequence, timestamp_ns, why = _scan_words(
        words, len(words), sequence, after, target, len(out), TABLES
    )
    return position * _WORD_BYTES, count, sequence, timestamp_ns, why
