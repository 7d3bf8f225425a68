"""The compiled book: ``LadderBook``, the same rules as ``ReferenceBook`` at native speed.

From the bottom up: ``layout`` and ``memory`` (what the tables hold, and rows by number),
``identity`` (orders by their ids), ``far`` and ``prices`` (price levels), ``answers`` (reports and
trades), ``holdings``, ``cursor``, ``matching``, ``sweep`` and ``commands`` (what happens),
``kernel`` (the entry points), ``tables``, ``check`` and ``book`` (Python's side), ``warm``.
"""

from engine.ladder.book import LadderBook
from engine.ladder.warm import warm

__all__ = ["LadderBook", "warm"]
