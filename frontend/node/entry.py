"""Order entry of a node: its users' sessions at the frontends of the product.

A user's key goes on to the frontend with his first order. Nothing here needs Redis.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Callable, Mapping, Sequence

from frontend.client.session import COUNTER_BITS, MAX_COUNTER, SESSION_BITS
from frontend.http.errors import ApiError
from frontend.http.exchange import Exchange
from frontend.http.order_entry import SWEEP_S, Outcome
from frontend.node.session import NodeSession
from ipc.links.sockets import Address
from ipc.memory.status import StatusWriter
from ipc.wire.messages import (
    CLIENT_COMMANDS,
    Trade,
)

OPEN_S = 5.0
PING_S = 5.0
UNUSED_S = 30.0
"""The session of a user who sends nothing ends."""
MOST_SESSIONS = 1_000
"""Users of a node at once: order entry bounds the connections of an address."""
MADE_S = 1.0
"""How long the trades of a command are kept for its answer."""


class NodeEntry:
    """A node's way to the matchers, as ``frontend.http.order_entry.OrderEntry`` is a worker's."""

    def __init__(
        self,
        frontends: Sequence[Address],
        context: ssl.SSLContext | None,
        shards: Mapping[int, int],
        key_of: Callable[[str], str],
        learn: Callable[[str], None],
        status: StatusWriter,
        answer_timeout_s: float,
        max_pending: int,
    ) -> None:
        self._learn = learn  # who is here is known here at once
        self._frontends, self._context = list(frontends), context
        self._shards, self._key_of, self._status = shards, key_of, status
        self._timeout_s, self._max_pending = answer_timeout_s, max_pending
        self._loop = asyncio.get_running_loop()
        # Of all sessions of an account none has request ids on this number but this node's.
        self._base = random.getrandbits(SESSION_BITS - 1) << COUNTER_BITS
        self._counter = 0
        self._sessions: dict[str, NodeSession] = {}
        self._opening: dict[str, asyncio.Future[NodeSession]] = {}
        self.seen: dict[int, int] = {}
        """By shard, the last command of which something came to any user here."""
        self.made: dict[int, list[Trade]] = {}
        """Trades of commands that are being answered, by the first one's id."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping = self._loop.create_task(self._sweep())

    async def close(self) -> None:
        """Disconnect."""
        self._sweeping.cancel()
        for session in list(self._sessions.values()):
            session.close()
        await asyncio.sleep(0)

    def seen_by(self, user_id: str | None) -> dict[int, int]:
        """Return by shard the last command of which something came to a user; to any, where none
        is named or he has no session: one that has ended may have told him."""
        session = None if user_id is None else self._sessions.get(user_id)
        return self.seen if session is None else session.seen

    def open_session_of(self, user_id: str) -> None:
        """Return None: whoever enters an order here waits for it, while what it needs is held."""

    async def session_of(self, user_id: str) -> NodeSession:
        """Return the session of a user, opening it where needed. Raises ``ApiError``."""
        session = self._sessions.get(user_id)
        if session is None or session.is_over:
            opening = self._opening.get(user_id)
            if opening is None:
                self._make_place()
                opening = asyncio.ensure_future(self._open(user_id))
                self._opening[user_id] = opening
                opening.add_done_callback(lambda _: self._opening.pop(user_id, None))
            session = await asyncio.shield(opening)
        session.used_s = self._loop.time()
        return session

    def _make_place(self) -> None:
        """End a session that is not used where there are many. Raises ``ApiError``."""
        if len(self._sessions) + len(self._opening) < MOST_SESSIONS:
            return
        unused = [s for s in self._sessions.values() if not (s.exchanges.pending or s.listeners)]
        if not unused:
            raise ApiError("BUSY", "too many users have orders under way; try again")
        min(unused, key=lambda session: session.used_s).close()

    async def _open(self, user_id: str) -> NodeSession:
        frontends = random.sample(self._frontends, len(self._frontends))
        for address in frontends:
            session = NodeSession(user_id, self._key_of(user_id), self._ended, self._status)
            try:
                async with asyncio.timeout(OPEN_S):
                    await self._connect(session, address)
                    await session.opened
            except (OSError, TimeoutError):
                continue
            self._sessions[user_id] = session
            session.seen.update(self.seen)  # one before may have told him
            self._learn(user_id)
            session.used_s = self._loop.time()
            return session
        raise ApiError("SHARD_DOWN", "order entry cannot be reached now; try again")

    async def _connect(self, session: NodeSession, address: Address) -> None:
        if address.path:
            await self._loop.create_unix_connection(lambda: session, address.path)
            return
        host = address.host if self._context is not None else None
        await self._loop.create_connection(
            lambda: session, address.host, address.port, ssl=self._context, server_hostname=host
        )

    def _ended(self, session: NodeSession) -> None:
        self._see(session)
        if self._sessions.get(session.user_id) is session:
            del self._sessions[session.user_id]

    def check_room(self, session: NodeSession, commands: int = 1) -> None:
        """Raise ``ApiError`` where a user has too many commands under way for so many more."""
        if len(session.exchanges.pending) + commands > self._max_pending:
            raise ApiError(
                "TOO_MANY_REQUESTS",
                f"user_id: at most {self._max_pending} orders may be unanswered at once",
                field="user_id",
                rule="must wait for answers",
            )

    def send(
        self, session: NodeSession, command: CLIENT_COMMANDS, done: Callable[[Outcome], None]
    ) -> None:
        """Send a command of a user, under a request_id that it gets here.

        ``done`` gets all that came of it, or the error, once.
        """
        self._counter = self._counter % MAX_COUNTER + 1
        command.request_id = self._base | self._counter
        deadline = self._loop.time() + self._timeout_s
        sent_to = self._shards.get(command.symbol)

        def finished(found: Outcome) -> None:
            self._see(session)
            if isinstance(found, Exchange) and found.trade_count:
                task = self._loop.create_task(self._with_trades(session, found, done))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                done(found)

        session.send(command, Exchange(command.request_id, deadline, finished, sent_to))

    async def _with_trades(
        self, session: NodeSession, found: Exchange, done: Callable[[Outcome], None]
    ) -> None:
        """Look up the trades that a command made: its reports do not name the other side."""
        assert found.last is not None
        asked = found.last.symbol, found.first_trade_id, found.trade_count
        with contextlib.suppress(ApiError, TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                self.made[found.first_trade_id] = await session.made_trades(*asked)
        # Whoever waits for the answer is woken after this.
        self._loop.call_later(MADE_S, self.made.pop, found.first_trade_id, None)
        done(found)

    def ask(self, session: NodeSession, command: CLIENT_COMMANDS) -> "asyncio.Future[Outcome]":
        """Send a command of a user; what it resolves to is all that came of it, or the error."""
        answer: asyncio.Future[Outcome] = self._loop.create_future()

        def done(found: Outcome) -> None:
            if not answer.done():
                answer.set_result(found)

        self.send(session, command, done)
        return answer

    async def not_taking(self, timeout_s: float) -> dict[int, str]:
        """Return 0 and why, where no frontend can be reached within a time; else nothing."""
        for address in self._frontends:
            try:
                async with asyncio.timeout(timeout_s):
                    if address.path:
                        _, writer = await asyncio.open_unix_connection(address.path)
                    else:
                        _, writer = await asyncio.open_connection(address.host, address.port)
                writer.close()
            except (OSError, TimeoutError):
                continue
            return {}
        return {0: "no frontend can be reached"}

    def _see(self, session: NodeSession) -> None:
        for shard, sequence in session.seen.items():
            if sequence > self.seen.get(shard, 0):
                self.seen[shard] = sequence

    async def _sweep(self) -> None:
        pinged_s = self._loop.time()
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = self._loop.time()
            ping = now_s > pinged_s + PING_S
            pinged_s = now_s if ping else pinged_s
            for session in list(self._sessions.values()):
                session.exchanges.fail_overdue(now_s)
                unused = not (session.exchanges.pending or session.listeners)
                if unused and session.used_s <= now_s - UNUSED_S:
                    session.close()
                elif ping:
                    session.ping()
