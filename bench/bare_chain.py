"""The bare chain: the product's processes and sockets with nothing in them but moving bytes.

Clients, a frontend on uvloop, matchers behind Unix sockets, read and written in the same sizes as
in the product; nothing is decoded, matched, published or logged. A bare matcher answers bytes with
bytes, in a given proportion. What a client is owed follows from how much it has sent, so the
frontend cuts the answers up by counting.

``python -m bench.bare_chain matcher|frontend`` is one of the processes; ``bare_chain`` starts all.
"""

import argparse
import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import uvloop

from ipc.links.sockets import Address, listen, parse_address

READ_BYTES = 1 << 18
"""As ``ipc.links.backend``."""
BUFFER_BYTES = 1 << 20
"""As ``ipc.links.backend`` sets SO_SNDBUF and SO_RCVBUF."""
STOCK_BYTES = 1 << 10
"""Answered ahead once, so that what rounding leaves over never keeps a client waiting."""
_ROOT = Path(__file__).parent.parent


class Proportion(NamedTuple):
    """How many bytes answer how many."""

    answer_bytes: int
    command_bytes: int

    def owed(self, sent: int) -> int:
        """Return the bytes that answer ``sent`` bytes."""
        return sent * self.answer_bytes // self.command_bytes


def part_of(total: int, matcher: int, matchers: int) -> int:
    """Return how many of a client's first ``total`` bytes go to one of the matchers."""
    return (total + matchers - 1 - matcher) // matchers


def owed_of(sent: int, matchers: int, proportion: Proportion) -> int:
    """Return the bytes that a client is owed once ``sent`` bytes have gone through."""
    return sum(proportion.owed(part_of(sent, k, matchers)) for k in range(matchers))


class Processes(NamedTuple):
    """A running bare chain."""

    address: Address
    pids: dict[str, list[int]]


def free_port() -> Address:
    """Return an address of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return Address(host="127.0.0.1", port=server.getsockname()[1])


@contextmanager
def bare_chain(
    directory: Path,
    matchers: int,
    proportion: Proportion,
    cores: dict[str, Sequence[int | None]],
    tcp: bool = False,
) -> Iterator[Processes]:
    """Run a bare chain whose sockets are in ``directory``; ``cores`` by role, as the product's.

    With ``tcp`` clients come over the loopback address.
    """
    front = free_port() if tcp else Address(path=str(directory / "bare.sock"))
    backs = [directory / f"bare-{number}.sock" for number in range(matchers)]
    numbers = [str(number) for number in proportion]
    with contextlib.ExitStack() as stack:
        pids: dict[str, list[int]] = {"matcher": [], "frontend": []}
        for number, path in enumerate(backs):
            core = cores["matcher"][number]
            pids["matcher"].append(stack.enter_context(_running("matcher", core, path, *numbers)))
        frontend = _running("frontend", cores["frontend"][0], front, *numbers, *backs)
        pids["frontend"].append(stack.enter_context(frontend))
        yield Processes(front, pids)


@contextmanager
def _running(role: str, core: int | None, *arguments: object) -> Iterator[int]:
    """Run one process and give its pid once it is ready; it ends with the block."""
    command = [sys.executable, "-m", "bench.bare_chain", role, str(-1 if core is None else core)]
    command += map(str, arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"the bare {role} did not start")
            yield process.pid
        finally:
            process.terminate()


class _Link(asyncio.Protocol):
    """The frontend's connection to one matcher, and whom its answers are for, in order."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.transport: asyncio.WriteTransport
        self._owed: deque[tuple[_Client, int]] = deque()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def forward(self, data: bytes, client: "_Client", owed: int) -> None:
        """Send a client's bytes on, and remember what it is owed for them."""
        self.transport.write(data)
        self._owed.append((client, owed))

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        position = 0
        while self._owed and position < len(data):
            client, owed = self._owed.popleft()
            size = min(owed, len(data) - position)
            client.transport.write(data[position : position + size])
            position += size
            if size < owed:
                self._owed.appendleft((client, owed - size))
        self._rest = data[position:]


class _Client(asyncio.Protocol):
    """One client's connection to the frontend."""

    def __init__(self, links: Sequence[_Link], proportion: Proportion) -> None:
        self.transport: asyncio.WriteTransport
        self._links = links
        self._proportion = proportion
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        before = self._received
        after = self._received = before + len(data)
        start = 0
        for link in self._links:
            first = part_of(before, link.number, len(self._links))
            stop = part_of(after, link.number, len(self._links))
            if stop > first:
                owed = self._proportion.owed(stop) - self._proportion.owed(first)
                link.forward(data[start : start + stop - first], self, owed)
                start += stop - first


async def _serve_frontend(address_text: str, proportion: Proportion, backs: Sequence[str]) -> None:
    loop = asyncio.get_running_loop()
    links = [_Link(number) for number in range(len(backs))]
    for link, back in zip(links, backs, strict=True):
        await loop.create_unix_connection(partial(_itself, link), back)
    address = parse_address(address_text)
    create = loop.create_server if address.host else loop.create_unix_server
    server = await create(lambda: _Client(links, proportion), sock=listen(address))
    print("ready", flush=True)
    await server.serve_forever()


def _itself(link: _Link) -> _Link:
    return link


def _serve_matcher(path: str, proportion: Proportion) -> None:
    server = listen(Address(path=path))
    server.setblocking(True)
    print("ready", flush=True)
    link, _ = server.accept()
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        link.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    answers = memoryview(bytes(READ_BYTES))
    link.sendall(answers[:STOCK_BYTES])
    received = answered = 0
    while data := link.recv(READ_BYTES):
        received += len(data)
        owed = proportion.owed(received) - answered
        answered += owed
        while owed:
            size = min(owed, len(answers))
            link.sendall(answers[:size])
            owed -= size


def main() -> None:
    """Be one process of a bare chain, until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["frontend", "matcher"])
    parser.add_argument("core", type=int)
    parser.add_argument("path")
    parser.add_argument("proportion", type=int, nargs=2)
    parser.add_argument("backs", nargs="*")
    options = parser.parse_args()
    if options.core >= 0:
        os.sched_setaffinity(0, {options.core})
    proportion = Proportion(*options.proportion)
    if options.role == "matcher":
        _serve_matcher(options.path, proportion)
    else:
        uvloop.run(_serve_frontend(options.path, proportion, options.backs))


if __name__ == "__main__":
    main()
