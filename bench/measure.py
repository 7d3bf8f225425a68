"""Timing that can be compared: interleaved runs, thread CPU time beside wall time, medians."""

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

Contenders = Mapping[str, Callable[[], Callable[[], object]]]
"""What is timed, by name: each prepares a run, untimed, and returns what is to be timed."""


class Timing(NamedTuple):
    """How long one run took, or the medians of several, in nanoseconds."""

    cpu_ns: int
    wall_ns: int
    best_cpu_ns: int


def timed(run: Callable[[], object]) -> Timing:
    """Run once; return the thread's CPU time and the wall time."""
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    run()
    cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
    return Timing(cpu, wall, cpu)


def interleaved(contenders: Contenders, runs: int) -> dict[str, Timing]:
    """Return the medians of ``runs`` timings of each contender, and the best CPU time.

    Each round runs every contender once, so that what else the machine does meets all alike.
    """
    timings: dict[str, list[Timing]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, prepare in contenders.items():
            timings[name].append(timed(prepare()))
    return {
        name: Timing(
            int(statistics.median(timing.cpu_ns for timing in taken)),
            int(statistics.median(timing.wall_ns for timing in taken)),
            min(timing.cpu_ns for timing in taken),
        )
        for name, taken in timings.items()
    }


def machine() -> str:
    """Return one line on the machine: its processor, cores and load."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
            model = models[0] if models else model
    except OSError:
        pass
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, load {load}"


def versions(*packages: str) -> str:
    """Return Python's version and those of the packages that are installed."""
    named = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            named.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            named.append(f"{package} absent")
    return ", ".join(named)


def table(title: str, header: list[str], rows: list[list[str]]) -> str:
    """Return a plain text table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [title]
    for row in [header, *rows]:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join([first, *rest]).rstrip())
    return "\n".join(lines)
