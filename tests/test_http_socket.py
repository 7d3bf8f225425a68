"""WebSocket: streams, order entry, and what becomes of clients that do not keep up."""

import json
import os
import random
import socket
import threading
import zlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from engine.plan import Plan
from frontend.http.depth import applied, changes
from ipc.vocabulary import ExecType
from ipc.wire.messages import NewOrder, Report
from tests.http import API, WAIT_S, Http, serving
from tests.product import Wire, until


class Ws:
    """One WebSocket and what has come on it."""

    def __init__(
        self, plan: Plan, path: str = "/ws", scheme: str = "ws", deaf: bool = False, **options: Any
    ) -> None:
        address = plan.http_address
        assert address is not None
        url = f"{scheme}://{address.host}:{address.port}{path}"
        if deaf:
            # Little fits between the two: what is not read is soon noticed.
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            narrow.connect((address.host, address.port))
            options["sock"] = narrow
        self._opened = connect(url, open_timeout=WAIT_S, compression=None, max_size=None, **options)
        self.connection: ClientConnection = self._opened.__enter__()

    def __enter__(self) -> "Ws":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, **message: Any) -> None:
        """Send an object."""
        self.connection.send(json.dumps(message))

    def receive(self) -> Any:
        """Return the next message that is no heartbeat."""
        while True:
            message = json.loads(self.connection.recv(WAIT_S), parse_float=Decimal)
            if message["type"] != "heartbeat":
                return message

    def drain(self) -> None:
        """Read until the end of the connection, which is raised."""
        while True:
            self.receive()

    def ask(self, op: str, **fields: Any) -> Any:
        """Send an op and return its answer, where nothing else comes before it."""
        self.send(op=op, **fields)
        return self.receive()

    def refused(self, op: str, **fields: Any) -> tuple[str, str | None]:
        """Send an op that fails; return the code and the field."""
        answer = self.ask(op, id="no", **fields)
        assert (answer["type"], answer["id"]) == ("error", "no")
        return answer["error"]["code"], answer["error"]["details"].get("field")

    def subscribe(self, channel: str, **fields: Any) -> None:
        """Subscribe, and see that it was taken."""
        answer = self.ask("subscribe", channel=channel, id=7, **fields)
        assert (answer["type"], answer["id"], answer["channel"]) == ("subscribed", 7, channel)


class Rebuilt:
    """A book as a client rebuilds it from a depth stream, seeing to every promise on the way."""

    def __init__(self, ws: Ws) -> None:
        self.ws = ws
        self.sequence = -1
        self.sides: dict[str, list[tuple[int, int, int]]] = {"bids": [], "asks": []}
        self.updates = 0

    def next(self) -> None:
        """Take the next message."""
        message = self.ws.receive()
        assert message["channel"] == "depth"
        if message["type"] == "snapshot":
            self.sides = {"bids": [], "asks": []}
        else:
            assert message["previous"] == self.sequence, "a gap"
            self.updates += 1
        self.sequence = message["sequence"]
        for side, first in (("bids", -1), ("asks", 1)):
            rows = [(int(Decimal(p) * 100), int(q), n) for p, q, n in message[side]]
            self.sides[side] = applied(self.sides[side], rows, first)
        best = [*self.sides["bids"][:10], *self.sides["asks"][:10]]
        text = ",".join(f"{price}:{quantity}" for price, quantity, _ in best)
        assert message["checksum"] == zlib.crc32(text.encode())


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    with serving(extra='default_symbol = "AA"\nheartbeat_s = 1\nmax_subscriptions = 5') as running:
        yield running


@pytest.fixture
def ws(plan: Plan) -> Iterator[Ws]:
    with Ws(plan) as found:
        yield found
    with Http(plan) as http:
        for user in ("alice", "bob", "eve"):
            http.call("DELETE", f"{API}/orders?user_id={user}")


@pytest.fixture
def http(plan: Plan) -> Iterator[Http]:
    with Http(plan) as client:
        yield client


