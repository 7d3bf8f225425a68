"""Icebergs on every book: what is shown, in which order parts trade, what keeps its place; and one
in a running product, over the socket, REST, its death and a snapshot."""

from decimal import Decimal

import pytest

from bench.equality import BOOKS as BOTH
from engine.books.contract import BookLimits, state_hash
from engine.books.rules import MAX_PARTS, SWEEP_ORDERS
from engine.shard.snapshotter import take_snapshot
from frontend.client import Client
from frontend.client.errors import OrderRejectedError
from ipc.vocabulary import (
    MAX_QUANTITY,
    ExecType,
    Flag,
    OrderType,
    Reason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from tests.books import WIDE, Desk, MakeBook, Report, command_array, rejected
from tests.http import API, Http, free_port, http_section
from tests.test_recovery import kill_matcher
from tests.test_restore import copy_of
from tests.test_serve import Served, served

BUY, SELL = Side.BUY, Side.SELL
IOC, FOK = TimeInForce.IOC, TimeInForce.FOK
RARE, REINSERT = Flag.RARE, Flag.REINSERT
KEEP_BOTH = Flag.KEEP_PRICE | Flag.KEEP_QUANTITY
OTHER = 9
"""An account whose orders meet those of account 1."""

Brief = tuple[str, int, int, int]


@pytest.fixture(params=BOTH)
def make_book(request: pytest.FixtureRequest) -> MakeBook:
    """The constructor of each of both books in turn."""
    return BOTH[request.param]


def brief(reports: list[Report]) -> list[Brief]:
    """What happened, to which order, its leaves_qty, and last_qty."""
    return [(ExecType(r.exec_type).name, r.order_id, r.leaves_qty, r.last_qty) for r in reports]


def makers(reports: list[Report]) -> list[tuple[int, int]]:
    """order_id and quantity of each trade's maker."""
    return [(r.order_id, r.last_qty) for r in reports[1:] if r.trade_id and not r.request_id]


def iceberg(
    desk: Desk, side: int, quantity: int, price: int, shown: int, **fields: int
) -> list[Report]:
    return desk.new(side, quantity, price, display_quantity=shown, **fields)


def take(desk: Desk, side: int, quantity: int, price: int = 100, **fields: int) -> list[Report]:
    return desk.new(side, quantity, price, account=OTHER, time_in_force=IOC, **fields)


def parts(desk: Desk) -> list[tuple[int, int, int]]:
    """order_id, what is open and what is shown of each order, in priority."""
    rows = desk.book.resting()
    columns = (rows[name].tolist() for name in ("order_id", "leaves_qty", "shown_quantity"))
    return list(zip(*columns, strict=True))


# Parts -------------------------------------------------------------------------------------------


def test_it_takes_with_all_it_has_and_then_shows_a_part(desk: Desk) -> None:
    desk.new(SELL, 4, 100, account=OTHER)
    answer, *fills = iceberg(desk, BUY, 10, 100, 3, client_order_id=7)
    assert (answer.flags, answer.leaves_qty, answer.last_qty) == (RARE, 10, 3)
    assert brief(fills) == [("TRADE", 2, 6, 4), ("TRADE", 1, 0, 4)]
    assert desk.depth(BUY) == [(100, 3, 1)]
    assert desk.book.resting().tolist() == [
        (2, 1, 7, 100, 6, 4, 1, BUY, RARE, OrderType.LIMIT, TimeInForce.GTC, 0, 0, 3, 3, 0)
    ]


def test_a_taker_meets_all_that_is_shown_and_then_new_parts_as_they_ran_out(desk: Desk) -> None:
    iceberg(desk, SELL, 7, 100, 2)
    desk.new(SELL, 1, 100)
    iceberg(desk, SELL, 9, 100, 4)
    desk.new(SELL, 50, 101)
    reports = take(desk, BUY, 12)
    assert makers(reports) == [(1, 2), (2, 1), (3, 4), (1, 2), (3, 3)]
    assert brief(reports)[1:3] == [("TRADE", 5, 10, 2), ("TRADE", 1, 5, 2)]
    assert parts(desk) == [(3, 2, 1), (1, 3, 2), (4, 50, 0)]
    assert desk.depth(SELL) == [(100, 3, 2), (101, 50, 1)]
    assert makers(take(desk, BUY, 60, 101)) == [(3, 1), (1, 2), (3, 1), (1, 1), (4, 50)]
    assert parts(desk) == []


def test_alone_at_its_price_it_shows_part_after_part(desk: Desk) -> None:
    iceberg(desk, SELL, 5, 100, 2)
    assert makers(take(desk, BUY, 3)) == [(1, 2), (1, 1)]
    assert parts(desk) == [(1, 2, 1)]
    *_, last = take(desk, BUY, 9)
    assert (last.exec_type, last.reason, last.leaves_qty) == (
        ExecType.CANCELED,
        Reason.IOC_REMAINDER,
        0,
    )


def test_a_part_trades_with_a_part(desk: Desk) -> None:
    iceberg(desk, SELL, 5, 100, 2)
    reports = iceberg(desk, BUY, 9, 100, 4, account=OTHER)
    assert makers(reports) == [(1, 2), (1, 2), (1, 1)]
    assert parts(desk) == [(2, 4, 4)]


@pytest.mark.parametrize(("quantity", "filled"), [(16, True), (17, False)])
def test_fill_or_kill_counts_what_is_hidden(desk: Desk, quantity: int, filled: bool) -> None:
    iceberg(desk, SELL, 9, 100, 1)
    iceberg(desk, SELL, 7, 101, 5)
    *_, last = desk.new(BUY, quantity, 101, account=OTHER, time_in_force=FOK)
    assert (last.reason == Reason.FOK_UNFILLED) != filled
    assert (parts(desk) == []) == filled


# Changes -----------------------------------------------------------------------------------------


def test_less_takes_what_is_hidden_first_and_keeps_the_place(desk: Desk) -> None:
    iceberg(desk, SELL, 10, 100, 3)
    desk.new(SELL, 1, 100)
    assert brief(desk.reduce(1, 5)) == [("REPLACED", 1, 5, 3)]
    assert parts(desk) == [(1, 5, 3), (2, 1, 0)]
    assert brief(desk.replace(1, 4, 100)) == [("REPLACED", 1, 4, 3)]
    assert brief(desk.reduce(1, 2)) == [("REPLACED", 1, 2, 3)]
    assert parts(desk) == [(1, 2, 2), (2, 1, 0)]
    assert desk.depth(SELL) == [(100, 3, 2)]
    assert brief(desk.reduce(1, 2)) == [("CANCELED", 1, 0, 3)]


@pytest.mark.parametrize(
    "change",
    [{"quantity": 11}, {"price": 99}, {"display_quantity": 4}, {"flags": REINSERT, "quantity": 9}],
)
def test_more_another_price_or_another_part_lose_the_place(
    desk: Desk, change: dict[str, int]
) -> None:
    iceberg(desk, BUY, 10, 100, 3)
    desk.new(BUY, 1, 100)
    desk.new(BUY, 1, 99)
    take(desk, SELL, 2)
    fields = {"quantity": 10, "price": 100} | change
    [report] = desk.replace(1, **fields)
    shown = change.get("display_quantity", 3)
    left = fields["quantity"] - (0 if "flags" in change else 2)
    assert brief([report]) == [("REPLACED", 1, left, shown)]
    assert [order for order, _, part in parts(desk) if part == 0] == [2, 3]
    assert desk.queue(BUY)[1 if fields["price"] == 100 else 2] == 1
    assert parts(desk)[1 if fields["price"] == 100 else 2][2] == shown


def test_what_is_replaced_alone_keeps_all_else(desk: Desk) -> None:
    iceberg(desk, BUY, 10, 100, 3)
    [report] = desk.replace(1, 0, 0, flags=KEEP_BOTH, display_quantity=5)
    assert (report.price, report.quantity, report.last_qty) == (100, 10, 5)
    assert parts(desk) == [(1, 10, 5)]


def test_a_part_that_cannot_be_is_refused(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [BookLimits(1, 1, 200, 9)], 9))
    refused = Reason.INVALID_DISPLAY_QUANTITY
    for shown in (6, MAX_QUANTITY + 1, 2**63, 2**64 - 1):
        assert rejected(iceberg(desk, BUY, 5, 100, shown)) == refused
    for terms in ({"time_in_force": IOC}, {"time_in_force": FOK}):
        assert rejected(iceberg(desk, BUY, 5, 100, 2, **terms)) == refused
    assert rejected(desk.market(BUY, 5, display_quantity=2)) == refused
    stop = {"order_type": OrderType.STOP, "stop_price": 100, "display_quantity": 2}
    assert rejected(desk.new(BUY, 5, 0, **stop)) == refused
    assert rejected(iceberg(desk, BUY, 2 * MAX_PARTS + 1, 100, 2)) == refused
    iceberg(desk, BUY, 2 * MAX_PARTS, 100, 2)
    assert rejected(desk.replace(1, 2 * MAX_PARTS + 1, 100)) == refused
    for shown in (1, MAX_QUANTITY + 1, 2**63):
        assert rejected(desk.replace(1, 2 * MAX_PARTS, 100, display_quantity=shown)) == refused
    desk.new(BUY, 5, 100)
    assert rejected(desk.replace(2, 5, 100, display_quantity=2)) == refused
    assert rejected(desk.replace(2, 5, 100, flags=Flag.KEEP_PRICE, display_quantity=2)) == refused
    assert parts(desk) == [(1, 2 * MAX_PARTS, 2), (2, 5, 0)]


