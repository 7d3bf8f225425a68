"""A mass cancel takes its turn with others: in parts, in the same order whenever it is replayed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.drive import Room
from bench.equality import BOOKS, ROOMS, Pair
from bench.truth import Told
from engine.books.contract import BookLimits, Records, state_hash
from engine.books.rules import MAX_SWEEPS, SWEEP_ORDERS
from engine.shard.matcher import BATCH_BETWEEN, Matcher
from engine.shard.snapshotter import take_snapshot
from ipc.records import make_id
from ipc.vocabulary import CommandType, ExecType, Flag, OrderType, Reason, Side, TimeInForce
from ipc.wire.frames import frame
from ipc.wire.messages import (
    MassCancel,
    MassCancelReport,
    Message,
    NewOrder,
    Replace,
    Report,
    server_decoder,
)
from tests.books import MakeBook, command_array, run
from tests.kept import plan_of
from tests.product import Wire, make_config, running
from tests.test_faults import matcher
from tests.test_restore import state_of

BUY, SELL = Side.BUY, Side.SELL
MASS_CANCEL = CommandType.MASS_CANCEL
LIMITS = (BookLimits(1, 1, 1 << 20, 1 << 20), BookLimits(2, 1, 1 << 20, 1 << 20))
ROOMY = ROOMS[-1]
COUNT = 3 * SWEEP_ORDERS + 100


def orders(accounts: Any, prices: Any, symbol: int = 1, side: int = BUY) -> Records:
    """Return NEW commands of GTC limit orders over five lots."""
    accounts, prices = np.broadcast_arrays(np.atleast_1d(accounts), np.atleast_1d(prices))
    row = {
        "command_type": CommandType.NEW,
        "symbol": symbol,
        "side": side,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "quantity": 5,
    }
    commands = command_array([row] * len(accounts))
    commands["account"], commands["price"] = accounts, prices
    return commands


def command(command_type: int, account: int, **fields: int) -> Records:
    return command_array([{"command_type": command_type, "account": account} | fields])


def mass_cancel(account: int, symbol: int = 0, request_id: int = 7, flags: int = 0) -> Records:
    what = {"symbol": symbol, "request_id": request_id, "flags": flags, "timestamp_ns": 5}
    return command(MASS_CANCEL, account, **what)


GO_ON = command(MASS_CANCEL, 0, flags=Flag.CONTINUE, timestamp_ns=9)


class Books:
    """Both books, which must agree in everything, and be sound."""

    def __init__(self, commands: Iterable[Records] = (), recent_orders: int = 100) -> None:
        made = {name: make_book(0, LIMITS, recent_orders) for name, make_book in BOOKS.items()}
        self.pair = Pair(made)
        for batch in commands:
            self.send(batch)

    def send(self, *commands: Records, rooms: Any = (ROOMY, ROOMY)) -> Records:
        reports: Records = self.pair.process(np.concatenate(commands), rooms).reports
        self.pair.check([1, 2])
        return reports

    def finish(self) -> list[Records]:
        """Let all mass cancels go on to their ends; return the reports of each part."""
        parts = []
        while self.pair.books[0].sweeping:
            parts.append(self.send(GO_ON))
        return parts


def test_it_looks_at_so_many_orders_and_lets_others_go_first() -> None:
    books = Books([orders([1, 2, 3, 4] * (COUNT // 4), 100)])
    first = books.send(mass_cancel(1))
    assert len(first) == SWEEP_ORDERS // 4
    assert (first["reason"] == Reason.MASS_CANCEL).all()
    between = books.send(command(CommandType.CANCEL, 2, order_id=make_id(0, COUNT - 2)))
    assert between["exec_type"].tolist() == [ExecType.CANCELED]
    parts = books.finish()
    assert [len(part) for part in parts[:-1]] == [SWEEP_ORDERS // 4] * (len(parts) - 1)
    answer = parts[-1][-1]
    assert answer["exec_type"] == ExecType.MASS_CANCELED
    assert (answer["quantity"], answer["request_id"], answer["account"]) == (COUNT // 4, 7, 1)
    assert (answer["timestamp_ns"], answer["sequence"]) == (9, COUNT // 4 * 4 + 2 + len(parts))
    assert not (books.pair.books[0].resting()["account"] == 1).any()


def test_who_has_nothing_far_into_a_book_is_answered_after_all_of_it() -> None:
    books = Books([orders(2, 100 + np.arange(COUNT) % 50), orders(2, 90, 2), orders(1, 5, 2)])
    assert not len(books.send(mass_cancel(1)))
    parts = books.finish()
    assert sum(map(len, parts)) == 2
    assert len(parts) == COUNT // SWEEP_ORDERS


def test_a_small_book_is_swept_at_once() -> None:
    books = Books([orders([1, 2] * (SWEEP_ORDERS // 2), 100)])
    reports = books.send(mass_cancel(1, 1))
    assert len(reports) == SWEEP_ORDERS // 2 + 1
    assert not books.pair.books[0].sweeping


def test_orders_that_are_to_go_are_gone_for_their_account_and_trade_with_others() -> None:
    books = Books([orders([2] * SWEEP_ORDERS + [1] * SWEEP_ORDERS, 100)])
    books.send(mass_cancel(1))
    last = make_id(0, 2 * SWEEP_ORDERS)
    for kind in (CommandType.CANCEL, CommandType.REPLACE, CommandType.REDUCE):
        [answer] = books.send(command(kind, 1, order_id=last, price=50, quantity=2))
        assert answer["reason"] == Reason.UNKNOWN_ORDER
    new = books.send(orders([1], 100))
    [moved] = books.send(
        command(CommandType.REPLACE, 1, order_id=int(new["order_id"][0]), price=9, quantity=5)
    )
    assert moved["exec_type"] == ExecType.REPLACED
    sold = books.send(orders([3], 100, side=SELL))
    assert sold["exec_type"].tolist() == [ExecType.NEW, ExecType.TRADE, ExecType.TRADE]
    answer = books.finish()[-1][-1]
    assert answer["quantity"] == SWEEP_ORDERS
    resting = books.pair.books[0].resting()
    assert resting["order_id"][resting["account"] == 1].tolist() == [int(new["order_id"][0])]


def test_a_second_one_of_the_same_kind_takes_over() -> None:
    books = Books([orders([1, 2] * COUNT, 100)])
    books.send(mass_cancel(1, 1, request_id=7))
    books.send(orders([1, 2], 200))
    [answer] = books.send(mass_cancel(1, 1, request_id=8))
    assert (answer["request_id"], answer["quantity"]) == (7, SWEEP_ORDERS // 2)
    last = books.finish()[-1][-1]
    assert (last["request_id"], last["quantity"]) == (8, COUNT + 1 - SWEEP_ORDERS // 2)
    assert not (books.pair.books[0].resting()["account"] == 1).any()


def test_others_wait_for_their_turn() -> None:
    books = Books([orders([1, 2, 3] * COUNT, 100)])
    books.send(mass_cancel(1, 1, 7), mass_cancel(2, 0, 8), mass_cancel(3, 1, 9))
    answers = [
        part[-1] for part in books.finish() if part[-1]["exec_type"] == ExecType.MASS_CANCELED
    ]
    assert [(a["request_id"], a["quantity"]) for a in answers] == [(n, COUNT) for n in (7, 8, 9)]
    assert not len(books.pair.books[0].resting())


def test_where_too_many_are_under_way_the_oldest_is_finished_first() -> None:
    books = Books([orders([1] * COUNT, 100)])
    books.send(*(mass_cancel(account, 1, account) for account in range(1, MAX_SWEEPS + 1)))
    assert len(books.pair.books[0].sweeps()) == MAX_SWEEPS
    reports = books.send(mass_cancel(MAX_SWEEPS + 1, 1, 5_000))
    assert len(reports) == COUNT - SWEEP_ORDERS + 1
    assert (reports[-1]["request_id"], reports[-1]["quantity"]) == (1, COUNT)
    assert len(books.pair.books[0].sweeps()) == MAX_SWEEPS
    assert len(books.finish()) == MAX_SWEEPS


def busy_commands(rng: np.random.Generator, count: int, newest: int) -> Records:
    """Return commands of three accounts, most of them on old orders, all at a few prices."""
    commands = np.concatenate(
        [
            orders(rng.integers(1, 4, count), rng.integers(99, 102, count), symbol)
            for symbol in (1, 2)
        ]
    )[rng.permutation(2 * count)[:count]]
    commands["side"] = rng.choice([BUY, SELL], count)
    commands["price"] -= np.where(commands["side"] == BUY, 3, 0).astype("u8")
    kinds = [1, 1, 1, 1, 2, 3, 3, 3, 4, 5]
    commands["command_type"] = rng.choice(kinds, count, p=[0.12] * 8 + [0.03, 0.01])
    commands["request_id"] = np.arange(count)
    change = np.isin(commands["command_type"], (2, 3, 4))
    commands["order_id"][change] = rng.integers(1, newest, count)[change]
    commands["symbol"][change] = 0
    commands["quantity"] = rng.integers(1, 6, count)
    crossing = rng.random(count) < 0.02
    commands["price"][crossing] += np.uint64(3)
    whole = (commands["command_type"] == MASS_CANCEL) & (rng.random(count) < 0.5)
    commands["symbol"][whole] = 0
    return commands


def test_whatever_happens_between_the_parts_both_books_agree(seed: int) -> None:
    """Also where the state goes over into other books, and where buffers are small."""
    rng = np.random.default_rng(seed)
    start = [orders(rng.integers(1, 4, 2_000), rng.integers(96, 99, 2_000), n) for n in (1, 2)]
    books = Books([*start, *[orders(2, [200] * 300, n, SELL) for n in (1, 2)]])
    under_way = 0
    for turn in range(120):
        newest = books.pair.books[0].counters().order_sequence
        commands = busy_commands(rng, 40, newest)
        rooms = (ROOMY, [Room(2, 1), Room(3, 2)]) if turn % 3 else (ROOMS[0], ROOMY)
        books.send(commands, *[GO_ON] * int(rng.integers(0, 2)), rooms=rooms)
        under_way += books.pair.books[0].sweeping
        if turn % 10 == 0:
            for make_book in BOOKS.values():
                for book in books.pair.books:
                    copy = make_book(0, LIMITS, 100)
                    copy.restore(*state_of(book))
                    copy.check()
                    assert state_hash(copy) == state_hash(book)
            made = {name: make_book(0, LIMITS, 100) for name, make_book in BOOKS.items()}
            for copy, book in zip(made.values(), books.pair.books[::-1], strict=True):
                copy.restore(*state_of(book))
            books.pair = Pair(made)
        refill = rng.integers(1, 4, 60)
        books.send(orders(refill, 97, 1 + turn % 2))
    assert under_way > 20
    books.finish()


@pytest.mark.parametrize("wrong", [0, 9])
def test_going_on_with_nothing_under_way_is_a_command_that_does_nothing(
    make_book: MakeBook, wrong: int
) -> None:
    book = make_book(0, LIMITS, 10)
    assert not len(run(book, command(MASS_CANCEL, 1, symbol=wrong, flags=Flag.CONTINUE)).reports)
    assert book.counters().sequence == 1


# A matcher ---------------------------------------------------------------------------------------


def send(one: Matcher, link: Told, message: Message, stream: int) -> None:
    link.decoder.feed(frame(message, stream))
    one.handle([link], [link])
    one.settle_all([link])


def filled(one: Matcher, link: Told) -> None:
    """Open two accounts, and enter orders of the first."""
    link.open_stream(1, 7)
    link.open_stream(2, 8)
    for start in range(1, COUNT + 1, 100):
        for number in range(start, min(start + 100, COUNT + 1)):
            link.decoder.feed(frame(NewOrder(1, number, 0, 1, 2, 1, 100, 5), 1))
        one.handle([link], [link])
        one.settle_all([link])
    link.frames.clear()


@pytest.mark.parametrize("durability", ["async", "fsync"])
def test_a_matcher_answers_others_between_the_parts(tmp_path: Path, durability: str) -> None:
    plan = plan_of(tmp_path, f'[journal]\ndurability = "{durability}"\n')
    told = Told()
    with matcher(plan) as one:
        filled(one, told)
        send(one, told, MassCancel(1, 77), 1)
        assert len(told.frames) == SWEEP_ORDERS
        parts = 1
        while one.book.sweeping:
            assert one.must_go_on
            send(one, told, NewOrder(1, parts, 0, 1, 2, 1, 40, 1), 2)
            one.go_on([told])
            assert not (one.book.sweeping and durability == "fsync" and one.must_go_on)
            one.settle_all([told])
            parts += 1
        assert parts == -(-COUNT // SWEEP_ORDERS)
        messages = [server_decoder.decode(body) for _, body in told.frames]
        places = [place for place, m in enumerate(messages) if getattr(m, "price", 0) == 40]
        assert places == [SWEEP_ORDERS * part + part - 1 for part in range(1, parts)]
        last = messages[-1]
        assert isinstance(last, MassCancelReport)
        assert (last.request_id, last.canceled_orders) == (77, COUNT)


@pytest.mark.parametrize("snapshot", [False, True])
def test_one_that_was_under_way_goes_on_after_a_restart(tmp_path: Path, snapshot: bool) -> None:
    plan = plan_of(tmp_path)
    told = Told()
    with matcher(plan) as one:
        filled(one, told)
        send(one, told, MassCancel(1, 77), 1)
        one.go_on([told])
        before = state_hash(one.book)
    if snapshot:
        assert take_snapshot(plan, 0).path is not None
    told = Told()
    told.open_stream(1, 7)
    with matcher(plan) as again:
        assert state_hash(again.book) == before
        while again.must_go_on:
            again.go_on([told])
        assert not again.book.sweeping
        last = server_decoder.decode(told.frames[-1][1])
        assert isinstance(last, MassCancelReport)
        assert (last.request_id, last.canceled_orders) == (77, COUNT)


def test_parts_do_not_make_way_for_more_orders_than_they_look_at(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    told = Told()
    with matcher(plan) as one:
        filled(one, told)
        send(one, told, MassCancel(1, 77), 1)
        turns = 0
        while one.book.sweeping:
            for number in range(BATCH_BETWEEN):  # behind those that are looked at, in their way
                told.decoder.feed(frame(NewOrder(1, number, 0, 1, 2, 1, 100, 1), 2))
            one.handle([told], [told])
            turns += 1
        assert turns == -(-(COUNT - SWEEP_ORDERS) // (SWEEP_ORDERS - BATCH_BETWEEN))


# The product -------------------------------------------------------------------------------------


def test_it_comes_to_its_end_by_itself() -> None:
    """A matcher goes on by itself, with nothing to wake it."""
    with running(make_config(1, 1)) as plan, Wire(plan, "alice") as alice, Wire(plan, "bob") as bob:
        for _ in range(4):
            alice.send(*(NewOrder(1, n + 1, 0, 1, 2, 1, 50, 1) for n in range(1_500)))
            for _ in range(1_500):
                assert isinstance(alice.receive(), Report)
        alice.send(MassCancel(1, 77))
        bob.send(NewOrder(1, 5, 0, 1, 2, 1, 40, 1))
        mine = bob.receive()
        assert isinstance(mine, Report)
        answers = [alice.receive() for _ in range(6_001)]
        last = answers[-1]
        assert isinstance(last, MassCancelReport)
        assert (last.request_id, last.canceled_orders) == (77, 6_000)
        sequences = {answer.sequence for answer in answers if isinstance(answer, Report)}
        assert len(sequences) == -(-6_000 // SWEEP_ORDERS)
        alice.send(NewOrder(1, 9, 0, 1, 2, 1, 50, 1), Replace(1, 10, 1, 0, 60, 1))
        assert isinstance(alice.receive(), Report)
