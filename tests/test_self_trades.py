"""Orders that do not trade with their own account, on every book, and a public engine's cases.

The cases are orderbook-rs's, where ``SHARDBOOK_DATA`` has them: what it calls a market order is one
that is IOC here, whose remainder is cancelled in either place.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.equality import BOOKS
from bench.truth import Told
from engine.config import ConfigError, parse_config
from ipc.records import account_of
from ipc.vocabulary import (
    PREVENTION_SHIFT,
    ExecType,
    Liquidity,
    OrderType,
    OrdStatus,
    Reason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from ipc.wire.frames import frame
from ipc.wire.messages import Cancel, NewOco, NewOrder
from tests.books import WIDE, Desk, MakeBook, Report, rejected
from tests.kept import plan_of
from tests.test_faults import matcher

BUY, SELL = Side.BUY, Side.SELL
IOC, FOK = TimeInForce.IOC, TimeInForce.FOK
NEWEST, OLDEST = SelfTradePrevention.CANCEL_NEWEST, SelfTradePrevention.CANCEL_OLDEST
BOTH, DECREMENT = SelfTradePrevention.CANCEL_BOTH, SelfTradePrevention.DECREMENT
OTHER = 2
"""An account; that of a desk is 1."""


@pytest.fixture(params=BOOKS)
def make_book(request: pytest.FixtureRequest) -> MakeBook:
    """The constructor of each of both books in turn."""
    return BOOKS[request.param]


Row = dict[str, Any]
Brief = tuple[str, int, int, int, int]


def brief(reports: list[Report]) -> list[Brief]:
    """What happened, to which order, its quantity and leaves_qty, and last_qty."""
    return [
        (ExecType(r.exec_type).name, r.order_id, r.quantity, r.leaves_qty, r.last_qty)
        for r in reports
    ]


def book_of_three(desk: Desk) -> None:
    """Another's order, one of the account's own, and another's again, at one price."""
    desk.new(SELL, 3, 100, account=OTHER)
    desk.new(SELL, 5, 100)
    desk.new(SELL, 4, 100, account=OTHER)


FILL = [("TRADE", 4, 9, 6, 3), ("TRADE", 1, 3, 0, 3)]
THEN = {
    NEWEST: [("CANCELED", 4, 9, 0, 5)],
    OLDEST: [("CANCELED", 2, 5, 0, 5), ("TRADE", 4, 9, 2, 4), ("TRADE", 3, 4, 0, 4)],
    BOTH: [("CANCELED", 2, 5, 0, 5), ("CANCELED", 4, 9, 0, 5)],
    DECREMENT: [
        ("CANCELED", 2, 5, 0, 5), ("REPLACED", 4, 4, 1, 5), ("TRADE", 4, 4, 0, 1),
        ("TRADE", 3, 4, 3, 1),
    ],
}  # fmt: skip
RESTS = {NEWEST: (9, 2), OLDEST: (0, 0), BOTH: (4, 1), DECREMENT: (3, 1)}


@pytest.mark.parametrize("mode", THEN)
def test_each_mode_maker_by_maker(desk: Desk, mode: SelfTradePrevention) -> None:
    book_of_three(desk)
    answer, *reports = desk.new(BUY, 9, 100, self_trade_prevention=mode, request_id=7)
    assert answer.flags == mode << PREVENTION_SHIFT
    assert brief(reports) == FILL + THEN[mode]
    quantity, count = RESTS[mode]
    assert desk.depth(SELL) == ([(100, quantity, count)] if count else [])
    assert desk.depth(BUY) == ([(100, 2, 1)] if mode == OLDEST else [])
    prevented = [report for report in reports if report.reason == Reason.SELF_TRADE]
    assert prevented
    for report in prevented:
        assert report.request_id == (7 if report.order_id == 4 else 0)
        assert (report.last_price, report.trade_id) == (100, 0)
        assert (report.liquidity, report.answers) == (Liquidity.NONE, 0)