def test_a_post_only_one_does_not_trade(desk: Desk) -> None:
    desk.new(SELL, 1, 100)
    would = iceberg(desk, BUY, 5, 100, 2, flags=Flag.POST_ONLY)
    assert rejected(would) == Reason.POST_ONLY_WOULD_TRADE
    [report] = iceberg(desk, BUY, 5, 99, 2, flags=Flag.POST_ONLY)
    assert report.flags == RARE | Flag.POST_ONLY
    assert rejected(desk.replace(2, 5, 100)) == Reason.POST_ONLY_WOULD_TRADE


# Together with other orders ----------------------------------------------------------------------


def test_one_with_a_stop_price_waits_whole_and_then_shows_a_part(desk: Desk) -> None:
    terms = {"order_type": OrderType.STOP_LIMIT, "stop_price": 110}
    [waits] = iceberg(desk, BUY, 10, 112, 4, **terms)
    assert (waits.last_price, waits.last_qty, waits.flags) == (110, 4, RARE)
    assert parts(desk) == [(1, 10, 0)]
    assert brief(desk.reduce(1, 1)) == [("REPLACED", 1, 9, 4)]
    [moved] = desk.replace(1, 9, 113, stop_price=111, display_quantity=3)
    assert (moved.last_price, moved.last_qty) == (111, 3)
    desk.new(SELL, 3, 111, account=OTHER)
    *_, triggered, taken, made = desk.new(BUY, 1, 111, account=OTHER)
    assert (triggered.exec_type, triggered.last_price) == (ExecType.TRIGGERED, 111)
    assert brief([triggered, taken, made]) == [
        ("TRIGGERED", 1, 9, 3),
        ("TRADE", 1, 7, 2),
        ("TRADE", 2, 0, 2),
    ]
    assert parts(desk) == [(1, 7, 3)]


