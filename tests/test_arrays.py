"""Arrays of commands through both clients: answers in their places, bounds, and every way to fail.

With compiled code and as where numba is missing, against a scripted engine and a running one.
"""

import asyncio
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.plan import Plan
from frontend.client import AsyncClient, Client, array_exchange
from frontend.client.array_exchange import ArrayExchange
from frontend.client.errors import (
    AnswerTimeoutError,
    ClosedError,
    ConnectionLostError,
    IncompleteArrayError,
    InvalidOrderError,
    MissedReportsError,
    ProtocolError,
)
from frontend.client.session import MAX_COUNTER, Session
from ipc.native.compiled import HAVE_NUMBA
from ipc.records import COMMAND, REPORT, make_id
from ipc.vocabulary import (
    MAX_CLIENT_ID,
    CommandType,
    ExecType,
    Flag,
    OrderType,
    Reason,
    Side,
    TimeInForce,
)
from ipc.wire import client_codec
from ipc.wire.frames import FrameSplitter, frame
from ipc.wire.messages import Closing, Login, Pong, Report, ShardRestarted, Welcome, client_decoder
from tests.peer import INSTRUMENTS, Awaited, Caller, Connect, Peer
from tests.test_client import SHORT_S, answer, reject

WAYS = [
    pytest.param(True, id="numba", marks=pytest.mark.skipif(not HAVE_NUMBA, reason="no numba")),
    pytest.param(False, id="plain"),
]