def test_a_maker_that_is_larger_loses_as_much_and_keeps_its_place(desk: Desk) -> None:
    desk.new(SELL, 9, 100)
    desk.new(SELL, 1, 100, account=OTHER)
    reports = desk.new(BUY, 4, 100, self_trade_prevention=DECREMENT)
    assert brief(reports[1:]) == [("REPLACED", 1, 5, 5, 4), ("CANCELED", 3, 4, 0, 4)]
    assert desk.queue(SELL) == [1, 2]
    assert desk.depth(BUY) == []


@pytest.mark.parametrize(
    ("mode", "quantity", "fills"),
    [(OLDEST, 7, True), (OLDEST, 8, False), (NEWEST, 3, True), (NEWEST, 4, False),
     (BOTH, 3, True), (BOTH, 4, False), (DECREMENT, 3, True), (DECREMENT, 4, False)],
)  # fmt: skip
def test_fill_or_kill_counts_only_what_it_would_trade_with(
    desk: Desk, mode: SelfTradePrevention, quantity: int, fills: bool
) -> None:
    book_of_three(desk)
    reports = desk.new(BUY, quantity, 100, time_in_force=FOK, self_trade_prevention=mode)
    if fills:
        assert reports[-2].ord_status == OrdStatus.FILLED
        assert reports[-2].order_id == 4
    else:
        assert [report.reason for report in reports] == [0, Reason.FOK_UNFILLED]
        assert desk.depth(SELL) == [(100, 12, 3)]


def test_an_order_keeps_its_mode_and_the_makers_does_not_matter(desk: Desk) -> None:
    desk.new(SELL, 5, 100, self_trade_prevention=BOTH)
    assert brief(desk.new(BUY, 1, 100)[1:]) == [("TRADE", 2, 1, 0, 1), ("TRADE", 1, 5, 4, 1)]
    desk.new(BUY, 5, 90, self_trade_prevention=NEWEST)
    reports = desk.replace(3, 5, 100)
    assert brief(reports[1:]) == [("CANCELED", 3, 5, 0, 4)]
    assert desk.depth(SELL) == [(100, 4, 1)]


def test_it_holds_for_what_triggers(desk: Desk) -> None:
    terms = {"order_type": OrderType.STOP, "stop_price": 100, "self_trade_prevention": NEWEST}
    desk.new(BUY, 5, 0, **terms)
    desk.new(SELL, 1, 100, account=OTHER)
    desk.new(SELL, 5, 101)
    reports = desk.new(BUY, 1, 100, account=OTHER)
    assert brief(reports[3:]) == [("TRIGGERED", 1, 5, 5, 0), ("CANCELED", 1, 5, 0, 5)]
    assert reports[-1].reason == Reason.SELF_TRADE


def test_a_mode_that_is_none_is_refused(desk: Desk) -> None:
    answer = desk.new(BUY, 1, 100, self_trade_prevention=5)
    assert rejected(answer) == Reason.INVALID_SELF_TRADE_PREVENTION


# What an account has by default ------------------------------------------------------------------

KEYS = """
[[keys]]
user_id = "minds"
sha256 = "{}"
self_trade_prevention = "{}"
"""


def test_an_order_that_says_nothing_has_its_accounts_mode(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, KEYS.format("0" * 64, "decrement"))
    told = Told()
    told.open_stream(1, account_of("minds"))
    told.open_stream(2, account_of("other"))
    asks = (SELL, OrderType.LIMIT, TimeInForce.GTC, 100)
    for stream in (1, 2):
        orders = [
            NewOrder(1, 1, 0, *asks, 5),
            NewOrder(1, 2, 0, *asks, 5, self_trade_prevention=NEWEST),
            Cancel(1, 3, 99),
        ]
        told.decoder.feed(b"".join(frame(order, stream) for order in orders))
    told.decoder.feed(frame(NewOco(1, 4, SELL, 0, TimeInForce.GTC, 120, 5, 90), 1))
    with matcher(plan) as one:
        one.handle([told], [told])
        modes = one.book.resting()["flags"] >> PREVENTION_SHIFT & 7
        assert sorted(modes.tolist()) == sorted([DECREMENT, NEWEST, 0, NEWEST, *[DECREMENT] * 2])


