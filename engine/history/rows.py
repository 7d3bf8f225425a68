"""What a shard's commands come to as rows: one an order with its newest state, one a trade.

Rows are integers only: ticks, lots, nanoseconds, codes of ``ipc.vocabulary``; 0 means "none". All
fields are 64 bits wide and signed, so that an array of rows is a matrix without a conversion;
accounts, and client_order_ids that stand for texts, use all 64 bits, and are the same bits there.

An order's average price is kept exactly, as what was paid: the sum of price * quantity of its
trades, ``value_high * 2**62 + value_low``. A row has that of its own batch, for a destination adds
it to what it has.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.books.contract import Records
from engine.shard.follower import Followed, as_one
from ipc.arrays import Integers
from ipc.bounds import TEXT_BIT
from ipc.client_ids import KnownTexts
from ipc.records import ORDER, REPORT, TRADE
from ipc.vocabulary import ENDED_UNFILLED, ExecType, Liquidity, OrdStatus, Side
from ipc.wire.matcher_codec import TextOf, no_text

ORDER_NAMES = {"cum_qty": "filled", "ord_status": "status"}
"""Fields of ORDER that rows call otherwise."""
NOT_KEPT = ("leaves_qty", "reserved", "end_number")
"""Fields of ORDER that follow from others, or are of its table alone."""
FIRST_COLUMNS = (
    "order_id",
    "account",
    "client_order_id",
    "symbol",
    "side",
    "order_type",
    "time_in_force",
    "flags",
    "price",
    "quantity",
    "filled",
    "value_high",
    "value_low",
    "status",
    "reason",
    "created_ns",  # 0: not known
    "updated_ns",
)
LATER_COLUMNS = tuple(
    name
    for field in ORDER.names or ()
    if field not in NOT_KEPT and (name := ORDER_NAMES.get(field, field)) not in FIRST_COLUMNS
)
"""What orders have come to bear since the first histories, in the order in which it came."""

ORDER_ROW = np.dtype([(name, "<i8") for name in (*FIRST_COLUMNS, *LATER_COLUMNS)])
"""One order: where it stands, and what it has paid since the row before."""

TRADE_ROW = np.dtype(
    [
        (name, "<i8")
        for name in (
            "trade_id",
            "symbol",
            "timestamp_ns",
            "price",
            "quantity",
            "buy_order_id",
            "sell_order_id",
            "buyer",  # accounts; 0: not known
            "seller",
            "taker_side",
        )
    ]
)
"""One trade."""

VALUE_BITS = 62
"""Of ``value_low``: two of them are added without leaving 64 bits."""
_VALUE_MASK = (1 << VALUE_BITS) - 1
PIECE_IDS = 4_096
"""Trades of one piece of a user's, at the most."""
_OF_ORDERS = (
    ExecType.NEW,
    ExecType.CANCELED,
    ExecType.REPLACED,
    ExecType.TRADE,
    ExecType.TRIGGERED,
    ExecType.EXPIRED,
)


class Rows(NamedTuple):
    """What some commands of a shard came to."""

    orders: Records
    """ORDER_ROW, one an order, by order_id."""
    trades: Records
    """TRADE_ROW, by trade_id."""
    reports: Records
    """REPORT, as the shard's report ring counts them."""
    first_report: int
    """The number of the first report."""
    texts: Mapping[int, str] = MappingProxyType({})
    """Of new orders' client_order_ids that stand for one: see ``ipc.client_ids``."""


def rows_of(batches: Sequence[Followed], text_of: TextOf = no_text) -> Rows:
    """Return the rows of batches that follow each other; there is one at least. ``text_of`` is that
    of the order table behind them."""
    whole = as_one(batches)
    trades = trade_rows(whole.trades, whole.reports)
    texts = _texts(whole, text_of)
    return Rows(order_rows(whole.reports), trades, whole.reports, whole.first_report, texts)


