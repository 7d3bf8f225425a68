"""One account cannot take all the room of a symbol: its bound, counted where it can matter."""

from typing import Any

import numpy as np
import pytest

from bench.equality import BOOKS, Pair
from engine.books.contract import BookLimits, Records
from engine.books.ladder import LadderBook
from engine.books.ladder.tables import FIRST_CAPACITY
from engine.config import ConfigError, parse_config
from ipc.vocabulary import RULES, CommandType, Reason, Side, TimeInForce
from ipc.wire.messages import NewOrder, Reject, Report
from tests.books import Desk, MakeBook, accepted, rejected
from tests.product import Wire, running
from tests.test_mass_cancels import GO_ON, ROOMY, command, mass_cancel, orders

BUY, SELL = Side.BUY, Side.SELL
INSTRUMENT = '[[instruments]]\nsymbol = "A"\ntick_size = "0.01"\n'


@pytest.fixture
def narrow(make_book: MakeBook) -> Desk:
    """A desk at books of eight orders a symbol, three of an account."""
    limits = [BookLimits(symbol, 1, 1000, 8, 3) for symbol in (1, 2)]
    return Desk(make_book(0, limits, 100))


def test_an_account_may_have_so_many_orders_resting(narrow: Desk) -> None:
    for price in (10, 20, 20):
        accepted(narrow.new(BUY, 5, price))
    assert rejected(narrow.new(BUY, 5, 10)) == Reason.TOO_MANY_ORDERS
    assert rejected(narrow.new(SELL, 5, 30)) == Reason.TOO_MANY_ORDERS
    accepted(narrow.new(BUY, 5, 10, account=2))
    accepted(narrow.new(BUY, 5, 10, symbol=2))
    assert RULES[Reason.TOO_MANY_ORDERS].field == "symbol"


def test_what_does_not_rest_is_taken_at_the_bound(narrow: Desk) -> None:
    for price in (30, 40, 50):
        accepted(narrow.new(SELL, 5, price))
    accepted(narrow.new(SELL, 5, 60, account=2))
    assert len(narrow.new(BUY, 1, 30, time_in_force=TimeInForce.IOC)) == 3
    assert len(narrow.market(BUY, 1)) == 3
    assert len(narrow.replace(1, 9, 35)) == 1


@pytest.mark.parametrize("way", ["cancel", "reduce", "trade", "mass_cancel", "replace"])
def test_who_lets_an_order_go_may_enter_another(narrow: Desk, way: str) -> None:
    for price in (10, 20, 30):
        accepted(narrow.new(BUY, 5, price))
    assert rejected(narrow.new(BUY, 5, 10)) == Reason.TOO_MANY_ORDERS
    if way == "cancel":
        narrow.cancel(2)
    elif way == "reduce":
        narrow.reduce(2, 5)
    elif way == "trade":
        narrow.new(SELL, 5, 30, account=2)
    elif way == "mass_cancel":
        narrow.mass_cancel()
    else:
        narrow.new(SELL, 5, 90, account=2)
        narrow.replace(1, 5, 90)
    accepted(narrow.new(BUY, 5, 10))


def test_a_full_book_is_said_first(narrow: Desk) -> None:
    for account in (1, 1, 1, 2, 2, 2, 3, 3):
        accepted(narrow.new(BUY, 5, 10, account=account))
    assert rejected(narrow.new(BUY, 5, 10)) == Reason.BOOK_FULL


def busy(rng: np.random.Generator, count: int, accounts: int, newest: int) -> Records:
    """Return orders of many accounts at a few prices, and what takes them away again."""
    commands = orders(rng.integers(1, accounts, count), rng.integers(90, 110, count))
    commands["symbol"] = rng.integers(1, 3, count)
    commands["side"] = rng.choice([BUY, SELL], count)
    commands["price"] += np.where(commands["side"] == SELL, 12, 0).astype("u8")
    commands["command_type"] = rng.choice([1, 2, 3, 4, 5], count, p=[0.7, 0.2, 0.05, 0.049, 0.001])
    change = np.isin(commands["command_type"], (2, 3, 4))
    commands["order_id"][change] = rng.integers(1, newest + 1, count)[change]
    commands["symbol"][change] = 0
    commands["quantity"] = rng.integers(1, 9, count)
    return commands


