"""The trade ring: against a list, and between real processes at the edge where it laps."""

import errno
import os
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.memory.mapping import MappingError
from ipc.memory.ring import REPORTS, GatingReader, RingError, RingReader, RingWriter, create_ring
from ipc.records import REPORT, TRADE, make_id
from tests.shared_memory import until, working
from tests.trades import make_trades

SHARD = 3


def ring(path: Path, capacity: int, last: int = 0, gating_readers: int = 0) -> Path:
    create_ring(path / "ring", SHARD, capacity, last, gating_readers)
    return path / "ring"


def are(trades: np.ndarray, first: int, count: int) -> bool:
    """Whether these are just these trades, whole."""
    return np.array_equal(trades, make_trades(SHARD, first, max(0, count)))


# Alone ------------------------------------------------------------------------------------------


def test_what_is_published_is_read(tmp_path: Path) -> None:
    path = ring(tmp_path, 16)
    writer, reader = RingWriter(path), RingReader(path)
    assert are(reader.read(0, 100).records, 1, 0)
    writer.publish(make_trades(SHARD, 1, 10))
    writer.publish(make_trades(SHARD, 11, 0))
    assert (reader.published, reader.oldest, reader.shard) == (10, 1, SHARD)
    result = reader.read(2, 5)
    assert (result.first, result.lost_records) == (3, 0)
    assert result.records.dtype == TRADE
    assert are(result.records, 3, 5)
    assert are(reader.last(3), 8, 3)
    assert are(reader.last(100), 1, 10)
    assert are(reader.last(0), 1, 0)


def test_a_lapped_reader_hears_how_much_it_lost(tmp_path: Path) -> None:
    path = ring(tmp_path, 16)
    writer, reader = RingWriter(path), RingReader(path)
    for first in range(1, 41, 8):
        writer.publish(make_trades(SHARD, first, 8))
    result = reader.read(4, 100)
    assert (result.first, result.lost_records) == (25, 20)
    assert are(result.records, 25, 16)
    assert (reader.lost_records, reader.torn_copies) == (20, 0)


@pytest.mark.parametrize("published", [0, 3, 16, 20])
@pytest.mark.parametrize(("after", "limit"), [(0, 100), (2, 1), (6, 4), (14, 4), (19, 9), (30, 1)])
def test_words_are_those_of_the_records(
    tmp_path: Path, published: int, after: int, limit: int
) -> None:
    path = ring(tmp_path, 16)
    writer, one, other = RingWriter(path), RingReader(path), RingReader(path)
    for sequence in range(published):
        writer.publish(make_trades(SHARD, sequence + 1, 1))
    records = one.read(after, limit).records
    assert other.read_words(after, limit) == records.view("<u8").reshape(-1, 8).tolist()
    assert other.lost_records == one.lost_records


def test_words_that_the_writer_came_by_are_left_out(tmp_path: Path) -> None:
    path = ring(tmp_path, 16)
    RingWriter(path).publish(make_trades(SHARD, 1, 10))
    seen = iter((1, 4))

    class Overtaken(RingReader):
        oldest = property(lambda _: next(seen))

    reader = Overtaken(path)
    assert [words[0] for words in reader.read_words(0, 5)] == [make_id(SHARD, 4), make_id(SHARD, 5)]
    assert reader.lost_records == 3


def test_a_position_ahead_of_the_ring_waits(tmp_path: Path) -> None:
    path = ring(tmp_path, 16)
    writer, reader = RingWriter(path), RingReader(path)
    writer.publish(make_trades(SHARD, 1, 4))
    result = reader.read(9, 100)
    assert (result.first, len(result.records), result.lost_records) == (10, 0, 0)


def test_a_ring_goes_on_after_a_sequence(tmp_path: Path) -> None:
    path = ring(tmp_path, 16, last=1000)
    writer, reader = RingWriter(path), RingReader(path)
    assert (reader.published, reader.oldest) == (1000, 1001)
    assert are(reader.last(5), 1, 0)
    assert reader.read(900, 5).lost_records == 100
    writer.publish(make_trades(SHARD, 1001, 2))
    assert are(reader.last(5), 1001, 2)


def test_a_writer_takes_over(tmp_path: Path) -> None:
    path = ring(tmp_path, 16)
    RingWriter(path).publish(make_trades(SHARD, 1, 10))
    RingWriter(path).publish(make_trades(SHARD, 11, 10))
    assert are(RingReader(path).last(16), 5, 16)


