"""The simulated flow: reproducible, whole, bounded, and a market when a book matches it."""

import numpy as np
import pytest

from bench.simulated_flow import SimulatedFlow
from engine.books.contract import BookLimits, Records
from engine.books.reference.book import ReferenceBook
from engine.config import parse_config
from ipc.instruments import Instrument
from ipc.records import COMMAND
from ipc.vocabulary import LISTS, CommandType, ExecType, Flag, OrderType, Reason, TimeInForce
from tests.books import run

ACCOUNTS = [11, 12, 13]
SEED = [20260101, 1]
MARKET_REJECTS = {Reason.UNKNOWN_ORDER, Reason.POST_ONLY_WOULD_TRADE, Reason.ALREADY_FILLED}
"""What becomes of a command that comes too late; any other reject is an error of the flow."""


def instruments(count: int, band: str = "") -> list[Instrument]:
    sections = "".join(
        f'[[instruments]]\nsymbol = "S{number}"\ntick_size = "0.01"\n{band}\n'
        for number in range(count)
    )
    return parse_config(sections, "test").listed()


def commands_of(flow: SimulatedFlow, chunks: int, rows: int = 2_000) -> Records:
    return np.concatenate([flow.chunk(rows) for _ in range(chunks)])


@pytest.fixture(scope="module")
def commands() -> Records:
    return commands_of(SimulatedFlow(instruments(4), ACCOUNTS, SEED), 15)


def test_the_same_seed_gives_the_same_commands(commands: Records) -> None:
    again = commands_of(SimulatedFlow(instruments(4), ACCOUNTS, SEED), 15)
    other = commands_of(SimulatedFlow(instruments(4), ACCOUNTS, [SEED[0], 2]), 15)
    assert again.tobytes() == commands.tobytes()
    assert other.tobytes() != commands.tobytes()


def test_ids_are_dense_over_the_whole_flow(commands: Records) -> None:
    entries = commands[commands["command_type"] == CommandType.NEW]
    assert commands.dtype == COMMAND
    assert commands["request_id"].tolist() == list(range(1, len(commands) + 1))
    assert entries["client_order_id"].tolist() == list(range(1, len(entries) + 1))


def test_every_kind_of_order_and_every_command_occurs(commands: Records) -> None:
    entries = commands[commands["command_type"] == CommandType.NEW]
    limits = entries["order_type"] == OrderType.LIMIT
    assert set(commands["command_type"].tolist()) == set(CommandType) - set(LISTS)
    assert (entries["order_type"] == OrderType.MARKET).any()
    assert set(entries["time_in_force"][limits].tolist()) == {
        TimeInForce.GTC,
        TimeInForce.IOC,
        TimeInForce.FOK,
    }
    assert (entries["flags"] == Flag.POST_ONLY).any()
    assert set(entries["symbol"].tolist()) == {1, 2, 3, 4}
    assert set(entries["account"].tolist()) == set(ACCOUNTS)


def test_a_change_names_an_order_that_its_account_sent_before(commands: Records) -> None:
    sent: dict[int, tuple[int, int]] = {}
    for row in commands:
        whose = int(row["account"]), int(row["symbol"])
        if row["command_type"] == CommandType.NEW:
            sent[int(row["client_order_id"])] = whose
        elif row["command_type"] != CommandType.MASS_CANCEL:
            assert sent[int(row["client_order_id"])] == whose


def test_a_book_makes_a_market_of_it() -> None:
    listed = instruments(4)
    flow = SimulatedFlow(listed, ACCOUNTS, SEED, resting_orders=800)
    limits = [BookLimits(i.number, i.min_price, i.max_price, 4_000) for i in listed]
    book = ReferenceBook(0, limits, 65_536)
    outcome = run(book, commands_of(flow, 60, rows=500))
    rejected = outcome.reports[outcome.reports["exec_type"] == ExecType.REJECTED]
    assert set(rejected["reason"].tolist()) <= MARKET_REJECTS
    assert len(rejected) < 0.12 * flow.commands
    assert len(outcome.trades) > 0.1 * flow.commands
    assert 400 < len(book.resting()) < 1_600
    book.check()


def test_prices_stay_within_a_narrow_band() -> None:
    listed = instruments(2, 'min_price = "0.90"\nmax_price = "1.10"')
    commands = commands_of(SimulatedFlow(listed, ACCOUNTS, SEED), 5)
    priced = commands["price"][commands["price"] != 0]
    assert 90 <= priced.min() < priced.max() <= 110


def test_many_symbols_and_small_chunks() -> None:
    flow = SimulatedFlow(instruments(300), ACCOUNTS, SEED)
    commands = commands_of(flow, 200, rows=20)
    assert len(commands) == flow.commands == 4_000
    assert len(set(commands["symbol"].tolist())) > 250
