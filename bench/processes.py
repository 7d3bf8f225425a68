"""What processes cost, as the kernel counts it: CPU time and proportional set size."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

Pids = Mapping[str, Sequence[int]]
"""Process ids by role."""


def cpu_ns(pid: int) -> int:
    """Return the CPU time of all threads of a process, those that ended included.

    Linux has a CPU clock for every process, numbered as glibc's ``clock_getcpuclockid`` does; it
    counts nanoseconds where /proc/PID/stat counts hundredths of a second.
    """
    return time.clock_gettime_ns((~pid << 3) | 2)


def cpu_by_role(pids: Pids) -> dict[str, int]:
    """Return CPU nanoseconds so far, each role's processes together."""
    return {role: sum(map(cpu_ns, members)) for role, members in pids.items()}


def pss_bytes(pid: int) -> int:
    """Return the proportional set size: what is shared counts by how many share it."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{pid}/smaps_rollup: has no Pss")


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, children.read_text().split())
    return found
