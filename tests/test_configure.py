"""CONFIGURE: another configuration of a shard as a command of its journal, and what comes of it."""

import os
from pathlib import Path
from random import Random

import numpy as np
import pytest

from bench.flows import Flow, Profile, near
from engine.books.choice import configured, make_book
from engine.books.contract import Book, BookLimits, Counters, Records, state_hash
from engine.journal.format import JournalError
from engine.journal.reader import End, JournalReader, is_configure, read_header, segments_of
from engine.journal.shard_config import (
    InstrumentConfig,
    RetiredInstrument,
    ShardConfig,
    differences,
    needs_books,
    obstacle,
)
from engine.journal.snapshot import read_snapshot, snapshots_of
from engine.journal.writer import JournalWriter
from engine.plan import Plan
from engine.shard.follower import Follower
from engine.shard.recovery import Shard, find_start, publish_nothing, recover
from engine.shard.snapshotter import take_snapshot
from engine.storage import Storage
from engine.verify import verify
from ipc.records import COMMAND, REPORT, RESTING, TRADE
from ipc.vocabulary import Administration, CommandType, Flag, Reason
from tests.kept import TIME_NS, plan_of
from tests.test_restore import state_of

SYMBOLS = 6
"""Numbers that the flows of commands speak of, listed or not."""
ROUNDS = int(os.environ.get("SHARDBOOK_CONFIGURE_ROUNDS", "6"))


def instrument(number: int, **changed: int | str) -> InstrumentConfig:
    one = InstrumentConfig(number, f"S{number}", "0.01", "1", 1, 100_000, 400, 100)
    return one._replace(**changed)  # type: ignore[arg-type]


def shard_config(*numbers: int, recent_orders: int = 64) -> ShardConfig:
    return ShardConfig(0, 1, recent_orders, [instrument(number) for number in numbers])


def changed(random: Random, kept: ShardConfig, book: Book) -> ShardConfig:
    """Return another configuration in whose way nothing stands."""
    listed = {i.number: i for i in kept.instruments}
    retired = list(kept.retired)
    recent_orders = random.choice([0, 5, 64, 300])
    resting = book.resting()
    for number in random.sample(sorted(listed), random.randint(0, len(listed))):
        one = listed[number]
        rests = int(np.count_nonzero(resting["symbol"] == number))
        kind = random.choice(["band", "limits", "retire", "tick", "nothing"])
        if kind == "band":
            low = random.choice([1, 990, 1_000])
            listed[number] = one._replace(min_price=low, max_price=low + random.choice([5, 9_000]))
        elif kind == "limits":
            room = rests + random.choice([1, 5, 400])
            own = random.randint(1, room)
            listed[number] = one._replace(max_resting_orders=room, max_account_orders=own)
        elif kind != "nothing" and not rests and not (book.sweeps()["symbol"] == number).any():
            del listed[number]
            retired.append(RetiredInstrument(*one[:4]))
    highest = max([*listed, *(left.number for left in retired)])
    if highest < SYMBOLS and random.random() < 0.5:
        listed[highest + 1] = instrument(highest + 1)
    instruments = [listed[number] for number in sorted(listed)]
    return ShardConfig(
        0,
        1,
        recent_orders,
        instruments,
        *random.choice([(0, 0), (3, 5), (2, 400)]),
        sorted(retired),
    )


def flow(seed: int, faults: float = 0.02) -> Flow:
    limits = tuple(BookLimits(number, 1, 100_000, 400) for number in range(1, SYMBOLS + 1))
    kinds = (50.0, 25.0, 15.0, 9.5, 0.5)
    return Flow(
        Profile(
            limits,
            near(1_000, 20),
            64,
            accounts=5,
            commands=kinds,
            repeats=0.2,
            reach=80,
            faults=faults,
        ),
        seed,
    )


