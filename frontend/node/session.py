"""One user of a node: a connection to a frontend of the product, and what comes of his commands.

What a command came to is known once nothing more can come of it: the product's query workers are
asked for book and order, which shared memory would show a worker on the same machine.
"""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import msgspec

from frontend.http.errors import ApiError
from frontend.http.exchange import Exchange, Exchanges
from ipc.memory.status import StatusWriter
from ipc.records import shard_of
from ipc.vocabulary import CONDITIONAL, PRICELESS, Flag, Reason, TimeInForce
from ipc.wire.frames import FrameSplitter, FrameTooLongError, frame
from ipc.wire.messages import (
    CLIENT_COMMANDS,
    MAX_BODY,
    BookQuery,
    BookSnapshot,
    Closing,
    Login,
    MassCancelReport,
    Message,
    OrderQuery,
    OrderState,
    Ping,
    Reject,
    Report,
    ShardRestarted,
    Trade,
    TradeList,
    TradesQuery,
    Welcome,
    server_decoder,
)

ASK_AGAIN_S = 0.001
ASK_S = 5.0
"""How long a question may take."""
SILENT = "order entry does not answer now; try again"
MOST_TRADES = 1_000
MORE_TRADES = 64
"""Of a symbol, asked for beyond those of a command: others may have traded since."""
_PRICELESS, _CONDITIONAL = tuple(map(int, PRICELESS)), tuple(map(int, CONDITIONAL))
_GTC, _TRIGGERED = int(TimeInForce.GTC), int(Flag.TRIGGERED)

Listener = Callable[[Report], None]