@pytest.fixture(params=WAYS, autouse=True)
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test with compiled code, and as where numba is missing."""
    monkeypatch.setattr(client_codec, "HAVE_NUMBA", request.param)


def orders(count: int, symbol: int = 1, price: int = 100, side: Side = Side.BUY) -> np.ndarray:
    commands = np.zeros(count, COMMAND)
    commands["command_type"], commands["symbol"] = CommandType.NEW, symbol
    commands["side"], commands["order_type"] = side, OrderType.LIMIT
    commands["time_in_force"], commands["price"] = TimeInForce.GTC, price
    commands["quantity"] = 1
    commands["client_order_id"] = np.arange(1, count + 1)
    return commands


def served(caller: Caller, count: int) -> list[Any]:
    """Take the login and the next messages."""
    caller.welcome()
    return [caller.read() for _ in range(count)]


def gathered(client: Any, count: int) -> np.ndarray:
    """Return what comes as an array, once there is as much as is wanted."""
    found = [client.receive_array(timeout_s=0)]
    while sum(map(len, found)) < count:
        found.append(client.receive_array(timeout_s=20))
    return np.concatenate(found)


# A scripted engine ------------------------------------------------------------------------------


def test_answers_in_any_order_come_to_their_places(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        asked = served(caller, 300)
        for message in reversed(asked):
            if message.client_order_id % 7 == 0:
                caller.write(reject(message))
            else:
                caller.write(answer(message, order_id=1000 + message.client_order_id))
                caller.write(answer(message, ExecType.TRADE))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice")
    answers = client.submit_array(orders(300))
    numbers = np.arange(1, 301)
    refused = numbers % 7 == 0
    assert answers.dtype == REPORT
    assert (answers["exec_type"] == np.where(refused, ExecType.REJECTED, ExecType.NEW)).all()
    assert (answers["reason"] == np.where(refused, Reason.BOOK_FULL, 0)).all()
    assert (answers["order_id"] == np.where(refused, 0, 1000 + numbers)).all()
    trades = gathered(client, 258)
    assert (trades["exec_type"] == ExecType.TRADE).all()
    assert (trades["client_order_id"] == numbers[~refused][::-1]).all()


def test_what_else_comes_keeps_its_order(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        (asked,) = served(caller, 1)
        others = [answer(Pong(0), ExecType.TRADE, order_id=n) for n in range(1, 101)]
        caller.write(*others[:40], Pong(5), reject(Pong(6)), *others[40:], answer(asked))
        caller.read()

    peer.play(script)
    peer.play(script)
    client = connect(peer.address, "alice")
    client.submit_array(orders(1))
    messages = client.receive(timeout_s=0)
    assert messages.index(Pong(5)) == 40
    assert messages[41].code == Reason.BOOK_FULL
    assert [m.order_id for m in messages if isinstance(m, Report)] == list(range(1, 101))
    client.reconnect()
    client.submit_array(orders(1))
    reports = client.receive_array(timeout_s=0)
    assert reports["order_id"].tolist() == [*range(1, 41), 0, *range(41, 101)]
    assert reports["exec_type"][40] == ExecType.REJECTED


def test_reports_are_read_one_by_one_or_as_an_array(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        (asked,) = served(caller, 1)
        others = [answer(Pong(0), ExecType.TRADE, order_id=n) for n in range(100)]
        caller.write(*others, Pong(5), answer(asked))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice")
    client.submit_array(orders(1))
    reports = client.reports(timeout_s=0)
    assert [next(reports).order_id for _ in range(30)] == list(range(30))
    assert client.receive_array(timeout_s=0)["order_id"].tolist() == list(range(30, 100))
    assert len(client.receive_array(timeout_s=0)) == 0


def test_the_newest_reports_are_kept_and_the_others_told(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        (asked,) = served(caller, 1)
        others = [answer(Pong(0), ExecType.TRADE, order_id=n) for n in range(100)]
        caller.write(*others, answer(asked))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice", max_reports=30)
    client.submit_array(orders(1))
    with pytest.raises(MissedReportsError) as missed:
        client.receive_array(timeout_s=0)
    assert (missed.value.count, client.missed_reports) == (70, 70)
    assert client.receive_array(timeout_s=0)["order_id"].tolist() == list(range(70, 100))


def test_a_bounded_number_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_exchange, "MAX_UNDER_WAY", 20)
    monkeypatch.setattr(array_exchange, "PIECE", 8)
    exchange = ArrayExchange(orders(30), 5)
    sent = []
    for number in range(30):
        while frames := exchange.frames():
            sent += [client_decoder.decode(body) for _, body in FrameSplitter(100).feed(frames)]
        assert exchange.sent == len(sent) <= number + 20
        assert len(sent) >= min(30, number + 20 - 7)
        assert exchange.take(answer(sent[number]))
    assert exchange.done
    assert [message.request_id for message in sent] == list(range(5, 35))
    assert [message.client_order_id for message in sent] == list(range(1, 31))


def test_progress_renews_the_time_to_answer(peer: Peer, connect: Connect) -> None:
    pause_s, timeout_s = 0.8, 1.5

    def script(caller: Caller) -> None:
        for message in served(caller, 3):
            Event().wait(pause_s)
            caller.write(answer(message))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice", timeout_s=timeout_s)
    assert client.submit_array(orders(3))["command_type"].all()


def test_silence_is_told_with_the_answers_so_far(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        asked = served(caller, 10)
        caller.write(*map(answer, asked[:4]))
        ping = caller.read()
        caller.write(*map(answer, asked[4:]), Pong(ping.request_id))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice", timeout_s=SHORT_S)
    with pytest.raises(IncompleteArrayError) as error:
        client.submit_array(orders(10))
    assert isinstance(error.value.__cause__, AnswerTimeoutError)
    assert (error.value.sent, error.value.answered) == (10, 4)
    assert error.value.answers["command_type"].tolist() == [1] * 4 + [0] * 6
    client.timeout_s = 20
    client.ping()
    assert client.receive_array(timeout_s=0)["client_order_id"].tolist() == list(range(5, 11))


@pytest.mark.parametrize("says_why", [True, False])
def test_a_lost_connection_is_told_with_the_answers_so_far(
    peer: Peer, connect: Connect, says_why: bool
) -> None:
    def script(caller: Caller) -> None:
        asked = served(caller, 10)
        caller.write(*map(answer, asked[:4]))
        if says_why:
            caller.write(Closing("SHUTTING_DOWN", "the engine is stopping"))

    peer.play(script)
    client = connect(peer.address, "alice")
    with pytest.raises(IncompleteArrayError) as error:
        client.submit_array(orders(10))
    kind = ClosedError if says_why else ConnectionLostError
    assert isinstance(error.value.__cause__, kind)
    assert error.value.answers["command_type"].tolist() == [1] * 4 + [0] * 6
    with pytest.raises(ConnectionLostError):
        client.submit_array(orders(1))


def test_another_protocol_ends_the_connection(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        served(caller, 1)
        caller.write(b"\x08\0\0\0\0\0\0\0HTTP/1.1")
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice")
    with pytest.raises(IncompleteArrayError) as error:
        client.submit_array(orders(1))
    assert isinstance(error.value.__cause__, ConnectionLostError | ProtocolError)
    assert not client.connected


def numbered(report: Report, number: int) -> Report:
    """Return a report as shard 0 numbers it."""
    return msgspec.structs.replace(report, account_sequence=make_id(0, number))


def test_a_missing_report_ends_the_connection(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        asked = [answer(message) for message in served(caller, 3)]
        caller.write(*(numbered(r, n) for r, n in zip(asked, (7, 8, 10), strict=True)))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice")
    with pytest.raises(IncompleteArrayError) as error:
        client.submit_array(orders(3))
    assert "10 of the account came in place of 9" in str(error.value.__cause__)
    assert error.value.answers["account_sequence"].tolist() == [7, 8, 0]
    assert not client.connected
    assert client._session.positions.resume() == [8]


def test_what_a_dead_matcher_did_not_take_is_rejected(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        asked = served(caller, 4)
        taken = sum(map(len, map(frame, [Login("alice"), *asked[:3]])))
        caller.write(numbered(answer(asked[0]), 1), ShardRestarted(make_id(0, 1), taken))
        caller.write(numbered(answer(asked[3]), 2))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice")
    answers = client.submit_array(orders(4))
    rejected = ExecType.REJECTED
    assert answers["exec_type"].tolist() == [0, rejected, rejected, 0]
    assert answers["reason"].tolist() == [0, Reason.SHARD_DOWN, Reason.SHARD_DOWN, 0]
    assert answers["client_order_id"].tolist() == [1, 2, 3, 4]


def test_only_a_dead_matchers_commands_are_rejected() -> None:
    commands = orders(5)
    commands["symbol"] = [1, 2, 0, 0, 0]
    commands["command_type"] = [1, 1, 2, 2, 5]
    commands["order_id"][2:4] = [make_id(1, 5), make_id(0, 5)]
    exchange = ArrayExchange(commands, 9)
    exchange.frames(100)
    exchange.not_carried_out(1, 1 << 20, np.array([-1, 0, 1, -1]))
    assert exchange.answers["reason"].tolist() == [0, 51, 51, 0, 0]
    assert exchange.answers["request_id"].tolist() == [0, 10, 11, 0, 0]
    assert exchange.answered == 2


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("command_type", {"command_type": 0}),
        ("command_type", {"command_type": max(CommandType) + 1}),
        ("flags", {"flags": Flag.REINSERT}),
        ("flags", {"flags": Flag.AGGREGATE}),
        *((name, {name: MAX_CLIENT_ID + 1}) for name in ("order_id", "price", "quantity")),
        ("client_order_id", {"client_order_id": MAX_CLIENT_ID + 1}),
    ],
)
def test_what_cannot_be_written_is_refused_whole(
    peer: Peer, connect: Connect, field: str, change: dict[str, int]
) -> None:
    messages: list[Any] = []

    def script(caller: Caller) -> None:
        caller.welcome()
        messages.append(caller.read())

    peer.play(script)
    client = connect(peer.address, "alice")
    commands = orders(3)
    for name, value in change.items():
        commands[name][1] = value
    with pytest.raises(InvalidOrderError, match=r"commands\[1\]") as error:
        client.submit_array(commands)
    assert error.value.field == field
    client.close()
    peer.wait()
    assert messages == [None]


def test_other_arrays_are_refused(peer: Peer, connect: Connect, monkeypatch) -> None:
    peer.play(lambda caller: served(caller, 1))
    client = connect(peer.address, "alice")
    monkeypatch.setattr(array_exchange, "MAX_ARRAY", 5)
    for wrong in ([1, 2], np.zeros(3), np.zeros((2, 2), COMMAND), np.zeros(2, REPORT), orders(6)):
        with pytest.raises(InvalidOrderError, match="commands"):
            client.submit_array(wrong)


def test_no_commands_are_no_answers(peer: Peer, connect: Connect) -> None:
    peer.play(lambda caller: served(caller, 1))
    assert len(connect(peer.address, "alice").submit_array(orders(0))) == 0


def test_request_ids_begin_anew_and_leave_out_what_is_unanswered() -> None:
    session = Session("alice")
    session.begin()
    welcome = Welcome(5, "alice", "0.0.1", INSTRUMENTS)
    session.feed(frame(welcome))
    base = 5 << 25
    assert session.begin_array(orders(10)).first_request_id == base | 1
    assert session.next_request_id() == base | 11
    session._counter = MAX_COUNTER - 3
    session.send([session.commands.ping()])  # base | MAX_COUNTER - 2 is unanswered
    assert session.begin_array(orders(3)).first_request_id == base | 1
    session.send([session.commands.ping()])  # and 4
    session._counter = MAX_COUNTER - 1
    assert session.begin_array(orders(5)).first_request_id == base | 5
    session._counter = 4
    assert session.next_request_id() == base | 10
    session._counter = MAX_COUNTER // 2
    session.send([session.commands.ping()])
    with pytest.raises(InvalidOrderError, match="must be fewer"):
        session.begin_array(np.broadcast_to(orders(1), array_exchange.MAX_ARRAY))


# A running engine -------------------------------------------------------------------------------


@pytest.fixture(params=[Client, Awaited], ids=["blocking", "async"])
def login(request: pytest.FixtureRequest, product: Plan) -> Iterator[Callable[[str], Any]]:
    """Logs users in; their orders are cancelled at the end."""
    clients: list[Any] = []

    def make(user_id: str) -> Any:
        name = f"{user_id} {request.node.name}"[-64:]
        clients.append(request.param(product.addresses()[0], name, max_reports=1 << 20))
        return clients[-1]

    yield make
    for client in clients:
        client.cancel_all()
        client.close()
        if isinstance(client, Awaited):
            client.end()


def test_every_kind_of_command_in_one_array(login: Callable[[str], Any]) -> None:
    client = login("alice")
    entered = client.submit_array(orders(6, symbol=2, price=50))
    assert (entered["exec_type"] == ExecType.NEW).all()
    assert (entered["client_order_id"] == np.arange(1, 7)).all()
    ids = entered["order_id"]
    assert len(set(ids.tolist())) == 6
    commands = np.zeros(7, COMMAND)
    commands["symbol"] = 2
    commands["command_type"] = [2, 2, 3, 3, 4, 1, 5]
    commands["order_id"] = [ids[0], 0, ids[2], 0, ids[4], 0, 0]
    commands["client_order_id"] = [0, 2, 0, 4, 0, 5, 0]
    commands["price"] = [0, 0, 51, 0, 0, 50, 0]
    commands["quantity"] = [0, 0, 3, 5, 1, 1, 0]
    commands["flags"][3] = Flag.REINSERT
    answers = client.submit_array(commands)
    kinds = [
        (ExecType.CANCELED, Reason.CANCEL_REQUESTED),
        (ExecType.CANCELED, Reason.CANCEL_REQUESTED),
        (ExecType.REPLACED, Reason.NONE),
        (ExecType.REJECTED, Reason.INVALID_PRICE),
        (ExecType.CANCELED, Reason.CANCEL_REQUESTED),
        (ExecType.REJECTED, Reason.INVALID_SIDE),
        (ExecType.MASS_CANCELED, Reason.NONE),
    ]
    assert answers[["exec_type", "reason"]].tolist() == kinds
    assert (answers["command_type"] == commands["command_type"]).all()
    assert answers["leaves_qty"].tolist()[2] == 3
    assert answers["quantity"][6] == 3
    assert [r.exec_type for r in client.reports(timeout_s=0)] == [ExecType.CANCELED] * 3


def test_a_mass_cancel_of_all_symbols_in_an_array(login: Callable[[str], Any]) -> None:
    client = login("alice")
    commands = orders(5)
    commands["symbol"] = [1, 2, 3, 4, 0]
    commands["command_type"][4] = CommandType.MASS_CANCEL
    answers = client.submit_array(commands)
    assert answers["exec_type"].tolist() == [0, 0, 0, 0, ExecType.MASS_CANCELED]
    assert answers["quantity"][4] == 4


def test_many_orders_their_answers_and_their_fills(login: Callable[[str], Any]) -> None:
    """More than a window, over all shards: every order answered, every trade told twice."""
    client, count = login("alice"), 30_000 if client_codec.HAVE_NUMBA else 3_000
    commands = orders(count)
    commands["symbol"] = np.arange(count) % 4 + 1
    commands["side"] = np.arange(count) // 4 % 2 + 1
    answers = client.submit_array(commands)
    assert (answers["exec_type"] == ExecType.NEW).all()
    assert (answers["symbol"] == commands["symbol"]).all()
    assert (answers["client_order_id"] == commands["client_order_id"]).all()
    told = gathered(client, count // 8 * 8)
    assert (told["exec_type"] == ExecType.TRADE).all()
    assert len(told) == count // 8 * 8
    _, times = np.unique(told["trade_id"], return_counts=True)
    assert (times == 2).all()


def test_single_orders_among_arrays(product: Plan) -> None:
    """Tasks that share one client each get their own answers."""

    user_id = f"mixed {client_codec.HAVE_NUMBA}"

    async def run() -> None:
        async with AsyncClient(product.addresses()[0], user_id) as client:

            async def single(number: int) -> None:
                execution = await client.submit("BB", "buy", 1, "0.10", client_order_id=number)
                assert execution.client_order_id == number

            async def array(first: int) -> None:
                commands = orders(2_000, symbol=1, price=10)
                commands["client_order_id"] += first
                answers = await client.submit_array(commands)
                assert (answers["client_order_id"] == commands["client_order_id"]).all()

            await asyncio.gather(
                *(array(first) for first in (0, 10_000, 20_000)),
                *(single(number) for number in range(1, 200)),
            )
            assert await client.cancel_all() == 6_199
            kinds = [type(message) for message in await client.receive(timeout_s=0)]
            assert kinds == [Report] * 6_199

    asyncio.run(run())
