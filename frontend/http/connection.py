"""One HTTP connection: uvicorn's, which answers plain requests at once and bounds what it takes.

uvicorn accepts, parses (httptools), counts connections, shuts down, and hands WebSockets to their
protocol as an ASGI application. Plain requests take a shorter way here than through ASGI: no scope,
no task and no events a request, and an answer is one write. Requests of one connection are answered
one after the other, in their order; what comes behind waits, and then no more is read.

A client's requests mostly have the same head again and again, byte for byte. What the parser made
of a head is remembered, so a request that comes in one piece with a known one is not parsed.
"""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple
from urllib.parse import unquote

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from frontend.gateway.door import CrowdedError, Door, Entrant, Place
from frontend.gateway.turns import Turns
from frontend.http.access import Admit, Headers
from frontend.http.errors import ApiError

REMEMBERED_TARGETS = 1_024
REMEMBERED_HEADS = 1_024
MAX_REMEMBERED_HEAD_BYTES = 1_024
_ANSWER = b"%bcontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
_JSON = b"application/json"
PLACE, TURNS = "place", "turns"
"""Under which names a WebSocket's scope has the place of its connection, and the turns of all, in
its ``state``."""
PIECE_BYTES = 4_096
"""What is parsed of a connection's bytes before others have their turn."""
TURN_S = 0.001
"""How long requests of all connections are served in a turn of the event loop."""
_HEAD_END = b"\r\n\r\n"

Header = tuple[bytes, bytes]


class Call(msgspec.Struct, frozen=True):
    """One whole request."""

    method: str
    path: str
    query: bytes
    headers: list[Header]
    body: bytes
    keep_alive: bool
    problem: ApiError | None
    """What is wrong with it already."""
    grant: bytes = b""
    """Lines for the head of its answer, which tell a browser that a page may read it."""
    place: Place | None = None
    """Of its connection, where that is a stranger's yet."""


class Answer(msgspec.Struct):
    """What a request is answered with, beside the headers that every answer has."""

    status: int
    body: bytes
    content_type: bytes = _JSON
    headers: Sequence[Header] = ()


Reply = Callable[[Answer], None]
Serve = Callable[[Call, Reply], None]
"""Answers a request by calling ``Reply`` once, at once or later. Raises nothing."""


class Bounds(NamedTuple):
    """What a connection may take.

    A request must have come whole ``wait_s`` after its first byte, and its first byte as long after
    the connection was made or the answer before it was sent; and answers must be read as soon where
    more requests wait. ``close_overdue`` ends connections that are later.
    """

    max_header_bytes: int
    max_body_bytes: int
    wait_s: float


class Head(NamedTuple):
    """What is known of a request by its head alone; so many bytes of body follow it."""

    call: Call
    """That request, where it has no body."""
    body_bytes: int


class HeadersTooLargeError(Exception):
    """Ends parsing."""


class UpgradeTooSoonError(Exception):
    """Ends parsing."""


def connections(
    bounds: Bounds,
    serve: Serve,
    admit: Admit = lambda *_: b"",
    door: Door | None = None,
    keyed: bool = False,
    turns: Turns | None = None,
) -> type["Connection"]:
    """Return the class of connections with these bounds that are served so.

    What ``admit`` and ``door`` refuse is served as a call with a problem. Unless ``keyed``, nobody
    is a stranger.
    """
    own = {
        "bounds": bounds,
        "serve": staticmethod(serve),
        "admit": staticmethod(admit),
        "heads": {},
        "door": door,
        "keyed": keyed,
        "turns": turns or Turns(TURN_S),
    }
    return type("BoundConnection", (Connection,), own)


