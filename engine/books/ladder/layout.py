"""The tables of the compiled book: what one row of each holds, and how many rows there are.

Rows refer to one another by number; 0 means none, so row 0 of orders, levels and forks is unused.
A *key* orders the prices of one side so that lower is better on both: an ask's price itself, a
bid's with all ``KEY_BITS`` bits flipped. A *side* is numbered ``SIDES * instrument``, and 1 more
where it is SELL, so that ``side ^ 1`` is the opposite one. An instrument's two further sides,
``WAITING`` and one more, hold the orders that wait for a rise of prices and for a fall, of either
side, by stop price; there lower is what triggers first, so that the bits are flipped of the second.
"""

import numpy as np

from ipc.records import COMMAND, REPORT, TRADE

KEY_BITS = 54
KEY_MASK = (1 << KEY_BITS) - 1
"""What flips a bid's price into its key, and back."""
NO_KEY = 1 << 62
"""The best key of a side without orders: worse than all."""

SIDE_BITS = 2
SIDES = 1 << SIDE_BITS
"""Of an instrument, whose number is ``side >> SIDE_BITS``."""
WAITING = 2
"""The bit of a side whose orders wait."""

WORD_BITS = 64
WINDOW_BITS = 16
WINDOW = 1 << WINDOW_BITS
"""Ticks of one side around its best price whose levels are found without a search."""
WINDOW_WORDS = WINDOW // WORD_BITS
WINDOW_SUMMARIES = WINDOW_WORDS // WORD_BITS
WINDOW_LEAD = WINDOW // 4
"""Ticks that a window, when it is placed, leaves in front of the best price."""
WINDOW_SLACK = WINDOW // 8
"""A window is not moved by less than this."""
MOVE_TRIAL = 8
"""Far levels made between two trials whether moving the window pays."""

ORDER_NODE = np.dtype(
    [
        ("account", "<u8"),
        ("client_order_id", "<u8"),
        ("order_id", "<i8"),  # 0: the node is free
        ("price", "<i8"),
        ("leaves_qty", "<i8"),
        ("cum_qty", "<i8"),
        ("next", "<u4"),  # younger order of the level, or next free node
        ("previous", "<u4"),  # older order of the level
        ("level", "<u4"),  # 0: in no level
        ("kind_bits", "<u4"),  # side, order_type, time_in_force, flags: one byte each
    ]
)
"""One live order, in one cache line. What rests of an iceberg is here as far as it is shown."""

PLACE = np.dtype([("extra", "<u4")])
"""Which row of EXTRA an order's node belongs to; 0: none."""

EXTRA = np.dtype(
    [
        ("display_quantity", "<i8"),
        ("hidden", "<i8"),  # of an order that rests: what is open beyond its node's leaves_qty
        ("expire_time_ns", "<i8"),  # 0: never
        ("slot", "<u4"),  # the order's; 0: the row is free
        ("next", "<u4"),  # where it stands in the heap of those that expire, or next free row
        # Of the orders of a list: see ``links``.
        ("stop_price", "<i8"),  # of one that is held
        ("due", "<i8"),  # what is to be taken off it; below 0: it is cancelled
        ("link", "<u4"),  # whom it is tied to: ``engine.books.rules``
        ("next_due", "<u4"),
        ("next_released", "<u4"),
        ("released", "<u4"),  # 1: it is to be let go of
    ]
)
"""What only rare orders have: see ``extras``."""

EXPIRY = np.dtype([("extra", "<u4")])
"""An entry of the binary heap of rows of EXTRA whose orders expire; place 0 is unused."""

LEVEL_NODE = np.dtype(
    [
        ("key", "<i8"),
        ("quantity", "<i8"),
        ("oldest", "<u4"),  # or next free level
        ("youngest", "<u4"),
        ("order_count", "<u4"),
        ("side", "<u4"),
    ]
)
"""One price of one side: a queue of orders."""

