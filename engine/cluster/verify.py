"""Holding nodes against each other, and the topic of trades against them: ``cluster verify``."""

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from engine.books.contract import state_hash
from engine.kafka.reading import committed
from engine.kafka.topics import Topics
from engine.plan import Plan
from engine.shard.follower import Follower
from engine.trade_log.lines import LineFormatter, trade_id_of
from engine.verify import Verdict
from ipc.records import make_id, sequence_of, shard_of

_WORD = (1 << 64) - 1


class Tally:
    """Lines of trades of one shard: which ones, and a sum over what they say. In no order."""

    def __init__(self) -> None:
        self.count = self.sum = self.doubled = 0
        self.first, self.last = 1 << 62, 0
        self._seen = bytearray()

    def add(self, line: bytes) -> None:
        """Take a line, without its end."""
        number = sequence_of(trade_id_of(line))
        place, bit = number >> 3, 1 << (number & 7)
        if place >= len(self._seen):
            self._seen.extend(bytes(place + 1 - len(self._seen) + (len(self._seen) >> 1)))
        self.doubled += bool(self._seen[place] & bit)
        self._seen[place] |= bit
        self.count += 1
        self.sum = (self.sum + int.from_bytes(blake2b(line, digest_size=8).digest())) & _WORD
        self.first, self.last = min(self.first, number), max(self.last, number)


class _State(NamedTuple):
    """A shard on one node."""

    position: int
    hash: str
    reports: int
    trades: int
    timestamp_ns: int


def verify_nodes(plans: Sequence[Plan], scratch: Path) -> Verdict:
    """Hold the data directories of nodes, running or not, against each other at the last command
    that all of them have, and the topic of trades against what the commands make.

    Order tables of replays are made in ``scratch``. Raises ``JournalError`` and ``KafkaLinkError``.
    """
    verdict = Verdict()
    ends = []
    for shard in plans[0].shards:
        with verdict.judging(f"shard {shard}"):
            common = min(_state(plan, shard, None, scratch).position for plan in plans)
            ends.append(common)
            states = [_state(plan, shard, common, scratch) for plan in plans]
            for plan, state in zip(plans, states, strict=True):
                if state != states[0]:
                    verdict.wrong(
                        f"shard {shard}: command {common} is {state} in {plan.data_dir}, and "
                        f"{states[0]} in {plans[0].data_dir}"
                    )
            verdict.say(
                f"shard {shard}: {len(plans)} nodes have command {common} and trade "
                f"{states[0].trades}, hash {states[0].hash}"
            )
    _verify_trades(verdict, plans[0], scratch)
    return verdict


def _state(plan: Plan, shard: int, position: int | None, scratch: Path) -> _State:
    follower = Follower(plan, shard, position, scratch / f"verify-{shard}.tmp")
    try:
        if position is None:
            follower.catch_up()
        counters = follower.shard.book.counters()
        return _State(
            counters.sequence,
            state_hash(follower.shard.book),
            follower.shard.account_sequences.reports,
            counters.trade_sequence,
            follower.shard.timestamp_ns,
        )
    finally:
        follower.close()


def _verify_trades(verdict: Verdict, plan: Plan, scratch: Path) -> None:
    """Hold each shard's trades in the topic against those that its journal makes."""
    found = {shard: Tally() for shard in plan.shards}
    topic = Topics.of(plan.config.kafka).trades
    for message in committed(plan.config.kafka, topic):
        line = message.value() or b""
        found[shard_of(trade_id_of(line))].add(line)
    for shard, tally in found.items():
        if not tally.count:
            verdict.say(f"shard {shard}: {topic} has no trades of it")
            continue
        if tally.doubled:
            verdict.wrong(f"shard {shard}: {topic}: {tally.doubled} trades are there twice")
        made = _made(plan, shard, tally, scratch)
        if (made.count, made.sum) != (tally.count, tally.sum):
            verdict.wrong(
                f"shard {shard}: {topic} has {tally.count} trades from {tally.first} to "
                f"{tally.last} with sum {tally.sum:016x}, the journal {made.count} with "
                f"{made.sum:016x}"
            )
        verdict.say(f"shard {shard}: {topic} has {tally.count} trades, {tally.first}-{tally.last}")


def _made(plan: Plan, shard: int, wanted: Tally, scratch: Path) -> Tally:
    """Return the trades that a journal makes, of those in question."""
    follower = Follower(plan, shard, 0, scratch / f"verify-{shard}.tmp")
    formatter, tally = LineFormatter(plan.known_instruments), Tally()
    first, last = make_id(shard, wanted.first), make_id(shard, wanted.last)
    try:
        while tally.last < wanted.last and (batch := follower.step()) is not None:
            ids = batch.trades["trade_id"]
            some = batch.trades[(ids >= first) & (ids <= last)]
            for line in bytes(formatter.format(some)).splitlines():
                tally.add(line)
    finally:
        follower.close()
    return tally
