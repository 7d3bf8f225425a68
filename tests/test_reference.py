"""The rules of ``engine.books.rules`` on every book: what is reported, what trades, what rests."""

import pytest

from engine.books.contract import BookLimits, Counters
from ipc.records import make_id
from ipc.vocabulary import (
    MAX_PRICE,
    MAX_QUANTITY,
    CommandType,
    ExecType,
    Flag,
    Liquidity,
    OrderType,
    OrdStatus,
    Reason,
    Side,
    TimeInForce,
)
from tests.books import TIME_NS, WIDE, Desk, MakeBook, Report, accepted, rejected

BUY, SELL = Side.BUY, Side.SELL
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK
POST_ONLY, REINSERT = Flag.POST_ONLY, Flag.REINSERT
KEEP_PRICE, KEEP_QUANTITY = Flag.KEEP_PRICE, Flag.KEEP_QUANTITY


def brief(reports: list[Report]) -> list[tuple[str, int, int, int]]:
    """Return what happened, to which order, and its cum_qty and leaves_qty."""
    return [(ExecType(r.exec_type).name, r.order_id, r.cum_qty, r.leaves_qty) for r in reports]


# Reports in full -------------------------------------------------------------------------------


def test_a_new_order_is_answered_and_rests(desk: Desk) -> None:
    [report] = desk.new(BUY, 10, 100, client_order_id=77, request_id=5, account=9, flags=POST_ONLY)
    assert report == Report(
        exec_type=ExecType.NEW,
        ord_status=OrdStatus.NEW,
        command_type=CommandType.NEW,
        side=BUY,
        order_type=OrderType.LIMIT,
        time_in_force=GTC,
        flags=POST_ONLY,
        symbol=1,
        answers=1,
        sequence=1,
        request_id=5,
        account=9,
        order_id=1,
        client_order_id=77,
        price=100,
        quantity=10,
        leaves_qty=10,
        timestamp_ns=TIME_NS + 1,
    )
    assert desk.depth(BUY) == [(100, 10, 1)]
    assert desk.book.resting().tolist() == [
        (1, 9, 77, 100, 10, 0, 1, BUY, POST_ONLY, OrderType.LIMIT, GTC, 0, 0, 0, 0, 0)
    ]


def test_an_order_keeps_no_flag_but_post_only(desk: Desk) -> None:
    [report] = desk.new(BUY, 10, 100, flags=0xFE)
    assert report.flags == 0
    assert desk.book.resting()["flags"].tolist() == [0]
    [report] = desk.reduce(1, 1, flags=0xFF)
    assert report.flags == 0


def test_a_trade_is_reported_to_taker_then_maker(desk: Desk) -> None:
    desk.new(SELL, 10, 100, client_order_id=71, request_id=5, account=9, flags=POST_ONLY)
    answer, taker, maker = desk.new(
        BUY, 4, 105, client_order_id=72, request_id=6, account=8, time_in_force=IOC
    )
    assert brief([answer]) == [("NEW", 2, 0, 4)]
    common = {
        "exec_type": ExecType.TRADE,
        "command_type": CommandType.NEW,
        "order_type": OrderType.LIMIT,
        "symbol": 1,
        "sequence": 2,
        "cum_qty": 4,
        "last_price": 100,
        "last_qty": 4,
        "trade_id": 1,
        "timestamp_ns": TIME_NS + 2,
    }
    assert taker == Report(
        ord_status=OrdStatus.FILLED,
        side=BUY,
        time_in_force=IOC,
        liquidity=Liquidity.TAKER,
        request_id=6,
        account=8,
        order_id=2,
        client_order_id=72,
        price=105,
        quantity=4,
        **common,
    )
    assert maker == Report(
        ord_status=OrdStatus.PARTIALLY_FILLED,
        side=SELL,
        time_in_force=GTC,
        flags=POST_ONLY,
        liquidity=Liquidity.MAKER,
        account=9,
        order_id=1,
        client_order_id=71,
        price=100,
        quantity=10,
        leaves_qty=6,
        **common,
    )
    [(*trade, reserved)] = desk.trades.tolist()
    assert trade == [1, 2, TIME_NS + 2, 100, 4, 2, 1, 1, BUY]
    assert not any(reserved)


