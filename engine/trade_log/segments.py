"""The files of the trade log, and what becomes of a segment after its last line.

=========================== ====================================================================
``trades.ndjson``           the active segment, appended to by one ``TradeLog``
``trades-000007.ndjson``    a closed segment; its bytes do not change any more
``trades-000007.ndjson.gz`` the same lines, compressed
``sealed.json``             up to which segment all is durable, and each shard's last trade there
``*.tmp``                   unfinished; of no meaning after a crash
=========================== ====================================================================

``Sealer`` seals a closed segment in the background: synchronised to the disk, noted in
``sealed.json``, then compressed aside, renamed, and only then removed in its plain form. Where a
crash leaves both forms, ``clean_up`` keeps one. Old segments may be moved away at any time.
"""

import contextlib
import gzip
import logging
import os
import re
import threading
from collections import deque
from io import FileIO
from pathlib import Path
from typing import Annotated

import msgspec
from zlib_ng import zlib_ng

from engine.storage import Storage, open_regular
from ipc.records import MAX_SHARDS, SEQUENCE_MASK

logger = logging.getLogger("shardbook.persister")

ACTIVE = "trades.ndjson"
SEALED = "sealed.json"
_NAME = re.compile(r"trades-([0-9]{6,12})\.ndjson(?:\.gz)?")
_CHUNK_BYTES = 1 << 20
MAX_SEAL_BYTES = 1 << 16
_LEVEL = 2
"""On trades 5.5 times smaller at 360 MB/s; level 6 makes it 6.4 times at 120 MB/s."""

_NICENESS = 10
"""Compressing must not take the core from the processes that share it; it has time."""


class TradeLogError(Exception):
    """The log cannot be used as it is; the text names file and offset, or the reason."""


class TradeLogBusyError(TradeLogError):
    """Another process writes the log."""


_Shard = Annotated[int, msgspec.Meta(ge=0, lt=MAX_SHARDS)]
_Sequence = Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MASK)]


class Seal(msgspec.Struct, frozen=True):
    """What ``sealed.json`` says: segments up to ``segment`` are durable, and end with these."""

    segment: Annotated[int, msgspec.Meta(ge=0, lt=10**12)] = 0
    last_sequences: dict[_Shard, _Sequence] = {}


def plain_path(directory: Path, segment: int) -> Path:
    """Return where a closed segment lies before it is compressed."""
    return directory / f"trades-{segment:06d}.ndjson"


def compressed_path(directory: Path, segment: int) -> Path:
    """Return where a closed segment lies once it is compressed."""
    return directory / f"trades-{segment:06d}.ndjson.gz"


def closed_segments(directory: Path) -> list[int]:
    """Return the numbers of the closed segments that are there, in order."""
    try:
        matches = map(_NAME.fullmatch, os.listdir(directory))
    except FileNotFoundError:  # no log yet
        return []
    return sorted({int(match[1]) for match in matches if match})


def active_number(directory: Path) -> int:
    """Return the number that the active segment is going to have."""
    return 1 + max([read_seal(directory).segment, *closed_segments(directory)])


def open_closed(directory: Path, segment: int) -> FileIO | gzip.GzipFile:
    """Open the lines of a closed segment in either form. Raises ``FileNotFoundError``.

    The compressed form is there before the plain one goes, so a segment is always found.
    """
    try:
        return plain_path(directory, segment).open("rb", buffering=0)
    except FileNotFoundError:
        return gzip.GzipFile(compressed_path(directory, segment))


def read_seal(directory: Path) -> Seal:
    """Return what ``sealed.json`` says; where it is missing or damaged, that nothing is sealed."""
    try:
        with open_regular(directory / SEALED) as file:
            return msgspec.json.decode(file.read(MAX_SEAL_BYTES), type=Seal)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeError, RecursionError):
        return Seal()


