"""How fast one client sends orders and reads answers as arrays, beside msgspec and a list.

    python -m bench.arrays [--orders N] [--runs N]

First the client's own work, in one thread: an order from a COMMAND to its frame, and an answer from
its frame to a REPORT. Then end to end, one client process and a product: an array, and the same
orders as a list of ``Order``. Medians of interleaved runs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from bench.measure import interleaved, machine, table, versions
from bench.products import configured, running_product
from bench.spread import spread
from engine.config import load_config
from frontend.client import Client
from frontend.client.array_exchange import PIECE
from frontend.client.blocking import Order
from ipc.records import COMMAND, REPORT
from ipc.vocabulary import CommandType, OrderType, Side, TimeInForce
from ipc.wire.client_codec import (
    AnswerReader,
    command_frames,
    command_message,
    report_records,
    warm,
)
from ipc.wire.frames import FrameSplitter, frame
from ipc.wire.matcher_codec import ReportEncoder
from ipc.wire.messages import MAX_BODY, server_decoder

LIST_PART = 20
"""A list has so many times fewer orders."""


def orders_of(count: int) -> np.ndarray:
    """Return orders over five symbols of which the second ten of each twenty take the first."""
    orders = np.zeros(count, COMMAND)
    number = np.arange(count)
    orders["command_type"], orders["order_type"] = CommandType.NEW, OrderType.LIMIT
    orders["time_in_force"], orders["symbol"] = TimeInForce.GTC, number % 5 + 1
    orders["side"] = np.where(number // 10 % 2, Side.SELL, Side.BUY)
    orders["price"], orders["quantity"] = 10_000 - number // 10 % 2, 100
    orders["request_id"] = (77 << 25) + number + 1
    return orders


def own_work(orders: np.ndarray, runs: int) -> str:
    """Return the table of encoding and decoding in one thread."""
    pieces = [orders[at : at + PIECE] for at in range(0, len(orders), PIECE)]
    reports = np.zeros(len(orders), REPORT)
    reports["command_type"], reports["account"] = CommandType.NEW, 9
    reports["request_id"], reports["order_id"] = orders["request_id"], orders["request_id"]
    encoder = ReportEncoder()
    encoder.open_stream(1, 9)
    answers = [encoder.encode(reports[at : at + 1024]) for at in range(0, len(orders), 1024)]
    first = int(orders["request_id"][0])

    def encode() -> None:
        for piece in pieces:
            command_frames(piece)

    def encode_plain() -> None:
        for piece in pieces:
            b"".join([frame(command_message(row)) for row in piece.tolist()])

    def decode() -> None:
        reader, found = AnswerReader(MAX_BODY), np.zeros(len(orders), REPORT)
        read = sum(reader.read(data, 0, False, first, found).answered for data in answers)
        assert read == len(orders)

    def decode_plain() -> None:
        for data in answers:
            bodies = FrameSplitter(MAX_BODY).feed(data)
            report_records([server_decoder.decode(body) for _, body in bodies][:1])

    contenders: dict[str, Callable[[], Callable[[], object]]] = {
        "orders to frames": lambda: encode,
        "the same, msgspec one by one": lambda: encode_plain,
        "answers to records": lambda: decode,
        "the same, msgspec one by one, not even into records": lambda: decode_plain,
    }
    found = interleaved(contenders, runs)
    rows = [
        [name, f"{timing.cpu_ns / len(orders):.0f}", f"{len(orders) / timing.cpu_ns * 1e3:.2f}"]
        for name, timing in found.items()
    ]
    return table("The client's own work", ["", "CPU ns an order", "million/s"], rows)


def end_to_end(orders: np.ndarray, runs: int) -> str:
    """Return the table of orders a second from one client process to a product and back."""
    listed = orders[: len(orders) // LIST_PART]
    rates: dict[str, list[float]] = {"an array": [], "a list of orders": []}
    costs: dict[str, list[float]] = {name: [] for name in rates}
    with ExitStack() as stack:
        product = stack.enter_context(running_product(configured(load_config(), 1, True, None)))
        address = product.plan.addresses()[0]
        client = stack.enter_context(Client(address, "arrays", max_reports=4 * len(orders)))
        names = {listing.number: listing.symbol for listing in client.instruments}
        as_list = [
            Order(names[symbol], Side(side), quantity, str(price / 100))
            for symbol, side, quantity, price in listed[
                ["symbol", "side", "quantity", "price"]
            ].tolist()
        ]
        todo: dict[str, tuple[int, Callable[[], object]]] = {
            "an array": (len(orders), lambda: client.submit_array(orders)),
            "a list of orders": (len(listed), lambda: client.submit_batch(as_list)),
        }
        for turn in range(runs + 2):  # the first two pay for what is done once
            for name, (count, run) in todo.items():
                wall, cpu = time.perf_counter(), time.process_time()
                run()
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                client.receive_array(timeout_s=0.2)
                client.cancel_all()
                client.receive_array(timeout_s=0)
                if turn > 1:
                    rates[name].append(count / wall / 1e3)
                    costs[name].append(cpu / count * 1e6)
    rows = [[name, spread(rates[name], 0), spread(costs[name], 2)] for name in rates]
    base = statistics.median(rates["a list of orders"])
    rows[0].append(f"{statistics.median(rates['an array']) / base:.0f}")
    rows[1].append("1")
    header = ["", "1000 orders/s", "client's CPU us an order", "ratio"]
    return table("One client process to one matcher and back, every order answered", header, rows)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.arrays", description=__doc__)
    parser.add_argument("--orders", type=int, default=400_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    warm()
    orders = orders_of(options.orders)
    print(f"machine: {machine()}")
    print(f"versions: {versions('numpy', 'numba', 'msgspec')}")
    print(f"{options.orders} orders, {options.runs} runs\n")
    print(own_work(orders[:100_000], options.runs), end="\n\n")
    print(end_to_end(orders, options.runs))


if __name__ == "__main__":
    main()
