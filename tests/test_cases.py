"""The public order book cases of exchange-core (Apache-2.0), run on every book.

Translation: a case's order id plus one is the client_order_id (theirs may be 0), its owners are
accounts, an order once accepted is named by the order_id that it got, and a move is a REPLACE of
the open quantity with REINSERT. Two rules differ, and each is asserted as what it is here:

- There an order with the id of a live one is accepted, matched, and then does not rest. Here it is
  rejected, DUPLICATE_CLIENT_ORDER_ID. In the one case that has it, nothing trades or rests either
  way.
- There a reduce may ask for less than nothing. Here no message can carry that.
"""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ipc.vocabulary import ExecType, Flag, Liquidity, Reason, Side, TimeInForce
from ipc.wire.messages import Reduce, client_decoder, encoder
from tests.books import WIDE, Desk, MakeBook, Report

Row = dict[str, Any]

SIDES = {"B": Side.BUY, "S": Side.SELL}
TIMES_IN_FORCE = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC}
REJECTED = {"unknown_id": Reason.UNKNOWN_ORDER, "bad_qty": Reason.INVALID_QUANTITY}
ASSERTED = {
    *("status", "trades", "book", "removed_qty", "order_gone"),
    *("unfilled_cancelled", "rejected_event"),
}


def read_cases() -> dict[str, list[Row]]:
    directory = os.environ.get("SHARDBOOK_DATA")
    cases: dict[str, list[Row]] = {}
    if directory:
        for line in (Path(directory) / "cases/exchange-core.jsonl").read_text().splitlines():
            row = json.loads(line)
            cases.setdefault(row["case"], []).append(row)
    return cases


CASES = read_cases()


class Case:
    """Runs one case, row by row, at a desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.order_ids: dict[int, int] = {}
        self.accounts: dict[Any, int] = {}
        self.open_qty: dict[int, int] = {}

    def run(self, row: Row) -> None:
        expect = row.get("expect", {})
        assert expect.keys() <= ASSERTED, f"an expectation that is not understood: {expect}"
        before = self.depth()
        open_before = self.open_qty.get(row.get("id", -1), 0)
        if row["op"] == "reduce" and row["qty"] < 0:
            self.no_message_carries(row)
        elif row["op"] != "check":
            reports = self.enter(row)
            self.check_answer(row, expect, reports, before)
            self.note_open_quantities(reports)
            self.check_quantities(row, expect, reports, open_before)
        if "book" in expect:
            self.check_book(expect["book"])

    def enter(self, row: Row) -> list[Report]:
        number = row["id"]
        account = self.accounts.setdefault(row["owner"], len(self.accounts) + 1)
        order_id = self.order_ids.get(number, 0)
        named = {"account": account, "client_order_id": number + 1}
        if row["op"] == "limit":
            terms = {"time_in_force": TIMES_IN_FORCE[row["tif"]]}
            reports = self.desk.new(SIDES[row["side"]], row["qty"], row["price"], **(terms | named))
            self.order_ids.setdefault(number, reports[0].order_id)
            return reports
        if row["op"] == "cancel":
            return self.desk.cancel(order_id, **named)
        if row["op"] == "reduce":
            return self.desk.reduce(order_id, row["qty"], **named)
        assert row["op"] == "move"
        quantity = self.open_qty.get(number, 1)
        named["flags"] = Flag.REINSERT
        return self.desk.replace(order_id, quantity, row["price"], **named)

    def check_answer(
        self, row: Row, expect: Row, reports: list[Report], before: list[list[Any]]
    ) -> None:
        answer = reports[0]
        duplicate = row["op"] == "limit" and row["id"] in self.open_qty
        if duplicate:
            assert answer.exec_type == ExecType.REJECTED
            assert answer.reason == Reason.DUPLICATE_CLIENT_ORDER_ID
        elif expect.get("status", "ok") == "ok":
            assert answer.exec_type != ExecType.REJECTED, answer
        else:
            assert answer.exec_type == ExecType.REJECTED
            assert answer.reason == REJECTED[expect["status"]]
        if answer.exec_type == ExecType.REJECTED:
            assert (len(reports), self.depth()) == (1, before)

    def check_quantities(
        self, row: Row, expect: Row, reports: list[Report], open_before: int
    ) -> None:
        if "trades" in expect:
            assert self.trades(reports, expect["trades"]) == expect["trades"]
        if "removed_qty" in expect:
            removed = open_before - self.open_qty.get(row["id"], 0)
            assert removed == expect["removed_qty"]
        if "order_gone" in expect:
            assert (reports[0].exec_type == ExecType.CANCELED) == expect["order_gone"]
            resting = self.desk.book.resting()["order_id"].tolist()
            assert (self.order_ids[row["id"]] not in resting) == expect["order_gone"]
        if "unfilled_cancelled" in expect:
            last = reports[-1]
            assert (last.exec_type, last.reason) == (ExecType.CANCELED, Reason.IOC_REMAINDER)
            assert last.quantity - last.cum_qty == expect["unfilled_cancelled"]

    def trades(self, reports: list[Report], expected: list[Row]) -> list[Row]:
        """Return the trades of a command, of each the fields that are asserted of it."""
        fills = [report for report in reports if report.exec_type == ExecType.TRADE]
        takers = [fill for fill in fills if fill.liquidity == Liquidity.TAKER]
        makers = [fill for fill in fills if fill.liquidity == Liquidity.MAKER]
        assert len(takers) == len(expected)
        trades = []
        for taker, maker, asserted in zip(takers, makers, expected, strict=True):
            trade = {
                "maker": maker.client_order_id - 1,
                "taker": taker.client_order_id - 1,
                "price": maker.last_price,
                "qty": maker.last_qty,
            }
            trades.append({name: trade[name] for name in asserted})
        return trades

    def note_open_quantities(self, reports: list[Report]) -> None:
        for report in reports:
            if report.exec_type != ExecType.REJECTED:
                self.open_qty[report.client_order_id - 1] = report.leaves_qty

    def no_message_carries(self, row: Row) -> None:
        message = encoder.encode(Reduce(1, 1, 0, row["id"] + 1, row["qty"]))
        with pytest.raises(msgspec.ValidationError):
            client_decoder.decode(message)

    def depth(self) -> list[list[Any]]:
        return [self.desk.depth(side) for side in SIDES.values()]

    def check_book(self, expected: dict[str, list[list[int]]]) -> None:
        for name, levels in zip(("bids", "asks"), self.depth(), strict=True):
            width = len(expected[name][0]) if expected[name] else 0
            assert [list(level[:width]) for level in levels] == expected[name], name


@pytest.mark.skipif(not CASES, reason="SHARDBOOK_DATA is not set: it names the recorded data")
@pytest.mark.parametrize("name", CASES)
def test_case(make_book: MakeBook, name: str) -> None:
    begin, *rows = CASES[name]
    if begin["needs"]:
        pytest.skip(f"needs {', '.join(begin['needs'])}, which no book here has")
    case = Case(Desk(make_book(0, [WIDE], recent_orders=100)))
    for row in rows:
        case.run(row)
