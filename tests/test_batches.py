"""Books over many commands: any split, any buffer, and what must hold after all of them."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.books.contract import Book, BookLimits, Counters, Progress, Records, state_hash
from engine.books.reference.book import ReferenceBook
from ipc.records import REPORT, TRADE, make_id
from ipc.vocabulary import (
    CONDITIONAL,
    ENDED,
    LISTS,
    CommandType,
    ExecType,
    Flag,
    Liquidity,
    OrderType,
    Reason,
    Side,
    TimeInForce,
)
from tests.books import (
    BOOKS,
    WIDE,
    WORLD,
    Desk,
    MakeBook,
    Outcome,
    Report,
    World,
    command_array,
    command_batches,
    random_commands,
    run,
)

BUY, SELL = int(Side.BUY), int(Side.SELL)
REINSERT = int(Flag.REINSERT)
KEEP_BOTH = int(Flag.KEEP_PRICE | Flag.KEEP_QUANTITY)
LATE = World(shard=255, recent_orders=3, start=Counters(2**40, 2**44, 2**43))

books = pytest.mark.parametrize("make", BOOKS.values(), ids=BOOKS.keys())
"""For tests with hypothesis, which takes no fixture that is made anew for each function."""


# Buffers ---------------------------------------------------------------------------------------


def sweep(account: int = 1) -> Records:
    """Return asks, an order that takes them all and rests, a mass cancel, and an IOC for a bid."""
    limit = {"order_type": OrderType.LIMIT, "account": account, "symbol": 1}
    ask = limit | {"command_type": CommandType.NEW, "side": SELL, "time_in_force": TimeInForce.GTC}
    bid = ask | {"side": BUY}
    return command_array(
        [
            *(ask | {"price": price, "quantity": 2} for price in (101, 100, 102)),
            bid | {"price": 102, "quantity": 7},
            bid | {"price": 99, "quantity": 7},
            {"command_type": CommandType.MASS_CANCEL, "account": account},
            bid | {"price": 100, "quantity": 2},
            ask | {"price": 100, "quantity": 7, "time_in_force": TimeInForce.IOC},
        ]
    )


@pytest.mark.parametrize("report_room", [2, 3, 4, 5, 100])
@pytest.mark.parametrize("trade_room", [1, 2, 100])
def test_small_buffers_change_nothing(
    make_book: MakeBook, report_room: int, trade_room: int
) -> None:
    whole, pieces = make_book(0, [WIDE], 9), make_book(0, [WIDE], 9)
    expected = run(whole, sweep())
    assert (len(expected.reports), len(expected.trades)) == (3 + 7 + 1 + 3 + 1 + 4, 4)
    assert run(pieces, sweep(), report_room, trade_room).same_as(expected)
    assert state_hash(pieces) == state_hash(whole)


def test_matching_stops_in_the_midst_of_a_command(make_book: MakeBook) -> None:
    book, commands = make_book(0, [WIDE], 9), sweep()
    reports, trades = np.zeros(100, REPORT), np.zeros(2, TRADE)
    assert book.process(commands, reports, trades) == Progress(3, 3 + 1 + 4, 2)
    assert book.counters() == Counters(4, 4, 2)
    assert book.resting()["order_id"].tolist() == [3]
    book.check()
    assert book.process(commands[3:4], reports, trades) == Progress(1, 2, 1)
    assert book.counters() == Counters(4, 4, 3)
    assert book.resting()["order_id"].tolist() == [4]


def test_without_room_for_trades_matching_stops_before_the_first(make_book: MakeBook) -> None:
    book, commands = make_book(0, [WIDE], 9), sweep()
    reports, none = np.zeros(100, REPORT), np.zeros(0, TRADE)
    assert book.process(commands, reports, none) == Progress(3, 4, 0)
    assert ExecType.TRADE not in reports["exec_type"][:4]
    assert book.process(commands[3:], reports, none) == Progress(0, 0, 0)
    assert book.counters() == Counters(4, 4, 0)
    trades = np.zeros(100, TRADE)
    assert book.process(commands[3:], reports, trades) == Progress(5, 6 + 1 + 3 + 1 + 4, 4)


def test_a_mass_cancel_goes_on_where_it_was(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [WIDE], 9))
    for price in (97, 98, 99):
        desk.new(BUY, 1, price)
    [command] = sweep()[5:6]
    reports, trades = np.zeros(2, REPORT), np.zeros(2, TRADE)
    assert desk.book.process(np.array([command]), reports, trades) == Progress(0, 2, 0)
    assert reports["order_id"].tolist() == [3, 2]
    desk.book.check()
    assert desk.book.process(np.array([command]), reports, trades) == Progress(1, 2, 0)
    assert reports["exec_type"].tolist() == [ExecType.CANCELED, ExecType.MASS_CANCELED]
    assert reports["quantity"].tolist() == [1, 3]


def test_nothing_is_written_beyond_what_progress_says(make_book: MakeBook) -> None:
    book = make_book(0, [WIDE], 9)
    reports, trades = np.zeros(50, REPORT), np.zeros(50, TRADE)
    reports.view(np.uint8)[:] = 0xAA
    trades.view(np.uint8)[:] = 0xAA
    commands = sweep()
    before = commands.copy()
    progress = book.process(commands, reports, trades)
    assert progress == Progress(8, 19, 4)
    assert set(reports[19:].view(np.uint8).tolist()) == {0xAA}
    assert set(trades[4:].view(np.uint8).tolist()) == {0xAA}
    assert set(reports["answers"][:19].tolist()) <= {0, 1}
    assert commands.tobytes() == before.tobytes()


def test_no_commands_no_reports(make_book: MakeBook) -> None:
    book = make_book(0, [WIDE], 9)
    none = sweep()[:0]
    assert book.process(none, np.zeros(2, REPORT), np.zeros(0, TRADE)) == Progress(0, 0, 0)
    assert (len(book.resting()), len(book.recent())) == (0, 0)


@pytest.mark.parametrize("report_room", [0, 1])
def test_reports_must_have_room_for_two(make_book: MakeBook, report_room: int) -> None:
    book = make_book(0, [WIDE], 9)
    with pytest.raises(ValueError, match="at least 2"):
        book.process(sweep(), np.zeros(report_room, REPORT), np.zeros(9, TRADE))
    assert book.counters() == Counters(0, 0, 0)


def test_the_reference_notices_another_command_than_the_unfinished() -> None:
    book, commands = ReferenceBook(0, [WIDE], 9), sweep()
    reports, none = np.zeros(100, REPORT), np.zeros(0, TRADE)
    book.process(commands, reports, none)
    with pytest.raises(ValueError, match="left unfinished"):
        book.process(commands[4:], reports, none)


# Any commands ----------------------------------------------------------------------------------


@books
@given(batches=st.lists(command_batches(max_size=25), max_size=4))
def test_every_structure_holds_after_every_batch(make: MakeBook, batches: list[Records]) -> None:
    book = WORLD.book(make)
    for commands in batches:
        run(book, commands)
        book.check()


@books
@given(
    commands=command_batches(),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    report_room=st.integers(2, 12),
    trade_room=st.integers(1, 6),
)
def test_any_split_and_any_buffer_give_the_same(
    make: MakeBook, commands: Records, cuts: list[int], report_room: int, trade_room: int
) -> None:
    whole, pieces = LATE.book(make), LATE.book(make)
    expected = run(whole, commands)
    parts = [
        run(pieces, part, report_room, trade_room)
        for part in np.split(commands, sorted(min(cut, len(commands)) for cut in cuts))
    ]
    given_out = Outcome(
        np.concatenate([part.reports for part in parts]),
        np.concatenate([part.trades for part in parts]),
    )
    assert given_out.same_as(expected)
    assert state_hash(pieces) == state_hash(whole)


class Account:
    """What the reports alone say: of each order its last state, and all that was traded."""

    def __init__(self) -> None:
        self.live: dict[int, Report] = {}
        self.natures: dict[int, tuple[int, ...]] = {}
        self.displays: dict[int, int] = {}
        self.traded: Counter[int] = Counter()
        self.listed: set[int] = set()

    def take(self, outcome: Outcome) -> None:
        rows = outcome.report_rows()
        for report in rows:
            if report.exec_type in (ExecType.REJECTED, ExecType.MASS_CANCELED):
                continue
            self.check_quantities(report)
            self.check_nature(report)
            self.live[report.order_id] = report
            if not report.trade_id and report.reason != Reason.SELF_TRADE:
                timed = report.time_in_force in (TimeInForce.DAY, TimeInForce.GTD)
                if report.exec_type == ExecType.NEW and report.command_type in LISTS:
                    self.listed.add(report.order_id)
                rare = report.last_qty or timed or report.order_id in self.listed
                assert bool(rare) >= bool(report.flags & Flag.RARE)
                self.displays[report.order_id] = report.last_qty
            if report.ord_status in ENDED:
                del self.live[report.order_id]
        fills = [report for report in rows if report.exec_type == ExecType.TRADE]
        pairs = list(zip(fills[::2], fills[1::2], strict=True))
        for (taker, maker), trade in zip(pairs, outcome.trades, strict=True):
            self.check_trade(taker, maker, trade)

    def check_quantities(self, report: Report) -> None:
        order_id = report.order_id
        if report.exec_type == ExecType.TRADE:
            self.traded[order_id] += report.last_qty
        assert report.cum_qty == self.traded[order_id]
        if report.exec_type in (ExecType.CANCELED, ExecType.EXPIRED):
            assert report.leaves_qty == 0
            before = self.live[order_id]
            assert (report.quantity, report.cum_qty) == (before.quantity, before.cum_qty)
        else:
            assert report.cum_qty + report.leaves_qty == report.quantity
        if report.exec_type == ExecType.TRADE:
            before = self.live[order_id]
            assert before.leaves_qty - report.last_qty == report.leaves_qty
            assert report.quantity == before.quantity

    def check_nature(self, report: Report) -> None:
        """What an order is, every report on it says alike."""
        nature = (
            *(report.symbol, report.account, report.client_order_id, report.side),
            *(report.order_type, report.time_in_force, report.flags & ~Flag.TRIGGERED),
        )
        assert nature == self.natures.setdefault(report.order_id, nature)

    def check_trade(self, taker: Report, maker: Report, trade: np.void) -> None:
        assert (taker.liquidity, maker.liquidity) == (Liquidity.TAKER, Liquidity.MAKER)
        assert taker.side != maker.side
        by_side = {taker.side: taker.order_id, maker.side: maker.order_id}
        assert (by_side[BUY], by_side[SELL]) == (trade["buy_order_id"], trade["sell_order_id"])
        for report in (taker, maker):
            assert report.trade_id == trade["trade_id"]
            assert report.sequence == trade["sequence"]
            assert report.timestamp_ns == trade["timestamp_ns"]
            assert (report.last_price, report.last_qty) == (trade["price"], trade["quantity"])
            assert report.symbol == trade["symbol"]
        assert taker.side == trade["taker_side"]
        assert maker.price == trade["price"]

    def stop_price(self, report: Report) -> int:
        """What an order still waits for."""
        waits = report.order_type in CONDITIONAL and not report.flags & Flag.TRIGGERED
        return report.last_price if waits else 0

    def check_resting(self, book: Book) -> None:
        rows = book.resting()
        rare = rows[(rows["display_quantity"] != 0) & (rows["stop_price"] == 0)]
        most = np.minimum(rare["display_quantity"], rare["leaves_qty"])
        assert ((rare["shown_quantity"] > 0) & (rare["shown_quantity"] <= most)).all()
        assert np.count_nonzero(rows["shown_quantity"]) == len(rare)
        timed = np.isin(rows["time_in_force"], (TimeInForce.DAY, TimeInForce.GTD))
        assert (timed == (rows["expire_time_ns"] != 0)).all()
        listed = np.isin(rows["order_id"], list(self.listed))
        assert ((rows["link"] != 0) == listed).all()
        rows["shown_quantity"] = rows["expire_time_ns"] = rows["link"] = 0
        resting = {row[0]: row[1:] for row in rows.tolist()}
        said = {
            key: (
                *(r.account, r.client_order_id, r.price, r.leaves_qty, r.cum_qty),
                *(r.symbol, r.side, r.flags, r.order_type, r.time_in_force),
                *(0, self.stop_price(r), self.displays[key], 0, 0),
            )
            for key, r in self.live.items()
        }
        assert resting == said


@books
@given(commands=command_batches())
def test_reports_tell_the_whole_story(make: MakeBook, commands: Records) -> None:
    book = WORLD.book(make)
    account = Account()
    outcome = run(book, commands)
    account.take(outcome)
    account.check_resting(book)

    answers = Counter(outcome.reports["exec_type"].tolist())
    start = WORLD.start
    assert book.counters() == Counters(
        start.sequence + len(commands),
        start.order_sequence + answers[ExecType.NEW],
        start.trade_sequence + len(outcome.trades),
    )
    first_of_each = np.unique(outcome.reports["sequence"])
    assert first_of_each.tolist() == list(range(1, len(commands) + 1))
    ids = [make_id(WORLD.shard, n + 1) for n in range(len(outcome.trades))]
    assert outcome.trades["trade_id"].tolist() == ids


Queue = list[tuple[int, int, int]]
"""order_id, price and leaves_qty of the orders of one side, first in priority first."""


def queues_of(book: Book) -> dict[tuple[int, int], Queue]:
    """Return the queue of each symbol and side, as ``resting`` says it."""
    resting = book.resting()
    queues = {}
    for limits in WORLD.limits:
        for side in (BUY, SELL):
            here = (resting["symbol"] == limits.symbol) & (resting["side"] == side)
            rows = resting[here][["order_id", "price", "leaves_qty"]]
            queues[limits.symbol, side] = rows.tolist()
    return queues


def within(order: Report, price: int) -> bool:
    """Tell whether an order may trade at a price."""
    if order.order_type == OrderType.MARKET:
        return True
    return price <= order.price if order.side == BUY else price >= order.price


def check_trades(answer: Report, rows: list[Report], opposite: Queue) -> None:
    """What traded is the head of the queue opposite, whole orders but the last, and no less."""
    makers = [row for row in rows if row.liquidity == Liquidity.MAKER]
    traded = [(maker.order_id, maker.price, maker.last_qty) for maker in makers]
    head, rest = opposite[: len(traded)], opposite[len(traded) :]
    assert traded[:-1] == head[:-1]
    assert [row[:2] for row in traded] == [row[:2] for row in head]
    assert all(within(answer, price) for _, price, _ in traded)
    takers = [row for row in rows if row.liquidity == Liquidity.TAKER]
    left = takers[-1].leaves_qty if takers else answer.leaves_qty
    if left and rest and rows[-1].reason != Reason.FOK_UNFILLED:
        assert makers == [] or makers[-1].leaves_qty == 0
        assert not within(answer, rest[0][1]), "it could have traded more"
    if rows[-1].reason == Reason.FOK_UNFILLED:
        assert makers == []
        reachable = sum(quantity for _, price, quantity in opposite if within(answer, price))
        assert reachable < answer.quantity
    elif answer.time_in_force == TimeInForce.FOK:
        assert left == 0


def check_places(answer: Report, kept: bool, before: Queue, after: Queue) -> None:
    """The others keep their places; the command's order stands at the back unless it kept its."""
    rests = {order_id for order_id, _, _ in after}
    own = answer.order_id
    ids = [order_id for order_id, _, _ in before if order_id in rests]
    if own in rests and not kept:
        ids = [order_id for order_id in ids if order_id != own] + [own]
    prices = {order_id: price for order_id, price, _ in after}
    ids.sort(key=lambda order_id: prices[order_id] * (1 if answer.side == SELL else -1))
    assert [order_id for order_id, _, _ in after] == ids


