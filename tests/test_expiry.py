"""Orders that expire, on every book: when, in which order, and what is told; and in a product
where nobody sends anything."""

import time

import pytest

from bench.equality import BOOKS as BOTH
from engine.books.contract import BookLimits, state_hash
from engine.config import ConfigError, parse_config
from engine.shard.snapshotter import take_snapshot
from frontend.client import Client
from frontend.client.errors import OrderRejectedError
from ipc.vocabulary import (
    ExecType,
    Flag,
    OrderType,
    OrdStatus,
    Reason,
    Side,
    TimeInForce,
)
from tests.books import WIDE, Desk, MakeBook, Report, command_array, rejected, run
from tests.http import API, Http, free_port, http_section
from tests.product import WAIT_S, until
from tests.test_recovery import kill_matcher
from tests.test_restore import copy_of
from tests.test_serve import served

BUY, SELL = Side.BUY, Side.SELL
DAY, GTD, IOC = TimeInForce.DAY, TimeInForce.GTD, TimeInForce.IOC
OTHER = 9
DAY_NS = 86_400 * 10**9
MIDNIGHT_NS = 20_000 * DAY_NS


@pytest.fixture(params=BOTH)
def make_book(request: pytest.FixtureRequest) -> MakeBook:
    """The constructor of each of both books in turn."""
    return BOTH[request.param]


def brief(reports: list[Report]) -> list[tuple[str, int, int]]:
    """What happened, to which order, and by which request."""
    return [(ExecType(r.exec_type).name, r.order_id, r.request_id) for r in reports]


def timed(
    desk: Desk, side: int, price: int, until_ns: int, now: int, **fields: int
) -> list[Report]:
    """Enter an order of 5 that ends at a time."""
    terms = {"time_in_force": GTD, "expire_time_ns": until_ns, "timestamp_ns": now}
    return desk.new(side, 5, price, **(terms | fields))


def test_one_whose_time_is_over_ends_before_the_next_command(desk: Desk) -> None:
    [answer] = timed(desk, SELL, 100, 50, 10)
    assert (answer.flags, answer.time_in_force) == (Flag.RARE, GTD)
    assert desk.book.next_expiry_ns == 50
    assert len(desk.new(BUY, 1, 100, timestamp_ns=49)) == 3
    expired, accepted = desk.new(BUY, 1, 100, timestamp_ns=50, request_id=7)
    assert brief([expired, accepted]) == [("EXPIRED", 1, 0), ("NEW", 3, 7)]
    assert (expired.ord_status, expired.reason) == (OrdStatus.EXPIRED, Reason.EXPIRED)
    assert (expired.quantity, expired.cum_qty, expired.leaves_qty) == (5, 1, 0)
    assert (expired.sequence, expired.answers) == (accepted.sequence, 0)
    assert desk.depth(SELL) == []
    assert desk.book.next_expiry_ns == 0
    assert rejected(desk.cancel(1, timestamp_ns=51)) == Reason.UNKNOWN_ORDER


def test_the_earliest_ends_first_and_of_one_time_the_oldest(desk: Desk) -> None:
    times = [70, 40, 60, 40, 50, 80, 40]
    for until_ns in times:
        timed(desk, BUY, 100, until_ns, 10)
    desk.cancel(5, timestamp_ns=20)
    reports = desk.mass_cancel(flags=Flag.CONTINUE, timestamp_ns=75, account=0)
    assert [report.order_id for report in reports] == [2, 4, 7, 3, 1]
    assert desk.book.next_expiry_ns == 80
    assert desk.mass_cancel(flags=Flag.CONTINUE, timestamp_ns=79, account=0) == []


def test_one_that_comes_too_late_is_accepted_and_ends(desk: Desk) -> None:
    desk.new(SELL, 5, 100, timestamp_ns=1)
    reports = timed(desk, BUY, 100, 50, 50, request_id=3)
    assert brief(reports) == [("NEW", 2, 3), ("EXPIRED", 2, 3)]
    assert desk.depth(SELL) == [(100, 5, 1)]


