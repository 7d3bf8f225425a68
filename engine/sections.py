"""The sections of the configuration: every setting with its default and the range of its value.

``engine.config`` reads them from a file, and checks what no single one of them shows.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from engine.books.id_memory import MAX_ACCOUNT_IDS, MAX_KEPT_IDS
from ipc.links.sockets import PEER_TIMEOUT_S
from ipc.records import MAX_SHARDS
from ipc.vocabulary import MAX_PEER_TIMEOUT_S, MAX_RESTING_ORDERS

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[int, Meta(ge=0, le=86_400)]
PowerOfTwo = Annotated[int, Meta(ge=16, le=1 << 26)]
PreventionWord = Literal["none", "cancel_newest", "cancel_oldest", "cancel_both", "decrement"]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
MAX_NODES = 64
MAX_KEPT_S = 366 * 86_400
MAX_RECENT_ORDERS = 1 << 26
MAX_INSTRUMENT = (1 << 16) - 1
"""The highest number of an instrument."""


class Section(Struct, forbid_unknown_fields=True, frozen=True):
    """Base of all sections: no key unknown."""


class EngineSection(Section, frozen=True):
    """``[engine]``: the matchers."""

    book: Literal["ladder", "reference"] = "ladder"
    matchers: Annotated[int, Meta(ge=1, le=MAX_SHARDS)] = 2
    recent_orders: Annotated[int, Meta(ge=0, le=MAX_RECENT_ORDERS)] = 65_536
    account_ids: Annotated[int, Meta(ge=0, le=MAX_ACCOUNT_IDS)] = 256
    kept_ids: Annotated[int, Meta(ge=0, le=MAX_KEPT_IDS)] = 262_144
    ring_trades: PowerOfTwo = 65_536
    ring_reports: PowerOfTwo = 65_536
    account_reports: Annotated[int, Meta(ge=1, le=1 << 20)] = 256
    kept_reports: Annotated[int, Meta(ge=64, le=1 << 26)] = 32_768
    batch_commands: Annotated[int, Meta(ge=1, le=65_536)] = 4_096
    ended_orders: Annotated[int, Meta(ge=1, le=1 << 26)] = 65_536
    depth_levels: Annotated[int, Meta(ge=1, le=1_024)] = 64
    wait: Literal["block", "spin"] = "block"
    linger_us: Annotated[int, Meta(ge=0, le=1_000_000)] = 500
    pin: bool = True


class FrontendSection(Section, frozen=True):
    """``[frontend]``: order entry."""

    processes: Annotated[int, Meta(ge=1, le=64)] = 1
    socket: str = ""
    tcp: str = ""
    login_timeout_s: Seconds = 10
    idle_timeout_s: Seconds = 0
    peer_timeout_s: Annotated[int, Meta(ge=1, le=MAX_PEER_TIMEOUT_S)] = PEER_TIMEOUT_S
    max_sessions: Positive = 4_096
    max_not_logged_in: Positive = 1_024
    max_connections_per_address: Annotated[int, Meta(ge=0)] = 1_024
    max_accounts: Annotated[int, Meta(ge=1, le=1 << 30)] = 1 << 20
    max_unread_bytes: Annotated[int, Meta(ge=4_096)] = 16 << 20
    window: Annotated[int, Meta(ge=1, le=1 << 24)] = 8_192
    when_busy: Literal["reject", "wait"] = "reject"
    when_shard_down: Literal["reject", "hold"] = "reject"
    max_queued_bytes: Annotated[int, Meta(ge=4_096)] = 64 << 20


class PersisterSection(Section, frozen=True):
    """``[persister]``: the trade log."""

    directory: str = ""
    segment_bytes: Annotated[int, Meta(ge=4_096)] = 256 << 20
    compress: bool = True
    fsync: bool = False


class JournalSection(Section, frozen=True):
    """``[journal]``: what keeps the commands, and with them the books."""

    durability: Literal["async", "fsync", "off"] = "async"
    segment_bytes: Annotated[int, Meta(ge=1 << 13, le=1 << 40)] = 64 << 20
    snapshot_commands: Annotated[int, Meta(ge=0)] = 5_000_000
    snapshots_kept: Annotated[int, Meta(ge=2, le=1_000)] = 2
    archive: str = ""


class HistorySection(Section, frozen=True):
    """``[history]``: what keeps every order and trade for good."""

    sqlite: bool = False
    events: bool = False
    cleanup: bool = False
    cleanup_interval_s: Annotated[int, Meta(ge=0, le=10**9)] = 3_600
    keep_days: Annotated[int, Meta(ge=0, le=100_000)] = 90
    max_bytes: Annotated[int, Meta(ge=0)] = 0
    max_journal_bytes: Annotated[int, Meta(ge=0)] = 0
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] = 1_000


class DatabaseSection(Section, frozen=True):
    """``[database]``: a PostgreSQL that keeps every order and trade as well."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)] = 5_432
    name: str = "shardbook"
    user: str = "shardbook"
    ssl_mode: SslMode = "prefer"
    max_connections: Annotated[int, Meta(ge=2, le=1_000)] = 20