def test_changes_make_one_side_into_another() -> None:
    old = [(5, 1, 1), (4, 2, 1), (3, 3, 2)]
    new = [(6, 1, 1), (4, 2, 1), (3, 9, 3)]
    assert sorted(changes(old, new)) == [(3, 9, 3), (5, 0, 0), (6, 1, 1)]
    assert applied(old, changes(old, new), -1) == new


def test_depth_begins_with_a_snapshot_and_goes_on_with_changes(ws: Ws, http: Http) -> None:
    http.order("alice", "buy", 5, 10)
    ws.subscribe("depth", symbol="AA")
    book = Rebuilt(ws)
    book.next()
    assert book.sides["bids"] == [(1000, 5, 1)]
    http.order("alice", "buy", 2, 10)
    book.next()
    assert book.sides["bids"] == [(1000, 7, 2)]
    http.order("bob", "sell", 7, 10)
    book.next()
    assert book.sides == {"bids": [], "asks": []}
    assert book.updates == 2
    answer = ws.ask("unsubscribe", channel="depth", symbol="AA")
    assert answer["type"] == "unsubscribed"
    http.order("alice", "buy", 2, 10)
    assert ws.ask("ping", id=1)["type"] == "pong"


def test_trades_and_ticker(ws: Ws, http: Http) -> None:
    ws.subscribe("trades")
    ws.subscribe("ticker", symbol="AA")
    assert ws.receive()["best_bid"] is None
    maker = http.order("alice", "sell", 5, "20.50")["order_id"]
    ticker = ws.receive()
    assert ticker["best_ask"] == {"price": Decimal("20.50"), "quantity": 5}
    before = ticker["last_price"]
    http.order("alice", "sell", 5, "21", symbol="BB")
    http.order("bob", "buy", 5, "21", symbol="BB")
    taken = http.order("bob", "buy", 2, "20.50")
    found = {message["channel"]: message for message in (ws.receive(), ws.receive())}
    (trade,) = found["trades"]["trades"]
    assert trade["sell_order_id"] == maker
    assert (trade["trade_id"], trade["price"]) == (
        taken["trades"][0]["trade_id"],
        Decimal("20.50"),
    )
    assert found["ticker"]["last_price"] == Decimal("20.50") != before
    assert found["ticker"]["best_ask"]["quantity"] == 3
    assert found["trades"]["previous"] == 0
    again = http.order("bob", "buy", 1, "20.50")["trades"][0]["trade_id"]
    found = {message["channel"]: message for message in (ws.receive(), ws.receive())}
    assert found["trades"]["previous"] == trade["trade_id"]
    assert found["trades"]["trades"][0]["trade_id"] == again


def test_orders_of_a_user_are_told_whoever_sends_them(ws: Ws, plan: Plan) -> None:
    ws.subscribe("orders", user_id="alice")
    with Http(plan) as first, Http(plan) as second:
        order_id = first.order("alice", "sell", 5, 30, client_order_id=77)["order_id"]
        event = ws.receive()
        assert (event["type"], event["order_id"], event["status"]) == ("new", order_id, "OPEN")
        assert (event["client_order_id"], event["user_id"]) == (77, "alice")
        second.order("bob", "buy", 2, 30)
        event = ws.receive()
        assert (event["type"], event["status"], event["liquidity"]) == ("trade", "PARTIAL", "maker")
        assert (event["filled_quantity"], event["remaining_quantity"]) == (2, 3)
        assert (event["last_quantity"], event["last_price"]) == (2, 30)
        second.call("PATCH", f"{API}/orders/{order_id}", {"price": 31})
        assert ws.receive()["type"] == "replaced"
        first.call("DELETE", f"{API}/orders/{order_id}")
        event = ws.receive()
        assert (event["type"], event["status"], event["trade_id"]) == (
            "cancelled",
            "CANCELLED",
            None,
        )