@pytest.mark.parametrize(
    ("day_end_s", "now", "end"),
    [
        (0, 0, DAY_NS),
        (0, DAY_NS - 1, DAY_NS),
        (3_600, 0, 3_600 * 10**9),
        (3_600, 3_600 * 10**9, DAY_NS + 3_600 * 10**9),
        (86_340, 86_339 * 10**9, 86_340 * 10**9),
    ],
)
def test_a_day_order_ends_with_its_instruments_day(
    make_book: MakeBook, day_end_s: int, now: int, end: int
) -> None:
    desk = Desk(make_book(0, [BookLimits(1, 1, 200, 9, 9, day_end_s)], 9))
    desk.new(BUY, 5, 100, time_in_force=DAY, timestamp_ns=MIDNIGHT_NS + now)
    assert desk.book.next_expiry_ns == MIDNIGHT_NS + end
    assert desk.book.resting()["expire_time_ns"].tolist() == [MIDNIGHT_NS + end]


def test_it_trades_rests_and_waits_like_others(desk: Desk) -> None:
    timed(desk, SELL, 100, 50, 10)
    assert brief(desk.new(BUY, 5, 100, timestamp_ns=11))[-1] == ("TRADE", 1, 0)
    assert desk.book.next_expiry_ns == 0
    stop = {"order_type": OrderType.STOP, "stop_price": 200}
    timed(desk, BUY, 0, 60, 12, **stop)
    timed(desk, BUY, 90, 70, 12, display_quantity=2)
    [moved] = desk.replace(4, 6, 91, timestamp_ns=13)
    assert moved.exec_type == ExecType.REPLACED
    expired = desk.mass_cancel(flags=Flag.CONTINUE, timestamp_ns=70, account=0)
    assert [(r.order_id, r.last_price, r.last_qty, r.quantity) for r in expired] == [
        (3, 200, 0, 5),
        (4, 0, 2, 6),
    ]


def test_a_market_order_of_a_day_ends_at_once_as_it_does_without(desk: Desk) -> None:
    *_, last = desk.market(BUY, 5, time_in_force=DAY)
    assert (last.exec_type, last.reason) == (ExecType.CANCELED, Reason.MARKET_REMAINDER)
    assert desk.book.next_expiry_ns == 0


def test_a_full_buffer_stops_between_two_that_end(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [WIDE], 99))
    for _ in range(9):
        timed(desk, BUY, 100, 50, 10)
    row = {
        "command_type": 1, "symbol": 1, "account": 1, "side": SELL, "order_type": 2,
        "time_in_force": IOC, "price": 100, "quantity": 1, "timestamp_ns": 50,
    }  # fmt: skip
    outcome = run(desk.book, command_array([row]), report_room=2, trade_room=1)
    rows = outcome.report_rows()
    assert [r.exec_type for r in rows] == [ExecType.EXPIRED] * 9 + [
        ExecType.NEW,
        ExecType.CANCELED,
    ]
    assert {r.sequence for r in rows} == {10}
    desk.book.check()


@pytest.mark.parametrize("source", BOTH)
@pytest.mark.parametrize("target", BOTH)
def test_it_goes_on_in_a_copy(source: str, target: str) -> None:
    desk = Desk(BOTH[source](0, [WIDE], 9))
    for until_ns in (70, 40, 60):
        timed(desk, BUY, 100, until_ns, 10)
    timed(desk, BUY, 0, 50, 10, order_type=OrderType.STOP, stop_price=200)
    copy = Desk(copy_of(desk.book, BOTH[target], [WIDE], 9))
    copy.book.check()
    for one in (desk, copy):
        assert one.book.next_expiry_ns == 40
        reports = one.mass_cancel(flags=Flag.CONTINUE, timestamp_ns=65, account=0)
        assert [report.order_id for report in reports] == [2, 4, 3]
    assert state_hash(copy.book) == state_hash(desk.book)


