"""Rows by number: the only file of the compiled book that deals in addresses.

``order_at(book, slot)`` and its like return a numba Record that stands for the row itself, so that
``order_at(book, slot).leaves_qty -= quantity`` changes the table. They check nothing: whoever
calls them knows that the row exists. Arrays as arguments would cost a quarter of a microsecond
each in every call, and hidden reference counting inside.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import extending, from_dtype, types

from engine.books.ladder import layout
from ipc.native.code_cache import kept
from ipc.native.compiled import WHOLE, inlined
from ipc.native.words import packed

Command = Any
"""A numba Record of a COMMAND, seen as COMMAND_WORDS."""

Int = Any
"""An integer in a kernel. Amounts, keys and sequences are int64; ids from clients, hashes, bitmaps
and positions uint64; row numbers uint32. numba makes uint64 with int64 a float: convert first."""
Bool = Any
"""A truth value in a kernel."""
Row = Any
"""A numba Record: one row of a table, which its fields read and write."""

_WORD = ir.IntType(64)
_njit: Any = numba.njit
_unliteral: Any = types.unliteral


def _intrinsic(function: Callable[..., Any]) -> Any:
    """Let a function generate the code of its calls itself."""
    make: Any = extending.intrinsic
    return make(function)


def entry(function: Any, keep: bool = True) -> Any:
    """Compile an entry point, and keep the machine code: see ``ipc.native.code_cache``."""
    return kept(function, WHOLE) if keep else _njit(**WHOLE)(function)


class Book(NamedTuple):
    """The tables of a book, by address, and the sizes that a kernel needs all the time."""

    state: Int
    orders: Int
    levels: Int
    forks: Int
    places: Int
    extras: Int
    expiries: Int
    client_ids: Int
    client_id_entries: Int
    order_ids: Int
    order_id_entries: Int
    sides: Int
    summaries: Int
    words: Int
    near: Int
    instruments: Int
    symbols: Int
    recent: Int
    recent_mask: Int
    buckets: Int
    bucket_shift: Int
    hashes: Int
    sweeps: Int
    holdings: Int
    cause: Int
    id_factor: Int
    account_factor: Int
    symbol_factor: Int
    last_factor: Int
    accounts: Bool
    duplicates: Bool


class Kept(NamedTuple):
    """The tables of kept client_order_ids, by address."""

    kept: Int
    heads: Int
    holders: Int


class Output(NamedTuple):
    """Where a call writes, by address, and how many records fit."""

    reports: Int
    report_capacity: Int
    trades: Int
    trade_capacity: Int


def _row_pointer(context: Any, builder: Any, base: Any, index: Any, record: Any) -> Any:
    offset = builder.mul(index, ir.Constant(_WORD, record.size))
    return builder.inttoptr(builder.add(base, offset), context.get_value_type(record))


def _rows(table: str, dtype: np.dtype[np.void]) -> Any:
    """Return a function (tables, number) -> row of the table whose address is field ``table``."""
    record = from_dtype(dtype)

    @_intrinsic
    def row(typing_context: Any, tables: Any, number: Any) -> Any:
        field = tables.fields.index(table)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            base = builder.extract_value(arguments[0], field)
            index = context.cast(builder, arguments[1], signature.args[1], types.uint64)
            return _row_pointer(context, builder, base, index, record)

        return record(tables, _unliteral(number)), generate

    return row


order_at = _rows("orders", layout.ORDER_NODE)
level_at = _rows("levels", layout.LEVEL_NODE)
fork_at = _rows("forks", layout.FORK)
place_at = _rows("places", layout.PLACE)
extra_at = _rows("extras", layout.EXTRA)
expiry_at = _rows("expiries", layout.EXPIRY)
client_id_at = _rows("client_ids", layout.CLIENT_ID)
order_id_at = _rows("order_ids", layout.ORDER_ID)
side_at = _rows("sides", layout.SIDE)
summary_at = _rows("summaries", layout.WORD)
word_at = _rows("words", layout.WORD)
near_at = _rows("near", layout.NEAR)
instrument_at = _rows("instruments", layout.INSTRUMENT)
symbol_at = _rows("symbols", layout.SYMBOL)
recent_at = _rows("recent", layout.RECENT_ORDER)
bucket_at = _rows("buckets", layout.BUCKET)
hash_at = _rows("hashes", layout.HASH)
kept_at = _rows("kept", layout.KEPT_ID)
head_at = _rows("heads", layout.HEAD)
holder_at = _rows("holders", layout.HOLDER)
holding_at = _rows("holdings", layout.HOLDING)
sweep_at = _rows("sweeps", layout.COMMAND_WORDS)
cause_at = _rows("cause", layout.COMMAND_WORDS)
report_at = _rows("reports", layout.REPORT_WORDS)
trade_at = _rows("trades", layout.TRADE_WORDS)


@_intrinsic
def state_at(typing_context: Any, address: Any) -> Any:
    """Return the STATE at an address."""
    record = from_dtype(layout.STATE)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(record))

    return record(types.uint64), generate


@_intrinsic
def command_at(typing_context: Any, address: Any, number: Any) -> Any:
    """Return a COMMAND of an array by the array's address."""
    record = from_dtype(layout.COMMAND_WORDS)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        index = context.cast(builder, arguments[1], signature.args[1], types.uint64)
        return _row_pointer(context, builder, arguments[0], index, record)

    return record(types.uint64, _unliteral(number)), generate


