"""Lists of orders on every book: pairs, brackets, and what becomes of one where another has traded,
triggers or ends."""

import pytest

from bench.drive import Room
from bench.equality import BOOKS as BOTH
from bench.equality import Pair
from engine.books.contract import BookLimits, state_hash
from engine.books.rules import LINK_HELD, LINK_LISTED, LINK_NEXT, LINK_PREVIOUS, SWEEP_ORDERS
from ipc.vocabulary import (
    MAX_CLIENT_ID,
    CommandType,
    ExecType,
    Flag,
    OrderType,
    Reason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from tests.books import TIME_NS, WIDE, Desk, MakeBook, Report, command_array, rejected, run
from tests.test_restore import copy_of

BUY, SELL = Side.BUY, Side.SELL
GTC, IOC, FOK, GTD = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTD
MARKET, LIMIT = OrderType.MARKET, OrderType.LIMIT
OTHER = 9


@pytest.fixture(params=BOTH)
def make_book(request: pytest.FixtureRequest) -> MakeBook:
    """The constructor of each of both books in turn."""
    return BOTH[request.param]


def pair(
    desk: Desk, side: int, quantity: int, price: int, stop: int, **fields: int
) -> list[Report]:
    """A limit order and a stop order, of which one is to trade."""
    terms = {"side": side, "quantity": quantity, "price": price, "stop_price": stop}
    return desk.send(CommandType.NEW_OCO, **({"time_in_force": GTC} | terms | fields))


def bracket(
    desk: Desk, side: int, quantity: int, price: int, take: int, stop: int, **fields: int
) -> list[Report]:
    """A limit order with exits, of which 0 is none."""
    terms = {"side": side, "quantity": quantity, "price": price, "stop_price": stop}
    exits = {"minimum_quantity": take, "order_type": LIMIT, "time_in_force": GTC}
    return desk.send(CommandType.NEW_BRACKET, **(exits | terms | fields))


def brief(reports: list[Report]) -> list[tuple[str, int, int]]:
    """What happened, to which order, and what it has open then."""
    return [(ExecType(r.exec_type).name, r.order_id, r.leaves_qty) for r in reports]


def links(desk: Desk) -> list[tuple[int, int, int]]:
    """order_id, what is open, and whom it is tied to, of each order as it is listed."""
    rows = desk.book.resting()
    return list(zip(*(rows[n].tolist() for n in ("order_id", "leaves_qty", "link")), strict=True))


def trade_at(desk: Desk, price: int, quantity: int = 1) -> list[Report]:
    """Let two others trade there, what nobody else takes part in."""
    desk.new(SELL, quantity, price, account=OTHER)
    return desk.new(BUY, quantity, price, account=OTHER)


# Pairs -------------------------------------------------------------------------------------------


def test_a_pair_rests_and_waits_under_ids_in_a_row(desk: Desk) -> None:
    reports = pair(desk, SELL, 5, 110, 90, client_order_id=7, request_id=3)
    assert brief(reports) == [("NEW", 1, 5), ("NEW", 2, 5)]
    assert [(r.client_order_id, r.order_type, r.flags) for r in reports] == [
        (7, LIMIT, Flag.RARE),
        (8, OrderType.STOP, Flag.RARE),
    ]
    assert [(r.answers, r.request_id, r.last_price) for r in reports] == [(1, 3, 0), (0, 0, 90)]
    assert desk.depth(SELL) == [(110, 5, 1)]
    paired = LINK_LISTED | LINK_NEXT, LINK_LISTED | LINK_PREVIOUS
    assert links(desk) == [(1, 5, paired[0]), (2, 5, paired[1])]
    assert rejected(desk.new(SELL, 1, 120, client_order_id=8)) == Reason.DUPLICATE_CLIENT_ORDER_ID


def test_what_one_has_traded_the_other_has_less_once_a_command(desk: Desk) -> None:
    pair(desk, SELL, 9, 100, 90)
    desk.new(SELL, 2, 100, account=OTHER)
    reports = desk.new(BUY, 4, 100, account=OTHER)
    assert brief(reports)[1:] == [("TRADE", 4, 0), ("TRADE", 1, 5), ("REPLACED", 2, 5)]
    less = reports[-1]
    assert (less.reason, less.request_id, less.quantity) == (Reason.LINKED, 0, 5)
    assert (less.last_price, less.last_qty, less.answers) == (90, 0, 0)
    reports = desk.new(BUY, 9, 100, account=OTHER, time_in_force=IOC)
    assert brief(reports)[2] == ("TRADE", 1, 0)
    assert brief(reports)[-1] == ("CANCELED", 2, 0)
    assert (reports[-1].reason, reports[-1].quantity) == (Reason.LINKED, 5)
    assert links(desk) == []


@pytest.mark.parametrize("limit", [0, 85])
def test_where_the_one_triggers_the_other_goes_before_it_trades(desk: Desk, limit: int) -> None:
    pair(desk, SELL, 5, 110, 90, display_quantity=limit)
    desk.new(BUY, 3, 88, account=OTHER)
    reports = trade_at(desk, 89)
    told = [one for one in brief(reports) if one[1] in (1, 2)]
    assert told[:3] == [("TRIGGERED", 2, 5), ("CANCELED", 1, 0), ("TRADE", 2, 2)]
    assert told[3:] == ([] if limit else [("CANCELED", 2, 0)])
    assert links(desk) == ([(2, 2, LINK_LISTED)] if limit else [])


def test_one_that_is_cancelled_takes_the_other_along(desk: Desk) -> None:
    pair(desk, BUY, 5, 90, 110)
    pair(desk, BUY, 5, 91, 111)
    assert brief(desk.cancel(1)) == [("CANCELED", 1, 0), ("CANCELED", 2, 0)]
    reports = desk.cancel(4)
    assert brief(reports) == [("CANCELED", 4, 0), ("CANCELED", 3, 0)]
    assert [r.reason for r in reports] == [Reason.CANCEL_REQUESTED, Reason.LINKED]
    assert [r.answers for r in reports] == [1, 0]
    assert rejected(desk.cancel(3)) == Reason.UNKNOWN_ORDER


def test_the_limit_order_enters_first_and_the_stop_price_counts_behind_it(desk: Desk) -> None:
    trade_at(desk, 95)
    reports = pair(desk, SELL, 5, 110, 97)
    assert brief(reports) == [
        *(("NEW", 3, 5), ("NEW", 4, 5)),
        *(("TRIGGERED", 4, 5), ("CANCELED", 3, 0), ("CANCELED", 4, 0)),
    ]
    desk.new(BUY, 2, 99, account=OTHER)
    reports = pair(desk, SELL, 5, 98, 96, request_id=5)
    assert brief(reports)[2:] == [("TRADE", 6, 3), ("TRADE", 5, 0), ("REPLACED", 7, 3)]
    assert [r.request_id for r in reports] == [5, 0, 5, 0, 0]


def test_decrement_is_a_loss_too_and_a_pair_of_both_sides_is_no_one_to_trade_with(
    desk: Desk,
) -> None:
    pair(desk, SELL, 5, 100, 90)
    mode = {"self_trade_prevention": SelfTradePrevention.DECREMENT}
    reports = desk.new(BUY, 2, 100, **mode)
    assert brief(reports)[1:] == [("REPLACED", 1, 3), ("CANCELED", 3, 0), ("REPLACED", 2, 3)]
    mode = {"self_trade_prevention": SelfTradePrevention.CANCEL_OLDEST}
    reports = desk.new(BUY, 2, 100, **mode)
    assert brief(reports)[1:] == [("CANCELED", 1, 0), ("CANCELED", 2, 0)]
    assert [r.reason for r in reports[1:]] == [Reason.SELF_TRADE, Reason.LINKED]


def test_less_or_another_price_is_refused_while_they_are_tied(desk: Desk) -> None:
    pair(desk, SELL, 5, 110, 90)
    assert rejected(desk.reduce(1, 9)) == Reason.LINKED_ORDER
    assert rejected(desk.replace(2, 5, 0, stop_price=91, flags=Flag.KEEP_PRICE)) == (
        Reason.LINKED_ORDER
    )
    keeps = {"flags": Flag.KEEP_PRICE | Flag.KEEP_QUANTITY}
    [moved] = desk.replace(2, 0, 0, stop_price=85, **keeps)
    assert (moved.exec_type, moved.last_price, moved.leaves_qty) == (ExecType.REPLACED, 85, 5)
    [moved] = desk.replace(1, 0, 108, flags=Flag.KEEP_QUANTITY | Flag.REINSERT)
    assert (moved.exec_type, moved.price, moved.quantity) == (ExecType.REPLACED, 108, 5)
    bracket(desk, BUY, 5, 80, 120, 0)
    assert rejected(desk.replace(3, 4, 80)) == Reason.LINKED_ORDER
    assert rejected(desk.replace(4, 0, 130, flags=Flag.KEEP_QUANTITY)) == Reason.LINKED_ORDER
    assert rejected(desk.replace(4, 4, 130)) == Reason.LINKED_ORDER
    trade_at(desk, 105)
    desk.new(SELL, 9, 80, account=OTHER, time_in_force=IOC)
    [moved] = desk.replace(4, 4, 130)  # it is nobody's any more
    assert (moved.exec_type, moved.price) == (ExecType.REPLACED, 130)


def test_they_expire_together(desk: Desk) -> None:
    until = {"time_in_force": GTD, "expire_time_ns": 2 * TIME_NS}
    pair(desk, SELL, 5, 110, 90, **until)
    reports = desk.new(BUY, 1, 50, timestamp_ns=2 * TIME_NS)
    assert brief(reports) == [("EXPIRED", 1, 0), ("CANCELED", 2, 0), ("NEW", 3, 1)]
    late = pair(desk, SELL, 5, 110, 90, **until, timestamp_ns=2 * TIME_NS)
    assert rejected(late) == Reason.INVALID_EXPIRE_TIME


# Brackets ----------------------------------------------------------------------------------------


def test_exits_wait_until_all_is_filled(desk: Desk) -> None:
    reports = bracket(desk, BUY, 5, 100, 110, 90, client_order_id=20)
    assert brief(reports) == [("NEW", 1, 5), ("NEW", 2, 5), ("NEW", 3, 5)]
    assert [(r.client_order_id, r.side, r.last_price) for r in reports] == [
        *((20, BUY, 0), (21, SELL, 0), (22, SELL, 90)),
    ]
    assert desk.depth(SELL) == []
    assert [link & LINK_HELD for _, _, link in links(desk)] == [0, LINK_HELD, LINK_HELD]
    reports = desk.new(SELL, 2, 100, account=OTHER)
    assert brief(reports)[-1] == ("TRADE", 1, 3)
    trade_at(desk, 85)  # what is held does not trigger; it is below 100: the order takes part
    assert brief(desk.new(SELL, 1, 100, account=OTHER))[-1] == ("TRADE", 1, 1)


def test_once_it_is_filled_they_are_released_and_are_a_pair(desk: Desk) -> None:
    bracket(desk, BUY, 5, 100, 110, 90)
    desk.new(BUY, 3, 111, account=OTHER)
    desk.new(SELL, 3, 111, account=OTHER)
    reports = desk.new(SELL, 5, 100, account=OTHER)
    assert brief(reports)[-3:] == [("TRADE", 1, 0), ("TRIGGERED", 2, 5), ("TRIGGERED", 3, 5)]
    assert [(r.last_price, r.request_id, r.flags) for r in reports[-2:]] == [
        *((0, 0, Flag.RARE), (90, 0, Flag.RARE)),
    ]
    assert desk.depth(SELL) == [(110, 5, 1)]
    reports = desk.new(BUY, 2, 110, account=OTHER)
    assert brief(reports)[-1] == ("REPLACED", 3, 3)
    trade_at(desk, 105)
    desk.new(BUY, 1, 90, account=OTHER)
    reports = desk.new(SELL, 1, 90, account=OTHER)
    assert brief(reports)[-3:] == [("TRIGGERED", 3, 3), ("CANCELED", 2, 0), ("CANCELED", 3, 0)]
    assert links(desk) == []


def test_an_exit_that_meets_others_trades_at_once_and_the_other_goes(desk: Desk) -> None:
    desk.new(BUY, 5, 112, account=OTHER)
    reports = bracket(desk, SELL, 5, 112, 100, 120)
    told = brief(reports)
    assert told[3:] == [
        *(("TRADE", 2, 0), ("TRADE", 1, 0)),
        *(("TRIGGERED", 3, 5), ("TRIGGERED", 4, 5)),
    ]
    desk.mass_cancel()
    desk.new(BUY, 9, 96, account=OTHER)
    desk.new(SELL, 5, 100, account=OTHER)
    reports = bracket(desk, BUY, 5, 100, 95, 80)
    assert brief(reports)[5:] == [
        *(("TRIGGERED", 8, 5), ("TRADE", 8, 0), ("TRADE", 5, 4), ("CANCELED", 9, 0)),
    ]


@pytest.mark.parametrize(("exits", "ids"), [((110, 0), [2]), ((0, 90), [2]), ((110, 90), [2, 3])])
def test_where_it_ends_unfilled_those_held_go(
    desk: Desk, exits: tuple[int, int], ids: list[int]
) -> None:
    bracket(desk, BUY, 5, 100, *exits)
    desk.new(SELL, 2, 100, account=OTHER)
    reports = desk.cancel(1)
    assert brief(reports) == [("CANCELED", 1, 0), *(("CANCELED", one, 0) for one in ids)]
    assert {r.reason for r in reports[1:]} == {Reason.LINKED}
    for terms in ({"time_in_force": IOC}, {"time_in_force": FOK}):
        *_, last = bracket(desk, BUY, 5, 100, *exits, **terms)
        assert (last.exec_type, last.reason) == (ExecType.CANCELED, Reason.LINKED)
        assert links(desk) == []


def test_one_that_is_fill_or_kill_trades_whole_or_not_at_all(desk: Desk) -> None:
    desk.new(SELL, 4, 100, account=OTHER)
    reports = bracket(desk, BUY, 5, 100, 110, 0, time_in_force=FOK)
    assert brief(reports)[2:] == [("CANCELED", 2, 0), ("CANCELED", 3, 0)]
    assert [r.reason for r in reports[2:]] == [Reason.FOK_UNFILLED, Reason.LINKED]
    assert brief(bracket(desk, BUY, 4, 100, 110, 0, time_in_force=FOK))[-1] == ("TRIGGERED", 5, 4)


def test_a_market_order_enters_with_exits(desk: Desk) -> None:
    desk.new(SELL, 5, 100, account=OTHER)
    reports = bracket(desk, BUY, 5, 0, 110, 0, order_type=MARKET, time_in_force=IOC)
    assert brief(reports)[-1] == ("TRIGGERED", 3, 5)
    assert desk.depth(SELL) == [(110, 5, 1)]


def test_one_that_is_held_is_cancelled_like_one_that_waits_and_takes_the_other(desk: Desk) -> None:
    bracket(desk, BUY, 5, 100, 110, 90)
    assert brief(desk.cancel(3)) == [("CANCELED", 3, 0), ("CANCELED", 2, 0)]
    reports = desk.new(SELL, 5, 100, account=OTHER)
    assert brief(reports)[-1] == ("TRADE", 1, 0)
    bracket(desk, BUY, 5, 100, 110, 90)
    pair(desk, SELL, 5, 120, 80)
    reports = desk.mass_cancel()
    assert brief(reports)[:-1] == [
        *(("CANCELED", 5, 0), ("CANCELED", 6, 0), ("CANCELED", 7, 0)),
        *(("CANCELED", 8, 0), ("CANCELED", 9, 0)),
    ]
    assert reports[-1].quantity == 2  # what went with them is not counted


def test_what_is_released_behind_a_mass_cancel_that_is_under_way_is_taken_all_the_same(
    desk: Desk,
) -> None:
    rows = [
        {"command_type": 1, "symbol": 1, "account": OTHER, "side": BUY, "order_type": LIMIT,
         "time_in_force": GTC, "price": 100, "quantity": 1, "timestamp_ns": TIME_NS}
        for _ in range(SWEEP_ORDERS + 9)
    ]  # fmt: skip
    desk.enter(command_array(rows))
    first = len(rows) + 1
    bracket(desk, SELL, 5, 200, 150, 0)
    assert desk.mass_cancel() == []
    reports = desk.new(BUY, 5, 200, account=OTHER)
    assert brief(reports)[-1] == ("TRIGGERED", first + 1, 5)
    assert desk.depth(BUY)[0] == (150, 5, 1)
    told = []
    while desk.book.sweeping:
        told += brief(desk.mass_cancel(flags=Flag.CONTINUE, account=0))
    assert told == [("CANCELED", first + 1, 0), ("MASS_CANCELED", 0, 0)]


def test_a_mass_cancel_looks_at_as_many_in_both_books() -> None:
    """Of each pair the second goes with the first, and is not looked at."""
    given = (0, [WIDE], 9)
    pair_of_books = Pair({name: make(*given) for name, make in BOTH.items()})
    usual = {"symbol": 1, "timestamp_ns": TIME_NS, "side": SELL, "time_in_force": GTC}
    terms = {"command_type": 6, "price": 110, "quantity": 1, "stop_price": 90}
    rows = [usual | terms | {"account": n % 3 + 1} for n in range(SWEEP_ORDERS * 3 // 5)]
    rows.append({"command_type": 5, "symbol": 1, "account": 1, "timestamp_ns": TIME_NS})
    going_on = {"command_type": 5, "flags": Flag.CONTINUE, "timestamp_ns": TIME_NS}
    rooms = (Room(100, 1),)
    for commands in (rows, *[[going_on]] * 3):
        pair_of_books.process(command_array(commands), (rooms, rooms))
    pair_of_books.check([1])
    assert not pair_of_books.books[0].sweeping


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"stop_price": 110},
        {"stop_price": 0},
        {"display_quantity": 201},
        {"client_order_id": MAX_CLIENT_ID - 2},
    ],
)
def test_a_pair_that_makes_no_sense_is_refused(make_book: MakeBook, fields: dict[str, int]) -> None:
    desk = Desk(make_book(0, [BookLimits(1, 50, 200, 99)], 99))
    assert rejected(pair(desk, SELL, 5, 100, 90, **fields)) == Reason.INVALID_LIST
    assert len(pair(desk, SELL, 5, 100, 90)) == 2