FORK = np.dtype([("low", "<u4"), ("high", "<u4"), ("bit", "<u4")])
"""An inner node of a far tree. A child above ``LEAF`` is level ``child - LEAF``, else a fork."""
LEAF = 1 << 31

SIDE = np.dtype(
    [
        ("best_key", "<i8"),
        ("flip", "<i8"),  # key = price ^ flip
        ("window_key", "<i8"),  # the first key of the window; a multiple of WORD_BITS
        ("far_key", "<i8"),  # the best key of the far levels, or NO_KEY
        ("best_level", "<u4"),
        ("far_root", "<u4"),
        ("near_levels", "<u4"),
        ("far_levels", "<u4"),
        ("credit", "<i8"),  # far levels made since the window moved: what pays for moving it
        ("order_count", "<i8"),  # of bids and asks: with those that wait to enter
    ]
)
"""One side of one instrument."""

INSTRUMENT = np.dtype(
    [
        ("symbol", "<i8"),
        ("min_price", "<i8"),
        ("max_price", "<i8"),
        ("max_resting_orders", "<i8"),
        ("max_account_orders", "<i8"),  # at most max_resting_orders
        ("day_end_s", "<u4"),  # when DAY orders end: seconds after midnight
        ("counted", "<u4"),  # 1: each account's resting orders are counted
        ("last_price", "<i8"),  # of its last trade; 0: there was none
        ("waiting", "<u4"),  # how many orders wait for their stop price
        ("icebergs", "<u4"),  # how many rest that show a part of themselves
    ]
)
"""What an instrument is, and what all its orders share: one cache line."""

HOLDING = np.dtype([("account", "<u8"), ("place", "<u4"), ("orders", "<i4")])
"""How many orders an account has resting in an instrument, whose number plus 1 is ``place``; 0: the
entry is free."""

RECENT_ORDER = np.dtype(
    [
        ("account", "<u8"),
        ("client_order_id", "<u8"),
        ("slot", "<u4"),
        ("previous", "<u4"),  # an older order of the same bucket: low 32 bits of its sequence
        ("instrument", "<u4"),
        ("reserved", "<u4"),
    ]
)
"""One of the last orders accepted, at ``order sequence & recent_mask``."""

BUCKET = np.dtype([("newest", "<u4"), ("signature", "<u4")])
"""The newest recent order of one hash value (low 32 bits of its sequence), and which of 32 finer
hash values its chain may hold."""

KEPT_ID = np.dtype(
    [
        ("account", "<u8"),
        ("client_order_id", "<u8"),
        ("order_id", "<i8"),  # 0: the row is free
        ("instrument", "<u4"),
        ("chain", "<u4"),  # the next one of the same hash, or next free row
        ("newer", "<u4"),  # of all
        ("older", "<u4"),
        ("newer_of_account", "<u4"),
        ("reserved", "<u4"),
    ]
)
"""A client_order_id that is kept beyond the recent orders: see ``engine.books.id_memory``."""

HEAD = np.dtype([("row", "<u4")])
"""The first kept id of a hash."""

HOLDER = np.dtype(
    [
        ("account", "<u8"),
        ("recent", "<u4"),  # its ids among the recent orders, in whole blocks
        ("kept", "<u4"),
        ("oldest", "<u4"),
        ("newest", "<u4"),
    ]
)
"""An account that has ids to be counted, in an open-addressed hash. Free where it has none."""