def test_orders_that_a_socket_client_enters_are_told_too(ws: Ws, plan: Plan) -> None:
    ws.subscribe("orders", user_id="alice")
    with Wire(plan, "alice") as wire:
        wire.send(NewOrder(1, 5, 0, 1, 2, 1, 100, 3))
        event = ws.receive()
        assert (event["type"], event["symbol"], event["quantity"]) == ("new", "AA", 3)
        wire.receive()
        with Http(plan) as http:
            http.call("DELETE", f"{API}/orders/{event['order_id']}")
        assert ws.receive()["type"] == "cancelled"
        told = wire.receive()
        assert isinstance(told, Report)
        assert told.exec_type == ExecType.CANCELED


def test_orders_can_be_entered_changed_and_cancelled(ws: Ws) -> None:
    order = {"user_id": "eve", "order_type": "limit", "side": "buy", "price": "5.5", "quantity": 3}
    answer = ws.ask("order", id="a", order=order)
    assert (answer["type"], answer["id"]) == ("result", "a")
    order_id = answer["result"]["order_id"]
    assert answer["result"]["status"] == "OPEN"
    changed = ws.ask("replace", id=2, order_id=order_id, price="5.6", quantity="2")["result"]
    assert changed["remaining_quantity"] == 2
    gone = ws.ask("cancel", id=3, order_id=order_id, user_id="eve")["result"]
    assert gone["status"] == "CANCELLED"
    ws.ask("order", order=order)
    ws.ask("order", order=order | {"symbol": "BB"})
    assert ws.ask("cancel_all", user_id="eve")["result"]["cancelled"] == 2


def test_what_an_order_waits_for_can_be_changed(ws: Ws) -> None:
    order = {"user_id": "eve", "order_type": "stop", "side": "buy", "stop_price": 900}
    order_id = ws.ask("order", order=order | {"quantity": 3})["result"]["order_id"]
    change = {"order_id": order_id, "user_id": "eve"}
    assert ws.refused("replace", **change, stop_price="x")[1] == "stop_price"
    assert ws.refused("replace", **change, stop_price=None)[0] == "INVALID_REQUEST"
    ws.subscribe("orders", user_id="eve")
    ws.send(op="replace", **change, stop_price="901", price=None)
    told = [ws.receive(), ws.receive()]
    [event] = [message for message in told if message["type"] == "replaced"]
    assert event["stop_price"] == 901
    ws.send(op="cancel_all", user_id="eve")
    while ws.receive()["type"] != "result":
        pass


def test_what_rare_orders_have_is_told_and_changed(ws: Ws) -> None:
    ws.subscribe("orders", user_id="ida")
    order = {"user_id": "ida", "order_type": "limit", "side": "buy", "price": "5.5", "quantity": 9}
    plain = {"op": "order", "id": 1, "order": order}
    for terms, shown in (({}, None), ({"display_quantity": 3}, 3)):
        ws.send(**(plain | {"order": order | terms}))
        told = [ws.receive(), ws.receive()]
        [event] = [message for message in told if message["type"] == "new"]
        assert event.get("display_quantity") == shown
    ws.send(op="replace", id=2, order_id=event["order_id"], display_quantity=4)
    told = [ws.receive(), ws.receive()]
    [event] = [message for message in told if message["type"] == "replaced"]
    assert (event["display_quantity"], event["price"]) == (4, 5.5)