def test_a_mode_of_a_key_is_one_there_is_and_the_same_for_its_user() -> None:
    instrument = '[[instruments]]\nsymbol = "A"\ntick_size = "1"\n'
    same = [KEYS.format(digit * 64, "decrement") for digit in "12"]
    assert len(parse_config(instrument + "".join(same), "t").keys) == 2
    wrong = same[0] + KEYS.format("3" * 64, "none")
    with pytest.raises(ConfigError, match=r"keys\[1\].self_trade_prevention.*must be the same"):
        parse_config(instrument + wrong, "t")
    with pytest.raises(ConfigError, match="self_trade_prevention"):
        parse_config(instrument + KEYS.format("3" * 64, "oldest"), "t")


# A public engine's cases -------------------------------------------------------------------------


def read_cases() -> dict[str, list[Row]]:
    directory = os.environ.get("SHARDBOOK_DATA")
    cases: dict[str, list[Row]] = {}
    if directory:
        for line in (Path(directory) / "cases/orderbook-rs.jsonl").read_text().splitlines():
            row = json.loads(line)
            cases.setdefault(row["case"], []).append(row)
    return cases


CASES = read_cases()
SIDES = {"B": BUY, "S": SELL}
STATES = {"open": OrdStatus.NEW, "complete": OrdStatus.FILLED, "cancelled": OrdStatus.CANCELED}
CLAIMS = {"trades", "traded", "open", "states", "state", "filled", "n_total", "bbo"}


class Case:
    """Runs one case at a desk: the last report of each order says how it stands."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.names: dict[int, str] = {}
        self.last: dict[str, Report] = {}
        self.accounts: dict[str, int] = {}

    def run(self, row: Row) -> None:
        account = self.accounts.setdefault(row["owner"], len(self.accounts) + 1)
        market = row["op"] == "market"
        terms = {"order_type": OrderType.MARKET if market else OrderType.LIMIT}
        terms["time_in_force"] = IOC if market else TimeInForce[row["tif"]]
        terms["self_trade_prevention"] = SelfTradePrevention[row.get("stp", "NONE")]
        side, price = SIDES[row["side"]], row.get("price", 0)
        reports = self.desk.new(side, row["qty"], price, account=account, **terms)
        self.names[reports[0].order_id] = row["id"]
        for report in reports:
            self.last[self.names[report.order_id]] = report
        self.check(row["id"], row.get("expect", {}), reports)

    def check(self, name: str, expect: Row, reports: list[Report]) -> None:
        assert expect.keys() <= CLAIMS, f"an expectation that is not understood: {expect}"
        makers = [report for report in reports if report.liquidity == Liquidity.MAKER]
        if "trades" in expect:
            assert [
                {"price": r.last_price, "qty": r.last_qty, "maker": self.names[r.order_id]}
                for r in makers
            ] == expect["trades"]
        if "traded" in expect:
            assert sum(report.last_qty for report in makers) == expect["traded"]
        for other, quantity in expect.get("open", {}).items():
            assert self.last[other].leaves_qty == quantity
        for other, quantity in expect.get("filled", {}).items():
            assert self.last[other].cum_qty == quantity
        states = expect.get("states", {}) | ({name: expect["state"]} if "state" in expect else {})
        for other, state in states.items():
            assert self.last[other].ord_status == STATES[state]
        if "n_total" in expect:
            assert len(self.desk.book.resting()) == expect["n_total"]
        for side, level in expect.get("bbo", {}).items():
            depth = self.desk.depth(BUY if side == "bid" else SELL)
            assert [list(found[:2]) for found in depth[:1]] == ([] if level is None else [level])


@pytest.mark.skipif(not CASES, reason="SHARDBOOK_DATA is not set: it names the public cases")
@pytest.mark.parametrize("name", CASES)
def test_case(make_book: MakeBook, name: str) -> None:
    begin, *rows = CASES[name]
    assert set(begin["needs"]) <= {"STP"}
    assert begin["semantics"]["fok"] == "probe"
    case = Case(Desk(make_book(0, [WIDE], recent_orders=100)))
    for row in rows:
        case.run(row)