@books
@given(commands=command_batches(max_size=40))
def test_every_order_keeps_price_time_priority(make: MakeBook, commands: Records) -> None:
    """Of plain orders: nothing waits, and nobody minds trading with itself."""
    commands["order_type"][np.isin(commands["order_type"], CONDITIONAL)] = OrderType.LIMIT
    commands["stop_price"] = commands["self_trade_prevention"] = 0
    commands["display_quantity"] = commands["expire_time_ns"] = commands["minimum_quantity"] = 0
    commands["order_type"][np.isin(commands["order_type"], (20, 38))] = OrderType.LIMIT
    commands["time_in_force"][np.isin(commands["time_in_force"], (0, 6))] = TimeInForce.GTC
    book = WORLD.book(make)
    for n in range(len(commands)):
        before = queues_of(book)
        rows = run(book, commands[n : n + 1]).report_rows()
        answer, after = rows[0], queues_of(book)
        if answer.exec_type not in (ExecType.NEW, ExecType.REPLACED):
            assert all(row.exec_type != ExecType.TRADE for row in rows)
            continue
        symbol, side = answer.symbol, answer.side
        kept = answer.command_type == CommandType.REDUCE
        if answer.command_type == CommandType.REPLACE and not commands["flags"][n] & REINSERT:
            [old] = [row for row in before[symbol, side] if row[0] == answer.order_id]
            kept = answer.price == old[1] and answer.leaves_qty < old[2]
        if not kept:
            check_trades(answer, rows, before[symbol, BUY + SELL - side])
        check_places(answer, kept, before[symbol, side], after[symbol, side])


