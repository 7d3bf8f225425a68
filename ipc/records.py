"""Every layout that two processes share: fixed-size little-endian records and the ids in them.

What those of orders, reports and trades bear is declared in ``ipc.schema.declarations``. A record
is a numpy structured dtype without padding; its size is asserted below, and ``VERSION`` changes
with any of them, so that a reader of another version refuses the mapping or the file. Prices are
ticks, quantities lots, times nanoseconds since the epoch; 0 means "none" in every id.
"""

import hashlib
from typing import NamedTuple

import numpy as np

from ipc.schema.declarations import layout

VERSION = 7

SHARD_BITS = 8
SEQUENCE_BITS = 45
MAX_SHARDS = 1 << SHARD_BITS
SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1

COMMAND = np.dtype(layout("COMMAND"))
"""One command to a matcher. What a field means for each command: ``engine.books.rules``."""

KEPT_COMMAND = np.dtype([field for field in COMMAND.descr if field[0] != "timestamp_ns"])
"""What a journal keeps of a command: all but its time, which its batch has."""

REPORT = np.dtype(layout("REPORT"))
"""What became of an order or a command, for one account.

A book leaves ``account_sequence`` 0; ``engine.shard.account_sequences`` numbers what it gave.
"""

TRADE = np.dtype(layout("TRADE"))
"""One trade, once for both sides."""

LEVEL = np.dtype(layout("LEVEL"))
"""One price level of one side of a book."""

RESTING = np.dtype(layout("RESTING"))
"""One resting order of a book: what a snapshot keeps and a state hash covers."""

RECENT = np.dtype(layout("RECENT"))
"""One remembered client_order_id, whether its order rests or not: ``engine.books.id_memory``."""

LAST_PRICE = np.dtype(layout("LAST_PRICE"))
"""The price of a symbol's last trade."""

ORDER = np.dtype(layout("ORDER"))
"""The state of one order, live or ended, as the order table shows it to readers."""

# Written by ipc.schema.generate from here


class CommandRow(NamedTuple):
    """A record of COMMAND."""

    command_type: int
    side: int
    order_type: int
    time_in_force: int
    flags: int
    self_trade_prevention: int
    symbol: int
    request_id: int
    account: int
    order_id: int
    client_order_id: int
    price: int
    quantity: int
    timestamp_ns: int
    stop_price: int
    display_quantity: int
    expire_time_ns: int
    minimum_quantity: int


class ReportRow(NamedTuple):
    """A record of REPORT; what is left out is 0."""

    exec_type: int = 0
    ord_status: int = 0
    command_type: int = 0
    side: int = 0
    order_type: int = 0
    time_in_force: int = 0
    flags: int = 0
    liquidity: int = 0
    symbol: int = 0
    reason: int = 0
    answers: int = 0
    sequence: int = 0
    request_id: int = 0
    account: int = 0
    order_id: int = 0
    client_order_id: int = 0
    price: int = 0
    quantity: int = 0
    cum_qty: int = 0
    leaves_qty: int = 0
    last_price: int = 0
    last_qty: int = 0
    trade_id: int = 0
    timestamp_ns: int = 0
    account_sequence: int = 0


class TradeRow(NamedTuple):
    """A record of TRADE; what is left out is 0."""

    trade_id: int = 0
    sequence: int = 0
    timestamp_ns: int = 0
    price: int = 0
    quantity: int = 0
    buy_order_id: int = 0
    sell_order_id: int = 0
    symbol: int = 0
    taker_side: int = 0
    reserved: tuple[int, ...] = (0, 0, 0, 0, 0)


class OrderRow(NamedTuple):
    """A record of ORDER."""

    order_id: int
    account: int
    client_order_id: int
    price: int
    quantity: int
    cum_qty: int
    leaves_qty: int
    created_ns: int
    updated_ns: int
    symbol: int
    reason: int
    side: int
    order_type: int
    time_in_force: int
    flags: int
    ord_status: int
    reserved: tuple[int, ...]
    end_number: int
    stop_price: int
    display_quantity: int