def test_a_list_is_refused_as_a_whole(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [BookLimits(1, 50, 200, 4, 3)], 99))
    invalid = Reason.INVALID_LIST
    assert rejected(bracket(desk, BUY, 5, 100, 0, 0)) == invalid
    assert rejected(bracket(desk, BUY, 5, 100, 201, 0)) == invalid
    assert rejected(bracket(desk, BUY, 5, 100, 90, 95)) == invalid
    assert rejected(bracket(desk, BUY, 5, 100, 110, 0, display_quantity=90)) == invalid
    assert rejected(bracket(desk, BUY, 5, 100, 110, 49)) == Reason.INVALID_STOP_PRICE
    kind = {"order_type": OrderType.STOP}
    assert rejected(bracket(desk, BUY, 5, 0, 110, 90, **kind)) == Reason.INVALID_ORDER_TYPE
    for time in (IOC, FOK):
        wrong = pair(desk, SELL, 5, 100, 90, time_in_force=time)
        assert rejected(wrong) == Reason.INVALID_TIME_IN_FORCE
    post = {"flags": Flag.POST_ONLY}
    at_once = {"order_type": MARKET, "time_in_force": IOC}
    assert rejected(bracket(desk, BUY, 5, 0, 110, 90, **at_once, **post)) == (
        Reason.INVALID_POST_ONLY
    )
    desk.new(SELL, 1, 100, account=OTHER)
    assert rejected(bracket(desk, BUY, 5, 100, 110, 90, **post)) == Reason.POST_ONLY_WOULD_TRADE
    desk.new(BUY, 1, 60, client_order_id=12)
    [refused] = bracket(desk, BUY, 5, 90, 110, 0, client_order_id=11)
    assert (refused.reason, refused.order_id) == (Reason.DUPLICATE_CLIENT_ORDER_ID, 2)
    assert rejected(bracket(desk, BUY, 5, 90, 110, 80)) == Reason.BOOK_FULL
    desk.cancel(1, account=OTHER)
    assert rejected(bracket(desk, BUY, 5, 90, 110, 80)) == Reason.TOO_MANY_ORDERS
    assert len(bracket(desk, BUY, 5, 90, 110, 0)) == 2
    assert len(desk.book.resting()) == 3


