"""An outbox is a queue of bytes, whatever is put in, sent and grown in between."""

from hypothesis import given
from hypothesis import strategies as st

from ipc.outbox import FIRST_BYTES, KEPT_BYTES, Outbox

SIZES = st.one_of(st.integers(0, 300), st.integers(FIRST_BYTES - 300, 2 * FIRST_BYTES))


@given(st.lists(st.tuples(st.booleans(), st.booleans(), SIZES), max_size=30))
def test_it_is_a_queue_of_bytes(steps: list[tuple[bool, bool, int]]) -> None:
    outbox, model = Outbox(), b""
    for number, (put, by_address, size) in enumerate(steps):
        data = bytes([number]) * size
        if put and by_address:
            outbox.reserve(size + 10)
            end = outbox.end + size
            outbox.buffer[outbox.end : end] = number
            outbox.added(end)
            model += data
        elif put:
            outbox.append(data)
            model += data
        else:
            count = min(size, len(model))
            outbox.sent(count)
            model = model[count:]
        assert len(outbox) == len(model)
        assert bytes(outbox.unsent()) == model


def test_a_large_buffer_is_given_back_when_it_is_empty() -> None:
    outbox = Outbox()
    outbox.append(bytes(KEPT_BYTES + 1))
    outbox.sent(KEPT_BYTES + 1)
    outbox.append(b"more")
    assert len(outbox.buffer) == FIRST_BYTES
    assert bytes(outbox.unsent()) == b"more"