# up to here

MAPPING_HEADER = np.dtype(
    [
        ("magic", "<u8"),
        ("version", "<u8"),
        ("kind", "S16"),
        ("fingerprint", "<u8"),
        ("capacity", "<u8"),
        ("tag", "<u8"),
        ("body_bytes", "<u8"),
    ]
)
"""The beginning of the first page of every shared mapping."""

TABLE_ENTRY = np.dtype([("version", "<u4"), ("next", "<u4"), *ORDER.descr])
"""One slot of an order table: its version, odd while it changes, a link, and the order."""

DEPTH = np.dtype(
    [
        ("sequence", "<u8"),
        ("timestamp_ns", "<u8"),
        ("bid_levels", "<u8"),
        ("ask_levels", "<u8"),
    ]
)
"""What a depth board says of one symbol beside its levels."""

SEGMENT = np.dtype(
    [
        ("magic", "<u8"),
        ("version", "<u4"),
        ("checksum", "<u4"),  # CRC-32 of the header with this field 0
        ("header_bytes", "<u8"),
        ("terms_bytes", "<u8"),
        ("first_sequence", "<u8"),
        ("secret", "<u8", (2,)),  # the shard's: see ``engine.books.secret``; low word first
    ]
)
"""The beginning of a journal's segment; the terms follow as JSON, then zeros to a page's end."""

BATCH = np.dtype(
    [
        ("mark", "<u4"),
        ("count", "<u4"),
        ("first_sequence", "<u8"),
        ("timestamp_ns", "<u8"),
    ]
)
"""What leads a batch of a journal: how many commands follow, from which sequence, and their time.

How many words of KEPT_COMMAND follow, and how many bytes of each are kept of all commands but the
first: see ``engine.journal.format``."""

BATCH_END = np.dtype([("checksum", "<u4"), ("mark", "<u4")])
"""What closes a batch: the CRC-32 of all of it before this, and that it was written whole."""

_SIZES = {
    "COMMAND": (COMMAND, 96),
    "KEPT_COMMAND": (KEPT_COMMAND, 88),
    "REPORT": (REPORT, 128),
    "TRADE": (TRADE, 64),
    "LEVEL": (LEVEL, 24),
    "RESTING": (RESTING, 88),
    "RECENT": (RECENT, 32),
    "LAST_PRICE": (LAST_PRICE, 16),
    "ORDER": (ORDER, 104),
    "MAPPING_HEADER": (MAPPING_HEADER, 64),
    "TABLE_ENTRY": (TABLE_ENTRY, 112),
    "DEPTH": (DEPTH, 32),
    "SEGMENT": (SEGMENT, 56),
    "BATCH": (BATCH, 24),
    "BATCH_END": (BATCH_END, 8),
}
for _name, (_dtype, _size) in _SIZES.items():
    assert _dtype.itemsize == _size, f"{_name} is {_dtype.itemsize} bytes, not {_size}"


def make_id(shard: int, sequence: int) -> int:
    """Return the id of a shard's dense sequence number, below 2^53.

    So are order_id, trade_id and account_sequence made.
    """
    return shard << SEQUENCE_BITS | sequence


def shard_of(identifier: int) -> int:
    """Return the shard that assigned an id."""
    return identifier >> SEQUENCE_BITS


def sequence_of(identifier: int) -> int:
    """Return an id's dense sequence number in its shard; the first is 1."""
    return identifier & SEQUENCE_MASK


def account_of(user_id: str) -> int:
    """Return the account of a user: a 64-bit digest of the text, never 0."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def fingerprint(dtype: np.dtype[np.void]) -> int:
    """Return a 64-bit digest of a layout and of ``VERSION``, for the header of a mapping."""
    text = f"{VERSION}:{dtype.descr}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
