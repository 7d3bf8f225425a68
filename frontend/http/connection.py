"""One HTTP connection: uvicorn's, with bounds on headers, on connections, and on waiting."""

import time
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from frontend.http.errors import ApiError
from frontend.http.models import ErrorAnswer


class HeadersTooLargeError(Exception):
    """Ends parsing."""


def limited_connection(
    max_header_bytes: int, max_connections: int, wait_s: float
) -> type[HttpToolsProtocol]:
    """Return the class of connections with these bounds.

    A request must have come whole ``wait_s`` after its first byte, and the first one as long after
    the connection was made: ``close_overdue`` ends those that have not.
    """

    class Connection(HttpToolsProtocol):
        _header_bytes = 0
        _in_headers = False
        _waits_since = 0.0
        _problem: ApiError | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._waits_since = self.loop.time()
            if len(self.connections) > max_connections:
                self._end(ApiError("BUSY", f"there are {max_connections} connections already"))

        def data_received(self, data: bytes) -> None:
            if self._problem is not None:
                return
            super().data_received(data)
            if self._in_headers and self._problem is None:
                # A header without an end is not told of by the parser.
                self._header_bytes += len(data)
                if self._header_bytes > 2 * max_header_bytes:
                    self._end(_too_large(max_header_bytes))

        def on_message_begin(self) -> None:
            self._header_bytes, self._in_headers = 0, True
            self._waits_since = self.loop.time()
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._in_headers = False
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._waits_since = 0.0
            super().on_message_complete()

        def send_400_response(self, msg: str) -> None:
            """Answer what cannot be parsed."""
            self._end(self._problem or ApiError("INVALID_REQUEST", "the request must be HTTP/1.1"))

        def close_overdue(self, now: float) -> None:
            """Close a connection that has waited too long for the rest of a request."""
            if self._waits_since and now - self._waits_since > wait_s:
                self.transport.close()

        def _count(self, size: int) -> None:
            self._header_bytes += size
            if self._header_bytes > max_header_bytes:
                self._problem = _too_large(max_header_bytes)
                raise HeadersTooLargeError

        def _end(self, problem: ApiError) -> None:
            self._problem = problem
            body = msgspec.json.encode(ErrorAnswer(problem.body(), time.time_ns()))
            lines = [
                STATUS_LINE[problem.status],
                b"content-type: application/json\r\n",
                b"content-length: %d\r\n" % len(body),
                *(b"%s: %s\r\n" % header for header in problem.headers),
                b"connection: close\r\n\r\n",
                body,
            ]
            self.transport.write(b"".join(lines))
            self.transport.close()

    return Connection


def _too_large(most: int) -> ApiError:
    return ApiError("HEADERS_TOO_LARGE", f"path and headers must have at most {most} bytes")
