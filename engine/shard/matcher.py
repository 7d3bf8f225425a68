"""A matcher: the process that owns one shard's books.

Each round takes whatever has arrived, keeps it (``engine.shard.durability``), matches it as one
batch, publishes what came of it (trades to the ring, orders to the table, levels to the board) and
only then answers, so that a read after the answer sees the write. Time enters here, once a round,
and never goes back, not even over restarts.
"""

import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from msgspec import DecodeError, ValidationError

from engine.books.contract import Records
from engine.journal.format import JournalError
from engine.plan import Plan
from engine.printable import printable
from engine.process import HALTED, Wakeup, ring_doorbell
from engine.roles import MATCHER
from engine.sections import EngineSection
from engine.shard.account_sequences import AccountSequences
from engine.shard.durability import Durability
from engine.shard.effects import Made, Sinks, show_depth
from engine.shard.pipeline import Pipeline, PipelineParts
from engine.shard.pipeline_choice import make_pipeline
from engine.shard.prevention_defaults import PreventionDefaults
from engine.shard.recovery import Recovered
from engine.shard.report_shares import ReportShares
from engine.storage import Storage
from ipc.links.backend import Backend, Link
from ipc.memory.depth_board import BoardWriter
from ipc.memory.order_table import OrderTableWriter
from ipc.memory.ring import REPORTS, RingWriter
from ipc.memory.status import StatusWriter, counter_place
from ipc.records import COMMAND, REPORT, TRADE
from ipc.vocabulary import CommandType, Flag
from ipc.wire.frames import frame
from ipc.wire.matcher_codec import FRONTEND_STREAM, command_row
from ipc.wire.messages import (
    CloseStream,
    Heartbeat,
    MassCancel,
    OpenStream,
    StreamOpened,
    TestRequest,
    backend_decoder,
)
from ipc.wire.rejects import explain

MAX_UNSENT_BYTES = 64 << 20
"""Reports that wait for one frontend before its commands have to wait too."""
RING_FULL_WAIT_S = 0.0005
BATCH_BETWEEN = 512
"""Commands at most between two parts of a mass cancel: fewer than the orders it looks at in each,
so that nobody holds it up by entering orders before it."""
RING_EVERY_NS = 2_000_000
"""Waking a reader of trades costs more than matching an order, and takes it a while."""
_HEARTBEAT = frame(Heartbeat(), FRONTEND_STREAM)
_SLEEPS, _CUT_OFF = (counter_place(MATCHER, name) for name in ("sleeps", "links_cut_off"))


