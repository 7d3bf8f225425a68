"""Orders that wait for a stop price, on every book: when they trigger, in which order, and what is
reported of them."""

from collections.abc import Iterator
from decimal import Decimal
from itertools import islice

import numpy as np
import pytest

from bench.drive import Room
from bench.equality import BOOKS as BOTH
from bench.equality import Pair
from bench.flows import PROFILES, Flow
from engine.books.contract import BookLimits, state_hash
from engine.books.rules import SWEEP_ORDERS
from engine.plan import Plan
from engine.shard.snapshotter import take_snapshot
from frontend.client import Client
from frontend.client.errors import OrderRejectedError
from ipc.vocabulary import (
    MAX_PRICE,
    CommandType,
    ExecType,
    Flag,
    OrderType,
    OrdStatus,
    Reason,
    Side,
    TimeInForce,
)
from tests.books import WIDE, Desk, MakeBook, Report, command_array, rejected
from tests.http import API, Http, serving
from tests.product import WAIT_S
from tests.test_http_socket import Ws
from tests.test_recovery import kill_matcher
from tests.test_restore import copy_of
from tests.test_serve import served

BUY, SELL = Side.BUY, Side.SELL
STOP, STOP_LIMIT = OrderType.STOP, OrderType.STOP_LIMIT
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK
KEEP_PRICE, KEEP_QUANTITY = Flag.KEEP_PRICE, Flag.KEEP_QUANTITY
TRIGGERED = Flag.TRIGGERED
OTHER = 9
"""An account whose orders make the market."""

Brief = tuple[str, int, int, int]


@pytest.fixture(params=BOTH)
def make_book(request: pytest.FixtureRequest) -> MakeBook:
    """The constructor of each of both books in turn."""
    return BOTH[request.param]


def brief(reports: list[Report]) -> list[Brief]:
    """What happened, to which order, its leaves_qty, and its last_price."""
    return [(ExecType(r.exec_type).name, r.order_id, r.leaves_qty, r.last_price) for r in reports]


def stop(desk: Desk, side: int, quantity: int, stop_price: int, **fields: int) -> list[Report]:
    terms = {"order_type": STOP, "stop_price": stop_price}
    return desk.new(side, quantity, 0, **(terms | fields))


def stop_limit(
    desk: Desk, side: int, quantity: int, stop_price: int, price: int, **fields: int
) -> list[Report]:
    terms = {"order_type": STOP_LIMIT, "stop_price": stop_price}
    return desk.new(side, quantity, price, **(terms | fields))


def trade_at(desk: Desk, price: int, quantity: int = 1) -> list[Report]:
    """Let others trade at a price; the reports of the order that does."""
    desk.new(SELL, quantity, price, account=OTHER)
    return desk.new(BUY, quantity, price, account=OTHER)


def waiting(desk: Desk) -> list[tuple[int, int]]:
    """order_id and stop price of those that wait."""
    rows = desk.book.resting()
    rows = rows[rows["stop_price"] != 0]
    return list(zip(rows["order_id"].tolist(), rows["stop_price"].tolist(), strict=True))


# Waiting -----------------------------------------------------------------------------------------


def test_a_stop_order_waits_in_no_depth_and_is_listed(desk: Desk) -> None:
    [report] = stop_limit(desk, BUY, 5, 110, 112, client_order_id=3)
    assert (report.exec_type, report.ord_status) == (ExecType.NEW, OrdStatus.NEW)
    assert (report.order_type, report.price, report.last_price) == (STOP_LIMIT, 112, 110)
    assert (report.leaves_qty, report.flags, report.answers) == (5, 0, 1)
    assert desk.depth(BUY) == []
    assert desk.book.resting().tolist() == [
        (1, 1, 3, 112, 5, 0, 1, BUY, 0, STOP_LIMIT, GTC, 0, 110, 0, 0, 0)
    ]


