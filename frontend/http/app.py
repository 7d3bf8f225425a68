"""The ASGI application of a worker: from a request to its handler, and from what it returns or
raises to an answer.

Routing is one dictionary lookup, since the paths are few and fixed; Litestar's and Starlette's
generality costs more than the work of a read (``bench.http`` has the figures).
"""

import inspect
import logging
import time
from typing import Any

import msgspec

from frontend.http.api import Api
from frontend.http.errors import ApiError
from frontend.http.models import MAX_ID, ErrorAnswer
from frontend.http.request import Request
from frontend.http.routes import PREFIX, ROUTES, Content, Route
from frontend.http.sockets import Socket
from ipc.board import BoardBusyError
from ipc.table import TableBusyError

logger = logging.getLogger("shardbook.http")

Header = tuple[bytes, bytes]

CONTENT_TYPE = b"content-type"
JSON = (CONTENT_TYPE, b"application/json")
SOCKET_PATHS = ("/ws", PREFIX + "/ws")
ORDER_PREFIX = PREFIX + "/orders/"
ORDER_PATH = PREFIX + "/orders/{order_id}"
_encode = msgspec.json.Encoder().encode

Scope = dict[str, Any]


class App:
    """Serves REST, and hands WebSockets on."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._routes: dict[tuple[str, str], tuple[Route, bool]] = {}
        self._methods: dict[str, list[str]] = {}
        for route in ROUTES:
            for path in (PREFIX + route.path, *([route.path] if route.unprefixed else [])):
                self._routes[route.method, path] = route, inspect.iscoroutinefunction(route.handler)
                self._methods.setdefault(path, []).append(route.method)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        headers: tuple[Header, ...] = ()
        try:
            body, content_type = await self._answer(scope, receive)
            status = 200
        except Exception as error:
            problem = self._problem(error)
            status, headers = problem.status, problem.headers
            body, content_type = _encode(ErrorAnswer(problem.body(), time.time_ns())), JSON
        self._api.meter.answered(status)
        length = (b"content-length", b"%d" % len(body))
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [content_type, length, *headers],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _socket(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve a WebSocket; a key may come with its request, or by the login op later."""
        await receive()
        problem: ApiError | None = None
        user_id = None
        if scope["path"] not in SOCKET_PATHS:
            problem = ApiError("NOT_FOUND", "there is nothing at this path")
        elif any(name in (b"x-api-key", b"authorization") for name, _ in scope["headers"]):
            try:
                user_id = self._api.authenticate(scope["headers"])
            except ApiError as error:
                problem = error
        if problem is not None:
            await _refuse(problem, send)
            return
        await send({"type": "websocket.accept"})
        self._api.status.add("sockets", 1)
        try:
            await Socket(self._api, user_id, send).serve(receive)
        finally:
            self._api.status.add("sockets", -1)

    async def _answer(self, scope: Scope, receive: Any) -> tuple[bytes, Header]:
        route, is_async, order_id = self._route(scope["method"], scope["path"])
        user_id = self._api.authenticate(scope["headers"]) if not route.public else None
        body = b"" if scope["method"] == "GET" else await self._body(receive)
        request = Request(self._api, scope["query_string"], body, user_id, order_id)
        result: Any = route.handler(request)
        if is_async:
            result = await result
        if isinstance(result, Content):
            return result.body, (CONTENT_TYPE, result.content_type)
        return _encode(result), JSON

    def _route(self, method: str, path: str) -> tuple[Route, bool, int]:
        found = self._routes.get((method, path))
        if found is not None:
            return *found, 0
        order_id = 0
        if path not in self._methods and path.startswith(ORDER_PREFIX):
            order_id = _order_id(path[len(ORDER_PREFIX) :])
            path = ORDER_PATH
            found = self._routes.get((method, path))
            if found is not None:
                return *found, order_id
        methods = self._methods.get(path)
        if methods is None:
            raise ApiError("NOT_FOUND", "there is nothing at this path")
        raise ApiError(
            "METHOD_NOT_ALLOWED", f"{method} is not served here", allowed=sorted(methods)
        )

    async def _body(self, receive: Any) -> bytes:
        """Return the whole body. Raises ``ApiError`` where it is too large."""
        most = self._api.config.max_body_bytes
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ApiError("INVALID_REQUEST", "the request was not finished")
            body += bytes(message.get("body", b""))
            if len(body) > most:
                raise ApiError("BODY_TOO_LARGE", f"the body must have at most {most} bytes")
            if not message.get("more_body"):
                return body

    def _problem(self, error: Exception) -> ApiError:
        if isinstance(error, ApiError):
            return error
        if isinstance(error, BoardBusyError | TableBusyError):
            return ApiError("BUSY", "what was to be read is being changed; try again")
        logger.error("request failed", exc_info=error)
        return ApiError("INTERNAL_ERROR", "the request failed for a reason of ours")


async def _refuse(problem: ApiError, send: Any) -> None:
    """Answer a WebSocket's request with an error instead."""
    body = _encode(ErrorAnswer(problem.body(), time.time_ns()))
    headers = [JSON, (b"content-length", b"%d" % len(body)), *problem.headers]
    start = {"type": "websocket.http.response.start", "status": problem.status, "headers": headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": body})


def _order_id(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 16 and 1 <= int(text) <= MAX_ID:
        return int(text)
    raise ApiError(
        "INVALID_ORDER_ID",
        f"order_id: must be a whole number of 1 to {MAX_ID}",
        field="order_id",
        rule=f"must be a whole number of 1 to {MAX_ID}",
    )
