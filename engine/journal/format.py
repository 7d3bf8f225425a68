"""The bytes of a shard's journal: every command that its book was given, in order.

A journal is a directory of segments named after their first command's sequence number,
``0000000000000001.journal``. A segment begins with a header of whole pages: a SEGMENT record
(``ipc.records``), in which the shard's secret is, and its configuration
(``engine.journal.shard_config``) as JSON. Batches follow, without a gap, as they were matched::

    BATCH         mark, count, first_sequence, timestamp_ns                  24 bytes
                  how many words of a command are kept, the width of each     1 byte each
                  zeros, up to a multiple of 8 bytes
    KEPT_COMMAND  the first command as the book took it, so many words of it  8 bytes each
                  of each later one, what differs                             1 to 8 bytes a word
                  zeros, up to a multiple of 8 bytes
    BATCH_END     CRC-32 of the batch up to here, end mark                    8 bytes

A command is words of 8 bytes: seven, and behind them those that only rare orders need, which are
kept where a command of the batch has any of them, and else are 0. Of a later command the low bytes
of each word are kept, as many as its width says; beyond them the words of a batch are all as in its
first command. The lowest byte of the first word, a command's type, is always kept: it is never 0,
so no sector of a batch is zeros.

Another configuration comes into force by CONFIGURE, a command like any other. It is the first
command of a segment, alone in its batch, and the segment's header has the configuration that is in
force from it on; all other segments have that of the one before. Header and command are in the file
before it has its name: both are there or neither, whatever happens.

All commands of a batch have its time. Commands count one sequence
number each, so every batch must begin where the one before it ended, over all segments. Behind the
last batch of the last segment the file is zeros, given by the disk in advance; segments before it
were cut to their end when the next one was begun. All numbers are little-endian. A segment of
another version is refused.

Behind the last whole batch may lie the beginning of one that a crash cut short. It has no end mark
as its last bytes, or whole sectors of it are still zeros. What has its end, and a wrong checksum,
was written whole and was damaged later.
"""

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from engine.journal.shard_config import ShardConfig, shard_config_problem
from ipc.records import SEGMENT, SEQUENCE_MASK

VERSION = 8
MAGIC = int.from_bytes(b"SBJOURNL", "little")
PAGE_BYTES = 4096
MAX_HEADER_BYTES = 16 << 20
"""More than the configuration of 65,535 instruments take."""
BEGIN_MARK = 0xB10C_C0DE
END_MARK = 0xE2D5_E47D
END_BYTES = struct.pack("<I", END_MARK)
SUFFIX = ".journal"
MAX_BATCH_COMMANDS = 65_536
SECTOR_BYTES = 512
_WORD_MASK = (1 << 64) - 1


class JournalError(Exception):
    """A journal or a snapshot cannot be used as it is; the text names file, offset and reason."""


class Header(NamedTuple):
    """What a segment's header says."""

    first_sequence: int
    shard_config: ShardConfig
    size: int
    secret: int
    """The shard's: see ``engine.books.secret``."""


def segment_path(directory: Path, first_sequence: int) -> Path:
    """Return where the segment lies whose first command has this sequence number."""
    return directory / f"{first_sequence:016d}{SUFFIX}"


def encode_header(first_sequence: int, shard_config: ShardConfig, secret: int = 0) -> bytes:
    """Return the pages that a segment begins with."""
    text = msgspec.json.encode(shard_config)
    size = -(-(SEGMENT.itemsize + len(text)) // PAGE_BYTES) * PAGE_BYTES
    words = (secret & _WORD_MASK, secret >> 64)
    head = np.array([(MAGIC, VERSION, 0, size, len(text), first_sequence, words)], SEGMENT)
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
    if (
        not PAGE_BYTES <= size <= min(len(data), MAX_HEADER_BYTES)
        or length > size - SEGMENT.itemsize
    ):
        raise wrong(16, "the header is damaged")
    page = bytearray(data[:size])
    page[12:16] = bytes(4)
    if zlib.crc32(page) != head["checksum"]:
        raise wrong(0, "the header is damaged: its checksum is wrong")
    text = data[SEGMENT.itemsize : SEGMENT.itemsize + length]
    try:
        shard_config = msgspec.json.decode(text, type=ShardConfig)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise wrong(SEGMENT.itemsize, f"the configuration cannot be read: {error}") from None
    problem = shard_config_problem(shard_config)
    if problem:
        raise wrong(SEGMENT.itemsize, problem)
    first = int(head["first_sequence"])
    if not 1 <= first <= SEQUENCE_MASK:
        raise wrong(32, f"first_sequence = {first}: must be 1 to {SEQUENCE_MASK}")
    low, high = map(int, head["secret"])
    return Header(first, shard_config, size, high << 64 | low)
