"""Files with right checksums that no product wrote: ``python -m bench.fuzz_files --count 10000``.

Bytes of a journal, a snapshot, the trade log, its compressed segments and ``sealed.json`` are
changed, cut, doubled or filled, and checksums are made right again. ``verify`` and a dry run must
then say what is wrong and in which file, or go on; nothing may end this process, raise anything
else. The whole process, compiled book and all, may take 200 MB, once its machine code is there.
"""

import argparse
import contextlib
import gzip
import random
import re
import secrets
import shutil
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import json

from engine.journal.format import END_BYTES, JournalError
from engine.journal.reader import segments_of
from engine.journal.snapshot import MAGIC, snapshots_of
from engine.plan import Plan
from engine.shard.snapshotter import take_snapshot
from engine.trade_log.history import BackwardLog, trades_of
from engine.trade_log.log import TradeLogError
from engine.verify import Verdict, dry_run, verify

MOST_BYTES = 200 << 20
_PLACE = re.compile(r"(/|\.(gz|ndjson|json)|trade log).*(byte|command|trade|line)s? \d")
"""What a problem names: a file, or the log, and where in it."""
_BATCH_MARK = b"\xde\xc0\x0c\xb1"


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Return data with something changed."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        place = chance.randrange(max(1, len(changed)))
        width = chance.choice([1, 1, 2, 4, 8, 8])
        kind = chance.randrange(6)
        if kind == 0:
            changed[place : place + width] = chance.randbytes(width)
        elif kind == 1:
            changed[place : place + width] = bytes(width)
        elif kind == 2:
            changed[place : place + width] = b"\xff" * width
        elif kind == 3:
            del changed[place : place + chance.choice([1, 8, 56, 200])]
        elif kind == 4:
            changed[place:place] = changed[place : place + chance.choice([1, 8, 56, 200])]
        else:
            value = int.from_bytes(changed[place : place + width], "little")
            more = (value + chance.choice([-1, 1, 1 << 32])) % (1 << 8 * width)
            changed[place : place + width] = more.to_bytes(width, "little")
    return bytes(changed)


def mend_snapshot(data: bytes) -> bytes:
    """Return a snapshot with its checksum, and sometimes its magic, right."""
    body = MAGIC + data[8:-4]
    return body + struct.pack("<I", zlib.crc32(body))


def mend_journal(data: bytes) -> bytes:
    """Return a segment whose header and batches have right checksums, as far as they are found."""
    mended = bytearray(data)
    if len(mended) >= 4_096:
        size = min(int.from_bytes(mended[16:24], "little"), len(mended))
        page = bytearray(mended[: max(size, 40)])
        page[12:16] = bytes(4)
        mended[12:16] = struct.pack("<I", zlib.crc32(page))
    place = 0
    while (place := data.find(_BATCH_MARK, place)) >= 0:
        end = data.find(END_BYTES, place)
        if end < 0:
            break
        mended[end - 4 : end] = struct.pack("<I", zlib.crc32(mended[place : end - 4]))
        place = end
    return bytes(mended)


def judge(plan: Plan, path: Path) -> str:
    """Look at the files as every command does; return what was said. Raises where it must not."""
    said = []
    for look in (lambda: verify(plan.data_dir), lambda: dry_run(plan)):
        verdict: Verdict = look()
        for line in verdict.lines:
            if "PROBLEM" in line:
                said.append(line)
                assert _PLACE.search(line), line
    log = BackwardLog(plan.log_dir)
    with contextlib.suppress(TradeLogError, FileNotFoundError):
        for block in log.blocks():
            trades_of(block, None)
    log.close()
    with contextlib.suppress(JournalError):
        if path.suffix == ".snapshot":
            take_snapshot(plan, 0)
    return "; ".join(said)


@contextlib.contextmanager
def kept(plan: Plan) -> Iterator[None]:
    """Give the files their bytes back afterwards."""
    with TemporaryDirectory(prefix="sb-") as aside:
        shutil.copytree(plan.data_dir, Path(aside) / "data", dirs_exist_ok=True)
        try:
            yield
        finally:
            shutil.rmtree(plan.data_dir)
            shutil.copytree(Path(aside) / "data", plan.data_dir)


def targets(plan: Plan) -> list[Path]:
    """Return the files to change."""
    directory = plan.journal_dir(0)
    journal = [segment.path for segment in segments_of(directory)]
    return [*journal, *snapshots_of(directory), *sorted(plan.log_dir.iterdir())]


def spoil(chance: random.Random, path: Path) -> None:
    """Change a file, and make its checksums right."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(mutated(chance, gzip.decompress(data)), 1))
    elif path.suffix == ".snapshot":
        path.write_bytes(mend_snapshot(mutated(chance, data)))
    elif path.suffix == ".journal":
        path.write_bytes(mend_journal(mutated(chance, data)))
    else:
        path.write_bytes(mutated(chance, data))


def run(plan: Plan, seed: int, count: int) -> dict[str, int]:
    """Change files so many times; return how often something was found wrong, by kind of file."""
    found: dict[str, int] = {}
    before = peak_bytes()
    for turn in range(count):
        chance = random.Random(f"{seed}/{turn}")
        with kept(plan):
            path = chance.choice(targets(plan))
            spoil(chance, path)
            try:
                wrong = bool(judge(plan, path))
            except BaseException:
                print(f"turn {turn} of seed {seed}: {path}", file=sys.stderr)
                raise
        kind = f"{path.suffix.removeprefix('.')} {'refused' if wrong else 'taken'}"
        found[kind] = found.get(kind, 0) + 1
    grown = peak_bytes() - before
    assert grown < MOST_BYTES, f"{grown >> 20} MB more than before"
    return found


def peak_bytes() -> int:
    """Return the most memory that this process has had.

    Not by ``getrusage``: that counts what the process had that this one was started from.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status: has no VmHWM")


def main() -> None:
    """Make a product's files, and change them."""
    from tests.hostile_files import product_files

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    options = parser.parse_args()
    print(f"repeat: python -m bench.fuzz_files --seed {options.seed} --count {options.count}")
    with TemporaryDirectory(prefix="sb-") as directory:
        plan = product_files(Path(directory))
        found = run(plan, options.seed, options.count)
    print(json.encode(found, order="sorted").decode())
    most = peak_bytes()
    print(f"{most >> 20} MB at most")
    if most >= MOST_BYTES:
        sys.exit(f"more than {MOST_BYTES >> 20} MB")


if __name__ == "__main__":
    main()
