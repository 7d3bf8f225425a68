"""The tables of a history in SQLite.

``order_rows`` and ``trade_rows`` hold what ``engine.history.rows`` says, in integers. The views
``orders`` and ``trades`` show the same to people: symbols, users, words, and exact decimals as text
(NULL where one would not fit 64 bits). ``user_trades`` has, by account, the ids of its trades in
pieces: 8 bytes each, little-endian, growing, up to ``last_trade``. An index entry a trade and user
would cost more than all the rest. ``client_texts`` has the texts of those client_order_ids that are
some: in ``order_rows`` they are numbers below 0.

``archives`` lists what has left the file: see ``engine.history.archive``.

Ids grow with time within their shard, which their upper bits name, so that an index by id is one by
time.
"""

import re

from engine.history.rows import FIRST_COLUMNS, LATER_COLUMNS, TRADE_ROW, VALUE_BITS
from engine.history.tables import (
    CURSOR_COLUMNS,
    EVENT_COLUMNS,
    ORDER_TYPES,
    POST_ONLY,
    PREVENTION,
    PREVENTIONS,
    REASONS,
    SIDES,
    STATUS_WORDS,
    TIMES,
    TRIGGERED,
    VALUE_MASK,
    words,
)

APPLICATION = 0x5368_426B
VERSION = 3 + len(LATER_COLUMNS)
"""Of the tables: the first had no ``archives``, then there were no ``client_texts``, and each later
column of orders makes another."""
ROWS_AT_ONCE = 50
"""Rows of one INSERT: what SQLite takes to begin and end one is dear."""


def later(name: str) -> str:
    """Return a later column of orders as its table, and what alters that, has it."""
    return f"{name} INTEGER NOT NULL DEFAULT 0"


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


_ORDERS_VIEW = f"""CREATE VIEW orders AS SELECT o.order_id, u.user_id,
CASE WHEN o.client_order_id < 0 THEN c.text ELSE o.client_order_id END AS client_order_id, i.symbol,
{words("o.side", SIDES)} AS side, {words("o.order_type", ORDER_TYPES)} AS order_type,
{words("o.time_in_force", TIMES)} AS time_in_force,
CASE WHEN o.price > 0 THEN {_decimal("o.price", "tick")} END AS price,
{_decimal("o.quantity", "lot")} AS quantity, {_decimal("o.filled", "lot")} AS filled,
{words("o.status", STATUS_WORDS)} AS status, {words("o.reason", REASONS)} AS reason,
o.created_ns, o.updated_ns,
CASE WHEN o.stop_price > 0 THEN {_decimal("o.stop_price", "tick")} END AS stop_price,
CASE WHEN o.display_quantity > 0 THEN {_decimal("o.display_quantity", "lot")} END
AS display_quantity,
(o.flags & {TRIGGERED}) <> 0 AS triggered, (o.flags & {POST_ONLY}) <> 0 AS post_only,
{words(PREVENTION, PREVENTIONS)} AS self_trade_prevention
FROM order_rows o JOIN instruments i ON i.number = o.symbol
LEFT JOIN users u ON u.account = o.account
LEFT JOIN client_texts c ON c.number = o.client_order_id"""

_TRADES_VIEW = f"""CREATE VIEW trades AS SELECT t.trade_id, i.symbol, t.buy_order_id,
t.sell_order_id, b.user_id AS buyer, s.user_id AS seller,
{_decimal("t.price", "tick")} AS price, {_decimal("t.quantity", "lot")} AS quantity,
{words("3 - t.taker_side", SIDES)} AS maker_side, t.timestamp_ns
FROM trade_rows t JOIN instruments i ON i.number = t.symbol
LEFT JOIN users b ON b.account = t.buyer LEFT JOIN users s ON s.account = t.seller"""

LATER_STATEMENTS = (
    "CREATE TABLE client_texts (number INTEGER PRIMARY KEY, text TEXT NOT NULL)",
    "CREATE TABLE archives (name TEXT PRIMARY KEY, kind TEXT NOT NULL, shard INTEGER NOT NULL, "
    "first_id INTEGER NOT NULL, last_id INTEGER NOT NULL, first_ns INTEGER NOT NULL, "
    "last_ns INTEGER NOT NULL, rows INTEGER NOT NULL)",
)
"""What has come since the first version."""
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
    f"CREATE TABLE order_rows ({_columns(FIRST_COLUMNS, 'order_id')}"
    + "".join(f", {later(name)}" for name in LATER_COLUMNS)
    + ")",
    f"CREATE TABLE trade_rows ({_columns(TRADE_ROW.names or (), 'trade_id')})",
    "CREATE TABLE user_trades (account INTEGER NOT NULL, last_trade INTEGER NOT NULL, "
    "trade_ids BLOB NOT NULL, PRIMARY KEY (account, last_trade)) WITHOUT ROWID",
    "CREATE TABLE order_events (shard INTEGER NOT NULL, number INTEGER NOT NULL, "
    + ", ".join(f"{name} INTEGER NOT NULL" for name in EVENT_COLUMNS)
    + ", PRIMARY KEY (shard, number)) WITHOUT ROWID",
    "CREATE INDEX orders_by_account ON order_rows (account, order_id)",
    "CREATE INDEX orders_by_symbol ON order_rows (symbol, order_id)",
    "CREATE INDEX trades_by_symbol ON trade_rows (symbol, trade_id)",
    *LATER_STATEMENTS,
)
"""What makes an empty file a history, in this order."""
VIEWS = (_ORDERS_VIEW, _TRADES_VIEW)
"""Made anew where they are not these: words of codes may be new."""


def name_of(statement: str) -> str:
    """Return the name of what a statement of these makes."""
    found = re.match(r"CREATE (?:TABLE|INDEX|VIEW) (\w+)", statement)
    assert found is not None
    return found.group(1)


def insert(table: str, columns: int, rows: int, more: str = "", verb: str = "INSERT") -> str:
    """Return the statement that enters so many rows of a table."""
    row = "(" + ",".join("?" * columns) + ")"
    return f"{verb} INTO {table} VALUES {','.join([row] * rows)}{more}"


ADD_VALUE = (
    f"UPDATE order_rows SET value_high = value_high + ?1 + ((value_low + ?2) >> {VALUE_BITS}), "
    f"value_low = (value_low + ?2) & {VALUE_MASK} WHERE order_id = ?3"
)
