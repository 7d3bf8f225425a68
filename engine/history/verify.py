"""Holding a history against journals and trade log: counts, sums, and the first difference.

What the journals still have is carried out once more, and every order that ends in it, and every
one that is open where the history ends, is held against its row, with what it has paid; every trade
against its own. Trades from before that are held against the trade log. All of it in plain Python,
without what makes the rows.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.books.secret import identity
from engine.history.destination import Cursor
from engine.history.evidence import Evidence
from engine.history.history import History
from engine.history.past import earliest_position
from engine.history.rows import (
    LATER_COLUMNS,
    ORDER_ROW,
    SAID,
    SAYING,
    TRADE_ROW,
    VALUE_BITS,
    signed,
)
from engine.plan import Plan
from engine.shard.follower import Followed, Follower
from engine.trade_log.log import read_trades
from engine.verify import Verdict
from ipc.codes import SIDE_BUY, SIDE_SELL
from ipc.records import make_id, sequence_of, shard_of
from ipc.vocabulary import ENDED, ENDED_UNFILLED, ExecType, Side

_ORDER_NAMES, _TRADE_NAMES = ORDER_ROW.names or (), TRADE_ROW.names or ()


class _Open(NamedTuple):
    """What is known of an order that has not ended, beside its last report."""

    created_ns: int
    value: int | None
    """What it has paid; None: part of that was before what is replayed."""
    row: dict[str, int]


def verify_history(plan: Plan, reader: History, scratch: Path) -> Verdict:
    """Hold a history against the data directory of ``plan``; ``scratch`` is for a replay's table.

    Raises ``AwayError`` and ``HistoryError`` where it cannot be read.
    """
    verdict = Verdict()
    with reader.evidence() as evidence:
        cursors = evidence.cursors()
        for shard in plan.shards:
            if shard not in cursors:
                verdict.say(f"shard {shard}: the history has nothing of it")
                continue
            with verdict.judging(f"shard {shard}"):
                _Shard(verdict, plan, cursors[shard], evidence).verify(scratch)
        _check_lists(verdict, evidence)
    return verdict


class _Shard:
    """One shard's part."""

    def __init__(self, verdict: Verdict, plan: Plan, cursor: Cursor, there: Evidence) -> None:
        self._verdict, self._plan, self._cursor, self._there = verdict, plan, cursor, there
        self._shard = cursor.shard
        self._low, self._high = make_id(self._shard, 0), make_id(self._shard + 1, 0)
        self._open: dict[int, _Open] = {}
        self._differences = 0
        self._held = 0

    def verify(self, scratch: Path) -> None:
        """Hold everything against what it comes from. Raises ``JournalError`` and others."""
        self._count()
        self._trades_of_log()
        position = earliest_position(self._plan.journal_dir(self._shard), 0)
        cursor = self._cursor
        if position > cursor.position:
            self._problem(f"ends with command {cursor.position}, the journal begins behind it")
            return
        follower = Follower(self._plan, self._shard, position, scratch)
        try:
            if identity(follower.shard.secret) != cursor.identity:
                self._problem("the history was filled from another data directory")
                return
            self._take_open(follower)
            while follower.position < cursor.position:
                batch = follower.step(cursor.position - follower.position)
                if batch is None:
                    self._problem(
                        f"knows command {cursor.position}, the journal ends with "
                        f"{follower.position}"
                    )
                    return
                self._follow(batch)
            for order_id, order in self._open.items():
                self._hold_order(order_id, order)
        finally:
            follower.close()
        self._verdict.say(
            f"shard {self._shard}: {self._held} orders and trades held against commands "
            f"{position + 1} to {cursor.position}: {self._differences} differences"
        )

    def _count(self) -> None:
        """Hold how many rows there are against how many ids were given."""
        counts, cursor = self._there.counts(self._low, self._high), self._cursor
        for table, count, unknown, given, lost in (
            ("order_rows", counts.orders, counts.unknown, cursor.orders, cursor.lost_orders),
            ("trade_rows", counts.trades, 0, self._known_trades(), cursor.lost_trades),
        ):
            what = f"{table}: {count} of {given} that were given, {lost} lost before"
            if count - unknown == given - lost:
                self._verdict.say(f"shard {self._shard}: {what}")
            else:
                self._problem(what)

    def _known_trades(self) -> int:
        """Return how many trades should be there by now."""
        cursor = self._cursor
        return cursor.trades - (cursor.log_end - cursor.log_next + 1 if cursor.log_next else 0)

    def _trades_of_log(self) -> None:
        """Hold trades against the log, as far as both go."""
        scales = {i.symbol: i for i in self._plan.known_instruments[::-1]}
        found = self._there.trades(self._low, self._high)
        rows = (dict(zip(_TRADE_NAMES, row, strict=True)) for row in found)
        row = next(rows, None)
        count = paid = 0
        for trade in read_trades(self._plan.log_dir):
            if shard_of(trade.trade_id) != self._shard:
                continue
            if sequence_of(trade.trade_id) > self._cursor.trades:
                break  # the history is not there yet
            if self._is_awaited(trade.trade_id):
                continue
            while row is not None and row["trade_id"] < trade.trade_id:
                row = next(rows, None)  # the log's beginning was moved away
            if row is None or row["trade_id"] > trade.trade_id:
                self._differ("trade", trade.trade_id, "is missing")
                continue
            instrument = scales[trade.symbol]
            expected = {
                "trade_id": trade.trade_id,
                "symbol": instrument.number,
                "timestamp_ns": trade.timestamp,
                "price": instrument.tick.steps(trade.price, "price"),
                "quantity": instrument.lot.steps(trade.quantity, "quantity"),
                "buy_order_id": trade.buy_order_id,
                "sell_order_id": trade.sell_order_id,
                "taker_side": int(Side[trade.taker_side.upper()]),
            }
            self._compare("trade", trade.trade_id, row, expected)
            count += 1
            paid += expected["price"] * expected["quantity"]
        self._verdict.say(
            f"shard {self._shard}: {count} trades held against the trade log, "
            f"{paid} ticks times lots in all"
        )

    def _is_awaited(self, trade_id: int) -> bool:
        """Return whether a trade is still to be taken from the log."""
        cursor, sequence = self._cursor, sequence_of(trade_id)
        return bool(cursor.log_next) and cursor.log_next <= sequence <= cursor.log_end

    def _take_open(self, follower: Follower) -> None:
        """Take over the orders that are open where the replay begins."""
        orders = follower.shard.table.contents()
        for order in orders[~np.isin(orders["ord_status"], ENDED)]:
            row = _state(order, "cum_qty", "updated_ns")
            created = int(order["created_ns"])
            self._open[int(order["order_id"])] = _Open(
                created, 0 if not row["filled"] else None, row
            )

    def _follow(self, batch: Followed) -> None:
        """Hold what some commands came to against the rows."""
        accounts: dict[int, dict[int, int]] = {}
        for report in batch.reports:
            kind = int(report["exec_type"])
            if kind in (ExecType.REJECTED, ExecType.MASS_CANCELED):
                continue
            order_id, trade_id = int(report["order_id"]), int(report["trade_id"])
            now_ns = int(report["timestamp_ns"])
            known = self._open.pop(order_id, None)
            if known is None:
                known = _Open(now_ns if kind == ExecType.NEW else 0, 0, {})
            value = known.value
            if trade_id and value is not None:
                value += int(report["last_price"]) * int(report["last_qty"])
            if trade_id:
                sides = accounts.setdefault(trade_id, {})
                sides[int(report["side"])] = signed(int(report["account"]))
            row = _state(report, "cum_qty", "timestamp_ns")
            for name, source in SAID.items():
                row[name] = known.row.get(name, 0)
                if kind in SAYING and not report["reason"] and report[source]:
                    row[name] = int(report[source])
            row["reason"] = int(report["reason"]) if kind in ENDED_UNFILLED else 0
            order = _Open(known.created_ns, value, row)
            if int(report["ord_status"]) in ENDED:
                self._hold_order(order_id, order)
            else:
                self._open[order_id] = order
        for trade in batch.trades:
            self._hold_trade(trade, accounts[int(trade["trade_id"])])

    def _hold_order(self, order_id: int, order: _Open) -> None:
        found = self._there.order(order_id)
        if found is None:
            self._differ("order", order_id, "is missing")
            return
        there = dict(zip(_ORDER_NAMES, found, strict=True))
        there["value"] = (there.pop("value_high") << VALUE_BITS) + there.pop("value_low")
        expected = dict(order.row, created_ns=order.created_ns)
        if order.value is not None and not self._cursor.log_next:
            expected["value"] = order.value
        self._compare("order", order_id, there, expected)

    def _hold_trade(self, trade: np.void, accounts: dict[int, int]) -> None:
        trade_id = int(trade["trade_id"])
        if self._is_awaited(trade_id):
            return
        found = self._there.trade(trade_id)
        if found is None:
            self._differ("trade", trade_id, "is missing")
            return
        there = dict(zip(_TRADE_NAMES, found, strict=True))
        expected = {name: int(trade[name]) for name in _TRADE_NAMES if name not in _PARTIES}
        if there["buyer"] or there["seller"]:  # not of the trade log, which knows none
            expected["buyer"] = accounts[SIDE_BUY] if Side.BUY in accounts else 0
            expected["seller"] = accounts[SIDE_SELL] if Side.SELL in accounts else 0
        self._compare("trade", trade_id, there, expected)

    def _compare(
        self, kind: str, key: int, there: dict[str, int], expected: dict[str, int]
    ) -> None:
        self._held += 1
        for name, value in expected.items():
            if there.get(name) != value:
                self._differ(kind, key, f"{name} is {there.get(name)}, should be {value}")
                return

    def _differ(self, kind: str, key: int, problem: str) -> None:
        """Tell of the first difference, and count the others."""
        self._differences += 1
        if self._differences == 1:
            self._problem(f"{kind} {key}: {problem}")

    def _problem(self, text: str) -> None:
        self._verdict.problems += 1
        self._verdict.say(f"shard {self._shard}: PROBLEM: {text}")


_PARTIES = ("buyer", "seller")
_STATE = ("account", "client_order_id", "symbol", "side", "order_type", "time_in_force", "flags")


def _state(record: np.void, filled: str, updated: str) -> dict[str, int]:
    """Return what a report (REPORT) or an order (ORDER) says of an order, named as ORDER_ROW."""
    row = {name: int(record[name]) for name in (*_STATE, "price", "quantity", "reason")}
    row["account"], row["client_order_id"] = (
        signed(row[name]) for name in ("account", "client_order_id")
    )
    row["filled"], row["status"] = int(record[filled]), int(record["ord_status"])
    row["updated_ns"] = int(record[updated])
    row |= {name: int(record[name]) for name in LATER_COLUMNS if name in (record.dtype.names or ())}
    return row


def _check_lists(verdict: Verdict, evidence: Evidence) -> None:
    """Hold the lists of trades, by user or by order, against the trades."""
    name, lists, wrong = evidence.listed()
    if wrong:
        verdict.problems += 1
        verdict.say(f"PROBLEM: {name}: {len(wrong)} differ, the first is {wrong[0]}")
    else:
        verdict.say(f"{name}: {lists}, each with its trades once")
