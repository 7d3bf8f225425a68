"""The depth board: whole pictures, whoever is writing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ipc.memory import depth_board as board_module
from ipc.memory.depth_board import BoardBusyError, BoardReader, BoardWriter, create_board
from ipc.records import LEVEL
from tests.shared_memory import until, working

SHARD = 5
LEVELS = 16


def board(path: Path, *symbols: int) -> tuple[BoardWriter, BoardReader]:
    create_board(path / "depth", SHARD, symbols, LEVELS)
    return BoardWriter(path / "depth"), BoardReader(path / "depth")


def levels(sequence: int, side: int) -> np.ndarray:
    """Levels whose number and every field follow from a sequence."""
    made = np.zeros((sequence * 7 + side) % (LEVELS + 1), LEVEL)
    places = np.arange(len(made))
    made["price"] = sequence * 100 + side * 50 + places
    made["quantity"] = sequence * 3 + places
    made["order_count"] = sequence + side + places
    return made


def fill(writer: BoardWriter, symbol: int, sequence: int) -> None:
    """Write in place, as a book does."""
    bids, asks = levels(sequence, 0), levels(sequence, 1)
    writer.open(symbol)
    writer.bids(symbol)[: len(bids)] = bids
    writer.asks(symbol)[: len(asks)] = asks
    writer.close(symbol, sequence, sequence * 11, len(bids), len(asks))


def check(reader: BoardReader, symbol: int, sequence: int | None = None) -> int:
    """Verify that a symbol's picture is that of one sequence, and return it."""
    depth = reader.read(symbol)
    if sequence is not None:
        assert depth.sequence == sequence
    assert depth.timestamp_ns == depth.sequence * 11
    assert np.array_equal(depth.bids, levels(depth.sequence, 0))
    assert np.array_equal(depth.asks, levels(depth.sequence, 1))
    return depth.sequence


def test_a_new_board_is_empty(tmp_path: Path) -> None:
    writer, reader = board(tmp_path, 4, 9)
    assert (reader.shard, reader.levels, reader.symbols) == (SHARD, LEVELS, [4, 9])
    assert (writer.bids(4).dtype, len(writer.bids(4)), len(writer.asks(9))) == (LEVEL, 16, 16)
    for symbol in (4, 9):
        depth = reader.read(symbol)
        assert (depth.sequence, len(depth.bids), len(depth.asks)) == (0, 0, 0)


def test_each_symbol_shows_its_own(tmp_path: Path) -> None:
    writer, reader = board(tmp_path, 4, 9, 2)
    for sequence in range(1, 60):
        fill(writer, (4, 9, 2)[sequence % 3], sequence)
    for symbol, sequence in ((4, 57), (9, 58), (2, 59)):
        check(reader, symbol, sequence)


def test_publish_copies_what_there_is_room_for(tmp_path: Path) -> None:
    writer, reader = board(tmp_path, 1)
    many = np.ones(LEVELS + 5, LEVEL)
    many["price"] = np.arange(len(many))
    writer.publish(1, 3, 4, many, many[:2])
    depth = reader.read(1)
    assert (depth.sequence, depth.timestamp_ns) == (3, 4)
    assert np.array_equal(depth.bids, many[:LEVELS])
    assert np.array_equal(depth.asks, many[:2])


def test_a_writer_killed_in_the_midst_changes_nothing(tmp_path: Path) -> None:
    writer, reader = board(tmp_path, 1)
    for sequence in (5, 6, 7):
        fill(writer, 1, sequence)
        writer.open(1)
        writer.bids(1)["price"] = 99
        writer.asks(1)["quantity"] = 99
        check(reader, 1, sequence)
    heir = BoardWriter(tmp_path / "depth")
    fill(heir, 1, 8)
    check(reader, 1, 8)
    assert reader.torn_copies == 0


def test_an_unknown_symbol_is_a_key_error(tmp_path: Path) -> None:
    writer, reader = board(tmp_path, 1)
    for use in (reader.read, writer.bids, writer.asks):
        with pytest.raises(KeyError):
            use(2)
    with pytest.raises(KeyError):
        writer.close(2, 1, 1, 0, 0)


def test_a_reader_that_never_gets_a_copy_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = board(tmp_path, 1)

    def load_while_the_writer_publishes(words: memoryview, index: int) -> int:
        fill(writer, 1, 3)
        return words[index]

    monkeypatch.setattr(board_module, "MAX_TRIES", 20)
    monkeypatch.setattr(board_module, "load_after", load_while_the_writer_publishes)
    with pytest.raises(BoardBusyError, match="depth: symbol 1 never held still"):
        reader.read(1)
    assert reader.torn_copies == 20


def test_readers_cannot_write(tmp_path: Path) -> None:
    _, reader = board(tmp_path, 1)
    page = reader._slots[1].pages[0]
    with pytest.raises(ValueError, match="read-only"):
        page.bids["price"] = 1
    with pytest.raises(TypeError, match="read-only"):
        page.words[0] = 1


def test_copies_outlive_the_board(tmp_path: Path) -> None:
    writer, reader = board(tmp_path, 1)
    fill(writer, 1, 5)
    depth = reader.read(1)
    writer.close_mapping()
    reader.close_mapping()
    assert np.array_equal(depth.bids, levels(5, 0))


def fill_without_end(path: Path, stop: Any) -> None:
    """Change two symbols in turn as fast as it goes, until told to stop."""
    writer, sequence = BoardWriter(path), 0
    while not stop.is_set():
        for _ in range(100):
            sequence += 1
            fill(writer, 1 + sequence % 2, sequence)


def test_readers_see_whole_pictures(tmp_path: Path) -> None:
    _, reader = board(tmp_path, 1, 2)
    with working(fill_without_end, tmp_path / "depth") as end:
        until(lambda: reader.read(1).sequence > 0, "the writer has begun")
        last = {1: 0, 2: 0}
        seen = 0
        while seen < 2_000 or reader.torn_copies < 100:
            for symbol, before in last.items():
                last[symbol] = check(reader, symbol)
                assert last[symbol] >= before
                seen += last[symbol] > before
        end()
