"""A matcher dies: other shards go on, and who had commands at it learns what became of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from frontend.client import Client
from frontend.client.commands import Order
from frontend.client.errors import NotCarriedOutError, OrderRejectedError
from frontend.client.results import Execution
from ipc.vocabulary import Reason
from ipc.wire.frames import frame
from ipc.wire.messages import (
    Cancel,
    Login,
    MassCancel,
    MassCancelReport,
    NewOrder,
    OpenStream,
    Ping,
    Pong,
    Reject,
    Report,
    ShardRestarted,
    Welcome,
)
from tests.product import Wire, make_config, until
from tests.scripted_shard import Stage, staged


def order(symbol: int, request_id: int) -> NewOrder:
    """Return an order that rests; odd symbols are shard 0's, even ones shard 1's."""
    return NewOrder(symbol, request_id, 0, 1, 2, 1, 50, 1)


def stage_that(does: str, extra: str = "") -> Iterator[Stage]:
    with staged(make_config(2, 4, f'[frontend]\nwhen_shard_down = "{does}"\n{extra}')) as stage:
        yield stage


@pytest.fixture(scope="module")
def rejecting() -> Iterator[Stage]:
    """A frontend that rejects what comes for a dead shard."""
    yield from stage_that("reject")


@pytest.fixture(scope="module")
def holding() -> Iterator[Stage]:
    """A frontend that keeps it."""
    yield from stage_that("hold", "max_queued_bytes = 4096\n")


@pytest.fixture(params=["reject", "hold"])
def stage(request: pytest.FixtureRequest, rejecting: Stage, holding: Stage) -> Iterator[Stage]:
    """Each in turn."""
    found = {"reject": rejecting, "hold": holding}[request.param]
    yield found
    for shard in found.shards:
        if shard.backend is None:
            shard.start()
    found.until(lambda: found.counter("shards_down") == 0)


def die_in_the_midst(stage: Stage, commands: tuple[NewOrder, NewOrder], wire: Wire) -> None:
    """Let shard 1 carry out the first command without a word, take the second, and be killed."""
    first, second = commands
    wire.send(first)
    stage.shards[1].carry_out(stage.shards[1].arrived(len(frame(first))))
    wire.send(second)
    stage.shards[1].arrived(len(frame(second)))
    stage.kill(1)


def test_the_outcome_of_what_a_dead_matcher_had(stage: Stage) -> None:
    wire, user = stage.log_in("alice"), len(frame(Login("alice", [], False)))
    start = wire.welcome.account_sequences[1]
    held = stage.plan.config.frontend.when_shard_down == "hold"
    commands = order(2, 1), order(2, 2)
    die_in_the_midst(stage, commands, wire)
    sent = user + sum(len(frame(command)) for command in commands)
    wire.send(order(2, 3), order(1, 4))
    if not held:
        (reject,) = stage.receive(wire)
        assert isinstance(reject, Reject)
        assert (reject.request_id, reject.code, reject.account_sequence) == (
            3,
            Reason.SHARD_DOWN,
            0,
        )
    (other,) = stage.receive(wire)
    assert isinstance(other, Report)
    assert other.request_id == 4
    stage.shards[1].start()
    carried_out, restarted = stage.receive(wire, 2)
    assert isinstance(carried_out, Report)
    assert (carried_out.request_id, carried_out.account_sequence) == (1, start + 1)
    assert restarted == ShardRestarted(start + 1, sent)
    if held:
        (late,) = stage.receive(wire)
        assert isinstance(late, Report)
        assert (late.request_id, late.account_sequence) == (3, start + 2)
    wire.send(order(2, 5))
    (after,) = stage.receive(wire)
    assert isinstance(after, Report)
    assert (after.request_id, after.account_sequence) == (5, start + 2 + held)
    wire.sock.close()


def test_a_matcher_that_dies_again_and_again(stage: Stage) -> None:
    wire = stage.log_in("carol")
    start = wire.welcome.account_sequences[1]
    for turn in range(5):
        die_in_the_midst(stage, (order(2, 2 * turn + 1), order(2, 2 * turn + 2)), wire)
        stage.shards[1].start()
        found, restarted = stage.receive(wire, 2)
        assert isinstance(found, Report)
        assert found.account_sequence == start + turn + 1
        assert isinstance(restarted, ShardRestarted)
        assert restarted.account_sequence == start + turn + 1
    wire.sock.close()


def test_what_is_kept_is_bounded(holding: Stage) -> None:
    wire = holding.log_in("dave")
    other = holding.log_in("erin")
    holding.kill(1)
    kept = 4096 // len(frame(order(2, 1))) + 1
    wire.send(*(order(2, n) for n in range(1, kept + 1)), Ping(999))
    assert holding.receive(wire) == [Pong(999)]
    wire.send(*(order(2, n) for n in range(kept + 1, kept + 11)), order(1, 500))
    busy = holding.receive(wire, 10)
    assert {type(answer) for answer in busy} == {Reject}
    assert [answer.request_id for answer in busy] == list(range(kept + 1, kept + 11))
    assert {answer.code for answer in busy} == {Reason.BUSY}
    (here,) = holding.receive(wire)
    assert here.request_id == 500
    other.send(order(1, 1))
    (answer,) = holding.receive(other)
    assert answer.request_id == 1
    holding.shards[1].start()
    found = holding.receive(wire, kept + 1)
    assert isinstance(found[0], ShardRestarted)
    assert [report.request_id for report in found[1:]] == list(range(1, kept + 1))


def test_a_mass_cancel_that_a_shard_does_not_answer_is_rejected(stage: Stage) -> None:
    wire = stage.log_in("frank")
    wire.send(order(1, 1), order(2, 2))
    stage.receive(wire, 2)
    message = MassCancel(0, 3)
    wire.send(message)
    stage.shards[1].arrived(len(frame(message)))
    stage.kill(1)
    answers = stage.receive(wire, 2)
    rejects = [answer for answer in answers if isinstance(answer, Reject)]
    assert [(r.request_id, r.code, r.command_type) for r in rejects] == [(3, Reason.SHARD_DOWN, 5)]
    stage.shards[1].start()
    (restarted,) = stage.receive(wire)
    assert isinstance(restarted, ShardRestarted)
    wire.send(MassCancel(0, 4))
    canceled, total = stage.receive(wire, 2)
    assert isinstance(canceled, Report)
    assert total == MassCancelReport(0, 4, 1, total.timestamp_ns, 0, 0)


def test_a_session_that_ends_while_a_shard_is_down_cancels_when_it_is_back(stage: Stage) -> None:
    witness = stage.log_in("grace")
    trader = stage.log_in("grace", cancel_on_disconnect=True)
    trader.send(order(1, 1), order(2, 2))
    stage.receive(witness, 2)
    stage.kill(1)
    trader.sock.close()
    first = stage.receive(witness, 2)  # shard 0 at once
    assert [type(message) for message in first] == [Report, MassCancelReport]
    stage.shards[1].start()
    found = stage.receive(witness, 3)
    assert [type(message) for message in found] == [ShardRestarted, Report, MassCancelReport]
    assert isinstance(found[2], MassCancelReport)
    assert found[2].canceled_orders == 1


def test_the_last_session_that_ends_while_a_shard_is_down_cancels_too(stage: Stage) -> None:
    trader = stage.log_in("judy", cancel_on_disconnect=True)
    trader.send(order(1, 1), order(2, 2))
    resting = [report.order_id for report in stage.receive(trader, 2)]
    stage.kill(1)
    before = stage.counter("sessions")
    trader.sock.close()
    stage.until(lambda: stage.counter("sessions") == before - 1)
    stage.shards[1].start()
    stage.until(lambda: stage.counter("shards_down") == 0)
    back = stage.log_in("judy")
    back.send(*(Cancel(0, 3, order_id) for order_id in resting), Ping(4))
    answers = [*stage.receive(back)]
    while len(answers) < 3 or sum(isinstance(answer, Reject | Pong) for answer in answers) < 3:
        answers += stage.receive(back)
    canceled = [answer for answer in answers if isinstance(answer, Report)]
    assert not any(report.request_id for report in canceled), "they were cancelled already"
    back.sock.close()


def test_an_opening_that_is_over_is_not_taken_for_the_next_one(rejecting: Stage) -> None:
    """Who logs in, leaves and comes back while a shard stands still is told of one login."""
    stage = rejecting
    for number in count():
        back, welcome = come_back_while_a_shard_stands_still(stage, f"kate-{number}")
        if len(welcome.account_sequences) == len(stage.shards):
            break
        back.sock.close()  # this login has waited too long for the shard, and went on without it
    back.send(order(2, 1), Ping(5))
    answers = stage.receive(back, 2)
    assert {type(answer) for answer in answers} == {Report, Pong}
    back.sock.close()


def come_back_while_a_shard_stands_still(stage: Stage, user_id: str) -> tuple[Wire, Welcome]:
    """Return the second connection of a user, and how it was welcomed once the shard goes on."""
    control = len(frame(OpenStream(1, 2**63)))
    stage.until(lambda: stage.counter("shards_down") == 0)
    before = stage.counter("connections")
    gone = Wire(stage.plan)
    gone.log_in(user_id)
    stage.shards[1].arrived(control)
    gone.sock.close()
    until(lambda: stage.counter("connections") == before)
    back = Wire(stage.plan)
    back.log_in(user_id)
    stage.shards[1].arrived(2 * control)
    (welcome,) = stage.receive(back)
    assert isinstance(welcome, Welcome)
    return back, welcome


def test_a_frontend_serves_the_other_shards_where_one_is_not_there_from_the_start() -> None:
    with staged(make_config(2, 4), absent=[1]) as stage:
        assert stage.counter("shards_down") == 1
        wire = stage.log_in("lena")
        wire.send(order(1, 1), order(2, 2))
        found = {type(answer): answer for answer in stage.receive(wire, 2)}
        assert found[Report].request_id == 1
        assert (found[Reject].request_id, found[Reject].code) == (2, Reason.SHARD_DOWN)
        wire.send(order(2, 3))  # one that comes by itself is refused as well
        (reject,) = stage.receive(wire)
        assert isinstance(reject, Reject)
        assert (reject.request_id, reject.code) == (3, Reason.SHARD_DOWN)
        stage.shards[1].start()
        stage.until(lambda: stage.counter("shards_down") == 0)
        wire.send(order(2, 3))
        found = {type(answer): answer for answer in stage.receive(wire, 2)}
        assert found[Report].request_id == 3


def test_a_session_that_stays_keeps_its_orders(stage: Stage) -> None:
    trader = stage.log_in("heidi", cancel_on_disconnect=True)
    trader.send(order(2, 1))
    (resting,) = stage.receive(trader)
    stage.kill(1)
    stage.shards[1].start()
    (restarted,) = stage.receive(trader)
    assert isinstance(restarted, ShardRestarted)
    trader.send(Cancel(2, 2, resting.order_id))
    (answer,) = stage.receive(trader)
    assert isinstance(answer, Report)
    trader.sock.close()


def test_the_client_library_ends_what_was_under_way(rejecting: Stage) -> None:
    stage, address = rejecting, rejecting.plan.addresses()[0]
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(Client, address, "ivan")
        stage.until(made.done)
        client = made.result()
        first = pool.submit(client.submit, "BB", "buy", 1, "0.50", client_order_id=1)
        stage.shards[1].carry_out(stage.shards[1].arrived(1))
        stage.kill(1)
        stage.shards[1].start()
        stage.until(first.done)
        assert isinstance(first.result(), Execution)
        second = pool.submit(client.submit, "BB", "buy", 1, "0.50", client_order_id=2)
        stage.shards[1].arrived(1)
        stage.kill(1)
        down = pool.submit(client.submit_batch, [Order("BB", "buy", 1, "0.50", client_order_id=2)])
        stage.shards[1].start()
        stage.until(second.done)
        with pytest.raises(NotCarriedOutError, match="client_order_id 2"):
            second.result()
        stage.until(down.done)
        (outcome,) = down.result()
        assert isinstance(outcome, Execution | OrderRejectedError)
        client.close()
