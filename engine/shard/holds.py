"""What followers still need of a shard's journal and snapshots.

One small file a follower, ``NAME.follower`` in the journal's directory, says up to which command it
is done. It is a hint to whoever prunes, and never the position itself: that lies with what was made
of the commands. A hold that cannot be read holds everything.
"""

import contextlib
from itertools import pairwise
from pathlib import Path

from engine.journal.reader import segments_of
from engine.storage import Storage

SUFFIX = ".follower"


def hold(directory: Path, name: str, position: int) -> None:
    """Keep what a follower needs who is done with the commands up to ``position``.

    Raises ``OSError``.
    """
    aside = directory / f"{name}{SUFFIX}.tmp"
    aside.write_text(f"{position}\n")
    aside.rename(directory / f"{name}{SUFFIX}")


def release(directory: Path, name: str, storage: Storage | None = None) -> None:
    """Keep nothing for a follower any more. Raises ``OSError``."""
    (storage or Storage()).unlink(directory / f"{name}{SUFFIX}")


def held_positions(directory: Path) -> dict[str, int]:
    """Return up to which command each follower is done, by its name; 0 where that is not known."""
    found = {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            text = path.read_text().strip()
        except OSError:
            text = ""
        known = text.isascii() and text.isdecimal() and len(text) <= 20
        found[path.name.removesuffix(SUFFIX)] = int(text) if known else 0
    return found


def bytes_behind(directory: Path, position: int) -> int:
    """Return the size of the finished segments that have commands behind a position."""
    total = 0
    for segment, following in pairwise(segments_of(directory)):
        if following.first_sequence > position + 1:
            with contextlib.suppress(FileNotFoundError):
                total += segment.path.stat().st_size
    return total


def let_go(directory: Path, most_bytes: int, storage: Storage) -> list[str]:
    """Keep nothing more for followers who have more finished segments than so many bytes before
    them; return their names. 0: none have too many. Raises ``OSError``."""
    behind = [
        name
        for name, position in held_positions(directory).items()
        if most_bytes and bytes_behind(directory, position) > most_bytes
    ]
    for name in behind:
        release(directory, name, storage)
    return behind
