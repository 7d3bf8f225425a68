"""API nodes: one picture on all of them, that stands for what was answered; and Redis away."""

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
import redis.asyncio
import uvloop
from websockets.exceptions import ConnectionClosed

from engine.cache.names import Names
from engine.plan import Plan
from frontend.node.picture import Picture
from frontend.node.run import _client
from ipc.memory.status import StatusReader
from tests.caching import export
from tests.http import API, Http, free_port, http_section
from tests.kept import commands_for, plan_of, write_journal
from tests.nodes import Node, node_of, node_plan
from tests.product import config_text, make_config, running, until
from tests.redis_server import RedisServer, redis_running
from tests.test_http_socket import Rebuilt, Ws
from tests.test_snapshot import log_trades

pytestmark = pytest.mark.servers
SYMBOLS = ("AA", "BB", "CC", "DD")


class Desk(NamedTuple):
    """A product with a worker, and two nodes beside it."""

    server: RedisServer
    plan: Plan
    nodes: list[Node]

    @property
    def plans(self) -> list[Plan]:
        """Where HTTP is served: by the worker, and by each node."""
        return [self.plan, *(node_plan(self.plan, node) for node in self.nodes)]


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="sb-")))
        server = stack.enter_context(redis_running())
        entry = free_port()
        text = f'{server.text()}[frontend]\ntcp = "127.0.0.1:{entry}"\n'
        config = make_config(2, 4, text + http_section(free_port(), 1))
        plan = stack.enter_context(running(config, directory / "data"))
        nodes = [stack.enter_context(node_of(directory, server, entry)) for _ in range(2)]
        yield Desk(server, plan, nodes)


@pytest.fixture
def https(desk: Desk) -> Iterator[list[Http]]:
    """A client of the worker, and of each node."""
    with ExitStack() as stack:
        yield [stack.enter_context(Http(plan)) for plan in desk.plans]


def trade(https: list[Http], chance: random.Random, user: str, count: int) -> None:
    """Enter orders through all of them, some of which trade, and some are cancelled."""
    for _ in range(count):
        http, symbol = chance.choice(https), chance.choice(SYMBOLS)
        side, price = chance.choice(["buy", "sell"]), chance.randrange(90, 111)
        found = http.order(user, side, chance.randrange(1, 9), price, symbol=symbol)
        if found["status"] == "OPEN" and chance.random() < 0.3:
            reply = http.call("DELETE", f"{API}/orders/{found['order_id']}?user_id={user}")
            assert reply.status in (200, 409), reply.body


def shown(http: Http, users: list[str]) -> list[Any]:
    """Return what is shown, but for when."""
    paths = [f"/orderbook?symbol={symbol}&depth=20" for symbol in SYMBOLS]
    paths += [f"/orders?user_id={user}&limit=200" for user in users]
    paths += ["/trades?limit=1000", "/symbols", *(f"/candles?symbol={s}" for s in SYMBOLS)]
    found = [http.get(API + path) for path in paths]
    for body in found:
        del body["timestamp"]
        body.pop("sequence", None)  # of the last round in which a book was looked at
    return found


