"""Read-only views over real mappings, which the test itself writes as a product's processes do."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import shardbook
from engine.plan import Plan
from engine.roles import MATCHER, PERSISTER, SUPERVISOR
from engine.running import leave_config
from frontend.past_trades import BATCH_TRADES, last_of_symbol
from frontend.reading import (
    NotRunningError,
    Reader,
    ReadError,
    UnknownSymbolError,
    patiently,
    running_plan,
)
from ipc.memory.depth_board import BoardBusyError, BoardWriter, create_board
from ipc.memory.order_table import OrderTableWriter, create_table
from ipc.memory.order_table_reader import TableBusyError
from ipc.memory.ring import GatingReader, ReadResult, RingReader, RingWriter, create_ring
from ipc.memory.status import ProcessSlot, StatusWriter, create_status
from ipc.records import REPORT, TRADE, make_id
from ipc.vocabulary import ExecType, OrdStatus, Reason
from tests.product import make_config

RING = 8_192
MEMBERS = [
    ProcessSlot(SUPERVISOR, 0, None),
    ProcessSlot(MATCHER, 0, None),
    ProcessSlot(MATCHER, 1, None),
    ProcessSlot(PERSISTER, 0, None, 0),
]


class Publisher:
    """What supervisor, matchers and persister of a product publish: two shards, AA to DD.

    Shard 0 holds AA (number 1) and CC (3), shard 1 BB (2) and DD (4). Nothing gates the rings but
    where ``gating_readers`` says so.
    """

    def __init__(self, plan: Plan, gating_readers: int = 0, last_sequence: int = 0) -> None:
        self.plan = plan
        shutil.rmtree(plan.run_dir, ignore_errors=True)
        plan.run_dir.mkdir(mode=0o700)
        for shard in plan.shards:
            numbers = [instrument.number for instrument in plan.instruments_of(shard)]
            create_ring(plan.ring_path(shard), shard, RING, last_sequence, gating_readers)
            create_table(plan.table_path(shard), shard, 16)
            create_board(plan.board_path(shard), shard, numbers, 4)
        create_status(plan.status_path, MEMBERS)
        self.rings = [RingWriter(plan.ring_path(shard)) for shard in plan.shards]
        self.statuses = [
            StatusWriter(plan.status_path, slot.role.name, slot.number) for slot in MEMBERS
        ]
        for status in self.statuses:
            status.start(os.getpid(), 1)
            status.ready()
        self._next = [last_sequence + 1 for _ in plan.shards]

    def trade(self, shard: int, symbol: int, count: int = 1, time_ns: int = 1) -> list[int]:
        """Publish trades of a symbol, a nanosecond apart; return their ids."""
        trades = np.zeros(count, TRADE)
        first = self._next[shard]
        self._next[shard] += count
        trades["trade_id"] = make_id(shard, first) + np.arange(count)
        trades["symbol"], trades["taker_side"] = symbol, 1
        trades["timestamp_ns"] = time_ns + np.arange(count)
        self.rings[shard].publish(trades)
        ids: list[int] = trades["trade_id"].tolist()
        return ids

    def remove(self) -> None:
        shutil.rmtree(self.plan.run_dir, ignore_errors=True)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(make_config(), tmp_path / "data")


@pytest.fixture
def publisher(plan: Plan) -> Iterator[Publisher]:
    publisher = Publisher(plan)
    yield publisher
    publisher.remove()


def ids(trades: np.ndarray) -> list[int]:
    return trades["trade_id"].tolist()


def ended_process() -> int:
    """The pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# Whether there is a product ---------------------------------------------------------------------


def test_where_no_product_runs_it_says_so(plan: Plan) -> None:
    with pytest.raises(NotRunningError, match=f"^no product runs in {plan.data_dir}$"):
        Reader(plan)


def test_what_a_killed_product_left_is_none(plan: Plan, publisher: Publisher) -> None:
    publisher.statuses[0].start(ended_process(), 1)
    with pytest.raises(NotRunningError, match="no product runs"):
        Reader(plan)


def test_a_product_that_ends_meanwhile_is_noticed(plan: Plan, publisher: Publisher) -> None:
    with Reader(plan) as reader:
        publisher.remove()
        for read in (reader.status, reader.positions, lambda: reader.trades(None, 1)):
            with pytest.raises(NotRunningError):
                read()


def test_a_product_started_anew_is_read_from_there(plan: Plan, publisher: Publisher) -> None:
    publisher.trade(0, 1, count=3)
    with Reader(plan) as reader:
        assert reader.positions() == {0: 3, 1: 0}
        anew = Publisher(plan, last_sequence=10)
        assert reader.positions() == {0: 10, 1: 10}
        (new,) = anew.trade(0, 1)
        assert ids(reader.trades(None, 5)) == [new]


def test_a_mapping_of_another_kind_is_named(plan: Plan, publisher: Publisher) -> None:
    shutil.copy(plan.board_path(0), plan.ring_path(0))
    with pytest.raises(ReadError, match="trades-0: holds 'depth board', not 'trade ring'"):
        Reader(plan)


