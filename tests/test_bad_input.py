"""Whatever a client sends or fails to do is answered, counted, and nobody else notices."""

import random
import struct
from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest

from engine.plan import Plan
from ipc.memory.status import StatusReader
from ipc.records import make_id
from ipc.vocabulary import MAX_PRICE, MAX_QUANTITY, CommandType, ExecType, Reason
from ipc.wire.frames import HEADER, frame
from ipc.wire.messages import (
    MAX_COMMAND_BODY,
    BookQuery,
    BookSnapshot,
    Cancel,
    Login,
    MassCancel,
    MassCancelReport,
    Message,
    NewOrder,
    OrderQuery,
    OrderState,
    Ping,
    Pong,
    Reduce,
    Reject,
    Replace,
    Report,
    TradeList,
    TradesQuery,
)
from ipc.wire.rejects import Request, request_of
from tests.product import Wire, make_config, running, until

Wires = Callable[[str], Wire]


def limit(request_id: int = 1, **changes: object) -> NewOrder:
    order = NewOrder(1, request_id, 0, 1, 2, 1, 100, 5)
    return msgspec.structs.replace(order, **changes)


def raw(values: object) -> bytes:
    body = msgspec.msgpack.encode(values)
    return HEADER.pack(len(body), 0) + body


def counted(plan: Plan, role: str, name: str) -> int:
    """Return a counter, summed over the processes of a role."""
    processes = StatusReader(plan.status_path).processes()
    return sum(p.counters[name] for p in processes if p.role == role)


@pytest.mark.parametrize(
    ("values", "code", "field"),
    [
        ([1, 1, 7, 0, 1, 2, 1, 100.5, 5], Reason.INVALID_PRICE, "price"),
        ([1, 1, 7, 0, 1, 2, 1, -1, 5], Reason.INVALID_PRICE, "price"),
        ([1, 1, 7, 0, 1, 2, 1, 0, 5], Reason.INVALID_PRICE, "price"),
        ([1, 1, 7, 0, 1, 2, 1, MAX_PRICE + 1, 5], Reason.INVALID_PRICE, "price"),
        ([1, 1, 7, 0, 1, 1, 2, 5, 5], Reason.INVALID_TIME_IN_FORCE, "time_in_force"),
        ([1, 1, 7, 0, 1, 1, 3, 5, 5], Reason.INVALID_PRICE, "price"),
        ([1, 1, 7, 0, 1, 2, 1, 100, 0], Reason.INVALID_QUANTITY, "quantity"),
        ([1, 1, 7, 0, 1, 2, 1, 100, MAX_QUANTITY + 1], Reason.INVALID_QUANTITY, "quantity"),
        ([1, 1, 7, 0, 3, 2, 1, 100, 5], Reason.INVALID_SIDE, "side"),
        ([1, 1, 7, 0, 1, 7, 1, 100, 5], Reason.INVALID_ORDER_TYPE, "order_type"),
        ([1, 1, 7, 0, 1, 2, 3, 100, 5, True], Reason.INVALID_POST_ONLY, "post_only"),
        ([1, 99, 7, 0, 1, 2, 1, 100, 5], Reason.UNKNOWN_SYMBOL, "symbol"),
        ([1, 0, 7, 0, 1, 2, 1, 100, 5], Reason.UNKNOWN_SYMBOL, "symbol"),
        ([1, "AA", 7, 0, 1, 2, 1, 100, 5], Reason.UNKNOWN_SYMBOL, "symbol"),
        ([1, 1, 7, 0, 1, 2], Reason.INVALID_TIME_IN_FORCE, "time_in_force"),
        ([1, 1, 7, 0, 1, 2, 1, 100, 5, False, 1], Reason.INVALID_STOP_PRICE, "stop_price"),
        ([1, 1, 7, 0, 1, 2, 1, 100, 5, False, 0, 0, 0, 0, 0, 1], Reason.INVALID_MESSAGE, "message"),
        ([2, 0, 7, 0, 0], Reason.INVALID_ORDER_ID, "order_id"),
        ([2, 0, 7, make_id(200, 1), 0], Reason.UNKNOWN_ORDER, "order_id"),
        ([2, 0, 7, make_id(1, 2**40), 0], Reason.UNKNOWN_ORDER, "order_id"),
        ([2, 1, 7, 0, 5], Reason.UNKNOWN_ORDER, "order_id"),
        ([4, 1, 7, 0, 5, 0], Reason.INVALID_QUANTITY, "quantity"),
        ([5, 99, 7], Reason.UNKNOWN_SYMBOL, "symbol"),
        ([96, 0, 7, make_id(1, 2**40)], Reason.UNKNOWN_ORDER, "order_id"),
        ([96, 0, 7, make_id(200, 1)], Reason.UNKNOWN_ORDER, "order_id"),
        ([97, 99, 7, 10], Reason.UNKNOWN_SYMBOL, "symbol"),
        ([98, 99, 7, 10], Reason.UNKNOWN_SYMBOL, "symbol"),
        ([99, 1, 7], Reason.UNKNOWN_TAG, "tag"),
        ({"side": "buy"}, Reason.INVALID_MESSAGE, "message"),
    ],
)
def test_whole_frame_is_rejected_by_code_field_and_rule(
    wires: Wires, values: object, code: Reason, field: str
) -> None:
    wire = wires("alice")
    wire.send_bytes(raw(values))
    answer = wire.receive()
    assert isinstance(answer, Reject)
    assert (answer.code, answer.code_name, answer.field) == (code, code.name, field)
    assert answer.text
    if isinstance(values, list) and values[0] != 99:
        assert answer.request_id == 7
    wire.send(Ping(8))
    assert wire.receive() == Pong(8)