def test_pipelined_orders_are_carried_out_in_their_order(ws: Ws) -> None:
    order = {"user_id": "eve", "order_type": "limit", "side": "buy", "price": 1, "quantity": 1}
    for number in range(300):
        ws.send(op="order", id=number, order=order)
    answers = [ws.receive() for _ in range(300)]
    by_id = {answer["id"]: answer["result"]["order_id"] for answer in answers}
    placed = [by_id[number] for number in range(300)]
    assert placed == sorted(placed)


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        ("x", "INVALID_REQUEST", None),
        ("[]", "INVALID_REQUEST", ""),
        ("{}", "INVALID_REQUEST", "op"),
        ('{"op": 3}', "INVALID_REQUEST", "op"),
        ('{"op": "fly"}', "INVALID_REQUEST", "op"),
        ('{"op": "ping", "x": 1}', "INVALID_REQUEST", "x"),
        ('{"op": "subscribe"}', "INVALID_REQUEST", "channel"),
        ('{"op": "subscribe", "channel": "news"}', "INVALID_REQUEST", "channel"),
        ('{"op": "subscribe", "channel": "depth", "symbol": "X"}', "UNKNOWN_SYMBOL", "symbol"),
        ('{"op": "subscribe", "channel": "orders"}', "INVALID_REQUEST", "user_id"),
        ('{"op": "unsubscribe", "channel": "depth"}', "INVALID_REQUEST", "channel"),
        (
            '{"op": "unsubscribe", "channel": "orders", "user_id": "u"}',
            "INVALID_REQUEST",
            "channel",
        ),
        ('{"op": "order"}', "INVALID_REQUEST", "order"),
        ('{"op": "order", "order": {"user_id": "eve"}}', "INVALID_REQUEST", "order_type"),
        ('{"op": "cancel"}', "INVALID_REQUEST", "order_id"),
        ('{"op": "cancel", "order_id": 12345678901}', "ORDER_NOT_FOUND", "order_id"),
        ('{"op": "login", "key": "k"}', "INVALID_REQUEST", None),
    ],
)
def test_what_is_wrong_with_a_message_is_named(
    ws: Ws, text: str, code: str, field: str | None
) -> None:
    ws.connection.send(text)
    answer = ws.receive()
    assert answer["type"] == "error"
    assert answer["error"]["code"] == code
    assert answer["error"]["details"].get("field") == field
    assert ws.ask("ping")["type"] == "pong"


@pytest.mark.parametrize("text", ["81." + "0" * 5_000, '"1_0"', '"\uff11"', "true", "1e999999"])
def test_a_number_that_is_none_is_answered(ws: Ws, text: str) -> None:
    order = {"user_id": "eve", "order_type": "limit", "side": "buy", "price": 81, "quantity": 1}
    order_id = ws.ask("order", order=order)["result"]["order_id"]
    wrong = json.dumps({"op": "order", "id": 1, "order": order}).replace("81", text)
    changed = f'{{"op": "replace", "id": 1, "order_id": {order_id}, "price": {text}}}'
    for message in (wrong, changed):
        ws.connection.send(message)
        answer = ws.receive()
        assert (answer["type"], answer["id"]) == ("error", 1)
        assert answer["error"]["code"] == "INVALID_PRICE"
        assert answer["error"]["details"]["field"] == "price"
        assert len(answer["error"]["message"]) < 250


def test_nesting_behind_another_mistake_is_answered(ws: Ws) -> None:
    ws.connection.send('{"op": 1, "x": ' + "[" * 60_000)
    assert ws.receive()["type"] == "error"
    assert ws.ask("ping")["type"] == "pong"


def test_ops_and_channels_may_be_in_any_case(ws: Ws) -> None:
    for op, channel in (("SUBSCRIBE", "Ticker"), ("Unsubscribe", "TICKER")):
        answer = ws.ask(op, channel=channel, symbol="AA")
        while answer.get("type") == "ticker":
            answer = ws.receive()
        assert (answer["type"], answer["channel"]) == (op.lower() + "d", "ticker")
    assert ws.ask("Subscribe", channel="Orders", user_id="eve")["channel"] == "orders"
    assert ws.ask("PING")["type"] == "pong"
    assert ws.refused("\u212aeep")[0] == "INVALID_REQUEST"


def test_subscriptions_have_a_bound_and_are_not_given_twice(ws: Ws) -> None:
    for symbol in ("AA", "BB", "CC", "DD"):
        ws.subscribe("trades", symbol=symbol)
    assert ws.refused("subscribe", channel="trades", symbol="AA")[0] == "INVALID_REQUEST"
    ws.subscribe("orders", user_id="u")
    assert ws.refused("subscribe", channel="depth")[0] == "TOO_MANY_REQUESTS"


def test_silence_is_filled_with_heartbeats(ws: Ws) -> None:
    message = json.loads(ws.connection.recv(WAIT_S))
    assert message["type"] == "heartbeat"
    assert message["timestamp"] > 10**18


