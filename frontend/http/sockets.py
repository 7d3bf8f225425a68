"""One WebSocket: its subscriptions, its order entry, and the bounded queue of what it is sent.

A client that does not keep up is nobody's burden. What can be made good by a newer state (depth,
ticker) is left out while a quarter of ``max_unread_messages`` waits, and a fresh state is sent once
the client has caught up. What cannot (trades, orders) waits up to the whole bound; then the client
is cut off with a reason.

What a client asks is taken in the order in which it was sent: an operation has entered, its command
is on its way to the matcher, before the next one is looked at. Answers come as they come, so many
are under way. After a few operations others have their turn.
"""

import asyncio
import contextlib
import functools
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET
from uvicorn.protocols.utils import ClientDisconnected

from frontend.http import orders
from frontend.http.api import Api
from frontend.http.errors import ApiError, broken_rule, of_validation
from frontend.http.feeds import CHANNELS, Feed
from frontend.http.market import Market
from frontend.http.order_entry import Outcome
from frontend.http.order_lists import begin_list
from frontend.http.order_models import Change
from frontend.http.order_views import order_event
from frontend.http.request import Request
from frontend.http.socket_models import Done, Failed, Op, Tag
from frontend.http.user_session import Listener, UserSession
from ipc.wire.messages import Report

MAX_MESSAGE_BYTES = 65_536
MAX_PENDING_OPS = 1_024
"""Operations of a connection that may be unanswered; further ones are refused."""
OPS_A_TURN = 16
"""Operations of a connection that are taken before others have their turn."""
MAX_OPS_BEFORE_LOGIN = 16
"""Where keys are configured: operations of a connection that has not said whose it is."""
SLOW_CLOSE_S = 1.0
GOING_AWAY, POLICY, TRY_AGAIN = 1001, 1008, 1013

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Op)
_tag_decoder = msgspec.json.Decoder(Tag)
_CHANNELS = "must be one of " + ", ".join([*CHANNELS, "orders"])
_OPS = "must be one of subscribe, unsubscribe, login, order, order_list, replace, cancel, "
_OPS += "cancel_all, ping"


