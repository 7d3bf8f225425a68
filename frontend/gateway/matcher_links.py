"""The frontend's links to matchers and query workers: bytes out in batches, frames back by stream.

A link reconnects by itself. While it is down commands for it are refused (SHARD_DOWN), or kept
until it is back, as configured. While more waits for it than the bound they are refused too (BUSY),
or their senders are not read from until there is room, as configured. Nobody else is affected.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from frontend.gateway.frame_sorter import FEW_BYTES, StreamSorter, count_answers
from ipc.links.sockets import Address, widen
from ipc.native.compiled import HAVE_NUMBA
from ipc.vocabulary import Reason
from ipc.wire.frames import HEADER, HEADER_BYTES, frame
from ipc.wire.matcher_codec import FRONTEND_STREAM
from ipc.wire.messages import (
    FRONTEND_MESSAGES,
    CloseStream,
    Heartbeat,
    OpenStream,
    TestRequest,
    frontend_decoder,
    server_decoder,
)

RETRY_S = 0.05
RECEIVE_BYTES = 1 << 18
"""Of what a link's buffer takes; it grows where one frame is longer."""


class Accounts(Protocol):
    """What a link serves: the accounts of a frontend; see ``frontend.gateway.gateway.Gateway``."""

    def channels_to_open(
        self, shard: int | None, also: frozenset[int] | set[int]
    ) -> list[tuple[int, int, bool]]:
        """Return ``(stream, account, whether it is open)`` of every stream that is to be opened.

        Those are the open ones, and those in ``also``, which are closed again at once.
        """
        ...

    def deliver(
        self, shard: int | None, stream: int, frames: bytes | memoryview, answers: int, last: int
    ) -> None:
        """Take whole frames, all of one stream; so many of them are answers.

        Those of a shard are reports, the last of which has this account_sequence.
        """
        ...

    def take_from_matcher(self, shard: int | None, stream: int, message: FRONTEND_MESSAGES) -> None:
        """Take what a matcher says to the frontend itself, of one stream."""
        ...

    def link_found(self) -> None:
        """Take note that a link is up."""
        ...

    def link_lost(self, shard: int | None) -> None:
        """Take note that what was under way on a link gets no answer now."""
        ...