def test_other_paths_are_refused(plan: Plan) -> None:
    with pytest.raises(InvalidStatus) as caught:
        Ws(plan, "/nothing")
    assert caught.value.response.status_code == 404
    with Ws(plan, f"{API}/ws") as ws:
        assert ws.ask("ping")["type"] == "pong"


def test_a_message_beyond_the_bound_ends_the_connection(plan: Plan) -> None:
    with Ws(plan) as ws:
        ws.connection.send(" " * 70_000)
        with pytest.raises(ConnectionClosed) as caught:
            ws.receive()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


class _Flow:
    """Passive orders and cancels of one symbol, and the book after each of them."""

    def __init__(self, seed: int, levels: int) -> None:
        self.random = random.Random(seed)
        self.levels = levels
        self.books: list[dict[str, dict[int, list[int]]]] = []

    def order(self) -> dict[str, Any]:
        """Return the next order: the prices of the sides do not meet."""
        side = self.random.choice(("buy", "sell"))
        price = self.random.randrange(1, self.levels + 1)
        if side == "sell":
            price += self.levels
        quantity = self.random.randrange(1, 9)
        return {
            "user_id": "flow",
            "order_type": "limit",
            "side": side,
            "price": f"{price // 100}.{price % 100:02d}",
            "quantity": quantity,
        }


def expected(orders: list[dict[str, Any]], side: str, most: int) -> list[tuple[int, int, int]]:
    """Return the levels of a side after some orders, best first."""
    levels: dict[int, list[int]] = {}
    for order in orders:
        if order["side"] == side:
            level = levels.setdefault(int(Decimal(order["price"]) * 100), [0, 0])
            level[0] += order["quantity"]
            level[1] += 1
    rows = sorted(((p, q, n) for p, (q, n) in levels.items()), reverse=side == "buy")
    return rows[:most]


def test_a_rebuilt_book_equals_the_book_at_every_message_also_through_reconnects(
    seed: int,
) -> None:
    """Orders in batches over one connection; the sequence says after which of them a message is."""
    flow = _Flow(seed, 40)
    total, size = 6_000, 50
    orders = [flow.order() for _ in range(total)]
    with serving(workers=1, extra='default_symbol = "AA"', matchers=1) as plan:

        def send() -> None:
            with Http(plan) as http:
                for first in range(0, total, size):
                    batch = {"orders": orders[first : first + size]}
                    assert http.post(f"{API}/orders/batch", batch)["summary"]["failed"] == 0

        sender = threading.Thread(target=send)
        sender.start()
        last, updates = -1, 0
        while last < total:
            with Ws(plan) as ws:
                ws.subscribe("depth")
                book = Rebuilt(ws)
                for _ in range(40):
                    book.next()
                    if book.sequence >= 0:
                        done = orders[: book.sequence]
                        assert book.sides["bids"] == expected(done, "buy", 64)
                        assert book.sides["asks"] == expected(done, "sell", 64)
                    last = book.sequence
                    if last == total:
                        break
                updates += book.updates
        sender.join()
        assert last == total
        assert updates > 20


class Model:
    """A book of orders that never trade, changed by one order at a time."""

    def __init__(self, seed: int) -> None:
        self._flow = _Flow(seed, 30)
        self._levels: dict[str, dict[int, list[int]]] = {"buy": {}, "sell": {}}
        self._live: list[tuple[int, dict[str, Any]]] = []

    def change(self, http: Http) -> None:
        """Enter an order, or cancel one."""
        if len(self._live) > 60 or (self._live and self._flow.random.random() < 0.45):
            order_id, order = self._live.pop(self._flow.random.randrange(len(self._live)))
            assert http.call("DELETE", f"{API}/orders/{order_id}").status == 200
            self._add(order, -1)
        else:
            order = self._flow.order()
            self._live.append((http.post(f"{API}/orders", order)["order_id"], order))
            self._add(order, 1)

    def side(self, side: str) -> list[tuple[int, int, int]]:
        """Return the levels of a side, best first."""
        rows = [(price, *level) for price, level in self._levels[side].items()]
        return sorted(rows, reverse=side == "buy")  # type: ignore[arg-type]

    def _add(self, order: dict[str, Any], sign: int) -> None:
        levels, price = self._levels[order["side"]], int(Decimal(order["price"]) * 100)
        level = levels.setdefault(price, [0, 0])
        level[0] += sign * order["quantity"]
        level[1] += sign
        if not level[1]:
            del levels[price]


