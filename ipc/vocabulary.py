"""The words of the trade: every code that stands in a record or on the wire, with FIX's values.

Values follow FIX 4.4 where FIX has the word (``exec_type`` ``F`` is written 15). They are stable:
journals and clients keep them. A value is never reused for another meaning. Bounds and reasons
are declared in ``ipc.bounds`` and ``ipc.reasons``.
"""

from enum import IntEnum, IntFlag

from ipc.bounds import (
    MAX_CLIENT_ID,
    MAX_PEER_TIMEOUT_S,
    MAX_PRICE,
    MAX_QUANTITY,
    MAX_RESTING_ORDERS,
)
from ipc.reasons import RULES, Reason, Rule

__all__ = [
    "CONDITIONAL",
    "ENDED",
    "ENDED_UNFILLED",
    "LISTS",
    "MAX_CLIENT_ID",
    "MAX_PEER_TIMEOUT_S",
    "MAX_PRICE",
    "MAX_QUANTITY",
    "MAX_RESTING_ORDERS",
    "PREVENTION_SHIFT",
    "PRICELESS",
    "RULES",
    "UNPRICED",
    "CommandType",
    "ExecType",
    "Flag",
    "Liquidity",
    "OrdStatus",
    "OrderType",
    "Reason",
    "Rule",
    "SelfTradePrevention",
    "Side",
    "TimeInForce",
]


class CommandType(IntEnum):
    """What a client asks of a matcher."""

    NEW = 1
    CANCEL = 2
    REPLACE = 3
    REDUCE = 4
    MASS_CANCEL = 5
    NEW_OCO = 6
    """Two orders, of which one is to trade: once one has, triggers or ends, the other goes."""
    NEW_BRACKET = 7
    """An order, and one or two that wait until it is filled: to take a profit, to stop a loss."""


LISTS = (CommandType.NEW_OCO, CommandType.NEW_BRACKET)
"""Those that enter several orders."""


class Administration(IntEnum):
    """What changes a shard itself: ``command_type`` 64 to 95, which no client can send."""

    CONFIGURE = 64
    """Another configuration is in force from here on: see ``engine.journal.shard_config``."""
    NAME = 65
    """The text that is the client_order_id of the command behind it: see ``ipc.client_ids``."""


class Side(IntEnum):
    """FIX 54."""

    BUY = 1
    SELL = 2


class OrderType(IntEnum):
    """FIX 40; the last two are ours. An odd one has no limit."""

    MARKET = 1
    LIMIT = 2
    STOP = 3
    """Waits for a trade at its stop price, and is then what MARKET is."""
    STOP_LIMIT = 4
    """Waits likewise, and is then what LIMIT is."""
    MARKET_IF_TOUCHED = 19
    """As STOP, but that it waits for a price that is better for it."""
    MARKET_TO_LIMIT = 20
    """Trades at the best price there is, which is its limit from then on."""
    LIMIT_IF_TOUCHED = 36
    """As STOP_LIMIT, but as MARKET_IF_TOUCHED is."""
    MARKET_WITH_PROTECTION = 38
    """Its price is how far from the best one there is it trades at most."""


PRICELESS = (OrderType.MARKET, OrderType.STOP, OrderType.MARKET_IF_TOUCHED)
"""Those without a limit."""
UNPRICED = (*PRICELESS, OrderType.MARKET_TO_LIMIT)
"""Those that are entered without a price."""
CONDITIONAL = (
    OrderType.STOP,
    OrderType.STOP_LIMIT,
    OrderType.MARKET_IF_TOUCHED,
    OrderType.LIMIT_IF_TOUCHED,
)
"""Those that wait for a stop price."""


class TimeInForce(IntEnum):
    """FIX 59. What is left of an order without a limit is cancelled whatever it says here; while an
    order waits for its stop price IOC and FOK have no effect."""

    DAY = 0
    """Until the end of the day that its instrument has configured."""
    GTC = 1
    IOC = 3
    FOK = 4
    GTD = 6
    """Until its ``expire_time_ns``."""


class SelfTradePrevention(IntEnum):
    """FIX 2964, where it has the word: what an order does where it would trade with another one of
    its account."""

    NONE = 0
    """It trades."""
    CANCEL_NEWEST = 1
    """What is left of it is cancelled, and nothing of it rests."""
    CANCEL_OLDEST = 2
    """The other one is cancelled, and it goes on."""
    CANCEL_BOTH = 3
    DECREMENT = 4
    """Both lose what would have traded; what then has nothing left is cancelled."""


PREVENTION_SHIFT = 1
"""Where in ``flags`` a report on an order has the order's SelfTradePrevention: bits 2, 4 and 8."""


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
    TRIGGERED = 64
    """Of an order, in reports: its stop price is reached. Without effect in a command."""
    RARE = 32
    """Of an order, in reports: it has a display quantity, or a time at which it expires. The bit of
    CONTINUE, which no order has: a report's codes are below 128."""


class ExecType(IntEnum):
    """FIX 150: what a report reports; a letter as the digit it is to base 36, A for 10.

    MASS_CANCELED is ours (FIX has a message of its own).
    """

    NEW = 0
    CANCELED = 4
    REPLACED = 5
    REJECTED = 8
    EXPIRED = 12
    """Its time is over."""
    TRADE = 15
    MASS_CANCELED = 20
    TRIGGERED = 21
    """The order's stop price is reached: it waits no longer."""


class OrdStatus(IntEnum):
    """FIX 39: the state of the order after the report."""

    NEW = 0
    PARTIALLY_FILLED = 1
    FILLED = 2
    CANCELED = 4
    REJECTED = 8
    EXPIRED = 12


ENDED = (OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.EXPIRED)
"""Of an order that can change no more."""


ENDED_UNFILLED = (ExecType.CANCELED, ExecType.EXPIRED)
"""Reports on an order that is at its end, and why that is."""


class Liquidity(IntEnum):
    """FIX 851: who was there first."""

    NONE = 0
    MAKER = 1
    TAKER = 2
