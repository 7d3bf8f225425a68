"""Reading history: pages that are whole, in order, and bounded."""

import os
from pathlib import Path

import numpy as np
import pytest

from engine.history.destination import AwayError
from engine.history.history import Page, everything, value_of
from engine.history.sql_reader import _conditions
from engine.history.sqlite import SqliteDestination
from engine.history.sqlite_reader import SqliteHistory
from engine.plan import Plan
from ipc.vocabulary import ExecType, OrdStatus
from tests.exporting import export
from tests.histories import SqliteStore, Store, planned, reader
from tests.kept import TIME_NS, commands_for, recovered, write_journal
from tests.test_follower import following
from tests.test_snapshot import SMALL

KILLS = int(os.environ.get("SHARDBOOK_EXPORTER_KILLS", "4"))


def plain_orders(plan: Plan) -> dict[int, dict[str, int]]:
    """Return what becomes of each order, from its reports, one by one."""
    orders: dict[int, dict[str, int]] = {}
    with following(plan) as follower:
        for batch in iter(follower.step, None):
            for report in batch.reports:
                order_id = int(report["order_id"])
                if int(report["exec_type"]) in (ExecType.REJECTED, ExecType.MASS_CANCELED):
                    continue
                now_ns = int(report["timestamp_ns"])
                order = orders.setdefault(order_id, {"created_ns": now_ns, "paid": 0})
                order["paid"] += int(report["last_price"]) * int(report["last_qty"])
                order["account"] = int(report["account"])
                order["symbol"] = int(report["symbol"])
                order["status"], order["filled"] = int(report["ord_status"]), int(report["cum_qty"])
                order["updated_ns"] = now_ns
    return orders


def as_signed(account: int) -> int:
    return int(np.uint64(account).view(np.int64))


def test_pages_of_orders_go_on_where_the_one_before_ended(tmp_path: Path, store: Store) -> None:
    plan = planned(tmp_path, store, SMALL)
    write_journal(plan, commands_for(plan, 4_000))
    export(plan, store)
    orders = plain_orders(plan)
    history = reader(plan, store)
    account = orders[1]["account"]
    middle = TIME_NS + 20
    for wanted, keeps in (
        (Page({}, 97, account=account), lambda o: o["account"] == account),
        (Page({}, 97, symbol=2), lambda o: o["symbol"] == 2),
        (Page({}, 97, from_ns=middle), lambda o: o["created_ns"] >= middle),
        (Page({}, 97, to_ns=middle), lambda o: o["created_ns"] < middle),
        (
            Page({}, 7, account=account, symbol=1, statuses=[int(OrdStatus.FILLED)]),
            lambda o: (o["account"], o["symbol"], o["status"]) == (account, 1, OrdStatus.FILLED),
        ),
    ):
        below = everything([0])
        found: list[int] = []
        while len(rows := history.orders(wanted._replace(below=below))):
            assert len(rows) <= wanted.limit
            found += rows["order_id"].tolist()
            below = {0: found[-1]}
        assert found == [i for i in sorted(orders, reverse=True) if keeps(orders[i])]
    for order_id in (1, 77, max(orders)):
        [row] = history.order(order_id)
        order = orders[order_id]
        assert value_of(row) == order["paid"]
        assert (row["status"], row["filled"]) == (order["status"], order["filled"])
        assert row["account"] == as_signed(order["account"])
    assert not len(history.order(max(orders) + 1))
    history.close()


def test_pages_of_trades_are_those_of_the_log(tmp_path: Path, store: Store) -> None:
    plan = planned(tmp_path, store, SMALL)
    write_journal(plan, commands_for(plan, 4_000))
    _, trades = recovered(plan)
    export(plan, store)
    orders = plain_orders(plan)
    account = orders[1]["account"]
    sides = {
        int(t["trade_id"]): {
            orders[int(t[side])]["account"] for side in ("buy_order_id", "sell_order_id")
        }
        for t in trades
    }
    history = reader(plan, store)
    middle = TIME_NS + 20
    for wanted, keeps in (
        (Page({}, 97), lambda t: True),
        (Page({}, 97, symbol=2), lambda t: t["symbol"] == 2),
        (
            Page({}, 97, from_ns=middle, symbol=1),
            lambda t: t["timestamp_ns"] >= middle and t["symbol"] == 1,
        ),
        (Page({}, 97, to_ns=middle), lambda t: t["timestamp_ns"] < middle),
        (Page({}, 97, account=account), lambda t: account in sides[int(t["trade_id"])]),
        (
            Page({}, 3, account=account, symbol=1),
            lambda t: account in sides[int(t["trade_id"])] and t["symbol"] == 1,
        ),
    ):
        below = everything([0])
        found: list[int] = []
        while len(rows := history.trades(wanted._replace(below=below))):
            assert len(rows) <= wanted.limit
            found += rows["trade_id"].tolist()
            below = {0: found[-1]}
        assert found == [int(t["trade_id"]) for t in trades[::-1] if keeps(t)]
    assert history.users([1, as_signed(account)]) == {}
    history.close()


def test_candles_are_those_of_all_trades(tmp_path: Path, store: Store) -> None:
    plan = planned(tmp_path, store, SMALL)
    write_journal(plan, commands_for(plan, 4_000))
    _, trades = recovered(plan)
    export(plan, store)
    start, end, width = TIME_NS + 5, TIME_NS + 35, 10
    plain: dict[int, list[int]] = {}
    for trade in trades[trades["symbol"] == 1]:
        time_ns, price, quantity = (int(trade[n]) for n in ("timestamp_ns", "price", "quantity"))
        if not start <= time_ns < end:
            continue
        candle = plain.setdefault(time_ns // width * width, [price, price, price, price, 0, 0])
        candle[1], candle[2] = max(candle[1], price), min(candle[2], price)
        candle[3] = price
        candle[4], candle[5] = candle[4] + quantity, candle[5] + 1
    history = reader(plan, store)
    found = history.candles(0, 1, width, start, end)
    assert {row[0]: list(row[1:]) for row in found.tolist()} == plain
    assert len(found) == 4
    assert found["start_ns"].tolist() == sorted(plain)
    assert not len(history.candles(0, 1, width, TIME_NS - 100, TIME_NS))
    history.close()


def test_a_question_that_takes_too_long_ends(tmp_path: Path) -> None:
    store = SqliteStore()
    plan = planned(tmp_path, store, SMALL)
    write_journal(plan, commands_for(plan, 6_000))
    export(plan, store)
    history = SqliteHistory(plan.history_path, timeout_s=-1)
    with pytest.raises(AwayError, match="the answer takes longer than"):
        history.orders(Page(everything([0]), 10, statuses=[99]))
    history.close()
    with pytest.raises(AwayError, match="is not there"):
        SqliteHistory(tmp_path / "none.sqlite").order(1)


def test_orders_are_looked_up_by_user_rather_than_by_symbol(tmp_path: Path) -> None:
    destination = SqliteDestination(tmp_path / "history.sqlite")
    where, values = _conditions(
        Page({}, 1, symbol=1, account=2, side=1), ("account", "symbol", "side")
    )
    text = (
        f"EXPLAIN QUERY PLAN SELECT * FROM order_rows WHERE order_id > 0{where} ORDER BY order_id"
    )
    [(*_, step)] = destination._connection.execute(text, values).fetchall()
    assert "orders_by_account (account=? AND order_id>?)" in step
    destination.close()
