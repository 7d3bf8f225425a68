"""The order table: against a dict, and read by one process while another writes at full speed."""

import errno
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.memory import order_table as table_module
from ipc.memory import order_table_reader as reader_module
from ipc.memory.order_table import OrderTableWriter, TableFullError, create_table
from ipc.memory.order_table_kernel import EPOCH
from ipc.memory.order_table_reader import MAX_TRIES, OrderTableReader, TableBusyError
from ipc.records import ORDER, REPORT, make_id
from ipc.vocabulary import ExecType, OrdStatus, Reason
from tests.shared_memory import until, working

SHARD = 2
NEW, CANCELED, REPLACED = int(ExecType.NEW), int(ExecType.CANCELED), int(ExecType.REPLACED)
TRADE, REJECTED = int(ExecType.TRADE), int(ExecType.REJECTED)
TRIGGERED = int(ExecType.TRIGGERED)
MASS_CANCELED = int(ExecType.MASS_CANCELED)
ENDED = (OrdStatus.FILLED, OrdStatus.CANCELED)
IDENTITY = ("account", "client_order_id", "symbol", "side", "order_type", "time_in_force", "flags")
STATE = ("price", "quantity", "cum_qty", "leaves_qty", "ord_status", "reason")


def table(path: Path, capacity: int) -> tuple[OrderTableWriter, OrderTableReader]:
    create_table(path / "orders", SHARD, capacity)
    return OrderTableWriter(path / "orders"), OrderTableReader(path / "orders")


def report(exec_type: int, sequence: int, ord_status: int = 0, **fields: int) -> np.ndarray:
    """One report, on the order of a sequence number; what ``fields`` leaves open is 0."""
    made = np.zeros(1, REPORT)
    made["exec_type"], made["ord_status"] = exec_type, ord_status
    made["order_id"] = make_id(SHARD, sequence)
    for name, value in fields.items():
        made[name] = value
    return made


def fields_of(order: Any) -> dict[str, int]:
    """The fields of an ORDER record."""
    inner = ("reserved", "end_number")
    return {name: int(order[name]) for name in ORDER.names or () if name not in inner}


