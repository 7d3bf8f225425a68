"""A query worker: answers reads from shared memory, without asking a matcher.

It maps the rings, tables and boards read-only, so any number of workers can run, and none of them
can slow or harm matching. Clients reach it through the frontend, with the queries of
``ipc.messages``; an account sees its own orders only.
"""

import time

import numpy as np
from msgspec import DecodeError, Struct, ValidationError

from engine.plan import Plan
from engine.process import Wakeup
from frontend.reading import ReadError, last_of_symbol, patiently
from ipc.backend import Backend, Link
from ipc.board import BoardReader
from ipc.explain import Request, explain, reject, request_of
from ipc.frames import frame
from ipc.messages import (
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
from ipc.records import COMMAND, shard_of
from ipc.ring import RingReader
from ipc.status import StatusWriter
from ipc.table import OrderTableReader
from ipc.vocabulary import Reason

MAX_UNSENT_BYTES = 64 << 20


class QueryWorker:
    """Read-only views of every shard, and the answers made from them."""

    def __init__(self, plan: Plan, status: StatusWriter) -> None:
        self._status = status
        self._max_trades = plan.config.query.max_trades
        self._no_commands = np.zeros(1, COMMAND)
        self._shard_of_symbol = {i.number: i.shard for i in plan.instruments}
        self._rings = [RingReader(plan.ring_path(shard)) for shard in plan.shards]
        self._tables = [OrderTableReader(plan.table_path(shard)) for shard in plan.shards]
        self._boards = [BoardReader(plan.board_path(shard)) for shard in plan.shards]

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
                answer = self._answer(message, link.decoder.account_of(stream))
            except ReadError:  # its matcher stopped in the midst of a change
                answer = reject(request_of(body), Reason.BUSY, time.time_ns())
            link.send(frame(answer, stream))

    def _answer(self, message: Struct, account: int) -> Struct:
        self._status.add("requests", 1)
        if isinstance(message, OrderQuery):
            return self._order(message, account)
        if isinstance(message, TradesQuery):
            return self._trades(message)
        assert isinstance(message, BookQuery), message
        return self._book(message)

    def _order(self, query: OrderQuery, account: int) -> Struct:
        shard = shard_of(query.order_id)
        found = None
        if shard < len(self._tables):
            found = patiently(lambda: self._tables[shard].get(query.order_id))
        if found is None or int(found["account"]) != account:
            request = Request(6, query.symbol, query.request_id, query.order_id)
            return reject(request, Reason.UNKNOWN_ORDER, time.time_ns())
        names = OrderState.__struct_fields__[1:]
        return OrderState(query.request_id, *(int(found[name]) for name in names))

    def _trades(self, query: TradesQuery) -> Struct:
        limit = min(query.limit, self._max_trades)
        if query.symbol:
            shard = self._shard_of_symbol.get(query.symbol)
            if shard is None:
                return self._unknown_symbol(7, query.symbol, query.request_id)
            trades = last_of_symbol(self._rings[shard], query.symbol, limit)
        else:
            every = np.concatenate([ring.last(limit) for ring in self._rings])
            trades = every[np.argsort(every["timestamp_ns"], kind="stable")][-limit:]
        names = Trade.__struct_fields__
        columns = [trades[name][::-1].tolist() for name in names]
        return TradeList(query.request_id, [Trade(*row) for row in zip(*columns, strict=True)])

    def _book(self, query: BookQuery) -> Struct:
        shard = self._shard_of_symbol.get(query.symbol)
        if shard is None:
            return self._unknown_symbol(8, query.symbol, query.request_id)
        board = self._boards[shard]
        depth = patiently(lambda: board.read(query.symbol))
        bids = [Level(*level) for level in depth.bids[: query.depth].tolist()]
        asks = [Level(*level) for level in depth.asks[: query.depth].tolist()]
        return BookSnapshot(query.request_id, query.symbol, depth.sequence, bids, asks)

    def _unknown_symbol(self, command_type: int, symbol: int, request_id: int) -> Struct:
        request = Request(command_type, symbol, request_id)
        return reject(request, Reason.UNKNOWN_SYMBOL, time.time_ns())

    def count(self) -> None:
        """Show how reading went."""
        self._status.set("torn_copies", sum(ring.torn_copies for ring in self._rings))
        self._status.set("lost_trades", sum(ring.lost_records for ring in self._rings))


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Answer queries until told to stop and every frontend has gone."""
    worker = QueryWorker(plan, status)
    backend = Backend(plan.query_address(index), wakeup, MAX_UNSENT_BYTES)
    status.ready()
    while not wakeup.stopping or backend.links:
        arrived = backend.poll(None)
        if wakeup.stopping:
            backend.stop_listening()
        backend.take_gone()
        for link in arrived:
            worker.handle(link)
        worker.count()
        backend.flush()
    backend.close()
