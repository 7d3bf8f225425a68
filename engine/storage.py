"""The few operations by which data reaches a disk; a simulated disk takes the place of ``Storage``.

Everything that journal, snapshots and trade log change goes through one of these methods. What
they read they read as any program would.
"""

import errno
import fcntl
import os
import stat
import time
from io import FileIO
from pathlib import Path
from typing import TypeAlias

Buffer: TypeAlias = bytes | memoryview

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors that pass once there is room; all others say that the disk cannot be trusted."""

_LOCK_RETRY_S = 0.02
_PIECE_BYTES = 1 << 16


class LockedError(Exception):
    """Another process works in the directory; the text names it."""


class Storage:
    """The files of this machine. Every method raises ``OSError``."""

    def create(self, path: Path) -> int:
        """Make a new file, empty, in the place of an old one; return its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def open(self, path: Path) -> int:
        """Open a file that is there, for changing it."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def open_to_append(self, path: Path) -> int:
        """Open or make a file; ``append`` writes at its end."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def allocate(self, descriptor: int, size: int) -> None:
        """Give a file so many bytes of the disk; the new ones are zeros."""
        os.posix_fallocate(descriptor, 0, size)

    def append(self, descriptor: int, data: Buffer) -> int:
        """Write at the end; return how many bytes were written."""
        return os.write(descriptor, data)

    def write(self, descriptor: int, data: Buffer, offset: int) -> None:
        """Write bytes from ``offset`` on, all of them."""
        written = os.pwrite(descriptor, data, offset)
        while written < len(data):  # a signal or a full disk: the rest, or its error
            written += os.pwrite(descriptor, data[written:], offset + written)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file to a size."""
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Return once the file's bytes are on the disk. An error is final: see fsyncgate."""
        os.fdatasync(descriptor)

    def let_go(self, descriptor: int) -> None:
        """Let the kernel use the memory for others in which it keeps the bytes of a synced file."""
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def rename(self, path: Path, target: Path) -> None:
        """Give a file another name, in the place of what had it."""
        path.rename(target)

    def unlink(self, path: Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)

    def sync_directory(self, directory: Path) -> None:
        """Return once the names in a directory are on the disk."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_into(descriptor: int, buffer: bytearray | memoryview, offset: int) -> int:
    """Fill a buffer from a file's byte ``offset`` on, as far as the file goes.

    Returns how many bytes that were. They are read by the piece, for a kernel may give nobody else
    the core while one call lasts: 20 MB at once kept a frontend waiting for 8 ms, which runs at
    once where a process of the lowest priority is between two calls.
    """
    rest = memoryview(buffer)
    while rest:
        count = os.preadv(descriptor, [rest[:_PIECE_BYTES]], offset)
        if not count:
            break
        offset += count
        rest = rest[count:]
    return len(buffer) - len(rest)


def open_regular(path: Path) -> FileIO:
    """Open a file for reading. Raises ``OSError``, also where it is none but a pipe, say, that
    would keep its reader waiting."""
    file = FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return file


def read_whole(path: Path) -> bytearray:
    """Return a file's bytes, read as by ``read_into``."""
    with path.open("rb", buffering=0) as file:
        data = bytearray(os.fstat(file.fileno()).st_size)
        del data[read_into(file.fileno(), data, 0) :]
        return data


def lock_directory(directory: Path, timeout_s: float = 0.0) -> int:
    """Lock a directory until the descriptor that is returned is closed or this process ends.

    Waits so long for another process to end. Raises ``LockedError`` and ``OSError``.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise LockedError(f"{directory}: another process works in it") from None
            time.sleep(_LOCK_RETRY_S)
        else:
            return descriptor
