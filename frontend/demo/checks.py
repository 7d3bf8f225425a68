"""Whether what clients were told, what the log kept and what memory shows are one story.

Every check is a pure function of arrays and returns ``None``, or one sentence on the first
difference it finds: the one with the lowest id or the best price, so that it is the same each time.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ipc.arrays import Records
from ipc.records import SEQUENCE_BITS
from ipc.vocabulary import Liquidity, Side

FILL = np.dtype(
    [
        ("trade_id", "<u8"),
        ("order_id", "<u8"),
        ("price", "<u8"),
        ("quantity", "<u8"),
        ("symbol", "<u2"),
        ("side", "u1"),
        ("liquidity", "u1"),
        ("reserved", "<u4"),
    ]
)
"""One side of one trade, as a client was told of it."""

_LOGGED = ("trade_id", "symbol", "price", "quantity", "buy_order_id", "sell_order_id", "taker_side")
_TOLD = (
    "order_id",
    "account",
    "client_order_id",
    "symbol",
    "side",
    "order_type",
    "time_in_force",
    "price",
    "quantity",
    "cum_qty",
    "leaves_qty",
    "ord_status",
)


def check_log(fills: Records, log: Records) -> str | None:
    """Compare the reported ``fills`` (FILL) with the trades that the ``log`` (TRADE) holds.

    Every reported trade stands in the log exactly once and nothing else does; both sides of each
    were reported, once each and as the log has it. All accounts that traded must be in ``fills``.
    """
    log = log[np.argsort(log["trade_id"], kind="stable")]
    twice = np.flatnonzero(log["trade_id"][1:] == log["trade_id"][:-1])
    if len(twice):
        return f"trade {log['trade_id'][twice[0]]} stands in the log more than once"
    reported = np.unique(fills["trade_id"])
    missing = np.setdiff1d(reported, log["trade_id"], assume_unique=True)
    if len(missing):
        return f"trade {missing[0]} was reported and is not in the log"
    unheard = np.setdiff1d(log["trade_id"], reported, assume_unique=True)
    if len(unheard):
        return f"trade {unheard[0]} stands in the log and was never reported"
    fills = fills[np.lexsort((fills["side"], fills["trade_id"]))]
    starts = np.searchsorted(fills["trade_id"], log["trade_id"])
    counts = np.diff(np.append(starts, len(fills)))
    wrong = _first(counts != 2)
    if wrong is not None:
        trade_id = log["trade_id"][wrong]
        return f"trade {trade_id} was reported {counts[wrong]} times, must be once to each side"
    expected = both_sides(log)
    difference = _first_difference(fills, expected, FILL.names or ())
    if difference is None:
        return None
    row, field = difference
    return (
        f"trade {log['trade_id'][row // 2]}: the {('buy', 'sell')[row % 2]} side was told {field} "
        f"{fills[field][row]}, the log says {expected[field][row]}"
    )


def both_sides(log: Records) -> Records:
    """Return what the two sides of each trade must be told (FILL): its buyer, then its seller."""
    fills = np.zeros((len(log), 2), FILL)
    for field in ("trade_id", "price", "quantity", "symbol"):
        fills[field] = log[field][:, None]
    for column, side, order_id in ((0, Side.BUY, "buy_order_id"), (1, Side.SELL, "sell_order_id")):
        fills["side"][:, column] = side
        fills["order_id"][:, column] = log[order_id]
        taker = log["taker_side"] == side
        fills["liquidity"][:, column] = np.where(taker, Liquidity.TAKER, Liquidity.MAKER)
    return fills.reshape(-1)


def check_quantities(orders: Records, log: Records) -> str | None:
    """Compare the last reports of all ``orders`` (ORDER) with the sums of their trades in ``log``.

    For each order cum_qty is the sum of its trades; per symbol as much was bought as sold.
    """
    orders = orders[np.argsort(orders["order_id"], kind="stable")]
    traded = np.concatenate((log["buy_order_id"], log["sell_order_id"]))
    places = np.searchsorted(orders["order_id"], traded)
    known = places < len(orders)
    known[known] = orders["order_id"][places[known]] == traded[known]
    if not known.all():
        return f"order {traded[~known].min()} trades in the log and was never accepted"
    sums = np.zeros(len(orders), np.uint64)
    np.add.at(sums, places, np.tile(log["quantity"], 2))
    row = _first(sums != orders["cum_qty"])
    if row is not None:
        return (
            f"order {orders['order_id'][row]}: its last report says cum_qty "
            f"{orders['cum_qty'][row]}, its trades in the log are {sums[row]} lots"
        )
    for symbol in np.unique(orders["symbol"]):
        of_symbol = orders[orders["symbol"] == symbol]
        bought, sold = (int(of_symbol["cum_qty"][of_symbol["side"] == side].sum()) for side in Side)
        if bought != sold:
            return f"symbol {symbol}: {bought} lots were bought and {sold} sold"
    return None


def check_ring(shard: int, ring: Records, asked: int, log: Records) -> str | None:
    """Compare the last ``asked`` trades in a shard's ``ring`` (TRADE, oldest first) with the log.

    The ring shows fewer only where there were no more; the ``log`` may hold those of other shards.
    """
    logged = log[log["trade_id"] >> SEQUENCE_BITS == shard]
    expected = min(asked, len(logged))
    if len(ring) != expected:
        return (
            f"shard {shard}: the ring shows {len(ring)} trades, must be {expected} "
            f"(the log holds {len(logged)})"
        )
    logged = logged[len(logged) - expected :]
    difference = _first_difference(ring, logged, _LOGGED)
    if difference is None:
        return None
    row, field = difference
    return (
        f"shard {shard}: trade {ring['trade_id'][row]} has {field} {ring[field][row]} in the ring, "
        f"{logged[field][row]} at its place in the log"
    )


def check_book(
    symbol: int, bids: Records, asks: Records, orders: Records, max_levels: int
) -> str | None:
    """Compare a book's best levels (LEVEL) with what the last reports of ``orders`` leave open.

    ``max_levels`` is how many levels a side the board shows; it shows fewer only where there are no
    more. The book must be at rest.
    """
    open_orders = orders[(orders["symbol"] == symbol) & (orders["leaves_qty"] > 0)]
    for side, shown in ((Side.BUY, bids), (Side.SELL, asks)):
        of_side = open_orders[open_orders["side"] == side]
        prices, places, counts = np.unique(
            of_side["price"], return_inverse=True, return_counts=True
        )
        sums = np.zeros(len(prices), np.uint64)
        np.add.at(sums, places, of_side["leaves_qty"])
        step = -1 if side is Side.BUY else 1
        told = np.array([prices, sums, counts.astype(np.uint64)])[:, ::step][:, :max_levels]
        board = np.array([shown["price"], shown["quantity"], shown["order_count"]])
        name = f"symbol {symbol}, {side.name} side"
        if told.shape != board.shape:
            return (
                f"{name}: the board shows {board.shape[1]} levels, "
                f"the reports leave {told.shape[1]} (of at most {max_levels})"
            )
        level = _first((told != board).any(axis=0))
        if level is not None:
            (price, quantity, count), (told_price, told_quantity, told_count) = (
                board[:, level],
                told[:, level],
            )
            return (
                f"{name}, level {level + 1}: the board shows {quantity} lots of {count} orders at "
                f"{price}, the reports leave {told_quantity} of {told_count} at {told_price}"
            )
    return None


def check_order_table(orders: Records, table: Records) -> str | None:
    """Compare the last reports of some ``orders`` with the order ``table``'s answers (both ORDER).

    Row by row; order_id 0 in ``table`` means that it did not know the order.
    """
    difference = _first_difference(orders, table, _TOLD)
    if difference is None:
        return None
    row, field = difference
    if not table["order_id"][row]:
        return f"order {orders['order_id'][row]} is not in the order table"
    return (
        f"order {orders['order_id'][row]}: its last report says {field} {orders[field][row]}, "
        f"the order table {table[field][row]}"
    )


def _first_difference(
    left: Records, right: Records, fields: Sequence[str]
) -> tuple[int, str] | None:
    """Return the first row where two arrays of the same length differ, and the field."""
    rows = [
        (row, place)
        for place, field in enumerate(fields)
        if (row := _first(left[field] != right[field])) is not None
    ]
    if not rows:
        return None
    row, place = min(rows)
    return row, fields[place]


def _first(flags: npt.NDArray[np.bool_]) -> int | None:
    """Return the first row that is true."""
    row = int(np.argmax(flags)) if len(flags) else 0
    return row if len(flags) and flags[row] else None
