"""What every book rejects: each reason in the order of the rules, and nothing else changes."""

from typing import Any

import pytest

from engine.books.contract import BookLimits
from ipc.vocabulary import (
    MAX_PRICE,
    MAX_QUANTITY,
    RULES,
    CommandType,
    Flag,
    OrderType,
    Reason,
    Side,
    TimeInForce,
)
from tests.books import WIDE, Desk, MakeBook, accepted, rejected

BUY, SELL = Side.BUY, Side.SELL
GTC, IOC, FOK = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK
MARKET, LIMIT = OrderType.MARKET, OrderType.LIMIT
POST_ONLY, REINSERT = Flag.POST_ONLY, Flag.REINSERT
KEEP_PRICE, KEEP_QUANTITY = Flag.KEEP_PRICE, Flag.KEEP_QUANTITY
KEEP_BOTH = KEEP_PRICE | KEEP_QUANTITY

BAND = BookLimits(1, 90, 110, 2)


@pytest.fixture
def narrow(make_book: MakeBook) -> Desk:
    """A book of symbol 1, prices 90 to 110, two orders at most; order 1 rests: sell 10 at 100.

    Order 2 was sold to it in part: 4 of order 1 are filled. Order 2 had client_order_id 22.
    """
    desk = Desk(make_book(0, [BAND, WIDE._replace(symbol=2)], 100))
    desk.new(SELL, 10, 100, client_order_id=21)
    desk.new(BUY, 4, 100, client_order_id=22)
    return desk


NEW_FAULTS: list[tuple[dict[str, int], Reason]] = [
    ({"symbol": 3}, Reason.UNKNOWN_SYMBOL),
    ({"symbol": 0}, Reason.UNKNOWN_SYMBOL),
    ({"side": 0}, Reason.INVALID_SIDE),
    ({"side": 3}, Reason.INVALID_SIDE),
    ({"order_type": 0}, Reason.INVALID_ORDER_TYPE),
    ({"order_type": 5}, Reason.INVALID_ORDER_TYPE),
    ({"stop_price": 100}, Reason.INVALID_STOP_PRICE),
    ({"self_trade_prevention": 5}, Reason.INVALID_SELF_TRADE_PREVENTION),
    ({"time_in_force": 5}, Reason.INVALID_TIME_IN_FORCE),
    ({"time_in_force": 6}, Reason.INVALID_EXPIRE_TIME),
    ({"expire_time_ns": 9}, Reason.INVALID_EXPIRE_TIME),
    ({"time_in_force": 6, "expire_time_ns": 2**63}, Reason.INVALID_EXPIRE_TIME),
    ({"display_quantity": 99}, Reason.INVALID_DISPLAY_QUANTITY),
    ({"minimum_quantity": 1}, Reason.INVALID_MINIMUM_QUANTITY),
    ({"order_type": 20}, Reason.INVALID_PRICE),
    ({"order_type": 38}, Reason.INVALID_TIME_IN_FORCE),
    ({"time_in_force": 2}, Reason.INVALID_TIME_IN_FORCE),
    ({"time_in_force": IOC, "flags": POST_ONLY}, Reason.INVALID_POST_ONLY),
    ({"order_type": MARKET, "price": 0, "flags": POST_ONLY}, Reason.INVALID_POST_ONLY),
    ({"quantity": 0}, Reason.INVALID_QUANTITY),
    ({"quantity": MAX_QUANTITY + 1}, Reason.INVALID_QUANTITY),
    ({"price": 0}, Reason.INVALID_PRICE),
    ({"price": MAX_PRICE + 1}, Reason.INVALID_PRICE),
    ({"order_type": MARKET}, Reason.INVALID_PRICE),
    ({"price": 89}, Reason.PRICE_OUT_OF_BAND),
    ({"price": 111}, Reason.PRICE_OUT_OF_BAND),
    ({"price": 111, "time_in_force": IOC}, Reason.PRICE_OUT_OF_BAND),
    ({"client_order_id": 21}, Reason.DUPLICATE_CLIENT_ORDER_ID),
    ({"client_order_id": 22, "time_in_force": FOK}, Reason.DUPLICATE_CLIENT_ORDER_ID),
    ({"price": 100, "flags": POST_ONLY}, Reason.POST_ONLY_WOULD_TRADE),
]


def assert_rejected(desk: Desk, reason: Reason, command_type: int, **fields: int) -> None:
    """Send a command that is rejected, and counts one sequence, and changes nothing else."""
    before = desk.book.counters()
    state = desk.book.resting().tobytes() + desk.book.recent().tobytes()
    assert rejected(desk.send(command_type, **fields)) == reason
    assert desk.book.counters() == before._replace(sequence=before.sequence + 1)
    assert desk.book.resting().tobytes() + desk.book.recent().tobytes() == state
    assert reason in RULES


