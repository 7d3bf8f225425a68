"""The trade log's writer: nothing lost, nothing twice, whatever a crash or a full disk leaves."""

import errno
import gzip
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.storage import Buffer, Storage
from engine.trade_log import segments
from engine.trade_log.log import TradeLog, TradeLogError
from engine.trade_log.segments import (
    ACTIVE,
    SEALED,
    Seal,
    Sealer,
    closed_segments,
    compressed_path,
    plain_path,
    read_seal,
)
from tests.failing_disk import Disk
from tests.product import until
from tests.trades import ids, make_lines, read_ids

SEGMENT_BYTES = 4096
LARGE = 1 << 20


@pytest.fixture
def log(tmp_path: Path) -> Iterator[TradeLog]:
    """A log whose segments take about 20 lines and stay uncompressed."""
    log = TradeLog(tmp_path, SEGMENT_BYTES, compress=False)
    yield log
    log.close()


def reopened(log: TradeLog, directory: Path, **options: bool) -> TradeLog:
    log.close()
    return TradeLog(directory, SEGMENT_BYTES, **options)


def log_files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def all_lines(directory: Path) -> bytes:
    """Every byte of the log in order, by means of gzip and plain reads alone."""
    found = []
    for number in closed_segments(directory):
        plain, compressed = plain_path(directory, number), compressed_path(directory, number)
        assert plain.exists() != compressed.exists(), "a segment lies there in both forms"
        data = plain.read_bytes() if plain.exists() else gzip.decompress(compressed.read_bytes())
        found.append(data)
    return b"".join(found) + (directory / ACTIVE).read_bytes()


class TestAppending:
    def test_what_is_appended_is_read(self, log: TradeLog, tmp_path: Path) -> None:
        log.append(make_lines(0, 1, 3))
        log.append(make_lines(2, 1, 1))
        log.append(b"")
        log.append(make_lines(0, 4, 2))
        assert [log.last_sequence(shard) for shard in (0, 1, 2)] == [5, 0, 1]
        assert read_ids(tmp_path) == ids(0, 1, 3) + ids(2, 1, 1) + ids(0, 4, 2)
        assert log.appended_bytes == len(all_lines(tmp_path))

    def test_segments_keep_their_bound(self, log: TradeLog, tmp_path: Path) -> None:
        lines = make_lines(0, 1, 500)
        log.append(lines[: lines.index(b"\n") + 1])
        log.append(memoryview(lines)[lines.index(b"\n") + 1 :])
        closed = closed_segments(tmp_path)
        assert closed == list(range(1, len(closed) + 1))
        assert log.segments == len(closed) + 1 > 15
        longest = max(map(len, lines.splitlines(keepends=True)))
        for number in closed:
            size = plain_path(tmp_path, number).stat().st_size
            assert SEGMENT_BYTES - longest < size <= SEGMENT_BYTES
        assert all_lines(tmp_path) == lines
        assert read_ids(tmp_path) == ids(0, 1, 500)

    def test_a_segment_that_is_full_to_the_byte(self, tmp_path: Path) -> None:
        lines = make_lines(0, 1, 30)
        log = TradeLog(tmp_path, len(lines), compress=False)
        log.append(lines)
        assert closed_segments(tmp_path) == []
        log.append(make_lines(0, 31, 1))
        log.close()
        assert plain_path(tmp_path, 1).read_bytes() == lines
        assert (tmp_path / ACTIVE).read_bytes() == make_lines(0, 31, 1)

    def test_segments_must_hold_a_line(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="segment_bytes = 319: must be at least 320"):
            TradeLog(tmp_path, 319)

    def test_one_writer(self, log: TradeLog, tmp_path: Path) -> None:
        with pytest.raises(TradeLogError, match="another process writes this trade log"):
            TradeLog(tmp_path, SEGMENT_BYTES)
        reopened(log, tmp_path).close()