def run(book: Book, commands: Records) -> tuple[Records, Records]:
    reports, trades = np.zeros(40_000, REPORT), np.zeros(20_000, TRADE)
    progress = book.process(commands, reports, trades)
    assert progress.commands == len(commands)
    return reports[: progress.reports], trades[: progress.trades]


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_both_books_are_equal_through_random_changes(seed: int) -> None:
    """Also where a book is brought back from its own state before or after a change."""
    print(
        f"SHARDBOOK_CONFIGURE_ROUNDS={ROUNDS} pytest 'tests/test_configure.py' -k 'random_changes'"
    )
    random, drawn = Random(seed), flow(seed)
    kept = shard_config(1, 2, 3)
    names = ("reference", "ladder", "reference", "ladder")
    start = Counters(0, 0, 0)
    books = [make_book(name, 0, kept.limits(), 64, start, 7) for name in names]
    changes = 0
    for _ in range(60):
        commands = drawn.commands(random.randint(1, 400))
        given = [run(book, commands) for book in books]
        drawn.learn(given[0][0])
        for reports, trades in given[1:]:
            assert (reports.tobytes(), trades.tobytes()) == tuple(a.tobytes() for a in given[0])
        if random.random() < 0.5:
            kept = changed(random, kept, books[0])
            changes += 1
            limits, recent_orders = kept.limits(), kept.recent_orders
            books = [
                configured(book, name, 0, limits, recent_orders, 7, kept.shares())
                for book, name in zip(books, names, strict=True)
            ]
        for place in (2, 3):  # begin from what a snapshot would keep of the other kind
            book = books[place - 2]
            again = make_book(
                names[5 - place], 0, kept.limits(), kept.recent_orders, start, 7, kept.shares()
            )
            again.restore(*state_of(book))
            books[place] = again
        names = ("reference", "ladder", "ladder", "reference")
        for book in books:
            book.check()
        assert len({state_hash(book) for book in books}) == 1
    assert changes > 10


def test_a_book_under_other_limits_goes_on_where_it_was() -> None:
    """One command more; what rests stays, outside a new band and beyond a new limit too."""
    drawn = flow(3)
    for name in ("reference", "ladder"):
        book = make_book(name, 0, shard_config(1, 2).limits(), 64, Counters(0, 0, 0))
        run(book, drawn.commands(2_000))
        before = book.counters()
        narrow = [
            BookLimits(1, 5_000, 6_000, 400, 1),
            BookLimits(2, 1, 10, 400),
            BookLimits(9, 1, 9, 9),
        ]
        other = configured(book, name, 0, narrow, 64)
        assert other.counters() == before._replace(sequence=before.sequence + 1)
        assert other.resting().tobytes() == book.resting().tobytes()
        assert len(other.resting())
        order = np.zeros(1, COMMAND)
        order["command_type"], order["symbol"], order["account"] = CommandType.NEW, 1, 1
        order["side"] = order["order_type"] = order["time_in_force"] = 1
        order["order_type"], order["quantity"] = 2, 1
        for price, reason in ((1_000, Reason.PRICE_OUT_OF_BAND), (5_500, Reason.NONE)):
            order["price"] = price
            assert run(other, order)[0]["reason"][0] == reason
        other.check()


@pytest.mark.parametrize("name", ["reference", "ladder"])
def test_ids_are_known_as_far_back_as_recent_orders_says_now(name: str) -> None:
    def order(client_order_id: int, time_in_force: int = 1) -> Records:
        one = np.zeros(1, COMMAND)
        one["command_type"], one["symbol"], one["account"] = CommandType.NEW, 1, 5
        one["side"], one["order_type"], one["quantity"], one["price"] = 1, 2, 1, 100
        one["time_in_force"], one["client_order_id"] = time_in_force, client_order_id
        return one

    limits = shard_config(1).limits()
    book = make_book(name, 0, limits, 3, Counters(0, 0, 0))
    run(book, order(1))
    for client_order_id in range(2, 10):  # these do not rest
        run(book, order(client_order_id, 3))
    wide = configured(book, name, 0, limits, 100)
    wide.check()
    # The one that rests is among the last 100, and so stays known when it has ended.
    assert wide.recent()["client_order_id"].tolist() == [1, 7, 8, 9]
    narrow = configured(wide, name, 0, limits, 1)
    narrow.check()
    assert narrow.recent()["client_order_id"].tolist() == [9]
    duplicate = Reason.DUPLICATE_CLIENT_ORDER_ID
    for client_order_id, reason in ((9, duplicate), (1, duplicate), (8, Reason.NONE)):
        assert run(narrow, order(client_order_id))[0]["reason"][0] == reason
    # Of what is retired none is known.
    assert not len(configured(make_both(name), name, 0, shard_config(2).limits(), 9).recent())
    gone = configured(narrow, name, 0, limits, 0)
    assert not len(gone.recent())


def make_both(name: str) -> Book:
    """Return a book that knows an id of symbol 1, where nothing rests."""
    book = make_book(name, 0, shard_config(1, 2).limits(), 9, Counters(0, 0, 0))
    one = np.zeros(1, COMMAND)
    one["command_type"], one["symbol"], one["account"] = CommandType.NEW, 1, 5
    one["side"], one["order_type"], one["quantity"], one["price"] = 1, 2, 1, 100
    one["time_in_force"], one["client_order_id"] = 3, 7
    run(book, one)
    assert len(book.recent()) == 1
    return book


