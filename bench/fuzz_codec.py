"""Coverage-guided fuzzing of the codec: compiled code and msgspec must see the same in any bytes.

    python -m bench.fuzz_codec commands|answers|routing|delivery [--seconds N] [--corpus DIR]

Runs the checks of ``tests.codec_checks`` under atheris (libFuzzer). What is compiled elsewhere runs
as plain Python here, so that its branches are seen. The corpus begins with frames of every kind and
with ``tests/codec_corpus.txt``, whose lines are the shortest of what earlier runs have found.
Without the name of a check every check sees that corpus once, and atheris is not needed.
"""

import argparse
import contextlib
import ctypes
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

try:
    import atheris
except ImportError:
    atheris = None

from ipc.native import compiled, unaligned, views

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


class _Fields:
    """A record by attribute, as in compiled code; numpy's own has no field that is called size."""

    def __init__(self, record: np.void) -> None:
        self.__dict__["record"] = record

    def __getattr__(self, name: str) -> Any:
        return self.record[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self.record[name] = value


def _array_at(address: int, count: int, dtype: Any) -> Any:
    size = int(count) * np.dtype(dtype).itemsize
    memory = (ctypes.c_char * size).from_address(int(address))
    array: Any = np.ndarray(int(count), dtype, memory)
    return array if array.dtype.names is None else [_Fields(record) for record in array]


def _as_it_is(function: Any) -> Any:
    return function


compiled.compiled = compiled.called = compiled.inlined = _as_it_is
compiled.compiled_with = lambda *_: _as_it_is
unaligned.load_u8 = _load_u8
unaligned.load_u32, unaligned.load_big_u64 = _load_u32, _load_big_u64
unaligned.store_u32, unaligned.copy_bytes = _store_u32, _copy_bytes
views.array_at = _array_at

INSTRUMENTED = ["ipc", "frontend.gateway.frame_sorter"]
with atheris.instrument_imports(include=INSTRUMENTED) if atheris else contextlib.nullcontext():
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
    scan, read_answers = ipc.wire.matcher_codec.scan_received, ipc.wire.client_codec.read_answers

    def scan_records(address, commands, count, timestamp_ns):
        return scan(address, commands.view(np.recarray), count, timestamp_ns)

    def read_records(data, position, most, first, answers, others, *rest):
        arrays = (answers.view(np.recarray), others.view(np.recarray))
        return read_answers(data, position, most, first, *arrays, *rest)

    ipc.wire.matcher_codec.scan_received = scan_records
    ipc.wire.client_codec.read_answers = read_records


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
    """Fuzz one check, or let each see the corpus."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz_codec", description=__doc__)
    parser.add_argument("check", choices=CHECKS, nargs="?")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="kept there; default: temporary")
    options = parser.parse_args()
    plain_records()
    if options.check is None:
        for name, check in CHECKS.items():
            for seed in seeds():
                check(seed)
            print(f"{name}: {len(seeds())} streams")
        return
    if atheris is None:
        sys.exit("atheris is missing: pip install 'shardbook[bench]'")
    directory = options.corpus or Path(tempfile.mkdtemp(prefix="fuzz-codec-"))
    directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (directory / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={options.seconds}", "-max_len=512", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *limits, str(directory)], CHECKS[options.check])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
