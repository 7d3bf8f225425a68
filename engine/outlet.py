"""Standard streams of a process that must go on: no line is waited for, none is the end of it.

Whoever reads the product's words may be gone, or stand still, and the disk that holds them may be
full. What finds no room then is lost, and counted.
"""

import io
import os
import select
import stat
import sys
from collections.abc import Callable

PIECE_BYTES = select.PIPE_BUF
"""A pipe that has room at all takes so much without waiting."""
STANDARD = (0, 1, 2)


class Outlet(io.TextIOBase):
    """A text stream that never raises and never waits: a line that cannot be written is lost."""

    def __init__(self, descriptor: int) -> None:
        self.lost_lines = 0
        self.on_loss: Callable[[], None] | None = None
        self._descriptor = descriptor
        self._written_to = _opened_anew(descriptor)
        self._ready = select.poll()
        self._ready.register(self._written_to, select.POLLOUT)
        self._pending = ""

    def fileno(self) -> int:
        """Return the descriptor that the stream is named by."""
        return self._descriptor

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, text: str) -> int:
        """Write what makes up whole lines, or a piece; keep the rest for the next call."""
        self._pending += text
        if "\n" in text or len(self._pending) > PIECE_BYTES:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Write what is there, or lose it."""
        data, self._pending = self._pending.encode("utf-8", "backslashreplace"), ""
        for start in range(0, len(data), PIECE_BYTES):
            if not self._put(data[start : start + PIECE_BYTES]):
                self.lost_lines += 1
                if self.on_loss is not None:
                    self.on_loss()
                return

    def _put(self, piece: bytes) -> bool:
        try:
            return bool(self._ready.poll(0)) and os.write(self._written_to, piece) == len(piece)
        except OSError:
            return False


def open_outlets() -> None:
    """Make this process's standard streams outlets."""
    fill_standard_descriptors()
    sys.stdout, sys.stderr = Outlet(1), Outlet(2)


def count_lost_lines(count: Callable[[], None]) -> None:
    """Have ``count`` called for every line that an outlet of this process loses, or has lost."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Outlet):
            stream.on_loss = count
            for _ in range(stream.lost_lines):
                count()


def fill_standard_descriptors() -> None:
    """Open what is closed of the standard descriptors: a file of the product would get its place.

    Then what is written to a closed stream goes nowhere.
    """
    for descriptor in STANDARD:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
            os.set_inheritable(descriptor, True)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w", closefd=False))  # noqa: SIM115


def _opened_anew(descriptor: int) -> int:
    """Return a descriptor of the same pipe that does not wait; others share the flags of the old.

    What is no pipe, or another user's, is written to when it says that it has room.
    """
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        pass
    return descriptor