def test_a_trade_names_buyer_and_seller_whoever_takes(desk: Desk) -> None:
    desk.new(BUY, 10, 100)
    desk.new(SELL, 10, 100)
    [trade] = desk.trades
    assert (trade["buy_order_id"], trade["sell_order_id"], trade["taker_side"]) == (1, 2, SELL)


def test_a_reject_repeats_the_command(desk: Desk) -> None:
    fields = {
        "side": SELL,
        "order_type": OrderType.MARKET,
        "time_in_force": FOK,
        "flags": 0xFE,
        "symbol": 1,
        "request_id": 3,
        "account": 2**64 - 1,
        "order_id": 99,
        "client_order_id": 5,
        "price": 100,
        "quantity": 3,
        "timestamp_ns": 8,
    }
    [report] = desk.send(CommandType.NEW, **fields)
    head = {"exec_type": ExecType.REJECTED, "ord_status": OrdStatus.REJECTED, "sequence": 1}
    more = {"command_type": CommandType.NEW, "reason": Reason.INVALID_PRICE, "answers": 1}
    assert report == Report(**(fields | head | more))


def test_a_mass_cancel_reports_each_order_and_then_their_number(make_book: MakeBook) -> None:
    other = BookLimits(9, 1, 200, 50)
    desk = Desk(make_book(0, [other, WIDE], 1000), account=4)
    desk.new(SELL, 1, 110, symbol=9)
    desk.new(BUY, 2, 99)
    desk.new(SELL, 3, 120)
    desk.new(BUY, 4, 100)
    desk.new(BUY, 5, 100, account=5)
    desk.new(SELL, 6, 110)
    desk.new(BUY, 7, 100)
    *canceled, answer = desk.mass_cancel(symbol=0, flags=Flag.AGGREGATE, request_id=12)
    assert [report.order_id for report in canceled] == [4, 7, 2, 6, 3, 1]
    assert {report.request_id for report in canceled} == {0}
    assert {report.reason for report in canceled} == {Reason.MASS_CANCEL}
    assert {report.exec_type for report in canceled} == {ExecType.CANCELED}
    assert [report.symbol for report in canceled] == [1, 1, 1, 1, 1, 9]
    assert answer == Report(
        exec_type=ExecType.MASS_CANCELED,
        ord_status=OrdStatus.NEW,
        command_type=CommandType.MASS_CANCEL,
        flags=Flag.AGGREGATE,
        answers=1,
        sequence=8,
        request_id=12,
        account=4,
        quantity=6,
        timestamp_ns=TIME_NS + 8,
    )
    assert desk.book.resting()["order_id"].tolist() == [5]


def test_a_mass_cancel_of_one_symbol_leaves_the_others(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [WIDE, BookLimits(9, 1, 200, 50)], 1000))
    desk.new(SELL, 1, 110, symbol=9)
    desk.new(BUY, 2, 99)
    canceled, answer = desk.mass_cancel(symbol=9)
    assert (canceled.order_id, answer.symbol, answer.quantity) == (1, 9, 1)
    [answer] = desk.mass_cancel(symbol=9)
    assert (answer.exec_type, answer.quantity) == (ExecType.MASS_CANCELED, 0)
    assert rejected(desk.mass_cancel(symbol=8)) == Reason.UNKNOWN_SYMBOL
    assert desk.depth(BUY) == [(99, 2, 1)]


# Matching --------------------------------------------------------------------------------------


def test_price_then_time(desk: Desk) -> None:
    for quantity, price in ((1, 102), (2, 101), (3, 102), (4, 101), (5, 103)):
        desk.new(SELL, quantity, price)
    reports = desk.new(BUY, 9, 102)
    assert brief(reports) == [
        ("NEW", 6, 0, 9),
        ("TRADE", 6, 2, 7),
        ("TRADE", 2, 2, 0),
        ("TRADE", 6, 6, 3),
        ("TRADE", 4, 4, 0),
        ("TRADE", 6, 7, 2),
        ("TRADE", 1, 1, 0),
        ("TRADE", 6, 9, 0),
        ("TRADE", 3, 2, 1),
    ]
    assert desk.trades["price"].tolist() == [101, 101, 102, 102]
    assert desk.trades["trade_id"].tolist() == [1, 2, 3, 4]
    assert [report.ord_status for report in reports[-2:]] == [2, 1]
    assert (desk.depth(BUY), desk.depth(SELL)) == ([], [(102, 1, 1), (103, 5, 1)])


