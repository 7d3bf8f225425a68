"""The tables of a history in SQLite.

``order_rows`` and ``trade_rows`` hold what ``engine.history.rows`` says, in integers. The views
``orders`` and ``trades`` show the same to people: symbols, users, words, and exact decimals as text
(NULL where one would not fit 64 bits). ``user_trades`` has, by account, the ids of its trades in
pieces: 8 bytes each, little-endian, growing, up to ``last_trade``. An index entry a trade and user
would cost more than all the rest.

Ids grow with time within their shard, which their upper bits name, so that an index by id is one by
time.
"""

import re

from engine.history.rows import ORDER_ROW, TRADE_ROW, VALUE_BITS
from ipc.records import REPORT
from ipc.vocabulary import OrderType, OrdStatus, Reason, Side, TimeInForce

APPLICATION = 0x5368_426B
VERSION = 1
UNKNOWN = -1
"""The status of an order that was open when its journal was lost sight of."""
STATUS_WORDS = {
    int(OrdStatus.NEW): "OPEN",
    int(OrdStatus.PARTIALLY_FILLED): "PARTIAL",
    int(OrdStatus.FILLED): "FILLED",
    int(OrdStatus.CANCELED): "CANCELLED",
    UNKNOWN: "UNKNOWN",
}
ROWS_AT_ONCE = 50
"""Rows of one INSERT: what SQLite takes to begin and end one is dear."""

_CHANGING = ("price", "quantity", "filled", "status", "reason", "flags", "updated_ns")
_MASK = (1 << VALUE_BITS) - 1
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


def _columns(names: tuple[str, ...], key: str) -> str:
    rest = ", ".join(f"{name} INTEGER NOT NULL" for name in names if name != key)
    return f"{key} INTEGER PRIMARY KEY, {rest}"


def _decimal(steps: str, scale: str) -> str:
    """Return the SQL of an exact decimal as text."""
    mantissa, digits = f"i.{scale}_mantissa", f"i.{scale}_digits"
    value = f"{steps} * {mantissa}"
    ten = f"CAST('1' || substr('000000000000000000', 1, {digits}) AS INTEGER)"
    whole = f"({value} / {ten})"
    fraction = f"printf('%0*d', {digits}, {value} % {ten})"
    return (
        f"CASE WHEN {steps} > 9223372036854775807 / {mantissa} THEN NULL "
        f"WHEN {digits} = 0 THEN CAST({value} AS TEXT) ELSE {whole} || '.' || {fraction} END"
    )


def _words(column: str, words: dict[int, str]) -> str:
    cases = " ".join(f"WHEN {number} THEN '{word}'" for number, word in words.items())
    return f"CASE {column} {cases} END"


_SIDES = {int(side): side.name for side in Side}
_TYPES = {int(kind): kind.name for kind in OrderType}
_TIMES = {int(time): time.name for time in TimeInForce}
_REASONS = {int(reason): reason.name for reason in Reason if reason}

_ORDERS_VIEW = f"""CREATE VIEW orders AS SELECT o.order_id, u.user_id, o.client_order_id, i.symbol,
{_words("o.side", _SIDES)} AS side, {_words("o.order_type", _TYPES)} AS order_type,
{_words("o.time_in_force", _TIMES)} AS time_in_force,
CASE WHEN o.price > 0 THEN {_decimal("o.price", "tick")} END AS price,
{_decimal("o.quantity", "lot")} AS quantity, {_decimal("o.filled", "lot")} AS filled,
{_words("o.status", STATUS_WORDS)} AS status, {_words("o.reason", _REASONS)} AS reason,
o.created_ns, o.updated_ns
FROM order_rows o JOIN instruments i ON i.number = o.symbol
LEFT JOIN users u ON u.account = o.account"""

_TRADES_VIEW = f"""CREATE VIEW trades AS SELECT t.trade_id, i.symbol, t.buy_order_id,
t.sell_order_id, b.user_id AS buyer, s.user_id AS seller,
{_decimal("t.price", "tick")} AS price, {_decimal("t.quantity", "lot")} AS quantity,
{_words("3 - t.taker_side", _SIDES)} AS maker_side, t.timestamp_ns
FROM trade_rows t JOIN instruments i ON i.number = t.symbol
LEFT JOIN users b ON b.account = t.buyer LEFT JOIN users s ON s.account = t.seller"""

STATEMENTS = (
    "CREATE TABLE shards (shard INTEGER PRIMARY KEY, identity TEXT NOT NULL, "
    + ", ".join(f"{name} INTEGER NOT NULL" for name in CURSOR_COLUMNS[2:])
    + ")",
    "CREATE TABLE notes (shard INTEGER NOT NULL, written_ns INTEGER NOT NULL, note TEXT NOT NULL)",
    "CREATE TABLE instruments (number INTEGER PRIMARY KEY, symbol TEXT NOT NULL, "
    "tick_mantissa INTEGER NOT NULL, tick_digits INTEGER NOT NULL, "
    "lot_mantissa INTEGER NOT NULL, lot_digits INTEGER NOT NULL)",
    "CREATE TABLE users (account INTEGER PRIMARY KEY, user_id TEXT NOT NULL)",
    "CREATE TABLE user_lists (name TEXT PRIMARY KEY, end INTEGER NOT NULL)",
    f"CREATE TABLE order_rows ({_columns(ORDER_ROW.names or (), 'order_id')})",
    f"CREATE TABLE trade_rows ({_columns(TRADE_ROW.names or (), 'trade_id')})",
    "CREATE TABLE user_trades (account INTEGER NOT NULL, last_trade INTEGER NOT NULL, "
    "trade_ids BLOB NOT NULL, PRIMARY KEY (account, last_trade)) WITHOUT ROWID",
    "CREATE TABLE order_events (shard INTEGER NOT NULL, number INTEGER NOT NULL, "
    + ", ".join(f"{name} INTEGER NOT NULL" for name in EVENT_COLUMNS)
    + ", PRIMARY KEY (shard, number)) WITHOUT ROWID",
    "CREATE INDEX orders_by_account ON order_rows (account, order_id)",
    "CREATE INDEX orders_by_symbol ON order_rows (symbol, order_id)",
    "CREATE INDEX trades_by_symbol ON trade_rows (symbol, trade_id)",
    _ORDERS_VIEW,
    _TRADES_VIEW,
)
"""What makes an empty file a history, in this order."""


def name_of(statement: str) -> str:
    """Return the name of what a statement of these makes."""
    found = re.match(r"CREATE (?:TABLE|INDEX|VIEW) (\w+)", statement)
    assert found is not None
    return found.group(1)


def insert(table: str, columns: int, rows: int, more: str = "", verb: str = "INSERT") -> str:
    """Return the statement that enters so many rows of a table."""
    row = "(" + ",".join("?" * columns) + ")"
    return f"{verb} INTO {table} VALUES {','.join([row] * rows)}{more}"


UPSERT = (
    " ON CONFLICT (order_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _CHANGING)
    + f", value_high = value_high + excluded.value_high"
    f" + ((value_low + excluded.value_low) >> {VALUE_BITS})"
    f", value_low = (value_low + excluded.value_low) & {_MASK}"
)
"""What an order's newer row changes in the one that is there."""

ADD_VALUE = (
    f"UPDATE order_rows SET value_high = value_high + ?1 + ((value_low + ?2) >> {VALUE_BITS}), "
    f"value_low = (value_low + ?2) & {_MASK} WHERE order_id = ?3"
)
