"""Hashes that nobody can aim at: no search is long, whatever numbers and names users choose."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.aimed import aimed_at_fixed, aimed_at_table, longest_walks
from engine.books.contract import Records, state_hash
from engine.books.ladder import LadderBook
from engine.books.ladder.tables import Tables
from engine.books.reference.book import ReferenceBook
from engine.journal.format import JournalError
from engine.journal.reader import read_header, segments_of
from engine.journal.snapshot import read_snapshot
from engine.shard.account_sequences import PROBE_LIMIT, AccountSequences
from engine.shard.snapshotter import take_snapshot
from ipc.native.keyed import place_of
from ipc.native.keyed_kernel import home_of
from ipc.records import make_id
from ipc.vocabulary import Side
from ipc.wire.frames import FrameSplitter
from ipc.wire.matcher_codec import ReportEncoder
from ipc.wire.messages import MAX_BODY
from tests.books import WIDE, World, random_commands, run
from tests.kept import commands_for, plan_of, recovered, write_journal
from tests.test_account_sequences import reports_for
from tests.test_ladder import cancels, limit_orders

SECRET = 0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210
RECENT = 4096
SHORT = 16
"""A search that no table needs which is not aimed at."""


def orders_with(ids: Any, price: int = 100) -> Records:
    commands = limit_orders(Side.BUY, np.full(len(ids), price))
    commands["client_order_id"] = ids
    return commands


class Pair:
    """The compiled book with a secret, and its oracle."""

    def __init__(self, recent_orders: int = RECENT, secret: int = SECRET) -> None:
        self.ladder = LadderBook(0, [WIDE], recent_orders, secret=secret)
        self.reference = ReferenceBook(0, [WIDE], recent_orders, secret=secret)

    def send(self, commands: Records) -> None:
        assert run(self.ladder, commands).same_as(run(self.reference, commands))
        assert state_hash(self.ladder) == state_hash(self.reference)
        self.ladder.check()

    @property
    def tables(self) -> Tables:
        return self.ladder._tables


def test_ids_that_share_a_place_under_public_numbers_do_not_under_a_secret() -> None:
    """Those that made a chain of 2,000 orders, first recent, then old."""
    pair = Pair()
    ids = aimed_at_fixed(2_000, account=1, instrument=0)
    pair.send(orders_with(ids))
    assert longest_walks(pair.tables).recent <= SHORT
    pair.send(limit_orders(Side.SELL, np.full(RECENT, 200), first_id=1 << 40))
    assert np.count_nonzero(pair.tables.client_ids) == len(ids)
    walks = longest_walks(pair.tables)
    assert walks.client_ids <= 4 * SHORT
    assert walks.order_ids <= 4 * SHORT
    pair.send(cancels(ids))
    assert pair.tables.generation == 0


def test_who_knows_the_hash_makes_one_long_search_and_no_more() -> None:
    pair = Pair()
    ids = aimed_at_table(pair.tables, 2_000, account=1, symbol=1)
    for start in range(0, len(ids), 50):
        pair.send(orders_with(ids[start : start + 50]))
    assert pair.tables.generation == 1
    assert longest_walks(pair.tables).recent <= SHORT
    pair.send(orders_with(ids))  # repeated, they are still known
    pair.send(cancels(ids[::2]))
    pair.send(limit_orders(Side.SELL, np.full(RECENT, 200), first_id=1 << 40))
    pair.send(cancels(ids[1::2]))


def test_old_orders_that_share_a_place_are_hashed_anew() -> None:
    pair = Pair(recent_orders=1)
    ids = aimed_at_table(pair.tables, 1_200, account=1, symbol=1)
    pair.send(orders_with(ids))
    assert pair.tables.generation == 1
    assert longest_walks(pair.tables).client_ids <= 4 * SHORT
    pair.send(cancels(ids))
    assert not np.count_nonzero(pair.tables.client_ids)
    assert not np.count_nonzero(pair.tables.order_ids)


@pytest.mark.parametrize("recent_orders", [0, 5, 64])
def test_hashing_anew_at_any_time_changes_nothing_that_shows(recent_orders: int) -> None:
    pair = Pair(recent_orders)
    rng = np.random.default_rng(8)
    commands = random_commands(rng, 3_000, World(0, [WIDE], recent_orders), live_orders=200)
    for start in range(0, len(commands), 100):
        pair.send(commands[start : start + 100])
        pair.tables.hash_anew()
        pair.ladder.check()
    assert pair.tables.generation == 30


def test_the_secret_decides_places_and_nothing_that_shows() -> None:
    commands = limit_orders(Side.BUY, np.arange(1, 3_000))
    one, other = Pair(secret=1), Pair(secret=2)
    one.send(commands)
    other.send(commands)
    assert state_hash(one.ladder) == state_hash(other.ladder)
    assert (one.tables.buckets != other.tables.buckets).any()
    assert "1" * 5 not in repr(one.ladder)


# Accounts ----------------------------------------------------------------------------------------


def longest_probe(counters: AccountSequences) -> int:
    places = np.flatnonzero(counters.accounts)
    slots = len(counters.accounts)
    homes = [place_of(int(counters.accounts[p]), int(counters.factor), slots) for p in places]
    return max(int(place - home) % slots for place, home in zip(places, homes, strict=True))


def test_accounts_of_the_same_low_bits_are_found_at_once() -> None:
    accounts = [(n + 1) << 30 | 7 for n in range(4_000)]
    counters = AccountSequences(0, SECRET)
    counters.number(reports_for(accounts))
    assert longest_probe(counters) <= 4 * SHORT
    assert counters.generation == 3  # it has grown three times, and no more


def test_accounts_that_share_a_place_get_others() -> None:
    counters = AccountSequences(0, SECRET)
    factor, slots = int(counters.factor), len(counters.accounts)
    inverse = pow(factor, -1, 1 << 64)
    accounts = [((5 << 54) + n) * inverse % (1 << 64) for n in range(300)]
    assert {place_of(account, factor, slots) for account in accounts} == {5}
    reports = reports_for(accounts)
    counters.number(reports)
    assert set(reports["account_sequence"].tolist()) == {make_id(0, 1)}
    assert longest_probe(counters) <= PROBE_LIMIT
    assert len(counters.accounts) == slots
    again = reports_for(accounts)
    counters.number(again)
    assert set(again["account_sequence"].tolist()) == {make_id(0, 2)}


def test_the_accounts_of_a_connection_are_found_at_once() -> None:
    encoder = ReportEncoder()
    accounts = [(n + 1) << 30 | 7 for n in range(1_000)]
    for stream, account in enumerate(accounts, 1):
        encoder.open_stream(stream, account)
    keys, slots = encoder._keys, len(encoder._keys)
    places = np.flatnonzero(keys)
    passed = [
        int(place - place_of(int(keys[place]), encoder._factor, slots)) % slots for place in places
    ]
    assert len(places) == len(accounts)
    assert max(passed) <= 2 * SHORT
    reports = reports_for(accounts[::-1])
    frames = FrameSplitter(MAX_BODY).feed(bytes(encoder.encode(reports)))
    assert [stream for stream, _ in frames] == list(range(len(accounts), 0, -1))


def test_both_ways_to_find_a_place_agree() -> None:
    rng = np.random.default_rng(3)
    for number, factor in rng.integers(0, 1 << 63, (200, 2), np.uint64).tolist():
        assert home_of(np.uint64(number), np.uint64(factor), 1 << 12) == place_of(
            number, factor, 1 << 12
        )


# Where the secret is kept ------------------------------------------------------------------------


def test_a_shard_keeps_its_secret_in_journal_and_snapshots(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    directory = plan.journal_dir(0)
    commands = commands_for(plan, 900)
    first, _ = recovered(plan)
    secret = first.found.snapshot.secret
    assert secret >> 64
    first.shard.close()
    write_journal(plan, commands[:600], secret=secret)
    assert {read_header(segment.path).secret for segment in segments_of(directory)} == {secret}
    second, _ = recovered(plan)
    assert second.found.snapshot.secret == secret
    assert book_secret(second.shard.book) == secret
    write_journal(plan, commands[600:], second.end, secret=secret)
    second.shard.close()
    taken = take_snapshot(plan, 0)
    assert taken.path is not None
    snapshot = read_snapshot(taken.path)
    assert snapshot.secret == secret
    assert f"{secret:x}" not in repr(snapshot)
    assert str(secret) not in repr(snapshot)
    third, _ = recovered(plan, snapshot.counters.trade_sequence)
    assert third.commands == 0
    assert book_secret(third.shard.book) == secret
    third.shard.close()


def book_secret(book: Any) -> int:
    secret: int = book._tables._secret
    return secret


def test_shards_have_secrets_of_their_own(tmp_path: Path) -> None:
    found = set()
    for name in ("one", "other"):
        start, _ = recovered(plan_of(tmp_path / name))
        found.add(start.found.snapshot.secret)
        start.shard.close()
    assert len(found) == 2


def test_a_segment_of_another_journal_is_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    commands = commands_for(plan, 200)
    write_journal(plan, commands[:100], secret=5)
    before, _ = recovered(plan)
    before.shard.close()
    before.end.path = None  # so that another segment follows
    write_journal(plan, commands[100:], before.end, secret=6)
    last = segments_of(plan.journal_dir(0))[-1].path
    with pytest.raises(JournalError, match=f"{last}: byte 40: is of another journal"):
        recovered(plan)
