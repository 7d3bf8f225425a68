"""A hostile client: its connections, what it says on them, and how much of it there was.

Each foe comes from an address of its own of a few loopback ones, as strangers do, and has a few
connections at a time at the most. What it does is an attack: a coroutine that is run over and over.
What is still open at the end of a turn is closed then.
"""

import asyncio
import json
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ipc.links.sockets import Address
from ipc.records import COMMAND
from ipc.vocabulary import CommandType, OrderType, Side, TimeInForce
from ipc.wire.client_codec import command_frames
from ipc.wire.frames import HEADER, HEADER_BYTES, frame
from ipc.wire.messages import Login, Welcome, server_decoder

API = "/api/v1"
MOST_LINES = 8
"""Connections that a foe has at a time."""
HOSTS = 10
"""Addresses that foes come from."""
READ_BYTES = 1 << 16
TURN_S = 8.0
"""How long a turn of an attack may take that does not say otherwise."""
LOW, HIGH = 1, 5_000_000
"""Prices, in ticks, that nobody else trades at."""

_RESET = struct.pack("ii", 1, 0)


class RefusedError(ConnectionError):
    """The product did not let the foe in."""


@dataclass(frozen=True)
class Scene:
    """Where foes find the product, who they may be there, and what is traded."""

    entry: tuple[Address, ...]
    http: Address
    users: tuple[str, ...]
    keys: Mapping[str, str]
    """By user; empty where the product has no keys."""
    symbols: tuple[tuple[int, str], ...]
    """Numbers and names; dealt to the shards in turn."""
    matchers: int
    seed: int


