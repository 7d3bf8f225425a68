"""What a start costs with nothing compiled, and with everything: ``python -m bench.cold_start``.

Each step of compiling is taken alone in one process first. Then products are started and stopped,
each time on an empty cache and once more on what it has left; ``--against DIR`` starts those of
another checkout in turn with ours. Processor time is that of all processes of a product, which
says more than wall time where the machine has other work.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.measure import machine, table, versions
from ipc.native.code_cache import VARIABLE

OURS = Path(__file__).resolve().parent.parent
SYMBOL = '[[instruments]]\nsymbol = "S"\ntick_size = "0.01"\n'

STEPS = """
import gc
import time
from engine.warm import warm
from frontend.roles import ROLES

gc.disable()  # as where a product compiles
told = []

def tell(text):
    told.append((text, time.process_time()))

warm("ladder", ROLES.warm, tell)
tell("")
for (text, begun), (_, ended) in zip(told, told[1:]):
    print(f"{text}\\t{ended - begun:.2f}")
"""


class Start(NamedTuple):
    """Seconds from the command to "ready", and of processor time up to the end."""

    ready_s: float
    cpu_s: float


def environment(checkout: Path, cache: Path) -> dict[str, str]:
    """Return the environment of what runs a checkout's code with a cache of its own."""
    own = {"PYTHONPATH": str(checkout), "NUMBA_CACHE_DIR": str(cache)}
    return {name: value for name, value in os.environ.items() if name != VARIABLE} | own


def print_steps() -> None:
    """Print what each step of compiling takes."""
    with TemporaryDirectory(prefix="sb-") as cache:
        command = [sys.executable, "-c", STEPS]
        there = environment(OURS, Path(cache))
        done = subprocess.run(command, env=there, text=True, stdout=subprocess.PIPE, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    rows.append(["all of them", f"{sum(float(seconds) for _, seconds in rows):.2f}"])
    print(table("Compiling, seconds of processor time", ["step", "CPU s"], rows), flush=True)


def start(checkout: Path, cache: Path) -> Start:
    """Start a product, and stop it once it is ready."""
    with TemporaryDirectory(prefix="sb-") as name:
        config = Path(name) / "config.toml"
        config.write_text(f'data_dir = "{name}/data"\n{SYMBOL}')
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "frontend", "serve", "--config", str(config)],
            cwd=checkout, env=environment(checkout, cache), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert any(line == "ready\n" for line in process.stdout), "it does not start"
        ready_s = time.monotonic() - begun
        process.terminate()
        process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return Start(ready_s, used.ru_utime + used.ru_stime)


def print_starts(checkouts: list[Path], rounds: int) -> None:
    """Print medians of starts, first and second ones, and the first checkout's share of others."""
    cold: dict[Path, list[Start]] = {checkout: [] for checkout in checkouts}
    warm: dict[Path, list[Start]] = {checkout: [] for checkout in checkouts}
    for _ in range(rounds):
        for checkout in checkouts:
            with TemporaryDirectory(prefix="sb-") as cache:
                cold[checkout].append(start(checkout, Path(cache)))
                warm[checkout].append(start(checkout, Path(cache)))
    medians = {
        checkout: [
            statistics.median(values)
            for starts in (cold[checkout], warm[checkout])
            for values in zip(*starts, strict=True)
        ]
        for checkout in checkouts
    }
    rows = [[str(place), *(f"{value:.1f}" for value in row)] for place, row in medians.items()]
    ours = medians[checkouts[0]]
    for other in checkouts[1:]:
        shares = [mine / theirs for mine, theirs in zip(ours, medians[other], strict=True)]
        rows.append([f"of {other}", *(f"{share:.2f}" for share in shares)])
    header = ["", "cold: ready s", "CPU s", "warm: ready s", "CPU s"]
    print(f"\n{table(f'Starts, medians of {rounds}', header, rows)}", flush=True)


def main() -> None:
    """Run by hand."""
    parser = argparse.ArgumentParser(prog="python -m bench.cold_start", description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout, such as a former state")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(machine(), versions("numba", "llvmlite", "numpy"), sep="\n")
    print_steps()
    others = [] if options.against is None else [options.against.resolve()]
    print_starts([OURS, *others], options.rounds)


if __name__ == "__main__":
    main()