def test_what_a_killed_writer_half_wrote_is_never_read(tmp_path: Path) -> None:
    path = ring(tmp_path, 16)
    writer, reader = RingWriter(path), RingReader(path)
    writer.publish(make_trades(SHARD, 1, 16))
    writer.words[0] = 22  # claimed, and then killed
    writer.rows[1:5] = 99
    heir = RingWriter(path)
    heir.publish(make_trades(SHARD, 17, 2))
    assert (reader.published, reader.oldest) == (18, 7)
    assert are(reader.read(0, 100).records, 7, 12)
    assert are(reader.last(100), 7, 12)


@pytest.mark.parametrize(
    "trades",
    [
        make_trades(SHARD, 2, 3),
        make_trades(SHARD, 4, 3),
        make_trades(SHARD + 1, 3, 3),
        np.concatenate([make_trades(SHARD, 3, 1), make_trades(SHARD, 5, 1)]),
    ],
    ids=["again", "gap", "other shard", "gap within"],
)
def test_ids_must_be_dense(tmp_path: Path, trades: np.ndarray) -> None:
    path = ring(tmp_path, 16)
    writer, reader = RingWriter(path), RingReader(path)
    writer.publish(make_trades(SHARD, 1, 2))
    with pytest.raises(RingError, match=f"{path}: ids .* in place of "):
        writer.publish(trades)
    assert are(reader.last(16), 1, 2)


def test_capacity_is_a_power_of_two(tmp_path: Path) -> None:
    for capacity in (0, 12):
        with pytest.raises(RingError, match=f"capacity of {capacity} records"):
            ring(tmp_path, capacity)