DECREMENT, OLDEST = SelfTradePrevention.DECREMENT, SelfTradePrevention.CANCEL_OLDEST


def test_decrement_takes_off_what_is_hidden_too(desk: Desk) -> None:
    iceberg(desk, SELL, 10, 100, 3)
    reports = desk.new(BUY, 8, 100, self_trade_prevention=DECREMENT)
    assert brief(reports[1:]) == [("REPLACED", 1, 2, 8), ("CANCELED", 2, 0, 8)]
    assert parts(desk) == [(1, 2, 2)]
    reports = desk.new(BUY, 8, 100, self_trade_prevention=DECREMENT)
    assert brief(reports[1:]) == [("CANCELED", 1, 0, 2), ("REPLACED", 3, 6, 2)]
    assert reports[1].quantity == 2


@pytest.mark.parametrize(
    ("mode", "quantity", "filled"),
    [(OLDEST, 9, True), (OLDEST, 10, False), (DECREMENT, 2, True), (DECREMENT, 3, False)],
)
def test_fill_or_kill_counts_what_is_hidden_of_others_where_it_comes_to_it(
    desk: Desk, mode: int, quantity: int, filled: bool
) -> None:
    """What another hides at a price comes after the account's own order there."""
    iceberg(desk, SELL, 9, 100, 2, account=OTHER)
    iceberg(desk, SELL, 9, 100, 2)
    reports = desk.new(BUY, quantity, 100, time_in_force=FOK, self_trade_prevention=mode)
    assert (reports[-1].reason == Reason.FOK_UNFILLED) != filled
    if filled:
        assert sum(quantity for _, quantity in makers(reports)) == quantity


def test_a_mass_cancel_takes_all_of_it(desk: Desk) -> None:
    iceberg(desk, BUY, 10, 100, 3)
    iceberg(desk, BUY, 10, 100, 3, account=OTHER)
    reports = desk.mass_cancel()
    assert brief(reports) == [("CANCELED", 1, 0, 3), ("MASS_CANCELED", 0, 0, 0)]
    assert reports[0].quantity == 10
    assert parts(desk) == [(2, 10, 3)]


def test_one_that_a_mass_cancel_stands_at_is_taken_though_it_shows_a_new_part(desk: Desk) -> None:
    rows = [
        {"command_type": 1, "symbol": 1, "account": OTHER, "side": BUY, "order_type": 2,
         "time_in_force": 1, "price": 101, "quantity": 1, "timestamp_ns": 1}
        for _ in range(SWEEP_ORDERS)
    ]  # fmt: skip
    desk.enter(command_array(rows))
    iceberg(desk, BUY, 10, 100, 2)
    assert desk.mass_cancel() == []
    take(desk, SELL, SWEEP_ORDERS + 2)
    assert parts(desk) == [(SWEEP_ORDERS + 1, 8, 2)]
    told = desk.mass_cancel(flags=Flag.CONTINUE, account=0)
    assert brief(told) == [("CANCELED", SWEEP_ORDERS + 1, 0, 2), ("MASS_CANCELED", 0, 0, 0)]


