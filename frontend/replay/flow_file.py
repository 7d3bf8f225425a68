"""Reads a recorded order flow: a CSV file, plain or gzipped, of what was done to one book.

Columns, found by the header's names; any other column is ignored:

| column | values |
| --- | --- |
| seq | the row's own number, which the fills of the flow refer to |
| ts_ns | time of the row, in nanoseconds |
| op | N new, L new and crossing, X new immediate-or-cancel, C cancel, R reduce, M replace |
| | P pair, B bracket |
| id | the order's number, from 1, or a text: its client_order_id |
| side | B or S |
| price | ticks; 0 for a market order |
| qty | lots; of R the quantity to take off, of M the new open quantity |
| tif | GTC, IOC, PO (post-only), MKT (market order), or empty |
| stop_price | ticks, or empty; a new order waits for it, M sets it; the column may be missing |
| display_quantity | lots, or empty: how much of an order is shown; the column may be missing |
| expire_time_ns | when a new order ends, or empty; it is GTD then; the column may be missing |
| minimum_quantity | lots that an IOC order trades at once, or nothing; the column may be missing |
| take_price | ticks, or empty: where a bracket takes its profit; the column may be missing |
| stop_limit_price | ticks, or empty: the limit of a list's stop order; the column may be missing |

The orders of a pair or a bracket have the ids from the row's on: see ``ipc.client_ids`` for texts.
"""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from ipc.arrays import Integers
from ipc.bounds import TEXT_BIT, TEXT_RULE
from ipc.client_ids import is_client_text, number_of
from ipc.codes import (
    ORDER_TYPE_LIMIT,
    ORDER_TYPE_MARKET,
    ORDER_TYPE_STOP,
    ORDER_TYPE_STOP_LIMIT,
    SIDE_BUY,
    SIDE_SELL,
    TIME_IN_FORCE_GTC,
    TIME_IN_FORCE_GTD,
    TIME_IN_FORCE_IOC,
)
from ipc.decimals import MAX_WHOLE_DIGITS
from ipc.vocabulary import MAX_CLIENT_ID, MAX_PRICE, MAX_QUANTITY
from ipc.wire.messages import Cancel, NewBracket, NewOco, NewOrder, Reduce, Replace

MAX_ROWS = 20_000_000
"""Of one file: a flow is held in memory, 91 bytes a row."""
_CHUNK_ROWS = 8_192
NO_TEXTS: Mapping[int, str] = MappingProxyType({})


class Op(IntEnum):
    """What a row does; the names are those of the file."""

    N = 1
    L = 2
    X = 3
    C = 4
    R = 5
    M = 6
    P = 7
    B = 8


class Tif(IntEnum):
    """How an order is entered; the names are those of the file."""

    NONE = 0
    GTC = 1
    IOC = 2
    PO = 3
    MKT = 4


# Plain integers: a member of an enum costs a replay more than all else it does with a row.
_N, _L, _X, _C, _R, _M, _P, _B = map(int, Op)
_IOC, _PO, _MKT = int(Tif.IOC), int(Tif.PO), int(Tif.MKT)
_ENTERING = (_N, _L, _X)

FLOW_ROW = np.dtype(
    [
        ("seq", "<u8"),
        ("ts_ns", "<u8"),
        ("op", "u1"),
        ("side", "u1"),
        ("price", "<u8"),
        ("qty", "<u8"),
        ("id", "<u8"),
        ("tif", "u1"),
        ("stop_price", "<u8"),
        ("display_quantity", "<u8"),
        ("expire_time_ns", "<u8"),
        ("minimum_quantity", "<u8"),
        ("take_price", "<u8"),
        ("stop_limit_price", "<u8"),
    ]
)
"""One row of a flow: op is an ``Op``, side a ``Side``, tif a ``Tif``."""