def test_a_book_that_grows_keeps_them(make_book: MakeBook) -> None:
    """More than a new compiled book has room for; each shows a part, and all end at their time."""
    count = 2_500
    rows = [
        {
            "command_type": 1, "symbol": 1, "account": n % 7 + 1, "side": BUY, "order_type": 2,
            "time_in_force": GTD, "price": n % 50 + 1, "quantity": 9, "display_quantity": n % 9 + 1,
            "expire_time_ns": 1_000 + n * 7_919 % 100_003, "timestamp_ns": 1,
        }
        for n in range(count)
    ]  # fmt: skip
    desk = Desk(make_book(0, [WIDE], 9))
    for start in range(0, count, 1_250):
        desk.enter(command_array(rows[start : start + 1_250]))
    ends = [row["expire_time_ns"] for row in rows]
    reports = desk.mass_cancel(flags=Flag.CONTINUE, timestamp_ns=10**6, account=0)
    in_time = [n + 1 for n in sorted(range(count), key=ends.__getitem__)]
    assert [report.order_id for report in reports] == in_time
    assert not len(desk.book.resting())


def test_a_day_ends_at_a_time_of_day() -> None:
    text = '[[instruments]]\nsymbol = "AA"\ntick_size = "0.01"\nday_end = "{}"\n'
    [instrument] = parse_config(text.format("21:30"), "t").listed()
    assert instrument.day_end_s == 77_400
    for wrong in ("24:00", "2:00", "12:60", "noon", "1²:00", "12:000"):
        with pytest.raises(ConfigError, match=r"day_end.*must be a time of day, 00:00 to 23:59"):
            parse_config(text.format(wrong), "t").listed()


# The product -------------------------------------------------------------------------------------


def test_in_the_product_where_nobody_sends_anything_and_over_a_death(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    section = http_section(free_port(), workers=1)
    with served(tmp_path_factory.mktemp("e"), section) as product:
        address = f"unix:{product.plan.addresses()[0].path}"
        with Client(address, user_id="one") as one:
            soon = time.time_ns() + 300_000_000
            order = one.submit(
                "AA", "buy", 1, price="7.00", time_in_force="gtd", expire_time_ns=soon
            )
            [expired] = [next(iter(one.reports(WAIT_S)))]
            assert (expired.exec_type, expired.order_id) == (ExecType.EXPIRED, order.order_id)
            assert expired.timestamp_ns >= soon
            assert one.order(order.order_id).ord_status == OrdStatus.EXPIRED
            with pytest.raises(OrderRejectedError, match="INVALID_EXPIRE_TIME"):
                one.submit("AA", "buy", 1, price="7.00", expire_time_ns=soon)
            later = time.time_ns() + 4_000_000_000
            lasts = one.submit(
                "AA", "buy", 1, price="7.00", time_in_force="gtd", expire_time_ns=later
            )
        kill_matcher(product)
        take_snapshot(product.plan, 0)
        kill_matcher(product)
        with Client(address, user_id="one") as one, Http(product.plan) as http:
            state = one.order(lasts.order_id)
            assert state.ord_status in (OrdStatus.NEW, OrdStatus.EXPIRED)
            until(lambda: one.order(lasts.order_id).ord_status == OrdStatus.EXPIRED)
            assert http.get(f"{API}/orders/{lasts.order_id}")["order"]["status"] == "EXPIRED"
            body = {"time_in_force": "day", "symbol": "BB"}
            made = http.order("al", "buy", 3, 50, **body)
            shown = http.get(f"{API}/orders/{made['order_id']}")["order"]
            assert (shown["time_in_force"], shown["status"]) == ("DAY", "OPEN")
            late = {"time_in_force": "gtd", "symbol": "BB", "expire_time_ns": 5}
            ended = http.order("al", "buy", 3, 50, **late)
            assert (ended["status"], ended["reason"]) == ("EXPIRED", "EXPIRED")
