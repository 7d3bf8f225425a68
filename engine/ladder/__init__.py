"""The compiled book: ``LadderBook``, the same rules as ``ReferenceBook`` at native speed."""

from engine.ladder.book import LadderBook

__all__ = ["LadderBook"]
