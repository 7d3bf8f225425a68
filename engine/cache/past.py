"""The newest trades of a shard, some of each symbol: from its ring, and before that the log."""

from collections import Counter

import numpy as np

from engine.books.contract import Records
from engine.plan import Plan
from engine.trade_log.history import BackwardLog, trades_of
from engine.trade_log.lines import to_records
from engine.trade_log.segments import TradeLogError
from ipc.instruments import ScaleError
from ipc.memory.mapping import MappingError
from ipc.memory.ring import RingReader
from ipc.records import TRADE, sequence_of, shard_of

MOST_LOG_BYTES = 64 << 20
"""Looked through for trades of rare symbols."""


def newest_trades(plan: Plan, shard: int, last: int, limit: int) -> Records:
    """Return up to ``limit`` trades (TRADE) a symbol, none behind the shard's trade ``last``, by
    trade_id. Those of the log have no ``sequence``. Raises ``TradeLogError`` and ``OSError``."""
    recent = _of_ring(plan, shard, last)
    below = sequence_of(int(recent["trade_id"][0])) if len(recent) else last + 1
    wanted = {i.number: limit for i in plan.known_instruments if i.shard == shard}
    have = Counter(recent["symbol"].tolist())
    parts = [recent]
    if below > 1 and any(have[number] < most for number, most in wanted.items()):
        parts += _of_log(plan, shard, below, wanted, have)
    trades = np.concatenate(parts)
    # The log is about in order; each trade stands in it once.
    trades = trades[np.argsort(trades["trade_id"], kind="stable")]
    kept = [np.flatnonzero(trades["symbol"] == number)[-most:] for number, most in wanted.items()]
    places = np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.intp)
    found: Records = trades[places]
    return found


def _of_ring(plan: Plan, shard: int, last: int) -> Records:
    """Return what the shard's ring has up to a trade; nothing where it does not reach that."""
    nothing = np.zeros(0, TRADE)
    try:
        ring = RingReader(plan.ring_path(shard))
    except (MappingError, OSError):
        return nothing
    try:
        if ring.published < last:
            return nothing
        after = max(ring.oldest - 1, 0)
        found = ring.read(after, max(0, last - after))
        return found.records[: max(0, last - found.first + 1)].copy()
    finally:
        ring.close()


def _of_log(
    plan: Plan, shard: int, below: int, wanted: dict[int, int], have: Counter[int]
) -> list[Records]:
    log, parts, seen = BackwardLog(plan.log_dir), [], 0
    try:
        for block in log.blocks():
            if not block.lines:
                continue
            seen += len(block.lines)
            mine = [
                trade
                for trade in reversed(trades_of(block, None))
                if shard_of(trade.trade_id) == shard and sequence_of(trade.trade_id) < below
            ]
            try:
                records = to_records(mine, plan.known_instruments) if mine else np.zeros(0, TRADE)
            except (ScaleError, KeyError):
                break  # of a tick or lot that is not listed any more
            parts.append(records)
            have.update(records["symbol"].tolist())
            enough = all(have[number] >= most for number, most in wanted.items())
            if enough or seen >= MOST_LOG_BYTES:
                break
    except (FileNotFoundError, TradeLogError):
        pass  # a segment was moved away or cut: what is older is not shown
    finally:
        log.close()
    return parts