class TestOpening:
    def test_each_shard_goes_on_after_its_last_trade(self, log: TradeLog, tmp_path: Path) -> None:
        log.append(make_lines(3, 1, 40))
        log.append(make_lines(0, 1, 200))
        log.append(make_lines(255, 8, 1))
        for options in ({}, {"fsync": True}, {"compress": True}):
            log = reopened(log, tmp_path, **options)
            assert [log.last_sequence(shard) for shard in (0, 3, 255, 4)] == [200, 40, 8, 0]
        log.close()

    def test_without_the_seal_everything_is_read(self, log: TradeLog, tmp_path: Path) -> None:
        log.append(make_lines(3, 1, 40))
        log.append(make_lines(0, 1, 200))
        until(lambda: read_seal(tmp_path).segment == closed_segments(tmp_path)[-1])
        log.close()
        packed = gzip.compress(plain_path(tmp_path, 1).read_bytes())
        compressed_path(tmp_path, 1).write_bytes(packed)
        plain_path(tmp_path, 1).unlink()
        for damage in (b"", b'{"segment":99,', None):
            if damage is None:
                (tmp_path / SEALED).unlink()
            else:
                (tmp_path / SEALED).write_bytes(damage)
            log = TradeLog(tmp_path, SEGMENT_BYTES, compress=False)
            assert [log.last_sequence(shard) for shard in (0, 3)] == [200, 40]
            until(lambda: read_seal(tmp_path).segment == closed_segments(tmp_path)[-1])
            log.close()

    def test_sealed_segments_are_not_read_again(self, log: TradeLog, tmp_path: Path) -> None:
        log.append(make_lines(3, 1, 40))
        log.append(make_lines(0, 1, 100))
        until(lambda: read_seal(tmp_path).segment == closed_segments(tmp_path)[-1])
        log.close()
        for number in closed_segments(tmp_path):  # moved away
            plain_path(tmp_path, number).unlink()
        before = read_seal(tmp_path).segment
        log = TradeLog(tmp_path, SEGMENT_BYTES, compress=False)
        assert [log.last_sequence(shard) for shard in (0, 3)] == [100, 40]
        log.append(make_lines(0, 101, 60))
        assert closed_segments(tmp_path)[0] == before + 1
        log.close()

    def test_a_torn_line_is_cut_at_every_byte(self, tmp_path: Path) -> None:
        lines = make_lines(7, 1, 10).splitlines(keepends=True)
        whole = b"".join(lines)
        directory = tmp_path / "log"
        for size in range(len(whole), len(whole) - len(b"".join(lines[-3:])) - 1, -1):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            (directory / ACTIVE).write_bytes(whole[:size])
            kept = whole[:size].count(b"\n")
            log = TradeLog(directory, LARGE)
            assert log.last_sequence(7) == kept
            assert log.torn_bytes_cut == size - len(b"".join(lines[:kept]))
            log.append(b"".join(lines[kept:]))
            log.close()
            assert (directory / ACTIVE).read_bytes() == whole

    @pytest.mark.parametrize("tail", [b"\0" * 5000, b"x" * (3 << 20)])
    def test_a_long_tail_without_an_end_is_cut(self, tmp_path: Path, tail: bytes) -> None:
        (tmp_path / ACTIVE).write_bytes(make_lines(0, 1, 10) + tail)
        log = TradeLog(tmp_path, LARGE)
        assert (log.last_sequence(0), log.torn_bytes_cut) == (10, len(tail))
        log.close()
        (tmp_path / ACTIVE).write_bytes(tail)
        log = TradeLog(tmp_path, LARGE)
        assert (log.last_sequence(0), log.torn_bytes_cut) == (0, len(tail))
        log.close()

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (make_lines(0, 1, 2) + b"\0\0\0\n", r"trades\.ndjson: byte 0: .*malformed"),
            (make_lines(0, 1, 2) + b"\n", r"trades\.ndjson: byte 0: no trade"),
            (make_lines(0, 1, 2) + b'{"trade_id":3,"sym\n', r"trades\.ndjson: byte 0"),
            (make_lines(0, 1, 2) + b'{"trade_id":3,"symbol":"X"}\n', "byte 0: .*missing required"),
            (b"\0\n" + make_lines(0, 1, 2), r"trades\.ndjson: byte 0: .*malformed"),
            (make_lines(0, 1, 2).replace(b'{"t', b'{ "t'), "a trade in another form"),
            (make_lines(0, 1, 1) * 2, "byte 0: trade 1 is there twice"),
            (make_lines(0, 1, 2) * 2, "trade 1 is there twice or after a later one"),
            (make_lines(0, 3, 1) + make_lines(0, 1, 1), "trade 1 is there twice"),
        ],
    )
    def test_other_damage_is_refused(self, tmp_path: Path, content: bytes, problem: str) -> None:
        (tmp_path / ACTIVE).write_bytes(content)
        with pytest.raises(TradeLogError, match=problem):
            TradeLog(tmp_path, LARGE)
        assert (tmp_path / ACTIVE).read_bytes() == content
        (tmp_path / ACTIVE).write_bytes(make_lines(0, 1, 2))
        TradeLog(tmp_path, LARGE).close()  # and the lock is free again