class Model:
    """The table as a dict: orders by id in the order of their entry, and a queue of ended ones."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.orders: dict[int, dict[str, int]] = {}
        self.ended: list[int] = []

    def apply(self, one: np.void) -> bool:
        """Carry a report out; False where there is no room."""
        exec_type, order_id = int(one["exec_type"]), int(one["order_id"])
        if exec_type in (REJECTED, MASS_CANCELED):
            return True
        known = order_id in self.orders
        if not known and len(self.orders) == self.capacity:
            if not self.ended:
                return False
            del self.orders[self.ended.pop(0)]
        order = self.orders.setdefault(order_id, {"order_id": order_id})
        if not known or exec_type == NEW:
            order.update({name: int(one[name]) for name in IDENTITY})
            order["created_ns"] = int(one["timestamp_ns"]) if exec_type == NEW else 0
            order["stop_price"] = int(one["last_price"]) if exec_type == NEW else 0
            order["display_quantity"] = int(one["last_qty"]) if exec_type == NEW else 0
        elif exec_type in (REPLACED, TRIGGERED):
            order["flags"] = int(one["flags"])
            if one["last_price"] and not one["reason"]:
                order["stop_price"] = int(one["last_price"])
            if one["last_qty"] and not one["reason"]:
                order["display_quantity"] = int(one["last_qty"])
        order.update({name: int(one[name]) for name in STATE})
        order["updated_ns"] = int(one["timestamp_ns"])
        ended = order["ord_status"] in ENDED
        if not ended:
            order["reason"] = 0
        if ended and order_id not in self.ended:
            self.ended.append(order_id)
        if not ended and order_id in self.ended:
            self.ended.remove(order_id)
        return True


def agree(reader: OrderTableReader, model: Model, ids: Iterator[int]) -> None:
    """Compare all that can be read with the model."""
    assert reader.live_orders == len(model.orders) - len(model.ended)
    for order_id in ids:
        found = reader.get(order_id)
        assert (found is not None) == (order_id in model.orders)
        if found is not None:
            assert found.dtype == ORDER
            assert fields_of(found) == model.orders[order_id]
    for account in (1, 2):
        of_account = [order for order in model.orders.values() if order["account"] == account]
        of_account.sort(key=lambda order: -order["order_id"])
        assert [fields_of(order) for order in reader.of_account(account)] == of_account


# What a stream of reports leaves behind ---------------------------------------------------------

A_REPORT = st.builds(
    report,
    st.sampled_from([NEW, NEW, CANCELED, REPLACED, TRADE, TRIGGERED, REJECTED, MASS_CANCELED]),
    # Few cells, so that orders share chains: the table's largest has 16.
    st.integers(1, 40),
    st.sampled_from([OrdStatus.NEW, OrdStatus.PARTIALLY_FILLED, *ENDED]),
    account=st.sampled_from([1, 2]),
    last_price=st.sampled_from([0, 0, 77, 78]),
    client_order_id=st.integers(0, 2**63 - 1),
    price=st.integers(0, 2**64 - 1),
    quantity=st.integers(0, 2**64 - 1),
    cum_qty=st.integers(0, 2**64 - 1),
    leaves_qty=st.integers(0, 2**64 - 1),
    timestamp_ns=st.integers(1, 2**64 - 1),
    symbol=st.integers(0, 2**16 - 1),
    side=st.integers(0, 255),
    order_type=st.integers(0, 255),
    time_in_force=st.integers(0, 255),
    flags=st.integers(0, 255),
    reason=st.integers(0, 2**16 - 1),
)


@given(
    capacity=st.integers(1, 9),
    reports=st.lists(A_REPORT, min_size=1, max_size=60),
    batch=st.integers(1, 60),
    reopen=st.booleans(),
)
def test_it_is_a_dict_that_forgets_what_ended_first(
    tmp_path_factory: pytest.TempPathFactory,
    capacity: int,
    reports: list[np.ndarray],
    batch: int,
    reopen: bool,
) -> None:
    path = tmp_path_factory.mktemp("table")
    writer, reader = table(path, capacity)
    model = Model(capacity)
    stream = np.concatenate(reports)
    # An heir orders what has ended by time; let the times be in the order of the reports.
    stream["timestamp_ns"] = np.arange(1, len(stream) + 1)
    for first in range(0, len(stream), batch):
        part = stream[first : first + batch]
        carried_out = list(map(model.apply, part))
        if all(carried_out):
            writer.apply(part)
        else:
            stop = carried_out.index(False)
            model = Model(capacity)
            list(map(model.apply, stream[: first + stop]))
            with pytest.raises(TableFullError, match=rf"\(report {stop} of {len(part)}\)"):
                writer.apply(part)
            assert writer.overflowed_orders == 1
            break
        if reopen and model_keeps_times(model):
            writer = OrderTableWriter(path / "orders")
    agree(reader, model, (make_id(SHARD, sequence) for sequence in range(1, 42)))


def model_keeps_times(model: Model) -> bool:
    """Whether the ended orders queue by their last change: an ended order was not changed again."""
    times = [model.orders[order_id]["updated_ns"] for order_id in model.ended]
    return times == sorted(times)


def test_an_order_from_entry_to_end(tmp_path: Path) -> None:
    writer, reader = table(tmp_path, 4)
    order_id = make_id(SHARD, 7)
    entered = dict.fromkeys(("account", "client_order_id", "symbol", "side", "order_type"), 2)
    writer.apply(report(NEW, 7, 0, price=100, quantity=8, leaves_qty=8, timestamp_ns=50, **entered))
    writer.apply(
        report(TRADE, 7, 1, price=100, quantity=8, cum_qty=3, leaves_qty=5, timestamp_ns=60)
    )
    writer.apply(
        report(
            CANCELED, 7, 4, price=100, quantity=8, cum_qty=3, timestamp_ns=70,
            reason=Reason.CANCEL_REQUESTED,
        )
    )  # fmt: skip
    order = reader.get(order_id)
    assert order is not None
    assert fields_of(order) == {
        **dict.fromkeys(set(ORDER.names or ()) - {"reserved", "end_number"}, 0),
        **entered,
        "order_id": order_id,
        "price": 100,
        "quantity": 8,
        "cum_qty": 3,
        "created_ns": 50,
        "updated_ns": 70,
        "reason": 100,
        "ord_status": 4,
    }


def test_a_full_table_says_which_report_found_no_room(tmp_path: Path) -> None:
    writer, reader = table(tmp_path, 2)
    stream = np.concatenate([report(NEW, sequence, account=1) for sequence in (1, 2, 3, 4)])
    with pytest.raises(
        TableFullError, match=rf"orders: 2 orders are live, .* {make_id(SHARD, 3)} \(report 2 "
    ):
        writer.apply(stream)
    assert (writer.overflowed_orders, reader.live_orders) == (1, 2)
    writer.apply(np.concatenate([report(CANCELED, 1, 4), report(NEW, 3, account=1)]))
    assert reader.get_many([make_id(SHARD, s) for s in (1, 2, 3)])["order_id"].tolist() == [
        0,
        make_id(SHARD, 2),
        make_id(SHARD, 3),
    ]


def test_it_keeps_those_that_ended_last_in_few_slots(tmp_path: Path) -> None:
    """However many orders come and go, hardly more slots are used than stay; and those stay."""
    create_table(tmp_path / "orders", SHARD, 100_000, 400)
    writer, reader = OrderTableWriter(tmp_path / "orders"), OrderTableReader(tmp_path / "orders")
    old = range(1, 51)
    writer.apply(np.concatenate([report(NEW, sequence) for sequence in old]))
    ended: list[int] = []
    for sequence in range(51, 5_051):
        writer.apply(np.concatenate([report(NEW, sequence), report(CANCELED, sequence, 4)]))
        ended.append(sequence)
        if sequence % 100 == 0:  # an old order ends too: it must not go before younger ends
            writer.apply(report(CANCELED, sequence // 100, 4))
            ended.append(sequence // 100)
        last = [make_id(SHARD, number) for number in ended[-400:]]
        if sequence % 50 == 0:
            assert reader.get_many(last)["order_id"].tolist() == last
    assert np.count_nonzero(writer.entries["order_id"]) <= 50 + 400 * 5 // 4 + 1
    assert reader.get(make_id(SHARD, 51)) is None


def test_slots_get_memory_as_they_are_used(tmp_path: Path) -> None:
    writer, _ = table(tmp_path, 200_000)
    before = (tmp_path / "orders").stat().st_blocks * 512
    assert before < 4 << 20
    writer.apply(np.concatenate([report(NEW, sequence) for sequence in range(1, 10_001)]))
    grown = (tmp_path / "orders").stat().st_blocks * 512 - before
    assert 10_000 * 96 <= grown <= 3 << 20


def test_without_memory_for_more_slots_fewer_ended_orders_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "_RESERVE_SLOTS", 8)
    writer, reader = table(tmp_path, 1_000)
    writer.apply(np.concatenate([report(NEW, sequence) for sequence in range(1, 9)]))
    monkeypatch.setattr(writer.mapping, "reserve", no_memory)
    writer.apply(np.concatenate([report(CANCELED, sequence, 4) for sequence in range(1, 7)]))
    writer.apply(np.concatenate([report(NEW, sequence) for sequence in range(9, 15)]))
    live = [make_id(SHARD, sequence) for sequence in range(7, 15)]
    assert reader.get_many(live)["order_id"].tolist() == live
    with pytest.raises(TableFullError, match="8 orders are live, no slot or memory for order"):
        writer.apply(report(NEW, 15))


def no_memory(*_: object) -> None:
    raise OSError(errno.ENOSPC, "no space")


def test_orders_of_an_account_newest_first(tmp_path: Path) -> None:
    writer, reader = table(tmp_path, 5000)
    stream = np.concatenate([report(NEW, sequence) for sequence in range(1, 4001)])
    stream["account"] = np.arange(4000) % 2 + 1
    stream["symbol"] = np.arange(4000) % 3
    stream["side"] = np.arange(4000) // 2 % 2 + 1
    writer.apply(stream)
    writer.apply(np.concatenate([report(CANCELED, sequence, 4) for sequence in range(1, 4001, 7)]))

    def expected(*conditions: np.ndarray) -> list[int]:
        return stream["order_id"][np.logical_and.reduce(conditions)][::-1].tolist()

    canceled = np.arange(4000) % 7 == 0
    mine = stream["account"] == 2

    def found(**wanted: int) -> list[int]:
        return reader.of_account(2, limit=wanted.pop("limit", 5000), **wanted)["order_id"].tolist()

    assert found() == expected(mine)
    assert found(limit=3) == expected(mine)[:3]
    assert found(limit=0) == []
    assert found(symbol=2) == expected(mine, stream["symbol"] == 2)
    assert found(side=1) == expected(mine, stream["side"] == 1)
    assert found(ord_status=0) == expected(mine, ~canceled)
    assert found(symbol=1, side=2, ord_status=4) == expected(
        mine, canceled, stream["symbol"] == 1, stream["side"] == 2
    )
    assert reader.of_account(3).tolist() == []
    assert reader.of_account(0).tolist() == []


def test_an_heir_drops_what_was_half_written(tmp_path: Path) -> None:
    writer, reader = table(tmp_path, 3)
    writer.apply(np.concatenate([report(NEW, sequence, account=1) for sequence in (1, 2, 3)]))
    slot = int(np.flatnonzero(writer.entries["order_id"] == make_id(SHARD, 2))[0])
    writer.entries["version"][slot] |= 1  # and then killed
    heir = OrderTableWriter(tmp_path / "orders")
    assert reader.get(make_id(SHARD, 2)) is None
    assert heir.live_orders == 2
    assert len(reader.of_account(1)) == 2
    assert reader.of_account(0).tolist() == []
    heir.apply(report(NEW, 4, account=1))
    assert len(reader.of_account(1)) == 3


def test_an_heir_knows_which_order_ended_first(tmp_path: Path) -> None:
    writer, reader = table(tmp_path, 4)
    writer.apply(np.concatenate([report(NEW, sequence) for sequence in (1, 2, 3)]))
    ended = [report(CANCELED, s, 4, timestamp_ns=time) for time, s in enumerate((3, 1, 2), 1)]
    writer.apply(np.concatenate(ended))
    heir = OrderTableWriter(tmp_path / "orders")
    ids = [make_id(SHARD, sequence) for sequence in range(1, 8)]

    def held() -> list[int]:
        return [int(order) & 0xFF for order in reader.get_many(ids)["order_id"] if order]

    for sequence, expected in ((4, [1, 2, 3, 4]), (5, [1, 2, 4, 5]), (6, [2, 4, 5, 6])):
        heir.apply(report(NEW, sequence))
        assert held() == expected


def test_no_order_is_missed_while_an_heir_finds_its_way(tmp_path: Path) -> None:
    writer, reader = table(tmp_path, 3)
    writer.apply(report(NEW, 1))
    writer.words[EPOCH] += np.uint64(1)
    assert reader.get(make_id(SHARD, 1)) is not None
    with pytest.raises(TableBusyError):
        reader.get(make_id(SHARD, 2))
    OrderTableWriter(tmp_path / "orders")
    assert reader.get(make_id(SHARD, 2)) is None


def test_readers_cannot_write(tmp_path: Path) -> None:
    _, reader = table(tmp_path, 3)
    with pytest.raises(ValueError, match="read-only"):
        reader.entries["price"] = 1
    with pytest.raises(TypeError, match="read-only"):
        reader._entry_words[0] = 1


def test_copies_outlive_the_table(tmp_path: Path) -> None:
    writer, reader = table(tmp_path, 3)
    writer.apply(report(NEW, 1, account=5, price=77))
    order, orders = reader.get(make_id(SHARD, 1)), reader.of_account(5)
    writer.close()
    reader.close()
    assert order is not None
    assert (order["price"], orders["price"].tolist()) == (77, [77])


def test_orders_that_are_laps_apart_do_not_share_a_cell(tmp_path: Path) -> None:
    """Those of one residue modulo the number of cells: who keeps them alive made one long chain."""
    writer, reader = table(tmp_path, 900)
    laps = np.arange(800, dtype=np.uint64) * np.uint64(len(reader.cells))
    for lap in laps.tolist():
        writer.apply(report(NEW, 1 + lap))
    longest = 0
    for cell in reader.cells.tolist():
        slot, length = cell & 0xFFFFFFFF, 0
        while slot:
            slot, length = int(reader.entries["next"][slot]), length + 1
        longest = max(longest, length)
    assert longest <= 16
    assert all(reader.get(make_id(SHARD, 1 + lap)) is not None for lap in laps.tolist())


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
import numpy as np
from pathlib import Path
from ipc.native.compiled import HAVE_NUMBA
from ipc.memory.order_table import OrderTableWriter, create_table
assert not HAVE_NUMBA
create_table(Path(sys.argv[1]), 2, 50, factor=99)
OrderTableWriter(Path(sys.argv[1])).apply(np.load(sys.argv[2]))
"""