class NodeSession(asyncio.Protocol):
    """One user's connection to a frontend."""

    def __init__(
        self, user_id: str, key: str, ended: Callable[["NodeSession"], None], status: StatusWriter
    ) -> None:
        self.user_id = user_id
        self.used_s = 0.0
        self.exchanges = Exchanges(status)
        self.listeners: dict[Listener, Callable[[], None]] = {}
        """Who hears of every report, and what is called where there will be no more."""
        self.seen: dict[int, int] = {}
        """By shard, the last command of which something came."""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._key, self._ended, self._status = key, ended, status
        self._frames = FrameSplitter(MAX_BODY)
        self._sent_bytes = 0
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._questions = itertools.count((1 << 62) + 1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False

    # A connection of asyncio ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Log in."""
        self._transport = cast(asyncio.Transport, transport)
        self._write(Login(self.user_id, api_key=self._key))

    def data_received(self, data: bytes) -> None:
        """Take whole frames."""
        try:
            for _, body in self._frames.feed(data):
                self._take(server_decoder.decode(body))
        except (FrameTooLongError, msgspec.MsgspecError):
            self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        """End: what was under way has no answer."""
        self._over = True
        if not self.opened.done():
            self._refuse("the frontend has closed the connection")
        self.exchanges.fail_all()
        for question in list(self._asked.values()):
            if not question.done():
                question.set_exception(ApiError("BUSY", SILENT))
        for lost in list(self.listeners.values()):
            lost()
        self._ended(self)

    def close(self) -> None:
        """End it."""
        self._transport.close()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._over or self._transport.is_closing()

    # What handlers use ---------------------------------------------------------------------------

    def send(self, command: CLIENT_COMMANDS, exchange: Exchange) -> None:
        """Send a command of the user; ``exchange`` is done with all that comes of it."""
        self.exchanges.pending[command.request_id] = exchange
        self._status.add("commands", 1)
        self._write(command)
        exchange.sent_bytes = self._sent_bytes

    async def made_trades(self, symbol: int, first_trade_id: int, count: int) -> list[Trade]:
        """Return the trades that a command made, as far as the product still shows them."""
        query = TradesQuery(symbol, 0, min(MOST_TRADES, count + MORE_TRADES))
        found = await self._ask(query)
        last = first_trade_id + count
        trades = found.trades if isinstance(found, TradeList) else []
        return [t for t in reversed(trades) if first_trade_id <= t.trade_id < last]

    async def order(self, order_id: int) -> OrderState | None:
        """Return an order of the user as the product shows it, None where it does not. Raises
        ``ApiError``."""
        found = await self._ask(OrderQuery(0, 0, order_id))
        if isinstance(found, Reject) and found.code != Reason.UNKNOWN_ORDER:
            raise ApiError("BUSY", SILENT)  # nobody was asked
        return found if isinstance(found, OrderState) else None

    # Messages ------------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        if isinstance(message, Report):
            self._take_report(message)
        elif isinstance(message, BookSnapshot | OrderState | TradeList):
            self._take_found(message.request_id, message)
        elif isinstance(message, Reject | MassCancelReport):
            if not self._take_found(message.request_id, message):
                if message.request_id in self.exchanges.pending:
                    self._see(message.account_sequence, message.sequence)
                self.exchanges.take_answer(message)
        elif isinstance(message, Welcome):
            if not self.opened.done():
                self.opened.set_result(None)
        elif isinstance(message, Closing):
            self._refuse(message.text)
        elif isinstance(message, ShardRestarted):
            shard = shard_of(message.account_sequence)
            self.exchanges.take_restart(shard, message.sent_bytes)

    def _take_found(self, request_id: int, message: Message) -> bool:
        question = self._asked.pop(request_id, None)
        if question is not None and not question.done():
            question.set_result(message)
        return question is not None

    def _take_report(self, report: Report) -> None:
        self._see(report.account_sequence, report.sequence)
        exchange = self.exchanges.take_report(report)
        if exchange is not None:
            self._settle_later(exchange)
        for listener in list(self.listeners):
            listener(report)

    def _see(self, account_sequence: int, sequence: int) -> None:
        shard = shard_of(account_sequence)
        if account_sequence and sequence > self.seen.get(shard, 0):
            self.seen[shard] = sequence

    # When a command is done ----------------------------------------------------------------------

    def _settle_later(self, exchange: Exchange) -> None:
        first = exchange.first
        assert first is not None
        waits = first.order_type in _CONDITIONAL and not first.flags & _TRIGGERED
        if not waits and (first.order_type in _PRICELESS or first.time_in_force != _GTC):
            return  # its end is reported
        task = asyncio.get_running_loop().create_task(self._settle_in_time(exchange, first))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle_in_time(self, exchange: Exchange, first: Report) -> None:
        with suppress(ApiError):  # nobody can be asked: what has come is what is told
            await self._settle(exchange, first)
        if exchange.request_id in self.exchanges.pending:
            self.exchanges.finish(exchange)

    async def _settle(self, exchange: Exchange, first: Report) -> None:
        """Finish a command once nothing more can come of it."""
        pending = self.exchanges.pending
        while exchange.request_id in pending and not self._over:
            found = await self._ask(BookQuery(first.symbol, 0, 1))
            if not isinstance(found, BookSnapshot):
                break  # nobody can be asked: what has come is what is told
            if found.sequence >= exchange.sequence:  # all of its trades are shown by now
                order = await self._ask(OrderQuery(first.symbol, 0, first.order_id))
                filled = order.cum_qty if isinstance(order, OrderState) else 0
                if exchange.last is not None and filled <= exchange.last.cum_qty:
                    break
            await asyncio.sleep(ASK_AGAIN_S)

    async def _ask(self, query: "BookQuery | OrderQuery | TradesQuery") -> Message:
        """Return the answer to a question. Raises ``ApiError`` where none comes."""
        query.request_id = next(self._questions)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[query.request_id] = answer
        self._write(query)
        try:
            async with asyncio.timeout(ASK_S):
                return await answer
        except TimeoutError:
            raise ApiError("BUSY", SILENT) from None
        finally:
            self._asked.pop(query.request_id, None)

    def ping(self) -> None:
        """Keep the connection."""
        self._write(Ping(0))

    def _write(self, message: Message) -> None:
        data = frame(message)
        self._sent_bytes += len(data)
        self._transport.write(data)

    def _refuse(self, text: str) -> None:
        if not self.opened.done():
            rule = text.removeprefix("user_id: ")
            self.opened.set_exception(ApiError("BUSY", text, field="user_id", rule=rule))
