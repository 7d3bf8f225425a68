"""The honest clients: eight that trade at a rate, and one that reads over HTTP at a rate.

Both have an intended time for each order and each read, whatever the answers do: who is answered
late pays for it in every figure.
"""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import uvloop

from bench.clients import SILENCE_S, Client, Target
from bench.latency import OpenLoop
from bench.load import ClientRun, run_of
from bench.traffic import Share, Traffic
from ipc.arrays import Integers, Records
from ipc.links.sockets import Address
from ipc.records import COMMAND, account_of
from ipc.vocabulary import CommandType, ExecType, OrderType, TimeInForce
from ipc.wire.client_codec import DONE, ODD, AnswerReader, command_frames, report_records
from ipc.wire.frames import HEADER_BYTES, FrameSplitter
from ipc.wire.messages import MAX_BODY, server_decoder

CONNECTIONS = 8
"""Kept open for reads."""
NEW_EVERY = 10
"""One read of so many comes on a connection of its own."""
REPEATED, SINCE = 20, 600
"""So many orders are sent again at the end, after which so many of the client's own had come."""
PATIENCE_S = 10.0
"""A read that is not answered by then is lost."""
_LEAD_S = 0.01
AGAIN = 1 << 40
"""The request_id of repetitions."""


class _Keeping(Client):
    """A client that keeps all that it is told."""

    def __init__(self, target: Target, user_id: str, share: Share) -> None:
        self._kept: list[bytes] = []
        super().__init__(target, user_id, share)

    def _take(self, place: int) -> int:
        count = super()._take(place)
        self._kept.append(bytes(self._view[place : place + count]))
        return count

    def reports(self) -> Records:
        """Return what it was told (REPORT)."""
        return reports_of(b"".join(self._kept))

    def repeat(self) -> int:
        """Enter some orders of a while ago again, see the answers, and return how many."""
        reports = self.reports()
        entered = reports[(reports["exec_type"] == ExecType.NEW) & (reports["request_id"] != 0)]
        again = np.zeros(min(REPEATED, len(entered)), COMMAND)
        kept = entered[: max(REPEATED, len(entered) - SINCE)][-REPEATED:]
        for name in ("symbol", "client_order_id", "side", "price", "quantity"):
            again[name] = kept[name]
        again["command_type"], again["request_id"] = CommandType.NEW, AGAIN
        again["order_type"], again["time_in_force"] = OrderType.LIMIT, TimeInForce.IOC
        again["price"][again["price"] == 0] = 1  # of a market order
        self.sock.setblocking(True)
        self.sock.settimeout(SILENCE_S)
        self.sock.sendall(command_frames(again)[0])
        answered = self.answered + len(again)
        while self.answered < answered:
            self.receive()
        return len(again)


class HonestRun(NamedTuple):
    """What a client sent and got, how many orders of it were repeated, and were taken again."""

    run: ClientRun
    repeated: int
    taken_again: int


@dataclass
class Trading(OpenLoop):
    """Orders at a rate, as in ``bench.latency``; all that the clients are told goes to files."""

    told: Path = Path()

    def prepare(self) -> None:
        """Connect, each client as a user of its own."""
        super().prepare()
        self.told.mkdir(parents=True, exist_ok=True)

    def open(self) -> list[Client]:
        """Return clients that keep what they are told."""
        shares = Traffic(self.traffic)
        return [
            _Keeping(self.target, f"{self.user_prefix}-{c}", shares.share(c).first(self.commands))
            for c in self.clients
        ]

    def finish(self) -> list[HonestRun]:  # type: ignore[override]
        """Repeat some orders, cancel what rests, and close.

        What each client was told is in a file then, but for orders that were taken again.
        """
        found: list[HonestRun] = []
        for number, client in enumerate(self._clients):
            assert isinstance(client, _Keeping)
            repeated = client.repeat()
            client.withdraw()
            reports = client.reports()
            reports["account"] = account_of(f"{self.user_prefix}-{self.clients[number]}")
            answers = reports[reports["request_id"] == AGAIN]
            again = np.unique(answers["order_id"][answers["exec_type"] == ExecType.NEW])
            first = reports[~np.isin(reports["order_id"], again)]
            np.save(self.told / f"{number}.npy", first)
            found.append(HonestRun(run_of(client), repeated, len(again)))
        return found


def reports_of(data: bytes) -> Records:
    """Return the whole frames of what a client got as REPORT, without account."""
    reader, splitter = AnswerReader(MAX_BODY), FrameSplitter(MAX_BODY)
    parts, position, why = [], 0, -1
    while why != DONE:
        position, why, _ = reader.read(data, position, False)
        parts.append(reader.take_others())
        if why == ODD:
            body = splitter.body_at(data, position)
            if body is None:
                break
            position += HEADER_BYTES + len(body)
            reader.wanted[:] = 0  # it has a number too, and those behind it are no odder for that
            parts.append(report_records([server_decoder.decode(body)]))  # type: ignore[list-item]
    return np.concatenate(parts)


class ReadsRun(NamedTuple):
    """Nanoseconds of each read that was answered well, and what became of the others."""

    latencies_ns: Integers
    lost: Counter[str]


@dataclass
class Reading:
    """Reads over HTTP, so many a second, for some time."""

    address: Address
    requests: Sequence[bytes]
    rate: int
    seconds: float

    def prepare(self) -> None:
        """Do nothing: connections are made as they are needed."""
        gc.enable()

    def run(self) -> ReadsRun:
        """Read."""
        return uvloop.run(self._read())

    def finish(self) -> None:
        """Do nothing."""

    async def _read(self) -> ReadsRun:
        self._latencies: list[int] = []
        self._lost: Counter[str] = Counter()
        kept = [_Connection(self.address) for _ in range(CONNECTIONS)]
        start_s = time.monotonic() + _LEAD_S
        async with asyncio.TaskGroup() as group:
            for number in range(int(self.rate * self.seconds)):
                due_s = start_s + number / self.rate
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                if number % NEW_EVERY:
                    connection = kept[number % CONNECTIONS]
                else:
                    connection = _Connection(self.address, kept=False)
                request = self.requests[number % len(self.requests)]
                group.create_task(self._one(connection, request, due_s))
        for connection in kept:
            connection.close()
        return ReadsRun(np.array(self._latencies, np.int64), self._lost)

    async def _one(self, connection: "_Connection", request: bytes, due_s: float) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                status = await connection.ask(request)
        except TimeoutError:
            connection.close()
            self._lost["no answer"] += 1
        except (OSError, EOFError) as error:
            connection.close()
            self._lost[type(error).__name__] += 1
        else:
            if status == 200:
                self._latencies.append(int((time.monotonic() - due_s) * 1e9))
            else:
                self._lost[str(status)] += 1


class _Connection:
    """A connection that is made when it is needed; one request at a time is under way on it."""

    def __init__(self, address: Address, kept: bool = True) -> None:
        self._address = address
        self._kept = kept
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> int:
        """Return the status of the answer, once it is whole."""
        async with self._lock:
            if self._streams is None:
                self._streams = await asyncio.open_connection(
                    self._address.host, self._address.port
                )
            reader, writer = self._streams
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            if not self._kept or b"connection: close" in head:
                self.close()
            return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        """Close, if it is open."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
