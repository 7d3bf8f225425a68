"""One compiled call matches and shows what its parts do one after the other, whatever grows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.flows import Flow, Profile, near
from engine.books.choice import make_book
from engine.books.contract import Book, BookLimits, Counters, Progress, Records
from engine.roles import MATCHER
from engine.shard.account_sequences import AccountSequences
from engine.shard.pipeline import Pipeline, PipelineParts
from engine.shard.pipeline_choice import make_pipeline
from engine.shard.plain_pipeline import PlainPipeline
from ipc.links.backend import Link
from ipc.links.outbox import FIRST_BYTES
from ipc.memory.depth_board import BoardReader, BoardWriter, create_board
from ipc.memory.order_table import OrderTableWriter, TableFullError, create_table
from ipc.memory.order_table_reader import OrderTableReader
from ipc.memory.ring import REPORTS, GatingReader, RingError, RingReader, RingWriter, create_ring
from ipc.memory.status import ProcessSlot, StatusReader, StatusWriter, create_status
from ipc.native.compiled import HAVE_NUMBA
from ipc.records import REPORT, TRADE, account_of, make_id
from ipc.vocabulary import ExecType, Flag, OrdStatus, Reason
from ipc.wire.matcher_codec import command_array, command_row
from ipc.wire.messages import NewOrder
from tests.test_codec import reports_of

SHARD = 3
CAPACITY = 64
RING = 16
TRADE_RING = 32
SYMBOLS = [2, 5]
LIMITS = tuple(BookLimits(symbol, 1, 10_000, 1_000) for symbol in SYMBOLS)
DEPTH = 4

A_REPORT = st.fixed_dictionaries(
    {
        "exec_type": st.sampled_from([int(exec_type) for exec_type in ExecType]),
        "ord_status": st.sampled_from([int(status) for status in OrdStatus]),
        "symbol": st.sampled_from([0, *SYMBOLS]),
        "flags": st.sampled_from([0, int(Flag.AGGREGATE)]),
        "reason": st.sampled_from([int(reason) for reason in Reason if reason]),
        "account": st.integers(1, 40),
        "order_id": st.integers(1, 50).map(lambda number: make_id(SHARD, number)),
        "price": st.integers(0, 2**64 - 1),
    }
)
needs_both = pytest.mark.skipif(not HAVE_NUMBA, reason="without numba there is one way only")


class Shown:
    """A round, and all that it writes to; two connections, which share some accounts."""

    def __init__(
        self,
        directory: Path,
        pipelines: Callable[[PipelineParts], Pipeline] = make_pipeline,
        capacity: int = CAPACITY,
        reports: int = 4096,
        book: str = "ladder",
        limits: int = 1_000,
        kept_orders: int | None = None,
        rings: tuple[int, int] = (TRADE_RING, RING),
    ) -> None:
        directory.mkdir()
        create_table(directory / "orders", SHARD, capacity, kept_orders)
        create_ring(directory / "trades", SHARD, rings[0], 0)
        create_ring(directory / "reports", SHARD, rings[1], 0, 0, REPORTS)
        create_board(directory / "board", SHARD, SYMBOLS, DEPTH)
        create_status(directory / "status", [ProcessSlot(MATCHER, SHARD, None)])
        bounds = [limit._replace(max_resting_orders=limits) for limit in LIMITS]
        self.book: Book = make_book(book, SHARD, bounds, 16, Counters(0, 0, 0))
        self.reports = np.zeros(reports, REPORT)
        self.table = OrderTableWriter(directory / "orders")
        self.numbers = AccountSequences(SHARD)
        self.links = [Link(None), Link(None)]  # type: ignore[arg-type]
        for account in range(1, 30):
            self.links[account % 2].open_stream(account, account)
            self.links[0].open_stream(account, account)
        self.trade_ring = RingWriter(directory / "trades")
        self.report_ring = RingWriter(directory / "reports", REPORTS)
        self.round = pipelines(
            PipelineParts(
                self.book,
                self.reports,
                np.zeros(64, TRADE),
                self.trade_ring,
                self.report_ring,
                self.table,
                self.numbers,
                BoardWriter(directory / "board"),
                StatusWriter(directory / "status", "matcher", SHARD),
            )
        )
        self.status = StatusReader(directory / "status")
        self.board = BoardReader(directory / "board")
        self.ring = RingReader(directory / "reports", REPORTS)
        self.trades = GatingReader(directory / "trades")
        self.orders = OrderTableReader(directory / "orders")
        self.logged: list[bytes] = []

    def show(self, reports: Records) -> None:
        self.reports[: len(reports)] = reports
        self.round.show(len(reports), self.links, 7)

    def take_trades(self) -> None:
        """Read what the trade ring holds, as the persister does."""
        while self.trades.available():
            trades = self.trades.peek(TRADE_RING)
            self.logged.append(trades.tobytes())
            self.trades.advance(len(trades))

    def match(self, commands: Records, timestamp_ns: int) -> list[tuple[Progress, int]]:
        """Carry out a batch to its end; return what each round did, and what was complete then."""
        found = []
        while len(commands):
            progress = self.round.run(commands, self.links, timestamp_ns)
            found.append((progress, self.orders.completed))
            commands = commands[progress.commands :]
            if not progress.commands:
                self.take_trades()
        return found

    def state(self) -> list[object]:
        """Return all that anyone can see of it."""
        [status] = self.status.processes()
        return [
            self.table.contents().tobytes(),
            self.orders.completed,
            self.ring.last(RING).tobytes(),
            self.ring.published,
            self.trades.published,
            b"".join(self.logged),
            [bytes(link.outbox.unsent()) for link in self.links],
            self.numbers.reports,
            self.numbers.known,
            [part.tolist() for part in self.numbers.state()[1:]],
            [
                (depth.sequence, depth.timestamp_ns, depth.bids.tobytes(), depth.asks.tobytes())
                for depth in map(self.board.read, SYMBOLS)
            ],
            status.counters,
            status.rejects,
        ]


@needs_both
@given(st.lists(A_REPORT, max_size=80), st.integers(1, 80))
def test_reports_are_shown_alike(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, int]], batch: int
) -> None:
    directory = tmp_path_factory.mktemp("both")
    compiled, plain = Shown(directory / "compiled"), Shown(directory / "plain", PlainPipeline)
    reports = reports_of(rows)
    for first in range(0, len(reports), batch):
        part = reports[first : first + batch]
        compiled.show(part)
        plain.show(part)
        assert np.array_equal(compiled.reports[: len(part)], plain.reports[: len(part)])
    assert compiled.state()[0] == plain.state()[0]
    assert compiled.state()[2:] == plain.state()[2:]


@needs_both
@given(st.integers(0, 2**32), st.sampled_from([1, 3, 40, 200]), st.sampled_from([2, 5, 4096]))
def test_batches_are_matched_and_shown_alike(
    tmp_path_factory: pytest.TempPathFactory, seed: int, batch: int, reports: int
) -> None:
    """With buffers that end in the midst of a command, and a trade ring that is full in between."""
    directory = tmp_path_factory.mktemp("both")
    profile = Profile(LIMITS, near(1_000, 10), accounts=20)
    commands = Flow(profile, seed).commands(400)
    both = (
        Shown(directory / "compiled", capacity=1_000, reports=reports),
        Shown(directory / "plain", PlainPipeline, capacity=1_000, reports=reports),
        Shown(directory / "other", capacity=1_000, reports=reports, book="reference"),
    )
    for first in range(0, len(commands), batch):
        part = commands[first : first + batch]
        compiled, plain, _ = (shown.match(part, first) for shown in both)
        assert compiled == plain
    for shown in both:
        shown.take_trades()
    assert both[0].state() == both[1].state() == both[2].state()
    assert both[0].trades.published > 0


@needs_both
def test_a_book_that_grows_in_the_midst_of_a_batch_goes_on_where_it_was(tmp_path: Path) -> None:
    new = [NewOrder(2, n, n, 1, 2, 1, 1 + n % 900, 1) for n in range(1, 3_001)]
    commands = command_array(command_row(order, 1 + order.client_order_id % 40, 9) for order in new)
    compiled = Shown(tmp_path / "compiled", capacity=5_000, limits=5_000)
    plain = Shown(tmp_path / "plain", PlainPipeline, capacity=5_000, limits=5_000)
    for first in range(0, 3_000, 700):
        part = commands[first : first + 700]
        assert compiled.match(part, first) == plain.match(part, first)
    assert compiled.state() == plain.state()
    assert compiled.table.live_orders == 3_000


def test_accounts_slots_and_outboxes_grow_in_the_midst_of_a_batch(tmp_path: Path) -> None:
    shown = Shown(tmp_path / "grown", capacity=10_000, kept_orders=100)
    cells = len(shown.table.cells)
    rows = [
        {
            "exec_type": int(ExecType.NEW),
            "account": account_of(f"user {number}"),
            "order_id": make_id(SHARD, number + 1),
            "symbol": SYMBOLS[0],
        }
        for number in range(4096)
    ]
    for row in rows[:100]:
        shown.links[1].open_stream(40, row["account"])
    for _ in range(2):
        shown.show(reports_of(rows))
    assert shown.table.live_orders == 4096
    assert len(shown.table.cells) > 4096 > cells
    for row in rows:  # each is in the chain where readers look for it
        assert shown.orders.get(row["order_id"]) is not None
    assert shown.numbers.known == 4096
    assert shown.numbers.reports == shown.ring.published == 8192
    assert set(shown.reports["account_sequence"].tolist()) == {make_id(SHARD, 2)}
    assert len(shown.links[1].outbox.buffer) > FIRST_BYTES
    assert len(shown.links[1].outbox) % 200 == 0


def test_a_link_that_comes_or_goes_gets_its_own_frames(tmp_path: Path) -> None:
    shown = Shown(tmp_path / "links")
    row = {"exec_type": int(ExecType.NEW), "account": 1, "order_id": make_id(SHARD, 1)}
    reports = reports_of([row])
    first, second = shown.links
    shown.show(reports)
    of_one = len(second.outbox)
    assert len(first.outbox) == of_one > 0
    third = Link(None)  # type: ignore[arg-type]
    third.open_stream(1, 1)
    shown.links = [second, third]  # as many as before
    shown.show(reports)
    assert [len(link.outbox) for link in (first, second, third)] == [of_one, 2 * of_one, of_one]
    shown.links = []
    shown.show(reports)
    assert [len(link.outbox) for link in (first, second, third)] == [of_one, 2 * of_one, of_one]


@pytest.mark.parametrize("pipelines", [make_pipeline, PlainPipeline])
def test_rows_of_rings_have_memory_before_a_round_writes_them(
    tmp_path: Path, pipelines: Callable[[PipelineParts], Pipeline]
) -> None:
    shown = Shown(tmp_path / "rows", pipelines, capacity=20_000, rings=(8_192, 16_384))
    commands = Flow(Profile(LIMITS, near(1_000, 2), accounts=20), 1).commands(16_000)
    rings = (shown.trade_ring, shown.report_ring)
    most = [0, 0]
    for first in range(0, len(commands), 100):
        shown.match(commands[first : first + 100], first)
        shown.take_trades()
        for place, ring in enumerate(rings):
            assert ring.published <= ring.reserved
            if ring.published <= ring.capacity - 2_048:
                assert ring.reserved < ring.published + 2_048
                most[place] = ring.published
    assert min(most) > 1_024  # so it has grown more than once


def test_a_full_table_is_refused_by_name(tmp_path: Path) -> None:
    shown = Shown(tmp_path / "full", capacity=2)
    rows = [
        {"exec_type": int(ExecType.NEW), "account": 1, "order_id": make_id(SHARD, number)}
        for number in (1, 2, 3)
    ]
    with pytest.raises(TableFullError, match=r"2 orders are live.*\(report 2 of 3\)"):
        shown.show(reports_of(rows))


@pytest.mark.parametrize("pipelines", [make_pipeline, PlainPipeline])
def test_trades_that_do_not_follow_the_rings_last_are_refused(
    tmp_path: Path, pipelines: Callable[[PipelineParts], Pipeline]
) -> None:
    shown = Shown(tmp_path / "wrong", pipelines)
    shown.trade_ring.begin_after(3)
    commands = Flow(Profile(LIMITS, near(1_000, 2), accounts=20), 1).commands(400)
    with pytest.raises(RingError, match=r"ids \d+ to \d+ in place of"):
        shown.match(commands, 0)
