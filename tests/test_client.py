"""Both clients against a scripted engine: every way to fail, batches, reconnecting, bounds."""

import asyncio
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from frontend.client import AsyncClient, Client
from frontend.client.blocking import Order
from frontend.client.errors import (
    AnswerTimeoutError,
    ClientError,
    ClosedError,
    ConnectError,
    ConnectionLostError,
    InvalidOrderError,
    LoginRefusedError,
    MissedReportsError,
    OrderRejectedError,
    ProtocolError,
    UnknownOutcomeError,
)
from frontend.client.results import Execution
from ipc.vocabulary import ExecType, Reason
from ipc.wire.frames import frame
from ipc.wire.messages import Closing, NewOrder, Ping, Pong, Reject, Report
from tests.peer import Caller, Connect, Peer

SHORT_S = 0.2
"""A timeout that is meant to pass."""


def answer(message: Any, exec_type: ExecType = ExecType.NEW, order_id: int = 11) -> Report:
    """Return a report that carries a message's request_id, on an order of 100 at 187.50."""
    head = (int(exec_type), 0, 1, 1, 1, 2, 1, 0, 0, 0, int(exec_type != ExecType.TRADE))
    ids = (message.request_id, order_id, getattr(message, "client_order_id", 0))
    return Report(*head, *ids, 18750, 100, 0, 100, 0, 0, 0, 1, 1, 0)


def reject(message: Any) -> Reject:
    """Return a reject of a message."""
    reason = Reason.BOOK_FULL
    return Reject(
        1,
        1,
        message.request_id,
        0,
        0,
        int(reason),
        reason.name,
        "symbol",
        "must have room",
        1,
        1,
        0,
    )


def serve(caller: Caller) -> None:
    """Accept every order and answer every ping, until the client goes."""
    caller.welcome()
    while (message := caller.read()) is not None:
        caller.write(answer(message) if isinstance(message, NewOrder) else Pong(message.request_id))


# Connecting ------------------------------------------------------------------------------------


def test_nobody_listens(tmp_path: Path, connect: Connect) -> None:
    with pytest.raises(ConnectError, match=r"nobody\.sock"):
        connect(f"unix:{tmp_path}/nobody.sock", "alice")


def test_no_welcome_in_time(peer: Peer, connect: Connect) -> None:
    done = Event()
    peer.play(lambda _: done.wait(20))
    with pytest.raises(ConnectError, match="no welcome in time"):
        connect(peer.address, "alice", timeout_s=SHORT_S)
    done.set()


def test_closed_without_a_word_at_login(peer: Peer, connect: Connect) -> None:
    peer.play(Caller.read)
    with pytest.raises(ConnectError, match="without a word"):
        connect(peer.address, "alice")


