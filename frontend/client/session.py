"""One client's side of the protocol without any input or output: bytes in, answers out.

The blocking and the asynchronous client each move bytes and wait, in their own way; all else that
they have in common is here: the login, the numbers of requests, which message answers which
request, the bounded queue of what nobody waited for, and what an ended connection means.

**Request numbers.** An account may have several sessions, and each sees all the account's
reports, so a request_id carries its session: ``session << 25 | counter``, below 2^53. The session's
lowest 28 bits are taken; the counter runs from 1 to 2^25 - 1 and then begins again at 1, leaving
out what is still unanswered.

**Coming back.** A login names the last report that was seen of each shard, so that those after it
come first. What was not answered on the connection before stays: its answer may be among them.

**Bounds.** At most ``MAX_UNANSWERED`` requests wait for their answers. The queue is bounded: see
``frontend.client.report_queue``.

**Bulk.** Answers to an array of commands are read by compiled code into an array, and so is
whatever else comes in big pieces, for a client that has used arrays: others never wait for that
code to be compiled. Messages by themselves, and all that is not plain, are read by msgspec.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from frontend.client.array_exchange import MAX_UNANSWERED, ArrayExchange, check_commands
from frontend.client.commands import Commands, Request, ServerMessage
from frontend.client.errors import (
    ClientError,
    ClosedError,
    ConnectError,
    ConnectionLostError,
    InvalidOrderError,
    LoginRefusedError,
    NotCarriedOutError,
    ProtocolError,
    UnknownOutcomeError,
)
from frontend.client.listings import Listings
from frontend.client.positions import Positions
from frontend.client.report_queue import ReportQueue
from frontend.client.results import Execution
from ipc.arrays import Records
from ipc.records import shard_of
from ipc.wire.client_codec import DONE, ODD, AnswerReader, warm
from ipc.wire.frames import HEADER_BYTES, FrameSplitter, FrameTooLongError, frame
from ipc.wire.messages import (
    CLIENT_COMMANDS,
    MAX_BODY,
    Closing,
    InstrumentInfo,
    Login,
    PeerTimeout,
    Report,
    ShardRestarted,
    UserId,
    Welcome,
    server_decoder,
)

COUNTER_BITS = 25
SESSION_BITS = 28
MAX_COUNTER = (1 << COUNTER_BITS) - 1
BATCH_REQUESTS = 4_096
"""Requests of a batch that are sent before the first of them is answered."""
RETRY_S = 0.05
"""Between two attempts to connect anew."""
MAX_REPORTS = 65_536
"""Messages that the queue of a client keeps, where it is not told otherwise."""
BULK_BYTES = 4_096
"""From here on compiled code is worth its call."""


T = TypeVar("T")


class Answer(NamedTuple):
    """The first answer to a request that waited."""

    request: Request[Any]
    message: ServerMessage


def chunks(requests: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a batch into what may be sent at once."""
    for first in range(0, len(requests), BATCH_REQUESTS):
        yield requests[first : first + BATCH_REQUESTS]


