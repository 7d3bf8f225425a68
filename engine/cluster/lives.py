"""Whose entries count: each node has one life at a time, and the log alone says which.

A matcher begins with an entry that names its node's number, itself, and the data directory that it
has. From there on entries of a former life of that node are void, wherever they come from: what a
process that was killed had on its way, and no broker had shown yet when its successor looked. So
what a client was told not to have been carried out never will be.

A number belongs to the data directory that has come with it first; another one is refused, until an
operator says that the first is gone for good (``engine.cluster.forget``). All have the same
configuration: one that would begin with another is refused, unless every other node has stopped in
order.
"""

import os
import secrets
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

from engine.cluster.entries import Entry, Kind


class Life(NamedTuple):
    """What the log knows of a node."""

    life: int
    """0: it has stopped in order."""
    directory: int
    """The identity of its data directory."""


class Ruling(Enum):
    """What an entry is."""

    COUNTS = auto()
    VOID = auto()
    OTHER_DIRECTORY = auto()
    """It would begin, with the number of another data directory."""
    OTHER_TERMS = auto()
    """It would begin, with another configuration than those who are there."""


class Lives:
    """The life of each node, and what all are configured as, up to some place of the log."""

    def __init__(self, terms: int = 0, nodes: dict[int, Life] | None = None) -> None:
        self.terms = terms
        self.nodes = dict(nodes or {})
        self._current: set[int] = set()
        self._note()

    def of(self, node: int) -> int:
        """Return the life that a node has; 0: none."""
        found = self.nodes.get(node)
        return 0 if found is None else found.life

    def judge(self, entry: Entry) -> Ruling:
        """Take the next entry of the log; return what it is."""
        kind = entry.kind
        if kind == Kind.FORGET:
            for node, _ in entry.streams:
                self.nodes.pop(node, None)
            self._note()
        elif kind == Kind.BEGIN:
            return self._begin(entry)
        elif entry.life not in self._current:
            return Ruling.VOID
        elif kind == Kind.END:
            for node, found in self.nodes.items():
                if found.life == entry.life:
                    self.nodes[node] = found._replace(life=0)
            self._note()
        return Ruling.COUNTS

    def _begin(self, entry: Entry) -> Ruling:
        [(node, directory)] = entry.streams
        known = self.nodes.get(node)
        if known is not None and known.directory != directory:
            return Ruling.OTHER_DIRECTORY
        others = any(found.life for number, found in self.nodes.items() if number != node)
        if others and entry.terms != self.terms:
            return Ruling.OTHER_TERMS
        self.terms = entry.terms
        self.nodes[node] = Life(entry.life, directory)
        self._note()
        return Ruling.COUNTS

    def _note(self) -> None:
        self._current = {found.life for found in self.nodes.values() if found.life}

    def text(self) -> str:
        """Return it as one word, for ``of_text``."""
        nodes = (f"{node}:{at.life:x}:{at.directory:x}" for node, at in self.nodes.items())
        return ",".join((f"{self.terms:x}", *nodes))

    @classmethod
    def of_text(cls, text: str) -> "Lives":
        """Return what ``text`` has returned. Raises ``ValueError``."""
        terms, *nodes = text.split(",")
        found = {}
        for word in nodes:
            node, life, directory = word.split(":")
            found[int(node)] = Life(int(life, 16), int(directory, 16))
        return cls(int(terms, 16), found)


def directory_identity(path: Path) -> int:
    """Return the number of a shard's directory, which is drawn where the file ``path`` is not yet
    there. Raises ``OSError``."""
    if not path.exists():
        aside = path.with_suffix(".tmp")
        aside.write_text(f"{secrets.randbits(64):016x}\n")
        os.replace(aside, path)
    return int(path.read_text(), 16)
