"""Rejects of whole frames that are no command: field, rule and request are named."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.vocabulary import Reason
from ipc.wire.messages import Reject, client_decoder
from ipc.wire.rejects import explain, request_of

ORDER = [1, 1, 7, 9, 1, 2, 1, 100, 5]


def reject_of(body: bytes) -> Reject:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)) as caught:
        client_decoder.decode(body)
    return explain(body, caught.value, 1)


def changed(position: int, value: object) -> list[object]:
    return [*ORDER[:position], value, *ORDER[position + 1 :]]


@pytest.mark.parametrize(
    ("values", "code", "field", "rule"),
    [
        (changed(4, "buy"), Reason.INVALID_SIDE, "side", "Expected int, got str"),
        (changed(5, 300), Reason.INVALID_ORDER_TYPE, "order_type", "<= 255"),
        (changed(6, None), Reason.INVALID_TIME_IN_FORCE, "time_in_force", "got None"),
        (changed(7, 100.5), Reason.INVALID_PRICE, "price", "Expected int, got float"),
        (changed(7, -1), Reason.INVALID_PRICE, "price", "Expected int >= 0"),
        (changed(7, 2**63), Reason.INVALID_PRICE, "price", "Expected int <="),
        (changed(8, True), Reason.INVALID_QUANTITY, "quantity", "got bool"),
        (changed(1, 70_000), Reason.UNKNOWN_SYMBOL, "symbol", "<= 65535"),
        (changed(3, [1]), Reason.INVALID_MESSAGE, "client_order_id", "got array"),
        ([*ORDER, 1], Reason.INVALID_POST_ONLY, "post_only", "Expected bool"),
        (ORDER[:7], Reason.INVALID_PRICE, "price", "must be given"),
        (ORDER[:1], Reason.UNKNOWN_SYMBOL, "symbol", "must be given"),
        ([*ORDER, True, *range(6)], Reason.INVALID_MESSAGE, "message", "must have 14 fields"),
        ([99, 1, 7], Reason.UNKNOWN_TAG, "tag", "must be the tag"),
        (["x", 1], Reason.UNKNOWN_TAG, "tag", "must be the tag"),
        ([], Reason.INVALID_MESSAGE, "message", "must be a message"),
        ({"tag": 1}, Reason.INVALID_MESSAGE, "message", "Expected array"),
        (5, Reason.INVALID_MESSAGE, "message", "Expected array"),
    ],
)
def test_fault_is_named(values: object, code: Reason, field: str, rule: str) -> None:
    answer = reject_of(msgspec.msgpack.encode(values))
    assert (answer.code, answer.code_name, answer.field) == (code, code.name, field)
    assert rule in answer.text


def test_request_is_repeated_where_it_can_be_read() -> None:
    answer = reject_of(msgspec.msgpack.encode(changed(7, "x")))
    assert (answer.command_type, answer.symbol) == (1, 1)
    assert (answer.request_id, answer.client_order_id) == (7, 9)
    assert request_of(b"\xc1") == (0, 0, 0, 0, 0)


def check_answered(body: bytes) -> None:
    """Whatever msgspec refuses is answered with a known code, a field and a text."""
    try:
        client_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        answer = explain(body, error, 1)
    else:
        return
    assert Reason(answer.code).name == answer.code_name
    assert answer.field
    assert answer.text


@given(st.binary(max_size=60))
def test_any_bytes_get_an_answer(body: bytes) -> None:
    check_answered(body)


@given(
    st.lists(st.integers(-(2**63), 2**64 - 1) | st.text(max_size=3) | st.booleans(), max_size=12)
)
def test_any_array_gets_an_answer(values: list[object]) -> None:
    check_answered(msgspec.msgpack.encode([1, *values]))
