"""Files that no product wrote, with right checksums: named, never obeyed, in little memory."""

import gzip
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import json

from bench.fuzz_files import run
from engine.books.id_memory import forgotten_before
from engine.books.rules import LINK_HELD, LINK_LISTED, LINK_NEXT
from engine.journal.format import JournalError
from engine.journal.reader import segments_of
from engine.journal.snapshot import MAGIC, encode, read_snapshot, snapshots_of
from engine.plan import Plan
from engine.printable import printable
from engine.shard.snapshotter import take_snapshot
from engine.trade_log.segments import compressed_path
from engine.verify import verify
from ipc.records import make_id
from ipc.vocabulary import Flag
from tests.hostile_files import product_files
from tests.kept import commands_for, plan_of, write_journal

WAIT_S = 100
MOST_BYTES = 200 << 20
"""Of a process that has the compiled book; 150 MB of it before it reads anything."""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return product_files(tmp_path)


def test_changed_files_are_refused_or_taken_and_end_nothing(plan: Plan, seed: int) -> None:
    found = run(plan, seed, 60)
    assert sum(found.values()) == 60


def write(path: Path, snapshot) -> None:
    path.write_bytes(b"".join(bytes(piece) for piece in encode(snapshot)))


@pytest.mark.parametrize(
    ("section", "field", "value", "said"),
    [
        ("resting", "symbol", 9, "must be an instrument of the shard"),
        ("resting", "side", 3, "must be 1 to 2"),
        ("resting", "price", 2**60, "must be 0 to"),
        ("resting", "price", 0, "must be given where there is a limit"),
        ("resting", "time_in_force", 3, "must not be IOC or FOK where it rests"),
        ("resting", "expire_time_ns", 1, "must be given for DAY and GTD, and only then"),
        ("resting", "shown_quantity", 1, "must be what is shown of an iceberg that rests"),
        ("resting", "flags", 32, "must say whether an order is rare"),
        ("resting", "link", 7, "must be one of an order of a list"),
        ("resting", "link", 64, "must be 0 to"),
        ("resting", "display_quantity", 2**44, "must be 0 to"),
        ("resting", "order_type", 3, "must be one that waits with a stop price"),
        ("resting", "order_type", 5, "must be one there is"),
        ("resting", "flags", 2 | 64 | 1, "must be those of an order"),
        ("resting", "leaves_qty", 2**63, "must be 1 to"),
        ("resting", "order_id", 2**60, "must be 1 to"),
        ("recent", "order_id", 0, "must be 1 to"),
        ("recent", "symbol", 2**40, "must be an instrument"),
        ("orders", "ord_status", 8, "must be a status"),
        ("accounts", "account", 0, "must be 1 to"),
    ],
)
def test_a_field_out_of_its_range_is_named_with_its_place(
    plan: Plan, section: str, field: str, value: int, said: str
) -> None:
    path = snapshots_of(plan.journal_dir(0))[0]
    snapshot = read_snapshot(path)
    rows = getattr(snapshot, section).copy()
    rows[field][1] = value
    object.__setattr__(snapshot, section, rows)
    write(path, snapshot)
    data = path.read_bytes()
    with pytest.raises(
        JournalError, match=rf"{path.name}: byte \d+: {section}: {field}.*{said}"
    ) as e:
        read_snapshot(path)
    offset = int(str(e.value).partition(": byte ")[2].partition(":")[0])
    kind = np.dtype(rows.dtype[field])
    assert np.frombuffer(data, kind, 1, offset)[0] == value


