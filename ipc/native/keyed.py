"""Where the search for a number begins in a table of numbers that strangers choose, or keep.

Multiplied by a secret odd number, the upper bits of the product say where: whatever numbers are
chosen without knowing it, two of them share one of ``n`` places with a probability of at most
``2 / n`` (Dietzfelbinger, Hagerup, Katajainen, Penttonen, J. Algorithms 25, 1997).
"""

_WORD_MASK = (1 << 64) - 1


def place_of(number: int, factor: int, slots: int) -> int:
    """Return the place, below ``slots``."""
    return ((number * factor & _WORD_MASK) >> 32) * slots >> 32


def cell_at(order_id: int, factor: int, cell_bits: int) -> int:
    """Return the cell of an order in a table of ``1 << cell_bits`` of them.

    Orders that follow each other have neighbouring cells, as caches like it. Each lap of as many
    orders as there are cells begins at a cell of its own, a secret one: who keeps orders alive that
    are so far apart would else have all of them in one cell.
    """
    start = ((order_id >> cell_bits) * factor & _WORD_MASK) >> 32
    return (order_id + start) & ((1 << cell_bits) - 1)