@_intrinsic
def lowest_bit(typing_context: Any, word: Any) -> Any:
    """Return the number of the lowest bit set in a word that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@_intrinsic
def highest_bit(typing_context: Any, word: Any) -> Any:
    """Return the number of the highest bit set in a word that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.sub(ir.Constant(_WORD, 63), zeros)

    return types.uint64(types.uint64), generate


@_intrinsic
def count_bits(typing_context: Any, word: Any) -> Any:
    """Return how many bits of a word are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@_intrinsic
def unlikely(typing_context: Any, condition: Any) -> Any:
    """Return a condition, having told the compiler that it seldom holds."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bit = ir.IntType(1)
        function_type = ir.FunctionType(bit, [bit, bit])
        expect = builder.module.declare_intrinsic("llvm.expect", [bit], function_type)
        return builder.call(expect, [arguments[0], ir.Constant(bit, 0)])

    return types.boolean(types.boolean), generate


@_intrinsic
def kept_apart(typing_context: Any) -> Any:
    """Keep the function that calls this, seldom run itself, out of its callers' machine code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        attributes = builder.function.attributes
        attributes.discard("alwaysinline")  # of its caller, which numba passes on
        attributes.add("noinline")
        attributes.add("cold")
        return context.get_dummy_value()

    return types.void(), generate


def _prefetch(for_writing: int) -> Any:
    @_intrinsic
    def prefetch(typing_context: Any, row: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
            function_type = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
            function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], function_type)
            address = builder.bitcast(arguments[0], pointer)
            keep, data = ir.Constant(word, 3), ir.Constant(word, 1)
            builder.call(function, [address, ir.Constant(word, for_writing), keep, data])
            return context.get_dummy_value()

        return types.void(row), generate

    return prefetch


# Ask for the cache line of a row that will soon be read, or written; any number is allowed.
prefetch_read, prefetch_write = _prefetch(0), _prefetch(1)


@inlined
def signed(number: Int) -> Int:
    return np.int64(number)


@inlined
def instrument_of_side(side: Int) -> Int:
    return signed(side) >> layout.SIDE_BITS


@inlined
def open_book(address: Int, accounts: Bool, duplicates: Bool) -> Book:
    """Return the tables that the STATE at an address names."""
    state = state_at(address)
    return packed(
        Book(
            np.uint64(address),
            state.orders,
            state.levels,
            state.forks,
            state.places,
            state.extras,
            state.expiries,
            state.client_ids,
            state.client_id_entries,
            state.order_ids,
            state.order_id_entries,
            state.sides,
            state.summaries,
            state.words,
            state.near,
            state.instruments,
            state.symbols,
            state.recent,
            state.recent_mask,
            state.buckets,
            state.bucket_shift,
            state.hashes,
            state.sweeps,
            state.holdings,
            state.cause,
            state.id_factor,
            state.account_factor,
            state.symbol_factor,
            state.last_factor,
            accounts,
            duplicates,
        )
    )
