"""A query worker: answers reads from shared memory, without asking a matcher.

It maps the rings, tables and boards read-only, so any number of workers can run, and none of them
can slow or harm matching. Trades that the rings have given up it reads from the log, in a thread.
Clients reach it through the frontend, with the queries of ``ipc.wire.messages``; an account sees
its own orders only.
"""

import logging
import time
from typing import Any

import numpy as np
from msgspec import DecodeError, Struct, ValidationError

from engine.plan import Plan
from engine.process import Wakeup
from frontend.past_trades import PastTrades
from frontend.reading import ReadError, patiently
from frontend.reads.log_searches import LogSearch, LogSearches
from ipc.arrays import Records
from ipc.links.backend import Backend, Link
from ipc.memory.depth_board import BoardReader
from ipc.memory.order_table_reader import OrderTableReader
from ipc.memory.ring import RingReader
from ipc.memory.status import StatusWriter
from ipc.records import COMMAND, shard_of
from ipc.vocabulary import Reason
from ipc.wire.frames import frame
from ipc.wire.messages import (
    BookQuery,
    BookSnapshot,
    Level,
    OpenStream,
    OrderQuery,
    OrderState,
    Trade,
    TradeList,
    TradesQuery,
    backend_decoder,
)
from ipc.wire.rejects import Request, explain, reject, request_of

logger = logging.getLogger("shardbook.query")

MAX_UNSENT_BYTES = 64 << 20


class QueryWorker:
    """Read-only views of every shard, and the answers made from them."""

    def __init__(self, plan: Plan, status: StatusWriter) -> None:
        self._status = status
        self._max_trades = plan.config.query.max_trades
        self._no_commands = np.zeros(1, COMMAND)
        self._instruments = {i.number: i for i in plan.instruments}
        self._rings = {shard: RingReader(plan.ring_path(shard)) for shard in plan.shards}
        self._tables = {shard: OrderTableReader(plan.table_path(shard)) for shard in plan.shards}
        self._boards = {shard: BoardReader(plan.board_path(shard)) for shard in plan.shards}
        self._past = PastTrades(self._rings, plan.known_instruments, plan.log_dir)
        self.searches = LogSearches(self._past)

    def handle(self, link: Link) -> None:
        """Answer every whole frame that has arrived."""
        while True:
            count, odd = link.decoder.read(self._no_commands, 0, 0)
            assert not count, "a command came to a query worker"
            if odd is None:
                return
            stream, body = odd
            try:
                message = backend_decoder.decode(body)
            except (ValidationError, DecodeError, UnicodeDecodeError) as error:
                link.send(frame(explain(body, error, time.time_ns()), stream))
                continue
            if isinstance(message, OpenStream):
                link.open_stream(message.stream, message.account)
                continue
            try:
                answer = self._answer(message, link, stream)
            except ReadError:  # its matcher stopped in the midst of a change
                answer = reject(request_of(body), Reason.BUSY, time.time_ns())
            if answer is not None:
                link.send(frame(answer, stream))

    def answer_searches(self, links: list[Link]) -> None:
        """Send what searches of the log have found to those of ``links`` that asked."""
        for search in self.searches.done():
            if search.problem:
                logger.warning("trade log: %s", search.problem)
            if search.link in links:
                answer = _trade_list(search.query, search.trades)
                search.link.send(frame(answer, search.stream))

    def _answer(self, message: Struct, link: Link, stream: int) -> Struct | None:
        """Return the answer, None where it comes later."""
        self._status.add("requests", 1)
        if isinstance(message, OrderQuery):
            return self._order(message, link.decoder.account_of(stream))
        if isinstance(message, TradesQuery):
            return self._trades(message, link, stream)
        assert isinstance(message, BookQuery), message
        return self._book(message)

    def _order(self, query: OrderQuery, account: int) -> Struct:
        shard = shard_of(query.order_id)
        found = None
        if shard in self._tables:
            found = patiently(lambda: self._tables[shard].get(query.order_id))
        if found is None or int(found["account"]) != account:
            request = Request(6, query.symbol, query.request_id, query.order_id)
            return reject(request, Reason.UNKNOWN_ORDER, time.time_ns())
        order = found
        named = patiently(lambda: self._tables[shard].client_order_id(order))
        fields: dict[str, Any] = {n: int(found[n]) for n in OrderState.__struct_fields__[1:]}
        fields["client_order_id"] = named
        return OrderState(query.request_id, **fields)

    def _trades(self, query: TradesQuery, link: Link, stream: int) -> Struct | None:
        limit = min(query.limit, self._max_trades)
        instrument = self._instruments.get(query.symbol)
        if query.symbol and instrument is None:
            return self._unknown_symbol(7, query.symbol, query.request_id)
        trades = self._past.in_rings(instrument, limit)
        if trades is None and self.searches.ask(LogSearch(link, stream, query, instrument, limit)):
            return None
        return _trade_list(query, trades)

    def _book(self, query: BookQuery) -> Struct:
        instrument = self._instruments.get(query.symbol)
        if instrument is None:
            return self._unknown_symbol(8, query.symbol, query.request_id)
        board = self._boards[instrument.shard]
        depth = patiently(lambda: board.read(query.symbol))
        bids = [Level(*level) for level in depth.bids[: query.depth].tolist()]
        asks = [Level(*level) for level in depth.asks[: query.depth].tolist()]
        return BookSnapshot(query.request_id, query.symbol, depth.sequence, bids, asks)

    def _unknown_symbol(self, command_type: int, symbol: int, request_id: int) -> Struct:
        request = Request(command_type, symbol, request_id)
        return reject(request, Reason.UNKNOWN_SYMBOL, time.time_ns())

    def count(self) -> None:
        """Show how reading went."""
        rings = self._rings.values()
        self._status.set("torn_copies", sum(ring.torn_copies for ring in rings))
        self._status.set("lost_trades", sum(ring.lost_records for ring in rings))


def _trade_list(query: TradesQuery, trades: Records | None) -> Struct:
    """Return the answer to a query: trades newest first, or where there are none that none could
    be looked for now."""
    if trades is None:
        request = Request(7, query.symbol, query.request_id)
        return reject(request, Reason.BUSY, time.time_ns())
    columns = [trades[name].tolist() for name in Trade.__struct_fields__]
    return TradeList(query.request_id, [Trade(*row) for row in zip(*columns, strict=True)])


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Answer queries until told to stop and every frontend has gone."""
    worker = QueryWorker(plan, status)
    backend = Backend(plan.query_address(index), wakeup, MAX_UNSENT_BYTES)
    wakeup.watch(worker.searches.fileno())

    def finish_searches() -> None:
        if wakeup.stopping:
            worker.searches.finish()
            worker.answer_searches(backend.links)

    backend.before_finish = finish_searches
    status.ready()
    while not wakeup.stopping or backend.links:
        arrived = backend.poll(None)
        if wakeup.stopping:
            backend.stop_listening()
        backend.take_gone()
        worker.answer_searches(backend.links)
        for link in arrived:
            worker.handle(link)
        worker.count()
        backend.flush()
    backend.close()
    worker.searches.close()
