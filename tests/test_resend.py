"""An order that was carried out, and whose answer never got out, is entered again by its client."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.memory.status import StatusReader
from ipc.vocabulary import ExecType, Reason
from ipc.wire.messages import NewOrder, Ping, Pong, Reject, Report, ShardRestarted
from tests.product import Wire, until
from tests.test_serve import Served, linked, logged, served

AGAIN = 7
"""The client_order_id of the order in question."""
RING_TRADES = 16


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("r")


def send_signal(serving: Served, role: str, number: signal.Signals) -> None:
    os.kill(serving.member(role).pid, number)


def sell(wire: Wire, orders: int) -> None:
    """Rest so many orders of one lot."""
    wire.send(*(NewOrder(1, n, 0, 2, 2, 1, 100, 1) for n in range(1, orders + 1)))
    for _ in range(orders):
        assert isinstance(wire.receive(), Report)


def buy(request_id: int, quantity: int) -> NewOrder:
    """Return the order in question: it takes what ``sell`` has left."""
    return NewOrder(1, request_id, AGAIN, 1, 2, 1, 100, quantity)


def routed(wire: Wire) -> None:
    """Return when the frontend has passed on all that was sent before."""
    for number in (1, 2):  # the second one is read when what the first one came with is written
        wire.send(Ping(number))
        assert wire.receive() == Pong(number)


def check_repeated(wire: Wire, order_id: int, quantity: int, serving: Served) -> None:
    """Enter the order again: it is told the first one's id, and nothing trades."""
    wire.send(buy(3, quantity))
    answer = wire.until(lambda message: getattr(message, "request_id", 0) == 3)[-1]
    assert isinstance(answer, Reject)
    assert answer.client_order_id == AGAIN
    assert (answer.code, answer.order_id) == (Reason.DUPLICATE_CLIENT_ORDER_ID, order_id)
    traded = serving.member("matcher").counters["trade_sequence"]
    until(lambda: len(logged(serving.plan)) == traded)
    assert logged(serving.plan) == list(range(1, quantity + 1))


def kill(serving: Served, directory: Path, killed: str) -> Iterator[Served]:
    """Kill the processes while the frontend has the answer in its hands; yield what serves then."""
    if killed == "everything":
        for process in StatusReader(serving.plan.status_path).processes():
            os.kill(process.pid, signal.SIGKILL)
        assert serving.end() == -signal.SIGKILL
        with served(directory) as again:
            yield again
        return
    for role in killed.split(" and "):
        send_signal(serving, role, signal.SIGKILL)
    for _ in killed.split(" and "):
        serving.until("is back")
    yield serving


@pytest.mark.parametrize(
    ("killed", "durability"),
    [("frontend", "async"), ("matcher and frontend", "async"), ("everything", "fsync")],
)
def test_an_order_carried_out_and_never_answered_trades_once(
    directory: Path, killed: str, durability: str
) -> None:
    with served(directory, f'[journal]\ndurability = "{durability}"\n') as serving:
        sell(Wire(serving.plan, "bob"), 5)
        alice = Wire(serving.plan, "alice")
        send_signal(serving, "matcher", signal.SIGSTOP)
        alice.send(buy(2, 5))
        routed(alice)
        send_signal(serving, "frontend", signal.SIGSTOP)
        send_signal(serving, "matcher", signal.SIGCONT)
        until(lambda: serving.member("matcher").counters["trades"] == 5)
        assert not alice.has_message
        for later in kill(serving, directory, killed):
            with pytest.raises((EOFError, ConnectionResetError)):
                alice.receive()
            with Wire(later.plan, "alice") as again:
                linked(again)
                check_repeated(again, 6, 5, later)
            with Wire(later.plan, "alice", resume=[0, 1 << 45]) as resumed:
                first, *trades = [resumed.receive() for _ in range(6)]
                assert isinstance(first, Report)
                assert (first.exec_type, first.order_id) == (ExecType.NEW, 6)
                assert [t.trade_id for t in trades if isinstance(t, Report)] == [1, 2, 3, 4, 5]


def test_a_matcher_that_dies_in_the_midst_of_an_order(directory: Path) -> None:
    """It waits for the log, with trades shown and nothing answered, and is killed."""
    quantity = 2 * RING_TRADES + 5
    with served(directory, engine=f"ring_trades = {RING_TRADES}\n") as serving:
        sell(Wire(serving.plan, "bob"), quantity)
        with Wire(serving.plan, "alice") as alice:
            send_signal(serving, "persister", signal.SIGSTOP)
            alice.send(buy(2, quantity))
            until(lambda: serving.member("matcher").counters["ring_full_waits"] > 0)
            assert not alice.has_message
            send_signal(serving, "matcher", signal.SIGKILL)
            send_signal(serving, "persister", signal.SIGCONT)
            serving.until("matcher 0 is back")
            *told, _ = alice.until(lambda message: isinstance(message, ShardRestarted))
            assert [type(message) for message in told] == [Report] * (quantity + 1)
            check_repeated(alice, quantity + 1, quantity, serving)