class Session:
    """The protocol of one user, over one connection after the other.

    ``include_answers``: what answers a request stands in the queue as well (but not the answers
    to an array, which are an array themselves). Raises ``ConnectError``
    for a user_id or a peer_timeout_s that no engine takes.
    """

    def __init__(
        self,
        user_id: str,
        max_reports: int = MAX_REPORTS,
        include_answers: bool = False,
        cancel_on_disconnect: bool = False,
        api_key: str = "",
        peer_timeout_s: int = 0,
    ) -> None:
        for field, value, kind in (
            ("user_id", user_id, UserId),
            ("peer_timeout_s", peer_timeout_s, PeerTimeout),
        ):
            try:
                msgspec.convert(value, kind)
            except msgspec.ValidationError as error:
                raise ConnectError(f"{field} {value!r}: {error}") from None
        self.user_id = user_id
        self.include_answers = include_answers
        self.cancel_on_disconnect = cancel_on_disconnect
        self._api_key = api_key
        self.peer_timeout_s = peer_timeout_s
        self.positions = Positions()
        self.version = ""
        self.session = 0
        self.commands = Commands(Listings(), self.next_request_id)
        self.closing: Closing | None = None
        self._detail = "not connected yet"
        self._instruments: list[InstrumentInfo] = []
        self._welcomed = False
        self._counter = 0
        self._unanswered: dict[int, Request[Any]] = {}
        self._sent_bytes = 0
        self._ends: dict[int, int] = {}
        self._exchange: ArrayExchange | None = None
        self._failure: ClientError | None = None
        self._bulk_bytes = MAX_BODY + 1  # none, until arrays are asked for
        self._queue = ReportQueue(max_reports)
        self._splitter = FrameSplitter(MAX_BODY)
        self._reader = AnswerReader(MAX_BODY)

    # The connection -----------------------------------------------------------------------------

    def begin(self) -> bytes:
        """Start on a new connection; return what to send first.

        The queue stays as it is, unless the engine that answers has other instruments: then what
        is in it cannot be told in decimals any more, and is dropped.
        """
        self._splitter = FrameSplitter(MAX_BODY)
        self._ends = {}
        self._sent_bytes = 0
        self._exchange = None
        self._failure = None
        self._welcomed = False
        self.closing = None
        login = Login(
            self.user_id,
            self.positions.resume(),
            self.cancel_on_disconnect,
            self._api_key,
            self.peer_timeout_s,
        )
        return self.sent(frame(login))

    def sent(self, frames: bytes) -> bytes:
        """Count frames that are about to be sent, and return them."""
        self._sent_bytes += len(frames)
        return frames

    @property
    def welcomed(self) -> bool:
        """Whether the engine has answered the login."""
        return self._welcomed

    @property
    def caught_up(self) -> bool:
        """Whether all has come that the account was told up to the login."""
        return self._welcomed and self.positions.caught_up

    def feed(self, data: bytes) -> list[Answer]:
        """Take what came; return the answers in it to requests that wait.

        Raises ``ProtocolError``, ``ReportGapError``, and ``LoginRefusedError`` where the login was
        answered by a Closing. After any of them the connection is of no use any more, and nothing
        of ``data`` counts as having come.
        """
        if self._welcomed and (self._exchange is not None or self._bulk_bytes <= len(data)):
            return self._feed_bulk(data)
        try:
            decode = server_decoder.decode
            messages = [decode(body) for _, body in self._splitter.feed(data)]
        except (FrameTooLongError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProtocolError(f"from the engine: {error}") from None
        if messages and isinstance(last := messages[-1], Closing):
            self.closing = last
            del messages[-1]
        if not self._welcomed:
            if self.closing is not None and not messages:
                raise LoginRefusedError(self.closing.code, self.closing.text)
            if not messages:
                return []
            self._greet(messages.pop(0))
        self.positions.follow(messages)
        return self._sort(messages)

    def _feed_bulk(self, data: bytes) -> list[Answer]:
        """Take what came in big pieces; what is not plain goes the way of single messages.

        What came before something wrong counts as having come: where there are answers in it, the
        error is raised by the next call.
        """
        if self._failure is not None:
            raise self._failure
        data = self._splitter.take(data)
        answers: list[Answer] = []
        try:
            position = self._take_bulk(data, answers)
            self._splitter.keep(data[position:])
        except (FrameTooLongError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._failure = ProtocolError(f"from the engine: {error}")
        except ClientError as error:
            self._failure = error
        if self._failure is not None and not answers:
            raise self._failure
        return answers

    def _take_bulk(self, data: bytes, answers: list[Answer]) -> int:
        """Take the whole frames of ``data``; return where the rest begins."""
        position, why = self._read(data, 0)
        while why != DONE:
            if why == ODD:
                body = self._splitter.body_at(data, position)
                if body is None:
                    break
                message = server_decoder.decode(body)
                self.positions.follow([message])
                position += HEADER_BYTES + len(body)
                if isinstance(message, Closing):
                    self.closing = message
                elif self._exchange is None or not self._exchange.take(message):
                    answers += self._sort([message])
            position, why = self._read(data, position)
        return position

    def _read(self, data: bytes, position: int) -> tuple[int, int]:
        """Read plain frames; return where they end, and why (see ``ipc.wire.report_decoder``)."""
        asked, reader = bool(self._unanswered), self._reader
        self.positions.to_wanted(reader.wanted)
        if self._exchange is None:
            position, why, _ = reader.read(data, position, asked)
        else:
            position, why, _ = self._exchange.read(reader, data, position, asked)
        self.positions.from_wanted(reader.wanted)
        self._queue.extend_records(reader.take_others())
        return position, why

    def _greet(self, message: ServerMessage) -> None:
        if not isinstance(message, Welcome):
            raise ProtocolError(f"a {type(message).__name__} where a Welcome was to come")
        if message.instruments != self._instruments:
            self._queue.drop(len(self._queue))
        self._queue.miss(self.positions.welcome(message))
        self._instruments = message.instruments
        self.session = message.session
        self.version = message.version
        self.commands = Commands(Listings(message.instruments), self.next_request_id)
        self._counter = 0
        self._welcomed = True

    def end(self, detail: str) -> None:
        """The connection has ended; ``detail`` is how, where the engine did not say why."""
        self._detail = detail

    def loss(self) -> ConnectionLostError:
        """Return the error that says how the connection ended."""
        if self.closing is not None:
            return ClosedError(self.closing.code, self.closing.text)
        return ConnectionLostError(self._detail)

    def unanswered(self) -> list[Request[Any]]:
        """Return the requests that wait for their answers, oldest first, and forget them."""
        waiting = list(self._unanswered.values())
        self._unanswered = {}
        return waiting

    def left_behind(self) -> list[Request[Any]]:
        """Return the requests that were sent on an earlier connection, and forget them.

        Once ``caught_up``, what was reported since does not answer them.
        """
        numbers = [number for number in self._unanswered if number not in self._ends]
        return [self._unanswered.pop(number) for number in numbers]

    # Requests -----------------------------------------------------------------------------------

    def next_request_id(self) -> int:
        """Return the number of a new request: unique among the sessions of the engine."""
        while True:
            self._counter = self._counter % MAX_COUNTER + 1
            number = self._base | self._counter
            in_array = self._exchange is not None and self._exchange.has(number)
            if number not in self._unanswered and not in_array:
                return number

    @property
    def _base(self) -> int:
        return (self.session & ((1 << SESSION_BITS) - 1)) << COUNTER_BITS

    def _free_numbers(self, count: int) -> int:
        """Return where in the counter's range ``count`` numbers begin that are all free."""
        taken = sorted(number & MAX_COUNTER for number in self._unanswered)
        for first in (self._counter + 1, 1, *(number + 1 for number in taken)):
            place = bisect_left(taken, first)
            end = taken[place] if place < len(taken) else MAX_COUNTER + 1
            if first + count <= end:
                return first
        raise InvalidOrderError("commands", "must be fewer: too many request ids are unanswered")

    def room(self) -> int:
        """Return how many more requests may be sent before one is answered."""
        return MAX_UNANSWERED - len(self._unanswered)

    def send(self, requests: Iterable[Request[Any]]) -> bytes:
        """Return the frames of requests, whose answers are awaited from now on."""
        frames = []
        for request in requests:
            number = request.message.request_id
            self._unanswered[number] = request
            frames.append(self.sent(frame(request.message)))
            self._ends[number] = self._sent_bytes
        return b"".join(frames)

    def give_up(self, request: Request[Any]) -> None:
        """Wait for an answer no more: if it still comes, it goes to the queue."""
        self._unanswered.pop(request.message.request_id, None)
        self._ends.pop(request.message.request_id, None)

    # Arrays -------------------------------------------------------------------------------------

    def expect_arrays(self) -> None:
        """Read in bulk from now on; where that is not ``warmed``, this compiles or loads it."""
        warm()
        self._bulk_bytes = BULK_BYTES

    def begin_array(self, commands: Records) -> ArrayExchange:
        """Begin to send an array; its answers go to the exchange until ``end_array``.

        Raises ``InvalidOrderError``.
        """
        check_commands(commands)
        self.expect_arrays()
        first = self._free_numbers(len(commands))
        self._counter = first + len(commands) - 1
        self._exchange = ArrayExchange(commands, self._base | first)
        return self._exchange

    def array_frames(self) -> bytes:
        """Return the next piece of the array to send; nothing where none can go now."""
        assert self._exchange is not None
        return self.sent(self._exchange.frames(self._sent_bytes))

    def end_array(self) -> None:
        """Wait for answers to an array no more: if they still come, they go to the queue."""
        self._exchange = None

    # The queue ----------------------------------------------------------------------------------

    @property
    def missed_reports(self) -> int:
        """How many messages were dropped so far because nobody read them."""
        return self._queue.missed

    @property
    def has_messages(self) -> bool:
        """Whether anything is in the queue, or is missing from it and was not told."""
        return self._queue.has_news

    def pop_messages(self) -> list[ServerMessage]:
        """Return and take everything in the queue. Raises ``MissedReportsError``, once a gap."""
        return self._queue.pop_messages()

    def pop_records(self) -> Records:
        """Return and take everything in the queue that a REPORT can tell, as an array of them.

        Raises ``MissedReportsError``, once a gap.
        """
        self.expect_arrays()
        return self._queue.pop_records()

    def pop_execution(self) -> Execution | None:
        """Return the oldest report in the queue, skipping all that is none; None: there is none.

        Raises ``MissedReportsError``, once a gap.
        """
        while (message := self._queue.pop_message()) is not None:
            if isinstance(message, Report):
                return self.commands.execution(message)
        return None

    def _sort(self, messages: list[ServerMessage]) -> list[Answer]:
        """Hand each message to the request that waits for it, or else to the queue."""
        waiting = self._unanswered
        if not waiting and self._exchange is None:
            self._queue.extend(messages)
            return []
        answers = []
        others = []
        for message in messages:
            number = getattr(message, "request_id", 0)
            request = waiting.pop(number, None)
            if request is None:
                others.append(message)
                if type(message) is ShardRestarted:
                    answers += self._not_carried_out(message)
            else:
                self._ends.pop(number, None)
                answers.append(Answer(request, message))
        self._queue.extend(messages if self.include_answers else others)
        return answers

    def _not_carried_out(self, message: ShardRestarted) -> list[Answer]:
        """Answer what was sent to a matcher that died, and is not answered by its successor."""
        shard = shard_of(message.account_sequence)
        if self._exchange is not None:
            shards = self.commands.listings.shards()
            self._exchange.not_carried_out(shard, message.sent_bytes, shards)
        lost = [
            request
            for number, request in self._unanswered.items()
            if self._ends.get(number, message.sent_bytes + 1) <= message.sent_bytes
            and self.commands.shard_of(request.message) == shard
        ]
        return [Answer(self._unanswered.pop(r.message.request_id), message) for r in lost]


def outcome(request: Request[T], message: ServerMessage) -> T | ClientError:
    """Return what an answer means to the caller: the result, or the error to raise."""
    if type(message) is ShardRestarted:
        number = request.message.request_id
        return NotCarriedOutError(number, getattr(request.message, "client_order_id", 0))
    try:
        return request.read(message)
    except ClientError as error:
        return error


def outcome_error(request: Request[Any], cause: ClientError) -> ClientError:
    """Return what the caller of an unanswered request is told when the connection has ended.

    The outcome of a command is unknown; a query has none, so the cause itself is the error.
    """
    message = request.message
    if not isinstance(message, CLIENT_COMMANDS):
        return cause
    error = UnknownOutcomeError(message.request_id, getattr(message, "client_order_id", 0))
    error.__cause__ = cause
    return error
