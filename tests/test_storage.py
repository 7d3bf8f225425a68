"""The disk's operations: all is written or it is said; what is read is read by the piece."""

import errno
import os
import resource
from pathlib import Path

import pytest

from engine.storage import Storage, read_into, read_whole


@pytest.mark.parametrize("offset", [0, 1, 70_000, 299_999, 300_000, 400_000])
def test_a_buffer_is_filled_as_far_as_the_file_goes(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "file"
    written = os.urandom(300_000)
    path.write_bytes(written)
    buffer = bytearray(200_000)
    with path.open("rb") as file:
        count = read_into(file.fileno(), buffer, offset)
    assert buffer[:count] == written[offset : offset + 200_000]
    assert not any(buffer[count:])


@pytest.mark.parametrize("size", [0, 1, 1 << 16, 1_000_000])
def test_a_file_is_read_whole_and_by_the_piece(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))
    longest = 0
    plain = os.preadv

    def preadv(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal longest
        longest = max(longest, sum(map(len, buffers)))
        return plain(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    assert read_whole(path) == path.read_bytes()
    assert longest <= 1 << 16


def test_what_finds_no_room_in_the_midst_is_an_error(tmp_path: Path) -> None:
    """The kernel takes a part then, and says nothing."""
    storage, data = Storage(), os.urandom(10_000)
    descriptor = storage.create(tmp_path / "file")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (7_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            storage.write(descriptor, data, 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert (tmp_path / "file").read_bytes() == bytes(100) + data[:6_900]
    storage.write(descriptor, data, 100)
    storage.close(descriptor)
    assert (tmp_path / "file").read_bytes() == bytes(100) + data
