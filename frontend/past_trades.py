"""The newest trades, of one symbol or of all: from the rings, and behind them from the log.

What the log knows every reader knows, whatever the rings have given up or a restart has emptied.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engine.trade_log.history import BackwardLog, trades_of
from engine.trade_log.lines import LoggedTrade, to_records
from engine.trade_log.segments import active_number
from frontend.pace import Pace
from ipc.arrays import Records, joined, those
from ipc.instruments import Instrument, ScaleError
from ipc.memory.ring import RingReader
from ipc.records import SEQUENCE_MASK, TRADE, sequence_of, shard_of

BATCH_TRADES = 4_096
"""Trades copied out of a ring in one go."""
PIECE_TRADES = 32
"""Trades of the log that are read between two rests."""


class PastTrades:
    """What rings, by shard, and the log hold of the past. One thread at a time may ask."""

    def __init__(
        self, rings: Mapping[int, RingReader], instruments: Sequence[Instrument], log_dir: Path
    ) -> None:
        self._rings = rings
        self._instruments = instruments
        self._symbols = {instrument.symbol for instrument in instruments}
        self._directory = log_dir
        self._log = BackwardLog(log_dir)
        self._pace = Pace()
        self._without: defaultdict[int, set[str | None]] = defaultdict(set)
        """By closed segment, the symbols of which it holds nothing."""

    def in_rings(self, instrument: Instrument | None, limit: int) -> Records | None:
        """Return what ``newest`` does where the rings have all of it, None where they do not."""
        found = [self._of_ring(shard, instrument, limit) for shard in self._shards(instrument)]
        if any(map(self._goes_on, self._shards(instrument), found, [limit] * len(found))):
            return None
        return _newest_first(found, len(found))[:limit]

    def newest(
        self, instrument: Instrument | None, limit: int, timeout_s: float | None = None
    ) -> Records:
        """Return the newest ``limit`` trades (TRADE), or as many as there are, newest first.

        Trades of different shards are in the order of their times; those from the log have no
        ``sequence``. After ``timeout_s`` it gives what it has found, or raises ``TimeoutError``
        where that is nothing: the next call does not look again where nothing was. Raises
        ``TradeLogError`` where the log is damaged, and ``OSError``.
        """
        shards = self._shards(instrument)
        found = {shard: self._of_ring(shard, instrument, limit) for shard in shards}
        trades = _newest_first(list(found.values()), len(shards))
        if limit and any(self._goes_on(shard, found[shard], limit) for shard in shards):
            deadline = None if timeout_s is None else time.monotonic() + timeout_s
            below = {shard: _first(part) for shard, part in found.items()}
            with self._pace.work():
                trades = self._with_log(instrument, limit, trades, below, deadline)
        return trades[:limit]

    def close(self) -> None:
        """Let go of what is open of the log."""
        self._log.close()

    def _shards(self, instrument: Instrument | None) -> Sequence[int]:
        return list(self._rings) if instrument is None else [instrument.shard]

    def _of_ring(self, shard: int, instrument: Instrument | None, limit: int) -> Records:
        """Return a ring's newest trades that are wanted, oldest first."""
        ring = self._rings[shard]
        if instrument is None:
            return ring.last(limit)
        return last_of_symbol(ring, instrument.number, limit)

    def _goes_on(self, shard: int, found: Records, limit: int) -> bool:
        """Return whether the log may have what a ring does not hold."""
        return len(found) < limit and self._rings[shard].oldest > 1

    def _with_log(
        self,
        instrument: Instrument | None,
        limit: int,
        trades: Records,
        below: dict[int, int],
        deadline: float | None,
    ) -> Records:
        """Add, to trades newest first, what the log has below a sequence of each shard."""
        symbol = None if instrument is None else instrument.symbol
        active, segment, nothing = active_number(self._directory), 0, True
        parts, count = [trades[::-1]], len(trades)
        try:
            for block in self._log.blocks(skip=self._without_any(symbol)):
                self._pace.rest()
                if not block.lines:
                    continue
                if segment and block.position.segment != segment:
                    if segment != active:
                        if nothing:
                            self._without[segment].add(symbol)
                        if deadline is not None and time.monotonic() > deadline:
                            break
                    nothing = True
                segment = block.position.segment
                logged = trades_of(block, symbol)
                nothing = nothing and not logged
                older = self._records(logged, below)
                parts.append(older)
                count += len(older)
                if count >= limit:
                    parts = [_newest_first(parts, len(below))[:limit][::-1]]
                    if instrument is not None or _is_past(parts[0], logged):
                        break
        except FileNotFoundError:
            pass  # the segment was moved away: what is older is not there any more
        if deadline is not None and not count and time.monotonic() > deadline:
            raise TimeoutError("nothing was found in the log yet")
        return _newest_first(parts, len(below))

    def _without_any(self, symbol: str | None) -> set[int]:
        """Return the closed segments that are known to hold no trade of a symbol."""
        return {segment for segment, symbols in self._without.items() if symbol in symbols}

    def _records(self, logged: list[LoggedTrade], below: dict[int, int]) -> Records:
        """Return those of logged trades, newest first, that lie below a sequence of their shard
        and are of what is or was listed; oldest first."""
        wanted = [
            trade
            for trade in reversed(logged)
            if sequence_of(trade.trade_id) < below.get(shard_of(trade.trade_id), 0)
            and trade.symbol in self._symbols
        ]
        parts = [np.empty(0, TRADE)]
        for first in range(0, len(wanted), PIECE_TRADES):
            self._pace.rest()
            piece = wanted[first : first + PIECE_TRADES]
            try:
                parts.append(to_records(piece, self._instruments))
            except ScaleError:  # some were logged under another tick or lot: these cannot say them
                parts += map(self._record, piece)
        return joined(parts)

    def _record(self, trade: LoggedTrade) -> Records:
        try:
            return to_records([trade], self._instruments)
        except ScaleError:
            return np.empty(0, TRADE)


def last_of_symbol(ring: RingReader, symbol: int, limit: int) -> Records:
    """Return the newest ``limit`` trades of one symbol that the ring holds, oldest first."""
    found = [np.empty(0, TRADE)]
    missing, before = limit, ring.published
    while missing > 0 and before >= ring.oldest:
        after = max(ring.oldest - 1, before - BATCH_TRADES)
        result = ring.read(after, before - after)
        # Where the writer came by, the result begins later and must still not pass its end.
        trades = result.records[: max(0, before - result.first + 1)]
        mine = those(trades, trades["symbol"] == symbol)
        found.append(mine[max(0, len(mine) - missing) :])
        missing -= len(found[-1])
        before = after
    return joined(found[::-1])


def _newest_first(parts: list[Records], shards: int) -> Records:
    """Return trades of parts that are each oldest first, the newest part of a shard first.

    Those of several shards are put in the order of their times; of one time they stay in theirs.
    """
    trades = joined([part[::-1] for part in parts])
    if shards == 1:
        return trades
    ordered: Records = trades[np.argsort(-trades["timestamp_ns"].astype(np.int64), kind="stable")]
    return ordered


def _first(trades: Records) -> int:
    """Return the sequence of the first of a shard's trades; beyond all where there is none."""
    return sequence_of(int(trades["trade_id"][0])) if len(trades) else SEQUENCE_MASK


def _is_past(found: Records, logged: list[LoggedTrade]) -> bool:
    """Return whether lines before some of the log are older than all that was found."""
    return not logged or int(found["timestamp_ns"][0]) >= logged[-1].timestamp