class Matcher:
    """One shard: its books, and everything that it alone writes."""

    def __init__(
        self,
        plan: Plan,
        shard: int,
        status: StatusWriter,
        durability: Durability,
        clock: Callable[[], int] = time.time_ns,
        wait: Callable[[], None] = lambda: time.sleep(RING_FULL_WAIT_S),
        pipelines: Callable[[PipelineParts], Pipeline] = make_pipeline,
    ) -> None:
        """Bring the shard back as it was kept. ``wait`` is called while the ring is full.

        Raises ``JournalError``.
        """
        engine = plan.config.engine
        self._status = status
        self._durability = durability
        self._clock, self.wait = clock, wait
        self._defaults = PreventionDefaults(plan.config.keys)
        self._open_rings(plan, shard)
        # One with a text for its id is two: see ``ipc.client_ids``.
        self._commands = np.zeros(max(2, engine.batch_commands), COMMAND)
        self._continue = np.zeros(1, COMMAND)
        self._continue["command_type"] = CommandType.MASS_CANCEL
        self._continue["flags"] = Flag.CONTINUE
        self.flush: Callable[[], None] = lambda: None
        """Called where answers are queued and more is to be matched: sent now, they are still near
        the processor."""
        self._tests: deque[tuple[int, Link]] = deque()
        """Who waits for a Heartbeat, each behind a command."""
        recovered = self._recover(plan.table_path(shard).with_suffix(".new"), engine)
        self.book = recovered.shard.book
        self._account_sequences = recovered.shard.account_sequences
        if self._report_ring.published > self._account_sequences.reports:
            self._report_ring.begin_after(self._account_sequences.reports)  # of a life not kept
            self._kept_ring.begin_after(self._kept_ring.published)
        self._report_ring.publish_new(np.zeros(0, REPORT), self._account_sequences.reports + 1)
        self._clock_ns = recovered.end.timestamp_ns
        self._taken = self._continued_at = self.book.counters().sequence
        self.sweeping = self.book.sweeping
        """Whether a mass cancel is under way."""
        self.expiry_ns = self.book.next_expiry_ns
        """When the next order expires; 0: none does."""
        self.table = OrderTableWriter(plan.table_path(shard))
        orders = recovered.shard.table.contents()
        self.table.adopt(orders, recovered.shard.table.texts_of(orders))
        recovered.shard.close()
        reports = np.zeros(max(2, 4 * engine.batch_commands), REPORT)
        self._shares = self._shares_of(engine, self._account_sequences, len(reports))
        parts = PipelineParts(
            self.book,
            reports,
            np.zeros(2 * engine.batch_commands, TRADE),
            self._ring,
            self._report_ring,
            self.table,
            self._account_sequences,
            BoardWriter(plan.board_path(shard)),
            status,
            self._shares,
        )
        self._round = pipelines(parts)
        self._round.show(0, [], self._clock_ns)
        nothing = Made(parts.trades[:0], reports[:0], timestamp_ns=self._clock_ns)
        nothing.symbols = parts.board.symbols
        show_depth(parts.sinks(), nothing)

    def _open_rings(self, plan: Plan, shard: int) -> None:
        """Open what trades and reports are published in, and what wakes who reads them."""
        self._ring = RingWriter(plan.ring_path(shard))
        self._report_ring = RingWriter(plan.report_ring_path(shard), REPORTS)
        self._kept_ring = RingWriter(plan.kept_reports_path(shard), REPORTS)
        self._bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._bell.setblocking(False)
        readers = range(self._ring.gating_readers)
        self._doorbells = [plan.doorbell_path(reader) for reader in readers]
        self._rung_ns = [0 for _ in readers]
        self._unrung = False

    def _recover(self, table_path: Path, engine: EngineSection) -> Recovered:
        """Replay what was kept, and show readers what a former life of this matcher had not."""

        def show_left(sinks: Sinks, most_reports: int) -> Sinks:
            return sinks._replace(
                trade_ring=self._ring,
                report_ring=self._report_ring,
                shares=self._shares_of(engine, sinks.numbers, most_reports),
                wait_for_room=self._wait_for_room,
            )

        published = self._ring.published
        return self._durability.recover(published, table_path, show_left, self._clock)

    def _shares_of(
        self, engine: EngineSection, numbers: AccountSequences, most_reports: int
    ) -> ReportShares:
        """Return what keeps accounts' reports, for so many at a time."""
        rings = (self._report_ring, self._kept_ring)
        return ReportShares(*rings, numbers, engine.account_reports, most_reports)

    def handle(self, arrived: list[Link], links: list[Link], gone: Sequence[Link] = ()) -> None:
        """Carry out all whole frames that have ``arrived``, and queue the answers on ``links``.

        ``gone``: links that have ended since, and cancel the orders of who asked for that. Raises
        ``JournalError``.
        """
        self.tick()
        count = 0
        room = self._room()
        for link in arrived:
            while True:
                count, odd = link.decoder.read(room, count, self._clock_ns)
                if odd is not None:
                    count = self._control(link, links, count, *odd)
                if count + 1 >= len(room):
                    self.take(self._commands[:count], links)
                    if self.sweeping:
                        self.go_on(links)
                    self.flush()
                    count, room = 0, self._room()
                elif odd is None:
                    break
        for link in gone:
            count = self._cancel_all(link.cancel_on_disconnect, links, count)
        if count:
            self.take(self._commands[:count], links)

    def go_on(self, links: list[Link]) -> None:
        """Take a mass cancel further that is under way, or end orders whose time is over: a command
        like any other, between those of others. Raises ``JournalError``."""
        if self.must_go_on or self._expires_now():
            self._continue["timestamp_ns"] = self.tick()
            self.take(self._continue, links)
            self._continued_at = self._taken

    def _expires_now(self) -> bool:
        """Tell whether orders are to end that no command under way ends."""
        due = self.expiry_ns and self.expiry_ns <= self.tick()
        return bool(due) and self.book.counters().sequence >= self._continued_at

    def idle_s(self) -> float | None:
        """Return for how many seconds nothing expires; None: for ever, or it is being ended."""
        if not self.expiry_ns or self.book.counters().sequence < self._continued_at:
            return None
        return max(0.0, (self.expiry_ns - self._clock()) / 1e9)

    @property
    def must_go_on(self) -> bool:
        """Whether ``go_on`` has something to do now, and is not waiting for the disk with it."""
        return self.sweeping and self.book.counters().sequence >= self._continued_at

    def _room(self) -> Records:
        """Return where the next batch goes; a short one where a mass cancel waits for its end."""
        return self._commands[:BATCH_BETWEEN] if self.sweeping else self._commands

    def tick(self) -> int:
        """Look at the clock; return the time of what arrives now. It never goes back."""
        self._clock_ns = max(self._clock_ns, self._clock())
        return self._clock_ns

    def last_report(self, account: int) -> int:
        """Return the number of an account's last report, 0 where it has none."""
        return self._account_sequences.last(account)

    def take(self, commands: Records, links: list[Link]) -> None:
        """Keep a batch, and match it where it need not wait. Raises ``JournalError``.

        With fsync ``settle`` comes when all is taken that has arrived: one sync serves it then.
        """
        if self._defaults:
            self._defaults.give(commands)
        self._taken += len(commands)
        if self._durability.keep(commands, self._clock_ns):
            self._match(commands, links)

    def settle(self, links: list[Link]) -> None:
        """Match the batches that the disk has taken meanwhile. Raises ``JournalError``."""
        if self._durability.syncer is not None:
            for commands in self._durability.ready():
                self._match(commands, links)
        while self._tests and self._durability.is_settled(self._tests[0][0]):
            _, link = self._tests.popleft()
            if link in links:
                link.send(_HEARTBEAT)

    def settle_all(self, links: list[Link]) -> None:
        """Match every batch that was taken, waiting for the disk. Raises ``JournalError``."""
        while self._durability.waiting:
            self._durability.wait()
            self.settle(links)

    def _control(self, link: Link, links: list[Link], count: int, stream: int, body: bytes) -> int:
        """Take a frame that is no command: a stream is opened or closed, or nothing that there is.

        Takes and returns how many commands wait in the batch.
        """
        try:
            message = backend_decoder.decode(body)
        except (ValidationError, DecodeError, UnicodeDecodeError) as error:
            answer = explain(body, error, self._clock_ns)
            self._status.add_reject(answer.code)
            link.send(frame(answer, stream | FRONTEND_STREAM))
            return count
        if isinstance(message, CloseStream):
            link.close_stream(message.stream)
            return count
        if isinstance(message, TestRequest):
            self._tests.append((self._durability.taken, link))
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
                self.take(self._commands, links)
                count = 0
            self._commands[count] = command_row(MassCancel(0, 0), account, self._clock_ns)
            self._status.add("canceled_on_disconnect", 1)
            count += 1
        return count

    def _match(self, commands: Records, links: list[Link]) -> None:
        """Match one batch to its end, showing what comes of it whenever a buffer is full."""
        self._status.add("batches", 1)
        while len(commands):
            progress = self._round.run(commands, links, self._clock_ns)
            if progress.trades:
                self._unrung = True
            elif not progress.commands and not progress.reports:
                self._wait_for_room()
            commands = commands[progress.commands :]
        self._status.set("displaced_reports", self._shares.displaced)
        self.sweeping = self.book.sweeping
        self.expiry_ns = self.book.next_expiry_ns

    def wake_readers(self) -> None:
        """Ring the doorbells of the gating readers that sleep, but not again while they wake up.

        For the end of a round: the answers are on their way first.
        """
        if not self._unrung:
            return
        self._unrung = False
        if self._clock_ns - min(self._rung_ns, default=self._clock_ns) <= RING_EVERY_NS:
            return
        for reader in self._ring.wakeups():
            if self._clock_ns - self._rung_ns[reader] > RING_EVERY_NS:
                self._rung_ns[reader] = self._clock_ns
                ring_doorbell(self._bell, self._doorbells[reader])

    def _wait_for_room(self) -> None:
        """The ring is full of trades that a gating reader is not done with: wait for it."""
        self._status.add("ring_full_waits", 1)
        for reader in self._ring.slowest():
            ring_doorbell(self._bell, self._doorbells[reader])
        self.wait()

    def close(self) -> None:
        """Let go of the journal."""
        self._durability.close()
        self._bell.close()


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Serve shard ``index`` until told to stop and every frontend has gone.

    Where its commands cannot be kept the process ends, with exit code ``HALTED``.
    """
    durability = Durability(plan, index, status, Storage(), lambda: wakeup.stopping)
    try:
        _serve(plan, index, status, wakeup, durability)
    except JournalError as error:
        print(f"matcher {index}: {printable(str(error))}", file=sys.stderr, flush=True)
        status.halt()
        sys.exit(HALTED)


def _serve(
    plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup, durability: Durability
) -> None:
    matcher = Matcher(plan, index, status, durability)
    engine = plan.config.engine
    linger_ns = 1_000 * engine.linger_us
    backend = Backend(plan.matcher_address(index), wakeup, MAX_UNSENT_BYTES, linger_ns)
    matcher.flush = backend.flush
    backend.before_finish = lambda: matcher.settle_all(backend.links)
    if durability.syncer is not None:
        wakeup.watch(durability.syncer.fileno())
    timeout_s = 0 if engine.wait == "spin" else None
    status.ready()
    while not wakeup.stopping or backend.links:
        if durability.full:
            durability.wait()
        at_once = durability.full or (matcher.sweeping and matcher.must_go_on)
        most_s = matcher.idle_s() if matcher.expiry_ns else None
        arrived = backend.poll(0 if at_once else timeout_s, most_s)
        if wakeup.stopping:
            backend.stop_listening()
        gone = backend.take_gone()
        if arrived or gone:
            matcher.handle(arrived, backend.links, gone)
        if matcher.sweeping or matcher.expiry_ns:
            matcher.go_on(backend.links)
        matcher.settle(backend.links)
        backend.flush()
        matcher.wake_readers()
        status.words[_SLEEPS], status.words[_CUT_OFF] = backend.sleeps, backend.cut_off
    matcher.settle_all([])
    backend.close()
    matcher.close()
