"""What a session has missed: of the account's reports, those after the last ones that it saw."""

from collections.abc import Collection, Sequence

from frontend.gateway.account_channel import AccountChannel
from frontend.gateway.report_history import ReportHistory, TooOldError
from ipc.memory.status import StatusWriter
from ipc.records import sequence_of, shard_of


class ResumeError(ValueError):
    """It cannot be had: ``code`` and text are for the client."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"resume: {text}")
        self.code = code


def named_shards(shards: Collection[int]) -> str:
    """Return numbers of shards as they stand in a sentence."""
    first, last = min(shards), max(shards)
    if last - first < len(shards):
        return f"shards {first} to {last}"
    return f"shards {', '.join(map(str, sorted(shards)))}"


class Resume:
    """Finds missed reports in the history, up to where the live ones begin."""

    def __init__(self, history: ReportHistory, status: StatusWriter) -> None:
        self._history = history
        self._status = status

    def missed(self, channel: AccountChannel, resume: Sequence[int]) -> bytes:
        """Return the frames after the account_sequences in ``resume``, at most one for each shard.

        Raises ``ResumeError``.
        """
        asked = {shard_of(position): position for position in resume}
        if len(asked) < len(resume) or not asked.keys() <= channel.positions.keys():
            shards = named_shards(channel.positions)
            raise ResumeError("RESUME_UNKNOWN", f"must name each shard once at most, of {shards}")
        for shard, position in channel.positions.items():
            if position is None:  # it does not answer: go by what it said before
                newest = self._history.newest(shard, channel.account)
                channel.positions[shard] = asked.get(shard) if newest is None else newest
        frames = []
        for shard, after in sorted(asked.items()):
            last = channel.positions[shard]
            assert last is not None
            if after > last:
                raise ResumeError(
                    "RESUME_UNKNOWN",
                    f"shard {shard}: asked for what follows report {sequence_of(after)} of the "
                    f"account, the last one is {sequence_of(last)}",
                )
            frames.append(self.between(channel, after, last))
        return b"".join(frames)

    def between(self, channel: AccountChannel, after: int, last: int) -> bytes:
        """Return the frames after one account_sequence up to another. Raises ``ResumeError``."""
        if after >= last:
            return b""
        try:
            frames = self._history.frames(channel.account, after, last)
        except TooOldError as error:
            raise ResumeError("RESUME_TOO_OLD", str(error)) from None
        self._status.add("resumed_reports", sequence_of(last) - sequence_of(after))
        return frames
