"""Compiling ahead: every compiled function that a process needs is ready before it serves.

The fork server does it before it makes processes, which share the machine code then: see
``engine.warm_apart``. The first time on a machine it is compiled, later loaded from numba's cache.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from engine.books.choice import make_book
from engine.books.contract import BookLimits, Counters
from engine.children import PROGRESS_VARIABLE
from engine.journal.batches import warm as warm_journal
from engine.shard.account_sequences import warm as warm_numbering
from engine.shard.report_shares import warm as warm_keeping
from engine.shard.summary import Summary
from ipc.memory.order_table import OrderTableWriter, create_table
from ipc.memory.order_table_reader import OrderTableReader
from ipc.native.compiled import HAVE_NUMBA
from ipc.records import COMMAND, REPORT, TRADE
from ipc.wire.frames import frame
from ipc.wire.matcher_codec import CommandDecoder, ReportEncoder
from ipc.wire.messages import MAX_BODY, NewOrder

CLIENTS = ("arrays of clients", "ipc.wire.client_codec:warm")
"""What programs that trade need: kept for them, so that they find it once a product is ready."""


class Step(NamedTuple):
    """What uses all that is to be compiled, and steps that go on from what that has left."""

    name: str
    use: Callable[[], object]
    then: tuple["Step", ...] = ()

    def all(self) -> Iterator["Step"]:
        """Give the step and all that follow it."""
        yield self
        for step in self.then:
            yield from step.all()


Others = Sequence[tuple[str, str]]
Tell = Callable[[str], object]


def warm(book: str, others: Others, tell: Tell = lambda text: None) -> None:
    """Compile or load everything in this process, telling ``tell`` about each step.

    ``others``: what the roles of a product have beside the shard, see ``RoleTable.warm``.
    """
    if HAVE_NUMBA:
        with steps_of(book, others) as steps:
            for number, step in enumerate(steps, 1):
                tell(f"{number} of {len(steps)}: {step.name}")
                for each in step.all():
                    each.use()


@contextmanager
def steps_of(book: str, others: Others) -> Iterator[list[Step]]:
    """Give the steps, the longest first; each can be taken alone, in a process of its own, and
    then what follows it, in processes forked from that one."""
    progress = os.environ.get(PROGRESS_VARIABLE)
    place = Path(progress).parent if progress else None  # TMPDIR may be closed to this user
    with TemporaryDirectory(prefix="shardbook-", dir=place) as directory:
        entries = [CLIENTS, *others]
        yield _steps(book, Path(directory)) + [Step(name, _other(entry)) for name, entry in entries]


def _steps(book: str, directory: Path) -> list[Step]:
    order = NewOrder(1, 1, 1, 1, 2, 1, 1, 1)
    commands = np.zeros(1, COMMAND)
    reports, trades = np.zeros(4, REPORT), np.zeros(2, TRADE)
    for name in order.__struct_fields__:
        if name in (COMMAND.names or ()):
            commands[name] = getattr(order, name)
    commands["command_type"] = commands["account"] = 1
    limits = ([BookLimits(1, 1, 100, 10)], 4, Counters(0, 0, 0))
    make_book("reference", 0, *limits).process(commands, reports, trades)

    def match() -> None:
        if book == "ladder":
            from engine.books.ladder import warm as warm_ladder

            warm_ladder(names=["process"])
        assert make_book(book, 0, *limits).process(commands, reports, trades).reports == 1

    def show() -> None:
        if book == "ladder":
            from engine.shard.compiled_pipeline import warm as warm_round

            with TemporaryDirectory(dir=directory) as place:
                warm_round(Path(place))

    def begin(*names: str) -> None:
        if book == "ladder":
            from engine.books.ladder import warm as warm_ladder

            warm_ladder(names=names)

    def decode() -> None:
        decoder = CommandDecoder(MAX_BODY)
        decoder.open_stream(1, 1)
        decoder.feed(frame(order, 1))
        count, _ = decoder.read(commands.copy(), 0, 1)
        assert count == 1

    def summarise() -> None:
        warm_numbering()
        Summary([1]).of(reports)

    def encode() -> None:
        encoder = ReportEncoder()
        encoder.open_stream(1, 1)
        assert encoder.encode(reports[:1])

    def table() -> None:
        with TemporaryDirectory(dir=directory) as place:
            path = Path(place) / "orders"
            create_table(path, 0, 4)
            OrderTableWriter(path).apply(reports[:1])
            assert OrderTableReader(path).get(int(reports["order_id"][0])) is not None

    def show_all() -> None:
        """Show, and what else is made of reports: one after another they have much in common."""
        for use in (show, table, summarise, encode, warm_keeping):
            use()

    return [
        Step(
            "matching",
            match,
            (
                Step("a book's begin", partial(begin, "rebuild", "restore")),
                Step("a book's depth", partial(begin, "depth", "resting")),
            ),
        ),
        Step("showing", show_all),
        Step("the journal", warm_journal),
        Step("reading commands", decode),
    ]


def _other(entry: str) -> Callable[[], object]:
    module, _, function = entry.partition(":")
    found: Callable[[], object] = getattr(importlib.import_module(module), function)
    return found