def _texts(whole: Followed, text_of: TextOf) -> dict[int, str]:
    known = KnownTexts()
    known.note(whole.commands)
    reports = whole.reports
    is_new = reports["exec_type"] == ExecType.NEW
    places = np.flatnonzero(is_new & (reports["client_order_id"] >= np.uint64(TEXT_BIT)))
    columns = (reports[name][places].tolist() for name in ("order_id", "client_order_id"))
    ids = zip(*columns, strict=True)
    found = {number: known.find(number) or text_of(order_id, number) for order_id, number in ids}
    return {number: text for number, text in found.items() if text is not None}


def order_rows(reports: Records) -> Records:
    """Return a row for every order that reports (REPORT) speak of, by order_id."""
    places = np.flatnonzero(np.isin(reports["exec_type"], _OF_ORDERS))
    ids = reports["order_id"][places]
    by_order = np.argsort(ids, kind="stable")
    places, ids = places[by_order], ids[by_order]
    firsts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1]))) if len(ids) else ids
    firsts = firsts.astype(np.intp)
    lasts = np.append(firsts[1:], len(ids)) - 1
    newest = places[lasts] if len(ids) else places
    rows = np.zeros(len(firsts), ORDER_ROW)
    for name, source in _SOURCES.items():
        rows[name] = reports[source][newest]
    if not len(rows):
        return rows
    oldest = places[firsts]
    is_new = reports["exec_type"][oldest] == ExecType.NEW
    rows["created_ns"] = np.where(is_new, reports["timestamp_ns"][oldest], 0)
    unfilled = np.isin(reports["exec_type"][newest], ENDED_UNFILLED)
    rows["reason"] = np.where(unfilled, reports["reason"][newest], 0)
    for name, source in SAID.items():
        rows[name] = _said(reports, places, firsts, source)
    traded = reports["trade_id"][places] != 0
    prices = np.where(traded, reports["last_price"][places], 0)
    quantities = np.where(traded, reports["last_qty"][places], 0)
    rows["value_high"], rows["value_low"] = values(prices, quantities, firsts)
    return rows


def _said(
    reports: Records,
    places: npt.NDArray[np.intp],
    firsts: npt.NDArray[np.intp],
    source: str,
) -> Integers:
    """Return the newest value that the reports of each order say, 0 where they say none."""
    says = np.isin(reports["exec_type"][places], SAYING) & (reports["reason"][places] == 0)
    values = np.where(says, reports[source][places], 0).astype(np.int64)
    if not values.any():
        return np.zeros(len(firsts), np.int64)
    newest = np.maximum.reduceat(np.where(values > 0, np.arange(len(values)), -1), firsts)
    return np.where(newest >= 0, values[newest], 0)


SAID = {"stop_price": "last_price", "display_quantity": "last_qty"}
"""Fields of ORDER that few orders have, and which of a report says them; 0: it is what it was."""
SAYING = (ExecType.NEW, ExecType.REPLACED, ExecType.TRIGGERED)
"""Reports that do so."""
_SOURCES = {
    "order_id": "order_id",
    "account": "account",
    "client_order_id": "client_order_id",
    "symbol": "symbol",
    "side": "side",
    "order_type": "order_type",
    "time_in_force": "time_in_force",
    "flags": "flags",
    "price": "price",
    "quantity": "quantity",
    "filled": "cum_qty",
    "status": "ord_status",
    "updated_ns": "timestamp_ns",
    **{name: name for name in LATER_COLUMNS if name in (REPORT.names or ())},
}
"""Fields of ORDER_ROW that are those of the order's newest report."""


def values(
    prices: npt.NDArray[Any], quantities: npt.NDArray[Any], firsts: npt.NDArray[np.intp]
) -> tuple[Integers, Integers]:
    """Return the sums of price * quantity of groups, whose first places are given: high, low.

    A group's quantities together are those of one order, below 2**44.
    """
    lots = np.add.reduceat(quantities.astype(np.int64), firsts)
    highest = int(prices.max())
    if highest * int(lots.max()) <= _VALUE_MASK:
        low = np.add.reduceat(prices.astype(np.int64) * quantities.astype(np.int64), firsts)
        return np.zeros(len(low), np.int64), low
    exact = prices.astype(object) * quantities.astype(object)
    sums = np.add.reduceat(exact, firsts)
    high = np.array([int(value) >> VALUE_BITS for value in sums], np.int64)
    return high, np.array([int(value) & _VALUE_MASK for value in sums], np.int64)


