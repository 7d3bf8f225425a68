"""Snapshots: all that a shard's commands up to one came to, so that older ones need not be kept.

A snapshot is a file named after the last command it stands for, ``0000000000001234.snapshot``, in
the shard's journal directory::

    magic, version, length                                                   8 + 4 + 4 bytes
    length bytes of JSON: SnapshotHead
    the records of each section, in the order of the head
    CRC-32 of all before                                                      4 bytes

It is written aside, made durable, and renamed, so that a file with the name is whole. Of the book
it keeps counters, resting orders and remembered client_order_ids (of recent orders, and those that
are kept beyond), which every kind of book can be made from; also the orders that the order table
shows, with the texts that are client_order_ids of some, each account's number of reports, and the
shard's secret.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from engine.books.contract import Counters, Records
from engine.books.secret import SECRET_BYTES
from engine.journal.format import JournalError
from engine.journal.shard_config import ShardConfig, shard_config_problem
from engine.journal.snapshot_checks import RowChecks, Wrong, counters_problem, state_problem
from engine.storage import Buffer, Storage, open_regular, read_into
from ipc.client_ids import TEXT
from ipc.records import COMMAND, LAST_PRICE, ORDER, RECENT, RESTING, fingerprint

VERSION = 7
MAGIC = b"SBSNAPSH"
SUFFIX = ".snapshot"
MAX_HEAD_BYTES = 16 << 20
"""More than the configuration of 65,535 instruments take."""
_SYNC_BYTES = 1 << 20
_NAME = re.compile(r"[0-9]{16}\.snapshot")
_PREFIX = struct.Struct("<8sII")
_CHECKSUM = struct.Struct("<I")
ACCOUNT = np.dtype([("account", "<u8"), ("sequence", "<u8")])
"""How many reports an account was given: see ``engine.shard.account_sequences``."""
_LAYOUTS = {
    "resting": RESTING,
    "recent": RECENT,
    "sweeps": COMMAND,
    "last_prices": LAST_PRICE,
    "orders": ORDER,
    "texts": TEXT,
    "accounts": ACCOUNT,
}


class SectionHead(msgspec.Struct, frozen=True):
    """One array of records: what it holds, in which layout, how many."""

    name: str
    layout: int
    count: int
    item_bytes: int


class SnapshotHead(msgspec.Struct, frozen=True):
    """What a snapshot says before its records."""

    shard_config: ShardConfig = msgspec.field(name="terms")
    counters: Counters
    timestamp_ns: int
    reports: int
    secret: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    sections: list[SectionHead]


@dataclass(frozen=True)
class Snapshot:
    """A shard after one of its commands. ``orders`` is what ``OrderTableWriter.contents`` gives."""

    shard_config: ShardConfig
    counters: Counters
    timestamp_ns: int
    """The highest time given to a command so far."""
    reports: int = 0
    """How many reports the shard has made."""
    secret: int = field(default=0, repr=False)
    """The shard's: see ``engine.books.secret``."""
    resting: Records = field(default_factory=lambda: np.zeros(0, RESTING))
    recent: Records = field(default_factory=lambda: np.zeros(0, RECENT))
    sweeps: Records = field(default_factory=lambda: np.zeros(0, COMMAND))
    """Mass cancels that are under way: see ``Book.sweeps``."""
    last_prices: Records = field(default_factory=lambda: np.zeros(0, LAST_PRICE))
    """See ``Book.last_prices``."""
    orders: Records = field(default_factory=lambda: np.zeros(0, ORDER))
    texts: Records = field(default_factory=lambda: np.zeros(0, TEXT))
    """What ``OrderTableWriter.texts_of`` gives of them."""
    accounts: Records = field(default_factory=lambda: np.zeros(0, ACCOUNT))

    def book_state(self) -> tuple[Counters, Records, Records, Records, Records]:
        """Return what ``Book.restore`` takes."""
        return self.counters, self.resting, self.recent, self.sweeps, self.last_prices

    def arrays(self) -> Mapping[str, Records]:
        """Return the records by the name of their section."""
        return {name: getattr(self, name) for name in _LAYOUTS}


def snapshot_path(directory: Path, sequence: int) -> Path:
    """Return where the snapshot lies that stands for the commands up to this one."""
    return directory / f"{sequence:016d}{SUFFIX}"


def snapshots_of(directory: Path) -> list[Path]:
    """Return the snapshots of a directory, the newest first; other files are none of ours."""
    try:
        names = [name for name in os.listdir(directory) if _NAME.fullmatch(name)]
    except FileNotFoundError:
        return []
    return [directory / name for name in sorted(names, reverse=True)]


def sequence_of_snapshot(path: Path) -> int:
    """Return the last command that a snapshot stands for, as its name says."""
    return int(path.name.removesuffix(SUFFIX))


