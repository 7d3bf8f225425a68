"""The demo's checks: silent on one consistent story, and each names what was changed in it."""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from bench.simulated_flow import SimulatedFlow
from engine.books.contract import BookLimits, Records
from engine.books.reference.book import ReferenceBook
from engine.config import parse_config
from frontend.demo.checks import (
    check_book,
    check_log,
    check_order_table,
    check_quantities,
    check_ring,
)
from frontend.demo.tally import Tally
from ipc.records import LEVEL, TRADE, make_id
from ipc.vocabulary import CommandType, ExecType, Side
from tests.books import run

SYMBOL, SHARD, LEVELS, RING = 2, 1, 8, 50
CONFIG = "".join(f'[[instruments]]\nsymbol = "S{n}"\ntick_size = "0.01"\n' for n in range(3))


@dataclass
class Story:
    """All that the checks compare, from two books (shards) and what they reported."""

    fills: Records
    orders: Records
    log: Records
    ring: Records
    bids: Records
    asks: Records
    table: Records

    def differences(self) -> list[str | None]:
        return [
            check_log(self.fills, self.log),
            check_quantities(self.orders, self.log),
            check_ring(SHARD, self.ring, RING, self.log),
            check_book(SYMBOL, self.bids, self.asks, self.orders, LEVELS),
            check_order_table(self.orders[-len(self.table) :], self.table),
        ]


@pytest.fixture(scope="module")
def tally_and_books() -> tuple[Tally, list[ReferenceBook], Records]:
    listed = parse_config(CONFIG, "test").listed()
    flow = SimulatedFlow(listed, [5, 6], [7], resting_orders=300)
    books = [
        ReferenceBook(
            shard,
            [BookLimits(i.number, 1, i.max_price, 9_999) for i in listed if i.shard == shard],
            1_000,
        )
        for shard in (0, 1)
    ]
    shards = {i.number: i.shard for i in listed}
    tally = Tally()
    trades = []
    for _ in range(8):
        chunk = flow.chunk(250)
        shard_of = np.array([shards[number] for number in chunk["symbol"].tolist()])
        for shard, book in enumerate(books):
            outcome = run(book, chunk[shard_of == shard])
            tally.add(outcome.reports)
            trades.append(outcome.trades)
    return tally, books, np.concatenate(trades)


@pytest.fixture(scope="module")
def whole(tally_and_books: tuple[Tally, list[ReferenceBook], Records]) -> Story:
    tally, books, trades = tally_and_books
    sides = []
    for side in Side:
        levels = np.zeros(LEVELS, LEVEL)
        sides.append(levels[: books[SHARD].depth(SYMBOL, side, levels)])
    of_shard = trades[trades["trade_id"] >= make_id(SHARD, 0)]
    orders = tally.orders()
    return Story(tally.fills(), orders, trades, of_shard[-RING:], *sides, orders[-100:].copy())


@pytest.fixture
def story(whole: Story) -> Story:
    """A copy that a test may change."""
    return copy.deepcopy(whole)


def test_one_consistent_story_has_no_difference(story: Story) -> None:
    assert story.differences() == [None] * 5
    assert len(story.log) > 200
    assert len(story.ring) == RING
    assert len(story.bids) == len(story.asks) == LEVELS


def test_nothing_at_all_has_no_difference(story: Story) -> None:
    empty = Story(*(rows[:0] for rows in vars(story).values()))
    assert empty.differences() == [None] * 5


def log_loses_a_trade(story: Story) -> None:
    story.log = np.delete(story.log, 20)


def log_repeats_a_trade(story: Story) -> None:
    story.log = np.concatenate([story.log, story.log[20:21]])


def log_invents_a_trade(story: Story) -> None:
    extra = story.log[-1:].copy()
    extra["trade_id"] = make_id(3, 1)
    story.log = np.concatenate([story.log, extra])


def a_side_is_not_told(story: Story) -> None:
    story.fills = np.delete(story.fills, 20)


def a_side_is_told_twice(story: Story) -> None:
    story.fills = np.concatenate([story.fills, story.fills[20:21]])


def both_are_told_they_bought(story: Story) -> None:
    story.fills["side"][20:22] = Side.BUY


def set_fill(field: str) -> Callable[[Story], None]:
    def change(story: Story) -> None:
        story.fills[field][33] += 1

    return change


def cum_qty_is_off(story: Story) -> None:
    story.orders["cum_qty"][30] += 1


def quantity_of_both_is_off(story: Story) -> None:
    """Reports and log agree on a cum_qty, but the other side of the trade was told another."""
    story.log["quantity"][5] += 1


def an_unknown_order_trades(story: Story) -> None:
    story.orders = story.orders[story.orders["order_id"] != story.log["sell_order_id"][40]]


def a_buyer_was_a_seller(story: Story) -> None:
    traded = np.flatnonzero(story.orders["cum_qty"])
    story.orders["side"][traded[0]] = 3 - story.orders["side"][traded[0]]


def ring_has_another_price(story: Story) -> None:
    story.ring["price"][30] += 1


def ring_is_one_behind(story: Story) -> None:
    of_shard = story.log[story.log["trade_id"] >= make_id(SHARD, 0)]
    story.ring = of_shard[-RING - 1 : -1]


