"""The configuration: one TOML file, checked whole before anything starts.

``configs/default.toml`` shows every key with its meaning. An unknown key or a wrong value is a
``ConfigError`` that names the key, the value and what is allowed.
"""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from engine.books.id_memory import MAX_ACCOUNT_IDS, MAX_KEPT_IDS
from ipc.decimals import clipped, shown
from ipc.instruments import Instrument, Scale, ScaleError
from ipc.links.sockets import (
    PEER_TIMEOUT_S,
    Address,
    AddressError,
    check_path,
    is_loopback,
    parse_address,
)
from ipc.records import MAX_SHARDS
from ipc.vocabulary import MAX_PEER_TIMEOUT_S, MAX_PRICE, MAX_RESTING_ORDERS

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[int, Meta(ge=0, le=86_400)]
PowerOfTwo = Annotated[int, Meta(ge=16, le=1 << 26)]
SYMBOL = re.compile(r"[A-Za-z0-9._/-]{1,24}")
HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*\]?")
REDIS_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}")
MAX_KEPT_S = 366 * 86_400
DATABASE_NAME = re.compile(r"[!-~]{1,255}")
MONGODB_URI = re.compile(r"mongodb(\+srv)?://[^@\s]{1,255}")
MONGODB_NAME = re.compile(r"[\w-]{1,63}", re.ASCII)
ORIGIN = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]{{0,31}}://(?:{HOST.pattern})(?::[0-9]{{1,5}})?")
PreventionWord = Literal["none", "cancel_newest", "cancel_oldest", "cancel_both", "decrement"]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
ACCOUNT_SHARE = 4
"""One account may take one part in so many of an instrument's ``max_resting_orders``."""


class ConfigError(ValueError):
    """The configuration cannot be used; the text names key, value and what is allowed."""


MAX_RECENT_ORDERS = 1 << 26
MAX_INSTRUMENT = (1 << 16) - 1
"""The highest number of an instrument."""
_GIVEN = {"number", "retired"}
"""Keys that the product gives itself, and no file."""


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


_ITEMS: dict[str, type[Section]] = {"instruments": InstrumentSection, "keys": KeySection}


class Config(Section, frozen=True):
    """The whole file."""

    instruments: Annotated[list[InstrumentSection], Meta(min_length=1, max_length=MAX_INSTRUMENT)]
    data_dir: str = "shardbook-data"
    engine: EngineSection = EngineSection()
    frontend: FrontendSection = FrontendSection()
    journal: JournalSection = JournalSection()
    persister: PersisterSection = PersisterSection()
    history: HistorySection = HistorySection()
    database: DatabaseSection = DatabaseSection()
    mongodb: MongodbSection = MongodbSection()

    redis: RedisSection = RedisSection()
    query: QuerySection = QuerySection()
    http: HttpSection = HttpSection()
    tls: TlsSection = TlsSection()
    keys: Annotated[list[KeySection], Meta(max_length=100_000)] = []
    roles: dict[str, dict[str, Any]] = {}
    """``[roles.NAME]``: the settings of roles that are not named above, by their rows."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    umask: Annotated[str, Meta(pattern="^[0-7]{3}$")] = "077"
    retired: list[InstrumentSection] = []
    """What is not listed any more, but may stand in records. No file has it."""

    def file_mask(self) -> int:
        """Return the bits of a file's mode that nobody gets."""
        return int(self.umask, 8)

    def listed(self) -> list[Instrument]:
        """Return the instruments with their shards, numbered from 1 as they stand in the file where
        they have no numbers yet."""
        return [
            _instrument(position, section, self.engine.matchers)
            for position, section in enumerate(self.instruments)
        ]

    def formerly_listed(self) -> list[Instrument]:
        """Return the instruments that are retired."""
        return [
            _instrument(position, section, self.engine.matchers)._replace(retired=True)
            for position, section in enumerate(self.retired)
        ]

    def socket_path(self, frontend: int = 0, data_dir: Path | None = None) -> Path:
        """Return the path of a frontend's Unix socket."""
        path = Path(self.frontend.socket or (data_dir or Path(self.data_dir)) / "shardbook.sock")
        return path.with_stem(f"{path.stem}-{frontend}") if frontend else path


