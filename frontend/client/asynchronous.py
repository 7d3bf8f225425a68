"""The client library for asyncio: ``AsyncClient``, the methods of ``Client`` as coroutines.

    async with AsyncClient("tcp:127.0.0.1:9100", "alice") as client:
        answer = await client.submit("AAPL", "buy", 100, "187.50")
        async for execution in client.reports(timeout_s=1):
            print(execution)

Any number of tasks may use one client at once; what they send is pipelined.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from frontend.client.array_exchange import ArrayExchange
from frontend.client.asynchronous_wire import AsyncWire
from frontend.client.base import BaseClient
from frontend.client.commands import Commands, ListTerms, Order, Request, ServerMessage, Terms
from frontend.client.errors import (
    AnswerTimeoutError,
    ClientError,
    ConnectError,
    ConnectionLostError,
    LoginRefusedError,
    ProtocolError,
)
from frontend.client.listings import Number
from frontend.client.positions import RESUME_REFUSALS
from frontend.client.results import BookView, Execution, OrderView, TradeView
from frontend.client.session import RETRY_S, chunks, outcome, outcome_error
from ipc.arrays import Records
from ipc.vocabulary import Side
from ipc.wire.client_codec import warm, warmed
from ipc.wire.frames import frame
from ipc.wire.messages import CLIENT_MESSAGES

T = TypeVar("T")


class AsyncClient(BaseClient):
    """A connection of one user on an event loop.

    Connects on ``connect()`` or on entering ``async with``. The parameters are ``BaseClient``'s.
    Messages are taken in as they come, whether they are read or not: ``max_reports`` bounds them.
    Without ``auto_reconnect`` an ended connection is told to the calls that wait, or else to the
    next reader of reports; why the engine closed it may be lost where a call is just sending.
    """

    def _begin(self) -> None:
        self._coming_back: asyncio.Task[None] | None = None
        self._link: AsyncWire | None = None
        self._loss_untold = False
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._connecting = asyncio.Lock()
        self._array = asyncio.Lock()
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # The connection -----------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the connection has not ended as far as is known."""
        return self._link is not None

    async def connect(self) -> None:
        """Connect and log in, once. Raises ``ConnectError``."""
        async with self._connecting:
            if self._link is None:
                await self._connect(self.timeout_s)

    async def close(self) -> None:
        """End the connection; the account's orders stay."""
        self._closed = True
        if self._coming_back is not None:
            self._coming_back.cancel()
            await asyncio.wait([self._coming_back])
        link = self._link
        if link is not None:
            self._end(link, "closed by the client")
            await link.close(self.timeout_s)

    async def reconnect(self, timeout_s: float | None = None) -> None:
        """Connect anew, trying until it works or ``timeout_s`` is over; see ``Client``."""
        async with self._connecting:
            link = self._link
            if link is not None:
                self._end(link, "closed to connect anew")
                link.abort()
            await self._retry(self.timeout_s if timeout_s is None else timeout_s)

    # Orders -------------------------------------------------------------------------------------

    async def submit(
        self,
        symbol: str,
        side: Side | str,
        quantity: Number,
        price: Number | None = None,
        **terms: Unpack[Terms],
    ) -> Execution:
        """Enter an order; see ``Order``. Returns its acceptance: fills come as reports."""
        order = Order(symbol, side, quantity, price, **terms)
        return await self._ask((await self._commands()).new_order(order))

    async def submit_oco(
        self,
        symbol: str,
        side: Side | str,
        quantity: Number,
        price: Number,
        stop_price: Number,
        **terms: Unpack[ListTerms],
    ) -> Execution:
        """Enter two orders that sell, or buy, the same: a limit order at ``price``, and one that
        waits for ``stop_price``, with ``stop_limit_price`` as its limit where that is given. What
        the one trades is taken off the other; once it triggers or ends, the other goes. Returns the
        acceptance of the first; the second has the ids behind its.
        """
        request = (symbol, side, quantity, price, stop_price, terms)
        return await self._ask((await self._commands()).new_oco(*request))

    async def submit_bracket(
        self,
        symbol: str,
        side: Side | str,
        quantity: Number,
        price: Number | None = None,
        *,
        take_price: Number | None = None,
        stop_price: Number | None = None,
        post_only: bool = False,
        **terms: Unpack[ListTerms],
    ) -> Execution:
        """Enter an order, a market order without ``price``, and one or two that wait on the other
        side until it is filled: to take the profit, and to stop the loss. From then on those two
        are as ``submit_oco`` makes them. Returns the acceptance of the first; the others have the
        ids behind its.
        """
        exits = (take_price, stop_price, post_only, terms)
        request = (symbol, side, quantity, price, *exits)
        return await self._ask((await self._commands()).new_bracket(*request))

    async def submit_batch(self, orders: Sequence[Order]) -> list[Execution | ClientError]:
        """Enter many orders at once; return the outcome of each in its place; see ``Client``."""
        return await self._ask_all((await self._commands()).new_orders(orders))

    async def submit_array(self, commands: Records) -> Records:
        """Send commands and return the first answer to each in its place; see ``Client``.

        Of several tasks' arrays one is sent after the other.
        """
        async with self._array:
            await self._commands()
            await _warm()
            exchange = self._session.begin_array(commands)
            try:
                await self._exchange_array(exchange)
            except (ConnectionLostError, AnswerTimeoutError) as cause:
                raise exchange.incomplete(cause) from cause
            finally:
                self._session.end_array()
        return exchange.answers

    async def cancel(
        self, order_id: int = 0, symbol: str | None = None, client_order_id: int | str = 0
    ) -> Execution:
        """Cancel a resting order, by ``order_id`` or by ``symbol`` and ``client_order_id``."""
        return await self._ask((await self._commands()).cancel(order_id, symbol, client_order_id))

    async def replace(
        self,
        order_id: int = 0,
        *,
        symbol: str,
        price: Number | None = None,
        quantity: Number | None = None,
        client_order_id: int | str = 0,
        reinsert: bool = False,
        stop_price: Number | None = None,
        display_quantity: Number | None = None,
    ) -> Execution:
        """Change a resting order; see ``Client``."""
        commands = await self._commands()
        named = (order_id, symbol, client_order_id)
        further = (stop_price, display_quantity)
        return await self._ask(commands.replace(*named, price, quantity, reinsert, *further))

    async def reduce(
        self, order_id: int = 0, *, symbol: str, quantity: Number, client_order_id: int | str = 0
    ) -> Execution:
        """Take ``quantity`` off what is open, keeping the place; all of it or more cancels."""
        commands = await self._commands()
        return await self._ask(commands.reduce(order_id, symbol, client_order_id, quantity))

    async def cancel_all(self, symbol: str | None = None) -> int:
        """Cancel every order of the account, in one symbol or in all; return how many."""
        return await self._ask((await self._commands()).cancel_all(symbol))

    # Queries ------------------------------------------------------------------------------------

    async def order(self, order_id: int) -> OrderView:
        """Return the state of an order of the account, live or ended not long ago."""
        return await self._ask((await self._commands()).order(order_id))

    async def trades(self, symbol: str | None = None, limit: int = 100) -> list[TradeView]:
        """Return the last trades of a symbol, or of all, newest first."""
        return await self._ask((await self._commands()).trades(symbol, limit))

    async def book(self, symbol: str, depth: int = 10) -> BookView:
        """Return the best ``depth`` levels of each side."""
        return await self._ask((await self._commands()).book(symbol, depth))

    async def ping(self) -> None:
        """Return when the engine has given a sign of life."""
        await self._ask((await self._commands()).ping())

    # Reports, and messages as they are ----------------------------------------------------------

    async def reports(self, timeout_s: float | None = None) -> AsyncIterator[Execution]:
        """Yield the account's reports, oldest first, but for answers already returned.

        Ends when none has come for ``timeout_s`` (None: never; 0: take what is here). Raises
        ``MissedReportsError`` where some were dropped unread, and can then be called again.
        """
        while True:
            deadline = _deadline(timeout_s)
            while (execution := self._session.pop_execution()) is None:
                if not await self._arrived(deadline):
                    return
            yield execution

    async def send(self, messages: Iterable[CLIENT_MESSAGES]) -> None:
        """Send messages of ``ipc.wire.messages`` as they are: nothing waits for their answers."""
        await self.send_frames(b"".join([frame(message) for message in messages]))

    async def send_frames(self, frames: bytes) -> None:
        """Send whole frames as they are, waiting while the engine does not take them."""
        await self._commands()
        await self._write(self._session.sent(frames))

    async def receive(self, timeout_s: float | None = None) -> list[ServerMessage]:
        """Return all messages that have come and that no call waited for; [] after ``timeout_s``.

        For pipelining: answers to what ``send`` sent are among them, in the order they came.
        """
        await self._arrived(_deadline(timeout_s))
        return self._session.pop_messages()

    async def receive_array(self, timeout_s: float | None = None) -> Records:
        """Return what ``receive`` would, as REPORT records; see ``Client``."""
        await _warm()
        await self._arrived(_deadline(timeout_s))
        return self._session.pop_records()

    # Requests and answers -----------------------------------------------------------------------

    async def _commands(self) -> Commands:
        """Return what writes requests, on a connection that is up as far as is known."""
        if self._link is None:
            if self._closed or not self.auto_reconnect:
                raise self._session.loss()
            async with self._connecting:
                if self._link is None:
                    await self._retry(self.timeout_s)
        return self._session.commands

    async def _ask(self, request: Request[T]) -> T:
        (result,) = await self._ask_all([request])
        if isinstance(result, ClientError):
            raise result
        return result

    async def _ask_all(self, requests: Sequence[Request[T] | ClientError]) -> list[T | ClientError]:
        """Send requests and gather their outcomes; what is an error already stays as it is."""
        results: dict[int, T | ClientError] = {}
        for chunk in chunks([item for item in requests if isinstance(item, Request)]):
            await self._exchange(chunk, results)
        return [
            results[item.message.request_id] if isinstance(item, Request) else item
            for item in requests
        ]

    async def _exchange(
        self, requests: Sequence[Request[T]], results: dict[int, T | ClientError]
    ) -> None:
        """Send one chunk, and put the outcome of each request under its number."""
        loop = asyncio.get_running_loop()
        futures: dict[int, asyncio.Future[T | ClientError]] = {
            request.message.request_id: loop.create_future() for request in requests
        }
        try:
            async with asyncio.timeout(self.timeout_s):
                while self._session.room() < len(requests):
                    self._news.clear()
                    await self._news.wait()
                await self._commands()
                self._waiting.update(futures)
                try:
                    await self._write(self._session.send(requests))
                except ConnectionLostError:
                    if self._coming_back is None:
                        raise
                for future in futures.values():
                    await future
        except ConnectionLostError as cause:
            results.update((number, cause) for number in futures)
        except TimeoutError:
            pass
        finally:
            for request in requests:
                number = request.message.request_id
                self._waiting.pop(number, None)
                self._session.give_up(request)
                future = futures[number]
                if future.done() and not future.cancelled():
                    results[number] = future.result()
                elif self._coming_back is not None:
                    results[number] = outcome_error(request, self._session.loss())
                elif number not in results:
                    results[number] = AnswerTimeoutError(
                        f"no answer to request {number} in {self.timeout_s} s"
                    )

    async def _exchange_array(self, exchange: ArrayExchange) -> None:
        """Send as much as goes while answers come, until every command is answered."""
        link = self._link
        answered, deadline = 0, _deadline(self.timeout_s)
        while not exchange.done:
            self._news.clear()
            if frames := self._session.array_frames():
                await self._write(frames)
                continue
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                raise AnswerTimeoutError(f"no answer came for {self.timeout_s} s") from None
            if self._link is not link and not exchange.done:
                self._loss_untold = False
                raise self._session.loss()
            if exchange.answered > answered:
                answered, deadline = exchange.answered, _deadline(self.timeout_s)

    async def _arrived(self, deadline: float | None) -> bool:
        """Wait until something is in the queue; False at the deadline."""
        while not self._session.has_messages:
            if self._loss_untold:
                self._loss_untold = False
                raise self._session.loss()
            await self._commands()
            if self._session.has_messages:
                break
            self._news.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                return self._session.has_messages
        return True

    # Moving bytes -------------------------------------------------------------------------------

    async def _write(self, frames: bytes) -> None:
        link = self._link
        if link is None:
            raise self._session.loss()
        link.write(frames)
        try:
            async with asyncio.timeout(self.timeout_s):
                await link.writable.wait()
        except TimeoutError:
            self._end(link, f"the engine took nothing for {self.timeout_s} s")
            link.abort()
        if not link.active:
            raise self._session.loss()

    async def _retry(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            try:
                await self._connect(deadline - loop.time())
            except LoginRefusedError as error:
                if error.code not in RESUME_REFUSALS:
                    raise
                self._session.positions.give_up()
            except ConnectError:
                if loop.time() + RETRY_S >= deadline:
                    raise
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _connect(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        link = AsyncWire(
            self._session.begin(), self._received, self._end, self._session.peer_timeout_s
        )
        path, host, port = self.address
        try:
            async with asyncio.timeout(max(0.001, timeout_s)):
                if path:
                    await loop.create_unix_connection(lambda: link, path)
                else:
                    await loop.create_connection(lambda: link, host, port, ssl=self.tls)
                await link.welcome
            self._closed = False
            if link.active:
                self._link = link
        except TimeoutError:
            raise ConnectError(f"{self.address}: no welcome in time") from None
        except (OSError, ConnectionLostError) as error:
            raise ConnectError(f"{self.address}: {error}") from error
        finally:
            if link.active and self._link is not link:
                link.welcome.cancel()
                self._end(link, "not logged in")
                link.abort()
            self._loss_untold = False

    def _received(self, link: AsyncWire, data: bytes) -> None:
        """Take in what came on the connection in use."""
        try:
            for answer in self._session.feed(data):
                result = outcome(*answer)
                self._tell(answer.request, result)
                if isinstance(result, ProtocolError):
                    raise result
        except ClientError as error:
            self._end(link, str(error), error)
            link.abort()
        if self._session.welcomed and not link.welcome.done():
            link.welcome.set_result(None)
        self._news.set()

    def _end(self, link: AsyncWire, detail: str, cause: ClientError | None = None) -> None:
        """Tell everybody who waits that the connection has ended, and how."""
        if not link.active:
            return
        link.active = False
        self._link = None
        self._session.end(detail)
        cause = cause or self._session.loss()
        if not link.welcome.done():
            link.welcome.set_exception(cause)
        if self.auto_reconnect and not self._closed and isinstance(cause, ConnectionLostError):
            if self._waiting and self._coming_back is None:
                self._coming_back = asyncio.create_task(self._come_back(cause))
        else:
            waiting = self._session.unanswered()
            self._loss_untold = not waiting and not self._closed
            for request in waiting:
                self._tell(request, outcome_error(request, cause))
        link.writable.set()
        self._news.set()

    async def _come_back(self, cause: ConnectionLostError) -> None:
        """Connect anew and see what was reported meanwhile; tell those whom it does not answer."""
        left: list[Request[Any]] | None = None
        try:
            async with asyncio.timeout(self.timeout_s):
                while not self._session.caught_up or self._link is None:
                    self._news.clear()
                    if self._link is None:
                        await self._commands()
                    else:
                        await self._news.wait()
            left = self._session.left_behind()
        except (ClientError, TimeoutError):
            pass
        finally:
            self._coming_back = None
            for request in self._session.unanswered() if left is None else left:
                self._tell(request, outcome_error(request, cause))

    def _tell(self, request: Request[Any], result: object) -> None:
        future = self._waiting.pop(request.message.request_id, None)
        if future is not None and not future.done():
            future.set_result(result)


async def _warm() -> None:
    """Have ready what reads and writes arrays; where that compiles, the loop goes on."""
    if not warmed():
        await asyncio.to_thread(warm)


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
