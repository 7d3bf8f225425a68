"""A round in Python, for any book, part after part; the compiled one is its equal."""

from collections.abc import Sequence

from engine.books.contract import Progress, Records
from engine.shard.pipeline import PipelineParts
from engine.shard.summary import Summary
from ipc.links.backend import Link
from ipc.vocabulary import Side


class PlainPipeline:
    """See ``engine.shard.pipeline.Pipeline``."""

    def __init__(self, parts: PipelineParts) -> None:
        self._parts = parts
        self._summary = Summary(parts.board.symbols)
        self._completed = parts.book.counters().sequence

    def run(self, commands: Records, links: Sequence[Link], timestamp_ns: int) -> Progress:
        """Match a batch and show what came of it."""
        parts = self._parts
        trades = parts.trades[: min(parts.trade_ring.room(), len(parts.trades))]
        progress = parts.book.process(commands, parts.reports, trades)
        parts.trade_ring.publish(trades[: progress.trades])
        parts.status.add("trades", progress.trades)
        self.show(progress.reports, links, timestamp_ns)
        self._completed += progress.commands
        parts.table.complete(self._completed)
        return progress

    def show(self, reports: int, links: Sequence[Link], timestamp_ns: int) -> None:
        """Show reports, and the depth that they have left."""
        parts = self._parts
        shown = parts.reports[:reports]
        first = parts.numbers.number(shown)
        parts.table.apply(shown)
        parts.report_ring.publish_new(shown, first)
        for link in links:
            link.send(link.encoder.encode(shown))
        symbols, rejects = self._summary.of(shown)
        sequence, order_sequence, trade_sequence = parts.book.counters()
        for symbol in symbols:
            show_depth(parts, symbol, sequence, timestamp_ns)
        status = parts.status
        status.set("commands", sequence)
        status.set("order_sequence", order_sequence)
        status.set("trade_sequence", trade_sequence)
        status.set("resting_orders", parts.table.live_orders)
        kept = parts.book.kept_ids()
        status.set("kept_ids", kept.kept)
        status.set("displaced_ids", kept.displaced)
        status.add("reports", reports)
        for reason, count in rejects.items():
            status.add_reject(reason, count)


def show_depth(parts: PipelineParts, symbol: int, sequence: int, timestamp_ns: int) -> None:
    """Show a symbol's best levels."""
    board = parts.board
    board.open(symbol)
    bids = parts.book.depth(symbol, Side.BUY, board.bids(symbol))
    asks = parts.book.depth(symbol, Side.SELL, board.asks(symbol))
    board.close(symbol, sequence, timestamp_ns, bids, asks)
