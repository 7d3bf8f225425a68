"""What clients send enters in the order in which they sent it, and changes add up."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest

from engine.books.contract import BookLimits
from engine.books.reference.book import ReferenceBook
from engine.plan import Plan
from ipc.memory.status import StatusReader
from ipc.records import account_of
from ipc.vocabulary import MAX_PRICE, CommandType, ExecType, Flag, Side
from tests.books import Desk, Report
from tests.http import API, Http, serving
from tests.product import until
from tests.test_http_socket import Ws

USERS = [f"user{number}" for number in range(7)]
ORDER = {"order_type": "limit", "side": "buy", "price": 1, "quantity": 1}
TIMES = 100


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    with serving(workers=2, extra='default_symbol = "AA"', matchers=1) as running:
        yield running


@pytest.fixture
def http(plan: Plan) -> Iterator[Http]:
    with Http(plan) as client:
        yield client


def silent(plan: Plan) -> bool:
    """Return whether every user has been silent for so long that no worker has a session."""
    processes = StatusReader(plan.status_path).processes()
    return not any(p.counters["sessions"] for p in processes if p.role == "http")


def answers_of(ws: Ws, count: int) -> dict[int, Any]:
    """Return the next answers by their id."""
    answers = [ws.receive() for _ in range(count)]
    return {answer["id"]: answer for answer in answers}


def test_orders_of_many_users_enter_as_sent_after_any_silence(plan: Plan) -> None:
    with Ws(plan) as ws:
        for _ in range(2):
            until(lambda: silent(plan))
            for number in range(200):
                ws.send(op="order", id=number, order=ORDER | {"user_id": USERS[number % 7]})
            answers = answers_of(ws, 200)
            placed = [answers[number]["result"]["order_id"] for number in range(200)]
            assert placed == sorted(placed)


def test_a_batch_enters_as_sent_after_any_silence(plan: Plan, http: Http) -> None:
    until(lambda: silent(plan))
    orders = [ORDER | {"user_id": USERS[number % 7]} for number in range(200)]
    results = http.post(f"{API}/orders/batch", {"orders": orders})["results"]
    placed = [result["order_id"] for result in results]
    assert placed == sorted(placed)


def test_what_is_pipelined_enters_as_sent_after_any_silence(plan: Plan, http: Http) -> None:
    """An order of one user, a cancel of all of another's, and so on, on one HTTP connection."""
    until(lambda: silent(plan))
    for number in range(40):
        user = USERS[number // 2 % 7]
        method = "DELETE" if number % 2 else "POST"
        path = f"{API}/orders?user_id={user}" if number % 2 else f"{API}/orders"
        body = b"" if number % 2 else str(ORDER | {"user_id": user}).replace("'", '"').encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        if not number:
            http.connection.connect()
        http.connection.sock.sendall(head.encode() + body)
    data = b""
    while data.count(b'"cancelled":') < 20:
        data += http.connection.sock.recv(65_536)
    assert data.count(b'"cancelled":0') == 0


def test_replaces_of_price_and_of_quantity_add_up_on_a_socket(plan: Plan, http: Http) -> None:
    with Ws(plan) as ws:
        for _ in range(TIMES):
            order_id = http.order("alice", "buy", 10, 50)["order_id"]
            ws.send(op="replace", id=1, order_id=order_id, price=51)
            ws.send(op="replace", id=2, order_id=order_id, quantity=5)
            answers = answers_of(ws, 2)
            assert {answer["type"] for answer in answers.values()} == {"result"}
            assert answers[2]["result"]["remaining_quantity"] == 5
            order = http.get(f"{API}/orders/{order_id}")["order"]
            assert (order["price"], order["quantity"]) == (51, 5)


def test_two_changes_at_once_are_both_made(plan: Plan) -> None:
    with Http(plan) as first, Http(plan) as second, ThreadPoolExecutor(2) as pool:
        together = Barrier(2)

        def change(client: Http, order_id: int, what: dict[str, int]) -> int:
            together.wait()
            return client.call("PATCH", f"{API}/orders/{order_id}", what).status

        for _ in range(TIMES):
            order_id = first.order("alice", "buy", 10, 50)["order_id"]
            one = pool.submit(change, first, order_id, {"price": 51})
            other = pool.submit(change, second, order_id, {"quantity": 5})
            assert (one.result(), other.result()) == (200, 200)
            order = first.get(f"{API}/orders/{order_id}")["order"]
            assert (order["price"], order["quantity"]) == (51, 5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"price": 0}, "price"),
        ({"quantity": 0}, "quantity"),
        ({"price": 0, "quantity": 5}, "price"),
        ({"price": 51, "quantity": 0}, "quantity"),
        ({}, ""),
        ({"price": None, "quantity": None}, ""),
    ],
)
def test_nought_is_no_word_for_unchanged(
    plan: Plan, http: Http, change: dict[str, Any], field: str
) -> None:
    order_id = http.order("alice", "buy", 10, 50)["order_id"]
    reply = http.call("PATCH", f"{API}/orders/{order_id}", change)
    assert (reply.status, reply.body["error"]["details"]["field"]) == (400, field)
    assert "must be" in reply.body["error"]["details"]["rule"]
    with Ws(plan) as ws:
        answer = ws.ask("replace", id=1, order_id=order_id, **change)
        assert answer["error"] == reply.body["error"]
    order = http.get(f"{API}/orders/{order_id}")["order"]
    assert (order["price"], order["quantity"]) == (50, 10)