def write_seal(directory: Path, seal: Seal, storage: Storage) -> None:
    """Replace ``sealed.json``, durably."""
    aside = directory / f"{SEALED}.tmp"
    descriptor = storage.create(aside)
    try:
        storage.write(descriptor, msgspec.json.encode(seal), 0)
        storage.sync(descriptor)
    finally:
        storage.close(descriptor)
    storage.rename(aside, directory / SEALED)
    storage.sync_directory(directory)


def clean_up(directory: Path, storage: Storage) -> None:
    """Remove what a crash left: unfinished files, and one form of a segment that has both."""
    for aside in directory.glob("*.tmp"):
        storage.unlink(aside)
    for segment in closed_segments(directory):
        plain, compressed = plain_path(directory, segment), compressed_path(directory, segment)
        if plain.exists() and compressed.exists():
            whole = _unpacked_size(compressed) == plain.stat().st_size % (1 << 32)
            storage.unlink(plain if whole else compressed)


class Sealer:
    """Seals and compresses closed segments, one after the other, in a thread of its own.

    What fails (a full disk) stays as it is, is counted, and is tried again with the next segment
    or at the next start. Without ``background`` it is done at once by whoever asks for it.
    """

    def __init__(
        self, directory: Path, compress: bool, storage: Storage, *, background: bool = True
    ) -> None:
        self._storage = storage
        self._background = background
        self.errors = 0
        self.compressed = 0
        self._directory = directory
        self._compress = compress
        self._waiting: deque[Seal] = deque()
        self._requests = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def request(self, seal: Seal) -> None:
        """Have a segment sealed and compressed, as far as it is not; in the order of segments."""
        with self._changed:
            self._waiting.append(seal)
            self._requests += 1
            self._changed.notify()
        if not self._background:
            self._seal_all()
        elif self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sealer", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop, giving up what is not done yet: the next start goes on with it."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # a thread has a priority of its own on Linux alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        handled = 0
        while not self._closing:
            with self._changed:
                while self._requests == handled and not self._closing:
                    self._changed.wait()
                handled = self._requests
            self._seal_all()

    def _seal_all(self) -> None:
        while self._waiting and not self._closing:
            seal = self._waiting[0]
            try:
                with contextlib.suppress(FileNotFoundError):  # moved away
                    self._seal(seal)
            except OSError as error:
                self.errors += 1
                logger.warning("trade log: segment %d is not sealed: %s", seal.segment, error)
                break
            self._waiting.popleft()

    def _seal(self, seal: Seal) -> None:
        plain = plain_path(self._directory, seal.segment)
        if seal.segment > read_seal(self._directory).segment:
            with open_closed(self._directory, seal.segment) as lines:
                self._storage.sync(lines.fileno())
            write_seal(self._directory, seal, self._storage)
        if not self._compress or not plain.exists():
            return
        if self._pack(plain, compressed_path(self._directory, seal.segment)):
            self.compressed += 1

    def _pack(self, plain: Path, compressed: Path) -> bool:
        """Put ``compressed`` in the place of ``plain``; return False where closing came first."""
        aside = compressed.with_name(f"{compressed.name}.tmp")
        storage = self._storage
        target = storage.create(aside)
        try:
            with plain.open("rb") as source:
                packer = zlib_ng.compressobj(_LEVEL, wbits=31)
                size = 0
                while chunk := source.read(_CHUNK_BYTES):
                    if self._closing:
                        storage.unlink(aside)
                        return False
                    size += self._put(target, packer.compress(chunk), size)
                self._put(target, packer.flush(), size)
                storage.sync(target)
        except OSError:
            storage.unlink(aside)
            raise
        finally:
            storage.close(target)
        storage.rename(aside, compressed)
        storage.sync_directory(self._directory)
        storage.unlink(plain)
        return True

    def _put(self, descriptor: int, data: bytes, offset: int) -> int:
        if data:
            self._storage.write(descriptor, data, offset)
        return len(data)


def _unpacked_size(compressed: Path) -> int:
    """Return what the last 4 bytes of a gzip file say: the unpacked size modulo 2^32."""
    with compressed.open("rb") as source:
        source.seek(max(0, source.seek(0, os.SEEK_END) - 4))
        return int.from_bytes(source.read(), "little")
