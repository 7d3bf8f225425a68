"""The load of a demo: a process whose clients send the simulated flow, pipelined.

What it sends is computed ahead in chunks, what it is told goes into arrays (``demo_tally``). It
speaks with the demo through a pipe: "ready", then when told "go" the flow, "drained" once every
command is answered, and when told "flush" a last command a client and shard, whose answer comes
after every report that is still under way. Then it leaves its arrays in files, and its counts.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from engine.children import leave_ending_to_starter
from frontend.client import AsyncClient
from frontend.client.errors import ClientError
from frontend.demo.simulated_flow import SimulatedFlow
from frontend.demo.tally import Tally
from ipc.arrays import Integers
from ipc.instruments import Instrument
from ipc.records import account_of
from ipc.vocabulary import MAX_CLIENT_ID, CommandType, ExecType, Reason
from ipc.wire.client_codec import command_frames, warm
from ipc.wire.messages import Cancel

CHUNK = 4_096
"""Commands that are computed in one go."""
BATCH = 256
"""Commands that are sent in one go."""
WINDOW = 1_024
"""Commands of one driver that may wait for their answers."""
SILENCE_S = 30.0
"""How long the engine may leave a driver without any answer."""

NO_LATENCIES: Integers = np.empty(0, np.int64)


@dataclass(frozen=True)
class Assignment:
    """What one driver does. ``directory`` is where it leaves its arrays."""

    address: str
    user_ids: Sequence[str]
    instruments: Sequence[Instrument]
    seed: Sequence[int]
    seconds: float
    max_orders: int
    directory: Path


@dataclass(frozen=True)
class Outcome:
    """What one driver did; the arrays are in files beside."""

    answers: Counter[tuple[CommandType, ExecType]]
    rejects: Counter[Reason]
    elapsed_s: float
    reached_max_orders: bool


@dataclass(frozen=True)
class Failure:
    """Why a client process of the demo could not go on."""

    text: str


def drive(assignment: Assignment, demo: Connection) -> None:
    """Run one driver in a process of its own; a failure goes through the pipe."""
    leave_ending_to_starter()
    warm()  # the product has compiled it
    try:
        asyncio.run(_Driver(assignment, demo).run())
    except ClientError as error:
        demo.send(Failure(f"a client of the demo failed: {error}"))
    except EOFError:
        pass  # the demo is gone


class _Driver:
    """The clients of one driver, and what they have in common."""

    def __init__(self, assignment: Assignment, demo: Connection) -> None:
        self._assignment = assignment
        self._demo = demo
        accounts = [account_of(user_id) for user_id in assignment.user_ids]
        self._clients = {
            account: AsyncClient(assignment.address, user_id, max_reports=1 << 22)
            for account, user_id in zip(accounts, assignment.user_ids, strict=True)
        }
        self._flow = SimulatedFlow(assignment.instruments, accounts, assignment.seed)
        self._tally = Tally()
        self._unanswered = 0
        self._reached_max_orders = False
        self._answered = asyncio.Event()
        self._error: ClientError | None = None

    async def run(self) -> None:
        """Do all that the pipe asks for, up to the end."""
        for client in self._clients.values():
            await client.connect()
        readers = [
            asyncio.create_task(self._read(account, client))
            for account, client in self._clients.items()
        ]
        await self._told("ready", "go")
        start = time.monotonic()
        await self._send_flow(start + self._assignment.seconds)
        await self._until_unanswered(0)
        elapsed_s = time.monotonic() - start
        await self._told("drained", "flush")
        await self._flush()
        for reader in readers:
            reader.cancel()
        for client in self._clients.values():
            await client.close()
        leave_arrays(self._assignment.directory, self._tally)
        tally = self._tally
        reached = self._reached_max_orders
        self._demo.send(Outcome(tally.answers(), tally.rejects(), elapsed_s, reached))

    async def _told(self, say: str, hear: str) -> None:
        """Tell the demo how far this driver is, and wait for its word without blocking readers."""
        self._demo.send(say)
        word = await asyncio.get_running_loop().run_in_executor(None, self._demo.recv)
        assert word == hear, f"{word!r} where {hear!r} was to come"

    async def _send_flow(self, deadline: float) -> None:
        for batch in self._batches():
            if time.monotonic() >= deadline:
                return
            await self._until_unanswered(WINDOW - BATCH)
            self._unanswered += BATCH
            for client, frames in zip(self._clients.values(), batch, strict=True):
                await client.send_frames(frames)
        self._reached_max_orders = True

    def _batches(self) -> Iterator[tuple[bytes, ...]]:
        """Yield the flow, BATCH commands at a time, as frames for each client.

        Ends with the chunk that reaches the most orders there may be.
        """
        edges = np.arange(0, CHUNK + 1, BATCH)
        while self._flow.orders < self._assignment.max_orders:
            commands = self._flow.chunk(CHUNK)
            by_client = []
            for account in self._clients:
                rows = np.flatnonzero(commands["account"] == account)
                frames, ends = command_frames(commands[rows])
                places = np.append(0, ends)[np.searchsorted(rows, edges)].tolist()
                by_client.append([frames[start:end] for start, end in pairwise(places)])
            yield from zip(*by_client, strict=True)

    async def _until_unanswered(self, bound: int) -> None:
        """Return when at most ``bound`` commands wait for their answers."""
        while self._unanswered > bound:
            if self._error is not None:
                raise self._error
            self._answered.clear()
            try:
                await asyncio.wait_for(self._answered.wait(), SILENCE_S)
            except TimeoutError:
                raise ClientError(
                    f"no answer for {SILENCE_S:.0f} s, {self._unanswered} commands wait"
                ) from None

    async def _read(self, account: int, client: AsyncClient) -> None:
        """Take whatever one client is told into the tally."""
        try:
            while True:
                reports = await client.receive_array()
                reports["account"] = account
                self._unanswered -= self._tally.add(reports)
                self._answered.set()
        except ClientError as error:
            self._error = error
            self._answered.set()

    async def _flush(self) -> None:
        """Have one more answer from each shard to each client, behind all other reports.

        The command is a cancel of an order that does not exist.
        """
        symbols = {i.shard: i.number for i in self._assignment.instruments}
        for client in self._clients.values():
            cancels = [
                Cancel(symbol, client.new_request_id(), 0, MAX_CLIENT_ID)
                for symbol in symbols.values()
            ]
            self._unanswered += len(cancels)
            await client.send(cancels)
        await self._until_unanswered(0)


def leave_arrays(directory: Path, tally: Tally, latencies_ns: Integers = NO_LATENCIES) -> None:
    """Write what a client process keeps for the demo, one file an array."""
    np.save(directory / "orders.npy", tally.orders())
    np.save(directory / "fills.npy", tally.fills())
    np.save(directory / "latencies_ns.npy", latencies_ns)
