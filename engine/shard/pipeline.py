"""A round of a matcher: one batch matched, and shown before anyone is answered.

What showing means ``engine.shard.effects`` lists. For the compiled book all of it is one compiled
call (``engine.shard.compiled_pipeline``); for one in Python it is done one effect after the other
(``engine.shard.plain_pipeline``).
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from engine.books.contract import Book, Progress, Records
from engine.shard.account_sequences import AccountSequences
from engine.shard.effects import Sinks
from engine.shard.report_shares import ReportShares
from engine.shard.summary import Summary
from ipc.links.backend import Link
from ipc.memory.depth_board import BoardWriter
from ipc.memory.order_table import OrderTableWriter
from ipc.memory.ring import RingWriter
from ipc.memory.status import StatusWriter


class PipelineParts(NamedTuple):
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
    shares: ReportShares | None = None

    def sinks(self) -> Sinks:
        """Return where effects go."""
        return Sinks(
            self.book,
            self.numbers,
            self.table,
            self.trade_ring,
            self.report_ring,
            self.shares,
            self.board,
            self.status,
            Summary(self.board.symbols),
        )


class Pipeline(Protocol):
    """What matches and shows."""

    def run(self, commands: Records, links: Sequence[Link], timestamp_ns: int) -> Progress:
        """Match a batch (COMMAND) as far as buffers and trade ring have room, show what came of it,
        and queue the answers on ``links``.

        Where not all commands were finished call again with the others. Nothing done at all: the
        trade ring is full. Raises ``TableFullError``; reports before the one in question are shown.
        """
        ...

    def show(self, reports: int, links: Sequence[Link], timestamp_ns: int) -> None:
        """Show the first so many of the parts' reports, as if matching had just given them."""
        ...