def test_a_seller_meets_the_highest_bid_first(desk: Desk) -> None:
    for price in (99, 101, 100):
        desk.new(BUY, 5, price)
    desk.new(SELL, 12, 100)
    assert desk.trades["price"].tolist() == [101, 100]
    assert (desk.depth(BUY), desk.depth(SELL)) == ([(99, 5, 1)], [(100, 2, 1)])


def test_what_is_left_of_a_limit_order_rests_at_its_price(desk: Desk) -> None:
    desk.new(SELL, 3, 100)
    desk.new(BUY, 10, 104)
    assert desk.depth(BUY) == [(104, 7, 1)]
    resting = desk.book.resting()
    assert (resting["leaves_qty"].tolist(), resting["cum_qty"].tolist()) == ([7], [3])


def test_what_is_left_of_an_ioc_order_is_cancelled(desk: Desk) -> None:
    desk.new(SELL, 3, 100)
    *_, last = desk.new(BUY, 10, 100, time_in_force=IOC, request_id=44)
    assert brief([last]) == [("CANCELED", 2, 3, 0)]
    assert (last.reason, last.quantity, last.request_id) == (Reason.IOC_REMAINDER, 10, 44)
    assert (last.ord_status, last.last_qty) == (OrdStatus.CANCELED, 0)
    answer, last = desk.new(BUY, 10, 100, time_in_force=IOC)
    assert brief([answer, last]) == [("NEW", 3, 0, 10), ("CANCELED", 3, 0, 0)]
    assert desk.depth(BUY) == []


@pytest.mark.parametrize("time_in_force", [GTC, IOC])
def test_what_is_left_of_a_market_order_is_cancelled(desk: Desk, time_in_force: int) -> None:
    desk.new(SELL, 3, 100)
    desk.new(SELL, 3, MAX_PRICE)
    answer, *_, last = desk.market(BUY, 10, time_in_force=time_in_force)
    assert (answer.price, answer.order_type) == (0, OrderType.MARKET)
    assert desk.trades["price"].tolist() == [100, MAX_PRICE]
    assert brief([last]) == [("CANCELED", 3, 6, 0)]
    assert last.reason == Reason.MARKET_REMAINDER
    assert (desk.depth(BUY), desk.depth(SELL)) == ([], [])


def test_a_market_order_sells_down_to_the_lowest_price(desk: Desk) -> None:
    desk.new(BUY, 3, 1)
    reports = desk.market(SELL, 3)
    assert brief(reports)[1:] == [("TRADE", 2, 3, 0), ("TRADE", 1, 3, 0)]


def test_fok_fills_whole_or_not_at_all(desk: Desk) -> None:
    desk.new(SELL, 3, 100)
    desk.new(SELL, 3, 100)
    desk.new(SELL, 4, 101)
    desk.new(SELL, 9, 103)
    answer, last = desk.new(BUY, 11, 102, time_in_force=FOK, request_id=7)
    assert brief([answer, last]) == [("NEW", 5, 0, 11), ("CANCELED", 5, 0, 0)]
    assert (last.reason, last.quantity, last.request_id) == (Reason.FOK_UNFILLED, 11, 7)
    assert len(desk.trades) == 0
    reports = desk.new(BUY, 10, 102, time_in_force=FOK)
    assert brief(reports)[-2:] == [("TRADE", 6, 10, 0), ("TRADE", 3, 4, 0)]
    assert desk.depth(SELL) == [(103, 9, 1)]


def test_a_fok_seller_counts_bids_down_to_its_price(desk: Desk) -> None:
    desk.new(BUY, 3, 100)
    desk.new(BUY, 3, 99)
    assert len(desk.new(SELL, 6, 100, time_in_force=FOK)) == 2
    assert len(desk.new(SELL, 6, 99, time_in_force=FOK)) == 5


