"""Which number and which shard each instrument of a configuration has: for good, once it has one.

A data directory says what stands: the last segment of each shard's journal, or its newest snapshot,
holds the shard's instruments. They keep their numbers and shards, wherever they stand in the file
now; what is new gets the next numbers, and the shard with the fewest instruments where the file
says none. What the file does not list any more is retired. So is an instrument whose tick, lot or
shard is another now: it is listed anew, under a number of its own.

A shard that has kept nothing is as new: for it numbers and shards go by the place in the file.
"""

import contextlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec

from engine.config import Config, ConfigError
from engine.journal.format import JournalError
from engine.journal.reader import read_header, segments_of
from engine.journal.shard_config import InstrumentConfig, ShardConfig, same_step
from engine.journal.snapshot import read_snapshot, snapshots_of
from engine.plan import Plan
from engine.sections import MAX_INSTRUMENT, InstrumentSection
from ipc.decimals import is_whole

Kept = Mapping[int, ShardConfig]
"""The configuration in force of each shard that has kept one."""


def plan_of(config: Config, data_dir: Path | None = None, *, damaged: bool = False) -> Plan:
    """Return the plan of a configuration in a data directory, by what stands there.

    Where that may be ``damaged`` it goes by what can be read, and is only to look at it: a number
    that cannot be read could be given again. Raises ``ConfigError`` where the configuration cannot
    be carried out there, whatever rests, and without ``damaged`` ``JournalError`` and ``OSError``.
    """
    plan = Plan(config, data_dir)
    return Plan(listed_in(config, kept_configs(plan.data_dir, damaged=damaged)), data_dir)


def kept_configs(data_dir: Path, *, damaged: bool = False) -> dict[int, ShardConfig]:
    """Return what each shard of a data directory was last configured with; see ``plan_of``."""
    found = {}
    for directory in (data_dir / "journal").glob("*"):
        kept = _last_of(directory, damaged) if is_whole(directory.name) else None
        if kept is not None:
            found[int(directory.name)] = kept
    return found


def _last_of(directory: Path, damaged: bool) -> ShardConfig | None:
    """Return the configuration that the newest file of a shard's journal has."""
    for segment in reversed(segments_of(directory)):
        try:
            return read_header(segment.path).shard_config
        except (JournalError, OSError):
            if not damaged:
                raise
    for path in snapshots_of(directory):
        with contextlib.suppress(JournalError):  # a start passes it over too
            return read_snapshot(path).shard_config
    return None


def listed_in(config: Config, kept: Kept) -> Config:
    """Return a configuration whose instruments have their numbers and shards.

    Raises ``ConfigError``.
    """
    if any(section.number for section in config.instruments):
        return config  # they have them
    _check_kept(config, kept)
    standing = [_standing(section, kept) for section in config.instruments]
    taken = {number for number, _ in filter(None, standing)}
    used = {i.number for one in kept.values() for i in one.ever_listed()}
    load = Counter(shard for _, shard in filter(None, standing))
    places_count = any(shard not in kept for shard in range(config.engine.matchers))
    least = len(config.instruments) if places_count else 0
    instruments = []
    for position, section in enumerate(config.instruments):
        place = standing[position]
        if place is None:
            shard = _shard_of(section, position, config.engine.matchers, kept, load)
            as_new = shard not in kept and position + 1 not in used
            number = position + 1 if as_new else max([least, *used]) + 1
            if number > MAX_INSTRUMENT:
                raise ConfigError(
                    f"instruments[{position}] ({section.symbol}): must have a number up to "
                    f"{MAX_INSTRUMENT}, and all were given"
                )
            place = number, shard
            used.add(number)
            load[shard] += 1
        number, shard = place
        instruments.append(msgspec.structs.replace(section, number=number, shard=shard))
    retired = [
        InstrumentSection(i.symbol, i.tick_size, i.lot_size, shard=shard, number=i.number)
        for shard, one in sorted(kept.items())
        for i in one.ever_listed()
        if i.number not in taken
    ]
    return msgspec.structs.replace(config, instruments=instruments, retired=retired)


def _check_kept(config: Config, kept: Kept) -> None:
    """Refuse fewer shards than there were, whose books would be nobody's, and mixed journals."""
    matchers = config.engine.matchers
    least = max([0, *(one.matchers for one in kept.values()), *(shard + 1 for shard in kept)])
    if matchers < least:
        raise ConfigError(
            f"engine.matchers = {matchers}: must not be below {least}, of which the data directory "
            "has journals"
        )
    given = Counter(i.number for one in kept.values() for i in one.ever_listed())
    for number, times in given.items():
        if times > 1:
            raise ConfigError(
                f"instrument {number}: is on {times} shards of the data directory: their journals "
                "are not of one product"
            )


def _standing(section: InstrumentSection, kept: Kept) -> tuple[int, int] | None:
    """Return the number and shard that an instrument has; None where it is to get them."""
    found = [
        (instrument.number, shard)
        for shard, one in kept.items()
        for instrument in one.instruments
        if _is(section, instrument) and section.shard in (None, shard)
    ]
    return max(found, default=None)


def _is(section: InstrumentSection, instrument: InstrumentConfig) -> bool:
    return (
        section.symbol == instrument.symbol
        and same_step(section.tick_size, instrument.tick_size)
        and same_step(section.lot_size, instrument.lot_size)
    )


def _shard_of(
    section: InstrumentSection, position: int, matchers: int, kept: Kept, load: Counter[int]
) -> int:
    """Return the shard of an instrument that is to get one."""
    if section.shard is not None:
        return section.shard
    former = [
        (instrument.number, shard)
        for shard, one in kept.items()
        for instrument in one.instruments
        if instrument.symbol == section.symbol
    ]
    if former:
        return max(former)[1]
    by_place = position % matchers
    if by_place not in kept:
        return by_place
    return min(range(matchers), key=lambda shard: (load[shard], shard))
