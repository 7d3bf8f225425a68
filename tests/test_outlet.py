"""Standard streams that never fail and never wait: what finds no room is lost, and counted."""

import fcntl
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.outlet import PIECE_BYTES, Outlet

LONG = "x" * (3 * PIECE_BYTES)


@pytest.fixture
def pipe() -> tuple[int, int]:
    """The ends of a pipe, whose writing end waits as those of standard streams do."""
    return os.pipe()


def test_lines_arrive_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    outlet = Outlet(writer)
    print("one", 2, file=outlet)
    outlet.write("three")
    assert os.read(reader, 100) == b"one 2\n"
    outlet.write(" four\n\udcff\n")
    assert os.read(reader, 100) == b"three four\n\\udcff\n"
    print(LONG, file=outlet)
    assert os.read(reader, 1 << 16) == LONG.encode() + b"\n"
    assert outlet.lost_lines == 0
    assert not fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK  # others share that


def test_a_reader_that_stands_still_is_not_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    outlet, lost = Outlet(writer), []
    outlet.on_loss = lambda: lost.append(1)
    lines = 0
    while not lost:
        print("a line", lines, file=outlet)
        lines += 1
    os.read(reader, 1 << 20)
    print("the next", file=outlet)
    assert os.read(reader, 100) == b"the next\n"
    assert (outlet.lost_lines, len(lost)) == (1, 1)


def test_a_socket_that_is_full_is_not_waited_for() -> None:
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        outlet = Outlet(ours.fileno())
        while not outlet.lost_lines:
            print("a line", file=outlet)


def test_a_reader_that_is_gone_costs_its_lines_only(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    outlet = Outlet(writer)
    log = logging.getLogger("test_outlet")
    log.addHandler(handler := logging.StreamHandler(outlet))
    try:
        log.error("nobody reads this")
    finally:
        log.removeHandler(handler)
    print("nor this", file=outlet)
    assert outlet.lost_lines == 2


def test_a_full_disk_costs_its_lines_only() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    outlet = Outlet(descriptor)
    print("no room", file=outlet)
    assert outlet.lost_lines == 1
    os.close(descriptor)
    print("closed meanwhile", file=outlet)
    assert outlet.lost_lines == 2


def test_nothing_of_the_products_takes_the_place_of_a_closed_descriptor(tmp_path: Path) -> None:
    program = f"""
import os, sys
from engine.outlet import count_lost_lines, fill_standard_descriptors, open_outlets
fill_standard_descriptors()
kept = os.open({str(tmp_path / "journal")!r}, os.O_WRONLY | os.O_CREAT)
print("said"), print("complained", file=sys.stderr)
open_outlets()
print("said"), print("complained", file=sys.stderr)
os.write(kept, str(kept > 2).encode())
"""
    command = ["/bin/sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, program]
    root = Path(__file__).parent.parent
    assert subprocess.run(command, check=False, timeout=60, cwd=root).returncode == 0
    assert (tmp_path / "journal").read_text() == "True"
