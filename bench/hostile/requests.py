"""Attacks over HTTP: on its connections and parser, on what reads cost, and on order entry."""

import asyncio
import json

from bench.hostile.foe import API, MOST_LINES, Foe, attack

HOLD_S = 60.0
"""Of attacks that keep a connection as long as they can."""
PIECE = b"x" * 60_000


def _chunked(foe: Foe, path: str = f"{API}/orders") -> bytes:
    return foe.request(
        "POST", path, b"", "Transfer-Encoding: chunked", "Content-Type: application/json"
    )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# Connections and parser --------------------------------------------------------------------------


@attack(HOLD_S)
async def slow_headers(foe: Foe) -> None:
    """A request whose headers come one a second, without end."""
    lines = [await foe.http() for _ in range(4)]
    for line in lines:
        await line.send(b"GET /health HTTP/1.1\r\nHost: x\r\n")
    for number in range(100):
        for line in lines:
            await line.send(b"X-%d: y\r\n" % number)
        await asyncio.sleep(1)


@attack(HOLD_S)
async def slow_body(foe: Foe) -> None:
    """A request whose body comes byte by byte."""
    line = await foe.http()
    data = foe.request("POST", f"{API}/orders", foe.order())
    await line.send(data[:-50])
    for byte in data[-50:]:
        await line.send(bytes([byte]))
        await asyncio.sleep(1)


@attack()
async def endless_chunks(foe: Foe) -> None:
    """A chunked body that never ends."""
    line = await foe.http()
    line.drink()
    await line.send(_chunked(foe))
    for _ in range(2_000):
        await line.send(_chunk(PIECE))


@attack()
async def chunks_of_one_byte(foe: Foe) -> None:
    """A body in chunks of one byte each."""
    line = await foe.http()
    line.drink()
    await line.send(_chunked(foe))
    for _ in range(100):
        await line.send(_chunk(b" ") * 5_000)


@attack()
async def endless_trailers(foe: Foe) -> None:
    """A chunked request whose trailer fields never end, without a key."""
    line = await foe.http()
    line.drink()
    head = foe.request("GET", "/health", b"", "Transfer-Encoding: chunked", key=False)
    await line.send(head + b"0\r\n")
    for number in range(2_500):
        await line.send(b"X-%d: %b\r\n" % (number, PIECE))


@attack()
async def small_trailers(foe: Foe) -> None:
    """The same in very many small trailer fields."""
    line = await foe.http()
    line.drink()
    head = foe.request("GET", "/health", b"", "Transfer-Encoding: chunked", key=False)
    await line.send(head + b"0\r\n")
    for _ in range(500):
        await line.send(b"a: b\r\n" * 5_000)


@attack()
async def key_in_a_trailer(foe: Foe) -> None:
    """A request that is authenticated by a trailer field alone, and one with two keys."""
    line = await foe.http()
    head = foe.request(
        "GET", f"{API}/orders?user_id={foe.user}", b"", "Transfer-Encoding: chunked", key=False
    )
    await line.send(head + b"0\r\nX-API-Key: " + foe.key.encode() + b"\r\n\r\n")
    await line.receive()
    two = f"X-API-Key: {foe.key}", "X-API-Key: none", "Authorization: Bearer none"
    await line.send(foe.request("GET", f"{API}/orders?user_id={foe.user}", b"", *two))
    await line.receive()


@attack()
async def chunk_extensions(foe: Foe) -> None:
    """Chunk extensions without end."""
    line = await foe.http()
    line.drink()
    await line.send(_chunked(foe) + b"1")
    for _ in range(1_000):
        await line.send(b";" + PIECE)


@attack()
async def huge_headers(foe: Foe) -> None:
    """Headers and targets beyond every bound, as one and as very many."""
    for data in (
        b"GET /%b HTTP/1.1\r\n" % (PIECE * 4),
        b"GET / HTTP/1.1\r\nX: %b" % (PIECE * 10),
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 50_000,
    ):
        line = await foe.http()
        await line.send(data)
        await line.ended()