CLIENT_ID = np.dtype([("entry", "<u8")])
"""An entry of the hash of old orders by client_order_id: hash in the high 32 bits, slot in the low.
"""
ORDER_ID = np.dtype([("slot", "<u4")])
"""An entry of the hash of old orders by order_id."""
WALK_LIMIT, PROBE_LIMIT = 32, 512
"""Orders of a chain, and entries of an open-addressed hash, that may be passed over in one search.
Secret and random as the hash is, no search comes near; one that does has it changed."""
HASH = np.dtype([("hash32", "<u8")])
"""Hash of the client_order_id of a command that is soon carried out."""
HASHES = 32
HASH_MASK = HASHES - 1
LOOK_AHEAD, LOOK_CLOSER = 16, 8
"""How many commands ahead memory is asked for: what a hash leads to, and what that leads to."""
STREAM_AHEAD = 40
"""How many commands ahead the commands themselves are."""
WORD = np.dtype([("bits", "<u8")])
NEAR = np.dtype([("level", "<u4")])
SYMBOL = np.dtype([("instrument", "<u2")])
"""Instrument number of a symbol plus 1; 0: not of this shard."""


def _merged(dtype: np.dtype[np.void], heads: dict[str, tuple[str, int]]) -> np.dtype[np.void]:
    """Return a view of a record in which ``heads`` stand for the fields that they cover."""
    assert dtype.fields is not None
    assert dtype.names is not None
    covered = max(offset + np.dtype(form).itemsize for form, offset in heads.values())
    rest = [name for name in dtype.names if dtype.fields[name][1] >= covered]
    return np.dtype(
        {
            "names": [*heads, *rest],
            "formats": [form for form, _ in heads.values()]
            + [dtype.fields[name][0] for name in rest],
            "offsets": [offset for _, offset in heads.values()]
            + [dtype.fields[name][1] for name in rest],
            "itemsize": dtype.itemsize,
        }
    )


COMMAND_WORDS = _merged(COMMAND, {"head": ("<u8", 0)})
"""COMMAND with command_type to symbol as one word."""
REPORT_WORDS = _merged(REPORT, {"head": ("<u8", 0), "detail": ("<u8", 8)})
"""REPORT with exec_type to liquidity as one word, and symbol, reason, answers as another."""
_TRADE_FIELDS = [(name, "<u8") for name in (TRADE.names or ())[:7]]
TRADE_WORDS = np.dtype([*_TRADE_FIELDS, ("detail", "<u8")])
"""TRADE with symbol, taker_side and reserved as one word."""
assert TRADE_WORDS.itemsize == TRADE.itemsize
assert [TRADE_WORDS.fields[name][1] for name, _ in _TRADE_FIELDS] == [  # type: ignore[index]
    TRADE.fields[name][1]  # type: ignore[index]
    for name, _ in _TRADE_FIELDS
]

