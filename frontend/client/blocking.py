"""The client library: ``Client`` blocks, ``AsyncClient`` (from here too) awaits.

    with Client("unix:shardbook-data/shardbook.sock", "alice") as client:
        answer = client.submit("AAPL", "buy", 100, "187.50")
        client.cancel(answer.order_id)
        for execution in client.reports(timeout_s=1):
            print(execution)

Both have the same methods. A command returns its first answer, or raises what went wrong
(``frontend.client.errors``); the fills that follow, and all that happens to the account's other
orders, come out of ``reports()``. Prices and quantities go in as text, int or Decimal and come out
as Decimal; floats are refused.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

from frontend.client.array_exchange import ArrayExchange
from frontend.client.asynchronous import AsyncClient
from frontend.client.base import BaseClient
from frontend.client.blocking_wire import Wire, deadline_in, is_over
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
from frontend.client.session import (
    RETRY_S,
    Answer,
    chunks,
    outcome,
    outcome_error,
)
from ipc.arrays import Records
from ipc.vocabulary import Side
from ipc.wire.frames import frame
from ipc.wire.messages import CLIENT_MESSAGES

__all__ = ["AsyncClient", "Client", "Order"]

T = TypeVar("T")


class Client(BaseClient):
    """A blocking connection of one user; used by one thread at a time.

    Connects when it is made, which raises ``ConnectError``; the parameters are ``BaseClient``'s.
    Interrupting a call (Ctrl-C) leaves its outcome unknown, and may end the connection.
    """

    def _begin(self) -> None:
        self._answers: list[Answer] = []
        self._wire: Wire | None = None
        self._connect(time.monotonic() + self.timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # The connection -----------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the connection has not ended as far as is known."""
        return self._wire is not None

    def close(self) -> None:
        """End the connection; the account's orders stay."""
        self._closed = True
        self._drop("closed by the client")

    def reconnect(self, timeout_s: float | None = None) -> None:
        """Connect anew, trying until it works or ``timeout_s`` is over.

        Nothing is sent again. What was reported in between comes first; where the engine does not
        have all of it any more, ``MissedReportsError`` says so to the next reader, who can ask by
        ``order`` and ``trades``. Raises ``ConnectError``.
        """
        self._drop("closed to connect anew")
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while True:
            try:
                self._connect(deadline)
            except LoginRefusedError as error:
                if error.code not in RESUME_REFUSALS:
                    raise
                self._session.positions.give_up()
            except ConnectError:
                if time.monotonic() + RETRY_S >= deadline:
                    raise
                time.sleep(RETRY_S)
            else:
                return

    # Orders -------------------------------------------------------------------------------------

    def submit(
        self,
        symbol: str,
        side: Side | str,
        quantity: Number,
        price: Number | None = None,
        **terms: Unpack[Terms],
    ) -> Execution:
        """Enter an order; see ``Order``. Returns its acceptance: fills come as reports."""
        order = Order(symbol, side, quantity, price, **terms)
        return self._ask(self._commands().new_order(order))

    def submit_oco(
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
        return self._ask(self._commands().new_oco(*request))

    def submit_bracket(
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
        return self._ask(self._commands().new_bracket(*request))

    def submit_batch(self, orders: Sequence[Order]) -> list[Execution | ClientError]:
        """Enter many orders at once; return the outcome of each in its place.

        Never raises for one order: its error stands in the list instead. Answers are awaited for
        ``timeout_s`` after each ``BATCH_REQUESTS`` orders.
        """
        return self._ask_all(self._commands().new_orders(orders))

    def submit_array(self, commands: Records) -> Records:
        """Send commands (COMMAND) and return the first answer to each in its place (REPORT).

        Prices in ticks and quantities in lots; ``instruments`` tells symbol numbers and scales.
        Account, request_id and time of a command are set on the way. An answer's ``exec_type`` is
        NEW, REPLACED, CANCELED, REJECTED with a ``reason``, or MASS_CANCELED. Fills come as
        reports: ``receive_array`` has them as an array. No Python object is made for a command or
        its answer. Raises ``InvalidOrderError`` (nothing was sent then), and
        ``IncompleteArrayError`` with the answers so far where one has not come for ``timeout_s``
        or the connection ended.
        """
        self._commands()
        exchange = self._session.begin_array(commands)
        try:
            self._exchange_array(exchange)
        except (ConnectionLostError, ProtocolError, AnswerTimeoutError) as cause:
            raise exchange.incomplete(cause) from cause
        finally:
            self._session.end_array()
        return exchange.answers

    def cancel(
        self, order_id: int = 0, symbol: str | None = None, client_order_id: int | str = 0
    ) -> Execution:
        """Cancel a resting order, by ``order_id`` or by ``symbol`` and ``client_order_id``."""
        return self._ask(self._commands().cancel(order_id, symbol, client_order_id))

    def replace(
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
        """Change a resting order; ``quantity`` is its new total, filled lots included.

        What is not given stays what it is when the engine carries this out; something must be,
        ``stop_price`` only of an order that waits for it, ``display_quantity`` only of one that has
        one, which puts it to the back. A smaller quantity at the same price
        keeps its place; anything else goes to the back of its queue and may trade. With
        ``reinsert`` the quantity is the new open quantity, and the order goes to the back whatever
        the change.
        """
        named = (order_id, symbol, client_order_id)
        further = (stop_price, display_quantity)
        return self._ask(self._commands().replace(*named, price, quantity, reinsert, *further))

    def reduce(
        self, order_id: int = 0, *, symbol: str, quantity: Number, client_order_id: int | str = 0
    ) -> Execution:
        """Take ``quantity`` off what is open, keeping the place; all of it or more cancels."""
        return self._ask(self._commands().reduce(order_id, symbol, client_order_id, quantity))

    def cancel_all(self, symbol: str | None = None) -> int:
        """Cancel every order of the account, in one symbol or in all; return how many."""
        return self._ask(self._commands().cancel_all(symbol))

    # Queries ------------------------------------------------------------------------------------

    def order(self, order_id: int) -> OrderView:
        """Return the state of an order of the account, live or ended not long ago."""
        return self._ask(self._commands().order(order_id))

    def trades(self, symbol: str | None = None, limit: int = 100) -> list[TradeView]:
        """Return the last trades of a symbol, or of all, newest first."""
        return self._ask(self._commands().trades(symbol, limit))

    def book(self, symbol: str, depth: int = 10) -> BookView:
        """Return the best ``depth`` levels of each side."""
        return self._ask(self._commands().book(symbol, depth))

    def ping(self) -> None:
        """Return when the engine has given a sign of life."""
        self._ask(self._commands().ping())

    # Reports, and messages as they are ----------------------------------------------------------

    def reports(self, timeout_s: float | None = None) -> Iterator[Execution]:
        """Yield the account's reports, oldest first, but for answers already returned.

        Ends when none has come for ``timeout_s`` (None: never; 0: take what is here). Raises
        ``MissedReportsError`` where some were dropped unread, and can then be called again.
        """
        while True:
            deadline = deadline_in(timeout_s)
            while (execution := self._session.pop_execution()) is None:
                if not self._arrived(deadline):
                    return
            yield execution

    def send(self, messages: Iterable[CLIENT_MESSAGES]) -> None:
        """Send messages of ``ipc.wire.messages`` as they are: nothing waits for their answers."""
        self.send_frames(b"".join([frame(message) for message in messages]))

    def send_frames(self, frames: bytes) -> None:
        """Send whole frames as they are, and meanwhile take in what comes."""
        self._commands()
        self._enqueue(self._session.sent(frames))
        while self._unsent:
            left, deadline = len(self._unsent), deadline_in(self.timeout_s)
            self._step(deadline)
            if len(self._unsent) == left and is_over(deadline):
                self._drop(f"the engine took nothing for {self.timeout_s} s")
                raise self._session.loss()

    def receive(self, timeout_s: float | None = None) -> list[ServerMessage]:
        """Return all messages that have come and that no call waited for; [] after ``timeout_s``.

        For pipelining: answers to what ``send`` sent are among them, in the order they came.
        """
        self._arrived(deadline_in(timeout_s))
        return self._session.pop_messages()

    def receive_array(self, timeout_s: float | None = None) -> Records:
        """Return what ``receive`` would, as REPORT records; what has no such form is left out."""
        self._arrived(deadline_in(timeout_s))
        return self._session.pop_records()

    # Moving bytes -------------------------------------------------------------------------------

    def _commands(self) -> Commands:
        """Return what writes requests, on a connection that is up as far as is known."""
        if self._wire is None:
            if self._closed or not self.auto_reconnect:
                raise self._session.loss()
            self.reconnect()
        return self._session.commands

    def _ask(self, request: Request[T]) -> T:
        (result,) = self._ask_all([request])
        if isinstance(result, ClientError):
            raise result
        return result

    def _ask_all(self, requests: Sequence[Request[T] | ClientError]) -> list[T | ClientError]:
        """Send requests and gather their outcomes; what is an error already stays as it is."""
        results: dict[int, T | ClientError] = {}
        for chunk in chunks([item for item in requests if isinstance(item, Request)]):
            self._exchange(chunk, results)
        return [
            results[item.message.request_id] if isinstance(item, Request) else item
            for item in requests
        ]

    def _exchange(
        self, requests: Sequence[Request[T]], results: dict[int, T | ClientError]
    ) -> None:
        """Send one chunk, and put the outcome of each request under its number."""
        if self._wire is None:
            results.update((r.message.request_id, self._session.loss()) for r in requests)
            return
        deadline = time.monotonic() + self.timeout_s
        missing = len(requests)
        self._answers.clear()
        try:
            self._enqueue(self._session.send(requests))
            while missing and not is_over(deadline):
                try:
                    self._step(deadline)
                except ConnectionLostError as cause:
                    if not self.auto_reconnect:
                        raise
                    missing -= self._come_back(cause, deadline, results)
                missing -= self._take_answers(results)
            if self._unsent:
                self._drop(f"the engine took nothing for {self.timeout_s} s")
                raise self._session.loss()
        except (ConnectionLostError, ProtocolError) as cause:
            for request in self._session.unanswered():
                results[request.message.request_id] = outcome_error(request, cause)
        finally:
            # Of an interrupted call too: what is answered later goes to the queue.
            late = self._session.unanswered()
        for request in late:
            results[request.message.request_id] = AnswerTimeoutError(
                f"no answer to request {request.message.request_id} in {self.timeout_s} s"
            )

    def _take_answers(self, results: dict[int, T | ClientError]) -> int:
        """Put the outcomes that have come under their numbers; return how many."""
        count = len(self._answers)
        while self._answers:
            answer = self._answers.pop(0)
            result = outcome(*answer)
            results[answer.request.message.request_id] = result
            if isinstance(result, ProtocolError):
                self._drop(str(result))
                raise result
        return count

    def _come_back(
        self, cause: ConnectionLostError, deadline: float, results: dict[int, T | ClientError]
    ) -> int:
        """Connect anew and see what was reported meanwhile; return how many requests it leaves
        without an outcome for ever. Raises ``cause`` where that cannot be had in time."""
        while not self._session.caught_up or self._wire is None:
            if is_over(deadline):
                raise cause
            try:
                if self._wire is None:
                    self.reconnect(deadline - time.monotonic())
                else:
                    self._step(deadline)
            except ConnectError as error:
                raise cause from error
            except ConnectionLostError:
                continue
        left = self._session.left_behind()
        for request in left:
            results[request.message.request_id] = outcome_error(request, cause)
        return len(left)

    def _exchange_array(self, exchange: ArrayExchange) -> None:
        """Send as much as goes and take in what comes, until every command is answered."""
        answered, deadline = 0, deadline_in(self.timeout_s)
        while not exchange.done:
            while not self._unsent and (frames := self._session.array_frames()):
                self._enqueue(frames)
            self._step(deadline)
            if exchange.answered > answered:
                answered, deadline = exchange.answered, deadline_in(self.timeout_s)
            elif is_over(deadline):
                raise AnswerTimeoutError(f"no answer came for {self.timeout_s} s")

    def _arrived(self, deadline: float | None) -> bool:
        """Wait until something is in the queue; False at the deadline."""
        while not self._session.has_messages:
            self._commands()
            try:
                self._step(deadline)
            except ConnectionLostError:
                if not self.auto_reconnect:
                    raise
            if is_over(deadline):
                return self._session.has_messages
        return True

    def _connect(self, deadline: float) -> None:
        try:
            timeout_s = max(0.001, deadline - time.monotonic())
            self._wire = Wire(self.address, timeout_s, self.tls, self._session.peer_timeout_s)
        except OSError as error:
            raise ConnectError(f"{self.address}: {error}") from error
        self._closed = False
        self._enqueue(self._session.begin())
        try:
            while not self._session.welcomed:
                self._step(deadline)
                if not self._session.welcomed and is_over(deadline):
                    raise ConnectError(f"{self.address}: no welcome in time")
        except ConnectionLostError as error:
            raise ConnectError(f"{self.address}: {error}") from error
        finally:
            if not self._session.welcomed:
                self._drop("not logged in")

    def _step(self, deadline: float | None) -> None:
        """Wait until the engine takes or sends something, or the deadline; let it.

        Answers to requests are added to ``_answers``. Raises ``ConnectionLostError``,
        ``ProtocolError`` and ``LoginRefusedError``; the connection has ended then.
        """
        wire = self._wire
        assert wire is not None
        readable = wire.wait(deadline)
        self._write()
        if not readable:
            return
        try:
            data = wire.read()
            if data:
                self._answers += self._session.feed(data)
            if data != b"":
                return
        except OSError as error:
            self._drop(f"connection lost: {error}")
            raise self._session.loss() from error
        except ClientError as error:
            self._drop(str(error))
            raise
        except BaseException:
            # What was read may be lost, and the frames behind it cannot be followed then.
            self._drop("a call was interrupted while it read")
            raise
        self._drop("connection lost: the engine closed it without a word")
        raise self._session.loss()

    @property
    def _unsent(self) -> memoryview:
        return self._wire.unsent if self._wire is not None else memoryview(b"")

    def _enqueue(self, frames: bytes) -> None:
        """Send frames, or what goes; the rest goes while answers are awaited."""
        assert self._wire is not None
        self._wire.enqueue(frames)
        self._write()

    def _write(self) -> None:
        assert self._wire is not None
        try:
            self._wire.write()
        except BaseException:
            self._drop("a call was interrupted while it sent")  # how much, is not known
            raise

    def _drop(self, detail: str) -> None:
        """Let go of the connection."""
        self._session.end(detail)
        if self._wire is not None:
            self._wire.close()
            self._wire = None
