"""Orders of an account go when the last session ends that asked for it, however it ends."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from engine.plan import Plan
from ipc.memory.status import StatusReader
from ipc.vocabulary import ExecType, OrdStatus, Reason
from ipc.wire.messages import MassCancelReport, Message, NewOrder, OrderQuery, OrderState, Report
from tests.product import Wire, make_config, running, until

_users = itertools.count()
Connect = Callable[..., Wire]


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """Two shards and two frontends."""
    with running(make_config(2, 4, "[frontend]\nprocesses = 2\n")) as product:
        yield product


@pytest.fixture
def connect(plan: Plan) -> Iterator[Connect]:
    """Open logged-in connections that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Wire(plan, *arguments, **options))


@pytest.fixture
def alice() -> str:
    """A user without orders."""
    return f"alice {next(_users)}"


def place(wire: Wire, count: int = 4) -> list[int]:
    """Enter orders that rest, on every shard; return their ids."""
    wire.send(*(NewOrder(1 + n % 4, n + 1, 0, 1, 2, 1, 50, 1) for n in range(count)))
    return [answer.order_id for answer in (wire.receive() for _ in range(count))]


def cancels(wire: Wire, count: int) -> set[int]:
    """Return the ids of the orders that two shards cancel without being asked by a session."""
    found: set[int] = set()
    answers: list[Message] = []
    while len(answers) < 2:
        message = wire.receive()
        if isinstance(message, MassCancelReport):
            answers.append(message)
            continue
        assert isinstance(message, Report)
        assert (message.exec_type, message.reason) == (ExecType.CANCELED, Reason.MASS_CANCEL)
        assert (message.request_id, message.leaves_qty) == (0, 0)
        found.add(message.order_id)
    assert sum(answer.canceled_orders for answer in answers) == count
    assert [(answer.request_id, answer.symbol) for answer in answers] == [(0, 0)] * 2
    return found


def sessions(plan: Plan, frontend: int) -> int:
    """Return how many sessions a frontend has."""
    processes = StatusReader(plan.status_path).processes()
    return next(
        p.counters["sessions"] for p in processes if (p.role, p.number) == ("frontend", frontend)
    )


def still_rest(wire: Wire, orders: list[int]) -> bool:
    """Return whether orders rest, as seen behind a command of each shard."""
    ids = set(place(wire))
    wire.send(*(OrderQuery(0, n, order) for n, order in enumerate(orders, 1)))
    states = [wire.receive() for _ in orders]
    assert all(isinstance(state, OrderState) for state in states)
    return bool(ids) and {state.ord_status for state in states} == {OrdStatus.NEW}


def test_the_orders_go_with_the_session(plan: Plan, connect: Connect, alice: str) -> None:
    witness = connect(alice)
    trader = connect(alice, cancel_on_disconnect=True)
    orders = place(trader)
    [witness.receive() for _ in orders]
    trader.sock.close()
    assert cancels(witness, 4) == set(orders)


def test_without_being_asked_for_the_orders_stay(plan: Plan, connect: Connect, alice: str) -> None:
    witness, trader = connect(alice), connect(alice)
    orders = place(trader)
    [witness.receive() for _ in orders]
    before = sessions(plan, 0)
    trader.sock.close()
    until(lambda: sessions(plan, 0) == before - 1)
    assert still_rest(witness, orders)


def test_the_last_session_that_asked_counts_on_whatever_frontend(
    plan: Plan, connect: Connect, alice: str
) -> None:
    here, there = plan.addresses()
    witness = connect(alice, here)
    first = connect(alice, here, cancel_on_disconnect=True)
    second = connect(alice, here, cancel_on_disconnect=True)
    third = connect(alice, there, cancel_on_disconnect=True)
    orders = place(first)
    [witness.receive() for _ in orders]
    for frontend, wire in ((0, first), (0, second)):
        before = sessions(plan, frontend)
        wire.sock.close()
        until(lambda was=before, at=frontend: sessions(plan, at) == was - 1)
        assert still_rest(witness, orders)
    third.sock.close()
    assert len(cancels(witness, 12)) == 12


def test_a_session_that_comes_back_in_time_asks_anew(
    plan: Plan, connect: Connect, alice: str
) -> None:
    witness = connect(alice)
    for _ in range(3):
        trader = connect(alice, cancel_on_disconnect=True)
        orders = place(trader)
        [witness.receive() for _ in orders]
        trader.sock.close()
        assert cancels(witness, 4) == set(orders)


@pytest.mark.parametrize("frontend", [0, 1])
def test_a_killed_frontend_ends_its_sessions(
    plan: Plan, connect: Connect, alice: str, frontend: int
) -> None:
    addresses = plan.addresses()
    witness = connect(alice, addresses[1 - frontend])
    trader = connect(alice, addresses[frontend], cancel_on_disconnect=True)
    orders = place(trader)
    [witness.receive() for _ in orders]
    processes = StatusReader(plan.status_path).processes()
    pid = next(p.pid for p in processes if (p.role, p.number) == ("frontend", frontend))
    os.kill(pid, signal.SIGKILL)
    assert cancels(witness, 4) == set(orders)
    until(lambda: restarted(plan, frontend, pid))


def restarted(plan: Plan, frontend: int, pid: int) -> bool:
    """Return whether a frontend serves again under another pid."""
    processes = StatusReader(plan.status_path).processes()
    found = next(p for p in processes if (p.role, p.number) == ("frontend", frontend))
    return found.state == "ready" and found.pid != pid