def test_a_fok_market_order_fills_whole_or_not_at_all(desk: Desk) -> None:
    desk.new(SELL, 3, 100)
    _, last = desk.market(BUY, 4, time_in_force=FOK)
    assert (last.exec_type, last.reason) == (ExecType.CANCELED, Reason.FOK_UNFILLED)
    assert len(desk.market(BUY, 3, time_in_force=FOK)) == 3


def test_post_only_rests_or_is_rejected(desk: Desk) -> None:
    desk.new(SELL, 3, 100)
    assert rejected(desk.new(BUY, 3, 100, flags=POST_ONLY)) == Reason.POST_ONLY_WOULD_TRADE
    assert brief(desk.new(BUY, 3, 99, flags=POST_ONLY)) == [("NEW", 2, 0, 3)]
    assert rejected(desk.new(SELL, 3, 99, flags=POST_ONLY)) == Reason.POST_ONLY_WOULD_TRADE


def test_self_trades_are_allowed(desk: Desk) -> None:
    desk.new(SELL, 3, 100, account=6)
    reports = desk.new(BUY, 3, 100, account=6)
    assert [report.account for report in reports] == [6, 6, 6]


def test_symbols_do_not_meet(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [WIDE, BookLimits(2, 1, 200, 9)], 10))
    desk.new(SELL, 3, 100, symbol=1)
    accepted(desk.new(BUY, 3, 100, symbol=2))


def test_ids_carry_the_shard_and_go_on_from_the_start(make_book: MakeBook) -> None:
    desk = Desk(make_book(200, [WIDE], 10, Counters(1000, 500, 70)))
    [first] = desk.new(SELL, 3, 100)
    assert (first.sequence, first.order_id) == (1001, make_id(200, 501))
    _, taker, _ = desk.new(BUY, 3, 100)
    assert (taker.sequence, taker.order_id) == (1002, make_id(200, 502))
    assert taker.trade_id == desk.trades["trade_id"][0] == make_id(200, 71)
    rejected(desk.cancel(make_id(200, 501)))
    assert desk.book.counters() == Counters(1003, 502, 71)


# Cancel and reduce -----------------------------------------------------------------------------


def test_cancel_by_either_id(desk: Desk) -> None:
    desk.new(BUY, 10, 100, client_order_id=50)
    desk.new(BUY, 11, 100, client_order_id=51)
    desk.new(SELL, 4, 100)
    [report] = desk.cancel(1, symbol=0)
    assert brief([report]) == [("CANCELED", 1, 4, 0)]
    assert (report.quantity, report.reason) == (10, Reason.CANCEL_REQUESTED)
    assert (report.client_order_id, report.symbol, report.side) == (50, 1, BUY)
    assert (report.order_type, report.time_in_force) == (OrderType.LIMIT, GTC)
    [report] = desk.cancel(client_order_id=51)
    assert brief([report]) == [("CANCELED", 2, 0, 0)]
    assert desk.depth(BUY) == []


def test_order_id_wins_over_client_order_id(desk: Desk) -> None:
    desk.new(BUY, 10, 100, client_order_id=50)
    desk.new(BUY, 11, 100, client_order_id=51)
    [report] = desk.cancel(1, client_order_id=51)
    assert report.order_id == 1
    assert rejected(desk.cancel(1, client_order_id=51)) == Reason.UNKNOWN_ORDER


def test_a_cancel_takes_the_order_out_of_the_middle_of_its_queue(desk: Desk) -> None:
    for quantity in (1, 2, 4):
        desk.new(SELL, quantity, 100)
    desk.cancel(2)
    assert desk.depth(SELL) == [(100, 5, 2)]
    desk.new(BUY, 5, 100)
    assert desk.trades["sell_order_id"].tolist() == [1, 3]