class MongodbSection(Section, frozen=True):
    """``[mongodb]``: a MongoDB that keeps every order and trade as well."""

    enabled: bool = False
    uri: str = "mongodb://127.0.0.1:27017"
    name: str = "shardbook"
    user: str = ""


class RedisSection(Section, frozen=True):
    """``[redis]``: a Redis that has what is current."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)] = 6_379
    database: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    user: str = ""
    tls: bool = False
    tls_ca: str = ""
    prefix: str = "shardbook"
    order_seconds: Annotated[int, Meta(ge=1, le=MAX_KEPT_S)] = 86_400
    trade_seconds: Annotated[int, Meta(ge=1, le=MAX_KEPT_S)] = 86_400
    trades: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    ended_orders: Annotated[int, Meta(ge=1, le=100_000_000)] = 262_144
    user_orders: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000
    user_events: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000
    depth_levels: Annotated[int, Meta(ge=1, le=1_024)] = 64
    depth_entries: Annotated[int, Meta(ge=1, le=1_000_000)] = 128


class KafkaSection(Section, frozen=True):
    """``[kafka]``: topics of Kafka that trades go to."""

    enabled: bool = False
    brokers: str = "127.0.0.1:9092"
    prefix: str = "shardbook"
    group_id: str = "shardbook"
    tls: bool = False
    tls_ca: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    user: str = ""
    trades_topic: str = ""
    instruments_topic: str = ""
    snapshots_topic: str = ""
    positions_topic: str = ""
    commands_topic: str = ""
    commands_hours: Annotated[int, Meta(ge=1, le=24 * 366)] = 168
    partitions: Annotated[int, Meta(ge=1, le=10_000)] = 8
    replication: Annotated[int, Meta(ge=0, le=32)] = 0
    snapshot_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 1_000
    snapshot_levels: Annotated[int, Meta(ge=1, le=1_024)] = 20


class ClusterSection(Section, frozen=True):
    """``[cluster]``: this product is one node of several, which Kafka gives their commands."""

    enabled: bool = False
    node: Annotated[int, Meta(ge=0, lt=MAX_NODES)] = 0
    snapshots: str = ""


class QuerySection(Section, frozen=True):
    """``[query]``: the query workers."""

    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    max_trades: Annotated[int, Meta(ge=1, le=10_000)] = 1_000


class HttpSection(Section, frozen=True):
    """``[http]``: REST and WebSocket."""

    address: str = ""
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    default_symbol: str = ""
    default_trade_limit: Annotated[int, Meta(ge=1, le=10_000)] = 100
    max_trade_limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    default_order_limit: Annotated[int, Meta(ge=1, le=10_000)] = 100
    max_order_limit: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    default_depth: Annotated[int, Meta(ge=1, le=1_024)] = 20
    max_depth: Annotated[int, Meta(ge=1, le=1_024)] = 64
    max_batch_orders: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    max_body_bytes: Annotated[int, Meta(ge=1_024, le=1 << 30)] = 1 << 20
    max_header_bytes: Annotated[int, Meta(ge=1_024, le=1 << 20)] = 16_384
    max_connections: Positive = 4_096
    max_not_logged_in: Positive = 1_024
    max_connections_per_address: Annotated[int, Meta(ge=0)] = 1_024
    login_timeout_s: Seconds = 10
    max_pending_orders: Annotated[int, Meta(ge=1, le=1 << 20)] = 4_096
    answer_timeout_s: Annotated[int, Meta(ge=1, le=600)] = 5
    keep_alive_s: Annotated[int, Meta(ge=1, le=86_400)] = 75
    max_subscriptions: Annotated[int, Meta(ge=1, le=10_000)] = 256
    max_unread_messages: Annotated[int, Meta(ge=16, le=1 << 20)] = 4_096
    heartbeat_s: Annotated[int, Meta(ge=1, le=3_600)] = 15
    allowed_hosts: list[str] = []
    allowed_origins: list[str] = []


class TlsSection(Section, frozen=True):
    """``[tls]``: of the TCP order entry and of HTTP."""

    certificate: str = ""
    key: str = ""


class KeySection(Section, frozen=True):
    """``[[keys]]``: one API key, as the SHA-256 of its text, and the user it stands for."""

    user_id: Annotated[str, Meta(min_length=1, max_length=64)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    self_trade_prevention: PreventionWord = "none"
    """What the user's orders have that say nothing of it."""


class InstrumentSection(Section, frozen=True):
    """``[[instruments]]``: one symbol. Prices and sizes are decimal texts."""

    symbol: str
    tick_size: str
    lot_size: str = "1"
    min_price: str | None = None
    max_price: str | None = None
    max_resting_orders: Annotated[int, Meta(ge=1, le=MAX_RESTING_ORDERS)] = 131_072
    max_account_orders: Annotated[int, Meta(ge=1, le=MAX_RESTING_ORDERS)] | None = None
    shard: Annotated[int, Meta(ge=0, lt=MAX_SHARDS)] | None = None
    day_end: str = "00:00"
    """When DAY orders end: hours and minutes, UTC."""
    number: Annotated[int, Meta(ge=1, le=MAX_INSTRUMENT)] | None = None
    """On the wire and in every record. No file has it: ``engine.listing`` gives it, for good."""
