"""What the outcome of a shard's commands depends on beside them, as its files keep it.

Journal and snapshots hold the configuration under which they were written. Under another one
the same commands would come to something else, so a start with another one is refused, naming what
changed.
"""

from typing import NamedTuple

import msgspec

from engine.books.id_memory import MAX_ACCOUNT_IDS, MAX_KEPT_IDS
from engine.config import MAX_RECENT_ORDERS
from engine.plan import Plan
from ipc.records import MAX_SHARDS
from ipc.vocabulary import MAX_PRICE, MAX_RESTING_ORDERS

MAX_INSTRUMENT = (1 << 16) - 1


class InstrumentConfig(NamedTuple):
    """One instrument: its number on the wire, scales as decimal texts, limits in ticks, orders."""

    number: int
    symbol: str
    tick_size: str
    lot_size: str
    min_price: int
    max_price: int
    max_resting_orders: int
    max_account_orders: int


class ShardConfig(msgspec.Struct, frozen=True):
    """What one shard was configured with."""

    shard: int
    matchers: int
    recent_orders: int
    instruments: list[InstrumentConfig]
    account_ids: int = 0
    kept_ids: int = 0


def shard_config_of(plan: Plan, shard: int) -> ShardConfig:
    """Return what is kept of a configuration by a shard's files."""
    instruments = [
        InstrumentConfig(
            i.number,
            i.symbol,
            i.tick.text(1),
            i.lot.text(1),
            i.min_price,
            i.max_price,
            i.max_resting_orders,
            i.max_account_orders,
        )
        for i in plan.instruments_of(shard)
    ]
    engine = plan.config.engine
    return ShardConfig(
        shard,
        engine.matchers,
        engine.recent_orders,
        instruments,
        engine.account_ids,
        engine.kept_ids,
    )


def shard_config_problem(shard_config: ShardConfig) -> str:
    """Return what no configuration can have of shard_config that a file holds, or nothing.

    Their ranges are those of ``engine.config``.
    """
    if not 0 <= shard_config.shard < shard_config.matchers <= MAX_SHARDS:
        shard = shard_config.shard
        return f"shard {shard} of {shard_config.matchers}: must be one of at most {MAX_SHARDS}"
    if not 0 <= shard_config.recent_orders <= MAX_RECENT_ORDERS:
        return f"recent_orders = {shard_config.recent_orders}: must be 0 to {MAX_RECENT_ORDERS}"
    for name, most in (("account_ids", MAX_ACCOUNT_IDS), ("kept_ids", MAX_KEPT_IDS)):
        if not 0 <= getattr(shard_config, name) <= most:
            return f"{name} = {getattr(shard_config, name)}: must be 0 to {most}"
    before = 0
    for instrument in shard_config.instruments:
        name = f"instrument {instrument.number}"
        if not before < instrument.number <= MAX_INSTRUMENT:
            return f"{name}: numbers must grow, up to {MAX_INSTRUMENT}"
        before = instrument.number
        if not 1 <= instrument.min_price <= instrument.max_price <= MAX_PRICE:
            return f"{name}: its price band must lie in 1 to {MAX_PRICE} ticks"
        if not 1 <= instrument.max_resting_orders <= MAX_RESTING_ORDERS:
            return f"{name}: max_resting_orders must be 1 to {MAX_RESTING_ORDERS}"
        if not 1 <= instrument.max_account_orders <= instrument.max_resting_orders:
            return f"{name}: max_account_orders must be 1 to its max_resting_orders"
    return ""


def difference(kept: ShardConfig, wanted: ShardConfig) -> str:
    """Say what is not the same, or nothing where everything is."""
    for name in ("shard", "matchers", "recent_orders", "account_ids", "kept_ids"):
        before, now = getattr(kept, name), getattr(wanted, name)
        if before != now:
            return f"{name} was {before}, is {now}"
    known = {instrument.number: instrument for instrument in wanted.instruments}
    for before in kept.instruments:
        now = known.pop(before.number, None)
        if now is None:
            return f"instrument {before.number} ({before.symbol}) is not on shard {kept.shard} now"
        for name, old, new in zip(before._fields, before, now, strict=True):
            if old != new:
                return f"instrument {before.number} ({before.symbol}): {name} was {old}, is {new}"
    for now in known.values():
        return f"instrument {now.number} ({now.symbol}) was not on shard {kept.shard}"
    return ""
