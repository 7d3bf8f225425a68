"""An order table that takes over what another holds."""

from pathlib import Path

import numpy as np
import pytest

from bench.drive import Room, run
from bench.flows import Flow, Profile, near
from engine.books.contract import BookLimits, Records
from engine.books.reference.book import ReferenceBook
from ipc.memory.order_table import OrderTableWriter, TableFullError, create_table
from ipc.memory.order_table_reader import OrderTableReader
from ipc.records import ORDER
from ipc.vocabulary import MAX_PRICE

LIMITS = (BookLimits(1, 1, MAX_PRICE, 60),)
KEPT = 40


def report_batches(seed: int, batches: int, size: int) -> list[Records]:
    flow = Flow(Profile(LIMITS, near(100, 8), faults=0), seed)
    book = ReferenceBook(0, LIMITS, 100)
    return [
        run(book, flow.commands(size), [Room(4_096, 4_096)]).reports.copy() for _ in range(batches)
    ]


def new_table(path: Path, capacity: int = 60 + KEPT) -> OrderTableWriter:
    create_table(path, 0, capacity, KEPT)
    return OrderTableWriter(path)


def test_a_table_goes_on_as_the_one_that_it_was_taken_from(tmp_path: Path, seed: int) -> None:
    one, other = new_table(tmp_path / "one"), new_table(tmp_path / "other")
    for turn, reports in enumerate(report_batches(seed, 40, 50)):
        one.apply(reports)
        other.apply(reports)
        kept = one.contents()
        assert kept.tobytes() == other.contents().tobytes()
        reader = OrderTableReader(tmp_path / "other")
        if turn % 4 == 0:
            # Another table, or the same one in the midst of its life.
            if turn % 8:
                other = new_table(tmp_path / "other")
                reader = OrderTableReader(tmp_path / "other")
            other.adopt(kept)
            assert other.live_orders == one.live_orders
            assert other.contents().tobytes() == kept.tobytes()
        for order in kept:
            found = reader.get(int(order["order_id"]))
            assert found is not None
            for name in ORDER.names or ():
                assert name == "end_number" or (found[name] == order[name]).all()


def test_what_is_not_taken_over_is_gone_for_readers_that_were_there(tmp_path: Path) -> None:
    table = new_table(tmp_path / "orders")
    first, second = report_batches(1, 2, 100)
    table.apply(first)
    reader = OrderTableReader(tmp_path / "orders")
    before = table.contents()
    other = new_table(tmp_path / "other")
    other.apply(second)
    table.adopt(other.contents())
    there = {int(order["order_id"]) for order in other.contents()}
    for order in before:
        found = reader.get(int(order["order_id"]))
        assert (found is not None) == (int(order["order_id"]) in there)
    account = int(other.contents()["account"][0])
    assert len(reader.of_account(account)) == int((other.contents()["account"] == account).sum())


def test_a_table_too_small_keeps_the_newest(tmp_path: Path) -> None:
    table = new_table(tmp_path / "orders")
    for reports in report_batches(2, 6, 60):
        table.apply(reports)
    kept = table.contents()
    small = new_table(tmp_path / "small", len(kept) - 5)
    small.adopt(kept)
    assert small.contents()["order_id"].tolist() == kept["order_id"][5:].tolist()


def test_no_memory_for_a_table_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = new_table(tmp_path / "orders")
    table.apply(report_batches(3, 1, 60)[0])
    kept = table.contents()
    other = new_table(tmp_path / "other")

    def no_room(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(type(other.mapping), "reserve", no_room)
    with pytest.raises(TableFullError, match=f"no memory for {len(kept)} orders"):
        other.adopt(kept)
    assert not len(other.contents())
    assert np.array_equal(other.contents(), np.zeros(0, ORDER))
