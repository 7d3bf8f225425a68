"""A matcher of a cluster: what its links say goes into the log, what the log says it carries out.

Every node that serves a shard does so, and commands come to the same on each: which ones, in what
order and at what time the log alone says (``engine.cluster.steps``). So each node answers its own
clients out of its own books, and whichever of them ends, the others have all that it had answered.
"""

import contextlib
import logging
import secrets
import socket
import sys
import time
from collections import deque
from collections.abc import Callable

from msgspec import DecodeError, ValidationError

from engine.cluster.cutting import CONTROL, LONG, MORE, MOST_FRAMES, Cutter
from engine.cluster.entries import Entry, EntryError, Kind, decode, terms_of
from engine.cluster.lives import Lives, Ruling, directory_identity
from engine.cluster.log import Appended, Log, LogError
from engine.cluster.log_time import BEGINNING, Places
from engine.cluster.presence import Presence
from engine.cluster.steps import LogClock, Steps
from engine.journal.format import JournalError
from engine.journal.shard_config import shard_config_of
from engine.kafka.link import KafkaAwayError, KafkaLinkError
from engine.plan import Plan
from engine.printable import printable
from engine.process import HALTED, Wakeup
from engine.shard.durability import Durability
from engine.shard.matcher import MAX_UNSENT_BYTES, Matcher
from engine.shard.snapshot_store import PLACES
from engine.storage import Storage
from ipc.links.backend import Backend, Link
from ipc.memory.status import StatusWriter
from ipc.wire.frames import frame
from ipc.wire.matcher_codec import FRONTEND_STREAM
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

logger = logging.getLogger("shardbook.matcher")

RETRY_S = 0.5
KEEP_S = 1.0
"""How often the place of an entry is written down."""
TICK_S = 0.1
"""How long an entry that is to end orders is waited for before another is sent."""
DRAIN_S = 10.0
END_WAIT_S = 2.0
"""How long the log may take to have a matcher's last word; without it others do as for one that was
killed."""
FULL_WAIT_S = 0.01
IDENTITY = "log-identity"
_HEARTBEAT = frame(Heartbeat(), FRONTEND_STREAM)


class EntryLink(Link):
    """A gateway's connection: what comes on it is cut, not decoded."""

    numbers = iter(range(1, 1 << 32))

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.number = next(self.numbers)
        self.cutter = Cutter()
        self.decoder = self.cutter  # type: ignore[assignment]  # as far as a backend asks
        self.streams: dict[int, int] = {}
        """Accounts of streams."""

    def open_stream(self, stream: int, account: int) -> None:
        """Take frames of ``stream`` as the account's, and send its reports there."""
        self.accounts.add(account)
        self.streams[stream] = account
        self.encoder.open_stream(stream, account)

    def close_stream(self, stream: int) -> None:
        """Send no more reports to ``stream``."""
        account = self.streams.get(stream, 0)
        self.accounts.discard(account)
        self.encoder.close_stream(account)


