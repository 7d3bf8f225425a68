"""Trades, books, orders and processes as text: tables on a terminal, aligned lines elsewhere.

Prices and quantities are exact decimals, times UTC to the nanosecond.
"""

import select
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TextIO

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.printable import printable
from frontend.reading import BookView, ProcessView, Reader
from frontend.rows import RowWriter, cell_text, process_rows, trade_rows
from frontend.times import time_text
from ipc.arrays import Records
from ipc.instruments import Instrument
from ipc.records import sequence_of, shard_of

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


def print_trades(trades: Records, instruments: Mapping[int, Instrument], out: TextIO) -> None:
    """Print trades, oldest first."""
    print_table(TRADE_COLUMNS, _trade_cells(trades, instruments), out)


def _trade_cells(trades: Records, instruments: Mapping[int, Instrument]) -> list[Row]:
    return [[cell_text(cell) for cell in row.values()] for row in trade_rows(trades, instruments)]


def follow_trades(
    reader: Reader, symbol: str | None, limit: int, out: TextIO, rows: RowWriter | None = None
) -> None:
    """Print the last ``limit`` trades, oldest first, and then every one as it comes.

    As text, or with ``rows`` as these. For ever, or until nobody reads: raises ``BrokenPipeError``
    then.
    """
    if symbol is not None:
        reader.instrument(symbol)  # an unknown one is an error before anything is printed
    after = reader.positions()
    trades = reader.trades(symbol, limit)
    for trade_id in trades["trade_id"].tolist():
        shard = shard_of(trade_id)
        after[shard] = max(after[shard], sequence_of(trade_id))
    if rows is None:
        _print_lines([[column.name for column in TRADE_COLUMNS]], out)
    _print_trades(trades, reader, out, rows)
    for followed in reader.follow(symbol, after, _watch_reader(out)):
        if followed.lost_trades:
            told = out if rows is None else sys.stderr  # rows are all data
            print(f"... {followed.lost_trades} trades were overwritten unread", file=told)
        _print_trades(followed.trades, reader, out, rows)


def _print_trades(trades: Records, reader: Reader, out: TextIO, rows: RowWriter | None) -> None:
    if rows is None:
        _print_lines(_trade_cells(trades, reader.instruments), out)
    else:
        rows.write(trade_rows(trades, reader.instruments))


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


def print_order(row: Mapping[str, Any], out: TextIO) -> None:
    """Print an order, as ``order_row`` has it, a field a line; - where it has none."""
    fields = [(name, printable(cell_text(value)) or "-") for name, value in row.items()]
    print_table((Column("field", "left"), Column("value", "left")), fields, out)


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


def watch_status(
    reader: Reader, interval_s: float, out: TextIO, rows: RowWriter | None = None
) -> None:
    """Print the status again and again, on a terminal in place; with ``rows`` as these.

    For ever, or until nobody reads: raises ``BrokenPipeError`` then.
    """
    while True:
        processes = reader.status()
        if rows is not None:
            now = time_text(time.time_ns())
            rows.write({"time": now} | row for row in process_rows(processes))
        else:
            if out.isatty():
                print("\x1b[H\x1b[2J", end="", file=out)
            print_status(processes, out)
            print(file=out, flush=True)
        time.sleep(interval_s)


def print_table(columns: Sequence[Column], rows: Sequence[Row], out: TextIO) -> None:
    """Print rows under the names of their columns."""
    if out.isatty():
        table = Table(box=SIMPLE)
        for column in columns:
            table.add_column(column.name, justify=column.align, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))  # as it is: users choose some of it
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
