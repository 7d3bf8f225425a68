"""The bytes of a shard's journal: every command that its book was given, in order.

A journal is a directory of segments named after their first command's sequence number,
``0000000000000001.journal``. A segment begins with a header of whole pages: a SEGMENT record
(``ipc.records``) and the shard's terms (``engine.shard_terms``) as JSON. Batches follow, without a
gap, as they were matched::

    BATCH      mark, count, first_sequence, timestamp_ns                     24 bytes
    COMMAND    the commands as the book took them                            80 bytes each
    BATCH_END  CRC-32 of the batch up to here, end mark                       8 bytes

Commands count one sequence number each, so every batch must begin where the one before it ended,
over all segments. Behind the last batch of the last segment the file is zeros, given by the disk in
advance; segments before it were cut to their end when the next one was begun. All numbers are
little-endian. A segment of another version is refused.

Behind the last whole batch may lie the beginning of one that a crash cut short. It has no end mark
as its last bytes, or whole sectors of it are still zeros. What has its end, and a wrong checksum,
was written whole and was damaged later.
"""

import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engine.book import Records
from engine.shard_terms import ShardTerms
from ipc.compiled import HAVE_NUMBA, compiled
from ipc.records import BATCH, BATCH_END, COMMAND, SEGMENT

VERSION = 1
MAGIC = int.from_bytes(b"SBJOURNL", "little")
PAGE_BYTES = 4096
BEGIN_MARK = 0xB10C_C0DE
END_MARK = 0xE2D5_E47D
END_BYTES = struct.pack("<I", END_MARK)
SUFFIX = ".journal"
MARKS_BYTES = BATCH.itemsize + BATCH_END.itemsize
MAX_BATCH_COMMANDS = 65_536
MAX_BATCH_BYTES = MARKS_BYTES + MAX_BATCH_COMMANDS * COMMAND.itemsize
_SECTOR_BYTES = 512

MORE, FULL, BAD = 0, 1, 2
"""Why ``scan`` stopped: no whole batch is left, no room for its commands, a wrong batch."""

_BEGIN = struct.Struct("<IIQQ")
_END = struct.Struct("<II")
_WORD_BYTES = 8
_COMMAND_WORDS = COMMAND.itemsize // _WORD_BYTES
_BATCH_WORDS = BATCH.itemsize // _WORD_BYTES
assert _BEGIN.size == BATCH.itemsize
assert _END.size == BATCH_END.itemsize == _WORD_BYTES

Words = npt.NDArray[np.uint64]


class JournalError(Exception):
    """A journal or a snapshot cannot be used as it is; the text names file, offset and reason."""


class Header(NamedTuple):
    """What a segment's header says."""

    first_sequence: int
    terms: ShardTerms
    size: int


def segment_path(directory: Path, first_sequence: int) -> Path:
    """Return where the segment lies whose first command has this sequence number."""
    return directory / f"{first_sequence:016d}{SUFFIX}"


def encode_header(first_sequence: int, terms: ShardTerms) -> bytes:
    """Return the pages that a segment begins with."""
    text = msgspec.json.encode(terms)
    size = -(-(SEGMENT.itemsize + len(text)) // PAGE_BYTES) * PAGE_BYTES
    head = np.array([(MAGIC, VERSION, 0, size, len(text), first_sequence)], SEGMENT)
    plain = head.tobytes() + text
    head["checksum"] = zlib.crc32(plain.ljust(size, b"\0"))
    return (head.tobytes() + text).ljust(size, b"\0")


def decode_header(path: Path, data: bytes) -> Header:
    """Read a segment's header from the file's first bytes. Raises ``JournalError``."""

    def wrong(offset: int, why: str) -> JournalError:
        return JournalError(f"{path}: byte {offset}: {why}")

    if len(data) < PAGE_BYTES:
        raise wrong(0, f"{len(data)} bytes are too few for a journal's segment")
    head = np.frombuffer(data, SEGMENT, 1)[0]
    if head["magic"] != MAGIC:
        raise wrong(0, "is no segment of a journal")
    if head["version"] != VERSION:
        raise wrong(8, f"has version {head['version']}, this program reads {VERSION}")
    size, length = int(head["header_bytes"]), int(head["terms_bytes"])
    if not PAGE_BYTES <= size <= len(data) or SEGMENT.itemsize + length > size:
        raise wrong(16, "the header is damaged")
    page = bytearray(data[:size])
    page[12:16] = bytes(4)
    if zlib.crc32(page) != head["checksum"]:
        raise wrong(0, "the header is damaged: its checksum is wrong")
    text = data[SEGMENT.itemsize : SEGMENT.itemsize + length]
    return Header(int(head["first_sequence"]), msgspec.json.decode(text, type=ShardTerms), size)


def marks(commands: Records, first_sequence: int, timestamp_ns: int) -> tuple[bytes, bytes]:
    """Return what must lead and what must close a batch of commands."""
    begin = _BEGIN.pack(BEGIN_MARK, len(commands), first_sequence, timestamp_ns)
    checksum = zlib.crc32(commands.view(np.uint8).data, zlib.crc32(begin))
    return begin, _END.pack(checksum, END_MARK)


def is_torn(rest: bytes, offset: int) -> bool:
    """Tell whether a batch that is not whole, and all behind it, is what a crash leaves.

    ``rest`` begins where the batch does, at byte ``offset`` of its file. A batch that has its end
    mark and no sector of zeros had been written whole.
    """
    written = rest.rstrip(b"\0")
    if not written.endswith(END_BYTES):
        return True
    head = -offset % _SECTOR_BYTES  # up to where the next sector begins
    size = (len(written) - head) // _SECTOR_BYTES * _SECTOR_BYTES
    if size <= 0:
        return head > 0 and not any(written[:head])
    sectors = np.frombuffer(written, np.uint8, size, head).reshape(-1, _SECTOR_BYTES)
    return (head > 0 and not any(written[:head])) or not bool(sectors.any(axis=1).all())


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
        last = position + _BATCH_WORDS + batch * _COMMAND_WORDS
        if last >= end:
            break
        if count + batch > room:
            why = FULL
            break
        if crc_of_words(words, position, last, tables) != words[last] & _LOW:
            why = BAD
            break
        known: Any = min(batch, max(0, after - sequence))
        start = position + _BATCH_WORDS + known * _COMMAND_WORDS
        place = count * _COMMAND_WORDS
        for index in range(last - start):
            out[place + index] = words[start + index]
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
    while position + BATCH.itemsize < len(data):
        mark, batch, first, written_ns = _BEGIN.unpack_from(data, position)
        if mark != BEGIN_MARK or not 0 < batch <= MAX_BATCH_COMMANDS or first != sequence + 1:
            return position, count, sequence, timestamp_ns, BAD
        last = position + BATCH.itemsize + batch * COMMAND.itemsize
        if last + BATCH_END.itemsize > len(data):
            break
        if count + batch > len(out):
            return position, count, sequence, timestamp_ns, FULL
        if zlib.crc32(data[position:last]) != _END.unpack_from(data, last)[0]:
            return position, count, sequence, timestamp_ns, BAD
        known = min(batch, max(0, after - sequence))
        start = position + BATCH.itemsize + known * COMMAND.itemsize
        out[count : count + batch - known] = np.frombuffer(data[start:last], COMMAND)
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
