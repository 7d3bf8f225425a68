"""Mappings: found whole or refused by name, read-only for readers, reserved at once."""

import hashlib
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ipc.memory import mapping as mapping_module
from ipc.memory.mapping import (
    HEADER_BYTES,
    Mapping,
    MappingError,
    create_mapping,
    open_mapping,
    run_directory,
)
from ipc.records import LEVEL, MAPPING_HEADER, TRADE, VERSION

BODY = 640


def make(path: Path, tag: int = 7) -> Path:
    create_mapping(path, "things", TRADE, 10, BODY, tag)
    return path


def edited(path: Path, field: str, value: int | bytes) -> None:
    """Change one field of a mapping's header."""
    header = np.memmap(path, MAPPING_HEADER, "r+", shape=1)
    header[field] = value
    header.flush()


def test_a_mapping_holds_what_its_header_says(tmp_path: Path) -> None:
    path = make(tmp_path / "m")
    writer = open_mapping(path, "things", TRADE, writable=True)
    reader = open_mapping(path, "things", TRADE)
    assert (reader.path, reader.capacity, reader.tag, reader.replaced) == (path, 10, 7, False)
    assert reader.words(0, BODY // 8).tolist() == [0] * (BODY // 8)
    writer.words(64, 2)[1] = 2**64 - 1
    writer.array(TRADE, 128, 1)["price"] = 5
    assert reader.words(72, 1)[0] == 2**64 - 1
    assert reader.array(TRADE, 128, 1)["price"].tolist() == [5]
    assert path.stat().st_size == HEADER_BYTES + BODY
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    reader = open_mapping(make(tmp_path / "m"), "things", TRADE)
    with pytest.raises(TypeError, match="read-only"):
        reader.words(0, 1)[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        reader.array(TRADE, 0, 1)["price"] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        reader.array(TRADE, 0, 1).flags.writeable = True


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (Path.unlink, "there is no such mapping; is the product running?"),
        (lambda path: path.write_bytes(b""), "0 bytes are too few for a mapping"),
        (lambda path: os.truncate(path, 4095), "4095 bytes are too few for a mapping"),
        (lambda path: path.write_bytes(bytes(8192)), "is no mapping of this product"),
        (
            lambda path: edited(path, "version", VERSION + 1),
            f"has version {VERSION + 1}, this program reads {VERSION}",
        ),
        (lambda path: edited(path, "kind", b"beings"), "holds 'beings', not 'things'"),
        (
            lambda path: create_mapping(path, "things", LEVEL, 10, BODY),
            "has another layout of 'things'",
        ),
        (
            lambda path: os.truncate(path, HEADER_BYTES + BODY - 8),
            f"has {HEADER_BYTES + BODY - 8} bytes, its header says {HEADER_BYTES + BODY}",
        ),
        (
            lambda path: os.truncate(path, HEADER_BYTES + BODY + 8),
            f"has {HEADER_BYTES + BODY + 8} bytes, its header says {HEADER_BYTES + BODY}",
        ),
    ],
    ids=[
        "missing",
        "empty",
        "short",
        "foreign",
        "version",
        "kind",
        "layout",
        "truncated",
        "longer",
    ],
)
def test_what_is_not_the_mapping_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], problem: str
) -> None:
    path = make(tmp_path / "m")
    spoil(path)
    for writable in (False, True):
        with pytest.raises(MappingError) as caught:
            open_mapping(path, "things", TRADE, writable)
        assert str(caught.value) == f"{path}: {problem}"


def test_a_mapping_of_another_user_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "m")
    path.chmod(0)
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)
    try:
        with pytest.raises(MappingError, match=f"{path}: may not be opened by this user"):
            open_mapping(path, "things", TRADE)
    finally:
        if superuser:
            os.seteuid(0)


def test_nobody_sees_a_mapping_that_is_not_filled(tmp_path: Path) -> None:
    path = tmp_path / "m"
    seen: list[bool] = []

    def fill(mapping: Mapping) -> None:
        seen.append(path.exists())
        mapping.words(0, 1)[0] = 5

    create_mapping(path, "things", TRADE, 10, BODY, fill=fill)
    assert seen == [False]
    assert open_mapping(path, "things", TRADE).words(0, 1)[0] == 5
    assert os.listdir(tmp_path) == ["m"]


def test_a_new_mapping_replaces_the_old_one(tmp_path: Path) -> None:
    path = make(tmp_path / "m", tag=1)
    (tmp_path / "m.new").write_bytes(b"left by one that was killed")
    old = open_mapping(path, "things", TRADE, writable=True)
    old.words(0, 1)[0] = 9
    make(path, tag=2)
    new = open_mapping(path, "things", TRADE)
    assert (new.tag, new.words(0, 1)[0], old.words(0, 1)[0]) == (2, 0, 9)
    assert (new.replaced, old.replaced) == (False, True)
    path.unlink()
    assert new.replaced
    assert os.listdir(tmp_path) == []


def test_memory_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with pytest.raises(MappingError, match=f"^{path}: {2**62 + HEADER_BYTES} bytes: "):
        create_mapping(path, "things", TRADE, 10, 2**62)
    with pytest.raises(MappingError, match="No such file or directory"):
        create_mapping(tmp_path / "none" / "m", "things", TRADE, 10, BODY)
    assert os.listdir(tmp_path) == []


def test_memory_is_reserved(tmp_path: Path) -> None:
    path = tmp_path / "m"
    create_mapping(path, "things", TRADE, 10, 1 << 20)
    assert path.stat().st_blocks * 512 >= (1 << 20) + HEADER_BYTES


def test_closing_is_safe_while_views_live(tmp_path: Path) -> None:
    mapping = open_mapping(make(tmp_path / "m"), "things", TRADE, writable=True)
    words, trades = mapping.words(0, 8), mapping.array(TRADE, 0, 1)
    mapping.close()
    mapping.close()
    words[1] = 3
    assert trades["sequence"].tolist() == [3]


def test_closing_unmaps(tmp_path: Path) -> None:
    path = make(tmp_path / "m")
    mapping = open_mapping(path, "things", TRADE)
    assert str(path) in Path("/proc/self/maps").read_text()
    mapping.close()
    assert str(path) not in Path("/proc/self/maps").read_text()
    assert not any(
        os.readlink(link) == str(path) for link in Path("/proc/self/fd").iterdir() if link.exists()
    )


def test_run_directory_is_short_and_one_for_one_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.blake2b(str(tmp_path.resolve()).encode(), digest_size=6).hexdigest()
    expected = Path(f"/dev/shm/shardbook-{os.getuid()}-{digest}")
    assert run_directory(tmp_path) == expected
    (tmp_path / "link").symlink_to(tmp_path)
    assert run_directory(tmp_path / "link" / ".") == expected
    assert run_directory(tmp_path / "other") != expected
    monkeypatch.setattr(mapping_module, "SHARED_MEMORY", tmp_path / "none")
    assert run_directory(tmp_path) == tmp_path / "run"


def test_words_are_the_files_bytes(tmp_path: Path) -> None:
    path = make(tmp_path / "m")
    open_mapping(path, "things", TRADE, writable=True).words(8, 1)[0] = 0x0102
    assert path.read_bytes()[HEADER_BYTES + 8 : HEADER_BYTES + 16] == b"\x02\x01" + bytes(6)
    assert HEADER_BYTES % mmap.PAGESIZE == 0
