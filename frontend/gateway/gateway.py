"""What all sessions of a frontend share, and the way of reports back to them.

A report goes to every session of its account, which matchers know by its channel: see
``frontend.gateway.channels``.

**No gap, no repetition.** The first thing that a matcher says of a channel is where the account
stands; from there on all reports come over the link, in order. The frontend keeps, by channel and
shard, the last one that it passed on. What comes before is read from the shard's report ring: for a
session that asks for it at login, and for all sessions after a link was lost. Either happens
between two deliveries, so it ends just where the next one begins.
"""

import time
from collections.abc import Iterator

from engine.sections import FrontendSection
from frontend.gateway.account_channel import AccountChannel
from frontend.gateway.accounts import AccountRegistry
from frontend.gateway.channels import Channels
from frontend.gateway.connections import Connections
from frontend.gateway.fairness import Windows
from frontend.gateway.keys import Keys
from frontend.gateway.mass_cancels import MassCancels
from frontend.gateway.report_history import ReportHistory
from frontend.gateway.resume import Resume, ResumeError
from frontend.gateway.router import Router
from frontend.gateway.session import Session
from frontend.gateway.sessions import Sessions
from frontend.gateway.turns import Turns
from ipc.instruments import Instrument
from ipc.memory.status import StatusWriter
from ipc.records import sequence_of
from ipc.vocabulary import CommandType, Reason
from ipc.wire.frames import frame
from ipc.wire.matcher_codec import FRONTEND_STREAM
from ipc.wire.messages import (
    FRONTEND_MESSAGES,
    MassCancel,
    MassCancelReport,
    Reject,
    ShardRestarted,
    StreamOpened,
    encoder,
)
from ipc.wire.rejects import Request, reject, request_of

RECEIVE_BYTES = 1 << 16
"""Of what is read from a client at a time."""

ODD_A_TURN = 16
"""Messages in a turn of the event loop, of all connections together, that the frontend has to look
at itself: logins, pings, queries, wrong ones. They cost a hundred times as much as plain commands,
which are passed on as bytes. A mass cancel of everything counts as all of them."""