def test_login_refused(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        caller.read()
        caller.write(Closing("TOO_MANY_SESSIONS", "try again later"))

    peer.play(script)
    with pytest.raises(LoginRefusedError, match="try again later") as caught:
        connect(peer.address, "alice")
    assert caught.value.code == "TOO_MANY_SESSIONS"


def test_another_protocol(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        caller.read()
        caller.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    peer.play(script)
    with pytest.raises(ProtocolError):
        connect(peer.address, "alice")


# Answers ---------------------------------------------------------------------------------------


def test_an_answer_in_single_bytes(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        for byte in frame(answer(caller.read())):
            caller.write(bytes([byte]))
        caller.read()

    peer.play(script)
    execution = connect(peer.address, "alice").submit("AAPL", "buy", 100, "187.50")
    assert (execution.order_id, execution.price) == (11, Decimal("187.50"))


def test_nothing_is_sent_for_what_cannot_be_written_down(peer: Peer, connect: Connect) -> None:
    seen: list[Any] = []

    def script(caller: Caller) -> None:
        caller.welcome()
        seen.append(caller.read())
        caller.write(Pong(seen[0].request_id))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice")
    with pytest.raises(InvalidOrderError):
        client.submit("AAPL", "buy", 100, "187.505")
    client.ping()
    assert isinstance(seen[0], Ping)


def test_silence_is_told_and_the_late_answer_becomes_a_report(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        order = caller.read()
        ping = caller.read()
        caller.write(answer(order), Pong(ping.request_id))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice", timeout_s=SHORT_S)
    with pytest.raises(AnswerTimeoutError):
        client.submit("AAPL", "buy", 100, "187.50")
    client.ping()
    (late,) = client.reports(timeout_s=0)
    assert late.order_id == 11


class Interrupted:
    """Stands before a part of a client, and lets Ctrl-C come right behind one of its calls."""

    def __init__(self, part: Any, call: str) -> None:
        self.part = part
        self.call = call

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.part, name)
        if name != self.call:
            return real

        def interrupted(*arguments: Any) -> None:
            self.call = ""
            real(*arguments)
            raise KeyboardInterrupt

        return interrupted


def test_a_call_interrupted_while_it_waits_does_not_mix_up_the_next(peer: Peer) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        caller.write(answer(caller.read(), order_id=1))
        caller.write(answer(caller.read(), order_id=2))
        caller.read()

    peer.play(script)
    with Client(peer.address, "alice") as client:
        assert client._wire is not None
        client._wire._poll = Interrupted(client._wire._poll, "poll")  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            client.submit("AAPL", "buy", 100, "187.50")
        assert client.submit("AAPL", "buy", 100, "187.50").order_id == 2
        (late,) = client.reports(timeout_s=0)
    assert late.order_id == 1


@pytest.mark.parametrize(("call", "word"), [("send", "sent"), ("recv_into", "read")])
def test_a_call_interrupted_at_its_bytes_ends_the_connection(
    peer: Peer, call: str, word: str
) -> None:
    peer.play(serve)
    with Client(peer.address, "alice") as client:
        assert client._wire is not None
        client._wire._socket = Interrupted(client._wire._socket, call)  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            client.submit("AAPL", "buy", 100, "187.50")
        assert not client.connected
        with pytest.raises(ConnectionLostError, match=f"interrupted while it {word}"):
            client.ping()


def test_an_answer_of_another_kind_ends_the_connection(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        caller.write(Pong(caller.read().request_id))
        assert caller.read() is None

    peer.play(script)
    client = connect(peer.address, "alice")
    with pytest.raises(ProtocolError, match="a Pong where a Report was to come"):
        client.submit("AAPL", "buy", 100, "187.50")
    assert not client.connected


@pytest.mark.parametrize("cut", [0, 5, 30])
def test_cut_off_while_a_command_waits(peer: Peer, connect: Connect, cut: int) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        caller.write(frame(answer(caller.read()))[:cut])

    peer.play(script)
    client = connect(peer.address, "alice")
    with pytest.raises(UnknownOutcomeError) as caught:
        client.submit("AAPL", "buy", 100, "187.50", client_order_id=5)
    assert caught.value.client_order_id == 5
    assert isinstance(caught.value.__cause__, ConnectionLostError)
    with pytest.raises(ConnectionLostError, match="without a word"):
        client.ping()


def test_closed_with_a_reason_while_calls_wait(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        caller.read()
        caller.write(Closing("SHUTTING_DOWN", "the engine is stopping"))

    peer.play(script)
    client = connect(peer.address, "alice")
    with pytest.raises(UnknownOutcomeError) as caught:
        client.submit("AAPL", "buy", 100, "187.50")
    assert isinstance(caught.value.__cause__, ClosedError)
    peer.play(script)
    client.reconnect()
    with pytest.raises(ClosedError, match="the engine is stopping") as closed:
        client.ping()
    assert closed.value.code == "SHUTTING_DOWN"


def test_the_reason_is_read_even_where_nothing_can_be_sent_any_more(peer: Peer) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        caller.write(Closing("IDLE", "nothing came"))

    peer.play(script)
    with Client(peer.address, "alice") as client:
        peer.wait()
        with pytest.raises(UnknownOutcomeError) as caught:
            client.submit("AAPL", "buy", 100, "187.50")
    assert isinstance(caught.value.__cause__, ClosedError)


def test_reports_say_how_the_connection_ended_after_what_came(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        ping = caller.read()
        trade = answer(Ping(0), ExecType.TRADE)
        caller.write(Pong(ping.request_id), trade, Closing("IDLE", "nothing came"))

    peer.play(script)
    client = connect(peer.address, "alice")
    client.ping()
    reports = client.reports()
    assert next(reports).exec_type == ExecType.TRADE
    with pytest.raises(ClosedError, match="nothing came"):
        next(reports)


def test_a_closed_client_stays_closed(peer: Peer, connect: Connect) -> None:
    peer.play(serve)
    client = connect(peer.address, "alice", auto_reconnect=True)
    client.close()
    with pytest.raises(ConnectionLostError, match="closed by the client"):
        client.ping()


# Batches ---------------------------------------------------------------------------------------


def orders(count: int) -> list[Order]:
    """Return valid orders numbered from 1."""
    return [Order("AAPL", "sell", 1, 1, client_order_id=n) for n in range(1, count + 1)]


def test_a_batch_gives_each_outcome_in_its_place(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        first, second, third = (caller.read() for _ in range(3))
        caller.write(answer(third, order_id=3), reject(second), answer(first, order_id=1))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice")
    batch = [*orders(2), Order("AAPL", "sell", 1, "0.001"), *orders(1)]
    first, second, wrong, third = client.submit_batch(batch)
    assert (first.order_id, third.order_id) == (1, 3)
    assert isinstance(second, OrderRejectedError)
    assert (second.code, second.text) == (Reason.BOOK_FULL, "must have room")
    assert isinstance(wrong, InvalidOrderError)
    assert client.submit_batch([]) == []


def test_a_batch_cut_off_keeps_what_is_known(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        batch = [caller.read() for _ in range(3)]
        caller.write(answer(batch[1]))

    peer.play(script)
    client = connect(peer.address, "alice")
    first, second, third = client.submit_batch(orders(3))
    assert isinstance(second, Execution)
    assert [(type(e), e.client_order_id) for e in (first, third)] == [
        (UnknownOutcomeError, 1),
        (UnknownOutcomeError, 3),
    ]


def test_a_batch_waits_no_longer_than_its_time(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        caller.write(answer(caller.read()))
        while caller.read() is not None:
            pass

    peer.play(script)
    client = connect(peer.address, "alice", timeout_s=SHORT_S)
    first, second = client.submit_batch(orders(2))
    assert isinstance(first, Execution)
    assert isinstance(second, AnswerTimeoutError)


def test_a_batch_beyond_what_is_sent_at_once(peer: Peer, connect: Connect) -> None:
    peer.play(serve)
    results = connect(peer.address, "alice").submit_batch(orders(5_000))
    assert [result.client_order_id for result in results] == list(range(1, 5_001))


# Reconnecting ----------------------------------------------------------------------------------


def hang_up(caller: Caller) -> None:
    """Welcome the client, take one message, and close."""
    caller.welcome()
    caller.read()


def test_reconnecting_by_hand(peer: Peer, connect: Connect) -> None:
    peer.play(hang_up)
    client = connect(peer.address, "alice")
    with pytest.raises(UnknownOutcomeError):
        client.submit("AAPL", "buy", 100, "187.50")
    with pytest.raises(ConnectionLostError):
        client.submit("AAPL", "buy", 100, "187.50")
    peer.play(Caller.read)
    peer.play(serve)
    client.reconnect()
    assert client.submit("AAPL", "buy", 100, "187.50").order_id == 11


def test_reconnecting_by_itself_sends_nothing_again(peer: Peer, connect: Connect) -> None:
    seen: list[Any] = []

    def script(caller: Caller) -> None:
        caller.welcome(session=2)
        seen.append(caller.read())
        caller.write(Pong(seen[0].request_id))
        caller.read()

    peer.play(hang_up)
    peer.play(script)
    client = connect(peer.address, "alice", auto_reconnect=True)
    with pytest.raises(UnknownOutcomeError):
        client.submit("AAPL", "buy", 100, "187.50")
    client.ping()
    assert seen == [Ping((2 << 25) + 1)]


def test_a_refusal_is_not_tried_again(peer: Peer, connect: Connect) -> None:
    def refuse(caller: Caller) -> None:
        caller.read()
        caller.write(Closing("LOGIN_REFUSED", "no further account"))

    peer.play(hang_up)
    peer.play(refuse)
    client = connect(peer.address, "alice")
    with pytest.raises(ConnectionLostError):
        client.ping()
    with pytest.raises(LoginRefusedError, match="no further account"):
        client.reconnect()
    peer.play(serve)
    client.reconnect()


def test_reconnecting_gives_up_in_time(peer: Peer, connect: Connect) -> None:
    peer.play(hang_up)
    client = connect(peer.address, "alice", auto_reconnect=True, timeout_s=SHORT_S)
    with pytest.raises(ConnectionLostError):
        client.ping()
    Path(peer.address.path).unlink()
    with pytest.raises(ConnectError):
        client.ping()


# Bounds ----------------------------------------------------------------------------------------


def test_reports_that_nobody_reads_are_counted(peer: Peer, connect: Connect) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        ping = caller.read()
        trades = [answer(Ping(0), ExecType.TRADE, order_id) for order_id in range(1, 6)]
        caller.write(*trades, Pong(ping.request_id))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice", max_reports=3)
    client.ping()
    assert client.missed_reports == 2
    with pytest.raises(MissedReportsError, match="2 reports"):
        next(client.reports(timeout_s=0))
    assert [execution.order_id for execution in client.reports(timeout_s=0)] == [3, 4, 5]


def test_sending_much_takes_in_what_comes_meanwhile(peer: Peer, connect: Connect) -> None:
    count = 40_000

    def script(caller: Caller) -> None:
        caller.welcome()
        caller.write(frame(Pong(7)) * count)
        for _ in range(count):
            caller.read()
        caller.write(Pong(8))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice", max_reports=count + 1)
    client.send_frames(frame(Ping(7)) * count)
    received: list[Any] = []
    while len(received) <= count:
        received += client.receive(timeout_s=10)
    assert received == [Pong(7)] * count + [Pong(8)]


def test_sending_waits_for_no_answer(peer: Peer, connect: Connect) -> None:
    sent = Event()

    def script(caller: Caller) -> None:
        caller.welcome()
        ping = caller.read()
        assert sent.wait(5)
        caller.write(Pong(ping.request_id))
        caller.read()

    peer.play(script)
    client = connect(peer.address, "alice", timeout_s=600)
    client.send([Ping(3)])
    sent.set()
    assert client.receive() == [Pong(3)]


def test_an_engine_that_takes_nothing(peer: Peer, connect: Connect) -> None:
    done = Event()

    def script(caller: Caller) -> None:
        caller.welcome()
        done.wait(20)

    peer.play(script)
    client = connect(peer.address, "alice", timeout_s=SHORT_S)
    with pytest.raises(ConnectionLostError, match="took nothing"):
        client.send_frames(frame(Ping(7)) * 200_000)
    done.set()
    assert not client.connected


def test_receiving_nothing(peer: Peer, connect: Connect) -> None:
    peer.play(serve)
    client = connect(peer.address, "alice")
    assert client.receive(timeout_s=0) == []
    assert client.receive(timeout_s=0.01) == []
    client.send([Ping(client.new_request_id()), Ping(client.new_request_id())])
    received: list[Any] = []
    while len(received) < 2:
        received += client.receive()
    assert received == [Pong((1 << 25) + 1), Pong((1 << 25) + 2)]


# What only tasks can do ------------------------------------------------------------------------


def test_tasks_share_one_connection(peer: Peer) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        batch = [caller.read() for _ in range(100)]
        caller.write(*(answer(order, order_id=order.client_order_id) for order in reversed(batch)))
        caller.read()

    async def run() -> list[Execution]:
        async with AsyncClient(peer.address, "alice") as client:
            submits = [client.submit("AAPL", "buy", 1, 1, client_order_id=n) for n in range(1, 101)]
            return await asyncio.gather(*submits)

    peer.play(script)
    executions = asyncio.run(run())
    assert [execution.order_id for execution in executions] == list(range(1, 101))


def test_a_cancelled_task_leaves_its_answer_to_the_reports(peer: Peer) -> None:
    asked = Event()

    def script(caller: Caller) -> None:
        caller.welcome()
        order = caller.read()
        asked.set()
        caller.write(Pong(caller.read().request_id), answer(order))
        caller.read()

    async def run() -> Execution:
        async with AsyncClient(peer.address, "alice") as client:
            task = asyncio.create_task(client.submit("AAPL", "buy", 1, 1))
            await asyncio.to_thread(asked.wait)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await client.ping()
            return await anext(client.reports())

    peer.play(script)
    assert asyncio.run(run()).order_id == 11


def test_every_waiting_task_hears_of_the_end_and_one_connection_is_made_anew(peer: Peer) -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        for _ in range(10):
            caller.read()

    async def run() -> tuple[list[Any], list[Any]]:
        async with AsyncClient(peer.address, "alice", auto_reconnect=True) as client:
            submits = [client.submit("AAPL", "buy", 1, 1) for _ in range(10)]
            lost = await asyncio.gather(*submits, return_exceptions=True)
            again = [client.submit("AAPL", "buy", 1, 1) for _ in range(10)]
            return lost, await asyncio.gather(*again)

    peer.play(script)
    peer.play(serve)
    lost, again = asyncio.run(run())
    assert {type(error) for error in lost} == {UnknownOutcomeError}
    assert {execution.order_id for execution in again} == {11}


@pytest.mark.parametrize("auto", [False, True])
def test_an_end_that_nobody_waited_for(peer: Peer, auto: bool) -> None:
    """The next reader is told, or does not notice where the client comes back by itself."""

    async def run() -> None:
        async with AsyncClient(peer.address, "alice", auto_reconnect=auto) as client:
            while client.connected:
                await asyncio.sleep(0)
            if not auto:
                with pytest.raises(ClosedError, match="nothing came"):
                    await client.receive(timeout_s=1)
                await client.reconnect()
            assert await client.receive(timeout_s=0) == []
            await client.ping()

    def script(caller: Caller) -> None:
        caller.welcome()
        caller.write(Closing("IDLE", "nothing came"))

    peer.play(script)
    peer.play(serve)
    asyncio.run(run())


def test_the_errors_have_one_base() -> None:
    kinds = [
        AnswerTimeoutError,
        ClosedError,
        ConnectError,
        InvalidOrderError,
        LoginRefusedError,
        MissedReportsError,
        OrderRejectedError,
        ProtocolError,
        UnknownOutcomeError,
    ]
    assert all(issubclass(kind, ClientError) for kind in kinds)
