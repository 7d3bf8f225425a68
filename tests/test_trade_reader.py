"""Readers of the trade log: whole lines, every trade once, in order, while it grows and rotates."""

import gzip
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.trade_log import reader
from engine.trade_log.log import LogTail, Position, TradeLog, TradeLogError, read_trades
from engine.trade_log.reader import BLOCK_BYTES, end_of_log
from engine.trade_log.segments import (
    ACTIVE,
    closed_segments,
    compressed_path,
    plain_path,
    read_seal,
)
from ipc.records import make_id
from tests.fork_server import shared_fork_server
from tests.product import until
from tests.trades import by_shard, ids, make_lines, read_ids

SEGMENT_BYTES = 4096


@pytest.fixture
def log(tmp_path: Path) -> Iterator[TradeLog]:
    """A log whose segments take about 25 lines and stay uncompressed."""
    log = TradeLog(tmp_path, SEGMENT_BYTES, compress=False)
    yield log
    log.close()


def drained(tail: LogTail) -> list[int]:
    """The ids of all trades up to the end of the log."""
    found = []
    while trades := tail.read():
        found += [trade.trade_id for trade in trades]
    return found


def test_trades_of_one_symbol_after_an_id(log: TradeLog, tmp_path: Path) -> None:
    log.append(make_lines(0, 1, 100))
    log.append(make_lines(1, 1, 50))
    found = list(read_trades(tmp_path, "BTC/USD"))
    assert {trade.symbol for trade in found} == {"BTC/USD"}
    assert found == [trade for trade in read_trades(tmp_path) if trade.symbol == "BTC/USD"]
    assert read_ids(tmp_path) == ids(0, 1, 100) + ids(1, 1, 50)
    later = [trade.trade_id for trade in read_trades(tmp_path, after=make_id(1, 20))]
    assert later == ids(0, 1, 100) + ids(1, 21, 30)
    later = [trade.trade_id for trade in read_trades(tmp_path, after=make_id(0, 98))]
    assert later == ids(0, 99, 2) + ids(1, 1, 50)
    assert list(read_trades(tmp_path, "GOOGL")) == []


