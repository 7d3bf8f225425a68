"""The compiled book: ``LadderBook``, the same rules as ``ReferenceBook`` at native speed.

From the bottom up: ``layout`` and ``memory`` (what the tables hold, and rows by number),
``order_index`` (orders by their ids), ``sparse_levels`` and ``prices`` (price levels), ``reports``
(and trades), ``holdings``, ``cursor``, ``extras`` (the side table), ``queues``, ``matching``,
``stops``, ``rare_orders``, ``mass_cancel`` and ``commands`` (what happens), ``kernel`` (the entry
points), ``tables``, ``check`` and ``book`` (Python's side), ``warm``.
"""

from engine.books.ladder.book import LadderBook
from engine.books.ladder.warm import warm

__all__ = ["LadderBook", "warm"]
