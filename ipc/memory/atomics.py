"""Ordered loads and stores of shared u64 words, from Python.

A word is written by one process and read by others, so what matters is order: ``store_release``
shows a word only after everything stored before it, ``load_acquire`` reads it before everything
loaded after it, ``load_after`` after everything loaded before it. Words are memoryviews cast to
"Q": an aligned 8-byte access through one is one machine access (through ``struct.pack_into`` it is
not: that zero-fills first). x86-64 keeps loads among loads and stores among stores in order by
itself; elsewhere an LLVM fence does it, which takes numba. Compiled code has the same in
``ipc.native.kernel_atomics``, apart from this module so that a reader need not import numba.
"""

import platform
from threading import Lock

_STRONGLY_ORDERED = platform.machine().lower() in ("x86_64", "amd64")

if _STRONGLY_ORDERED:
    _lock = Lock()

    def fence() -> None:
        """Keep loads among loads and stores among stores on their sides of this place."""

    def full_fence() -> None:
        """Show everyone all stores made so far before the next load.

        That order x86-64 does not keep by itself. A locked instruction makes it do so (Intel SDM 3,
        8.2.3.9), and taking a free lock is one.
        """
        with _lock:
            pass

    def load_acquire(words: memoryview, index: int) -> int:
        """Load a word before everything that is loaded after it."""
        return words[index]

    def load_after(words: memoryview, index: int) -> int:
        """Load a word after everything that was loaded before it."""
        return words[index]

    def store_release(words: memoryview, index: int, value: int) -> None:
        """Store a word after everything that was stored before it."""
        words[index] = value

    def store_before(words: memoryview, index: int, value: int) -> None:
        """Store a word before everything that is stored after it."""
        words[index] = value

else:
    from ipc.native.compiled import HAVE_NUMBA
    from ipc.native.kernel_atomics import python_fence as fence
    from ipc.native.kernel_atomics import python_full_fence as full_fence  # noqa: F401

    if not HAVE_NUMBA:
        raise ImportError(
            f"shared memory on {platform.machine()} needs numba, for its memory fences"
        )

    def load_acquire(words: memoryview, index: int) -> int:
        """Load a word before everything that is loaded after it."""
        value = words[index]
        fence()
        return value

    def load_after(words: memoryview, index: int) -> int:
        """Load a word after everything that was loaded before it."""
        fence()
        return words[index]

    def store_release(words: memoryview, index: int, value: int) -> None:
        """Store a word after everything that was stored before it."""
        fence()
        words[index] = value

    def store_before(words: memoryview, index: int, value: int) -> None:
        """Store a word before everything that is stored after it."""
        words[index] = value
        fence()