def test_no_log_yet(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    assert list(read_trades(directory)) == []
    tail = LogTail(directory)
    assert tail.read() == []
    log = TradeLog(directory, SEGMENT_BYTES)
    log.append(make_lines(0, 1, 3))
    assert drained(tail) == ids(0, 1, 3)
    log.close()


def test_only_whole_lines_of_the_active_segment(tmp_path: Path) -> None:
    lines = make_lines(0, 1, 3)
    whole = lines.splitlines(keepends=True)
    other = make_lines(1, 1, 1)
    tail = LogTail(tmp_path)
    for size in range(len(lines) + 1):
        (tmp_path / ACTIVE).write_bytes(lines[:size])
        assert len(read_ids(tmp_path)) == lines[:size].count(b"\n")
    cut = len(whole[0]) + 20
    (tmp_path / ACTIVE).write_bytes(lines[:cut])
    assert drained(tail) == ids(0, 1, 1)
    (tmp_path / ACTIVE).write_bytes(whole[0] + other)  # the torn line was cut, another written
    assert drained(tail) == ids(1, 1, 1)
    tail.close()


def test_a_position_can_be_kept(log: TradeLog, tmp_path: Path) -> None:
    log.append(make_lines(0, 1, 100))
    compressed_path(tmp_path, 2).write_bytes(gzip.compress(plain_path(tmp_path, 2).read_bytes()))
    plain_path(tmp_path, 2).unlink()
    everything = read_ids(tmp_path)
    assert everything == ids(0, 1, 100)
    places = [Position(0, 0)]
    for number in closed_segments(tmp_path):
        with LogTail(tmp_path, Position(number, 0)) as tail:
            first, second = tail.read_block().splitlines(keepends=True)[:2]
            places += [Position(number, len(first)), Position(number, len(first + second))]
    for place in places:
        with LogTail(tmp_path, place) as tail:
            skipped = everything.index(drained(tail)[0])
            assert tail.position == end_of_log(tmp_path)
        assert drained(LogTail(tmp_path, place)) == everything[skipped:]
    assert end_of_log(tmp_path) == Position(log.segments, (tmp_path / ACTIVE).stat().st_size)
    tail = LogTail(tmp_path, end_of_log(tmp_path))
    assert tail.read() == []
    log.append(make_lines(0, 101, 30))
    assert drained(tail) == ids(0, 101, 30)
    tail.close()


def test_blocks_are_bounded(tmp_path: Path) -> None:
    log = TradeLog(tmp_path, 4 << 20, compress=False)
    log.append(make_lines(0, 1, 10_000))
    with LogTail(tmp_path) as tail:
        assert BLOCK_BYTES - 320 < len(tail.read_block()) <= BLOCK_BYTES
        assert len(drained(tail)) > 1000
    log.close()


@pytest.mark.parametrize("seed", range(8))
def test_following_step_by_step(tmp_path: Path, seed: int) -> None:
    """Repeat one: pytest tests/test_trade_reader.py -k 'step_by_step and 7'."""
    choose = random.Random(seed)
    log = TradeLog(tmp_path, 1024, compress=False)
    tails = [LogTail(tmp_path) for _ in range(3)]
    seen: list[list[int]] = [[] for _ in tails]
    written = 0
    for _ in range(150):
        step = choose.randrange(8)
        number = choose.randrange(len(tails))
        if step < 3:
            count = choose.choice([1, 2, 5, 20])
            log.append(make_lines(2, written + 1, count))
            written += count
        elif step < 5:
            seen[number] += [trade.trade_id for trade in tails[number].read()]
        elif step == 5:
            tails[number].close()
            tails[number] = LogTail(tmp_path, tails[number].position)
        elif step == 6:
            plain = [n for n in closed_segments(tmp_path) if plain_path(tmp_path, n).exists()]
            if plain:
                path = plain_path(tmp_path, plain[0])
                packed = gzip.compress(path.read_bytes())
                compressed_path(tmp_path, plain[0]).write_bytes(packed)
                path.unlink()
        else:
            log.close()
            log = TradeLog(tmp_path, 1024, compress=False)
    log.close()
    for tail, found in zip(tails, seen, strict=True):
        assert found + drained(tail) == ids(2, 1, written), f"seed {seed}"
        tail.close()


def test_a_position_in_a_segment_that_is_gone(log: TradeLog, tmp_path: Path) -> None:
    log.append(make_lines(0, 1, 100))
    with LogTail(tmp_path, Position(2, 0)) as tail:
        first = tail.read()[0].trade_id
    plain_path(tmp_path, 1).unlink()
    assert drained(LogTail(tmp_path, Position(1, 1000))) == ids(0, first, 101 - first)


class TestBetweenLookingAndOpening:
    """What the writer, or an operator, does after a reader has listed the segments."""

    @pytest.fixture
    def then(self, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
        """Functions to call, each once, after the reader has listed the closed segments."""
        calls: list[Callable[[], object]] = []

        def listed(directory: Path) -> list[int]:
            found = closed_segments(directory)
            if calls:
                calls.pop(0)()
            return found

        monkeypatch.setattr(reader, "closed_segments", listed)
        return calls

    def test_the_active_segment_is_closed(
        self, log: TradeLog, tmp_path: Path, then: list[Callable[[], object]]
    ) -> None:
        log.append(make_lines(0, 1, 10))
        then.append(lambda: (tmp_path / ACTIVE).rename(plain_path(tmp_path, 1)))
        assert read_ids(tmp_path) == ids(0, 1, 10)
        assert not then

    def test_and_a_new_one_is_begun(
        self, log: TradeLog, tmp_path: Path, then: list[Callable[[], object]]
    ) -> None:
        log.append(make_lines(0, 1, 10))
        then.append(lambda: log.append(make_lines(0, 11, 90)))
        assert read_ids(tmp_path) == ids(0, 1, 100)
        assert not then

    def test_a_closed_one_is_moved_away(
        self, log: TradeLog, tmp_path: Path, then: list[Callable[[], object]]
    ) -> None:
        log.append(make_lines(0, 1, 100))
        with LogTail(tmp_path, Position(2, 0)) as tail:
            first = tail.read()[0].trade_id
        then.append(plain_path(tmp_path, 1).unlink)
        assert read_ids(tmp_path) == ids(0, first, 101 - first)
        assert not then


def write_log(directory: Path, trades: int) -> None:
    """A writer process: two shards in turn, segments of 2 KB, compressed."""
    log = TradeLog(directory, 2048)
    for sequence in range(1, trades, 5):
        for shard in (0, 1):
            log.append(make_lines(shard, sequence, 5))
    until(lambda: read_seal(directory).segment == closed_segments(directory)[-1])
    log.close()


def test_following_another_process(tmp_path: Path) -> None:
    trades = 500
    arguments = (tmp_path, trades)
    writer = shared_fork_server().Process(target=write_log, args=arguments, daemon=True)
    writer.start()
    found: list[int] = []
    with LogTail(tmp_path) as tail:

        def follow() -> bool:
            found.extend(trade.trade_id for trade in tail.read())
            return len(found) >= 2 * trades

        until(follow)
    writer.join()
    assert by_shard(found) == {shard: list(range(1, trades + 1)) for shard in (0, 1)}
    assert found == read_ids(tmp_path)


def test_segments_moved_away(log: TradeLog, tmp_path: Path) -> None:
    log.append(make_lines(0, 1, 60))
    with LogTail(tmp_path) as tail:
        assert len(drained(tail)) == 60
        log.append(make_lines(0, 61, 100))
        last = closed_segments(tmp_path)[-1]
        until(lambda: read_seal(tmp_path).segment == last)
        kept = [trade.trade_id for trade in tail.read()]  # of the file that it has open
        for number in closed_segments(tmp_path):
            plain_path(tmp_path, number).unlink()
        kept += drained(tail)
        assert kept == sorted(set(kept))
        assert tail.position == end_of_log(tmp_path)
        assert tail.position.segment == last + 1
        log.append(make_lines(0, 161, 5))
        assert drained(tail) == ids(0, 161, 5)


def test_a_log_that_was_cut_back(log: TradeLog, tmp_path: Path) -> None:
    log.append(make_lines(0, 1, 10))
    with LogTail(tmp_path) as tail:
        assert drained(tail) == ids(0, 1, 10)
        os.truncate(tmp_path / ACTIVE, len(make_lines(0, 1, 4)))
        with pytest.raises(TradeLogError, match="shorter now: read it again"):
            tail.read()
        assert drained(tail) == ids(0, 1, 4)


@pytest.mark.parametrize(
    ("content", "read", "problem"),
    [
        (make_lines(0, 1, 2) + b'{"trade_id":3', 2, "a line without an end: .*trade_id"),
        (
            make_lines(0, 1, 1) + b"\0\n" + make_lines(0, 2, 1),
            0,
            r"malformed.*further on in b'.x00",
        ),
        (b"\n" + make_lines(0, 1, 1), 0, "no trade, further on in"),
        (
            make_lines(0, 1, 1)[:-1] + b"\r" + make_lines(0, 2, 1),
            0,
            "more than one trade, further on in",
        ),
        (make_lines(0, 1, 1).replace(b"buy", b"bid").replace(b"sell", b"ask"), 0, "Invalid enum"),
        (b"", 0, "without a line"),
        (b"x" * (BLOCK_BYTES + 1), 0, "a line without an end"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_named(
    tmp_path: Path, content: bytes, read: int, problem: str, compressed: bool
) -> None:
    (tmp_path / ACTIVE).write_bytes(make_lines(0, 9, 1))
    if compressed:
        compressed_path(tmp_path, 1).write_bytes(gzip.compress(content))
    else:
        plain_path(tmp_path, 1).write_bytes(content)
    found = []
    with pytest.raises(TradeLogError, match=rf"trades-000001.*: byte \d+: .*{problem}"):
        found.extend(read_trades(tmp_path))
    assert len(found) == read


@pytest.mark.parametrize("size", [5, 40, 70, -9, -1])
def test_a_damaged_compressed_segment(tmp_path: Path, size: int) -> None:
    packed = gzip.compress(make_lines(0, 1, 50))
    compressed_path(tmp_path, 1).write_bytes(packed[:size])
    with pytest.raises(TradeLogError, match="cannot be unpacked further"):
        read_ids(tmp_path)
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 0xFF
    compressed_path(tmp_path, 1).write_bytes(damaged)
    with pytest.raises(TradeLogError, match="cannot be unpacked further"):
        read_ids(tmp_path)


def test_an_active_line_without_an_end(tmp_path: Path) -> None:
    (tmp_path / ACTIVE).write_bytes(b"x" * BLOCK_BYTES)
    with pytest.raises(TradeLogError, match=r"trades\.ndjson: byte 0: a line without an end"):
        read_ids(tmp_path)
