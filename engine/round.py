"""A round of a matcher: one batch matched, and shown before anyone is answered.

Every report gets its numbers, is carried out on the order table, goes into the report ring, is
counted, and becomes a frame in the outbox of each connection that has opened its account; trades go
into their ring, and the depth of each symbol touched onto the board. For the compiled book all of
that is one compiled call (``engine.compiled_round``); for one in Python the same parts do it one
after the other (``engine.plain_round``).
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from engine.account_sequences import AccountSequences
from engine.book import Book, Progress, Records
from ipc.backend import Link
from ipc.board import BoardWriter
from ipc.ring import RingWriter
from ipc.status import StatusWriter
from ipc.table import OrderTableWriter


class Parts(NamedTuple):
    """What a round reads and writes; it is the one writer of all of it."""

    book: Book
    reports: Records
    """REPORT: where those of each round lie; room for at least two."""
    trades: Records
    """TRADE."""
    trade_ring: RingWriter
    report_ring: RingWriter
    table: OrderTableWriter
    numbers: AccountSequences
    board: BoardWriter
    status: StatusWriter


class Round(Protocol):
    """What matches and shows."""

    def run(self, commands: Records, links: Sequence[Link], timestamp_ns: int) -> Progress:
        """Match a batch (COMMAND) as far as buffers and trade ring have room, show what came of it,
        and queue the answers on ``links``.

        Where not all commands were finished call again with the others. Nothing done at all: the
        trade ring is full. Raises ``TableFullError``; reports before the one in question are shown.
        """
        ...

    def show(self, reports: int, links: Sequence[Link], timestamp_ns: int) -> None:
        """Show the first so many of ``Parts.reports``, as if matching had just given them."""
        ...


def make_round(parts: Parts) -> Round:
    """Return the round for a book: compiled where the book is."""
    from engine.plain_round import PlainRound

    if not hasattr(parts.book, "address"):
        return PlainRound(parts)
    from engine.compiled_round import CompiledRound

    return CompiledRound(parts)
