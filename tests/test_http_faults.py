"""Kills and stops under HTTP load: who notices, what is told, and that nothing told is lost."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from engine.plan import Plan
from engine.trade_log.lines import parse_lines
from frontend.reading import Reader
from ipc.memory.order_table_reader import OrderTableReader
from ipc.memory.status import StatusReader
from ipc.records import account_of
from tests.http import API, Http, serving
from tests.product import until

CLIENTS = 8


def pid_of(plan: Plan, role: str, number: int = 0) -> int:
    processes = StatusReader(plan.status_path).processes()
    return next(p.pid for p in processes if (p.role, p.number) == (role, number))


class Load:
    """One client that enters orders until told to stop; it connects anew where it must."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan = plan
        self.user = f"load-{number}"
        self.acknowledged: list[int] = []
        self.lost = 0
        self.refused: list[str] = []
        self.thread = threading.Thread(target=self._run)
        self.stopping = threading.Event()
        self._number = number
        self.shard = number % 2

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                with Http(self.plan) as http:
                    self._send(http)
            except (OSError, HTTPException):
                self.lost += 1

    def _send(self, http: Http) -> None:
        order = {
            "user_id": self.user,
            "symbol": ("AA", "BB")[self._number % 2],
            "order_type": "limit",
            "side": "buy",
            "price": 1 + self._number,
            "quantity": 1,
        }
        while not self.stopping.is_set():
            reply = http.call("POST", f"{API}/orders", order)
            if reply.status == 200:
                self.acknowledged.append(reply.body["order_id"])
            else:
                assert reply.status == 503, reply
                assert reply.headers["retry-after"]
                self.refused.append(reply.code)


@contextmanager
def loaded(plan: Plan, kind: type[Load] = Load) -> Iterator[list[Load]]:
    loads = [kind(plan, number) for number in range(CLIENTS)]
    for load in loads:
        load.thread.start()
    try:
        until(lambda: all(len(load.acknowledged) > 20 for load in loads))
        yield loads
    finally:
        for load in loads:
            load.stopping.set()
        for load in loads:
            load.thread.join()


def go_on(loads: list[Load]) -> None:
    """Wait until every client has had more answers."""
    before = [len(load.acknowledged) for load in loads]
    until(lambda: all(len(x.acknowledged) > n + 20 for x, n in zip(loads, before, strict=True)))


def check_acknowledged(plan: Plan, loads: list[Load]) -> None:
    """See that every order that was acknowledged is there."""
    with Reader(plan) as reader:
        for load in loads:
            orders = reader.orders(load.acknowledged)
            assert (orders["order_id"] == load.acknowledged).all()


def test_a_killed_worker_costs_its_own_connections_only() -> None:
    with serving(workers=2) as plan:
        first = pid_of(plan, "http", 0)
        with loaded(plan) as loads:
            os.kill(first, signal.SIGKILL)
            until(lambda: pid_of(plan, "http", 0) not in (0, first))
            go_on(loads)
        lost = [load.lost for load in loads]
        assert sum(lost) >= 1
        assert max(lost) <= 2, "a connection of the other worker, or the new one, broke"
        assert 0 in lost or CLIENTS < 8
        assert not any(load.refused for load in loads)
        check_acknowledged(plan, loads)


def test_a_killed_frontend_costs_http_nothing() -> None:
    with serving(workers=2) as plan:
        first = pid_of(plan, "frontend")
        with loaded(plan) as loads:
            os.kill(first, signal.SIGKILL)
            go_on(loads)
            until(lambda: pid_of(plan, "frontend") not in (0, first))
            go_on(loads)
        assert not any(load.refused or load.lost for load in loads)
        check_acknowledged(plan, loads)


def test_a_killed_matcher_is_told_as_unknown_outcomes_and_other_shards_go_on() -> None:
    with serving(workers=2, extra="answer_timeout_s = 600") as plan:
        first = pid_of(plan, "matcher", 1)
        with loaded(plan) as loads:
            os.kill(first, signal.SIGKILL)
            until(lambda: pid_of(plan, "matcher", 1) not in (0, first))
            go_on(loads)
        there = {code for load in loads[1::2] for code in load.refused}
        assert there
        assert there <= {"OUTCOME_UNKNOWN", "SHARD_DOWN"}
        assert not any(load.refused for load in loads[0::2]), "the other shard was up"
        assert not any(load.lost for load in loads)
        check_acknowledged(plan, loads)


def test_orders_for_a_shard_that_is_down_are_refused_and_ready_says_so() -> None:
    order = {"user_id": "a", "order_type": "limit", "side": "buy", "price": 1, "quantity": 1}
    with serving(workers=1) as plan, Http(plan) as http, Http(plan) as probe:
        here, there = order | {"symbol": "BB"}, order | {"symbol": "AA"}
        http.post(f"{API}/orders", here)
        first = pid_of(plan, "matcher", 1)
        os.kill(first, signal.SIGKILL)
        until(lambda: shards_down(plan) == 1)
        ready, refused = probe.call("GET", "/ready"), http.call("POST", f"{API}/orders", here)
        assert (ready.status, ready.code) == (503, "NOT_READY")
        assert (refused.status, refused.code) == (503, "SHARD_DOWN")
        assert refused.headers["retry-after"] == "1"
        assert http.post(f"{API}/orders", there)["status"] == "OPEN"
        until(lambda: shards_down(plan) == 0)
        assert http.post(f"{API}/orders", here)["status"] == "OPEN"
        until(lambda: probe.call("GET", "/ready").status == 200)