class FlowRow(NamedTuple):
    """One record of FLOW_ROW as Python integers."""

    seq: int
    ts_ns: int
    op: int
    side: int
    price: int
    qty: int
    id: int
    tif: int
    stop_price: int
    display_quantity: int
    expire_time_ns: int
    minimum_quantity: int
    take_price: int
    stop_limit_price: int


assert FlowRow._fields == FLOW_ROW.names


class FlowFileError(ValueError):
    """A file is not an order flow: names the file, and where there is one line, column and rule."""


@dataclass(frozen=True)
class Flow:
    """An order flow of one symbol.

    ``rows`` is an array of FLOW_ROW in the file's order. ``min_price`` and ``max_price`` span the
    limit and stop prices of its orders, in ticks; both are 1 where it has none.
    """

    symbol: str
    rows: npt.NDArray[np.void]
    min_price: int
    max_price: int
    texts: Mapping[int, str] = field(default_factory=dict)
    """Of ids that stand for one: see ``ipc.client_ids``."""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[FlowRow]:
        """Yield the rows in order, at the memory of a chunk."""
        for start in range(0, len(self.rows), _CHUNK_ROWS):
            chunk = self.rows[start : start + _CHUNK_ROWS]
            yield from map(FlowRow, *(chunk[name].tolist() for name in FlowRow._fields))


def read_flow(path: Path | str, max_rows: int = MAX_ROWS) -> Flow:
    """Read a flow; its symbol is the file's name up to the first ``_`` (or the first ``.``).

    Raises FlowFileError where the file is not an order flow or has more than ``max_rows`` rows,
    OSError where it cannot be read.
    """
    path = Path(path)
    try:
        with _open_text(path) as file:
            rows, texts = _read_rows(path, csv.reader(file, quoting=csv.QUOTE_NONE), max_rows)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FlowFileError(f"{path}: must be a whole gzip file: {error}") from error
    except csv.Error as error:
        raise FlowFileError(f"{path}: must be lines of plain CSV: {error}") from error
    limits = rows["price"][(rows["op"] != Op.C) & (rows["op"] != Op.R) & (rows["tif"] != Tif.MKT)]
    for name in ("stop_price", "take_price", "stop_limit_price"):
        limits = np.concatenate((limits, rows[name][rows[name] != 0]))
    symbol = path.name.split("_")[0].split(".")[0]
    if len(limits) == 0:
        return Flow(symbol, rows, 1, 1, texts)
    return Flow(symbol, rows, int(limits.min()), int(limits.max()), texts)


def order_type_of(market: bool, stop_price: int) -> int:
    """Return the type of a new order, a market order or not, with a stop price or 0."""
    if stop_price:
        return ORDER_TYPE_STOP if market else ORDER_TYPE_STOP_LIMIT
    return ORDER_TYPE_MARKET if market else ORDER_TYPE_LIMIT


def time_in_force_of(row: FlowRow) -> int:
    """Return the time in force of a new order."""
    if row.tif in (_MKT, _IOC) or row.op == _X:
        return TIME_IN_FORCE_IOC
    return TIME_IN_FORCE_GTD if row.expire_time_ns else TIME_IN_FORCE_GTC


def message_of(
    row: FlowRow, symbol_number: int, request_id: int, texts: Mapping[int, str] = NO_TEXTS
) -> NewOrder | Cancel | Reduce | Replace | NewOco | NewBracket:
    """Return the message that does what a row says, to the order whose client_order_id is its id,
    or the text that the id stands for in its flow.

    Raises ValueError where the row's op is not an ``Op``.
    """
    _, _, op, side, price, qty, number, tif, stop_price, shown, ends, least, *_ = row
    order_id = texts[number] if number >= TEXT_BIT else number
    if op in _ENTERING:
        market = tif == _MKT
        return NewOrder(
            symbol_number,
            request_id,
            order_id,
            side,
            order_type_of(market, stop_price),
            time_in_force_of(row),
            0 if market else price,
            qty,
            tif == _PO,
            stop_price,
            display_quantity=shown,
            expire_time_ns=ends,
            minimum_quantity=least,
        )
    if op == _C:
        return Cancel(symbol_number, request_id, 0, order_id)
    if op == _R:
        return Reduce(symbol_number, request_id, 0, order_id, qty)
    if op == _M:
        further = (True, stop_price, shown)
        return Replace(symbol_number, request_id, 0, order_id, price, qty, *further)
    if op in (_P, _B):
        return _list_of(row, symbol_number, request_id, order_id)
    raise ValueError(f"op: {op}, must be one of {[int(op) for op in Op]}")


