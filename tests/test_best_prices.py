"""Orders whose limit comes of the best price as they enter, and minimum quantities, on every book;
and a public venue's examples.

Those are Euronext's, where ``SHARDBOOK_DATA`` has them: what needs more than is here, auctions and
market orders that rest, is skipped by name.
"""

import json
import os
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from bench.equality import BOOKS as BOTH
from engine.books.contract import BookLimits
from frontend.client import Client
from ipc.vocabulary import (
    MAX_PRICE,
    ExecType,
    Flag,
    Liquidity,
    OrderType,
    OrdStatus,
    Reason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from tests.books import WIDE, Desk, MakeBook, Report, rejected
from tests.http import API, Http, serving
from tests.product import WAIT_S

BUY, SELL = Side.BUY, Side.SELL
TO_LIMIT, PROTECTED = OrderType.MARKET_TO_LIMIT, OrderType.MARKET_WITH_PROTECTION
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK
OTHER = 9


@pytest.fixture(params=BOTH)
def make_book(request: pytest.FixtureRequest) -> MakeBook:
    """The constructor of each of both books in turn."""
    return BOTH[request.param]


def fills(reports: list[Report]) -> list[tuple[int, int]]:
    """Price and quantity of each trade."""
    return [(r.last_price, r.last_qty) for r in reports if r.liquidity == Liquidity.MAKER]


def asks(desk: Desk, *prices: int) -> None:
    for price in prices:
        desk.new(SELL, 10, price, account=OTHER)


@pytest.mark.parametrize("side", [BUY, SELL])
def test_what_is_left_of_market_to_limit_rests_at_the_best_price(desk: Desk, side: int) -> None:
    sign = 1 if side == BUY else -1
    for price in (100, 100 + sign):
        desk.new(SELL if side == BUY else BUY, 10, price, account=OTHER)
    answer, *reports = desk.new(side, 15, 0, order_type=TO_LIMIT)
    assert (answer.price, answer.order_type, answer.leaves_qty) == (100, TO_LIMIT, 15)
    assert fills(reports) == [(100, 10)]
    assert desk.depth(side) == [(100, 5, 1)]
    [moved] = desk.replace(3, 15, 100 - sign)
    assert (moved.price, moved.leaves_qty) == (100 - sign, 5)


@pytest.mark.parametrize("order_type", [TO_LIMIT, PROTECTED])
def test_without_a_best_price_it_ends(desk: Desk, order_type: int) -> None:
    price = 0 if order_type == TO_LIMIT else 5
    answer, ended = desk.new(BUY, 5, price, order_type=order_type, time_in_force=IOC)
    assert (answer.exec_type, answer.leaves_qty) == (ExecType.NEW, 5)
    assert (ended.exec_type, ended.reason) == (ExecType.CANCELED, Reason.MARKET_REMAINDER)
    answer, ended = desk.new(BUY, 5, 0, order_type=TO_LIMIT, display_quantity=2)
    assert (answer.flags, ended.flags, ended.last_qty) == (Flag.RARE, Flag.RARE, 2)
    assert not len(desk.book.resting())


def test_market_to_limit_shows_a_part_and_expires_like_others(desk: Desk) -> None:
    asks(desk, 100)
    terms = {"time_in_force": TimeInForce.GTD, "expire_time_ns": 2**62, "display_quantity": 2}
    reports = desk.new(BUY, 15, 0, order_type=TO_LIMIT, **terms)
    assert fills(reports) == [(100, 10)]
    assert desk.depth(BUY) == [(100, 2, 1)]
    assert desk.book.next_expiry_ns == 2**62


@pytest.mark.parametrize(("distance", "traded"), [(1, 20), (2, 30), (MAX_PRICE, 40)])
def test_market_with_protection_goes_no_further(desk: Desk, distance: int, traded: int) -> None:
    asks(desk, 100, 101, 102, 103)
    answer, *reports = desk.new(BUY, 99, distance, order_type=PROTECTED, time_in_force=IOC)
    assert answer.price == min(100 + distance, MAX_PRICE)
    assert sum(quantity for _, quantity in fills(reports)) == traded
    assert (reports[-1].exec_type, reports[-1].reason) == (
        ExecType.CANCELED,
        Reason.IOC_REMAINDER,
    )


def test_a_protected_sell_order_stops_at_the_lowest_price(desk: Desk) -> None:
    desk.new(BUY, 5, 3, account=OTHER)
    answer, *_ = desk.new(SELL, 5, 9, order_type=PROTECTED, time_in_force=FOK)
    assert answer.price == 1


def test_terms_that_do_not_go_with_them_are_refused(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [BookLimits(1, 50, 150, 9)], 9))
    priced = desk.new(BUY, 5, 100, order_type=TO_LIMIT)
    assert rejected(priced) == Reason.INVALID_PRICE
    assert rejected(desk.new(BUY, 5, 0, order_type=PROTECTED, time_in_force=IOC)) == (
        Reason.INVALID_PRICE
    )
    for time in (TimeInForce.DAY, GTC):
        wrong = desk.new(BUY, 5, 5, order_type=PROTECTED, time_in_force=time)
        assert rejected(wrong) == Reason.INVALID_TIME_IN_FORCE
    stop = desk.new(BUY, 5, 0, order_type=TO_LIMIT, stop_price=100)
    assert rejected(stop) == Reason.INVALID_STOP_PRICE
    post = desk.new(BUY, 5, 0, order_type=TO_LIMIT, flags=Flag.POST_ONLY)
    assert rejected(post) == Reason.INVALID_POST_ONLY
    refused = Reason.INVALID_MINIMUM_QUANTITY
    for least in (6, 2**63):
        assert rejected(desk.new(BUY, 5, 100, time_in_force=IOC, minimum_quantity=least)) == refused
    for time in (GTC, FOK):
        assert rejected(desk.new(BUY, 5, 100, time_in_force=time, minimum_quantity=2)) == refused
    stop_order = {"order_type": OrderType.STOP, "stop_price": 100, "time_in_force": IOC}
    assert rejected(desk.new(BUY, 5, 0, minimum_quantity=2, **stop_order)) == refused


