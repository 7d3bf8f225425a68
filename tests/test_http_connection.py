"""One HTTP connection at the level of bytes: order, bounds, and how it ends."""

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import uvicorn
from uvicorn.server import ServerState

from engine.children import FINISH
from engine.plan import Plan
from frontend.gateway.turns import Turns
from frontend.http.connection import PIECE_BYTES, TURN_S, Answer, Bounds, Call, Reply, connections
from ipc.memory.status import StatusReader
from tests.http import API, WAIT_S, Http, serving
from tests.product import until
from tests.test_http_faults import pid_of
from tests.test_http_socket import Ws

ORDER = {
    "user_id": "u",
    "symbol": "AA",
    "order_type": "limit",
    "side": "buy",
    "price": 1,
    "quantity": 1,
}


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    with serving(workers=1, extra="max_body_bytes = 4096\nkeep_alive_s = 2") as plan:
        yield plan


@pytest.fixture(scope="module")
def patient() -> Iterator[Plan]:
    """A product that waits for its clients longer than they do for it."""
    with serving(workers=1) as plan:
        yield plan


class Raw:
    """A connection that takes and gives bytes."""

    def __init__(self, plan: Plan) -> None:
        address = plan.http_address
        assert address is not None
        self.sock = socket.create_connection((address.host, address.port), WAIT_S)
        self._rest = b""

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def head(self) -> bytes:
        """Return the next status line and headers."""
        while b"\r\n\r\n" not in self._rest:
            piece = self.sock.recv(65_536)
            if not piece:
                raise EOFError
            self._rest += piece
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        return head

    def answer(self) -> tuple[int, dict[str, object], bytes]:
        """Return status, body and head of the next answer."""
        head = self.head()
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(self._rest) < length:
            self._rest += self.sock.recv(65_536)
        body, self._rest = self._rest[:length], self._rest[length:]
        return int(head.split()[1]), json.loads(body), head

    def ended(self) -> bool:
        """Return whether the other side has closed, and sent nothing more."""
        return not self._rest and self.sock.recv(1) == b""