def test_reduce_keeps_the_place(desk: Desk) -> None:
    desk.new(SELL, 10, 100, client_order_id=5)
    desk.new(SELL, 10, 100)
    desk.new(BUY, 2, 100)
    [report] = desk.reduce(0, 3, client_order_id=5, request_id=9)
    assert brief([report]) == [("REPLACED", 1, 2, 5)]
    assert (report.quantity, report.price, report.request_id) == (7, 100, 9)
    assert report.ord_status == OrdStatus.PARTIALLY_FILLED
    assert (desk.queue(SELL), desk.depth(SELL)) == ([1, 2], [(100, 15, 2)])
    [report] = desk.reduce(2, 1)
    assert report.ord_status == OrdStatus.NEW


@pytest.mark.parametrize("quantity", [8, 9, MAX_QUANTITY])
def test_reduce_by_all_or_more_cancels(desk: Desk, quantity: int) -> None:
    desk.new(SELL, 10, 100)
    desk.new(BUY, 2, 100)
    [report] = desk.reduce(1, quantity)
    assert brief([report]) == [("CANCELED", 1, 2, 0)]
    assert (report.quantity, report.reason) == (10, Reason.CANCEL_REQUESTED)
    assert desk.depth(SELL) == []


# Replace ---------------------------------------------------------------------------------------


def test_replace_to_less_at_the_same_price_keeps_the_place(desk: Desk) -> None:
    desk.new(SELL, 10, 100)
    desk.new(SELL, 10, 100)
    desk.new(BUY, 2, 100)
    [report] = desk.replace(1, 6, 100, request_id=3)
    assert brief([report]) == [("REPLACED", 1, 2, 4)]
    assert (report.quantity, report.request_id, report.exec_type) == (6, 3, ExecType.REPLACED)
    assert (desk.queue(SELL), desk.depth(SELL)) == ([1, 2], [(100, 14, 2)])


@pytest.mark.parametrize(
    ("quantity", "price", "flags"),
    [(10, 100, 0), (11, 100, 0), (9, 101, 0), (4, 100, REINSERT), (8, 100, REINSERT)],
)
def test_any_other_replace_goes_to_the_back(
    desk: Desk, quantity: int, price: int, flags: int
) -> None:
    desk.new(SELL, 10, 100)
    desk.new(SELL, 1, price)
    desk.new(BUY, 2, 100)
    open_qty = quantity if flags else quantity - 2
    if price == 101:
        desk.cancel(2)
        desk.new(SELL, 1, price)
    [report] = desk.replace(1, quantity, price, flags=flags)
    assert brief([report]) == [("REPLACED", 1, 2, open_qty)]
    assert (report.quantity, report.price, report.flags) == (2 + open_qty, price, 0)
    assert desk.queue(SELL)[-1] == 1
    assert desk.depth(SELL) == [(price, 1 + open_qty, 2)]


@pytest.mark.parametrize(
    ("given", "price", "leaves_qty", "place"),
    [
        ({"quantity": 6, "flags": KEEP_PRICE}, 100, 4, 0),
        ({"quantity": 10, "flags": KEEP_PRICE}, 100, 8, 1),
        ({"quantity": 4, "flags": KEEP_PRICE | REINSERT}, 100, 4, 1),
        ({"price": 100, "flags": KEEP_QUANTITY}, 100, 8, 1),
        ({"price": 101, "flags": KEEP_QUANTITY}, 101, 8, 1),
        ({"price": 100, "flags": KEEP_QUANTITY | REINSERT}, 100, 8, 1),
        ({"price": 5, "quantity": 6, "flags": KEEP_PRICE}, 100, 4, 0),  # what is kept is ignored
    ],
)
def test_what_a_replace_keeps_is_as_it_is_when_it_is_matched(
    desk: Desk, given: dict[str, int], price: int, leaves_qty: int, place: int
) -> None:
    desk.new(SELL, 10, 100)
    desk.new(SELL, 1, 100)
    desk.new(BUY, 2, 100)
    [report] = desk.send(CommandType.REPLACE, order_id=1, **given)
    assert brief([report]) == [("REPLACED", 1, 2, leaves_qty)]
    assert (report.price, report.quantity, report.flags) == (price, 2 + leaves_qty, 0)
    assert desk.queue(SELL).index(1) == place


