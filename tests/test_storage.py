"""Reading for those who may keep nobody waiting: all that is asked for, a small piece at a time."""

import os
from pathlib import Path

import pytest

from engine.storage import read_into, read_whole


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
