"""What reads over HTTP cost those who trade: two matchers at full load, alone and beside readers.

The load is that of ``bench.path``: eight clients with a flow encoded before, over the socket
protocol. In every other round 64 connections read books, orders and trades over HTTP meanwhile, as
fast as they are answered. What readers take is CPU time, of the workers and of the generator of
their load. The share that it is of what all of these had must be all by which the rate falls, and
an order must cost as much CPU time as without readers.
"""

import argparse
import contextlib
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from bench.http import API, prepare
from bench.http_load import HttpLoad, HttpRun, request
from bench.load import generators
from bench.measure import machine, table, versions
from bench.path import PIECE_BYTES, RESTING_ORDERS, WINDOW, Case, calibrate
from bench.products import Load, Round, configured, running_product
from bench.spread import spread
from bench.traffic import encode_traffic
from engine.config import Config, load_config

CLIENTS = 8
CONNECTIONS = 64
MOST_COMMANDS = 2_000_000
ROLES = ("matcher", "frontend", "persister", "generators")
READERS = ("http", "http load")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.http_reads", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="aimed at, for each round")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pin", action="store_true", help="pin the product's processes to cores")
    options = parser.parse_args(arguments)
    alone: list[Round] = []
    beside: list[Round] = []
    reads: list[HttpRun] = []
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="sb-", dir="/dev/shm")))
        senders = stack.enter_context(generators(1))
        config = _config(options.workers, options.pin)
        product = stack.enter_context(running_product(config))
        readers = HttpLoad()
        stack.callback(readers.close)
        product.pids["http load"] = [readers.pid]
        port = int(config.http.address.rpartition(":")[2])
        connections = _connections(prepare(port))
        # The order that is read rests where nobody trades.
        traded = [one for one in product.plan.instruments if one.symbol != "COOTX"]
        traffic = encode_traffic(
            scratch / "traffic",
            traded,
            CLIENTS,
            MOST_COMMANDS,
            1,
            RESTING_ORDERS * len(traded),
        )
        case = Case("", product, Load(CLIENTS, WINDOW // CLIENTS, PIECE_BYTES), traffic)
        calibrate(case, options.seconds, senders)
        for _ in range(options.rounds):
            alone.append(case.real_round(senders))
            readers.start(port, connections)
            beside.append(case.real_round(senders))
            reads.append(readers.stop())
    print(f"machine: {machine()}\nversions: {versions('uvicorn', 'uvloop', 'numba', 'msgspec')}")
    print(
        f"product: 2 matchers, {options.workers} HTTP workers, "
        f"{'' if options.pin else 'not '}pinned; load: bench.path's, {CLIENTS} clients, "
        f"{case.commands} commands a round; readers: {CONNECTIONS} connections, a third each of "
        f"books, orders and trades; rounds: {options.rounds}, alone and beside readers in turn\n"
    )
    print(_table(alone, beside, reads))
    print(f"\nto repeat: python -m bench.http_reads {' '.join(arguments or sys.argv[1:])}".rstrip())


def _config(workers: int, pin: bool) -> Config:
    config = configured(load_config(), 2, pin, None)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    http = msgspec.structs.replace(config.http, address=address, workers=workers)
    return msgspec.structs.replace(config, http=http)


def _connections(order_id: int) -> list[list[bytes]]:
    """Return what each connection asks over and over."""
    paths = (
        f"{API}/orderbook?symbol=GOOGL",
        f"{API}/orders/{order_id}",
        f"{API}/trades?symbol=AAPL&limit=100",
    )
    return [[request("GET", paths[turn % len(paths)])] for turn in range(CONNECTIONS)]


def _table(alone: list[Round], beside: list[Round], reads: list[HttpRun]) -> str:
    shares = [_cpu_ns(found, READERS) / _cpu_ns(found, (*ROLES, *READERS)) for found in beside]
    falls = [b.rate / a.rate for a, b in zip(alone, beside, strict=True)]
    left = [fall / (1 - share) for fall, share in zip(falls, shares, strict=True)]
    rows = [
        ["orders/s, thousand", _rates(alone), _rates(beside), spread(falls, 2)],
        ["reads/s", "", spread([run.rate for run in reads], 0), ""],
        ["readers' share of the CPU time", "", spread(shares, 2), ""],
        ["rate / (1 - share)", "", "", spread(left, 2)],
        _cost("CPU, us an order, without readers", ROLES, alone, beside),
    ]
    rows += [_cost(f"  {role}", (role,), alone, beside) for role in (*ROLES, *READERS)]
    used = [[_cpu_ns(r, (*ROLES, *READERS)) / 1e9 / r.seconds for r in x] for x in (alone, beside)]
    rows.append(["cores that all of these had", *(spread(found, 2) for found in used), ""])
    header = ["", "alone", "beside readers", "ratio"]
    return table("medians of the rounds (lowest..highest)", header, rows)


def _cost(name: str, roles: Sequence[str], alone: list[Round], beside: list[Round]) -> list[str]:
    a, b = ([_cpu_ns(r, roles) / r.commands / 1000 for r in rounds] for rounds in (alone, beside))
    ratio = "" if roles[0] in READERS else spread([y / x for x, y in zip(a, b, strict=True)], 2)
    return [name, spread(a, 3), spread(b, 3), ratio]


def _rates(rounds: list[Round]) -> str:
    return spread([found.rate / 1000 for found in rounds], 0)


def _cpu_ns(found: Round, roles: Sequence[str]) -> int:
    return sum(found.cpu_ns.get(role, 0) for role in roles)


if __name__ == "__main__":
    main()