def test_both_books_count_alike_while_books_fill_and_empty(seed: int) -> None:
    """Accounts come and go by thousands; the counts begin, end, move and grow."""
    rng = np.random.default_rng(seed)
    limits = (BookLimits(1, 1, 1000, 3_000, 40), BookLimits(2, 1, 1000, 5_000, 400))
    made: dict[str, Any] = {name: make_book(0, limits, 50) for name, make_book in BOOKS.items()}
    pair, ladder = Pair(made), made["ladder"]
    tables = ladder._tables
    counted, refused = set(), 0
    for turn in range(60):
        accounts = int(rng.choice([4, 50, 5_000]))
        batch = busy(rng, 300, accounts, ladder.counters().order_sequence + 1)
        if turn % 15 == 14:
            known = np.unique(ladder.resting()["account"]).tolist()[:1_000]
            batch = np.concatenate([*map(mass_cancel, known), *[GO_ON] * 9 * len(known)])
        output = pair.process(batch, (ROOMY, ROOMY))
        pair.check([1, 2])
        refused += int((output.reports["reason"] == Reason.TOO_MANY_ORDERS).sum())
        counted.add(int(tables.state["counted_instruments"][0]))
        if turn % 20 == 19:
            tables.hash_anew()
    assert refused
    assert counted >= {0, 2}
    assert len(tables.orders) > FIRST_CAPACITY + 1


def test_counts_of_accounts_that_are_gone_do_not_fill_the_table() -> None:
    limits = [BookLimits(1, 1, 1000, 100, 10)]
    made = {name: make_book(0, limits, 5) for name, make_book in BOOKS.items()}
    pair = Pair(made)
    pair.process(orders(np.arange(1, 40) % 8 + 1, 10), (ROOMY, ROOMY))
    room = 4 * FIRST_CAPACITY
    for start in range(100, 100 + room, 500):
        entered = orders(np.arange(start, start + 500), 20)
        leaves = np.concatenate(
            [
                command(CommandType.CANCEL, n, client_order_id=n, symbol=1)
                for n in range(start, start + 500)
            ]
        )
        entered["client_order_id"] = entered["account"]
        both = np.stack([entered, leaves], 1).reshape(-1)
        pair.process(both, (ROOMY, ROOMY))
        pair.check([1])
    ladder = made["ladder"]
    assert isinstance(ladder, LadderBook)
    assert ladder._tables.state["counted_instruments"][0] == 1


def test_nothing_is_counted_where_no_account_can_be_at_its_bound() -> None:
    ladder = LadderBook(0, [BookLimits(1, 1, 1000, 100, 10), BookLimits(2, 1, 1000, 30, 30)], 5)
    desk = Desk(ladder, account=1)
    for account in range(1, 11):
        accepted(desk.new(BUY, 1, 10, account=account))
    for _ in range(30):
        accepted(desk.new(BUY, 1, 10, symbol=2))
    assert rejected(desk.new(BUY, 1, 10, symbol=2)) == Reason.BOOK_FULL
    assert ladder._tables.state["watching"][0] == 0
    accepted(desk.new(BUY, 1, 10, account=11))
    assert ladder._tables.state["counted_instruments"][0] == 1
    for order_id in range(1, 10):
        desk.cancel(order_id, account=order_id)
    assert ladder._tables.state["watching"][0] == 0


def test_an_account_has_a_quarter_unless_configured() -> None:
    [plain] = parse_config(INSTRUMENT, "t").listed()
    assert plain.max_account_orders == plain.max_resting_orders // 4
    [few] = parse_config(INSTRUMENT + "max_resting_orders = 3\n", "t").listed()
    assert few.max_account_orders == 1
    [own] = parse_config(INSTRUMENT + "max_account_orders = 7\n", "t").listed()
    assert own.max_account_orders == 7
    text = INSTRUMENT + "max_resting_orders = 6\nmax_account_orders = 7\n"
    said = r"max_account_orders = 7: must be at most max_resting_orders \(6\)"
    with pytest.raises(ConfigError, match=said):
        parse_config(text, "t")


def test_others_have_room_beside_one_who_takes_all_he_may() -> None:
    text = INSTRUMENT.replace('"A"', '"AA"') + "max_resting_orders = 8\n"
    config = parse_config("[engine]\nmatchers = 1\npin = false\n" + text, "t")
    with running(config) as plan, Wire(plan, "alice") as alice, Wire(plan, "bob") as bob:
        alice.send(*(NewOrder(1, n + 1, 0, 1, 2, 1, 50, 1) for n in range(3)))
        answers = [alice.receive() for _ in range(3)]
        assert [type(answer) for answer in answers] == [Report, Report, Reject]
        last = answers[-1]
        assert isinstance(last, Reject)
        assert (last.code, last.code_name) == (Reason.TOO_MANY_ORDERS, "TOO_MANY_ORDERS")
        bob.send(NewOrder(1, 1, 0, 1, 2, 1, 50, 1))
        assert isinstance(bob.receive(), Report)