# The journal -------------------------------------------------------------------------------------


class Written:
    """A journal of random commands and changes, and the state that its matcher had."""

    def __init__(self, plan: Plan, seed: int, kept: ShardConfig) -> None:
        self.plan, self.random, self.flow = plan, Random(seed), flow(seed, 0)
        self.journal = JournalWriter(plan.journal_dir(0), kept, End(), 16_384, secret=11)
        self.journal.begin()
        found = find_start(plan.journal_dir(0), kept, None)
        self.shard = Shard(plan, 0, found.snapshot, plan.data_dir / "written")
        self.hashes: dict[int, str] = {}
        self.changes = 0
        self.reports, self.trades = b"", b""

    def step(self, changes: float = 0.4) -> None:
        commands = self.flow.commands(self.random.randint(1, 300))
        commands["timestamp_ns"] = TIME_NS
        self.journal.append(commands, TIME_NS)
        self.shard.replay(commands, self._publish)
        if self.random.random() < changes:
            self.change(changed(self.random, self.shard.shard_config, self.shard.book))
        self.hashes[self.journal.sequence] = state_hash(self.shard.book)

    def change(self, wanted: ShardConfig) -> None:
        if differences(self.shard.shard_config, wanted):
            self.journal.configure(wanted, TIME_NS)
            self.shard.configure(wanted, TIME_NS)
            self.changes += 1

    def _publish(self, trades: Records, reports: Records, _: int) -> None:
        self.flow.learn(reports)
        self.reports += reports.tobytes()
        self.trades += trades.tobytes()

    def close(self) -> None:
        self.journal.close()
        self.shard.close()


def hash_of_start(plan: Plan, published: int = 0) -> tuple[int, str, ShardConfig]:
    found = recover(plan, 0, published, publish_nothing, plan.data_dir / "orders")
    state = found.shard
    state.book.check()
    state.close()
    return found.end.sequence, state_hash(state.book), state.shard_config