@pytest.mark.parametrize(("least", "traded"), [(20, 20), (21, 0)])
@pytest.mark.parametrize(
    "terms",
    [
        {"price": 101},
        {"price": 0, "order_type": OrderType.MARKET},
        {"price": 1, "order_type": PROTECTED},
    ],
)
def test_less_than_the_minimum_does_not_trade(
    desk: Desk, least: int, traded: int, terms: dict[str, int]
) -> None:
    asks(desk, 100, 101)
    market = terms.get("order_type") == OrderType.MARKET
    if not market:
        asks(desk, 102)
    what = {"time_in_force": IOC, "minimum_quantity": least} | terms
    answer, *reports = desk.new(BUY, 99, **what)
    assert sum(quantity for _, quantity in fills(reports)) == traded
    last = reports[-1]
    remainder = Reason.MARKET_REMAINDER if market else Reason.IOC_REMAINDER
    assert (last.exec_type, last.ord_status) == (ExecType.CANCELED, OrdStatus.CANCELED)
    assert last.reason == (remainder if traded else Reason.MINIMUM_UNFILLED)
    assert (answer.leaves_qty, last.cum_qty) == (99, traded)


def test_a_minimum_counts_what_is_hidden_and_nothing_of_the_account(desk: Desk) -> None:
    desk.new(SELL, 10, 100, account=OTHER, display_quantity=1)
    desk.new(SELL, 10, 101)
    terms = {
        "time_in_force": IOC,
        "self_trade_prevention": SelfTradePrevention.CANCEL_OLDEST,
    }
    *_, last = desk.new(BUY, 15, 101, minimum_quantity=11, **terms)
    assert last.reason == Reason.MINIMUM_UNFILLED
    reports = desk.new(BUY, 10, 101, minimum_quantity=10, **terms)
    assert len(fills(reports)) == 10


# A public venue's examples -----------------------------------------------------------------------

Row = dict[str, Any]
SIDES = {"B": BUY, "S": SELL}
OFFERED = {"MTL"}


def read_cases() -> dict[str, list[Row]]:
    directory = os.environ.get("SHARDBOOK_DATA")
    cases: dict[str, list[Row]] = {}
    if directory:
        for line in (Path(directory) / "cases/euronext.jsonl").read_text().splitlines():
            row = json.loads(line)
            cases.setdefault(row["case"], []).append(row)
    return cases


