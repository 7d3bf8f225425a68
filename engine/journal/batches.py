"""Batches of a journal: commands packed into bytes, and bytes checked and unpacked again.

Both run compiled, many commands at a time; see ``engine.journal.format`` for the bytes.
"""

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from zlib_ng.zlib_ng import crc32

from engine.books.contract import Records
from engine.journal.format import BEGIN_MARK, END_MARK, MAX_BATCH_COMMANDS
from ipc.arrays import Bytes, Words
from ipc.native.compiled import HAVE_NUMBA, compiled, inlined
from ipc.native.unaligned import load_u8, load_u64, store_u8, store_u32, store_u64
from ipc.native.views import array_at, data_of
from ipc.records import BATCH, BATCH_END, COMMAND, KEPT_COMMAND

MORE, FULL, BAD = 0, 1, 2
"""Why ``scan`` stopped: no whole batch is left, no room for its commands, a wrong batch."""

_BEGIN = struct.Struct("<IIQQ")
_END = struct.Struct("<II")
_WORD_BYTES = 8
_COMMAND_WORDS = COMMAND.itemsize // _WORD_BYTES
_KEPT_BYTES = KEPT_COMMAND.itemsize
_KEPT_WORDS = _KEPT_BYTES // _WORD_BYTES
_TIME = 7
"""Which word of a COMMAND is its time: not kept, those around it are."""
_COMMON_WORDS = _TIME
"""Words of a command that are always kept: what comes behind its time only rare orders have."""
_MARK_WORDS = BATCH.itemsize // _WORD_BYTES
_KEPT_AT = BATCH.itemsize
"""Where a batch says how many words are kept; their widths follow, a byte each."""
_FIRST_ROOM = 4_096
_NONE, _ALL = np.uint64(0), np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_BYTE = np.uint64(0xFF)
_LOW = np.uint64(0xFFFFFFFF)
_S8, _S16, _S24, _S32 = np.uint64(8), np.uint64(16), np.uint64(24), np.uint64(32)
_S40, _S48, _S56 = np.uint64(40), np.uint64(48), np.uint64(56)
assert _BEGIN.size == BATCH.itemsize
assert _END.size == BATCH_END.itemsize == _WORD_BYTES
assert COMMAND.fields is not None
assert COMMAND.fields["timestamp_ns"][1] == _TIME * _WORD_BYTES
assert KEPT_COMMAND.itemsize == COMMAND.itemsize - _WORD_BYTES
assert _KEPT_WORDS < 256
assert COMMAND.fields["command_type"][1] == 0


def _lead(kept: Any) -> Any:
    """Return how many words lead a batch of so many kept ones: BATCH, ``kept``, the widths."""
    return _MARK_WORDS + (kept + _WORD_BYTES) // _WORD_BYTES


_lead_words = inlined(_lead)


def batch_bytes(count: int) -> int:
    """Return how long a batch of so many commands is at the most."""
    lead = int(_lead(_KEPT_WORDS)) * _WORD_BYTES
    return lead + count * _KEPT_BYTES + _WORD_BYTES + BATCH_END.itemsize


MAX_BATCH_BYTES = batch_bytes(MAX_BATCH_COMMANDS)


class Packer:
    """Makes batches, in one buffer."""

    def __init__(self) -> None:
        self._make_room(_FIRST_ROOM)

    def pack(self, commands: Records, first_sequence: int, timestamp_ns: int) -> memoryview:
        """Return the bytes of commands (COMMAND) as one batch, valid until the next one.

        Raises ``ValueError`` where a command has another time: a batch keeps one.
        """
        count = len(commands)
        if count > self._room:
            self._make_room(count)
        end = _pack(commands, first_sequence, timestamp_ns, self._out)
        if not end:
            raise ValueError(
                f"timestamp_ns of a command: must be {timestamp_ns}, its batch's time, as a "
                "journal keeps no other"
            )
        buffer = self._buffer
        _END.pack_into(buffer, end, crc32(buffer[:end]), END_MARK)
        return buffer[: end + _END.size]

    def _make_room(self, count: int) -> None:
        self._room = count
        self._out = np.zeros(batch_bytes(count) + _WORD_BYTES, np.uint8)
        self._buffer = self._out.data