def _list_of(
    row: FlowRow, symbol_number: int, request_id: int, order_id: int | str
) -> NewOco | NewBracket:
    head = (symbol_number, request_id, row.side, order_id)
    in_force, stop = time_in_force_of(row), row.stop_price
    further = {"stop_limit_price": row.stop_limit_price, "expire_time_ns": row.expire_time_ns}
    if row.op == _P:
        return NewOco(*head, in_force, row.price, row.qty, stop, **further)
    market = row.tif == _MKT
    kind, price = order_type_of(market, 0), 0 if market else row.price
    first = (kind, in_force, price, row.qty)
    return NewBracket(*head, *first, row.take_price, stop, post_only=row.tif == _PO, **further)


def orders_of(rows: npt.NDArray[np.void]) -> Integers:
    """Return how many orders each row (FLOW_ROW) enters."""
    one = np.isin(rows["op"], _ENTERING).astype(np.int64)
    exits = np.sum([rows[name] != 0 for name in ("take_price", "stop_price")], axis=0)
    orders: Integers = one + 2 * (rows["op"] == _P) + (rows["op"] == _B) * (1 + exits)
    return orders


def _open_text(path: Path) -> TextIO:
    """Open a file by its first bytes, not by its name; a byte that is no ASCII fits no rule."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return gzip.open(path, "rt", encoding="ascii", errors="backslashreplace", newline="")
    return path.open(encoding="ascii", errors="backslashreplace", newline="")


_Parser = Callable[[Sequence[str]], list[int]]
"""Takes a column's texts to its values; raises ValueError with the rule that one of them breaks."""


def _integer(low: int, high: int) -> _Parser:
    rule = f"must be an integer from {low} to {high}"

    def parse(texts: Sequence[str]) -> list[int]:
        # As `is_whole`, of all at once: the file has been read as ASCII.
        if max(map(len, texts)) > MAX_WHOLE_DIGITS or not all(map(str.isdigit, texts)):
            raise ValueError(rule)
        values = list(map(int, texts))
        if min(values) < low or max(values) > high:
            raise ValueError(rule)
        return values

    return parse


def _word(values: dict[str, int]) -> _Parser:
    rule = f"must be one of {', '.join(word or '(empty)' for word in values)}"

    def parse(texts: Sequence[str]) -> list[int]:
        try:
            return [values[text] for text in texts]
        except KeyError:
            raise ValueError(rule) from None

    return parse


def _ids(texts: Sequence[str]) -> list[int]:
    """Take ids, whose texts become the numbers that stand for them."""
    if all(map(str.isdigit, texts)):
        return _NUMBERS(texts)
    named = [not text.isdigit() for text in texts]
    if not all(is_client_text(t.encode()) for t, own in zip(texts, named, strict=True) if own):
        raise ValueError(f"{_ID_RULE}, or {TEXT_RULE}")
    return [number_of(t) if own else _NUMBERS([t])[0] for t, own in zip(texts, named, strict=True)]


_NUMBERS, _ID_RULE = _integer(1, MAX_CLIENT_ID), f"must be an integer from 1 to {MAX_CLIENT_ID}"


def _optional(parse: _Parser) -> _Parser:
    """Take what is empty for 0."""
    return lambda texts: parse([text or "0" for text in texts])


