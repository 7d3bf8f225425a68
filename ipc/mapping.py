"""Shared mappings: one file each under /dev/shm, with a header page that says what it holds.

A mapping is made aside and renamed, so that a reader finds it whole or not at all. The header's
magic, version, kind, layout and capacity are checked by whoever opens it.
"""

import hashlib
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ipc.records import VERSION, fingerprint

MAGIC = 0x4B4F4F4244524853
"""``SHRDBOOK`` as a little-endian word."""
HEADER_BYTES = 4096
_HEADER = struct.Struct("<QQ16sQQQ")


class MappingError(RuntimeError):
    """A mapping is missing, or not what its reader expects; the text names the path and why."""


def run_directory(data_dir: Path) -> Path:
    """Return where the mappings and inner sockets of a data directory live."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        return data_dir / "run"
    name = hashlib.blake2b(str(data_dir.resolve()).encode(), digest_size=6).hexdigest()
    return memory / f"shardbook-{os.getuid()}-{name}"


class Mapping:
    """One open mapping: its header's ``capacity``, and the bytes behind the header."""

    def __init__(self, path: Path, buffer: mmap.mmap, capacity: int, tag: int) -> None:
        self.path = path
        self.capacity = capacity
        self.tag = tag
        self._buffer = buffer
        self._identity = _identity(path)

    def words(self, offset: int, count: int) -> memoryview:
        """Return ``count`` u64 words of the body as a memoryview; single accesses are atomic."""
        start = HEADER_BYTES + offset
        return memoryview(self._buffer)[start : start + 8 * count].cast("Q")

    def array(self, dtype: npt.DTypeLike, offset: int, count: int) -> npt.NDArray[Any]:
        """Return ``count`` records of the body as a numpy view."""
        return np.frombuffer(self._buffer, dtype, count, HEADER_BYTES + offset)

    @property
    def replaced(self) -> bool:
        """Whether the path holds another mapping by now, or none: the product was restarted."""
        return _identity(self.path) != self._identity


def create_mapping(
    path: Path, kind: str, dtype: np.dtype[np.void], capacity: int, body_bytes: int, tag: int = 0
) -> None:
    """Make a mapping of zeros. ``tag`` is a number of the maker's own, such as a shard."""
    aside = path.with_name(path.name + ".new")
    header = _HEADER.pack(MAGIC, VERSION, kind.encode(), fingerprint(dtype), capacity, tag)
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, HEADER_BYTES + body_bytes)
        os.pwrite(descriptor, header, 0)
    finally:
        os.close(descriptor)
    os.rename(aside, path)


def open_mapping(
    path: Path, kind: str, dtype: np.dtype[np.void], writable: bool = False
) -> Mapping:
    """Open a mapping, read-only unless said otherwise. Raises ``MappingError``."""
    try:
        descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    except FileNotFoundError:
        raise MappingError(f"{path}: there is no such mapping; is the product running?") from None
    except PermissionError:
        raise MappingError(f"{path}: may not be opened by this user") from None
    try:
        size = os.fstat(descriptor).st_size
        if size < HEADER_BYTES:
            raise MappingError(f"{path}: {size} bytes are too few for a mapping")
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        buffer = mmap.mmap(descriptor, size, access=access)
    finally:
        os.close(descriptor)
    magic, version, found, layout, capacity, tag = _HEADER.unpack_from(buffer)
    name = found.rstrip(b"\0").decode("ascii", "replace")
    if magic != MAGIC:
        raise MappingError(f"{path}: is no mapping of this product")
    if version != VERSION:
        raise MappingError(f"{path}: has version {version}, this program reads {VERSION}")
    if name != kind:
        raise MappingError(f"{path}: holds {name!r}, not {kind!r}")
    if layout != fingerprint(dtype):
        raise MappingError(f"{path}: has another layout of {kind!r}")
    return Mapping(path, buffer, capacity, tag)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
