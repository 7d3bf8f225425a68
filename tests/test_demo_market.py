"""The demo's market: reproducible, a market when a book matches it, and no command is too late."""

from collections.abc import Iterator

import numpy as np
import pytest

from engine.books.contract import BookLimits, Records
from engine.books.reference.book import ReferenceBook
from engine.config import parse_config
from frontend.demo import market
from frontend.demo.market import Market
from frontend.demo.tally import Tally
from ipc.instruments import Instrument
from ipc.vocabulary import LISTS, CommandType, ExecType, OrderType, TimeInForce
from tests.books import Outcome, run

MAKER, TAKER = 5, 6
SEED = [20260101, 1]
ROOM = 20_000


@pytest.fixture(autouse=True)
def small_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(market, "QUOTES", 800)
    monkeypatch.setattr(market, "TAKES", 400)
    monkeypatch.setattr(market, "RESTING", 600)


def instruments(count: int) -> list[Instrument]:
    sections = (f'[[instruments]]\nsymbol = "S{n}"\ntick_size = "0.01"\n' for n in range(count))
    return parse_config("".join(sections), "test").listed()


class Floor:
    """A market, the reference book that matches it, and what both accounts were told."""

    def __init__(self, symbols: int = 3) -> None:
        listed = instruments(symbols)
        self.market = Market(listed, SEED)
        limits = [BookLimits(i.number, i.min_price, i.max_price, 4_000) for i in listed]
        self.book = ReferenceBook(0, limits, 65_536)
        self.tally = Tally()
        self.requests = 0

    def turns(self, count: int) -> Iterator[tuple[Records, Outcome]]:
        """Trade as a driver does; yield each array with what came of it."""
        for _ in range(count):
            leaves = self.tally.leaves(self.market.quoted)
            yield self._run(self.market.changes(leaves), MAKER)
            yield self._run(self.market.quotes(), MAKER)
            yield self._run(self.market.takes(), TAKER)
            yield self._run(self.market.nothing(), MAKER)

    def _run(self, commands: Records, account: int) -> tuple[Records, Outcome]:
        commands["account"] = account
        commands["request_id"] = np.arange(len(commands)) + 1 + self.requests
        self.requests += len(commands)
        outcome = run(self.book, commands, ROOM, ROOM)
        self.tally.add(outcome.reports)
        return commands, outcome


def test_nothing_is_rejected_and_nobody_trades_with_himself() -> None:
    floor = Floor()
    trades, resting = 0, []
    for commands, outcome in floor.turns(12):
        assert not (outcome.reports["exec_type"] == ExecType.REJECTED).any()
        fills = outcome.reports[outcome.reports["exec_type"] == ExecType.TRADE]
        assert (fills["account"] == MAKER).sum() == (fills["account"] == TAKER).sum()
        trades += len(outcome.trades)
        resting.append(len(floor.book.resting()))
        assert len(outcome.reports) >= len(commands)
    assert trades > 0.2 * floor.market.orders
    assert 400 < min(resting[4:]) < max(resting) < 1_700
    assert {int(order["account"]) for order in floor.book.resting()} == {MAKER}
    floor.book.check()


def test_every_kind_of_order_and_of_change_occurs() -> None:
    commands = np.concatenate([commands for commands, _ in Floor().turns(6)])
    entries = commands[commands["command_type"] == CommandType.NEW]
    kinds = set(commands["command_type"].tolist())
    assert kinds == set(CommandType) - {CommandType.MASS_CANCEL, *LISTS}
    assert set(entries["symbol"].tolist()) == {1, 2, 3}
    assert (entries["order_type"] == OrderType.MARKET).any()
    limits = entries[entries["order_type"] == OrderType.LIMIT]
    assert set(limits["time_in_force"].tolist()) == {
        TimeInForce.GTC,
        TimeInForce.IOC,
        TimeInForce.FOK,
    }
    assert entries["client_order_id"].tolist() == list(range(1, len(entries) + 1))


def test_the_same_seed_gives_the_same_market() -> None:
    first, again = (
        b"".join(commands.tobytes() for commands, _ in Floor().turns(3)) for _ in range(2)
    )
    assert first == again


def test_what_comes_last_says_that_all_before_it_was_told() -> None:
    floor = Floor(1)
    for _ in floor.turns(1):
        pass
    assert floor.tally.has_ended(floor.market.orders)
    assert not floor.tally.has_ended(int(floor.market.quoted[floor_open(floor)]))


def floor_open(floor: Floor) -> int:
    """Return the place of a quote that rests."""
    return int(np.argmax(floor.tally.leaves(floor.market.quoted) > 0))