def post(body: bytes, *headers: str) -> bytes:
    lines = [
        f"POST {API}/orders HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


ENTER = post(json.dumps(ORDER).encode())
MUCH = 1 << 25
"""Bytes: more than the buffers of a connection hold."""
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_requests_in_one_piece_are_answered_in_their_order(plan: Plan) -> None:
    with Raw(plan) as raw:
        orders = [ORDER | {"quantity": quantity} for quantity in range(1, 201)]
        raw.send(b"".join(post(json.dumps(order).encode()) + HEALTH for order in orders))
        ids = []
        for order in orders:
            status, body, _ = raw.answer()
            assert (status, body["remaining_quantity"]) == (200, order["quantity"])
            ids.append(body["order_id"])
            status, body, _ = raw.answer()
            assert (status, body["status"]) == (200, "healthy")
        assert ids == sorted(set(ids))


def test_requests_in_small_pieces_are_whole_in_the_end(plan: Plan) -> None:
    with Raw(plan) as raw, Raw(plan) as other:
        raw.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in ENTER + HEALTH:
            raw.send(bytes([byte]))
            other.send(HEALTH)
            other.answer()  # so the byte has been read by itself
        assert raw.answer()[0] == 200
        assert raw.answer()[1]["status"] == "healthy"


def test_a_body_that_is_too_large_is_refused_and_the_connection_goes_on(plan: Plan) -> None:
    with Raw(plan) as raw:
        large = post(b" " * 50_000)
        raw.send(large[:20_000])
        status, body, _ = raw.answer()
        assert (status, body["error"]["code"]) == (413, "BODY_TOO_LARGE")
        raw.send(large[20_000:] + HEALTH)
        assert raw.answer()[1]["status"] == "healthy"


def test_an_endless_body_is_cut_off(plan: Plan) -> None:
    with Raw(plan) as raw:
        raw.send(post(b" " * 50_000)[:20_000])
        assert raw.answer()[0] == 413
        assert raw.ended()


def test_who_asks_may_go_on_with_the_body(plan: Plan) -> None:
    with Raw(plan) as raw:
        head, _, body = post(json.dumps(ORDER).encode(), "Expect: 100-continue").partition(
            b"\r\n\r\n"
        )
        raw.send(head + b"\r\n\r\n")
        assert raw.head() == b"HTTP/1.1 100 Continue"
        raw.send(body)
        assert raw.answer()[0] == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /health HTTP/1.0\r\n\r\n",
        b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
def test_a_connection_that_is_to_end_ends_after_its_answer(patient: Plan, request_: bytes) -> None:
    with Raw(patient) as raw:
        raw.send(request_ + HEALTH)
        status, _, head = raw.answer()
        assert status == 200
        assert b"connection: close" in head
        assert raw.ended()


def test_an_answer_to_head_has_no_body(plan: Plan) -> None:
    with Raw(plan) as raw:
        raw.send(b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + HEALTH)
        head = raw.head()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\ncontent-length: 0" not in head
        assert raw.answer()[0] == 200
        raw.send(b"HEAD /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n" + HEALTH)
        assert raw.head().startswith(b"HTTP/1.1 404 ")
        assert raw.answer()[0] == 200


def test_a_target_may_be_escaped_and_another_upgrade_is_not_made(plan: Plan) -> None:
    with Raw(plan) as raw:
        raw.send(b"GET /he%61lth HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert raw.answer()[0] == 200
        raw.send(HEALTH[:-2] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert raw.answer()[0] == 200


def test_an_idle_connection_is_closed(plan: Plan) -> None:
    with Raw(plan) as raw:
        raw.send(HEALTH)
        assert raw.answer()[0] == 200
        assert raw.ended()


def test_who_asks_on_and_never_reads_is_cut_off(plan: Plan) -> None:
    with Raw(plan) as raw:
        raw.sock.setblocking(False)
        many = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100
        with suppress(BlockingIOError):
            while raw.sock.send(many):
                pass
        until(lambda: counter(plan, "connections") > 0)
        until(lambda: counter(plan, "connections") == 0)


def test_who_reads_late_gets_every_answer(patient: Plan) -> None:
    with Raw(patient) as raw, Raw(patient) as other:
        raw.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_000)
        other.send(HEALTH)
        other.answer()  # so as much has been answered as there was room for
        first = raw.answer()
        assert first[0] == 200
        assert all(raw.answer()[1] == first[1] for _ in range(999))
        raw.send(HEALTH)
        assert raw.answer()[1]["status"] == "healthy"


def taken(raw: Raw, other: Raw, request: bytes, most: int) -> int:
    """Send a request again and again until no more is taken; return how many bytes were."""
    raw.sock.setblocking(False)
    many, sent, refused = request * 1_000, 0, 0
    while refused < 200 and sent < most:
        try:
            sent += raw.sock.send(many[sent % len(request) :])
            refused = 0
        except BlockingIOError:
            refused += 1
        other.send(HEALTH)
        other.answer()  # so all has been read that would be
    return sent


def test_while_answers_are_not_read_requests_are_not_either() -> None:
    """On a pair of sockets: TCP itself may take no more of a client that does not read."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    bounds = Bounds(4_096, 4_096, WAIT_S)
    served = connections(bounds, lambda _, reply: reply(Answer(200, bytes(20_000))))

    async def sent_in_vain() -> int:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        made = served(uvicorn.Config(lambda: None), ServerState(), {})
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: made, theirs
        )
        sent, refused = 0, 0
        while refused < 100 and sent < MUCH:
            try:
                sent += ours.send((request * 1_000)[sent % len(request) :])
                refused = 0
            except BlockingIOError:
                refused += 1
            await asyncio.sleep(0)  # all is read that would be
        ours.close()
        transport.abort()
        return sent

    assert asyncio.run(sent_in_vain()) < MUCH


def test_of_many_requests_of_many_others_have_their_turn_in_between() -> None:
    """Whoever asks for one thing, behind twenty who ask for five each, waits for one of each."""
    order: list[bytes] = []

    def serve(call: Call, reply: Reply) -> None:
        order.append(call.query)
        begun_s = time.thread_time()
        while time.thread_time() - begun_s < 2 * TURN_S:
            pass  # it takes more than a whole turn
        reply(Answer(200, b""))

    served = connections(Bounds(4_096, 4_096, WAIT_S), serve)

    def asks(query: int) -> bytes:
        return b"GET /?%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % query

    async def send() -> None:
        loop = asyncio.get_running_loop()
        pairs = [socket.socketpair() for _ in range(21)]
        made = [served(uvicorn.Config(lambda: None), ServerState(), {}) for _ in pairs]
        for (_, theirs), one in zip(pairs, made, strict=True):
            await loop.connect_accepted_socket(lambda one=one: one, theirs)  # type: ignore[misc]
        for number, one in enumerate(made[:20]):
            one.data_received(b"".join(asks(100 * number + turn) for turn in range(5)))
        made[20].data_received(asks(7_777))
        while len(order) < 101:
            await asyncio.sleep(0)
        for (ours, _), one in zip(pairs, made, strict=True):
            one.transport.abort()
            ours.close()

    asyncio.run(send())
    assert order.index(b"7777") <= 20
    assert all(order.index(b"%d" % (100 * number)) <= 20 for number in range(20))


def test_who_sends_much_is_read_from_in_turn() -> None:
    bodies: list[int] = []

    def serve(call: Call, reply: Reply) -> None:
        bodies.append(len(call.body))
        reply(Answer(200, b""))

    served = connections(Bounds(4_096, 1 << 20, WAIT_S), serve)
    served.turns = Turns(1e-9)  # whatever is done is all that may be done in a turn

    async def send() -> None:
        ours, theirs = socket.socketpair()
        made = served(uvicorn.Config(lambda: None), ServerState(), {})
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: made, theirs)
        data = post(b"x" * 6 * PIECE_BYTES)
        for start in range(0, len(data), 3 * PIECE_BYTES):
            assert transport.is_reading()
            piece = data[start : start + 3 * PIECE_BYTES]
            made.data_received(piece)
            turns = 0
            while not transport.is_reading():
                await asyncio.sleep(0)
                turns += 1
            assert turns >= len(piece) // PIECE_BYTES - 1
        while not bodies:
            await asyncio.sleep(0)
        transport.abort()
        ours.close()

    asyncio.run(send())
    assert bodies == [6 * PIECE_BYTES]


CHUNKED = post(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
UPGRADE = b"Connection: upgrade\r\nUpgrade: x\r\n\r\n"
KNOWN = post(b"{}")
OTHER = post(b"[]")
PIECES = {
    "once more": ([KNOWN, KNOWN], [b"{}", b"{}"], 1),
    "another body": ([KNOWN, OTHER], [b"{}", b"[]"], 1),
    "another length": ([KNOWN, post(b"{ }"), post(b"[ ]")], [b"{}", b"{ }", b"[ ]"], 2),
    "several at once": ([KNOWN, KNOWN + OTHER, OTHER], [b"{}", b"{}", b"[]", b"[]"], 1),
    "cut in the body": ([KNOWN, OTHER[:-1], OTHER[-1:], KNOWN], [b"{}", b"[]", b"{}"], 1),
    "cut in the head": ([KNOWN, OTHER[:20], OTHER[20:], KNOWN], [b"{}", b"[]", b"{}"], 1),
    "known in a body": (
        [KNOWN, post(KNOWN)[: -len(KNOWN)], KNOWN, KNOWN],
        [b"{}", KNOWN, b"{}"],
        1,
    ),
    "chunks": ([CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"] * 2, [b"{}", b"{}"], 0),
    "chunks that are none": ([CHUNKED + b"0\r\n\r\n"] * 2, [b"", b""], 0),
    "no body": ([HEALTH, HEALTH + HEALTH, HEALTH], [b"", b"", b"", b""], 1),
    "the last": ([post(b"{}", "Connection: close")], [b"{}"], 0),
    "it asks first": ([post(b"{}", "Expect: 100-continue")] * 2, [b"{}", b"{}"], 0),
    "another upgrade": ([HEALTH[:-2] + UPGRADE] * 2, [b"", b""], 0),
    "a long head": ([post(b"{}", "X: " + 2_000 * "x")] * 2, [b"{}", b"{}"], 0),
    "others": ([post(b"{}", f"X: {n}") for n in range(1_025)], [b"{}"] * 1_025, 1),
}


@pytest.mark.parametrize("name", PIECES)
def test_a_known_head_tells_what_it_told_the_first_time(name: str) -> None:
    """Every request is the same, whether its head was known, and in whatever pieces it came."""
    pieces, bodies, known = PIECES[name]
    calls: list[Call] = []

    def serve(call: Call, reply: Reply) -> None:
        calls.append(call)
        reply(Answer(200, b""))

    served = connections(Bounds(4_096, 4_096, WAIT_S), serve)

    async def send() -> None:
        ours, theirs = socket.socketpair()
        made = served(uvicorn.Config(lambda: None), ServerState(), {})
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: made, theirs)
        for piece in pieces:
            made.data_received(piece)
            await asyncio.sleep(0)  # what has to wait for its turn has it
        while len(calls) < len(bodies):
            await asyncio.sleep(0)
        transport.abort()
        ours.close()

    asyncio.run(send())
    assert [call.body for call in calls] == bodies
    assert len(served.heads) == known
    target = ("GET", "/health") if pieces[0][:4] == b"GET " else ("POST", f"{API}/orders")
    for call in calls:
        assert (call.method, call.path, call.query, call.problem) == (*target, b"", None)
        assert call.headers[0] == (b"host", b"localhost")


def test_while_a_request_is_carried_out_those_behind_it_are_not_read(patient: Plan) -> None:
    with Http(patient) as http:
        http.post(f"{API}/orders", ORDER)
    matcher = pid_of(patient, "matcher")
    with Raw(patient) as raw, Raw(patient) as other:
        os.kill(matcher, signal.SIGSTOP)
        try:
            sent = counter(patient, "commands") + 1
            raw.send(ENTER)
            until(lambda: counter(patient, "commands") == sent)
            assert taken(raw, other, HEALTH, MUCH) < MUCH
        finally:
            os.kill(matcher, signal.SIGCONT)
        raw.sock.settimeout(WAIT_S)
        assert "order_id" in raw.answer()[1]
        assert raw.answer()[1]["status"] == "healthy"


@pytest.mark.parametrize(
    "behind",
    [
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/1.1\r\nX: " + b"x" * 40_000,
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ],
    ids=["nonsense", "a long header", "an upgrade"],
)
def test_what_is_wrong_behind_an_order_does_not_answer_it(patient: Plan, behind: bytes) -> None:
    with Http(patient) as http:
        http.post(f"{API}/orders", ORDER)
    matcher = pid_of(patient, "matcher")
    with Raw(patient) as raw, Raw(patient) as other:
        os.kill(matcher, signal.SIGSTOP)
        try:
            sent = counter(patient, "commands") + 1
            raw.send(ENTER + behind)
            until(lambda: counter(patient, "commands") == sent)
            other.send(HEALTH)
            other.answer()
        finally:
            os.kill(matcher, signal.SIGCONT)
        status, body, _ = raw.answer()
        assert (status, body["status"]) == (200, "OPEN")
        assert raw.answer()[0] in (400, 431)
        assert raw.ended()


def test_many_small_requests_in_one_piece_are_all_answered(patient: Plan) -> None:
    """However many they are: a bound of a request is one of each request."""
    request = HEALTH[:-2] + b"X: " + b"x" * (140 - len(HEALTH) - 5) + b"\r\n\r\n"
    ended = ENTER.replace(b'"quantity": 1', b'"quantity": 0')
    assert len(request) == 140
    for many in (request, request + ENTER, ended):
        with Raw(patient) as raw:
            count = 2_000 if many is request else 400
            sender = threading.Thread(target=raw.send, args=(many * count,))
            sender.start()
            for _ in range(count):
                assert raw.answer()[0] == (400 if many is ended else 200)
                if many not in (request, ended):
                    assert raw.answer()[0] == 200
            sender.join()


TRAILERS = b"2\r\n{}\r\n0\r\n"


@pytest.mark.parametrize("cut", [0, 1, 20, 100])
def test_what_comes_behind_a_body_is_dropped(cut: int) -> None:
    calls: list[Call] = []

    def serve(call: Call, reply: Reply) -> None:
        calls.append(call)
        reply(Answer(200, b""))

    served = connections(Bounds(4_096, 4_096, WAIT_S), serve)
    data = CHUNKED + TRAILERS + b"X-Api-Key: k\r\nHost: y\r\nExpect: 100-continue\r\n\r\n" + HEALTH

    async def send() -> None:
        ours, theirs = socket.socketpair()
        made = served(uvicorn.Config(lambda: None), ServerState(), {})
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: made, theirs)
        made.data_received(data[: len(data) - cut])
        if cut:
            made.data_received(data[len(data) - cut :])
        transport.abort()
        ours.close()

    asyncio.run(send())
    assert [call.body for call in calls] == [b"{}", b""]
    for call in calls:
        assert [name for name, _ in call.headers].count(b"host") == 1
        assert not {b"x-api-key", b"expect"} & {name for name, _ in call.headers}


@pytest.mark.parametrize(
    "trailer",
    [b"X: " + b"y" * (1 << 22), b"X: y\r\n" * 100_000, (b"X: " + b"y" * 999 + b"\r\n") * 5_000],
    ids=["endless", "many", "long"],
)
def test_what_comes_behind_a_body_is_bounded(patient: Plan, trailer: bytes) -> None:
    with Raw(patient) as raw:
        with suppress(ConnectionError):  # the other side may have ended before all is sent
            raw.send(CHUNKED + TRAILERS + trailer)
        with suppress(ConnectionResetError):
            assert raw.answer()[0] == 431
            assert raw.ended()
    with Raw(patient) as raw, Raw(patient) as other:
        for piece in (CHUNKED + TRAILERS + trailer[:30_000], trailer[30_000:70_000]):
            raw.send(piece)
            other.send(HEALTH)
            other.answer()  # so it has been read by itself
        assert raw.answer()[0] == 431


def test_what_is_under_way_is_answered_before_the_end(patient: Plan) -> None:
    with Http(patient) as http:
        http.post(f"{API}/orders", ORDER)
    matcher, worker = pid_of(patient, "matcher"), pid_of(patient, "http")
    with Raw(patient) as raw, Raw(patient) as idle:
        idle.send(HEALTH)
        idle.answer()
        os.kill(matcher, signal.SIGSTOP)
        sent = counter(patient, "commands") + 1
        raw.send(ENTER)
        until(lambda: counter(patient, "commands") == sent)
        os.kill(worker, FINISH)
        assert idle.ended()
        os.kill(matcher, signal.SIGCONT)
        status, body, head = raw.answer()
        assert status == 200, body
        assert (status, body["status"]) == (200, "OPEN")
        assert b"connection: close" in head
        assert raw.ended()
    until(lambda: pid_of(patient, "http") not in (0, worker))


def test_an_account_that_sends_nothing_is_closed_and_opened_again(plan: Plan) -> None:
    order = ORDER | {"user_id": "seldom"}
    with Http(plan) as http:
        until(lambda: sessions(plan) == 0)
        for _ in range(2):
            http.post(f"{API}/orders", order)
            assert sessions(plan) == 1
            until(lambda: sessions(plan) == 0)
        with Ws(plan) as ws:
            ws.subscribe("orders", user_id="seldom")
            http.post(f"{API}/orders", ORDER)
            until(lambda: sessions(plan) == 1)  # of the two, who listens stays
            http.post(f"{API}/orders", order)
            assert ws.receive()["user_id"] == "seldom"
        until(lambda: sessions(plan) == 0)


def sessions(plan: Plan) -> int:
    return counter(plan, "sessions")


def counter(plan: Plan, name: str) -> int:
    """Return a counter of the first HTTP worker."""
    processes = StatusReader(plan.status_path).processes()
    return next(p.counters[name] for p in processes if p.role == "http")
