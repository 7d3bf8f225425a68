"""A product comes back as it was: after the death of a matcher, of everything, and after a stop."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from engine.journal.reader import segments_of
from engine.journal.snapshot import snapshots_of
from engine.plan import Plan
from engine.trade_log.log import read_trades
from frontend.client import Client
from frontend.client.errors import OrderRejectedError
from frontend.reading import Reader
from ipc.memory.status import StatusReader
from ipc.records import sequence_of
from ipc.vocabulary import OrdStatus
from tests.product import Wire, until
from tests.test_serve import Served, cross, linked, logged, served, with_pid_gone


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("r")


def kill_matcher(serving: Served) -> None:
    os.kill(serving.member("matcher", 0).pid, signal.SIGKILL)
    serving.until("matcher 0 is back")
    with Wire(serving.plan, "alice") as wire:
        linked(wire)


def kill_everything(serving: Served) -> None:
    pids = [p.pid for p in StatusReader(serving.plan.status_path).processes()]
    for pid in [serving.process.pid, *pids]:
        with_pid_gone(pid)
    serving.end()


def trade_some(plan: Plan) -> list[int]:
    """Leave two orders resting, one of them partly filled, and two ended; return their ids."""
    with Client(f"unix:{plan.addresses()[0].path}", user_id="alice") as client:
        bid = client.submit("AA", "buy", quantity=10, price="1.00", client_order_id=1)
        ask = client.submit("AA", "sell", quantity=4, price="1.00", client_order_id=2)
        far = client.submit("AA", "sell", quantity=7, price="2.00", client_order_id=3)
        gone = client.submit("AA", "buy", quantity=5, price="0.50", client_order_id=4)
        client.cancel(gone.order_id)
    return [order.order_id for order in (bid, ask, far, gone)]


def shown(plan: Plan, order_ids: list[int]) -> tuple[list[np.void | None], object]:
    with Reader(plan) as reader:
        book = reader.book("AA", 10)
        return [reader.order(order_id) for order_id in order_ids], (book.bids, book.asks)


def still_the_same(plan: Plan, order_ids: list[int], before: object) -> None:
    bid, ask, far, _ = order_ids
    assert repr(shown(plan, order_ids)) == repr(before)
    with Client(f"unix:{plan.addresses()[0].path}", user_id="alice") as client:
        with pytest.raises(OrderRejectedError, match="DUPLICATE_CLIENT_ORDER_ID") as caught:
            client.submit("AA", "sell", quantity=4, price="1.00", client_order_id=2)
        assert caught.value.order_id == ask
        filled = client.submit("AA", "sell", quantity=6, price="1.00", client_order_id=9)
        assert filled.order_id == max(order_ids) + 1
        client.cancel(far)
    until(lambda: len(list(read_trades(plan.log_dir))) == 2)
    first, second = read_trades(plan.log_dir)
    assert [first.buy_order_id, first.sell_order_id] == [bid, ask]
    assert [second.buy_order_id, second.sell_order_id] == [bid, filled.order_id]
    assert second.trade_id == first.trade_id + 1
    assert second.timestamp >= first.timestamp


@pytest.mark.parametrize("durability", ["async", "fsync"])
@pytest.mark.parametrize("death", ["matcher", "everything", "stop"])
def test_what_was_there_is_there_again(directory: Path, death: str, durability: str) -> None:
    extra = f'[journal]\ndurability = "{durability}"\n'
    with served(directory, extra) as serving:
        plan = serving.plan
        order_ids = trade_some(plan)
        before = shown(plan, order_ids)
        assert [order["ord_status"] for order in before[0] if order is not None] == [
            OrdStatus.PARTIALLY_FILLED,
            OrdStatus.FILLED,
            OrdStatus.NEW,
            OrdStatus.CANCELED,
        ]
        if death == "matcher":
            kill_matcher(serving)
            still_the_same(plan, order_ids, before)
            return
        if death == "everything":
            kill_everything(serving)
    with served(directory, extra):
        still_the_same(plan, order_ids, before)


def test_snapshots_are_taken_while_it_serves_and_are_what_it_comes_back_from(
    directory: Path,
) -> None:
    extra = "[journal]\nsnapshot_commands = 60\nsegment_bytes = 8192\n"
    with served(directory, extra) as serving:
        plan = serving.plan
        before: list[int] = []
        with Wire(plan, "alice") as wire:
            for number in range(1, 4):
                before += [cross(wire) for _ in range(31)]
                # It is taken only while nobody else wants the core: nothing else is done meanwhile.
                until(lambda taken=number: snapshots_taken(serving) == taken)  # type: ignore[misc]
            before += [cross(wire) for _ in range(20)]
        until(lambda: 2 <= len(snapshots_of(plan.journal_dir(0))) <= 3)
        until(lambda: segments_of(plan.journal_dir(0))[0].first_sequence > 1)
        kill_matcher(serving)
        (said,) = (line for line in serving.lines if "commands of its journal" in line)
        assert int(said.split()[3]) < 2 * len(before)
        with Wire(plan, "alice") as wire:
            linked(wire)
            after = [cross(wire) for _ in range(20)]
    assert logged(plan) == before + after
    assert [sequence_of(trade_id) for trade_id in before + after] == list(
        range(1, len(before) + 21)
    )


@pytest.mark.parametrize("death", ["matcher", "everything"])
def test_what_replaces_kept_is_kept_again(directory: Path, death: str) -> None:
    """Many whose outcome follows from those before them, carried out again from the journal."""
    with served(directory) as serving:
        plan = serving.plan
        with Client(f"unix:{plan.addresses()[0].path}", user_id="alice") as client:
            order_id = client.submit("AA", "buy", quantity=50, price="1.00").order_id
            client.submit("AA", "sell", quantity=20, price="1.00")
            for number in range(1, 11):
                client.replace(order_id, symbol="AA", price=f"1.{number:02d}")
                client.replace(order_id, symbol="AA", quantity=50 - number)
            found = client.replace(order_id, symbol="AA", price="1.20", reinsert=True)
            assert (found.quantity, found.cum_qty, found.leaves_qty) == (40, 20, 20)
        before = shown(plan, [order_id])
        if death == "matcher":
            kill_matcher(serving)
            assert repr(shown(plan, [order_id])) == repr(before)
            return
        kill_everything(serving)
    with served(directory) as serving:
        assert repr(shown(serving.plan, [order_id])) == repr(before)


def snapshots_taken(serving: Served) -> int:
    return serving.member("supervisor").counters["snapshots"]


def test_trades_that_neither_matcher_nor_persister_lived_to_log_are_logged(
    directory: Path,
) -> None:
    with served(directory) as serving:
        plan = serving.plan
        persister = serving.member("persister").pid
        os.kill(persister, signal.SIGSTOP)
        with Wire(plan, "alice") as wire:
            before = [cross(wire) for _ in range(30)]
        assert logged(plan) == []
        os.kill(persister, signal.SIGKILL)
        kill_matcher(serving)
        with Wire(plan, "alice") as wire:
            linked(wire)
            after = [cross(wire) for _ in range(20)]
    assert logged(plan) == before + after
