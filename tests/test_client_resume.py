"""The client library comes back: nothing of what it is told is missing or stands twice."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.plan import Plan
from frontend.client.commands import Order
from frontend.client.errors import (
    ConnectionLostError,
    MissedReportsError,
    NotCarriedOutError,
    ReportGapError,
    UnknownOutcomeError,
)
from frontend.client.results import Execution
from frontend.client.session import Session, outcome
from ipc.memory.status import ProcessStatus, StatusReader
from ipc.records import make_id, shard_of
from ipc.vocabulary import ExecType
from ipc.wire.frames import HEADER, frame
from ipc.wire.messages import (
    Closing,
    InstrumentInfo,
    Login,
    NewOrder,
    Pong,
    Report,
    ShardRestarted,
    Welcome,
    client_decoder,
)
from tests.peer import Caller, Connect, Peer
from tests.product import make_config, running, until

INSTRUMENTS = [
    InstrumentInfo(1, "AAPL", "0.01", "1", 1, 1 << 40, 0),
    InstrumentInfo(2, "BTCUSD", "0.5", "0.00000001", 1, 1 << 40, 1),
]


def welcome(session: int, *positions: int) -> Welcome:
    """Return a Welcome of an account that stands at these numbers, by shard."""
    found = [make_id(shard, number) for shard, number in enumerate(positions)]
    return Welcome(session, "alice", "0.1.0", INSTRUMENTS, found)


def report(shard: int, number: int, request_id: int = 0) -> Report:
    """Return the account's report of that number in a shard."""
    head = (int(ExecType.NEW), 0, 1, shard + 1, 1, 2, 1, 0, 0, 0, 1, request_id)
    return Report(*head, make_id(shard, 7), 5, 1, 1, 0, 1, 0, 0, 0, 1, 1, make_id(shard, number))


def login_of(data: bytes) -> Login:
    """Return the login that a session begins with."""
    message = client_decoder.decode(data[HEADER.size :])
    assert isinstance(message, Login)
    return message


@given(st.lists(st.integers(0, 1), max_size=12), st.data())
def test_every_report_is_seen_once_wherever_the_connection_is_cut(
    shards: list[int], data: st.DataObject
) -> None:
    """Over several connections, each cut at some byte; what follows is what the login asks for."""
    told: list[Report] = []
    for shard in shards:
        told.append(report(shard, 1 + sum(shard_of(r.account_sequence) == shard for r in told)))
    ends = [shards.count(0), shards.count(1)]
    session = Session("alice")
    asked = login_of(session.begin()).resume
    assert asked == []
    rest, start = told, (0, 0)
    for turn in range(1, 9):
        stream = frame(welcome(turn, *start)) + b"".join(map(frame, rest))
        cut = data.draw(st.integers(0, len(stream))) if turn < 8 else len(stream)
        session.feed(stream[:cut])
        asked = login_of(session.begin()).resume
        if asked:
            start = (ends[0], ends[1])
            rest = [r for r in told if r.account_sequence > asked[shard_of(r.account_sequence)]]
    seen = session.pop_messages()
    for shard in (0, 1):
        assert [r for r in seen if shard_of(r.account_sequence) == shard] == [
            r for r in told if shard_of(r.account_sequence) == shard
        ]


def begun(*positions: int) -> Session:
    """Return a session that is welcome."""
    session = Session("alice")
    session.begin()
    session.feed(frame(welcome(1, *positions)))
    return session


@pytest.mark.parametrize("number", [3, 4, 6, 9])
def test_a_report_out_of_its_turn_ends_the_connection(number: int) -> None:
    session = begun(2, 4)
    with pytest.raises(ReportGapError, match=f"shard 1: report {number} .* in place of 5"):
        session.feed(frame(report(0, 3)) + frame(report(1, number)))
    assert login_of(session.begin()).resume == [make_id(0, 2), make_id(1, 4)]
    assert not session.has_messages


def test_a_shard_that_says_nothing_at_login_begins_where_it_begins() -> None:
    session = begun(2)
    session.feed(frame(report(1, 8)) + frame(report(1, 9)))
    assert login_of(session.begin()).resume == [make_id(0, 2), make_id(1, 9)]
    assert session.caught_up is False


def test_caught_up_where_the_welcome_said() -> None:
    session = begun(2, 4)
    assert session.caught_up
    session.begin()
    assert not session.caught_up
    session.feed(frame(welcome(2, 4, 5)) + frame(report(0, 3)) + frame(report(0, 4)))
    assert not session.caught_up
    session.feed(frame(report(1, 5)))
    assert session.caught_up


def test_the_login_asks_for_cancel_on_disconnect() -> None:
    assert login_of(Session("alice").begin()).cancel_on_disconnect is False
    session = Session("alice", cancel_on_disconnect=True)
    assert login_of(session.begin()).cancel_on_disconnect is True