@attack()
async def smuggling(foe: Foe) -> None:
    """Requests whose length can be read in two ways, with another one inside."""
    inner = foe.request("DELETE", f"{API}/orders?user_id=nobody", key=False)
    for shape in (
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Content-Length: 4", "Content-Length: 400"),
        ("Transfer-Encoding: xchunked", "Content-Length: 4"),
        ("Transfer-Encoding: identity, chunked",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding:\tchunked", "Content-Length: +4"),
        ("Content-Length: 0x4",),
        ("X: y\n Content-Length: 4",),
    ):
        line = await foe.http()
        await line.send(foe.request("POST", f"{API}/orders", b"", *shape) + b"0\r\n\r\n" + inner)
        await line.receive()
        foe.drop(line)


@attack()
async def odd_beginnings(foe: Foe) -> None:
    """What is no HTTP/1.1: another protocol's preface, other versions, random bytes."""
    for data in (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 9_000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        foe.dice.randbytes(50_000),
        b"\r\n" * 30_000,
    ):
        line = await foe.http()
        await line.send(data)
        await line.ended()


@attack()
async def pipelined_reads(foe: Foe) -> None:
    """Reads in one piece by the thousand, answers read."""
    line = await foe.http()
    line.drink()
    block = foe.request("GET", f"{API}/trades?limit=1000") * 1_000
    for _ in range(20):
        await line.send(block)


@attack()
async def answers_unread(foe: Foe) -> None:
    """The longest answers there are, asked for without end and not read."""
    line = await foe.http()
    block = foe.request("GET", "/openapi.json") + foe.request("GET", f"{API}/trades?limit=1000")
    for _ in range(500):
        await line.send(block * 100)


@attack()
async def orders_then_an_error(foe: Foe) -> None:
    """Pipelined orders, and behind them what cannot be parsed."""
    line = await foe.http()
    orders = foe.request("POST", f"{API}/orders", foe.order(time_in_force="IOC")) * 20
    await line.send(orders + b"GET /\x00 HTTP/1.1\r\n\r\n")
    await line.ended()


@attack(HOLD_S)
async def expect_without_a_body(foe: Foe) -> None:
    """Requests that expect 100-continue, and whose body never comes."""
    lines = [await foe.http() for _ in range(MOST_LINES)]
    for line in lines:
        head = ("Expect: 100-continue", "Content-Length: 1000000")
        await line.send(foe.request("POST", f"{API}/orders", b"", *head))
    for line in lines:
        await line.ended()


@attack()
async def http_churn(foe: Foe) -> None:
    """Connections that end by an RST in the midst of a request, or at once."""
    data = foe.request("POST", f"{API}/orders", foe.order())
    for _ in range(100):
        line = await foe.http()
        await line.send(data[: foe.dice.randrange(1, len(data))])
        line.reset()
        foe.drop(line)


@attack()
async def heads_never_seen(foe: Foe) -> None:
    """Requests of which each has a head, a path and a query of its own."""
    line = await foe.http()
    line.drink()
    for _ in range(100):
        asked = [foe.dice.randbytes(200).hex() for _ in range(50)]
        await line.send(
            b"".join(foe.request("GET", f"/{a[:99]}?{a}", b"", f"X-{a[:9]}: {a}") for a in asked)
        )


@attack()
async def forged_hosts(foe: Foe) -> None:
    """Other hosts, origins and forwarded addresses, as a browser would send them for a stranger."""
    line = await foe.http()
    line.drink()
    forged = (
        "Origin: https://evil.example",
        "Host: evil.example",
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1",
        "X-HTTP-Method-Override: DELETE",
    )
    for _ in range(50):
        await line.send(foe.request("OPTIONS", f"{API}/orders", b"", *forged, key=False) * 20)
        await line.send(foe.request("GET", f"{API}/orders", b"", *forged, key=False) * 20)


@attack()
async def wrong_keys(foe: Foe) -> None:
    """Requests with keys that are none."""
    line = await foe.http()
    line.drink()
    for _ in range(200):
        key = f"Authorization: Bearer {foe.dice.randbytes(32).hex()}"
        await line.send(foe.request("GET", f"{API}/orders", b"", key, key=False) * 20)


# Bodies and orders -------------------------------------------------------------------------------


@attack()
async def deep_json(foe: Foe) -> None:
    """Objects and lists in one another, as deep as a body is long."""
    line = await foe.http()
    line.drink()
    for body in (b"[" * 1_000_000, b'{"a":' * 200_000, b'{"orders":' + b"[" * 900_000):
        for path in ("orders", "orders/batch"):
            await line.send(foe.request("POST", f"{API}/{path}", body))


@attack()
async def huge_numbers(foe: Foe) -> None:
    """Prices, quantities and ids of very many digits or exponents."""
    line = await foe.http()
    line.drink()
    for number in ("9" * 900_000, "1e999999999", "1e-999999999", "0." + "0" * 900_000 + "1"):
        for field in ("price", "quantity", "client_order_id"):
            order = foe.order(**{field: 0}).replace(f'"{field}": 0'.encode(), b"@")
            body = order.replace(b"@", f'"{field}": {number}'.encode())
            await line.send(foe.request("POST", f"{API}/orders", body))
            quoted = order.replace(b"@", f'"{field}": "{number}"'.encode())
            await line.send(foe.request("POST", f"{API}/orders", quoted))


@attack()
async def full_batches(foe: Foe) -> None:
    """Batches of a thousand orders, four at a time."""
    orders = [json.loads(foe.order(time_in_force="IOC"))] * 1_000
    data = foe.request("POST", f"{API}/orders/batch", json.dumps({"orders": orders}).encode())
    lines = [await foe.http() for _ in range(4)]
    for _ in range(5):
        for line in lines:
            await line.send(data)
        for line in lines:
            await line.receive()


@attack()
async def wrong_batches(foe: Foe) -> None:
    """Batches of orders that are all wrong, each in another way."""
    line = await foe.http()
    line.drink()
    wrong = [{"side": "up"}, {"price": -1}, 7, [], {"symbol": "none"}, {"a": "b"}] * 160
    body = json.dumps({"orders": wrong}).encode()
    for _ in range(20):
        await line.send(foe.request("POST", f"{API}/orders/batch", body))


@attack()
async def cancels_of_new_users(foe: Foe) -> None:
    """Mass cancels over HTTP for user_ids that nobody has had."""
    line = await foe.http()
    line.drink()
    for _ in range(100):
        users = [foe.dice.randbytes(8).hex() for _ in range(50)]
        paths = [f"{API}/orders?user_id=new-{user}" for user in users]
        await line.send(b"".join(foe.request("DELETE", path) for path in paths))


# Reads -------------------------------------------------------------------------------------------


async def _asks(foe: Foe, *paths: str) -> None:
    """Ask for one after the other on each of a few connections, as soon as there is an answer."""
    lines = [await foe.http() for _ in range(4)]
    for _ in range(25):
        for line in lines:
            await line.send(foe.request("GET", foe.dice.choice(paths)))
        for line in lines:
            await line.receive()


@attack()
async def orders_of_a_rare_status(foe: Foe) -> None:
    """Lists of orders that have to be looked for in the whole table."""
    path = f"{API}/orders?user_id={foe.user}&limit=1000"
    statuses = ("rejected", "partial", "filled", "cancelled")
    await _asks(foe, path, *(f"{path}&status={status}&side=sell" for status in statuses))


@attack()
async def old_trades(foe: Foe) -> None:
    """Pages of trades that have to be looked for in the log."""
    shards = range(foe.scene.matchers)
    ends = [foe.dice.randrange(10**18, 2 * 10**18) for _ in range(20)]
    cursor = "1.0" + "".join(".9000000000" for _ in shards)
    paths = [f"{API}/trades?limit=1000&to={end}" for end in ends]
    paths += [f"{API}/trades?limit=1000&cursor={cursor}", f"{API}/trades?from=1&limit=1000"]
    await _asks(foe, *paths)


@attack()
async def candles(foe: Foe) -> None:
    """Candles of all intervals, each question another one."""
    intervals = ("1m", "5m", "1h", "1d")
    await _asks(
        foe,
        *(
            f"{API}/candles?symbol={foe.symbol_name}&interval={interval}&limit=1000"
            f"&to={foe.dice.randrange(10**18, 2 * 10**18)}"
            for interval in intervals
            for _ in range(5)
        ),
    )


@attack()
async def pages_and_metrics(foe: Foe) -> None:
    """The longest pages: metrics, description, documentation."""
    await _asks(foe, "/metrics", "/openapi.json", "/docs", f"{API}/symbols")