def test_before_the_first_trade_nothing_is_reached(desk: Desk) -> None:
    stop(desk, BUY, 1, 1)
    stop(desk, SELL, 1, 1_000)
    assert waiting(desk) == [(1, 1), (2, 1_000)]
    assert not len(desk.book.last_prices())


@pytest.mark.parametrize(
    ("side", "stop_price", "waits"),
    [(BUY, 100, False), (BUY, 99, False), (BUY, 101, True), (SELL, 100, False), (SELL, 101, False),
     (SELL, 99, True)],
)  # fmt: skip
def test_what_is_true_at_entry_triggers_at_once(
    desk: Desk, side: int, stop_price: int, waits: bool
) -> None:
    trade_at(desk, 100)
    assert desk.book.last_prices().tolist() == [(1, 100)]
    answer, *rest = stop(desk, side, 4, stop_price, request_id=6)
    assert answer.flags == (0 if waits else TRIGGERED)
    if waits:
        assert not rest
        return
    triggered, ended = rest
    assert brief(rest) == [("TRIGGERED", 3, 4, stop_price), ("CANCELED", 3, 0, 0)]
    assert (triggered.request_id, triggered.answers, triggered.flags) == (6, 0, TRIGGERED)
    assert triggered.ord_status == OrdStatus.NEW
    assert (ended.request_id, ended.reason) == (6, Reason.MARKET_REMAINDER)


@pytest.mark.parametrize(
    ("side", "stop_price", "waits"),
    [(SELL, 100, False), (SELL, 99, False), (SELL, 101, True), (BUY, 100, False), (BUY, 101, False),
     (BUY, 99, True)],
)  # fmt: skip
def test_what_is_touched_waits_for_a_better_price(
    desk: Desk, side: int, stop_price: int, waits: bool
) -> None:
    trade_at(desk, 100)
    price = 100 if side == SELL else 98
    reports = stop_limit(desk, side, 4, stop_price, price, order_type=OrderType.LIMIT_IF_TOUCHED)
    assert len(reports) == (1 if waits else 2)
    assert len(stop(desk, side, 1, stop_price, order_type=OrderType.MARKET_IF_TOUCHED)) == (
        1 if waits else 3
    )
    assert [order_id for order_id, _ in waiting(desk)] == ([3, 4] if waits else [])
    if waits:
        assert brief(trade_at(desk, stop_price))[3] == ("TRIGGERED", 3, 4, stop_price)
        assert waiting(desk) == []
        assert desk.depth(side) == [(price, 4, 1)]


def test_both_kinds_wait_for_a_rise_in_one_queue(desk: Desk) -> None:
    trade_at(desk, 100)
    touched = {"order_type": OrderType.LIMIT_IF_TOUCHED}
    stop_limit(desk, BUY, 1, 110, 50)
    stop_limit(desk, SELL, 1, 110, 150, **touched)
    stop_limit(desk, SELL, 1, 105, 150, **touched)
    stop_limit(desk, BUY, 1, 95, 50, **touched)
    stop_limit(desk, SELL, 1, 96, 150)
    assert waiting(desk) == [(5, 105), (3, 110), (4, 110), (7, 96), (6, 95)]
    reports = trade_at(desk, 110)
    triggered = [r.order_id for r in reports if r.exec_type == ExecType.TRIGGERED]
    assert triggered == [5, 3, 4]
    assert desk.depth(SELL) == [(150, 2, 2)]


def test_another_symbols_trade_triggers_nothing(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [WIDE, WIDE._replace(symbol=2)], 9))
    stop(desk, BUY, 1, 100)
    desk.new(SELL, 1, 100, symbol=2)
    assert len(desk.new(BUY, 1, 100, symbol=2)) == 3
    assert waiting(desk) == [(1, 100)]


# Triggering --------------------------------------------------------------------------------------


