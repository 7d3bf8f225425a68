"""What the outcome of a shard's commands depends on beside them, as its files keep it.

Every segment and every snapshot holds the configuration in force where it begins or was taken.
Another one comes into force by a command of the journal, CONFIGURE, which is the first of a segment
whose header has the new configuration (``engine.journal.format``). What changes only where nothing
stands in its way is in ``obstacle``.

A number is an instrument's for good. One that is not listed any more, or whose tick or lot becomes
another, is retired under its number: what records hold of it keeps its meaning.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from engine.books.contract import BookLimits, Records
from engine.books.id_memory import MAX_ACCOUNT_IDS, MAX_KEPT_IDS, IdShares
from engine.books.rules import DAY_S
from engine.plan import Plan
from engine.sections import MAX_INSTRUMENT, MAX_RECENT_ORDERS
from ipc.instruments import Instrument, Scale, ScaleError
from ipc.records import MAX_SHARDS
from ipc.vocabulary import MAX_PRICE, MAX_RESTING_ORDERS


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
    day_end_s: int = 0


class RetiredInstrument(NamedTuple):
    """What is left of one that is retired: how to read the records that speak of it."""

    number: int
    symbol: str
    tick_size: str
    lot_size: str


class ShardConfig(msgspec.Struct, frozen=True):
    """What one shard was configured with; both lists by number."""

    shard: int
    matchers: int
    recent_orders: int
    instruments: list[InstrumentConfig]
    account_ids: int = 0
    kept_ids: int = 0
    retired: list[RetiredInstrument] = []

    def shares(self) -> IdShares:
        """Return how many client_order_ids are kept beyond the recent orders."""
        return IdShares(self.account_ids, self.kept_ids)

    def limits(self) -> list[BookLimits]:
        """Return the instruments as a book sees them."""
        return [
            BookLimits(
                i.number,
                i.min_price,
                i.max_price,
                i.max_resting_orders,
                i.max_account_orders,
                i.day_end_s,
            )
            for i in self.instruments
        ]

    def ever_listed(self) -> list[RetiredInstrument]:
        """Return all that records may speak of, retired or not."""
        listed = [RetiredInstrument(*instrument[:4]) for instrument in self.instruments]
        return sorted([*listed, *self.retired])

    def max_resting_orders(self) -> int:
        """Return how many orders may rest in all books together."""
        return sum(instrument.max_resting_orders for instrument in self.instruments)


def shard_config_of(plan: Plan, shard: int) -> ShardConfig:
    """Return what is kept of a configuration by a shard's files."""
    instruments = [
        InstrumentConfig(
            *_named(i),
            i.min_price,
            i.max_price,
            i.max_resting_orders,
            i.max_account_orders,
            i.day_end_s,
        )
        for i in plan.instruments_of(shard)
    ]
    retired = [
        RetiredInstrument(*_named(i))
        for i in plan.known_instruments
        if i.retired and i.shard == shard
    ]
    engine = plan.config.engine
    return ShardConfig(
        shard,
        engine.matchers,
        engine.recent_orders,
        sorted(instruments),
        engine.account_ids,
        engine.kept_ids,
        sorted(retired),
    )


def _named(instrument: Instrument) -> tuple[int, str, str, str]:
    i = instrument
    return i.number, i.symbol, i.tick.text(1), i.lot.text(1)


def shard_config_problem(shard_config: ShardConfig) -> str:
    """Return what no configuration can have of shard_config that a file holds, or nothing.

    Their ranges are those of ``engine.sections``.
    """
    if not 0 <= shard_config.shard < shard_config.matchers <= MAX_SHARDS:
        shard = shard_config.shard
        return f"shard {shard} of {shard_config.matchers}: must be one of at most {MAX_SHARDS}"
    if not 0 <= shard_config.recent_orders <= MAX_RECENT_ORDERS:
        return f"recent_orders = {shard_config.recent_orders}: must be 0 to {MAX_RECENT_ORDERS}"
    for name, most in (("account_ids", MAX_ACCOUNT_IDS), ("kept_ids", MAX_KEPT_IDS)):
        if not 0 <= getattr(shard_config, name) <= most:
            return f"{name} = {getattr(shard_config, name)}: must be 0 to {most}"
    for rows in (shard_config.instruments, shard_config.retired):
        numbers = [0, *(row.number for row in rows)]
        for before, number in pairwise(numbers):
            if not before < number <= MAX_INSTRUMENT:
                return f"instrument {number}: numbers must grow, up to {MAX_INSTRUMENT}"
    again = {i.number for i in shard_config.instruments} & {i.number for i in shard_config.retired}
    if again:
        return f"instrument {min(again)}: must not be listed and retired"
    for instrument in shard_config.instruments:
        name = f"instrument {instrument.number}"
        if not 1 <= instrument.min_price <= instrument.max_price <= MAX_PRICE:
            return f"{name}: its price band must lie in 1 to {MAX_PRICE} ticks"
        if not 1 <= instrument.max_resting_orders <= MAX_RESTING_ORDERS:
            return f"{name}: max_resting_orders must be 1 to {MAX_RESTING_ORDERS}"
        if not 1 <= instrument.max_account_orders <= instrument.max_resting_orders:
            return f"{name}: max_account_orders must be 1 to its max_resting_orders"
        if not 0 <= instrument.day_end_s < DAY_S:
            return f"{name}: day_end_s must be 0 to {DAY_S - 1}"
    return ""


