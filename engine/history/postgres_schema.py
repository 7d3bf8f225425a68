"""The tables of a history in PostgreSQL, in a schema of their own, and how they come to be.

``order_rows`` and ``trade_rows`` hold what ``engine.history.rows`` says, in integers. The views
``orders``, ``trades`` and ``user_trades`` show the same to people: symbols, users, words, exact
decimals (numeric), and times (timestamptz, cut to microseconds) beside the nanoseconds.
``client_texts`` has the texts of those client_order_ids that are some: in ``order_rows`` they are
numbers below 0. ``user_trade_ids`` has, by account, the ids of its trades in pieces. ``relations``
says what was made, so that what was changed by hand is found.

Where TimescaleDB is created in the database when the history is begun, ``trade_rows`` is a
hypertable of chunks of a day.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

from engine.history.destination import HistoryError
from engine.history.rows import FIRST_COLUMNS, LATER_COLUMNS, TRADE_ROW
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
    words,
)

SCHEMA = "shardbook"
LOCKS = 0x5368_426B
"""The first number of every advisory lock of this product."""
WRITER_LOCK, SCHEMA_LOCK = 1, 2
CHUNK_NS = 86_400 * 10**9

Execute = Callable[..., Sequence[Any]]
"""Takes a statement and its values; returns all rows."""


def _columns(names: Sequence[str]) -> str:
    return ", ".join(f"{name} bigint NOT NULL" for name in names)


def _time(column: str) -> str:
    """Return the SQL of a time, in microseconds; NULL where it is not known."""
    moment = f"timestamptz 'epoch' + ({column} / 1000) * interval '1 microsecond'"
    return f"CASE WHEN {column} > 0 THEN {moment} END"


# A view that is there gets further columns behind those that it has, and keeps who may read it.
_ORDERS_VIEW = f"""CREATE OR REPLACE VIEW orders AS
SELECT o.order_id, u.user_id,
CASE WHEN o.client_order_id >= 0 THEN o.client_order_id END AS client_order_id, i.symbol,
{words("o.side", SIDES)} AS side, {words("o.order_type", ORDER_TYPES)} AS order_type,
{words("o.time_in_force", TIMES)} AS time_in_force,
CASE WHEN o.price > 0 THEN o.price * i.tick END AS price,
o.quantity * i.lot AS quantity, o.filled * i.lot AS filled_quantity,
(o.quantity - o.filled) * i.lot AS remaining_quantity,
(o.value_high * 4611686018427387904::numeric + o.value_low) * i.tick * i.lot AS value,
CASE WHEN o.filled > 0 THEN
(o.value_high * 4611686018427387904::numeric + o.value_low) * i.tick / o.filled END
AS average_price,
{words("o.status", STATUS_WORDS)} AS status, {words("o.reason", REASONS)} AS reason,
{_time("o.created_ns")} AS created_at, {_time("o.updated_ns")} AS updated_at,
o.created_ns, o.updated_ns, o.account,
CASE WHEN o.stop_price > 0 THEN o.stop_price * i.tick END AS stop_price,
CASE WHEN o.display_quantity > 0 THEN o.display_quantity * i.lot END AS display_quantity,
o.flags & {TRIGGERED} <> 0 AS triggered, o.flags & {POST_ONLY} <> 0 AS post_only,
{words(PREVENTION, PREVENTIONS)} AS self_trade_prevention, c.text AS client_order_text
FROM order_rows o JOIN instruments i ON i.number = o.symbol
LEFT JOIN users u ON u.account = o.account
LEFT JOIN client_texts c ON c.number = o.client_order_id"""

_TRADES_VIEW = f"""CREATE OR REPLACE VIEW trades AS SELECT t.trade_id, i.symbol, t.buy_order_id,
t.sell_order_id, b.user_id AS buyer, s.user_id AS seller, t.price * i.tick AS price,
t.quantity * i.lot AS quantity, {words("3 - t.taker_side", SIDES)} AS maker_side,
{_time("t.timestamp_ns")} AS "timestamp", t.timestamp_ns
FROM trade_rows t JOIN instruments i ON i.number = t.symbol
LEFT JOIN users b ON b.account = t.buyer LEFT JOIN users s ON s.account = t.seller"""

_USER_TRADES_VIEW = f"""CREATE OR REPLACE VIEW user_trades AS
SELECT u.user_id, p.account, t.trade_id,
i.symbol, o.order_id, {words("o.side", SIDES)} AS side, t.price * i.tick AS price,
t.quantity * i.lot AS quantity, {_time("t.timestamp_ns")} AS "timestamp", t.timestamp_ns
FROM user_trade_ids p CROSS JOIN LATERAL unnest(p.trade_ids) AS k(trade_id)
JOIN trade_rows t ON t.trade_id = k.trade_id
JOIN order_rows o ON o.order_id IN (t.buy_order_id, t.sell_order_id) AND o.account = p.account
JOIN instruments i ON i.number = t.symbol LEFT JOIN users u ON u.account = p.account"""


def _since(table: str, key: str, time_column: str) -> str:
    """Return a function that finds the first id of a range at or behind which no row is older than
    a time: they grow with ids."""
    return f"""CREATE FUNCTION {table}_since(low bigint, high bigint, time_ns bigint)
RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE middle bigint; known record;
BEGIN
SELECT {key} AS id INTO known FROM {table} WHERE {key} >= low AND {key} < high
ORDER BY {key} DESC LIMIT 1;
IF known.id IS NULL THEN RETURN high; END IF;
high := known.id + 1;
WHILE low < high LOOP
middle := (low + high) / 2;
SELECT {key} AS id, {time_column} AS ns INTO known FROM {table}
WHERE {key} >= middle AND {key} < high AND {time_column} > 0 ORDER BY {key} LIMIT 1;
IF known.ns < time_ns THEN low := known.id + 1; ELSE high := middle; END IF;
END LOOP;
RETURN low;
END $$"""


_FIRST = (
    f"CREATE TABLE shards (shard bigint PRIMARY KEY, identity text NOT NULL, "
    f"{_columns(CURSOR_COLUMNS[2:])})",
    "CREATE TABLE notes (shard bigint NOT NULL, written_ns bigint NOT NULL, note text NOT NULL)",
    "CREATE TABLE instruments (number bigint PRIMARY KEY, symbol text NOT NULL, "
    "tick_mantissa bigint NOT NULL, tick_digits bigint NOT NULL, lot_mantissa bigint NOT NULL, "
    "lot_digits bigint NOT NULL, tick numeric NOT NULL, lot numeric NOT NULL)",
    "CREATE TABLE users (account bigint PRIMARY KEY, user_id text NOT NULL)",
    "CREATE TABLE user_lists (name text PRIMARY KEY, read_to bigint NOT NULL)",
    # Orders change soon after they came: room for that in their page spares their indexes.
    f"CREATE TABLE order_rows ({_columns(FIRST_COLUMNS)}, PRIMARY KEY (order_id)) "
    "WITH (fillfactor = 80)",
    f"CREATE TABLE trade_rows ({_columns(TRADE_ROW.names or ())})",
    "CREATE TABLE user_trade_ids (account bigint NOT NULL, last_trade bigint NOT NULL, "
    "trade_ids bigint[] NOT NULL, PRIMARY KEY (account, last_trade))",
    "ALTER TABLE user_trade_ids ALTER COLUMN trade_ids SET STORAGE EXTERNAL",
    "CREATE TABLE order_events (shard bigint NOT NULL, number bigint NOT NULL, "
    f"{_columns(EVENT_COLUMNS)}, PRIMARY KEY (shard, number))",
    "CREATE INDEX orders_by_account ON order_rows (account, order_id)",
    "CREATE INDEX orders_by_symbol ON order_rows (symbol, order_id)",
    "CREATE INDEX trades_by_time ON trade_rows USING brin (timestamp_ns)",
    "CREATE INDEX trades_by_symbol ON trade_rows (symbol, trade_id)",
    _since("order_rows", "order_id", "created_ns"),
    _since("trade_rows", "trade_id", "timestamp_ns"),
)
_PLAIN = ("ALTER TABLE trade_rows ADD CONSTRAINT trade_rows_pkey PRIMARY KEY (trade_id)",)
_HYPERTABLE = (
    "ALTER TABLE trade_rows ADD CONSTRAINT trade_rows_pkey PRIMARY KEY (trade_id, timestamp_ns)",
    "SELECT {extension}.create_hypertable('shardbook.trade_rows', 'timestamp_ns', "
    f"chunk_time_interval => {CHUNK_NS}::bigint, create_default_indexes => false)",
)

_LATER = [
    (f"ALTER TABLE order_rows ADD COLUMN {name} bigint NOT NULL DEFAULT 0",)
    for name in LATER_COLUMNS
]
_TEXTS = ("CREATE TABLE client_texts (number bigint PRIMARY KEY, text text NOT NULL)",)
_COLUMNS_BEFORE_TEXTS = 2
MIGRATIONS = (
    _FIRST,
    *_LATER[:_COLUMNS_BEFORE_TEXTS],
    _TEXTS,
    *_LATER[_COLUMNS_BEFORE_TEXTS:],
)
"""What takes a schema to version 1, 2, and so on."""
VERSION = len(MIGRATIONS)
VIEWS = (_ORDERS_VIEW, _TRADES_VIEW, _USER_TRADES_VIEW)
"""Made anew with each version, and where they say more: words of codes that are new."""
_VIEWS_TEXT = "views"
"""What ``relations`` calls the digest of their text."""


def version_of(execute: Execute) -> int:
    """Return the version of the schema that is there; 0: there is none, or it is empty.

    Raises ``HistoryError`` where somebody else's tables are there.
    """
    found = execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'm') ORDER BY 1",
        SCHEMA,
    )
    names = [row[0] for row in found]
    if not names:
        return 0
    if "versions" not in names:
        raise HistoryError(
            f"schema {SCHEMA} has a relation {names[0]}, but is no history of this product"
        )
    [(version,)] = execute(f"SELECT coalesce(max(version), 0) FROM {SCHEMA}.versions")
    return int(version)


def migrate(execute: Execute) -> list[int]:
    """Take the schema to this product's version; return the versions that it has gone through.

    To be called in a transaction. Raises ``HistoryError``.
    """
    execute("SELECT pg_advisory_xact_lock(%s, %s)", LOCKS, SCHEMA_LOCK)
    version = version_of(execute)
    if version > VERSION:
        raise HistoryError(newer(version))
    done = list(range(version + 1, VERSION + 1))
    if not version:
        execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        execute("CREATE TABLE versions (version bigint PRIMARY KEY, applied_at timestamptz)")
        execute("CREATE TABLE relations (name text PRIMARY KEY, description text NOT NULL)")
    for number in done:
        for statement in MIGRATIONS[number - 1]:
            execute(statement)
        if number == 1:
            extension = execute(
                "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n "
                "ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'"
            )
            for statement in _HYPERTABLE if extension else _PLAIN:
                execute(statement.format(extension=extension[0][0]) if extension else statement)
        execute("INSERT INTO versions VALUES (%s, now())", number)
    if done or not says_all(execute):
        for statement in VIEWS:
            execute(statement)
        execute("DELETE FROM relations")
        execute("INSERT INTO relations VALUES (%s, %s)", _VIEWS_TEXT, _digest_of_views())
        for name, description in _relations(execute).items():
            execute("INSERT INTO relations VALUES (%s, %s)", name, description)
    return done


def says_all(execute: Execute) -> bool:
    """Return whether the views are those of this product."""
    found = execute(f"SELECT description FROM {SCHEMA}.relations WHERE name = %s", _VIEWS_TEXT)
    return [row[0] for row in found] == [_digest_of_views()]


def _digest_of_views() -> str:
    return sha256("".join(VIEWS).encode()).hexdigest()


def newer(version: int) -> str:
    """Say that a schema is of a later product."""
    return f"schema {SCHEMA} has version {version}, this product knows {VERSION}"


def check_schema(execute: Execute) -> None:
    """Raise ``HistoryError`` where the schema is none of this version's, or not whole."""
    version = version_of(execute)
    if version > VERSION:
        raise HistoryError(newer(version))
    if version < VERSION:
        raise HistoryError(
            f"schema {SCHEMA} has version {version}, this product needs {VERSION}: "
            "`shardbook history migrate` makes it, and so does the exporter when it starts"
        )
    there = _relations(execute)
    for name, description in execute(
        f"SELECT name, description FROM {SCHEMA}.relations WHERE name <> %s ORDER BY name",
        _VIEWS_TEXT,
    ):
        if there.get(name) != description:
            problem = "was changed by hand" if name in there else "is missing"
            raise HistoryError(
                f"{SCHEMA}.{name} {problem}; drop the schema, and it is made anew from journals "
                "and trade log"
            )


def _relations(execute: Execute) -> dict[str, str]:
    """Return the tables, indexes and views of the schema, and what columns each has."""
    found = execute(
        "SELECT c.relname, c.relkind::text || ': ' || string_agg("
        "a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum) "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        "WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'i', 'I') "
        "AND c.relname NOT IN ('versions', 'relations', 'versions_pkey', 'relations_pkey') "
        "GROUP BY c.relname, c.relkind",
        SCHEMA,
    )
    return dict(found)