def test_what_a_dead_matcher_took_along_was_not_carried_out() -> None:
    """Only of its shard, only of what came before, only without an answer."""
    session = begun(0, 0)
    commands = session.commands
    answered = commands.new_order(Order("AAPL", "buy", 1, 1, client_order_id=1))
    lost = commands.new_order(Order("AAPL", "buy", 1, 1, client_order_id=2))
    by_id = commands.cancel(make_id(0, 9), None, 0)
    elsewhere = commands.new_order(Order("BTCUSD", "buy", 1, 1))
    everything = commands.cancel_all(None)
    query = commands.book("AAPL", 1)
    before = [answered, lost, by_id, elsewhere, everything, query]
    sent = len(frame(Login("alice"))) + len(session.send(before))
    later = commands.new_order(Order("AAPL", "buy", 1, 1))
    session.send([later])
    number = answered.message.request_id
    found = session.feed(frame(report(0, 1, number)) + frame(ShardRestarted(1, sent)))
    assert [answer.request for answer in found] == [answered, lost, by_id]
    error = outcome(*found[1])
    assert isinstance(error, NotCarriedOutError)
    assert (error.request_id, error.client_order_id) == (lost.message.request_id, 2)
    assert session.unanswered() == [elsewhere, everything, query, later]
    assert session.pop_messages() == [ShardRestarted(1, sent)]


def test_a_shard_that_is_not_where_it_was_ends_the_connection() -> None:
    session = begun(3, 0)
    with pytest.raises(ReportGapError):
        session.feed(frame(ShardRestarted(make_id(0, 0), 0)))


def test_reports_that_are_gone_are_counted() -> None:
    session = begun(2, 4)
    session.begin()
    session.positions.give_up()
    assert login_of(session.begin()).resume == []
    session.feed(frame(welcome(2, 12, 1)))
    assert session.missed_reports == 10 + 1  # shard 1 has lost its memory, and told 1 since
    with pytest.raises(MissedReportsError) as caught:
        session.pop_messages()
    assert caught.value.count == 11


# Both clients against a scripted engine --------------------------------------------------------


def until_gone(caller: Caller) -> None:
    """Answer pings until the client goes."""
    while (message := caller.read()) is not None:
        caller.write(Pong(message.request_id))


def test_an_outcome_is_found_in_what_was_missed(peer: Peer, connect: Connect) -> None:
    taken: list[NewOrder] = []
    resumed: list[list[int]] = []

    def first(caller: Caller) -> None:
        caller.read()
        caller.write(welcome(1, 0, 0))
        taken.extend(caller.read() for _ in range(3))
        caller.write(report(0, 1, taken[0].request_id), report(0, 2))

    def second(caller: Caller) -> None:
        resumed.append(caller.read().resume)
        caller.write(welcome(2, 4, 1), report(0, 3), report(0, 4, taken[2].request_id))
        caller.write(report(1, 1))
        until_gone(caller)

    peer.play(first)
    peer.play(second)
    client = connect(peer.address, "alice", auto_reconnect=True)
    one, two, three = client.submit_batch([Order("AAPL", "buy", 1, 1, client_order_id=5)] * 3)
    assert (one.raw.account_sequence, three.raw.account_sequence) == (1, 4)
    assert isinstance(two, UnknownOutcomeError)
    assert isinstance(two.__cause__, ConnectionLostError)
    assert resumed == [[make_id(0, 2), make_id(1, 0)]]
    client.ping()
    numbers = [execution.raw.account_sequence for execution in client.reports(timeout_s=0)]
    assert numbers == [2, 3, make_id(1, 1)]


def test_reports_go_on_over_connections(peer: Peer, connect: Connect) -> None:
    def part(session: int, number: int) -> Callable[[Caller], None]:
        def script(caller: Caller) -> None:
            assert caller.read().resume == ([make_id(0, number), 1 << 45] if number else [])
            caller.write(welcome(session, number + (session > 1), 0))
            caller.write(report(0, number + 1))

        return script

    for session in range(1, 4):
        peer.play(part(session, session - 1))
    client = connect(peer.address, "alice", auto_reconnect=True)
    reports = client.reports(timeout_s=5)
    assert [next(reports).raw.account_sequence for _ in range(3)] == [1, 2, 3]
    peer.wait()


def test_a_gap_is_closed_by_coming_back(peer: Peer, connect: Connect) -> None:
    def first(caller: Caller) -> None:
        caller.read()
        caller.write(welcome(1, 0, 0), report(0, 1))
        caller.read()
        caller.write(report(0, 3))
        caller.read()

    def second(caller: Caller) -> None:
        assert caller.read().resume == [1, make_id(1, 0)]
        caller.write(welcome(2, 3, 0), report(0, 2), report(0, 3))
        until_gone(caller)

    peer.play(first)
    peer.play(second)
    client = connect(peer.address, "alice", auto_reconnect=True)
    with pytest.raises(ReportGapError):
        client.ping()
    client.ping()
    numbers = [execution.raw.account_sequence for execution in client.reports(timeout_s=0)]
    assert numbers == [1, 2, 3]