def test_it_is_the_same_without_numba(tmp_path: Path) -> None:
    stream = lives(1, 300)
    np.save(tmp_path / "stream.npy", stream)
    command = [sys.executable, "-W", "error", "-c", WITHOUT_NUMBA]
    subprocess.run([*command, tmp_path / "plain", tmp_path / "stream.npy"], check=True)
    create_table(tmp_path / "keyed", SHARD, 50, factor=99)
    writer, reader = OrderTableWriter(tmp_path / "keyed"), OrderTableReader(tmp_path / "keyed")
    writer.apply(stream)
    plain = OrderTableReader(tmp_path / "plain")
    assert plain.live_orders == reader.live_orders == LAGS[-1]
    assert np.array_equal(plain.entries, reader.entries)
    assert np.array_equal(plain.cells, reader.cells)
    assert np.array_equal(plain.accounts, reader.accounts)


# Between processes ------------------------------------------------------------------------------

PERMANENT = 64
"""Orders 1 to this enter first and stay."""
QUANTITY = 3
LAGS = (4, 9, 20)
"""How many orders enter between an order and each of its fills of one lot."""
ACCOUNTS = 4


def states(sequence: np.ndarray, cum_qty: np.ndarray) -> np.ndarray:
    """Reports whose every field follows from the order and how much of it is filled."""
    made = np.zeros(len(sequence), REPORT)
    made["exec_type"] = np.where(cum_qty == 0, NEW, TRADE)
    made["ord_status"] = np.choose(cum_qty, (0, 1, 1, OrdStatus.FILLED))
    made["order_id"] = make_id(SHARD, 0) + sequence
    made["account"] = np.where(sequence <= PERMANENT, 1, 2 + sequence % ACCOUNTS)
    made["client_order_id"] = sequence * 31
    made["price"] = sequence * 7 + cum_qty
    made["quantity"] = QUANTITY
    made["cum_qty"] = cum_qty
    made["leaves_qty"] = QUANTITY - cum_qty
    made["timestamp_ns"] = sequence * 1000 + cum_qty
    made["symbol"] = sequence % 1000
    made["side"] = 1 + sequence % 2
    made["reason"] = np.where(cum_qty == QUANTITY, cum_qty, 0)
    return made


