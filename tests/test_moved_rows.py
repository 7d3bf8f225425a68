"""Records moved as rows: what numpy's own way gives, field by field."""

import numpy as np
import pytest

from ipc.arrays import copy_of, joined, those
from ipc.records import COMMAND, ORDER, REPORT, TRADE


@pytest.mark.parametrize("dtype", [COMMAND, REPORT, ORDER])
@pytest.mark.parametrize("step", [1, 3])
def test_a_copy_is_equal_and_another_piece_of_memory(dtype: np.dtype[np.void], step: int) -> None:
    random = np.random.default_rng(1)
    records = np.frombuffer(random.bytes(30 * dtype.itemsize), dtype)[::step]
    copied = copy_of(records)
    assert copied.dtype == dtype
    assert copied.tobytes() == records.copy().tobytes()
    assert copied.flags.writeable
    assert not np.shares_memory(copied, records)
    wanted = np.arange(len(records)) % 2 == 0
    assert those(records, wanted).tobytes() == records[wanted].tobytes()


def test_parts_are_joined_in_order_also_reversed_ones() -> None:
    records = np.frombuffer(np.random.default_rng(2).bytes(9 * TRADE.itemsize), TRADE)
    parts = [records[6:], records[:0], records[3:6][::-1]]
    found = joined(parts)
    assert found.dtype == TRADE
    assert found.tobytes() == np.concatenate(parts).tobytes()
    assert those(records, records["price"] >= 0).tobytes() == records.tobytes()