def trade_rows(trades: Records, reports: Records) -> Records:
    """Return a row for each trade (TRADE); ``reports`` are all that came with them.

    Each trade has two reports, the taker's and then the maker's.
    """
    rows = np.zeros(len(trades), TRADE_ROW)
    for name in TRADE_ROW.names or ():
        if name not in ("buyer", "seller"):
            rows[name] = trades[name]
    fills = np.flatnonzero(reports["exec_type"] == ExecType.TRADE)
    accounts = reports["account"][fills].view(np.int64)
    takers, makers = accounts[0::2], accounts[1::2]
    if len(fills) != 2 * len(trades) or np.any(
        reports["liquidity"][fills[1::2]] != Liquidity.MAKER
    ):
        raise ValueError(f"{len(trades)} trades came with {len(fills)} reports on trades")
    bought = trades["taker_side"] == Side.BUY
    rows["buyer"] = np.where(bought, takers, makers)
    rows["seller"] = np.where(bought, makers, takers)
    return rows


def as_orders(rows: Records) -> Records:
    """Return orders (ORDER_ROW) as an order table shows them (ORDER).

    Where an order was lost sight of, it is shown as cancelled for no reason.
    """
    orders = np.zeros(len(rows), ORDER)
    for name in _SAME:
        orders[name] = rows[name]
    orders["cum_qty"] = rows["filled"]
    is_open = np.isin(rows["status"], (OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED))
    orders["leaves_qty"] = np.where(is_open, rows["quantity"] - rows["filled"], 0)
    orders["ord_status"] = np.where(rows["status"] < 0, OrdStatus.CANCELED, rows["status"])
    return orders


def as_trades(rows: Records) -> Records:
    """Return trades (TRADE_ROW) as rings have them (TRADE), but for the taker's command."""
    trades = np.zeros(len(rows), TRADE)
    for name in TRADE_ROW.names or ():
        if name not in ("buyer", "seller"):
            trades[name] = rows[name]
    return trades


_SAME = tuple(name for name in ORDER_ROW.names or () if name in (ORDER.names or ()))


def matrix_of(rows: Records) -> Integers:
    """Return rows as a matrix: a line a row, a column a field."""
    columns = len(rows.dtype.names or ())
    return np.ascontiguousarray(rows).view(np.int64).reshape(-1, columns)


def text_rows(texts: Mapping[int, str]) -> list[tuple[int, str]]:
    """Return texts as rows: the number of each, as rows of orders hold it, and the text."""
    return [(signed(number), text) for number, text in texts.items()]


def signed(number: int) -> int:
    """Return the same 64 bits as rows hold them."""
    return number - (1 << 64) if number >= 1 << 63 else number


def user_pieces(trades: Records) -> list[tuple[int, int, bytes]]:
    """Return, for each account of trades (TRADE_ROW) of one shard, the ids of its trades, in
    pieces: account, last id, all ids."""
    if not len(trades):
        return []
    accounts = np.concatenate((trades["buyer"], trades["seller"]))
    ids = np.concatenate((trades["trade_id"], trades["trade_id"]))
    order = np.lexsort((ids, accounts))
    accounts, ids = accounts[order], ids[order]
    kept = accounts != 0
    kept[1:] &= (accounts[1:] != accounts[:-1]) | (ids[1:] != ids[:-1])  # both sides are one's own
    accounts, ids = accounts[kept], ids[kept]
    if not len(ids):
        return []
    starts = np.flatnonzero(np.concatenate(([True], accounts[1:] != accounts[:-1]))).tolist()
    pieces = []
    for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
        for first in range(start, stop, PIECE_IDS):
            last = min(first + PIECE_IDS, stop)
            pieces.append((int(accounts[first]), int(ids[last - 1]), ids[first:last].tobytes()))
    return pieces
