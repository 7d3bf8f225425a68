"""What the tables of every history in SQL have in common: their columns, codes and updates.

``order_rows`` and ``trade_rows`` hold what ``engine.history.rows`` says, in integers of 64 bits.
"""

from engine.history.rows import LATER_COLUMNS, SAID, VALUE_BITS
from ipc.codes import (
    ORD_STATUS_CANCELED,
    ORD_STATUS_EXPIRED,
    ORD_STATUS_FILLED,
    ORD_STATUS_NEW,
    ORD_STATUS_PARTIALLY_FILLED,
)
from ipc.records import REPORT
from ipc.vocabulary import (
    PREVENTION_SHIFT,
    Flag,
    OrderType,
    Reason,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

UNKNOWN = -1
"""The status of an order that was open when its journal was lost sight of."""
STATUS_WORDS = {
    ORD_STATUS_NEW: "OPEN",
    ORD_STATUS_PARTIALLY_FILLED: "PARTIAL",
    ORD_STATUS_FILLED: "FILLED",
    ORD_STATUS_CANCELED: "CANCELLED",
    ORD_STATUS_EXPIRED: "EXPIRED",
    UNKNOWN: "UNKNOWN",
}
SIDES = {int(side): side.name for side in Side}
ORDER_TYPES = {int(kind): kind.name for kind in OrderType}
TIMES = {int(time): time.name for time in TimeInForce}
REASONS = {int(reason): reason.name for reason in Reason if reason}
PREVENTIONS = {int(mode): mode.name for mode in SelfTradePrevention}
POST_ONLY, TRIGGERED = int(Flag.POST_ONLY), int(Flag.TRIGGERED)
PREVENTION = f"((o.flags >> {PREVENTION_SHIFT}) & 7)"
"""The SQL of an order's self-trade prevention."""

CHANGING = ("price", "quantity", "filled", "status", "reason", "flags", "updated_ns")
"""What an order's newer row changes in the one that is there, beside what it has paid."""
STAYING = tuple(SAID)
"""What it changes where it is not 0."""
VALUE_MASK = (1 << VALUE_BITS) - 1
EVENT_COLUMNS = tuple(name for name in REPORT.names or () if name != "reserved")
CURSOR_COLUMNS = (
    "shard",
    "identity",
    "position",
    "orders",
    "trades",
    "reports",
    "timestamp_ns",
    "log_next",
    "log_end",
    "lost_orders",
    "lost_trades",
)
INSTRUMENT_COLUMNS = (
    "number",
    "symbol",
    "tick_mantissa",
    "tick_digits",
    "lot_mantissa",
    "lot_digits",
)


def words(column: str, names: dict[int, str]) -> str:
    """Return the SQL that shows a column of codes in words."""
    cases = " ".join(f"WHEN {number} THEN '{word}'" for number, word in names.items())
    return f"CASE {column} {cases} END"


def _newer(name: str) -> str:
    """Return the SQL of a column's value once a newer row has come."""
    if name not in STAYING:
        return f"excluded.{name}"
    return f"CASE WHEN excluded.{name} > 0 THEN excluded.{name} ELSE order_rows.{name} END"


UPSERT = (
    " ON CONFLICT (order_id) DO UPDATE SET "
    + ", ".join(f"{name} = {_newer(name)}" for name in (*CHANGING, *LATER_COLUMNS))
    + ", value_high = order_rows.value_high + excluded.value_high"
    f" + ((order_rows.value_low + excluded.value_low) >> {VALUE_BITS})"
    f", value_low = (order_rows.value_low + excluded.value_low) & {VALUE_MASK}"
)
"""What an order's newer row does to the one that is there."""
