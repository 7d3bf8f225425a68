"""Snapshots: all that a shard's commands up to one came to, so that older ones need not be kept.

A snapshot is a file named after the last command it stands for, ``0000000000001234.snapshot``, in
the shard's journal directory::

    magic, version, length                                                   8 + 4 + 4 bytes
    length bytes of JSON: SnapshotHead
    the records of each section, in the order of the head
    CRC-32 of all before                                                      4 bytes

It is written aside, made durable, and renamed, so that a file with the name is whole. Of the book
it keeps counters, resting orders and remembered client_order_ids, which every kind of book can be
made from; also the orders that the order table shows, and each account's number of reports.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from engine.book import Counters, Records
from engine.journal_format import JournalError
from engine.shard_terms import ShardTerms
from engine.storage import Buffer, Storage, read_whole
from ipc.decimals import is_whole
from ipc.records import ORDER, RECENT, RESTING, fingerprint

VERSION = 1
MAGIC = b"SBSNAPSH"
SUFFIX = ".snapshot"
_SYNC_BYTES = 1 << 20
_PREFIX = struct.Struct("<8sII")
_CHECKSUM = struct.Struct("<I")
ACCOUNT = np.dtype([("account", "<u8"), ("sequence", "<u8")])
"""How many reports an account was given: see ``engine.account_sequences``."""
_LAYOUTS = {"resting": RESTING, "recent": RECENT, "orders": ORDER, "accounts": ACCOUNT}


class SectionHead(msgspec.Struct, frozen=True):
    """One array of records: what it holds, in which layout, how many."""

    name: str
    layout: int
    count: int
    item_bytes: int


class SnapshotHead(msgspec.Struct, frozen=True):
    """What a snapshot says before its records."""

    terms: ShardTerms
    counters: Counters
    timestamp_ns: int
    reports: int
    sections: list[SectionHead]


@dataclass(frozen=True)
class Snapshot:
    """A shard after one of its commands. ``orders`` is what ``OrderTableWriter.contents`` gives."""

    terms: ShardTerms
    counters: Counters
    timestamp_ns: int
    """The highest time given to a command so far."""
    reports: int = 0
    """How many reports the shard has made."""
    resting: Records = field(default_factory=lambda: np.zeros(0, RESTING))
    recent: Records = field(default_factory=lambda: np.zeros(0, RECENT))
    orders: Records = field(default_factory=lambda: np.zeros(0, ORDER))
    accounts: Records = field(default_factory=lambda: np.zeros(0, ACCOUNT))

    def arrays(self) -> Mapping[str, Records]:
        """Return the records by the name of their section."""
        return {name: getattr(self, name) for name in _LAYOUTS}


def snapshot_path(directory: Path, sequence: int) -> Path:
    """Return where the snapshot lies that stands for the commands up to this one."""
    return directory / f"{sequence:016d}{SUFFIX}"


def snapshots_of(directory: Path) -> list[Path]:
    """Return the snapshots of a directory, the newest first."""
    found = directory.glob(f"*{SUFFIX}")
    return sorted((p for p in found if is_whole(p.name.removesuffix(SUFFIX))), reverse=True)


def sequence_of_snapshot(path: Path) -> int:
    """Return the last command that a snapshot stands for, as its name says."""
    return int(path.name.removesuffix(SUFFIX))


def encode(snapshot: Snapshot) -> list[Buffer]:
    """Return the bytes of a snapshot, in pieces."""
    arrays = snapshot.arrays()
    head = msgspec.json.encode(
        SnapshotHead(
            snapshot.terms,
            snapshot.counters,
            snapshot.timestamp_ns,
            snapshot.reports,
            [
                SectionHead(name, fingerprint(records.dtype), len(records), records.itemsize)
                for name, records in arrays.items()
            ],
        )
    )
    pieces: list[Buffer] = [_PREFIX.pack(MAGIC, VERSION, len(head)), head]
    pieces += [np.ascontiguousarray(records).view(np.uint8).data for records in arrays.values()]
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return [*pieces, _CHECKSUM.pack(checksum)]


def decode(path: Path, data: bytes | bytearray) -> Snapshot:
    """Return the snapshot that bytes hold; ``path`` is for errors. Raises ``JournalError``."""

    def wrong(offset: int, why: str) -> JournalError:
        return JournalError(f"{path}: byte {offset}: {why}")

    size = len(data) - _CHECKSUM.size
    if size < _PREFIX.size:
        raise wrong(0, f"{len(data)} bytes are too few for a snapshot")
    magic, version, length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise wrong(0, "is no snapshot")
    if zlib.crc32(memoryview(data)[:size]) != _CHECKSUM.unpack_from(data, size)[0]:
        raise wrong(size, "the snapshot is damaged: its checksum is wrong")
    if version != VERSION:
        raise VersionError(f"{path}: byte 8: has version {version}, this program reads {VERSION}")
    start = _PREFIX.size + length
    head = msgspec.json.decode(data[_PREFIX.size : start], type=SnapshotHead)
    arrays = {}
    for section in head.sections:
        layout = _LAYOUTS.get(section.name)
        if layout is None or section.layout != fingerprint(layout):
            raise VersionError(f"{path}: byte {start}: has another layout of {section.name!r}")
        arrays[section.name] = np.frombuffer(data, layout, section.count, start)
        start += section.count * section.item_bytes
    return Snapshot(head.terms, head.counters, head.timestamp_ns, head.reports, **arrays)


class VersionError(JournalError):
    """A whole file that another version of the product wrote: not to be passed over."""


def read_snapshot(path: Path) -> Snapshot:
    """Return the snapshot in a file. Raises ``JournalError`` and ``OSError``."""
    snapshot = decode(path, read_whole(path))
    if path.name != snapshot_path(path.parent, snapshot.counters.sequence).name:
        raise JournalError(
            f"{path}: byte {_PREFIX.size}: stands for command {snapshot.counters.sequence}, which "
            "its name does not say"
        )
    return snapshot


def _cut(pieces: list[Buffer]) -> Iterator[Buffer]:
    """Return pieces of bytes as pieces of the length that is synced at a time.

    A file system that takes much at once keeps others waiting who write to it: a matcher.
    """
    data = memoryview(b"".join(pieces))
    for start in range(0, len(data), _SYNC_BYTES):
        yield data[start : start + _SYNC_BYTES]


def write_snapshot(directory: Path, snapshot: Snapshot, storage: Storage) -> Path:
    """Write a snapshot durably; return its path. Raises ``OSError``; nothing counts then."""
    path = snapshot_path(directory, snapshot.counters.sequence)
    aside = path.with_name(f"{path.name}.tmp")
    descriptor = storage.create(aside)
    try:
        offset = 0
        for piece in _cut(encode(snapshot)):
            storage.write(descriptor, piece, offset)
            storage.sync(descriptor)
            offset += len(piece)
    finally:
        storage.close(descriptor)
    storage.rename(aside, path)
    storage.sync_directory(directory)
    return path