def test_readers_cannot_write(tmp_path: Path) -> None:
    path = ring(tmp_path, 16, gating_readers=1)
    RingWriter(path).publish(make_trades(SHARD, 1, 4))
    reader = RingReader(path)
    with pytest.raises(TypeError, match="read-only"):
        reader.words[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        reader.rows[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        GatingReader(path).peek(4)["price"] = 1


def test_copies_outlive_the_ring(tmp_path: Path) -> None:
    path = ring(tmp_path, 16, gating_readers=1)
    writer, reader, gate = RingWriter(path), RingReader(path), GatingReader(path)
    writer.publish(make_trades(SHARD, 1, 4))
    copy, view = reader.last(4), gate.peek(4)
    for one in (writer, reader, gate):
        one.close()
    assert are(copy, 1, 4)
    assert are(view, 1, 4)


# Gating -----------------------------------------------------------------------------------------


def test_the_slowest_gating_reader_gates(tmp_path: Path) -> None:
    path = ring(tmp_path, 16, last=100, gating_readers=2)
    writer, fast, slow = RingWriter(path), GatingReader(path, 0), GatingReader(path, 1)
    assert writer.room() == 16
    writer.publish(make_trades(SHARD, 101, 16))
    assert writer.room() == 0
    fast.advance(16)
    slow.advance(3)
    assert (fast.available(), slow.available(), slow.cursor) == (0, 13, 103)
    assert writer.room() == 3
    with pytest.raises(RingError, match=r"4 records do not fit .* room for 3"):
        writer.publish(make_trades(SHARD, 117, 4))
    assert are(slow.peek(100), 104, 8)  # to the end of the ring
    writer.publish(make_trades(SHARD, 117, 3))
    slow.advance(8)
    assert are(slow.peek(100), 112, 8)
    assert are(slow.peek(2), 112, 2)
    assert (writer.cursor_of(0), writer.cursor_of(1)) == (116, 111)
    with pytest.raises(RingError, match="9 records are not there"):
        slow.advance(9)


def test_a_batch_that_fits_is_never_refused(tmp_path: Path) -> None:
    path = ring(tmp_path, 16, gating_readers=1)
    writer, gate = RingWriter(path), GatingReader(path)
    writer.publish(make_trades(SHARD, 1, 8))
    gate.advance(8)
    assert writer.room() == 8  # half is known to be free, so it does not look
    writer.publish(make_trades(SHARD, 9, 16))
    assert are(gate.peek(16), 9, 7)


def test_a_writer_that_takes_over_is_gated_too(tmp_path: Path) -> None:
    path = ring(tmp_path, 16, gating_readers=1)
    RingWriter(path).publish(make_trades(SHARD, 1, 12))
    assert RingWriter(path).room() == 4


def test_a_gating_reader_goes_on_where_it_was(tmp_path: Path) -> None:
    path = ring(tmp_path, 16, gating_readers=1)
    RingWriter(path).publish(make_trades(SHARD, 1, 12))
    GatingReader(path).advance(5)
    assert are(GatingReader(path).peek(2), 6, 2)
    with pytest.raises(RingError, match="has 1 gating readers, none is 1"):
        GatingReader(path, 1)


def test_who_waits_is_woken(tmp_path: Path) -> None:
    path = ring(tmp_path, 16, gating_readers=3)
    writer, readers = RingWriter(path), [GatingReader(path, index) for index in range(3)]
    assert writer.wakeups() == []
    readers[2].set_waiting(True)
    readers[0].set_waiting(True)
    assert writer.wakeups() == [0, 2]
    readers[2].set_waiting(False)
    assert writer.wakeups() == [0]
    assert [reader.available() for reader in readers] == [0, 0, 0]


@given(
    capacity=st.sampled_from([1, 2, 8, 32]),
    last=st.integers(0, 100),
    steps=st.lists(
        st.tuples(st.sampled_from(["publish", "read", "last", "take"]), st.integers(0, 40))
    ),
)
def test_it_is_a_list_with_a_short_memory(
    tmp_path_factory: pytest.TempPathFactory,
    capacity: int,
    last: int,
    steps: list[tuple[str, int]],
) -> None:
    path = ring(tmp_path_factory.mktemp("ring"), capacity, last, gating_readers=1)
    writer, reader, gate = RingWriter(path), RingReader(path), GatingReader(path)
    published, position, taken = last, last, last
    for step, number in steps:
        count = number
        oldest = max(last, published - capacity) + 1
        if step == "publish":
            assert 0 <= capacity - (published - taken) - writer.room() <= taken - last
            count = min(count, writer.room())
            writer.publish(make_trades(SHARD, published + 1, count))
            published += count
        elif step == "read":
            result = reader.read(position, count)
            assert result.first == max(position + 1, oldest)
            assert result.lost_records == result.first - position - 1
            expected = min(count, published - result.first + 1)
            assert are(result.records, result.first, expected)
            position = result.first + len(result.records) - 1
        elif step == "last":
            first = max(oldest, published - count + 1)
            assert are(reader.last(count), first, published - first + 1)
        else:
            trades = gate.peek(count)
            assert are(trades, taken + 1, len(trades))
            assert bool(len(trades)) == (count > 0 and published > taken)
            gate.advance(len(trades))
            taken += len(trades)


# Memory -----------------------------------------------------------------------------------------


def fill(writer: RingWriter, first: int, last: int) -> None:
    for start in range(first, last + 1, 1_000):
        writer.publish(make_trades(SHARD, start, min(1_000, last + 1 - start)))


def taken(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("last", [0, 5_000, 65_000])
def test_rows_get_memory_as_a_ring_is_first_filled(tmp_path: Path, last: int) -> None:
    path = ring(tmp_path, 8_192, last)
    whole = 8_192 * TRADE.itemsize
    assert taken(path) < 32_768
    writer, reader = RingWriter(path), RingReader(path)
    assert taken(path) < 32_768  # opening it touches none
    fill(writer, last + 1, last + 10)
    assert taken(path) < whole // 4
    heir = RingWriter(path)
    fill(heir, last + 11, last + 4_000)
    assert taken(path) < 3 * whole // 4
    assert heir.published <= heir.reserved
    fill(heir, last + 4_001, last + 30_000)
    assert whole <= taken(path) < whole + 32_768
    assert are(reader.read(last + 25_000, 5_000).records, last + 25_001, 5_000)


def test_a_ring_without_memory_says_so_and_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ring(tmp_path, 8_192)
    writer, reader = RingWriter(path), RingReader(path)
    fill(writer, 1, 10)

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        fill(writer, 11, 1_000)  # they have it already
        with pytest.raises(RingError, match=r"no memory for \d+ further records: No space"):
            writer.publish(make_trades(SHARD, 1_001, 1_000))
    assert (reader.published, reader.oldest) == (1_000, 1)
    fill(writer, 1_001, 9_000)
    assert are(reader.read(8_000, 1_000).records, 8_001, 1_000)


def test_a_ring_that_begins_anew_elsewhere_gets_memory_there(tmp_path: Path) -> None:
    path = ring(tmp_path, 8_192)
    writer, reader = RingWriter(path), RingReader(path)
    fill(writer, 1, 10)
    writer.begin_after(5_000)
    assert writer.reserved == 5_000
    fill(writer, 5_001, 5_010)
    assert 5_010 <= writer.reserved < 7_000
    fill(writer, 5_011, 20_000)
    assert are(reader.read(15_000, 5_000).records, 15_001, 5_000)


# Between processes ------------------------------------------------------------------------------


def publish_without_end(path: Path, seed: int, stop: Any) -> None:
    """Publish batches of random size as fast as room allows, until told to stop."""
    writer = RingWriter(path)
    choice = random.Random(seed)
    batches: list[np.ndarray] = []
    while not stop.is_set():
        if not batches:  # made ahead, so that writing takes most of the time
            first = writer.published + 1
            for _ in range(64):
                count = choice.randint(1, writer.capacity // 4)
                batches.append(make_trades(SHARD, first, count))
                first += count
            batches.reverse()
        if len(batches[-1]) <= writer.room():
            writer.publish(batches.pop())


@pytest.mark.parametrize("capacity", [64, 1024])
def test_nothing_torn_is_read_at_the_lapping_edge(tmp_path: Path, capacity: int, seed: int) -> None:
    """Each read begins at the oldest trade, which the writer is about to overwrite."""
    path = ring(tmp_path, capacity)
    reader = RingReader(path)
    choice = random.Random(seed)
    position = read = lost = 0

    def take(limit: int) -> int:
        nonlocal position, read, lost
        result = reader.read(position, limit)
        count = len(result.records)
        assert are(result.records, result.first, count)
        read, lost = read + count, lost + result.lost_records
        assert result.first == position + 1 + result.lost_records
        position = result.first + count - 1
        return count

    with working(publish_without_end, path, seed) as end:
        laps = 0
        while reader.torn_copies < 50 or laps < 50:
            lap = position + capacity
            until(lambda: reader.published > lap, "the writer has lapped the reader")  # noqa: B023
            take(capacity)
            newest = reader.last(capacity)
            if len(newest):
                first = int(newest["trade_id"][0]) & 0xFFFFFFFF
                assert are(newest, first, len(newest))
            laps += 1
        end()
    while take(choice.randint(1, capacity)):
        pass
    assert position == reader.published
    assert read + lost == reader.published
    assert reader.lost_records == lost > 0


def test_a_gating_reader_loses_nothing(tmp_path: Path, seed: int) -> None:
    """The reader lets the ring fill up each time before it takes anything."""
    path = ring(tmp_path, 256, gating_readers=1)
    gate, choice = GatingReader(path), random.Random(seed)
    with working(publish_without_end, path, seed) as end:
        for _ in range(200):
            until(lambda: gate.available() > 256 - 64, "the next batch has no room")
            held = gate.peek(256)
            first, count = gate.cursor + 1, len(held)
            assert are(held, first, count)
            part = choice.randint(1, count)
            assert gate.available() <= 256
            assert are(held, first, count)
            gate.advance(part)
        end()
    while gate.available():
        trades = gate.peek(100)
        assert are(trades, gate.cursor + 1, len(trades))
        gate.advance(len(trades))
    assert gate.cursor == gate.published


# Rings of reports ------------------------------------------------------------------------------


def numbered_reports(first: int, count: int) -> np.ndarray:
    reports = np.zeros(count, REPORT)
    reports["account_sequence"] = np.arange(first, first + count)
    return reports


def test_a_ring_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = ring(tmp_path, 16)
    with pytest.raises(MappingError, match="holds 'trade ring', not 'report ring'"):
        RingReader(path, REPORTS)


@given(
    base=st.integers(0, 40),
    batches=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), max_size=8),
)
def test_records_come_again_after_a_crash_and_stand_once(
    base: int, batches: list[tuple[int, int]]
) -> None:
    """Each batch goes back some records, as a replay does; the ring shows every one once."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "ring"
        create_ring(path, SHARD, 16, 0, 0, REPORTS)
        writer, reader = RingWriter(path, REPORTS), RingReader(path, REPORTS)
        last = base
        for count, back in batches:
            first = max(base + 1, last + 1 - back)
            writer.publish_new(numbered_reports(first, count), first)
            last = max(last, first + count - 1)
            wanted = np.arange(max(base + 1, last - 15), last + 1)
            assert reader.published in (last, 0)
            assert reader.last(99)["account_sequence"].tolist() == wanted.tolist()
            writer = RingWriter(path, REPORTS)


def test_what_a_ring_holds_has_no_gap(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    create_ring(path, SHARD, 16, 0, 0, REPORTS)
    writer = RingWriter(path, REPORTS)
    writer.publish_new(numbered_reports(5, 2), 5)
    reader = RingReader(path, REPORTS)
    writer.publish_new(numbered_reports(8, 1), 8)
    assert (reader.oldest, reader.published) == (8, 8)
    assert reader.last(9)["account_sequence"].tolist() == [8]
    writer.begin_after(3)
    assert (reader.oldest, reader.published, len(reader.last(9))) == (4, 3, 0)
    trades = RingWriter(ring(tmp_path, 16, last=3, gating_readers=1))
    with pytest.raises(RingError, match="record 5 in place of 4"):
        trades.publish_new(make_trades(SHARD, 5, 1), 5)
