"""Trades, books, orders and processes as text: tables on a terminal, aligned lines elsewhere.

Prices and quantities are exact decimals, times UTC to the nanosecond.
"""

import select
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Literal, NamedTuple, TextIO

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from frontend.reading import BookView, ProcessView, Reader
from frontend.times import time_text
from ipc.instruments import Instrument
from ipc.records import sequence_of, shard_of
from ipc.vocabulary import Flag, OrderType, OrdStatus, Reason, Side, TimeInForce

Records = npt.NDArray[np.void]
Row = Sequence[str]


class Column(NamedTuple):
    """A column of a table, at least ``width`` characters wide."""

    name: str
    align: Literal["left", "right"] = "right"
    width: int = 0


TRADE_COLUMNS = (
    Column("time", "left", 30),
    Column("trade_id", width=15),
    Column("symbol", "left", 8),
    Column("price", width=12),
    Column("quantity", width=10),
    Column("taker", "left", 5),
    Column("buy_order_id", width=15),
    Column("sell_order_id", width=15),
)
_BOOK_COLUMNS = (
    Column("orders"),
    Column("quantity"),
    Column("bid"),
    Column("ask", "left"),
    Column("quantity"),
    Column("orders"),
)
_STATUS_COLUMNS = (
    Column("process", "left"),
    Column("pid"),
    Column("core"),
    Column("state", "left"),
    Column("uptime"),
    Column("counters", "left"),
)


def trade_rows(trades: Records, instruments: Mapping[int, Instrument]) -> list[Row]:
    """Return one row a trade (TRADE), cells as in ``TRADE_COLUMNS``."""
    rows: list[Row] = []
    for trade in trades:
        instrument = instruments[int(trade["symbol"])]
        rows.append(
            (
                time_text(int(trade["timestamp_ns"])),
                str(trade["trade_id"]),
                instrument.symbol,
                instrument.tick.text(int(trade["price"])),
                instrument.lot.text(int(trade["quantity"])),
                _name(Side, int(trade["taker_side"])),
                str(trade["buy_order_id"]),
                str(trade["sell_order_id"]),
            )
        )
    return rows


def print_trades(trades: Records, instruments: Mapping[int, Instrument], out: TextIO) -> None:
    """Print trades, oldest first."""
    print_table(TRADE_COLUMNS, trade_rows(trades, instruments), out)


def follow_trades(reader: Reader, symbol: str | None, limit: int, out: TextIO) -> None:
    """Print the last ``limit`` trades, oldest first, and then every one as it comes.

    For ever, or until nobody reads: raises ``BrokenPipeError`` then.
    """
    if symbol is not None:
        reader.instrument(symbol)  # an unknown one is an error before anything is printed
    after = reader.positions()
    trades = reader.trades(symbol, limit)
    for trade_id in trades["trade_id"].tolist():
        shard = shard_of(trade_id)
        after[shard] = max(after[shard], sequence_of(trade_id))
    names = [column.name for column in TRADE_COLUMNS]
    _print_lines([names, *trade_rows(trades, reader.instruments)], out)
    for followed in reader.follow(symbol, after, _watch_reader(out)):
        if followed.lost_trades:
            print(f"... {followed.lost_trades} trades were overwritten unread", file=out)
        _print_lines(trade_rows(followed.trades, reader.instruments), out)


def _watch_reader(out: TextIO) -> Callable[[], None] | None:
    """Return what looks whether anybody still reads; None where that cannot be known."""
    try:
        descriptor = out.fileno()
    except OSError:  # it is no file
        return None
    ends = select.poll()
    ends.register(descriptor, 0)

    def look() -> None:
        if ends.poll(0):
            raise BrokenPipeError

    return look


