"""``shardbook api``: one process that serves REST and WebSocket without a product beside it."""

import asyncio
import contextlib
import os
import signal
import ssl
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio
import uvloop
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from engine.cache.formats import InstrumentEntry
from engine.cache.link import ANSWER_S, CacheError, judged, options, where
from engine.cache.names import Names
from engine.children import FINISH
from engine.config import Config
from engine.plan import Plan
from engine.roles import Member, slots
from engine.sections import InstrumentSection, RedisSection
from engine.trade_log import lines
from frontend.http.api import Api
from frontend.http.docs import page
from frontend.http.manual import pages
from frontend.http.openapi import describe
from frontend.http.worker import serve_api
from frontend.node.app import NodeApp
from frontend.node.entry import NodeEntry
from frontend.node.state import NodeState
from frontend.roles import HTTP
from frontend.version import product_version
from ipc.instruments import Instrument
from ipc.links.sockets import Address
from ipc.memory.status import StatusWriter, create_status

CONNECTIONS = 64
"""To Redis, at the most."""
START_S = 30.0
"""How long a node that starts waits for Redis to have the instruments."""
_entries = msgspec.json.Decoder(InstrumentEntry)


class NodeError(Exception):
    """A node that cannot start; the text says why."""


class NodeApi(Api):
    """One node's parts. The keys of users who were here are kept, for order entry."""

    key_texts: dict[str, str]

    def user_of_key(self, key: bytes) -> str:
        """Return the user of a key. Raises ``ApiError``."""
        user_id = super().user_of_key(key)
        self.key_texts[user_id] = key.decode("latin-1")
        return user_id


class _Wakeup:
    """The word to stop: a signal."""

    def __init__(self) -> None:
        self.stopping = False
        self._reader, self._writer = os.pipe()

    def fileno(self) -> int:
        """Return what is readable never: signals come by the event loop."""
        return self._reader

    def wait(self, timeout_s: float | None) -> None:
        """Return at once."""


def run(config: Config, frontends: Sequence[Address], authority: str) -> None:
    """Serve until told to stop. Raises ``NodeError`` and ``CacheError``."""
    context = ssl.create_default_context(cafile=authority) if authority else None
    lines.warm()
    with tempfile.TemporaryDirectory(prefix="shardbook-api-") as directory:
        uvloop.run(_run(config, Path(directory), frontends, context))


async def _run(
    config: Config, directory: Path, frontends: Sequence[Address], context: ssl.SSLContext | None
) -> None:
    place = where(config.redis)
    client = _client(config.redis)
    plan = Plan(_with_instruments(config, await _instruments(client, config, place)), directory)
    plan.run_dir = directory
    plan.log_dir.mkdir(parents=True, exist_ok=True)
    create_status(plan.status_path, slots([Member(HTTP, 0, None)]))
    status = StatusWriter(plan.status_path, HTTP.name, 0)
    status.start(os.getpid(), time.time_ns())
    node = _Node(plan, client, place, frontends, context, status)
    following = [asyncio.ensure_future(p.follow()) for p in node.state.pictures.values()]
    for task in following:
        task.add_done_callback(_ended)
    loop, wakeup = asyncio.get_running_loop(), _Wakeup()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, os.kill, os.getpid(), FINISH)
    try:
        await serve_api(plan, 0, status, wakeup, node.api, node.app)
    finally:
        for task in following:
            task.cancel()
        ends = await asyncio.gather(*following, return_exceptions=True)
        with contextlib.suppress(Exception):
            await client.aclose()
    for end in ends:
        if isinstance(end, Exception):
            raise end


def _ended(following: "asyncio.Task[None]") -> None:
    """Have a node end that does not follow a shard any more: what it shows would stay as it is."""
    if not following.cancelled():
        os.kill(os.getpid(), FINISH)