CASES = read_cases()


class Case:
    """Runs one case at a desk; owners are accounts."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.accounts: dict[str, int] = {}
        self.owners: dict[int, str] = {}
        self.trades: list[Row] = []

    def run(self, row: Row) -> None:
        if row["op"] == "check":
            self.check(row["expect"])
        elif row["op"] in ("limit", "market"):
            self.enter(row)
        else:
            assert row["op"] == "reference" or row["phase"] == "OPEN", row

    def enter(self, row: Row) -> None:
        account = self.accounts.setdefault(row["owner"], len(self.accounts) + 1)
        assert row["op"] == "limit" or row["mtl"]
        terms = {} if row["op"] == "limit" else {"order_type": TO_LIMIT}
        assert row["tif"] == "GTC"
        side, price = SIDES[row["side"]], row.get("price", 0)
        reports = self.desk.new(side, row["qty"], price, account=account, **terms)
        self.owners[reports[0].order_id] = row["owner"]
        pairs = zip(reports[1::2], reports[2::2], strict=True)
        for taker, maker in pairs:
            bought, sold = (taker, maker) if side == BUY else (maker, taker)
            self.trades.append(
                {
                    "buy_owner": self.owners[bought.order_id],
                    "sell_owner": self.owners[sold.order_id],
                    "qty": taker.last_qty,
                    "price": taker.last_price,
                }
            )

    def check(self, expect: Row) -> None:
        assert expect.keys() <= {"trades_since", "queue"}
        if "trades_since" in expect:
            assert self.trades == expect["trades_since"]
            self.trades = []
        for name, orders in expect.get("queue", {}).items():
            side = BUY if name == "bids" else SELL
            rows = self.desk.book.resting()
            rows = rows[rows["side"] == side]
            found = [
                [int(row["price"]), int(row["leaves_qty"]), self.owners[int(row["order_id"])]]
                for row in rows
            ]
            assert found == orders, name


@pytest.mark.skipif(not CASES, reason="SHARDBOOK_DATA is not set: it names the recorded data")
@pytest.mark.parametrize("name", CASES)
def test_public_case(make_book: MakeBook, name: str) -> None:
    begin, *rows = CASES[name]
    if missing := set(begin["needs"]) - OFFERED:
        pytest.skip(f"needs {', '.join(sorted(missing))}, which no book here has")
    case = Case(Desk(make_book(0, [WIDE], recent_orders=100)))
    for row in rows:
        case.run(row)


# The product -------------------------------------------------------------------------------------


def test_in_the_product_over_rest_and_the_socket() -> None:
    with serving(workers=1) as plan, Http(plan) as http:
        http.order("mm", "sell", 1, 100, symbol="AA")
        http.order("mm", "sell", 1, 101, symbol="AA")
        terms = {"symbol": "AA", "order_type": "market_to_limit"}
        made = http.order("al", "buy", 3, **terms)
        assert (made["status"], made["filled_quantity"], made["remaining_quantity"]) == (
            "PARTIAL",
            1,
            2,
        )
        [bid] = http.get(f"{API}/orderbook?symbol=AA")["bids"]
        assert (bid["price"], bid["quantity"]) == (100, 2)
        least = {"symbol": "AA", "time_in_force": "ioc", "minimum_quantity": 2}
        none = http.order("al", "buy", 5, 101, **least)
        assert (none["status"], none["reason"]) == ("CANCELLED", "MINIMUM_UNFILLED")
        with Client(f"unix:{plan.addresses()[0].path}", user_id="one") as one:
            near = {"order_type": "market_with_protection", "time_in_force": "ioc"}
            order = one.submit("AA", "buy", 5, price="0.50", **near)
            assert order.price == Decimal("101.50")
            one.submit("AA", "sell", 5, price="99.00", time_in_force="ioc", minimum_quantity=3)
            told = [(r.exec_type, r.reason) for r in islice(one.reports(WAIT_S), 3)]
            assert told == [
                (ExecType.TRADE, Reason.NONE),
                (ExecType.CANCELED, Reason.IOC_REMAINDER),
                (ExecType.CANCELED, Reason.MINIMUM_UNFILLED),
            ]
