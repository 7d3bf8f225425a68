"""Shared mappings: one file each under /dev/shm, with a header page that says what it holds.

A mapping is made aside and renamed, so that a reader finds it whole or not at all, and its memory
reserved before it is touched, so that a full /dev/shm is an error, not a fault (SIGBUS): at once
or, where much may stay unused, bit by bit (``Mapping.reserve``).
Whoever opens one checks all that the header says; the pages of a reader are read-only.

Anybody may make a directory in /dev/shm by the name of one of the product's: what is not of the
user whom it is named after, or not for him alone, is refused.
"""

import hashlib
import mmap
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ipc.records import MAPPING_HEADER, VERSION, fingerprint

MAGIC = int.from_bytes(b"SHRDBOOK", "little")
HEADER_BYTES = 4096
SHARED_MEMORY = Path("/dev/shm")
_RUN_DIRECTORY = re.compile(r"shardbook-([0-9]{1,10})-[0-9a-f]+")


class MappingError(RuntimeError):
    """A mapping cannot be made, or is not what its reader expects: the text names path and why."""


def run_directory(data_dir: Path, user: int | None = None) -> Path:
    """Return where the mappings and inner sockets of a data directory live.

    ``user`` is who runs the product, by number; without it the user of this process.
    """
    if not SHARED_MEMORY.is_dir():
        return data_dir / "run"
    user = os.getuid() if user is None else user
    name = hashlib.blake2b(str(data_dir.resolve()).encode(), digest_size=6).hexdigest()
    return SHARED_MEMORY / f"shardbook-{user}-{name}"


def check_run_directory(directory: Path) -> None:
    """Refuse a run directory that is not, or not only, its user's. Raises ``MappingError``.

    One that is missing is not refused, nor one in the data directory, which is its owner's matter.
    """
    if directory.parent != SHARED_MEMORY:
        return
    try:
        named = directory.lstat()
    except FileNotFoundError:
        return
    ours = _RUN_DIRECTORY.fullmatch(directory.name)
    user = int(ours[1]) if ours else os.getuid()
    try:
        found = directory.stat() if named.st_uid == user else named
    except OSError as error:
        raise MappingError(f"{directory}: {error.strerror}") from None
    if found.st_uid != user:
        raise MappingError(
            f"{directory}: belongs to user {found.st_uid}, not to {user}: it is no product's; "
            "have it removed"
        )
    if not stat.S_ISDIR(found.st_mode):
        raise MappingError(f"{directory}: must be a directory; remove it")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise MappingError(f"{directory}: is open to others (mode {mode:o}, not 700); remove it")


class Mapping:
    """One open mapping: ``capacity`` and ``tag`` of its header, and the bytes behind it."""

    def __init__(
        self, path: Path, descriptor: int, size: int, writable: bool, sparse: bool = False
    ) -> None:
        protection, flags = mmap.PROT_READ, mmap.MAP_SHARED
        if writable:
            protection |= mmap.PROT_WRITE
        if writable and not sparse:
            flags |= getattr(mmap, "MAP_POPULATE", 0)  # no page fault in the midst of a batch
        self._buffer = mmap.mmap(descriptor, size, flags, protection)
        header = np.frombuffer(self._buffer, MAPPING_HEADER, 1)[0]
        self.path = path
        self.capacity = int(header["capacity"])
        self.tag = int(header["tag"])
        self._identity = _identity(os.fstat(descriptor))

    def words(self, offset: int, count: int) -> memoryview:
        """Return ``count`` u64 words of the body as a memoryview; single accesses are atomic."""
        start = HEADER_BYTES + offset
        return memoryview(self._buffer)[start : start + 8 * count].cast("Q")

    def array(self, dtype: npt.DTypeLike, offset: int, count: int) -> npt.NDArray[Any]:
        """Return ``count`` records of the body, from byte ``offset``, as a numpy view."""
        return np.frombuffer(self._buffer, dtype, count, HEADER_BYTES + offset)

    def reserve(self, offset: int, count: int) -> None:
        """Give ``count`` bytes of a sparse body memory before they are touched. Raises OSError."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.posix_fallocate(descriptor, HEADER_BYTES + offset, count)
        finally:
            os.close(descriptor)

    @property
    def replaced(self) -> bool:
        """Whether the path holds another mapping by now, or none: the product was restarted."""
        try:
            return _identity(self.path.stat()) != self._identity
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Unmap; where views are still alive, the last of them does it when it goes."""
        with suppress(BufferError):
            self._buffer.close()