def load_config(path: Path | None = None) -> Config:
    """Read and check a TOML file; without ``path`` the one that ships with the product."""
    if path is None:
        text = resources.files("configs").joinpath("default.toml").read_text()
        return parse_config(text, "default.toml")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return parse_config(text, str(path))


def parse_config(text: str, source: str) -> Config:
    """Check the text of a TOML file; ``source`` is its name in errors."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not TOML: {clipped(str(error))}") from None
    except ValueError:
        raise ConfigError(f"{source}: a number must have fewer digits") from None
    except RecursionError:
        raise ConfigError(f"{source}: must not be nested as deep") from None
    try:
        config = msgspec.convert(tree, Config)
        check_config(config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(str(error), tree)}") from None
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    return config


S = TypeVar("S", bound=Section)


def role_section(config: Config, name: str, kind: type[S]) -> S:
    """Return the section ``[roles.NAME]`` as what its role says it is. Raises ``ConfigError``."""
    tree = config.roles.get(name, {})
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"roles.{clipped(name)}.{_explain(str(error), tree, kind)}") from None


def check_config(config: Config) -> None:
    """Verify what no single key shows. Raises ``ConfigError``."""
    for key in ("ring_trades", "ring_reports", "kept_reports"):
        ring = getattr(config.engine, key)
        if ring & (ring - 1):
            raise ConfigError(f"engine.{key} = {ring}: must be a power of two")
    if config.retired:
        raise ConfigError("retired: unknown key; an instrument that is not listed is retired")
    seen: set[str] = set()
    for position, section in enumerate(config.instruments):
        named = f"instruments[{position}].symbol = {shown(section.symbol)}"
        if not SYMBOL.fullmatch(section.symbol):
            raise ConfigError(f"{named}: must be 1 to 24 letters, digits or . _ / -")
        if section.symbol in seen:
            raise ConfigError(f"{named}: must not be listed twice")
        seen.add(section.symbol)
        if section.number is not None:
            raise ConfigError(
                f"instruments[{position}].number = {section.number}: unknown key; numbers are given"
            )
    config.listed()
    _check_history(config)
    _check_redis(config.redis)
    _check_edge(config)
    path = config.socket_path(config.frontend.processes - 1).absolute()
    try:
        check_path(path)
    except AddressError as error:
        raise ConfigError(f"frontend.socket: {path}: {error}; name a shorter one") from None


def _check_history(config: Config) -> None:
    """Verify that what keeps a history can follow a journal, and is reached."""
    for key, kept in (
        ("history.sqlite", config.history.sqlite),
        ("database.enabled", config.database.enabled),
        ("mongodb.enabled", config.mongodb.enabled),
        ("redis.enabled", config.redis.enabled),
    ):
        if kept and config.journal.durability == "off":
            raise ConfigError(f'{key} = true: needs a journal, and journal.durability is "off"')
    history = config.history
    if history.cleanup and not (history.keep_days or history.max_bytes):
        raise ConfigError("history.cleanup = true: needs history.keep_days or history.max_bytes")
    for key in ("host", "name", "user"):
        if not DATABASE_NAME.fullmatch(text := getattr(config.database, key)):
            rule = "must be 1 to 255 printable characters without blanks"
            raise ConfigError(f"database.{key} = {shown(text)}: {rule}")
    if not MONGODB_URI.fullmatch(config.mongodb.uri):  # it may hold a secret: it is not shown
        rule = "must be mongodb://HOST:PORT or the like, without user and password"
        raise ConfigError(f"mongodb.uri: {rule}")
    if not MONGODB_NAME.fullmatch(config.mongodb.name):
        rule = "must be 1 to 63 letters, digits, _ or -"
        raise ConfigError(f"mongodb.name = {shown(config.mongodb.name)}: {rule}")
    connections, needed = config.database.max_connections, 1 + config.http.workers
    if config.database.enabled and connections < needed:
        raise ConfigError(
            f"database.max_connections = {connections}: must be {needed} or more: the exporter has "
            "one, and each of http.workers"
        )


def _check_redis(redis: RedisSection) -> None:
    """Verify how Redis is reached, and what its keys begin with."""
    if not DATABASE_NAME.fullmatch(redis.host):
        rule = "must be 1 to 255 printable characters without blanks"
        raise ConfigError(f"redis.host = {shown(redis.host)}: {rule}")
    if redis.user and not DATABASE_NAME.fullmatch(redis.user):
        rule = "must be printable characters without blanks, 255 at the most, or empty"
        raise ConfigError(f"redis.user = {shown(redis.user)}: {rule}")
    if not REDIS_PREFIX.fullmatch(redis.prefix):
        rule = "must be 1 to 64 letters, digits or . _ : -"
        raise ConfigError(f"redis.prefix = {shown(redis.prefix)}: {rule}")
    if redis.tls_ca and not redis.tls:
        raise ConfigError("redis.tls_ca: redis.tls must be true where this is given")


def _check_edge(config: Config) -> None:
    """Verify what faces the network: open to this machine alone, unless users have keys."""
    for key, text in (("frontend.tcp", config.frontend.tcp), ("http.address", config.http.address)):
        if not text:
            continue
        try:
            address = parse_address(text)
        except AddressError:
            address = Address()
        if not address.host:
            raise ConfigError(f"{key} = {shown(text)}: must be HOST:PORT or empty")
        if not config.keys and not is_loopback(address):
            raise ConfigError(
                f"{key} = {shown(text)}: must be a loopback address (127.0.0.1, ::1, localhost) "
                "unless [[keys]] are configured; `shardbook key USER` makes one"
            )
    http, tls = config.http, config.tls
    if bool(tls.certificate) != bool(tls.key):
        raise ConfigError("tls: certificate and key must be given together")
    symbols = {section.symbol for section in config.instruments}
    if http.default_symbol and http.default_symbol not in symbols:
        raise ConfigError(
            f"http.default_symbol = {shown(http.default_symbol)}: "
            "must be the symbol of an instrument"
        )
    for name in ("trade_limit", "order_limit"):
        default, most = getattr(http, f"default_{name}"), getattr(http, f"max_{name}")
        if default > most:
            raise ConfigError(
                f"http.default_{name} = {default}: must be at most http.max_{name} ({most})"
            )
    if http.default_depth > http.max_depth:
        raise ConfigError(
            f"http.default_depth = {http.default_depth}: must be at most http.max_depth "
            f"({http.max_depth})"
        )
    _check_names(http)
    digests = [section.sha256 for section in config.keys]
    if len(set(digests)) != len(digests):
        raise ConfigError("keys: no key must be listed twice")
    modes: dict[str, str] = {}
    for position, section in enumerate(config.keys):
        mode = section.self_trade_prevention
        if modes.setdefault(section.user_id, mode) != mode:
            key = f"keys[{position}].self_trade_prevention = {shown(mode)}"
            raise ConfigError(f"{key}: must be the same for every key of a user")


def _check_names(http: HttpSection) -> None:
    """Verify what browsers are held to."""
    for key, pattern, rule in (
        ("allowed_hosts", HOST, "a host as in a URL, without its port"),
        ("allowed_origins", ORIGIN, "SCHEME://HOST or SCHEME://HOST:PORT"),
    ):
        for position, name in enumerate(getattr(http, key)):
            if name != "*" and not pattern.fullmatch(name):
                raise ConfigError(
                    f'http.{key}[{position}] = {shown(name)}: must be {rule}, or "*" for any'
                )


def _instrument(position: int, section: InstrumentSection, matchers: int) -> Instrument:
    key = f"instruments[{position}]"
    shard = position % matchers if section.shard is None else section.shard
    if shard >= matchers:
        raise ConfigError(f"{key}.shard = {shard}: must be below engine.matchers ({matchers})")
    try:
        tick = Scale.parse(section.tick_size, f"{key}.tick_size")
        lot = Scale.parse(section.lot_size, f"{key}.lot_size")
        low = 1
        if section.min_price is not None:
            low = tick.steps(section.min_price, f"{key}.min_price")
        high = MAX_PRICE
        if section.max_price is not None:
            high = tick.steps(section.max_price, f"{key}.max_price")
    except ScaleError as error:
        raise ConfigError(str(error)) from None
    if not 1 <= low <= high <= MAX_PRICE:
        raise ConfigError(
            f"{key}: min_price = {section.min_price} and max_price = {section.max_price}: must be "
            f"1 tick or more, in order, and at most {MAX_PRICE} ticks"
        )
    room = section.max_resting_orders
    own = section.max_account_orders
    if own is not None and own > room:
        raise ConfigError(
            f"{key}.max_account_orders = {own}: must be at most max_resting_orders ({room})"
        )
    if own is None:
        own = max(1, room // ACCOUNT_SHARE)
    number = section.number or position + 1
    day_end_s = _day_end(section.day_end, f"{key}.day_end")
    return Instrument(number, section.symbol, tick, lot, low, high, room, shard, own, day_end_s)


def _day_end(text: str, key: str) -> int:
    """Return the seconds after midnight of a time of day. Raises ``ConfigError``."""
    hours, _, minutes = text.partition(":")
    digits = len(hours) == 2 and len(minutes) == 2 and (hours + minutes).isascii()
    if not (digits and (hours + minutes).isdigit() and int(hours) < 24 and int(minutes) < 60):
        raise ConfigError(f"{key} = {shown(text)}: must be a time of day, 00:00 to 23:59")
    return 3_600 * int(hours) + 60 * int(minutes)


def _explain(error: str, tree: dict[str, Any], kind: Any = Config) -> str:
    """Turn msgspec's "... - at `$.engine.book`" into key, value and what is allowed."""
    problem, _, where = error.partition(" - at `$")
    keys = where.rstrip("`").replace("[", ".[").strip(".").split(".") if where else []
    keys = [key for key in keys if key]
    value: Any = tree
    for key in keys:
        if key == "[...]":
            return _explain_item(error, tree, keys)
        value = value[int(key[1:-1])] if key.startswith("[") else value[key]
        kind = _ITEMS[keys[0]] if key.startswith("[") else _kind_of(kind, key)
    name = ".".join(keys).replace(".[", "[")
    if problem.startswith("Object contains unknown field"):
        unknown = problem.split("`")[1]
        allowed = ", ".join(name for name in kind.__struct_fields__ if name not in _GIVEN)
        full = f"{name}.{unknown}" if name else unknown
        return f"{clipped(full)} = {shown(value[unknown])}: unknown key; allowed here: {allowed}"
    if problem.startswith("Object missing required field"):
        return f"{name + '.' if name else ''}{problem.split('`')[1]}: must be given"
    return f"{name} = {shown(value)}: {_allowed(kind, problem)}"


def _explain_item(error: str, tree: dict[str, Any], keys: list[str]) -> str:
    """Find which item of a list an error speaks of: msgspec names them only as [...]."""
    for position, item in enumerate(tree[keys[0]]):
        try:
            msgspec.convert(item, _ITEMS[keys[0]])
        except msgspec.ValidationError as inner:
            problem, _, where = str(inner).partition(" - at `$")
            path = f"$.{keys[0]}[{position}]{where.rstrip('`')}"
            return _explain(f"{problem} - at `{path}`", tree)
    return f"{'.'.join(keys)}: {error}"


def _kind_of(kind: Any, key: str) -> Any:
    """Return the declared type of ``key`` within a section type."""
    return get_type_hints(kind, include_extras=True)[key]


def _allowed(kind: Any, problem: str) -> str:
    """Return what a value of ``kind`` may be, beside msgspec's own words."""
    words = problem.replace("`", "")
    if "Invalid enum value" in words:
        return "must be one of " + ", ".join(repr(option) for option in get_args(kind))
    return words[0].lower() + words[1:] if words else "is not allowed"