def test_rejects_are_counted_by_code(product: Plan, wires: Wires) -> None:
    def rejects() -> int:
        processes = StatusReader(product.status_path).processes()
        return sum(p.rejects.get(Reason.INVALID_QUANTITY, 0) for p in processes)

    wire, before = wires("alice"), rejects()
    wire.send(limit(quantity=0))
    wire.receive()
    until(lambda: rejects() == before + 1)


def test_frame_too_long_closes_with_the_bound(product: Plan, wires: Wires) -> None:
    before = counted(product, "frontend", "closed_frame_too_long")
    wire = wires("alice")
    wire.send_bytes(frame(Ping(1)) + HEADER.pack(MAX_COMMAND_BODY + 1, 0))
    assert wire.receive() == Pong(1)
    closing = wire.closing()
    assert closing.code == "FRAME_TOO_LONG"
    assert f"at most {MAX_COMMAND_BODY}" in closing.text
    until(lambda: counted(product, "frontend", "closed_frame_too_long") == before + 1)


def test_first_message_must_be_a_login(product: Plan) -> None:
    for first in (frame(Ping(1)), raw([99]), raw([10, ""]), frame(limit())):
        with Wire(product) as wire:
            wire.send_bytes(first)
            assert wire.closing().code == "NOT_LOGGED_IN"


def test_second_login_closes(wires: Wires) -> None:
    wire = wires("alice")
    wire.send(Login("bob"))
    assert wire.closing().code == "ALREADY_LOGGED_IN"


def test_cut_off_frame_and_disconnect_leave_no_trace(product: Plan, wires: Wires) -> None:
    other = wires("other")
    for size in range(1, len(frame(limit()))):
        with Wire(product, "alice") as wire:
            wire.send_bytes(frame(limit())[:size])
    other.send(MassCancel(0, 5))
    answer = other.receive()
    assert isinstance(answer, MassCancelReport)
    assert (answer.request_id, answer.canceled_orders) == (5, 0)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_disturb_nobody(product: Plan, wires: Wires, seed: int) -> None:
    chance = random.Random(seed)
    other = wires("other")
    with Wire(product, "noise") as wire:
        for _ in range(20):
            body = chance.randbytes(chance.randrange(0, 60))
            if chance.random() < 0.9:
                body = HEADER.pack(len(body), chance.getrandbits(32)) + body
            try:
                wire.send_bytes(body)
            except (BrokenPipeError, ConnectionResetError):
                break
        other.send(Ping(seed))
        assert other.receive() == Pong(seed)


def test_stream_numbers_of_a_client_are_ignored(wires: Wires) -> None:
    alice, bob = wires("alice"), wires("bob")
    bob.send(limit(1))
    accepted = bob.receive()
    assert isinstance(accepted, Report)
    for stream in range(8):
        alice.send_bytes(frame(Cancel(1, 2, accepted.order_id), stream))
        answer = alice.receive()
        assert isinstance(answer, Reject)
        assert answer.code == Reason.UNKNOWN_ORDER
    bob.send(Cancel(1, 3, accepted.order_id))
    assert bob.receive().exec_type == ExecType.CANCELED


