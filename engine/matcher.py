"""A matcher: the process that owns one shard's books.

Each round takes whatever has arrived, matches it as one batch, publishes what came of it (ids kept,
trades to the ring, orders to the table, levels to the board) and only then answers, so that a
read after the answer sees the write. Time enters here, once a round, and never goes back.
"""

import socket
import time
from collections.abc import Sequence

import numpy as np
from msgspec import DecodeError, ValidationError

from engine.account_sequences import AccountSequences
from engine.book import BookLimits, Counters, Records
from engine.books import make_book
from engine.plan import Plan
from engine.process import Wakeup, ring_doorbell
from engine.sequences import SequenceFile
from engine.summary import Summary
from ipc.backend import Backend, Link
from ipc.board import BoardWriter
from ipc.codec import FRONTEND_STREAM, command_row
from ipc.explain import explain
from ipc.frames import frame
from ipc.messages import MassCancel, OpenStream, StreamOpened, backend_decoder
from ipc.records import COMMAND, REPORT, TRADE
from ipc.ring import REPORTS, RingWriter
from ipc.status import StatusWriter
from ipc.table import OrderTableWriter
from ipc.vocabulary import Side

MAX_UNSENT_BYTES = 64 << 20
"""Reports that wait for one frontend before its commands have to wait too."""
RING_FULL_WAIT_S = 0.0005
RING_EVERY_NS = 200_000
"""Waking the persister costs more than matching an order; it looks by itself every 50 ms."""


