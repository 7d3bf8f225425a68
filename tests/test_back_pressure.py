"""A matcher that does not keep up: bounds are met as configured, and nobody else notices."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.config import Config, load_config
from engine.plan import Plan
from frontend.client import Client
from frontend.client.array_exchange import MAX_UNDER_WAY
from frontend.gateway.frame_sorter import StreamSorter, count_answers
from frontend.gateway.gateway import ODD_A_TURN
from ipc.memory.status import StatusReader
from ipc.records import COMMAND, REPORT
from ipc.vocabulary import MAX_CLIENT_ID, CommandType, ExecType, Reason
from ipc.wire.frames import HEADER, FrameSplitter, frame
from ipc.wire.matcher_codec import ReportEncoder
from ipc.wire.messages import (
    MAX_BODY,
    Cancel,
    MassCancel,
    NewOrder,
    Ping,
    Pong,
    Reject,
    Report,
    server_decoder,
)
from tests.product import WAIT_S, Wire, make_config, running, until

SLOW, FAST = 1, 2
"""Symbols of two matchers: the first is made to stop."""


def orders(count: int, symbol: int) -> bytes:
    return b"".join(frame(NewOrder(symbol, n, 0, 1, 2, 1, 100, 5)) for n in range(1, count + 1))


def counter(plan: Plan, name: str) -> int:
    frontend = next(p for p in StatusReader(plan.status_path).processes() if p.role == "frontend")
    return frontend.counters[name]


@contextmanager
def stopped_matcher(plan: Plan) -> Iterator[None]:
    """Stop the matcher of the slow symbol, as a long pause of the machine would."""
    shard = next(i.shard for i in plan.instruments if i.number == SLOW)
    with stopped(plan, "matcher", shard):
        yield


@contextmanager
def stopped(plan: Plan, role: str, number: int) -> Iterator[None]:
    """Stop a process."""
    processes = StatusReader(plan.status_path).processes()
    pid = next(p.pid for p in processes if (p.role, p.number) == (role, number))
    state = Path(f"/proc/{pid}/stat")
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: state.read_text().rpartition(") ")[2].startswith("T"))
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def one_may_have_all(config: Config) -> Config:
    """Let one account have as many orders resting as a book takes."""
    instruments = [
        msgspec.structs.replace(each, max_account_orders=each.max_resting_orders)
        for each in config.instruments
    ]
    return msgspec.structs.replace(config, instruments=instruments)


def answered(wire: Wire, symbol: int) -> None:
    """Trade one order with a matcher that runs."""
    wire.send(NewOrder(symbol, 7, 0, 1, 2, 1, 100, 5))
    report = wire.receive()
    assert isinstance(report, Report)
    assert report.exec_type == ExecType.NEW


def test_full_queue_rejects_as_busy_and_loses_nothing() -> None:
    extra = "[frontend]\nmax_queued_bytes = 65536\nwindow = 1000000\n"
    count = 120_000
    with running(make_config(2, 2, extra)) as plan, Wire(plan, "flood") as flood:
        with stopped_matcher(plan):
            flood.send_bytes(orders(count, SLOW))
            busy = flood.receive()
            assert isinstance(busy, Reject)
            assert (busy.code, busy.code_name, busy.field) == (Reason.BUSY, "BUSY", "symbol")
            with Wire(plan, "other") as other:
                answered(other, FAST)
        answers = [busy] + [flood.receive() for _ in range(count - 1)]
        assert sorted(answer.request_id for answer in answers) == list(range(1, count + 1))
        assert any(isinstance(answer, Report) for answer in answers)


LONG = b"\x81" * 1_000


@pytest.mark.parametrize(
    ("odd", "count"),
    [
        (frame(Ping(9)), ODD_A_TURN + 1),
        (frame(NewOrder(65_535, 9, 0, 1, 2, 1, 100, 5)), ODD_A_TURN + 1),
        (frame(Cancel(0, 9, 0)), ODD_A_TURN + 1),
        (HEADER.pack(len(LONG), 0) + LONG, 2),
        (frame(MassCancel(0, 9)), 2),
    ],
    ids=["pings", "wrong symbols", "wrong cancels", "long messages", "mass cancels"],
)
def test_what_the_frontend_has_to_look_at_is_not_in_the_way_of_others(
    odd: bytes, count: int
) -> None:
    order = NewOrder(FAST, 7, 0, 1, 2, 1, 100, 5)
    with running(make_config(2, 2)) as plan, Wire(plan, "odd") as one, Wire(plan, "other") as other:
        for wire in (one, other):
            answered(wire, FAST)
        with stopped(plan, "frontend", 0):  # so all is there when it goes on
            one.send_bytes(odd * count + frame(order))
            other.send(order)
        report = other.receive()
        assert isinstance(report, Report)
        own = one.until(lambda m: isinstance(m, Report) and m.request_id == order.request_id)[-1]
        assert isinstance(own, Report)
        assert report.sequence < own.sequence


@pytest.mark.parametrize(
    "odd",
    [frame(Ping(9)) * ODD_A_TURN, frame(MassCancel(0, 9))],
    ids=["pings", "mass cancels"],
)
def test_neither_is_that_of_many_connections_together(odd: bytes) -> None:
    order = NewOrder(FAST, 7, 0, 1, 2, 1, 100, 5)
    with running(make_config(2, 2)) as plan, ExitStack() as stack:
        crowd = [stack.enter_context(Wire(plan, f"odd-{n}")) for n in range(40)]
        other = stack.enter_context(Wire(plan, "other"))
        for wire in (*crowd, other):
            answered(wire, FAST)
        with stopped(plan, "frontend", 0):  # so all is there when it goes on
            for wire in crowd:
                wire.send_bytes(odd + frame(order))
            other.send(order)
        report = other.receive()
        assert isinstance(report, Report)
        own = [wire.until(lambda m: isinstance(m, Report) and m.request_id == 7) for wire in crowd]
        ahead = [reports[-1].sequence < report.sequence for reports in own]  # type: ignore[union-attr]
        assert sum(ahead) <= 1


def test_who_does_not_read_why_it_is_closed_is_cut_off() -> None:
    """Its place and what it has not read are given back."""
    pings = frame(Ping(MAX_CLIENT_ID)) * 300_000
    with running(make_config(2, 2)) as plan, Wire(plan, "deaf") as deaf, Wire(plan, "slow") as slow:
        until(lambda: counter(plan, "connections") == 2)
        for wire in (deaf, slow):
            wire.send_bytes(pings + b"\xff" * 16)
        until(lambda: counter(plan, "closed_frame_too_long") == 2)
        assert slow.closing().code == "FRAME_TOO_LONG"
        until(lambda: counter(plan, "connections") == 0)
        assert counter(plan, "closed_slow_reader") == 1


def test_who_leaves_with_commands_under_way_is_served_when_it_is_back() -> None:
    with running(make_config(2, 2, "[frontend]\nwindow = 16\n")) as plan:
        for _ in range(2):  # twice as many would fill the window for ever
            leave_with_commands_under_way(plan)
        with Wire(plan, "alice") as back:
            all_answered(back)


def leave_with_commands_under_way(plan: Plan) -> None:
    """Let the matcher find that alice has left together with her last commands."""
    leaving = Wire(plan, "alice")
    all_answered(leaving)
    with stopped_matcher(plan):
        leaving.send_bytes(orders(8, SLOW))
        leaving.sock.close()
        until(lambda: counter(plan, "sessions") == 0)


def all_answered(wire: Wire) -> None:
    """Have an order answered, and so all that the account had sent to the slow matcher before."""
    wire.send(NewOrder(SLOW, 99, 0, 1, 2, 1, 100, 5))
    wire.until(lambda message: isinstance(message, Report) and message.request_id == 99)


def test_nothing_is_sent_for_who_has_left_once_all_is_answered() -> None:
    with running(make_config(2, 2)) as plan:
        leave_with_commands_under_way(plan)
        until(lambda: counter(plan, "undelivered_bytes") > 0)
        with Wire(plan, "taker") as taker:
            undelivered = counter(plan, "undelivered_bytes")
            taker.send(NewOrder(SLOW, 1, 0, 2, 2, 1, 100, 5))
            taker.until(lambda message: isinstance(message, Report) and message.trade_id > 0)
            assert counter(plan, "undelivered_bytes") == undelivered


def test_full_queue_holds_its_senders_back_where_configured() -> None:
    extra = '[frontend]\nmax_queued_bytes = 65536\nwindow = 1000000\nwhen_busy = "wait"\n'
    count = 120_000
    config = one_may_have_all(make_config(2, 2, extra))
    with running(config) as plan, Wire(plan, "flood") as flood:
        with stopped_matcher(plan):
            flood.sock.setblocking(False)
            data = orders(count, SLOW)
            sent = 0
            while not counter(plan, "held_reads"):
                _, writable, _ = select.select([], [flood.sock], [], 0.01)
                if writable:
                    sent += flood.sock.send(data[sent : sent + 65536])
            with Wire(plan, "other") as other:
                answered(other, FAST)
        flood.sock.settimeout(WAIT_S)
        flood.send_bytes(data[sent:])
        answers = [flood.receive() for _ in range(count)]
        assert [answer.request_id for answer in answers] == list(range(1, count + 1))
        assert all(isinstance(answer, Report) for answer in answers)


def test_full_window_holds_its_account_back_alone() -> None:
    config = make_config(2, 2, "[frontend]\nwindow = 10\n")
    with running(config) as plan, Wire(plan, "flood") as flood, Wire(plan, "other") as other:
        with stopped_matcher(plan):
            flood.send_bytes(orders(10, SLOW))
            until(lambda: counter(plan, "held_reads") == 1)
            flood.send(Ping(99))
            answered(other, FAST)
        answers = [flood.receive() for _ in range(11)]
        assert [answer.request_id for answer in answers] == [*range(1, 11), 99]
        assert answers[-1] == Pong(99)


def test_what_an_array_causes_fits_what_may_be_left_unread() -> None:
    """An answer and four fills of each command under way, by the defaults."""
    reports = np.zeros(5 * MAX_UNDER_WAY, REPORT)
    reports["account"] = 5
    encoder = ReportEncoder()
    encoder.open_stream(3, 5)
    assert len(encoder.encode(reports)) < load_config().frontend.max_unread_bytes


def test_client_that_was_cut_off_comes_back_and_misses_nothing() -> None:
    """It leaves more of its fills unread than it may, and is told all of them in the end."""
    config = make_config(1, 1, "[frontend]\nmax_unread_bytes = 5242880\n")
    engine = msgspec.structs.replace(config.engine, ring_reports=1 << 18)
    config = one_may_have_all(msgspec.structs.replace(config, engine=engine))
    count = 60_000
    with (
        running(config) as plan,
        Client(plan.addresses()[0], "slow", auto_reconnect=True, max_reports=count) as slow,
        Client(plan.addresses()[0], "fast", max_reports=count) as fast,
    ):
        commands = np.zeros(count, COMMAND)
        commands["command_type"], commands["symbol"] = CommandType.NEW, 1
        commands["side"], commands["order_type"], commands["time_in_force"] = 1, 2, 1
        commands["price"], commands["quantity"] = 100, 1
        entered = slow.submit_array(commands)
        commands["side"] = 2
        fast.submit_array(commands)
        until(lambda: counter(plan, "closed_slow_reader") == 1)
        fills = []
        while sum(map(len, fills)) < count:
            fills.append(slow.receive_array(timeout_s=WAIT_S))
        told = np.concatenate(fills)
        assert (told["order_id"] == entered["order_id"]).all()
        assert (told["exec_type"] == ExecType.TRADE).all()
        assert slow.missed_reports == 0


def test_window_is_kept_open_by_every_kind_of_answer() -> None:
    """Rejects, trades and remainders in between: the count of what is under way comes back to 0."""
    with (
        running(make_config(1, 1, "[frontend]\nwindow = 4\n")) as plan,
        Wire(plan, "alice") as wire,
    ):
        for turn in range(200):
            wire.send(
                NewOrder(1, 4 * turn + 1, 0, 1, 2, 1, 100, 5),
                NewOrder(1, 4 * turn + 2, 0, 2, 2, 3, 100, 9),
                NewOrder(1, 4 * turn + 3, 0, 2, 2, 1, 100, 0),
                NewOrder(1, 4 * turn + 4, 0, 2, 1, 1, 0, 1),
            )
            reports = [wire.receive() for _ in range(8)]
            assert max(report.request_id for report in reports) == 4 * turn + 4


@pytest.mark.parametrize("exec_type", list(ExecType))
@pytest.mark.parametrize("reason", [Reason.NONE, Reason.CANCEL_REQUESTED, 0xFFFF])
@pytest.mark.parametrize("answers_it", [False, True])
def test_compiled_count_of_answers_is_the_plain_one(
    exec_type: ExecType, reason: int, answers_it: bool
) -> None:
    if exec_type == ExecType.REJECTED:
        reason = Reason.INVALID_PRICE
    reports = np.zeros(1, REPORT)
    reports["exec_type"], reports["reason"], reports["account"] = exec_type, reason, 5
    reports["answers"] = answers_it
    reports["symbol"] = 300
    encoder, sorter = ReportEncoder(), StreamSorter()
    encoder.open_stream(3, 5)
    data = bytes(encoder.encode(reports))
    ((_, body),) = FrameSplitter(MAX_BODY).feed(data)
    size, ((stream, frames, answers),) = sorter.sort(data)
    assert (size, stream, frames) == (len(data), 3, data)
    assert answers == count_answers(server_decoder.decode(body))
    assert sorter.sort_few(data) == (stream, answers)
    assert sorter.sort_few(3 * data) == (stream, 3 * answers)
    assert sorter.sort_few(data[:-1]) == (-1, 0)
    assert answers == (answers_it or exec_type in (ExecType.REJECTED, ExecType.MASS_CANCELED))
