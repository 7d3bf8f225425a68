"""The application of a worker: from a request to its handler, and from what it returns or raises to
an answer. WebSockets come as ASGI has it.

Routing is one dictionary lookup, since the paths are few and fixed; Litestar's and Starlette's
generality costs more than the work of a read (``bench.http`` has the figures).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from frontend.gateway.door import Place
from frontend.http.access import Admit, preflight
from frontend.http.api import Api
from frontend.http.connection import PLACE, Answer, Call, Reply
from frontend.http.errors import ApiError, broken_rule
from frontend.http.models import MAX_ID, ErrorAnswer
from frontend.http.models import Answer as GoodAnswer
from frontend.http.order_entry import Outcome
from frontend.http.page_files import PageFiles
from frontend.http.request import Request
from frontend.http.routes import BY_CLIENT_ID, PREFIX, ROUTES, Content, Result, Route
from frontend.http.sockets import Socket
from ipc.decimals import NumberError, whole_number

JSON = (b"content-type", b"application/json")
SOCKET_PATHS = ("/ws", PREFIX + "/ws")
_BY_CLIENT_ID = BY_CLIENT_ID.partition("{")[0]
ORDER_PATH = PREFIX + "/orders/{order_id}"
_encode = msgspec.json.Encoder().encode

Scope = dict[str, Any]


class App:
    """Serves REST, and hands WebSockets on."""

    socket: type[Socket] = Socket

    def __init__(self, api: Api, admit: Admit, routes: Sequence[Route] = ROUTES) -> None:
        self._api = api
        self._admit = admit
        self._keyed = bool(api.keys)
        self._routes: dict[tuple[str, str], Route] = {}
        self._methods: dict[str, list[str]] = {}
        self._named: dict[str, str] = {}
        """Paths whose last part is a name, by what is before it."""
        self._within: dict[tuple[str, str], str] = {}
        """Paths whose last part but one is a name, by what is before and behind it."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._page = PageFiles()
        for route in routes:
            for path in (PREFIX + route.path, *([route.path] if route.unprefixed else [])):
                for method in (route.method, *(["HEAD"] if route.method == "GET" else [])):
                    self._routes[method, path] = route
                    self._methods.setdefault(path, ["OPTIONS"]).append(method)
                before, _, last = path.rpartition("/")
                if last[:1] == "{":
                    self._named[before] = path
                elif before[-1:] == "}":
                    self._within[before.rpartition("/")[0], last] = path

    def serve(self, call: Call, reply: Reply) -> None:
        """Answer a request, at once or later."""
        try:
            if call.problem is not None:
                raise call.problem
            order_id, name = 0, ""
            route = self._routes.get((call.method, call.path))
            if route is None:
                if call.method == "OPTIONS":
                    reply(self._options(call))
                    return
                if not call.path.startswith(PREFIX):
                    page = self._page.answer(call)
                    if page is not None:
                        self._api.meter.answered(page.status)
                        reply(page)
                        return
                route, order_id, name = self._route(call.method, call.path)
            user_id = None
            if self._keyed and not route.public:
                user_id = self._api.authenticate(call.headers)
                if call.place is not None:
                    call.place.show(user_id or "")
            request = Request(
                self._api, call.query, call.body, user_id, order_id, self, reply, name
            )
            result: Any = route.handler(request)
            if result is None:
                return
            if asyncio.iscoroutine(result):
                task = asyncio.get_running_loop().create_task(self._finish(result, reply))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                return
            answer = self._good(result)
        except Exception as error:
            answer = self._bad(error)
        reply(answer)

    def conclude(self, reply: Reply, make: Callable[[Outcome], Result], found: Outcome) -> None:
        """Answer with what is made of an outcome."""
        try:
            answer = Answer(200, _encode(make(found)))
            self._api.meter.answered(200)
        except Exception as error:
            answer = self._bad(error)
        reply(answer)

    async def _finish(self, work: Awaitable[Result], reply: Reply) -> None:
        try:
            answer = self._good(await work)
        except Exception as error:
            answer = self._bad(error)
        reply(answer)

    def _good(self, result: Result) -> Answer:
        if isinstance(result, Content):
            answer = Answer(200, result.body, result.content_type)
        else:
            answer = Answer(200, _encode(result))
        self._api.meter.answered(200)
        return answer

    def _bad(self, error: Exception) -> Answer:
        problem = self._api.problem(error)
        self._api.meter.answered(problem.status)
        body = _encode(ErrorAnswer(problem.body(), time.time_ns()))
        return Answer(problem.status, body, headers=problem.headers)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve a WebSocket, as ASGI has it; a key may come with its request, or by login later."""
        await receive()
        user_id = None
        try:
            self._admit(scope["headers"], False)
            if scope["path"] not in SOCKET_PATHS:
                raise ApiError("NOT_FOUND", "there is nothing at this path")
            if any(name in (b"x-api-key", b"authorization") for name, _ in scope["headers"]):
                user_id = self._api.authenticate(scope["headers"])
        except ApiError as error:
            await _refuse(error, send)
            return
        await send({"type": "websocket.accept"})
        self._api.status.add("sockets", 1)
        place: Place = scope["state"][PLACE]
        socket = self.socket(self._api, user_id, send, place.show)
        place.end = socket.end_stranger
        if user_id is not None:
            place.show(user_id)
        try:
            await socket.serve(receive)
        finally:
            self._api.status.add("sockets", -1)

    def _route(self, method: str, path: str) -> tuple[Route, int, str]:
        """Return the route of a path that is none by itself, the order in it, if any, or its
        name."""
        order_id, name = 0, ""
        if path not in self._methods:
            before, last = _split(path)
            path = self._named.get(before, path)
            if path == ORDER_PATH:
                order_id = _order_id(last)
            else:
                name = last
                if before not in self._named:
                    path, name = self._named_within(path)
            found = self._routes.get((method, path))
            if found is not None:
                return found, order_id, name
        allowed = self._methods_of(path)
        raise ApiError("METHOD_NOT_ALLOWED", f"{method} is not served here", allowed=allowed)

    def _named_within(self, path: str) -> tuple[str, str]:
        """Return a path as its route has it, and the name that is its last part but one; the path
        itself where it has no route."""
        before, _, last = path.rpartition("/")
        before, _, name = before.rpartition("/")
        return self._within.get((before, last), path), name

    def _options(self, call: Call) -> Answer:
        """Tell which methods a path has, as a browser asks before it lets a page use them."""
        path = call.path
        if path not in self._methods:
            known = self._named.get(_split(path)[0])
            path = self._named_within(path)[0] if known is None else known
        answer = self._good(GoodAnswer(timestamp=time.time_ns()))
        answer.headers = preflight(self._methods_of(path), bool(call.grant))
        return answer

    def _methods_of(self, path: str) -> list[str]:
        methods = self._methods.get(path)
        if methods is None:
            raise ApiError("NOT_FOUND", "there is nothing at this path")
        return sorted(methods)


async def _refuse(problem: ApiError, send: Any) -> None:
    """Answer a WebSocket's request with an error instead."""
    body = _encode(ErrorAnswer(problem.body(), time.time_ns()))
    headers = [JSON, (b"content-length", b"%d" % len(body)), *problem.headers]
    start = {"type": "websocket.http.response.start", "status": problem.status, "headers": headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": body})


def _split(path: str) -> tuple[str, str]:
    """Return a path but for its last part, and that: a client_order_id may have slashes in it."""
    found = path.find(_BY_CLIENT_ID)
    if found < 0:
        before, _, last = path.rpartition("/")
        return before, last
    end = found + len(_BY_CLIENT_ID)
    return path[: end - 1], path[end:]


def _order_id(text: str) -> int:
    try:
        return whole_number(text, 1, MAX_ID)
    except NumberError as error:
        raise broken_rule("order_id", str(error)) from None
