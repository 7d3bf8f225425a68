"""What a shard's trades and reports do: the one list of it, in order.

Three ways go through the list. The plain pipeline and recovery carry each effect out for all
reports of a round, one effect after the other. The compiled pipeline has a compiled twin of each
(``engine.shard.effects_kernel``, which refuses an effect without one), and goes through the list
for one report after the other.

What is not there has no effect on it: a replay that shows nobody has account numbers and an order
table, and no rings, links, board or counters.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.books.contract import Book, Records
from engine.shard.account_sequences import AccountSequences
from engine.shard.report_shares import ReportShares
from engine.shard.summary import Summary
from ipc.links.backend import Link
from ipc.memory.depth_board import BoardWriter
from ipc.memory.order_table import OrderTableWriter
from ipc.memory.ring import RingWriter
from ipc.memory.status import StatusWriter
from ipc.vocabulary import Side


class Sinks(NamedTuple):
    """Where effects go; None: not there."""

    book: Book
    numbers: AccountSequences
    table: OrderTableWriter
    trade_ring: RingWriter | None = None
    report_ring: RingWriter | None = None
    shares: ReportShares | None = None
    board: BoardWriter | None = None
    status: StatusWriter | None = None
    summary: Summary | None = None
    wait_for_room: Callable[[], None] = lambda: None
    """Called while the trade ring is full, which it never is for a pipeline's trades."""


@dataclass(slots=True)
class Made:
    """What some commands came to, and how far its effects are known."""

    trades: Records
    reports: Records
    completed: int = 0
    """The last command of the shard that is through, once all has had its effects."""
    timestamp_ns: int = 0
    links: Sequence[Link] = ()
    first_report: int = 0
    """The number of the first report among all of the shard, once they have theirs."""
    symbols: Sequence[int] = ()
    """Those whose depth may have changed."""
    rejects: dict[int, int] | None = None
    """How many, by reason."""


class Stage(enum.Enum):
    """When an effect has its turn in the compiled pipeline."""

    BEFORE = "before the compiled call, in Python"
    TRADES = "for all trades, if there are any"
    REPORT = "for each report"
    ROUND = "once all reports are through"
    AFTER = "after the compiled call, in Python"


class Effect(NamedTuple):
    """One effect: the function that carries it out for all that was made."""

    stage: Stage
    carry_out: Callable[[Sinks, Made], None]


def make_way(sinks: Sinks, made: Made) -> None:
    """Carry over the reports of quiet accounts that the next ones overwrite in their ring."""
    if sinks.shares is not None:
        sinks.shares.make_way()


def publish_trades(sinks: Sinks, made: Made) -> None:
    """Put the trades into their ring, waiting for room. Raises ``RingError``."""
    ring, trades = sinks.trade_ring, made.trades
    if ring is None or not len(trades):
        return
    if sinks.status is not None:
        sinks.status.add("trades", len(trades))
    while len(trades):
        room = ring.room()
        ring.publish(trades[:room])
        trades = trades[room:]
        if len(trades):
            sinks.wait_for_room()


def number(sinks: Sinks, made: Made) -> None:
    """Number the reports."""
    made.first_report = sinks.numbers.number(made.reports)


def enter_orders(sinks: Sinks, made: Made) -> None:
    """Carry the reports out on the order table. Raises ``TableFullError``."""
    sinks.table.apply(made.reports)


def publish_reports(sinks: Sinks, made: Made) -> None:
    """Put the reports into their ring that it has not had yet."""
    if sinks.report_ring is not None:
        sinks.report_ring.publish_new(made.reports, made.first_report)


def summarise(sinks: Sinks, made: Made) -> None:
    """Note which symbols were touched, and count the rejects."""
    if sinks.summary is not None:
        made.symbols, made.rejects = sinks.summary.of(made.reports)


def send(sinks: Sinks, made: Made) -> None:
    """Queue each report for the links that have opened its account."""
    for link in made.links:
        link.send(link.encoder.encode(made.reports, sinks.table.text_of))


def show_depth(sinks: Sinks, made: Made) -> None:
    """Show the best levels of the symbols that were touched."""
    book, board = sinks.book, sinks.board
    if board is None:
        return
    sequence = book.counters().sequence
    for symbol in made.symbols:
        board.open(symbol)
        bids = book.depth(symbol, Side.BUY, board.bids(symbol))
        asks = book.depth(symbol, Side.SELL, board.asks(symbol))
        board.close(symbol, sequence, made.timestamp_ns, bids, asks)


def count(sinks: Sinks, made: Made) -> None:
    """Count, and say up to which command everything is shown."""
    status, book = sinks.status, sinks.book
    if status is None:
        return
    sequence, order_sequence, trade_sequence = book.counters()
    status.set("commands", sequence)
    status.set("order_sequence", order_sequence)
    status.set("trade_sequence", trade_sequence)
    status.set("resting_orders", sinks.table.live_orders)
    kept = book.kept_ids()
    status.set("kept_ids", kept.kept)
    status.set("displaced_ids", kept.displaced)
    status.add("reports", len(made.reports))
    for reason, rejects in (made.rejects or {}).items():
        status.add_reject(reason, rejects)
    sinks.table.complete(made.completed)


def take_early(sinks: Sinks, made: Made) -> None:
    """Carry over those of the reports just shown that a small ring has not kept."""
    if sinks.shares is not None:
        sinks.shares.take(made.reports)


EFFECTS = (
    Effect(Stage.BEFORE, make_way),
    Effect(Stage.TRADES, publish_trades),
    Effect(Stage.REPORT, number),
    Effect(Stage.REPORT, enter_orders),
    Effect(Stage.REPORT, publish_reports),
    Effect(Stage.REPORT, summarise),
    Effect(Stage.REPORT, send),
    Effect(Stage.ROUND, show_depth),
    Effect(Stage.ROUND, count),
    Effect(Stage.AFTER, take_early),
)
"""All of them. Trades are in their ring before anything says so; a report has its number before
anything is made of it, and the order table shows it before its frame can leave."""

TWINS: dict[Callable[[Sinks, Made], None], Any] = {}
"""The compiled twin of each effect between BEFORE and AFTER; ``effects_kernel`` fills it."""


def carry_out(sinks: Sinks, made: Made) -> None:
    """Give what was made all its effects. Raises ``TableFullError`` and ``RingError``."""
    for effect in EFFECTS:
        effect.carry_out(sinks, made)


def effects_of(stage: Stage) -> list[Callable[[Sinks, Made], None]]:
    """Return the effects of a stage, in order."""
    return [effect.carry_out for effect in EFFECTS if effect.stage is stage]