class Market:
    """Random operations of a few users on one book, and what a book makes of them in order."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.desk = Desk(ReferenceBook(0, [BookLimits(1, 1, MAX_PRICE, 1_000)], 1_000))
        self.owners: dict[int, str] = {}

    def order(self) -> tuple[dict[str, Any], list[Report]]:
        """Return an order as an operation, and what comes of it."""
        user = self.random.choice(USERS)
        side = self.random.choice((Side.BUY, Side.SELL))
        price, quantity = self.random.randint(1, 6), self.random.randint(1, 9)
        reports = self.desk.new(side, quantity, 100 * price, account=account_of(user))
        self.owners[reports[0].order_id] = user
        terms = {"side": side.name, "price": price, "quantity": quantity}
        return {"op": "order", "order": ORDER | terms | {"user_id": user}}, reports

    def change(self, known: list[int]) -> tuple[dict[str, Any], list[Report]]:
        """Return an operation on an order that is known, or on all of a user."""
        kind = self.random.choice(("replace", "replace", "replace", "cancel", "cancel_all"))
        order_id = self.random.choice(known)
        user = self.owners[order_id]
        named = {"account": account_of(user), "order_id": order_id}
        if kind == "cancel_all":
            reports = self.desk.mass_cancel(account=named["account"])
            return {"op": kind, "user_id": user}, reports
        if kind == "cancel":
            reports = self.desk.send(CommandType.CANCEL, **named)
            return {"op": kind, "order_id": order_id}, reports
        price, quantity = self.random.randint(1, 6), self.random.randint(1, 9)
        keeps = self.random.choice((Flag.NONE, Flag.KEEP_PRICE, Flag.KEEP_QUANTITY))
        op: dict[str, Any] = {"op": kind, "order_id": order_id}
        op |= {} if keeps & Flag.KEEP_PRICE else {"price": price}
        op |= {} if keeps & Flag.KEEP_QUANTITY else {"quantity": quantity}
        terms = {"price": 100 * price, "quantity": quantity, "flags": int(keeps)}
        return op, self.desk.send(CommandType.REPLACE, **named, **terms)


def check_answer(op: dict[str, Any], reports: list[Report], answer: dict[str, Any]) -> None:
    """See that an operation is answered with what a book made of it in its turn."""
    told = reports[0]
    if told.exec_type == ExecType.REJECTED:
        assert answer["type"] == "error", (op, answer)
        return
    assert answer["type"] == "result", (op, answer)
    result = answer["result"]
    if reports[-1].exec_type == ExecType.MASS_CANCELED:
        assert result["cancelled"] == reports[-1].quantity
        return
    assert result["order_id"] == told.order_id
    last = [report for report in reports if report.order_id == told.order_id][-1]
    assert (result["filled_quantity"], result["remaining_quantity"]) == (
        last.cum_qty,
        last.leaves_qty,
    )


def test_any_operations_of_any_users_come_to_what_a_book_makes_of_them_in_order(
    seed: int,
) -> None:
    market = Market(seed)
    with (
        serving(workers=1, extra='default_symbol = "AA"', matchers=1) as plan,
        Ws(plan) as ws,
        Http(plan) as http,
    ):
        for count in (0, 60, 120):
            known = list(market.owners)
            changes = [known and market.random.random() < 0.6 for _ in range(60 + count)]
            made = [market.change(known) if change else market.order() for change in changes]
            until(lambda: silent(plan))
            for number, (op, _) in enumerate(made):
                ws.send(id=number, **op)
            answers = answers_of(ws, len(made))
            for number, (op, reports) in enumerate(made):
                check_answer(op, reports, answers[number])
        for side, name in ((Side.BUY, "bids"), (Side.SELL, "asks")):
            levels = http.get(f"{API}/orderbook?depth=64")[name]
            rows = [(level["price"], level["quantity"], level["order_count"]) for level in levels]
            assert rows == [(Decimal(p) / 100, q, n) for p, q, n in market.desk.depth(side)]
