"""Every layout that two processes share: fixed-size little-endian records and the ids in them.

A record is a numpy structured dtype without padding; its size is asserted below, and ``VERSION``
changes with any of them, so that a reader of another version refuses the mapping or the file.
Prices are ticks, quantities lots, times nanoseconds since the epoch; 0 means "none" in every id.
"""

import hashlib

import numpy as np

VERSION = 4

SHARD_BITS = 8
SEQUENCE_BITS = 45
MAX_SHARDS = 1 << SHARD_BITS
SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1

COMMAND = np.dtype(
    [
        ("command_type", "u1"),
        ("side", "u1"),
        ("order_type", "u1"),
        ("time_in_force", "u1"),
        ("flags", "u1"),
        ("self_trade_prevention", "u1"),  # 0: the mode that exists
        ("symbol", "<u2"),  # instrument number; 0: none given
        ("request_id", "<u8"),
        ("account", "<u8"),
        ("order_id", "<u8"),
        ("client_order_id", "<u8"),
        ("price", "<u8"),
        ("quantity", "<u8"),
        ("timestamp_ns", "<u8"),
        ("stop_price", "<u8"),  # 0: stop orders are not there yet
        ("display_quantity", "<u8"),  # 0: nor are icebergs
    ]
)
"""One command to a matcher. What a field means for each command: ``engine.books.rules``."""

KEPT_COMMAND = np.dtype(COMMAND.descr[:-3])
"""What a journal keeps of a command: all but its time, which its batch has, and what must be 0."""

REPORT = np.dtype(
    [
        ("exec_type", "u1"),
        ("ord_status", "u1"),
        ("command_type", "u1"),  # of the command that caused the report
        ("side", "u1"),
        ("order_type", "u1"),
        ("time_in_force", "u1"),
        ("flags", "u1"),
        ("liquidity", "u1"),
        ("symbol", "<u2"),
        ("reason", "<u2"),
        ("reserved", "<u4"),
        ("sequence", "<u8"),  # of the command, in its shard
        ("request_id", "<u8"),  # of the command; 0 where the order is not the command's own
        ("account", "<u8"),  # whom the report is for
        ("order_id", "<u8"),
        ("client_order_id", "<u8"),
        ("price", "<u8"),
        ("quantity", "<u8"),  # the order's total: cum_qty and what was open before its end
        ("cum_qty", "<u8"),
        ("leaves_qty", "<u8"),
        ("last_price", "<u8"),
        ("last_qty", "<u8"),
        ("trade_id", "<u8"),
        ("timestamp_ns", "<u8"),
        ("account_sequence", "<u8"),  # an id: the shard, and this report's number for the account
    ]
)
"""What became of an order or a command, for one account.

A book leaves ``account_sequence`` 0; ``engine.shard.account_sequences`` numbers what it gave.
"""

TRADE = np.dtype(
    [
        ("trade_id", "<u8"),
        ("sequence", "<u8"),  # of the taker's command, in its shard
        ("timestamp_ns", "<u8"),
        ("price", "<u8"),
        ("quantity", "<u8"),
        ("buy_order_id", "<u8"),
        ("sell_order_id", "<u8"),
        ("symbol", "<u2"),
        ("taker_side", "u1"),
        ("reserved", "u1", (5,)),
    ]
)
"""One trade, once for both sides."""

LEVEL = np.dtype([("price", "<u8"), ("quantity", "<u8"), ("order_count", "<u8")])
"""One price level of one side of a book."""

RESTING = np.dtype(
    [
        ("order_id", "<u8"),
        ("account", "<u8"),
        ("client_order_id", "<u8"),
        ("price", "<u8"),
        ("leaves_qty", "<u8"),
        ("cum_qty", "<u8"),
        ("symbol", "<u2"),
        ("side", "u1"),
        ("flags", "u1"),
        ("reserved", "<u4"),
    ]
)
"""One resting order of a book: what a snapshot keeps and a state hash covers."""

RECENT = np.dtype(
    [
        ("order_id", "<u8"),
        ("account", "<u8"),
        ("client_order_id", "<u8"),
        ("symbol", "<u8"),
    ]
)
"""One remembered client_order_id, whether its order rests or not: ``engine.books.id_memory``."""

ORDER = np.dtype(
    [
        ("order_id", "<u8"),
        ("account", "<u8"),
        ("client_order_id", "<u8"),
        ("price", "<u8"),
        ("quantity", "<u8"),
        ("cum_qty", "<u8"),
        ("leaves_qty", "<u8"),
        ("created_ns", "<u8"),
        ("updated_ns", "<u8"),
        ("symbol", "<u2"),
        ("reason", "<u2"),
        ("side", "u1"),
        ("order_type", "u1"),
        ("time_in_force", "u1"),
        ("flags", "u1"),
        ("ord_status", "u1"),
        ("reserved", "u1", (3,)),
        ("end_number", "<u4"),  # of an ended order: how many of its table's had ended before it
    ]
)
"""The state of one order, live or ended, as the order table shows it to readers."""

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
        ("widths", "u1", (8,)),  # of the seven words of KEPT_COMMAND; the last is 0
    ]
)
"""What leads a batch of a journal: how many commands follow, from which sequence, their time, and
how many bytes of each word are kept of all but the first."""

BATCH_END = np.dtype([("checksum", "<u4"), ("mark", "<u4")])
"""What closes a batch: the CRC-32 of all of it before this, and that it was written whole."""

_SIZES = {
    "COMMAND": (COMMAND, 80),
    "KEPT_COMMAND": (KEPT_COMMAND, 56),
    "REPORT": (REPORT, 128),
    "TRADE": (TRADE, 64),
    "LEVEL": (LEVEL, 24),
    "RESTING": (RESTING, 56),
    "RECENT": (RECENT, 32),
    "ORDER": (ORDER, 88),
    "MAPPING_HEADER": (MAPPING_HEADER, 64),
    "TABLE_ENTRY": (TABLE_ENTRY, 96),
    "DEPTH": (DEPTH, 32),
    "SEGMENT": (SEGMENT, 56),
    "BATCH": (BATCH, 32),
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
