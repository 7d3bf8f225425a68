"""Connections to Redis, and what its errors mean.

The password is no part of the configuration, so that no file, page or message of the product can
show it: it comes from REDIS_PASSWORD.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis import exceptions as errors
from redis.backoff import NoBackoff
from redis.retry import Retry

from engine.printable import printable
from engine.sections import RedisSection

PASSWORD = "REDIS_PASSWORD"
CONNECT_S = 5.0
ANSWER_S = 10.0
"""How long Redis may take to answer; one that is silent for longer counts as away."""
_PASSES = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "OOM", "MISCONF")
"""How errors begin that may pass: another one leads by then, or there is room again."""


class CacheError(Exception):
    """What Redis has cannot be used; the text names it, says why and what helps."""


class CacheAwayError(CacheError):
    """Redis cannot be reached or written now, and may be later."""


def where(section: RedisSection) -> str:
    """Return a Redis as messages name it."""
    scheme, user = "rediss" if section.tls else "redis", f"{section.user}@" if section.user else ""
    return f"{scheme}://{user}{section.host}:{section.port}/{section.database}"


def options(section: RedisSection) -> dict[str, Any]:
    """Return how to connect, as redis-py's clients take it, waiting ones and others."""
    found: dict[str, Any] = {
        "host": section.host,
        "port": section.port,
        "db": section.database,
        "username": section.user or None,
        "password": os.environ.get(PASSWORD) or None,
        "socket_connect_timeout": CONNECT_S,
        "socket_timeout": ANSWER_S,
        "socket_keepalive": True,
    }
    if section.tls:
        found |= {"ssl": True, "ssl_ca_certs": section.tls_ca or None}
    return found


def connected(section: RedisSection, name: str) -> "redis.Redis":
    """Return a client, which connects when it is first used; ``name`` is what Redis calls it."""
    return redis.Redis(
        **options(section), client_name=name, retry=Retry(NoBackoff(), 0), protocol=2
    )


@contextmanager
def judged(place: str) -> Iterator[None]:
    """Turn what redis-py raises into an error that names the place."""
    try:
        yield
    except errors.RedisError as error:
        raise _judge(place, error) from None
    except OSError as error:
        raise CacheAwayError(f"{place}: {error.strerror or type(error).__name__}") from None


def _judge(place: str, error: errors.RedisError) -> CacheError:
    text = printable(" ".join((str(error) or type(error).__name__).split()))
    if isinstance(error, errors.AuthenticationError | errors.NoPermissionError):
        return CacheAwayError(f"{place}: {text}")
    if isinstance(error, errors.ConnectionError | errors.TimeoutError):
        return CacheAwayError(f"{place}: {text}")
    if isinstance(error, errors.ReadOnlyError | errors.OutOfMemoryError | errors.BusyLoadingError):
        return CacheAwayError(f"{place}: {text}")
    if str(error).startswith(_PASSES):
        return CacheAwayError(f"{place}: {text}")
    return CacheError(f"{place}: {text}")
