"""Ordered access to shared words: from Python, from compiled code, and on other machines."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from ipc.memory import atomics
from ipc.native.compiled import HAVE_NUMBA, compiled
from ipc.native.kernel_atomics import fence, full_fence, load_acquire, store_release

ELSEWHERE = """
import platform, sys
platform.machine = lambda: "aarch64"
sys.modules.update({modules})
from ipc.memory import atomics
words = memoryview(bytearray(32)).cast("Q")
atomics.store_before(words, 0, 2**64 - 1)
atomics.store_release(words, 1, 7)
atomics.fence()
atomics.full_fence()
print(atomics.load_acquire(words, 0), atomics.load_after(words, 1), "numba" in sys.modules)
"""


def elsewhere(modules: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ELSEWHERE.format(modules=modules)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_words_hold_what_is_stored() -> None:
    words = memoryview(bytearray(32)).cast("Q")
    atomics.store_before(words, 0, 2**64 - 1)
    atomics.store_release(words, 3, 7)
    assert atomics.load_acquire(words, 0) == 2**64 - 1
    assert atomics.load_after(words, 3) == 7
    assert words.tolist() == [2**64 - 1, 0, 0, 7]


def test_a_machine_of_another_order_takes_fences() -> None:
    if not HAVE_NUMBA:
        pytest.skip("numba is not installed: elsewhere it is what makes the fences")
    done = elsewhere("{}")
    assert (done.stdout.split(), done.stderr) == ([str(2**64 - 1), "7", "True"], "")


def test_a_machine_of_another_order_needs_numba() -> None:
    done = elsewhere("{'numba': None}")
    assert done.returncode == 1
    assert "ImportError: shared memory on aarch64 needs numba" in done.stderr


def test_readers_need_no_numba() -> None:
    readers = (
        "import sys, ipc.memory.ring, ipc.memory.order_table, ipc.memory.depth_board;"
        "import ipc.memory.status; print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", readers], capture_output=True, check=True)
    assert done.stdout == b"False\n"


@compiled
def exchange(words: np.ndarray, halves: np.ndarray) -> int:
    store_release(words, np.uint64(1), load_acquire(words, np.uint64(0)) + np.uint64(1))
    fence()
    store_release(halves, np.uint64(2), load_acquire(halves, np.uint64(1)) + np.uint32(1))
    full_fence()
    return load_acquire(halves, np.uint64(2))


def test_compiled_code_stores_words_and_half_words() -> None:
    words = np.array([2**63, 0, 0], np.uint64)
    halves = np.array([0, 5, 0, 0], np.uint32)[::1]
    assert exchange(words, halves) == 6
    assert (words.tolist(), halves.tolist()) == ([2**63, 2**63 + 1, 0], [0, 5, 6, 0])
    strided = np.zeros(4, [("version", "<u4"), ("rest", "<u8")])
    strided["version"][1] = 8
    assert exchange(words, strided["version"]) == 9
    assert strided["version"].tolist() == [0, 8, 9, 0]


@compiled
def store_then_load(mine: np.ndarray, other: np.ndarray, seen: np.ndarray) -> None:
    """In step with the other side, store a word and then load the other's.

    Word 0 of ``mine`` and ``other`` counts turns; each turn has a word of its own after that.
    """
    for turn in range(1, len(seen)):
        number = np.uint64(turn)
        store_release(mine, np.uint64(0), number)
        while load_acquire(other, np.uint64(0)) < number:
            fence()
        store_release(mine, number, np.uint64(1))
        full_fence()
        seen[number] = load_acquire(other, number)


def test_a_full_fence_shows_a_store_before_the_next_load() -> None:
    """Of two that each store and then load, at least one sees the other's store.

    Without the fence x86-64 lets both miss it, a few times in a thousand turns.
    """
    if not HAVE_NUMBA or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two cores and compiled code are needed to see stores out of order")
    turns = 15_000
    words = np.zeros((2, turns), np.uint64)
    seen = np.full((2, turns), 9, np.uint64)
    done = np.full(1, 2**63, np.uint64)
    store_then_load(words[0][:1], done, seen[0][:1])  # compiles
    sides = [
        threading.Thread(target=store_then_load, args=(words[side], words[1 - side], seen[side]))
        for side in (0, 1)
    ]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    assert np.isin(seen[:, 1:], (0, 1)).all()
    assert not (seen[:, 1:] == 0).all(axis=0).any()