@pytest.mark.parametrize(("fault", "reason"), NEW_FAULTS)
def test_a_new_order_at_fault(narrow: Desk, fault: dict[str, int], reason: Reason) -> None:
    good: dict[str, Any] = {
        "side": BUY,
        "order_type": LIMIT,
        "time_in_force": GTC,
        "price": 99,
        "quantity": 5,
    }
    assert_rejected(narrow, reason, CommandType.NEW, **(good | fault))
    accepted(narrow.send(CommandType.NEW, **good))
    assert narrow.depth(BUY) == [(99, 5, 1)]


def test_of_several_faults_the_first_in_order_is_named(narrow: Desk) -> None:
    narrow.new(SELL, 1, 101)
    fields: dict[str, int] = {
        "symbol": 3,
        "side": 0,
        "order_type": 0,
        "time_in_force": 5,
        "flags": POST_ONLY,
        "quantity": 0,
        "price": 0,
        "client_order_id": 22,
    }
    mend: list[tuple[Reason, dict[str, int]]] = [
        (Reason.UNKNOWN_SYMBOL, {"symbol": 1}),
        (Reason.INVALID_SIDE, {"side": BUY}),
        (Reason.INVALID_ORDER_TYPE, {"order_type": LIMIT}),
        (Reason.INVALID_TIME_IN_FORCE, {"time_in_force": IOC}),
        (Reason.INVALID_POST_ONLY, {"time_in_force": GTC}),
        (Reason.INVALID_QUANTITY, {"quantity": 2}),
        (Reason.INVALID_PRICE, {"price": 111}),
        (Reason.PRICE_OUT_OF_BAND, {"price": 105}),
        (Reason.DUPLICATE_CLIENT_ORDER_ID, {"client_order_id": 23}),
        (Reason.BOOK_FULL, {}),
    ]
    for reason, better in mend:
        assert_rejected(narrow, reason, CommandType.NEW, **fields)
        fields |= better
    narrow.cancel(3)
    assert_rejected(narrow, Reason.POST_ONLY_WOULD_TRADE, CommandType.NEW, **fields)


CANCEL, REPLACE, REDUCE = CommandType.CANCEL, CommandType.REPLACE, CommandType.REDUCE


@pytest.mark.parametrize("command_type", [CANCEL, REPLACE, REDUCE])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, Reason.INVALID_ORDER_ID),
        ({"symbol": 3}, Reason.INVALID_ORDER_ID),
        ({"symbol": 3, "order_id": 1}, Reason.UNKNOWN_SYMBOL),
        ({"symbol": 3, "client_order_id": 21}, Reason.UNKNOWN_SYMBOL),
        ({"symbol": 0, "client_order_id": 21}, Reason.UNKNOWN_SYMBOL),
        ({"symbol": 2, "order_id": 1}, Reason.UNKNOWN_ORDER),
        ({"symbol": 2, "client_order_id": 21}, Reason.UNKNOWN_ORDER),
        ({"order_id": 2}, Reason.UNKNOWN_ORDER),
        ({"order_id": 3}, Reason.UNKNOWN_ORDER),
        ({"order_id": 2**64 - 1}, Reason.UNKNOWN_ORDER),
        ({"order_id": 2, "client_order_id": 21}, Reason.UNKNOWN_ORDER),
        ({"client_order_id": 22}, Reason.UNKNOWN_ORDER),
        ({"client_order_id": 99}, Reason.UNKNOWN_ORDER),
        ({"order_id": 1, "account": 2}, Reason.UNKNOWN_ORDER),
        ({"order_id": 1, "account": 0}, Reason.UNKNOWN_ORDER),
        ({"client_order_id": 21, "account": 2}, Reason.UNKNOWN_ORDER),
    ],
)
def test_a_command_that_names_no_order(
    narrow: Desk, command_type: int, fields: dict[str, int], reason: Reason
) -> None:
    assert_rejected(narrow, reason, command_type, price=100, quantity=5, **fields)
    [report] = narrow.send(command_type, order_id=1, price=100, quantity=5)
    assert report.order_id == 1


