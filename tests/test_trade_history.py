"""Searching the trade log backwards, many searches by turns: each finds what it would alone."""

import random
from pathlib import Path

import pytest

from engine.trade_log import history
from engine.trade_log.history import MOST_UNPACKED, BackwardLog, Block
from engine.trade_log.log import TradeLog
from engine.trade_log.reader import Position
from engine.trade_log.segments import TradeLogError, closed_segments, compressed_path
from tests.trades import make_lines

SEGMENT_BYTES = 4_096


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log of many compressed segments, each of several blocks and pieces of unpacking."""
    monkeypatch.setattr(history, "BLOCK_BYTES", 512)
    log = TradeLog(tmp_path, SEGMENT_BYTES, compress=True, background=False)
    for first in range(1, 401, 8):
        log.append(make_lines(0, first, 8))
    log.close()
    assert len(closed_segments(tmp_path)) > 6
    return tmp_path


def lines_of(blocks: list[Block]) -> bytes:
    """Return what blocks, newest first, have of the log."""
    return b"".join(block.lines for block in reversed(blocks))


def unpacked(log: BackwardLog) -> int:
    return len(log._unpacked)


def test_searches_by_turns_find_what_each_finds_alone(directory: Path, seed: int) -> None:
    chance = random.Random(seed)
    log = BackwardLog(directory)
    every = [block for block in log.blocks() if block.lines]
    text = lines_of(every)
    assert text.count(b"\n") == 400
    starts = [None, *(block.position for block in every)]
    begun = [chance.choice(starts) for _ in range(20)]
    searches = [log.blocks(start) for start in begun]
    found: list[list[Block]] = [[] for _ in begun]
    going_on = list(range(20))
    while going_on:
        number = chance.choice(going_on)
        block = next(searches[number], None)
        assert unpacked(log) <= MOST_UNPACKED
        if block is None:
            going_on.remove(number)
        elif chance.random() < 0.01:
            searches[number].close()  # it was cancelled
            going_on.remove(number)
            found[number].clear()
        else:
            found[number].append(block)
    for start, blocks in zip(begun, found, strict=True):
        alone = lines_of(list(BackwardLog(directory).blocks(start)))
        assert not blocks or lines_of(blocks) == alone
        assert start is None or text.startswith(alone)
    log.close()


def test_a_search_goes_on_from_a_pause(directory: Path) -> None:
    log, position, blocks = BackwardLog(directory), None, list[Block]()
    while True:
        block = next(iter(log.blocks(position)), None)
        if block is None:
            break
        if not block.lines:  # as far as it got in its time: the next goes on from there
            block = next(b for b in log.blocks(block.position) if b.lines)
        blocks.append(block)
        position = block.position
    assert lines_of(blocks) == lines_of(list(log.blocks()))


def test_where_the_disk_is_full_nothing_half_unpacked_is_taken_for_whole(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = BackwardLog(directory)
    whole = lines_of(list(BackwardLog(directory).blocks()))
    written = history.os.pwrite
    room = 700

    def full(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        done = written(descriptor, data[:room], offset)
        room -= done
        return done

    with monkeypatch.context() as patch:
        patch.setattr(history.os, "pwrite", full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                list(log.blocks())
    assert lines_of(list(log.blocks())) == whole


def test_a_damaged_segment_is_named_to_every_search(directory: Path) -> None:
    number = closed_segments(directory)[2]
    path = compressed_path(directory, number)
    path.write_bytes(path.read_bytes()[:-40])
    log = BackwardLog(directory)
    for _ in range(2):
        with pytest.raises(TradeLogError, match=f"{path.name}: byte"):
            list(log.blocks())
    assert list(log.blocks(Position(number, 0)))