# Everything at once ------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [2, 3, 5])
def test_each_buffer_may_be_full_at_any_point(make_book: MakeBook, room: int) -> None:
    rows = [
        {"command_type": 7, "side": BUY, "order_type": LIMIT, "time_in_force": GTC, "price": 100,
         "quantity": 5, "minimum_quantity": 110, "stop_price": 90, "client_order_id": 10 * n}
        for n in range(1, 6)
    ]  # fmt: skip
    rows.append({"command_type": 1, "side": SELL, "order_type": LIMIT, "time_in_force": GTC,
                 "price": 100, "quantity": 22, "account": OTHER})  # fmt: skip
    rows.append({"command_type": 1, "side": BUY, "order_type": LIMIT, "time_in_force": GTC,
                 "price": 110, "quantity": 12, "account": OTHER})  # fmt: skip
    rows.append({"command_type": 5})
    usual = {"symbol": 1, "account": 1, "timestamp_ns": 5}
    commands = command_array([usual | row for row in rows])
    books = [make_book(0, [WIDE], 99) for _ in range(2)]
    whole, parts = run(books[0], commands), run(books[1], commands, room, 1)
    assert whole.reports.tobytes() == parts.reports.tobytes()
    assert state_hash(books[0]) == state_hash(books[1])
    books[1].check()