def crash_states() -> dict[str, list[str]]:
    """What lies in the directory after a crash between two steps of closing segment 3.

    A file is named with what it holds: ``=3`` the third part of the lines, ``~`` half of it.
    """
    before = ["trades-000001.ndjson.gz=1", "trades-000002.ndjson.gz=2", "sealed.json=2"]
    active = ["trades.ndjson=4"]
    renamed = [*before, "trades-000003.ndjson=3", *active]
    sealed = [*before[:2], "sealed.json=3", "trades-000003.ndjson=3", *active]
    return {
        "full": [*before, "trades.ndjson=3"],
        "renamed": renamed[:-1],
        "new active segment": [*renamed[:-1], "trades.ndjson=0"],
        "seal half written": [*renamed, "sealed.json.tmp~3"],
        "seal written aside": [*renamed, "sealed.json.tmp=3"],
        "sealed": sealed,
        "half compressed": [*sealed, "trades-000003.ndjson.gz.tmp~3"],
        "compressed aside": [*sealed, "trades-000003.ndjson.gz.tmp=3"],
        "compressed": [*sealed, "trades-000003.ndjson.gz=3"],
        "compressed but cut": [*sealed, "trades-000003.ndjson.gz~3"],
        "compressed but empty": [*sealed, "trades-000003.ndjson.gz=0"],
        "plain one gone": [*sealed[:3], "trades-000003.ndjson.gz=3", *active],
        "no seal at all": [*before[:2], "trades-000003.ndjson=3", *active],
        "nothing compressed yet": [
            "trades-000001.ndjson=1",
            "trades-000002.ndjson=2",
            "trades-000003.ndjson=3",
            *active,
        ],
    }