@pytest.mark.parametrize(
    ("command_type", "fields", "reason"),
    [
        (REDUCE, {"quantity": 0}, Reason.INVALID_QUANTITY),
        (REDUCE, {"quantity": MAX_QUANTITY + 1}, Reason.INVALID_QUANTITY),
        (REPLACE, {"price": 100, "quantity": 0}, Reason.INVALID_QUANTITY),
        (REPLACE, {"price": 0, "quantity": MAX_QUANTITY + 1}, Reason.INVALID_QUANTITY),
        (REPLACE, {"price": 0, "quantity": 5}, Reason.INVALID_PRICE),
        (REPLACE, {"price": MAX_PRICE + 1, "quantity": 5}, Reason.INVALID_PRICE),
        (REPLACE, {"price": 100, "quantity": 5, "flags": KEEP_BOTH}, Reason.INVALID_REPLACE),
        (REPLACE, {"flags": KEEP_BOTH | REINSERT}, Reason.INVALID_REPLACE),
        (REPLACE, {"price": 100, "quantity": 0, "flags": KEEP_PRICE}, Reason.INVALID_QUANTITY),
        (REPLACE, {"quantity": MAX_QUANTITY + 1, "flags": KEEP_PRICE}, Reason.INVALID_QUANTITY),
        (REPLACE, {"price": 0, "quantity": 5, "flags": KEEP_QUANTITY}, Reason.INVALID_PRICE),
        (REPLACE, {"price": MAX_PRICE + 1, "flags": KEEP_QUANTITY}, Reason.INVALID_PRICE),
        (REPLACE, {"price": 89, "flags": KEEP_QUANTITY}, Reason.PRICE_OUT_OF_BAND),
        (REPLACE, {"quantity": 4, "flags": KEEP_PRICE}, Reason.ALREADY_FILLED),
        (REPLACE, {"price": 89, "quantity": 4}, Reason.PRICE_OUT_OF_BAND),
        (REPLACE, {"price": 111, "quantity": 5}, Reason.PRICE_OUT_OF_BAND),
        (REPLACE, {"price": 100, "quantity": 4}, Reason.ALREADY_FILLED),
        (REPLACE, {"price": 100, "quantity": 3}, Reason.ALREADY_FILLED),
        (
            REPLACE,
            {"price": 100, "quantity": MAX_QUANTITY - 3, "flags": REINSERT},
            Reason.INVALID_QUANTITY,
        ),
    ],
)
def test_a_change_at_fault(
    narrow: Desk, command_type: int, fields: dict[str, int], reason: Reason
) -> None:
    assert_rejected(narrow, reason, command_type, order_id=1, **fields)


@pytest.mark.parametrize("command_type", [REPLACE, REDUCE])
def test_the_fields_are_checked_before_the_order(narrow: Desk, command_type: int) -> None:
    assert_rejected(narrow, Reason.INVALID_QUANTITY, command_type, order_id=99, price=100)
    assert_rejected(narrow, Reason.UNKNOWN_ORDER, command_type, order_id=99, price=1, quantity=4)


@pytest.mark.parametrize("command_type", [0, 8, 255])
def test_no_such_command(narrow: Desk, command_type: int) -> None:
    fields = {"order_id": 1, "side": BUY, "order_type": LIMIT, "time_in_force": GTC}
    assert_rejected(narrow, Reason.INVALID_COMMAND, command_type, price=99, quantity=1, **fields)


# Capacity --------------------------------------------------------------------------------------


def test_a_full_book_takes_what_does_not_rest(narrow: Desk) -> None:
    narrow.new(SELL, 1, 101)
    for side, price in ((BUY, 90), (BUY, 110), (SELL, 110)):
        assert rejected(narrow.new(side, 1, price)) == Reason.BOOK_FULL
    assert len(narrow.new(BUY, 1, 110, time_in_force=IOC)) == 3
    assert len(narrow.new(BUY, 1, 110, time_in_force=FOK)) == 3
    assert len(narrow.market(BUY, 5)) == 1 + 2 * 2
    accepted(narrow.new(SELL, 1, 110))


def test_each_symbol_has_its_own_capacity(narrow: Desk) -> None:
    narrow.new(SELL, 1, 101)
    assert rejected(narrow.new(SELL, 1, 101)) == Reason.BOOK_FULL
    accepted(narrow.new(SELL, 1, 101, symbol=2))


# Memory of client_order_ids --------------------------------------------------------------------


def test_a_duplicate_is_told_the_first_order(narrow: Desk) -> None:
    [report] = narrow.new(BUY, 4, 100, client_order_id=22)
    assert (report.reason, report.order_id) == (Reason.DUPLICATE_CLIENT_ORDER_ID, 2)
    assert report.client_order_id == 22


def test_ids_are_unique_per_account_and_symbol(narrow: Desk) -> None:
    accepted(narrow.new(BUY, 1, 99, client_order_id=22, account=2))
    accepted(narrow.new(BUY, 1, 99, client_order_id=22, symbol=2))


