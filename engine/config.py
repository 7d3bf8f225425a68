"""The configuration: one TOML file, checked whole before anything starts.

``configs/default.toml`` shows every key with its meaning. An unknown key or a wrong value is a
``ConfigError`` that names the key, the value and what is allowed.
"""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, field

from engine.config_errors import explain
from engine.sections import (
    MAX_INSTRUMENT,
    ClusterSection,
    DatabaseSection,
    EngineSection,
    FrontendSection,
    HistorySection,
    HttpSection,
    InstrumentSection,
    JournalSection,
    KafkaSection,
    KeySection,
    MongodbSection,
    PersisterSection,
    QuerySection,
    RedisSection,
    Section,
    TlsSection,
)
from ipc.decimals import clipped, shown
from ipc.instruments import Instrument, Scale, ScaleError
from ipc.links.sockets import (
    Address,
    AddressError,
    check_path,
    is_loopback,
    parse_address,
)
from ipc.vocabulary import MAX_PRICE

SYMBOL = re.compile(r"[A-Za-z0-9._/-]{1,24}")
HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*\]?")
REDIS_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}")
KAFKA_BROKERS = re.compile(
    rf"(?:{HOST.pattern}):[0-9]{{1,5}}(?:,(?:{HOST.pattern}):[0-9]{{1,5}}){{0,31}}"
)
KAFKA_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
DATABASE_NAME = re.compile(r"[!-~]{1,255}")
MONGODB_URI = re.compile(r"mongodb(\+srv)?://[^@\s]{1,255}")
MONGODB_NAME = re.compile(r"[\w-]{1,63}", re.ASCII)
ORIGIN = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]{{0,31}}://(?:{HOST.pattern})(?::[0-9]{{1,5}})?")
ACCOUNT_SHARE = 4
"""One account may take one part in so many of an instrument's ``max_resting_orders``."""


class ConfigError(ValueError):
    """The configuration cannot be used; the text names key, value and what is allowed."""


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
    kafka: KafkaSection = KafkaSection()
    cluster: ClusterSection = ClusterSection()
    query: QuerySection = QuerySection()
    http: HttpSection = HttpSection()
    tls: TlsSection = TlsSection()
    keys: Annotated[list[KeySection], Meta(max_length=100_000)] = field(default_factory=list)
    roles: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``[roles.NAME]``: the settings of roles that are not named above, by their rows."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    umask: Annotated[str, Meta(pattern="^[0-7]{3}$")] = "077"
    retired: list[InstrumentSection] = field(default_factory=list)
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
        raise ConfigError(f"{source}: {explain(str(error), tree, Config)}") from None
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
        raise ConfigError(explain(str(error), tree, kind, f"roles.{clipped(name)}")) from None


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
    _check_kafka(config, config.kafka)
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
        ("kafka.enabled", config.kafka.enabled),
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


def _check_kafka(config: Config, kafka: KafkaSection) -> None:
    """Verify how Kafka is reached, and what its topics are called."""
    if not KAFKA_BROKERS.fullmatch(kafka.brokers):
        rule = "must be HOST:PORT, or up to 32 of them with commas between"
        raise ConfigError(f"kafka.brokers = {shown(kafka.brokers)}: {rule}")
    for key in ("prefix", "group_id", *(k for k in kafka.__struct_fields__ if "_topic" in k)):
        name = getattr(kafka, key)
        if not KAFKA_NAME.fullmatch(name) and not (key.endswith("_topic") and not name):
            rule = "must be 1 to 200 letters, digits or . _ -"
            raise ConfigError(f"kafka.{key} = {shown(name)}: {rule}")
    for key in ("tls_ca", "tls_certificate", "tls_key"):
        if getattr(kafka, key) and not kafka.tls:
            raise ConfigError(f"kafka.{key}: kafka.tls must be true where this is given")
    if bool(kafka.tls_certificate) != bool(kafka.tls_key):
        raise ConfigError("kafka: tls_certificate and tls_key must be given together")
    if config.cluster.enabled and config.journal.durability != "async":
        raise ConfigError(
            f'cluster.enabled = true: journal.durability = "{config.journal.durability}": must be '
            '"async": what makes commands durable is the log'
        )
    if bool(kafka.sasl_mechanism) != bool(kafka.user):
        raise ConfigError("kafka: sasl_mechanism and user must be given together")
    if kafka.user and not DATABASE_NAME.fullmatch(kafka.user):
        rule = "must be printable characters without blanks, 255 at the most"
        raise ConfigError(f"kafka.user = {shown(kafka.user)}: {rule}")


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
