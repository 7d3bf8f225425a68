"""What an account was told before: its reports that the shards' rings still hold."""

from collections.abc import Mapping

import numpy as np

from ipc.arrays import Records, joined, those
from ipc.memory.order_table_reader import OrderTableReader
from ipc.memory.ring import RingReader
from ipc.records import REPORT, make_id, sequence_of, shard_of
from ipc.wire.matcher_codec import ReportEncoder

CHUNK = 4_096
"""Reports looked at in one go."""


class TooOldError(LookupError):
    """A shard does not have all reports any more that were asked for.

    ``after`` is the account_sequence after which they were, ``oldest`` that of the oldest one
    that is still there, or what follows the newest where there is none.
    """

    def __init__(self, after: int, oldest: int) -> None:
        super().__init__(
            f"shard {shard_of(after)}: asked for what follows report {sequence_of(after)} of the "
            f"account, the oldest kept is {sequence_of(oldest)}"
        )
        self.after = after
        self.oldest = oldest


class ReportHistory:
    """Reads the report rings and those of kept reports (``engine.shard.report_shares``), by shard.

    The newest reports are found first.
    """

    def __init__(
        self,
        rings: Mapping[int, RingReader],
        kept: Mapping[int, RingReader],
        tables: Mapping[int, OrderTableReader],
    ) -> None:
        """``tables`` know the texts of orders, which reports have by their numbers only."""
        self._rings, self._kept, self._tables = rings, kept, tables

    def newest(self, shard: int, account: int) -> int | None:
        """Return the account_sequence of the newest report to an account, None: there is none."""
        ring = self._rings[shard]
        before = ring.published
        while before >= ring.oldest:
            mine, before = self._chunk(ring, before, account, make_id(shard, 0))
            if len(mine):
                return int(mine["account_sequence"][-1])
        kept = self._kept_after(account, make_id(shard, 0))
        return int(kept["account_sequence"][-1]) if len(kept) else None

    def frames(self, account: int, after: int, last: int) -> bytes:
        """Return the frames of all reports after one account_sequence up to another, oldest first.

        Both are of one shard. Raises ``TooOldError`` where one of them is gone.
        """
        missing = sequence_of(last) - sequence_of(after)
        ring = self._rings[shard_of(after)]
        before = ring.published
        oldest = last + 1
        encoder = ReportEncoder()
        encoder.open_stream(1, account)
        found: list[bytes | memoryview] = []
        while missing > 0 and before >= ring.oldest:
            mine, before = self._chunk(ring, before, account, after)
            mine = mine[mine["account_sequence"] <= last]
            if len(mine):
                oldest = int(mine["account_sequence"][0])
                missing -= len(mine)
                found.append(encoder.encode(mine, self._tables[shard_of(after)].text_of))
        if missing > 0:
            kept = self._kept_after(account, after)
            kept = kept[kept["account_sequence"] < oldest]
            gap = oldest - kept["account_sequence"] > np.arange(len(kept), 0, -1)
            kept = kept[int(np.flatnonzero(gap)[-1]) + 1 if gap.any() else 0 :]
            oldest -= len(kept)
            missing -= len(kept)
            if len(kept):
                found.append(encoder.encode(kept, self._tables[shard_of(after)].text_of))
        if missing > 0:
            raise TooOldError(after, oldest)
        return b"".join(found[::-1])

    def _kept_after(self, account: int, after: int) -> Records:
        """Return an account's kept reports after one account_sequence, oldest first, each once.

        The ring is read from its oldest on: what is carried on meanwhile comes at its end.
        """
        ring = self._kept[shard_of(after)]
        parts = [np.zeros(0, REPORT)]
        done = ring.oldest - 1
        while done < ring.published:
            result = ring.read(done, CHUNK)
            done = result.first + len(result.records) - 1
            reports = result.records
            wanted = (reports["account"] == account) & (reports["account_sequence"] > after)
            parts.append(those(reports, wanted))
        mine = joined(parts)
        _, places = np.unique(mine["account_sequence"], return_index=True)
        kept: Records = np.ascontiguousarray(mine[places])
        return kept

    def _chunk(
        self, ring: RingReader, before: int, account: int, after: int
    ) -> tuple[Records, int]:
        """Return an account's numbered reports after one account_sequence among the ring's up to
        ``before``, oldest first, and before which of the ring's to look on."""
        start = max(ring.oldest - 1, before - CHUNK)
        result = ring.read(start, before - start)
        # Where the writer came by, the result begins later and must still not pass its end.
        reports = result.records[: max(0, before - result.first + 1)]
        wanted = (reports["account"] == account) & (reports["account_sequence"] > after)
        return those(reports, wanted), start