def differences(kept: ShardConfig, wanted: ShardConfig) -> list[str]:
    """Say in lines what is not the same; nothing where everything is."""
    return list(_differences(kept, wanted))


def _differences(kept: ShardConfig, wanted: ShardConfig) -> Iterator[str]:
    for name in ("shard", "matchers", "recent_orders", "account_ids", "kept_ids"):
        old, new = getattr(kept, name), getattr(wanted, name)
        if old != new:
            yield f"{name} was {old}, is {new}"
    known = {instrument.number: instrument for instrument in wanted.instruments}
    for instrument in kept.instruments:
        named = f"instrument {instrument.number} ({instrument.symbol})"
        other = known.pop(instrument.number, None)
        if other is None:
            now_retired = any(i.number == instrument.number for i in wanted.retired)
            yield f"{named} is " + ("retired" if now_retired else f"not on shard {kept.shard} now")
            continue
        for name, old, new in zip(instrument._fields, instrument, other, strict=True):
            if old != new:
                yield f"{named}: {name} was {old}, is {new}"
    for other in known.values():
        yield f"instrument {other.number} ({other.symbol}) was not on shard {kept.shard}, is now"
    before = kept.ever_listed()
    for left in kept.retired:
        if left not in wanted.retired:
            yield f"instrument {left.number} ({left.symbol}) was retired as it is not now"
    for left in wanted.retired:
        if left not in before:
            yield f"instrument {left.number} ({left.symbol}) was not retired as it is now"


def obstacle(kept: ShardConfig, wanted: ShardConfig, resting: Records, sweeps: Records) -> str:
    """Return the rule that a change breaks and what stands in its way, or nothing.

    ``resting`` (RESTING) and ``sweeps`` are those of the shard's books: see ``Book``.
    """
    return next(_obstacles(kept, wanted, resting, sweeps), "")


def _obstacles(
    kept: ShardConfig, wanted: ShardConfig, resting: Records, sweeps: Records
) -> Iterator[str]:
    if kept.shard != wanted.shard:
        yield f"shard = {wanted.shard}: must stay {kept.shard}"
    if wanted.matchers < kept.matchers:
        yield f"matchers = {wanted.matchers}: must not be fewer than {kept.matchers}, as it was"
    listed = {instrument.number: instrument for instrument in wanted.instruments}
    retired = {instrument.number: instrument for instrument in wanted.retired}
    for left in kept.retired:
        if left.number not in retired:
            yield f"instrument {left.number} ({left.symbol}): is retired, and must stay so"
    for instrument in kept.instruments:
        number, symbol = instrument.number, instrument.symbol
        name = f"instrument {number} ({symbol})"
        other = listed.get(number)
        if other is None and number not in retired:
            yield f"{name}: must stay listed, or be retired"
            continue
        named = other or retired[number]
        if named.symbol != symbol:
            yield f"{name}: symbol = {named.symbol}: a number is one symbol's for good"
        for key in ("tick_size", "lot_size"):
            if not same_step(getattr(named, key), getattr(instrument, key)):
                yield f"{name}: {key} = {getattr(named, key)}: must stay {getattr(instrument, key)}"
        count = int(np.count_nonzero(resting["symbol"] == number))
        if other is None:
            what = f"{name}: {_end_of(instrument, wanted)}"
            if count:
                yield f"{what} only where none of its orders rest; {count} rest"
            if (sweeps["symbol"] == number).any():
                yield f"{what} only where no mass cancel of it is under way; one is"
        elif count > other.max_resting_orders:
            yield (
                f"{name}: max_resting_orders = {other.max_resting_orders}: must not be below the "
                f"number of orders that rest, {count}"
            )


def _end_of(instrument: InstrumentConfig, wanted: ShardConfig) -> str:
    """Say why an instrument is to be retired."""
    after = [i for i in wanted.instruments if i.symbol == instrument.symbol]
    for name in ("tick_size", "lot_size"):
        old = getattr(instrument, name)
        if after and not same_step(getattr(after[0], name), old):
            return f"{name} can become {getattr(after[0], name)} from {old}"
    return "can be retired or go to another shard"


def needs_books(kept: ShardConfig, wanted: ShardConfig) -> bool:
    """Tell whether what rests may stand in the way of a change."""
    listed = {instrument.number: instrument for instrument in wanted.instruments}
    return any(
        i.number not in listed or listed[i.number].max_resting_orders < i.max_resting_orders
        for i in kept.instruments
    )


def same_step(one: str, other: str) -> bool:
    """Tell whether two decimals, ticks or lots, are the same number. What is none equals itself."""
    try:
        first, second = Scale.parse(one, ""), Scale.parse(other, "")
    except ScaleError:
        return one == other
    return int(first.mantissa * 10**second.digits) == int(second.mantissa * 10**first.digits)
