"""``shardbook history``: how far it is, what it has, and whether that is right."""

import argparse
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from engine.books.contract import Records
from engine.history.destination import AwayError
from engine.history.exporter import Exporter
from engine.history.history import AVERAGE_DIGITS, History, Page, average, everything, value_of
from engine.history.kept import (
    DEFAULT_TIMEOUT_S,
    HISTORIES,
    SQLITE,
    Kept,
    kept_by,
    migrate_database,
)
from engine.history.tables import STATUS_WORDS
from engine.history.verify import verify_history
from engine.plan import Plan
from engine.shard.holds import release
from engine.verify import Verdict
from frontend.history_parquet import Names, write_file
from frontend.reading import UnknownSymbolError
from frontend.times import time_text
from ipc.decimals import shown
from ipc.instruments import Instrument, Scale
from ipc.records import account_of, shard_of
from ipc.vocabulary import (
    PREVENTION_SHIFT,
    Flag,
    OrderType,
    Reason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

STATUSES = {word: number for number, word in STATUS_WORDS.items()}
ORDER_COLUMNS = (
    "order_id",
    "user_id",
    "client_order_id",
    "symbol",
    "side",
    "order_type",
    "time_in_force",
    "price",
    "quantity",
    "filled",
    "value",
    "average_price",
    "status",
    "reason",
    "created_ns",
    "updated_ns",
    "stop_price",
    "triggered",
    "post_only",
    "self_trade_prevention",
)
TRADE_COLUMNS = (
    "trade_id",
    "symbol",
    "buy_order_id",
    "sell_order_id",
    "buyer",
    "seller",
    "price",
    "quantity",
    "maker_side",
    "timestamp_ns",
)
_PAGE_ROWS = 10_000
_NO_TIME_LIMIT_S = 86_400.0


def chosen(plan: Plan, name: str | None) -> list[Kept]:
    """Return the histories that are meant: the named one, else those that are kept, else SQLite."""
    if name is not None:
        return [kept for kept in HISTORIES if kept.name == name]
    return kept_by(plan) or [SQLITE]


def history_status(plan: Plan, name: str | None, out: TextIO, *, as_json: bool) -> int:
    """Print how far each history goes, by shard, and what was noted in it for good."""
    for kept in chosen(plan, name):
        _status(plan, kept, out, as_json=as_json)
    return 0


def _status(plan: Plan, kept: Kept, out: TextIO, *, as_json: bool) -> None:
    with closing(kept.reader(plan, DEFAULT_TIMEOUT_S)) as history:
        cursors, notes = history.cursors(), history.notes()
        left = history.archived()
    if as_json:
        shards = [cursor._asdict() for cursor in cursors.values()]
        found = {"file": history.where, "source": kept.name, "shards": shards, "notes": notes}
        found["archive"] = [piece._asdict() for piece in left]
        print(json.dumps(found), file=out)
        return
    print(history.where, file=out)
    for cursor in cursors.values():
        print(
            f"shard {cursor.shard}: up to command {cursor.position}, "
            f"{time_text(cursor.timestamp_ns)}; {cursor.orders} orders, {cursor.trades} trades"
            + (f"; {cursor.lost_orders} orders lost" if cursor.lost_orders else "")
            + (f"; {cursor.lost_trades} trades lost" if cursor.lost_trades else ""),
            file=out,
        )
    if left:
        rows = sum(piece.rows for piece in left)
        print(f"archive: {len(left)} files with {rows} orders and trades", file=out)
    for shard, written_ns, note in notes:
        print(f"shard {shard}: {time_text(written_ns)}: {note}", file=out)


def history_migrate(plan: Plan, out: TextIO) -> int:
    """Take the database to this product's version of its tables."""
    done = migrate_database(plan)
    print(f"versions applied: {', '.join(map(str, done)) or 'none, it is up to date'}", file=out)
    return 0


def history_backfill(plan: Plan, name: str | None, out: TextIO) -> int:
    """Take all that there is to each history, and end.

    Where nothing goes on writing it, the journals are not kept for it any longer. Raises
    ``AwayError``, ``HistoryError``, ``JournalError`` and ``TradeLogError``.
    """
    for kept in chosen(plan, name):
        with closing(kept.destination(plan)) as destination:
            exporter = Exporter(plan, destination, kept.hold)
            try:
                while exporter.step():
                    pass
                if exporter.away is not None:
                    raise AwayError(exporter.away)
            finally:
                exporter.close()
                if not kept.enabled(plan):
                    for shard in plan.shards:
                        release(plan.journal_dir(shard), kept.hold)
            commands = sum(export.commands for export in exporter.shards)
        print(f"{kept.name}: {commands} commands taken in", file=out)
    return 0


def history_verify(plan: Plan, name: str | None) -> Verdict:
    """Hold each history against journals and trade log."""
    verdict = Verdict()
    for kept in chosen(plan, name):
        with (
            closing(kept.reader(plan, DEFAULT_TIMEOUT_S)) as history,
            TemporaryDirectory(prefix="sb-") as scratch,
        ):
            found = verify_history(plan, history, Path(scratch) / "orders")
        verdict.problems += found.problems
        for line in found.lines:
            verdict.say(f"{kept.name}: {line}")
    return verdict


def history_query(plan: Plan, options: argparse.Namespace, out: TextIO) -> int:
    """Print orders or trades, newest first."""
    shards = plan.shards
    symbol = None
    if options.symbol is not None:
        found = [i for i in plan.known_instruments if i.symbol == options.symbol]
        if not found:
            raise UnknownSymbolError(f"--symbol: {shown(options.symbol)} is no instrument")
        symbol, shards = found[0].number, [found[0].shard]
    page = Page(
        everything(shards),
        0,
        symbol,
        None if options.user is None else account_of(options.user),
        options.start,
        options.end,
        [STATUSES[word] for word in options.status or ()],
    )
    kept = chosen(plan, options.source)[0]
    with closing(kept.reader(plan, _NO_TIME_LIMIT_S)) as history:
        if options.order_id is not None:
            rows: Iterator[Records] = iter([history.order(options.order_id)])
        else:
            rows = _pages(history, page, options.what, options.limit)
        instruments = {i.number: i for i in plan.known_instruments}
        parts = _with_names(history, options.what, rows)
        if options.parquet is not None:
            count = write_file(options.parquet, options.what, instruments, parts)
            print(f"{options.parquet}: {count} {options.what}", file=out)
            return 0
        of_orders = options.what == "orders"
        write = _writer(ORDER_COLUMNS if of_orders else TRADE_COLUMNS, out, options)
        show = order_row if of_orders else trade_row
        for part, names in parts:
            write([show(row, instruments, names) for row in part])
    return 0


def history_export(plan: Plan, options: argparse.Namespace, out: TextIO) -> int:
    """Write all orders and all trades to a file each, newest first."""
    instruments = {i.number: i for i in plan.known_instruments}
    page = Page(everything(plan.shards), 0, from_ns=options.start, to_ns=options.end)
    kept = chosen(plan, options.source)[0]
    with closing(kept.reader(plan, _NO_TIME_LIMIT_S)) as history:
        for what in ("orders", "trades"):
            rows = _pages(history, page, what, 1 << 62)
            path = options.directory / f"{what}.parquet"
            count = write_file(path, what, instruments, _with_names(history, what, rows))
            print(f"{path}: {count} {what}", file=out)
    return 0


def _pages(history: History, page: Page, what: str, limit: int) -> Iterator[Records]:
    """Yield rows by pages, ``limit`` in all."""
    below = dict(page.below)
    while limit > 0:
        wanted = page._replace(below=below, limit=min(limit, _PAGE_ROWS))
        rows = history.orders(wanted) if what == "orders" else history.trades(wanted)
        if not len(rows):
            return
        yield rows
        limit -= len(rows)
        for identifier in rows["order_id" if what == "orders" else "trade_id"].tolist():
            shard = shard_of(identifier)
            below[shard] = min(below[shard], identifier)


def _with_names(
    history: History, what: str, parts: Iterator[Records]
) -> Iterator[tuple[Records, Names]]:
    """Yield rows with the users of their accounts, and the texts of orders."""
    columns = ("account",) if what == "orders" else ("buyer", "seller")
    known: dict[int, str] = {}
    for rows in parts:
        accounts = {account for column in columns for account in rows[column].tolist()}
        if accounts - known.keys():
            known |= history.users(accounts - known.keys())
        texts: dict[int, str] = {}
        if what == "orders":
            numbers = {number for number in rows["client_order_id"].tolist() if number < 0}
            texts = history.texts(numbers) if numbers else {}
        yield rows, Names(known, texts)


def order_row(row: Records, instruments: Mapping[int, Instrument], names: Names) -> dict[str, Any]:
    """Return an order (ORDER_ROW) as people see it: ``ORDER_COLUMNS``."""
    order = dict(zip(row.dtype.names or (), row.item(), strict=True))
    instrument = instruments[order["symbol"]]
    value, number = value_of(row), order["client_order_id"]
    return {
        "order_id": order["order_id"],
        "user_id": names.users.get(order["account"]),
        "client_order_id": names.texts.get(number, number if number > 0 else None),
        "symbol": instrument.symbol,
        "side": Side(order["side"]).name,
        "order_type": OrderType(order["order_type"]).name,
        "time_in_force": TimeInForce(order["time_in_force"]).name,
        "price": _price(order["price"], instrument),
        "quantity": _Exact(instrument.lot.text(order["quantity"])),
        "filled": _Exact(instrument.lot.text(order["filled"])),
        "value": _Exact(_product(instrument).text(value)),
        "average_price": average_price(value, order["filled"], instrument.tick),
        "status": STATUS_WORDS[order["status"]],
        "reason": Reason(order["reason"]).name if order["reason"] else None,
        "created_ns": order["created_ns"] or None,
        "updated_ns": order["updated_ns"],
        "stop_price": _price(order["stop_price"], instrument),
        "triggered": bool(order["flags"] & Flag.TRIGGERED),
        "post_only": bool(order["flags"] & Flag.POST_ONLY),
        "self_trade_prevention": SelfTradePrevention(order["flags"] >> PREVENTION_SHIFT & 7).name,
    }


def trade_row(row: Records, instruments: Mapping[int, Instrument], names: Names) -> dict[str, Any]:
    """Return a trade (TRADE_ROW) as people see it: ``TRADE_COLUMNS``."""
    trade = dict(zip(row.dtype.names or (), row.item(), strict=True))
    instrument = instruments[trade["symbol"]]
    return {
        "trade_id": trade["trade_id"],
        "symbol": instrument.symbol,
        "buy_order_id": trade["buy_order_id"],
        "sell_order_id": trade["sell_order_id"],
        "buyer": names.users.get(trade["buyer"]),
        "seller": names.users.get(trade["seller"]),
        "price": _Exact(instrument.tick.text(trade["price"])),
        "quantity": _Exact(instrument.lot.text(trade["quantity"])),
        "maker_side": Side(3 - trade["taker_side"]).name,
        "timestamp_ns": trade["timestamp_ns"],
    }


def _price(ticks: int, instrument: Instrument) -> "_Exact | None":
    return _Exact(instrument.tick.text(ticks)) if ticks else None


def average_price(value: int, filled: int, tick: Scale) -> "_Exact | None":
    """Return what a unit has cost, in ticks times lots and lots; None where nothing was filled."""
    if not filled:
        return None
    text = Scale(tick.mantissa, tick.digits + AVERAGE_DIGITS).text(average(value, filled))
    return _Exact(text.rstrip("0").rstrip("."))


def _product(instrument: Instrument) -> Scale:
    """Return the scale of ticks times lots."""
    tick, lot = instrument.tick, instrument.lot
    return Scale(tick.mantissa * lot.mantissa, tick.digits + lot.digits)


class _Exact(str):
    """A decimal that stands in JSON as a number, digit for digit."""

    __slots__ = ()


def _json(row: Mapping[str, Any]) -> str:
    parts = (
        f"{json.dumps(name)}:{value if isinstance(value, _Exact) else json.dumps(value)}"
        for name, value in row.items()
    )
    return "{" + ",".join(parts) + "}\n"


def _writer(columns: Sequence[str], out: TextIO, options: argparse.Namespace) -> Any:
    """Return what prints rows as they were asked for: JSON lines, CSV, or aligned lines."""
    if options.json:
        return lambda rows: out.writelines(map(_json, rows))
    if options.csv:
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        return writer.writerows
    widths = [max(len(column), 14) for column in columns]

    def line(cells: Sequence[str]) -> None:
        print("  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip(), file=out)

    line(columns)

    def lines(rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            line(["-" if cell is None else str(cell) for cell in row.values()])

    return lines
