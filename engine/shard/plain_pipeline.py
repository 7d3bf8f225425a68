"""A round in Python, for any book, one effect after the other; the compiled one is its equal."""

from collections.abc import Sequence

from engine.books.contract import Progress, Records
from engine.shard.effects import Made, carry_out
from engine.shard.pipeline import PipelineParts
from ipc.links.backend import Link


class PlainPipeline:
    """See ``engine.shard.pipeline.Pipeline``."""

    def __init__(self, parts: PipelineParts) -> None:
        self._parts = parts
        self._sinks = parts.sinks()
        self._completed = parts.book.counters().sequence

    def run(self, commands: Records, links: Sequence[Link], timestamp_ns: int) -> Progress:
        """Match a batch and show what came of it."""
        parts = self._parts
        trades = parts.trades[: min(parts.trade_ring.room(), len(parts.trades))]
        progress = parts.book.process(commands, parts.reports, trades)
        parts.table.note_texts(commands[: progress.commands])
        self._completed += progress.commands
        self._carry_out(trades[: progress.trades], progress.reports, links, timestamp_ns)
        return progress

    def show(self, reports: int, links: Sequence[Link], timestamp_ns: int) -> None:
        """Show reports, and the depth that they have left."""
        self._carry_out(self._parts.trades[:0], reports, links, timestamp_ns)

    def _carry_out(
        self, trades: Records, reports: int, links: Sequence[Link], timestamp_ns: int
    ) -> None:
        shown = self._parts.reports[:reports]
        carry_out(self._sinks, Made(trades, shown, self._completed, timestamp_ns, links))
