"""An API node: its reads beside a bare endpoint that asks Redis the same, and how soon it tells.

    python -m bench.nodes [--rounds N] [--seconds N] [--orders N] [--parts reads live]

Reads: the bare endpoint is the same server, with a handler that does the Redis calls by the same
client and answers with given bytes: HGETALL of the order, or the last 100 entries of the stream of
trades. Node and bare endpoint in turn, 64 connections each; the ratio is of rates.

Live: a client sends pairs of orders that trade at an even pace over the socket protocol; a
subscriber to trades of one symbol, and one to a user's own orders, take on the node how long ago
what they are told has happened.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import msgspec
import uvicorn
import uvloop

from bench import history
from bench.http import API, _ask, prepare
from bench.http_load import HttpLoad, HttpRun, request
from bench.measure import machine, table, versions
from bench.spread import spread
from engine.cache.names import Names
from engine.config import Config, FrontendSection, RedisSection, load_config
from engine.plan import Plan
from frontend.client import Client
from frontend.http.connection import Answer, Bounds, Call, Reply, connections
from frontend.launch import running_engine
from frontend.node.run import _client, run
from ipc.links.sockets import Address, listen
from ipc.records import shard_of
from tests.http import free_port
from tests.redis_server import redis_running
from tests.test_http_socket import Ws

CONNECTIONS = 64
PARTS = ("reads", "live")


def _bare(port: int, section: RedisSection, calls: dict[str, Any], ready: Any) -> None:
    """Answer by path, once Redis has: ``calls`` are what is asked, and the bytes of the answer."""

    async def serve() -> None:
        client = _client(section)
        tasks: set[asyncio.Task[None]] = set()

        async def answer(call: Call, reply: Reply) -> None:
            command, body = calls[call.path]
            await client.execute_command(*command)
            reply(Answer(200, body))

        def begin(call: Call, reply: Reply) -> None:
            task = asyncio.get_running_loop().create_task(answer(call, reply))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        config = uvicorn.Config(
            begin,  # type: ignore[arg-type]
            http=connections(Bounds(16_384, 1 << 20, 75), begin),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
        )
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(
            server.serve([listen(Address(host="127.0.0.1", port=port), shared=True)])
        )
        while not server.started:
            await asyncio.sleep(0.001)
        ready.set()
        await serving

    uvloop.run(serve())


@contextmanager
def process(target: Any, *arguments: Any) -> Iterator[None]:
    """Run a function in a process of its own."""
    running = multiprocessing.get_context("spawn").Process(
        target=target, args=arguments, daemon=True
    )
    running.start()
    try:
        yield
    finally:
        running.kill()
        running.join()


def reads(port: int, section: RedisSection, order_id: int, options: argparse.Namespace) -> str:
    """Return the table of reads."""
    names = Names(section.prefix)
    of_order = names.of(shard_of(order_id))
    shards = json.loads(_asked(port, f"{API}/symbols"))["symbols"]
    [shard] = [s.get("shard", 0) for s in shards if s["symbol"] == "AAPL"]
    stream = names.of(shard).trades("AAPL")
    paths = {
        f"{API}/orders/{order_id}": ("HGETALL", f"{of_order.order}{order_id}"),
        f"{API}/trades?symbol=AAPL&limit=100": ("XREVRANGE", stream, "+", "-", "COUNT", "100"),
    }
    calls = {
        path.partition("?")[0]: (command, _asked(port, path)) for path, command in paths.items()
    }
    bare, ready = free_port(), multiprocessing.get_context("spawn").Event()
    found: dict[str, tuple[list[HttpRun], list[HttpRun]]] = {path: ([], []) for path in paths}
    with process(_bare, bare, section, calls, ready):
        ready.wait(60)
        load = HttpLoad()
        for _ in range(options.rounds):
            for path, (real, beside) in found.items():
                asked = [[request("GET", path)]] * CONNECTIONS
                real.append(load.run(port, asked, options.seconds))
                beside.append(load.run(bare, asked, options.seconds))
        load.close()
    rows = []
    for path, (real, beside) in found.items():
        ratios = [a.rate / b.rate for a, b in zip(real, beside, strict=True)]
        rates = (spread([r.rate for r in runs], 0) for runs in (real, beside))
        rows.append(
            [
                path.partition(API)[2],
                *rates,
                spread(ratios, 2),
                f"{statistics.median(r.p50_s for r in real) * 1e6:.0f}",
                f"{statistics.median(r.p99_s for r in real) * 1e6:.0f}",
            ]
        )
    return table("reads", ["", "node/s", "bare/s", "ratio", "p50 us", "p99 us"], rows)


def live(plan: Plan, node: Plan, options: argparse.Namespace) -> str:
    """Return the table of ages."""
    stop = Event()
    with ThreadPoolExecutor(2) as pool, Client(plan.addresses()[0], "alice") as client:
        symbol = plan.instruments[0].symbol
        ready = [Event(), Event()]
        of_trades = pool.submit(_ages, node, ready[0], stop, "trades", {"symbol": symbol})
        of_user = pool.submit(_ages, node, ready[1], stop, "orders", {"user_id": "bob"})
        for one in ready:
            one.wait(60)
        pool_client = Client(plan.addresses()[0], "bob")
        late = 0
        begun = time.monotonic()
        history.ORDERS_S = options.orders
        with pool_client:
            second = 0
            while second < options.seconds:
                late += history.send_evenly(client, 1)
                second += 1
                pool_client.submit(symbol, "buy", 1, "0.01")
        took = time.monotonic() - begun
        time.sleep(1)
        stop.set()
        pool_client = Client(plan.addresses()[0], "carol")
        with pool_client:  # what wakes the subscribers
            pool_client.submit(symbol, "sell", 1, "1.00")
            pool_client.submit(symbol, "buy", 1, "1.00")
        with Client(plan.addresses()[0], "bob") as bob:
            bob.submit(symbol, "buy", 1, "0.01")
        results = {"trades": of_trades.result(), "orders of a user": of_user.result()}
    rows = []
    for name, ages in results.items():
        ages.sort()
        quantiles = (ages[min(len(ages) - 1, int(len(ages) * p))] / 1e6 for p in (0.5, 0.9, 0.99))
        rows.append([name, str(len(ages)), *(f"{q:.1f} ms" for q in quantiles)])
    rows.append([f"sends that began late: {late}, in {took:.0f} s", "", "", "", ""])
    return table(f"live, at {options.orders} orders/s", ["", "told", "p50", "p90", "p99"], rows)


def _ages(node: Plan, ready: Event, stop: Event, channel: str, fields: dict[str, str]) -> list[int]:
    ages: list[int] = []
    with Ws(node) as ws:
        ws.subscribe(channel, **fields)
        ready.set()
        while not stop.is_set():
            message = ws.receive()
            now = time.time_ns()
            told = message.get("trades") or [message]
            ages += [now - int(one["timestamp"]) for one in told if "timestamp" in one]
    return ages[:-2]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    print(f"{machine()}; {versions('uvicorn', 'uvloop', 'redis')}")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="sb-", dir="/dev/shm")))
        server = stack.enter_context(redis_running())
        section, entry, port = server.section(), free_port(), free_port()
        config = load_config()
        engine = msgspec.structs.replace(config.engine, pin=False)
        frontend = FrontendSection(tcp=f"127.0.0.1:{entry}")
        config = msgspec.structs.replace(config, engine=engine, redis=section, frontend=frontend)
        plan = stack.enter_context(running_engine(config, directory))
        http = msgspec.structs.replace(config.http, address=f"127.0.0.1:{port}")
        node_config: Config = msgspec.structs.replace(config, http=http)
        address = Address(host="127.0.0.1", port=entry)
        stack.enter_context(process(run, node_config, [address], ""))
        _asked(port, "/ready")
        if "reads" in options.parts:
            print(reads(port, section, prepare(port), options), flush=True)
        if "live" in options.parts:
            print(live(plan, Plan(node_config, directory), options), flush=True)


def _asked(port: int, path: str) -> bytes:
    """Return a good answer of a node, once it has one: the first commands of a shard fill it."""
    until_s = time.monotonic() + 60
    while True:
        try:
            return _ask(port, request("GET", path))
        except (OSError, AssertionError):
            assert time.monotonic() < until_s
            time.sleep(0.05)


if __name__ == "__main__":
    main()