def create_mapping(
    path: Path,
    kind: str,
    dtype: np.dtype[np.void],
    capacity: int,
    body_bytes: int,
    tag: int = 0,
    fill: Callable[[Mapping], None] | None = None,
    reserved_bytes: int | None = None,
) -> None:
    """Make a mapping of zeros at ``path``, in place of what was there.

    ``tag`` is a number of the maker's own, such as a shard; ``fill`` writes what must stand in the
    body before anyone sees it; beyond ``reserved_bytes`` of the body its writer has to ``reserve``
    what it will touch. Raises ``MappingError`` where memory or directory are missing.
    """
    aside = path.with_name(path.name + ".new")
    header = np.zeros(1, MAPPING_HEADER)
    header["magic"], header["version"], header["kind"] = MAGIC, VERSION, kind.encode()
    header["fingerprint"], header["capacity"] = fingerprint(dtype), capacity
    header["tag"], header["body_bytes"] = tag, body_bytes
    size = HEADER_BYTES + body_bytes
    try:
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            at_once = body_bytes if reserved_bytes is None else reserved_bytes
            os.posix_fallocate(descriptor, 0, HEADER_BYTES + at_once)
            os.ftruncate(descriptor, size)
            os.pwrite(descriptor, header.tobytes(), 0)
            if fill is not None:
                fill(Mapping(path, descriptor, size, writable=True, sparse=at_once < body_bytes))
        finally:
            os.close(descriptor)
        aside.rename(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise MappingError(f"{path}: {size} bytes: {error.strerror}") from error


def open_mapping(
    path: Path, kind: str, dtype: np.dtype[np.void], writable: bool = False, sparse: bool = False
) -> Mapping:
    """Open a mapping, read-only unless said otherwise. Raises ``MappingError``.

    ``sparse``: not all of it has memory, so none is touched beforehand.
    """
    check_run_directory(path.parent)
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # neither elsewhere, nor for ever
    try:
        descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | flags)
    except FileNotFoundError:
        raise MappingError(f"{path}: there is no such mapping; is the product running?") from None
    except PermissionError:
        raise MappingError(f"{path}: may not be opened by this user") from None
    except OSError as error:
        raise MappingError(f"{path}: {error.strerror}") from None
    try:
        problem = _problem(descriptor, kind, dtype)
        if problem:
            raise MappingError(f"{path}: {problem}")
        return Mapping(path, descriptor, os.fstat(descriptor).st_size, writable, sparse)
    finally:
        os.close(descriptor)


def _problem(descriptor: int, kind: str, dtype: np.dtype[np.void]) -> str:
    """Return why a file is not the mapping that is expected, or nothing."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return "is no file"
    size = os.fstat(descriptor).st_size
    page = os.pread(descriptor, MAPPING_HEADER.itemsize, 0)
    if size < HEADER_BYTES or len(page) < MAPPING_HEADER.itemsize:
        return f"{size} bytes are too few for a mapping"
    header = np.frombuffer(page, MAPPING_HEADER)[0]
    if header["magic"] != MAGIC:
        return "is no mapping of this product"
    if header["version"] != VERSION:
        return f"has version {header['version']}, this program reads {VERSION}"
    found = bytes(header["kind"]).decode("ascii", "replace")
    if found != kind:
        return f"holds {found!r}, not {kind!r}"
    if header["fingerprint"] != fingerprint(dtype):
        return f"has another layout of {kind!r}"
    expected = HEADER_BYTES + int(header["body_bytes"])
    if size != expected:
        return f"has {size} bytes, its header says {expected}"
    return ""


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
