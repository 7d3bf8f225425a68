"""Orders and trades as columns of Apache Arrow, and in Parquet files: for pandas, polars, DuckDB.

Prices and quantities are exact decimals, with as many places as the finest instrument has; times
are to the nanosecond, UTC. What there is none of is null.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.books.contract import Records
from engine.history.destination import AwayError
from engine.history.history import AVERAGE_DIGITS, average
from engine.history.parquet import pyarrow_parquet
from engine.history.rows import ORDER_ROW, TRADE_ROW, VALUE_BITS
from engine.history.tables import (
    ORDER_TYPES,
    PREVENTIONS,
    REASONS,
    SIDES,
    STATUS_WORDS,
    TIMES,
)
from ipc.arrays import Integers
from ipc.instruments import Instrument
from ipc.vocabulary import PREVENTION_SHIFT, Flag

_DIGITS = 38
"""Of a decimal of 128 bits."""
_INT64 = (1 << 63) - 1


class Names(NamedTuple):
    """Who accounts are, and what client_order_ids below 0 stand for."""

    users: Mapping[int, str]
    texts: Mapping[int, str]


NO_NAMES = Names({}, {})


class Columns:
    """Makes tables of rows, all of one schema, of the instruments that there are."""

    def __init__(self, instruments: Mapping[int, Instrument]) -> None:
        self._by_number = instruments
        self._ticks = max(i.tick.digits for i in instruments.values())
        self._lots = max(i.lot.digits for i in instruments.values())

    def orders(self, rows: Records, names: Names) -> Any:
        """Return orders (ORDER_ROW) as a table."""
        values = [
            (high << VALUE_BITS) + low
            for high, low in zip(
                rows["value_high"].tolist(), rows["value_low"].tolist(), strict=True
            )
        ]
        symbols, flags, filled = rows["symbol"], rows["flags"], rows["filled"]
        return _table(
            order_id=rows["order_id"],
            user_id=_words(rows["account"], names.users),
            client_order_id=_known(rows["client_order_id"]),
            client_order_text=_words(rows["client_order_id"], names.texts),
            symbol=self._symbols(symbols),
            side=_words(rows["side"], SIDES),
            order_type=_words(rows["order_type"], ORDER_TYPES),
            time_in_force=_words(rows["time_in_force"], TIMES),
            price=self._prices(symbols, rows["price"]),
            quantity=self._quantities(symbols, rows["quantity"]),
            filled=self._quantities(symbols, filled),
            value=_decimals(
                np.array(values, object), self._factors(symbols, 0), self._ticks + self._lots
            ),
            average_price=_decimals(
                np.array(list(map(average, values, filled.tolist())), object),
                self._factors(symbols, 1),
                self._ticks + AVERAGE_DIGITS,
                filled > 0,
            ),
            status=_words(rows["status"], STATUS_WORDS),
            reason=_words(rows["reason"], REASONS),
            created_at=_times(rows["created_ns"]),
            updated_at=_times(rows["updated_ns"]),
            stop_price=self._prices(symbols, rows["stop_price"]),
            triggered=flags & Flag.TRIGGERED != 0,
            post_only=flags & Flag.POST_ONLY != 0,
            self_trade_prevention=_words(flags >> PREVENTION_SHIFT & 7, PREVENTIONS),
        )

    def trades(self, rows: Records, names: Names) -> Any:
        """Return trades (TRADE_ROW) as a table."""
        symbols = rows["symbol"]
        return _table(
            trade_id=rows["trade_id"],
            symbol=self._symbols(symbols),
            buy_order_id=rows["buy_order_id"],
            sell_order_id=rows["sell_order_id"],
            buyer=_words(rows["buyer"], names.users),
            seller=_words(rows["seller"], names.users),
            price=self._prices(symbols, rows["price"]),
            quantity=self._quantities(symbols, rows["quantity"]),
            maker_side=_words(3 - rows["taker_side"], SIDES),
            time=_times(rows["timestamp_ns"]),
        )

    def _symbols(self, symbols: Integers) -> Any:
        return _words(symbols, {number: i.symbol for number, i in self._by_number.items()})

    def _prices(self, symbols: Integers, ticks: Integers) -> Any:
        return _decimals(ticks, self._factors(symbols, 1), self._ticks, ticks > 0)

    def _quantities(self, symbols: Integers, lots: Integers) -> Any:
        return _decimals(lots, self._factors(symbols, 2), self._lots)

    def _factors(self, symbols: Integers, of: int) -> npt.NDArray[Any]:
        """Return what one step of each symbol is in units of the last place of its column: of
        ticks times lots (0), ticks (1) or lots (2)."""
        found = {}
        for number in np.unique(symbols).tolist():
            tick, lot = self._by_number[number].tick, self._by_number[number].lot
            ticks = tick.mantissa * 10 ** (self._ticks - tick.digits)
            lots = lot.mantissa * 10 ** (self._lots - lot.digits)
            found[number] = (ticks * lots, ticks, lots)[of]
        keys = np.array(sorted(found), np.int64)
        return np.array([found[key] for key in keys.tolist()], object)[
            np.searchsorted(keys, symbols)
        ]


def write_file(
    path: Path,
    what: str,
    instruments: Mapping[int, Instrument],
    parts: Iterable[tuple[Records, Names]],
) -> int:
    """Write ``orders`` or ``trades``, with the names in them, to a file; return how many.

    The file is whole once it has its name. Raises ``AwayError`` and ``HistoryError``.
    """
    parquet = pyarrow_parquet()
    columns = Columns(instruments)
    to_table, dtype = {
        "orders": (columns.orders, ORDER_ROW),
        "trades": (columns.trades, TRADE_ROW),
    }[what]
    schema = to_table(np.zeros(0, dtype), NO_NAMES).schema
    aside = path.with_name(f"{path.name}.tmp")
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(parquet.ParquetWriter(aside, schema, compression="zstd")) as writer:
            for rows, names in parts:
                writer.write_table(to_table(rows, names))
                count += len(rows)
        aside.rename(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise AwayError(f"{path}: {error.strerror or error}") from None
    return count


def _table(**columns: Any) -> Any:
    import pyarrow

    return pyarrow.table({name: pyarrow.array(column) for name, column in columns.items()})


def _words(codes: Integers, words: Mapping[int, str]) -> Any:
    """Return a column of words by codes; null where there is none."""
    import pyarrow

    known, places = np.unique(codes, return_inverse=True)
    texts = pyarrow.array([words.get(code) for code in known.tolist()], pyarrow.string())
    return texts.take(pyarrow.array(places))


def _known(numbers: Integers) -> Any:
    import pyarrow

    return pyarrow.array(numbers, mask=numbers <= 0)


def _times(times_ns: Integers) -> Any:
    import pyarrow

    return pyarrow.array(times_ns, mask=times_ns == 0).cast(pyarrow.timestamp("ns", "UTC"))


def _decimals(
    steps: npt.NDArray[Any],
    factors: npt.NDArray[Any],
    digits: int,
    valid: npt.NDArray[np.bool_] | None = None,
) -> Any:
    """Return a column of exact decimals: ``steps * factors`` units of the last place."""
    import pyarrow

    if len(steps) and int(steps.max()) * int(factors.max()) > _INT64:
        exact = steps.astype(object) * factors
        low = np.array([int(value) & (1 << 64) - 1 for value in exact], np.uint64)
        high = np.array([int(value) >> 64 for value in exact], np.uint64)
    else:
        low = (steps.astype(np.int64) * factors.astype(np.int64)).astype(np.uint64)
        high = np.zeros(len(low), np.uint64)
    words = np.ascontiguousarray(np.stack((low, high), axis=1).astype("<u8"))
    kind = pyarrow.decimal128(_DIGITS, digits)
    column = pyarrow.Array.from_buffers(kind, len(low), [None, pyarrow.py_buffer(words)])
    if valid is None:
        return column
    return pyarrow.compute.if_else(pyarrow.array(valid), column, pyarrow.scalar(None, kind))