def spelled_out(command: np.void, book: Book) -> Records:
    """Return a command with what it keeps filled in from the book, where its order rests."""
    [given] = commands = np.array([command])
    resting = book.resting()
    named = resting["order_id"] == given["order_id"]
    if not given["order_id"]:
        names = ("account", "symbol", "client_order_id")
        named = np.all([resting[name] == given[name] for name in names], axis=0)
    keeps = int(given["flags"]) & KEEP_BOTH
    if given["command_type"] == CommandType.REPLACE and keeps != KEEP_BOTH and named.any():
        [order] = resting[named]
        if keeps & Flag.KEEP_PRICE:
            commands["price"] = order["price"]
        if keeps & Flag.KEEP_QUANTITY:
            filled = 0 if given["flags"] & REINSERT else order["cum_qty"]
            commands["quantity"] = order["leaves_qty"] + filled
        commands["flags"] &= np.uint8(255 - KEEP_BOTH)
    return commands


@books
@given(commands=command_batches(max_size=40))
def test_what_is_kept_does_what_is_given_would(make: MakeBook, commands: Records) -> None:
    book, other = WORLD.book(make), WORLD.book(make)
    for command in commands:
        given = spelled_out(command, other)
        kept, spelled = run(book, np.array([command])), run(other, given)
        rejected = kept.reports["exec_type"] == ExecType.REJECTED
        if given["flags"][0] != command["flags"]:
            for name in ("flags", "price", "quantity"):  # a reject repeats those of its command
                kept.reports[name][rejected] = spelled.reports[name][rejected]
        assert kept.same_as(spelled)
        assert state_hash(book) == state_hash(other)


