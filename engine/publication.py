"""What a matcher shows of a batch's reports before anyone is answered, and the answers.

Every report gets its numbers, is carried out on the order table, goes into the report ring, is
counted, and becomes a frame in the outbox of each connection that has opened its account. Compiled
code does that in one pass over the reports (``engine.publication_kernel``), while each is near;
without numba the same parts do it one after the other.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.account_sequences import AccountSequences
from engine.book import Records
from engine.publication_kernel import (
    CONTEXT,
    DONE,
    LINK,
    MORE_ACCOUNTS,
    publish_reports,
)
from engine.summary import Summary
from ipc.backend import Link
from ipc.compiled import HAVE_NUMBA
from ipc.records import REPORT
from ipc.report_encoder import MAX_FRAME, REJECT_LENGTHS, REJECT_TEXTS
from ipc.ring import REPORTS, RingWriter, create_ring
from ipc.table import OrderTableWriter, create_table
from ipc.views import address_of

Touched = tuple[list[int], dict[int, int]]
"""The symbols that reports changed, and how many rejects there were of each reason."""


def _place(name: str) -> int:
    assert CONTEXT.names is not None
    return CONTEXT.names.index(name)


_RESERVED, _ROOM, _NUMBERED = map(_place, ("reserved", "room", "numbered"))
_SYMBOL_COUNT = _place("symbol_count")
_LINK_WORDS = LINK.itemsize // 8


class Publication:
    """The one writer of a shard's order table, report ring and report numbers."""

    def __init__(
        self,
        reports: Records,
        table: OrderTableWriter,
        ring: RingWriter,
        numbers: AccountSequences,
        symbols: list[int],
    ) -> None:
        """``reports`` (REPORT) is the buffer in which the reports of every batch will lie."""
        self._reports = reports
        self._table, self._ring, self._numbers = table, ring, numbers
        self._summary = Summary(symbols)
        self._context = np.zeros(1, CONTEXT)
        self._words = self._context.view(np.uint64).data
        self._make_links(1)
        self._note("reports", reports)
        self._note("entries", table.entries, "entry_count")
        self._note("cells", table.cells, "cell_count")
        self._note("accounts", table.accounts)
        self._note("words", table.words, "word_count")
        self._note("ring", ring.rows)
        self._context["ring_mask"] = ring.capacity - 1
        self._context["numbers_base"] = numbers.base
        self._note("seen", self._summary.seen, "seen_count")
        self._note("symbols", self._summary.symbols, "symbol_capacity")
        self._note("rejects", self._summary.rejects, "reject_count")
        self._note("texts", REJECT_TEXTS, "text_bytes")
        self._note("lengths", REJECT_LENGTHS, "reasons")
        self._note_numbers()

    def publish(self, count: int, links: Sequence[Link]) -> Touched:
        """Show the first ``count`` reports of the buffer, and answer on ``links``.

        Raises ``TableFullError``; the reports before the one in question are shown.
        """
        if not HAVE_NUMBA:
            return self._publish_plain(self._reports[:count], links)
        self._begin(count, links)
        for start in range(0, count, self._ring.capacity):
            stop = min(count, start + self._ring.capacity)
            row = self._ring.claim(stop - start)
            self._pass_over(start, stop, row)
            self._ring.show(stop - start)
        for place, link in enumerate(links):
            link.outbox.added(self._link_words[place * _LINK_WORDS + 4])
        self._numbers.reports += count
        return self._summary.take(self._words[_SYMBOL_COUNT])

    def _publish_plain(self, reports: Records, links: Sequence[Link]) -> Touched:
        first = self._numbers.number(reports)
        self._table.apply(reports)
        self._ring.publish_new(reports, first)
        for link in links:
            link.send(link.encoder.encode(reports))
        return self._summary.of(reports)

    def _begin(self, count: int, links: Sequence[Link]) -> None:
        """Tell the compiled pass what may have changed since the last one."""
        words = self._words
        words[_RESERVED], words[_ROOM] = self._table.reserved, self._numbers.room
        words[_NUMBERED] = words[_SYMBOL_COUNT] = 0
        if len(links) != len(self._links):
            self._make_links(len(links))
        place = 0
        for link in links:
            outbox, encoder = link.outbox, link.encoder
            outbox.reserve(count * MAX_FRAME)
            target = (*encoder.place, outbox.address, outbox.end)
            for value in target:
                self._link_words[place] = value
                place += 1

    def _pass_over(self, start: int, stop: int, row: int) -> None:
        """Run the compiled pass, and let grow whatever holds it up."""
        while True:
            status, done = publish_reports(self._context, start, stop, row)
            self._numbers.known = len(self._numbers.accounts) // 2 - self._words[_ROOM]
            if status == DONE:
                return
            if status == MORE_ACCOUNTS:
                self._numbers.grow()
                self._note_numbers()
            else:
                self._table.make_room(self._reports[:stop], done)
                self._words[_RESERVED] = self._table.reserved
            row += done - start
            start = done

    def _make_links(self, count: int) -> None:
        self._links = np.zeros(count, LINK)
        self._link_words = self._links.view(np.uint64).data
        self._note("links", self._links, "link_count")

    def _note_numbers(self) -> None:
        self._note("numbered_accounts", self._numbers.accounts, "number_slots")
        self._note("sequences", self._numbers.sequences)
        self._words[_ROOM] = self._numbers.room

    def _note(self, name: str, array: npt.NDArray[Any], count: str = "") -> None:
        """Note where an array is that the owner keeps, and how long it is."""
        self._context[name] = address_of(array)
        if count:
            self._context[count] = len(array)


def warm(directory: Path) -> None:
    """Compile or load the pass; it leaves files in ``directory``."""
    table, ring = directory / "published", directory / "reports"
    create_table(table, 0, 4)
    create_ring(ring, 0, 4, 0, 0, REPORTS)
    writers = OrderTableWriter(table), RingWriter(ring, REPORTS)
    Publication(np.zeros(2, REPORT), *writers, AccountSequences(0), [1]).publish(1, [])