def lay_out(directory: Path, files: list[str], parts: list[bytes]) -> None:
    """Make the files of a crash state."""
    for file in files:
        name, half, part = file.partition("~")
        if not half:
            name, _, part = file.partition("=")
        content = parts[int(part)]
        if ".gz" in name and content:
            content = gzip.compress(content)
        if name.startswith("sealed"):
            content = b'{"segment":%d,"last_sequences":{"1":%s}}' % (int(part), part.encode() * 2)
        (directory / name).write_bytes(content[: len(content) // 2] if half else content)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("state", crash_states())
def test_a_crash_between_the_steps_of_closing(tmp_path: Path, state: str, compress: bool) -> None:
    # Part n holds 11 trades of shard 1, up to sequence 11 n: the seal above says so, too.
    parts = [b"", *(make_lines(1, 11 * part + 1, 11) for part in range(4))]
    lay_out(tmp_path, crash_states()[state], parts)
    log = TradeLog(tmp_path, len(parts[1]), compress=compress)
    if state == "compressed":
        assert compressed_path(tmp_path, 3).exists()
    done = log.last_sequence(1)
    assert done in (33, 44)
    log.append(make_lines(1, done + 1, 55 - done))
    closed = closed_segments(tmp_path)
    assert closed[:3] == [1, 2, 3]
    until(lambda: read_seal(tmp_path).segment == closed[-1])
    if compress:
        until(lambda: all(compressed_path(tmp_path, n).exists() for n in closed))
        until(lambda: not any(plain_path(tmp_path, n).exists() for n in closed))
    log.close()
    assert read_ids(tmp_path) == ids(1, 1, 55)
    assert all_lines(tmp_path) == make_lines(1, 1, 55)
    assert not list(tmp_path.glob("*.tmp"))
    log = TradeLog(tmp_path, SEGMENT_BYTES)
    assert log.last_sequence(1) == 55
    log.close()


class TestFailingDisk:
    def test_short_writes(self, disk: Disk, log: TradeLog, tmp_path: Path) -> None:
        for disk.piece in (1, 7, 100, 1000):
            log.append(make_lines(0, log.last_sequence(0) + 1, 60))
        assert all_lines(tmp_path) == make_lines(0, 1, 240)

    def test_no_room_at_every_byte(self, disk: Disk, tmp_path: Path) -> None:
        lines = make_lines(0, 1, 4)
        for room in range(len(lines) + 1):
            directory = tmp_path / str(room)
            log = TradeLog(directory, LARGE)
            log.append(make_lines(1, 1, 1))
            disk.room = room
            kept = lines[:room].count(b"\n")
            if room < len(lines):
                with pytest.raises(OSError, match="no room"):
                    log.append(lines)
            else:
                log.append(lines)
            assert log.last_sequence(0) == kept
            whole = b"".join(lines.splitlines(keepends=True)[:kept])
            assert all_lines(directory) == make_lines(1, 1, 1) + whole
            disk.room = 1 << 30
            log.append(lines[len(whole) :])
            assert all_lines(directory) == make_lines(1, 1, 1) + lines
            log.close()

    def test_a_cut_that_fails_is_made_before_the_next_write(
        self, disk: Disk, log: TradeLog, tmp_path: Path
    ) -> None:
        disk.room, disk.truncate_errors = 10, 1
        for _ in range(2):
            with pytest.raises(OSError, match="the disk fails"):
                log.append(make_lines(0, 1, 3))
        assert (tmp_path / ACTIVE).stat().st_size == 10
        assert read_ids(tmp_path) == []
        disk.room, disk.truncate_errors = 1 << 30, 0
        log.append(make_lines(0, 1, 3))
        assert all_lines(tmp_path) == make_lines(0, 1, 3)

    @pytest.mark.parametrize("fault", ["rename_errors", "open_errors"])
    def test_a_segment_that_cannot_be_closed(
        self, disk: Disk, log: TradeLog, tmp_path: Path, fault: str
    ) -> None:
        lines = make_lines(0, 1, 60)
        setattr(disk, fault, 1)
        for _ in range(2):
            with pytest.raises(OSError, match="the disk fails"):
                log.append(make_lines(0, log.last_sequence(0) + 1, 60 - log.last_sequence(0)))
        setattr(disk, fault, 0)
        log.append(make_lines(0, log.last_sequence(0) + 1, 60 - log.last_sequence(0)))
        assert all_lines(tmp_path) == lines
        assert closed_segments(tmp_path) == [1, 2]

    def test_what_is_not_durable_is_cut_off(self, disk: Disk, tmp_path: Path) -> None:
        log = TradeLog(tmp_path, SEGMENT_BYTES, compress=False, fsync=True)
        log.append(make_lines(0, 1, 5))
        log.sync()
        disk.sync_errors = 1
        log.append(make_lines(0, 6, 5))
        log.append(make_lines(1, 1, 5))
        with pytest.raises(OSError, match="the disk fails"):
            log.sync()
        assert (log.last_sequence(0), log.last_sequence(1)) == (5, 0)
        assert all_lines(tmp_path) == make_lines(0, 1, 5)
        disk.truncate_errors = 1
        log.append(make_lines(0, 6, 1))
        with pytest.raises(OSError, match="the disk fails"):
            log.sync()
        disk.sync_errors = disk.truncate_errors = 0
        log.append(make_lines(0, 6, 60))
        log.sync()
        assert all_lines(tmp_path) == make_lines(0, 1, 65)
        disk.sync_errors = 1
        log.append(make_lines(1, 1, 1))
        with pytest.raises(OSError, match="the disk fails"):
            log.sync()
        disk.sync_errors = 0
        assert all_lines(tmp_path) == make_lines(0, 1, 65)
        log = reopened(log, tmp_path, fsync=True)
        assert (log.last_sequence(0), log.last_sequence(1)) == (65, 0)
        log.close()

    def test_a_new_segment_is_cut_off_whole(self, disk: Disk, tmp_path: Path) -> None:
        log = TradeLog(tmp_path, SEGMENT_BYTES, compress=False, fsync=True)
        log.append(make_lines(0, 1, 20))
        log.sync()
        log.append(make_lines(0, 21, 20))
        kept = plain_path(tmp_path, 1).read_bytes()
        disk.sync_errors = 1
        with pytest.raises(OSError, match="the disk fails"):
            log.sync()
        assert (tmp_path / ACTIVE).read_bytes() == b""
        assert log.last_sequence(0) == kept.count(b"\n")
        log.close()

    def test_a_new_segment_has_a_durable_name_before_it_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = TradeLog(tmp_path, SEGMENT_BYTES, compress=False, fsync=True)
        log.append(make_lines(0, 1, 20))
        faults = [OSError(errno.EIO, "the disk fails")] * 2

        def sync_directory(_: Storage, directory: Path) -> None:
            if faults and threading.current_thread() is threading.main_thread():  # not the sealer
                raise faults.pop()

        monkeypatch.setattr(Storage, "sync_directory", sync_directory)
        for _ in range(2):
            with pytest.raises(OSError, match="the disk fails"):
                log.append(make_lines(0, log.last_sequence(0) + 1, 20))
        assert not (tmp_path / ACTIVE).read_bytes()
        log.append(make_lines(0, log.last_sequence(0) + 1, 20))
        log.sync()
        assert all_lines(tmp_path) == make_lines(0, 1, log.last_sequence(0))
        log.close()

    def test_the_disk_is_waited_for_only_after_a_write(self, disk: Disk, tmp_path: Path) -> None:
        log = TradeLog(tmp_path, SEGMENT_BYTES, compress=False, fsync=True)
        log.append(make_lines(0, 1, 5))
        for _ in range(3):
            log.sync()
        assert disk.syncs == 2  # one at the opening
        log.close()

    def test_a_full_segment_is_durable_before_it_is_closed(
        self, disk: Disk, tmp_path: Path
    ) -> None:
        log = TradeLog(tmp_path, SEGMENT_BYTES, compress=False, fsync=True)
        log.append(make_lines(0, 1, 5))
        log.sync()
        disk.sync_errors = 1
        with pytest.raises(OSError, match="the disk fails"):
            log.append(make_lines(0, 6, 100))
        assert log.last_sequence(0) == 5
        assert closed_segments(tmp_path) == []
        disk.sync_errors = 0
        log.append(make_lines(0, 6, 100))
        log.sync()
        assert all_lines(tmp_path) == make_lines(0, 1, 105)
        log.close()

    def test_without_fsync_nothing_waits_for_the_disk(self, disk: Disk, log: TradeLog) -> None:
        log.append(make_lines(0, 1, 5))  # less than a segment: closed ones are synced beside
        log.sync()
        assert disk.syncs == 0

    def test_opening_with_fsync_makes_durable_what_is_there(
        self, disk: Disk, log: TradeLog, tmp_path: Path
    ) -> None:
        log.append(make_lines(0, 1, 5))
        log = reopened(log, tmp_path, fsync=True)
        assert disk.syncs == 1
        disk.sync_errors = 1
        with pytest.raises(OSError, match="the disk fails"):
            reopened(log, tmp_path, fsync=True)


class TestSealing:
    def test_closed_segments_are_compressed(self, tmp_path: Path) -> None:
        log = TradeLog(tmp_path, SEGMENT_BYTES)
        lines = make_lines(0, 1, 300)
        log.append(lines)
        closed = closed_segments(tmp_path)
        until(lambda: log.compressed_segments == len(closed))
        log.close()
        expected = {f"trades-{number:06d}.ndjson.gz" for number in closed}
        assert log_files(tmp_path) == expected | {ACTIVE, SEALED}
        assert all_lines(tmp_path) == lines
        seal = read_seal(tmp_path)
        active = (tmp_path / ACTIVE).read_bytes().count(b"\n")
        assert (seal.segment, seal.last_sequences) == (closed[-1], {0: 300 - active})

    def test_it_stands_back_behind_other_work(self, log: TradeLog) -> None:
        own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        log.append(make_lines(0, 1, 30))
        sealer = next(thread for thread in threading.enumerate() if thread.name == "sealer")
        until(lambda: os.getpriority(os.PRIO_PROCESS, sealer.native_id or 0) == 10)
        assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own

    def test_what_fails_is_counted_and_tried_again(
        self, log: TradeLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full, fsync = [True], os.fdatasync

        def failing(descriptor: int) -> None:
            name = os.readlink(f"/proc/self/fd/{descriptor}")
            if full[0] and name.endswith(".gz.tmp"):
                raise OSError(errno.ENOSPC, "no room")
            fsync(descriptor)

        monkeypatch.setattr(os, "fdatasync", failing)
        log = reopened(log, tmp_path, compress=True)
        log.append(make_lines(0, 1, 30))
        until(lambda: log.seal_errors == 1)
        assert plain_path(tmp_path, 1).exists()
        assert not list(tmp_path.glob("*.gz*"))
        full[0] = False
        log.append(make_lines(0, 31, 70))
        until(lambda: log.compressed_segments == len(closed_segments(tmp_path)) > 1)
        log.close()
        assert log.seal_errors == 1
        assert all_lines(tmp_path) == make_lines(0, 1, 100)

    def test_closing_gives_up_and_the_next_start_goes_on(
        self, log: TradeLog, tmp_path: Path
    ) -> None:
        log.append(make_lines(0, 1, 300))
        log.close()
        closed = closed_segments(tmp_path)
        for _ in range(5):
            TradeLog(tmp_path, SEGMENT_BYTES).close()
            assert not list(tmp_path.glob("*.tmp"))
            assert all_lines(tmp_path) == make_lines(0, 1, 300)
        log = TradeLog(tmp_path, SEGMENT_BYTES)
        until(lambda: all(compressed_path(tmp_path, number).exists() for number in closed))
        log.close()
        active = (tmp_path / ACTIVE).read_bytes().count(b"\n")
        assert read_seal(tmp_path) == Seal(closed[-1], {0: 300 - active})

    def test_closing_ends_a_compression(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun, go_on = threading.Event(), threading.Event()
        chunks = []

        class Packer:
            def compress(self, chunk: bytes) -> bytes:
                chunks.append(chunk)
                begun.set()
                go_on.wait()
                return chunk

        monkeypatch.setattr(segments, "_CHUNK_BYTES", 1000)
        monkeypatch.setattr(segments.zlib_ng, "compressobj", lambda level, wbits: Packer())
        log = TradeLog(tmp_path, SEGMENT_BYTES)
        log.append(make_lines(0, 1, 30))
        begun.wait()
        closing = threading.Thread(target=log.close)
        closing.start()
        until(lambda: log._sealer._closing)
        go_on.set()
        closing.join()
        assert len(chunks) == 1
        assert log_files(tmp_path) == {ACTIVE, SEALED, plain_path(tmp_path, 1).name}

    def test_a_segment_that_was_moved_away_holds_up_no_other(
        self, log: TradeLog, tmp_path: Path
    ) -> None:
        log.append(make_lines(0, 1, 30))
        until(lambda: read_seal(tmp_path).segment == 1)
        plain_path(tmp_path, 1).rename(plain_path(tmp_path, 3))
        sealer = Sealer(tmp_path, compress=True, storage=Storage())
        for segment in (1, 2, 3):
            sealer.request(Seal(segment))
        until(lambda: sealer.compressed == 1)
        sealer.close()
        assert sealer.errors == 0
        assert compressed_path(tmp_path, 3).exists()


class NotingStorage(Storage):
    """Notes what is done."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def truncate(self, descriptor: int, size: int) -> None:
        self.done.append("truncate")
        super().truncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        self.done.append("sync")
        super().sync(descriptor)

    def append(self, descriptor: int, data: Buffer) -> int:
        self.done.append("append")
        return super().append(descriptor, data)


def test_a_torn_line_is_off_the_disk_before_another_takes_its_place(tmp_path: Path) -> None:
    """Else a loss of power may leave the one's beginning before the other's end."""
    (tmp_path / ACTIVE).write_bytes(make_lines(0, 1, 3)[:-20])
    storage = NotingStorage()
    log = TradeLog(tmp_path, SEGMENT_BYTES, storage=storage)
    log.append(make_lines(1, 1, 1))
    log.close()
    assert storage.done == ["truncate", "sync", "append"]
