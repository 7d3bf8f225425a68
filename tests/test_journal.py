"""The journal's bytes: what is written is read back, and nothing else ever is."""

import errno
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.books.contract import Records
from engine.journal import batches
from engine.journal.batches import crc_of_words, scan
from engine.journal.format import VERSION, JournalError
from engine.journal.reader import End, JournalReader, segments_of
from engine.journal.segment_closer import SegmentCloser
from engine.journal.shard_config import InstrumentConfig, ShardConfig, differences
from engine.journal.writer import JournalWriter
from engine.storage import Storage
from ipc.records import COMMAND, KEPT_COMMAND
from tests.product import until

TERMS = ShardConfig(0, 1, 100, [InstrumentConfig(1, "AA", "0.01", "1", 1, 1000, 50, 12)])
SEGMENT_BYTES = 3 << 14
TIME_NS = 7
RARE = ("stop_price", "display_quantity", "expire_time_ns", "minimum_quantity")
"""What a journal keeps only of batches in which some command has it."""


def commands(count: int, seed: int = 1) -> Records:
    """Return so many commands of arbitrary bytes, none of them all zeros."""
    made = np.zeros(count, COMMAND)
    rng = np.random.default_rng(seed)
    made.view(np.uint8)[:] = rng.integers(0, 256, made.nbytes, np.uint8)
    made["command_type"] = 1
    made["timestamp_ns"] = TIME_NS
    if seed % 3:
        for name in RARE:
            made[name] = 0
    return made


def alike(count: int, seed: int) -> Records:
    """Return commands of which, for each word, some of the low bytes may differ, or none."""
    made = commands(count, seed)
    rows = made.view(np.uint8).reshape(count, COMMAND.itemsize // 8, 8)
    for word, width in enumerate(np.random.default_rng(seed).integers(0, 9, rows.shape[1])):
        rows[1:, word, width:] = rows[:1, word, width:]
    return made


def write(directory: Path, batches: list[Records], end: End | None = None, **more: object) -> int:
    """Append batches; return the last sequence number."""
    writer = JournalWriter(directory, TERMS, end or End(), SEGMENT_BYTES, **more)  # type: ignore[arg-type]
    for batch in batches:
        writer.append(batch, TIME_NS)
    writer.close()
    return writer.sequence


def read(directory: Path, after: int = 0, shard_config: ShardConfig = TERMS) -> tuple[Records, End]:
    reader = JournalReader(directory, shard_config, after)
    pieces = [np.zeros(0, COMMAND), *(chunk.copy() for chunk in reader.chunks())]
    return np.concatenate(pieces), reader.end


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 900), max_size=12), st.integers(0, 2**32 - 1), st.data())
def test_what_was_appended_is_read(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int, data: st.DataObject
) -> None:
    """Over segments, over restarts of the writer, from any command on."""
    directory = tmp_path_factory.mktemp("j")
    everything = alike(sum(sizes), seed)
    done = 0
    for size in sizes:
        if data.draw(st.booleans()):
            found, end = read(directory)
            assert found.tobytes() == everything[:done].tobytes()
        else:
            end = End(sequence=done)
            if segments_of(directory):
                end = read(directory)[1]
        write(directory, [everything[done : done + size]], end)
        done += size
    after = data.draw(st.integers(0, done))
    found, end = read(directory, after)
    assert found.tobytes() == everything[after:].tobytes()
    assert (end.sequence, end.torn_bytes) == (done, 0)


