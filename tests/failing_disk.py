"""A disk that fails on demand, for tests of what writes files."""

import errno
import os
from pathlib import Path

import pytest


class Disk:
    """Stands before the system calls of the log: short writes, and no room after so many bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 1 << 30
        self.piece = 1 << 30
        self.truncate_errors = self.sync_errors = self.rename_errors = self.open_errors = 0
        self.syncs = 0
        self._write, self._truncate, self._sync = os.write, os.ftruncate, os.fdatasync
        self._rename, self._open = Path.rename, os.open
        for name in ("write", "ftruncate", "fdatasync", "open"):
            monkeypatch.setattr(os, name, getattr(self, name))

        def rename(path: Path, target: Path) -> Path:
            self.rename_errors = self._fail(self.rename_errors)
            return self._rename(path, target)

        monkeypatch.setattr(Path, "rename", rename)

    def write(self, descriptor: int, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "no room")
        written = self._write(descriptor, data[: min(self.room, self.piece)])
        self.room -= written
        return written

    def ftruncate(self, descriptor: int, size: int) -> None:
        self.truncate_errors = self._fail(self.truncate_errors)
        self._truncate(descriptor, size)

    def fdatasync(self, descriptor: int) -> None:
        self.syncs += 1
        self.sync_errors = self._fail(self.sync_errors)
        self._sync(descriptor)

    def open(self, path: Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            self.open_errors = self._fail(self.open_errors)
        return self._open(path, flags, mode, dir_fd=dir_fd)

    @staticmethod
    def _fail(errors: int) -> int:
        if errors:
            raise OSError(errno.EIO, "the disk fails")
        return 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that does as it is told, and until then works."""
    return Disk(monkeypatch)