class Socket:
    """A connected client."""

    def __init__(
        self, api: Api, user_id: str | None, send: Any, logged_in: Callable[[str], None]
    ) -> None:
        self._api = api
        self._user_id = user_id
        self._send = send
        self._logged_in = logged_in
        self._queue: deque[str] = deque()
        self._news = asyncio.Event()
        self._feeds: dict[tuple[str, str], Feed] = {}
        self._stale: dict[Feed, None] = {}
        self._users: dict[str, tuple[UserSession, Listener]] = {}
        self._most = api.config.max_unread_messages
        self._under_way = 0
        self._strange_ops = 0
        self._cut = asyncio.Event()
        self._closing: tuple[int, str] | None = None

    # What feeds tell ----------------------------------------------------------------------------

    def push(self, key: Feed, message: str) -> None:
        """Queue a message of a feed, or leave it out until the client has caught up."""
        if key.conflated:
            if key in self._stale:
                return
            if len(self._queue) >= self._most // 4:
                self._stale[key] = None
                self._api.status.add("conflated", 1)
                return
        self._put(message)

    def cut_off(self, code: str, text: str) -> None:
        """End the connection, for a reason."""
        status = POLICY if code in ("SLOW_READER", "LOGIN_TIMEOUT") else TRY_AGAIN
        self._close(status, f"{code}: {text}")

    def end_stranger(self) -> bool:
        """End the connection of who has not logged in in time."""
        self.cut_off("LOGIN_TIMEOUT", "a key must be sent in time")
        return True

    def _put(self, message: str) -> None:
        if self._closing is not None:
            return
        if len(self._queue) >= self._most:
            self._api.status.add("closed_slow_reader", 1)
            self.cut_off("SLOW_READER", "messages were not read in time")
            return
        self._queue.append(message)
        self._news.set()

    def _close(self, code: int, reason: str) -> None:
        if self._closing is None:
            self._closing = code, reason
            self._queue.clear()
            self._news.set()
            self._cut.set()

    # The connection -----------------------------------------------------------------------------

    async def serve(self, receive: Any) -> None:
        """Serve the client until it leaves or is cut off."""
        parts = (self._sender(), self._receiver(receive), self._cut.wait())
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for found in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(found, Exception) and not isinstance(found, ClientDisconnected):
                    self._api.problem(found)
            for feed in self._feeds.values():
                self._api.feeds.unsubscribe(feed, self)
            for session, listener in self._users.values():
                session.listeners.pop(listener, None)
            self._api.status.add("subscriptions", -len(self._feeds) - len(self._users))
        closing, self._closing = self._closing, (GOING_AWAY, "")  # no answer is queued any more
        if closing is not None:
            code, reason = closing
            with contextlib.suppress(Exception):
                async with asyncio.timeout(SLOW_CLOSE_S):
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def _sender(self) -> None:
        """Send what is queued; a heartbeat where there was nothing to send for a while."""
        heartbeat_s = self._api.config.heartbeat_s
        while self._closing is None:
            while self._queue:
                message = self._queue.popleft()
                await self._send({"type": "websocket.send", "text": message})
                self._api.status.add("messages_out", 1)
            self._catch_up()
            if self._queue:
                continue
            self._news.clear()
            try:
                async with asyncio.timeout(heartbeat_s):
                    await self._news.wait()
            except TimeoutError:
                self._put(f'{{"type":"heartbeat","timestamp":{time.time_ns()}}}')

    def _catch_up(self) -> None:
        """Send the present state of what was left out."""
        for feed in list(self._stale):
            if self in feed.subscribers:
                self._api.feeds.look(feed)  # what that tells the others is not for who missed some
                first = feed.first()
                if first is not None:
                    self._put(first)
        self._stale.clear()

    async def _receiver(self, receive: Any) -> None:
        taken = 0
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            data = message.get("text")
            await self._take(message["bytes"] if data is None else data)
            taken += 1
            if taken % OPS_A_TURN == 0:
                await asyncio.sleep(0)

    # What the client asks -----------------------------------------------------------------------

    async def _take(self, data: bytes | str) -> None:
        """Take an operation: when this returns it has entered, or is answered."""
        try:
            op = _decoder.decode(data)
        except msgspec.ValidationError as error:
            self._fail(_tag_of(data), of_validation(error))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._fail(None, ApiError("INVALID_REQUEST", f"a message must be JSON: {error}"))
        else:
            try:
                await self._carry_out(op)
            except Exception as error:
                self._fail(op.id, self._api.problem(error))
        if self._api.keys and self._user_id is None:
            self._strange_ops += 1
            if self._strange_ops >= MAX_OPS_BEFORE_LOGIN:
                self._close(POLICY, "UNAUTHORIZED: a connection must log in")

    async def _carry_out(self, op: Op) -> None:
        if self._under_way >= MAX_PENDING_OPS:
            raise ApiError("TOO_MANY_REQUESTS", "too many requests are unanswered")
        handler = _HANDLERS.get(op.op)
        if handler is None:
            raise broken_rule("op", _OPS, "INVALID_REQUEST")
        if self._api.keys and self._user_id is None and op.op not in ("login", "ping"):
            raise ApiError("UNAUTHORIZED", "key: must be sent with the login op first")
        await handler(self, op)

    async def _enter(self, op: Op, entering: orders.Entering) -> None:
        """Send a command; its answer comes when it comes."""
        session = await entering.session()
        self._under_way += 1
        done = functools.partial(self._conclude, op, entering)
        self._api.entry.send(session, entering.command, done)

    def _conclude(self, op: Op, entering: orders.Entering, found: Outcome) -> None:
        """Answer with what became of a command."""
        self._under_way -= 1
        try:
            self._done("result", op, result=entering.result(found))
        except Exception as error:
            self._fail(op.id, self._api.problem(error))

    def _fail(self, tag: Any, error: ApiError) -> None:
        failed = Failed(type="error", id=tag, error=error.body(), timestamp=time.time_ns())
        self._put(_encode(failed).decode())

    def _done(self, kind: str, op: Op, **more: Any) -> None:
        done = Done(type=kind, id=op.id, timestamp=time.time_ns(), **more)
        self._put(_encode(done).decode())

    async def _subscribe(self, op: Op) -> None:
        if len(self._feeds) + len(self._users) >= self._api.config.max_subscriptions:
            most = self._api.config.max_subscriptions
            raise ApiError("TOO_MANY_REQUESTS", f"at most {most} subscriptions")
        if op.channel == "orders":
            await self._subscribe_orders(op)
            return
        market = self._market(op)
        key = str(op.channel), market.symbol
        if key in self._feeds:
            raise broken_rule("channel", "must not be subscribed to already", "INVALID_REQUEST")
        self._done("subscribed", op, channel=key[0], symbol=key[1])
        self._feeds[key] = self._api.feeds.subscribe(key[0], market, self)
        self._api.status.add("subscriptions", 1)

    async def _subscribe_orders(self, op: Op) -> None:
        user = self._user(op)
        session = await self._api.entry.session_of(user)
        if user in self._users:
            raise broken_rule("channel", "must not be subscribed to already", "INVALID_REQUEST")
        listener = functools.partial(self._order_report, user)
        self._users[user] = session, listener
        self._done("subscribed", op, channel="orders", user_id=user)
        session.listeners[listener] = self._orders_lost
        self._api.status.add("subscriptions", 1)

    async def _unsubscribe(self, op: Op) -> None:
        if op.channel == "orders":
            user = self._user(op)
            found = self._users.pop(user, None)
            if found is None:
                raise broken_rule("channel", "must be subscribed to", "INVALID_REQUEST")
            session, listener = found
            session.listeners.pop(listener, None)
            self._done("unsubscribed", op, channel="orders", user_id=user)
        else:
            key = str(op.channel), self._market(op).symbol
            feed = self._feeds.pop(key, None)
            if feed is None:
                raise broken_rule("channel", "must be subscribed to", "INVALID_REQUEST")
            self._api.feeds.unsubscribe(feed, self)
            self._stale.pop(feed, None)
            self._done("unsubscribed", op, channel=key[0], symbol=key[1])
        self._api.status.add("subscriptions", -1)

    async def _login(self, op: Op) -> None:
        if not self._api.keys:
            raise ApiError("INVALID_REQUEST", "no keys are configured here: no login is needed")
        if self._user_id is not None:
            raise ApiError("INVALID_REQUEST", "a connection logs in once")
        self._user_id = self._api.user_of_key((op.key or "").encode())
        self._logged_in(self._user_id)
        self._done("logged_in", op, user_id=self._user_id)

    async def _order(self, op: Op) -> None:
        if not bytes(op.order):
            raise broken_rule("order", "must be given", "INVALID_REQUEST")
        await self._enter(op, orders.begin_order(self._request(bytes(op.order))))

    async def _order_list(self, op: Op) -> None:
        if not bytes(op.order):
            raise broken_rule("order", "must be given", "INVALID_REQUEST")
        await self._enter(op, begin_list(self._request(bytes(op.order))))

    async def _replace(self, op: Op) -> None:
        change = {name: getattr(op, name) for name in Change.__struct_fields__}
        body = _encode({name: value for name, value in change.items() if value is not UNSET})
        request = self._request(body, self._order_id(op))
        await self._enter(op, orders.begin_replace(request, op.user_id))

    async def _cancel(self, op: Op) -> None:
        request = self._request(b"", self._order_id(op))
        await self._enter(op, orders.begin_cancel(request, op.user_id))

    async def _cancel_all(self, op: Op) -> None:
        entering = orders.begin_cancel_all(self._request(b""), op.user_id, op.symbol)
        await self._enter(op, entering)

    async def _ping(self, op: Op) -> None:
        self._done("pong", op)

    def _request(self, body: bytes, order_id: int = 0) -> Request:
        return Request(self._api, b"", body, self._user_id, order_id)

    def _order_id(self, op: Op) -> int:
        if op.order_id is None:
            raise broken_rule("order_id", "must be given", "INVALID_REQUEST")
        return op.order_id

    def _user(self, op: Op) -> str:
        return self._request(b"").user(op.user_id)

    def _market(self, op: Op) -> Market:
        if op.channel not in CHANNELS:
            raise broken_rule("channel", _CHANNELS, "INVALID_REQUEST")
        return self._api.state.markets.named(op.symbol)

    # The user's orders --------------------------------------------------------------------------

    def _order_report(self, user_id: str, report: Report) -> None:
        self._put(_encode(order_event(self._api.state, report, user_id)).decode())

    def _orders_lost(self) -> None:
        self.cut_off("ORDERS_INTERRUPTED", "reports may be missing: connect anew and query")


def _tag_of(data: bytes | str) -> Any:
    """Return the id of a message that is wrong elsewhere, where it can be read."""
    try:
        return _tag_decoder.decode(data).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


_HANDLERS = {
    "subscribe": Socket._subscribe,
    "unsubscribe": Socket._unsubscribe,
    "login": Socket._login,
    "order": Socket._order,
    "order_list": Socket._order_list,
    "replace": Socket._replace,
    "cancel": Socket._cancel,
    "cancel_all": Socket._cancel_all,
    "ping": Socket._ping,
}
