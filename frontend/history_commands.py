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
from engine.history.history import Page, everything, value_of
from engine.history.kept import (
    DEFAULT_TIMEOUT_S,
    HISTORIES,
    SQLITE,
    Kept,
    kept_by,
    migrate_database,
)
from engine.history.sql_reader import SqlHistory
from engine.history.tables import STATUS_WORDS
from engine.history.verify import verify_history
from engine.plan import Plan
from engine.verify import Verdict
from frontend.reading import UnknownSymbolError
from frontend.times import time_text
from ipc.decimals import shown
from ipc.instruments import Instrument, Scale
from ipc.records import account_of, shard_of
from ipc.vocabulary import OrderType, Reason, Side, TimeInForce

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
AVERAGE_DIGITS = 6
"""Of an average price, behind those of the tick; rounded to the nearest, half to even."""
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
    if as_json:
        shards = [cursor._asdict() for cursor in cursors.values()]
        found = {"file": history.where, "source": kept.name, "shards": shards, "notes": notes}
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
    for shard, written_ns, note in notes:
        print(f"shard {shard}: {time_text(written_ns)}: {note}", file=out)


def history_migrate(plan: Plan, out: TextIO) -> int:
    """Take the database to this product's version of its tables."""
    done = migrate_database(plan)
    print(f"versions applied: {', '.join(map(str, done)) or 'none, it is up to date'}", file=out)
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
    columns = ORDER_COLUMNS if options.what == "orders" else TRADE_COLUMNS
    write = _writer(columns, out, options)
    kept = chosen(plan, options.source)[0]
    with closing(kept.reader(plan, _NO_TIME_LIMIT_S)) as history:
        if options.order_id is not None:
            rows: Iterator[Records] = iter([history.order(options.order_id)])
        else:
            rows = _pages(history, page, options.what, options.limit)
        instruments = {i.number: i for i in plan.known_instruments}
        names: dict[int, str] = {}
        for part in rows:
            if options.what == "orders":
                names |= _names(history, part, ("account",), names)
                write([order_row(row, instruments, names) for row in part])
            else:
                names |= _names(history, part, ("buyer", "seller"), names)
                write([trade_row(row, instruments, names) for row in part])
    return 0


def _pages(history: SqlHistory, page: Page, what: str, limit: int) -> Iterator[Records]:
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


def _names(
    history: SqlHistory, rows: Records, columns: Sequence[str], known: Mapping[int, str]
) -> dict[int, str]:
    accounts = {account for column in columns for account in rows[column].tolist()}
    return history.users(accounts - known.keys()) if accounts - known.keys() else {}


def order_row(
    row: Records, instruments: Mapping[int, Instrument], names: Mapping[int, str]
) -> dict[str, Any]:
    """Return an order (ORDER_ROW) as people see it: ``ORDER_COLUMNS``."""
    order = dict(zip(row.dtype.names or (), row.item(), strict=True))
    instrument = instruments[order["symbol"]]
    value = value_of(row)
    return {
        "order_id": order["order_id"],
        "user_id": names.get(order["account"]),
        "client_order_id": order["client_order_id"] or None,
        "symbol": instrument.symbol,
        "side": Side(order["side"]).name,
        "order_type": OrderType(order["order_type"]).name,
        "time_in_force": TimeInForce(order["time_in_force"]).name,
        "price": _Exact(instrument.tick.text(order["price"])) if order["price"] else None,
        "quantity": _Exact(instrument.lot.text(order["quantity"])),
        "filled": _Exact(instrument.lot.text(order["filled"])),
        "value": _Exact(_product(instrument).text(value)),
        "average_price": average_price(value, order["filled"], instrument.tick),
        "status": STATUS_WORDS[order["status"]],
        "reason": Reason(order["reason"]).name if order["reason"] else None,
        "created_ns": order["created_ns"] or None,
        "updated_ns": order["updated_ns"],
    }


def trade_row(
    row: Records, instruments: Mapping[int, Instrument], names: Mapping[int, str]
) -> dict[str, Any]:
    """Return a trade (TRADE_ROW) as people see it: ``TRADE_COLUMNS``."""
    trade = dict(zip(row.dtype.names or (), row.item(), strict=True))
    instrument = instruments[trade["symbol"]]
    return {
        "trade_id": trade["trade_id"],
        "symbol": instrument.symbol,
        "buy_order_id": trade["buy_order_id"],
        "sell_order_id": trade["sell_order_id"],
        "buyer": names.get(trade["buyer"]),
        "seller": names.get(trade["seller"]),
        "price": _Exact(instrument.tick.text(trade["price"])),
        "quantity": _Exact(instrument.lot.text(trade["quantity"])),
        "maker_side": Side(3 - trade["taker_side"]).name,
        "timestamp_ns": trade["timestamp_ns"],
    }


def average_price(value: int, filled: int, tick: Scale) -> "_Exact | None":
    """Return what a unit has cost, in ticks times lots and lots; None where nothing was filled."""
    if not filled:
        return None
    scaled, rest = divmod(value * 10**AVERAGE_DIGITS, filled)
    scaled += 2 * rest > filled or (2 * rest == filled and scaled % 2)
    text = Scale(tick.mantissa, tick.digits + AVERAGE_DIGITS).text(scaled)
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
