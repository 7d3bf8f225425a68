"""HTTP load from one process: keep-alive connections that each have one request under way.

Not a general client: it sends prepared bytes in turn and reads answers that name their length,
because what a load generator costs is taken from what it measures.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from typing import NamedTuple, cast

import uvloop

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class HttpRun(NamedTuple):
    """What a run found: answers a second, good ones of all, latencies in seconds, its CPU share."""

    rate: float
    bad: int
    p50_s: float
    p99_s: float
    cpu_share: float


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Sequence[bytes], latencies: list[float], bad: list[bytes]) -> None:
        self._requests = requests
        self._turn = 0
        self._latencies = latencies
        self._bad = bad
        self._rest = b""
        self._need = 0
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if not self._need:
            end = data.find(_END)
            if end < 0:
                self._rest = data
                return
            at = data.find(_LENGTH, 0, end) + len(_LENGTH)
            stop = data.find(b"\r\n", at)
            self._need = end + len(_END) + int(data[at:stop])
        if len(data) < self._need:
            self._rest = data
            return
        self._need = 0
        self._latencies.append(time.perf_counter() - self._sent_at)
        if not data.startswith(b"HTTP/1.1 200"):
            self._bad.append(data)
        self._send()

    def _send(self) -> None:
        request = self._requests[self._turn]
        self._turn = (self._turn + 1) % len(self._requests)
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """Return the bytes of one request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


async def _run(
    port: int,
    by_connection: Sequence[Sequence[bytes]],
    seconds: float | None,
    jobs: "multiprocessing.connection.Connection",
) -> HttpRun:
    latencies: list[float] = []
    bad: list[bytes] = []
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(
            lambda requests=requests: _Connection(requests, latencies, bad), "127.0.0.1", port
        )
        for requests in by_connection
    ]
    await asyncio.sleep(0.3 if seconds is None else min(0.3, seconds / 2))
    latencies.clear()
    begun, cpu = time.perf_counter(), time.process_time()
    if seconds is None:
        jobs.send(None)
        await asyncio.to_thread(jobs.recv)
    else:
        await asyncio.sleep(seconds)
    took, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    found = sorted(latencies)
    for transport, _ in made:
        transport.abort()
    if bad:
        raise AssertionError(f"{len(bad)} answers were no 200: {bad[0][:400]!r}")
    return HttpRun(
        len(found) / took,
        len(bad),
        found[len(found) // 2],
        found[len(found) * 99 // 100],
        cpu_s / took,
    )


def _serve(jobs: "multiprocessing.connection.Connection") -> None:
    while (job := jobs.recv()) is not None:
        try:
            jobs.send(uvloop.run(_run(*job, jobs)))
        except AssertionError as error:
            jobs.send(error)


class HttpLoad:
    """A process that makes load."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()

    def run(self, port: int, by_connection: Sequence[Sequence[bytes]], seconds: float) -> HttpRun:
        """Run requests of each connection in turn, over and over."""
        self.begin(port, by_connection, seconds)
        return self.end()

    def begin(self, port: int, by_connection: Sequence[Sequence[bytes]], seconds: float) -> None:
        """Begin a run."""
        self._ours.send((port, by_connection, seconds))

    def start(self, port: int, by_connection: Sequence[Sequence[bytes]]) -> None:
        """Begin a run that ends with ``stop``; return when it is under way."""
        self._ours.send((port, by_connection, None))
        assert self._ours.recv() is None

    def stop(self) -> HttpRun:
        """End the run."""
        self._ours.send("stop")
        return self.end()

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process.pid is not None
        return self._process.pid

    def end(self) -> HttpRun:
        """Wait for the run that was begun."""
        found = self._ours.recv()
        if isinstance(found, AssertionError):
            raise found
        assert isinstance(found, HttpRun)
        return found

    def close(self) -> None:
        """End the process."""
        self._ours.send(None)
        self._process.join()