def _pack_plain(commands: Records, first_sequence: int, timestamp_ns: int, out: Bytes) -> int:
    """Be ``_pack`` without compiled code."""
    count = len(commands)
    rows = commands.view(np.uint64).reshape(count, _COMMAND_WORDS)
    if (rows[:, _TIME] != np.uint64(timestamp_ns)).any():
        return 0
    words = _KEPT_WORDS if rows[:, _TIME + 1 :].any() else _COMMON_WORDS
    kept = np.ascontiguousarray(np.delete(rows, _TIME, axis=1)[:, :words])
    differs = np.bitwise_or.reduce(kept ^ kept[0], axis=0)
    widths = [-(-int(bits).bit_length() // 8) for bits in differs]
    widths[0] = max(1, widths[0])
    begin = _BEGIN.pack(BEGIN_MARK, count, first_sequence, timestamp_ns) + bytes([words, *widths])
    begin += bytes(-len(begin) % _WORD_BYTES)
    chosen = kept.view(np.uint8)[1:, _kept_places(widths)].tobytes()
    plain = begin + kept[0].tobytes() + chosen
    plain += bytes(-len(plain) % _WORD_BYTES)
    out[: len(plain)] = np.frombuffer(plain, np.uint8)
    return len(plain)


def _kept_places(widths: Iterable[int]) -> list[int]:
    """Return which bytes of a KEPT_COMMAND are kept."""
    return [_WORD_BYTES * word + low for word, width in enumerate(widths) for low in range(width)]


@inlined
def _width(bits: Any) -> Any:
    """Return in how many low bytes bits lie."""
    width = 0
    while bits:
        bits >>= _S8
        width += 1
    return width


@compiled
def _pack_words(commands: Records, first_sequence: Any, timestamp_ns: Any, out: Bytes) -> Any:
    """Write a batch up to its end mark; return how long that is, 0 where a command is not as it
    must be. A word is stored whole, and then what follows over the bytes that are not kept.
    """
    count = len(commands)
    words = array_at(data_of(commands), count * _COMMAND_WORDS, np.uint64)
    wrong, rare, time = _NONE, _NONE, np.uint64(timestamp_ns)
    step, end = np.uint64(_COMMAND_WORDS), np.uint64(count) * np.uint64(_COMMAND_WORDS)
    d0 = d1 = d2 = d3 = d4 = d5 = d6 = _NONE
    for row in range(_NONE, end, step):
        wrong |= words[row + np.uint64(_TIME)] ^ time
        for word in range(_TIME + 1, _COMMAND_WORDS):
            rare |= words[row + np.uint64(word)]
        d0 |= words[row] ^ words[0]
        d1 |= words[row + np.uint64(1)] ^ words[1]
        d2 |= words[row + np.uint64(2)] ^ words[2]
        d3 |= words[row + np.uint64(3)] ^ words[3]
        d4 |= words[row + np.uint64(4)] ^ words[4]
        d5 |= words[row + np.uint64(5)] ^ words[5]
        d6 |= words[row + np.uint64(6)] ^ words[6]
    if wrong:
        return 0
    store_u32(out, 0, np.uint64(BEGIN_MARK))
    store_u32(out, 4, np.uint64(count))
    store_u64(out, 8, np.uint64(first_sequence))
    store_u64(out, 16, time)
    if rare:
        place = _pack_rare(words, out)
    else:
        w0, w1, w2, w3 = max(1, _width(d0)), _width(d1), _width(d2), _width(d3)
        w4, w5, w6 = _width(d4), _width(d5), _width(d6)
        widths = w0 | w1 << 8 | w2 << 16 | w3 << 24 | w4 << 32 | w5 << 40 | w6 << 48
        store_u64(out, _KEPT_AT, np.uint64(widths << 8 | _COMMON_WORDS))
        place = _KEPT_AT + _WORD_BYTES
        for word in range(_COMMON_WORDS):
            store_u64(out, place, words[word])
            place += _WORD_BYTES
        for row in range(step, end, step):
            for word in range(_COMMON_WORDS):
                store_u64(out, place, words[row + np.uint64(word)])
                place += (widths >> 8 * word) & 0xFF
    store_u64(out, place, _NONE)
    return (place + _WORD_BYTES - 1) // _WORD_BYTES * _WORD_BYTES


@compiled
def _pack_rare(words: Words, out: Bytes) -> Any:
    """Write how many words are kept, their widths, and the commands, some of which are rare ones.

    Return where that ends.
    """
    step, end = np.uint64(_COMMAND_WORDS), np.uint64(len(words))
    lead = _lead_words(_KEPT_WORDS) * _WORD_BYTES
    for place in range(_KEPT_AT, lead):
        store_u8(out, place, _NONE)
    store_u8(out, _KEPT_AT, np.uint64(_KEPT_WORDS))
    place = lead
    for word in range(_KEPT_WORDS):
        column = np.uint64(word + (word >= _TIME))
        differs = _NONE
        for row in range(column, end, step):
            differs |= words[row] ^ words[column]
        store_u8(out, _KEPT_AT + 1 + word, np.uint64(max(word == 0, _width(differs))))
        store_u64(out, place, words[column])
        place += _WORD_BYTES
    for row in range(step, end, step):
        for word in range(_KEPT_WORDS):
            store_u64(out, place, words[row + np.uint64(word + (word >= _TIME))])
            place += np.int64(load_u8(out, _KEPT_AT + 1 + word))
    return place


_pack = _pack_words if HAVE_NUMBA else _pack_plain


def warm() -> None:
    """Compile or load what writes and reads a journal."""
    commands = np.zeros(1, COMMAND)
    Packer().pack(commands, 1, 0)
    scan(np.zeros(_WORD_BYTES, np.uint8), 0, 0, commands)


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


@inlined
def _mask(width: Any) -> Any:
    """Return which bits of a word are kept of each command, of so many bytes."""
    width = np.uint64(width)
    return _ALL if width >= _S8 else (np.uint64(1) << (_S8 * width)) - np.uint64(1)


@inlined
def _width_of(data: Bytes, position: Any, word: Any) -> Any:
    """Return how many bytes of a word are kept in the batch at a byte position."""
    return np.int64(load_u8(data, position + _KEPT_AT + 1 + word))


@inlined
def _row_bytes(data: Bytes, position: Any, kept: Any) -> Any:
    """Return how long a later command of the batch at a byte position is; 0 where no batch has such
    widths."""
    size: Any = 0
    for word in range(_lead_words(kept) * _WORD_BYTES - _KEPT_AT - 1):
        width = _width_of(data, position, word)
        if width > _WORD_BYTES or (word == 0 and width == 0) or (word >= kept and width):
            return 0
        size += width
    return size


@inlined
def _unpack_words(
    words: Words, data: Bytes, position: Any, size: Any, known: Any, batch: Any, out: Words, to: Any
) -> None:
    """Copy a batch's commands but for the first ``known`` into ``out`` from word ``to`` on.

    Each but the first takes ``size`` bytes; none has what only rare ones have.
    """
    widths, first = words[position + _MARK_WORDS] >> _S8, position + _MARK_WORDS + 1
    start = (first + _COMMON_WORDS) * _WORD_BYTES + max(0, known - 1) * size
    for index in range(known, batch):
        if index == 0:
            for word in range(_COMMON_WORDS):
                out[to + word] = words[first + word]
        else:
            at = start
            for word in range(_COMMON_WORDS):
                width = (widths >> np.uint64(8 * word)) & _BYTE
                mask = _mask(width)
                out[to + word] = words[first + word] & ~mask | (load_u64(data, at) & mask)
                at += np.int64(width)
            start += size
        out[to + _TIME] = words[position + 2]
        for word in range(_TIME + 1, _COMMAND_WORDS):
            out[to + word] = _NONE
        to += _COMMAND_WORDS


@compiled
def _unpack_rare(
    words: Words, data: Bytes, position: Any, size: Any, known: Any, batch: Any, out: Words, to: Any
) -> None:
    """Do what ``_unpack_words`` does, for any number of words kept."""
    kept = np.int64(words[position + _MARK_WORDS] & _BYTE)
    first = position + _lead_words(kept)
    start = (first + kept) * _WORD_BYTES + max(0, known - 1) * size
    for index in range(known, batch):
        at = start
        for word in range(_COMMAND_WORDS):
            out[to + word] = _NONE
        for word in range(kept):
            value = words[first + word]
            if index > 0:
                width = _width_of(data, position * _WORD_BYTES, word)
                mask = _mask(width)
                value = value & ~mask | (load_u64(data, at) & mask)
                at += width
            out[to + word + (word >= _TIME)] = value
        if index > 0:
            start += size
        out[to + _TIME] = words[position + 2]
        to += _COMMAND_WORDS


@compiled
def _scan_words(
    words: Words,
    data: Bytes,
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
    end = len(words)
    why = MORE
    while position + _MARK_WORDS + 1 < end:
        head = words[position]
        batch = np.int64(head >> _S32)
        kept = np.int64(words[position + _MARK_WORDS] & _BYTE)
        if (
            head & _LOW != BEGIN_MARK
            or batch == 0
            or batch > MAX_BATCH_COMMANDS
            or np.int64(words[position + 1]) != sequence + 1
            or kept == 0
            or kept > _KEPT_WORDS
        ):
            why = BAD
            break
        if position + _lead_words(kept) >= end:
            break
        size = _row_bytes(data, position * _WORD_BYTES, kept)
        if size == 0:
            why = BAD
            break
        rows = ((batch - 1) * size + _WORD_BYTES - 1) // _WORD_BYTES
        last = position + _lead_words(kept) + kept + rows
        if last >= end:
            break
        if count + batch > room:
            why = FULL
            break
        if crc_of_words(words, position, last, tables) != words[last] & _LOW:
            why = BAD
            break
        known: Any = min(batch, max(0, after - sequence))
        copied = (size, known, batch, out, count * _COMMAND_WORDS)
        if kept == _COMMON_WORDS:
            _unpack_words(words, data, position, *copied)
        else:
            _unpack_rare(words, data, position, *copied)
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
    while position + BATCH.itemsize + _WORD_BYTES < len(data):
        mark, batch, first, written_ns = _BEGIN.unpack_from(data, position)
        kept = data[position + _KEPT_AT]
        if (
            mark != BEGIN_MARK
            or not 0 < batch <= MAX_BATCH_COMMANDS
            or first != sequence + 1
            or not 0 < kept <= _KEPT_WORDS
        ):
            return position, count, sequence, timestamp_ns, BAD
        lead = position + int(_lead(kept)) * _WORD_BYTES
        if lead >= len(data):
            break
        widths = list(data[position + _KEPT_AT + 1 : lead])
        if max(widths) > _WORD_BYTES or not widths[0] or any(widths[kept:]):
            return position, count, sequence, timestamp_ns, BAD
        widths = widths[:kept]
        start = lead + kept * _WORD_BYTES
        stop = start + (batch - 1) * sum(widths)
        last = -(-stop // _WORD_BYTES) * _WORD_BYTES
        if last + BATCH_END.itemsize > len(data):
            break
        if count + batch > len(out):
            return position, count, sequence, timestamp_ns, FULL
        if crc32(data[position:last]) != _END.unpack_from(data, last)[0]:
            return position, count, sequence, timestamp_ns, BAD
        known = min(batch, max(0, after - sequence))
        whole = np.tile(np.frombuffer(data, np.uint8, kept * _WORD_BYTES, lead), (batch, 1))
        rows = np.frombuffer(data[start:stop], np.uint8).reshape(batch - 1, sum(widths))
        whole[1:, _kept_places(widths)] = rows
        found = out[count : count + batch - known].view(np.uint64).reshape(-1, _COMMAND_WORDS)
        found[:] = 0
        places = [word + (word >= _TIME) for word in range(kept)]
        found[:, places] = whole.view(np.uint64)[known:]
        found[:, _TIME] = written_ns
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
        words, data, sequence, after, target, len(out), TABLES
    )
    return position * _WORD_BYTES, count, sequence, timestamp_ns, why