class Connection(HttpToolsProtocol, Entrant):
    """A connection from accept to close, or to its upgrade."""

    bounds: ClassVar[Bounds]
    serve: "ClassVar[staticmethod[[Call, Reply], None]]"
    admit: "ClassVar[staticmethod[[Headers, bool], bytes]]"
    door: ClassVar[Door | None]
    keyed: ClassVar[bool]
    turns: ClassVar[Turns]
    heads: ClassVar[dict[bytes, Head]]
    """Heads of requests that were plain and whole, and left the connection open."""

    _waits_since = 0.0
    """For the client; 0 while it waits for us."""
    _problem: ApiError | None = None
    _current: Call | None = None
    """What is being answered."""
    _serving = False
    _turn_is_due = False
    _unparsed = b""
    _position = 0
    """Up to where that is parsed; nothing more is read before the rest is."""
    _parsing = False
    _parse_is_due = False
    _stopping = False
    _lost = False
    place: Place | None = None
    """At the door; a connection over TLS has taken it before."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request, or refuse where there are too many connections."""
        super().connection_made(transport)
        self._calls: deque[Call] = deque()
        self._waits_since = self.loop.time()
        if self.door is None:
            return
        try:
            host = self.client[0] if self.client else ""
            place = self.place or self.door.enter(host, self._waits_since)
        except CrowdedError as error:
            self._end(ApiError("BUSY", str(error)))
            self._serve_all()
            return
        if not self.keyed:
            place.show()
        place.end, place.abort = self._end_idle, transport.abort
        self.place = place
        self.app_state = {**self.app_state, PLACE: place, TURNS: self.turns}  # for a WebSocket

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what is not answered."""
        self._lost = True
        self._calls.clear()
        self._unparsed = b""
        if self.place is not None:
            self.place.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, then serve what is whole."""
        if self._problem is not None:
            return
        if self._unparsed:
            self._unparsed += data
            return
        stop = data.find(_HEAD_END) + len(_HEAD_END)
        head = self.heads.get(data[:stop]) if self._between else None
        if head is not None and len(data) - stop == head.body_bytes:
            call, body_bytes = head
            if body_bytes:
                call = Call(
                    call.method,
                    call.path,
                    call.query,
                    call.headers,
                    data[stop:],
                    True,
                    None,
                    call.grant,
                )
            self._waits_since = 0.0
            self._calls.append(call)
        elif len(data) > PIECE_BYTES:
            self._unparsed, self._position = data, 0
            self._parse_on()
            return
        else:
            self._parse(data, stop)
        self._serve_or_wait()

    def _parse_on(self) -> None:
        """Parse piece by piece, each in its turn, and none before those before it are answered."""
        turns, whose = self.turns, self._whose()
        self._parse_is_due, self._parsing = False, True
        while self._unparsed and not self._calls and self._current is None:
            if (
                self._problem is not None
                or self._lost
                or self.transport.is_closing()
                or self.transport.get_protocol() is not self
            ):
                self._unparsed = b""
            elif not turns.may(whose):
                self._parse_is_due = True
                self.flow.pause_reading()
                turns.wait(whose, self._parse_on)
                break
            else:
                clock = turns.clock
                begun_s = clock()
                piece = self._unparsed[self._position : self._position + PIECE_BYTES]
                self._position += len(piece)
                if self._position >= len(self._unparsed):
                    self._unparsed = b""
                self._parse(piece, piece.find(_HEAD_END) + len(_HEAD_END))
                turns.spend(whose, clock() - begun_s)
                self._serve_or_wait()
        self._parsing = False
        if self._unparsed:
            self.flow.pause_reading()
        elif not self._calls and self._current is None:
            self._waits_since = self._waits_since or self.loop.time()
            if self.flow.read_paused and not self._lost:
                self.flow.resume_reading()

    def _serve_or_wait(self) -> None:
        if self._calls:
            if self._current is None and not self._turn_is_due:
                self._serve_all()
            else:
                self.flow.pause_reading()

    def _parse(self, data: bytes, stop: int) -> None:
        """Let the parser tell of a piece; its first head, if there is one, ends at ``stop``."""
        calls, alone = self._calls, self._between and not self._calls
        self._began, self._piece_body_bytes = False, 0
        super().data_received(data)
        if (self._in_headers or self._in_trailers) and self._problem is None:
            # Neither an endless header nor endless headers are told of by the parser.
            self._unfinished_bytes += self._rest_bytes(data) if self._began else len(data)
            if self._unfinished_bytes > 2 * self.bounds.max_header_bytes:
                self._end(self._too_large())
        if alone and len(calls) == 1 and self._between and stop <= MAX_REMEMBERED_HEAD_BYTES:
            call = calls[0]
            special = self.expect_100_continue or self.parser.should_upgrade()
            plain = call.problem is None and call.keep_alive and not special
            if plain and call.body == data[stop:]:  # so all of the piece is this request
                if len(self.heads) >= REMEMBERED_HEADS:
                    self.heads.clear()
                known_call = msgspec.structs.replace(call, body=b"")
                self.heads[data[:stop]] = Head(known_call, len(call.body))

    def _rest_bytes(self, data: bytes) -> int:
        """Return how much of a piece belongs to the head that begins in it, and is not whole.

        What comes before is whole requests: it ends with an empty line, or with a body. Where that
        has empty lines too it is less; the next piece counts in full.
        """
        if self._in_trailers:
            return 0
        return max(0, len(data) - max(0, data.rfind(_HEAD_END)) - self._piece_body_bytes)

    # What the parser tells ----------------------------------------------------------------------

    _header_bytes = 0
    _unfinished_bytes = 0
    _in_headers = False
    _in_trailers = False
    """Or behind the line of a chunk of which nothing has come."""
    _began = False
    """Whether that began in the piece that is parsed."""
    _piece_body_bytes = 0
    """Of the last body in the piece that is parsed."""
    _between = True
    """Whether the last request is whole, and nothing has come of the next one."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._between = False
        self._header_bytes = self._unfinished_bytes = 0
        self._in_headers = self._began = True
        self._in_trailers = False
        self._waits_since = self.loop.time()
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._body: bytes | bytearray = b""
        self._wrong: ApiError | None = None
        self._upgrades = False

    def on_url(self, url: bytes) -> None:
        """Keep a piece of the target."""
        self._header_bytes += len(url)
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what comes behind the body is none, and is not kept."""
        self._header_bytes += len(name) + len(value)
        if not self._in_headers:
            if self._header_bytes > self.bounds.max_header_bytes:
                self._problem = self._too_large()
                raise HeadersTooLargeError
            return
        name = name.lower()
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Look at what the request is; a WebSocket's goes on by ASGI."""
        self._in_headers = False
        if self._header_bytes > self.bounds.max_header_bytes:
            self._problem = self._too_large()
            raise HeadersTooLargeError
        self._target = target_of(self.url)
        self._piece_body_bytes = 0
        if self.parser.should_upgrade() and self._should_upgrade():
            if self._calls or self._current is not None:
                self._problem = ApiError("INVALID_REQUEST", "an upgrade must await all answers")
                raise UpgradeTooSoonError
            self._upgrades = True
            url, headers = self.url, self.headers
            super().on_message_begin()
            self.url = url
            self.headers += headers
            super().on_headers_complete()
        elif self.expect_100_continue and self._current is None and not self._calls:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body, unless it is too large: then none of it."""
        self._in_trailers = False
        self._unfinished_bytes = 0
        self._piece_body_bytes += len(body)
        if self._wrong is not None:
            return
        if not self._body:
            self._body = body
        else:
            self._body = bytearray(self._body) if isinstance(self._body, bytes) else self._body
            self._body += body
        most = self.bounds.max_body_bytes
        if len(self._body) > most:
            self._body = b""
            self._wrong = ApiError("BODY_TOO_LARGE", f"the body must have at most {most} bytes")
            self._add_call()

    def on_chunk_header(self) -> None:
        """Await a chunk: or trailers, where it is the last one and empty."""
        self._in_trailers = self._began = True
        self._unfinished_bytes = 0

    def on_message_complete(self) -> None:
        """Queue the request, unless it is answered already."""
        self._between = True
        self._in_trailers = False
        if self._wrong is not None:
            self._waits_since = self.loop.time()
        elif not self._upgrades:
            self._waits_since = 0.0
            self._add_call()

    def _add_call(self) -> None:
        parser = self.parser
        keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        method = parser.get_method().decode("ascii")
        problem, grant, body = self._wrong, b"", bytes(self._body)
        try:
            grant = self.admit(self.headers, bool(body))
        except ApiError as error:
            problem = problem or error
        self._calls.append(
            Call(method, *self._target, self.headers, body, keep_alive, problem, grant)
        )

    def _too_large(self) -> ApiError:
        most = self.bounds.max_header_bytes
        return ApiError("HEADERS_TOO_LARGE", f"path and headers must have at most {most} bytes")

    # Answers ------------------------------------------------------------------------------------

    def _serve_all(self) -> None:
        """Serve requests until one is not answered at once, others have their turn, or the client
        does not read."""
        self._serving = True
        turns, place = self.turns, self.place
        whose = id(self) if place is None else place.whose
        while self._calls and self._current is None and not self.flow.write_paused:
            if not turns.may(whose):
                if not self._turn_is_due:
                    self._turn_is_due = True
                    turns.wait(whose, self._take_turn)
                break
            clock = turns.clock
            begun_s = clock()
            self._current = self._calls.popleft()
            if place is not None and place.strange:
                # Not in place: other connections may have the same call.
                self._current = msgspec.structs.replace(self._current, place=place)
            self.serve(self._current, self._reply)
            turns.spend(whose, clock() - begun_s)
        self._serving = False
        if self._calls:
            if self._turn_is_due:
                return  # nothing mostly comes before that; if it does, no more is read
            self.flow.pause_reading()
            if self._current is None:
                self._waits_since = self.loop.time()  # for the client to read
        elif self._unparsed:
            if not self._parsing and not self._parse_is_due and self._current is None:
                self._parse_on()
        elif self.flow.read_paused and not self._lost:
            self.flow.resume_reading()

    def _whose(self) -> Hashable:
        return id(self) if self.place is None else self.place.whose

    def _take_turn(self) -> None:
        """Serve what has waited for its turn."""
        self._turn_is_due = False
        if self._current is None and not self._lost:
            self._serve_all()

    def _reply(self, answer: Answer) -> None:
        """Send the answer of the request that is under way."""
        call, self._current = self._current, None
        if self._lost or call is None:
            return
        head = STATUS_LINE[answer.status]
        if call.grant:
            head += call.grant
        for name, value in answer.headers:
            head += b"%b: %b\r\n" % (name, value)
        closing = self._stopping or not call.keep_alive
        if closing:
            head += b"connection: close\r\n"
        body = answer.body
        sent = b"" if call.method == "HEAD" else body
        self.transport.write(_ANSWER % (head, answer.content_type, len(body), sent))
        if closing:
            self._calls.clear()
            self.transport.close()
            return
        more = self._calls or self._unparsed
        self._waits_since = 0.0 if more else self.loop.time()
        if more and not self._serving:
            self._serve_all()

    def resume_writing(self) -> None:
        """Serve what has waited for the client to read."""
        super().resume_writing()
        if self._calls and self._current is None and not self._lost:
            self._serve_all()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed."""
        self._end(self._problem or ApiError("INVALID_REQUEST", "the request must be HTTP/1.1"))

    def _end(self, problem: ApiError) -> None:
        """Take nothing more, and close: with an error, once what came before is answered."""
        self._problem = problem
        self._calls.append(Call("", "", b"", [], b"", False, problem))

    # The end ------------------------------------------------------------------------------------

    def close_overdue(self, now: float) -> None:
        """Close a connection whose client was waited for too long."""
        if self._waits_since and now - self._waits_since > self.bounds.wait_s:
            if self.transport.get_write_buffer_size():
                self.transport.abort()  # it does not read either
            else:
                self.transport.close()

    def _end_idle(self) -> bool:
        """Close a stranger's connection, unless a request of it is under way."""
        if self._waits_since:
            self.transport.close()
        return bool(self._waits_since)

    def shutdown(self) -> None:
        """Close, once what is under way is answered."""
        self._stopping = True
        if self._current is None:
            self.transport.close()


@lru_cache(REMEMBERED_TARGETS)
def target_of(url: bytes) -> tuple[str, bytes]:
    """Return path and query of a request's target. Raises for one that is none; ends parsing."""
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return unquote(path) if "%" in path else path, parsed.query or b""