def test_a_product_is_read_with_its_own_configuration(tmp_path: Path) -> None:
    own = make_config(matchers=1, symbols=2)
    other = make_config(matchers=2, symbols=4)
    plan = Plan(own, tmp_path)
    assert len(running_plan(other, tmp_path).instruments) == 4
    plan.run_dir.mkdir(mode=0o700)
    try:
        leave_config(plan)
        found = running_plan(other, tmp_path)
        assert (found.config, found.data_dir) == (own, tmp_path)
        plan.config_path.write_bytes(b"{}")
        with pytest.raises(ReadError, match=r"config\.json: "):
            running_plan(other, tmp_path)
    finally:
        shutil.rmtree(plan.run_dir)


# Trades -----------------------------------------------------------------------------------------


def test_trades_of_all_shards_in_the_order_of_their_times(plan: Plan, publisher: Publisher) -> None:
    late = publisher.trade(0, 1, count=3, time_ns=100)
    early = publisher.trade(1, 2, count=3, time_ns=50)
    with Reader(plan) as reader:
        assert ids(reader.trades(None, 10)) == early + late
        assert ids(reader.trades(None, 4)) == early[2:] + late
        assert ids(reader.trades_of_shard(1, 2)) == early[1:]
        assert len(reader.trades(None, 0)) == len(reader.trades("AA", 0)) == 0


def test_trades_of_one_symbol_are_found_behind_many_others(
    plan: Plan, publisher: Publisher
) -> None:
    first = publisher.trade(0, 3, count=5)
    publisher.trade(0, 1, count=BATCH_TRADES + 10)
    last = publisher.trade(0, 3, count=2)
    with Reader(plan) as reader:
        assert ids(reader.trades("CC", 100)) == first + last
        assert ids(reader.trades("CC", 3)) == first[4:] + last
        assert ids(reader.trades("DD", 100)) == []