@pytest.mark.parametrize("kind", ["reference", "ladder"])
@pytest.mark.parametrize("seed", range(max(1, ROUNDS // 3)))
def test_snapshot_and_recovery_at_any_point_give_the_same_state(
    tmp_path: Path, kind: str, seed: int
) -> None:
    plan = plan_of(tmp_path, engine=f'book = "{kind}"')
    written = Written(plan, seed, shard_config(1, 2, 3))
    for step in range(30):
        written.step()
        expected = (
            written.journal.sequence,
            state_hash(written.shard.book),
            written.shard.shard_config,
        )
        if step % 3 == 0:
            assert hash_of_start(plan) == expected
        if step % 7 == 0:
            taken = take_snapshot(plan, 0)
            assert taken.sequence == written.journal.sequence
            assert hash_of_start(plan, 1 << 40 if taken.path is None else 0) == expected
    assert written.changes > 5
    written.close()
    for path in snapshots_of(plan.journal_dir(0)):
        snapshot = read_snapshot(path)
        assert path.stat().st_size
        assert snapshot.counters.sequence in written.hashes
    for path in snapshots_of(plan.journal_dir(0)):
        path.unlink()
    assert hash_of_start(plan) == expected  # the whole journal, through every change
    made = len(written.trades) // TRADE.itemsize
    said = verify(plan.data_dir).lines  # it carries the changes out by itself
    assert any(f"PROBLEM: trades 1 to {made}, which the journal has" in line for line in said), said
    assert any("the configuration changes in it" in line for line in said), said


def test_a_follower_goes_through_changes_from_any_position(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    written = Written(plan, 5, shard_config(1, 2, 3))
    with_live = Follower(plan, 0, 0, plan.data_dir / "live")
    live: list[tuple[bytes, bytes]] = []
    for _ in range(25):
        written.step()
        while (batch := with_live.step()) is not None:
            live.append((batch.reports.tobytes(), batch.trades.tobytes()))
    assert b"".join(reports for reports, _ in live) == written.reports
    assert b"".join(trades for _, trades in live) == written.trades
    assert state_hash(with_live.shard.book) == state_hash(written.shard.book)
    assert with_live.shard.shard_config == written.shard.shard_config
    configures = [
        s.first_sequence
        for before, s in zip(
            segments_of(plan.journal_dir(0)), segments_of(plan.journal_dir(0))[1:], strict=False
        )
        if read_header(before.path).shard_config != read_header(s.path).shard_config
    ]
    assert len(configures) == written.changes > 5
    for sequence in configures[:4]:  # right before a change, right behind it
        for position in (sequence - 1, sequence):
            follower = Follower(plan, 0, position, plan.data_dir / "again")
            first = follower.step()
            assert first is not None
            assert is_configure(first.commands) == (position < sequence)
            assert len(first.reports) == 0 or position == sequence
            while follower.step() is not None:
                pass
            assert state_hash(follower.shard.book) == state_hash(written.shard.book)
            follower.close()
    with_live.close()
    written.close()


class DiesError(Exception):
    """What a kill is to this test."""


class Dying(Storage):
    """DiesError before the n-th thing that it is asked to do to the disk."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise DiesError

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def allocate(self, descriptor: int, size: int) -> None:
        self._step()
        super().allocate(descriptor, size)

    def write(self, descriptor: int, data: bytes | memoryview, offset: int) -> None:
        self._step()
        super().write(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)

    def rename(self, path: Path, target: Path) -> None:
        self._step()
        super().rename(path, target)

    def sync_directory(self, directory: Path) -> None:
        self._step()
        super().sync_directory(directory)

    def truncate(self, descriptor: int, size: int) -> None:
        self._step()
        super().truncate(descriptor, size)


def test_a_kill_at_any_step_leaves_the_former_configuration_or_the_new_one(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    written = Written(plan, 1, shard_config(1, 2))
    for _ in range(5):
        written.step(0)
    before = state_hash(written.shard.book)
    kept, wanted = written.shard.shard_config, shard_config(1, 2, 3)
    written.shard.configure(wanted, TIME_NS)
    after = state_hash(written.shard.book)
    last = written.journal.sequence
    written.close()
    seen = set()
    files = {path.name: path.read_bytes() for path in plan.journal_dir(0).iterdir()}
    for steps in range(30):
        for path in plan.journal_dir(0).iterdir():
            path.unlink()
        for name, data in files.items():
            (plan.journal_dir(0) / name).write_bytes(data)
        end = recover(plan, 0, 0, publish_nothing, plan.data_dir / "orders")
        end.shard.close()
        done = False
        try:
            journal = JournalWriter(
                plan.journal_dir(0),
                kept,
                end.end,
                16_384,
                secret=11,
                fsync=True,
                storage=Dying(steps),
            )
            journal.configure(wanted, TIME_NS)
            done = True
        except DiesError:
            pass
        found = hash_of_start(plan)
        assert found in ((last, before, kept), (last + 1, after, wanted))
        seen.add((found[0], done))
        if done:
            assert found[0] == last + 1
            break
    assert seen >= {(last, False), (last + 1, True)}


def test_a_segment_under_another_configuration_must_begin_with_the_command(tmp_path: Path) -> None:
    directory = plan_of(tmp_path).journal_dir(0)
    command = np.zeros(1, COMMAND)
    command["command_type"], command["timestamp_ns"] = CommandType.CANCEL, TIME_NS
    for config, first in ((shard_config(1), 0), (shard_config(1, 2), 1)):
        journal = JournalWriter(directory, config, End(sequence=first), 16_384)
        journal.append(command, TIME_NS)
        journal.close()
    with pytest.raises(JournalError, match="does not begin with the command that brings it"):
        list(JournalReader(directory, shard_config(1), 0).chunks())
    with pytest.raises(JournalError, match=r"another configuration: instrument 2 \(S2\) was not"):
        list(JournalReader(directory, shard_config(1), 2).chunks())
    assert int(Administration.CONFIGURE) == 64


def test_a_reader_goes_on_where_an_empty_segment_gave_way_to_one_of_another_configuration(
    tmp_path: Path,
) -> None:
    """The new header is longer: what was read of the former one counts for nothing."""
    directory = plan_of(tmp_path).journal_dir(0)
    kept, wanted = shard_config(1), shard_config(*range(1, 200))
    journal = JournalWriter(directory, kept, End(), 16_384)
    command = np.zeros(1, COMMAND)
    command["command_type"], command["timestamp_ns"] = CommandType.CANCEL, TIME_NS
    journal.append(command, TIME_NS)
    journal.begin()
    reader = JournalReader(directory, kept, 0, live=True)
    assert [len(commands) for commands in reader.chunks()] == [1]
    assert list(reader.chunks()) == []
    journal.configure(wanted, TIME_NS)
    journal.append(command, TIME_NS)
    found = [
        (is_configure(commands), reader.shard_config == wanted, len(commands))
        for commands in reader.chunks()
    ]
    assert found == [(True, True, 1), (False, True, 1)]
    assert len(segments_of(directory)) == 2
    assert list(reader.chunks()) == []
    assert reader.end.sequence == 3
    journal.close()


def test_the_order_table_grows_with_the_limits(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, engine="ended_orders = 1")
    few = ShardConfig(0, 1, 64, [instrument(1, max_resting_orders=2, max_account_orders=2)])
    written = Written(plan, 1, few)
    written.change(shard_config(1))
    orders = np.zeros(100, COMMAND)
    orders["command_type"], orders["symbol"], orders["account"] = CommandType.NEW, 1, 5
    orders["side"], orders["order_type"], orders["time_in_force"] = 1, 2, 1
    orders["price"], orders["quantity"], orders["timestamp_ns"] = 100, 1, TIME_NS
    written.journal.append(orders, TIME_NS)
    written.shard.replay(orders, publish_nothing)
    found = recover(plan, 0, 0, publish_nothing, plan.data_dir / "orders")
    assert len(found.shard.table.contents()) == 100
    found.shard.close()
    written.close()


# What stands in the way --------------------------------------------------------------------------


def orders(*symbols: int) -> Records:
    resting = np.zeros(len(symbols), RESTING)
    resting["symbol"] = symbols
    return resting


def sweep(symbol: int) -> Records:
    one = np.zeros(1, COMMAND)
    one["symbol"], one["flags"] = symbol, Flag.NONE
    return one


def relisted(number: int, **changed: str) -> ShardConfig:
    """Instrument 1 retired, and its symbol under another number."""
    return ShardConfig(
        0,
        1,
        64,
        [instrument(2), instrument(number, symbol="S1", **changed)],
        retired=[RetiredInstrument(1, "S1", "0.01", "1")],
    )


@pytest.mark.parametrize(
    ("wanted", "rests", "sweeps", "said"),
    [
        (ShardConfig(0, 3, 9, [instrument(1), instrument(2), instrument(3)]), (1,), 0, ""),
        (relisted(3, tick_size="0.05"), (2,), 0, ""),
        (
            relisted(3, tick_size="0.05"),
            (1, 1),
            0,
            "instrument 1 (S1): tick_size can become 0.05 from 0.01 only where none of its orders "
            "rest; 2 rest",
        ),
        (relisted(3, lot_size="2"), (1,), 0, "lot_size can become 2 from 1 only where"),
        (relisted(3), (1,), 0, "can be retired or go to another shard only where none of its"),
        (relisted(3), (), 1, "only where no mass cancel of it is under way; one is"),
        (shard_config(2), (), 0, "instrument 1 (S1): must stay listed, or be retired"),
        (ShardConfig(1, 2, 64, []), (), 0, "shard = 1: must stay 0"),
        (ShardConfig(0, 0, 64, []), (), 0, "matchers = 0: must not be fewer than 1"),
        (
            ShardConfig(0, 1, 64, [instrument(1, max_resting_orders=2), instrument(2)]),
            (1, 1, 1),
            0,
            "instrument 1 (S1): max_resting_orders = 2: must not be below the number of orders "
            "that rest, 3",
        ),
        (
            ShardConfig(0, 1, 64, [instrument(1, tick_size="0.1"), instrument(2)]),
            (),
            0,
            "instrument 1 (S1): tick_size = 0.1: must stay 0.01",
        ),
        (
            ShardConfig(0, 1, 64, [instrument(1, symbol="X"), instrument(2)]),
            (),
            0,
            "symbol = X: a number is one symbol's for good",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_its_rule(
    wanted: ShardConfig, rests: tuple[int, ...], sweeps: int, said: str
) -> None:
    found = obstacle(shard_config(1, 2), wanted, orders(*rests), sweep(sweeps)[: bool(sweeps)])
    assert found == said or (said and said in found)
    assert needs_books(shard_config(1, 2), wanted) or not rests or not said


def test_a_retired_number_stays_retired() -> None:
    kept = ShardConfig(0, 1, 64, [instrument(2)], retired=[RetiredInstrument(1, "S1", "0.01", "1")])
    found = obstacle(kept, shard_config(1, 2), orders(), sweep(0)[:0])
    assert found == "instrument 1 (S1): is retired, and must stay so"
    assert "instrument 1 (S1) was retired as it is not now" in differences(kept, shard_config(1, 2))
