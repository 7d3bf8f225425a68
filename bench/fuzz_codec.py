"""Coverage-guided fuzzing of the codec: compiled code and msgspec must see the same in any bytes.

    python -m bench.fuzz_codec commands|answers|routing|delivery [--seconds N] [--corpus DIR]

Runs the checks of ``tests.codec_checks`` under atheris (libFuzzer). What is compiled elsewhere runs
as plain Python here, so that its branches are seen. The corpus begins with frames of every kind and
with ``tests/codec_corpus.txt``, whose lines are the shortest of what earlier runs have found.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

os.environ["NUMBA_DISABLE_JIT"] = "1"

import atheris

from ipc.native import unaligned

CORPUS = Path(__file__).parent.parent / "tests" / "codec_corpus.txt"


def _load_u32(data: np.ndarray, at: int) -> np.uint64:
    return np.uint64(int.from_bytes(data[at : at + 4].tobytes(), "little"))


def _load_u8(data: np.ndarray, at: int) -> np.uint64:
    return np.uint64(data[at])


def _load_big_u64(data: np.ndarray, at: int) -> np.uint64:
    return np.uint64(int.from_bytes(data[at : at + 8].tobytes(), "big"))


def _store_u32(out: np.ndarray, at: int, value: int) -> None:
    out[at : at + 4] = np.frombuffer(int(value).to_bytes(4, "little"), np.uint8)


def _copy_bytes(out: np.ndarray, at: int, source: np.ndarray, start: int, count: int) -> None:
    out[at : at + count] = source[start : start + count]


unaligned.load_u8 = _load_u8
unaligned.load_u32, unaligned.load_big_u64 = _load_u32, _load_big_u64
unaligned.store_u32, unaligned.copy_bytes = _store_u32, _copy_bytes

with atheris.instrument_imports(include=["ipc", "frontend.gateway.frame_sorter"]):
    import ipc.wire.client_codec
    import ipc.wire.command_decoder
    import ipc.wire.matcher_codec
    import ipc.wire.report_decoder
    from ipc.wire.frames import frame
    from ipc.wire.messages import (
        BookQuery,
        Cancel,
        MassCancel,
        MassCancelReport,
        NewOrder,
        Reduce,
        Reject,
        Replace,
        Report,
    )
    from tests.codec_checks import CHECKS, STREAM


def plain_records() -> None:
    """Let records be read and written by attribute, as in compiled code."""
    scan, read_answers = ipc.wire.matcher_codec.scan, ipc.wire.client_codec.read_answers

    def scan_records(*arguments):
        *others, commands, count = arguments
        return scan(*others, commands.view(np.recarray), count)

    def read_records(data, position, most, first, answers, others, *rest):
        arrays = (answers.view(np.recarray), others.view(np.recarray))
        return read_answers(data, position, most, first, *arrays, *rest)

    ipc.wire.matcher_codec.scan, ipc.wire.client_codec.read_answers = scan_records, read_records


def seeds() -> list[bytes]:
    """Return what the fuzzer begins with."""
    commands = [
        NewOrder(1, 2, 300, 1, 2, 1, 70_000, 2**33, True),
        Cancel(2, 3, 2**40),
        Replace(3, 2, 0, 5, 100, 7, True),
        Replace(3, 2, 0, 5, None, 7),
        Replace(3, 2, 0, 5, 100, None),
        Reduce(300, 2, 4, 0, 7),
        MassCancel(1, 9),
        BookQuery(1, 2, 3),
    ]
    answers = [
        Report(0, 0, 1, 1, 1, 2, 1, 0, 0, 0, 1, *range(2, 15)),
        Report(15, 2, 1, 1, 1, 2, 1, 0, 2, 0, 0, *([2**63] * 12), 1),
        Reject(1, 1, 3, 0, 0, 50, "BUSY", "symbol", "must " * 20, 9, 1, 2),
        MassCancelReport(0, 4, 5, 6, 7, 3),
    ]
    frames = [frame(message, STREAM) for message in [*commands, *answers]]
    return [*frames, b"".join(frames[:8]), b"".join(frames[8:]), *corpus().values()]


def corpus() -> dict[str, bytes]:
    """Return what earlier runs have found, by the line it stands in."""
    lines = CORPUS.read_text().splitlines() if CORPUS.exists() else []
    return {line: bytes.fromhex(line.split()[1]) for line in lines if line}


def main() -> None:
    """Fuzz one check."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz_codec", description=__doc__)
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="kept there; default: temporary")
    options = parser.parse_args()
    plain_records()
    check = CHECKS[options.check]
    directory = options.corpus or Path(tempfile.mkdtemp(prefix="fuzz-codec-"))
    directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (directory / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={options.seconds}", "-max_len=512", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *limits, str(directory)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
