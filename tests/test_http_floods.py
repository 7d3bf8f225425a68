"""What a worker does with who sends it much, reads little, or is nobody: bounded, and in turns."""

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.exceptions import ConnectionClosed

from engine.plan import Plan
from frontend.gateway.keys import key_section, new_key
from frontend.http.log_limits import LINES_A_MINUTE
from frontend.http.socket_protocol import (
    CLOSE_S,
    MAX_FRAGMENTS,
    PIECE_BYTES,
    Farewells,
    SocketProtocol,
)
from frontend.http.sockets import MAX_OPS_BEFORE_LOGIN, MAX_PENDING_OPS
from ipc.memory.status import StatusReader
from tests.http import WAIT_S, free_port, http_section, serving
from tests.product import until
from tests.test_http_faults import pid_of
from tests.test_http_socket import Ws
from tests.test_serve import served

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXT, CONTINUATION, PING, LAST = 0x1, 0x0, 0x9, 0x80


def frame_of(first: int, payload: bytes = b"") -> bytes:
    """Return a frame of a client, masked by zeros."""
    assert len(payload) < 126
    return bytes([first, 0x80 | len(payload)]) + bytes(4) + payload


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    with serving(workers=1, extra='default_symbol = "AA"\nheartbeat_s = 60') as running:
        yield running


def raw_socket(plan: Plan) -> socket.socket:
    """Return a WebSocket as bytes, of which little fits between the two."""
    address = plan.http_address
    assert address is not None
    sock = socket.socket()
    sock.settimeout(WAIT_S)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect((address.host, address.port))
    sock.sendall(HANDSHAKE)
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += sock.recv(1)
    assert b" 101 " in answer
    return sock


# Turns -----------------------------------------------------------------------------------------


class Counted(SocketProtocol):
    """Counts what it handles."""

    handled = 0

    def handle_ping(self) -> None:
        self.handled += 1
        super().handle_ping()


class Taker:
    """An application that takes messages while it may, and answers nothing."""

    def __init__(self) -> None:
        self.may = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        await receive()
        await send({"type": "websocket.accept"})
        await self.may.wait()
        while (await receive())["type"] == "websocket.receive":
            pass