def print_book(book: BookView, out: TextIO) -> None:
    """Print the best levels of both sides next to each other, best first."""
    tick, lot = book.instrument.tick, book.instrument.lot
    empty = ("", "", "")
    sides = [
        [
            (tick.text(price), lot.text(quantity), str(count))
            for price, quantity, count in levels.tolist()
        ]
        for levels in (book.bids, book.asks)
    ]
    rows = []
    for place in range(max(map(len, sides))):
        bid, ask = (side[place] if place < len(side) else empty for side in sides)
        rows.append((*bid[::-1], *ask))
    print(f"{book.instrument.symbol} after command {book.sequence} of its shard", file=out)
    print_table(_BOOK_COLUMNS, rows, out)


def print_order(order: np.void, instrument: Instrument, out: TextIO) -> None:
    """Print one order (ORDER), a field a line."""
    tick, lot = instrument.tick, instrument.lot
    flags = int(order["flags"])
    fields = {
        "order_id": str(order["order_id"]),
        "account": f"{int(order['account']):016x}",
        "client_order_id": str(order["client_order_id"]),
        "symbol": instrument.symbol,
        "side": _name(Side, int(order["side"])),
        "order_type": _name(OrderType, int(order["order_type"])),
        "time_in_force": _name(TimeInForce, int(order["time_in_force"])),
        "post_only": "yes" if flags & Flag.POST_ONLY else "no",
        "ord_status": _name(OrdStatus, int(order["ord_status"])),
        "reason": _name(Reason, int(order["reason"])),
        "price": tick.text(int(order["price"])),
        "quantity": lot.text(int(order["quantity"])),
        "cum_qty": lot.text(int(order["cum_qty"])),
        "leaves_qty": lot.text(int(order["leaves_qty"])),
        "created": time_text(int(order["created_ns"])),
        "updated": time_text(int(order["updated_ns"])),
    }
    print_table((Column("field", "left"), Column("value", "left")), list(fields.items()), out)


def print_status(processes: Iterable[ProcessView], out: TextIO) -> None:
    """Print each process with its place, its state, and the counters that are not zero."""
    rows = []
    for process in processes:
        counters = {name: value for name, value in process.counters.items() if value}
        counters |= {f"lag_trades[{n}]": lag for n, lag in process.lag_trades.items()}
        counters |= {f"rejects[{reason.name}]": n for reason, n in process.rejects.items()}
        rows.append(
            (
                f"{process.role} {process.index}",
                str(process.pid or "-"),
                "any" if process.core is None else str(process.core),
                process.state,
                duration_text(process.uptime_s),
                " ".join(f"{name}={value}" for name, value in counters.items()),
            )
        )
    print_table(_STATUS_COLUMNS, rows, out)


def print_table(columns: Sequence[Column], rows: Sequence[Row], out: TextIO) -> None:
    """Print rows under the names of their columns."""
    if out.isatty():
        table = Table(box=SIMPLE)
        for column in columns:
            table.add_column(column.name, justify=column.align, overflow="fold")
        for row in rows:
            table.add_row(*row)
        Console(file=out, highlight=False).print(table)
        return
    widths = [
        max(len(column.name), *(len(row[place]) for row in rows)) if rows else len(column.name)
        for place, column in enumerate(columns)
    ]
    sized = [column._replace(width=w) for column, w in zip(columns, widths, strict=True)]
    for row in ([column.name for column in columns], *rows):
        print(line_text(sized, row), file=out)


def line_text(columns: Sequence[Column], row: Row) -> str:
    """Return one row as a line, each cell padded to its column's width."""
    cells = [
        cell.rjust(column.width) if column.align == "right" else cell.ljust(column.width)
        for column, cell in zip(columns, row, strict=True)
    ]
    return "  ".join(cells).rstrip()


def _print_lines(rows: Iterable[Row], out: TextIO) -> None:
    """Print trades one at a time, with widths that do not depend on them."""
    for row in rows:
        print(line_text(TRADE_COLUMNS, row), file=out)
    out.flush()


def duration_text(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"


def _name(kind: type[IntEnum], code: int) -> str:
    """Return the name of a code, or the code where it is none."""
    return kind(code).name if code in set(kind) else str(code)