def shards_down(plan: Plan) -> int:
    processes = StatusReader(plan.status_path).processes()
    return next(p.counters["shards_down"] for p in processes if p.role == "http")


class Careful(Load):
    """A client that sends an order again, under its client_order_id, until it knows its outcome."""

    def _send(self, http: Http) -> None:
        while not self.stopping.is_set():
            turn = len(self.acknowledged) + 1
            order = {
                "user_id": self.user,
                "symbol": ("AA", "BB")[self._number % 2],
                "order_type": "limit",
                "side": ("sell", "buy")[turn % 2],
                "price": 1 + self._number,
                "quantity": 1 + turn % 3,
                "client_order_id": turn,
            }
            reply = http.call("POST", f"{API}/orders", order)
            if reply.status == 200:
                self.acknowledged.append(reply.body["order_id"])
            elif reply.code == "DUPLICATE_CLIENT_ORDER_ID":
                assert reply.status == 409
                self.acknowledged.append(reply.body["error"]["details"]["order_id"])
            else:
                assert reply.status == 503, reply
                assert reply.headers["retry-after"]
                self.refused.append(reply.code)
                self.stopping.wait(0.001)


def test_through_kills_of_matchers_and_a_worker_each_order_is_carried_out_once(
    tmp_path: Path,
) -> None:
    with serving(workers=2, directory=tmp_path) as plan:
        with loaded(plan, Careful) as loads:
            for role, number in (("matcher", 0), ("http", 0), ("matcher", 1), ("matcher", 0)):
                first = pid_of(plan, role, number)
                os.kill(first, signal.SIGKILL)
                until(lambda at=(role, number), old=first: pid_of(plan, *at) not in (0, old))
                go_on(loads)
        codes = {code for load in loads for code in load.refused}
        assert codes
        assert codes <= {"OUTCOME_UNKNOWN", "SHARD_DOWN", "BUSY"}
        filled: dict[int, int] = {}
        with Reader(plan) as reader:
            for load in loads:
                orders = reader.orders(load.acknowledged)
                assert orders["client_order_id"].tolist() == list(range(1, len(orders) + 1))
                table = OrderTableReader(plan.table_path(load.shard))
                every = table.of_account(account_of(load.user), limit=len(orders) + 1)
                assert sorted(every["order_id"]) == sorted(load.acknowledged), "one was doubled"
                filled |= dict(
                    zip(orders["order_id"].tolist(), orders["cum_qty"].tolist(), strict=True)
                )
    logged = dict.fromkeys(filled, 0)
    for trade in parse_lines((plan.log_dir / "trades.ndjson").read_bytes()):
        logged[trade.buy_order_id] += int(trade.quantity)
        logged[trade.sell_order_id] += int(trade.quantity)
    assert logged == filled


def test_a_matcher_that_stands_still_is_told_in_time_and_other_shards_go_on() -> None:
    with serving(workers=1, extra="answer_timeout_s = 3\nmax_pending_orders = 2") as plan:
        stopped = pid_of(plan, "matcher", 0)
        with Http(plan) as http:
            order: dict[str, Any] = {
                "order_type": "limit",
                "side": "buy",
                "price": 1,
                "quantity": 1,
            }
            here = order | {"user_id": "a", "symbol": "AA"}
            http.post(f"{API}/orders", here)
            os.kill(stopped, signal.SIGSTOP)
            try:
                reply = http.call("POST", f"{API}/orders", here)
                assert (reply.status, reply.code) == (503, "OUTCOME_UNKNOWN")
                batch = http.post(f"{API}/orders/batch", {"orders": [here] * 4})
                codes = [item["error"]["code"] for item in batch["results"]]
                assert codes == ["OUTCOME_UNKNOWN"] * 2 + ["TOO_MANY_REQUESTS"] * 2
                there = order | {"user_id": "b", "symbol": "BB"}
                assert http.post(f"{API}/orders", there)["status"] == "OPEN"
                assert http.get(f"{API}/orderbook?symbol=AA")["bids"]
            finally:
                os.kill(stopped, signal.SIGCONT)
            reader = Reader(plan)
            until(lambda: int(reader.book("AA", 1).bids["order_count"][0]) == 4)


def test_too_many_unanswered_orders_of_a_user_are_refused_with_retry_after() -> None:
    with serving(workers=1, extra="answer_timeout_s = 2\nmax_pending_orders = 1") as plan:
        stopped = pid_of(plan, "matcher", 0)
        order = {
            "user_id": "a",
            "symbol": "AA",
            "order_type": "limit",
            "side": "buy",
            "price": 1,
            "quantity": 1,
        }
        with Http(plan) as first, Http(plan) as second, ThreadPoolExecutor(2) as pool:
            os.kill(stopped, signal.SIGSTOP)
            try:
                found = pool.map(
                    lambda http: http.call("POST", f"{API}/orders", order), (first, second)
                )
                replies = {reply.status: reply for reply in found}
                assert sorted(replies) == [429, 503]
                assert replies[429].code == "TOO_MANY_REQUESTS"
                assert replies[429].headers["retry-after"] == "1"
            finally:
                os.kill(stopped, signal.SIGCONT)
