"""An order table takes memory as orders come, and is read while it grows."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ipc.memory.order_table import OrderTableWriter, create_table
from ipc.memory.order_table_reader import OrderTableReader
from ipc.records import REPORT, make_id
from ipc.vocabulary import ExecType
from tests.shared_memory import until, working

CAPACITY, KEPT = 1 << 20, 50
MANY = 40_000


def entries(first: int, count: int) -> Any:
    """Return reports that so many orders enter; the price of each is its number."""
    made = np.zeros(count, REPORT)
    numbers = np.arange(first, first + count)
    made["exec_type"], made["account"] = ExecType.NEW, 1
    made["order_id"], made["price"] = make_id(0, 0) | numbers, numbers
    return made


def memory_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_memory_follows_the_orders_and_not_what_may_come(tmp_path: Path) -> None:
    path = tmp_path / "orders"
    create_table(path, 0, CAPACITY, KEPT)
    assert memory_bytes(path) < 1 << 16
    writer, early = OrderTableWriter(path), OrderTableReader(path)
    first_cells = len(writer.cells)
    for first in range(1, MANY, 1000):
        writer.apply(entries(first, 1000))
    assert len(writer.cells) >= MANY > first_cells
    assert memory_bytes(path) < 10 << 20
    for reader in (early, OrderTableReader(path)):  # one that was there before it grew, and after
        for number in range(1, MANY + 1, 97):
            order = reader.get(make_id(0, number))
            assert order is not None
            assert (order["price"], reader.cum_qty(make_id(0, number))) == (number, 0)
        assert reader.get(make_id(0, MANY + 1)) is None
    # Chains are short: of the ids, which are dense, hardly two share a cell.
    assert np.count_nonzero(writer.cells.astype(np.uint32)) > 0.9 * MANY
    again = OrderTableWriter(path)  # as a matcher that is started again
    assert len(again.cells) == len(writer.cells)
    assert again.live_orders == MANY


def test_what_is_taken_over_grows_it_too(tmp_path: Path) -> None:
    for name in ("one", "other"):
        create_table(tmp_path / name, 0, CAPACITY, KEPT)
    one, other = OrderTableWriter(tmp_path / "one"), OrderTableWriter(tmp_path / "other")
    reader = OrderTableReader(tmp_path / "other")
    one.apply(entries(1, MANY))
    other.adopt(one.contents())
    assert len(other.cells) >= MANY
    assert other.contents().tobytes() == one.contents().tobytes()
    assert reader.get(make_id(0, MANY)) is not None
    other.apply(entries(MANY + 1, MANY))
    assert reader.live_orders == 2 * MANY
    assert reader.get(make_id(0, 2 * MANY)) is not None


def test_without_memory_for_more_cells_chains_are_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "orders"
    create_table(path, 0, CAPACITY, KEPT)
    writer, reader = OrderTableWriter(path), OrderTableReader(path)
    cells, reserve = len(writer.cells), type(writer.mapping).reserve

    def no_cells(mapping: Any, offset: int, count: int) -> None:
        if offset < writer._first_account:
            raise OSError("no room")
        reserve(mapping, offset, count)

    monkeypatch.setattr(type(writer.mapping), "reserve", no_cells)
    writer.apply(entries(1, 10_000))
    assert len(writer.cells) == cells
    assert all(reader.get(make_id(0, number)) is not None for number in range(1, 10_000, 37))


def enter_without_end(path: Path, stop: Any) -> None:
    """Let tables grow from nothing to ``MANY`` orders, again and again in the same place."""
    while not stop.is_set():
        writer = OrderTableWriter(path)
        for first in range(1, MANY, 500):
            writer.apply(entries(first, 500))
        stop.wait()


def test_no_order_is_missed_while_the_table_grows(tmp_path: Path, seed: int) -> None:
    path, choice = tmp_path / "orders", random.Random(seed)
    create_table(path, 0, CAPACITY, KEPT)
    reader = OrderTableReader(path)
    with working(enter_without_end, path) as end:
        until(lambda: reader.live_orders > 0, "orders enter")
        while (there := reader.live_orders) < MANY:
            for number in [choice.randint(1, max(1, there - 1)) for _ in range(50)]:
                order = reader.get(make_id(0, number))
                assert order is not None, f"order {number} of {there}"
                assert order["price"] == number
                assert reader.cum_qty(make_id(0, number)) == 0
        end()
