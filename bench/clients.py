"""The clients of a load generator: connections that send what is encoded and count what comes.

A client keeps a bounded window of unanswered commands and writes in big pieces. The same client
drives the product, whose answers it counts frame by frame, and the bare chain, whose answers it
counts by bytes; the sockets and the sizes are the same.
"""

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import numpy as np

from bench.answers import COUNTS, Counts, UnexpectedFrameError, count_frames
from bench.bare_chain import BUFFER_BYTES, Proportion, owed_of, part_of
from bench.traffic import Share
from ipc.arrays import Integers
from ipc.links.sockets import Address, connect
from ipc.wire.frames import HEADER, HEADER_BYTES, FrameSplitter, frame
from ipc.wire.messages import MAX_BODY, Login, MassCancel, Message, Welcome, server_decoder

RECEIVE_BYTES = 1 << 18
SILENCE_S = 60.0
NO_TIMES: Integers = np.empty(0, np.int64)


class ConnectionLostError(RuntimeError):
    """The other side closed the connection in the midst of a run."""


@dataclass(frozen=True)
class Target:
    """Where clients connect; ``proportion`` is a bare chain's, None for the product.

    ``api_keys`` are those of users, where the product has any.
    """

    address: Address
    matchers: int
    proportion: Proportion | None = None
    api_keys: Mapping[str, str] = field(default_factory=dict)


class Client:
    """One connection to the product. ``answered`` commands of its share have a first answer."""

    def __init__(self, target: Target, user_id: str, share: Share) -> None:
        self.share = share
        self.answered = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.blocked = False
        self._counts = np.zeros(COUNTS, np.int64)
        self._buffer = np.zeros(2 * RECEIVE_BYTES, np.uint8)
        self._view = memoryview(self._buffer)  # type: ignore[arg-type]
        self._frames = memoryview(share.frames)  # type: ignore[arg-type]
        self._filled = 0
        self.sock = connect(target.address, SILENCE_S)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self.sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        self._log_in(target, user_id)

    @property
    def counts(self) -> Counts:
        """What has come so far."""
        return Counts(*self._counts.tolist())

    @property
    def done(self) -> bool:
        """Whether every command of the share is answered."""
        return self.answered >= len(self.share.ends)

    def send(self, window: int, piece_bytes: int) -> None:
        """Send as far as ``window`` unanswered commands go, in pieces of up to ``piece_bytes``.

        Waits with a small piece while answers are still to come. ``blocked``: the socket is full.
        """
        ends = self.share.ends
        last = min(len(ends), self.answered + window)
        limit = int(ends[last - 1])
        least = min(piece_bytes, (limit - self._end_of(self.answered)) // 2)
        if limit - self.sent_bytes >= least or last == len(ends):
            self.send_to(limit, piece_bytes)
        else:
            self.blocked = False

    def send_to(self, limit: int, piece_bytes: int = RECEIVE_BYTES) -> None:
        """Send up to a place in the share's bytes; ``blocked`` where the socket takes no more."""
        try:
            while self.sent_bytes < limit:
                stop = min(limit, self.sent_bytes + piece_bytes)
                self.sent_bytes += self.sock.send(self._frames[self.sent_bytes : stop])
        except BlockingIOError:
            self.blocked = True
        else:
            self.blocked = False

    def receive(self, answered_ns: Integers = NO_TIMES) -> int:
        """Take what has come, and return when that was, before it is looked at.

        ``answered_ns[request_id]`` becomes that time at every first answer.
        """
        self._filled += self._take(self._filled)
        now_ns = time.monotonic_ns()
        rest, well = count_frames(self._buffer, self._filled, self._counts, answered_ns, now_ns)
        if not well:
            raise UnexpectedFrameError(self._described(rest))
        self._filled -= rest
        self._buffer[: self._filled] = self._buffer[rest : rest + self._filled]
        self.answered = int(self._counts[0])
        return now_ns

    def withdraw(self) -> None:
        """Cancel all that rests, and see the answer; then close."""
        self.sock.setblocking(True)
        self.sock.settimeout(SILENCE_S)
        self.sock.sendall(frame(MassCancel(0, 1)))
        answered = self.answered
        while self.answered == answered:
            self.receive()
        self.sock.close()

    def _take(self, place: int) -> int:
        count = self.sock.recv_into(self._view[place : place + RECEIVE_BYTES])
        if not count:
            raise ConnectionLostError(f"after {self.answered} answers")
        self.received_bytes += count
        return count

    def _end_of(self, commands: int) -> int:
        return int(self.share.ends[commands - 1]) if commands else 0

    def _log_in(self, target: Target, user_id: str) -> None:
        api_key = target.api_keys.get(user_id, "")
        self.sock.sendall(frame(Login(user_id, api_key=api_key)))
        splitter = FrameSplitter(MAX_BODY)
        answers: list[Message] = []
        while not answers:
            data = self.sock.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionLostError("at the login")
            answers = [server_decoder.decode(body) for _, body in splitter.feed(data)]
        if not isinstance(answers[0], Welcome):
            raise UnexpectedFrameError(f"to the login: {answers[0]}")

    def _described(self, position: int) -> str:
        length, _ = HEADER.unpack_from(self._view, position)
        start = position + HEADER_BYTES
        body = bytes(self._buffer[start : start + min(length, 200)])
        try:
            return str(server_decoder.decode(body))
        except msgspec.MsgspecError:
            return repr(body)


class BareClient(Client):
    """One connection to a bare chain: a command is answered once the bytes owed for it are here."""

    def receive(self, answered_ns: Integers = NO_TIMES) -> int:
        """Take what has come, as ``Client.receive``."""
        self._take(0)
        now_ns = time.monotonic_ns()
        before = self.answered
        self.answered = int(np.searchsorted(self._owed, self.received_bytes, "right"))
        if len(answered_ns):
            answered_ns[self.share.request_ids[before : self.answered]] = now_ns
        return now_ns

    def withdraw(self) -> None:
        """Close; nothing rests in a bare chain."""
        self.sock.close()

    def _log_in(self, target: Target, _: str) -> None:
        assert target.proportion is not None
        ends, proportion = self.share.ends, target.proportion
        self._owed = np.zeros(len(ends), np.int64)
        for matcher in range(target.matchers):
            part = cast(Any, part_of)(ends, matcher, target.matchers)  # of all ends at once
            self._owed += part * proportion.answer_bytes // proportion.command_bytes
        if len(ends):
            assert self._owed[-1] == owed_of(int(ends[-1]), target.matchers, proportion)


def connect_client(target: Target, user_id: str, share: Share) -> Client:
    """Return a client of the product or of a bare chain, connected and logged in."""
    kind = Client if target.proportion is None else BareClient
    return kind(target, user_id, share)
