"""What followers still need of a shard's journal and snapshots.

One small file a follower, ``NAME.follower`` in the journal's directory, says up to which command it
is done. It is a hint to whoever prunes, and never the position itself: that lies with what was made
of the commands. A hold that cannot be read holds everything.
"""

from pathlib import Path

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