_PARSERS: dict[str, _Parser] = {
    "seq": _integer(0, MAX_CLIENT_ID),
    "ts_ns": _integer(0, MAX_CLIENT_ID),
    "op": _word({op.name: int(op) for op in Op}),
    "side": _word({"B": SIDE_BUY, "S": SIDE_SELL}),
    "price": _integer(0, MAX_PRICE),
    "qty": _integer(0, MAX_QUANTITY),
    "id": _ids,
    "tif": _word({"": int(Tif.NONE)} | {tif.name: int(tif) for tif in Tif if tif}),
    "stop_price": _optional(_integer(0, MAX_PRICE)),
    "display_quantity": _optional(_integer(0, MAX_QUANTITY)),
    "expire_time_ns": _optional(_integer(0, MAX_CLIENT_ID)),
    "minimum_quantity": _optional(_integer(0, MAX_QUANTITY)),
    "take_price": _optional(_integer(0, MAX_PRICE)),
    "stop_limit_price": _optional(_integer(0, MAX_PRICE)),
}
_MAY_BE_MISSING = tuple(_PARSERS)[tuple(_PARSERS).index("stop_price") :]
assert tuple(_PARSERS) == FLOW_ROW.names
_ID = list(_PARSERS).index("id")


def _read_rows(
    path: Path, lines: Iterator[list[str]], max_rows: int
) -> tuple[npt.NDArray[np.void], dict[int, str]]:
    """Return the rows, and the texts of those ids that stand for one."""
    header = next(lines, [])
    missing = [name for name in _MAY_BE_MISSING if name not in header]
    wrong = [name for name in _PARSERS if header.count(name) != 1 and name not in missing]
    if wrong:
        raise FlowFileError(f"{path}: line 1: {wrong[0]}: must be in the header once")
    positions = [None if name in missing else header.index(name) for name in _PARSERS]
    chunks = []
    names: dict[int, str] = {}
    rows = 0
    while chunk := list(islice(lines, _CHUNK_ROWS)):
        for number, line in enumerate(chunk, start=rows + 2):
            if len(line) != len(header):
                where = f"{path}: line {number}: {len(line)} columns"
                raise FlowFileError(f"{where}, must be the header's {len(header)}")
        columns = list(zip(*chunk, strict=True))
        empty = ("",) * len(chunk)
        given = [empty if position is None else columns[position] for position in positions]
        found = _parse(path, rows + 2, given)
        chunks.append(found)
        for place in np.flatnonzero(found["id"] >= np.uint64(TEXT_BIT)).tolist():
            names[int(found["id"][place])] = given[_ID][place]
        rows += len(chunk)
        if rows > max_rows:
            raise FlowFileError(f"{path}: line {max_rows + 2}: must have at most {max_rows} rows")
    return np.concatenate(chunks) if chunks else np.empty(0, dtype=FLOW_ROW), names


def _parse(path: Path, first_line: int, columns: Sequence[Sequence[str]]) -> npt.NDArray[np.void]:
    rows = np.empty(len(columns[0]), dtype=FLOW_ROW)
    try:
        for (name, parse), texts in zip(_PARSERS.items(), columns, strict=True):
            rows[name] = parse(texts)
    except ValueError:
        raise _first_fault(path, first_line, columns) from None
    return rows


def _first_fault(path: Path, first_line: int, columns: Sequence[Sequence[str]]) -> FlowFileError:
    """Return the error of the first line, and in it the first column, that breaks a rule."""
    for number, line in enumerate(zip(*columns, strict=True), start=first_line):
        for (name, parse), text in zip(_PARSERS.items(), line, strict=True):
            try:
                parse([text])
            except ValueError as error:
                shown = text if len(text) <= 40 else f"{text[:40]}..."
                return FlowFileError(f"{path}: line {number}: {name}: {shown!r}, {error}")
    raise AssertionError("no line breaks a rule")
