"""The load of a demo: a process whose clients send the simulated flow, pipelined.

What it sends is computed ahead in chunks, what it is told goes into arrays (``demo_tally``). It
speaks with the demo through a pipe: "ready", then when told "go" the flow, "drained" once every
command is answered, and when told "flush" a last command a client and shard, whose answer comes
after every report that is still under way. Then it leaves its arrays in files, and its counts.
"""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from frontend.client import AsyncClient
from frontend.demo_tally import Tally, report_records
from frontend.errors import ClientError
from frontend.simulated_flow import SimulatedFlow
from ipc.frames import frame
from ipc.instruments import Instrument
from ipc.messages import CLIENT_COMMANDS, Cancel, MassCancel, NewOrder, Reduce, Replace
from ipc.records import account_of
from ipc.vocabulary import MAX_CLIENT_ID, CommandType, ExecType, Flag, Reason

Records = npt.NDArray[np.void]
Latencies = npt.NDArray[np.int64]

CHUNK = 4_096
"""Commands that are computed in one go."""
BATCH = 128
"""Commands that are sent in one go."""
WINDOW = 1_024
"""Commands of one driver that may wait for their answers."""
SILENCE_S = 30.0
"""How long the engine may leave a driver without any answer."""

NO_LATENCIES: Latencies = np.empty(0, np.int64)

_NEW, _CANCEL, _REPLACE, _REDUCE, _MASS_CANCEL = (int(kind) for kind in CommandType)
_POST_ONLY, _REINSERT = int(Flag.POST_ONLY), int(Flag.REINSERT)


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the demo decides when to end
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
        self._demo.send(Outcome(tally.answers, tally.rejects, elapsed_s, self._full()))

    async def _told(self, say: str, hear: str) -> None:
        """Tell the demo how far this driver is, and wait for its word without blocking readers."""
        self._demo.send(say)
        word = await asyncio.get_running_loop().run_in_executor(None, self._demo.recv)
        assert word == hear, f"{word!r} where {hear!r} was to come"

    async def _send_flow(self, deadline: float) -> None:
        commands = self._flow.chunk(CHUNK)
        while time.monotonic() < deadline and not self._full():
            if not len(commands):
                commands = self._flow.chunk(CHUNK)
            await self._until_unanswered(WINDOW - BATCH)
            await self._send(commands[:BATCH])
            commands = commands[BATCH:]

    def _full(self) -> bool:
        return self._flow.orders >= self._assignment.max_orders

    async def _send(self, commands: Records) -> None:
        self._unanswered += len(commands)
        for account, client in self._clients.items():
            frames = command_frames(commands[commands["account"] == account])
            if frames:
                await client.send_frames(frames)

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
                messages = await client.receive()
                self._unanswered -= self._tally.add(report_records(messages, account))
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


def leave_arrays(directory: Path, tally: Tally, latencies_ns: Latencies = NO_LATENCIES) -> None:
    """Write what a client process keeps for the demo, one file an array."""
    np.save(directory / "orders.npy", tally.orders())
    np.save(directory / "fills.npy", tally.fills())
    np.save(directory / "latencies_ns.npy", latencies_ns)


def command_frames(commands: Records) -> bytes:
    """Return the frames of COMMAND records that come from the simulated flow."""
    return b"".join([frame(_message(row)) for row in commands.tolist()])


def _message(row: tuple[int, ...]) -> CLIENT_COMMANDS:
    """Return the message of one COMMAND row, fields in the record's order."""
    (command_type, side, order_type, time_in_force, flags, _, symbol, request_id, _, order_id,
     client_order_id, price, quantity, *_) = row  # fmt: skip
    if command_type == _NEW:
        post_only = bool(flags & _POST_ONLY)
        return NewOrder(
            symbol, request_id, client_order_id, side, order_type, time_in_force, price, quantity,
            post_only,
        )  # fmt: skip
    if command_type == _CANCEL:
        return Cancel(symbol, request_id, order_id, client_order_id)
    if command_type == _REPLACE:
        reinsert = bool(flags & _REINSERT)
        return Replace(symbol, request_id, order_id, client_order_id, price, quantity, reinsert)
    if command_type == _REDUCE:
        return Reduce(symbol, request_id, order_id, client_order_id, quantity)
    assert command_type == _MASS_CANCEL
    return MassCancel(symbol, request_id)