@pytest.mark.parametrize("source", BOTH)
@pytest.mark.parametrize("target", BOTH)
def test_it_goes_on_in_a_copy(source: str, target: str) -> None:
    desk = Desk(BOTH[source](0, [WIDE], 9))
    iceberg(desk, SELL, 10, 100, 4)
    iceberg(desk, SELL, 5, 100, 1, order_type=OrderType.STOP_LIMIT, stop_price=90)
    iceberg(desk, SELL, 10, 100, 4)
    take(desk, BUY, 3)
    copy = Desk(copy_of(desk.book, BOTH[target], [WIDE], 9))
    copy.book.check()
    for one in (desk, copy):
        assert parts(one) == [(1, 7, 1), (3, 10, 4), (2, 5, 0)]
        assert makers(take(one, BUY, 6)) == [(1, 1), (3, 4), (1, 1)]
    assert state_hash(copy.book) == state_hash(desk.book)


# The product -------------------------------------------------------------------------------------


def test_in_the_product_over_every_way_in_and_after_a_death(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    http = http_section(free_port(), workers=1)
    with served(tmp_path_factory.mktemp("i"), http) as serving_product:
        over_rest(serving_product)
        order_id = left_over(serving_product)
        kill_matcher(serving_product)
        take_snapshot(serving_product.plan, 0)
        kill_matcher(serving_product)
        address = f"unix:{serving_product.plan.addresses()[0].path}"
        with Client(address, user_id="one") as one, Client(address, user_id="other") as other:
            assert one.order(order_id).display_quantity == 3
            [ask] = one.book("AA").asks
            assert (ask.quantity, ask.order_count) == (1, 1)
            taken = other.submit("AA", "buy", 2, price="9.00", time_in_force="ioc")
            assert taken.quantity == 2
            assert one.order(order_id).leaves_qty == 4
            assert one.book("AA").asks[0].quantity == 2


def left_over(product: Served) -> int:
    """Enter an iceberg, of which 6 are open in the end and 1 is shown, of a part of 3."""
    address = f"unix:{product.plan.addresses()[0].path}"
    with Client(address, user_id="one") as one, Client(address, user_id="other") as other:
        order = one.submit("AA", "sell", 10, price="9.00", display_quantity=3)
        assert order.display_quantity == 3
        other.submit("AA", "buy", 2, price="9.00", time_in_force="ioc")
        with pytest.raises(OrderRejectedError, match="INVALID_DISPLAY_QUANTITY"):
            one.submit("AA", "sell", 1, price="9.00", display_quantity=2)
        moved = one.replace(order.order_id, symbol="AA", display_quantity=5)
        assert (moved.display_quantity, moved.quantity, moved.leaves_qty) == (5, 10, 8)
        one.replace(order.order_id, symbol="AA", display_quantity=3)
        other.submit("AA", "buy", 2, price="9.00", time_in_force="ioc")
        return order.order_id


def over_rest(product: Served) -> None:
    with Http(product.plan) as http:
        made = http.order("al", "buy", 10, 100, symbol="BB", display_quantity=4)
        order_id = made["order_id"]
        shown = http.get(f"{API}/orders/{order_id}")["order"]
        assert (shown["display_quantity"], shown["remaining_quantity"]) == (4, 10)
        [bid] = http.get(f"{API}/orderbook?symbol=BB")["bids"]
        assert bid["quantity"] == Decimal(4)
        plain = http.order("al", "buy", 1, 90, symbol="BB")
        assert "display_quantity" not in http.get(f"{API}/orders/{plain['order_id']}")["order"]
        moved = http.call("PATCH", f"{API}/orders/{order_id}", {"display_quantity": 5})
        assert (moved.status, moved.body["status"]) == (200, "OPEN")
        assert http.get(f"{API}/orders/{order_id}")["order"]["display_quantity"] == 5
        body = {"user_id": "al", "symbol": "BB", "side": "buy", "order_type": "market"}
        reply = http.call("POST", f"{API}/orders", body | {"quantity": 5, "display_quantity": 1})
        assert reply.status == 400
        assert "INVALID_DISPLAY_QUANTITY" in str(reply.body["error"])
        http.call("DELETE", f"{API}/orders?user_id=al")
        assert http.get(f"{API}/orders/{order_id}")["order"]["status"] == "CANCELLED"
