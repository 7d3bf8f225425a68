"""REST, beside bare endpoints of the same server that answer with the same bytes.

Each round runs every case on the product and on the bare endpoints, one after the other, with the
same number of workers. ``bare`` is uvicorn as it comes with the smallest ASGI application there can
be, ``direct`` the product's own connection class, which takes a shorter way through uvicorn.
Orders: each connection is a user of its own, and half of the orders rest, half take them. The load
generator is a process on the same machine: it costs all alike.
"""

import argparse
import contextlib
import json
import socket
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from bench.bare_http import bare_http
from bench.http_load import HttpLoad, HttpRun, request
from bench.measure import machine, table, versions
from bench.spread import spread
from engine.config import Config, load_config
from frontend.launch import running_engine

API = "/api/v1"
CONNECTIONS = (1, 8, 64)
BATCH = 10
LEVELS = 20
OTHER_TO, OTHERS = 9 * 10**18, 6_400
"""Times far ahead, and how many of them: questions that nobody has asked before."""


@dataclass
class Case:
    """One kind of request, from so many connections; ``weight`` orders in each."""

    name: str
    path: str
    connections: list[list[bytes]]
    weight: int = 1
    real: list[HttpRun] = field(default_factory=list)
    asgi: list[HttpRun] = field(default_factory=list)
    direct: list[HttpRun] = field(default_factory=list)


def _order(user: int, turn: int) -> dict[str, object]:
    """Return an order of a pair: a sale that rests, then a purchase that takes it."""
    side = ("sell", "buy")[turn % 2]
    price = f"{200 + user}.00"
    return {
        "user_id": f"bench-{user}",
        "symbol": ("AAPL", "MSFT")[user % 2],
        "order_type": "limit",
        "side": side,
        "price": price,
        "quantity": 1,
        "time_in_force": "GTC",
    }


def _cases(order_id: int) -> list[Case]:
    cases = []
    for count in CONNECTIONS:
        single = [
            [
                request("POST", f"{API}/orders", json.dumps(_order(user, turn)).encode())
                for turn in range(2)
            ]
            for user in range(count)
        ]
        cases.append(Case(f"POST /orders, {count} c", f"{API}/orders", single))
    for count in CONNECTIONS:
        batches = [
            [
                request(
                    "POST",
                    f"{API}/orders/batch",
                    json.dumps({"orders": [_order(user, turn) for turn in range(BATCH)]}).encode(),
                )
            ]
            for user in range(count)
        ]
        name = f"batches of {BATCH}, {count} c"
        cases.append(Case(name, f"{API}/orders/batch", batches, BATCH))
    for name, path in (
        ("GET /orderbook, 64 c", f"{API}/orderbook?symbol=COOTX"),
        ("GET /orders/{id}, 64 c", f"{API}/orders/{order_id}"),
        ("GET /trades?limit=100, 64 c", f"{API}/trades?symbol=AAPL&limit=100"),
    ):
        cases.append(Case(name, path, [[request("GET", path)]] * 64))
    path = f"{API}/trades?symbol=AAPL&limit=100"
    others = [request("GET", f"{path}&to={OTHER_TO - turn}") for turn in range(OTHERS)]
    shift = OTHERS // 64
    spread_out = [others[shift * user :] + others[: shift * user] for user in range(64)]
    cases.append(Case("the same, each another", path, spread_out))
    return cases


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.http", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each run")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--pin", action="store_true", help="pin the product's processes to cores")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="sb-", dir="/dev/shm")))
        config = _config(options.workers, options.pin)
        stack.enter_context(running_engine(config, directory))
        port = int(config.http.address.rpartition(":")[2])
        load = HttpLoad()
        stack.callback(load.close)
        cases = [case for case in _cases(prepare(port)) if options.only in case.name]
        answers = {case.path.partition("?")[0]: _answer(port, case) for case in cases}
        asgi, direct = (
            stack.enter_context(bare_http(kind, options.workers, answers))
            for kind in ("asgi", "direct")
        )
        for _ in range(options.rounds):
            for case in cases:
                case.real.append(load.run(port, case.connections, options.seconds))
                case.asgi.append(load.run(asgi, case.connections, options.seconds))
                case.direct.append(load.run(direct, case.connections, options.seconds))
    print(_heading(options))
    rows = [_row(case) for case in cases]
    header = ["", "a second", "bare", "ratio", "direct", "ratio", "orders/s"]
    header += ["p50 us", "p99 us", "bare p50 us"]
    print(table("medians of the rounds (lowest..highest)", header, rows))
    print(f"\nto repeat: python -m bench.http {' '.join(arguments or sys.argv[1:])}".rstrip())