def _client(section: RedisSection) -> Any:
    """Return what a node asks Redis by; a connection that was cut is made anew once, at once."""
    settings = options(section)
    secure = settings.pop("ssl", False)
    settings["connection_class"] = _SecureConnection if secure else _Connection
    retry = Retry(NoBackoff(), 1)
    pool: Any = redis.asyncio.BlockingConnectionPool(
        max_connections=CONNECTIONS, timeout=ANSWER_S, protocol=2, retry=retry, **settings
    )
    return redis.asyncio.Redis(connection_pool=pool)


class _Connection(redis.asyncio.Connection):
    """One to which uvloop's word for a connection that was cut is one, too."""

    async def send_packed_command(self, *arguments: Any, **more: Any) -> None:
        """Send. Raises ``RedisError``."""
        try:
            await super().send_packed_command(*arguments, **more)
        except RuntimeError as error:
            raise redis.ConnectionError(f"the connection was cut: {error}") from None


class _SecureConnection(_Connection, redis.asyncio.SSLConnection):
    """The same by TLS."""


class _Node:
    """The parts of a node, made."""

    def __init__(
        self,
        plan: Plan,
        client: Any,
        place: str,
        frontends: Sequence[Address],
        context: ssl.SSLContext | None,
        status: StatusWriter,
    ) -> None:
        settings, version = plan.config.http, product_version()
        keys: dict[str, str] = {}
        self.state = NodeState(plan, client, place, plan.run_dir, self._lost)
        markets = self.state.markets
        self.entry = NodeEntry(
            frontends,
            context,
            {market.number: market.shard for market in markets.all},
            lambda user_id: keys.get(user_id, ""),
            self.state.node_names.learn,
            status,
            settings.answer_timeout_s,
            settings.max_pending_orders,
        )
        self.state.made = self.entry.made
        symbols = [market.symbol for market in markets.all]
        description = describe(version, symbols, markets.default_symbol)
        body, docs = msgspec.json.encode(description), page(description, pages())
        entry: Any = self.entry
        self.api = NodeApi(plan, status, version, self.state, entry, body, docs)
        self.api.key_texts = keys

    def app(self, api: Api, admit: Any) -> NodeApp:
        """Return the application."""
        return NodeApp(api, admit, self.state, self.entry)

    def _lost(self) -> None:
        """Tell those who listen that nothing comes any more."""
        self.api.feeds.interrupt("FEED_INTERRUPTED", "what is streamed is away: connect anew")


async def _instruments(client: Any, config: Config, place: str) -> list[Instrument]:
    """Return the instruments that Redis has, once it has any. Raises ``NodeError``."""
    names = Names(config.redis.prefix)
    deadline = time.monotonic() + START_S
    while True:
        try:
            with judged(place):
                found = await client.hgetall(names.instruments)
        except CacheError as error:
            problem = str(error)
        else:
            if found:
                every = [_entries.decode(value).instrument() for value in found.values()]
                return sorted(every)
            problem = f"{place}: there are no keys that begin with {config.redis.prefix}"
        if time.monotonic() > deadline:
            raise NodeError(problem)
        await asyncio.sleep(0.1)


def _with_instruments(config: Config, found: list[Instrument]) -> Config:
    """Return a configuration with instruments as a product has them."""
    sections = [
        InstrumentSection(
            i.symbol,
            i.tick.text(1),
            i.lot.text(1),
            i.tick.text(i.min_price),
            i.tick.text(i.max_price),
            i.max_resting_orders,
            i.max_account_orders,
            i.shard,
            number=i.number,
        )
        for i in found
    ]
    retired = [s for s, i in zip(sections, found, strict=True) if i.retired]
    listed = [s for s, i in zip(sections, found, strict=True) if not i.retired]
    history = msgspec.structs.replace(config.history, sqlite=False)  # it lies with the product
    persister = msgspec.structs.replace(config.persister, directory="")
    engine = msgspec.structs.replace(
        config.engine, matchers=1 + max(i.shard for i in found), pin=False
    )
    return msgspec.structs.replace(
        config,
        instruments=listed,
        retired=retired,
        persister=persister,
        engine=engine,
        history=history,
    )