class Node:
    """One shard on one node."""

    def __init__(
        self, plan: Plan, shard: int, status: StatusWriter, wakeup: Wakeup, durability: Durability
    ) -> None:
        self._plan, self._status, self._wakeup = plan, status, wakeup
        clock = LogClock()
        self.matcher = Matcher(plan, shard, status, durability, clock)
        self._steps = Steps(self.matcher, clock)
        directory = plan.journal_dir(shard)
        self._places = Places(directory / PLACES)
        self._identity = directory_identity(directory / IDENTITY)
        self._number = plan.config.cluster.node
        self._log = Log(plan.config.kafka, shard, self._number)
        self._life = secrets.randbits(63) + 1
        self._presence = Presence(self._life)
        self._terms = terms_of(shard_config_of(plan, shard), plan.config.keys)
        self._place, self._lives = BEGINNING, Lives()
        self._sent = self._done = 0
        """The numbers of its last entry, and of the last of its own that was carried out."""
        self._ended = False
        self._tests: deque[tuple[int, EntryLink]] = deque()
        self._tick_s = self._kept_s = 0.0
        self._by_number: dict[int, EntryLink] = {}
        address, linger_ns = plan.matcher_address(shard), 1_000 * plan.config.engine.linger_us
        self.backend = Backend(address, wakeup, MAX_UNSENT_BYTES, linger_ns, EntryLink)
        self.backend.before_finish = self._drain
        self.matcher.flush = self.backend.flush

    def begin(self) -> None:
        """Find the place in the log that the shard has come to, carry out what comes behind it, and
        begin a life: behind that no entry counts that this node has sent before.

        Raises ``LogError`` and ``KafkaLinkError``.
        """
        self._place, self._lives = self._places.before(self._steps.time_ns)
        low, high = self._ends()
        first = self._place.offset + 1
        if not low <= first <= high:
            raise LogError(
                f"{self._log.where}: has entries {low} to {high - 1}, this node goes on with "
                f"{first}: it needs the data directory of another node, or an empty one to begin "
                "with a snapshot in cluster.snapshots; or the topic was made anew"
            )
        self._wakeup.watch(self._log.fileno())
        self._log.begin(first)
        self._catch_up(lambda: self._place.offset + 1 >= high)
        self._say_of_itself(Kind.BEGIN, [(self._number, self._identity)])
        self._catch_up(lambda: self._done == self._sent)

    def _ends(self) -> tuple[int, int]:
        """Return where the log begins and ends, once Kafka says so. Raises ``LogError``."""
        told = False
        while not self._wakeup.stopping:
            try:
                return self._log.ends()
            except KafkaAwayError as error:
                if not told:
                    logger.error("shard %d: waits for its log: %s", self._log.shard, error)
                told = True
                self._wakeup.wait(RETRY_S)
        raise LogError("stopped before Kafka was found")

    def run(self) -> None:
        """Serve until told to stop and every gateway has gone. Raises as ``begin`` does."""
        self.begin()
        self._status.ready()
        backend, matcher = self.backend, self.matcher
        while not self._wakeup.stopping or backend.links:
            self._log.serve()
            if self._log.full:
                self._wakeup.wait(FULL_WAIT_S)
            else:
                for link in backend.poll(None, self._idle_s()):
                    assert isinstance(link, EntryLink)
                    self._enter(link)
            if self._wakeup.stopping:
                backend.stop_listening()
            for link in backend.take_gone():
                assert isinstance(link, EntryLink)
                self._forget(link)
            self._carry_out()
            self._tick()
            backend.flush()
            matcher.wake_readers()
        self._ended = True
        self._say_of_itself(Kind.END, [])
        self._await_own(END_WAIT_S)
        self.close()

    def close(self) -> None:
        """Let go of all."""
        with contextlib.suppress(OSError):
            self._places.keep(self._place, self._lives)
        self.backend.close()
        self._log.close()
        self.matcher.close()

    # Into the log --------------------------------------------------------------------------------

    def _enter(self, link: EntryLink) -> None:
        """Append what has come on a link."""
        self._by_number.setdefault(link.number, link)
        while True:
            frames, streams, why = link.cutter.cut()
            if frames:
                self._append(
                    link.number,
                    [(s, link.streams[s]) for s in streams if s in link.streams],
                    frames,
                )
            if why == CONTROL:
                self._control(link, link.cutter.control())
            elif why == LONG:
                self.backend.drop(link)
                return
            elif why == MORE:
                return

    def _append(
        self, link: int, streams: list[tuple[int, int]], frames: bytes, about: int = 0
    ) -> None:
        self._sent += 1
        entry = Entry(self._life, self._sent, self._terms, about, link, streams, frames)
        self._log.append(entry.encode())

    def _say_of_itself(self, kind: Kind, streams: list[tuple[int, int]]) -> None:
        self._append(kind, streams, b"", self._life)

    def _control(self, link: EntryLink, body: bytes) -> None:
        """Take a frame that is for this node: a stream is opened or closed."""
        try:
            message = backend_decoder.decode(body)
        except (ValidationError, DecodeError, UnicodeDecodeError) as error:
            link.send(frame(explain(body, error, self._steps.time_ns), FRONTEND_STREAM))
            return
        if isinstance(message, CloseStream):
            link.close_stream(message.stream)
        elif isinstance(message, TestRequest):
            self._tests.append((self._sent, link))
        elif isinstance(message, OpenStream):
            account = message.account
            if account not in link.accounts:
                link.open_stream(message.stream, account)
                opened = StreamOpened(self.matcher.last_report(account))
                link.send(frame(opened, message.stream | FRONTEND_STREAM))
            if message.cancel_on_disconnect:
                link.cancel_on_disconnect.add(account)
            elif account in link.cancel_on_disconnect:
                link.cancel_on_disconnect.remove(account)
                self._cancel_all({account})

    def _forget(self, link: EntryLink) -> None:
        self._by_number.pop(link.number, None)
        self._cancel_all(link.cancel_on_disconnect)

    def _cancel_all(self, accounts: set[int]) -> None:
        """Enter a mass cancel for each account that no link speaks for any more."""
        for account in sorted(accounts):
            if any(account in link.cancel_on_disconnect for link in self.backend.links):
                continue
            self._append(0, [(1, account)], frame(MassCancel(0, 0), 1))
            self._status.add("canceled_on_disconnect", 1)

    def _tick(self) -> None:
        """Have time go on where an order is to end, and say who is there."""
        expiry_ns, now_s = self.matcher.expiry_ns, time.monotonic()
        self._say(now_s)
        if 0 < expiry_ns <= time.time_ns() and now_s >= self._tick_s:
            self._append(0, [], b"")
            self._tick_s = now_s + TICK_S

    def _say(self, now_s: float) -> None:
        """Say whom this matcher speaks for, and cancel for those who have gone."""
        own = {a for link in self.backend.links for a in link.cancel_on_disconnect}
        said = self._presence.say(own, now_s)
        if said is not None:
            accounts = [(0, account) for account in said.accounts or ()]
            kind = Kind.PRESENT if said.accounts is None else Kind.SPEAKS_FOR
            self._say_of_itself(kind, accounts)
        gone = self._presence.gone()
        if gone is not None:
            life, found = gone
            logger.warning("shard %d: a node has gone; its orders end", self._log.shard)
            for first in range(0, max(1, len(found)), MOST_FRAMES):
                some = list(enumerate(found[first : first + MOST_FRAMES], 1))
                frames = b"".join(frame(MassCancel(0, 0), stream) for stream, _ in some)
                self._append(0, some, frames, life)

    def _idle_s(self) -> float:
        """Return for how long there may be nothing to do."""
        if not self.matcher.expiry_ns:
            return KEEP_S
        return min(KEEP_S, max(TICK_S, (self.matcher.expiry_ns - time.time_ns()) / 1e9))

    # Out of the log ------------------------------------------------------------------------------

    def _catch_up(self, done: Callable[[], bool]) -> None:
        """Carry out what the log has until it is enough; no gateway is answered meanwhile."""
        while not done():
            if self._wakeup.stopping:
                raise LogError("stopped before the log was carried out")
            self._wakeup.wait(KEEP_S)
            self._log.serve()
            self._carry_out()

    def _carry_out(self) -> None:
        """Carry out the entries that have come."""
        for appended in self._log.take():
            self._step(appended)
        now_s = time.monotonic()
        if now_s > self._kept_s + KEEP_S:
            self._places.keep(self._place, self._lives)
            self._kept_s = now_s
            self._status.set("waiting_entries", self._log.waiting)
        while self._tests and self._tests[0][0] <= self._done:
            _, link = self._tests.popleft()
            if link in self.backend.links:
                link.send(_HEARTBEAT)

    def _step(self, appended: Appended) -> None:
        place = self._place.next(appended.offset, appended.appended_ms)
        try:
            entry = decode(appended.data)
        except EntryError as error:
            raise LogError(f"{self._log.where}: offset {appended.offset}: {error}") from None
        ruling = self._lives.judge(entry)
        self._check(entry, ruling, appended.offset)
        self._place = place
        self._status.add("entries", 1)
        if ruling != Ruling.COUNTS:
            self._status.add("void_entries", 1)
            return
        if place.time_ns > self._steps.time_ns:
            own = self._by_number.get(entry.link) if entry.life == self._life else None
            self._steps.carry_out(entry, place.time_ns, self.backend.links, own)
            self.backend.flush()
        if entry.life == self._life:
            self._done = entry.number
        self._note_presence(entry)

    def _check(self, entry: Entry, ruling: Ruling, offset: int) -> None:
        """Raise ``LogError`` where this node is not to go on."""
        there, own = f"{self._log.where}: offset {offset}", entry.life == self._life
        counts = ruling == Ruling.COUNTS and entry.kind != Kind.FORGET
        if (own and ruling == Ruling.OTHER_TERMS) or (counts and entry.terms != self._terms):
            raise LogError(
                f"{there}: nodes have other instruments than this one, or numbers of shards and "
                "client order ids; all must have the same, and are stopped where that is changed"
            )
        if own and ruling == Ruling.OTHER_DIRECTORY:
            raise LogError(
                f"{there}: node {self._number} there is another data directory: this one needs "
                "another cluster.node, or kafka.prefix where it is of another cluster; if that "
                f"directory is gone for good: shardbook cluster forget {self._number}"
            )
        if self._done and not self._ended and self._lives.of(self._number) != self._life:
            raise LogError(
                f"{there}: another process has begun as node {self._number}, or it was forgotten: "
                "this one ends"
            )

    def _note_presence(self, entry: Entry) -> None:
        """Take note of whom matchers speak for."""
        kind = entry.kind
        if kind == Kind.SPEAKS_FOR:
            self._presence.heard(entry.life, [account for _, account in entry.streams])
        elif kind == Kind.PRESENT:
            self._presence.heard(entry.life, None)
        elif kind == Kind.CANCELS:
            self._presence.settled(entry.about)
        elif kind == Kind.END:
            self._presence.settled(entry.life)

    def _drain(self) -> None:
        """Wait until all that was entered here is carried out: a gateway says its last."""
        self._await_own(DRAIN_S)

    def _await_own(self, most_s: float) -> None:
        deadline_s = time.monotonic() + most_s
        while self._done < self._sent and time.monotonic() < deadline_s:
            self._log.serve()
            self._wakeup.wait(FULL_WAIT_S)
            self._carry_out()


def run(plan: Plan, index: int, status: StatusWriter, wakeup: Wakeup) -> None:
    """Serve shard ``index`` as one node of several.

    Where its commands cannot be kept, or the log cannot be gone on with, the process ends, with
    exit code ``HALTED``.
    """
    durability = Durability(plan, index, status, Storage(), lambda: wakeup.stopping)
    try:
        Node(plan, index, status, wakeup, durability).run()
    except (JournalError, LogError, KafkaLinkError) as error:
        print(f"matcher {index}: {printable(str(error))}", file=sys.stderr, flush=True)
        status.halt()
        sys.exit(HALTED)