def test_a_triggered_limit_rests_behind_what_rests_and_takes_part_as_another(desk: Desk) -> None:
    stop_limit(desk, BUY, 5, 100, 98, request_id=4)
    desk.new(BUY, 2, 98, account=OTHER)
    *_, triggered = trade_at(desk, 100)
    assert brief([triggered]) == [("TRIGGERED", 1, 5, 100)]
    assert (triggered.request_id, triggered.account, triggered.sequence) == (0, 1, 4)
    assert desk.queue(BUY) == [2, 1]
    row = desk.book.resting()[1]
    assert (row["order_type"], row["flags"], row["stop_price"]) == (STOP_LIMIT, TRIGGERED, 0)
    fills = desk.new(SELL, 4, 98, account=OTHER)
    assert brief(fills[3:5]) == [("TRADE", 5, 0, 98), ("TRADE", 1, 3, 98)]
    assert fills[4].flags == TRIGGERED
    [replaced] = desk.replace(1, 4, 98)
    assert (replaced.last_price, replaced.flags) == (0, TRIGGERED)
    assert rejected(desk.replace(1, 3, 98, stop_price=90)) == Reason.INVALID_STOP_PRICE


def test_the_command_is_carried_out_whole_before_anything_triggers(desk: Desk) -> None:
    stop(desk, BUY, 3, 101, request_id=8)
    for price in (101, 102, 103):
        desk.new(SELL, 2, price, account=OTHER)
    reports = desk.new(BUY, 4, 105, account=OTHER)
    assert brief(reports) == [
        ("NEW", 5, 4, 0),
        ("TRADE", 5, 2, 101),
        ("TRADE", 2, 0, 101),
        ("TRADE", 5, 0, 102),
        ("TRADE", 3, 0, 102),
        ("TRIGGERED", 1, 3, 101),
        ("TRADE", 1, 1, 103),
        ("TRADE", 4, 0, 103),
        ("CANCELED", 1, 0, 0),
    ]
    assert {report.request_id for report in reports[5:]} == {0}
    assert {report.command_type for report in reports} == {CommandType.NEW}


def test_nearest_stop_price_first_then_the_oldest_and_buy_orders_before_sell_orders(
    desk: Desk,
) -> None:
    trade_at(desk, 100)
    for side, price in ((BUY, 103), (BUY, 102), (BUY, 102), (SELL, 98), (SELL, 99), (SELL, 97)):
        stop_limit(desk, side, 1, price, 50 if side == BUY else 150)
    assert waiting(desk) == [(4, 102), (5, 102), (3, 103), (7, 99), (6, 98), (8, 97)]
    for side, price in ((SELL, 98), (SELL, 103)):
        desk.new(side, 1, price, account=OTHER)
    reports = desk.new(BUY, 2, 103, account=OTHER)
    triggered = [r.order_id for r in reports if r.exec_type == ExecType.TRIGGERED]
    assert triggered == [4, 5, 3, 7, 6]
    assert waiting(desk) == [(8, 97)]


def test_what_a_trigger_trades_triggers_the_next_round(desk: Desk) -> None:
    stop(desk, BUY, 1, 101)
    stop(desk, BUY, 1, 102)
    stop(desk, SELL, 1, 101)  # reached by the trade at 101 as well: of the same round as 1
    for price in (101, 102, 103):
        desk.new(SELL, 1, price, account=OTHER)
    desk.new(BUY, 1, 90, account=OTHER)
    reports = desk.new(BUY, 1, 101, account=OTHER)
    assert brief(reports[3:]) == [
        ("TRIGGERED", 1, 1, 101),
        ("TRADE", 1, 0, 102),
        ("TRADE", 5, 0, 102),
        ("TRIGGERED", 3, 1, 101),
        ("TRADE", 3, 0, 90),
        ("TRADE", 7, 0, 90),
        ("TRIGGERED", 2, 1, 102),
        ("TRADE", 2, 0, 103),
        ("TRADE", 6, 0, 103),
    ]
    assert desk.book.last_prices().tolist() == [(1, 103)]
    assert not len(desk.book.resting())