class Gateway:
    """The shared state of one frontend process, or of an HTTP worker, which is one too.

    To the links it is ``frontend.gateway.matcher_links.Accounts``.
    """

    def __init__(
        self,
        config: FrontendSection,
        instruments: list[Instrument],
        registry: AccountRegistry,
        history: ReportHistory,
        router: Router,
        status: StatusWriter,
        version: str,
        session_numbers: Iterator[int],
        keys: Keys,
    ) -> None:
        self.config = config
        self.router = router
        self.status = status
        self.keys = keys
        self.connections = Connections(config, status)
        self.windows = Windows(config.window)
        self.turns = Turns(ODD_A_TURN)
        self._resume = Resume(history, status)
        self._channels = Channels(registry, router, status, config.window)
        self._by_number = self._channels.by_number
        self.sessions = Sessions(
            self._channels,
            self.windows,
            self._resume,
            instruments,
            version,
            session_numbers,
            status,
        )
        self._mass_cancels = MassCancels()
        self.receive_buffer = memoryview(bytearray(RECEIVE_BYTES))

    # What sessions ask --------------------------------------------------------------------------

    def channel_of(self, session: Session) -> AccountChannel:
        """Return the account of a session."""
        return self._by_number[session.stream]

    def cancel_everywhere(self, session: Session, message: MassCancel) -> None:
        """Send a mass cancel to every matcher; one answer goes back when all have answered.

        Refused whole where one matcher cannot take it.
        """
        matchers = self.router.matchers
        for link in matchers.values():
            refusal = link.refusal()
            if refusal is not None:
                self.status.add_reject(refusal)
                request = request_of(encoder.encode(message))
                session.deliver(frame(reject(request, refusal, time.time_ns())))
                return
        self._by_number[session.stream].forwarded(1)
        self._mass_cancels.begin(session.stream, message, matchers)
        data = frame(message, session.stream | FRONTEND_STREAM)
        for link in matchers.values():
            link.write(data)

    # What matchers and query workers say --------------------------------------------------------

    def deliver(
        self, shard: int | None, stream: int, frames: bytes | memoryview, answers: int, last: int
    ) -> None:
        """Pass frames of one channel to every session of its account.

        So many of them are answers. From a shard they are reports, up to account_sequence ``last``.
        """
        known = self._by_number[stream]
        if shard in known.unheard:
            self.status.add("undelivered_bytes", len(frames))
            return  # it was for who had the channel before
        if shard is not None and last:  # numbered: the account had an order accepted
            if known.is_open:
                known.positions[shard] = last
            if not known.is_registered:
                self._channels.register(known)
        if not known.sessions:
            self.status.add("undelivered_bytes", len(frames))
        for session in [*known.sessions]:
            session.deliver(frames)
        known.answered(answers)
        if not known.sessions:
            self._channels.close_unused(known)

    def take_from_matcher(self, shard: int | None, stream: int, message: FRONTEND_MESSAGES) -> None:
        """Take what a matcher says to the frontend itself."""
        known = self._by_number[stream]
        assert shard is not None
        if isinstance(message, StreamOpened):
            self._opened(known, shard, message.account_sequence)
            return
        answer: Reject | MassCancelReport | None = message if isinstance(message, Reject) else None
        if isinstance(message, MassCancelReport):
            answer = self._mass_cancels.add(stream, shard, message)
        if answer is not None and shard not in known.unheard:
            for session in list(known.sessions):
                session.deliver(frame(answer))
            known.answered(1)
            if not known.sessions:
                self._channels.close_unused(known)

    def _opened(self, channel: AccountChannel, shard: int, last: int) -> None:
        """A shard says where an account stands: what follows comes over its link.

        Sessions that are there already have missed what it reported since it was lost.
        """
        if not channel.note_position_told(shard):
            return
        before = channel.positions[shard]
        channel.positions[shard] = last
        if sequence_of(last) and not channel.is_registered:
            self._channels.register(channel)
        if channel.sessions:
            self._restarted(channel, shard, last if before is None else before, last)
        self._await_no_more(channel, shard)

    def _restarted(self, channel: AccountChannel, shard: int, before: int, last: int) -> None:
        try:
            missed = self._resume.between(channel, before, last)
        except ResumeError as error:
            for session in list(channel.sessions):
                session.close(error.code, str(error))
            return
        for session in list(channel.sessions):
            news = ShardRestarted(last, session.sent_bytes_at_loss.get(shard, 0))
            session.deliver_missed(missed + frame(news, channel.number))

    def _await_no_more(self, channel: AccountChannel, shard: int) -> None:
        """Let log-ins wait for a shard no more."""
        if shard in channel.opening:
            channel.opening.discard(shard)
            if not channel.opening:
                self.sessions.admit_waiting(channel)

    # Links that come and go ---------------------------------------------------------------------

    def channels_to_open(
        self, shard: int | None, also: frozenset[int] | set[int]
    ) -> list[tuple[int, int, bool]]:
        """Return ``(channel, account, whether it is open)`` of those that a link opens now."""
        return self._channels.to_open(shard, also)

    def link_found(self) -> None:
        """Show how many matchers cannot be reached."""
        down = sum(not link.connected for link in self.router.matchers.values())
        self.status.set("shards_down", down)

    def link_lost(self, shard: int | None) -> None:
        """A matcher or worker is gone with what it had not answered: nobody waits for that."""
        channels = self._by_number
        if shard is not None:
            for channel in channels.values():
                for session in channel.sessions:
                    session.sent_bytes_at_loss[shard] = session.routed_bytes
            for stream_number, request_id in self._mass_cancels.lose(shard):
                request = Request(CommandType.MASS_CANCEL, 0, request_id)
                answer = frame(reject(request, Reason.SHARD_DOWN, time.time_ns()))
                for session in list(channels[stream_number].sessions):
                    session.deliver(answer)
        for channel in list(channels.values()):
            channel.answered(channel.under_way)
            if shard is not None:
                channel.link_lost(shard)
                self._await_no_more(channel, shard)
            self._channels.close_unused(channel)
        self.link_found()