def test_all_show_the_same_while_users_trade_through_all(desk: Desk, https: list[Http]) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    users = [f"user-{n}" for n in range(4)]

    def user(name: str) -> None:
        chance = random.Random(f"{seed} {name}")
        with ExitStack() as stack:
            mine = [stack.enter_context(Http(plan)) for plan in desk.plans]
            trade(mine, chance, name, 40)

    threads = [threading.Thread(target=user, args=(name,)) for name in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = shown(https[0], users)
    assert any(body.get("trades") for body in wanted)
    for http in https[1:]:
        until(lambda http=http: shown(http, users) == wanted)  # type: ignore[misc]


def test_what_was_answered_is_seen_on_any_node(https: list[Http]) -> None:
    _, one, other = https
    for n in range(20):
        placed = one.call("POST", f"{API}/orders", order("reader", 1 + n))
        path = f"{API}/orders/{placed.body['order_id']}"
        assert one.get(path)["order"]["status"] == "OPEN"
        token = placed.headers["shardbook-sequence"]
        seen = other.call("GET", path, **{"Shardbook-Sequence": token})
        assert seen.body["order"]["status"] == "OPEN"
        assert int(seen.headers["shardbook-age-ms"]) < 60_000
        cancelled = other.call("DELETE", f"{path}?user_id=reader")
        assert cancelled.body["status"] == "CANCELLED"
        assert other.get(path)["order"]["status"] == "CANCELLED"
        again = one.call("DELETE", f"{path}?user_id=reader")
        assert (again.status, again.code) == (409, "ORDER_NOT_OPEN")


def order(user: str, price: int) -> dict[str, Any]:
    limit = {"order_type": "limit", "side": "buy", "quantity": 1, "symbol": "BB"}
    return limit | {"user_id": user, "price": price}


def test_what_was_answered_is_waited_for_when_its_session_has_ended(
    desk: Desk, https: list[Http]
) -> None:
    node, status = https[1], StatusReader(desk.plan.status_path)
    exporter, frontend = (
        next(p.pid for p in status.processes() if p.role == role) for role in ("redis", "frontend")
    )
    placed = [node.order("gone", "buy", 1, 1, symbol=symbol) for symbol in SYMBOLS]
    paths = [f"{API}/orders/{order['order_id']}" for order in placed]
    for path in paths:
        assert node.get(path)["order"]["status"] == "OPEN"
    os.kill(exporter, signal.SIGSTOP)
    try:
        for path in paths:
            assert node.call("DELETE", f"{path}?user_id=gone").status == 200
        os.kill(frontend, signal.SIGKILL)  # and with it all sessions end
        unknown = f"{API}/orders/{placed[-1]['order_id'] + 999}?user_id=gone"
        until(lambda: node.call("DELETE", unknown).status == 404)  # by a session that is new
        for path in paths:
            late = node.call("GET", f"{path}?user_id=gone")
            assert (late.status, late.code) == (503, "BUSY"), late.body
    finally:
        os.kill(exporter, signal.SIGCONT)
    for path in paths:
        until(lambda path=path: node.call("GET", path).status == 200)  # type: ignore[misc]
        assert node.get(path)["order"]["status"] == "CANCELLED"


def test_what_nobody_answers_is_not_waited_for_without_end(desk: Desk, https: list[Http]) -> None:
    node, status = https[1], StatusReader(desk.plan.status_path)
    worker, frontend = (
        next(p.pid for p in status.processes() if p.role == role) for role in ("query", "frontend")
    )
    placed = node.order("asked", "buy", 1, 1, symbol="AA", time_in_force="ioc")
    path = f"{API}/orders/{placed['order_id']}"
    os.kill(worker, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(node.call, "DELETE", f"{path}?user_id=asked")
            time.sleep(0.2)  # it is asked; else what follows refuses it
            os.kill(frontend, signal.SIGKILL)
            found = asked.result()
    finally:
        os.kill(worker, signal.SIGCONT)
    assert (found.status, found.code) == (503, "BUSY"), found.body
    until(lambda: node.call("DELETE", f"{path}?user_id=asked").status == 409)


def test_a_picture_is_as_old_as_what_was_written(tmp_path: Path, desk: Desk) -> None:
    plan = plan_of(tmp_path, desk.server.text("old"))
    write_journal(plan, commands_for(plan, 300))  # of years ago
    log_trades(plan)
    cache = export(plan)
    cache.shards[0]._checked_s = time.monotonic() + 3_600
    age_s = asyncio.run(age_of_picture(plan, desk.server, tmp_path / "one"))
    assert age_s > 86_400 * 365
    cache.shards[0]._checked_s = 0.0
    cache.step()  # sees that nothing more has come
    assert asyncio.run(age_of_picture(plan, desk.server, tmp_path / "two")) < 60
    cache.close()


async def age_of_picture(plan: Plan, server: RedisServer, directory: Path) -> float:
    """Return how old a picture says that it is, once there is one."""
    directory.mkdir()
    client = redis.asyncio.Redis(port=server.port, protocol=2)
    picture = Picture(
        client, "here", Names("old").of(0), plan.instruments_of(0), directory, 64, lambda: None
    )
    following = asyncio.ensure_future(picture.follow())
    while picture.away is not None:
        await asyncio.sleep(0.01)
    found = picture.age_s
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await client.aclose()
    return found


def test_a_connection_that_is_cut_while_it_is_made_is_a_failure_of_redis(desk: Desk) -> None:
    async def cut() -> None:
        client = _client(desk.server.section())
        connection = client.connection_pool.make_connection()
        await connection.connect()
        connection._writer.transport.abort()
        while await connection._reader.read(1):
            pass
        await asyncio.sleep(0.01)  # its transport is let go of
        with pytest.raises(redis.ConnectionError, match="the connection was cut"):
            await connection.send_command("PING", check_health=False)

    uvloop.run(cut())


def test_a_node_ends_that_cannot_follow_a_shard(tmp_path: Path, desk: Desk) -> None:
    plan = plan_of(tmp_path, desk.server.text("odd"))
    write_journal(plan, commands_for(plan, 300))
    log_trades(plan)
    export(plan).close()
    client, names = desk.server.client(), Names("odd")
    client.hset(names.of(0).position, "position", "seven")
    config = tmp_path / "node.toml"
    config.write_text(config_text(1, 2, desk.server.text("odd") + http_section(free_port(), 1)))
    node = Node(config, 0, free_port())
    try:
        until(lambda: node.process.poll() is not None)
        assert node.process.returncode == 1
    finally:
        node.end()


def test_what_is_not_here_in_time_is_refused(https: list[Http]) -> None:
    path = f"{API}/orderbook?symbol=AA"
    late = https[1].call("GET", path, **{"Shardbook-Sequence": "0=999999999"})
    assert (late.status, late.code, late.headers["retry-after"]) == (503, "BUSY", "1")
    wrong = https[1].call("GET", path, **{"Shardbook-Sequence": "x"})
    assert (wrong.status, wrong.code) == (400, "INVALID_REQUEST")


def test_a_depth_stream_comes_to_the_book(desk: Desk, https: list[Http]) -> None:
    chance = random.Random(3)
    with Ws(desk.plans[1]) as ws:
        ws.subscribe("depth", symbol="AA")
        book = Rebuilt(ws)
        trade(https, chance, "streamer", 60)
        https[1].order("streamer", "buy", 7, "0.07", symbol="AA")
        until(lambda: (book.next(), book.sides["bids"][-1:])[1] == [(7, 7, 1)])
    wanted = https[0].get(f"{API}/orderbook?symbol=AA&depth=64")
    for side in ("bids", "asks"):
        levels = [(100 * v["price"], v["quantity"], v["order_count"]) for v in wanted[side]]
        assert book.sides[side] == levels


def test_while_redis_is_away_orders_go_through_and_reads_say_so(
    desk: Desk, https: list[Http]
) -> None:
    node = https[1]
    with Ws(desk.plans[1]) as ws:
        ws.subscribe("trades", symbol="AA")
        desk.server.kill()
        until(lambda: node.call("GET", f"{API}/orderbook?symbol=AA").status == 503)
        with pytest.raises(ConnectionClosed, match="FEED_INTERRUPTED"):
            ws.drain()
    placed = node.order("away", "buy", 5, "3.00", symbol="CC")
    sold = node.order("home", "sell", 2, "3.00", symbol="CC")
    assert sum(trade["quantity"] for trade in sold["trades"]) == 2
    assert {trade["sell_order_id"] for trade in sold["trades"]} == {sold["order_id"]}
    path = f"{API}/orders/{placed['order_id']}"
    refused = node.call("GET", path)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert node.get("/health")["status"] == "healthy"
    assert node.call("GET", "/ready").status == 503
    cancelled = node.call("DELETE", f"{path}?user_id=away")
    assert (cancelled.status, cancelled.body["status"]) == (200, "CANCELLED")
    desk.server.start()
    until(lambda: node.call("GET", path).status == 200)
    assert node.get(path)["order"]["status"] == "CANCELLED"
    wanted = shown(https[0], ["away", "home"])
    for http in https[1:]:
        until(lambda http=http: quietly(http) and shown(http, ["away", "home"]) == wanted)  # type: ignore[misc]


def quietly(http: Http) -> bool:
    """Return whether reads are answered again."""
    return http.call("GET", f"{API}/orderbook?symbol=AA").status == 200
