"""A disk that crashes: real files, and what a loss of power would leave of them.

Every operation of ``engine.storage.Storage`` is carried out on real files, so that readers
see them, and noted until a sync makes it last. ``plan_crash`` lets one of the operations to come be
the last: a write may then have been done in part. After ``lose_power`` the files hold what was
synced, and of the rest whatever the seed decides: each write whole, not at all, or some of its
sectors, as they were with all that was written to them before; each change of names or sizes, in
their order, up to some point.
"""

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from engine.storage import Buffer, Storage

_SECTOR_BYTES = 512


class CrashError(BaseException):
    """The simulated process ends here. No code of the product may catch it."""


@dataclass
class _File:
    """What is known of one file's bytes: those that are safe, and the changes since."""

    safe: bytes = b""
    changes: list[tuple[int, bytes] | int] = field(default_factory=list)
    """A write (offset, bytes), or a new size."""


class SimulatedDisk(Storage):
    """All files below one directory."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.operations = 0
        self.crash_at: int | None = None
        self._root = root
        self._rng = rng
        self._open: dict[int, _File] = {}
        self._names: dict[Path, _File] = {}
        self._safe_names: dict[Path, _File] = {}
        self._name_changes: dict[Path, list[_Names]] = {}

    # What goes wrong -----------------------------------------------------------------------------

    def plan_crash(self, operations: int | None) -> None:
        """Crash in the so manyth operation from now on; None: in none."""
        self.crash_at = None if operations is None else self.operations + operations

    def lose_power(self) -> None:
        """Leave what a loss of power leaves; every file is closed by it."""
        names = dict(self._safe_names)
        for changes in self._name_changes.values():
            for change in changes[: self._rng.randint(0, len(changes))]:
                _apply(names, change)
        for path in self._files():
            path.unlink()
        self.close_all()
        for path, file in names.items():
            file.safe = self._left_of(file)
            file.changes.clear()
            path.write_bytes(file.safe)
        self._names, self._safe_names = dict(names), dict(names)
        self._name_changes.clear()

    def close_all(self) -> None:
        """Close what a dead process left open."""
        for descriptor in list(self._open):
            os.close(descriptor)
        self._open.clear()

    def _files(self) -> list[Path]:
        return [path for path in self._root.rglob("*") if path.is_file()]

    def _left_of(self, file: _File) -> bytes:
        """Return a file's bytes after the loss of some of the changes since its last sync."""
        rng, data, seen = self._rng, bytearray(file.safe), bytearray(file.safe)
        kept_sizes = rng.randint(0, sum(isinstance(change, int) for change in file.changes))
        for change in file.changes:
            if isinstance(change, int):
                kept_sizes -= 1
                if kept_sizes >= 0:
                    _resize(data, change)
                _resize(seen, change)
                continue
            offset, written = change
            _resize(seen, max(len(seen), offset + len(written)))
            seen[offset : offset + len(written)] = written
            fate = rng.random()
            for sector in _sectors(offset, len(written)):
                if fate < 0.4 or (fate < 0.7 and rng.random() < 0.5):
                    whole = seen[sector : sector + _SECTOR_BYTES]
                    _resize(data, max(len(data), sector + len(whole)))
                    data[sector : sector + len(whole)] = whole
        return bytes(data)

    def _step(self) -> bool:
        """Count an operation; return whether the process ends in it."""
        self.operations += 1
        return self.operations == self.crash_at

    def step(self) -> None:
        """Be an operation that changes nothing: here too a process may end."""
        if self._step():
            raise CrashError

    # The operations ------------------------------------------------------------------------------

    def create(self, path: Path) -> int:
        """See ``Storage``: a new file in the place of an old one, not a cut old one."""
        self.step()
        path.unlink(missing_ok=True)
        return self._opened(path, super().create(path), _File())

    def open(self, path: Path) -> int:
        """See ``Storage``."""
        return self._opened(path, super().open(path), self._names.get(path))

    def open_to_append(self, path: Path) -> int:
        """See ``Storage``."""
        self.step()
        return self._opened(path, super().open_to_append(path), self._names.get(path))

    def close(self, descriptor: int) -> None:
        """See ``Storage``."""
        del self._open[descriptor]
        super().close(descriptor)

    def allocate(self, descriptor: int, size: int) -> None:
        """See ``Storage``."""
        self.step()
        super().allocate(descriptor, size)
        self._open[descriptor].changes.append(size)

    def append(self, descriptor: int, data: Buffer) -> int:
        """See ``Storage``; sometimes only a part is written."""
        offset = os.fstat(descriptor).st_size
        whole = bytes(data)
        last = self._step()
        if last or self._rng.random() < 0.1:
            whole = whole[: self._rng.randint(0 if last else 1, len(whole))]
        written = super().append(descriptor, whole)
        self._open[descriptor].changes.append((offset, whole))
        if last:
            raise CrashError
        return written

    def write(self, descriptor: int, data: Buffer, offset: int) -> None:
        """See ``Storage``."""
        whole = bytes(data)
        last = self._step()
        if last:
            whole = whole[: self._rng.randint(0, len(whole))]
        if whole:
            super().write(descriptor, whole, offset)
            self._open[descriptor].changes.append((offset, whole))
        if last:
            raise CrashError

    def truncate(self, descriptor: int, size: int) -> None:
        """See ``Storage``."""
        self.step()
        super().truncate(descriptor, size)
        self._open[descriptor].changes.append(size)

    def sync(self, descriptor: int) -> None:
        """See ``Storage``; a crash may come before or after it has worked."""
        last = self._step()
        if last and self._rng.random() < 0.5:
            raise CrashError
        file = self._open.get(descriptor) or self._names[_path_of(descriptor)]
        file.safe = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        file.changes.clear()
        if last:
            raise CrashError

    def rename(self, path: Path, target: Path) -> None:
        """See ``Storage``."""
        self.step()
        super().rename(path, target)
        file = self._names.pop(path)
        self._names[target] = file
        self._change_names(path.parent, {target: file, path: None})

    def unlink(self, path: Path) -> None:
        """See ``Storage``."""
        self.step()
        super().unlink(path)
        if self._names.pop(path, None) is not None:
            self._change_names(path.parent, {path: None})

    def sync_directory(self, directory: Path) -> None:
        """See ``Storage``; a crash may come before or after it has worked."""
        last = self._step()
        if last and self._rng.random() < 0.5:
            raise CrashError
        for change in self._name_changes.pop(directory, []):
            _apply(self._safe_names, change)
        if last:
            raise CrashError

    def _opened(self, path: Path, descriptor: int, file: _File | None) -> int:
        file = file or _File()
        if self._names.get(path) is not file:
            self._names[path] = file
            self._change_names(path.parent, {path: file})
        self._open[descriptor] = file
        return descriptor

    def _change_names(self, directory: Path, change: "_Names") -> None:
        self._name_changes.setdefault(directory, []).append(change)


_Names = dict[Path, _File | None]
"""Names that change together: each one's file, or None where it goes."""


def _apply(names: dict[Path, _File], change: _Names) -> None:
    for path, file in change.items():
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


def _path_of(descriptor: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}"))


def _sectors(offset: int, size: int) -> range:
    """Return where the sectors begin that a write touches."""
    return range(offset // _SECTOR_BYTES * _SECTOR_BYTES, offset + size, _SECTOR_BYTES)


def _resize(data: bytearray, size: int) -> None:
    """Cut bytes to a size, or add zeros."""
    del data[size:]
    data.extend(bytes(size - len(data)))