class BackendLink(asyncio.BufferedProtocol):
    """One link, to the process that listens at ``address``: a shard's matcher, or with ``shard``
    None a query worker. ``waits`` and ``keeps``: what is done while it is full, and while it is
    down, other than to refuse."""

    def __init__(
        self,
        address: Address,
        max_queued_bytes: int,
        shard: int | None = None,
        waits: bool = False,
        keeps: bool = False,
    ) -> None:
        self.connected = False
        self.full = False
        """Whether more than ``max_queued_bytes`` wait for the other side."""
        self.waits = waits
        self.shard = shard
        self._keeps = keeps
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._flagged: set[int] = set()
        self._known: set[int] = set()
        self.closed = asyncio.Event()
        self._address = address
        self._max_queued_bytes = max_queued_bytes
        self._transport: asyncio.WriteTransport | None = None
        self._held: list[Callable[[], None]] = []
        self._soon: list[bytes | memoryview] = []
        self._sent_in_turn = 0
        self._sorter = StreamSorter()
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._filled = 0
        self._closing = False
        self._test: asyncio.Future[bool] | None = None
        self._retry: asyncio.Task[None] | None = None

    async def begin(self, accounts: Accounts) -> None:
        """Connect, for these accounts; who waits for that no longer leaves the link trying."""
        self._accounts = accounts
        self._retry = asyncio.get_running_loop().create_task(self._connect())
        await asyncio.shield(self._retry)

    async def _connect(self) -> None:
        """Connect, trying again until it works or the link is closed."""
        loop = asyncio.get_running_loop()
        while not self._closing:
            try:
                await loop.create_unix_connection(lambda: self, self._address.path)
            except OSError:
                await asyncio.sleep(RETRY_S)
            else:
                return

    def refusal(self) -> Reason | None:
        """Return why a command cannot be taken now, or None where it can."""
        if not self.connected and not self._keeps:
            return Reason.SHARD_DOWN
        if self.full and not self.waits:
            return Reason.BUSY
        return None

    def write_soon(self, data: bytes | memoryview) -> None:
        """Do what ``write`` does, for some together: as many as went in this turn of the loop.

        So the other side begins with the first while others are made, and is not woken for each.
        """
        self._soon.append(data)
        if len(self._soon) > self._sent_in_turn:
            if not self._sent_in_turn:
                asyncio.get_running_loop().call_soon(self._end_turn)
            self._sent_in_turn += len(self._soon)
            self._write_now()

    def _end_turn(self) -> None:
        self._sent_in_turn = 0
        self._write_now()

    def _write_now(self) -> None:
        if self._soon:
            data, self._soon = b"".join(self._soon), []
            self.write(data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send whole frames; ``refusal`` has said that they can be taken."""
        self._write_now()
        if self._closing:
            return  # the other side has been told that nothing more comes
        if self._transport is not None:
            self._transport.write(data)
        else:
            self._kept.append(bytes(data))
            self._kept_bytes += len(data)
            self.full = self._kept_bytes > self._max_queued_bytes

    def test(self) -> "asyncio.Future[bool]":
        """Ask a matcher whether it takes what comes, where that is not under way.

        The future is true once all that was sent before is matched, false if the link is lost.
        """
        if self._test is None:
            self._test = asyncio.get_running_loop().create_future()
            self.write(frame(TestRequest()))
        return self._test

    def _end_test(self, alive: bool) -> None:
        test, self._test = self._test, None
        if test is not None:
            test.set_result(alive)

    def open_stream(self, stream: int, account: int, cancel_on_disconnect: bool) -> None:
        """Tell the other side whose frames these are, and whether to cancel if they end.

        While the link is down that is kept, in its place among commands that are: then the other
        side first learns what its predecessor knew, and so misses no change.
        """
        self._sorter.open_stream(stream)
        if self.connected or cancel_on_disconnect != (stream in self._flagged):
            self.write(frame(OpenStream(stream, account, cancel_on_disconnect)))
        if cancel_on_disconnect:
            self._flagged.add(stream)
        else:
            self._flagged.discard(stream)

    def close_stream(self, stream: int) -> None:
        """Tell the other side that nobody is there for a stream any more."""
        if self.connected:
            self.write(frame(CloseStream(stream)))

    def finish(self) -> None:
        """Send what is queued and no more; the other side answers what it has, and closes."""
        self._write_now()
        self._closing = True
        if self._transport is not None and self.connected:
            self._transport.write_eof()
        else:
            self.closed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce every account before its first frame."""
        self._write_now()  # while there is no transport: it is kept, in its place
        self._transport = cast(asyncio.WriteTransport, transport)
        self.connected = True
        self.full = False
        widen(transport.get_extra_info("socket"))
        self._transport.set_write_buffer_limits(high=self._max_queued_bytes)
        streams = self._accounts.channels_to_open(self.shard, self._known)
        for stream, account, _ in streams:
            self.write(frame(OpenStream(stream, account, stream in self._known)))
        self._write_kept()
        for stream, _, is_open in streams:
            if not is_open:
                self.close_stream(stream)
        self._accounts.link_found()

    def _write_kept(self) -> None:
        """Send what was kept while the link was down."""
        kept, self._kept = b"".join(self._kept), []
        self._kept_bytes = 0
        self.resume_writing()
        self.write(kept)

    def get_buffer(self, _: int) -> memoryview:
        """Return where the next bytes go: behind those of the frame that is not whole."""
        if not self._filled:
            return self._buffer
        if self._filled == len(self._buffer):
            self._buffer = memoryview(bytearray(self._buffer) + bytearray(len(self._buffer)))
        return self._buffer[self._filled :]

    def buffer_updated(self, count: int) -> None:
        """Deliver whole frames, those of one stream in one piece.

        Where matchers have compiled code the last 8 bytes of a report are its account_sequence.
        """
        if HAVE_NUMBA and count <= FEW_BYTES and not self._filled:
            few = bytes(self._buffer[:count])
            stream, answers = self._sorter.sort_few(few)
            if stream >= 0:
                last = int.from_bytes(few[-8:], "big")
                self._accounts.deliver(self.shard, stream, few, answers, last)
                return
        data = self._buffer[: self._filled + count].toreadonly()
        position = self._deliver(data)
        rest = len(data) - position
        if rest:
            self._buffer[:rest] = bytes(data[position:])
        self._filled = rest

    def _deliver(self, data: memoryview) -> int:
        """Deliver the whole frames of ``data``; return where the rest begins."""
        position = 0
        while position < len(data):
            if HAVE_NUMBA:
                size, pieces = self._sorter.sort(data[position:])
                position += size
                for stream, frames, answers in pieces:
                    last = int.from_bytes(frames[-8:], "big")
                    self._accounts.deliver(self.shard, stream, frames, answers, last)
            taken = self._deliver_one(data, position)
            position += taken
            if not taken:
                break
        return position

    def _deliver_one(self, data: memoryview, position: int) -> int:
        """Deliver the frame at ``position`` by itself; return its size, 0 where it is not whole."""
        if len(data) - position < HEADER_BYTES:
            return 0
        length, stream = HEADER.unpack_from(data, position)
        size: int = HEADER_BYTES + length
        if position + size > len(data):
            return 0
        frame = bytes(data[position : position + size])
        if stream & FRONTEND_STREAM:
            message = frontend_decoder.decode(frame[HEADER_BYTES:])
            if isinstance(message, Heartbeat):
                self._end_test(True)
                return size
            self._accounts.take_from_matcher(self.shard, stream & ~FRONTEND_STREAM, message)
            return size
        answer = server_decoder.decode(frame[HEADER_BYTES:])
        last = getattr(answer, "account_sequence", 0)
        self._accounts.deliver(self.shard, stream, frame, count_answers(answer), last)
        return size

    def pause_writing(self) -> None:
        """The bound is reached: commands are refused, or their senders wait."""
        self.full = True

    def resume_writing(self) -> None:
        """There is room again."""
        self.full = False
        held, self._held = self._held, []
        for go_on in held:
            go_on()

    def when_room(self, go_on: Callable[[], None]) -> None:
        """Call ``go_on`` once there is room, or the link is lost."""
        self._held.append(go_on)

    def eof_received(self) -> bool:
        """The other side is done; close."""
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """Try again, unless the frontend is on its way out."""
        self.connected = False
        self._transport = None
        self._soon.clear()
        self._filled = 0
        self._known = set(self._flagged)
        self._end_test(False)
        self.resume_writing()
        self._accounts.link_lost(self.shard)
        if self._closing:
            self.closed.set()
        else:
            self._retry = asyncio.get_running_loop().create_task(self._connect())
