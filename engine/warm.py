"""Compiling ahead: every compiled function that a process needs is ready before it serves.

The fork server imports ``engine.preload``, which calls ``warm`` once; processes made from it share
the machine code. The first time on a machine this compiles, later it loads from numba's cache.
"""

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engine.books.choice import make_book
from engine.books.contract import BookLimits, Counters
from engine.children import PROGRESS_VARIABLE
from engine.journal.batches import warm as warm_journal
from engine.shard.account_sequences import warm as warm_numbering
from engine.shard.report_shares import warm as warm_keeping
from engine.shard.summary import Summary
from ipc.memory.order_table import OrderTableReader, OrderTableWriter, create_table
from ipc.native.compiled import HAVE_NUMBA
from ipc.records import COMMAND, REPORT, TRADE
from ipc.wire.frames import frame
from ipc.wire.matcher_codec import CommandDecoder, ReportEncoder
from ipc.wire.messages import MAX_BODY, NewOrder

CLIENTS = ("arrays of clients", "ipc.wire.client_codec:warm")
"""What only programs that trade need."""

Step = tuple[str, Callable[[], object]]


def warm(
    book: str,
    others: Sequence[tuple[str, str]],
    clients: bool = False,
    tell: Callable[[str], object] | None = None,
) -> None:
    """Compile or load everything, telling ``tell``, or the progress file, about each step.

    ``others``: what the roles of a product have beside the shard, see ``RoleTable.warm``;
    ``clients``: also what no process of a product needs.
    """
    if not HAVE_NUMBA:
        return
    progress = os.environ.get(PROGRESS_VARIABLE)
    place = Path(progress).parent if progress else None  # TMPDIR may be closed to this user
    with TemporaryDirectory(prefix="shardbook-", dir=place) as directory:
        steps = _steps(book, Path(directory))
        steps += [(name, _other(entry)) for name, entry in others]
        if clients:
            steps.append((CLIENTS[0], _other(CLIENTS[1])))
        for number, (name, step) in enumerate(steps, 1):
            (tell or _tell)(f"{number} of {len(steps)}: {name}")
            step()


def _steps(book: str, directory: Path) -> list[Step]:
    commands = np.zeros(1, COMMAND)
    reports, trades = np.zeros(4, REPORT), np.zeros(2, TRADE)

    def decode() -> None:
        decoder = CommandDecoder(MAX_BODY)
        decoder.open_stream(1, 1)
        decoder.feed(frame(NewOrder(1, 1, 1, 1, 2, 1, 1, 1), 1))
        count, _ = decoder.read(commands, 0, 1)
        assert count == 1

    def match() -> None:
        if book == "ladder":
            from engine.books.ladder import warm as warm_ladder

            warm_ladder()
        matched = make_book(book, 0, [BookLimits(1, 1, 100, 10)], 4, Counters(0, 0, 0))
        progress = matched.process(commands, reports, trades)
        assert progress.reports == 1
        Summary([1]).of(reports)

    def encode() -> None:
        encoder = ReportEncoder()
        encoder.open_stream(1, 1)
        assert encoder.encode(reports[:1])

    def table() -> None:
        path = directory / "orders"
        create_table(path, 0, 4)
        OrderTableWriter(path).apply(reports[:1])
        assert OrderTableReader(path).get(int(reports["order_id"][0])) is not None

    return [
        ("reading commands", decode),
        ("the journal", warm_journal),
        ("matching", match),
        ("numbering reports", warm_numbering),
        ("keeping reports", warm_keeping),
        ("writing reports", encode),
        ("the order table", table),
        ("matching and showing", _round(book, directory)),
    ]


def _round(book: str, directory: Path) -> Callable[[], object]:
    def warm_round() -> None:
        if book == "ladder":
            from engine.shard.compiled_pipeline import warm

            warm(directory)

    return warm_round


def _other(entry: str) -> Callable[[], object]:
    module, _, function = entry.partition(":")
    found: Callable[[], object] = getattr(importlib.import_module(module), function)
    return found


def _tell(text: str) -> None:
    path = os.environ.get(PROGRESS_VARIABLE)
    if path:
        Path(path).write_text(text)