def lives(first: int, count: int, oldest: int = 1) -> np.ndarray:
    """Reports in which orders enter one by one, with the fills of those before, from ``oldest``."""
    entering = np.arange(first, first + count)
    sequence = np.stack([entering - lag for lag in (0, *LAGS)], axis=1).ravel()
    cum_qty = np.tile(np.arange(QUANTITY + 1), count)
    there = sequence >= oldest
    return states(sequence[there], cum_qty[there])


def check(orders: np.ndarray) -> None:
    """Verify that orders are just what ``states`` made of them."""
    sequence = orders["client_order_id"].astype(np.int64) // 31
    reports = states(sequence, orders["cum_qty"].astype(np.int64))
    expected = np.zeros(len(orders), ORDER)
    for name in ("order_id", *IDENTITY, *STATE):
        expected[name] = reports[name]
    expected["created_ns"] = sequence * 1000
    expected["updated_ns"] = reports["timestamp_ns"]
    expected["end_number"] = orders["end_number"]
    assert np.array_equal(orders, expected)


def write_without_end(path: Path, stop: Any) -> None:
    """Let orders enter, fill and give their slots away, until told to stop."""
    writer = OrderTableWriter(path)
    permanent = np.arange(1, PERMANENT + 1)
    writer.apply(states(permanent, np.zeros_like(permanent)))
    first, count = PERMANENT + 1, 8192
    while not stop.is_set():
        stream = lives(first, count, PERMANENT + 1)
        for start in range(0, len(stream), 512):
            writer.apply(stream[start : start + 512])
        first += count


