"""Searching an order table in pieces, between which it changes: against plain numpy."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.memory import order_table_reader as table_module
from ipc.memory.order_table import OrderTableWriter, create_table
from ipc.memory.order_table_reader import OrderTableReader, TableBusyError
from tests.test_table import CANCELED, NEW, report, table

CAPACITY = 300
Report = tuple[int, int, int, int]
REPORTS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.booleans()), max_size=80
)


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    """Let a table of a few orders take many pieces, and several rounds of them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("_CHUNK", 3), ("_PART", 4), ("_LOOK", 16), ("_MOST_AT_ONCE", 12)):
            patch.setattr(table_module, name, size)
        yield


def result(search: Generator[None, None, Any], between: Any = lambda: None) -> Any:
    """Carry a search out; return what it found."""
    while True:
        try:
            next(search)
        except StopIteration as stop:
            return stop.value
        between()


@given(
    REPORTS,
    st.sampled_from([None, 1, 2, 9]),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from([None, 0, 4]),
    st.integers(0, 30),
)
def test_a_search_finds_the_newest_that_are_wanted(
    tmp_path_factory: pytest.TempPathFactory,
    orders: list[tuple[int, int, int, bool]],
    account: int | None,
    symbol: int,
    side: int,
    ord_status: int | None,
    limit: int,
) -> None:
    writer, reader = table(tmp_path_factory.mktemp("t"), CAPACITY)
    expected = []
    for sequence, (owner, market, own_side, ends) in enumerate(orders, 1):
        writer.apply(report(NEW, sequence, account=owner, symbol=market, side=own_side))
        if ends:
            writer.apply(report(CANCELED, sequence, 4))
        if (
            account in (None, owner)
            and symbol in (0, market)
            and side in (0, own_side)
            and ord_status in (None, 4 * ends)
        ):
            expected.append(sequence)
    found = result(reader.search(account, symbol, side, ord_status, limit))
    sequences = (found["order_id"] & ((1 << 45) - 1)).tolist()
    assert sequences == expected[::-1][:limit]
    same = reader.of_account(account, symbol, side, ord_status, limit)
    assert same.tobytes() == found.tobytes()


@pytest.mark.parametrize("account", [1, None])
def test_what_others_do_meanwhile_hides_nothing(tmp_path: Path, account: int | None) -> None:
    writer, reader = table(tmp_path, CAPACITY)
    for sequence in range(1, 101):
        writer.apply(report(NEW, sequence, account=1 + sequence % 2))
    latest, pieces = 100, 0

    def others_trade() -> None:
        """Let an order of the other account give its slot to a new one."""
        nonlocal latest, pieces
        pieces += 1
        if pieces <= 40:
            latest += 1
            writer.apply(report(CANCELED, 2 * pieces - 1, 4))
            writer.apply(report(NEW, latest, account=2))

    found = result(reader.search(account, limit=1_000), others_trade)
    assert pieces > 40
    mine = found[found["account"] == 1]
    assert len(np.unique(found["order_id"])) == len(found)
    assert (np.diff(found["order_id"].astype(np.int64)) < 0).all()
    stayed = [s for s in range(1, 101) if s % 2 == 0]
    assert [int(order_id) & ((1 << 45) - 1) for order_id in mine["order_id"]] == stayed[::-1]


def test_a_table_that_is_made_anew_meanwhile_is_searched_anew(tmp_path: Path) -> None:
    writer, reader = table(tmp_path, CAPACITY)
    for sequence in range(1, 41):
        writer.apply(report(NEW, sequence, account=1))
    create_table(tmp_path / "other", writer.shard, CAPACITY)
    other = OrderTableWriter(tmp_path / "other")
    for sequence in range(60, 20, -1):
        other.apply(report(NEW, sequence, account=1))
    kept, pieces = other.contents(), 0

    def restore() -> None:
        nonlocal pieces
        pieces += 1
        if pieces in (5, 30):
            writer.adopt(kept)

    found = result(reader.search(1, limit=1_000), restore)
    assert [int(order_id) & ((1 << 45) - 1) for order_id in found["order_id"]] == [
        *range(60, 20, -1)
    ]
    with pytest.raises(TableBusyError, match="made anew again and again"):
        result(OrderTableReader(tmp_path / "orders").search(1), lambda: writer.adopt(kept))
