"""Order entry of an HTTP worker: commands of all its users, over one connection to a frontend.

Commands that one turn of the event loop brings leave in one piece. Every command ends: with its
answer, with ``OutcomeUnknownError`` where the connection was lost or no answer came in time, or at
once with an error where it cannot be sent. Speaks what ``frontend.gateway`` describes.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

from frontend.http.errors import ApiError
from frontend.http.exchange import Exchange
from frontend.session import COUNTER_BITS, MAX_COUNTER, SESSION_BITS
from ipc.frames import HEADER, HEADER_BYTES
from ipc.messages import (
    CLIENT_COMMANDS,
    AccountOpened,
    CloseAccount,
    MassCancelReport,
    OpenAccount,
    Reject,
    Report,
    ShardRestarted,
    Welcome,
    encoder,
    gateway_decoder,
)
from ipc.records import shard_of
from ipc.sockets import Address, widen
from ipc.status import StatusWriter
from ipc.table import OrderTableReader
from ipc.vocabulary import CommandType

RETRY_S = 0.05
SWEEP_S = 0.25
"""How often overdue commands are looked for."""
UNUSED_S = 1.0
"""An account that sends nothing is closed: all its reports, also those of orders that it sends by
other ways, would come here. Opening it again is one round trip to the frontend."""
SETTLE_S = 0.0005
"""How soon a command that has not had all its effects is looked at again."""

_REDUCE = int(CommandType.REDUCE)

Outcome = Exchange | ApiError
Listener = Callable[[Report], None]


class OrderEntry(asyncio.Protocol):
    """One worker's way to the matchers. Use ``stream_of``, then ``send`` or ``ask``."""

    def __init__(
        self,
        address: Address,
        tables: Sequence[OrderTableReader],
        shards: Mapping[int, int],
        status: StatusWriter,
        answer_timeout_s: float,
        max_pending: int,
    ) -> None:
        self._address = address
        self._tables = tables
        self._shards = shards
        self._status = status
        self._timeout_s = answer_timeout_s
        self._max_pending = max_pending
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._welcomed = asyncio.Event()
        self._base = 0
        self._counter = 0
        self._rest = b""
        self._out: list[bytes] = []
        self._streams: dict[str, int] = {}
        self._used_s: dict[str, float] = {}
        """When each user's stream was used last; who used it last comes last."""
        self._opening: dict[str, asyncio.Future[int]] = {}
        self._opening_by_id: dict[int, str] = {}
        self._pending: dict[int, Exchange] = {}
        self._pending_of: dict[int, int] = {}
        self._taken: dict[int, tuple[int, Exchange]] = {}
        self._listeners: dict[int, set[Listener]] = {}
        self.at_loss: set[Callable[[], None]] = set()
        """Called where the connection is lost, and reports with it; ``listen`` ends then."""
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect, and stay connected; return when the frontend has greeted."""
        self._spawn(self._connect())
        self._spawn(self._sweep())
        await self._welcomed.wait()

    async def close(self) -> None:
        """Wait for the answers that are under way, as long as they may take, and disconnect."""
        deadline = self._loop.time() + self._timeout_s
        while self._pending and self._loop.time() < deadline:
            await asyncio.sleep(SETTLE_S)
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._transport is not None:
            self._transport.close()

    # What handlers use --------------------------------------------------------------------------

    def open_stream_of(self, user_id: str) -> int | None:
        """Return the stream of a user, None where it is not open yet."""
        stream = self._streams.get(user_id)
        if stream is not None:
            del self._used_s[user_id]
            self._used_s[user_id] = self._loop.time()
        return stream

    async def stream_of(self, user_id: str) -> int:
        """Return the stream of a user, opening it where needed. Raises ``ApiError``."""
        stream = self.open_stream_of(user_id)
        if stream is not None:
            return stream
        opening = self._opening.get(user_id)
        if opening is None:
            if self._transport is None:
                raise ApiError("SHARD_DOWN", "the order entry is down; try again")
            number = self._next_id()
            opening = self._opening[user_id] = self._loop.create_future()
            self._opening_by_id[number] = user_id
            self._write(encoder.encode(OpenAccount(number, user_id)), 0)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.shield(opening)
        except TimeoutError:
            raise ApiError("SHARD_DOWN", "the order entry does not answer; try again") from None

    def next_id(self) -> int:
        """Return the request_id of the next command."""
        return self._next_id()

    def check_room(self, stream: int, commands: int = 1) -> None:
        """Raise ``ApiError`` where a user has too many commands under way for so many more."""
        if self._pending_of.get(stream, 0) + commands > self._max_pending:
            raise ApiError(
                "TOO_MANY_REQUESTS",
                f"user_id: at most {self._max_pending} orders may be unanswered at once",
                field="user_id",
                rule="must wait for answers",
            )

    def send(self, stream: int, command: CLIENT_COMMANDS, done: Callable[[Outcome], None]) -> None:
        """Send a command of a user; ``done`` gets all that came of it, or the error, once."""
        if self._transport is None:
            done(ApiError("SHARD_DOWN", "the order entry is down; try again"))
            return
        self._pending[command.request_id] = Exchange(
            stream, self._loop.time() + self._timeout_s, done, self._shards.get(command.symbol)
        )
        self._pending_of[stream] = self._pending_of.get(stream, 0) + 1
        self._write(encoder.encode(command), stream)

    def ask(self, stream: int, command: CLIENT_COMMANDS) -> "asyncio.Future[Outcome]":
        """Send a command of a user; what it resolves to is all that came of it, or the error."""
        answer: asyncio.Future[Outcome] = self._loop.create_future()

        def done(found: Outcome) -> None:
            if not answer.done():
                answer.set_result(found)

        self.send(stream, command, done)
        return answer

    def listen(self, stream: int, listener: Listener) -> None:
        """Hand every report of a user's orders to ``listener``, too."""
        self._listeners.setdefault(stream, set()).add(listener)

    def forget(self, stream: int, listener: Listener) -> None:
        """Take back ``listen``."""
        listeners = self._listeners.get(stream)
        if listeners is not None:
            listeners.discard(listener)
            if not listeners:
                del self._listeners[stream]

    @property
    def connected(self) -> bool:
        """Whether the frontend is there."""
        return self._transport is not None

    # The connection -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the greeting."""
        self._rest = b""
        widen(transport.get_extra_info("socket"))
        self._greeted_by = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        """End what was under way: what became of it is not known. Connect anew."""
        self._transport = None
        self._welcomed.clear()
        self._streams.clear()
        self._used_s.clear()
        self._out.clear()
        for opening in self._opening.values():
            if not opening.done():
                opening.set_exception(ApiError("SHARD_DOWN", "the order entry is down; try again"))
                opening.exception()
        self._opening.clear()
        self._opening_by_id.clear()
        for request_id in list(self._pending):
            self._fail(request_id)
        self._listeners.clear()
        for tell in list(self.at_loss):
            tell()
        if not self._closing:
            self._status.add("gateway_lost", 1)
            self._spawn(self._connect())

    def data_received(self, data: bytes) -> None:
        """Take every whole frame, then see which commands are done."""
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        decode = gateway_decoder.decode
        view = memoryview(data)
        while end - position >= HEADER_BYTES:
            length, stream = HEADER.unpack_from(data, position)
            start = position + HEADER_BYTES
            if start + length > end:
                break
            position = start + length
            message = decode(view[start:position])
            if isinstance(message, Report):
                self._take_report(message, stream)
            elif isinstance(message, Reject | MassCancelReport):
                self._take_answer(message)
            elif isinstance(message, ShardRestarted):
                self._take_restart(stream, shard_of(message.account_sequence))
            elif isinstance(message, AccountOpened):
                self._take_account(message)
            elif isinstance(message, Welcome):
                self._base = (message.session & ((1 << SESSION_BITS) - 1)) << COUNTER_BITS
                self._transport = self._greeted_by
                self._welcomed.set()
        self._rest = data[position:]
        if self._taken:
            self._settle()

    def _take_report(self, report: Report, stream: int) -> None:
        exchange = self._pending.get(report.request_id) if report.request_id else None
        taken = self._taken.get(report.order_id)
        if taken is not None and report.sequence != taken[1].sequence:
            self._finish(*taken)  # another command's doing: this one's was over
        if exchange is not None:
            if exchange.take(report) or report.command_type == _REDUCE:
                self._finish(report.request_id, exchange)
            else:
                self._taken[report.order_id] = (report.request_id, exchange)
        if self._listeners:
            for listener in list(self._listeners.get(stream, ())):
                listener(report)

    def _take_answer(self, answer: Reject | MassCancelReport) -> None:
        exchange = self._pending.get(answer.request_id)
        if exchange is not None:
            exchange.answer = answer
            self._finish(answer.request_id, exchange)

    def _take_restart(self, stream: int, shard: int) -> None:
        """A shard has told an account all that it kept: what is unanswered there stays so."""
        for request_id, exchange in list(self._pending.items()):
            if exchange.stream == stream and exchange.sent_to in (shard, None):
                self._fail(request_id)

    def _take_account(self, message: AccountOpened) -> None:
        user_id = self._opening_by_id.pop(message.request_id, None)
        opening = self._opening.pop(user_id, None) if user_id is not None else None
        if user_id is None or opening is None or opening.done():
            return
        if message.stream:
            self._streams[user_id] = message.stream
            self._used_s[user_id] = self._loop.time()
            opening.set_result(message.stream)
        else:
            opening.set_exception(
                ApiError("BUSY", "user_id: no further account can be opened", field="user_id")
            )
            opening.exception()

    # Commands under way -------------------------------------------------------------------------

    def _settle(self) -> None:
        """Finish every command that was taken and that nothing more can come of."""
        waiting = False
        for request_id, exchange in list(self._taken.values()):
            table = self._tables[exchange.shard]
            if exchange.is_settled(table):
                self._finish(request_id, exchange)
            elif table.completed < exchange.sequence:
                waiting = True
        if waiting:
            self._loop.call_later(SETTLE_S, self._settle)

    def _finish(self, request_id: int, exchange: Exchange) -> None:
        self._end(request_id, exchange)
        exchange.done(exchange)

    def _fail(self, request_id: int) -> None:
        """End a command that has no answer."""
        exchange = self._pending[request_id]
        self._end(request_id, exchange)
        self._status.add("unknown_outcomes", 1)
        exchange.done(
            ApiError(
                "OUTCOME_UNKNOWN",
                "no answer came in time: the command may have been carried out or not; look at the "
                "order, or send it again with the same client_order_id",
            )
        )

    def _end(self, request_id: int, exchange: Exchange) -> None:
        self._pending.pop(request_id, None)
        if exchange.first is not None:
            self._taken.pop(exchange.first.order_id, None)
        left = self._pending_of[exchange.stream] - 1
        if left:
            self._pending_of[exchange.stream] = left
        else:
            del self._pending_of[exchange.stream]

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self._loop.time()
            for request_id, exchange in list(self._pending.items()):
                if exchange.deadline > now:
                    break  # those behind it were sent later
                self._fail(request_id)
            self._close_unused(now)

    def _close_unused(self, now_s: float) -> None:
        while self._used_s:
            user_id, used_s = next(iter(self._used_s.items()))
            if used_s > now_s - UNUSED_S:
                break  # those behind it were used later
            stream = self._streams[user_id]
            if stream in self._pending_of or stream in self._listeners:
                self.open_stream_of(user_id)  # in use
            else:
                del self._streams[user_id], self._used_s[user_id]
                self._write(encoder.encode(CloseAccount()), stream)

    # Moving bytes -------------------------------------------------------------------------------

    def _next_id(self) -> int:
        while True:
            self._counter = self._counter % MAX_COUNTER + 1
            number = self._base | self._counter
            if number not in self._pending:
                return number

    def _write(self, body: bytes, stream: int) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(HEADER.pack(len(body), stream))
        self._out.append(body)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None:
            self._transport.write(b"".join(out))

    async def _connect(self) -> None:
        while not self._closing:
            with contextlib.suppress(OSError):
                await self._loop.create_unix_connection(lambda: self, self._address.path)
                return
            await asyncio.sleep(RETRY_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