STATE = np.dtype(
    [
        # Where the tables are, and the sizes of those that grow.
        ("orders", "<u8"),
        ("levels", "<u8"),
        ("forks", "<u8"),
        ("places", "<u8"),
        ("extras", "<u8"),
        ("expiries", "<u8"),
        ("client_ids", "<u8"),
        ("order_ids", "<u8"),
        ("order_capacity", "<i8"),
        ("old_capacity", "<i8"),
        ("old_limit", "<i8"),  # old_capacity; below 0: a search was too long
        ("client_id_entries", "<u8"),
        ("order_id_entries", "<u8"),
        ("sides", "<u8"),
        ("summaries", "<u8"),
        ("words", "<u8"),
        ("near", "<u8"),
        ("instruments", "<u8"),
        ("instrument_count", "<i8"),
        ("symbols", "<u8"),
        ("recent", "<u8"),
        ("recent_mask", "<u8"),
        ("recent_orders", "<i8"),
        ("buckets", "<u8"),
        ("bucket_shift", "<u8"),
        ("block_mask", "<i8"),  # see engine.books.id_memory
        ("forgotten", "<i8"),  # sequence of the last order that is not recent any more
        ("kept", "<u8"),
        ("heads", "<u8"),
        ("head_shift", "<u8"),
        ("holders", "<u8"),
        ("holder_entries", "<u8"),
        ("account_ids", "<i8"),
        ("kept_ids", "<i8"),
        ("kept_count", "<i8"),
        ("displaced_ids", "<i8"),  # that went for want of room
        ("oldest_kept", "<u4"),
        ("newest_kept", "<u4"),
        ("free_kept", "<u4"),
        ("fresh_kept", "<u4"),
        ("hashes", "<u8"),
        ("sweeps", "<u8"),
        ("shard_bits", "<i8"),  # make_id(shard, 0)
        # What the hashes multiply by, odd and secret.
        ("id_factor", "<u8"),
        ("account_factor", "<u8"),
        ("symbol_factor", "<u8"),
        ("last_factor", "<u8"),
        # What was counted.
        ("sequence", "<i8"),
        ("order_sequence", "<i8"),
        ("trade_sequence", "<i8"),
        ("live_orders", "<i8"),
        ("old_orders", "<i8"),  # live, but no longer among the recent ones
        # Free nodes: those given back, then those never used.
        ("free_order", "<u4"),
        ("fresh_order", "<u4"),
        ("free_level", "<u4"),
        ("fresh_level", "<u4"),
        ("free_fork", "<u4"),
        ("fresh_fork", "<u4"),
        ("free_extra", "<u4"),
        ("fresh_extra", "<u4"),
        ("fresh_expiry", "<u4"),  # how many orders expire, plus 1
        ("named", "<u4"),  # 1: NAMEs came since this was 0
        ("next_expiry_ns", "<u8"),  # of the first of them; NO_EXPIRY: there is none
        # The command that a full buffer interrupted.
        ("unfinished", "<i8"),
        ("unfinished_side", "<i8"),
        ("unfinished_slot", "<u4"),
        ("sweep_slot", "<u4"),  # the order that the oldest mass cancel looks at next; 0: none
        # Orders that trigger: see ``stops``.
        ("cause", "<u8"),  # a COMMAND: what triggers them
        ("traded_low", "<i8"),  # prices of trades that have reached some; high 0: none have
        ("traded_high", "<i8"),
        ("round_low", "<i8"),  # those whose orders trigger now
        ("round_high", "<i8"),
        ("trigger_side", "<i8"),  # of the order that enters
        ("trigger_price", "<i8"),  # its stop price, until that is reported; then 0
        ("trigger_slot", "<u4"),  # 0: the next one is still to be found
        ("trigger_waits", "<u4"),  # what comes before it enters: see ``stops``
        # Orders of lists, as rows of EXTRA: see ``links``.
        ("first_due", "<u4"),
        ("last_due", "<u4"),
        ("first_released", "<u4"),
        ("last_released", "<u4"),
        ("listed", "<u4"),  # orders of the list at hand
        ("unreported", "<u4"),  # the first of them that is not reported yet; 0: all are
        ("sweep_looks", "<i8"),  # how many more the command at hand may look at
        ("sweep_count", "<i8"),  # mass cancels under way
        ("watching", "<i8"),  # what it matters for that orders come to rest and leave
        ("holdings", "<u8"),
        ("holding_entries", "<u8"),
        ("holdings_used", "<i8"),
        ("counted_instruments", "<i8"),
        # How far a call came.
        ("commands", "<i8"),
        ("reports", "<i8"),
        ("trades", "<i8"),
        ("symbol", "<i8"),  # of the order that is reported on
        ("source", "<u8"),
    ]
)
"""Everything about a book that is not a row of a table."""

REPORTS_OF_A_START = 2
"""A command starts only where this many reports fit: all that one without trades can need."""
NOTHING_TRADED = -1
"""Of ``traded_high``: no trade has reached any, but something of ``links`` is to be done."""
NO_EXPIRY = (1 << 64) - 1
"""Of a book in which no order expires."""
SWEEPING, COUNTING = 1, 2
"""Bits of ``watching``."""
FINISHED, MATCHING, CANCELING, TRIGGERING, EXPIRING = 0, 1, 2, 3, 4
"""Values of ``unfinished``."""
DONE, FULL, GROW = 0, 1, 2
"""Why a call of the kernel ended."""
