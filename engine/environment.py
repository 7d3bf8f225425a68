"""Settings from the environment: for ``shardbook serve``, over what its configuration says."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec

from engine.config import Config, ConfigError, check_config
from engine.sections import SslMode
from ipc.decimals import NumberError, shown, whole_number

MAX_SIZE = 1 << 26


class _WrongError(ValueError):
    """What a value must be."""


def _whole(low: int, high: int) -> Callable[[str], int]:
    return partial(whole_number, low=low, high=high)


def _history(text: str) -> int:
    """Return the next power of two: a ring has no other sizes."""
    return max(16, 1 << (_whole(1, MAX_SIZE)(text) - 1).bit_length())


def _directory(text: str) -> str:
    path = Path(text)
    if path.name == "trades.ndjson":
        return str(path.parent)
    if path.suffix:
        raise _WrongError("must be a directory, or the path of a trades.ndjson in one")
    return text


def _switch(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    found = words.get(text.lower())
    if found is None:
        raise _WrongError("must be true or false")
    return found


def _ssl_mode(text: str) -> str:
    modes = get_args(SslMode)
    if text not in modes:
        raise _WrongError(f"must be one of {', '.join(modes)}")
    return text


def _level(text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise _WrongError("must be DEBUG, INFO, WARNING or ERROR")
    return text.upper()


class Variable(NamedTuple):
    """What one variable sets: section ("" for none) and key, and how its text is read."""

    section: str
    key: str
    read: Callable[[str], Any]


VARIABLES: dict[str, Variable] = {
    "PORT": Variable("http", "address", _whole(1, 65_535)),
    "HTTP_WORKERS": Variable("http", "workers", _whole(1, 64)),
    "DEFAULT_SYMBOL": Variable("http", "default_symbol", str),
    "DEFAULT_TRADE_LIMIT": Variable("http", "default_trade_limit", _whole(1, 10_000)),
    "MAX_TRADE_LIMIT": Variable("http", "max_trade_limit", _whole(1, 10_000)),
    "TRADE_HISTORY_SIZE": Variable("engine", "ring_trades", _history),
    "TRADE_LOG_PATH": Variable("persister", "directory", _directory),
    "DATABASE_ENABLED": Variable("database", "enabled", _switch),
    "DATABASE_HOST": Variable("database", "host", str),
    "DATABASE_PORT": Variable("database", "port", _whole(1, 65_535)),
    "DATABASE_NAME": Variable("database", "name", str),
    "DATABASE_USER": Variable("database", "user", str),
    "DATABASE_SSL_MODE": Variable("database", "ssl_mode", _ssl_mode),
    "DATABASE_MAX_CONNECTIONS": Variable("database", "max_connections", _whole(2, 1_000)),
    "ORDER_CLEANUP_ENABLED": Variable("history", "cleanup", _switch),
    "ORDER_CLEANUP_INTERVAL": Variable("history", "cleanup_interval_s", _whole(0, 10**9)),
    "REDIS_ENABLED": Variable("redis", "enabled", _switch),
    "REDIS_HOST": Variable("redis", "host", str),
    "REDIS_PORT": Variable("redis", "port", _whole(1, 65_535)),
    "REDIS_DB": Variable("redis", "database", _whole(0, 1_000_000)),
    "REDIS_USER": Variable("redis", "user", str),
    "REDIS_TLS": Variable("redis", "tls", _switch),
    "REDIS_PREFIX": Variable("redis", "prefix", str),
    "KAFKA_ENABLED": Variable("kafka", "enabled", _switch),
    "KAFKA_BROKERS": Variable("kafka", "brokers", str),
    "KAFKA_GROUP_ID": Variable("kafka", "group_id", str),
    "KAFKA_PREFIX": Variable("kafka", "prefix", str),
    "KAFKA_TLS": Variable("kafka", "tls", _switch),
    "KAFKA_USER": Variable("kafka", "user", str),
    "DATA_DIR": Variable("", "data_dir", str),
    "LOG_LEVEL": Variable("", "log_level", _level),
}
"""Every variable there is, but for DATABASE_PASSWORD, REDIS_PASSWORD and KAFKA_PASSWORD, which no
configuration has. ``PORT`` keeps the host of ``http.address``."""


def with_environment(config: Config, environment: Mapping[str, str]) -> Config:
    """Return the configuration with what the environment sets. Raises ``ConfigError``.

    An empty variable sets nothing.
    """
    used = [name for name in VARIABLES if environment.get(name)]
    for name in used:
        section, key, read = VARIABLES[name]
        try:
            value = read(environment[name])
        except (_WrongError, NumberError) as error:
            value = shown(environment[name])
            raise ConfigError(f"environment: {name} = {value}: {error}") from None
        if name == "PORT":
            host = config.http.address.rpartition(":")[0] or "127.0.0.1"
            value = f"{host}:{value}"
        changed: Any = value
        if section:
            changed = msgspec.structs.replace(getattr(config, section), **{key: value})
        config = msgspec.structs.replace(config, **{section or key: changed})
    try:
        check_config(config)
    except ConfigError as error:
        raise ConfigError(f"environment ({', '.join(used)}): {error}") from None
    return config