class Line:
    """One connection of a foe."""

    def __init__(
        self, foe: "Foe", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._foe = foe
        self._reader = reader
        self._writer = writer
        self._drinking: asyncio.Task[None] | None = None
        writer.transport.set_write_buffer_limits(high=READ_BYTES)

    async def send(self, data: bytes) -> None:
        """Send, as fast as the other side takes it."""
        if self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(data)
        self._foe.sent_bytes += len(data)
        await self._writer.drain()
        await asyncio.sleep(0)

    async def receive(self) -> bytes:
        """Return what comes next. Raises EOFError."""
        data = await self._reader.read(READ_BYTES)
        self._foe.received_bytes += len(data)
        if not data:
            raise EOFError
        return data

    async def until(self, end: bytes) -> bytes:
        """Return what comes, up to an end."""
        data = await self._reader.readuntil(end)
        self._foe.received_bytes += len(data)
        return data

    async def body(self) -> bytes:
        """Return the body of the next frame of order entry."""
        length, _ = HEADER.unpack(await self._reader.readexactly(HEADER_BYTES))
        self._foe.received_bytes += HEADER_BYTES + length
        return await self._reader.readexactly(length)

    def drink(self) -> None:
        """Read and forget all that comes from now on."""
        self._drinking = asyncio.ensure_future(self._drink())

    async def _drink(self) -> None:
        try:
            while True:
                await self.receive()
        except (EOFError, OSError):
            self.close()

    async def ended(self) -> None:
        """Read until the other side closes."""
        try:
            while True:
                await self.receive()
        except (EOFError, OSError):
            return

    def end_sending(self) -> None:
        """Close one half."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Close with an RST."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """Close, whatever is still to be sent."""
        if self._drinking is not None:
            self._drinking.cancel()
        self._writer.transport.abort()


class Foe:
    """One hostile client."""

    def __init__(self, scene: Scene, number: int) -> None:
        self.scene = scene
        self.number = number
        self.dice = random.Random(f"{scene.seed} {number}")
        self.user = scene.users[number % len(scene.users)]
        self.key = scene.keys.get(self.user, "")
        self.turns = self.refused = self.sent_bytes = self.received_bytes = 0
        self._lines: list[Line] = []

    # Connections --------------------------------------------------------------------------------

    async def entry(self) -> Line:
        """Connect to order entry."""
        return await self._open(self.scene.entry[self.number % len(self.scene.entry)])

    async def login(self, user: str = "", **more: object) -> Line:
        """Log in at order entry, and see the Welcome."""
        line = await self.entry()
        await line.send(self.login_frame(user, **more))
        if not isinstance(server_decoder.decode(await line.body()), Welcome):
            raise RefusedError
        return line

    def login_frame(self, user: str = "", **more: object) -> bytes:
        """Return a Login; as the foe's own user with its key, where none is named."""
        key = "" if user else self.key
        return frame(Login(user or self.user, api_key=key, **more))  # type: ignore[arg-type]

    async def http(self) -> Line:
        """Connect to an HTTP worker."""
        return await self._open(self.scene.http)

    async def websocket(self, *headers: str, key: bool = True) -> Line:
        """Upgrade a connection to a WebSocket, with the foe's key or without one."""
        line = await self.http()
        upgrade = (
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )
        await line.send(self.request("GET", "/ws", b"", *upgrade, *headers, key=key))
        if b" 101 " not in await line.until(b"\r\n\r\n"):
            raise RefusedError
        return line

    async def _open(self, address: Address) -> Line:
        if len(self._lines) >= MOST_LINES:
            raise RefusedError
        if address.path:
            reader, writer = await asyncio.open_unix_connection(address.path)
        else:
            reader, writer = await asyncio.open_connection(
                address.host, address.port, local_addr=(f"127.0.1.{1 + self.number % HOSTS}", 0)
            )
        # What is sent is what the product takes, not what the kernel does on this side.
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, READ_BYTES)
        line = Line(self, reader, writer)
        self._lines.append(line)
        return line

    def drop(self, line: Line) -> None:
        """Close a connection, so that there may be another."""
        line.close()
        self._lines.remove(line)

    def close(self) -> None:
        """Close all connections."""
        for line in self._lines:
            line.close()
        self._lines.clear()

    # What it says -------------------------------------------------------------------------------

    @property
    def symbol(self) -> int:
        """Any symbol's number."""
        return self.dice.choice(self.scene.symbols)[0]

    @property
    def symbol_name(self) -> str:
        """Any symbol's name."""
        return self.dice.choice(self.scene.symbols)[1]

    def orders(
        self,
        count: int,
        price: int = LOW,
        tif: TimeInForce = TimeInForce.GTC,
        side: Side = Side.BUY,
        ids: npt.NDArray[np.uint64] | None = None,
        symbol: int = 0,
    ) -> bytes:
        """Return the frames of limit orders, without ids of their own where none are given."""
        records = np.zeros(count, COMMAND)
        records["command_type"] = CommandType.NEW
        records["symbol"] = symbol or self.symbol
        records["request_id"] = np.arange(1, count + 1)
        records["side"], records["order_type"] = side, OrderType.LIMIT
        records["time_in_force"], records["price"], records["quantity"] = tif, price, 1
        if ids is not None:
            records["client_order_id"] = ids[:count]
        return command_frames(records)[0]

    def request(
        self, method: str, path: str, body: bytes = b"", *headers: str, key: bool = True
    ) -> bytes:
        """Return an HTTP request, with the foe's key or without one."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
        if key and self.key:
            lines.append(f"X-API-Key: {self.key}")
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def order(self, **changes: object) -> bytes:
        """Return the JSON of a limit order that rests far from the market."""
        order: dict[str, object] = {
            "user_id": self.user,
            "symbol": self.symbol_name,
            "order_type": "limit",
            "side": "buy",
            "price": "0.01",
            "quantity": 1,
        }
        return json.dumps(order | changes).encode()


def ws_frame(opcode: int, payload: bytes = b"", fin: bool = True, first: int = 0) -> bytes:
    """Return a WebSocket frame (RFC 6455) whose mask changes nothing; ``first``: more bits."""
    head = bytes([(0x80 if fin else 0) | opcode | first])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def text(message: object) -> bytes:
    """Return a WebSocket message of JSON."""
    return ws_frame(1, json.dumps(message).encode())


class Attack(NamedTuple):
    """What a foe does over and over, each turn bounded in time."""

    name: str
    about: str
    run: Callable[[Foe], Awaitable[None]]
    turn_s: float


ATTACKS: dict[str, Attack] = {}


def attack(
    turn_s: float = TURN_S,
) -> Callable[[Callable[[Foe], Awaitable[None]]], Callable[[Foe], Awaitable[None]]]:
    """Make a coroutine an attack, by its name and the line that says what it does."""

    def known(run: Callable[[Foe], Awaitable[None]]) -> Callable[[Foe], Awaitable[None]]:
        name = run.__name__.replace("_", "-")
        ATTACKS[name] = Attack(name, (run.__doc__ or "").strip(), run, turn_s)
        return run

    return known