@pytest.mark.parametrize("source", BOTH)
@pytest.mark.parametrize("target", BOTH)
def test_lists_go_on_in_a_copy(source: str, target: str) -> None:
    desk = Desk(BOTH[source](0, [WIDE], 2))
    bracket(desk, BUY, 5, 100, 110, 90, client_order_id=5)
    pair(desk, SELL, 4, 105, 80, display_quantity=70)
    copy = Desk(copy_of(desk.book, BOTH[target], [WIDE], 2))
    copy.book.check()
    told = []
    for one in (desk, copy):
        reports = one.new(SELL, 7, 100, account=OTHER)
        reports += one.new(BUY, 3, 105, account=OTHER)
        reports += one.new(BUY, 1, 75, account=OTHER)
        reports += one.new(SELL, 3, 75, account=OTHER)
        told.append(reports)
    assert brief(told[0]) == brief(told[1])
    assert {"TRIGGERED", "REPLACED", "CANCELED"} <= {kind for kind, *_ in brief(told[0])}
    assert state_hash(copy.book) == state_hash(desk.book)


def test_a_book_that_grows_by_lists_keeps_them(make_book: MakeBook) -> None:
    """More than a new compiled book has room for, three at a time, beyond what it remembers."""
    count = 1_200
    rows = [
        {"command_type": 7, "symbol": 1, "account": n % 7 + 1, "side": BUY, "order_type": LIMIT,
         "time_in_force": GTC, "price": 100 + n % 5, "quantity": 2, "minimum_quantity": 200,
         "stop_price": 50, "client_order_id": 3 * n + 1, "timestamp_ns": 5}
        for n in range(count)
    ]  # fmt: skip
    desk = Desk(make_book(0, [WIDE], 9))
    desk.enter(command_array(rows))
    assert len(desk.book.resting()) == 3 * count
    reports = desk.new(SELL, 2 * count, 100, account=OTHER)
    assert len([r for r in reports if r.exec_type == ExecType.TRIGGERED]) == 2 * count
    assert desk.depth(SELL) == [(200, 2 * count, count)]