def test_a_rebuilt_book_equals_the_book_after_each_change_also_through_reconnects(
    seed: int,
) -> None:
    """One change at a time, each told by a message of its own; and more while nobody listens.

    SHARDBOOK_DEPTH_CHANGES says how many: 100,000 take some minutes.
    """
    total = int(os.environ.get("SHARDBOOK_DEPTH_CHANGES", "400"))
    model, changes_made = Model(seed), 0
    with serving(workers=2, extra='default_symbol = "AA"', matchers=1) as plan, Http(plan) as http:
        while changes_made < total:
            for _ in range(3):
                model.change(http)  # unheard
            with Ws(plan) as ws:
                ws.subscribe("depth")
                book = Rebuilt(ws)
                book.next()
                for _ in range(min(total - changes_made, max(100, total // 20))):
                    assert book.sides == {"bids": model.side("buy"), "asks": model.side("sell")}
                    model.change(http)
                    book.next()
                    changes_made += 1
                assert book.sides == {"bids": model.side("buy"), "asks": model.side("sell")}
                assert book.updates >= 100


def test_a_client_that_does_not_read_is_conflated_or_cut_off_and_harms_nobody() -> None:
    extra = 'default_symbol = "AA"\nmax_unread_messages = 64\nheartbeat_s = 60'
    with (
        serving(workers=1, extra=extra, matchers=1) as plan,
        Ws(plan, deaf=True) as slow,
        Ws(plan, deaf=True) as deaf,
        Ws(plan) as quick,
        Http(plan) as http,
    ):
        slow.subscribe("depth")
        Rebuilt(slow).next()
        deaf.subscribe("orders", user_id="m")
        quick.subscribe("depth")
        watcher = Rebuilt(quick)
        watcher.next()
        wide = [
            {
                "user_id": "m",
                "order_type": "limit",
                "side": "buy",
                "price": f"{n // 100}.{n % 100:02d}",
                "quantity": 1,
            }
            for n in range(1, 200)
        ]

        def counter(name: str) -> float:
            raw = http.call("GET", "/metrics").raw.decode()
            line = next(x for x in raw.splitlines() if x.startswith(f"shardbook_http_{name}"))
            return float(line.split()[-1])

        def flood() -> bool:
            http.post(f"{API}/orders/batch", {"orders": wide})
            http.call("DELETE", f"{API}/orders?user_id=m")
            return counter("conflated_total") > 0 and counter("closed_slow_reader_total") > 0

        reading = threading.Event()
        messages = []

        def read() -> None:
            while not reading.is_set():
                watcher.next()
                messages.append(watcher.sequence)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        until(flood)
        final = http.order("m", "buy", 1, 1)
        assert final["status"] == "OPEN"
        until(lambda: watcher.sides["bids"] == [(100, 1, 1)])
        reading.set()
        http.order("m", "buy", 1, 1)
        reader.join()
        with pytest.raises(ConnectionClosed) as caught:
            deaf.drain()
        assert caught.value.rcvd is None or "SLOW_READER" in caught.value.rcvd.reason
        late = Rebuilt(slow)
        while late.sides["bids"] != [(100, 2, 2)]:
            late.sequence = late.sequence if late.updates else -1
            _next_from_anywhere(late)


def _next_from_anywhere(book: Rebuilt) -> None:
    """Take a message where the one before it was not seen by this book."""
    if book.sequence < 0:
        message = book.ws.receive()
        if message["type"] == "snapshot":
            book.sequence = message["sequence"]
            for side, first in (("bids", -1), ("asks", 1)):
                rows = [(int(Decimal(p) * 100), int(q), n) for p, q, n in message[side]]
                book.sides[side] = applied([], rows, first)
            book.updates += 1
        return
    book.next()
