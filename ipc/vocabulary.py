"""The words of the trade: every code that stands in a record or on the wire, with FIX's values.

Values follow FIX 4.4 where FIX has the word (``exec_type`` ``F`` is written 15). They are stable:
journals and clients keep them. A value is never reused for another meaning.
"""

from enum import IntEnum, IntFlag
from typing import NamedTuple


class CommandType(IntEnum):
    """What a client asks of a matcher."""

    NEW = 1
    CANCEL = 2
    REPLACE = 3
    REDUCE = 4
    MASS_CANCEL = 5


class Administration(IntEnum):
    """What changes a shard itself: ``command_type`` 64 to 95, which no client can send."""

    CONFIGURE = 64
    """Another configuration is in force from here on: see ``engine.journal.shard_config``."""


class Side(IntEnum):
    """FIX 54."""

    BUY = 1
    SELL = 2


class OrderType(IntEnum):
    """FIX 40."""

    MARKET = 1
    LIMIT = 2


class TimeInForce(IntEnum):
    """FIX 59. A market order's remainder is cancelled whatever it says here."""

    GTC = 1
    IOC = 3
    FOK = 4


class Flag(IntFlag):
    """Bits of a command's ``flags``; a report repeats those of the order it speaks of."""

    NONE = 0
    POST_ONLY = 1
    """NEW: reject instead of trading on entry or on replace."""
    REINSERT = 2
    """REPLACE: ``quantity`` is the open quantity, and the order goes to the back in any case."""
    AGGREGATE = 4
    """MASS_CANCEL over all shards: the answer goes to the frontend, which adds the shards up."""
    KEEP_PRICE = 8
    """REPLACE: the price stays what it is when the command is matched; ``price`` is ignored."""
    KEEP_QUANTITY = 16
    """REPLACE: so does the quantity; ``quantity`` is ignored."""
    CONTINUE = 32
    """MASS_CANCEL, from a matcher to itself: one that is under way goes on."""


class ExecType(IntEnum):
    """FIX 150: what a report reports. MASS_CANCELED is ours (FIX has a message of its own)."""

    NEW = 0
    CANCELED = 4
    REPLACED = 5
    REJECTED = 8
    TRADE = 15
    MASS_CANCELED = 20


class OrdStatus(IntEnum):
    """FIX 39: the state of the order after the report."""

    NEW = 0
    PARTIALLY_FILLED = 1
    FILLED = 2
    CANCELED = 4
    REJECTED = 8


class Liquidity(IntEnum):
    """FIX 851: who was there first."""

    NONE = 0
    MAKER = 1
    TAKER = 2


class Reason(IntEnum):
    """Why a command was rejected (1 to 99) or an order cancelled (100 and up)."""

    NONE = 0
    # The frame or message: found at the edge, before a book sees the command.
    INVALID_MESSAGE = 1
    UNKNOWN_TAG = 2
    UNKNOWN_SYMBOL = 3
    # The command's fields.
    INVALID_COMMAND = 10
    INVALID_SIDE = 11
    INVALID_ORDER_TYPE = 12
    INVALID_TIME_IN_FORCE = 13
    INVALID_POST_ONLY = 14
    INVALID_QUANTITY = 15
    INVALID_PRICE = 16
    PRICE_OUT_OF_BAND = 17
    INVALID_ORDER_ID = 18
    INVALID_REPLACE = 19
    # The state of the book.
    DUPLICATE_CLIENT_ORDER_ID = 30
    BOOK_FULL = 31
    POST_ONLY_WOULD_TRADE = 32
    UNKNOWN_ORDER = 33
    ALREADY_FILLED = 34
    TOO_MANY_ORDERS = 35
    # The state of the product.
    BUSY = 50
    SHARD_DOWN = 51
    NOT_LOGGED_IN = 52
    # Why an order was cancelled.
    CANCEL_REQUESTED = 100
    IOC_REMAINDER = 101
    MARKET_REMAINDER = 102
    FOK_UNFILLED = 103
    MASS_CANCEL = 104


class Rule(NamedTuple):
    """What a reject names: the field at fault and the rule that it breaks."""

    field: str
    text: str


MAX_PRICE = 2**53
"""Ticks. Prices are 1 to this, so that every JSON reader keeps them exactly."""
MAX_QUANTITY = 2**44 - 1
"""Lots of one order, filled ones included. With MAX_RESTING_ORDERS a level's sum fits 64 bits."""
MAX_PEER_TIMEOUT_S = 3_600
MAX_RESTING_ORDERS = 2**20
"""Of one symbol: the highest value of its ``max_resting_orders``."""
MAX_CLIENT_ID = 2**63 - 1
"""Of a ``client_order_id`` and a ``request_id``; 0 means none."""

RULES: dict[Reason, Rule] = {
    Reason.INVALID_MESSAGE: Rule("message", "must be a message of this protocol"),
    Reason.UNKNOWN_TAG: Rule("tag", "must be the tag of a message of this protocol"),
    Reason.UNKNOWN_SYMBOL: Rule("symbol", "must be the number of an instrument"),
    Reason.INVALID_COMMAND: Rule("command_type", "must be NEW to MASS_CANCEL (1 to 5)"),
    Reason.INVALID_SIDE: Rule("side", "must be BUY (1) or SELL (2)"),
    Reason.INVALID_ORDER_TYPE: Rule("order_type", "must be MARKET (1) or LIMIT (2)"),
    Reason.INVALID_TIME_IN_FORCE: Rule("time_in_force", "must be GTC (1), IOC (3) or FOK (4)"),
    Reason.INVALID_POST_ONLY: Rule("post_only", "must be false but on a LIMIT order that is GTC"),
    Reason.INVALID_QUANTITY: Rule("quantity", f"must be 1 to {MAX_QUANTITY} lots in all"),
    Reason.INVALID_PRICE: Rule("price", f"must be 1 to {MAX_PRICE} ticks, and 0 on a MARKET order"),
    Reason.PRICE_OUT_OF_BAND: Rule("price", "must be within the instrument's price band"),
    Reason.INVALID_ORDER_ID: Rule(
        "order_id", "must be given, or else client_order_id together with symbol"
    ),
    Reason.INVALID_REPLACE: Rule("price", "must be given, or else quantity, on a REPLACE"),
    Reason.DUPLICATE_CLIENT_ORDER_ID: Rule(
        "client_order_id",
        "must not repeat that of a live or recent order of the account and symbol",
    ),
    Reason.BOOK_FULL: Rule("symbol", "must have room: the book holds its max_resting_orders"),
    Reason.TOO_MANY_ORDERS: Rule(
        "symbol", "must have room for the account: its max_account_orders rest there"
    ),
    Reason.POST_ONLY_WOULD_TRADE: Rule("price", "must not cross the book: the order is post-only"),
    Reason.UNKNOWN_ORDER: Rule("order_id", "must be that of a resting order of the account"),
    Reason.ALREADY_FILLED: Rule("quantity", "must exceed what is filled already"),
    Reason.BUSY: Rule("symbol", "must not be sent faster than its matcher takes them: try again"),
    Reason.SHARD_DOWN: Rule("symbol", "must be served: its matcher is down, try again"),
    Reason.NOT_LOGGED_IN: Rule("user_id", "must be logged in first"),
}
"""The text of every reject that a book or a frontend gives; one code, one field, one rule."""