def test_the_first_trade_of_a_command_counts_as_the_last_does(desk: Desk) -> None:
    trade_at(desk, 110)
    stop_limit(desk, SELL, 1, 100, 200)
    for price in (100, 105):
        desk.new(SELL, 1, price, account=OTHER)
    *_, last = desk.new(BUY, 2, 105, account=OTHER)
    assert brief([last]) == [("TRIGGERED", 3, 1, 100)]


@pytest.mark.parametrize("terms", [{"time_in_force": IOC}, {"time_in_force": FOK}])
def test_time_in_force_counts_from_the_trigger(desk: Desk, terms: dict[str, int]) -> None:
    stop_limit(desk, BUY, 5, 100, 100, **terms)
    desk.new(SELL, 3, 100, account=OTHER)
    reports = desk.new(BUY, 1, 100, account=OTHER)[3:]
    if terms["time_in_force"] == IOC:
        assert [name for name, *_ in brief(reports)] == ["TRIGGERED", "TRADE", "TRADE", "CANCELED"]
        assert reports[-1].reason == Reason.IOC_REMAINDER
    else:
        assert [name for name, *_ in brief(reports)] == ["TRIGGERED", "CANCELED"]
        assert reports[-1].reason == Reason.FOK_UNFILLED
    assert desk.queue(BUY) == []


def test_each_buffer_may_be_full_at_any_point_of_a_cascade(make_book: MakeBook) -> None:
    """The answer itself of an order that triggers at once fills the smallest buffer."""
    flow = Flow(PROFILES["stop_cascades"], 5)
    commands = flow.commands(3_000)
    pair = Pair({f"{room}": make_book(0, PROFILES["stop_cascades"].limits, 50) for room in (2, 9)})
    reports = pair.process(commands, ([Room(2, 1), Room(3, 0)], [Room(4_096, 4_096)])).reports
    assert np.count_nonzero(reports["exec_type"] == ExecType.TRIGGERED) > 100
    pair.check()


# Changes -----------------------------------------------------------------------------------------


def test_it_is_cancelled_by_either_id_and_its_client_order_id_is_taken(desk: Desk) -> None:
    stop(desk, BUY, 5, 110, client_order_id=7)
    assert rejected(desk.new(BUY, 1, 50, client_order_id=7)) == Reason.DUPLICATE_CLIENT_ORDER_ID
    assert rejected(stop(desk, BUY, 1, 110, client_order_id=7)) == Reason.DUPLICATE_CLIENT_ORDER_ID
    assert rejected(desk.cancel(1, account=2)) == Reason.UNKNOWN_ORDER
    [report] = desk.cancel(client_order_id=7)
    assert brief([report]) == [("CANCELED", 1, 0, 110)]
    assert report.reason == Reason.CANCEL_REQUESTED
    assert not len(desk.book.resting())


def test_less_at_the_same_prices_keeps_the_place_and_anything_else_loses_it(desk: Desk) -> None:
    for _ in range(3):
        stop_limit(desk, BUY, 5, 110, 120)
    assert brief(desk.replace(1, 4, 120)) == [("REPLACED", 1, 4, 110)]
    assert brief(desk.reduce(1, 1)) == [("REPLACED", 1, 3, 110)]
    assert waiting(desk) == [(1, 110), (2, 110), (3, 110)]
    desk.replace(1, 6, 120)
    assert waiting(desk) == [(2, 110), (3, 110), (1, 110)]
    desk.replace(2, 4, 121)
    assert waiting(desk) == [(3, 110), (1, 110), (2, 110)]
    desk.replace(3, 4, 120, flags=Flag.REINSERT)
    assert waiting(desk) == [(1, 110), (2, 110), (3, 110)]
    moved = desk.replace(1, 0, 0, stop_price=115, flags=KEEP_PRICE | KEEP_QUANTITY)
    assert brief(moved) == [("REPLACED", 1, 6, 115)]
    assert waiting(desk) == [(2, 110), (3, 110), (1, 115)]
    desk.replace(2, 2, 121, stop_price=112)
    assert waiting(desk) == [(3, 110), (2, 112), (1, 115)]
    assert brief(desk.reduce(1, 6)) == [("CANCELED", 1, 0, 115)]


