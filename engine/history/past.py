"""Where a shard's export begins, and what only the trade log still knows of the time before.

A journal that goes back to its first command gives everything. Where its beginning is gone, the
oldest snapshot gives the orders that were open then, or had ended last, and the trade log the
trades up to it. What neither knows is lost, and counted.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from engine.books.contract import Records
from engine.history.destination import Cursor
from engine.history.rows import ORDER_NAMES, ORDER_ROW, TRADE_ROW, values
from engine.journal.format import JournalError
from engine.journal.reader import segments_of
from engine.journal.snapshot import read_snapshot, sequence_of_snapshot, snapshots_of
from engine.plan import Plan
from engine.trade_log.lines import LoggedTrade
from engine.trade_log.log import read_trades
from ipc.instruments import Instrument
from ipc.records import SEQUENCE_MASK, make_id, sequence_of, shard_of
from ipc.vocabulary import Side

TRADES_AT_ONCE = 8_192
"""Of the trade log, in one transaction."""


def earliest_position(directory: Path, wanted: int) -> int:
    """Return ``wanted`` where a shard can be followed from there on, else the next place behind it.

    Raises ``JournalError`` where there is none.
    """
    segments = segments_of(directory)
    begins = segments[0].first_sequence if segments else 1
    if begins <= 1:
        return wanted
    reachable = [
        sequence
        for path in snapshots_of(directory)
        if (sequence := sequence_of_snapshot(path)) >= begins - 1 and _is_whole(path)
    ]
    if not reachable:
        raise JournalError(
            f"{directory}: the journal begins with command {begins}, and no snapshot stands for "
            "one before it"
        )
    return max(wanted, min(reachable))


def _is_whole(path: Path) -> bool:
    try:
        read_snapshot(path)
    except JournalError:
        return False
    return True


def rows_of_table(orders: Records) -> Records:
    """Return orders of an order table (ORDER) as ORDER_ROW, by order_id, with nothing paid."""
    rows = np.zeros(len(orders), ORDER_ROW)
    for field in orders.dtype.names or ():
        name = ORDER_NAMES.get(field, field)
        if name in (ORDER_ROW.names or ()):
            rows[name] = orders[field]
    return rows[np.argsort(rows["order_id"])]


def texts_by_number(orders: Records, texts: Records) -> dict[int, str]:
    """Return the texts (TEXT) of orders (ORDER) by their client_order_ids, which stand for them."""
    ids = (orders[name].tolist() for name in ("order_id", "client_order_id"))
    numbers = dict(zip(*ids, strict=True))
    return {numbers[order_id]: text.decode() for order_id, text in texts.tolist()}


def missing_orders(orders: Records, first: int, last: int) -> int:
    """Return how many of the orders numbered ``first`` to ``last`` are not among ``orders``."""
    sequences = orders["order_id"] & SEQUENCE_MASK
    there = int(np.count_nonzero((sequences >= first) & (sequences <= last)))
    return last - first + 1 - there


def first_cursor(
    shard: int,
    identity: str,
    position: int,
    counters: tuple[int, int, int],
    timestamp_ns: int,
    orders: Records,
    before: Cursor | None,
) -> Cursor:
    """Return the cursor of a history that begins, or goes on behind a gap, with a snapshot.

    ``counters`` are the last numbers of orders, trades and reports there, ``orders`` (ORDER_ROW)
    what it holds, ``before`` how far the history was.
    """
    known_orders, known_trades = (0, 0) if before is None else (before.orders, before.trades)
    given, trades, _ = counters
    waiting = trades > known_trades
    return Cursor(
        shard,
        identity,
        position,
        *counters,
        timestamp_ns,
        known_trades + 1 if waiting else 0,
        trades if waiting else 0,
        (0 if before is None else before.lost_orders)
        + missing_orders(orders, known_orders + 1, given),
        0 if before is None else before.lost_trades,
    )


def logged_trades(
    plan: Plan, shard: int, first: int, last: int
) -> Iterator[tuple[Records, Records, int]]:
    """Yield trades of a shard from the trade log in pieces: TRADE_ROW with accounts 0, ORDER_ROW
    with what their orders paid, and the sequence number of the last one.

    Raises ``TradeLogError`` and ``OSError``.
    """
    by_symbol = {instrument.symbol: instrument for instrument in plan.known_instruments[::-1]}
    piece: list[tuple[int, ...]] = []
    for trade in read_trades(plan.log_dir, after=make_id(shard, first - 1)):
        sequence = sequence_of(trade.trade_id)
        if shard_of(trade.trade_id) != shard:
            continue
        if sequence > last:
            break
        piece.append(_row(trade, by_symbol[trade.symbol]))
        if len(piece) == TRADES_AT_ONCE:
            yield _as_rows(piece)
            piece = []
    if piece:
        yield _as_rows(piece)


def _row(trade: LoggedTrade, instrument: Instrument) -> tuple[int, ...]:
    return (
        trade.trade_id,
        instrument.number,
        trade.timestamp,
        instrument.tick.steps(trade.price, "price"),
        instrument.lot.steps(trade.quantity, "quantity"),
        trade.buy_order_id,
        trade.sell_order_id,
        0,
        0,
        int(Side[trade.taker_side.upper()]),
    )


def _as_rows(piece: list[tuple[int, ...]]) -> tuple[Records, Records, int]:
    trades = np.array(piece, TRADE_ROW)
    ids = np.concatenate((trades["buy_order_id"], trades["sell_order_id"]))
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    firsts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
    prices, quantities = (np.tile(trades[name], 2)[order] for name in ("price", "quantity"))
    paid = np.zeros(len(firsts), ORDER_ROW)
    paid["order_id"] = ids[firsts]
    paid["value_high"], paid["value_low"] = values(prices, quantities, firsts)
    return trades, paid, sequence_of(int(trades["trade_id"][-1]))