class Matcher:
    """One shard: its books, and everything that it alone writes."""

    def __init__(self, plan: Plan, shard: int, status: StatusWriter) -> None:
        engine = plan.config.engine
        self._status = status
        self._sequences = SequenceFile(plan.sequences_path(shard))
        limits = [
            BookLimits(i.number, i.min_price, i.max_price, i.max_resting_orders)
            for i in plan.instruments_of(shard)
        ]
        start = self._sequences.load()
        self.book = make_book(engine.book, shard, limits, engine.recent_orders, start)
        self._account_sequences = AccountSequences(shard)
        self._ring = RingWriter(plan.ring_path(shard))
        self._report_ring = RingWriter(plan.report_ring_path(shard), REPORTS)
        self._table = OrderTableWriter(plan.table_path(shard))
        self._board = BoardWriter(plan.board_path(shard))
        self._commands = np.zeros(engine.batch_commands, COMMAND)
        self._reports = np.zeros(max(2, 4 * engine.batch_commands), REPORT)
        self._trades = np.zeros(2 * engine.batch_commands, TRADE)
        self._summary = Summary([limit.symbol for limit in limits])
        self._doorbell = plan.doorbell_path
        self._bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._bell.setblocking(False)
        self._clock_ns = 0
        self._rung_ns = 0

    def handle(
        self, arrived: list[tuple[Link, bytes]], links: list[Link], gone: Sequence[Link] = ()
    ) -> None:
        """Carry out all whole frames that have arrived, and queue the answers on ``links``.

        ``gone``: links that have ended since, and cancel the orders of who asked for that.
        """
        self._clock_ns = max(self._clock_ns, time.time_ns())
        count = 0
        for link, data in arrived:
            link.decoder.feed(data)
            while True:
                count, odd = link.decoder.read(self._commands, count, self._clock_ns)
                if odd is not None:
                    count = self._control(link, links, count, *odd)
                elif count == len(self._commands):
                    self._match(self._commands, links)
                    count = 0
                else:
                    break
        for link in gone:
            count = self._cancel_all(link.cancel_on_disconnect, links, count)
        if count:
            self._match(self._commands[:count], links)

    def _control(self, link: Link, links: list[Link], count: int, stream: int, body: bytes) -> int:
        """Take a frame that is no command: an account is opened, or nothing that there is.

        Takes and returns how many commands wait in the batch.
        """
        try:
            message = backend_decoder.decode(body)
        except (ValidationError, DecodeError, UnicodeDecodeError) as error:
            answer = explain(body, error, self._clock_ns)
            self._status.add_reject(answer.code)
            link.send(frame(answer, stream | FRONTEND_STREAM))
            return count
        assert isinstance(message, OpenStream), message
        account = message.account
        if account not in link.accounts:
            link.open_stream(message.stream, account)
            opened = StreamOpened(self._account_sequences.last(account))
            link.send(frame(opened, message.stream | FRONTEND_STREAM))
        if message.cancel_on_disconnect:
            link.cancel_on_disconnect.add(account)
        elif account in link.cancel_on_disconnect:
            link.cancel_on_disconnect.remove(account)
            return self._cancel_all({account}, links, count)
        return count

    def _cancel_all(self, accounts: set[int], links: list[Link], count: int) -> int:
        """Add to the batch a mass cancel for each account that no link speaks for any more.

        A command like any other, under no request_id. Returns how many wait in the batch then.
        """
        for account in sorted(accounts):
            if any(account in link.cancel_on_disconnect for link in links):
                continue
            if count == len(self._commands):
                self._match(self._commands, links)
                count = 0
            self._commands[count] = command_row(MassCancel(0, 0), account, self._clock_ns)
            self._status.add("canceled_on_disconnect", 1)
            count += 1
        return count

    def _match(self, commands: Records, links: list[Link]) -> None:
        """Match one batch to its end, publishing whenever a buffer is full."""
        self._status.add("batches", 1)
        done, before = 0, self.book.counters().sequence
        while done < len(commands):
            room = self._ring.room()
            progress = self.book.process(commands[done:], self._reports, self._trades[:room])
            done += progress.commands
            reports = self._reports[: progress.reports]
            first_report = self._account_sequences.number(reports)
            self._publish(reports, self._trades[: progress.trades])
            self._report_ring.publish_new(reports, first_report)
            self._table.complete(before + done)
            for link in links:
                link.send(link.encoder.encode(reports))
            if not progress.commands and not progress.reports:
                self._wait_for_room()

    def _publish(self, reports: Records, trades: Records) -> None:
        """Show readers what a batch has changed, before any answer leaves."""
        counters = self.book.counters()
        self._sequences.store(counters)
        if len(trades):
            self._ring.publish(trades)
            self._wake_persister()
        self._table.apply(reports)
        symbols, rejects = self._summary.of(reports)
        for symbol in symbols:
            self._publish_depth(symbol, counters.sequence)
        self._count(counters, reports, trades, rejects)

    def _wake_persister(self) -> None:
        """Ring the doorbell if the persister sleeps, but not again while it is waking up."""
        if self._clock_ns - self._rung_ns > RING_EVERY_NS and self._ring.wakeups():
            self._rung_ns = self._clock_ns
            ring_doorbell(self._bell, self._doorbell)

    def _publish_depth(self, symbol: int, sequence: int) -> None:
        board = self._board
        board.open(symbol)
        bids = self.book.depth(symbol, Side.BUY, board.bids(symbol))
        asks = self.book.depth(symbol, Side.SELL, board.asks(symbol))
        board.close(symbol, sequence, self._clock_ns, bids, asks)

    def _count(
        self, counters: Counters, reports: Records, trades: Records, rejects: dict[int, int]
    ) -> None:
        status = self._status
        status.set("commands", counters.sequence)
        status.set("order_sequence", counters.order_sequence)
        status.set("trade_sequence", counters.trade_sequence)
        status.set("resting_orders", self._table.live_orders)
        status.add("reports", len(reports))
        status.add("trades", len(trades))
        for reason, count in rejects.items():
            status.add_reject(reason, count)

    def _wait_for_room(self) -> None:
        """The ring is full of trades that are not logged yet: wait for the persister."""
        self._status.add("ring_full_waits", 1)
        ring_doorbell(self._bell, self._doorbell)
        time.sleep(RING_FULL_WAIT_S)

    def close(self) -> None:
        """Release what is mapped."""
        self._sequences.close()
        self._bell.close()


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Serve shard ``index`` until told to stop and every frontend has gone."""
    matcher = Matcher(plan, index, status)
    backend = Backend(plan.matcher_address(index), wakeup, MAX_UNSENT_BYTES)
    timeout_s = 0 if plan.config.engine.wait == "spin" else None
    status.ready()
    while not wakeup.stopping or backend.links:
        arrived = backend.poll(timeout_s)
        if wakeup.stopping:
            backend.stop_listening()
        gone = backend.take_gone()
        if arrived or gone:
            matcher.handle(arrived, backend.links, gone)
        backend.flush()
    backend.close()
    matcher.close()