def test_a_replace_that_reaches_triggers_at_once(desk: Desk) -> None:
    trade_at(desk, 100)
    stop(desk, BUY, 5, 110)
    desk.new(SELL, 1, 105, account=OTHER)
    flags = KEEP_PRICE | KEEP_QUANTITY
    reports = desk.replace(3, 0, 0, stop_price=100, flags=flags, request_id=8)
    assert [name for name, *_ in brief(reports)] == [
        "REPLACED", "TRIGGERED", "TRADE", "TRADE", "CANCELED",
    ]  # fmt: skip
    assert reports[0].flags == TRIGGERED
    assert [report.request_id for report in reports] == [8, 8, 8, 0, 8]


def test_a_price_of_a_stop_order_and_a_stop_price_outside_the_band_are_refused(
    make_book: MakeBook,
) -> None:
    desk = Desk(make_book(0, [BookLimits(1, 50, 150, 9)], 9))
    stop(desk, BUY, 5, 110)
    stop_limit(desk, BUY, 5, 110, 120)
    assert rejected(desk.replace(1, 5, 100)) == Reason.INVALID_PRICE
    for stop_price in (49, 151, 2**63, 2**64 - 1):
        both = {"stop_price": stop_price}
        answer = desk.replace(1, 0, 0, flags=KEEP_PRICE | KEEP_QUANTITY, **both)
        assert rejected(answer) == Reason.INVALID_STOP_PRICE
        assert rejected(stop(desk, BUY, 5, **both)) == Reason.INVALID_STOP_PRICE
    assert rejected(desk.replace(2, 5, 151)) == Reason.PRICE_OUT_OF_BAND
    assert rejected(stop_limit(desk, BUY, 5, 100, 151)) == Reason.PRICE_OUT_OF_BAND
    assert rejected(stop(desk, BUY, 5, 0)) == Reason.INVALID_STOP_PRICE
    priced = desk.new(BUY, 5, 100, order_type=STOP, stop_price=100)
    assert rejected(priced) == Reason.INVALID_PRICE
    assert rejected(stop(desk, BUY, 5, 100, flags=Flag.POST_ONLY)) == Reason.INVALID_POST_ONLY
    for terms in ({"order_type": OrderType.MARKET, "price": 0}, {"price": 100}):
        answer = desk.new(BUY, 5, **({"stop_price": 100} | terms))
        assert rejected(answer) == Reason.INVALID_STOP_PRICE
    assert waiting(desk) == [(1, 110), (2, 110)]


def test_they_count_for_the_bounds(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [BookLimits(1, 1, MAX_PRICE, 4, 3)], 9))
    desk.new(BUY, 1, 50)
    stop(desk, BUY, 1, 110)
    stop(desk, BUY, 1, 120)
    assert rejected(stop(desk, SELL, 1, 40)) == Reason.TOO_MANY_ORDERS
    assert rejected(desk.new(BUY, 1, 40)) == Reason.TOO_MANY_ORDERS
    stop(desk, SELL, 1, 40, account=2)
    assert rejected(stop(desk, SELL, 1, 41, account=3)) == Reason.BOOK_FULL
    assert rejected(desk.new(BUY, 1, 41, account=3)) == Reason.BOOK_FULL
    desk.cancel(2)
    assert len(stop_limit(desk, BUY, 1, 130, 130)) == 1
    *_, ended = desk.new(SELL, 1, 50, time_in_force=IOC, account=3)
    assert ended.exec_type == ExecType.TRADE
    assert len(desk.new(BUY, 1, 20, account=3)) == 1


# Mass cancels ------------------------------------------------------------------------------------