@pytest.mark.parametrize(
    "attempt",
    [
        lambda o: Cancel(1, 9, o.order_id),
        lambda o: Cancel(1, 9, 0, o.client_order_id),
        lambda o: Replace(1, 9, o.order_id, 0, 100, 1),
        lambda o: Reduce(1, 9, o.order_id, 0, 1),
        lambda o: OrderQuery(1, 9, o.order_id),
    ],
    ids=["cancel", "cancel by client id", "replace", "reduce", "query"],
)
def test_orders_of_another_account_are_unknown(
    wires: Wires, attempt: Callable[[Report], Message]
) -> None:
    owner, thief = wires("owner"), wires("thief")
    owner.send(limit(1, client_order_id=random.getrandbits(40) + 1))
    accepted = owner.receive()
    assert isinstance(accepted, Report)
    thief.send(attempt(accepted))
    answer = thief.receive()
    assert isinstance(answer, Reject)
    assert answer.code == Reason.UNKNOWN_ORDER
    owner.send(OrderQuery(1, 2, accepted.order_id))
    state = owner.receive()
    assert isinstance(state, OrderState)
    assert (state.leaves_qty, state.quantity) == (5, 5)
    owner.send(MassCancel(0, 3))
    owner.until(lambda message: isinstance(message, MassCancelReport))


def test_silent_client_is_closed_after_the_login_timeout() -> None:
    config = make_config(1, 1, "[frontend]\nlogin_timeout_s = 1\nidle_timeout_s = 1\n")
    with running(config) as plan:
        with Wire(plan) as wire:
            assert wire.closing().code == "LOGIN_TIMEOUT"
        with Wire(plan, "alice") as wire:
            assert wire.closing().code == "IDLE"
        until(lambda: counted(plan, "frontend", "closed_login_timeout") == 1)
        until(lambda: counted(plan, "frontend", "closed_idle") == 1)


def test_client_that_never_reads_is_cut_off() -> None:
    config = make_config(1, 1, "[frontend]\nmax_unread_bytes = 65536\n")
    with running(config) as plan, Wire(plan, "other") as other, Wire(plan, "deaf") as deaf:
        with suppress(ConnectionError):  # it may be cut off in the midst of it
            deaf.send_bytes(frame(limit(1)) * 20_000)
        while not counted(plan, "frontend", "closed_slow_reader"):
            other.send(Ping(1))
            assert other.receive() == Pong(1)
        with pytest.raises((EOFError, ConnectionResetError)):
            list(iter(deaf.receive, None))


def test_sessions_are_bounded() -> None:
    config = make_config(1, 1, "[frontend]\nmax_sessions = 2\n")
    with running(config) as plan, Wire(plan, "one"):
        with Wire(plan, "two"), Wire(plan) as third:
            assert third.closing().code == "TOO_MANY_SESSIONS"
        until(lambda: counted(plan, "frontend", "refused_too_many_sessions") == 1)


def test_accounts_are_bounded() -> None:
    config = make_config(1, 1, "[frontend]\nmax_accounts = 1\n")
    with running(config) as plan, Wire(plan, "one"), Wire(plan, "one"), Wire(plan) as other:
        other.send(Login("two"))
        assert other.closing().code == "LOGIN_REFUSED"


def test_queries_are_answered_and_bounded(wires: Wires) -> None:
    wire = wires("trader")
    wire.send(limit(1, symbol=2), limit(2, symbol=2, side=2, quantity=3))
    wire.until(lambda m: isinstance(m, Report) and m.exec_type == ExecType.TRADE and m.side == 1)
    wire.send(TradesQuery(2, 3, 2**40))
    trades = wire.until(lambda m: isinstance(m, TradeList))[-1]
    assert [(t.price, t.quantity, t.taker_side) for t in trades.trades] == [(100, 3, 2)]
    wire.send(BookQuery(2, 4, 2**40))
    book = wire.receive()
    assert isinstance(book, BookSnapshot)
    assert [(level.price, level.quantity) for level in book.bids] == [(100, 2)]
    assert book.asks == []


def test_header_alone_may_come_byte_by_byte(wires: Wires) -> None:
    wire = wires("slow")
    for byte in frame(Ping(3)):
        wire.send_bytes(struct.pack("B", byte))
    assert wire.receive() == Pong(3)


@pytest.mark.parametrize("price", [b"\xb4" + b"\xff" * 20, b"\x91" * 900 + b"\x01"])
def test_a_reject_repeats_the_ids_beside_what_cannot_be_read(price: bytes) -> None:
    body = b"\x99\x01\x02\x07\x08\x01\x02\x01" + price + b"\x05"
    assert request_of(body) == Request(CommandType.NEW, 2, 7, 0, 8)
