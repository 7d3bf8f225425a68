"""What reads a product that runs: ``shardbook trades``, ``book``, ``order`` and ``status``."""

import argparse
import sys

from frontend.command_line.endings import FAILURE, unwinding
from frontend.command_line.options import AddCommand, add_form, add_place, whole
from frontend.command_line.product import reader_of, row_writer

MAX_LIMIT = 1_000_000
WATCH_S = 1.0


def add(command: AddCommand) -> None:
    """Add the commands of this group."""
    trades = command("trades", _trades, "Show the last trades.")
    trades.add_argument("--symbol", metavar="S", help="of one symbol; default: of all")
    trades.add_argument(
        "--limit", type=whole(0, MAX_LIMIT), default=20, metavar="N", help="default 20"
    )
    trades.add_argument("--follow", action="store_true", help="and then every trade as it comes")
    add_form(trades)
    add_place(trades)

    book = command("book", _book, "Show the best price levels of a symbol.")
    book.add_argument("symbol", metavar="SYMBOL")
    book.add_argument(
        "--depth", type=whole(1, 1_024), default=10, metavar="N", help="levels a side; default 10"
    )
    add_form(book)
    add_place(book)

    order = command("order", _order, "Show one order.")
    order.add_argument("order_id", type=whole(1, 2**53 - 1), metavar="ID")
    add_form(order)
    add_place(order)

    status = command("status", _status, "Show each process: place, state, counters, lag.")
    status.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")
    add_form(status)
    add_place(status)


def _trades(options: argparse.Namespace) -> int:
    with unwinding(), reader_of(options) as reader:
        from frontend.rows import TRADE_FIELDS, trade_rows
        from frontend.show import follow_trades, print_trades

        if options.follow:
            rows = row_writer(options, TRADE_FIELDS)
            follow_trades(reader, options.symbol, options.limit, sys.stdout, rows)
            return 0
        trades = reader.trades(options.symbol, options.limit)
        rows = row_writer(options, TRADE_FIELDS)
        if rows is None:
            print_trades(trades, reader.instruments, sys.stdout)
        else:
            rows.write(trade_rows(trades, reader.instruments))
    return 0


def _book(options: argparse.Namespace) -> int:
    with unwinding(), reader_of(options) as reader:
        from frontend.rows import BOOK_FIELDS, book_rows
        from frontend.show import print_book

        book = reader.book(options.symbol, options.depth)
        rows = row_writer(options, BOOK_FIELDS)
        if rows is None:
            print_book(book, sys.stdout)
        else:
            rows.write(book_rows(book))
    return 0


def _order(options: argparse.Namespace) -> int:
    with unwinding(), reader_of(options) as reader:
        from frontend.rows import order_row
        from frontend.show import print_order

        order = reader.order(options.order_id)
        if order is None:
            print(f"shardbook: order {options.order_id} is not known here", file=sys.stderr)
            return FAILURE
        user_id = reader.user_of(int(order["account"]))
        instrument = reader.instruments[int(order["symbol"])]
        row = order_row(order, instrument, user_id, reader.client_order_id(order))
        rows = row_writer(options)
        if rows is None:
            print_order(row, sys.stdout)
        else:
            rows.write([row])
    return 0


def _status(options: argparse.Namespace) -> int:
    with unwinding(), reader_of(options) as reader:
        from frontend.rows import process_rows
        from frontend.show import print_status, watch_status

        rows = row_writer(options)
        if options.watch:
            watch_status(reader, WATCH_S, sys.stdout, rows)
        elif rows is None:
            print_status(reader.status(), sys.stdout)
        else:
            rows.write(process_rows(reader.status()))
    return 0