def test_replaces_of_price_and_of_quantity_add_up(desk: Desk) -> None:
    desk.new(BUY, 10, 50)
    desk.send(CommandType.REPLACE, order_id=1, price=51, flags=KEEP_QUANTITY)
    desk.send(CommandType.REPLACE, order_id=1, quantity=5, flags=KEEP_PRICE)
    assert desk.depth(BUY) == [(51, 5, 1)]


def test_a_kept_quantity_trades_at_a_price_that_crosses(desk: Desk) -> None:
    desk.new(BUY, 10, 90)
    desk.new(SELL, 4, 100)
    reports = desk.send(CommandType.REPLACE, order_id=1, price=100, flags=KEEP_QUANTITY)
    assert brief(reports)[:2] == [("REPLACED", 1, 0, 10), ("TRADE", 1, 4, 6)]


def test_a_replace_that_crosses_trades_as_taker(desk: Desk) -> None:
    desk.new(BUY, 10, 90, client_order_id=8)
    desk.new(SELL, 4, 100)
    answer, taker, maker = desk.replace(1, 12, 101, request_id=6)
    assert brief([answer, taker, maker]) == [
        ("REPLACED", 1, 0, 12),
        ("TRADE", 1, 4, 8),
        ("TRADE", 2, 4, 0),
    ]
    assert {r.command_type for r in (answer, taker, maker)} == {CommandType.REPLACE}
    assert (taker.request_id, maker.request_id, taker.price) == (6, 0, 101)
    assert (desk.depth(BUY), desk.depth(SELL)) == ([(101, 8, 1)], [])
    desk.cancel(client_order_id=8)


def test_a_replaced_order_that_fills_is_gone(desk: Desk) -> None:
    desk.new(BUY, 4, 90, client_order_id=8)
    desk.new(SELL, 4, 100)
    assert brief(desk.replace(1, 4, 100))[1] == ("TRADE", 1, 4, 0)
    assert rejected(desk.replace(1, 4, 100)) == Reason.UNKNOWN_ORDER


def test_replace_to_no_more_than_is_filled(desk: Desk) -> None:
    desk.new(SELL, 10, 100)
    desk.new(BUY, 4, 100)
    assert rejected(desk.replace(1, 4, 100)) == Reason.ALREADY_FILLED
    assert brief(desk.replace(1, 5, 100)) == [("REPLACED", 1, 4, 1)]
    assert brief(desk.replace(1, 4, 100, flags=REINSERT)) == [("REPLACED", 1, 4, 4)]


def test_reinsert_may_not_exceed_the_largest_quantity(desk: Desk) -> None:
    desk.new(SELL, 10, 100)
    desk.new(BUY, 4, 100)
    beyond = MAX_QUANTITY - 3
    assert rejected(desk.replace(1, beyond, 100, flags=REINSERT)) == Reason.INVALID_QUANTITY
    [report] = desk.replace(1, beyond - 1, 100, flags=REINSERT)
    assert (report.quantity, report.leaves_qty) == (MAX_QUANTITY, MAX_QUANTITY - 4)


def test_a_post_only_order_stays_so_when_replaced(desk: Desk) -> None:
    desk.new(BUY, 10, 90, flags=POST_ONLY)
    desk.new(SELL, 4, 100)
    assert rejected(desk.replace(1, 10, 100)) == Reason.POST_ONLY_WOULD_TRADE
    [report] = desk.replace(1, 10, 99, flags=REINSERT)
    assert report.flags == POST_ONLY
    assert desk.depth(BUY) == [(99, 10, 1)]


def test_a_replace_is_held_to_the_band_of_its_order(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [WIDE, BookLimits(2, 90, 110, 9)], 10))
    desk.new(BUY, 10, 90, symbol=2)
    assert rejected(desk.replace(1, 10, 89, symbol=0)) == Reason.PRICE_OUT_OF_BAND
    assert rejected(desk.replace(1, 10, 111, symbol=0)) == Reason.PRICE_OUT_OF_BAND
    assert brief(desk.replace(1, 10, 110, symbol=0)) == [("REPLACED", 1, 0, 10)]


def test_a_replace_does_not_need_room(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [BookLimits(1, 1, 200, 1)], 10))
    desk.new(BUY, 10, 90)
    assert brief(desk.replace(1, 20, 95)) == [("REPLACED", 1, 0, 20)]