def test_a_mass_cancel_takes_them_after_what_rests_as_they_would_trigger(desk: Desk) -> None:
    stop(desk, SELL, 1, 40)
    stop(desk, BUY, 1, 120)
    stop(desk, BUY, 1, 110)
    stop(desk, BUY, 1, 110, account=2)
    desk.new(SELL, 1, 130)
    reports = desk.mass_cancel(symbol=0)
    assert brief(reports[:-1]) == [
        ("CANCELED", 5, 0, 0),
        ("CANCELED", 3, 0, 110),
        ("CANCELED", 2, 0, 120),
        ("CANCELED", 1, 0, 40),
    ]
    assert {report.reason for report in reports[:-1]} == {Reason.MASS_CANCEL}
    assert reports[-1].quantity == 4
    assert waiting(desk) == [(4, 110)]


def test_what_triggers_behind_a_mass_cancel_that_is_under_way_is_taken_all_the_same(
    make_book: MakeBook,
) -> None:
    desk = Desk(make_book(0, [WIDE], 9))
    stop_limit(desk, BUY, 1, 200, 150)
    for _ in range(SWEEP_ORDERS + 5):
        desk.new(BUY, 1, 100, account=OTHER)
    assert desk.mass_cancel(symbol=0) == []
    assert rejected(desk.cancel(1)) == Reason.UNKNOWN_ORDER
    assert brief(trade_at(desk, 200))[-1] == ("TRIGGERED", 1, 1, 200)
    assert desk.queue(BUY)[0] == 1
    parts = []
    while desk.book.sweeping:
        parts += desk.mass_cancel(account=0, flags=Flag.CONTINUE)
    assert brief(parts[:-1]) == [("CANCELED", 1, 0, 0)]
    assert parts[-1].quantity == 1


# State -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", BOTH)
@pytest.mark.parametrize("target", BOTH)
def test_what_waits_goes_on_in_a_copy(source: str, target: str) -> None:
    desk = Desk(BOTH[source](0, [WIDE], 9))
    trade_at(desk, 100)
    stop(desk, BUY, 1, 110, client_order_id=4)
    stop_limit(desk, SELL, 1, 90, 80)
    copy = Desk(copy_of(desk.book, BOTH[target], [WIDE], 9))
    copy.book.check()
    assert state_hash(copy.book) == state_hash(desk.book)
    for one in (desk, copy):
        assert rejected(one.new(BUY, 1, 5, client_order_id=4)) == Reason.DUPLICATE_CLIENT_ORDER_ID
        assert len(stop(one, BUY, 1, 100)) == 3, "the last price is part of the state"
        assert brief(trade_at(one, 90))[-1] == ("TRIGGERED", 4, 1, 90)
    assert state_hash(copy.book) == state_hash(desk.book)


def test_a_book_that_grows_keeps_those_that_wait(make_book: MakeBook) -> None:
    book = make_book(0, [WIDE], 100)
    count = 5_000
    rows = [
        {
            "command_type": CommandType.NEW, "symbol": 1, "account": n % 7 + 1, "quantity": 1,
            "client_order_id": n, "side": BUY, "order_type": STOP, "time_in_force": GTC,
            "stop_price": 1_000 + n * 7_919 % 100_003, "timestamp_ns": 1,
        }
        for n in range(1, count + 1)
    ]  # fmt: skip
    desk = Desk(book)
    for start in range(0, count, 1_000):
        desk.enter(command_array(rows[start : start + 1_000]))
    assert [price for _, price in waiting(desk)] == sorted(row["stop_price"] for row in rows)
    assert len(trade_at(desk, 200_000)) == 3 + 2 * count
    assert not len(book.resting())


# The product -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    with serving() as plan:
        yield plan


