"""The status page: each process writes its own slot, anyone reads all of them."""

import os
from pathlib import Path
from typing import Any

import pytest

from engine.roles import DATABASE, HISTORY, KAFKA, MATCHER, MONGODB, PERSISTER, REDIS, SUPERVISOR
from frontend.roles import FRONTEND, HTTP, QUERY, ROLES
from ipc.memory.status import ProcessSlot, StatusReader, StatusWriter, create_status
from ipc.vocabulary import Reason
from tests.shared_memory import until, working

SLOTS = [
    ProcessSlot(SUPERVISOR, 0, None),
    ProcessSlot(FRONTEND, 0, 0),
    ProcessSlot(MATCHER, 0, 1),
    ProcessSlot(MATCHER, 1, 2),
    ProcessSlot(PERSISTER, 0, 0),
    ProcessSlot(QUERY, 0, None),
    ProcessSlot(HTTP, 0, None),
    ProcessSlot(HISTORY, 0, None),
    ProcessSlot(DATABASE, 0, None),
    ProcessSlot(MONGODB, 0, None),
    ProcessSlot(REDIS, 0, None),
    ProcessSlot(KAFKA, 0, None),
]

COUNTERS = {row.name: row.counters for row in ROLES.rows}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "status"
    create_status(path, SLOTS)
    return path


def test_a_new_page_names_all_processes_absent(page: Path) -> None:
    processes = StatusReader(page).processes()
    assert [(p.role, p.number, p.core, p.reader) for p in processes] == [
        (slot.role.name, slot.number, slot.core, slot.reader) for slot in SLOTS
    ]
    for process in processes:
        assert (process.state, process.pid, process.started_ns) == ("absent", 0, 0)
        assert process.counters == dict.fromkeys(COUNTERS[process.role], 0)
        assert process.rejects == {}


def test_what_a_process_says_stands_in_its_slot_alone(page: Path) -> None:
    before = StatusReader(page).processes()
    writer = StatusWriter(page, "matcher", 1)
    writer.start(77, 88)
    writer.add("reports", 3)
    writer.add("reports", 4)
    writer.set("commands", 2**63)
    for reason in Reason:
        writer.add_reject(reason)
    writer.add_reject(Reason.BUSY, 5)
    after = StatusReader(page).processes()
    mine = after.pop(3)
    assert after == before[:3] + before[4:]
    assert (mine.state, mine.pid, mine.started_ns) == ("starting", 77, 88)
    assert {name: count for name, count in mine.counters.items() if count} == {
        "reports": 7,
        "commands": 2**63,
    }
    assert mine.rejects == {**dict.fromkeys(map(int, Reason), 1), int(Reason.BUSY): 6}


def test_states_follow_a_process(page: Path) -> None:
    writer, reader = StatusWriter(page, "query", 0), StatusReader(page)

    def state() -> str:
        return reader.processes()[5].state

    for step, expected in (
        (lambda: writer.start(1, 1), "starting"),
        (writer.ready, "ready"),
        (writer.drain, "draining"),
        (writer.stop, "stopped"),
        (writer.forget, "absent"),
    ):
        step()
        assert state() == expected


def test_a_restart_begins_at_zero(page: Path) -> None:
    first = StatusWriter(page, "frontend", 0)
    first.start(1, 1)
    first.add("frames_in", 9)
    first.add_reject(Reason.INVALID_PRICE)
    StatusWriter(page, "frontend", 0).start(2, 2)
    found = StatusReader(page).processes()[1]
    assert (found.pid, found.counters["frames_in"], found.rejects) == (2, 0, {})


@pytest.mark.parametrize("role", COUNTERS)
def test_every_counter_has_a_word_of_its_own(page: Path, role: str) -> None:
    writer, reader = StatusWriter(page, role, 0), StatusReader(page)
    names = COUNTERS[role]
    for value, name in enumerate(names, 1):
        writer.set(name, value)
    found = next(p for p in reader.processes() if p.role == role and p.number == 0)
    assert found.counters == {name: value for value, name in enumerate(names, 1)}
    assert found.rejects == {}


def test_unknown_names_are_errors(page: Path) -> None:
    writer = StatusWriter(page, "matcher", 0)
    with pytest.raises(KeyError):
        writer.add("no_such_counter", 1)
    with pytest.raises(LookupError, match="status: has no slot for matcher 2"):
        StatusWriter(page, "matcher", 2)
    with pytest.raises(IndexError):
        writer.add_reject(2**16)


def test_a_reader_cannot_write(page: Path) -> None:
    with pytest.raises(TypeError, match="read-only"):
        StatusReader(page).mapping.words(0, 8)[0] = 1


def count_without_end(path: Path, stop: Any) -> None:
    """Count up, one counter always ahead of the other, until told to stop."""
    writer = StatusWriter(path, "matcher", 0)
    writer.start(os.getpid(), 1)
    count = 0
    while not stop.is_set():
        for _ in range(1000):
            count += 1
            writer.set("commands", count * (2**32 + 1))
            writer.add("reports", 1)
    writer.stop()


def test_another_process_is_read_while_it_counts(page: Path) -> None:
    reader = StatusReader(page)
    with working(count_without_end, page) as end:
        until(lambda: reader.processes()[2].counters["reports"] > 0, "the other process counts")
        pid, before = reader.processes()[2].pid, 0
        assert pid not in (0, os.getpid())
        while before < 50_000:
            commands = reader.processes()[2].counters["commands"]
            assert commands >> 32 == commands & 0xFFFFFFFF
            assert commands >= before
            before = commands
        end()
    last = reader.processes()[2]
    assert (last.state, last.pid) == ("stopped", pid)
    assert last.counters["commands"] == last.counters["reports"] * (2**32 + 1)
