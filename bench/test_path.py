"""The path under pytest-benchmark, and tests that its load and its bare chain are what they say.

``pytest bench --benchmark-only`` times a small load; ``python -m bench.path`` prints all there is.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bench.answers import COUNTS, Counts, count_frames
from bench.bare_chain import Proportion
from bench.clients import NO_TIMES
from bench.latency import WARM_ORDERS, OneAtATime, OpenLoop
from bench.load import ClientRun, Generators, generators
from bench.products import Load, Product, WrongCountError, bare_product, configured, running_product
from bench.simulated_flow import SimulatedFlow
from bench.traffic import CHUNK, Traffic, encode_traffic
from engine.config import load_config
from ipc.records import COMMAND, REPORT
from ipc.vocabulary import LISTS, CommandType, ExecType, Reason
from ipc.wire.client_codec import command_frames
from ipc.wire.frames import frame
from ipc.wire.matcher_codec import CommandDecoder, ReportEncoder
from ipc.wire.messages import MAX_BODY, MassCancelReport, Pong, Reject

CLIENTS = 8
COMMANDS = 20_000
LOAD = Load(CLIENTS, 1_024, 1 << 16)


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with running_product(configured(load_config(), 2, False, None)) as running:
        yield running


@pytest.fixture(scope="module")
def senders() -> Iterator[Generators]:
    with generators(1) as started:
        yield started


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Traffic:
    directory = tmp_path_factory.mktemp("traffic") / "flow"
    return encode_traffic(directory, load_config().listed(), CLIENTS, COMMANDS, 1, 4_000)


def test_orders_from_the_socket_to_the_log(
    benchmark: Any, product: Product, senders: Generators, traffic: Traffic
) -> None:
    benchmark.extra_info["orders"] = COMMANDS
    found = benchmark.pedantic(
        product.round, (LOAD, traffic, COMMANDS, senders), rounds=5, warmup_rounds=1
    )
    assert found.commands == COMMANDS


def test_the_frames_are_the_commands_of_the_flow() -> None:
    flow = SimulatedFlow(load_config().listed(), [7], [1])
    flow.chunk(2_000)  # of new orders only: there is nothing to cancel yet
    commands = flow.chunk(2_000)
    decoder = CommandDecoder(MAX_BODY)
    decoder.open_stream(0, 7)
    decoder.feed(command_frames(commands)[0])
    decoded = np.zeros(len(commands), COMMAND)
    assert decoder.read(decoded, 0, 0) == (len(commands), None)
    assert set(np.unique(commands["command_type"])) == set(CommandType) - set(LISTS)
    assert np.array_equal(decoded, commands)


def test_a_traffic_holds_every_command_of_every_client_once(traffic: Traffic) -> None:
    shares = [traffic.share(client) for client in range(CLIENTS)]
    ids = np.concatenate([share.request_ids for share in shares])
    assert np.array_equal(np.sort(ids), np.arange(1, traffic.commands + 1))
    assert traffic.commands == -(-COMMANDS // CHUNK) * CHUNK
    for share in shares:
        part = share.first(1_000)
        assert part.request_ids.max() <= 1_000 < share.request_ids[len(part.ends)]
        assert len(part.frames) == part.ends[-1] < len(share.frames) == share.ends[-1]


def test_only_the_first_answer_to_a_command_counts() -> None:
    kinds = [
        (ExecType.NEW, CommandType.NEW, 1),
        (ExecType.TRADE, CommandType.NEW, 1),
        (ExecType.TRADE, CommandType.NEW, 0),  # the maker's
        (ExecType.CANCELED, CommandType.NEW, 1),  # what is left of an IOC order
        (ExecType.CANCELED, CommandType.CANCEL, 2),
        (ExecType.CANCELED, CommandType.REDUCE, 3),
        (ExecType.REPLACED, CommandType.REPLACE, 2**40),
        (ExecType.REJECTED, CommandType.NEW, 5),
        (ExecType.CANCELED, CommandType.MASS_CANCEL, 0),
        (ExecType.MASS_CANCELED, CommandType.MASS_CANCEL, 6),
    ]
    reports = np.zeros(len(kinds), REPORT)
    for name, values in zip(
        ("exec_type", "command_type", "request_id"), zip(*kinds, strict=True), strict=True
    ):
        reports[name] = values
    reports["account"], reports["reason"] = 9, Reason.UNKNOWN_ORDER
    encoder = ReportEncoder()
    encoder.open_stream(1, 9)
    # As a frontend writes them: integers as short as they can be.
    short = frame(Reject(1, 1, 7, 0, 0, 50, "BUSY", "", "", 0, 0, 0)) + frame(
        MassCancelReport(0, 300, 0, 0, 0, 0)
    )
    data = np.frombuffer(bytes(encoder.encode(reports)) + short + b"\0" * 7, np.uint8)
    counts, times = np.zeros(COUNTS, np.int64), np.zeros(8, np.int64)
    assert count_frames(data, len(data), counts, times, 4) == (len(data) - 7, True)
    ids = [1, 2, 3, 2**40, 5, 6, 7, 300]
    assert Counts(*counts.tolist()) == Counts(len(ids), sum(ids), 8, 2, 2)
    assert times.tolist() == [0, 4, 4, 4, 0, 4, 4, 4]


def test_a_frame_that_answers_nothing_is_noticed() -> None:
    data = np.frombuffer(frame(Pong(1)), np.uint8)
    assert count_frames(data, len(data), np.zeros(COUNTS, np.int64), NO_TIMES, 0) == (0, False)


def test_a_round_counts_every_answer_and_logs_every_trade(
    product: Product, senders: Generators, traffic: Traffic
) -> None:
    found = product.round(LOAD, traffic, COMMANDS, senders)
    assert found.commands == COMMANDS
    assert 0 < found.answered_s <= found.seconds
    assert found.trades > 0
    assert found.cpu_ns["matcher"] > 0


def test_a_trade_too_many_is_noticed(
    product: Product, senders: Generators, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = iter([0, 1 << 40])
    monkeypatch.setattr(product, "published", lambda: next(published))
    with pytest.raises(WrongCountError):
        product.round(LOAD, traffic, COMMANDS, senders)


def test_the_bare_chain_moves_as_many_bytes(
    product: Product, senders: Generators, traffic: Traffic
) -> None:
    proportion = Proportion(789, 123)
    found = product.bare_round(LOAD, traffic, COMMANDS, senders, proportion)
    sizes = [len(traffic.share(client).first(COMMANDS).frames) for client in range(CLIENTS)]
    assert found.command_bytes == sum(sizes)
    # Owed by each of two matchers, rounded down.
    assert found.answer_bytes == sum(
        proportion.owed((size + 1) // 2) + proportion.owed(size // 2) for size in sizes
    )


def test_every_order_of_an_open_loop_has_its_latency(
    product: Product, senders: Generators, traffic: Traffic
) -> None:
    orders = CLIENTS * 1_000
    jobs = {
        "open loop": lambda target, prefix: OpenLoop(
            target, traffic.directory, range(CLIENTS), prefix, orders, 20_000
        ),
        "one at a time": lambda target, prefix: OneAtATime(
            target, traffic.directory, prefix, orders
        ),
    }
    for job in jobs.values():
        done = product.measured([job(product.target, product.user_prefix())], senders)
        with bare_product(product.plan, Proportion(5, 1)) as (target, _):
            senders.prepare([job(target, "")])
            runs = [*done.found, *senders.run()]
            finished = senders.finish()
        assert all(isinstance(client, ClientRun) for [client, *_] in finished)
        for run in runs:
            sent = sum(client.commands for client in run.clients)
            assert len(run.latencies_ns) == sent - WARM_ORDERS
            assert run.latencies_ns.min() > 0
            assert run.latencies_ns.max() < 60 * 10**9
