"""The status page: what every process of the product says about itself, for anyone to read.

One slot a process, written by that process alone: who it is, its state, named counters, and
rejects by code. All words are u64; a reader may see one counter newer than another. Behind the
slots the page names the roles and their counters: a reader needs to know none of them.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from ipc.memory.mapping import Mapping, create_mapping, open_mapping
from ipc.vocabulary import Reason

KIND = "status"
STATES = ("absent", "starting", "ready", "stopped", "halted", "draining")

_ROLE, _INDEX, _CORE, _STATE, PID, _STARTED_NS, _READER = range(7)
_FIRST_COUNTER = 8
MAX_COUNTERS = 64
FIRST_REJECT = _FIRST_COUNTER + MAX_COUNTERS
"""The word of a slot that counts rejects with Reason 0; those of other reasons follow."""
_MAX_REASON = max(Reason)
SLOT_WORDS = (FIRST_REJECT + _MAX_REASON + 1 + 7) // 8 * 8
_NONE = 2**64 - 1
_LAYOUT = np.dtype([("words", "<u8", (SLOT_WORDS,)), ("roles", "V0")])


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


class Shown(Protocol):
    """What a role shows of each of its processes: ``counters``, at most ``MAX_COUNTERS``, in the
    order of their words, of which the ``gauges`` may fall, too."""

    @property
    def name(self) -> str:
        """The name of the role."""

    @property
    def counters(self) -> tuple[str, ...]:
        """Names of all that is counted, gauges included."""

    @property
    def gauges(self) -> frozenset[str]:
        """Those of the counters that say how many there are now."""

    @property
    def needed(self) -> bool:
        """Whether the product is not ready where a process of it is not."""


class ShownRole(NamedTuple):
    """A role as the page names it."""

    name: str
    counters: tuple[str, ...]
    gauges: frozenset[str]
    needed: bool


def counter_place(role: Shown, name: str) -> int:
    """Return which word of a slot of a role is the counter of that name."""
    return _FIRST_COUNTER + role.counters.index(name)


class ProcessSlot(NamedTuple):
    """One process that the page has room for; ``reader``: which of the gating readers of trade
    rings it is, if any."""

    role: Shown
    number: int
    core: int | None
    reader: int | None = None


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
    reader: int | None
    """Which gating reader of the trade rings it is, if any."""


def create_status(path: Path, processes: Sequence[ProcessSlot]) -> None:
    """Make a page with a slot for each process, all absent."""
    roles = {slot.role.name: slot.role for slot in processes}
    for role in roles.values():
        assert len(role.counters) <= MAX_COUNTERS, role.name
    text = msgspec.json.encode(
        [ShownRole(role.name, role.counters, role.gauges, role.needed) for role in roles.values()]
    )
    names = list(roles)

    def fill(mapping: Mapping) -> None:
        for place, slot in enumerate(processes):
            words = mapping.words(place * SLOT_WORDS * 8, SLOT_WORDS)
            words[_ROLE], words[_INDEX] = names.index(slot.role.name), slot.number
            words[_CORE] = _NONE if slot.core is None else slot.core
            words[_READER] = _NONE if slot.reader is None else slot.reader
        mapping.array(np.uint8, size, len(text))[:] = np.frombuffer(text, np.uint8)

    size = len(processes) * SLOT_WORDS * 8
    create_mapping(path, KIND, _LAYOUT, len(processes), size + len(text), len(text), fill)


def _roles(mapping: Mapping) -> list[ShownRole]:
    """Return the roles that a page names, by the number that its slots have of them."""
    text = mapping.array(np.uint8, mapping.capacity * SLOT_WORDS * 8, mapping.tag)
    return msgspec.json.decode(text.tobytes(), type=list[ShownRole])


def _slot(mapping: Mapping, role: str, number: int) -> tuple[memoryview, ShownRole]:
    roles = _roles(mapping)
    for place in range(mapping.capacity):
        words = mapping.words(place * SLOT_WORDS * 8, SLOT_WORDS)
        found = roles[words[_ROLE]]
        if (found.name, words[_INDEX]) == (role, number):
            return words, found
    raise LookupError(f"{mapping.path}: has no slot for {role} {number}")


class StatusWriter:
    """The slot of the calling process; it is the only writer."""

    def __init__(self, path: Path, role: str, number: int) -> None:
        mapping = open_mapping(path, KIND, _LAYOUT, writable=True)
        self.words, shown = _slot(mapping, role, number)
        """The slot, for compiled code of this process that counts; see ``counter_place``."""
        self._place = {name: counter_place(shown, name) for name in shown.counters}

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
        self.roles = _roles(self.mapping)
        """The roles of the processes, in the order of their first slots."""

    def slot(self, role: str, number: int) -> memoryview:
        """Return the words of one process, as they change. Raises ``LookupError``."""
        return _slot(self.mapping, role, number)[0]

    def processes(self) -> list[ProcessStatus]:
        """Return what every process says, in the order of the slots."""
        return [
            self._process(self.mapping.words(place * SLOT_WORDS * 8, SLOT_WORDS).tolist())
            for place in range(self.mapping.capacity)
        ]

    def _process(self, words: list[int]) -> ProcessStatus:
        role = self.roles[words[_ROLE]]
        rejects = {
            reason: words[FIRST_REJECT + reason]
            for reason in range(_MAX_REASON + 1)
            if words[FIRST_REJECT + reason]
        }
        return ProcessStatus(
            role.name,
            words[_INDEX],
            _optional(words[_CORE]),
            STATES[words[_STATE]],
            words[PID],
            words[_STARTED_NS],
            dict(zip(role.counters, words[_FIRST_COUNTER:], strict=False)),
            rejects,
            _optional(words[_READER]),
        )


def _optional(word: int) -> int | None:
    return None if word == _NONE else word
