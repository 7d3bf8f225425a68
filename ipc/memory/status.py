"""The status page: what every process of the product says about itself, for anyone to read.

One slot a process, written by that process alone: who it is, its state, named counters, and
rejects by code. All words are u64; a reader may see one counter newer than another.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ipc.memory.mapping import Mapping, create_mapping, open_mapping
from ipc.vocabulary import Reason

KIND = "status"
STATES = ("absent", "starting", "ready", "stopped", "halted", "draining")
ROLES = ("supervisor", "frontend", "matcher", "persister", "query", "http")

ORDER_LATENCY_US = (100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 102_400, 1_000_000)
"""The bounds of the latency histogram of an HTTP worker: each order counts in one bucket."""

COUNTERS: dict[str, tuple[str, ...]] = {
    "supervisor": ("restarts", "snapshots", "snapshot_errors", "lost_lines"),
    "frontend": (
        "connections",
        "sessions",
        "accounts",
        "unwritten_accounts",
        "streams",
        "frames_in",
        "bytes_in",
        "rejects_message",
        "refused_too_many_sessions",
        "refused_login",
        "closed_not_logged_in",
        "closed_login_timeout",
        "closed_frame_too_long",
        "closed_slow_reader",
        "closed_idle",
        "undelivered_bytes",
        "held_reads",
        "shards_down",
        "resumed_reports",
        "refused_resume",
        "lost_lines",
    ),
    "matcher": (
        "commands",
        "order_sequence",
        "trade_sequence",
        "reports",
        "trades",
        "batches",
        "ring_full_waits",
        "links_cut_off",
        "sleeps",
        "canceled_on_disconnect",
        "resting_orders",
        "kept_ids",
        "displaced_ids",
        "displaced_reports",
        "journal_bytes",
        "journal_waits",
        "replayed",
        "lost_lines",
    ),
    "persister": (
        "trades",
        "bytes",
        "batches",
        "segments",
        "compressed_segments",
        "write_errors",
        "seal_errors",
        "torn_bytes_cut",
        "skipped_trades",
        "missing_trades",
        "lost_lines",
    ),
    "query": ("requests", "torn_copies", "lost_trades", "lost_lines"),
    "http": (
        "requests",
        "orders",
        "errors_client",
        "errors_server",
        "connections",
        "sockets",
        "subscriptions",
        "messages_out",
        "conflated",
        "closed_slow_reader",
        "unknown_outcomes",
        "commands",
        "sessions",
        "accounts",
        "unwritten_accounts",
        "streams",
        "refused_login",
        "undelivered_bytes",
        "shards_down",
        "resumed_reports",
        "refused_resume",
        "internal_errors",
        "refused_connections",
        "closed_login_timeout",
        "order_seconds_ns",
        *(f"order_under_us_{bound}" for bound in ORDER_LATENCY_US),
        "order_over",
        "lost_lines",
    ),
}
"""The counters of each role, in the order of their words."""

_ROLE, _INDEX, _CORE, _STATE, PID, _STARTED_NS = range(6)
_FIRST_COUNTER = 8
_MAX_COUNTERS = 64
FIRST_REJECT = _FIRST_COUNTER + _MAX_COUNTERS
"""The word of a slot that counts rejects with Reason 0; those of other reasons follow."""
_MAX_REASON = max(Reason)
SLOT_WORDS = (FIRST_REJECT + _MAX_REASON + 1 + 7) // 8 * 8
_NO_CORE = 2**64 - 1
_LAYOUT = np.dtype([("words", "<u8", (SLOT_WORDS,))])

assert all(len(names) <= _MAX_COUNTERS for names in COUNTERS.values())


def is_alive(pid: int) -> bool:
    """Return whether a process is there, whosever it is; 0 is none."""
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def counter_place(role: str, name: str) -> int:
    """Return which word of a slot of a role is the counter of that name."""
    return _FIRST_COUNTER + COUNTERS[role].index(name)


class ProcessSlot(NamedTuple):
    """One process that the page has room for."""

    role: str
    number: int
    core: int | None


class ProcessStatus(NamedTuple):
    """What one process says: its counters by name, its rejects by Reason."""

    role: str
    number: int
    core: int | None
    state: str
    pid: int
    started_ns: int
    counters: dict[str, int]
    rejects: dict[int, int]


def create_status(path: Path, processes: Sequence[ProcessSlot]) -> None:
    """Make a page with a slot for each process, all absent."""

    def fill(mapping: Mapping) -> None:
        for place, slot in enumerate(processes):
            words = mapping.words(place * SLOT_WORDS * 8, SLOT_WORDS)
            words[_ROLE], words[_INDEX] = ROLES.index(slot.role), slot.number
            words[_CORE] = _NO_CORE if slot.core is None else slot.core

    size = len(processes) * SLOT_WORDS * 8
    create_mapping(path, KIND, _LAYOUT, len(processes), size, fill=fill)


def _slot(mapping: Mapping, role: str, number: int) -> memoryview:
    for place in range(mapping.capacity):
        words = mapping.words(place * SLOT_WORDS * 8, SLOT_WORDS)
        if (ROLES[words[_ROLE]], words[_INDEX]) == (role, number):
            return words
    raise LookupError(f"{mapping.path}: has no slot for {role} {number}")


class StatusWriter:
    """The slot of the calling process; it is the only writer."""

    def __init__(self, path: Path, role: str, number: int) -> None:
        mapping = open_mapping(path, KIND, _LAYOUT, writable=True)
        self.words = _slot(mapping, role, number)
        """The slot, for compiled code of this process that counts; see ``counter_place``."""
        self._place = {name: counter_place(role, name) for name in COUNTERS[role]}

    def start(self, pid: int, started_ns: int) -> None:
        """Say that the process has begun; its counters begin at zero."""
        words = self.words
        for place in range(_FIRST_COUNTER, SLOT_WORDS):
            words[place] = 0
        words[PID], words[_STARTED_NS] = pid, started_ns
        words[_STATE] = STATES.index("starting")

    def ready(self) -> None:
        """Say that the process serves."""
        self.words[_STATE] = STATES.index("ready")

    def drain(self) -> None:
        """Say that the product takes nothing more and finishes what it has."""
        self.words[_STATE] = STATES.index("draining")

    def stop(self) -> None:
        """Say that the process has ended as it should."""
        self.words[_STATE] = STATES.index("stopped")

    def halt(self) -> None:
        """Say that the process has ended because it can keep nothing; nothing restarts it."""
        self.words[_STATE] = STATES.index("halted")

    def forget(self) -> None:
        """Say, for a process that died, that it is not there; its successor starts anew."""
        self.words[_STATE] = STATES.index("absent")

    def set(self, name: str, value: int) -> None:
        """Give a counter its value."""
        self.words[self._place[name]] = value

    def get(self, name: str) -> int:
        """Return a counter."""
        return self.words[self._place[name]]

    def add(self, name: str, count: int) -> None:
        """Add to a counter."""
        self.words[self._place[name]] += count

    def word(self, name: str) -> memoryview:
        """Return the one word of a counter, for who adds to it all the time."""
        place = self._place[name]
        return self.words[place : place + 1]

    def add_reject(self, reason: int, count: int = 1) -> None:
        """Count rejects by their code."""
        self.words[FIRST_REJECT + reason] += count


class StatusReader:
    """The page as anyone may read it."""

    def __init__(self, path: Path) -> None:
        self.mapping = open_mapping(path, KIND, _LAYOUT)

    def slot(self, role: str, number: int) -> memoryview:
        """Return the words of one process, as they change. Raises ``LookupError``."""
        return _slot(self.mapping, role, number)

    def processes(self) -> list[ProcessStatus]:
        """Return what every process says, in the order of the slots."""
        found = []
        for place in range(self.mapping.capacity):
            words = self.mapping.words(place * SLOT_WORDS * 8, SLOT_WORDS).tolist()
            role = ROLES[words[_ROLE]]
            counters = dict(zip(COUNTERS[role], words[_FIRST_COUNTER:], strict=False))
            rejects = {
                reason: words[FIRST_REJECT + reason]
                for reason in range(_MAX_REASON + 1)
                if words[FIRST_REJECT + reason]
            }
            found.append(
                ProcessStatus(
                    role,
                    words[_INDEX],
                    None if words[_CORE] == _NO_CORE else words[_CORE],
                    STATES[words[_STATE]],
                    words[PID],
                    words[_STARTED_NS],
                    counters,
                    rejects,
                )
            )
        return found