def test_over_rest_it_waits_is_shown_replaced_and_triggered(plan: Plan) -> None:
    with Http(plan) as http:
        http.order("mm", "sell", 1, 100, symbol="AA")
        terms = {"symbol": "AA", "order_type": "stop_limit", "stop_price": 100.5}
        waits = http.order("al", "buy", 3, 101, client_order_id=5, **terms)
        assert (waits["status"], waits["trades"]) == ("OPEN", [])
        order_id = waits["order_id"]
        shown = http.get(f"{API}/orders/{order_id}")["order"]
        assert (shown["order_type"], shown["stop_price"]) == ("STOP_LIMIT", Decimal("100.5"))
        assert (shown["price"], shown["triggered"]) == (101, False)
        assert http.get(f"{API}/orderbook?symbol=AA")["bids"] == []
        moved = http.call("PATCH", f"{API}/orders/{order_id}", {"stop_price": "100.25"})
        assert (moved.status, moved.body["status"]) == (200, "OPEN")
        assert http.get(f"{API}/orders/{order_id}")["order"]["stop_price"] == Decimal("100.25")
        http.order("mm", "sell", 1, 100.25, symbol="AA")
        http.order("mm", "buy", 2, 100.25, symbol="AA")
        shown = http.get(f"{API}/orders/{order_id}")["order"]
        assert (shown["status"], shown["triggered"]) == ("OPEN", True)
        assert shown["stop_price"] == Decimal("100.25")
        assert [row["order_id"] for row in http.get(f"{API}/orders?user_id=al")["orders"]] == [
            order_id
        ]
        stop = {"symbol": "AA", "order_type": "stop", "stop_price": 100}
        at_once = http.order("mm", "sell", 1, **(stop | {"stop_price": 101}))
        assert (at_once["status"], at_once["filled_quantity"]) == ("FILLED", 1)
        for wrong, field in (
            ({"stop_price": 0}, "stop_price"),
            ({"stop_price": None}, "stop_price"),
            ({"price": 5}, "price"),
            ({"order_type": "market"}, "stop_price"),
        ):
            body = {"user_id": "al", "side": "sell", "quantity": 1} | stop | wrong
            reply = http.call("POST", f"{API}/orders", body)
            assert reply.status == 400, reply.body
            assert field in str(reply.body["error"])
        http.call("DELETE", f"{API}/orders?user_id=al")


def test_a_client_hears_that_its_order_triggers(plan: Plan) -> None:
    address = f"unix:{plan.addresses()[0].path}"
    with Client(address, user_id="one") as one, Client(address, user_id="other") as other:
        other.submit("BB", "sell", 2, price="7.00")
        stop = one.submit("BB", "buy", 1, order_type="stop", stop_price="7.00")
        assert (stop.stop_price, stop.triggered, stop.price) == (7, False, 0)
        other.submit("BB", "buy", 1, order_type="market")
        reports = list(islice(one.reports(WAIT_S), 2))
        assert [report.exec_type for report in reports] == [ExecType.TRIGGERED, ExecType.TRADE]
        assert reports[0].stop_price == 7
        assert (reports[1].last_price, reports[1].stop_price) == (7, 0)
        state = one.order(stop.order_id)
        assert (state.stop_price, state.triggered) == (7, True)
        with pytest.raises(OrderRejectedError, match="INVALID_STOP_PRICE"):
            one.submit("BB", "buy", 1, price="7.00", stop_price="8.00")