async def connected(kind: type[SocketProtocol], app: Taker) -> tuple[Any, socket.socket]:
    """Return the protocol of a real connection, and its other end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    config = Config(app, log_config=None, ws_ping_interval=None)
    loop = asyncio.get_running_loop()
    _, protocol = await loop.connect_accepted_socket(
        lambda: kind(config=config, server_state=ServerState(), app_state={}), ours
    )
    await loop.sock_sendall(theirs, HANDSHAKE)
    await loop.sock_recv(theirs, 4_096)
    return protocol, theirs


def test_of_much_that_comes_at_once_others_have_their_turn_in_between() -> None:
    async def flood() -> None:
        protocol, theirs = await connected(Counted, Taker())
        with closing(theirs):
            count, turns = 30_000, []
            protocol.data_received(frame_of(LAST | PING) * count)
            before = 0
            while protocol.handled < count:
                turns.append(protocol.handled - before)
                before = protocol.handled
                await asyncio.sleep(0)
            assert max(turns) < count // 4
            protocol.transport.close()

    uvloop.run(asyncio.wait_for(flood(), WAIT_S))


def test_what_is_not_taken_is_not_parsed_and_then_not_read() -> None:
    async def flood() -> None:
        taker = Taker()
        protocol, theirs = await connected(Counted, taker)
        loop = asyncio.get_running_loop()
        with closing(theirs):
            texts = frame_of(LAST | TEXT, b"x" * 100) * 100
            protocol.data_received(texts + frame_of(LAST | PING))
            for _ in range(100):
                await asyncio.sleep(0)
            assert 1 <= protocol.queue.qsize() <= PIECE_BYTES // 106 + 1
            assert not protocol.transport.is_reading()
            taker.may.set()
            while not protocol.handled:
                await asyncio.sleep(0)
            await loop.sock_sendall(theirs, frame_of(LAST | PING))
            while protocol.handled < 2:
                await asyncio.sleep(0)
            assert protocol.transport.is_reading()
            protocol.transport.close()

    uvloop.run(asyncio.wait_for(flood(), WAIT_S))


# Who does not read -----------------------------------------------------------------------------


def counted(plan: Plan, name: str) -> int:
    processes = StatusReader(plan.status_path).processes()
    return sum(p.counters[name] for p in processes if p.role == "http")


def test_who_does_not_read_is_not_read_either_until_it_does() -> None:
    async def flood() -> None:
        protocol, theirs = await connected(Counted, Taker())
        loop = asyncio.get_running_loop()
        with closing(theirs):
            count, ping = 20_000, frame_of(LAST | PING, bytes(120))
            protocol.data_received(ping * count)
            while protocol.transport.get_write_buffer_size() < 60_000:
                await asyncio.sleep(0)
            for _ in range(1_000):
                await asyncio.sleep(0)
            assert protocol.handled < count
            most = protocol.transport.get_write_buffer_limits()[1] + PIECE_BYTES
            assert protocol.transport.get_write_buffer_size() <= most
            assert not protocol.transport.is_reading()
            unread_bytes = count * len(frame_of(LAST | PING, bytes(116)))
            while unread_bytes:
                unread_bytes -= len(await loop.sock_recv(theirs, 65_536))
            assert protocol.handled == count
            while not protocol.transport.is_reading():
                await asyncio.sleep(0)
            protocol.transport.close()

    uvloop.run(asyncio.wait_for(flood(), WAIT_S))


def test_who_is_slow_to_read_is_heard_while_much_is_sent_to_it() -> None:
    async def send_much() -> None:
        protocol, theirs = await connected(Counted, Taker())
        loop = asyncio.get_running_loop()

        async def stream() -> None:
            while True:
                await protocol.send({"type": "websocket.send", "bytes": bytes(1_000)})

        streaming = asyncio.ensure_future(stream())
        with closing(theirs):
            while not protocol.read_paused:
                await asyncio.sleep(0)
            await loop.sock_sendall(theirs, frame_of(LAST | PING))
            while not protocol.handled:
                await loop.sock_recv(theirs, 1_000)
            streaming.cancel()
            protocol.transport.abort()

    uvloop.run(asyncio.wait_for(send_much(), WAIT_S))


def test_who_never_reads_is_gone_after_heartbeat_and_farewell() -> None:
    extra = 'default_symbol = "AA"\nheartbeat_s = 1'
    with serving(workers=1, extra=extra) as plan, closing(raw_socket(plan)) as sock:
        until(lambda: counted(plan, "connections") == 1)
        with suppress(OSError):  # of the end, where not all of it is taken before
            sock.sendall(frame_of(LAST | PING, bytes(120)) * 8_000)
        until(lambda: counted(plan, "connections") == 0)


def test_a_connection_whose_end_is_not_read_is_cut_off_in_time() -> None:
    async def say_farewell() -> None:
        protocol, theirs = await connected(SocketProtocol, Taker())
        farewells, transports = Farewells(), [protocol.transport]
        with closing(theirs):
            protocol.transport.write(bytes(1 << 22))
            farewells.look(transports, 100.0)
            protocol.transport.close()
            for now_s in (1_000.0, 1_000.0 + CLOSE_S):
                farewells.look(transports, now_s)
                await asyncio.sleep(0)
                assert not protocol.disconnected
            farewells.look(transports, 1_000.1 + CLOSE_S)
            while not protocol.disconnected:
                await asyncio.sleep(0)

    uvloop.run(asyncio.wait_for(say_farewell(), WAIT_S))


# Who sends what is nothing ---------------------------------------------------------------------


def test_the_fragments_of_a_message_are_bounded(plan: Plan) -> None:
    with Ws(plan) as ws:
        ws.connection.socket.sendall(frame_of(TEXT, b'{"op": '))
        ws.connection.socket.sendall(frame_of(CONTINUATION) * (MAX_FRAGMENTS - 2))
        ws.connection.socket.sendall(frame_of(LAST | CONTINUATION, b'"ping"}'))
        assert ws.receive()["type"] == "pong"
        ws.connection.socket.sendall(frame_of(TEXT, b'{"op": '))
        ws.connection.socket.sendall(frame_of(CONTINUATION) * (2 * MAX_FRAGMENTS))
        with pytest.raises(ConnectionClosed) as caught:
            ws.receive()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


def test_unanswered_operations_are_bounded_and_those_beyond_are_refused() -> None:
    order = {"user_id": "u", "order_type": "limit", "side": "buy", "price": 1, "quantity": 1}
    extra = 'default_symbol = "AA"\nanswer_timeout_s = 60'
    with serving(workers=1, extra=extra, matchers=1) as plan, Ws(plan) as ws:
        ws.ask("order", order=order)
        matcher = pid_of(plan, "matcher")
        os.kill(matcher, signal.SIGSTOP)
        try:
            for number in range(MAX_PENDING_OPS + 5):
                ws.send(op="order", id=number, order=order)
            refused = [ws.receive() for _ in range(5)]
        finally:
            os.kill(matcher, signal.SIGCONT)
        assert [answer["id"] - MAX_PENDING_OPS for answer in refused] == [0, 1, 2, 3, 4]
        assert {answer["error"]["code"] for answer in refused} == {"TOO_MANY_REQUESTS"}
        answers = [ws.receive() for _ in range(MAX_PENDING_OPS)]
        assert [answer["id"] for answer in answers] == list(range(MAX_PENDING_OPS))
        assert ws.ask("order", order=order)["type"] == "result"


def test_before_login_few_operations_are_taken() -> None:
    key = new_key()
    with serving(workers=1, before=key_section("alice", key) + "\n") as plan:
        with Ws(plan) as ws:
            for _ in range(MAX_OPS_BEFORE_LOGIN - 1):
                assert ws.ask("ping")["type"] == "pong"
            assert ws.ask("login", key=key)["type"] == "logged_in"
            for _ in range(2 * MAX_OPS_BEFORE_LOGIN):
                assert ws.ask("ping")["type"] == "pong"
        with Ws(plan) as ws:
            for _ in range(MAX_OPS_BEFORE_LOGIN):
                ws.connection.send(json.dumps({"op": "order", "order": {}}))
            with pytest.raises(ConnectionClosed) as caught:
                ws.drain()
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason[:12]) == (1008, "UNAUTHORIZED")


def test_what_strangers_send_makes_few_lines_and_no_traceback(tmp_path: Path) -> None:
    times = LINES_A_MINUTE // 2 + 5
    section = http_section(free_port(), 1, 'default_symbol = "AA"')
    with served(tmp_path, section) as serving:
        for _ in range(times):
            with closing(raw_socket(serving.plan)) as sock:
                sock.sendall(frame_of(LAST | TEXT, b"\xff"))
                while sock.recv(4_096):
                    pass
            address = serving.plan.http_address
            assert address is not None
            with closing(socket.create_connection((address.host, address.port))) as sock:
                sock.sendall(b"\x00\r\n\r\n")
                while sock.recv(4_096):
                    pass
    log = "".join(serving.lines)
    assert "Traceback" not in log
    lines = re.findall("Invalid (?:HTTP|UTF-8).*", log)
    assert 1 <= len(lines) <= 2 * LINES_A_MINUTE  # where a minute ends in between
    assert any("left out" in line for line in lines)