def encode(snapshot: Snapshot) -> list[Buffer]:
    """Return the bytes of a snapshot, in pieces."""
    arrays = snapshot.arrays()
    head = msgspec.json.encode(
        SnapshotHead(
            snapshot.shard_config,
            snapshot.counters,
            snapshot.timestamp_ns,
            snapshot.reports,
            f"{snapshot.secret:0{2 * SECRET_BYTES}x}",
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


class VersionError(JournalError):
    """A whole file that another version of the product wrote: not to be passed over."""


def read_snapshot(path: Path) -> Snapshot:
    """Return the snapshot in a file, every field of it in its range.

    Raises ``JournalError`` and ``OSError``.
    """
    with open_regular(path) as file:
        snapshot = _Reading(path, file.fileno()).snapshot()
    if path.name != snapshot_path(path.parent, snapshot.counters.sequence).name:
        raise JournalError(
            f"{path}: byte {_PREFIX.size}: stands for command {snapshot.counters.sequence}, which "
            "its name does not say"
        )
    return snapshot


class _Reading:
    """One snapshot's file being read, a piece at a time: what is in it bounds no memory before it
    was looked at."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size - _CHECKSUM.size
        """Of all before the checksum."""

    def snapshot(self) -> Snapshot:
        """Return what the file holds. Raises ``JournalError``."""
        if self._size < _PREFIX.size:
            raise self._wrong(0, f"{self._size + _CHECKSUM.size} bytes are too few for a snapshot")
        magic, version, length = _PREFIX.unpack(self._read(0, _PREFIX.size))
        if magic != MAGIC:
            raise self._wrong(0, "is no snapshot")
        if self._checksum() != _CHECKSUM.unpack(self._read(self._size, _CHECKSUM.size))[0]:
            raise self._wrong(self._size, "the snapshot is damaged: its checksum is wrong")
        if version != VERSION:
            raise VersionError(
                f"{self._path}: byte 8: has version {version}, this program reads {VERSION}"
            )
        if length > min(MAX_HEAD_BYTES, self._size - _PREFIX.size):
            raise self._wrong(12, f"a head of {length} bytes: does not fit, or is above the bound")
        head = self._head(length)
        problem = shard_config_problem(head.shard_config) or counters_problem(
            head.counters, head.timestamp_ns, head.reports
        )
        if problem:
            raise self._wrong(_PREFIX.size, problem)
        starts = self._starts(head, _PREFIX.size + length)
        rows = RowChecks(head.shard_config, head.counters)
        arrays = {
            section.name: self._records(section, starts[section.name], rows)
            for section in head.sections
        }
        secret = int(head.secret, 16)
        found = Snapshot(
            head.shard_config, head.counters, head.timestamp_ns, head.reports, secret, **arrays
        )
        wrong = state_problem(
            head.shard_config,
            head.counters,
            found.resting,
            found.recent,
            found.sweeps,
            found.last_prices,
            found.orders,
            found.texts,
            found.accounts,
        )
        if wrong is not None:
            raise self._wrong_row(wrong[0], starts[wrong[0]], wrong[1])
        return found

    def _head(self, length: int) -> SnapshotHead:
        try:
            return msgspec.json.decode(self._read(_PREFIX.size, length), type=SnapshotHead)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise self._wrong(_PREFIX.size, f"the head cannot be read: {error}") from None

    def _starts(self, head: SnapshotHead, start: int) -> dict[str, int]:
        """Return where each section begins; together they must fill the file."""
        starts = {}
        for section in head.sections:
            layout = _LAYOUTS.get(section.name)
            if layout is None or section.layout != fingerprint(layout):
                raise VersionError(
                    f"{self._path}: byte {start}: has another layout of {section.name!r}"
                )
            size = section.count * section.item_bytes
            if section.name in starts or section.item_bytes != layout.itemsize:
                raise self._wrong(start, f"{section.name} is there twice, or of another size")
            if not 0 <= size <= self._size - start:
                raise self._wrong(start, f"{section.count} of {section.name} do not fit")
            starts[section.name] = start
            start += size
        if start != self._size or len(starts) < len(_LAYOUTS):
            raise self._wrong(start, "its sections do not fill the file, or one is missing")
        return starts

    def _records(self, section: SectionHead, start: int, rows: RowChecks) -> Records:
        """Return the records of a section. Each piece is right before there is room for the next:
        a file may say that it is long, and hold nothing."""
        layout = _LAYOUTS[section.name]
        found = bytearray()
        step = _SYNC_BYTES // layout.itemsize
        for first in range(0, section.count, step):
            at = start + first * layout.itemsize
            piece = self._read(at, min(step, section.count - first) * layout.itemsize)
            wrong = rows.problem(section.name, np.frombuffer(piece, layout))
            if wrong is not None:
                raise self._wrong_row(section.name, at, wrong)
            found += piece
        return np.frombuffer(found, layout)

    def _read(self, offset: int, size: int) -> bytearray:
        data = bytearray(size)
        if read_into(self._descriptor, data, offset) != size:
            raise self._wrong(offset, "the file has become shorter")
        return data

    def _checksum(self) -> int:
        checksum = 0
        for offset in range(0, self._size, _SYNC_BYTES):
            piece = self._read(offset, min(_SYNC_BYTES, self._size - offset))
            checksum = zlib.crc32(piece, checksum)
        return checksum

    def _wrong(self, offset: int, why: str) -> JournalError:
        return JournalError(f"{self._path}: byte {offset}: {why}")

    def _wrong_row(self, section: str, start: int, wrong: Wrong) -> JournalError:
        layout = _LAYOUTS[section]
        assert layout.fields is not None
        offset = start + wrong.row * layout.itemsize + layout.fields[wrong.field][1]
        return self._wrong(offset, f"{section}: {wrong.field} {wrong.rule}")


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