def _config(workers: int, pin: bool) -> Config:
    config = load_config()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    http = msgspec.structs.replace(config.http, address=address, workers=workers)
    engine = msgspec.structs.replace(config.engine, pin=pin)
    return msgspec.structs.replace(config, http=http, engine=engine)


def prepare(port: int) -> int:
    """Fill a book that is read, and make trades; return the id of an order that rests."""
    order_id = 0
    for level in range(LEVELS):
        for side, price in (("buy", 100 - level), ("sell", 101 + level)):
            order = {"user_id": "maker", "symbol": "COOTX", "order_type": "limit", "quantity": 10}
            order |= {"side": side, "price": price}
            answer = _ask(port, request("POST", f"{API}/orders", json.dumps(order).encode()))
            order_id = json.loads(answer)["order_id"]
    pair = {"orders": [_order(0, turn) for turn in range(300)]}
    _ask(port, request("POST", f"{API}/orders/batch", json.dumps(pair).encode()))
    return int(order_id)


def _ask(port: int, data: bytes) -> bytes:
    """Send one request; return the body of its answer."""
    head, _, body = data.partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
        found = b""
        while piece := sock.recv(1 << 16):
            found += piece
    assert found.startswith(b"HTTP/1.1 200"), found[:400]
    return found.partition(b"\r\n\r\n")[2]


def _answer(port: int, case: Case) -> bytes:
    """Return what the product answers to a case, as the bare endpoint is going to."""
    answers = [_ask(port, data) for data in case.connections[0]]
    return sorted(answers, key=len)[len(answers) // 2]


def _row(case: Case) -> list[str]:
    real = [run.rate for run in case.real]
    asgi, direct = [run.rate for run in case.asgi], [run.rate for run in case.direct]
    orders = statistics.median(real) * case.weight if case.path.startswith(f"{API}/orders") else 0
    if "GET" in case.name:
        orders = 0

    def us(runs: list[HttpRun], name: str) -> str:
        return f"{statistics.median(getattr(run, name) for run in runs) * 1e6:.0f}"

    return [
        case.name,
        spread(real, 0),
        spread(asgi, 0),
        spread([a / b for a, b in zip(real, asgi, strict=True)], 2),
        f"{statistics.median(direct):.0f}",
        spread([a / b for a, b in zip(real, direct, strict=True)], 2),
        f"{orders:.0f}" if orders else "",
        us(case.real, "p50_s"),
        us(case.real, "p99_s"),
        us(case.asgi, "p50_s"),
    ]


def _heading(options: argparse.Namespace) -> str:
    return "\n".join(
        [
            f"machine: {machine()}",
            f"versions: {versions('uvicorn', 'httptools', 'uvloop', 'msgspec')}",
            f"product: {options.workers} HTTP workers, {'' if options.pin else 'not '}pinned, "
            f"5 symbols, 2 matchers; one load generator; rounds: {options.rounds} of "
            f"{options.seconds:.1f} s a case, product and bare endpoint in turn",
            "c: keep-alive connections, one request under way on each; bare: an ASGI application "
            "on uvicorn; direct: the product's connection class, too; the same number of workers, "
            "answering the same bytes",
            "",
        ]
    )


if __name__ == "__main__":
    main()
