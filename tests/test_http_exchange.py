"""When a command is done: what its reports tell against what the order table shows."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from frontend.http.errors import ApiError
from frontend.http.exchange import Exchange
from frontend.http.user_session import UserSession
from ipc.memory.order_table import OrderTableWriter, create_table
from ipc.memory.order_table_reader import OrderTableReader
from ipc.records import REPORT, make_id
from ipc.vocabulary import CommandType, ExecType, OrderType, OrdStatus, Side, TimeInForce
from ipc.wire.frames import frame
from ipc.wire.messages import Report, ShardRestarted

ORDER_ID = make_id(0, 5)
SEQUENCE = 40


def fields(exec_type: int, status: int, cum_qty: int) -> dict[str, int]:
    return {
        "exec_type": exec_type,
        "ord_status": status,
        "command_type": CommandType.NEW,
        "symbol": 1,
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "request_id": 9,
        "order_id": ORDER_ID,
        "price": 100,
        "quantity": 10,
        "cum_qty": cum_qty,
        "leaves_qty": 10 - cum_qty,
        "sequence": SEQUENCE,
        "trade_id": make_id(0, cum_qty) if exec_type == ExecType.TRADE else 0,
    }


NEW = fields(ExecType.NEW, OrdStatus.NEW, 0)
FIRST = fields(ExecType.TRADE, OrdStatus.PARTIALLY_FILLED, 3)
SECOND = fields(ExecType.TRADE, OrdStatus.PARTIALLY_FILLED, 7)
LAST = fields(ExecType.TRADE, OrdStatus.FILLED, 10)


def report(values: dict[str, int]) -> Report:
    """Return a report as it comes."""
    names = Report.__struct_fields__
    return Report(**{name: int(values.get(name, 0)) for name in names})


def record(values: dict[str, int]) -> Any:
    """Return a report as the matcher has it."""
    found = np.zeros(1, REPORT)
    for name, value in values.items():
        found[name] = value
    return found


@pytest.fixture
def table(tmp_path: Path) -> tuple[OrderTableWriter, OrderTableReader]:
    path = tmp_path / "orders"
    create_table(path, 0, 16, 8)
    return OrderTableWriter(path), OrderTableReader(path)


def new_exchange() -> Exchange:
    return Exchange(1, 0.0, lambda _: None)


def test_a_resting_order_is_done_once_its_command_has_had_all_its_effects(table) -> None:
    writer, reader = table
    writer.apply(record(NEW))
    exchange = new_exchange()
    assert not exchange.take(report(NEW))
    assert not exchange.is_settled(reader), "the command may be in the midst of its effects"
    writer.complete(SEQUENCE - 1)
    assert not exchange.is_settled(reader)
    writer.complete(SEQUENCE)
    assert exchange.is_settled(reader)


def test_trades_that_the_table_shows_are_waited_for(table) -> None:
    writer, reader = table
    for values in (NEW, FIRST, SECOND):
        writer.apply(record(values))
    writer.complete(SEQUENCE)
    exchange = new_exchange()
    assert not exchange.take(report(NEW))
    assert not exchange.is_settled(reader)
    assert not exchange.take(report(FIRST))
    assert not exchange.is_settled(reader)
    assert not exchange.take(report(SECOND))
    assert exchange.is_settled(reader)
    assert exchange.trade_count == 2
    assert exchange.first_trade_id == FIRST["trade_id"]


def test_the_last_fill_ends_it_whatever_the_table_shows(table) -> None:
    _, reader = table
    exchange = new_exchange()
    exchange.take(report(NEW))
    assert exchange.take(report(LAST))
    assert reader.cum_qty(ORDER_ID) is None


@pytest.mark.parametrize(
    "terms",
    [
        {"order_type": OrderType.MARKET},
        {"time_in_force": TimeInForce.IOC},
        {"time_in_force": TimeInForce.FOK},
    ],
)
def test_an_order_that_may_not_rest_is_done_with_the_report_of_its_end(table, terms) -> None:
    """Its last report may come later than the trades before it, in a read of its own."""
    writer, reader = table
    end = fields(ExecType.CANCELED, OrdStatus.CANCELED, 3)
    for values in (NEW, FIRST, end):
        writer.apply(record(values | terms))
    writer.complete(SEQUENCE)
    exchange = new_exchange()
    for values in (NEW, FIRST):
        assert not exchange.take(report(values | terms))
        assert not exchange.is_settled(reader)
    assert exchange.take(report(end | terms))


def test_an_order_that_the_table_has_forgotten_is_done(table) -> None:
    writer, reader = table
    writer.complete(SEQUENCE)
    exchange = new_exchange()
    exchange.take(report(NEW))
    assert exchange.is_settled(reader)


def test_a_restart_ends_what_was_sent_to_that_shard_before_it_died() -> None:
    status = SimpleNamespace(add=lambda name, count: None)
    gateway = SimpleNamespace(config=SimpleNamespace(max_unread_bytes=1), status=status)
    session = UserSession(gateway, "alice", [], lambda _: None, lambda _: None)  # type: ignore[arg-type]
    ended: list[int] = []
    sent = [(1, 0, 20), (2, 1, 40), (3, None, 60), (4, 0, 80)]  # its end, of what was sent
    for request_id, shard, sent_bytes in sent:
        exchange = Exchange(request_id, 0.0, partial(_note, ended, request_id), shard)
        exchange.sent_bytes = sent_bytes
        session.exchanges.pending[request_id] = exchange
    session.deliver_missed(frame(ShardRestarted(make_id(0, 7), 60)))
    assert ended == [1, 3]
    assert list(session.exchanges.pending) == [2, 4]


def _note(ended: list[int], request_id: int, found: object) -> None:
    assert isinstance(found, ApiError)
    assert found.code == "OUTCOME_UNKNOWN"
    ended.append(request_id)
