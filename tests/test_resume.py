"""A session that comes back gets the account's reports after the last one it saw: all, and once."""

import itertools
import os
import random
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress

import pytest
from msgspec import msgpack

from engine.plan import Plan
from ipc.memory.status import StatusReader
from ipc.records import MAX_SHARDS, make_id, sequence_of, shard_of
from ipc.wire.frames import HEADER
from ipc.wire.messages import (
    MAX_LOGIN_BODY,
    Cancel,
    Login,
    MassCancel,
    MassCancelReport,
    Message,
    NewOrder,
    Ping,
    Pong,
    Reject,
    Report,
    ShardRestarted,
    Welcome,
)
from tests.product import Wire, make_config, running, until

RING = 256
SHARDS = 2
_users = itertools.count()


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """Two shards, two frontends, and rings that a few hundred reports fill."""
    extra = "[frontend]\nprocesses = 2\n"
    with running(
        make_config(
            SHARDS, 4, extra, f"ring_reports = {RING}\nkept_reports = 64\naccount_reports = 1"
        )
    ) as product:
        yield product


Connect = Callable[..., Wire]


@pytest.fixture
def connect(plan: Plan) -> Iterator[Connect]:
    """Open logged-in connections that are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Wire(plan, *arguments, **options))


@pytest.fixture
def alice() -> str:
    """A user that has had no report yet."""
    return f"alice {next(_users)}"


def positions(messages: Iterable[Message], start: Sequence[int] = ()) -> list[int]:
    """Return the last account_sequence of each shard, or where it stood before."""
    last = {shard: make_id(shard, 0) for shard in range(SHARDS)}
    last |= {shard_of(position): position for position in start}
    last |= {shard_of(m.account_sequence): m.account_sequence for m in numbered(messages)}
    return list(last.values())


def numbered(messages: Iterable[Message]) -> list[Report | Reject | MassCancelReport]:
    """Return the messages that a shard has numbered."""
    return [m for m in messages if getattr(m, "account_sequence", 0)]


def by_shard(messages: Iterable[Message]) -> list[list[Message]]:
    """Return the numbered messages of each shard, in the order they came."""
    found: list[list[Message]] = [[] for _ in range(SHARDS)]
    for message in numbered(messages):
        found[shard_of(message.account_sequence)].append(message)
    return found


def missed_by(wire: Wire, asked: Sequence[int]) -> list[Message]:
    """Return what a session is sent of the past, up to where its Welcome says it stands."""
    assert wire.welcome is not None
    count = sum(map(sequence_of, wire.welcome.account_sequences)) - sum(map(sequence_of, asked))
    return [wire.receive() for _ in range(count)]


def trade_some(alice: Wire, bob: Wire, commands: int, seed: int) -> list[Message]:
    """Let two accounts trade on both shards; return all that alice was told."""
    dice = random.Random(seed)
    for number in range(1, commands + 1):
        who = alice if dice.random() < 0.7 else bob
        symbol = dice.randint(1, 4)
        if dice.random() < 0.1:
            who.send(Cancel(symbol, number, 0, 77))  # rejected
        elif dice.random() < 0.1:
            who.send(MassCancel(symbol, number))
        else:
            side, price = dice.randint(1, 2), dice.randint(99, 101)
            who.send(NewOrder(symbol, number, 0, side, 2, 1, price, dice.randint(1, 5)))
    cancel_all(bob)
    return cancel_all(alice)


def cancel_all(wire: Wire) -> list[Message]:
    """Cancel everything, behind all that was sent before; return what came up to the answer."""
    wire.send(MassCancel(0, 9_999))
    return wire.until(lambda m: isinstance(m, MassCancelReport) and m.request_id == 9_999)


def test_each_shard_numbers_what_it_tells_an_account(connect: Connect, alice: str) -> None:
    wire = connect(alice)
    assert wire.welcome.account_sequences == [make_id(0, 0), make_id(1, 0)]
    assert [info.shard for info in wire.welcome.instruments] == [0, 1, 0, 1]
    told = trade_some(wire, connect(f"bob {alice}"), 60, 1)
    for shard, messages in enumerate(by_shard(told)):
        numbers = [message.account_sequence for message in messages]
        assert numbers == [make_id(shard, n) for n in range(1, len(numbers) + 1)]
        assert {type(message) for message in messages} == {Report, Reject, MassCancelReport}
    assert told[-1].account_sequence == 0
    assert connect(alice).welcome.account_sequences == positions(told)


def test_resume_at_every_cut_on_either_frontend(
    plan: Plan, connect: Connect, alice: str, seed: int
) -> None:
    told = numbered(trade_some(connect(alice), connect(f"bob {alice}"), 60, seed))
    assert len(told) > 60
    for cut in range(len(told) + 1):
        asked = positions(told[:cut])
        with Wire(plan, alice, plan.addresses()[cut % 2], asked) as again:
            assert again.welcome.account_sequences == positions(told)
            assert by_shard(missed_by(again, asked)) == by_shard(told[cut:])
            again.send(Ping(7))
            assert again.receive() == Pong(7)  # and nothing came twice


def test_a_shard_that_is_not_named_is_not_resumed(connect: Connect, alice: str) -> None:
    told = trade_some(connect(alice), connect(f"bob {alice}"), 20, 2)
    again = connect(alice, resume=[make_id(1, 0)])
    count = len(by_shard(told)[1])
    assert [again.receive() for _ in range(count)] == by_shard(told)[1]
    again.send(Ping(7))
    assert again.receive() == Pong(7)


def test_sessions_of_one_account_resume_apart_and_go_on_together(
    connect: Connect, alice: str
) -> None:
    first = connect(alice)
    bob = connect(f"bob {alice}")
    told = trade_some(first, bob, 30, 3)
    asked = [positions(told[:10]), positions(told[:25])]
    others = [connect(alice, resume=place) for place in asked]
    seen = [missed_by(other, place) for other, place in zip(others, asked, strict=True)]
    assert by_shard(seen[0]) == by_shard(told[10:])
    assert by_shard(seen[1]) == by_shard(told[25:])
    more = trade_some(first, bob, 30, 4)
    for other in others:
        assert [other.receive() for _ in more] == more


def test_resume_while_reports_keep_coming(connect: Connect, alice: str) -> None:
    """Ten times in the midst of a flow: what was missed ends where what comes begins."""
    first = connect(alice)
    sent = 0
    for turn in range(10):
        first.send(*(NewOrder(1 + n % 4, sent + n + 1, 0, 1, 2, 1, 50, 1) for n in range(20)))
        sent += 20
        told = [first.receive() for _ in range(turn + 1)]
        asked = positions(told, first.welcome.account_sequences)
        again = connect(alice, resume=asked)
        told += [again.receive() for _ in range(20 - len(told))]
        for shard, messages in enumerate(by_shard(told)):
            start = sequence_of(first.welcome.account_sequences[shard]) + 1
            numbers = [sequence_of(message.account_sequence) for message in messages]
            assert numbers == list(range(start, start + len(numbers)))
        first.sock.close()
        first = again
        first.welcome.account_sequences[:] = positions(told)


def test_what_the_rings_no_longer_have_is_too_old(connect: Connect, alice: str) -> None:
    wire = connect(alice)
    wire.send(*(NewOrder(2, number, 0, 1, 2, 1, 50, 1) for number in range(1, RING + 11)))
    told = [wire.receive() for _ in range(RING + 10)]
    last = told[-1].account_sequence
    closing = connect_refused(connect, alice, [make_id(0, 0), make_id(1, 0)])
    assert closing.code == "RESUME_TOO_OLD"
    said, _, oldest = closing.text.rpartition(" ")
    assert said == (
        "resume: shard 1: asked for what follows report 0 of the account, the oldest kept is"
    )
    assert 2 <= int(oldest) <= 11
    again = connect(alice, resume=[make_id(1, int(oldest) - 1)])
    missed = told[int(oldest) - 1 :]
    assert [again.receive() for _ in missed] == missed
    fresh = connect(alice)
    assert fresh.welcome.account_sequences == [make_id(0, 0), last]
    wire.send(MassCancel(2, 1))


def connect_refused(connect: Connect, user_id: str, resume: object) -> object:
    """Return the Closing that answers a login."""
    wire = connect()
    body = msgpack.encode([10, user_id, resume])
    wire.send_bytes(HEADER.pack(len(body), 0) + body)
    return wire.closing()


@pytest.mark.parametrize(
    ("resume", "code", "text"),
    [
        ([5, 6], "RESUME_UNKNOWN", "must name each shard once"),
        ([make_id(2, 0)], "RESUME_UNKNOWN", "of shards 0 to 1"),
        ([make_id(1, 1)], "RESUME_UNKNOWN", "shard 1: .* follows report 1 .* the last one is 0"),
        ([-1], "NOT_LOGGED_IN", "resume: must fit"),
        ([1 << 53], "NOT_LOGGED_IN", "resume: must fit"),
        (["1"], "NOT_LOGGED_IN", "resume: must fit"),
        (17, "NOT_LOGGED_IN", "resume: must fit"),
        ([0] * (MAX_SHARDS + 1), "NOT_LOGGED_IN", "resume: must fit"),
        ([1 << 52] * 500, "FRAME_TOO_LONG", f"at most {MAX_LOGIN_BODY}"),
    ],
)
def test_a_position_that_cannot_be(
    connect: Connect, alice: str, resume: object, code: str, text: str
) -> None:
    closing = connect_refused(connect, alice, resume)
    assert closing.code == code
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(closing.text)


def test_a_login_may_name_every_shard_that_there_can_be(connect: Connect, alice: str) -> None:
    closing = connect_refused(connect, alice, [make_id(n, 9) for n in range(MAX_SHARDS)])
    assert closing.code == "RESUME_UNKNOWN"


def test_cancel_on_disconnect_must_be_a_truth(connect: Connect) -> None:
    wire = connect()
    body = msgpack.encode([10, "alice", [], 1])
    wire.send_bytes(HEADER.pack(len(body), 0) + body)
    assert "cancel_on_disconnect: must fit" in wire.closing().text


def test_commands_behind_a_login_wait_for_it(connect: Connect, alice: str) -> None:
    """In one write: the login, which waits for the shards, and what follows it."""
    wire = connect()
    orders = [NewOrder(1 + n % 4, n + 1, 0, 1, 2, 1, 50, 1) for n in range(8)]
    wire.send(Login(alice, [make_id(0, 0), make_id(1, 0)]), *orders, Ping(99))
    assert isinstance(wire.receive(), Welcome)
    answers = [wire.receive() for _ in range(9)]
    assert sorted(answer.request_id for answer in answers) == [*range(1, 9), 99]


def test_a_killed_frontend_loses_no_report(plan: Plan, connect: Connect, alice: str) -> None:
    other = plan.addresses()[1]
    bob = connect(f"bob {alice}", other)
    wire = connect(alice)
    told: list[Message] = []
    for turn in range(1, 4):
        # Alice's orders rest; bob's take them, so that alice is told while her frontend is dead.
        wire.send(*(NewOrder(1 + n % 4, 100 * turn + n, 0, 1, 2, 1, 50, 9) for n in range(40)))
        told += [wire.receive() for _ in range(7)]
        os.kill(pid_of(plan, "frontend", 0), signal.SIGKILL)
        bob.send(*(NewOrder(1 + n % 4, n + 1, 0, 2, 2, 3, 50, 5) for n in range(8)))
        asked = positions(told)
        wire = connect_again(connect, alice, asked)
        told += missed_by(wire, asked)
        cancel_all(bob)
    told += cancel_all(wire)
    for shard, messages in enumerate(by_shard(told)):
        numbers = [message.account_sequence for message in messages]
        assert numbers == [make_id(shard, n) for n in range(1, len(numbers) + 1)]


def pid_of(plan: Plan, role: str, number: int) -> int:
    """Return the process of a role as the status page tells."""
    processes = StatusReader(plan.status_path).processes()
    return next(p.pid for p in processes if (p.role, p.number) == (role, number))


def connect_again(connect: Connect, user_id: str, resume: Sequence[int]) -> Wire:
    """Log in at a frontend that was killed, as soon as it is back."""
    found: list[Wire] = []

    def try_once() -> bool:
        with suppress(OSError, EOFError):
            found.append(connect(user_id, resume=resume))
        return bool(found)

    until(try_once)
    return found[0]


def test_a_shard_that_hangs_does_not_keep_a_login_waiting(
    plan: Plan, connect: Connect, alice: str
) -> None:
    told = trade_some(connect(alice), connect(f"bob {alice}"), 20, 5)
    pid = pid_of(plan, "matcher", 1)
    os.kill(pid, signal.SIGSTOP)
    try:
        asked = positions(told[:5])
        # An account that this frontend does not know yet: shard 1 goes by its report ring.
        wire = connect(alice, plan.addresses()[1], resume=asked)
        assert wire.welcome.account_sequences == positions(told)
        assert by_shard(missed_by(wire, asked)) == by_shard(told[5:])
        stranger = connect(f"nobody {alice}", plan.addresses()[1])
        assert stranger.welcome.account_sequences == [make_id(0, 0)]
        wire.send(NewOrder(1, 500, 0, 1, 2, 1, 50, 1))
        assert wire.receive().request_id == 500
        wire.send(NewOrder(2, 501, 0, 1, 2, 1, 50, 1))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert wire.receive() == ShardRestarted(positions(told)[1], 0)
    assert wire.receive().account_sequence == positions(told)[1] + 1
    assert stranger.receive() == ShardRestarted(make_id(1, 0), 0)


def test_what_an_account_misses_while_it_is_nowhere_is_not_sent_but_kept(
    plan: Plan, connect: Connect, alice: str
) -> None:
    wire = connect(alice)
    wire.send(NewOrder(1, 1, 0, 1, 2, 1, 100, 5))
    rested = wire.receive()
    assert isinstance(rested, Report)
    before, undelivered = counter(plan, "sessions"), counter(plan, "undelivered_bytes")
    wire.sock.close()
    until(lambda: counter(plan, "sessions") == before - 1)
    taker = connect(f"{alice} taker")
    taker.send(NewOrder(1, 2, 0, 2, 2, 1, 100, 5))
    taker.until(lambda message: isinstance(message, Report) and message.trade_id > 0)
    assert counter(plan, "undelivered_bytes") == undelivered
    back = connect(alice, resume=[rested.account_sequence])
    traded = back.receive()
    assert isinstance(traded, Report)
    assert (traded.order_id, traded.leaves_qty) == (rested.order_id, 0)
    assert traded.account_sequence == rested.account_sequence + 1
    back.send(NewOrder(1, 3, 0, 1, 2, 1, 50, 5))
    after = back.receive()
    assert isinstance(after, Report)
    assert after.account_sequence == rested.account_sequence + 2


def counter(plan: Plan, name: str) -> int:
    """Return the sum of a counter over all frontends."""
    processes = StatusReader(plan.status_path).processes()
    return sum(p.counters[name] for p in processes if p.role == "frontend")