@given(st.binary(max_size=400).map(lambda data: data[: len(data) // 8 * 8]))
def test_compiled_checksum_is_zlibs(data: bytes) -> None:
    words = np.frombuffer(data, np.uint64)
    assert int(crc_of_words(words, 0, len(words), batches.TABLES)) == zlib.crc32(data)


def test_plain_scan_is_the_compiled_one(tmp_path: Path, seed: int) -> None:
    """On whole, cut and damaged bytes, whatever was asked for."""
    rng = np.random.default_rng(seed)
    write(tmp_path, [alike(int(n), seed + int(n)) for n in rng.integers(1, 40, 20)])
    data = np.fromfile(segments_of(tmp_path)[0].path, np.uint8)[4096:]
    for turn in range(600):
        found = data[: rng.integers(0, len(data) + 1)].copy()
        if turn % 2 and len(found):  # anywhere, or in what leads the first batch
            place = rng.integers(0, len(found) if turn % 4 == 1 else min(len(found), 32))
            found[place] ^= 1 << int(rng.integers(0, 8))
        after, room = int(rng.integers(0, 600)), int(rng.integers(0, 600))
        outs = np.zeros(room, COMMAND), np.zeros(room, COMMAND)
        plain = batches._scan_plain(found.data, 0, after, outs[0])
        assert plain == scan(found, 0, after, outs[1])
        assert outs[0][: plain[1]].tobytes() == outs[1][: plain[1]].tobytes()


@pytest.mark.parametrize(("word", "width"), [(0, 0), (3, 9), (-1, 0), (-1, 12), (11, 1)])
def test_widths_that_no_batch_has_are_damage_even_under_a_right_checksum(
    tmp_path: Path, word: int, width: int
) -> None:
    """Word -1 is how many are kept, and word 11 is one too many."""
    some = commands(1)
    some["minimum_quantity"] = word == 11
    write(tmp_path, [some])
    data = np.fromfile(segments_of(tmp_path)[0].path, np.uint8)[4096:]
    out = np.zeros(9, COMMAND)
    assert scan(data, 0, 0, out)[:2] == (len(data), 1)
    data[24 + 7], data[24 + 1 + word] = 5, width
    data[-8:-4] = np.frombuffer(zlib.crc32(data[:-8]).to_bytes(4, "little"), np.uint8)
    assert scan(data, 0, 0, out) == (0, 0, 0, 0, batches.BAD)
    assert batches._scan_plain(data.data, 0, 0, out) == (0, 0, 0, 0, batches.BAD)


@pytest.mark.parametrize("pack", [batches._pack, batches._pack_plain])
def test_only_what_a_journal_keeps_is_packed(pack: Any, seed: int) -> None:
    right = commands(40, seed)
    out = np.zeros(batches.batch_bytes(41), np.uint8)
    assert pack(right, 1, TIME_NS, out)
    for place, name in enumerate(set(COMMAND.names or ()) - set(KEPT_COMMAND.names or ())):
        wrong = right.copy()
        wrong[name][13 * place] += 1
        assert not pack(wrong, 1, TIME_NS, out)


def test_plain_packing_is_the_compiled_one(seed: int) -> None:
    """Whatever the buffer held before, for every width of every word."""
    rng = np.random.default_rng(seed)
    sizes, outs = set(), (np.zeros(4_000, np.uint8), np.zeros(4_000, np.uint8))
    for turn in range(300):
        some = alike(int(rng.integers(1, 50)), seed + turn)
        for out in outs:
            out[:] = rng.integers(0, 256, len(out), np.uint8)
        number = int(rng.integers(1, 1 << 62))
        end = batches._pack_plain(some, number, TIME_NS, outs[0])
        assert end == batches._pack(some, number, TIME_NS, outs[1])
        assert outs[0][:end].tobytes() == outs[1][:end].tobytes()
        sizes.add(end)
    assert len(sizes) > 50


def test_of_later_commands_only_what_differs_takes_room(tmp_path: Path) -> None:
    """Here the type, a byte of the price, and two of the quantity."""
    some = np.zeros(1_001, COMMAND)
    some["command_type"], some["account"], some["timestamp_ns"] = 1, 1 << 63, TIME_NS
    some["price"] = (1 << 40) + np.arange(1_001) % 200
    some["quantity"] = np.arange(1_001)
    write(tmp_path, [some])
    size = segments_of(tmp_path)[0].path.stat().st_size
    assert size == 4_096 + 32 + 56 + 1_000 * (1 + 1 + 2) + 8
    assert read(tmp_path)[0].tobytes() == some.tobytes()


def test_no_sector_of_a_batch_is_zeros(tmp_path: Path) -> None:
    """Or what is damaged behind it would pass for what a crash left."""
    some = np.zeros(9_000, COMMAND)
    some["command_type"], some["timestamp_ns"] = 1, TIME_NS
    some["price"][-1] = (1 << 64) - 1
    write(tmp_path, [some])
    data = segments_of(tmp_path)[0].path.read_bytes()[4_096:]
    assert all(any(data[start : start + 512]) for start in range(0, len(data), 512))


def test_what_has_no_place_in_a_journal_is_refused(tmp_path: Path) -> None:
    wrong = commands(3)
    wrong["timestamp_ns"][1] = 5
    with pytest.raises(ValueError, match="timestamp_ns of a command"):
        write(tmp_path, [wrong])
    write(tmp_path, [commands(5_000)])  # more than there was room for
    assert read(tmp_path)[0].tobytes() == commands(5_000).tobytes()


@pytest.mark.parametrize("sizes", [[9_000] * 8, [1, 20_000, 65_536, 3], [18_723, 18_724, 18_725]])
def test_batches_may_be_longer_than_what_is_read_at_a_time(
    tmp_path: Path, sizes: list[int]
) -> None:
    everything = commands(sum(sizes))
    writer = JournalWriter(tmp_path, TERMS, End(), 1 << 24)
    for batch in np.split(everything, np.cumsum(sizes)[:-1]):
        writer.append(batch, TIME_NS)
    writer.close()
    found, end = read(tmp_path)
    assert found.tobytes() == everything.tobytes()
    assert (len(segments_of(tmp_path)), end.sequence) == (1, len(everything))


def test_segments_rotate_and_follow_each_other(tmp_path: Path) -> None:
    last = write(tmp_path, [commands(500, n) for n in range(10)])
    firsts = [segment.first_sequence for segment in segments_of(tmp_path)]
    assert len(firsts) == 10
    assert firsts == list(range(1, last, 500))


@pytest.mark.parametrize("gone", [0, 1])
def test_a_missing_segment_is_named(tmp_path: Path, gone: int) -> None:
    write(tmp_path, [commands(500, n) for n in range(3)])
    segments_of(tmp_path)[gone].path.unlink()
    said = "commands 1 to 500 are missing", "segment before it ends with command 500"
    with pytest.raises(JournalError, match=said[gone]):
        read(tmp_path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [commands(3)])
    path = segments_of(tmp_path)[0].path
    data = bytearray(path.read_bytes())
    data[8] += 1
    path.write_bytes(data)
    with pytest.raises(
        JournalError, match=f"byte 8: has version {VERSION + 1}, this program reads {VERSION}"
    ):
        read(tmp_path)


def test_other_terms_are_refused_naming_what_changed(tmp_path: Path) -> None:
    write(tmp_path, [commands(3)])
    instrument = TERMS.instruments[0]
    for shard_config, said in (
        (ShardConfig(0, 2, 100, TERMS.instruments), "matchers was 1, is 2"),
        (ShardConfig(0, 1, 99, TERMS.instruments), "recent_orders was 100, is 99"),
        (ShardConfig(0, 1, 100, []), r"instrument 1 \(AA\) is not on shard 0 now"),
        (
            ShardConfig(0, 1, 100, [instrument._replace(tick_size="0.05")]),
            r"instrument 1 \(AA\): tick_size was 0.01, is 0.05",
        ),
        (
            ShardConfig(0, 1, 100, [instrument, instrument._replace(number=2, symbol="BB")]),
            r"instrument 2 \(BB\) was not on shard 0",
        ),
    ):
        assert re.match(said, differences(TERMS, shard_config)[0])
        with pytest.raises(JournalError, match="another configuration: "):
            read(tmp_path, shard_config=shard_config)
    assert not differences(TERMS, TERMS)


# Every byte --------------------------------------------------------------------------------------


def small_journal(
    directory: Path, make: Callable[[int, int], Records] = alike
) -> tuple[Path, Records, list[int]]:
    """Write four batches, as a killed writer leaves them; return where each of them ends."""
    batches = [make(count, count) for count in (2, 20, 3, 6)]
    writer = JournalWriter(directory, TERMS, End(), SEGMENT_BYTES)
    ends = []
    for batch in batches:
        writer.append(batch, TIME_NS)
        ends.append(writer._offset)
    writer._storage.close(writer._descriptor)
    return segments_of(directory)[0].path, np.concatenate(batches), ends


@pytest.mark.parametrize("zeros", [False, True], ids=["file ends", "zeros follow"])
def test_cut_at_every_byte_of_the_last_two_batches(tmp_path: Path, zeros: bool) -> None:
    path, everything, ends = small_journal(tmp_path)
    data = path.read_bytes()
    for cut in range(ends[1], ends[3]):
        path.write_bytes(data[:cut] + bytes(len(data) - cut if zeros else 0))
        found, end = read(tmp_path)
        whole = 22 if cut < ends[2] else 25
        if zeros and not any(data[cut : ends[2]]) and cut < ends[2]:
            whole = 25  # what was cut off were zeros
        if len(found) != whole:
            # All but a part of the end mark is there, and the checksum says that all is right.
            assert any(stop - 4 <= cut < stop for stop in ends[2:])
            assert zeros
            whole = len(found)
        assert found.tobytes() == everything[:whole].tobytes()
        assert end.offset in (ends[1], ends[2], ends[3])
        # The next writer goes on right there, and what was cut off never comes back.
        rest = [everything[whole:]] if whole < len(everything) else []
        write(tmp_path, rest, end)
        assert read(tmp_path)[0].tobytes() == everything.tobytes()
        for segment in segments_of(tmp_path)[1:]:
            segment.path.unlink()


@pytest.mark.parametrize("bits", [0x01, 0x80, 0xFF])
def test_every_byte_flipped(tmp_path: Path, bits: int) -> None:
    """All acknowledged commands are read, or the file and the place are named."""
    path, everything, ends = small_journal(tmp_path)
    data = path.read_bytes()[: ends[-1] + 700]
    refused = 0
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= bits
        path.write_bytes(flipped)
        said = ""
        try:
            found, _ = read(tmp_path)
        except JournalError as error:
            said = str(error)
            refused += 1
        if said:
            assert said.startswith(f"{path}: byte ")
        else:
            assert found.tobytes() == everything.tobytes(), f"silently another: byte {place}"
            assert place >= ends[-1] or any(stop - 4 <= place < stop for stop in ends)
    assert refused == ends[-1] - 4 * len(ends)


def test_a_batch_whose_middle_never_reached_the_disk_is_cut(tmp_path: Path) -> None:
    """Power loss: the last sector of a batch was written, one before it was not."""
    path, everything, ends = small_journal(tmp_path, commands)
    data = bytearray(path.read_bytes())
    hole = -(-ends[0] // 512) * 512
    assert ends[0] < hole < hole + 512 < ends[1]
    data[hole : hole + 512] = bytes(512)
    data[ends[1] :] = bytes(len(data) - ends[1])
    path.write_bytes(data)
    found, end = read(tmp_path)
    assert found.tobytes() == everything[:2].tobytes()
    assert end.torn_bytes == ends[1] - ends[0]


def test_what_is_not_whole_is_damage_before_the_last_segment(tmp_path: Path) -> None:
    write(tmp_path, [commands(500, n) for n in range(3)])
    path = segments_of(tmp_path)[1].path
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(JournalError, match=f"{path}: byte 4096: .* after command 500 is damaged"):
        read(tmp_path)


# A disk that fails ------------------------------------------------------------------------------


class BadDisk(Storage):
    """Fails in the operation that is named, with the error that is given."""

    def __init__(self, operation: str, error: int, times: int = 1) -> None:
        self.left = times

        def fail(*_: object) -> None:
            if self.left:
                self.left -= 1
                raise OSError(error, "the disk says")
            usual(*_)  # type: ignore[operator]

        usual = getattr(Storage(), operation)
        setattr(self, operation, fail)


def test_a_full_disk_is_waited_for_before_anything_is_matched(tmp_path: Path) -> None:
    for operation in ("allocate", "write"):
        directory = tmp_path / operation
        directory.mkdir()
        waits: list[OSError] = []
        disk = BadDisk(operation, errno.ENOSPC, 3)
        write(directory, [commands(5)], storage=disk, wait_for_room=waits.append)
        assert len(waits) == 3
        assert read(directory)[0].tobytes() == commands(5).tobytes()


@pytest.mark.parametrize("operation", ["create", "allocate", "write", "rename"])
def test_any_other_error_halts_for_good(tmp_path: Path, operation: str) -> None:
    disk = BadDisk(operation, errno.EIO)
    waits: list[OSError] = []
    writer = JournalWriter(
        tmp_path, TERMS, End(), SEGMENT_BYTES, storage=disk, wait_for_room=waits.append
    )
    with pytest.raises(JournalError, match=r"cannot be written: .* the disk says"):
        writer.append(commands(5), TIME_NS)
    with pytest.raises(JournalError, match="halted"):
        writer.append(commands(5), TIME_NS)
    writer.close()
    assert not waits
    assert not len(read(tmp_path)[0])


@pytest.mark.parametrize("background", [False, True])
def test_a_segment_that_others_follow_goes_to_the_disk_or_the_journal_halts(
    tmp_path: Path, background: bool
) -> None:
    disk = BadDisk("sync", errno.EIO)
    closer = SegmentCloser(disk, None, background=background)
    writer = JournalWriter(tmp_path, TERMS, End(), SEGMENT_BYTES, storage=disk, closer=closer)
    for _ in range(2):
        writer.append(commands(500), TIME_NS)
    until(lambda: closer.failure is not None)
    with pytest.raises(JournalError, match=r"halted: .* the disk says"):
        writer.append(commands(5), TIME_NS)
    writer.close()
    assert not disk.left
    assert read(tmp_path)[1].sequence == 1_000


def test_a_sync_that_failed_is_never_tried_again(tmp_path: Path) -> None:
    disk = BadDisk("sync", errno.EIO)
    writer = JournalWriter(tmp_path, TERMS, End(), SEGMENT_BYTES, storage=disk)
    writer.append(commands(5), TIME_NS)
    with pytest.raises(JournalError, match="cannot be written"):
        writer.sync()
    assert not disk.left
    for again in (writer.sync, lambda: writer.append(commands(5), TIME_NS)):
        with pytest.raises(JournalError, match="halted"):
            again()
    writer.close()