@pytest.mark.parametrize(
    ("link", "said"),
    [
        (LINK_LISTED | LINK_NEXT, "must be of two orders with the same open"),
        (LINK_LISTED | LINK_HELD, "must have an order to wait for"),
    ],
)
def test_an_order_that_is_tied_to_none_is_refused(plan: Plan, link: int, said: str) -> None:
    path = snapshots_of(plan.journal_dir(0))[0]
    snapshot = read_snapshot(path)
    # One that is held stands where those do that wait.
    rows = snapshot.resting[snapshot.resting["symbol"] == snapshot.resting["symbol"][0]]
    place = len(rows) - 1 if link & LINK_HELD else 0
    rows = snapshot.resting[: len(rows)].copy()
    rows["link"][place] = link
    rows["flags"][place] |= Flag.RARE
    object.__setattr__(snapshot, "resting", rows)
    write(path, snapshot)
    with pytest.raises(JournalError, match=rf"{path.name}: byte \d+: resting: link.*{said}"):
        read_snapshot(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[::-1],
        lambda rows: np.concatenate((rows, rows[-1:])),
        lambda rows: np.concatenate((rows[:1], rows)),
    ],
)
@pytest.mark.parametrize("section", ["resting", "recent", "accounts"])
def test_records_that_no_book_can_have_together_are_refused(
    plan: Plan, section: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = snapshots_of(plan.journal_dir(0))[0]
    snapshot = read_snapshot(path)
    object.__setattr__(snapshot, section, change(getattr(snapshot, section)))
    write(path, snapshot)
    with pytest.raises(JournalError, match=f"{path.name}: byte .*{section}: "):
        read_snapshot(path)


@pytest.mark.parametrize("bound", ["kept_ids", "account_ids"])
def test_more_kept_ids_than_a_book_keeps_are_refused(tmp_path: Path, bound: str) -> None:
    """In a file that is right but for that: as many as there is room for are taken."""
    plan = plan_of(tmp_path, engine="recent_orders = 64\naccount_ids = 60\nkept_ids = 80")
    write_journal(plan, commands_for(plan, 1_200, accounts=8))
    take_snapshot(plan, 0)
    path = snapshots_of(plan.journal_dir(0))[0]
    snapshot = read_snapshot(path)
    forgotten = make_id(0, forgotten_before(snapshot.counters.order_sequence, 64))
    kept = snapshot.recent[snapshot.recent["order_id"] <= forgotten]
    of_each = np.unique(kept["account"], return_counts=True)[1]
    most = len(kept) if bound == "kept_ids" else int(of_each.max())
    assert most > 1, "too few to try it"
    said = {
        "kept_ids": f"order_id = .*is one of {most} that are kept, more than {most - 1}",
        "account_ids": f"account = .*has more kept than {most - 1}",
    }
    config = snapshot.shard_config
    for count in (most, most - 1):
        changed = msgspec.structs.replace(config, **{bound: count})
        object.__setattr__(snapshot, "shard_config", changed)
        write(path, snapshot)
        if count == most:
            assert len(read_snapshot(path).recent) == len(snapshot.recent)
    with pytest.raises(JournalError, match=rf"{path.name}: byte \d+: recent: {said[bound]}"):
        read_snapshot(path)


def looked_at(directory: Path) -> tuple[str, int]:
    """What ``shardbook verify`` says, and the most memory that it had.

    Not by ``getrusage``: that counts what the process had that this one was started from.
    """
    code = (
        "import re, sys; from frontend.cli import main; main(['verify', sys.argv[1]]); "
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) << 10)"
    )
    command = [sys.executable, "-c", code, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    *said, peak = done.stdout.splitlines()
    return "\n".join(said), int(peak)


def test_what_says_that_it_is_long_takes_no_memory(plan: Plan) -> None:
    """150 MB of zeros in a few KB, a snapshot and a journal that are holes of 512 MB."""
    looked_at(plan.data_dir)  # what has to be compiled first takes memory of its own
    directory = plan.journal_dir(0)
    with gzip.open(compressed_path(plan.log_dir, 1), "wb", compresslevel=1) as packed:
        for _ in range(150):
            packed.write(bytes(1 << 20))
    newest = snapshots_of(directory)[0]
    length = 1 << 29
    with newest.open("r+b") as file:
        file.truncate(length)
    (directory / "0000000000009999.snapshot").write_bytes(
        MAGIC + struct.pack("<II", 1, 2**32 - 1) + bytes(64)
    )
    with segments_of(directory)[-1].path.open("r+b") as file:
        file.truncate(length)
    said, peak = looked_at(plan.data_dir)
    assert peak < MOST_BYTES
    assert "a line without an end" in said
    assert f"{newest.name}: byte" in said


def test_a_head_that_promises_more_than_there_is_is_refused(plan: Plan) -> None:
    path = snapshots_of(plan.journal_dir(0))[0]
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 12)
    head = json.decode(data[16 : 16 + length])
    for count in (-1, 2**40, 2**70):
        head["sections"][0]["count"] = count
        text = json.encode(head) if count < 2**64 else json.encode(head | {"sections": []})
        body = data[:12] + struct.pack("<I", len(text)) + text + data[16 + length : -4]
        path.write_bytes(body + struct.pack("<I", zlib.crc32(body)))
        with pytest.raises(JournalError, match=f"{path.name}: byte "):
            read_snapshot(path)


def test_odd_names_are_none_of_ours_and_print_escaped(plan: Plan) -> None:
    directory = plan.journal_dir(0)
    (directory / "²².journal").write_bytes(b"")
    (directory / "x\x1b[31m.snapshot").write_bytes(b"")
    (directory / "12.snapshot").write_bytes(b"")
    (plan.data_dir / "journal" / "²").mkdir()
    (plan.log_dir / "trades-\N{ARABIC-INDIC DIGIT ONE}00001.ndjson").write_bytes(b"")
    os.mkfifo(directory / "0000000000009998.snapshot")
    bad = os.fsencode(directory) + b"/\xff\x1b[2J.tmp"
    Path(os.fsdecode(bad)).write_bytes(b"")
    said, _ = looked_at(plan.data_dir)
    assert "\x1b" not in said
    assert "\\udcff\\x1b[2J.tmp: unfinished" in said
    assert "is no regular file" in said
    assert verify(plan.data_dir).problems == 1


def test_what_is_printable_stays() -> None:
    assert printable("Zürich, 7 %") == "Zürich, 7 %"
    assert printable("a\x1b[0m\n\udc80") == "a\\x1b[0m\\n\\udc80"
