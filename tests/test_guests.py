"""Who never had an order accepted is a guest: nothing is left of him when he has gone."""

import itertools
import json

import pytest

from engine.plan import Plan
from ipc.memory.status import StatusReader
from ipc.records import sequence_of
from ipc.vocabulary import Reason
from ipc.wire.messages import Cancel, Login, NewOrder, OrderQuery, Reject, Report
from tests.http import API, Http, serving
from tests.product import Wire, make_config, running, until

NOWHERE = 1 << 44
FULL = "[frontend]\nmax_accounts = 3\n"


def counter(plan: Plan, name: str, role: str = "frontend") -> int:
    processes = StatusReader(plan.status_path).processes()
    return next(process.counters[name] for process in processes if process.role == role)


def written(plan: Plan) -> list[str]:
    """Return the users whom the frontends have written down."""
    lines = [line for path in plan.accounts_paths() for line in path.read_text().splitlines()]
    return [json.loads(line)["user_id"] for line in lines]


def ask(plan: Plan, user_id: str) -> None:
    """Come as a guest, have a command rejected, and go."""
    with Wire(plan, user_id) as wire:
        wire.send(Cancel(1, 7, NOWHERE), OrderQuery(1, 8, NOWHERE))
        answers = [wire.receive(), wire.receive()]
        assert all(isinstance(answer, Reject) for answer in answers)
        assert [answer.account_sequence for answer in answers] == [0, 0]  # type: ignore[attr-defined]
    until(lambda: counter(plan, "sessions") == 0)


def trade(wire: Wire) -> Report:
    """Enter an order that rests."""
    wire.send(NewOrder(1, 1, 0, 1, 2, 1, 50, 1))
    report = wire.receive()
    assert isinstance(report, Report)
    return report


def test_a_place_is_taken_by_the_first_accepted_order(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("g")
    traders = ["trader 0", "trader 1", "trader 2"]
    with running(make_config(1, 1, FULL), directory) as plan:
        for number in range(8):
            ask(plan, f"guest {number}")
        assert written(plan) == []
        for user in traders:
            with Wire(plan, user) as wire:
                assert sequence_of(trade(wire).account_sequence) == 1
                wire.send(Cancel(1, 7, NOWHERE))
                reject = wire.receive()
                assert isinstance(reject, Reject)
                assert sequence_of(reject.account_sequence) == 2
        assert written(plan) == traders
        assert (counter(plan, "accounts"), counter(plan, "unwritten_accounts")) == (3, 0)
    with running(make_config(1, 1, FULL), directory) as plan:
        with Wire(plan) as wire:
            wire.send(Login("one more"))
            assert wire.closing().code == "LOGIN_REFUSED"
        with Wire(plan, traders[0]) as wire:
            assert sequence_of(trade(wire).account_sequence) == 3


def test_a_guest_holds_a_place_while_he_is_there() -> None:
    with running(make_config(1, 1, FULL)) as plan:
        with Wire(plan, "one"), Wire(plan, "two"), Wire(plan, "three"), Wire(plan) as other:
            other.send(Login("four"))
            assert other.closing().code == "LOGIN_REFUSED"
        until(lambda: counter(plan, "sessions") == 0)
        with Wire(plan, "four") as wire:
            trade(wire)


def test_over_http_who_only_asks_takes_no_place_from_who_trades(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("g")
    for _ in range(2):
        with serving(1, before=FULL, directory=directory) as plan, Http(plan) as http:
            for number in range(99):
                path = f"{API}/orders?user_id=NEW{number}"
                assert http.call("DELETE", path).body["cancelled"] == 0
            for user in ("alice", "bob"):
                order_id = http.order(user, "buy", 1, 5, symbol="AA")["order_id"]
                assert http.get(f"{API}/orders/{order_id}")["order"]["user_id"] == user
            assert written(plan) == ["alice", "bob"]
            assert counter(plan, "accounts", "http") == 2
            http.order("alice", "buy", 1, 5, symbol="AA")


def test_the_numbers_of_guests_streams_are_given_again() -> None:
    with running(make_config(2, 4)) as plan:
        guests = itertools.count(1)
        latest = 0

        def comes_and_goes() -> bool:
            nonlocal latest
            latest = next(guests)
            ask(plan, f"guest {latest}")
            return latest - counter(plan, "streams") >= 50

        until(comes_and_goes)
        with Wire(plan, "alice") as alice, Wire(plan, "bob") as bob:
            assert counter(plan, "streams") < latest
            order = trade(alice)
            assert sequence_of(order.account_sequence) == 1
            bob.send(OrderQuery(1, 5, order.order_id), Cancel(1, 6, order.order_id))
            answers = [bob.receive(), bob.receive()]
            assert all(isinstance(answer, Reject) for answer in answers)
            assert {answer.code for answer in answers} == {Reason.UNKNOWN_ORDER}  # type: ignore[attr-defined]
            alice.send(OrderQuery(1, 5, order.order_id))
            assert alice.receive().order_id == order.order_id  # type: ignore[attr-defined]