def test_lists_over_rest_the_websocket_and_the_client(plan: Plan) -> None:
    address = f"unix:{plan.addresses()[0].path}"
    with Client(address, user_id="one") as one, Http(plan) as http:
        http.call("DELETE", f"{API}/orders?user_id=mm")
        body = {"user_id": "al", "symbol": "AA", "list_type": "bracket", "side": "buy"}
        exits = {"take_price": 55, "stop_price": 45, "client_order_id": 700}
        made = http.post(f"{API}/orders/list", body | exits | {"price": 50, "quantity": 3})
        first, *held = made["order_ids"]
        assert (made["status"], held, made["order_id"]) == ("OPEN", [first + 1, first + 2], first)
        shown = [http.get(f"{API}/orders/{one}")["order"] for one in held]
        assert [(row["order_type"], row["side"], row["stop_price"]) for row in shown] == [
            *(("LIMIT", "SELL", None), ("STOP", "SELL", 45)),
        ]
        assert [row["client_order_id"] for row in shown] == [701, 702]
        assert http.get(f"{API}/orderbook?symbol=AA")["asks"] == []
        with Ws(plan) as ws:
            ws.subscribe("orders", user_id="al")
            one.submit("AA", "sell", 3, price="50.00")
            events = [ws.receive() for _ in range(3)]
            assert [(event["type"], event["order_id"]) for event in events] == [
                *(("trade", first), ("triggered", held[0]), ("triggered", held[1])),
            ]
            one.submit("AA", "buy", 1, price="55.00")
            events = [ws.receive() for _ in range(2)]
            assert [(event["type"], event["remaining_quantity"]) for event in events] == [
                *(("trade", 2), ("replaced", 2)),
            ]
            order = {"user_id": "al", "symbol": "BB", "list_type": "oco", "side": "sell"}
            order |= {"quantity": 1, "price": 9, "stop_price": 5}
            ws.send(op="order_list", order=order)
            told = next(m["result"] for m in iter(ws.receive, None) if m["type"] == "result")
            assert len(told["order_ids"]) == 2
        reply = http.call("PATCH", f"{API}/orders/{held[0]}", {"quantity": 1})
        assert (reply.status, reply.body["error"]["code"]) == (409, "LINKED_ORDER")
        moved = http.call("PATCH", f"{API}/orders/{held[0]}", {"price": 56})
        assert (moved.status, moved.body["remaining_quantity"]) == (200, 2)
        http.call("DELETE", f"{API}/orders/{held[1]}")
        shown = http.get(f"{API}/orders/{held[0]}")["order"]
        assert (shown["status"], shown["reason"]) == ("CANCELLED", "LINKED")
        for wrong, field in (
            ({"list_type": "x"}, "list_type"),
            ({"take_price": 0}, "take_price"),
            ({"stop_limit_price": 1, "stop_price": None}, "stop_price"),
            ({"list_type": "oco"}, "list_type"),
        ):
            reply = http.call(
                "POST", f"{API}/orders/list", body | exits | {"quantity": 1, "price": 50} | wrong
            )
            assert reply.status == 400, reply.body
            assert field in str(reply.body["error"])
        pair = one.submit_oco("BB", "buy", 2, "3.00", "9.50", client_order_id=40)
        assert (pair.client_order_id, pair.price) == (40, 3)
        with pytest.raises(OrderRejectedError, match="INVALID_LIST"):
            one.submit_bracket("BB", "buy", 1, "3.00")
        one.cancel(symbol="BB", client_order_id=41)
        assert one.order(pair.order_id).ord_status == OrdStatus.CANCELED


def test_what_waits_comes_back_after_the_death_of_its_matcher_and_from_a_snapshot(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with served(tmp_path_factory.mktemp("s")) as serving_product:
        plan = serving_product.plan
        address = f"unix:{plan.addresses()[0].path}"
        with Client(address, user_id="one") as one:
            one.submit("AA", "sell", 1, price="7.00")
            one.submit("AA", "buy", 1, order_type="market")
            stop = one.submit("AA", "buy", 1, order_type="stop_limit", stop_price="8", price="9")
            bracket = one.submit_bracket(
                "AA", "buy", 2, "5.00", take_price="6.00", stop_price="4.00", client_order_id=60
            )
        kill_matcher(serving_product)
        take_snapshot(plan, 0)
        kill_matcher(serving_product)
        with Client(address, user_id="one") as one:
            state = one.order(stop.order_id)
            assert (state.stop_price, state.triggered) == (8, False)
            at_once = one.submit("AA", "sell", 1, order_type="stop", stop_price="7")
            assert at_once.triggered, "the last price is known still"
            one.submit("AA", "sell", 1, price="8.00")
            one.submit("AA", "buy", 1, order_type="market")
            assert one.order(stop.order_id).triggered
            one.submit("AA", "sell", 2, price="5.00")
            take, loss = (one.order(bracket.order_id + n) for n in (1, 2))
            assert (take.client_order_id, loss.client_order_id) == (61, 62)
            assert one.book("AA").asks[0].price == 6
            one.cancel(loss.order_id)
            assert one.order(take.order_id).ord_status == OrdStatus.CANCELED
