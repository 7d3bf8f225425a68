"""What a process had to hold for a while goes back to the system."""

import subprocess
import sys

HOLES = """
from engine.heap import PAUSE_S, Heap, resident_bytes
heap = Heap()
least = resident_bytes()
assert not heap.look(1.0)
held = [bytes(3_000) for _ in range(50_000)]
kept = held[::50]
del held
grown = resident_bytes()
assert grown > least + 100_000_000, (least, grown)
assert heap.look(2.0)
left = resident_bytes()
assert left < least + 30_000_000, (least, grown, left)
held = [bytes(3_000) for _ in range(50_000)]
assert not heap.look(2.0 + PAUSE_S / 2)
assert heap.look(2.0 + 2 * PAUSE_S)  # in use: nothing comes of it
assert not heap.look(2.0 + 3.5 * PAUSE_S)
import gc
gc.set_threshold(1_000_000)
held = []
for _ in range(20_000):
    circle = [bytes(3_000)]
    circle.append(circle)
del circle
assert heap.look(2.0 + 4.5 * PAUSE_S)
assert resident_bytes() < least + 30_000_000
"""


def test_holes_are_given_back_now_and_then() -> None:
    """In a process of its own: what this one holds is others' business."""
    done = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
