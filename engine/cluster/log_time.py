"""The time of entries, and how it leads back to their place in the log.

An entry's time is when its broker appended it, in nanoseconds, and at least two more than that of
the entry before it. So no two entries have the same time, on any node, whatever clocks do, and the
time of a shard's last command says which entry it came from: the journal need keep no offset. What
ends of itself before an entry has the time of one nanosecond before it.

To find the place of a time one entry's offset and time must be known: a file beside the journal
keeps some, and whose entries count from there on (``engine.cluster.lives``). They are facts of the
log, so they need not be written along with anything.
"""

import os
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from engine.cluster.lives import Lives

STEP_NS = 2
MOST_LINES = 4_096


class Place(NamedTuple):
    """An entry's offset, and its time; that of the one before the first is ``BEGINNING``."""

    offset: int
    time_ns: int

    def next(self, offset: int, appended_ms: int) -> "Place":
        """Return the place of the next entry, as the broker has it."""
        return Place(offset, max(appended_ms * 1_000_000, self.time_ns + STEP_NS))


class Known(NamedTuple):
    """A place, and which lives there were behind it."""

    place: Place
    lives: Lives


BEGINNING = Place(-1, 0)


class Places:
    """The file of places."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = self._read()

    def before(self, time_ns: int) -> Known:
        """Return the last known place of an entry that is not after a time."""
        found = max((line for line in self._lines if line[0].time_ns <= time_ns), default=None)
        return (
            Known(BEGINNING, Lives()) if found is None else Known(found[0], Lives.of_text(found[1]))
        )

    def keep(self, place: Place, lives: Lives) -> None:
        """Write a place down. Raises ``OSError``."""
        line = (place, lives.text())
        if place.offset < 0 or (self._lines and self._lines[-1] == line):
            return
        self._lines.append(line)
        if len(self._lines) > 2 * MOST_LINES:
            self._lines = self._lines[-MOST_LINES:]
            aside = self._path.with_suffix(".tmp")
            aside.write_text("".join(map(_line, self._lines)))
            aside.rename(self._path)
            return
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, _line(line).encode())
        finally:
            os.close(file)

    def _read(self) -> list[tuple[Place, str]]:
        """Return what the file has; a line that was torn, and what is none, is left out."""
        try:
            lines = self._path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            text, _, checksum = line.rpartition(b" ")
            if checksum.decode("ascii", "replace") == f"{crc32(text):08x}":
                words = text.decode().split()
                if len(words) == 3:  # those of a former version know of no lives
                    found.append((Place(int(words[0]), int(words[1])), words[2]))
        return found


def _line(known: tuple[Place, str]) -> str:
    (offset, time_ns), lives = known
    text = f"{offset} {time_ns} {lives}"
    return f"{text} {crc32(text.encode()):08x}\n"