def ring_lost_its_first(story: Story) -> None:
    story.ring = story.ring[1:]


def ring_is_empty(story: Story) -> None:
    story.ring = np.empty(0, TRADE)


def level_has_more(story: Story) -> None:
    story.asks["quantity"][3] += 1


def level_has_another_price(story: Story) -> None:
    story.bids["price"][0] += 1


def level_has_another_count(story: Story) -> None:
    story.bids["order_count"][LEVELS - 1] += 1


def level_is_missing(story: Story) -> None:
    story.asks = story.asks[:-1]


def table_has_another_status(story: Story) -> None:
    story.table["ord_status"][10] += 1


def table_forgot_an_order(story: Story) -> None:
    story.table[10] = np.zeros((), story.table.dtype)


LOGGED, SUMS, SHOWN, BOOK, TABLE = range(5)


@pytest.mark.parametrize(
    ("change", "check", "text"),
    [
        (log_loses_a_trade, LOGGED, r"trade \d+ was reported and is not in the log"),
        (log_repeats_a_trade, LOGGED, r"trade \d+ stands in the log more than once"),
        (log_invents_a_trade, LOGGED, f"trade {make_id(3, 1)} stands in the log and was never"),
        (a_side_is_not_told, LOGGED, r"trade \d+ was reported 1 times"),
        (a_side_is_told_twice, LOGGED, r"trade \d+ was reported 3 times"),
        (both_are_told_they_bought, LOGGED, r"trade \d+: the sell side was told side 1, .* says 2"),
        (set_fill("price"), LOGGED, r"trade \d+: the (buy|sell) side was told price \d+, the log"),
        (set_fill("quantity"), LOGGED, r"was told quantity \d+, the log says \d+"),
        (set_fill("order_id"), LOGGED, r"was told order_id \d+, the log says \d+"),
        (set_fill("symbol"), LOGGED, r"was told symbol \d+, the log says \d+"),
        (set_fill("liquidity"), LOGGED, r"was told liquidity \d, the log says \d"),
        (cum_qty_is_off, SUMS, r"order \d+: its last report says cum_qty \d+, .* \d+ lots"),
        (quantity_of_both_is_off, SUMS, r"order \d+: its last report says cum_qty"),
        (an_unknown_order_trades, SUMS, r"order \d+ trades in the log and was never acc"),
        (a_buyer_was_a_seller, SUMS, r"symbol \d: \d+ lots were bought and \d+ sold"),
        (ring_has_another_price, SHOWN, r"shard 1: trade \d+ has price \d+ in the ring, \d+ at"),
        (ring_is_one_behind, SHOWN, r"shard 1: trade \d+ has trade_id \d+ in the ring"),
        (ring_lost_its_first, SHOWN, r"shard 1: the ring shows 49 trades, must be 50"),
        (ring_is_empty, SHOWN, r"shard 1: the ring shows 0 trades, must be 50"),
        (level_has_more, BOOK, r"symbol 2, SELL side, level 4: the board shows \d+ lots"),
        (level_has_another_price, BOOK, r"symbol 2, BUY side, level 1: the board shows"),
        (level_has_another_count, BOOK, r"symbol 2, BUY side, level 8: the board shows"),
        (level_is_missing, BOOK, r"symbol 2, SELL side: the board shows 7 levels, .* leave 8"),
        (table_has_another_status, TABLE, r"order \d+: its last report says ord_status \d, "),
        (table_forgot_an_order, TABLE, r"order \d+ is not in the order table"),
    ],
)
def test_each_check_names_what_differs(
    story: Story, change: Callable[[Story], None], check: int, text: str
) -> None:
    change(story)
    difference = story.differences()[check]
    assert difference is not None
    assert re.search(text, difference)


def test_the_first_difference_is_the_lowest_trade(story: Story) -> None:
    first, second = np.sort(story.log["trade_id"])[[30, 60]]
    story.fills["price"][story.fills["trade_id"] == second] += 1
    story.fills["quantity"][story.fills["trade_id"] == first] += 1
    difference = check_log(story.fills, story.log)
    assert difference is not None
    assert difference.startswith(f"trade {first}: the buy side was told quantity")


def test_the_tally_counts_first_answers(
    tally_and_books: tuple[Tally, list[ReferenceBook], Records],
) -> None:
    tally, _, _ = tally_and_books
    assert tally.answers().total() == 8 * 250
    assert tally.answers()[CommandType.MASS_CANCEL, ExecType.MASS_CANCELED] == 8
    assert tally.answers()[CommandType.NEW, ExecType.NEW] == len(tally.orders())


def test_the_tally_grows_past_its_first_rows() -> None:
    listed = parse_config(CONFIG, "test").listed()
    limits = [BookLimits(i.number, 1, i.max_price, 99_999) for i in listed]
    flow, book = SimulatedFlow(listed, [5], [7]), ReferenceBook(0, limits, 1_000)
    tally = Tally()
    while flow.orders < 20_000:
        tally.add(run(book, flow.chunk(4_000), 20_000, 8_000).reports)
    resting = book.resting()
    left = tally.orders()[tally.orders()["leaves_qty"] > 0]
    assert len(tally.fills()) == 2 * book.counters().trade_sequence
    assert sorted(left["order_id"].tolist()) == sorted(resting["order_id"].tolist())