# Many commands ---------------------------------------------------------------------------------


def test_many_random_commands(make_book: MakeBook, seed: int) -> None:
    rng = np.random.default_rng(seed)
    world = WORLD._replace(
        limits=(BookLimits(2, 30, 120, 30, 12), BookLimits(7, 50, 90, 500)), recent_orders=25
    )
    book, pieces = world.book(make_book), world.book(make_book)
    account = Account()
    reasons: set[int] = set()
    exec_types: set[int] = set()
    for _ in range(8):
        commands = random_commands(rng, 1_000, world._replace(start=book.counters()))
        outcome = run(book, commands)
        room = rng.integers(2, 40, 2).tolist()
        assert run(pieces, commands, *room).same_as(outcome)
        account.take(outcome)
        account.check_resting(book)
        book.check()
        reasons.update(outcome.reports["reason"].tolist())
        exec_types.update(outcome.reports["exec_type"].tolist())
    assert state_hash(pieces) == state_hash(book)
    # Were the commands to miss a rule, this test would say nothing about it.
    at_the_edge = {Reason.INVALID_MESSAGE, Reason.UNKNOWN_TAG}
    seldom = {Reason.ALREADY_FILLED, Reason.MARKET_REMAINDER, Reason.INVALID_POST_ONLY}
    seldom |= {Reason.INVALID_EXPIRE_TIME}
    of_books = {reason for reason in Reason if reason < Reason.BUSY or reason > 99} - at_the_edge
    assert of_books - seldom <= reasons <= of_books
    assert exec_types == set(ExecType)
