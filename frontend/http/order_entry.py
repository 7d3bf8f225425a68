"""Order entry of an HTTP worker: its users' sessions in a gateway of its own.

A worker is a frontend, then, and its users' orders go the way of any client's. Every command ends:
with its answer, with OUTCOME_UNKNOWN where no answer came in time, or at once with an error where
it cannot be sent.
"""

import asyncio
from collections.abc import Callable, Mapping

from frontend.client.session import COUNTER_BITS, MAX_COUNTER, SESSION_BITS
from frontend.gateway.gateway import Gateway
from frontend.gateway.linked_gateway import close_links
from frontend.http.errors import ApiError
from frontend.http.exchange import Exchange
from frontend.http.user_session import UserSession
from ipc.memory.order_table_reader import OrderTableReader
from ipc.vocabulary import Reason
from ipc.wire.messages import CLIENT_COMMANDS, Login

SWEEP_S = 0.25
"""How often overdue commands, and users who send nothing, are looked for."""
UNUSED_S = 1.0
"""The session of a user who sends nothing ends: all reports of the account, also those of orders
that come by other ways, would come here. Opening it again is one round trip to the matchers."""

Outcome = Exchange | ApiError


class OrderEntry:
    """One worker's way to the matchers. Use ``session_of``, then ``send`` or ``ask``."""

    def __init__(
        self,
        gateway: Gateway,
        tables: Mapping[int, OrderTableReader],
        shards: Mapping[int, int],
        answer_timeout_s: float,
        max_pending: int,
    ) -> None:
        self._gateway = gateway
        self._tables = tables
        self._shards = shards
        self._timeout_s = answer_timeout_s
        self._max_pending = max_pending
        self._loop = asyncio.get_running_loop()
        # Of all sessions of an account none has request ids on this number but this worker's.
        self._base = (gateway.sessions.next_number() & ((1 << SESSION_BITS) - 1)) << COUNTER_BITS
        self._counter = 0
        self._sessions: dict[str, UserSession] = {}
        self._opening: dict[str, asyncio.Future[None]] = {}
        self._sweeping = self._loop.create_task(self._sweep())

    async def close(self) -> None:
        """Disconnect, once the matchers have answered what they have."""
        self._sweeping.cancel()
        await close_links(self._gateway)

    def open_session_of(self, user_id: str) -> UserSession | None:
        """Return the session of a user, None where it is not open yet."""
        session = self._sessions.get(user_id)
        if session is not None:
            session.used_s = self._loop.time()
        return session

    async def session_of(self, user_id: str) -> UserSession:
        """Return the session of a user, opening it where needed. Raises ``ApiError``."""
        while (session := self.open_session_of(user_id)) is None:
            opening = self._opening.get(user_id)
            if opening is None:
                if not self._gateway.sessions.has_place(user_id):
                    self._end_unused(0.0)
                opening = self._opening[user_id] = self._loop.create_future()
                session = UserSession(
                    self._gateway, user_id, self._tables, self._opened, self._ended
                )
                self._gateway.sessions.log_in(session, Login(user_id))
            await asyncio.shield(opening)
        return session

    def _next_id(self) -> int:
        self._counter = self._counter % MAX_COUNTER + 1
        return self._base | self._counter

    def check_room(self, session: UserSession, commands: int = 1) -> None:
        """Raise ``ApiError`` where a user has too many commands under way for so many more."""
        if len(session.exchanges.pending) + commands > self._max_pending:
            raise ApiError(
                "TOO_MANY_REQUESTS",
                f"user_id: at most {self._max_pending} orders may be unanswered at once",
                field="user_id",
                rule="must wait for answers",
            )

    def send(
        self, session: UserSession, command: CLIENT_COMMANDS, done: Callable[[Outcome], None]
    ) -> None:
        """Send a command of a user, under a request_id that it gets here.

        ``done`` gets all that came of it, or the error, once.
        """
        command.request_id = self._next_id()
        deadline = self._loop.time() + self._timeout_s
        sent_to = self._shards.get(command.symbol)
        session.send(command, Exchange(command.request_id, deadline, done, sent_to))

    def ask(self, session: UserSession, command: CLIENT_COMMANDS) -> "asyncio.Future[Outcome]":
        """Send a command of a user; what it resolves to is all that came of it, or the error."""
        answer: asyncio.Future[Outcome] = self._loop.create_future()

        def done(found: Outcome) -> None:
            if not answer.done():
                answer.set_result(found)

        self.send(session, command, done)
        return answer

    async def not_taking(self, timeout_s: float) -> dict[int, str]:
        """Return the shards that would not take an order now, and why.

        Asks each matcher, behind all that it has to do, and waits so long for it.
        """
        found = {}
        tests = {}
        for shard, link in self._gateway.router.matchers.items():
            refusal = link.refusal()
            if not link.connected or refusal is not None:
                found[shard] = (refusal or Reason.SHARD_DOWN).name
            else:
                tests[shard] = link.test()
        if tests:
            await asyncio.wait(tests.values(), timeout=timeout_s)
        for shard, test in tests.items():
            if not test.done():
                found[shard] = f"did not answer within {timeout_s:g} s"
            elif not test.result():
                found[shard] = Reason.SHARD_DOWN.name
        return found

    def _opened(self, session: UserSession) -> None:
        """A session is open, or could not be opened."""
        opening = self._opening.pop(session.user_id)
        if session.session:
            session.used_s = self._loop.time()
            self._sessions[session.user_id] = session
            opening.set_result(None)
        else:
            opening.set_exception(
                ApiError(
                    "BUSY",
                    session.refusal,
                    field="user_id",
                    rule=session.refusal.removeprefix("user_id: "),
                )
            )
            opening.exception()  # nobody may wait for it any more

    def _ended(self, session: UserSession) -> None:
        self._sessions.pop(session.user_id, None)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = self._loop.time()
            for session in list(self._sessions.values()):
                session.exchanges.fail_overdue(now_s)
            self._end_unused(UNUSED_S)

    def _end_unused(self, after_s: float) -> None:
        """End the sessions of users who have sent nothing for so long, and wait for nothing."""
        now_s = self._loop.time()
        for session in list(self._sessions.values()):
            if (
                not (session.exchanges.pending or session.listeners)
                and session.used_s <= now_s - after_s
            ):
                del self._sessions[session.user_id]
                self._gateway.sessions.leave(session)