@pytest.mark.parametrize("code", ["RESUME_TOO_OLD", "RESUME_UNKNOWN"])
def test_what_cannot_be_resumed_begins_anew_and_is_told(
    peer: Peer, connect: Connect, code: str
) -> None:
    def first(caller: Caller) -> None:
        caller.read()
        caller.write(welcome(1, 4, 0))
        caller.read()

    def refuse(caller: Caller) -> None:
        assert caller.read().resume == [4, make_id(1, 0)]
        caller.write(Closing(code, "resume: no"))

    def anew(caller: Caller) -> None:
        assert caller.read().resume == []
        caller.write(welcome(2, 9, 0), report(0, 10))
        until_gone(caller)

    for script in (first, refuse, anew):
        peer.play(script)
    client = connect(peer.address, "alice", auto_reconnect=True)
    with pytest.raises(UnknownOutcomeError):
        client.submit("AAPL", "buy", 1, 1)
    client.ping()
    with pytest.raises(MissedReportsError) as caught:
        next(client.reports(timeout_s=0))
    assert caught.value.count == 5
    assert next(client.reports(timeout_s=0)).raw.account_sequence == 10


def test_a_matcher_that_died_ends_what_it_had_taken(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        caller.read()
        caller.write(welcome(1, 0, 0))
        orders = [caller.read() for _ in range(2)]
        caller.write(report(0, 1, orders[1].request_id), ShardRestarted(1, 1 << 20))
        until_gone(caller)

    peer.play(script)
    client = connect(peer.address, "alice")
    lost, kept = client.submit_batch([Order("AAPL", "buy", 1, 1, client_order_id=5)] * 2)
    assert isinstance(lost, NotCarriedOutError)
    assert isinstance(kept, Execution)
    client.ping()


# Against the product ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """Two shards and two frontends."""
    with running(make_config(2, 4, "[frontend]\nprocesses = 2\n")) as product:
        yield product


def frontend(plan: Plan) -> ProcessStatus:
    """Return what the first frontend says of itself."""
    processes = StatusReader(plan.status_path).processes()
    return next(p for p in processes if (p.role, p.number) == ("frontend", 0))


def kill_in_the_midst(plan: Plan, before: ProcessStatus) -> None:
    """Kill the first frontend as soon as it has passed commands on; wait for its successor."""
    until(lambda: frontend(plan).counters["frames_in"] > before.counters["frames_in"])
    os.kill(before.pid, signal.SIGKILL)
    until(lambda: frontend(plan).pid != before.pid and frontend(plan).state == "ready")


def test_frontends_killed_under_load(plan: Plan, connect: Connect) -> None:
    """Every outcome is right or unknown, and every report of the account comes once."""
    user = f"alice {os.urandom(4).hex()}"
    client = connect(str(plan.addresses()[0]), user, auto_reconnect=True, include_answers=True)
    accepted: dict[int, int] = {}
    unknown: set[int] = set()
    told: list[Any] = []
    for turn in range(5):
        first = 1 + 2_000 * turn
        batch = [
            Order(("AA", "BB")[n % 2], "buy", 1, "0.50", client_order_id=n)
            for n in range(first, first + 2_000)
        ]
        with ThreadPoolExecutor(1) as pool:
            killed = pool.submit(kill_in_the_midst, plan, frontend(plan))
            for order, result in zip(batch, client.submit_batch(batch), strict=True):
                if isinstance(result, Execution):
                    accepted[order.client_order_id] = result.order_id
                else:
                    assert isinstance(result, UnknownOutcomeError), result
                    unknown.add(order.client_order_id)
            killed.result()
    with suppress(ConnectionLostError):
        client.ping()  # the last kill may have come behind the last answer
    assert client.cancel_all("AA") + client.cancel_all("BB") >= len(accepted) > 0
    told += client.receive(timeout_s=0)
    numbered = [message for message in told if getattr(message, "account_sequence", 0)]
    for shard in (0, 1):
        numbers = [m.account_sequence for m in numbered if shard_of(m.account_sequence) == shard]
        assert numbers == [make_id(shard, n) for n in range(1, len(numbers) + 1)]
    entered = {m.client_order_id: m.order_id for m in told if is_new(m)}
    assert accepted.items() <= entered.items()
    assert set(accepted) | unknown == set(range(1, 10_001))


def is_new(message: Any) -> bool:
    """Return whether a message tells of an order that was accepted."""
    return isinstance(message, Report) and message.exec_type == ExecType.NEW
