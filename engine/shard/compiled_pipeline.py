"""A round in one compiled call: tells ``engine.shard.effects_kernel`` where everything is, and
lets grow
whatever holds it up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.books.contract import BookLimits, Progress, Records
from engine.books.ladder import LadderBook
from engine.books.ladder.kernel import process_address
from engine.roles import MATCHER
from engine.shard.account_sequences import AccountSequences
from engine.shard.effects import Made, Stage, effects_of
from engine.shard.effects_kernel import (
    CONTEXT,
    DONE,
    LINK,
    MORE_ACCOUNTS,
    MORE_ORDERS,
    MORE_OUTBOX,
    MORE_REPORT_ROWS,
    MORE_SLOTS,
    MORE_TEXTS,
    MORE_TRADE_ROWS,
    NO_PROCESS,
)
from engine.shard.pipeline import PipelineParts
from engine.shard.pipeline_kernel import SHOW, run_pipeline
from ipc.links.backend import Link
from ipc.memory.depth_board import BoardWriter, create_board, page_bytes
from ipc.memory.order_table import OrderTableWriter, create_table
from ipc.memory.ring import REPORTS, RingWriter, create_ring
from ipc.memory.status import ProcessSlot, StatusWriter, create_status
from ipc.native.views import address_of
from ipc.records import COMMAND, REPORT, TRADE
from ipc.wire.report_encoder import MAX_FRAME, REJECT_LENGTHS, REJECT_TEXTS

assert CONTEXT.names is not None
_STAGE, _FINISHED, _REPORT_COUNT, _TRADE_COUNT, _SHOWN, _NUMBERED, _SYMBOL_COUNT, _SMALL_OUTBOX = (
    CONTEXT.names.index(name)
    for name in (
        "stage", "finished", "report_count", "trade_count", "shown", "numbered", "symbol_count",
        "small_outbox",
    )
)  # fmt: skip


class CompiledPipeline:
    """See ``engine.shard.pipeline.Pipeline``; the book must be a ``LadderBook``."""

    def __init__(self, parts: PipelineParts) -> None:
        assert isinstance(parts.book, LadderBook)
        self._parts, self._book = parts, parts.book
        self._before, self._after = effects_of(Stage.BEFORE), effects_of(Stage.AFTER)
        self._sinks = parts.sinks()
        self._made = Made(parts.trades[:0], parts.reports[:0])
        assert self._sinks.summary is not None
        self._summary = self._sinks.summary
        self._context = np.zeros(1, CONTEXT)
        self._address = address_of(self._context)
        self._words = self._context.view(np.uint64).data
        self._links: list[Link] = []
        self._no_commands = np.zeros(0, COMMAND)
        self._context["book"] = parts.book.address
        self._context["numbering"] = parts.numbers.address
        self._note("reports", parts.reports, "report_capacity")
        self._note("trades", parts.trades, "trade_capacity")
        self._note("texts", REJECT_TEXTS, "text_bytes")
        self._note("lengths", REJECT_LENGTHS, "reasons")
        self._note("seen", self._summary.seen, "symbol_limit")
        self._note("symbols", self._summary.symbols, "symbol_capacity")
        self._note_shared()
        self._note_links([])

    def run(self, commands: Records, links: Sequence[Link], timestamp_ns: int) -> Progress:
        """Match a batch and show what came of it, in one call where nothing has to grow."""
        if links != self._links:
            self._note_links(links)
        for carry_out in self._before:
            carry_out(self._sinks, self._made)
        why = run_pipeline(self._address, commands, timestamp_ns)
        while why != DONE:
            self._make_room(why, commands)
            why = run_pipeline(self._address, commands, timestamp_ns)
        words = self._words
        self._made.reports = self._parts.reports[: words[_REPORT_COUNT]]
        for carry_out in self._after:
            carry_out(self._sinks, self._made)
        return Progress(words[_FINISHED], words[_REPORT_COUNT], words[_TRADE_COUNT])

    def show(self, reports: int, links: Sequence[Link], timestamp_ns: int) -> None:
        """Show reports, and the depth that they have left."""
        words = self._words
        words[_STAGE], words[_REPORT_COUNT] = SHOW, reports
        words[_TRADE_COUNT] = words[_SHOWN] = words[_NUMBERED] = words[_SYMBOL_COUNT] = 0
        self.run(self._no_commands, links, timestamp_ns)

    def _make_room(self, why: int, commands: Records) -> None:
        """Let grow what has stopped the compiled call. Raises ``TableFullError``, ``RingError``."""
        words, parts = self._words, self._parts
        if why == NO_PROCESS:
            self._context["process"] = process_address()
        elif why == MORE_ORDERS:
            self._book.make_room()
        elif why == MORE_ACCOUNTS:
            parts.numbers.grow()
        elif why == MORE_SLOTS:
            parts.table.make_room(parts.reports[: words[_REPORT_COUNT]], words[_SHOWN])
            self._context["reserved"] = parts.table.reserved
            self._context["cell_count"] = len(parts.table.cells)
        elif why == MORE_TEXTS:
            parts.table.note_texts(commands[: words[_FINISHED]])
            self._note("known", parts.table.known.words, "known_words")
        elif why == MORE_OUTBOX:
            self._links[words[_SMALL_OUTBOX]].outbox.reserve(words[_REPORT_COUNT] * MAX_FRAME)
        elif why == MORE_REPORT_ROWS:
            parts.report_ring.reserve(words[_REPORT_COUNT])
            self._context["ring_reserved"] = parts.report_ring.reserved
        elif why == MORE_TRADE_ROWS:
            parts.trade_ring.reserve(words[_TRADE_COUNT])
            self._context["trade_reserved"] = parts.trade_ring.reserved
        else:
            parts.trade_ring.publish(parts.trades[: words[_TRADE_COUNT]])  # says what is wrong
            raise AssertionError("trades that the ring takes were refused")

    def _note_shared(self) -> None:
        """Note where the shared memory is."""
        table, ring, trade_ring = self._parts.table, self._parts.report_ring, self._parts.trade_ring
        self._note("entries", table.entries, "entry_count")
        self._note("cells", table.cells, "cell_count")
        self._note("accounts", table.accounts)
        self._note("words", table.words, "word_count")
        self._note("names", table.texts, "name_words")
        self._note("known", table.known.words, "known_words")
        self._context["reserved"] = table.reserved
        self._note_words("ring_words", ring.words)
        self._note("ring_rows", ring.rows, "ring")
        self._note_words("trade_words", trade_ring.words)
        self._note("trade_rows", trade_ring.rows, "trade_ring")
        self._context["trade_readers"] = trade_ring.gating_readers
        self._context["trade_base"] = trade_ring.id_base
        self._context["trade_reserved"] = trade_ring.reserved
        self._context["ring_reserved"] = ring.reserved
        self._note_words("status", self._parts.status.words)
        board = self._parts.board
        self._context["levels"], self._context["page_bytes"] = (
            board.levels,
            page_bytes(board.levels),
        )
        self._slots = np.zeros(len(self._summary.seen), np.uint64)
        for symbol in board.symbols:
            self._slots[symbol] = address_of(np.frombuffer(board.version_word(symbol), np.uint64))
        self._note("slots", self._slots)

    def _note_links(self, links: Sequence[Link]) -> None:
        self._links = list(links)
        records = [(link.encoder.address, link.outbox.address) for link in links]
        self._link_records = np.array(records, LINK)
        self._note("links", self._link_records, "link_count")

    def _note(self, name: str, array: npt.NDArray[Any], count: str = "") -> None:
        """Note where an array is that its owner keeps, and how long it is."""
        self._context[name] = address_of(array)
        if count:
            self._context[count] = len(array)

    def _note_words(self, name: str, words: memoryview) -> None:
        self._note(name, np.frombuffer(words, np.uint64))


def warm(directory: Path) -> None:
    """Compile or load the round; it leaves files in ``directory``."""
    paths = [directory / name for name in ("trades", "reports", "table", "board", "status")]
    create_ring(paths[0], 0, 4, 0)
    create_ring(paths[1], 0, 4, 0, 0, REPORTS)
    create_table(paths[2], 0, 4)
    create_board(paths[3], 0, [1], 1)
    create_status(paths[4], [ProcessSlot(MATCHER, 0, None)])
    CompiledPipeline(
        PipelineParts(
            LadderBook(0, [BookLimits(1, 1, 100, 2)], 4),
            np.zeros(2, REPORT),
            np.zeros(0, TRADE),
            RingWriter(paths[0]),
            RingWriter(paths[1], REPORTS),
            OrderTableWriter(paths[2]),
            AccountSequences(0),
            BoardWriter(paths[3]),
            StatusWriter(paths[4], "matcher", 0),
        )
    ).show(0, [], 0)