def test_trades_of_one_symbol_while_the_writer_comes_by(plan: Plan, publisher: Publisher) -> None:
    """It overwrites half of what is asked for; what came meanwhile is not given either."""

    class Overtaken(RingReader):
        def read(self, after: int, limit: int) -> ReadResult:
            publisher.trade(0, 1, count=RING - BATCH_TRADES // 2)
            return super().read(after, limit)

    publisher.trade(0, 1, count=RING)
    publisher.trade(0, 1, count=RING)
    found = ids(last_of_symbol(Overtaken(plan.ring_path(0)), 1, RING))
    assert found == list(range(2 * RING - BATCH_TRADES // 2 + 1, 2 * RING + 1))


def test_an_unknown_symbol_names_those_there_are(plan: Plan, publisher: Publisher) -> None:
    with Reader(plan) as reader:
        for read in (lambda: reader.trades("ZZ", 1), lambda: reader.book("ZZ", 1)):
            with pytest.raises(UnknownSymbolError, match=r"'ZZ' is not traded.*AA, BB, CC, DD"):
                read()


def test_follow_gives_what_is_new_and_nothing_twice(plan: Plan, publisher: Publisher) -> None:
    publisher.trade(0, 1, count=4)
    with Reader(plan) as reader:
        after = reader.positions()
        one = publisher.trade(0, 1, count=2, time_ns=20)
        two = publisher.trade(1, 2, count=2, time_ns=10)
        following = reader.follow(after=after)
        assert ids(next(following).trades) == two + one
        three = publisher.trade(1, 4)
        followed = next(following)
        assert (ids(followed.trades), followed.lost_trades) == (three, 0)


def test_follow_of_one_symbol(plan: Plan, publisher: Publisher) -> None:
    with Reader(plan) as reader:
        following = reader.follow("CC", reader.positions())
        publisher.trade(0, 1, count=3)
        publisher.trade(1, 2, count=3)
        mine = publisher.trade(0, 3)
        assert ids(next(following).trades) == mine


def test_follow_says_how_much_it_lost(plan: Plan, publisher: Publisher) -> None:
    with Reader(plan) as reader:
        following = reader.follow(after=reader.positions())
        published = publisher.trade(0, 1, count=RING)
        published += publisher.trade(0, 1, count=100, time_ns=RING + 1)
        seen, lost = [], 0
        while len(seen) + lost < len(published):
            followed = next(following)
            seen += ids(followed.trades)
            lost += followed.lost_trades
        assert lost == 100
        assert seen == published[100:]


def test_follow_ends_with_the_product(plan: Plan, publisher: Publisher) -> None:
    with Reader(plan) as reader:
        following = reader.follow()
        publisher.remove()
        with pytest.raises(NotRunningError):
            next(following)


# Books, orders, processes -----------------------------------------------------------------------


def test_a_book_shows_its_best_levels(plan: Plan, publisher: Publisher) -> None:
    board = BoardWriter(plan.board_path(1))
    board.open(4)
    board.bids(4)[:3] = [(99, 5, 1), (98, 6, 2), (97, 7, 3)]
    board.asks(4)[:1] = [(101, 8, 4)]
    board.close(4, 77, 1, 3, 1)
    with Reader(plan) as reader:
        book = reader.book("DD", 2)
        assert (book.instrument.number, book.sequence) == (4, 77)
        assert book.bids.tolist() == [(99, 5, 1), (98, 6, 2)]
        assert book.asks.tolist() == [(101, 8, 4)]
        assert len(reader.book("BB", 2).bids) == 0


def test_a_reader_waits_for_a_writer_that_lost_its_core(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = iter([TableBusyError("1"), BoardBusyError("2"), None, TableBusyError("never still")])

    def read() -> str:
        if (error := next(tries)) is not None:
            raise error
        return "whole"

    assert patiently(read) == "whole"
    monkeypatch.setattr("frontend.reading.BUSY_S", 0)
    with pytest.raises(ReadError, match="never still"):
        patiently(read)


def test_an_order_is_found_in_its_shard(plan: Plan, publisher: Publisher) -> None:
    order_id = make_id(1, 9)
    report = np.zeros(1, REPORT)
    report["exec_type"], report["ord_status"] = ExecType.NEW, OrdStatus.NEW
    report["order_id"], report["symbol"], report["leaves_qty"] = order_id, 2, 30
    report["timestamp_ns"] = 123
    OrderTableWriter(plan.table_path(1)).apply(report)
    with Reader(plan) as reader:
        order = reader.order(order_id)
        assert order is not None
        assert (order["order_id"], order["leaves_qty"], order["created_ns"]) == (order_id, 30, 123)
        assert reader.order(make_id(0, 9)) is None
        assert reader.order(make_id(7, 9)) is None
        found = reader.orders([make_id(0, 9), order_id, make_id(7, 9)])
        assert found["order_id"].tolist() == [0, order_id, 0]
        assert found["leaves_qty"].tolist() == [0, 30, 0]


def test_status_shows_counters_rejects_and_lag(plan: Plan) -> None:
    publisher = Publisher(plan, gating_readers=1)
    try:
        publisher.statuses[1].set("commands", 12)
        publisher.statuses[1].add_reject(Reason.UNKNOWN_ORDER)
        publisher.trade(1, 2, count=9)
        GatingReader(plan.ring_path(1)).advance(4)
        with Reader(plan) as reader:
            supervisor, matcher, _, persister = reader.status()
        assert (supervisor.role, supervisor.state, supervisor.pid) == (
            "supervisor",
            "ready",
            os.getpid(),
        )
        assert supervisor.uptime_s > 1e9
        assert (matcher.counters["commands"], matcher.lag_trades) == (12, {})
        assert matcher.rejects == {Reason.UNKNOWN_ORDER: 1}
        assert persister.lag_trades == {0: 0, 1: 5}
    finally:
        publisher.remove()


def test_status_knows_the_dead(plan: Plan, publisher: Publisher) -> None:
    publisher.statuses[1].start(ended_process(), 1)
    publisher.statuses[2].start(ended_process(), 1)
    publisher.statuses[2].stop()
    with Reader(plan) as reader:
        _, killed, stopped, _ = reader.status()
    assert (killed.state, killed.uptime_s) == ("dead", 0)
    assert (stopped.state, stopped.uptime_s) == ("stopped", 0)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_product_is_found_by_its_data_directory(
    product: Plan, kind: type[str] | type[Path]
) -> None:
    """What a program gets from ``shardbook`` alone."""
    user_id = f"reads-{kind.__name__}"
    with shardbook.Client(product.addresses()[0], user_id) as client:
        rests = client.submit("AA", "buy", 4, "3.00")
        ended = client.submit("BB", "buy", 2, "3.00")
        client.cancel_all("BB")
    with shardbook.Reader(kind(product.data_dir)) as reader:
        orders = reader.orders_of(user_id)
        assert orders.dtype == shardbook.ORDER
        assert orders["order_id"].tolist() == [ended.order_id, rests.order_id]
        status = [shardbook.OrdStatus.CANCELED, shardbook.OrdStatus.NEW]
        assert orders["ord_status"].tolist() == status
        assert reader.orders_of(user_id, "AA")["order_id"].tolist() == [rests.order_id]
        assert len(reader.orders_of(user_id, limit=1)) == 1
        assert len(reader.orders_of("nobody")) == 0
        assert {reader.user_of(int(account)) for account in orders["account"]} == {user_id}
        assert reader.user_of(1) == ""
        assert reader.trades().dtype == shardbook.TRADE
        assert reader.book("AA").bids.dtype == shardbook.LEVEL
        with pytest.raises(UnknownSymbolError):
            reader.orders_of(user_id, "ZZ")


def test_every_name_that_programs_get_is_there() -> None:
    assert all(getattr(shardbook, name) is not None for name in shardbook.__all__)
    assert {"COMMAND", "REPORT", "TRADE", "Reader", "Client", "AsyncClient"} <= set(
        shardbook.__all__
    )