def test_readers_see_whole_orders_and_miss_none(tmp_path: Path, seed: int) -> None:
    """Orders that stay are always found, though their chains' other slots change hands."""
    path = tmp_path / "orders"
    create_table(path, SHARD, PERMANENT + 96)
    reader, choice = OrderTableReader(path), random.Random(seed)
    with working(write_without_end, path) as end:
        until(lambda: reader.live_orders > PERMANENT, "orders enter")
        found = 0
        while found < 20_000 or reader.torn_copies < 20:
            newest = int(reader.entries["order_id"].max())
            assert reader.get(newest + 2**40) is None
            permanent = [make_id(SHARD, choice.randint(1, PERMANENT)) for _ in range(100)]
            orders = reader.get_many(permanent)
            assert orders["order_id"].tolist() == permanent
            check(orders)
            changing = [newest - choice.randrange(LAGS[-1] + 10) for _ in range(100)]
            orders = reader.get_many(changing)
            there = orders["order_id"] != 0
            assert np.array_equal(orders["order_id"][there], np.array(changing)[there])
            check(orders[there])
            found += np.count_nonzero(there)
            stay = reader.of_account(1, limit=1000)
            check(stay)
            assert len(stay) == PERMANENT
            check(reader.of_account(2 + choice.randrange(ACCOUNTS)))
        end()