def test_orders_without_an_id_are_no_duplicates(narrow: Desk) -> None:
    for _ in range(3):
        narrow.cancel(accepted(narrow.new(BUY, 1, 99)).order_id)


def test_a_rejected_order_is_not_remembered(narrow: Desk) -> None:
    assert rejected(narrow.new(BUY, 0, 99, client_order_id=30)) == Reason.INVALID_QUANTITY
    accepted(narrow.new(BUY, 1, 99, client_order_id=30))


def recent_ids(desk: Desk) -> list[int]:
    ids: list[int] = desk.book.recent()["client_order_id"].tolist()
    return ids


def test_an_ended_order_is_remembered_while_among_the_last_accepted(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [WIDE, WIDE._replace(symbol=2)], 3))
    duplicate = Reason.DUPLICATE_CLIENT_ORDER_ID
    desk.new(BUY, 1, 100, client_order_id=50, time_in_force=IOC)
    desk.new(BUY, 1, 100, account=2)
    desk.new(BUY, 1, 100, client_order_id=51, symbol=2)
    assert rejected(desk.new(BUY, 1, 100, client_order_id=50)) == duplicate
    assert desk.book.recent().tolist() == [(1, 1, 50, 1), (3, 1, 51, 2)]
    desk.new(BUY, 1, 100, client_order_id=52)
    assert recent_ids(desk) == [51, 52]
    accepted(desk.new(BUY, 1, 100, client_order_id=50))


def test_a_live_order_is_remembered_however_old(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [WIDE], 2))
    desk.new(BUY, 9, 100, client_order_id=50)
    for _ in range(5):
        desk.new(BUY, 1, 90)
    assert recent_ids(desk) == []
    assert rejected(desk.new(BUY, 1, 90, client_order_id=50)) == Reason.DUPLICATE_CLIENT_ORDER_ID
    desk.new(SELL, 8, 100)
    assert rejected(desk.new(BUY, 1, 90, client_order_id=50)) == Reason.DUPLICATE_CLIENT_ORDER_ID
    desk.new(SELL, 1, 100)
    [report] = desk.new(BUY, 1, 90, client_order_id=50)
    assert report.order_id == 9


@pytest.mark.parametrize("end", ["cancel", "reduce", "mass_cancel", "replace"])
def test_an_old_order_is_forgotten_when_it_ends(make_book: MakeBook, end: str) -> None:
    desk = Desk(make_book(0, [WIDE], 1))
    desk.new(BUY, 9, 100, client_order_id=50)
    desk.new(SELL, 9, 101, account=2)
    {
        "cancel": lambda: desk.cancel(1),
        "reduce": lambda: desk.reduce(1, 9),
        "mass_cancel": desk.mass_cancel,
        "replace": lambda: desk.replace(1, 9, 101),
    }[end]()
    accepted(desk.new(BUY, 1, 90, client_order_id=50))


def test_without_a_memory_only_live_orders_are_known(make_book: MakeBook) -> None:
    desk = Desk(make_book(0, [WIDE], 0))
    desk.new(BUY, 1, 100, client_order_id=50, time_in_force=IOC)
    desk.new(BUY, 1, 100, client_order_id=50)
    assert rejected(desk.new(BUY, 1, 100, client_order_id=50)) == Reason.DUPLICATE_CLIENT_ORDER_ID
    desk.new(SELL, 1, 100)
    desk.new(BUY, 1, 100, client_order_id=50)
    assert recent_ids(desk) == []


def test_a_repeated_command_never_trades_twice(narrow: Desk) -> None:
    order = {"side": BUY, "order_type": LIMIT, "time_in_force": IOC, "price": 100, "quantity": 3}
    assert len(narrow.send(CommandType.NEW, client_order_id=77, **order)) == 3
    assert_rejected(
        narrow, Reason.DUPLICATE_CLIENT_ORDER_ID, CommandType.NEW, client_order_id=77, **order
    )


# What a book is made of ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shard", "limits", "recent_orders"),
    [
        (-1, [WIDE], 1),
        (256, [WIDE], 1),
        (0, [WIDE], -1),
        (0, [WIDE, WIDE], 1),
        (0, [WIDE._replace(symbol=0)], 1),
        (0, [WIDE._replace(symbol=65536)], 1),
    ],
)
def test_a_book_of_impossible_numbers(
    make_book: MakeBook, shard: int, limits: list[BookLimits], recent_orders: int
) -> None:
    with pytest.raises(ValueError, match=r"shard|recent_orders|symbol"):
        make_book(shard, limits, recent_orders)
