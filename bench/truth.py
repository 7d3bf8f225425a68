"""What a simulated product is held against: what clients were told, and a book that never died."""

from dataclasses import dataclass, field

import numpy as np

from bench.drive import Room, run
from bench.flows import Flow
from engine.books.contract import Book, Records
from engine.shard.account_sequences import AccountSequences
from ipc.links.backend import Link
from ipc.memory.order_table import OrderTableWriter
from ipc.records import COMMAND
from ipc.wire.client_codec import report_records
from ipc.wire.frames import FrameSplitter
from ipc.wire.matcher_codec import MAX_STREAM
from ipc.wire.messages import MAX_BODY, encoder, server_decoder

Frame = tuple[int, bytes]
_NO_COMMANDS = np.zeros(0, COMMAND)
_ROOM = [Room(4_096, 4_096)]


class Told(Link):
    """A frontend's link without a socket: keeps the frames that left a matcher."""

    def __init__(self, commands: Records = _NO_COMMANDS) -> None:
        """Open the accounts of some commands."""
        super().__init__(None)  # type: ignore[arg-type]
        self._known: list[int] = []
        self._frames: list[Frame] = []
        self.open(commands)

    def open(self, commands: Records) -> None:
        """Open the accounts of further commands."""
        for account in np.unique(commands["account"]).tolist():
            if account not in self.accounts:
                self._known.append(account)
                self.open_stream(len(self._known), account)

    @property
    def frames(self) -> list[Frame]:
        """Every frame so far: its stream, and its body, with integers as short as they can be."""
        unsent = self.outbox.unsent()
        if unsent:
            frames = FrameSplitter(MAX_BODY).feed(bytes(unsent))
            self._frames += [(stream, _plain(body)) for stream, body in frames]
            self.outbox.sent(len(unsent))
        return self._frames

    def reports(self, first: int = 0) -> Records:
        """Return what the frames from ``first`` on say (REPORT), as a list's slice begins."""
        frames = self.frames[first:]
        reports = report_records([server_decoder.decode(body) for _, body in frames])  # type: ignore[misc]
        reports["account"] = [self._known[(stream & MAX_STREAM) - 1] for stream, _ in frames]
        return reports


def _plain(body: bytes) -> bytes:
    """Return a message as msgspec writes it: what writes texts is not always the same."""
    return encoder.encode(server_decoder.decode(body))


@dataclass
class Truth:
    """What must be of one shard: every command it was given, and a book that never died."""

    book: Book
    table: OrderTableWriter
    numbers: AccountSequences
    flow: Flow
    given: Records
    told: Told = field(default_factory=Told)
    expected: Told = field(default_factory=Told)
    """As ``told``, of all that there was to tell."""
    checked: int = 0
    """How many of the told reports were compared."""
    report_places: dict[bytes, int] = field(default_factory=dict)
    frame_places: dict[Frame, int] = field(default_factory=dict)
    trades: list[bytes] = field(default_factory=list)
    last_place: int = -1
    shown_trade: int = 0
    """The last trade that was in the ring for anyone to read."""

    def advance(self, sequence: int) -> None:
        """Carry out the commands up to one."""
        done = self.book.counters().sequence
        output = run(self.book, self.given[done:sequence], _ROOM)
        reports = output.reports.copy()
        self.numbers.number(reports)
        self.table.note_texts(self.given[done:sequence])
        for place in range(len(reports)):  # a later one may take an order, and its text, away
            report = reports[place : place + 1]
            self.table.apply(report)
            self.expected.send(self.expected.encoder.encode(report, self.table.text_of))
        first = len(self.report_places)
        for place, row in enumerate(reports, first):
            self.report_places[row.tobytes()] = place
        for place, told in enumerate(self.expected.frames[first:], first):
            self.frame_places[told] = place
        assert len(self.report_places) == len(self.frame_places) == first + len(reports)
        self.trades += [row.tobytes() for row in output.trades]