def test_an_order_that_changes_while_it_is_copied_is_copied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = table(tmp_path, 3)
    writer.apply(states(np.array([1]), np.array([0])))
    changes = [1, 2]

    def change(*loaded: Any) -> Any:
        """Run in place of what stands between a copy and the second look at its version."""
        if changes:
            writer.apply(states(np.array([1]), np.array([changes.pop(0)])))
        return loaded[0][loaded[1]] if loaded else None

    monkeypatch.setattr(reader_module, "load_after", change)
    order = reader.get(make_id(SHARD, 1))
    assert order is not None
    assert (order["cum_qty"], reader.torn_copies) == (2, 2)
    changes.append(3)
    monkeypatch.setattr(reader_module, "fence", change)
    assert (reader.of_account(1)["cum_qty"].tolist(), reader.torn_copies) == ([3], 3)


def test_a_slot_that_changes_hands_while_it_is_copied_is_not_taken_for_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = table(tmp_path, 1)
    looks = 0

    def replace(*loaded: Any) -> Any:
        """Give the only slot to the next order, at the first look at a version."""
        nonlocal looks
        looks += 1
        if looks == look_at_version:
            writer.apply(np.concatenate([report(CANCELED, 1, 4), report(NEW, 2, account=2)]))
        return loaded[0][loaded[1]] if loaded else None

    writer.apply(report(NEW, 1, account=1))
    look_at_version = 3  # after those at the table's epoch and at the chain
    monkeypatch.setattr(reader_module, "load_acquire", replace)
    assert reader.get(make_id(SHARD, 1)) is None
    assert looks > look_at_version
    writer.apply(np.concatenate([report(CANCELED, 2, 4), report(NEW, 1, account=1)]))
    looks, look_at_version = 0, 1
    monkeypatch.setattr(reader_module, "fence", replace)
    assert reader.of_account(1).tolist() == []
    assert looks > look_at_version


def test_a_dead_writer_leaves_a_busy_order_and_nothing_else(tmp_path: Path) -> None:
    writer, reader = table(tmp_path, 3)
    writer.apply(states(np.array([1, 2]), np.array([0, 0])))
    slot = int(np.flatnonzero(writer.entries["order_id"] == make_id(SHARD, 2))[0])
    writer.entries["version"][slot] |= 1  # and then killed
    with pytest.raises(TableBusyError, match=f"order {make_id(SHARD, 2)} never held still"):
        reader.get(make_id(SHARD, 2))
    with pytest.raises(TableBusyError, match="1 orders never held still"):
        reader.of_account(1)
    assert reader.torn_copies == 2 * MAX_TRIES
    assert reader.get(make_id(SHARD, 1)) is not None
