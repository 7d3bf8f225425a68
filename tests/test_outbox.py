"""An outbox is a queue of bytes, whatever is put in, sent and grown in between."""

import ctypes

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ipc.links.outbox import FIRST_BYTES, KEPT_BYTES, OUTBOX, Outbox

SIZES = st.one_of(st.integers(0, 300), st.integers(FIRST_BYTES - 300, 2 * FIRST_BYTES))


def write_by_address(outbox: Outbox, data: bytes) -> None:
    """Write behind what is there, as compiled code does: knowing the record's address alone."""
    raw = (ctypes.c_char * OUTBOX.itemsize).from_address(outbox.address)
    record = np.frombuffer(raw, OUTBOX)
    end = int(record["end"][0])
    assert end + len(data) <= record["size"][0]
    ctypes.memmove(int(record["address"][0]) + end, data, len(data))
    record["end"] = end + len(data)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), SIZES), max_size=30))
def test_it_is_a_queue_of_bytes(steps: list[tuple[bool, bool, int]]) -> None:
    outbox, model = Outbox(), b""
    for number, (put, by_address, size) in enumerate(steps):
        data = bytes([number]) * size
        if put and by_address:
            outbox.reserve(size + 10)
            write_by_address(outbox, data)
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
